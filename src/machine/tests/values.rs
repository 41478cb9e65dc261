//! Values that grow with time alone: each notification and each answer has the one of its moment.

use super::*;
use crate::model::{AlertState, NoticeKind};
use AgentStatus::{Completed, Running};
use NoticeKind::{Escalated, Firing, Repeat, Resolved};

const REPEAT: i64 = 4 * 3600;

/// A simulation whose alerts one receiver is notified of.
fn notified() -> Simulation {
    let receivers = vec![ReceiverPolicy::new("ops", Level::Warning)];
    let settings = Lasting { fleet: settings(), receivers, incidents: IncidentPolicy::default() };
    Simulation::new(at(0), Setup { rules: rule_set("rules: []"), settings })
}

fn step(simulation: &mut Simulation, seconds: i64, event: MachineEvent<'_>) {
    simulation.advance(at(seconds)).expect("no limit");
    simulation.take(event);
}

fn push(simulation: &mut Simulation, seconds: i64, ttl: u64, agent: AgentUpdate<'static>) {
    let (agents, ttl) = (vec![agent], Some(Duration::from_secs(ttl)));
    step(simulation, seconds, MachineEvent::State(Batch { project: "shop".into(), agents, ttl, ..Batch::default() }));
}

fn poll(simulation: &mut Simulation, seconds: i64, result: Result<Vec<Batch<'static>>, SourceErrorReason>) {
    let result = result.map_err(|reason| SourceError { reason, message: "no answer".to_owned() });
    step(simulation, seconds, MachineEvent::Poll(PollReport { source: "orch".into(), result }));
}

fn active(last: i64) -> AgentUpdate<'static> {
    AgentUpdate { last_activity: Some(at(last)), ..a(Running) }
}

/// Kind, value and text of each notification of `rule`, with its second.
fn notices(simulation: &Simulation, rule: &str) -> Vec<(f64, NoticeKind, f64, String)> {
    let of_rule = simulation.notices().iter().filter(|notice| *notice.rule == *rule);
    of_rule
        .map(|notice| (seconds(notice.at), notice.kind, notice.value.expect("a value"), notice.message.to_string()))
        .collect()
}

#[track_caller]
fn sends(simulation: &Simulation, rule: &str, expected: &[(i64, NoticeKind, f64, &str)]) {
    let expected = expected.iter().map(|(at, kind, value, text)| (*at as f64, *kind, *value, (*text).to_owned()));
    assert_eq!(notices(simulation, rule), expected.collect::<Vec<_>>());
}

/// Value and text of the open alert of `rule`.
fn shown(simulation: &Simulation, rule: &str) -> (f64, String) {
    let alert = simulation.open().into_iter().find(|alert| &*alert.rule == rule).expect("an open alert");
    (alert.value.expect("a value"), alert.message)
}

#[test]
fn idleness_is_as_long_as_it_is_when_it_is_notified_and_shown() {
    let mut simulation = notified();
    push(&mut simulation, 0, 1_000_000, active(0));
    simulation.advance(at(900 + REPEAT + 100)).expect("no limit");
    assert_eq!(shown(&simulation, "AgentIdle"), (15_400.0, "no activity for 4h16m (limit 15m)".to_owned()));
    // Reports without activity change nothing.
    push(&mut simulation, 900 + REPEAT + 200, 1_000_000, active(0));
    // It is reported a minute after it happened.
    push(&mut simulation, 900 + REPEAT + 500, 1_000_000, active(900 + REPEAT + 440));
    sends(
        &simulation,
        "AgentIdle",
        &[
            (300, Firing, 300.0, "no activity for 5m (limit 5m)"),
            (600, Escalated, 600.0, "no activity for 10m (limit 10m)"),
            (900, Escalated, 900.0, "no activity for 15m (limit 15m)"),
            (15_300, Repeat, 15_300.0, "no activity for 4h15m (limit 15m)"),
            (15_800, Resolved, 15_740.0, "is active again. Idle for up to 4h22m"),
        ],
    );
}

