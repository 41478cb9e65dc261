//! What the messages of a body will take in memory, reckoned before any is made.
//!
//! An empty data point is two bytes on the wire and a hundred in memory, so that a body within its limit could fill it.
//! Refuses to find mistakes: what is malformed is passed over, and its reader says what is wrong.

use std::mem::size_of;

use super::decode::Signal;
use super::wire::{
    AnyValue, ExponentialHistogramPoint, HistogramPoint, KeyValue, Link, LogRecord, Metric, NumberPoint, Quantile,
    ResourceLogs, ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, Span, SpanEvent, SummaryPoint,
};

/// What an object takes that is read from JSON: most are attributes and their values, and some are larger.
const OBJECT: usize = 128;

/// A deeper message is refused by its reader.
const DEEPEST: usize = 100;

/// A message: its bytes in memory, and which of its fields hold messages.
struct Shape(usize, &'static [(u64, &'static Self)]);

static ANY: Shape = Shape(size_of::<AnyValue>(), &[(5, &ARRAY), (6, &LIST)]);
static ARRAY: Shape = Shape(0, &[(1, &ANY)]);
static LIST: Shape = Shape(0, &[(1, &ATTRIBUTE)]);
static ATTRIBUTE: Shape = Shape(size_of::<KeyValue>(), &[(2, &ANY)]);
static RESOURCE: Shape = Shape(0, &[(1, &ATTRIBUTE)]);
static SCOPE: Shape = Shape(0, &[(3, &ATTRIBUTE)]);

static NUMBER: Shape = Shape(size_of::<NumberPoint>(), &[(7, &ATTRIBUTE)]);
static NUMBERS: Shape = Shape(0, &[(1, &NUMBER)]);
static HISTOGRAM: Shape = Shape(size_of::<HistogramPoint>(), &[(9, &ATTRIBUTE)]);
static HISTOGRAMS: Shape = Shape(0, &[(1, &HISTOGRAM)]);
static EXPONENTIAL: Shape = Shape(size_of::<ExponentialHistogramPoint>(), &[(1, &ATTRIBUTE)]);
static EXPONENTIALS: Shape = Shape(0, &[(1, &EXPONENTIAL)]);
static QUANTILE: Shape = Shape(size_of::<Quantile>(), &[]);
static SUMMARY: Shape = Shape(size_of::<SummaryPoint>(), &[(7, &ATTRIBUTE), (6, &QUANTILE)]);
static SUMMARIES: Shape = Shape(0, &[(1, &SUMMARY)]);
static METRIC: Shape = Shape(
    size_of::<Metric>(),
    &[(5, &NUMBERS), (7, &NUMBERS), (9, &HISTOGRAMS), (10, &EXPONENTIALS), (11, &SUMMARIES)],
);
static SCOPE_METRICS: Shape = Shape(size_of::<ScopeMetrics>(), &[(1, &SCOPE), (2, &METRIC)]);
static RESOURCE_METRICS: Shape = Shape(size_of::<ResourceMetrics>(), &[(1, &RESOURCE), (2, &SCOPE_METRICS)]);
static METRICS: Shape = Shape(0, &[(1, &RESOURCE_METRICS)]);

static EVENT: Shape = Shape(size_of::<SpanEvent>(), &[(3, &ATTRIBUTE)]);
static LINK: Shape = Shape(size_of::<Link>(), &[]);
static SPAN: Shape = Shape(size_of::<Span>(), &[(9, &ATTRIBUTE), (11, &EVENT), (13, &LINK)]);
static SCOPE_SPANS: Shape = Shape(size_of::<ScopeSpans>(), &[(1, &SCOPE), (2, &SPAN)]);
static RESOURCE_SPANS: Shape = Shape(size_of::<ResourceSpans>(), &[(1, &RESOURCE), (2, &SCOPE_SPANS)]);
static TRACES: Shape = Shape(0, &[(1, &RESOURCE_SPANS)]);

static RECORD: Shape = Shape(size_of::<LogRecord>(), &[(5, &ANY), (6, &ATTRIBUTE)]);
static SCOPE_LOGS: Shape = Shape(size_of::<ScopeLogs>(), &[(1, &SCOPE), (2, &RECORD)]);
static RESOURCE_LOGS: Shape = Shape(size_of::<ResourceLogs>(), &[(1, &RESOURCE), (2, &SCOPE_LOGS)]);
static LOGS: Shape = Shape(0, &[(1, &RESOURCE_LOGS)]);

