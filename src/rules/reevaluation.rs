//! When a subject must be looked at again though nothing happens: what time alone does to a value.
//!
//! Owns the search for the moment; the deadlines are kept by [`super::Rules`]. Refuses to look earlier than needed.

use std::time::Duration;

use super::compile::{Expr, Rule};
use super::outcome::{RuleOutcome, verdict};
use super::row::{Motion, Reading};
use super::thresholds::Comparison;
use super::window::Tracks;
use crate::model::{Agent, Snapshot, Time};

/// After so long every value that fades is gone: an error that came again counts for an hour.
const FADED_MILLIS: u64 = 3_600_000;

/// When a growing value reaches its next threshold; `None` for one that does not grow.
pub(super) fn next_threshold(rule: &Rule, reading: Reading, now: Time) -> Option<Time> {
    let Reading::Value(value) = reading else { return None };
    if rule.indicator.row().motion != Motion::Grows {
        return None;
    }
    rule.thresholds.next_change(value).map(|millis| now.plus(Duration::from_millis(millis)))
}

/// When the rule must be looked at again though nothing happens.
pub(super) fn next_look(
    rule: &Rule,
    agent: &Agent,
    fleet: &Snapshot,
    reading: Reading,
    open: bool,
    tracks: Option<&Tracks>,
    now: Time,
) -> Option<Time> {
    let window = |place: usize| tracks.and_then(|tracks| tracks.get(place)).and_then(|track| track.next_change(now));
    let is_at_most = rule.thresholds.when == Comparison::AtMost;
    match rule.expr {
        Expr::Now => match rule.indicator.row().motion {
            Motion::Still => None,
            // The time of a task stands still while it waits.
            Motion::Grows if is_moving(rule, agent, fleet, reading, now) => next_threshold(rule, reading, now),
            Motion::Grows => None,
            fading @ (Motion::Falls | Motion::Rises) => {
                let better = if fading == Motion::Falls { Comparison::AtLeast } else { Comparison::AtMost };
                let matters = open || rule.thresholds.when != better;
                let is_there = matches!(reading, Reading::Value(_));
                if is_there && matters { next_of_fading(rule, agent, fleet, now) } else { None }
            }
        },
        Expr::Average(place) => window(place),
        Expr::Increase(place) | Expr::Rate(place, _) if open || is_at_most => window(place),
        Expr::Ratio { part, whole, .. } => {
            // A ratio rises too, when good ones leave the window before the bad ones.
            let is_moving = tracks.and_then(|tracks| tracks.get(part)).is_some_and(|track| !track.is_quiet());
            let looks = [window(part), window(whole)].into_iter().flatten();
            if open || is_at_most || is_moving { looks.min() } else { None }
        }
        _ => None,
    }
}

/// Whether the value has another one a moment later.
fn is_moving(rule: &Rule, agent: &Agent, fleet: &Snapshot, reading: Reading, now: Time) -> bool {
    rule.indicator.row().read(agent, fleet, now.plus(Duration::from_secs(1))) != reading
}

/// When a fading value first means something else. It goes one way only and is gone in the end, so that
/// halving finds the millisecond.
fn next_of_fading(rule: &Rule, agent: &Agent, fleet: &Snapshot, now: Time) -> Option<Time> {
    let row = rule.indicator.row();
    let read_at = |millis: u64| row.read(agent, fleet, now.plus(Duration::from_millis(millis)));
    let meaning = |millis: u64| {
        let RuleOutcome { level, cleared, .. } = verdict(rule, read_at(millis));
        (level.map(|(level, _)| level), cleared)
    };
    let gone = first(FADED_MILLIS, |millis| !matches!(read_at(millis), Reading::Value(_)));
    let present = meaning(0);
    // While it is there it means one thing after the other; what comes after it may mean the first thing again.
    let last = gone.unwrap_or(FADED_MILLIS).saturating_sub(1);
    let other = first(last, |millis| meaning(millis) != present).or(gone);
    other.map(|millis| now.plus(Duration::from_millis(millis)))
}

/// The first of the milliseconds up to `last` at which `is_so`, which stays so; zero is taken not to be so.
fn first(last: u64, is_so: impl Fn(u64) -> bool) -> Option<u64> {
    if !is_so(last) {
        return None;
    }
    let (mut before, mut after) = (0, last);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if is_so(middle) {
            after = middle;
        } else {
            before = middle;
        }
    }
    Some(after)
}
