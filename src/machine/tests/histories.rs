//! Random histories: evaluation by timers and changes finds what evaluating everything each second finds.

use proptest::prelude::*;

use serde_json::json;

use super::*;
use crate::ingest::decode_metrics;
use crate::model::hook::{SessionEnd, SessionEvent, TurnFailure};
use crate::model::update::UsageUpdate;
use crate::model::{AgentTelemetry, Hook, RateLimitHit, RunStatus, RunSummary, TraceId, UsualRuns};
use crate::rules::{ForEach, Indicator, Measure};

/// Rules of every kind, with thresholds and windows of seconds.
const TEXT: &str = r#"
rules:
  - {name: Idle, for_each: agent, signal: idle_seconds, when: at_least, levels: {warning: 20s, error: 40s}, clear_below: 15s}
  - {name: Fresh, for_each: agent, signal: idle_seconds, when: at_most, levels: {warning: 10s, error: 5s}, clear_above: 12s}
  - {name: Quarter, for_each: agent, signal: task_seconds, when: equals, levels: {info: 15s}}
  - {name: Task, for_each: agent, signal: task_seconds, when: at_least, levels: {warning: 30s, error: 60s}, where: {status: "run*"}}
  - {name: Silent, for_each: agent, signal: stale_seconds, when: at_least, levels: {warning: 30s, error: 50s}}
  - {name: Restarts, for_each: agent, signal: {increase_of: restarts, over: 30s}, when: at_least, levels: {warning: 2, error: 4}, clear_below: 1}
  - {name: Rate, for_each: agent, signal: {rate_of: requests, over: 20s}, when: at_least, levels: {warning: 0.5}}
  - {name: Slow, for_each: agent, signal: {rate_of: requests, over: 25s}, when: at_most, levels: {warning: 0.2, error: 0}}
  - {name: Errors, for_each: agent, signal: {ratio_of: [request_errors, requests], over: 40s, min_samples: 5}, when: at_least, levels: {warning: 20%, error: 50%}, clear_below: 10%}
  - {name: Good, for_each: agent, signal: {ratio_of: [request_errors, requests], over: 40s}, when: at_most, levels: {info: 0.1}}
  - {name: Changed, for_each: agent, signal: {changes_of: status, over: 15s}, when: at_least, levels: {info: 1, warning: 3}}
  - {name: Lost, for_each: agent, signal: progress, when: absent, levels: {warning: true}}
  - {name: Failed, for_each: agent, signal: status, when: equals, levels: {error: failed, info: paused}, where: {type: "c*"}}
  - {name: Many, for_each: agent, signal: tokens, when: at_least, levels: {warning: 10}, where: {agent_name: "agent1"}}
  - {name: Fast, for_each: agent, signal: token_velocity_ratio, when: at_least, levels: {warning: 2, error: 5}, clear_below: 1}
  - {name: Calm, for_each: agent, signal: token_velocity_ratio, when: at_most, levels: {info: 1.5}}
  - {name: Gone, for_each: agent, signal: day_budget_gone_in_seconds, when: at_most, levels: {warning: 20m, error: 5m}, clear_above: 30m}
  - {name: Lasts, for_each: agent, signal: day_cost_gone_in_seconds, when: at_least, levels: {info: 10m}}
  - {name: Same, for_each: agent, signal: same_error_count, when: at_least, levels: {info: 1, warning: 3}}
  - {name: Loop, for_each: agent, signal: tokens_since_progress, when: at_least, levels: {warning: 8}}
  - {name: Zombie, for_each: agent, signal: idle_spending_tokens, when: at_least, levels: {warning: 5}}
  - {name: AgentMissing, for_each: agent, signal: agents_missing, when: at_least, levels: {warning: 10s, error: 25s}, where: {agent_name: "agent0"}}
  - {name: FleetTooSmall, for_each: cluster, signal: agents_missing, when: at_least, levels: {warning: 10s, error: 25s}}
  - {name: Used, for_each: agent, signal: task_budget_ratio, when: at_least, levels: {info: 0.2, warning: 0.5}}
  - {name: Day, for_each: agent, signal: day_budget_ratio, when: at_least, levels: {info: 0.1, warning: 0.5}}
  - {name: CostOfDay, for_each: agent, signal: day_cost_ratio, when: at_least, levels: {info: 0.1, warning: 0.5}}
  - {name: CostGone, for_each: agent, signal: day_cost_gone_in_seconds, when: at_most, levels: {warning: 20m}}
  - {name: Cost, for_each: agent, signal: cost_usd, when: at_least, levels: {info: 0.5, warning: 1}}
  - {name: Began, for_each: agent, signal: restarts, when: at_least, levels: {info: 3, warning: 9}}
  - {name: Asked, for_each: agent, signal: requests, when: at_least, levels: {info: 3, warning: 9}}
  - {name: Failing, for_each: agent, signal: request_errors, when: at_least, levels: {info: 3, warning: 9}}
  - {name: Refused, for_each: agent, signal: rate_limit_hits, when: at_least, levels: {info: 1, warning: 3}}
  - {name: Again, for_each: agent, signal: retries, when: at_least, levels: {info: 1, warning: 3}}
  - {name: Progress, for_each: agent, signal: progress, when: at_least, levels: {info: 0.5}}
  - {name: Down, for_each: agent, signal: agents_down, when: at_least, levels: {info: 1}}
  - {name: Held, for_each: agent, signal: agents_limited, when: at_least, levels: {info: 1}}
  - {name: Runs, for_each: agent, signal: runs, when: at_least, levels: {info: 2}}
  - {name: RunErrors, for_each: agent, signal: run_errors, when: at_least, levels: {info: 1, warning: 4}}
  - {name: Fallbacks, for_each: agent, signal: {increase_of: fallbacks, over: 30s}, when: at_least, levels: {info: 1}}
  - {name: Fell, for_each: agent, signal: fallbacks, when: at_least, levels: {info: 2}}
  - {name: ErrorRatio, for_each: agent, signal: run_error_ratio, when: at_least, levels: {info: 10%, warning: 50%}}
  - {name: RunSlow, for_each: agent, signal: run_seconds, when: at_least, levels: {warning: 2 * p95, error: 4 * p95}}
  - {name: RunLong, for_each: agent, signal: run_seconds, when: at_least, levels: {warning: 12s, error: 30s}, where: {type: "c*"}}
  - {name: RunShort, for_each: agent, signal: run_seconds, when: at_most, levels: {info: 1 * p95}}
  - {name: RunCostly, for_each: agent, signal: run_cost_usd, when: at_least, levels: {warning: 2 * median}}
  - {name: Pool, for_each: agent, signal: {metric: pool}, when: at_least, levels: {info: 3, warning: 9}, clear_below: 2}
  - {name: PoolLow, for_each: agent, signal: {metric: pool, labels: {l: b}}, when: at_most, levels: {warning: 1}, where: {type: "c*"}}
  - {name: PoolIs, for_each: agent, signal: {metric: pool}, when: equals, levels: {info: 4, error: 7}}
  - {name: PoolLost, for_each: agent, signal: {metric: pool}, when: absent, levels: {warning: true}}
  - {name: PoolMean, for_each: agent, signal: {average_of: {metric: pool}, over: 20s}, when: at_least, levels: {info: 5}}
  - {name: Jobs, for_each: agent, signal: {increase_of: {metric: jobs}, over: 25s}, when: at_least, levels: {info: 4, warning: 8}}
  - {name: JobsSlow, for_each: agent, signal: {rate_of: {metric: jobs}, over: 20s}, when: at_most, levels: {info: 0.1}}
  - {name: Queue, for_each: cluster, signal: {metric: queue}, when: at_least, levels: {info: 3}}
  - {name: QueueLost, for_each: cluster, signal: {metric: queue}, when: absent, levels: {info: true}}
  - {name: SourceDown, for_each: source, signal: source_failing_seconds, when: at_least, levels: {warning: 15s, error: 35s}}
