//! Counters that survive a restart of what they count.
//!
//! A source reports a cumulative value; when it goes down, the source began to count anew, so the
//! whole new value is an increase. The total kept here never goes down.

use serde::{Deserialize, Serialize};

/// A cumulative count: the total since the agent is known, and the source's last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    total: u64,
    last: Option<std::num::NonZeroU64>,
    known: bool,
}

impl Count {
    /// The total, once anything was reported.
    pub const fn get(&self) -> Option<u64> {
        if self.known { Some(self.total) } else { None }
    }

    /// The total, zero when nothing was reported.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Takes in the source's cumulative value and returns by how much the total grew.
    /// The first value is an increase in full; the caller knows whether it is a baseline.
    pub fn report(&mut self, value: u64) -> u64 {
        let last = self.last.map_or(0, std::num::NonZeroU64::get);
        let step = if value >= last { value - last } else { value };
        self.last = std::num::NonZeroU64::new(value);
        self.known = true;
        self.total = self.total.saturating_add(step);
        step
    }

    /// Adds an increment that was counted here or reported as such.
    pub fn add(&mut self, step: u64) {
        self.known = true;
        self.total = self.total.saturating_add(step);
    }
}

/// The same for money: a sum of floating-point steps, never negative, never NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    total: f64,
    last: f64,
    known: bool,
}

impl Sum {
    /// The total, once anything was reported.
    pub fn get(&self) -> Option<f64> {
        self.known.then_some(self.total)
    }

    /// The total, zero when nothing was reported.
    pub const fn total(&self) -> f64 {
        self.total
    }

    /// Takes in the source's cumulative value and returns by how much the total grew; what is not a finite amount ≥ 0 changes nothing.
    pub fn report(&mut self, value: f64) -> f64 {
        if !value.is_finite() || value < 0.0 {
            return 0.0;
        }
        let step = if value >= self.last { value - self.last } else { value };
        self.last = value;
        self.add(step);
        step
    }

    /// Adds an increment; what is not a finite amount ≥ 0 changes nothing.
    pub fn add(&mut self, step: f64) {
        if step.is_finite() && step >= 0.0 {
            self.known = true;
            self.total += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_went_down_began_anew() {
        let mut count = Count::default();
        assert_eq!(count.get(), None);
        for (value, step, total) in [(0, 0, 0), (10, 10, 10), (10, 0, 10), (25, 15, 25), (4, 4, 29), (5, 1, 30)] {
            assert_eq!(count.report(value), step);
            assert_eq!(count.get(), Some(total));
        }
    }

    #[test]
    fn a_sum_takes_no_rubbish() {
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
