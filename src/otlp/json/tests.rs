//! JSON as senders write it, and invalid UTF-8 in protobuf.

use prost::Message as _;

use crate::otlp::decode::{Encoding, OtlpDecodeError, OtlpRequest, decode, decode_counted};
use crate::otlp::schema::Signal;
use crate::otlp::wire::{
    self, Buckets, Data, ExponentialHistogram, ExportLogsServiceRequest, Histogram, LogRecord, Metric, Number,
    ResourceLogs, ScopeLogs, Sum, Value,
};

fn read(signal: Signal, json: &str) -> Result<OtlpRequest, OtlpDecodeError> {
    decode(signal, Encoding::Json, false, json.as_bytes(), 1_000_000)
}

fn sum(metric: &Metric) -> &Sum {
    if let Some(Data::Sum(sum)) = &metric.data { sum } else { panic!("no sum: {metric:?}") }
}

fn histogram(metric: &Metric) -> &Histogram {
    if let Some(Data::Histogram(histogram)) = &metric.data { histogram } else { panic!("no histogram: {metric:?}") }
}

fn exponential(metric: &Metric) -> &ExponentialHistogram {
    if let Some(Data::ExponentialHistogram(it)) = &metric.data { it } else { panic!("no histogram: {metric:?}") }
}

#[test]
fn json_is_decoded_in_every_form_that_senders_write() {
    let json = r#"{"resourceMetrics": [{"resource": {"attributes": [
            {"key": "a", "value": {}}, {"key": "b", "value": null}, {"key": "c"}, {"key": "d", "value": {"intValue": "7"}},
            {"key": "e", "value": {"intValue": 7, "newer": [1]}}, {"key": "f", "value": {"doubleValue": "NaN"}},
            {"key": "g", "value": {"bytesValue": "AQ=="}}, {"key": "h", "value": "bare"},
            {"key": "i", "value": {"arrayValue": {"values": [{"boolValue": false}]}}},
            {"key": "j", "value": {"kvlistValue": {"values": null}}}], "droppedAttributesCount": 0},
        "schemaUrl": null, "scopeMetrics": [{"scope": null, "metrics": [
            {"name": "m", "unit": null, "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "isMonotonic": true,
                "dataPoints": [{"asInt": "5", "startTimeUnixNano": "1", "timeUnixNano": 2, "attributes": null, "exemplars": []},
                    {"as_int": 6, "start_time_unix_nano": 1}, {"asDouble": 1e3, "flags": 1}, {"asDouble": "-Infinity"}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                {"count": "3", "sum": null, "bucketCounts": ["1", 2], "explicitBounds": [0.5], "min": null}]}},
            {"name": "x", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                {"scale": -1, "positive": {"offset": "2", "bucketCounts": [1]}, "negative": {}}]}}]}]}]}"#;
    let Ok(OtlpRequest::Metrics(request)) = read(Signal::Metrics, json) else { panic!("metrics") };
    let producer = &request.resource_metrics[0];
    let values: Vec<_> = producer.resource.as_ref().expect("a resource").attributes.iter().map(wire::value).collect();
    assert_eq!(values[..5], [None, None, None, Some(&Value::IntValue(7)), Some(&Value::IntValue(7))]);
    assert!(matches!(values[5], Some(Value::DoubleValue(number)) if number.is_nan()));
    assert_eq!(values[6], Some(&Value::BytesValue(vec![1])));
    assert_eq!(values[7], Some(&Value::StringValue("bare".to_owned())));
    let metrics = &producer.scope_metrics[0].metrics;
    let counts = sum(&metrics[0]);
    assert_eq!((counts.aggregation_temporality, counts.is_monotonic), (1, true));
    let numbers: Vec<_> = counts.data_points.iter().map(|point| point.value).collect();
    let expected = [Number::AsInt(5), Number::AsInt(6), Number::AsDouble(1e3), Number::AsDouble(f64::NEG_INFINITY)];
    let expected = expected.map(Some);
    assert_eq!(numbers, expected);
    assert_eq!((counts.data_points[0].start_time_unix_nano, counts.data_points[0].time_unix_nano), (1, 2));
    let buckets = &histogram(&metrics[1]).data_points[0];
    assert_eq!((buckets.count, buckets.sum, &buckets.bucket_counts[..]), (3, None, &[1, 2][..]));
    let point = &exponential(&metrics[2]).data_points[0];
    assert_eq!(point.positive, Some(Buckets { offset: 2, bucket_counts: vec![1] }));

    let json = r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0102", "spanId": "", "parentSpanId": null,
        "kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}, "endTimeUnixNano": "9"}, {"traceId": "xyz"}]}]}]}"#;
    let Ok(OtlpRequest::Traces(request)) = read(Signal::Traces, json) else { panic!("traces") };
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert_eq!((&spans[0].trace_id[..], spans[0].kind, spans[0].end_time_unix_nano), (&[1, 2][..], 3, 9));
    assert_eq!(spans[0].status.as_ref().map(|status| status.code), Some(2));
    assert!(spans[1].trace_id.is_empty(), "an invalid id is empty");

    let json = r#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"body": null, "traceId": "", "severityNumber": 9}, {"body": {"stringValue": "x"}, "severityNumber": "INFO", "eventName": "e"}]}]}]}"#;
    let Ok(OtlpRequest::Logs(request)) = read(Signal::Logs, json) else { panic!("logs") };
    let records = &request.resource_logs[0].scope_logs[0].log_records;
    assert_eq!((records[0].body.clone(), records[0].severity_number, records[1].severity_number), (None, 9, 0));
    assert_eq!(records[1].event_name, "e");

    assert!(matches!(read(Signal::Metrics, "x"), Err(OtlpDecodeError::Malformed(_))));
}