"#;

#[derive(Clone, Debug)]
struct PushedAgent {
    name: u8,
    status: u8,
    task: u8,
    active: Option<u8>,
    counters: [Option<u8>; 3],
    tokens: Option<u8>,
    progress: u8,
    is_custom: bool,
}

#[derive(Clone, Debug)]
enum FleetInput {
    Push(bool, Option<u8>, Vec<PushedAgent>),
    Usage(u8),
    Poll(bool),
    Component(u8),
    Hook(u8, u8),
    Telemetry(u8, [u8; 4], bool),
    Run(u8, u8, u8, u8),
    Metric(u8, u8, u8, Option<u8>),
    Wait(u8),
}

/// The events of hooks.
fn steps() -> Vec<SessionEvent> {
    vec![
        SessionEvent::Prompted,
        SessionEvent::ToolBegan { tool: "Bash".into(), asks: None },
        SessionEvent::PermissionRequested("Bash".into()),
        SessionEvent::StillIdle,
        SessionEvent::SubagentBegan,
        SessionEvent::SubagentEnded,
        SessionEvent::TurnEnded { in_background: false },
        SessionEvent::TurnFailed(TurnFailure::RateLimit),
        SessionEvent::TurnFailed(TurnFailure::Error("no space".into())),
        SessionEvent::Alive,
        SessionEvent::Ended(SessionEnd::Exited),
    ]
}

