//! The effect of one report on one agent.

use super::*;
use crate::model::AgentStatus::{Completed, Failed, Idle, Paused, Running, WaitingQuestion, WaitingReview};
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentTelemetry, EndedTask, RejectReason, UsageOwner};

#[test]
fn absent_fields_are_kept_and_null_clears() {
    let mut watch = TestFleet::new(settings());
    let full = AgentUpdate {
        agent_type: Some("custom".into()),
        phase: Patch::Set("implement".into()),
        progress: Patch::Set(42.5),
        estimated_completion: Patch::Set(at(99)),
        reason: Patch::Set("busy".into()),
        task_id: Patch::Set("t1".into()),
        model: Some("opus".into()),
        last_activity: Some(at(0)),
        rate_limits: Some(vec![RateLimitUpdate {
            provider: "p".into(),
            limit_type: "tokens".into(),
            ..Default::default()
        }]),
        ..a(Running)
    };
    let known = watch.push(0, full).clone();
    assert_eq!(
        (known.progress, known.reason.as_deref(), known.phase.as_deref()),
        (Some(0.425), Some("busy"), Some("implement"))
    );
    let mut kept = watch.push(1, named("a")).clone();
    kept.last_seen = known.last_seen;
    assert_eq!(serde_json::to_string(&kept).unwrap(), serde_json::to_string(&known).unwrap(), "absent fields are kept");
    let cleared = watch.push(
        2,
        AgentUpdate {
            phase: Patch::Clear,
            progress: Patch::Clear,
            estimated_completion: Patch::Clear,
            reason: Patch::Clear,
            task_id: Patch::Clear,
            rate_limits: Some(vec![]),
            ..named("a")
        },
    );
    assert_eq!((cleared.progress, &cleared.reason, &cleared.phase), (None, &None, &None));
    assert_eq!((&cleared.task, cleared.estimated_completion, cleared.rate_limits.len()), (&None, None, 0));
    assert_eq!((cleared.status, cleared.last_activity), (Some(Running), Some(at(0))));
}

#[test]
fn unknown_is_never_zero() {
    let mut watch = TestFleet::new(settings());
    let agent = watch.push(0, named("a"));
    assert_eq!((agent.status, agent.progress, agent.last_activity, agent.restarts.get()), (None, None, None, None));
    assert_eq!((agent.total_tokens(), agent.cost_usd.get(), agent.requests.get()), (None, None, None));
    assert_eq!(agent.idle_seconds(at(9)), None);
    assert!(agent.is_up() && !agent.is_down());
}

#[test]
fn not_running_is_failed_with_a_default_reason() {
    let flag = |running: bool| AgentUpdate { running: Some(running), ..named("a") };
    let mut watch = TestFleet::new(settings());
    let agent = watch.push(0, flag(false));
    assert_eq!((agent.status, agent.reason.as_deref(), agent.is_down()), (Some(Failed), Some("not running"), true));
    let agent = watch.push(1, flag(true));
    assert_eq!((agent.status, agent.reason.as_deref()), (Some(Running), None), "a reason belongs to its status");
    let agent = watch.push(2, AgentUpdate { reason: Patch::Set("out of memory".into()), ..flag(false) });
    assert_eq!(agent.reason.as_deref(), Some("out of memory"));
    let agent = watch.push(3, flag(false));
    assert_eq!(agent.reason.as_deref(), Some("out of memory"), "a repeated report keeps the reason");
    watch.push(4, a(Paused));
    assert_eq!(watch.push(5, flag(true)).status, Some(Paused), "a paused agent that runs is still paused");
    assert_eq!(
        watch.push(6, AgentUpdate { running: Some(false), ..a(Idle) }).status,
        Some(Idle),
        "`status` takes precedence"
    );
}

#[test]
fn last_activity_is_as_reported_and_not_implied_by_a_status() {
    let mut watch = TestFleet::new(settings());
    watch.push(100, AgentUpdate { last_activity: Some(at(90)), ..a(Running) });
    assert_eq!(watch.push(110, AgentUpdate { last_activity: Some(at(50)), ..named("a") }).last_activity, Some(at(50)));
    assert_eq!(watch.push(120, a(Idle)).last_activity, Some(at(50)), "a change of status is not activity");
    assert_eq!(watch.agent("a").idle_seconds(at(350)), Some(300.0));
    let ahead = AgentUpdate { last_activity: Some(at(999)), ..named("a") };
    assert_eq!(watch.push(130, ahead).last_activity, Some(at(130)), "a time in the future is clamped to now");
    for (status, idle) in [(Idle, true), (WaitingQuestion, true), (Paused, false), (Completed, false), (Failed, false)]
    {
        assert_eq!(watch.push(140, a(status)).idle_seconds(at(140)).is_some(), idle, "{status:?}");
    }
}

