//! Coming and going: one message when it starts, one when it settles.

use super::*;
use crate::model::Flap;
use NoticeKind::{Flapping, FlappingEnded};

fn flapping() -> RulePolicy {
    let flap = Flap { changes: 4, within: Duration::from_secs(600), settle: Duration::from_secs(300) };
    RulePolicy { cooldown: Duration::ZERO, flap: Some(flap), ..policy() }
}

/// Begins and ends every ten seconds, from 0 to 70: eight changes.
fn come_and_go(story: &mut Story) -> &mut Story {
    for turn in 0..8 {
        story.level(turn * 10, (turn % 2 == 0).then_some(Warning));
    }
    story
}

const STARTED: [(i64, NoticeKind, Level); 4] =
    [(0, Firing, Warning), (10, Resolved, Warning), (20, Firing, Warning), (30, Flapping, Warning)];

#[test]
fn what_comes_and_goes_is_told_once_and_once_more_when_it_has_settled_fine() {
    let mut story = Story::new(flapping());
    come_and_go(&mut story).until(369).told(&STARTED);
    story.until(370);
    story.told(&[STARTED.as_slice(), &[(370, Resolved, Warning)]].concat());
    story.until(9_000);
    assert_eq!(story.told.len(), 5);
    assert!(story.alerts.by_fingerprint.is_empty(), "nothing is remembered for ever");
}

#[test]
fn what_settles_while_it_fires_is_told_to_fire_and_then_to_end() {
    let mut story = Story::new(flapping());
    come_and_go(&mut story).level(80, Some(Warning)).until(379).told(&STARTED);
    story.level(400, None);
    story.told(&[STARTED.as_slice(), &[(380, FlappingEnded, Warning), (400, Resolved, Warning)]].concat());
}

#[test]
fn it_has_not_settled_while_it_goes_on() {
    let mut story = Story::new(flapping());
    come_and_go(&mut story).level(300, Some(Warning)).level(590, None).until(889).told(&STARTED);
    story.until(890).told(&[STARTED.as_slice(), &[(890, Resolved, Warning)]].concat());
}

#[test]
fn what_gets_worse_meanwhile_is_told() {
    let mut story = Story::new(flapping());
    come_and_go(&mut story).level(80, Some(Critical)).level(90, None).level(100, Some(Critical));
    story.told(&[STARTED.as_slice(), &[(80, Escalated, Critical)]].concat());
}

#[test]
fn slow_changes_are_told_each_and_null_switches_it_off() {
    let mut story = Story::new(flapping());
    for turn in 0..8 {
        story.level(turn * 201, (turn % 2 == 0).then_some(Warning));
    }
    assert!(story.told.iter().all(|(_, kind, _)| *kind != Flapping), "{:?}", story.told);
    assert_eq!(story.told.len(), 8);
    let mut story = Story::new(RulePolicy { flap: None, ..flapping() });
    come_and_go(&mut story);
    assert_eq!(story.told.len(), 8);
}

#[test]
fn what_is_removed_while_it_comes_and_goes_is_told_over_at_once() {
    let mut story = Story::new(flapping());
    come_and_go(&mut story).level(80, Some(Warning));
    let removed = Finding { ending: Some(Ending::Removed), ..finding(0, agent("a"), None, 0.0, at(85)) };
    let effects = story.alerts.step(at(85), vec![removed]);
    story.note(85, &effects);
    story.told(&[STARTED.as_slice(), &[(85, Resolved, Warning)]].concat());
}

#[test]
fn coming_and_going_that_began_before_a_restart_settles_after_it() {
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
    // A hundred seconds of downtime are not a hundred seconds of calm.
    let rows = serde_json::from_str(&text).unwrap();
    after.alerts.restore(at(160), rows, [0; 4], 0, Duration::from_secs(100));
    after.until(449).told(&[]);
    after.until(450).told(&[(450, Resolved, Warning)]);
}

#[test]
fn whoever_hears_only_of_what_lasts_is_not_notified_of_flapping() {
    let receiver = ReceiverPolicy { after: Duration::from_secs(60), ..receiver("ops", Level::Warning) };
    let mut story = Story { alerts: Alerts::new(vec![flapping()], vec![receiver]), told: Vec::new() };
    come_and_go(&mut story).until(9_000).told(&[]);
}
