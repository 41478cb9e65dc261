//! Our messages against the official ones, and JSON as senders really write it.

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource as OfficialResource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message as _;

use super::*;
use crate::otlp::decode::{DecodeError, Encoding, Request, decode, decode_counted};
use crate::otlp::schema::Signal;

fn read(signal: Signal, json: &str) -> Result<Request, DecodeError> {
    decode(signal, Encoding::Json, false, json.as_bytes(), 1_000_000)
}

fn official(key: &str, value: common::any_value::Value) -> common::KeyValue {
    let value = Some(common::AnyValue { value: Some(value) });
    common::KeyValue { key: key.to_owned(), value, ..Default::default() }
}

fn ours(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn official_attributes() -> Vec<common::KeyValue> {
    use common::any_value::Value as V;
    let any = |value| common::AnyValue { value: Some(value) };
    vec![
        official("s", V::StringValue("x".to_owned())),
        official("b", V::BoolValue(true)),
        official("i", V::IntValue(-5)),
        official("d", V::DoubleValue(0.5)),
        official("a", V::ArrayValue(common::ArrayValue { values: vec![any(V::IntValue(1))] })),
        official("k", V::KvlistValue(common::KeyValueList { values: vec![official("l", V::BytesValue(vec![7]))] })),
    ]
}

fn our_attributes() -> Vec<KeyValue> {
    let array = ArrayValue { values: vec![AnyValue { value: Some(Value::Int(1)) }] };
    vec![
        ours("s", Value::String("x".to_owned())),
        ours("b", Value::Bool(true)),
        ours("i", Value::Int(-5)),
        ours("d", Value::Double(0.5)),
        ours("a", Value::Array(array)),
        ours("k", Value::Kvlist(KeyValueList { values: vec![ours("l", Value::Bytes(vec![7]))] })),
    ]
}

fn official_producer() -> (Option<OfficialResource>, Option<common::InstrumentationScope>) {
    let resource =
        OfficialResource { attributes: official_attributes(), dropped_attributes_count: 1, ..Default::default() };
    let scope = common::InstrumentationScope {
        name: "lib".to_owned(),
        version: "1.2".to_owned(),
        attributes: official_attributes(),
        dropped_attributes_count: 1,
    };
    (Some(resource), Some(scope))
}

fn our_producer() -> (Option<Resource>, Option<Scope>) {
    let scope = Scope { name: "lib".to_owned(), version: "1.2".to_owned(), attributes: our_attributes() };
    (Some(Resource { attributes: our_attributes() }), Some(scope))
}

#[test]
fn metrics_are_read_as_the_official_messages_write_them() {
    use metrics::metric::Data;
    let (resource, scope) = official_producer();
    let exemplar = metrics::Exemplar { time_unix_nano: 3, span_id: vec![1; 8], ..Default::default() };
    let number = |value| metrics::NumberDataPoint {
        attributes: official_attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        exemplars: vec![exemplar.clone()],
        flags: 1,
        value: Some(value),
    };
    let buckets = |offset| metrics::exponential_histogram_data_point::Buckets { offset, bucket_counts: vec![4, 5] };
    let data = [
        Data::Gauge(metrics::Gauge { data_points: vec![number(metrics::number_data_point::Value::AsInt(-7))] }),
        Data::Sum(metrics::Sum {
            data_points: vec![number(metrics::number_data_point::Value::AsDouble(0.5))],
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(metrics::Histogram {
            data_points: vec![metrics::HistogramDataPoint {
                attributes: official_attributes(),
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                count: 3,
                sum: Some(4.5),
                bucket_counts: vec![1, 2],
                explicit_bounds: vec![0.25],
                exemplars: vec![exemplar.clone()],
                flags: 1,
                min: Some(0.1),
                max: Some(4.0),
            }],
            aggregation_temporality: 1,
        }),
        Data::ExponentialHistogram(metrics::ExponentialHistogram {
            data_points: vec![metrics::ExponentialHistogramDataPoint {
                attributes: official_attributes(),
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                count: 3,
                sum: Some(4.5),
                scale: -3,
                zero_count: 6,
                positive: Some(buckets(-9)),
                negative: Some(buckets(8)),
                flags: 1,
                exemplars: vec![exemplar],
                min: Some(0.1),
                max: Some(4.0),
                zero_threshold: 0.125,
            }],
            aggregation_temporality: 1,
        }),
        Data::Summary(metrics::Summary {
            data_points: vec![metrics::SummaryDataPoint {
                attributes: official_attributes(),
                start_time_unix_nano: 1,
                time_unix_nano: 2,
                count: 3,
                sum: 4.5,
                quantile_values: vec![metrics::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 9.0 }],
                flags: 1,
            }],
        }),
    ];
    let sent = metrics::MetricsData {
        resource_metrics: vec![metrics::ResourceMetrics {
            resource,
            scope_metrics: vec![metrics::ScopeMetrics {
                scope,
                metrics: data
                    .map(|data| metrics::Metric {
                        name: "m".to_owned(),
                        description: "what".to_owned(),
                        unit: "s".to_owned(),
                        metadata: official_attributes(),
                        data: Some(data),
                    })
                    .to_vec(),
                schema_url: "u".to_owned(),
            }],
            schema_url: "u".to_owned(),
        }],
    };

    let (resource, scope) = our_producer();
    let number = |as_double, as_int| NumberPoint {
        attributes: our_attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        as_double,
        as_int,
        flags: 1,
    };
    let metric =
        || Metric { name: "m".to_owned(), description: "what".to_owned(), unit: "s".to_owned(), ..Metric::default() };
    let buckets = |offset| Some(Buckets { offset, bucket_counts: vec![4, 5] });
    let histogram = HistogramPoint {
        attributes: our_attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(4.5),
        bucket_counts: vec![1, 2],
        explicit_bounds: vec![0.25],
        flags: 1,
    };
    let exponential = ExponentialHistogramPoint {
        attributes: our_attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: Some(4.5),
        scale: -3,
        zero_count: 6,
        positive: buckets(-9),
        negative: buckets(8),
        flags: 1,
        zero_threshold: 0.125,
    };
    let summary = SummaryPoint {
        attributes: our_attributes(),
        start_time_unix_nano: 1,
        time_unix_nano: 2,
        count: 3,
        sum: 4.5,
        quantile_values: vec![Quantile { quantile: 0.5, value: 9.0 }],
        flags: 1,
    };
    let sum = Sum { data_points: vec![number(Some(0.5), None)], aggregation_temporality: 2, is_monotonic: true };
    let expected = MetricsRequest {
        resource_metrics: vec![ResourceMetrics {
            resource,
            scope_metrics: vec![ScopeMetrics {
                scope,
                metrics: vec![
                    Metric { gauge: Some(Gauge { data_points: vec![number(None, Some(-7))] }), ..metric() },
                    Metric { sum: Some(sum), ..metric() },
                    Metric {
                        histogram: Some(Histogram { data_points: vec![histogram], aggregation_temporality: 1 }),
                        ..metric()
                    },
                    Metric {
                        exponential_histogram: Some(ExponentialHistogram {
                            data_points: vec![exponential],
                            aggregation_temporality: 1,
                        }),
                        ..metric()
                    },
                    Metric { summary: Some(Summary { data_points: vec![summary] }), ..metric() },
                ],
            }],
        }],
    };
    assert_eq!(MetricsRequest::decode(&*sent.encode_to_vec()).expect("metrics"), expected);
}

#[test]
fn spans_and_records_are_read_as_the_official_messages_write_them() {
    let (resource, scope) = official_producer();
    let span = trace::Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        trace_state: "t".to_owned(),
        parent_span_id: vec![3; 8],
        flags: 256,
        name: "chat".to_owned(),
        kind: 3,
        start_time_unix_nano: 4,
        end_time_unix_nano: 5,
        attributes: official_attributes(),
        dropped_attributes_count: 1,
        events: vec![trace::span::Event {
            time_unix_nano: 6,
            name: "e".to_owned(),
            attributes: official_attributes(),
            dropped_attributes_count: 1,
        }],
        dropped_events_count: 1,
        links: vec![trace::span::Link { trace_id: vec![7; 16], span_id: vec![8; 8], ..Default::default() }],
        dropped_links_count: 1,
        status: Some(trace::Status { message: "no".to_owned(), code: 2 }),
    };
    let sent = trace::TracesData {
        resource_spans: vec![trace::ResourceSpans {
            resource: resource.clone(),
            scope_spans: vec![trace::ScopeSpans {
                scope: scope.clone(),
                spans: vec![span],
                schema_url: "u".to_owned(),
            }],
            schema_url: "u".to_owned(),
        }],
    };
    let (our_resource, our_scope) = our_producer();
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        parent_span_id: vec![3; 8],
        name: "chat".to_owned(),
        kind: 3,
        start_time_unix_nano: 4,
        end_time_unix_nano: 5,
        attributes: our_attributes(),
        events: vec![SpanEvent { time_unix_nano: 6, name: "e".to_owned(), attributes: our_attributes() }],
        links: vec![Link { trace_id: vec![7; 16], span_id: vec![8; 8] }],
        status: Some(SpanStatus { message: "no".to_owned(), code: 2 }),
    };
    let expected = TracesRequest {
        resource_spans: vec![ResourceSpans {
            resource: our_resource.clone(),
            scope_spans: vec![ScopeSpans { scope: our_scope.clone(), spans: vec![span] }],
        }],
    };
    assert_eq!(TracesRequest::decode(&*sent.encode_to_vec()).expect("traces"), expected);

    let record = logs::LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(common::AnyValue { value: Some(common::any_value::Value::StringValue("said".to_owned())) }),
        attributes: official_attributes(),
        dropped_attributes_count: 1,
        flags: 1,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "e".to_owned(),
    };
    let sent = logs::LogsData {
        resource_logs: vec![logs::ResourceLogs {
            resource,
            scope_logs: vec![logs::ScopeLogs { scope, log_records: vec![record], schema_url: "u".to_owned() }],
            schema_url: "u".to_owned(),
        }],
    };
    let record = LogRecord {
        time_unix_nano: 1,
        observed_time_unix_nano: 2,
        severity_number: 9,
        body: Some(AnyValue { value: Some(Value::String("said".to_owned())) }),
        attributes: our_attributes(),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "e".to_owned(),
    };
    let expected = LogsRequest {
        resource_logs: vec![ResourceLogs {
            resource: our_resource,
            scope_logs: vec![ScopeLogs { scope: our_scope, log_records: vec![record] }],
        }],
    };
    assert_eq!(LogsRequest::decode(&*sent.encode_to_vec()).expect("logs"), expected);
}