/// A value that is invalid for its field is dropped and counted; everything else is kept.
#[test]
fn an_invalid_value_in_json_is_dropped_alone() {
    for (points, unread, kept) in [
        (r#"{"asInt": "1,234"}, {"asInt": 5}"#, 1, vec![None, Some(5)]),
        (r#"{"asInt": {}, "timeUnixNano": []}, {"asInt": 5}"#, 2, vec![None, Some(5)]),
        (r#"{"asInt": 7, "attributes": 3}, 7, [], "x", {"asInt": 5}"#, 4, vec![Some(7), None, None, None, Some(5)]),
        (r#"{"asInt": 1e99, "exemplars": NaN}, {"asInt": 5}"#, 1, vec![None, Some(5)]),
        (
            r#"{"asInt": 5, "attributes": [{"key": "cut \ud83d", "value": {"stringValue": "\udc00"}}]}"#,
            0,
            vec![Some(5)],
        ),
        (r#"{"asInt": 5, "attributes": [{"key": 3, "value": {"intValue": true}}]}"#, 2, vec![Some(5)]),
    ] {
        let json = format!(
            r#"{{"resourceMetrics": [{{"resource": [], "scopeMetrics": [{{"metrics": [{{"name": "m", "sum": {{"dataPoints": [{points}]}}}}]}}]}}]}}"#
        );
        let read = decode_counted(Signal::Metrics, Encoding::Json, false, json.as_bytes(), 100_000);
        let Ok((OtlpRequest::Metrics(request), count)) = read else { panic!("{json}: {read:?}") };
        let sum = sum(&request.resource_metrics[0].scope_metrics[0].metrics[0]);
        let numbers: Vec<_> = sum.data_points.iter().map(|point| point.value).collect();
        let kept: Vec<_> = kept.into_iter().map(|number| number.map(Number::AsInt)).collect();
        assert_eq!((numbers, count), (kept, unread + 1), "{points}");
    }
    let json = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"histogram": {"dataPoints": [{"bucketCounts": [1, "x", 2], "count": 3}]}}]}]}]}"#;
    let Ok(OtlpRequest::Metrics(request)) = read(Signal::Metrics, json) else { panic!("metrics") };
    let point = &histogram(&request.resource_metrics[0].scope_metrics[0].metrics[0]).data_points[0];
    assert_eq!((point.bucket_counts.len(), point.count), (0, 3), "a list with an invalid number is dropped whole");
}

/// Only the invalid bytes of a string are replaced.
#[test]
fn invalid_utf8_is_replaced() {
    let attribute = wire::string_attribute("prompt", "cutXX");
    let record = LogRecord { event_name: "e".to_owned(), attributes: vec![attribute], ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    let place = body.windows(2).position(|pair| pair == b"XX").expect("it is there");
    let mut broken = body.clone();
    broken[place..place + 2].copy_from_slice(b"\xff\xfe");
    let read = decode_counted(Signal::Logs, Encoding::Protobuf, false, &broken, 100_000);
    let Ok((OtlpRequest::Logs(request), 1)) = read else { panic!("{read:?}") };
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.event_name, "e");
    assert_eq!(wire::value(&record.attributes[0]), Some(&Value::StringValue("cut\u{fffd}\u{fffd}".to_owned())));
    let cut = decode_counted(Signal::Logs, Encoding::Protobuf, false, &broken[..broken.len() - 1], 100_000);
    assert!(matches!(cut, Err(OtlpDecodeError::Malformed(_))), "{cut:?}");
}
