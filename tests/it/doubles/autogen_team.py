"""Two agents of AutoGen AgentChat who talk once each, with the traces and metrics of OpenTelemetry that the environment asks
for: OTEL_EXPORTER_OTLP_PROTOCOL is `http/protobuf` or `grpc`, MODEL_URL is where their model answers."""

import asyncio
import os

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
metrics.set_meter_provider(meters)
OpenAIInstrumentor().instrument()

# They look for the providers while they are imported.
from autogen_agentchat.agents import AssistantAgent  # noqa: E402
from autogen_agentchat.conditions import MaxMessageTermination  # noqa: E402
from autogen_agentchat.teams import RoundRobinGroupChat  # noqa: E402
from autogen_core import SingleThreadedAgentRuntime  # noqa: E402
from autogen_ext.models.openai import OpenAIChatCompletionClient  # noqa: E402


async def talk() -> None:
    model = OpenAIChatCompletionClient(
        model="gpt-4o-mini", api_key="opens-nothing", base_url=os.environ["MODEL_URL"] + "/v1"
    )
    clerk, manager = (AssistantAgent(name, model) for name in ("clerk", "manager"))
    runtime = SingleThreadedAgentRuntime(tracer_provider=tracers)
    runtime.start()
    # The task, and a message of each.
    team = RoundRobinGroupChat([clerk, manager], termination_condition=MaxMessageTermination(3), runtime=runtime)
    print((await team.run(task="How many items?")).stop_reason)
    await runtime.stop()


try:
    asyncio.run(talk())
finally:
    tracers.shutdown()
    meters.shutdown()
