//! Agents known from their hooks alone: what silence, refusals and ends of sessions are to the built-in rules.

use super::*;
use crate::model::Hook;
use crate::model::hook::{SessionEnd, SessionEvent, TurnFailure};

fn hook(event: SessionEvent) -> Event<'static> {
    hook_of(1, None, event)
}

fn hook_of(session: u64, subagent: Option<u64>, event: SessionEvent) -> Event<'static> {
    let (project, agent, agent_type) = ("shop".into(), "a".into(), "claude-code".into());
    Event::Hook(Hook { project, agent, agent_type, session, subagent, event, retry_at: None, stop: None })
}

fn stopped() -> Event<'static> {
    hook(SessionEvent::TurnEnded { in_background: false })
}

const RULES: [&str; 5] = ["AgentIdle", "AgentDown", "AgentsDown", "AgentStale", "RateLimited"];

#[test]
fn silence_is_idleness_only_with_an_open_task_and_no_subagent() {
    let mut world = World::new(settings(), "rules: []");
    world.take(0, hook(SessionEvent::Began)).until(10_000);
    assert_eq!(world.told(&RULES), [""; 0], "who has nothing to do may be silent");
    world
        .take(10_000, hook(SessionEvent::Prompted))
        .take(10_010, hook(SessionEvent::PermissionRequested("Bash".into())));
    world
        .take(10_016, hook(SessionEvent::PermissionStillPending))
        .until(10_700)
        .take(10_700, hook(SessionEvent::ToolsEnded));
    let expected = ["10310 AgentIdle a warning", "10610 AgentIdle a error", "10700 AgentIdle a over"];
    assert_eq!(world.told(&RULES), expected);
    world.take(10_900, stopped()).until(20_000);
    assert_eq!(world.told(&RULES), [""; 0]);
}

#[test]
fn the_end_of_a_task_ends_its_idleness() {
    let mut world = World::new(settings(), "rules: []");
    world.take(0, hook(SessionEvent::Prompted)).until(400).take(400, stopped()).until(9_000);
    assert_eq!(world.told(&RULES), ["300 AgentIdle a warning", "400 AgentIdle a over"]);
    // A subagent works at it, until it is done.
    let subagent = |step| hook_of(1, Some(7), step);
    world.take(9_000, hook(SessionEvent::Prompted)).take(9_001, subagent(SessionEvent::SubagentBegan)).until(15_000);
    assert_eq!(world.told(&RULES), [""; 0]);
    world.take(15_000, subagent(SessionEvent::SubagentEnded)).until(15_300);
    assert_eq!(world.told(&RULES), ["15300 AgentIdle a warning"]);
}

#[test]
fn a_rate_limit_is_told_as_one_and_nobody_is_down() {
    let mut world = World::new(settings(), "rules: []");
    world
        .take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit)))
        .until(5_000);
    assert_eq!(world.told(&RULES), ["10 RateLimited a warning", "610 RateLimited a over"]);
    for second in [0, 1, 2, 3].map(|second| 5_000 + second) {
        world
            .take(second, hook(SessionEvent::Prompted))
            .take(second, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit)));
    }
    assert_eq!(world.told(&RULES), ["5000 RateLimited a warning", "5003 RateLimited a error"]);
}

#[test]
fn a_refusal_that_is_the_first_word_of_an_agent_is_told() {
    let mut world = World::new(settings(), "rules: []");
    world.take(10, hook(SessionEvent::TurnFailed(TurnFailure::RateLimit))).until(5_000);
    assert_eq!(world.told(&RULES), ["10 RateLimited a warning", "610 RateLimited a over"]);
}

#[test]
fn a_failure_and_an_unexpected_end_are_told_and_a_persons_farewell_is_not() {
    let mut world = World::new(settings(), "rules: []");
    let down = |second: i64| [format!("{second} AgentDown a error"), format!("{second} AgentsDown shop warning")];
    let up = |second: i64| [format!("{second} AgentDown a over"), format!("{second} AgentsDown shop over")];
    world
        .take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into()))));
    assert_eq!(world.told(&RULES), down(10));
    world.take(20, hook(SessionEvent::Prompted));
    assert_eq!(world.told(&RULES), up(20));
    world.take(30, hook(SessionEvent::Ended(SessionEnd::UserExit)));
    assert_eq!(world.told(&RULES), [""; 0]);
    world.take(40, hook(SessionEvent::Prompted)).take(50, hook(SessionEvent::Ended(SessionEnd::Exited)));
    assert_eq!(world.told(&RULES), down(50));
    world
        .take(60, hook(SessionEvent::Prompted))
        .take(70, stopped())
        .take(71, hook(SessionEvent::Ended(SessionEnd::Exited)));
    assert_eq!(world.told(&RULES), up(60));
}

#[test]
fn another_session_keeps_the_agent_up() {
    let mut world = World::new(settings(), "rules: []");
    world.take(0, hook(SessionEvent::Prompted)).take(1, hook_of(2, None, SessionEvent::Prompted));
    world.take(10, hook(SessionEvent::TurnFailed(TurnFailure::Error("failed by billing".into()))));
    assert_eq!(world.told(&RULES), [""; 0]);
    world.take(20, hook_of(2, None, SessionEvent::TurnEnded { in_background: false }));
    assert_eq!(world.told(&RULES), ["20 AgentDown a error", "20 AgentsDown shop warning"]);
}

#[test]
fn a_restart_changes_nothing_that_hooks_said() {
    let mut world = World::new(settings(), "rules: []");
    world
        .take(0, hook(SessionEvent::Prompted))
        .take(10, hook(SessionEvent::PermissionRequested("Bash".into())))
        .until(400);
    world.restart(410);
    world.until(1_000);
    assert_eq!(world.told(&RULES), [""; 0], "it may have gone on while nobody listened");
    world.take(1_000, hook(SessionEvent::ToolEnded("Bash".into()))).until(1_300);
    assert_eq!(world.told(&RULES), ["1000 AgentIdle a over", "1300 AgentIdle a warning"]);
}

#[test]
fn who_is_known_by_hooks_is_idle_from_the_moment_that_somebody_vouches_for_it() {
    let mut world = World::new(settings(), "rules: []");
    world.take(0, hook(SessionEvent::Prompted)).take(10, stopped()).until(2_000);
    assert_eq!(world.told(&RULES), [""; 0], "hooks promise nothing");
    world.push(2_000, named("a")).until(2_001);
    assert_eq!(world.told(&RULES), ["2000 AgentIdle a critical"], "a push promises to come again");
}
