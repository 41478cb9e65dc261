//! The cost of rendering the metrics: our writer, plain and gzip, compared with copying the same bytes, a simple writer, and
//! prometheus-client with the same series. Prints a Markdown table. `cargo bench --bench encode`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not the program"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use lookout::metrics::{ExpositionFormat, ExpositionPage, SidecarMetrics, write_fleet};
use lookout::model::alert::AlertCounts;
use lookout::model::labels::{agent_labels, component_labels, project_labels};
use lookout::model::snapshot::Budgets;
use lookout::model::telemetry::Telemetry;
use lookout::model::{
    Agent, AgentStatus, Component, ComponentStatus, Level, ModelTotals, Project, RateLimit, Snapshot, Source, Task,
    Time,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

const NOW: Time = Time::from_millis(1_800_000_000_000);
const RUNS: usize = 41;
/// Series per agent with values in every family, including one rate limit: 41.
const AGENTS: usize = 2_430;
const PROJECTS: [&str; 4] = ["shop", "search", "billing", "support-desk"];

fn main() {
    let (snapshot, alerts) = fleet();
    let own = SidecarMetrics::new();
    let telemetry = Telemetry::default();
    let page = ExpositionPage { fleet: &snapshot, alerts: &alerts, own: &own, telemetry: &telemetry };
    let plain = rendered(&page);
    let samples = samples(&plain);
    let series = samples.len() as f64;
    println!("{AGENTS} agents, {series} series, {:.1} MB; median of {RUNS} runs\n", plain.len() as f64 / 1e6);
    println!("| what | ms | ns per series | against a copy |\n|---|---|---|---|");

    let mut copy = Vec::with_capacity(plain.len());
    let floor = median(|| {
        copy.clear();
        copy.extend_from_slice(black_box(&plain));
        copy.len()
    });
    let row = |what: &str, took: Duration| {
        let (ms, ratio) = (took.as_secs_f64() * 1e3, took.as_secs_f64() / floor.as_secs_f64());
        println!("| {what} | {ms:.2} | {:.1} | {ratio:.1} × |", took.as_secs_f64() * 1e9 / series);
    };
    row("a copy of the same bytes", floor);
    let mut out = Vec::with_capacity(80 * 1024);
    row(
        "our writer, chunks thrown away",
        median(|| {
            let mut total = 0;
            write_fleet(&snapshot, &alerts, ExpositionFormat::Text, &mut out, &mut |full| {
                total += full.len();
                full.clear();
                true
            });
            total += out.len();
            out.clear();
            total
        }),
    );
    let mut whole = Vec::with_capacity(plain.len() + 100_000);
    row(
        "our page, put together in memory",
        median(|| {
            whole.clear();
            page.render(ExpositionFormat::Text, &mut |chunk| {
                whole.extend_from_slice(&chunk);
                true
            });
            whole.len()
        }),
    );
    let mut text = String::with_capacity(plain.len() + 100_000);
    row(
        "a plain writer, labels escaped beforehand",
        median(|| {
            text.clear();
            naive(&samples, &mut text);
            text.len()
        }),
    );
    let registry = registry(&samples);
    row(
        "prometheus-client",
        median(|| {
            text.clear();
            encode(&mut text, &registry).unwrap();
            text.len()
        }),
    );
    row("our page as gzip", median(|| page.render_gzip(ExpositionFormat::Text).len()));
    for level in 1..=4 {
        let mut size = 0;
        let took = median(|| {
            let mut encoder = GzEncoder::new(Vec::with_capacity(65_536), Compression::new(level));
            encoder.write_all(&plain).unwrap();
            size = encoder.finish().unwrap().len();
            size
        });
        let share = size as f64 / plain.len() as f64 * 100.0;
        row(&format!("gzip alone, level {level}: {size} bytes, {share:.1} %"), took);
    }
}

fn median(mut run: impl FnMut() -> usize) -> Duration {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            black_box(run());
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[RUNS / 2]
}

fn rendered(page: &ExpositionPage<'_>) -> Vec<u8> {
    let mut plain = Vec::new();
    page.render(ExpositionFormat::Text, &mut |chunk| {
        plain.extend_from_slice(&chunk);
        true
    });
    plain
}

/// A fleet with series in every family.
fn fleet() -> (Snapshot, AlertCounts) {
    let budgets =
        Budgets { tokens_per_task: Some(200_000), tokens_per_day: Some(1_000_000), cost_usd_per_day: Some(12.5) };
    let mut snapshot = Snapshot { at: NOW, budgets, series_dropped: 45, ..Snapshot::default() };
    for (slot, name) in PROJECTS.iter().enumerate() {
        let mut project = Project { slot: slot as u32, name: Arc::from(*name), ..Project::default() };
        project.labels = project_labels(name);
        for (place, count) in project.by_status.iter_mut().enumerate() {
            *count = (slot * 17 + place * 61) as u32;
        }
        project.task_durations.observe(&lookout::model::project::TASK_DURATION_BOUNDS, Duration::from_millis(71_250));
        let mut totals = ModelTotals::default();
        totals.tokens[0].report(71_000_000);
        totals.cost_usd.report(213.75);
        project.models = Arc::new(BTreeMap::from([(Arc::from("claude-opus-4-5"), totals)]));
        snapshot.projects.push(Arc::new(project));
        snapshot.components.insert_with(|slot| Component {
            slot,
            project_slot: slot,
            project: Arc::from(*name),
            name: Arc::from("DatabaseManager"),
            labels: component_labels(name, "DatabaseManager"),
            source: Arc::from("push"),
            status: ComponentStatus::Warning,
            status_since: NOW,
            details: None,
            metrics: Vec::new(),
            custom: None,
            last_seen: NOW,
        });
    }
    for number in 0..AGENTS {
        snapshot.agents.insert_with(|slot| agent(number, slot));
    }
    snapshot.sources.push(Arc::new(Source {
        name: Arc::from("orchestrator"),
        kind: "orchestrator-cc",
        up: Some(true),
        failing_since: None,
        last_success: Some(NOW),
        last_error: None,
        errors: [0, 1, 2, 3, 4, 5, 6],
    }));
    let mut alerts = AlertCounts { raised: [3, 40, 12, 1], ..AlertCounts::default() };
    alerts.active.insert((Arc::from("shop"), Level::Warning, Arc::from("AgentIdle")), 17);
    (snapshot, alerts)
}

fn agent(number: usize, slot: u32) -> Agent {
    let (project, name) = (PROJECTS[number % PROJECTS.len()], format!("worker-agent-{number:05}"));
    let mut agent = Agent::new(Arc::from(project), Arc::from(&*name), Arc::from("push"), NOW);
    let number = number as u64;
    agent.labels = agent_labels(project, &name);
    agent.slot = slot;
    agent.agent_type = Some(Arc::from("claude-code"));
    agent.model = Some(Arc::from("claude-opus-4-5"));
    // All but the last two statuses are up; paused agents have no idle time.
    agent.status = Some(AgentStatus::ALL[number as usize % 6]);
    agent.last_activity = Some(NOW.minus(Duration::from_millis(number * 137)));
    agent.progress = Some((number % 1_000) as f64 / 1_000.0);
    agent.estimated_completion = Some(NOW.plus(Duration::from_secs(number)));
    agent.task = Some(Task {
        id: Arc::from(format!("task_{number}")),
        started_at: NOW,
        worked: Duration::ZERO,
        working_since: None,
        tokens: number * 53,
    });
    for (place, tokens) in agent.tokens.iter_mut().enumerate() {
        tokens.report(number * 7_919 * (place as u64 + 1));
    }
    agent.cost_usd.report(number as f64 * 0.0123);
    agent.unpriced_tokens.report(number);
    (agent.day_tokens, agent.day_cost_usd) = (number * 311, number as f64 * 0.0037);
    for (count, value) in [
        (&mut agent.restarts, number % 3),
        (&mut agent.requests, number * 40),
        (&mut agent.request_errors, number % 40),
        (&mut agent.rate_limit_hits, number % 5),
        (&mut agent.retries, number % 7),
        (&mut agent.reviews_passed, number % 31),
        (&mut agent.reviews_failed, number % 4),
        (&mut agent.tasks_completed, number % 100),
        (&mut agent.tasks_failed, number % 9),
    ] {
        count.report(value);
    }
    agent.rate_limits.push(RateLimit {
        provider: Arc::from("anthropic"),
        limit_type: Arc::from("requests"),
        limit: Some(50),
        remaining: Some(number % 50),
        reset_at: Some(NOW.plus(Duration::from_secs(number % 60))),
    });
    agent
}

/// A series for the other writers.
struct Sample {
    name: String,
    escaped: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// The samples of a page whose label values contain neither quotes nor commas.
fn samples(page: &[u8]) -> Vec<Sample> {
    let lines = std::str::from_utf8(page).unwrap().lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let escaped = labels.trim_end_matches('}').to_owned();
        let pairs = escaped.split(',').filter_map(|pair| pair.split_once('='));
        let labels = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        Sample { name: name.to_owned(), labels, escaped, value: value.parse().unwrap() }
    });
    samples.collect()
}

