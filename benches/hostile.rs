//! The cost of decoding the worst bodies that fit into `limits.body`.
//!
//! `cargo bench --bench hostile` prints CPU seconds for each. Any algorithm with quadratic time would take minutes.

#![expect(clippy::print_stdout, reason = "a bench reports on stdout")]
#![expect(clippy::expect_used, reason = "a bench that can't run must stop")]

use std::fmt::Write as _;

use lookout::config::Config;
use lookout::fleet::Fleet;
use lookout::ingest::hooks::claude_code::TOOL;
use lookout::ingest::{decode_state, decode_usage};
use lookout::model::Time;
use lookout::otlp::wire::{
    AnyValue, ArrayValue, Buckets, Data, ExponentialHistogram, ExponentialHistogramDataPoint, ExportLogsServiceRequest,
    ExportMetricsServiceRequest, ExportTraceServiceRequest, Gauge, InstrumentationScope, KeyValue, LogRecord, Metric,
    Number, NumberDataPoint, Resource, ResourceLogs, ResourceMetrics, ResourceSpans, ScopeLogs, ScopeMetrics,
    ScopeSpans, Span, Value,
};
use lookout::otlp::{Encoding, OtlpConfig, OtlpRequest, Signal, StreamTable, decode};
use lookout::profiles::Profiles;
use prost::Message as _;

/// The default of `limits.body`.
const LIMIT: usize = 16 * 1024 * 1024;
const NOW: Time = Time::from_millis(1_798_761_600_000);

/// CPU time of this process so far, in seconds.
fn used() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a state");
    let (_, numbers) = stat.rsplit_once(')').expect("a name");
    let ticks = numbers.split_whitespace().skip(11).take(2).map(|it| it.parse::<f64>().expect("ticks"));
    ticks.sum::<f64>() / 100.0
}

fn row(what: &str, size: usize, work: impl FnOnce()) {
    assert!(size <= LIMIT, "{what}: {size}");
    let before = used();
    work();
    println!("| {what} | {:.1} | {:.2} |", size as f64 / (1024.0 * 1024.0), used() - before);
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    }
}

/// Ingests an export like the OTLP task.
fn export(what: &str, signal: Signal, encoding: Encoding, body: &[u8]) {
    row(what, body.len(), || {
        let config = OtlpConfig::default();
        let (mut table, mut profiles) = (StreamTable::new(1, &config), Profiles::new(NOW, &config));
        let mut fleet = Fleet::new(NOW, Config::default().fleet_settings());
        match decode(signal, encoding, false, body, LIMIT) {
            Ok(request) => {
                if let OtlpRequest::Metrics(metrics) = &request {
                    table.apply(NOW, metrics);
                }
                let telemetry = profiles.extract(NOW, &request);
                fleet.telemetry(NOW, &telemetry);
                table.snapshot(NOW);
            }
            Err(error) => println!("refused: {error}"),
        }
    });
}

fn protobuf(what: &str, request: &OtlpRequest) {
    let (signal, body) = match request {
        OtlpRequest::Metrics(metrics) => (Signal::Metrics, metrics.encode_to_vec()),
        OtlpRequest::Traces(traces) => (Signal::Traces, traces.encode_to_vec()),
        OtlpRequest::Logs(logs) => (Signal::Logs, logs.encode_to_vec()),
    };
    export(what, signal, Encoding::Protobuf, &body);
}

fn metrics(resource: Vec<KeyValue>, scope: &str, metrics: Vec<Metric>) -> OtlpRequest {
    let scope = InstrumentationScope { name: scope.to_owned(), ..InstrumentationScope::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    OtlpRequest::Metrics(ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }],
    })
}

fn gauge(name: &str, unit: &str, points: usize) -> Metric {
    let point = |number: usize| NumberDataPoint {
        attributes: vec![text("k", number.to_string())],
        value: Some(Number::AsInt(1)),
        ..NumberDataPoint::default()
    };
    let gauge = Gauge { data_points: (0..points).map(point).collect() };
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(Data::Gauge(gauge)), ..Metric::default() }
}

