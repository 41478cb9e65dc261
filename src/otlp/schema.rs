//! The messages of OTLP 1.x as a table: what each takes in memory, and its fields by number, JSON name and kind.
//!
//! JSON is rewritten into protobuf by it, and bodies are weighed by it. It has what the structs of `wire` read, and
//! nothing else; a test holds the two together.

use std::mem::size_of;

use super::wire::{
    AnyValue, ExponentialHistogramPoint, HistogramPoint, KeyValue, Link, LogRecord, Metric, NumberPoint, Quantile,
    ResourceLogs, ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, Span, SpanEvent, SummaryPoint,
};
use crate::model::Input;

/// No message has more fields than this.
pub(super) const FIELDS: usize = 16;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Data points.
    Metrics,
    /// Spans.
    Traces,
    /// Log records and events.
    Logs,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Traces, Self::Logs];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
        }
    }
}

impl From<Signal> for Input {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Metrics => Self::Metrics,
            Signal::Traces => Self::Traces,
            Signal::Logs => Self::Logs,
        }
    }
}

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    /// Bytes in memory, without what its fields point to; 0 for one that is part of another.
    pub(super) size: usize,
    pub(super) fields: &'static [Field],
}

/// A field: its number, its name in JSON, and what it holds.
#[derive(Debug)]
pub(super) struct Field(pub(super) u32, pub(super) &'static str, pub(super) Kind);

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    One(&'static Message),
    Many(&'static Message),
    Text,
    /// Bytes; hex in JSON.
    Id,
    /// Bytes; base64 in JSON.
    Bytes,
    Bool,
    /// A number or one of these words, which stand for 0, 1, and so on.
    Word(&'static [&'static str]),
    Int64,
    Uint32,
    Sint32,
    Fixed64,
    Sfixed64,
    Double,
    Uint64s,
    Fixed64s,
    Doubles,
}

use Kind::{
    Bool, Bytes, Double, Doubles, Fixed64, Fixed64s, Id, Int64, Many, One, Sfixed64, Sint32, Text, Uint32, Uint64s,
    Word,
};

/// The request of a signal.
pub(super) const fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Metrics => &METRICS,
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
    }
}

const fn message<T>(fields: &'static [Field]) -> Message {
    assert!(fields.len() <= FIELDS, "too many fields to be weighed");
    Message { size: size_of::<T>(), fields }
}

/// One whose size is part of the message that has it.
const fn part(fields: &'static [Field]) -> Message {
    assert!(fields.len() <= FIELDS, "too many fields to be weighed");
    Message { size: 0, fields }
}

/// The value of an attribute, which some senders write bare.
pub(super) static ANY: Message = message::<AnyValue>(&[
    Field(1, "stringValue", Text),
    Field(2, "boolValue", Bool),
    Field(3, "intValue", Int64),
    Field(4, "doubleValue", Double),
    Field(5, "arrayValue", One(&ARRAY)),
    Field(6, "kvlistValue", One(&LIST)),
    Field(7, "bytesValue", Bytes),
]);
static ARRAY: Message = part(&[Field(1, "values", Many(&ANY))]);
static LIST: Message = part(&[Field(1, "values", Many(&ATTRIBUTE))]);
static ATTRIBUTE: Message = message::<KeyValue>(&[Field(1, "key", Text), Field(2, "value", One(&ANY))]);
static RESOURCE: Message = part(&[Field(1, "attributes", Many(&ATTRIBUTE))]);
static SCOPE: Message =
    part(&[Field(1, "name", Text), Field(2, "version", Text), Field(3, "attributes", Many(&ATTRIBUTE))]);