fn events() -> impl Strategy<Value = Vec<FleetInput>> {
    let counter = || proptest::option::of(0..12u8);
    let report = (
        0..3u8,
        0..14u8,
        0..6u8,
        proptest::option::of(0..60u8),
        (counter(), counter(), counter()),
        0..5u8,
        (any::<bool>(), counter()),
    )
        .prop_map(|(name, status, task, active, (restarts, requests, errors), progress, (is_custom, tokens))| {
            PushedAgent {
                name,
                status,
                task,
                active,
                counters: [restarts, requests, errors],
                tokens,
                progress,
                is_custom,
            }
        });
    let event = prop_oneof![
        6 => (proptest::bool::weighted(0.2), proptest::option::of(5..90u8), proptest::collection::vec(report, 0..3))
            .prop_map(|(complete, ttl, reports)| FleetInput::Push(complete, ttl, reports)),
        1 => (0..4u8).prop_map(FleetInput::Usage),
        1 => any::<bool>().prop_map(FleetInput::Poll),
        1 => (0..4u8).prop_map(FleetInput::Component),
        2 => (0..4u8, 0..11u8).prop_map(|(name, step)| FleetInput::Hook(name, step)),
        2 => (0..4u8, any::<[u8; 4]>(), any::<bool>()).prop_map(|(name, counts, refused)| {
            FleetInput::Telemetry(name, counts.map(|count| count % 4), refused)
        }),
        3 => (0..4u8, 0..4u8, 0..4u8, 0..40u8).prop_map(|(name, run, status, took)| FleetInput::Run(name, run, status, took)),
        3 => (0..4u8, 0..4u8, 0..12u8, proptest::option::of(5..60u8)).prop_map(|(name, metric, value, ttl)| {
            FleetInput::Metric(name, metric, value, ttl)
        }),
        6 => (0..50u8).prop_map(FleetInput::Wait),
    ];
    proptest::collection::vec(event, 1..40)
}

fn update(second: i64, report: &PushedAgent) -> AgentUpdate<'static> {
    AgentUpdate {
        agent_type: report.is_custom.then(|| "custom".into()),
        status: AgentStatus::ALL.get(usize::from(report.status)).copied(),
        task_id: match report.task {
            0 => Patch::Clear,
            1 | 2 => Patch::Set(format!("t{}", report.task).into()),
            _ => Patch::Keep,
        },
        last_activity: report.active.map(|ago| at(second - i64::from(ago))),
        restart_count: report.counters[0].map(u64::from),
        requests: report.counters[1].map(u64::from),
        request_errors: report.counters[2].map(u64::from),
        retries: report.counters[2].map(|errors| u64::from(errors / 2)),
        tokens: [report.tokens.map(u64::from), None, None, None, None],
        cost_usd: report.tokens.map(|tokens| f64::from(tokens) / 10.0),
        progress: match report.progress {
            0 => Patch::Clear,
            1 => Patch::Set(10.0),
            2 => Patch::Set(90.0),
            _ => Patch::Keep,
        },
        context_window_ratio: match report.progress {
            0 => Patch::Set(0.85),
            1 => Patch::Set(0.97),
            2 => Patch::Clear,
            _ => Patch::Keep,
        },
        ..AgentUpdate { name: format!("agent{}", report.name).into(), ..AgentUpdate::default() }
    }
}

