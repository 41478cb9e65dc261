//! The cost of evaluating rules: 10,000 agents with all built-in rules, with unchanged alerts, and with an incident in which
//! every agent breaks one rule. Prints a Markdown table. `cargo bench --bench evaluate`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement, not the program"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lookout::alerts::Alerts;
use lookout::fleet::config::{AgentsConfig, BudgetsConfig};
use lookout::fleet::{Fleet, FleetSettings};
use lookout::ingest::state::decode_state;
use lookout::model::{Finding, Level, ReceiverPolicy, Time};
use lookout::rules::Rules;
use lookout::rules::built_in;
use lookout::rules::compile::RuleSettings;

const AGENTS: usize = 10_000;
const RUNS: usize = 21;
const BATCH: usize = 100;

fn at(seconds: i64) -> Time {
    Time::from_millis(1_800_000_000_000 + seconds * 1_000)
}

fn main() {
    let mut world = World::new();
    world.push(at(0), 0);
    let whole = median(|| {
        let mut out = Vec::new();
        let watch = Instant::now();
        world.rules.evaluate_all(at(1), world.fleet.state(), &mut out);
        let took = watch.elapsed();
        assert!(black_box(&out).is_empty(), "no agent has broken a rule yet");
        took
    });
    // All agents have been idle for 400 seconds: one warning each.
    let (mut findings, storm) = world.idle(at(2), 400);
    let fired = findings.iter().filter(|finding| finding.level == Some(Level::Warning)).count();
    assert_eq!(fired, AGENTS);
    let watch = Instant::now();
    let effects = world.alerts.step(at(2), std::mem::take(&mut findings));
    let notified = watch.elapsed();
    assert_eq!(effects.notices.len(), AGENTS);
    // Evaluated again without a change: no notification.
    let evaluated = median(|| {
        let mut out = Vec::new();
        let watch = Instant::now();
        world.rules.evaluate_all(at(3), world.fleet.state(), &mut out);
        let took = watch.elapsed();
        findings = out;
        took
    });
    let found = findings.len();
    let unchanged = median(|| {
        let again: Vec<Finding> = findings.clone();
        let watch = Instant::now();
        let effects = world.alerts.step(at(3), again);
        let took = watch.elapsed();
        assert!(black_box(effects).notices.is_empty());
        took
    });
    let rules = world.rules.policies().len();
    println!("{AGENTS} agents, {rules} built-in rules; median of {RUNS} runs\n");
    println!("| what | ms | per agent or alert |\n|---|---|---|");
    row("evaluate a healthy fleet", whole, AGENTS);
    row("evaluate it while every agent breaks one rule", evaluated, AGENTS);
    row("alerts: take in findings that change nothing", unchanged, found);
    row("alerts and rules together, per unchanged alert", evaluated + unchanged, AGENTS);
    row("a storm: fleet and rules, 10,000 pushed states", storm, AGENTS);
    row("a storm: 10,000 alerts begin and are notified", notified, AGENTS);
}

struct World {
    fleet: Fleet,
    rules: Rules,
    alerts: Alerts,
}

impl World {
    fn new() -> Self {
        let settings = FleetSettings {
            agents: AgentsConfig::default(),
            expected: Vec::new(),
            budgets: BudgetsConfig::default(),
            max_series: 10_000_000,
            sources: Vec::new(),
        };
        let limits = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
        let rules = Rules::new(built_in(limits).unwrap());
        let receivers = vec![ReceiverPolicy::new("ops", Level::Warning)];
        let mut alerts = Alerts::new(rules.policies(), receivers);
        alerts.set_agents(AGENTS);
        Self { fleet: Fleet::new(at(-3_600), settings), rules, alerts }
    }

    /// Pushes every agent with its last activity `idle` seconds ago.
    fn push(&mut self, now: Time, idle: i64) -> Vec<Finding> {
        let mut out = Vec::new();
        for first in (0..AGENTS).step_by(BATCH) {
            let active = now.minus(Duration::from_secs(idle.unsigned_abs()));
            let agents: Vec<String> = (first..first + BATCH)
                .map(|n| {
                    format!(
                        r#"{{"name": "agent-{n:05}", "type": "custom", "status": "running", "task_id": "t{n}", "last_activity": "{active}", "tokens": {{"input": {n}, "output": 3}}, "requests": {{"total": 40, "errors": 1}}}}"#
                    )
                })
                .collect();
            let body = format!(r#"{{"project": "shop", "ttl": "1h", "agents": [{}]}}"#, agents.join(","));
            let batch = decode_state(&body, now).unwrap();
            self.fleet.push(now, batch);
            self.rules.evaluate(now, self.fleet.state(), self.fleet.changes(), &mut out);
            self.fleet.clear_changes();
        }
        out
    }

    fn idle(&mut self, now: Time, seconds: i64) -> (Vec<Finding>, Duration) {
        let watch = Instant::now();
        let findings = self.push(now, seconds);
        (findings, watch.elapsed())
    }
}

fn row(what: &str, took: Duration, count: usize) {
    println!("| {what} | {:.2} | {:.3} µs |", took.as_secs_f64() * 1e3, took.as_secs_f64() * 1e6 / count as f64);
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times[RUNS / 2]
}
