//! A program that is instrumented with OpenTelemetry's SDK for Node: every type of instrument, spans of model calls,
//! restarts of the program and of lookout, and the increase that a real Prometheus computes.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::{Home, Shown, Sidecar};
use crate::counterparts::Need;
use crate::doubles::model::Usage;
use crate::program::eventually;
use crate::prometheus::Prometheus;
use crate::{Case, tidy, trial};

const NEEDS: &[Need] = &[Need::OpenTelemetryNode, Need::Promtool];
const CONFIG: &str = "otlp: {prices: {m-1: {input: 1, output: 2}}}\n";

pub(super) fn trials() -> Vec<Case> {
    let counted = ["http/protobuf", "http/json", "grpc"].map(|protocol| {
        let name = format!("agents: a program with Node's OpenTelemetry SDK over {protocol} is counted right");
        trial(&name, NEEDS, move || ["cumulative", "delta"].iter().for_each(|it| is_counted(protocol, it)))
    });
    const ALL: &[Need] = &[Need::OpenTelemetryNode, Need::Prometheus, Need::Promtool];
    let name = "agents: Prometheus' increase is right over restarts of a program and of lookout";
    counted.into_iter().chain([trial(name, ALL, increase_is_right)]).collect()
}

/// A running program, always with the same instance id.
struct Client {
    child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// Starts it with the settings of `lookout setup`, but over `protocol`.
    fn start(home: &Home, sidecar: &Sidecar, protocol: &str, temporality: &str) -> Self {
        let printed = sidecar.printed("opentelemetry").replace("http/protobuf", protocol);
        let printed = printed.replace("agent.name=", "service.instance.id=one,agent.name=");
        let printed = match protocol {
            "grpc" => printed.replace(&sidecar.http.to_string(), &sidecar.grpc.to_string()),
            _ => printed,
        };
        let mut client = home.command("node", &printed, 60);
        client.arg(tidy::root().join("tests/it/doubles/otel_client.cjs"));
        client
            .envs([("OTEL_SERVICE_NAME", "shop"), ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)]);
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let reports = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { orders: child.stdin.take().expect("its input"), child, reports }
    }

    /// Makes it count so many times and export.
    fn counts(&mut self, times: u32) {
        writeln!(self.orders, "{times}").expect("it still runs");
        assert_eq!(self.reports.next().expect("an answer").expect("text"), times.to_string());
    }

    fn ends(mut self) {
        drop(self.orders);
        assert!(self.child.wait().expect("its end").success());
    }
}

fn is_counted(protocol: &str, temporality: &str) {
    let mut sidecar = Sidecar::start(CONFIG);
    let home = Home::new();
    let shown = |times: u64| {
        let tokens = Usage { input: 100 * times, output: 10 * times, ..Usage::default() };
        Shown { tokens, cost: 120.0 * times as f64 / 1e6, ..Shown::default() }
    };
    // Checks its series after `times` in so many exports; `held` is the UpDownCounter of the last process.
    let counts = |sidecar: &Sidecar, times: f64, exports: f64, held: f64| {
        let page = sidecar.lookout().get("/metrics");
        for (name, label, expected) in [
            ("jobs_done_total", "kind=\"a \\\"b\\\"\"", 10.0 * times),
            ("jobs_cost_USD_total", "", 0.75 * times),
            ("jobs_waiting", "", 3.0 * held),
            ("room_temperature_celsius", "", 22.0),
            ("job_duration_seconds_count", "", 2.0 * exports),
            ("job_duration_seconds_sum", "", 3.5 * exports),
            ("target_info", "telemetry_sdk_language=\"nodejs\"", 1.0),
        ] {
            let start = format!("{name}{{");
            let shown = (sidecar.series(&start, label), page.text().matches(&format!("\n{start}")).count());
            assert_eq!(shown, (Some(expected), 1), "{protocol} {temporality}: {name}");
        }
        let bucket = sidecar.series("job_duration_seconds_bucket{", "le=\"1.0\"");
        assert_eq!(bucket, Some(exports), "{protocol} {temporality}");
    };
    let live = |sidecar: &Sidecar, times: &[u32]| {
        let mut client = Client::start(&home, sidecar, protocol, temporality);
        times.iter().for_each(|times| client.counts(*times));
        client.ends();
    };
    live(&sidecar, &[1, 2]);
    counts(&sidecar, 3.0, 2.0, 3.0);
    sidecar.shows("its first life", &Shown { requests: 2, ..shown(3) });
    // Another process, which counts from 0.
    live(&sidecar, &[2]);
    counts(&sidecar, 5.0, 3.0, 2.0);
    sidecar.shows("its second life", &Shown { requests: 3, ..shown(5) });

    sidecar.crash();
    live(&sidecar, &[2]);
    // Series of OTLP reset when lookout restarts; those of agents continue.
    counts(&sidecar, 2.0, 1.0, 2.0);
    sidecar.shows("its third life", &Shown { requests: 4, ..shown(7) });
    sidecar.is_well();
}

/// The increase and the resets of a counter, by the samples that Prometheus took.
fn grown(prometheus: &Prometheus, series: &str) -> (f64, f64) {
    let found = prometheus.query(&format!("{series}[5m]"));
    let [one] = &*found else { panic!("one series: {found:?}") };
    let samples = one["values"].as_array().expect("samples").iter();
    let samples: Vec<f64> = samples.filter_map(|sample| sample[1].as_str()?.parse().ok()).collect();
    let steps = samples.windows(2).map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] });
    let fallen = samples.windows(2).filter(|pair| pair[1] < pair[0]).count();
    (steps.sum(), fallen as f64)
}

fn increase_is_right() {
    let mut sidecar = Sidecar::start(CONFIG);
    let home = Home::new();
    let prometheus = Prometheus::scraping(sidecar.lookout().address());
    let jobs = "jobs_done_total{exported_instance=\"one\"}";
    let tokens = "orchestrator_agent_tokens_total{agent_name=\"builder\",token_type=\"input\"}";
    let scraped = |series: &str, number: f64| {
        eventually(&format!("{series} {number}"), || (prometheus.value(series) == Some(number)).then_some(()));
    };
    let mut client = Client::start(&home, &sidecar, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 10.0);
    scraped(tokens, 100.0);
    client.counts(1);
    // It keeps running while lookout restarts: its next export includes what it counted before.
    sidecar.crash();
    client.counts(2);
    scraped(jobs, 40.0);
    scraped(tokens, 400.0);
    client.ends();
    // Another process, which counts from 0.
    let mut client = Client::start(&home, &sidecar, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 50.0);
    client.ends();
    // A restart of lookout resets them, which Prometheus detects.
    sidecar.crash();
    let mut client = Client::start(&home, &sidecar, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 10.0);
    client.ends();
    scraped(tokens, 600.0);
    for (series, growth, resets) in [(jobs, 10.0 + 20.0 + 10.0 + 10.0, 1.0), (tokens, 500.0, 0.0)] {
        assert_eq!(grown(&prometheus, series), (growth, resets), "{series}");
        assert_eq!(prometheus.value(&format!("resets({series}[5m])")), Some(resets), "{series}");
        // `increase` extrapolates to the bounds of the range.
        let increase = prometheus.value(&format!("increase({series}[5m])")).expect("a number");
        assert!((growth..growth * 1.3).contains(&increase), "{series}: {increase}");
    }
    sidecar.is_well();
}