fn apply(test: &mut RuleSimulation, second: i64, event: &FleetInput) {
    match event {
        FleetInput::Push(complete, ttl, reports) => {
            let agents = reports.iter().map(|report| update(second, report)).collect();
            let ttl = ttl.map(|ttl| Duration::from_secs(u64::from(ttl)));
            let batch = Batch { project: "shop".into(), complete: *complete, ttl, agents, ..Batch::default() };
            test.push_batch(second, batch);
        }
        FleetInput::Usage(name) => {
            let tokens = [Some(4), None, None, None, None];
            let agent = Some(format!("agent{name}").into());
            let update = UsageUpdate { agent, tokens, cost_usd: Some(0.25), ..UsageUpdate::default() };
            test.take(second, increments(vec![update]));
        }
        FleetInput::Poll(good) => {
            test.poll(second, if *good { Ok(vec![]) } else { Err(SourceErrorReason::Timeout) });
        }
        FleetInput::Component(status) => {
            test.push_batch(second, component(ComponentStatus::ALL[usize::from(*status)]));
        }
        FleetInput::Hook(name, step) => {
            let step = steps().swap_remove(usize::from(*step));
            let (project, agent, agent_type) = ("shop".into(), format!("agent{name}").into(), "custom".into());
            let hook = Hook {
                project,
                agent,
                agent_type,
                session: 1,
                subagent: None,
                event: step,
                retry_at: None,
                stop: None,
            };
            test.take(second, MachineEvent::Hook(hook));
        }
        FleetInput::Telemetry(name, [tokens, requests, errors, retries], is_refused) => {
            let telemetry = AgentTelemetry {
                project: "shop".into(),
                agent: format!("agent{name}").into(),
                tokens: [u64::from(*tokens), 0, 0, 0, 0],
                requests: u64::from(*requests),
                request_errors: u64::from(*errors),
                rate_limit_hits: u64::from(*is_refused),
                retries: u64::from(*retries),
                active: (*retries > 1).then(|| at(second)),
                rate_limited: is_refused
                    .then(|| (at(second), RateLimitHit { provider: None, until: Some(at(second + 40)) })),
                answered: (*requests > 2).then(|| at(second)),
                ..AgentTelemetry::default()
            };
            test.take(second, MachineEvent::Telemetry(vec![telemetry]));
        }
        FleetInput::Run(name, run, status, took) => {
            let status = RunStatus::ALL[usize::from(*status)];
            let summary = RunSummary {
                project: "shop".into(),
                agent: format!("agent{name}").into(),
                agent_type: "custom".into(),
                id: TraceId::from_slice(&[run + 1; 16]).expect("an id"),
                name: "nightly".into(),
                status,
                started_at: at(second - i64::from(*took)),
                ended_at: (status != RunStatus::Running).then(|| at(second)),
                cost_usd: (*took > 10).then(|| f64::from(*took)),
                fallbacks: u64::from(*took > 30),
                platform: None,
                facts: crate::model::RunFacts::default(),
                error: None,
                history: (*took > 3)
                    .then(|| Box::new(UsualRuns { seconds: vec![8.0; 20].into(), costs: vec![11.0; 20].into() })),
            };
            test.take(second, MachineEvent::Runs(vec![summary]));
        }
        FleetInput::Metric(name, metric, value, ttl) => {
            let mut item = json!({"project": "shop", "value": value, "ttl": ttl, "agent": format!("agent{name}")});
            match metric {
                0 | 1 => {
                    item["name"] = "pool".into();
                    item["labels"] = json!({"l": if *metric == 0 { "a" } else { "b" }});
                }
                2 => item["name"] = "jobs_total".into(),
                _ => (item["name"], item["agent"]) = ("queue".into(), json!(null)),
            }
            let batch = decode_metrics(&item.to_string()).expect("a body");
            test.take(second, MachineEvent::Metrics(batch));
        }
        FleetInput::Wait(_) => {}
    }
}

fn rule_test() -> RuleSimulation {
    let mut settings = settings();
    settings.agents.forget_after = Duration::from_secs(150);
    settings.expected =
        vec![ExpectedConfig { project: "shop".into(), agents: vec!["agent0".into(), "agent1".into()], count: Some(2) }];
    settings.budgets.tokens_per_task = Some(20.into());
    settings.budgets.tokens_per_day = Some(100.into());
    settings.budgets.cost_usd_per_day = Some(1.0.into());
    // A new day begins within the history.
    settings.budgets.time_zone = "Etc/GMT+12".to_owned();
    RuleSimulation::new(settings, TEXT)
}

/// Guards the property below: its rules must cover every indicator of agents.
#[test]
fn the_rules_of_the_histories_read_every_agent_indicator() {
    let set = rule_set(TEXT);
    let read: Vec<Indicator> = set
        .descriptions()
        .filter(|rule| rule.for_each == ForEach::Agent)
        .filter_map(|rule| match rule.value {
            Measure::Now(input) => Some(input.indicator),
            Measure::Ratio(input, ..) if input.indicator == Indicator::RunErrors => Some(Indicator::RunErrorRatio),
            _ => None,
        })
        .collect();
    for indicator in Indicator::ALL.iter().filter(|it| it.for_each().contains(&ForEach::Agent)) {
        assert!(read.contains(indicator), "no rule of the histories reads {}", indicator.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn timers_find_what_evaluating_every_second_finds(events in events()) {
        let (mut timed, mut watched) = (rule_test(), rule_test());
        let mut second = 0;
        for event in &events {
            let waits = if let FleetInput::Wait(by) = event { i64::from(*by) } else { 0 };
            for step in 0..=waits {
                let now = second + step;
                timed.until(now);
                watched.until(now);
                watched.evaluate_all();
                prop_assert_eq!(&timed.notes.states, &watched.notes.states, "at second {} of {:?}", now, &timed.notes.log);
            }
            second += waits;
            apply(&mut timed, second, event);
            apply(&mut watched, second, event);
            // Evaluating what changed finds what evaluating everything finds.
            watched.evaluate_all();
            prop_assert_eq!(&timed.notes.states, &watched.notes.states, "after {:?} of {:?}", event, &timed.notes.log);
        }
        timed.until(second + 1_000);
        let served = timed.notes.served;
        timed.until(second + 40_000);
        // An agent whose run goes on is looked at after each `forget_after`; there are four agents.
        let looks = 4 * 39_000 / 150;
        prop_assert!(timed.notes.served <= served + 60 + looks, "nothing happens, and deadlines go on: {}", timed.notes.served - served);
    }
}
