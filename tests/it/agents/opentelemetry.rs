//! A program of one's own that OpenTelemetry's SDK for Node measures: every kind of instrument, spans of calls to a model,
//! its restarts and lookout's, and what a live Prometheus makes of it all.

use std::process::Command;

use super::{Home, Shown, Watch};
use crate::counterparts::{Need, run};
use crate::doubles::model::Usage;
use crate::program::eventually;
use crate::{Case, tidy, trial};

const NEEDS: &[Need] = &[Need::OpenTelemetryNode];

pub(super) fn trials() -> Vec<Case> {
    ["http/protobuf", "http/json", "grpc"]
        .map(|protocol| {
            let name = format!("agents: a program with Node's OpenTelemetry SDK over {protocol} is counted right");
            trial(&name, NEEDS, move || {
                ["cumulative", "delta"].map(|it| is_counted(protocol, it)).into_iter().collect()
            })
        })
        .into()
}

/// The program, exporting as `printed` says but over `protocol`, always as the same instance.
fn client(home: &Home, watch: &Watch, protocol: &str, temporality: &str, times: u32) -> Command {
    let printed = watch.printed("opentelemetry").replace("http/protobuf", protocol);
    let printed = printed.replace("agent.name=", "service.instance.id=one,agent.name=");
    let printed = match protocol {
        "grpc" => printed.replace(&watch.http.to_string(), &watch.grpc.to_string()),
        _ => printed,
    };
    let mut client = home.command("node", &printed);
    client.arg(tidy::root().join("tests/it/doubles/otel_client.cjs")).arg(times.to_string());
    client.envs([("OTEL_SERVICE_NAME", "shop"), ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)]);
    // Twice before its end, whatever the usual minute is.
    client.envs([("OTEL_METRIC_EXPORT_INTERVAL", "200"), ("OTEL_METRIC_EXPORT_TIMEOUT", "200")]);
    client
}

fn is_counted(protocol: &str, temporality: &str) {
    let mut watch = Watch::start("otlp: {prices: {m-1: {input: 1, output: 2}}}\n");
    let home = Home::new();
    let shown = |times: u64| {
        let tokens = Usage { input: 120 * times, output: 12 * times, ..Usage::default() };
        Shown { tokens, cost: 144.0 * times as f64 / 1e6, ..Shown::default() }
    };
    let counts = |watch: &Watch, what: &str, done: f64, lives: f64| {
        let of = |name: &str, label: &str| {
            let series = watch.series(&format!("{name}{{"), label);
            (series, watch.lookout().get("/metrics").text().matches(&format!("\n{name}{{")).count())
        };
        for (name, label, expected) in [
            ("jobs_done_total", "kind=\"a \\\"b\\\"\"", done),
            ("jobs_cost_USD_total", "", done * 0.075),
            ("jobs_waiting", "", 3.0),
            ("room_temperature_celsius", "", 21.5),
            ("job_duration_seconds_count", "", lives * 3.0),
            ("job_duration_seconds_sum", "", lives * 7.5),
            ("target_info", "telemetry_sdk_language=\"nodejs\"", 1.0),
        ] {
            assert_eq!(of(name, label), (Some(expected), 1), "{protocol} {temporality} {what}: {name}");
        }
        let bucket = watch.series("job_duration_seconds_bucket{", "le=\"1.0\"");
        assert_eq!(bucket, Some(lives), "{protocol} {temporality} {what}");
    };
    run(&mut client(&home, &watch, protocol, temporality, 1));
    counts(&watch, "its first life", 10.0, 1.0);
    watch.shows("its first life", &Shown { requests: 2, ..shown(1) });
    // Another process: it counts from 0 again.
    run(&mut client(&home, &watch, protocol, temporality, 2));
    counts(&watch, "its second life", 30.0, 2.0);
    watch.shows("its second life", &Shown { requests: 4, ..shown(3) });

    watch.crash();
    run(&mut client(&home, &watch, protocol, temporality, 3));
    // Its own series begin anew with lookout, its agent's go on.
    counts(&watch, "its third life", 30.0, 1.0);
    watch.shows("its third life", &Shown { requests: 6, ..shown(6) });
    eventually("a doctor who is content", || watch.doctor().contains("1 agent, nothing to change").then_some(()));
}
