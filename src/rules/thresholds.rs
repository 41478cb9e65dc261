//! Compares a value with the thresholds of a rule.

use serde::Deserialize;

use crate::model::Level;

/// How a value is compared with the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The level's threshold or more.
    AtLeast,
    /// The level's threshold or less.
    AtMost,
    /// Exactly the level's value, usually a status name.
    Equals,
    /// No value, after there was one.
    Absent,
}

/// The thresholds of a rule.
#[derive(Clone, Debug)]
pub(super) struct Thresholds {
    pub(super) when: Comparison,
    /// By [`Level::index`].
    pub(super) levels: [Option<f64>; 4],
    /// The value that an active alert must pass to be clear again.
    pub(super) clear: Option<f64>,
    /// Whether the numbers are multiples of what is usual of the subject.
    pub(super) are_multiples: bool,
}

impl Thresholds {
    /// These multiples of `usual`, as numbers.
    pub(super) fn of_usual(&self, usual: f64) -> Self {
        Self {
            when: self.when,
            levels: self.levels.map(|level| level.map(|factor| factor * usual)),
            clear: self.clear.map(|factor| factor * usual),
            are_multiples: false,
        }
    }

    /// The highest level that `value` reaches, and its threshold.
    pub(super) fn level_of(&self, value: f64) -> Option<(Level, f64)> {
        Level::ALL.into_iter().rev().find_map(|level| {
            let threshold = (*self.levels.get(level.index())?)?;
            let reached = match self.when {
                Comparison::AtLeast => value >= threshold,
                Comparison::AtMost => value <= threshold,
                Comparison::Equals => value == threshold,
                Comparison::Absent => false,
            };
            reached.then_some((level, threshold))
        })
    }

    /// Whether `value`, which reaches no level, is clear under the hysteresis as well.
    pub(super) fn is_clear(&self, value: f64) -> bool {
        match (self.clear, self.when) {
            (Some(clear), Comparison::AtLeast) => value < clear,
            (Some(clear), Comparison::AtMost) => value > clear,
            _ => true,
        }
    }

    /// The lowest level of the rule, with its threshold.
    pub(super) fn lowest(&self) -> Option<(Level, f64)> {
        Level::ALL.into_iter().find_map(|level| Some((level, (*self.levels.get(level.index())?)?)))
    }

    /// In how many milliseconds a value of `seconds` that grows with time changes its level.
    pub(super) fn next_change(&self, seconds: f64) -> Option<u64> {
        // In whole milliseconds, so that rounding of a product makes nothing late by one.
        let reached_at = |threshold: f64| (threshold * 1000.0 - 1e-6).ceil();
        let passed_at = |threshold: f64| (threshold * 1000.0 + 1e-6).floor() + 1.0;
        let now = (seconds * 1000.0).round();
        // A growing value can pass the hysteresis only upwards.
        let clear = self.clear.iter().filter(|_| self.when == Comparison::AtMost);
        let moments = self.levels.iter().flatten().chain(clear).flat_map(|threshold| match self.when {
            Comparison::AtLeast => [Some(reached_at(*threshold)), None],
            Comparison::AtMost => [Some(passed_at(*threshold)), None],
            Comparison::Equals => [Some(reached_at(*threshold)), Some(passed_at(*threshold))],
            Comparison::Absent => [None, None],
        });
        let next = moments.flatten().filter(|at| *at > now).min_by(f64::total_cmp)?;
        Some((next - now) as u64)
    }
}
