//! Flapping: one notification when it starts, one when it ends.

use super::*;
use crate::model::Flap;
use NoticeKind::{Flapping, FlappingEnded};

fn flapping() -> RulePolicy {
    let flap = Flap { changes: 4, within: Duration::from_secs(600), settle: Duration::from_secs(300) };
    RulePolicy { cooldown: Duration::ZERO, flap: Some(flap), ..policy() }
}

/// Fires and resolves every ten seconds, from 0 to 70: eight changes.
fn flap(story: &mut Story) -> &mut Story {
    for turn in 0..8 {
        story.level(turn * 10, (turn % 2 == 0).then_some(Warning));
    }
    story
}

const STARTED: [(i64, NoticeKind, Level); 4] =
    [(0, Firing, Warning), (10, Resolved, Warning), (20, Firing, Warning), (30, Flapping, Warning)];

#[test]
fn flapping_is_notified_once_and_its_resolve_once() {
    let mut story = Story::new(flapping());
    flap(&mut story).until(369).notified(&STARTED);
    story.until(370);
    story.notified(&[STARTED.as_slice(), &[(370, Resolved, Warning)]].concat());
    story.until(9_000);
    assert_eq!(story.notified.len(), 5);
    assert!(story.alerts.by_fingerprint.is_empty(), "nothing is kept for ever");
}

#[test]
fn flapping_that_ends_while_firing_is_notified_and_then_resolved() {
    let mut story = Story::new(flapping());
    flap(&mut story).level(80, Some(Warning)).until(379).notified(&STARTED);
    story.level(400, None);
    story.notified(&[STARTED.as_slice(), &[(380, FlappingEnded, Warning), (400, Resolved, Warning)]].concat());
}

#[test]
fn flapping_lasts_while_changes_continue() {
    let mut story = Story::new(flapping());
    flap(&mut story).level(300, Some(Warning)).level(590, None).until(889).notified(&STARTED);
    story.until(890).notified(&[STARTED.as_slice(), &[(890, Resolved, Warning)]].concat());
}

#[test]
fn an_escalation_is_notified_while_flapping() {
    let mut story = Story::new(flapping());
    flap(&mut story).level(80, Some(Critical)).level(90, None).level(100, Some(Critical));
    story.notified(&[STARTED.as_slice(), &[(80, Escalated, Critical)]].concat());
}

#[test]
fn slow_changes_are_notified_each_and_null_disables_flapping() {
    let mut story = Story::new(flapping());
    for turn in 0..8 {
        story.level(turn * 201, (turn % 2 == 0).then_some(Warning));
    }
    assert!(story.notified.iter().all(|(_, kind, _)| *kind != Flapping), "{:?}", story.notified);
    assert_eq!(story.notified.len(), 8);
    let mut story = Story::new(RulePolicy { flap: None, ..flapping() });
    flap(&mut story);
    assert_eq!(story.notified.len(), 8);
}

#[test]
fn a_flapping_alert_of_a_removed_agent_resolves_at_once() {
    let mut story = Story::new(flapping());
    flap(&mut story).level(80, Some(Warning));
    let removed = Finding { ending: Some(Ending::Removed), ..finding(0, agent("a"), None, 0.0, at(85)) };
    let effects = story.alerts.step(at(85), vec![removed]);
    story.note(85, &effects);
    story.notified(&[STARTED.as_slice(), &[(85, Resolved, Warning)]].concat());
}

#[test]
fn flapping_that_began_before_a_restart_ends_after_it() {
    let mut story = Story::new(flapping());
    let mut kept = std::collections::HashMap::new();
    for turn in 0..6 {
        let level = (turn % 2 == 0).then_some(Warning);
        let effects = story.alerts.step(at(turn * 10), vec![finding(0, agent("a"), level, 2.0, at(turn * 10))]);
        story.note(turn * 10, &effects);
        kept.extend(effects.changed.into_iter().map(|alert| (alert.fingerprint, alert)));
    }
    let text = serde_json::to_string(&kept.into_values().collect::<Vec<_>>()).unwrap();
    let mut after = Story::new(flapping());
    // Downtime does not count towards `settle`.
    let rows = serde_json::from_str(&text).unwrap();
    after.alerts.restore(at(160), rows, [0; 4], 0, Duration::from_secs(100));
    after.until(449).notified(&[]);
    after.until(450).notified(&[(450, Resolved, Warning)]);
}

