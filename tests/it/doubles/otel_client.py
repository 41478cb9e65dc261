"""A program that OpenTelemetry's SDK measures: counters, a gauge, histograms, spans and a log record, exported twice.

Usage: otel_client.py http|grpc ADDRESS delta|cumulative none|gzip INSTANCE
With OTEL_EXPORTER_OTLP_CERTIFICATE it speaks TLS and trusts what that file holds.
"""
import logging
import os
import sys
import warnings

protocol, address, temporality, compression, instance = sys.argv[1:]
warnings.simplefilter("ignore")
is_tls = "OTEL_EXPORTER_OTLP_CERTIFICATE" in os.environ
scheme = "https" if is_tls else "http"
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    packed = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    options = lambda signal: {"endpoint": f"{scheme}://{address}/v1/{signal}", "compression": packed}
else:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    packed = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    options = lambda signal: {"endpoint": f"{scheme}://{address}", "insecure": not is_tls, "compression": packed}

preferred = {}
if temporality == "delta":
    preferred = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
resource = Resource.create(
    {"service.name": "shop", "service.namespace": "team", "service.instance.id": instance, "service.version": "1.2"}
)
reader = PeriodicExportingMetricReader(
    OTLPMetricExporter(preferred_temporality=preferred, **options("metrics")), export_interval_millis=3_600_000
)
exponential = View(instrument_name="job.size", aggregation=ExponentialBucketHistogramAggregation())
meters = MeterProvider(metric_readers=[reader], resource=resource, views=[exponential])
meter = meters.get_meter("shop.jobs", "0.1")
done = meter.create_counter("jobs.done", unit="{job}", description="Jobs that are done")
cost = meter.create_counter("jobs.cost", unit="USD")
waiting = meter.create_up_down_counter("jobs.waiting")
temperature = meter.create_gauge("room.temperature", unit="Cel")
duration = meter.create_histogram("job.duration", unit="s", explicit_bucket_boundaries_advisory=[1.0, 5.0])
size = meter.create_histogram("job.size", unit="By")

done.add(4, {"kind": 'a "b"', "session.id": "s1"})
cost.add(0.5)
waiting.add(5)
temperature.set(20)
duration.record(0.5)
size.record(100)
assert meters.force_flush(30_000)
done.add(6, {"kind": 'a "b"', "session.id": "s1"})
cost.add(0.25)
waiting.add(-2)
temperature.set(21.5)
duration.record(3.0)
duration.record(4.0)
size.record(3000)
meters.shutdown()

tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**options("traces"))))
tracer = tracers.get_tracer("shop.jobs")
with tracer.start_as_current_span("invoke_agent clerk"):
    with tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": "m"}):
        pass
tracers.shutdown()

loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options("logs"))))
logger = logging.getLogger("shop")
logger.propagate = False
logger.addHandler(LoggingHandler(logger_provider=loggers))
logger.error("out of apples")
loggers.shutdown()