fn logs(resource: Vec<KeyValue>, log_records: Vec<LogRecord>) -> OtlpRequest {
    let scope = Some(InstrumentationScope { name: "codex".to_owned(), ..InstrumentationScope::default() });
    let scope_logs = vec![ScopeLogs { scope, log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    OtlpRequest::Logs(ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }],
    })
}

fn requests(count: u64) -> Vec<LogRecord> {
    let event = |at: u64| LogRecord {
        time_unix_nano: at + 1,
        event_name: "codex.api_request".to_owned(),
        ..LogRecord::default()
    };
    (0..count).map(event).collect()
}

fn many(count: usize) -> Vec<KeyValue> {
    vec![KeyValue::default(); count]
}

fn otlp() {
    protobuf("logs: 260,000 requests of a producer of 500,000 attributes", &logs(many(500_000), requests(260_000)));
    let long = vec![text("service.name", "a".repeat(8_000_000))];
    protobuf("logs: 200,000 requests of a service with a name of 8 MB", &logs(long, requests(200_000)));
    let spans = vec![ScopeSpans::default(); 500_000];
    let resource = Some(Resource { attributes: many(500_000), ..Resource::default() });
    let producer = ResourceSpans { resource, scope_spans: spans, ..ResourceSpans::default() };
    protobuf(
        "traces: 500,000 libraries of a producer of 500,000 attributes",
        &OtlpRequest::Traces(ExportTraceServiceRequest { resource_spans: vec![producer] }),
    );
    protobuf(
        "metrics: 260,000 new points of a producer of 500,000 attributes",
        &metrics(many(500_000), "x", vec![gauge("m", "", 260_000)]),
    );
    protobuf(
        "metrics: 260,000 new points of a library with a name of 8 MB",
        &metrics(Vec::new(), &"s".repeat(8_000_000), vec![gauge("m", "", 260_000)]),
    );
    let mut words = String::new();
    (0..1_000_000).for_each(|number| write!(words, "{number} ").expect("memory"));
    protobuf(
        "metrics: a name and a unit of a million words each",
        &metrics(Vec::new(), "", vec![gauge(&words, &words, 10)]),
    );
    let gauge_of_many = Gauge {
        data_points: vec![NumberDataPoint {
            attributes: many(1_000_000),
            value: Some(Number::AsInt(1)),
            ..NumberDataPoint::default()
        }],
    };
    let metric = Metric { name: "m".to_owned(), data: Some(Data::Gauge(gauge_of_many)), ..Metric::default() };
    protobuf("metrics: a point with a million attributes", &metrics(Vec::new(), "", vec![metric]));
    let positive = Some(Buckets { offset: i32::MIN, bucket_counts: vec![1; 12_000_000] });
    let point = ExponentialHistogramDataPoint { scale: 20, positive, ..ExponentialHistogramDataPoint::default() };
    let histogram = ExponentialHistogram { data_points: vec![point], aggregation_temporality: 1 };
    let metric =
        Metric { name: "m".to_owned(), data: Some(Data::ExponentialHistogram(histogram)), ..Metric::default() };
    protobuf("metrics: an exponential histogram of 12 million buckets", &metrics(Vec::new(), "", vec![metric]));
    let mut value = AnyValue { value: Some(Value::StringValue("x".repeat(15_000_000))) };
    for _ in 0..30 {
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    let deep = NumberDataPoint {
        attributes: vec![KeyValue { key: "k".to_owned(), value: Some(value), ..KeyValue::default() }],
        value: Some(Number::AsInt(1)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "m".to_owned(),
        data: Some(Data::Gauge(Gauge { data_points: vec![deep] })),
        ..Metric::default()
    };
    protobuf("metrics: 15 MB of text in lists within lists", &metrics(Vec::new(), "", vec![metric]));
    let spans = (0..90_000_u32).map(|number| Span {
        span_id: number.to_be_bytes().to_vec(),
        attributes: vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.system", number.to_string()),
            text("http.response.header.x-ratelimit-limit-requests", "1"),
        ],
        ..Span::default()
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }];
    let request =
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] };
    protobuf("traces: 90,000 requests to a provider each, with its limits", &OtlpRequest::Traces(request));
}

