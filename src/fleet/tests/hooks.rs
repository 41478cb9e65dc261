//! Hooks combined with polls, pushes, telemetry and restarts: the agent's source, and that nothing counts twice.

use super::*;
use crate::model::hook::{SessionEnd, SessionEvent, TurnFailure};
use crate::model::{AgentTelemetry, Hook, RejectReason};

pub(in crate::fleet) fn hook(event: SessionEvent) -> Hook {
    Hook {
        project: "shop".into(),
        agent: "a".into(),
        agent_type: "claude-code".into(),
        session: 1,
        subagent: None,
        event,
        retry_at: None,
        stop: None,
    }
}

fn waits() -> SessionEvent {
    SessionEvent::PermissionRequested("Bash".into())
}

const STOPPED: SessionEvent = SessionEvent::TurnEnded { in_background: false };

impl TestFleet {
    fn hook(&mut self, seconds: i64, event: SessionEvent) -> &Agent {
        self.until(seconds);
        self.fleet.clear_changes();
        let outcome = self.fleet.hook(at(seconds), &hook(event));
        assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0));
        self.agent("a")
    }

    fn telemetry(&mut self, seconds: i64, rate_limited: u64) -> &Agent {
        let (project, agent) = ("shop".into(), "a".into());
        let telemetry =
            AgentTelemetry { project, agent, requests: 10, rate_limit_hits: rate_limited, ..AgentTelemetry::default() };
        self.until(seconds);
        self.fleet.telemetry(at(seconds), &[telemetry]);
        self.agent("a")
    }
}

fn shown(agent: &Agent) -> (Option<&str>, Option<&str>) {
    (agent.status.map(AgentStatus::as_str), agent.reason.as_deref())
}

#[test]
fn each_hook_is_activity_and_a_prompt_is_a_task() {
    let mut watch = TestFleet::new(settings());
    let agent = watch.hook(1, SessionEvent::Prompted);
    assert_eq!((agent.task.as_ref().map(|task| &*task.id), agent.last_activity), (Some("a#1"), Some(at(1))));
    assert_eq!((agent.agent_type.as_deref(), agent.is_up(), agent.ttl), (Some("claude-code"), true, None));
    let agent = watch.hook(11, waits());
    assert_eq!(shown(agent), (Some("waiting_question"), Some("permission to run Bash")));
    assert_eq!((agent.last_activity, agent.idle_seconds(at(21))), (Some(at(11)), Some(10.0)));
    let agent = watch.hook(17, SessionEvent::PermissionStillPending);
    assert_eq!((agent.last_activity, agent.last_seen), (Some(at(11)), at(17)), "a reminder is not an activity");
    let agent = watch.hook(31, STOPPED);
    assert_eq!((&agent.task, agent.tasks_completed.get(), agent.idle_seconds(at(99))), (&None, Some(1), None));
    watch.hook(40, SessionEvent::Prompted);
    let agent = watch.hook(50, SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into())));
    assert_eq!((shown(agent), agent.is_down()), ((Some("failed"), Some("failed by billing")), true));
    watch.hook(60, SessionEvent::Prompted);
    let agent = watch.hook(70, SessionEvent::Ended(SessionEnd::Exited));
    assert_eq!((agent.tasks_completed.get(), agent.tasks_failed.get(), agent.is_down()), (Some(1), Some(2), true));
    let totals = watch.project().totals.clone();
    assert_eq!((totals.tasks_completed.get(), totals.tasks_failed.get()), (Some(1), Some(2)));
    assert_eq!(watch.project().task_durations.sum, 30.0 + 10.0 + 10.0);
}

#[test]
fn a_task_ends_once() {
    let mut watch = TestFleet::new(settings());
    for step in [SessionEvent::Prompted, STOPPED, SessionEvent::Ended(SessionEnd::Exited)] {
        watch.hook(1, step);
    }
    let agent = watch.agent("a");
    assert_eq!((shown(agent).0, agent.tasks_completed.get()), (Some("completed"), Some(1)));
}

#[test]
fn a_rate_limited_agent_is_counted_and_not_down() {
    let mut watch = TestFleet::new(settings());
    assert_eq!(
        watch.hook(1, SessionEvent::Prompted).rate_limit_hits.get(),
        Some(0),
        "so that the first hit is an increase"
    );
    let agent = watch.hook(2, SessionEvent::TurnFailed(TurnFailure::RateLimit));
    assert_eq!(shown(agent), (Some("waiting_dependency"), Some("rate-limited")));
    assert_eq!((agent.is_up(), agent.is_down(), agent.rate_limit_hits.get()), (true, false, Some(1)));
    assert_eq!(watch.project().totals.rate_limit_hits.get(), Some(1));
    // Telemetry reports the same hit, and then one that no hook reported.
    assert_eq!(watch.telemetry(5, 1).rate_limit_hits.get(), Some(1));
    assert_eq!(watch.telemetry(6, 1).rate_limit_hits.get(), Some(2));
    assert_eq!(watch.hook(7, SessionEvent::TurnFailed(TurnFailure::RateLimit)).rate_limit_hits.get(), Some(3));
}

#[test]
fn an_agent_known_from_hooks_expires_but_is_never_stale() {
    let mut watch = TestFleet::new(settings());
    watch.hook(0, SessionEvent::Prompted);
    watch.until(3_599);
    assert!(!watch.agent("a").stale);
    watch.until(3_600);
    assert!(!watch.has("a"), "it expires like any other");
}

