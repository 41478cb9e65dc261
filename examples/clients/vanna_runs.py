"""Reports the messages of a Vanna 2 agent to lookout as runs, with its calls and tools as spans over OTLP.

  pip install vanna opentelemetry-sdk opentelemetry-exporter-otlp-proto-http
  provider = LookoutProvider("stock")
  agent = Agent(llm_service=provider.counting(OpenAILlmService(...)), observability_provider=provider, ...)

Vanna's spans have no parents: each gets the one that was open when it began. They do not say what a call used: `counting`
adds the tokens of answers that are not streamed. Neither prompts nor answers are sent.
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


# As the SDKs of OpenAI and Anthropic name them.
USED = {"input_tokens": ("prompt_tokens", "input_tokens"), "output_tokens": ("completion_tokens", "output_tokens")}


class CountedLlm:
    def __init__(self, service, provider):
        self._service = service
        self._provider = provider

    def __getattr__(self, name):
        return getattr(self._service, name)

    async def send_request(self, request):
        response = await self._service.send_request(request)
        self._provider.used(response.usage or {})
        return response


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

    def counting(self, llm_service):
        """The same service, whose calls say what they used."""
        return CountedLlm(llm_service, self)

    def used(self, usage):
        call = next((span for span in reversed(self._open.get()) if span.is_recording()), None)
        for kind, keys in USED.items():
            count = next((usage[key] for key in keys if usage.get(key) is not None), None)
            if call and count is not None:
                call.set_attribute(f"gen_ai.usage.{kind}", count)

    def _note(self, span, attributes):
        for key, value in (attributes or {}).items():
            if key in KEPT and isinstance(value, (str, bool, int, float)):
                span.set_attribute("gen_ai.request.model" if key == "model" else key, value)

    def shutdown(self):
        self._provider.shutdown()
