//! A program of one's own that OpenTelemetry's SDK for Node measures: every kind of instrument, spans of calls to a model,
//! its restarts and lookout's, and what a live Prometheus makes of it all.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::{Home, Shown, Watch};
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

/// The program while it lives, always as the same instance.
struct Client {
    child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// Starts it, exporting as `lookout setup` prints, but over `protocol`.
    fn start(home: &Home, watch: &Watch, protocol: &str, temporality: &str) -> Self {
        let printed = watch.printed("opentelemetry").replace("http/protobuf", protocol);
        let printed = printed.replace("agent.name=", "service.instance.id=one,agent.name=");
        let printed = match protocol {
            "grpc" => printed.replace(&watch.http.to_string(), &watch.grpc.to_string()),
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

    /// Has it count so many times and export.
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
    let mut watch = Watch::start(CONFIG);
    let home = Home::new();
    let shown = |times: u64| {
        let tokens = Usage { input: 100 * times, output: 10 * times, ..Usage::default() };
        Shown { tokens, cost: 120.0 * times as f64 / 1e6, ..Shown::default() }
    };
    // What its series show of `times`, counted in so many exports; the last process held `held`.
    let counts = |watch: &Watch, times: f64, exports: f64, held: f64| {
        let page = watch.lookout().get("/metrics");
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
            let shown = (watch.series(&start, label), page.text().matches(&format!("\n{start}")).count());
            assert_eq!(shown, (Some(expected), 1), "{protocol} {temporality}: {name}");
        }
        let bucket = watch.series("job_duration_seconds_bucket{", "le=\"1.0\"");
        assert_eq!(bucket, Some(exports), "{protocol} {temporality}");
    };
    let live = |watch: &Watch, times: &[u32]| {
        let mut client = Client::start(&home, watch, protocol, temporality);
        times.iter().for_each(|times| client.counts(*times));
        client.ends();
    };
    live(&watch, &[1, 2]);
    counts(&watch, 3.0, 2.0, 3.0);
    watch.shows("its first life", &Shown { requests: 2, ..shown(3) });
    // Another process: it counts from 0 again.
    live(&watch, &[2]);
    counts(&watch, 5.0, 3.0, 2.0);
    watch.shows("its second life", &Shown { requests: 3, ..shown(5) });

    watch.crash();
    live(&watch, &[2]);
    // Its own series begin anew with lookout, its agent's go on.
    counts(&watch, 2.0, 1.0, 2.0);
    watch.shows("its third life", &Shown { requests: 4, ..shown(7) });
    watch.is_well();
}

/// What a counter has grown by, by the samples that Prometheus took: what fell began anew.
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
    let mut watch = Watch::start(CONFIG);
    let home = Home::new();
    let prometheus = Prometheus::scraping(watch.lookout().address());
    let jobs = "jobs_done_total{exported_instance=\"one\"}";
    let tokens = "orchestrator_agent_tokens_total{agent_name=\"builder\",token_type=\"input\"}";
    let scraped = |series: &str, number: f64| {
        eventually(&format!("{series} {number}"), || (prometheus.value(series) == Some(number)).then_some(()));
    };
    let mut client = Client::start(&home, &watch, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 10.0);
    scraped(tokens, 100.0);
    client.counts(1);
    // It lives on while lookout does not: its next export has what it counted before.
    watch.crash();
    client.counts(2);
    scraped(jobs, 40.0);
    scraped(tokens, 400.0);
    client.ends();
    // Another process, which counts from 0.
    let mut client = Client::start(&home, &watch, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 50.0);
    client.ends();
    // The end of lookout makes them begin anew, which Prometheus sees.
    watch.crash();
    let mut client = Client::start(&home, &watch, "http/protobuf", "cumulative");
    client.counts(1);
    scraped(jobs, 10.0);
    client.ends();
    scraped(tokens, 600.0);
    for (series, growth, resets) in [(jobs, 10.0 + 20.0 + 10.0 + 10.0, 1.0), (tokens, 500.0, 0.0)] {
        assert_eq!(grown(&prometheus, series), (growth, resets), "{series}");
        assert_eq!(prometheus.value(&format!("resets({series}[5m])")), Some(resets), "{series}");
        // It reckons with as much before the first sample and after the last as is between two.
        let increase = prometheus.value(&format!("increase({series}[5m])")).expect("a number");
        assert!((growth..growth * 1.3).contains(&increase), "{series}: {increase}");
    }
    watch.is_well();
}