const TEMPORALITY: Kind = Word(&[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
]);
static NUMBER: Message = message::<NumberPoint>(&[
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "asDouble", Double),
    Field(6, "asInt", Sfixed64),
    Field(7, "attributes", Many(&ATTRIBUTE)),
    Field(8, "flags", Uint32),
]);
static HISTOGRAM: Message = message::<HistogramPoint>(&[
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "bucketCounts", Fixed64s),
    Field(7, "explicitBounds", Doubles),
    Field(9, "attributes", Many(&ATTRIBUTE)),
    Field(10, "flags", Uint32),
]);
static BUCKETS: Message = part(&[Field(1, "offset", Sint32), Field(2, "bucketCounts", Uint64s)]);
static EXPONENTIAL: Message = message::<ExponentialHistogramPoint>(&[
    Field(1, "attributes", Many(&ATTRIBUTE)),
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "scale", Sint32),
    Field(7, "zeroCount", Fixed64),
    Field(8, "positive", One(&BUCKETS)),
    Field(9, "negative", One(&BUCKETS)),
    Field(10, "flags", Uint32),
    Field(14, "zeroThreshold", Double),
]);
static QUANTILE: Message = message::<Quantile>(&[Field(1, "quantile", Double), Field(2, "value", Double)]);
static SUMMARY: Message = message::<SummaryPoint>(&[
    Field(2, "startTimeUnixNano", Fixed64),
    Field(3, "timeUnixNano", Fixed64),
    Field(4, "count", Fixed64),
    Field(5, "sum", Double),
    Field(6, "quantileValues", Many(&QUANTILE)),
    Field(7, "attributes", Many(&ATTRIBUTE)),
    Field(8, "flags", Uint32),
]);
static GAUGE: Message = part(&[Field(1, "dataPoints", Many(&NUMBER))]);
static SUM: Message = part(&[
    Field(1, "dataPoints", Many(&NUMBER)),
    Field(2, "aggregationTemporality", TEMPORALITY),
    Field(3, "isMonotonic", Bool),
]);
static HISTOGRAMS: Message =
    part(&[Field(1, "dataPoints", Many(&HISTOGRAM)), Field(2, "aggregationTemporality", TEMPORALITY)]);
static EXPONENTIALS: Message =
    part(&[Field(1, "dataPoints", Many(&EXPONENTIAL)), Field(2, "aggregationTemporality", TEMPORALITY)]);
static SUMMARIES: Message = part(&[Field(1, "dataPoints", Many(&SUMMARY))]);
static METRIC: Message = message::<Metric>(&[
    Field(1, "name", Text),
    Field(2, "description", Text),
    Field(3, "unit", Text),
    Field(5, "gauge", One(&GAUGE)),
    Field(7, "sum", One(&SUM)),
    Field(9, "histogram", One(&HISTOGRAMS)),
    Field(10, "exponentialHistogram", One(&EXPONENTIALS)),
    Field(11, "summary", One(&SUMMARIES)),
]);
static SCOPE_METRICS: Message =
    message::<ScopeMetrics>(&[Field(1, "scope", One(&SCOPE)), Field(2, "metrics", Many(&METRIC))]);
static RESOURCE_METRICS: Message =
    message::<ResourceMetrics>(&[Field(1, "resource", One(&RESOURCE)), Field(2, "scopeMetrics", Many(&SCOPE_METRICS))]);
static METRICS: Message = part(&[Field(1, "resourceMetrics", Many(&RESOURCE_METRICS))]);

static EVENT: Message = message::<SpanEvent>(&[
    Field(1, "timeUnixNano", Fixed64),
    Field(2, "name", Text),
    Field(3, "attributes", Many(&ATTRIBUTE)),
]);
static LINK: Message = message::<Link>(&[Field(1, "traceId", Id), Field(2, "spanId", Id)]);
static STATUS: Message = part(&[
    Field(2, "message", Text),
    Field(3, "code", Word(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])),
]);
static SPAN: Message = message::<Span>(&[
    Field(1, "traceId", Id),
    Field(2, "spanId", Id),
    Field(4, "parentSpanId", Id),
    Field(5, "name", Text),
    Field(
        6,
        "kind",
        Word(&[
            "SPAN_KIND_UNSPECIFIED",
            "SPAN_KIND_INTERNAL",
            "SPAN_KIND_SERVER",
            "SPAN_KIND_CLIENT",
            "SPAN_KIND_PRODUCER",
            "SPAN_KIND_CONSUMER",
        ]),
    ),
    Field(7, "startTimeUnixNano", Fixed64),
    Field(8, "endTimeUnixNano", Fixed64),
    Field(9, "attributes", Many(&ATTRIBUTE)),
    Field(11, "events", Many(&EVENT)),
    Field(13, "links", Many(&LINK)),
    Field(15, "status", One(&STATUS)),
]);
static SCOPE_SPANS: Message = message::<ScopeSpans>(&[Field(1, "scope", One(&SCOPE)), Field(2, "spans", Many(&SPAN))]);
static RESOURCE_SPANS: Message =
    message::<ResourceSpans>(&[Field(1, "resource", One(&RESOURCE)), Field(2, "scopeSpans", Many(&SCOPE_SPANS))]);