#[test]
fn json_is_read_in_every_form_that_senders_write() {
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
    let Ok(Request::Metrics(request)) = read(Signal::Metrics, json) else { panic!("metrics") };
    let producer = &request.resource_metrics[0];
    let values: Vec<_> =
        producer.resource.as_ref().expect("a resource").attributes.iter().map(KeyValue::value).collect();
    assert_eq!(values[..5], [None, None, None, Some(&Value::Int(7)), Some(&Value::Int(7))]);
    assert!(matches!(values[5], Some(Value::Double(number)) if number.is_nan()));
    assert_eq!(values[6], Some(&Value::Bytes(vec![1])));
    assert_eq!(values[7], Some(&Value::String("bare".to_owned())));
    let metrics = &producer.scope_metrics[0].metrics;
    let sum = metrics[0].sum.as_ref().expect("a sum");
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (1, true));
    let numbers: Vec<_> = sum.data_points.iter().map(|point| (point.as_int, point.as_double)).collect();
    let expected = [(Some(5), None), (Some(6), None), (None, Some(1e3)), (None, Some(f64::NEG_INFINITY))];
    assert_eq!(numbers, expected);
    assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano), (1, 2));
    let histogram = &metrics[1].histogram.as_ref().expect("a histogram").data_points[0];
    assert_eq!((histogram.count, histogram.sum, &histogram.bucket_counts[..]), (3, None, &[1, 2][..]));
    let exponential = &metrics[2].exponential_histogram.as_ref().expect("one").data_points[0];
    assert_eq!(exponential.positive, Some(Buckets { offset: 2, bucket_counts: vec![1] }));

    let json = r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0102", "spanId": "", "parentSpanId": null,
        "kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}, "endTimeUnixNano": "9"}, {"traceId": "xyz"}]}]}]}"#;
    let Ok(Request::Traces(request)) = read(Signal::Traces, json) else { panic!("traces") };
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    assert_eq!((&spans[0].trace_id[..], spans[0].kind, spans[0].end_time_unix_nano), (&[1, 2][..], 3, 9));
    assert_eq!(spans[0].status.as_ref().map(|status| status.code), Some(2));
    assert!(spans[1].trace_id.is_empty(), "an id that is none is not known");

    let json = r#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"body": null, "traceId": "", "severityNumber": 9}, {"body": {"stringValue": "x"}, "severityNumber": "INFO", "eventName": "e"}]}]}]}"#;
    let Ok(Request::Logs(request)) = read(Signal::Logs, json) else { panic!("logs") };
    let records = &request.resource_logs[0].scope_logs[0].log_records;
    assert_eq!((records[0].body.clone(), records[0].severity_number, records[1].severity_number), (None, 9, 0));
    assert_eq!(records[1].event_name, "e");

    assert!(matches!(read(Signal::Metrics, "x"), Err(DecodeError::Malformed(_))));
}