/// Whether the messages of a protobuf body take `most` bytes at most, without their texts.
pub(super) fn protobuf_fits(signal: Signal, body: &[u8], most: usize) -> bool {
    let shape = match signal {
        Signal::Metrics => &METRICS,
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
    };
    let mut left = most;
    weigh(body, shape, DEEPEST, &mut left).is_some()
}

/// The same of a JSON body, by its braces; one within a text counts as well, which only long texts of them notice.
pub(super) fn json_fits(body: &[u8], most: usize) -> bool {
    body.iter().filter(|byte| **byte == b'{').count() <= most / OBJECT
}

/// Takes what the fields of `body` need from what is `left`; `None` when that is not enough.
fn weigh(mut body: &[u8], shape: &Shape, deeper: usize, left: &mut usize) -> Option<()> {
    // What can't be read is malformed.
    while let Some((key, rest)) = varint(body) {
        let Some((field, rest)) = field(key & 7, rest) else { break };
        let nested = shape.1.iter().find(|(number, _)| *number == key >> 3 && key & 7 == 2);
        if let Some((_, nested)) = nested.filter(|_| deeper > 0) {
            *left = left.checked_sub(nested.0)?;
            weigh(field, nested, deeper - 1, left)?;
        }
        body = rest;
    }
    Some(())
}

/// A field of a wire type, and what comes after it.
fn field(wire_type: u64, body: &[u8]) -> Option<(&[u8], &[u8])> {
    match wire_type {
        0 => varint(body).map(|(_, rest)| (&[][..], rest)),
        1 => body.split_at_checked(8),
        2 => varint(body).and_then(|(length, rest)| rest.split_at_checked(usize::try_from(length).ok()?)),
        5 => body.split_at_checked(4),
        _ => None,
    }
}

/// A number of seven bits a byte, and what comes after it.
fn varint(body: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (place, byte) in body.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, body.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::wire::{Gauge, LogsRequest, MetricsRequest};
    use super::*;

    fn points(count: usize) -> Vec<u8> {
        let gauge = Gauge { data_points: vec![NumberPoint::default(); count] };
        let metrics = vec![Metric { gauge: Some(gauge), ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        MetricsRequest { resource_metrics }.encode_to_vec()
    }

    #[test]
    fn empty_messages_are_weighed_as_what_they_become() {
        let body = points(10_000);
        assert!(body.len() < 21_000);
        let exact = 10_000 * size_of::<NumberPoint>()
            + size_of::<Metric>()
            + size_of::<ScopeMetrics>()
            + size_of::<ResourceMetrics>();
        assert!(protobuf_fits(Signal::Metrics, &body, exact));
        assert!(!protobuf_fits(Signal::Metrics, &body, exact - 1));
        // As logs it is another tree.
        assert!(protobuf_fits(Signal::Traces, b"", 0));
    }

    #[test]
    fn values_within_values_count() {
        let mut value = AnyValue::default();
        for _ in 0..50 {
            let values = vec![value.clone()];
            value =
                AnyValue { value: Some(super::super::wire::Value::Array(super::super::wire::ArrayValue { values })) };
        }
        let log_records = vec![LogRecord { body: Some(value), ..LogRecord::default() }];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let body = LogsRequest { resource_logs }.encode_to_vec();
        let least = 51 * size_of::<AnyValue>();
        assert!(!protobuf_fits(Signal::Logs, &body, least) && protobuf_fits(Signal::Logs, &body, least + 1_000));
    }

    #[test]
    fn objects_are_counted_in_json() {
        assert!(json_fits(b"{\"a\": [{}, {}]}", 3 * OBJECT));
        assert!(!json_fits(b"{\"a\": [{}, {}, {}]}", 3 * OBJECT));
    }

    proptest! {
        #[test]
        fn rubbish_is_passed_over(body in prop::collection::vec(any::<u8>(), 0..200), signal in 0..3_usize) {
            protobuf_fits(Signal::ALL[signal], &body, 1_000);
        }
    }
}
