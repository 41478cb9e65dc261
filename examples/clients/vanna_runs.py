"""Reports the messages of a Vanna 2 agent to lookout as runs, with its calls and tools as spans over OTLP.

  pip install vanna opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
  agent = Agent(..., observability_provider=LookoutProvider("stock"))

Vanna's spans have no parents: each gets the one that was open when it began. They carry no prompts and no answers.
"""

import contextvars
import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from vanna.core.observability import ObservabilityProvider, Span

KEPT = ("conversation_id", "model", "tool", "success", "tool_iterations", "hit_tool_limit")


class LookoutProvider(ObservabilityProvider):
    def __init__(self, agent, project="default", endpoint=None):
        endpoint = endpoint or os.environ.get("LOOKOUT_URL", "http://127.0.0.1:9797")
        resource = Resource.create({"service.name": "vanna", "agent.name": agent, "project": project})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint + "/v1/traces")))
        self._tracer = self._provider.get_tracer("vanna")
        self._open = contextvars.ContextVar("open", default=())
        self._spans = {}

    async def create_span(self, name, attributes=None):
        above = next((span for span in reversed(self._open.get()) if span.is_recording()), None)
        context = trace.set_span_in_context(above) if above else None
        span = self._tracer.start_span(name, context=context)
        self._note(span, attributes)
        self._open.set((*self._open.get(), span))
        own = Span(name=name, attributes=dict(attributes or {}))
        self._spans[own.id] = span
        return own

    async def end_span(self, own):
        own.end()
        span = self._spans.pop(own.id, None)
        if span:
            self._note(span, own.attributes)
            span.end()
            self._open.set(tuple(it for it in self._open.get() if it is not span))

    async def record_metric(self, name, value, unit="", tags=None):
        pass

    def _note(self, span, attributes):
        for key, value in (attributes or {}).items():
            if key in KEPT and isinstance(value, (str, bool, int, float)):
                span.set_attribute("gen_ai.request.model" if key == "model" else key, value)

    def shutdown(self):
        self._provider.shutdown()