static TRACES: Message = part(&[Field(1, "resourceSpans", Many(&RESOURCE_SPANS))]);

static RECORD: Message = message::<LogRecord>(&[
    Field(1, "timeUnixNano", Fixed64),
    Field(2, "severityNumber", Word(&["SEVERITY_NUMBER_UNSPECIFIED"])),
    Field(5, "body", One(&ANY)),
    Field(6, "attributes", Many(&ATTRIBUTE)),
    Field(9, "traceId", Id),
    Field(10, "spanId", Id),
    Field(11, "observedTimeUnixNano", Fixed64),
    Field(12, "eventName", Text),
]);
static SCOPE_LOGS: Message =
    message::<ScopeLogs>(&[Field(1, "scope", One(&SCOPE)), Field(2, "logRecords", Many(&RECORD))]);
static RESOURCE_LOGS: Message =
    message::<ResourceLogs>(&[Field(1, "resource", One(&RESOURCE)), Field(2, "scopeLogs", Many(&SCOPE_LOGS))]);
static LOGS: Message = part(&[Field(1, "resourceLogs", Many(&RESOURCE_LOGS))]);

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::{Map, Value, json};

    use super::super::json::to_protobuf;
    use super::super::wire::{LogsRequest, MetricsRequest, TracesRequest};
    use super::*;

    /// A message of which every field is given, but for values, which are of this kind.
    fn whole(message: &'static Message, any: usize) -> Value {
        let is_any = std::ptr::eq(message, &ANY);
        let fields = message.fields.iter().enumerate().filter(|(place, _)| !is_any || *place == any);
        let fields = fields.map(|(_, Field(_, name, kind))| {
            let value = match kind {
                // Values within values are text.
                One(nested) => whole(nested, if is_any { 0 } else { any }),
                Many(nested) => json!([whole(nested, if is_any || std::ptr::eq(message, &ARRAY) { 0 } else { any })]),
                Text => json!("text"),
                Id => json!("0a0b"),
                Bytes => json!("AQI="),
                Bool => json!(true),
                Word(words) => words.last().filter(|_| words.len() > 1).map_or(json!(9), |word| json!(word)),
                Int64 | Sint32 | Sfixed64 => json!("-5"),
                Uint32 | Fixed64 => json!(7),
                Double => json!(0.5),
                Uint64s | Fixed64s | Doubles => json!(["1", 2]),
            };
            ((*name).to_owned(), value)
        });
        Value::Object(fields.collect::<Map<_, _>>())
    }

    #[test]
    fn the_structs_have_every_field_of_the_table() {
        for any in 0..ANY.fields.len() {
            for signal in Signal::ALL {
                let body = whole(request(signal), any).to_string();
                let (bytes, unread) = to_protobuf(body.as_bytes(), request(signal), 100_000).expect("protobuf");
                let read = match signal {
                    Signal::Metrics => MetricsRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                    Signal::Traces => TracesRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                    Signal::Logs => LogsRequest::decode(&*bytes).map(|it| it.encode_to_vec()),
                };
                assert_eq!(
                    (read.expect("OTLP").len(), unread),
                    (bytes.len(), 0),
                    "{signal:?} with values of kind {any}: {body}"
                );
            }
        }
    }

    #[test]
    fn what_grows_in_protobuf_is_bounded() {
        let body = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"histogram":{{"dataPoints":[{{"explicitBounds":[{}0]}}]}}}}]}}]}}]}}"#,
            "0,".repeat(1_000)
        );
        let size = to_protobuf(body.as_bytes(), request(Signal::Metrics), 100_000).expect("protobuf").0.len();
        assert!(size > 8_000);
        let refused = to_protobuf(body.as_bytes(), request(Signal::Metrics), size - 1);
        assert!(matches!(refused, Err(super::super::json::JsonError::TooLarge)), "{refused:?}");
    }
}
