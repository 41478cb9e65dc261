//! The unit of a rule's value, and how such a value reads in a message.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration;
use crate::text::number::{dollars, short, shortest};

/// What a rule's value is a number of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    #[default]
    Count,
    /// Seconds.
    Seconds,
    /// A ratio, 1 is all.
    Ratio,
    /// US dollars.
    Dollars,
    /// The place of a word in a list; the number itself means nothing to people.
    Word,
}

impl Unit {
    /// `value` as a message shows it: `204k`, `6m40s`, `85.3 %`; `None` for a word's place and for what is not finite.
    pub fn show(self, value: f64) -> Option<String> {
        let value = Some(value).filter(|value| value.is_finite())?;
        match self {
            Self::Count => Some(short(value)),
            Self::Seconds => Some(seconds(value)),
            Self::Ratio => Some(percent(value)),
            Self::Dollars => Some(dollars(value)),
            Self::Word => None,
        }
    }

    /// `value` against `limit`: `6m40s (limit 5m)`.
    pub fn measure(self, value: f64, limit: Option<f64>) -> Option<String> {
        let shown = self.show(value)?;
        let limit = limit.and_then(|limit| self.show(limit));
        Some(limit.map_or_else(|| shown.clone(), |limit| format!("{shown} (limit {limit})")))
    }
}

/// Seconds as `1h30m`; less than nothing is nothing.
pub fn seconds(value: f64) -> String {
    duration::display(Duration::try_from_secs_f64(value.max(0.0).floor()).unwrap_or_default())
}

/// A ratio as `90 %`.
pub fn percent(ratio: f64) -> String {
    format!("{} %", rounded(ratio * 100.0))
}

/// A number with one decimal at most.
pub fn rounded(number: f64) -> String {
    shortest(number, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_with_its_unit_against_its_limit() {
        let shown = |unit: Unit, value, limit| unit.measure(value, limit).unwrap_or_default();
        assert_eq!(shown(Unit::Seconds, 400.9, Some(300.0)), "6m40s (limit 5m)");
        assert_eq!(shown(Unit::Ratio, 1.0213, Some(1.0)), "102.1 % (limit 100 %)");
        assert_eq!(shown(Unit::Ratio, 0.96995, None), "97 %");
        assert_eq!(shown(Unit::Count, 312_000.0, None), "312k");
        assert_eq!(shown(Unit::Word, 3.0, Some(3.0)), "");
        assert_eq!(shown(Unit::Count, f64::NAN, None), "");
    }
}
