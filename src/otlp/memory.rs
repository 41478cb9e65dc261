//! Estimates how much memory the messages of a protobuf body take, before they are decoded.
//!
//! An empty data point takes two bytes on the wire and a hundred in memory, so that a body within its limit could exhaust
//! memory. Malformed input is skipped here; the decoder reports it.

use super::schema::{FIELDS, FieldKind, SchemaMessage};

/// Nesting that prost rejects.
const MAX_DEPTH: usize = 100;

/// Bytes that a number in a list takes.
const NUMBER_SIZE: usize = size_of::<u64>();

/// Bytes that a string in a list takes, without its contents.
const TEXT_SIZE: usize = size_of::<String>();

/// The capacity of a `Vec` after its first element; from then on it doubles.
const INITIAL_CAPACITY: usize = 4;

/// Whether the messages of a protobuf body take at most `limit` bytes, not counting the contents of strings.
pub(super) fn fits(message: &'static SchemaMessage, body: &[u8], limit: usize) -> bool {
    let mut left = limit;
    charge(body, message, MAX_DEPTH, &mut left).is_some()
}

/// Subtracts what the fields of `body` take from `left`; `None` when that is not enough.
fn charge(mut body: &[u8], message: &'static SchemaMessage, deeper: usize, left: &mut usize) -> Option<()> {
    let mut lists = [0; FIELDS];
    // The rest of a malformed body is skipped.
    while let Some((key, rest)) = varint(body) {
        let Some((value, rest)) = field(key & 7, rest) else { break };
        let is_bytes = key & 7 == 2;
        if let Some(known) = message.field(key >> 3) {
            let nested = match known.kind {
                FieldKind::Message(id) if is_bytes && deeper > 0 => Some(id.message()),
                _ => None,
            };
            if known.is_list {
                let count = lists.get_mut(known.number as usize)?;
                let more = match known.kind {
                    FieldKind::Message(_) | FieldKind::Text => {
                        growth(*count) * nested.map_or(TEXT_SIZE, |nested| nested.size)
                    }
                    // Packed numbers, of one byte each where they are small.
                    FieldKind::Uint64 if is_bytes => value.len() * NUMBER_SIZE,
                    _ if is_bytes => value.len(),
                    _ => NUMBER_SIZE,
                };
                *left = left.checked_sub(more)?;
                *count += 1;
            }
            if let Some(nested) = nested {
                charge(value, nested, deeper - 1, left)?;
            }
        }
        body = rest;
    }
    Some(())
}

/// By how much the capacity of a list of `count` elements grows when one is added.
const fn growth(count: usize) -> usize {
    match count {
        0 => INITIAL_CAPACITY,
        _ if count >= INITIAL_CAPACITY && count.is_power_of_two() => count,
        _ => 0,
    }
}

/// The value of a field of that wire type, and the rest of the body. The contents of a group, which no message of OTLP
/// has, are read as fields of the message around it, since prost skips groups.
pub(super) fn field(wire_type: u64, body: &[u8]) -> Option<(&[u8], &[u8])> {
    match wire_type {
        0 => varint(body).map(|(_, rest)| (&[][..], rest)),
        1 => body.split_at_checked(8),
        2 => varint(body).and_then(|(length, rest)| rest.split_at_checked(usize::try_from(length).ok()?)),
        3 | 4 => Some((&[], body)),
        5 => body.split_at_checked(4),
        _ => None,
    }
}