/// A value that its field can't have is left out, counted, and costs nothing beside it.
#[test]
fn a_bad_value_in_json_costs_itself() {
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
        let Ok((Request::Metrics(request), count)) = read else { panic!("{json}: {read:?}") };
        let sum = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.as_ref().expect("a sum");
        let numbers: Vec<_> = sum.data_points.iter().map(|point| point.as_int).collect();
        assert_eq!((numbers, count), (kept, unread + 1), "{points}");
    }
    let json = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"histogram": {"dataPoints": [{"bucketCounts": [1, "x", 2], "count": 3}]}}]}]}]}"#;
    let Ok(Request::Metrics(request)) = read(Signal::Metrics, json) else { panic!("metrics") };
    let point =
        &request.resource_metrics[0].scope_metrics[0].metrics[0].histogram.as_ref().expect("one").data_points[0];
    assert_eq!((point.bucket_counts.len(), point.count), (0, 3), "a list without one of its numbers is another");
}

/// Bytes that are no text cost what is no text of them.
#[test]
fn texts_that_are_no_utf8_are_made_so() {
    let attribute = KeyValue::new("prompt", Value::String("cutXX".to_owned()));
    let record = LogRecord { event_name: "e".to_owned(), attributes: vec![attribute], ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { scope: None, log_records: vec![record] }];
    let body = LogsRequest { resource_logs: vec![ResourceLogs { resource: None, scope_logs }] }.encode_to_vec();
    let place = body.windows(2).position(|pair| pair == b"XX").expect("it is there");
    let mut broken = body.clone();
    broken[place..place + 2].copy_from_slice(b"\xff\xfe");
    let read = decode_counted(Signal::Logs, Encoding::Protobuf, false, &broken, 100_000);
    let Ok((Request::Logs(request), 1)) = read else { panic!("{read:?}") };
    let record = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!(record.event_name, "e");
    assert_eq!(record.attributes[0].value(), Some(&Value::String("cut\u{fffd}\u{fffd}".to_owned())));
    let cut = decode_counted(Signal::Logs, Encoding::Protobuf, false, &broken[..broken.len() - 1], 100_000);
    assert!(matches!(cut, Err(DecodeError::Malformed(_))), "{cut:?}");
}
