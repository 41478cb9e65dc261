//! When the next poll is due: evenly, but never in step with other sources, and slower while polls fail.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The first poll comes within it.
const FIRST: Duration = Duration::from_secs(1);
/// A failing source is asked at least this often, unless its interval is longer.
const SLOWEST: Duration = Duration::from_secs(60);
/// The back-off stops at so many intervals.
const MOST_INTERVALS: u32 = 10;

/// The rhythm of one source.
#[derive(Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    failures: u32,
    dice: RandomState,
    thrown: u64,
}

impl Rhythm {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, failures: 0, dice: RandomState::new(), thrown: 0 }
    }

    /// How long the first poll waits, so that sources that start together do not beat together.
    pub(super) fn phase(&mut self) -> Duration {
        self.interval.min(FIRST).mul_f64(self.chance())
    }

    /// How long to wait after a poll that `succeeded` or not, and that took `taken`.
    pub(super) fn after(&mut self, succeeded: bool, taken: Duration) -> Duration {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        delay(self.interval, self.failures, taken, self.chance())
    }

    /// An even chance from 0 to 1: std's randomly keyed hash is random enough for a jitter.
    fn chance(&mut self) -> f64 {
        self.thrown = self.thrown.wrapping_add(1);
        (self.dice.hash_one(self.thrown) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// From the end of a poll that began `taken` ago to the start of the next: an interval, doubled with each failure after
/// the first, give or take a tenth. Polls slower than their interval leave the source a tenth of it to breathe.
fn delay(interval: Duration, failures: u32, taken: Duration, chance: f64) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(1).min(4));
    let longest = interval.saturating_mul(MOST_INTERVALS).min(SLOWEST).max(interval);
    let due = doubled.min(longest).mul_f64(0.9 + 0.2 * chance);
    due.saturating_sub(taken).max(interval / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval: u64, failures: u32, taken: u64, expected: u64) {
        let seconds = Duration::from_secs;
        assert_eq!(delay(seconds(interval), failures, seconds(taken), 0.5), seconds(expected), "{failures} failures");
    }

    #[test]
    fn failures_slow_it_down_within_bounds() {
        for (failures, expected) in [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 50), (u32::MAX, 50)] {
            check(5, failures, 0, expected);
        }
        check(30, 9, 0, 60);
        check(600, 9, 0, 600);
    }

    #[test]
    fn a_poll_takes_its_time_out_of_the_wait() {
        check(10, 0, 3, 7);
        check(10, 0, 60, 1);
    }

    #[test]
    fn jitter_is_a_tenth_and_success_ends_the_back_off() {
        let mut rhythm = Rhythm::new(Duration::from_secs(10));
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..200 {
            assert!(rhythm.phase() < FIRST);
            let wait = rhythm.after(true, Duration::ZERO);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&wait), "{wait:?}");
            waits.insert(wait.as_millis());
        }
        assert!(waits.len() > 50, "it varies");
        for _ in 0..9 {
            rhythm.after(false, Duration::ZERO);
        }
        assert!(rhythm.after(false, Duration::ZERO) > Duration::from_secs(50));
        assert!(rhythm.after(true, Duration::ZERO) <= Duration::from_secs(11));
    }
}
