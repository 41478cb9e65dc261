//! Turns a reading into a finding: the level that it reaches, since when, and whether it is reported at all.

use std::time::Duration;

use super::compile::{Expr, MAX_RULES, Rule};
use super::row::{Drift, Reading};
use super::thresholds::Comparison;
use crate::model::{Finding, Level, RuleId, Subject, Time};

/// The rules with an active finding for one subject, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks([u64; MAX_RULES / 64]);

impl Marks {
    pub(super) fn set(&mut self, rule: RuleId, open: bool) {
        if let Some(word) = self.0.get_mut(usize::from(rule.0) / 64) {
            let bit = 1 << (rule.0 % 64);
            *word = if open { *word | bit } else { *word & !bit };
        }
    }

    pub(super) fn has(&self, rule: RuleId) -> bool {
        self.0.get(usize::from(rule.0) / 64).is_some_and(|word| word & 1 << (rule.0 % 64) != 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RuleId> + '_ {
        (0..MAX_RULES as u16).map(RuleId).filter(|rule| self.has(*rule))
    }
}

/// The result of evaluating a rule for a reading.
pub(super) struct RuleOutcome {
    pub(super) level: Option<(Level, f64)>,
    pub(super) cleared: bool,
    value: Option<f64>,
    /// The limit of the subject, where that is above a threshold.
    pub(super) least: f64,
}

pub(super) fn outcome_of(rule: &Rule, reading: Reading) -> RuleOutcome {
    match reading {
        Reading::Value(value) if rule.thresholds.when != Comparison::Absent => {
            let level = rule.thresholds.level_of(value);
            RuleOutcome {
                level,
                cleared: level.is_none() && rule.thresholds.is_clear(value),
                value: Some(value),
                least: 0.0,
            }
        }
        Reading::Unknown if rule.thresholds.when != Comparison::Absent => {
            RuleOutcome { level: None, cleared: false, value: None, least: 0.0 }
        }
        Reading::Unknown => RuleOutcome { level: rule.thresholds.lowest(), cleared: false, value: None, least: 0.0 },
        Reading::Value(_) | Reading::NotApplicable => {
            RuleOutcome { level: None, cleared: true, value: Some(0.0), least: 0.0 }
        }
    }
}

impl RuleOutcome {
    /// The finding, if a level is reached or was reached before; updates the mark of the rule.
    pub(super) fn finding(
        self,
        rule: RuleId,
        since: Time,
        marks: &mut Marks,
        subject: impl FnOnce() -> Subject,
    ) -> Option<Finding> {
        let open = marks.has(rule);
        if self.level.is_none() && !open {
            return None;
        }
        marks.set(rule, self.level.is_some() || !self.cleared);
        Some(Finding {
            rule,
            subject: subject(),
            source: None,
            agent_type: None,
            level: self.level.map(|(level, _)| level),
            cleared: self.cleared,
            value: self.value,
            grows: false,
            threshold: self.level.map(|(_, threshold)| threshold.max(self.least)),
            since,
            ending: None,
        })
    }
}

pub(super) fn rule_id(place: usize) -> RuleId {
    RuleId(u16::try_from(place).unwrap_or(u16::MAX))
}

/// Since when a level is reached: of a growing value, since it crossed the lowest threshold.
pub(super) fn since(rule: &Rule, outcome: &RuleOutcome, now: Time) -> Time {
    let is_growing = || matches!(rule.expr, Expr::Now) && rule.indicator.row().drift == Drift::Grows;
    match (outcome.level, outcome.value) {
        (Some(_), Some(value)) if rule.thresholds.when == Comparison::AtLeast && is_growing() => {
            let lowest = rule.thresholds.lowest().map(|(_, lowest)| lowest.max(outcome.least));
            let beyond = lowest.map_or(0.0, |lowest| (value - lowest).max(0.0));
            now.minus(Duration::try_from_secs_f64(beyond).unwrap_or_default())
        }
        _ => now,
    }
}
