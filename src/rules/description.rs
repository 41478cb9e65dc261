//! What a rule in force says, for those who say it in another language.
//!
//! Numbers instead of words and multiples of settings, windows instead of places in a table. Refuses to judge.

use std::time::Duration;

use super::RuleSet;
use super::compile::Expr;
use super::file::Where;
use super::indicators::Indicator;
use super::row::ForEach;
use super::thresholds::Comparison;
use crate::model::Level;

/// What a rule compares with its thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The value as it is.
    Now(Indicator),
    /// By how much a counter rose within the time; of `status`, how often it changed.
    Increase(Indicator, Duration),
    /// By how much a counter rose within the time, per second.
    Rate(Indicator, Duration),
    /// The average within the time.
    Average(Indicator, Duration),
    /// The increase of the first by the increase of the second within the time, given so many of the second.
    Ratio(Indicator, Indicator, Duration, f64),
}

/// A rule in force.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is judged for.
    pub for_each: ForEach,
    /// What it compares.
    pub value: Measure,
    /// How.
    pub when: Comparison,
    /// The threshold of each level, the mildest first; seconds for times, codes for words.
    pub levels: Vec<(Level, f64)>,
    /// The threshold of its hysteresis.
    pub clear: Option<f64>,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How long it must be fine before it resolves.
    pub clear_after: Duration,
    /// Which subjects it is judged for.
    pub filter: Option<&'a Where>,
    /// What is the matter, as a template.
    pub summary: String,
    /// What to do about it, as a template.
    pub action: String,
}

impl RuleSet {
    /// The rules in force, in their order.
    pub fn descriptions(&self) -> impl Iterator<Item = Description<'_>> {
        self.rules.iter().map(|rule| {
            let track = |place: usize| {
                self.tracks.get(place).map_or((rule.indicator, Duration::ZERO), |track| (track.indicator, track.over))
            };
            let value = match rule.expr {
                Expr::Now => Measure::Now(rule.indicator),
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
                clear: rule.thresholds.clear,
                hold: rule.policy.hold,
                clear_after: rule.policy.clear_after,
                filter: rule.filter.as_ref(),
                summary: self.texts.source(&rule.policy.name, "summary"),
                action: self.texts.source(&rule.policy.name, "action"),
            }
        })
    }
}
