//! Computes when a rule must be evaluated again without a report, since time alone changes its value.
//!
//! The deadlines themselves are kept by [`super::Rules`].

use std::time::Duration;

use super::compile::{Expr, Rule};
use super::outcome::{RuleOutcome, outcome_of};
use super::row::{Drift, Reading};
use super::thresholds::Comparison;
use super::window::{Track, Tracks};
use crate::model::{Agent, Level, Snapshot, Time};

/// After this time every fading value has disappeared: a repeated error counts for an hour.
const MAX_FADING_MILLIS: u64 = 3_600_000;

/// When a growing value reaches its next threshold; `None` for any other value.
pub(super) fn next_threshold(rule: &Rule, reading: Reading, now: Time) -> Option<Time> {
    let Reading::Value(value) = reading else { return None };
    if rule.indicator.row().drift != Drift::Grows {
        return None;
    }
    rule.thresholds.next_change(value).map(|millis| now.plus(Duration::from_millis(millis)))
}

/// When the rule must be evaluated again for an agent without a report.
pub(super) fn next_evaluation(
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
        Expr::Now => match rule.indicator.row().drift {
            Drift::None => None,
            // The time of a task does not grow while the agent waits.
            Drift::Grows => {
                let moves = is_moving(rule, agent, fleet, reading, now);
                let crosses = if moves { next_threshold(rule, reading, now) } else { None };
                let begins = rule.indicator.row().grows_at.and_then(|at| at(agent)).filter(|at| *at > now);
                crosses.into_iter().chain(begins).min()
            }
            fading @ (Drift::Falls | Drift::Rises) => {
                let better = if fading == Drift::Falls { Comparison::AtLeast } else { Comparison::AtMost };
                let matters = open || rule.thresholds.when != better;
                let is_there = matches!(reading, Reading::Value(_));
                if is_there && matters { next_fading_change(rule, agent, fleet, now) } else { None }
            }
        },
        Expr::Average(place) => {
            tracks.and_then(|tracks| tracks.get(place)).and_then(|track| next_average(rule, track, now))
        }
        Expr::Increase(place) | Expr::Rate(place, _) if open || is_at_most => window(place),
        Expr::Ratio { part, whole, .. } => {
            // A ratio also rises when samples that are not in the numerator leave the window first.
            let is_moving = tracks.and_then(|tracks| tracks.get(part)).is_some_and(|track| !track.is_empty());
            let changes = [window(part), window(whole)].into_iter().flatten();
            if open || is_at_most || is_moving { changes.min() } else { None }
        }
        _ => None,
    }
}

/// Whether the value of `rule`, which is `reading`, grows by one each second, if it is moving.
pub(super) fn grows(rule: &Rule, reading: Reading) -> bool {
    matches!((rule.expr, reading), (Expr::Now, Reading::Value(_)))
        && rule.indicator.row().drift == Drift::Grows
        && rule.thresholds.when != Comparison::Absent
}

/// The same for an agent, of which it may stand still.
pub(super) fn grows_of_agent(rule: &Rule, agent: &Agent, fleet: &Snapshot, reading: Reading, now: Time) -> bool {
    grows(rule, reading) && is_moving(rule, agent, fleet, reading, now)
}

/// Whether the value is changing with time.
fn is_moving(rule: &Rule, agent: &Agent, fleet: &Snapshot, reading: Reading, now: Time) -> bool {
    rule.indicator.row().read(agent, fleet, now.plus(Duration::from_secs(1))) != reading
}

/// When a fading value changes its level. It is monotonic and disappears in the end, so bisection finds the millisecond.
fn next_fading_change(rule: &Rule, agent: &Agent, fleet: &Snapshot, now: Time) -> Option<Time> {
    let row = rule.indicator.row();
    let read_at = |millis: u64| row.read(agent, fleet, now.plus(Duration::from_millis(millis)));
    let meaning = |millis: u64| meaning(rule, read_at(millis));
    let gone = first(MAX_FADING_MILLIS, |millis| !matches!(read_at(millis), Reading::Value(_)));
    let present = meaning(0);
    // Its level is monotonic only while it has a value; without one, the level may be the first one again.
    let last = gone.unwrap_or(MAX_FADING_MILLIS).saturating_sub(1);
    let other = first(last, |millis| meaning(millis) != present).or(gone);
    other.map(|millis| now.plus(Duration::from_millis(millis)))
}

/// When an average changes its level, or at the latest when it may turn.
fn next_average(rule: &Rule, track: &Track, now: Time) -> Option<Time> {
    let bend = track.next_bend(now)?;
    let read_at = |millis: u64| Reading::of(track.average(now.plus(Duration::from_millis(millis))));
    let present = meaning(rule, read_at(0));
    let last = u64::try_from(bend.since(now).as_millis()).unwrap_or(u64::MAX);
    let other = first(last, |millis| meaning(rule, read_at(millis)) != present).unwrap_or(last);
    Some(now.plus(Duration::from_millis(other)))
}

/// What a rule makes of a reading: its level, and whether it clears the alert.
fn meaning(rule: &Rule, reading: Reading) -> (Option<Level>, bool) {
    let RuleOutcome { level, cleared, .. } = outcome_of(rule, reading);
    (level.map(|(level, _)| level), cleared)
}

/// The first millisecond up to `last` at which `is_so` holds, given that it then stays true and is false at zero.
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
