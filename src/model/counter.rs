//! Counters that survive a counter reset of their source.
//!
//! A source reports a cumulative value. If it decreases, the source was reset and the whole new value is an increase, as
//! Prometheus' `increase` has it. The total kept here never decreases.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

/// A cumulative count: the total since the agent was first seen, and the value last reported.
///
/// Saved as `[total, last]`, or null if nothing was reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// [`Count::UNKNOWN`] if nothing was reported: an agent has many counts, and a flag would make each half as large again.
    total: u64,
    /// The value last reported, zero if it was accumulated.
    last: u64,
}

impl Default for Count {
    fn default() -> Self {
        Self { total: Self::UNKNOWN, last: 0 }
    }
}

impl std::fmt::Debug for Count {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Count").field("total", &self.get()).field("last", &self.last).finish()
    }
}

impl Count {
    /// In place of a total. Totals stay below it.
    const UNKNOWN: u64 = u64::MAX;

    /// The total; `None` if nothing was reported.
    #[inline]
    pub const fn get(&self) -> Option<u64> {
        if self.is_unknown() { None } else { Some(self.total) }
    }

    /// Whether nothing was reported yet.
    #[inline]
    pub const fn is_unknown(&self) -> bool {
        self.total == Self::UNKNOWN
    }

    /// Whether it was accumulated here from increments, rather than reported as a cumulative value.
    pub const fn is_accumulated(&self) -> bool {
        !self.is_unknown() && self.last == 0
    }

    /// The total, zero if nothing was reported.
    #[inline]
    pub const fn total(&self) -> u64 {
        if self.is_unknown() { 0 } else { self.total }
    }

    /// Applies a cumulative value of the source and returns by how much the total grew. The first value counts in full:
    /// whether it is only a baseline is for the caller to decide.
    pub fn report(&mut self, value: u64) -> u64 {
        let step = if value >= self.last { value - self.last } else { value };
        self.last = value;
        self.add(step);
        step
    }

    /// Adds an increment.
    pub fn add(&mut self, step: u64) {
        self.total = self.total().saturating_add(step).min(Self::UNKNOWN - 1);
    }
}

/// A cumulative sum of floating-point numbers, for cost: finite and never negative.
///
/// Saved as `[total, last]`, or null if nothing was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    total: f64,
    last: f64,
    known: bool,
}

impl Sum {
    /// The total; `None` if nothing was reported.
    pub fn get(&self) -> Option<f64> {
        self.known.then_some(self.total)
    }

    /// Whether nothing was reported yet.
    pub const fn is_unknown(&self) -> bool {
        !self.known
    }

    /// Whether it was accumulated here from increments, rather than reported as a cumulative value.
    pub fn is_accumulated(&self) -> bool {
        self.known && self.last == 0.0
    }

    /// The total, zero if nothing was reported.
    pub const fn total(&self) -> f64 {
        self.total
    }

    /// Applies a cumulative value of the source and returns by how much the total grew; ignores a value that is negative or
    /// not finite.
    pub fn report(&mut self, value: f64) -> f64 {
        if !value.is_finite() || value < 0.0 {
            return 0.0;
        }
        let step = if value >= self.last { value - self.last } else { value };
        self.last = value;
        self.add(step);
        step
    }

    /// Adds an increment; ignores one that is negative or not finite.
    pub fn add(&mut self, step: f64) {
        if step.is_finite() && step >= 0.0 {
            self.known = true;
            // JSON has no infinity: a saved sum must stay readable.
            self.total = (self.total + step).min(f64::MAX);
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.get().map(|total| (total, self.last)).serialize(out)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let saved = Option::<(u64, u64)>::deserialize(input)?;
        Ok(saved.map_or_else(Self::default, |(total, last)| Self { total: total.min(Self::UNKNOWN - 1), last }))
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.known.then_some((self.total, self.last)).serialize(out)
    }
}

impl<'de> Deserialize<'de> for Sum {
    /// Parses the numbers with `str::parse`: serde_json may be off by the last bit, and to Prometheus a total that is
    /// slightly lower after a restart is a counter reset.
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Some((total, last)) = Option::<(Box<RawValue>, Box<RawValue>)>::deserialize(input)? else {
            return Ok(Self::default());
        };
        let number = |raw: &RawValue| match raw.get().parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => Err(D::Error::custom("a sum must be finite and not negative")),
        };
        Ok(Self { total: number(&total)?, last: number(&last)?, known: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decrease_is_a_counter_reset() {
        let mut count = Count::default();
        assert_eq!(count.get(), None);
        for (value, step, total) in [(0, 0, 0), (10, 10, 10), (10, 0, 10), (25, 15, 25), (4, 4, 29), (5, 1, 30)] {
            assert_eq!(count.report(value), step);
            assert_eq!(count.get(), Some(total));
        }
    }

    #[test]
    fn a_sum_ignores_negative_and_non_finite_values() {
        let mut sum = Sum::default();
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            sum.report(value);
            sum.add(value);
        }
        assert_eq!(sum.get(), None);
        sum.report(1.5);
        sum.report(0.5);
        assert_eq!(sum.get(), Some(2.0));
    }
}