#[test]
fn a_decreasing_counter_is_a_reset() {
    let mut watch = TestFleet::new(settings());
    let report = |restarts: u64, requests: u64| AgentUpdate {
        restart_count: Some(restarts),
        requests: Some(requests),
        ..named("a")
    };
    watch.push(0, report(3, 100));
    assert_eq!(watch.agent("a").restarts.get(), Some(3), "the first restart count is added in full");
    watch.push(1, report(3, 40));
    assert_eq!((watch.agent("a").restarts.get(), watch.agent("a").requests.get()), (Some(3), Some(140)));
    watch.push(2, report(0, 0));
    assert_eq!((watch.agent("a").restarts.get(), watch.agent("a").requests.get()), (Some(3), Some(140)));
    watch.push(3, report(1, 1));
    assert_eq!((watch.agent("a").restarts.get(), watch.agent("a").requests.get()), (Some(4), Some(141)));
    assert_eq!((watch.project().totals.restarts.get(), watch.project().totals.requests.get()), (Some(4), Some(141)));
}

#[test]
fn task_time_counts_only_while_the_agent_works() {
    let mut watch = TestFleet::new(settings());
    let worked =
        |watch: &TestFleet, seconds: i64| watch.agent("a").task.as_ref().unwrap().worked_at(at(seconds)).as_secs();
    watch.push(0, AgentUpdate { task_id: Patch::Set("t1".into()), ..a(AgentStatus::Starting) });
    watch.push(10, a(Running));
    assert_eq!(worked(&watch, 30), 30, "since it was first seen, as no start was reported");
    for (at, status) in [(40, WaitingReview), (50, Idle), (60, Paused)] {
        watch.push(at, a(status));
        assert_eq!(worked(&watch, at + 5), 40, "{status:?}");
    }
    watch.push(100, a(Running));
    assert_eq!(worked(&watch, 150), 90);
    watch.push(150, AgentUpdate { task_id: Patch::Set("t1".into()), ..named("a") });
    assert_eq!(worked(&watch, 150), 90, "reporting it again does not restart it");
    let earlier = AgentUpdate { task_started_at: Some(at(-50)), ..named("a") };
    watch.push(160, earlier.clone());
    assert_eq!(worked(&watch, 160), 210, "it runs from `task_started_at`");
    watch.push(170, earlier);
    assert_eq!(worked(&watch, 170), 220);
    watch.push(180, AgentUpdate { task_id: Patch::Set("t2".into()), ..named("a") });
    assert_eq!(worked(&watch, 185), 5, "another task starts at zero");
}

#[test]
fn ended_tasks_are_counted_by_outcome() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, AgentUpdate { task_id: Patch::Set("t1".into()), ..a(Running) });
    watch.push(20, a(Completed));
    watch.push(30, a(Completed));
    watch.push(40, AgentUpdate { task_id: Patch::Set("t2".into()), ..a(Running) });
    watch.push(50, a(Failed));
    let agent = watch.agent("a");
    assert_eq!((agent.tasks_completed.get(), agent.tasks_failed.get()), (Some(1), Some(1)));
    let project = watch.project();
    assert_eq!((project.totals.tasks_completed.get(), project.totals.tasks_failed.get()), (Some(1), Some(1)));
    assert_eq!((project.task_durations.sum, project.task_durations.buckets.iter().sum::<u64>()), (30.0, 2));
}

#[test]
fn budgets_exclude_cache_reads_and_usage_before_the_first_report() {
    for (count_cache_read, task, day) in [(false, 1_500, 300), (true, 12_500, 1_300)] {
        let budgets = BudgetsConfig { count_cache_read, ..BudgetsConfig::default() };
        let mut watch = TestFleet::new(FleetSettings { budgets, ..settings() });
        let first = AgentUpdate {
            tokens: tokens(1_000, 200, 10_000),
            cost_usd: Some(5.0),
            task_id: Patch::Set("t1".into()),
            ..a(Running)
        };
        let agent = watch.push(0, first);
        assert_eq!((agent.day_tokens, agent.day_cost_usd), (0, 0.0), "usage before the first report is not of today");
        let agent =
            watch.push(1, AgentUpdate { tokens: tokens(1_200, 300, 11_000), cost_usd: Some(5.5), ..named("a") });
        assert_eq!((agent.task.as_ref().unwrap().tokens, agent.day_tokens, agent.day_cost_usd), (task, day, 0.5));
        assert_eq!((agent.total_tokens(), agent.cost_usd.get()), (Some(12_500), Some(5.5)));
        assert_eq!(agent.unpriced_tokens.get(), None);
    }
}