#[test]
fn the_peak_outlasts_shorter_idleness() {
    let mut simulation = notified();
    push(&mut simulation, 0, 1_000_000, active(0));
    // Idle for 550 s at most, then for 330 s, then below the threshold and above `clear_below`, and growing again.
    push(&mut simulation, 880, 1_000_000, active(550));
    push(&mut simulation, 890, 1_000_000, active(640));
    simulation.advance(at(900)).expect("no limit");
    assert_eq!(shown(&simulation, "AgentIdle").0, 260.0);
    push(&mut simulation, 910, 1_000_000, a(Completed));
    let sent = notices(&simulation, "AgentIdle");
    assert_eq!(sent.last().map(|(at, kind, value, _)| (*at, *kind, *value)), Some((910.0, Resolved, 600.0)));
}

#[test]
fn silence_lasts_until_it_ends() {
    let mut simulation = notified();
    push(&mut simulation, 0, 60, a(Running));
    push(&mut simulation, 700, 60, a(Running));
    let expected = [
        (60, Firing, 60.0, "no report for 1m (limit 1m)"),
        (700, Resolved, 700.0, "reports again. Silent for up to 11m40s"),
    ];
    sends(&simulation, "AgentStale", &expected);
}

#[test]
fn the_limit_of_silence_is_the_one_that_applied() {
    let mut simulation = notified();
    push(&mut simulation, 0, 180, a(Running));
    simulation.advance(at(200)).expect("no limit");
    let alert = simulation.open().into_iter().find(|alert| &*alert.rule == "AgentStale").expect("an open alert");
    assert_eq!((alert.threshold, &*alert.message), (Some(180.0), "no report for 3m20s (limit 3m)"));
    assert_eq!(alert.started_at, at(180).to_string());
    push(&mut simulation, 240, 10, a(Running));
    simulation.advance(at(300)).expect("no limit");
    let expected = [
        (180, Firing, 180.0, "no report for 3m (limit 3m)"),
        (240, Resolved, 240.0, "reports again. Silent for up to 4m"),
        // A shorter `ttl` makes it stale sooner, and the rule waits for its own limit.
        (300, Firing, 60.0, "no report for 1m (limit 1m)"),
    ];
    sends(&simulation, "AgentStale", &expected);
}

#[test]
fn a_task_takes_as_long_as_it_is_worked_on() {
    let mut simulation = notified();
    push(&mut simulation, 0, 1_000_000, with_task(Running));
    push(&mut simulation, 5_000, 1_000_000, with_task(AgentStatus::WaitingQuestion));
    simulation.advance(at(9_000)).expect("no limit");
    assert_eq!(shown(&simulation, "TaskRunningLong").0, 5_000.0, "it does not grow while the agent waits");
    push(&mut simulation, 9_000, 1_000_000, with_task(Running));
    simulation.advance(at(9_050)).expect("no limit");
    assert_eq!(shown(&simulation, "TaskRunningLong").0, 5_050.0);
    push(&mut simulation, 9_100, 1_000_000, a(Completed));
    let sent = notices(&simulation, "TaskRunningLong");
    assert_eq!(sent.last().map(|(_, kind, value, _)| (*kind, *value)), Some((Resolved, 5_100.0)));
}

#[test]
fn a_source_fails_for_as_long_as_it_fails() {
    let mut simulation = notified();
    poll(&mut simulation, 0, Err(SourceErrorReason::Connect));
    poll(&mut simulation, 1_000, Err(SourceErrorReason::Connect));
    simulation.advance(at(1_010)).expect("no limit");
    assert_eq!(shown(&simulation, "SourceDown").0, 1_010.0);
    poll(&mut simulation, 120 + REPEAT + 30, Ok(vec![]));
    let sent = notices(&simulation, "SourceDown");
    let values: Vec<_> = sent.iter().map(|(at, kind, value, _)| (*at as i64, *kind, *value)).collect();
    let expected =
        [(30, Firing, 30.0), (120, Escalated, 120.0), (14_520, Repeat, 14_520.0), (14_550, Resolved, 14_550.0)];
    assert_eq!(values, expected);
}

#[test]
fn a_value_goes_on_growing_after_a_restart() {
    let mut simulation = notified();
    push(&mut simulation, 0, 1_000_000, active(0));
    simulation.advance(at(400)).expect("no limit");
    simulation.restart(at(420));
    assert_eq!(shown(&simulation, "AgentIdle").0, 420.0);
    push(&mut simulation, 430, 1_000_000, active(430));
    let last = simulation.notices().iter().rfind(|notice| &*notice.rule == "AgentIdle").expect("it resolves");
    assert_eq!((last.kind, last.value), (Resolved, Some(430.0)));
    assert!(simulation.open().iter().all(|alert| alert.state != AlertState::Firing));
}