fn naive(samples: &[Sample], out: &mut String) {
    for sample in samples {
        out.push_str(&sample.name);
        if !sample.escaped.is_empty() {
            out.push('{');
            out.push_str(&sample.escaped);
            out.push('}');
        }
        writeln!(out, " {}", sample.value).unwrap();
    }
}

type Labels = Vec<(String, String)>;

/// The same series in prometheus-client; those of histograms as gauges.
fn registry(samples: &[Sample]) -> Registry {
    let mut registry = Registry::default();
    let mut counters: BTreeMap<&str, Family<Labels, Counter<f64, AtomicU64>>> = BTreeMap::new();
    let mut gauges: BTreeMap<&str, Family<Labels, Gauge<f64, AtomicU64>>> = BTreeMap::new();
    for sample in samples {
        match sample.name.strip_suffix("_total") {
            Some(name) => {
                let family = counters.entry(name).or_insert_with(|| {
                    let family = Family::default();
                    registry.register(name, "A counter", Family::clone(&family));
                    family
                });
                family.get_or_create(&sample.labels).inc_by(sample.value);
            }
            None => {
                let family = gauges.entry(&sample.name).or_insert_with(|| {
                    let family = Family::default();
                    registry.register(&sample.name, "A gauge", Family::clone(&family));
                    family
                });
                family.get_or_create(&sample.labels).set(sample.value);
            }
        }
    }
    registry
}