#[test]
fn tokens_without_cost_are_unpriced() {
    let mut watch = TestFleet::new(settings());
    let agent = watch.push(0, AgentUpdate { tokens: tokens(10, 0, 0), ..named("a") });
    assert_eq!((agent.unpriced_tokens.get(), agent.cost_usd.get()), (Some(10), None));
    let agent = watch.push(1, AgentUpdate { tokens: tokens(30, 0, 0), cost_usd: Some(0.2), ..named("a") });
    assert_eq!((agent.unpriced_tokens.get(), agent.cost_usd.get()), (Some(10), Some(0.2)));
}

#[test]
fn increments_are_assigned_by_task_or_to_an_agent_named_after_it() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, AgentUpdate { task_id: Patch::Set("t1".into()), ..a(Running) });
    assert_eq!(watch.usage(1, UsageUpdate { task_id: Some("t1".into()), ..used(5) }).accepted, 1);
    assert_eq!((watch.agent("a").total_tokens(), watch.agent("a").task.as_ref().unwrap().tokens), (Some(5), 5));
    assert_eq!(watch.agent("a").day_tokens, 5, "an increment is of today");
    watch.usage(2, UsageUpdate { task_id: Some("t2".into()), ..used(7) });
    assert_eq!(watch.agent("t2").total_tokens(), Some(7));
    watch.usage(3, UsageUpdate { agent: Some("b".into()), task_id: Some("t1".into()), ..used(9) });
    assert_eq!((watch.agent("b").total_tokens(), watch.agent("a").total_tokens()), (Some(9), Some(5)));
    watch.push(4, AgentUpdate { task_id: Patch::Clear, ..named("a") });
    watch.usage(5, UsageUpdate { task_id: Some("t1".into()), ..used(1) });
    assert_eq!(watch.agent("t1").total_tokens(), Some(1), "no agent holds the task any more");
    let unassigned = watch.usage(6, used(1));
    assert_eq!(unassigned.rejected[0].error, "neither `agent` nor `task_id` is given; give one of them");
}

#[test]
fn a_repeated_id_is_deduplicated_and_creates_no_agent() {
    let mut watch = TestFleet::new(settings());
    let once = UsageUpdate { agent: Some("a".into()), id: Some("r1".into()), ..used(5) };
    assert_eq!(watch.usage(0, once.clone()).accepted, 1);
    assert_eq!(watch.usage(1, once.clone()).reasons, [(RejectReason::Duplicate, 1)]);
    assert_eq!(watch.agent("a").total_tokens(), Some(5));
    let other = UsageUpdate { agent: Some("b".into()), ..once };
    assert_eq!(watch.usage(2, other).reasons, [(RejectReason::Duplicate, 1)]);
    assert!(!watch.has("b"));
    assert_eq!((watch.project().agents, watch.fleet.state().agents.len()), (1, 1));
    assert_eq!(watch.fleet.take_usage_ids().len(), 1);
}

#[test]
fn usage_of_an_agent_comes_from_one_kind_of_report() {
    let mut watch = TestFleet::new(settings());
    watch.push(0, AgentUpdate { tokens: tokens(100, 0, 0), ..named("a") });
    let increment = UsageUpdate { agent: Some("a".into()), id: Some("r1".into()), ..used(5) };
    assert_eq!(watch.usage(1, increment.clone()).reasons, [(RejectReason::UsageOwner, 1)]);
    assert_eq!(watch.agent("a").total_tokens(), Some(100));
    watch.usage(2, UsageUpdate { agent: Some("b".into()), ..increment });
    assert_eq!(watch.agent("b").total_tokens(), Some(5), "the id of a rejected increment is not used up");
    let cumulative = AgentUpdate { tokens: tokens(900, 0, 0), ..named("b") };
    let batch = Batch { project: "shop".into(), agents: vec![cumulative], ..Batch::default() };
    assert_eq!(watch.push_batch(3, batch).reasons, [(RejectReason::UsageOwner, 1)]);
    assert_eq!((watch.agent("b").total_tokens(), watch.agent("b").usage_owner), (Some(5), Some(UsageOwner::Usage)));
}