#[test]
fn a_receiver_with_after_is_not_notified_of_flapping() {
    let receiver = ReceiverPolicy { after: Duration::from_secs(60), ..receiver("ops", Level::Warning) };
    let mut story = Story { alerts: Alerts::new(vec![flapping()], vec![receiver]), notified: Vec::new() };
    flap(&mut story).until(9_000).notified(&[]);
}

/// An agent down, and the two alerts that follow from it; all of them flap.
fn cause_and_consequences() -> Alerts {
    let rules = [("AgentDown", Class::AgentDown), ("AgentsDown", Class::AgentsDown), ("Health", Class::ClusterHealth)];
    let policies = rules.map(|(name, class)| RulePolicy { name: name.into(), class, ..flapping() });
    Alerts::new(policies.into(), vec![receiver("ops", Level::Warning)])
}

/// Kind and rule of each notification, after deadlines up to `seconds` and then these levels of all three.
fn notified_at(alerts: &mut Alerts, seconds: i64, level: Option<Level>) -> Vec<(i64, NoticeKind, String)> {
    let mut story = Vec::new();
    let mut note = |seconds: i64, effects: AlertChanges| {
        story.extend(effects.notices.iter().map(|notice| (seconds, notice.kind, notice.rule.to_string())));
    };
    while let Some(due) = alerts.next_deadline().filter(|due| *due < at(seconds)) {
        note((due.as_millis() - at(0).as_millis()) / 1000, alerts.tick(due));
    }
    let project = || Subject::Cluster { project: "shop".into() };
    let subjects = [agent("a"), project(), project()];
    let findings = subjects.into_iter().enumerate();
    let findings = findings.map(|(rule, subject)| finding(rule as u16, subject, level, 1.0, at(seconds)));
    note(seconds, alerts.step(at(seconds), findings.collect()));
    story
}

#[test]
fn what_is_inhibited_notifies_neither_of_flapping_nor_of_its_end() {
    let mut alerts = cause_and_consequences();
    let mut story: Vec<_> =
        (0..9).flat_map(|turn| notified_at(&mut alerts, turn * 10, (turn % 2 == 0).then_some(Warning))).collect();
    story.extend(notified_at(&mut alerts, 500, None));
    let expected = [(0, Firing), (10, Resolved), (20, Firing), (30, Flapping), (380, FlappingEnded), (500, Resolved)];
    assert_eq!(story, expected.map(|(at, kind)| (at, kind, "AgentDown".to_owned())));
}

#[test]
fn what_outlasts_its_cause_is_notified_of_as_flapping_until_that_ends() {
    let mut alerts = cause_and_consequences();
    for turn in 0..8 {
        notified_at(&mut alerts, turn * 10, (turn % 2 == 0).then_some(Warning));
    }
    // The agent is well, the project is not.
    let project = || Subject::Cluster { project: "shop".into() };
    let health = alerts.step(at(80), vec![finding(2, project(), Some(Warning), 1.0, at(80))]);
    let kinds = |effects: &AlertChanges| effects.notices.iter().map(|notice| notice.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&health), [Flapping]);
    assert_eq!(kinds(&alerts.step(at(90), vec![finding(2, project(), None, 0.0, at(90))])), []);
    let mut ends = Vec::new();
    while let Some(due) = alerts.next_deadline() {
        let over = alerts.tick(due);
        let second = (due.as_millis() - at(0).as_millis()) / 1000;
        ends.extend(over.notices.iter().map(|notice| (second, notice.kind, notice.rule.to_string())));
    }
    let expected = [(370, Resolved, "AgentDown"), (390, Resolved, "Health")];
    assert_eq!(ends, expected.map(|(at, kind, rule)| (at, kind, rule.to_owned())));
}
