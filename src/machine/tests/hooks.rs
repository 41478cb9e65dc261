//! Agents known from hooks alone: how inactivity, rate limits and ended sessions fire the built-in rules.

use super::*;
use crate::model::Hook;
use crate::model::hook::{SessionEnd, SessionEvent, TurnFailure};

fn hook(event: SessionEvent) -> MachineEvent<'static> {
    hook_of(1, None, event)
}

fn hook_of(session: u64, subagent: Option<u64>, event: SessionEvent) -> MachineEvent<'static> {
    let (project, agent, agent_type) = ("shop".into(), "a".into(), "claude-code".into());
    MachineEvent::Hook(Hook { project, agent, agent_type, session, subagent, event, retry_at: None, stop: None })
}

fn stopped() -> MachineEvent<'static> {
    hook(SessionEvent::TurnEnded { in_background: false })
}

const RULES: [&str; 5] = ["AgentIdle", "AgentDown", "AgentsDown", "AgentStale", "RateLimited"];

#[test]
fn no_hooks_means_idle_only_with_an_open_task_and_no_subagent() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Began)).until(10_000);
    assert_eq!(test.findings(&RULES), [""; 0], "without an open task it is not idle");
    test.take(10_000, hook(SessionEvent::Prompted))
        .take(10_010, hook(SessionEvent::PermissionRequested("Bash".into())));
    test.take(10_016, hook(SessionEvent::PermissionStillPending))
        .until(10_700)
        .take(10_700, hook(SessionEvent::ToolsEnded));
    let expected = ["10310 AgentIdle a warning", "10610 AgentIdle a error", "10700 AgentIdle a resolved"];
    assert_eq!(test.findings(&RULES), expected);
    test.take(10_900, stopped()).until(20_000);
    assert_eq!(test.findings(&RULES), [""; 0]);
}

#[test]
fn the_end_of_a_task_ends_its_idleness() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Prompted)).until(400).take(400, stopped()).until(9_000);
    assert_eq!(test.findings(&RULES), ["300 AgentIdle a warning", "400 AgentIdle a resolved"]);
    // A subagent works at it, until it is done.
    let subagent = |step| hook_of(1, Some(7), step);
    test.take(9_000, hook(SessionEvent::Prompted)).take(9_001, subagent(SessionEvent::SubagentBegan)).until(15_000);
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.take(15_000, subagent(SessionEvent::SubagentEnded)).until(15_300);
    assert_eq!(test.findings(&RULES), ["15300 AgentIdle a warning"]);
}

#[test]
fn a_rate_limited_agent_is_not_down() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit)))
        .until(5_000);
    assert_eq!(test.findings(&RULES), ["10 RateLimited a warning", "610 RateLimited a resolved"]);
    for second in [0, 1, 2, 3].map(|second| 5_000 + second) {
        test.take(second, hook(SessionEvent::Prompted))
            .take(second, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    }
    assert_eq!(test.findings(&RULES), ["5000 RateLimited a warning", "5003 RateLimited a error"]);
}

#[test]
fn a_rate_limit_in_the_first_hook_of_an_agent_fires() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(10, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit))).until(5_000);
    assert_eq!(test.findings(&RULES), ["10 RateLimited a warning", "610 RateLimited a resolved"]);
}

#[test]
fn a_failure_and_an_unexpected_end_fire_and_a_logout_does_not() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    let down = |second: i64| [format!("{second} AgentDown a error"), format!("{second} AgentsDown shop warning")];
    let up = |second: i64| [format!("{second} AgentDown a resolved"), format!("{second} AgentsDown shop resolved")];
    test.take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into()))));
    assert_eq!(test.findings(&RULES), down(10));
    test.take(20, hook(SessionEvent::Prompted));
    assert_eq!(test.findings(&RULES), up(20));
    test.take(30, hook(SessionEvent::Ended(SessionEnd::UserExit)));
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.take(40, hook(SessionEvent::Prompted)).take(50, hook(SessionEvent::Ended(SessionEnd::Exited)));
    assert_eq!(test.findings(&RULES), down(50));
    test.take(60, hook(SessionEvent::Prompted))
        .take(70, stopped())
        .take(71, hook(SessionEvent::Ended(SessionEnd::Exited)));
    assert_eq!(test.findings(&RULES), up(60));
}

#[test]
fn another_session_keeps_the_agent_up() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Prompted)).take(1, hook_of(2, None, SessionEvent::Prompted));
    test.take(10, hook(SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into()))));
    assert_eq!(test.findings(&RULES), [""; 0]);
    test.take(20, hook_of(2, None, SessionEvent::TurnEnded { in_background: false }));
    assert_eq!(test.findings(&RULES), ["20 AgentDown a error", "20 AgentsDown shop warning"]);
}

#[test]
fn a_restart_keeps_what_hooks_reported() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::PermissionRequested("Bash".into())))
        .until(400);
    test.restart(410);
    test.until(1_000);
    assert_eq!(test.findings(&RULES), [""; 0], "its hooks may have been missed during the downtime");
    test.take(1_000, hook(SessionEvent::ToolEnded("Bash".into()))).until(1_300);
    assert_eq!(test.findings(&RULES), ["1000 AgentIdle a resolved", "1300 AgentIdle a warning"]);
}

#[test]
fn an_agent_known_by_hooks_is_idle_from_the_moment_that_a_push_reports_it() {
    let mut test = RuleSimulation::new(settings(), "rules: []");
    test.take(0, hook(SessionEvent::Prompted)).take(10, stopped()).until(2_000);
    assert_eq!(test.findings(&RULES), [""; 0], "hooks promise nothing");
    test.push(2_000, named("a")).until(2_001);
    assert_eq!(test.findings(&RULES), ["2000 AgentIdle a critical"], "a push promises to come again");
}