#[test]
fn telemetry_and_other_reports_are_never_added() {
    let mut watch = TestFleet::new(settings());
    let telemetry = |agent: &str| AgentTelemetry {
        project: "shop".into(),
        agent: agent.into(),
        agent_type: "codex",
        tokens: [5, 0, 0, 0, 0],
        requests: 1,
        ..AgentTelemetry::default()
    };
    let usage = |agent: &'static str| UsageUpdate {
        agent: Some(agent.into()),
        tokens: [Some(7), None, None, None, None],
        ..UsageUpdate::default()
    };
    assert_eq!(watch.fleet.telemetry(at(1), &[telemetry("a"), telemetry("a")]).accepted, 2);
    assert_eq!(watch.fleet.usage(at(2), "shop", &[usage("a"), usage("b")]).reasons, [(RejectReason::UsageOwner, 1)]);
    assert_eq!(watch.fleet.telemetry(at(3), &[telemetry("b")]).reasons, [(RejectReason::UsageOwner, 1)]);
    let pushed = AgentUpdate { requests: Some(40), request_errors: Some(3), restart_count: Some(1), ..named("a") };
    let batch = Batch { project: "shop".into(), agents: vec![pushed], ..Batch::default() };
    assert_eq!(watch.push_batch(4, batch).reasons, [(RejectReason::UsageOwner, 1)]);
    assert_eq!((watch.agent("a").request_errors.get(), watch.agent("a").restarts.get()), (Some(0), Some(1)));
    let totals = |agent: &str| {
        let agents = &watch.fleet.state().agents;
        let agent = agents.iter().find(|it| &*it.name == agent).expect("an agent");
        (agent.total_tokens(), agent.unpriced_tokens.get(), agent.requests.get(), agent.cost_usd.get())
    };
    assert_eq!(totals("a"), (Some(10), Some(10), Some(2), None));
    assert_eq!(totals("b"), (Some(7), Some(7), None, None));
}

#[test]
fn tasks_from_telemetry_count_unless_another_source_reports_the_agent() {
    let mut watch = TestFleet::new(settings());
    let ended = |is_done, seconds| EndedTask { is_done, took: Some(Duration::from_secs(seconds)) };
    let telemetry = |agent: &str| AgentTelemetry {
        project: "shop".into(),
        agent: agent.into(),
        agent_type: "langflow",
        tasks: vec![ended(true, 5), ended(false, 70), ended(true, 20)],
        ..AgentTelemetry::default()
    };
    watch.push(0, named("a"));
    assert_eq!(watch.fleet.telemetry(at(1), &[telemetry("flow"), telemetry("a")]).accepted, 2);
    let counted = |agent: &str| {
        let agent = watch.agent(agent);
        (agent.tasks_completed.get(), agent.tasks_failed.get(), agent.usage_owner)
    };
    assert_eq!(counted("flow"), (Some(2), Some(1), None));
    assert_eq!(counted("a"), (None, None, None));
    let project = watch.fleet.state().projects.iter().find(|it| &*it.name == "shop").expect("a project");
    assert_eq!((&project.task_durations.buckets[..5], project.task_durations.sum), (&[1, 1, 0, 1, 0][..], 95.0));
}

#[test]
fn token_counts_saturate() {
    let mut watch = TestFleet::new(settings());
    let telemetry = AgentTelemetry {
        project: "shop".into(),
        agent: "a".into(),
        agent_type: "codex",
        tokens: [u64::MAX; 5],
        ..AgentTelemetry::default()
    };
    for seconds in 1..3 {
        assert_eq!(watch.fleet.telemetry(at(seconds), std::slice::from_ref(&telemetry)).accepted, 1);
        let agent = watch.agent("a");
        // A count stays below the number that stands for an unknown one.
        assert_eq!((agent.total_tokens(), agent.unpriced_tokens.get()), (Some(u64::MAX), Some(u64::MAX - 1)));
        assert_eq!(agent.day_tokens, u64::MAX);
    }
}

#[test]
fn context_window_ratio_is_pushed_or_from_telemetry_and_is_saved() {
    let mut watch = TestFleet::new(settings());
    let update = |ratio| AgentUpdate { context_window_ratio: ratio, ..named("a") };
    assert_eq!(watch.push(0, named("a")).context_window_ratio, None, "unknown until reported");
    assert_eq!(watch.push(1, update(Patch::Set(0.5))).context_window_ratio, Some(0.5));
    assert_eq!(watch.push(2, update(Patch::Keep)).context_window_ratio, Some(0.5));
    let (project, agent) = ("shop".into(), "a".into());
    let telemetry = AgentTelemetry { project, agent, context_window_ratio: Some(0.75), ..AgentTelemetry::default() };
    watch.fleet.telemetry(at(3), &[telemetry.clone(), AgentTelemetry { context_window_ratio: None, ..telemetry }]);
    assert_eq!(watch.agent("a").context_window_ratio, Some(0.75));
    let saved = serde_json::to_string(watch.agent("a")).expect("JSON");
    let mut fleet = Fleet::new(at(10), settings());
    fleet.restore(at(10), vec![], vec![serde_json::from_str(&saved).expect("the same")], vec![], []);
    assert_eq!(fleet.find("shop", "a").and_then(|agent| agent.context_window_ratio), Some(0.75));
    assert_eq!(watch.push(4, update(Patch::Clear)).context_window_ratio, None);
}
