//! The messages of OTLP 1.x as far as they are read.
//!
//! Field numbers and names are those of opentelemetry-proto's `.proto` files; a test holds them against the official
//! structs. What nobody here reads (exemplars, schema URLs, dropped counts) is skipped on the wire and never allocated.

mod logs;
mod metrics;
mod trace;
mod value;

pub use logs::{LogRecord, LogsRequest, ResourceLogs, ScopeLogs};
pub use metrics::{
    Buckets, ExponentialHistogram, ExponentialHistogramPoint, Gauge, Histogram, HistogramPoint, Metric, MetricsRequest,
    NumberPoint, Quantile, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryPoint, Temporality,
};
pub use trace::{Link, ResourceSpans, ScopeSpans, Span, SpanEvent, SpanStatus, TracesRequest};
pub use value::{AnyValue, ArrayValue, KeyValue, KeyValueList, Value};

/// Who produced the telemetry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// What it is known by.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Which library measured.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// What else is known of it.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

#[cfg(test)]
mod tests;
