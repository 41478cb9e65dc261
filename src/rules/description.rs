//! Compiled rules in a form that can be exported to other languages: thresholds as numbers, windows spelled out.

use std::time::Duration;

use super::RuleSet;
use super::compile::Expr;
use super::file::Where;
use super::metric::RuleInput;
use super::row::ForEach;
use super::thresholds::Comparison;
use crate::model::{Level, Unit};

/// The value that a rule compares with its thresholds.
#[derive(Clone, Debug, PartialEq)]
pub enum Measure {
    /// The current value.
    Now(RuleInput),
    /// The increase of a counter over the window; of `status`, the number of its changes.
    Increase(RuleInput, Duration),
    /// The increase of a counter over the window, per second.
    Rate(RuleInput, Duration),
    /// The average over the window.
    Average(RuleInput, Duration),
    /// The ratio of the increases of two counters over the window, if the second increased by at least this much.
    Ratio(RuleInput, RuleInput, Duration, f64),
}

/// A loaded rule.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    /// Its name.
    pub name: &'a str,
    /// The kind of subject that it is evaluated for.
    pub for_each: ForEach,
    /// The value that it compares.
    pub value: Measure,
    /// How it compares.
    pub when: Comparison,
    /// The threshold of each level, the lowest level first; durations in seconds, status names as codes.
    pub levels: Vec<(Level, f64)>,
    /// What the thresholds are multiples of, if they are.
    pub usual: Option<&'static str>,
    /// The threshold of `clear_below` or `clear_above`.
    pub clear: Option<f64>,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How long it must be clear before it resolves.
    pub clear_after: Duration,
    /// Which subjects it is evaluated for.
    pub filter: Option<&'a Where>,
    /// The template of the summary.
    pub summary: String,
    /// The template of the action.
    pub action: String,
    /// The unit of the value.
    pub unit: Unit,
    /// The words that a value of [`Unit::Word`] stands for.
    pub words: Vec<&'static str>,
}

impl RuleSet {
    /// The loaded rules, in order.
    pub fn descriptions(&self) -> impl Iterator<Item = Description<'_>> {
        self.rules.iter().map(|rule| {
            let track = |place: usize| {
                let track = self.tracks.get(place);
                track.map_or_else(|| (rule.input(), Duration::ZERO), |track| (track.input.clone(), track.over))
            };
            let value = match rule.expr {
                Expr::Now => Measure::Now(rule.input()),
                Expr::Increase(place) => Measure::Increase(track(place).0, track(place).1),
                Expr::Rate(place, _) => Measure::Rate(track(place).0, track(place).1),
                Expr::Average(place) => Measure::Average(track(place).0, track(place).1),
                Expr::Ratio { part, whole, min_samples } => {
                    Measure::Ratio(track(part).0, track(whole).0, track(part).1, min_samples)
                }
            };
            let levels = Level::ALL.into_iter().zip(rule.thresholds.levels);
            Description {
                name: &rule.policy.name,
                for_each: rule.for_each,
                value,
                when: rule.thresholds.when,
                levels: levels.filter_map(|(level, threshold)| Some((level, threshold?))).collect(),
                usual: rule.indicator.row().usual.filter(|_| rule.thresholds.are_multiples).map(|(word, _)| word),
                clear: rule.thresholds.clear,
                hold: rule.policy.hold,
                clear_after: rule.policy.clear_after,
                filter: rule.filter.as_ref(),
                summary: self.texts.source(&rule.policy.name, "summary"),
                action: self.texts.source(&rule.policy.name, "action"),
                unit: self.texts.unit(&rule.policy.name),
                words: rule.indicator.words(),
            }
        })
    }
}