/// A varint, and the rest of the body.
pub(super) fn varint(body: &[u8]) -> Option<(u64, &[u8])> {
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

    use super::super::schema::{Signal, request};
    use super::super::wire::{
        self, AnyValue, ArrayValue, Buckets, Data, ExponentialHistogram, ExponentialHistogramDataPoint,
        ExportLogsServiceRequest, ExportMetricsServiceRequest, Gauge, Histogram, HistogramDataPoint, LogRecord, Metric,
        NumberDataPoint, ResourceLogs, ResourceMetrics, ScopeLogs, ScopeMetrics, Value,
    };
    use super::*;

    fn points(count: usize) -> Vec<u8> {
        let gauge = Gauge { data_points: vec![NumberDataPoint::default(); count] };
        let metrics = vec![Metric { data: Some(Data::Gauge(gauge)), ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
    }

    #[test]
    fn empty_messages_count_by_their_size_in_memory() {
        let body = points(10_000);
        assert!(body.len() < 21_000);
        let exact = 16_384 * size_of::<NumberDataPoint>()
            + INITIAL_CAPACITY * (size_of::<Metric>() + size_of::<ScopeMetrics>() + size_of::<ResourceMetrics>());
        assert!(fits(request(Signal::Metrics), &body, exact));
        assert!(!fits(request(Signal::Metrics), &body, exact - 1));
        // An empty body takes nothing.
        assert!(fits(request(Signal::Traces), b"", 0));
    }

    #[test]
    fn fields_after_a_group_count() {
        let body = points(10_000);
        // Nested groups of an unknown field.
        let body = [&[0x7b, 0x73, 0x74, 0x7c][..], &body].concat();
        ExportMetricsServiceRequest::decode(&*body).expect("groups are passed over");
        assert!(!fits(request(Signal::Metrics), &body, 1_000_000));
    }

    #[test]
    fn lists_count_by_their_capacity() {
        for count in 1..100 {
            let mut list = Vec::new();
            (0..count).for_each(|_| list.push(ResourceMetrics::default()));
            let exact = list.capacity() * size_of::<ResourceMetrics>();
            let body = ExportMetricsServiceRequest { resource_metrics: list }.encode_to_vec();
            assert!(fits(request(Signal::Metrics), &body, exact), "{count}");
            assert!(!fits(request(Signal::Metrics), &body, exact - 1), "{count}");
        }
    }

    #[test]
    fn packed_numbers_count_one_by_one() {
        let whole = |metric: Metric| {
            let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
            let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
            ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
        };
        // One byte each on the wire, eight in memory.
        let positive = Some(Buckets { offset: 0, bucket_counts: vec![1; 100_000] });
        let data_points = vec![ExponentialHistogramDataPoint { positive, ..ExponentialHistogramDataPoint::default() }];
        let small = whole(Metric {
            data: Some(Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: 1 })),
            ..Metric::default()
        });
        assert!(small.len() < 101_000);
        let data_points = vec![HistogramDataPoint { bucket_counts: vec![1; 100_000], ..HistogramDataPoint::default() }];
        let wide = whole(Metric {
            data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 1 })),
            ..Metric::default()
        });
        for body in [small, wide] {
            assert!(!fits(request(Signal::Metrics), &body, 800_000));
            assert!(fits(request(Signal::Metrics), &body, 810_000));
        }
    }

    #[test]
    fn nested_values_count() {
        let mut value = AnyValue::default();
        for _ in 0..50 {
            let values = vec![value.clone()];
            value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) };
        }
        let log_records = vec![LogRecord { body: Some(value), ..LogRecord::default() }];
        let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        let least = 50 * INITIAL_CAPACITY * size_of::<AnyValue>();
        assert!(!fits(request(Signal::Logs), &body, least) && fits(request(Signal::Logs), &body, least + 3_000));
    }

    /// Bytes that the lists of a request take, without spare capacity.
    fn list_bytes(request: &ExportMetricsServiceRequest) -> usize {
        let scopes = request.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
        let metrics = || scopes.clone().flat_map(|it| &it.metrics);
        let points = metrics().map(wire::point_count).sum::<usize>();
        request.resource_metrics.len() * size_of::<ResourceMetrics>()
            + scopes.clone().count() * size_of::<ScopeMetrics>()
            + metrics().count() * size_of::<Metric>()
            + points * size_of::<NumberDataPoint>()
    }

    proptest! {
        #[test]
        fn malformed_bodies_fit_and_a_larger_limit_never_fits_less(
            body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x0a), Just(0x12), 0..8_u8], 0..200),
            signal in 0..3_usize, limit in 0..4_000_usize, more in 0..4_000_usize,
        ) {
            let message = request(Signal::ALL[signal]);
            prop_assert!(fits(message, &body, usize::MAX), "malformed input is rejected by the decoder");
            prop_assert!(!fits(message, &body, limit) || fits(message, &body, limit + more));
        }

        #[test]
        fn the_estimate_is_close_to_what_is_allocated(
            resources in prop::collection::vec(prop::collection::vec(prop::collection::vec(0..40_usize, 0..4), 0..4), 0..4),
        ) {
            let metric = |points| {
                let data_points = vec![NumberDataPoint::default(); points];
                Metric { data: Some(Data::Gauge(Gauge { data_points })), ..Metric::default() }
            };
            let scope = |metrics: Vec<usize>| {
                ScopeMetrics { metrics: metrics.into_iter().map(metric).collect(), ..ScopeMetrics::default() }
            };
            let resource = |scopes: Vec<Vec<usize>>| {
                ResourceMetrics { scope_metrics: scopes.into_iter().map(scope).collect(), ..ResourceMetrics::default() }
            };
            let request_of = ExportMetricsServiceRequest { resource_metrics: resources.into_iter().map(resource).collect() };
            let (bytes, body) = (list_bytes(&request_of), request_of.encode_to_vec());
            let message = request(Signal::Metrics);
            prop_assert!(bytes == 0 || !fits(message, &body, bytes - 1), "{bytes} bytes are needed at least");
            // Lists have a capacity of four, then of at most twice their length.
            prop_assert!(fits(message, &body, 4 * bytes), "four times {bytes} bytes are enough");
        }
    }
}
