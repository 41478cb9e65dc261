//! The cost of ingesting OTLP compared with decoding the official messages by prost; and the memory of 100,000 delta streams.
//!
//! `cargo bench --bench otlp` prints microseconds per data point and span, as the median of many rounds, since other load on
//! the machine only makes rounds slower. Everything runs on one thread, so time is CPU time.

#![expect(clippy::print_stdout, reason = "a bench reports on stdout")]
#![expect(clippy::expect_used, reason = "a bench that can't run must stop")]

use std::hint::black_box;

use lookout::clock::{Clock, Stopwatch};
use lookout::metrics::{ExpositionFormat, ExpositionPage, SidecarMetrics};
use lookout::model::Snapshot;
use lookout::model::alert::AlertCounts;
use lookout::otlp::{Encoding, OtlpConfig, OtlpRequest, Signal, StreamTable, decode};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message as _;

/// Data points or spans per body.
const ITEMS: usize = 1_000;
const ROUNDS: usize = 300;
/// Larger than any body here.
const LIMIT: usize = 1 << 30;
/// Number of streams whose memory is measured.
const STREAMS: usize = 100_000;

fn word(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..Default::default() }
}

fn resource() -> Option<Resource> {
    let attributes = vec![word("service.name", "shop".to_owned()), word("host.name", "box".to_owned())];
    Some(Resource { attributes, ..Default::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "bench".to_owned(), ..Default::default() })
}

/// A body of `ITEMS` delta points, one per stream starting with `first`, for the interval that ends at `second`.
fn points(first: usize, second: u64, attributes: usize) -> Vec<u8> {
    let point = |number: usize| {
        let more = (1..attributes).map(|place| word(&format!("attribute.{place}"), format!("value-{}", number % 7)));
        metrics::NumberDataPoint {
            attributes: std::iter::once(word("agent.name", format!("agent-{number:06}"))).chain(more).collect(),
            start_time_unix_nano: (second - 1) * 1_000_000_000,
            time_unix_nano: second * 1_000_000_000,
            value: Some(metrics::number_data_point::Value::AsInt(number as i64)),
            ..Default::default()
        }
    };
    let sum = metrics::Sum {
        data_points: (first..first + ITEMS).map(point).collect(),
        aggregation_temporality: 1,
        is_monotonic: true,
    };
    let metric = metrics::Metric {
        name: "agent.tokens".to_owned(),
        description: "Tokens".to_owned(),
        unit: "{token}".to_owned(),
        data: Some(metrics::metric::Data::Sum(sum)),
        ..Default::default()
    };
    let scope_metrics = vec![metrics::ScopeMetrics { scope: scope(), metrics: vec![metric], ..Default::default() }];
    let producer = metrics::ResourceMetrics { resource: resource(), scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![producer] }.encode_to_vec()
}

/// A body of `ITEMS` spans with twelve attributes each.
fn spans() -> Vec<u8> {
    let span = |number: usize| trace::Span {
        trace_id: vec![7; 16],
        span_id: (number as u64).to_be_bytes().to_vec(),
        name: "chat gpt-4o-mini".to_owned(),
        kind: 3,
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        attributes: (0..12)
            .map(|place| word(&format!("gen_ai.attribute.{place}"), format!("value-{number}")))
            .collect(),
        ..Default::default()
    };
    let scope_spans =
        vec![trace::ScopeSpans { scope: scope(), spans: (0..ITEMS).map(span).collect(), ..Default::default() }];
    let producer = trace::ResourceSpans { resource: resource(), scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![producer] }.encode_to_vec()
}

/// The median time of a round of `work`, in microseconds per item.
fn measure(mut work: impl FnMut(usize)) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let watch = Stopwatch::start();
            work(round);
            watch.elapsed().as_secs_f64() * 1e6 / ITEMS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or_default()
}

fn read(signal: Signal, body: &[u8]) -> OtlpRequest {
    decode(signal, Encoding::Protobuf, false, body, LIMIT).expect("a body")
}

fn row(what: &str, ours: f64, floor: f64) {
    println!("| {what} | {floor:.3} µs | {ours:.3} µs | {:.2} | {:.0} |", ours / floor, 1e6 / ours);
}

/// Resident memory in MB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a state");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kilobytes") / 1024.0
}

fn main() {
    let now = Clock::system().now();
    let second = now.as_millis().unsigned_abs() / 1_000 - ROUNDS as u64 - 1;
    println!("| what | prost alone | end to end | ratio | per second |\n|---|---|---|---|---|");
    for attributes in [4, 8] {
        let bodies: Vec<Vec<u8>> = (0..ROUNDS as u64).map(|round| points(0, second + round, attributes)).collect();
        let body = |round: usize| black_box(bodies.get(round).expect("a body").as_slice());
        let floor = measure(|round| {
            black_box(ExportMetricsServiceRequest::decode(body(round)).expect("a body"));
        });
        let mut table = StreamTable::new(1, &OtlpConfig::default());
        let ours = measure(|round| {
            let OtlpRequest::Metrics(request) = read(Signal::Metrics, body(round)) else { return };
            assert_eq!(table.apply(now, &request).accepted, ITEMS as u64);
        });
        row(&format!("delta point, {attributes} attributes"), ours, floor);
    }
    let body = spans();
    let floor = measure(|_| {
        black_box(ExportTraceServiceRequest::decode(black_box(&*body)).expect("a body"));
    });
    let ours = measure(|_| {
        assert_eq!(black_box(read(Signal::Traces, black_box(&body))).items(), ITEMS as u64);
    });
    row("span, 12 attributes", ours, floor);

    let before = memory();
    let mut table = StreamTable::new(1, &OtlpConfig::default());
    let watch = Stopwatch::start();
    for first in (0..STREAMS).step_by(ITEMS) {
        if let OtlpRequest::Metrics(request) = read(Signal::Metrics, &points(first, second, 4)) {
            table.apply(now, &request);
        }
    }
    assert_eq!(table.streams(), STREAMS + 1, "and the one of target_info");
    println!(
        "\n{STREAMS} delta streams with 4 attributes: {:.1} MB, created in {:?}",
        memory() - before,
        watch.elapsed()
    );
    let watch = Stopwatch::start();
    let telemetry = table.snapshot(now);
    println!("snapshot of them: {:?}", watch.elapsed());
    if let OtlpRequest::Metrics(request) = read(Signal::Metrics, &points(0, second + 1, 4)) {
        table.apply(now, &request);
    }
    let watch = Stopwatch::start();
    let again = table.snapshot(now);
    println!("snapshot after {ITEMS} more points: {:?}", watch.elapsed());
    let (fleet, alerts, own) = (Snapshot::default(), AlertCounts::default(), SidecarMetrics::new());
    let page = ExpositionPage { fleet: &fleet, alerts: &alerts, own: &own, telemetry: &again };
    let (watch, mut bytes) = (Stopwatch::start(), 0);
    page.render(ExpositionFormat::OpenMetrics, &mut |piece| {
        bytes += piece.len();
        true
    });
    println!(
        "their page: {} KB in {:?}; memory with both snapshots {:.1} MB",
        bytes / 1024,
        watch.elapsed(),
        memory() - before
    );
    drop(telemetry);
}