fn otlp_json() {
    let deep = |depth: usize, inner: &str| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}{inner}{close}}}]}}]}}]}}"#)
    };
    let body = deep(38, &format!(r#"{{"stringValue":"{}"}}"#, "x".repeat(16_000_000)));
    export("logs in JSON: 16 MB of text in lists within lists", Signal::Logs, Encoding::Json, body.as_bytes());
    let body = deep(1, &format!("{}{{}}", "{},".repeat(1_000_000)));
    export("logs in JSON: a list of a million empty values", Signal::Logs, Encoding::Json, body.as_bytes());
    let body = format!(r#"{{"{}":1}}"#, "a_".repeat(8_000_000));
    export("logs in JSON: a key of 16 MB", Signal::Logs, Encoding::Json, body.as_bytes());
}

fn state(what: &str, body: &str) {
    row(what, body.len(), || {
        let mut fleet = Fleet::new(NOW, Config::default().fleet_settings());
        if let Ok(batch) = decode_state(body, NOW) {
            fleet.push(NOW, batch);
        }
    });
}

fn pushes() {
    let agents = |count: usize, agent: &dyn Fn(usize) -> String| {
        let agents: Vec<String> = (0..count).map(agent).collect();
        format!(r#"{{"agents":[{}]}}"#, agents.join(","))
    };
    state(
        "state: 100,000 agents with a task each",
        &agents(100_000, &|n| format!(r#"{{"name":"a{n}","task_id":"t{n}"}}"#)),
    );
    state(
        "state: 100,000 times one agent, each time with another task",
        &agents(100_000, &|n| format!(r#"{{"name":"a","task_id":"t{n}","status":"failed","reason":"r{n}"}}"#)),
    );
    let limits = (0..80).map(|n| format!(r#"{{"provider":"p{n}"}}"#)).collect::<Vec<_>>().join(",");
    state(
        "state: 10,000 agents with 80 rate limits each",
        &agents(9_000, &|n| format!(r#"{{"name":"a{n}","rate_limits":[{limits}]}}"#)),
    );
    state(
        "state: 100,000 words that are no status",
        &agents(100_000, &|n| format!(r#"{{"name":"a{n}","status":"waiting_for_godot_{n}"}}"#)),
    );
    for almost in ["sk-.", "eyJ.x ", "-----BEGIN ", "://a:b", "\\n=", "é=", "s=s=s="] {
        let reason = almost.repeat(16_000_000 / almost.len());
        state(
            &format!("state: a reason of 16 MB like `{}`", almost.trim()),
            &agents(1, &|_| format!(r#"{{"name":"a","reason":"{reason}"}}"#)),
        );
    }
    let digits = "9".repeat(16_000_000);
    state("state: a number of 16 million digits", &agents(1, &|_| format!(r#"{{"name":"a","progress":0.{digits}}}"#)));
    let usage = (0..100_000).map(|n| format!(r#"{{"task_id":"t{n}","model":"m{n}","input":1,"id":"{n}"}}"#));
    let body = format!(r#"{{"usage":[{}]}}"#, usage.collect::<Vec<_>>().join(","));
    row("usage: 100,000 increments of tasks and models", body.len(), || {
        let batch = decode_usage(&body).expect("a batch");
        Fleet::new(NOW, Config::default().fleet_settings()).usage(NOW, &batch.project, &batch.usage);
    });
}

fn hooks() {
    for (what, field) in [
        ("hook: a folder of 16 MB", format!(r#""cwd":"{}""#, "a/".repeat(7_500_000))),
        (
            "hook: 600,000 tasks in the background",
            format!(r#""background_tasks":[{}{{}}]"#, r#"{"status":"completed"},"#.repeat(600_000)),
        ),
        ("hook: a prompt of 16 MB", format!(r#""prompt":"{}""#, "\\n".repeat(7_500_000))),
    ] {
        let body = format!(r#"{{"hook_event_name":"Stop","session_id":"s",{field}}}"#);
        row(what, body.len(), || {
            if let Ok(event) = TOOL.decode(body.as_bytes(), NOW) {
                let hook = event.into_hook(&TOOL, ("shop".into(), "a".into()), None);
                Fleet::new(NOW, Config::default().fleet_settings()).hook(NOW, &hook);
            }
        });
    }
}

fn main() {
    println!("| body | MiB | processor seconds |\n|---|---|---|");
    otlp();
    otlp_json();
    pushes();
    hooks();
}