#[test]
fn an_agent_with_an_open_question_does_not_expire_overnight() {
    let mut watch = TestFleet::new(settings());
    watch.hook(0, SessionEvent::Prompted);
    watch.hook(10, waits());
    watch.until(3 * 86_400 + 9);
    assert_eq!(shown(watch.agent("a")), (Some("waiting_question"), Some("permission to run Bash")));
    let second = Hook { session: 2, ..hook(SessionEvent::Prompted) };
    watch.fleet.hook(at(3 * 86_400 + 9), &second);
    assert_eq!(shown(watch.agent("a")).0, Some("waiting_question"), "another session does not close the question");
    watch.until(7 * 86_400);
    assert!(!watch.has("a"));
}

#[test]
fn a_pushed_or_polled_agent_keeps_its_source() {
    let mut watch = TestFleet::new(settings());
    let reported = AgentUpdate {
        agent_type: Some("custom".into()),
        task_id: Patch::Set("t".into()),
        last_activity: Some(at(0)),
        ..a(AgentStatus::Running)
    };
    watch.push(0, reported);
    let agent = watch.hook(10, waits());
    assert_eq!(
        (&*agent.source, agent.ttl, agent.agent_type.as_deref()),
        ("push", Some(Duration::from_secs(60)), Some("custom"))
    );
    assert_eq!(shown(agent), (Some("waiting_question"), Some("permission to run Bash")));
    assert_eq!((agent.task.as_ref().map(|task| &*task.id), agent.last_activity), (Some("t"), Some(at(10))));
    let agent = watch.hook(20, STOPPED);
    assert_eq!(
        (agent.idle_seconds(at(50)), agent.tasks_completed.get()),
        (Some(30.0), None),
        "its tasks are counted by its source"
    );
    watch.until(80);
    assert!(watch.agent("a").stale, "hooks do not extend its ttl");
    watch.poll(90, Some(&["a"]));
    let agent = watch.hook(91, SessionEvent::Prompted);
    assert_eq!((&*agent.source, agent.ttl, agent.stale), ("orch", Some(Duration::from_secs(90)), false));
}

#[test]
fn a_task_created_by_a_hook_is_ended_by_a_hook() {
    let mut watch = TestFleet::new(settings());
    watch.hook(0, SessionEvent::Prompted);
    assert!(watch.push(1, a(AgentStatus::Running)).task.is_some(), "a push without a task keeps it");
    assert_eq!(watch.hook(2, STOPPED).task, None);
    assert_eq!(watch.hook(3, SessionEvent::Prompted).task, None, "from now on pushes report its tasks");
}

#[test]
fn an_agent_known_from_telemetry_gets_its_status_from_hooks() {
    let mut watch = TestFleet::new(settings());
    assert_eq!(watch.telemetry(1, 0).status, None);
    let agent = watch.hook(2, SessionEvent::Prompted);
    assert_eq!((shown(agent).0, agent.task.is_some(), agent.last_activity), (Some("running"), true, Some(at(2))));
    assert_eq!(watch.telemetry(9, 0).last_activity, Some(at(9)), "usage is an activity, too");
    let nothing = AgentTelemetry { project: "shop".into(), agent: "a".into(), ..AgentTelemetry::default() };
    watch.fleet.telemetry(at(20), &[nothing]);
    assert_eq!(watch.agent("a").last_activity, Some(at(9)), "an export without increments is not");
}

#[test]
fn a_sign_of_life_creates_no_agent() {
    let mut watch = TestFleet::new(settings());
    assert_eq!(watch.fleet.hook(at(0), &hook(SessionEvent::Alive)).accepted, 1);
    assert!(!watch.has("a"));
}

#[test]
fn hooks_respect_the_series_cap() {
    let mut watch = TestFleet::new(FleetSettings { max_series: super::super::SERIES_PER_AGENT, ..settings() });
    watch.hook(0, SessionEvent::Prompted);
    let other = Hook { agent: "b".into(), ..hook(SessionEvent::Prompted) };
    assert_eq!(watch.fleet.hook(at(1), &other).reasons, [(RejectReason::SeriesCap, 1)]);
}

#[test]
fn sessions_continue_after_a_restart() {
    let mut watch = TestFleet::new(settings());
    watch.hook(1, SessionEvent::Prompted);
    watch.hook(2, waits());
    let second = Hook { session: 2, ..hook(SessionEvent::Prompted) };
    watch.fleet.hook(at(3), &second);
    let state = watch.fleet.state();
    let saved: Vec<String> = state.agents.iter().map(|agent| serde_json::to_string(agent).expect("written")).collect();
    let agents = saved.iter().map(|agent| serde_json::from_str(agent).expect("read")).collect();
    let mut watch = TestFleet::new(settings());
    watch.fleet.restore(at(100), Vec::new(), agents, Vec::new(), []);
    let agent = watch.agent("a");
    assert_eq!(shown(agent), (Some("waiting_question"), Some("permission to run Bash")));
    let agent = watch.hook(101, SessionEvent::ToolEnded("Bash".into()));
    assert_eq!((shown(agent).0, agent.task.as_ref().map(|task| &*task.id)), (Some("running"), Some("a#1")));
    assert_eq!(shown(watch.hook(102, STOPPED)).0, Some("running"), "the other session is working");
    assert_eq!(watch.agent("a").task.as_ref().map(|task| (&*task.id, task.started_at)), Some(("a#2", at(3))));
}
