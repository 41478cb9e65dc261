//! When a source is polled next: at its interval with jitter, and with back-off while polls fail.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// The longest delay of the first poll.
const MAX_FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest back-off, unless the interval is longer.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The longest back-off, in intervals.
const MAX_BACKOFF_INTERVALS: u32 = 10;

/// The schedule of one source.
#[derive(Debug)]
pub(super) struct PollSchedule {
    interval: Duration,
    failures: u32,
    random: RandomState,
    draws: u64,
}

impl PollSchedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, failures: 0, random: RandomState::new(), draws: 0 }
    }

    /// A random delay before the first poll, so that sources are not polled in step.
    pub(super) fn first_delay(&mut self) -> Duration {
        self.interval.min(MAX_FIRST_DELAY).mul_f64(self.chance())
    }

    /// How long to wait after a poll that took `taken`.
    pub(super) fn delay_after(&mut self, succeeded: bool, taken: Duration) -> Duration {
        self.failures = if succeeded { 0 } else { self.failures.saturating_add(1) };
        delay(self.interval, self.failures, taken, self.chance())
    }

    /// A uniform random number from 0 to 1; a randomly keyed hash is random enough for jitter.
    fn chance(&mut self) -> f64 {
        self.draws = self.draws.wrapping_add(1);
        (self.random.hash_one(self.draws) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The delay from the end of a poll that took `taken` to the start of the next: the interval, doubled with each failure
/// after the first, with a jitter of 10 %, less `taken`; but at least a tenth of the interval.
fn delay(interval: Duration, failures: u32, taken: Duration, chance: f64) -> Duration {
    let doubled = interval.saturating_mul(1 << failures.saturating_sub(1).min(4));
    let longest = interval.saturating_mul(MAX_BACKOFF_INTERVALS).min(MAX_BACKOFF).max(interval);
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
    fn failures_back_off_within_limits() {
        for (failures, expected) in [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 50), (u32::MAX, 50)] {
            check(5, failures, 0, expected);
        }
        check(30, 9, 0, 60);
        check(600, 9, 0, 600);
    }

    #[test]
    fn the_duration_of_a_poll_is_part_of_the_interval() {
        check(10, 0, 3, 7);
        check(10, 0, 60, 1);
    }

    #[test]
    fn jitter_is_a_tenth_and_success_ends_the_back_off() {
        let mut schedule = PollSchedule::new(Duration::from_secs(10));
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..200 {
            assert!(schedule.first_delay() < MAX_FIRST_DELAY);
            let wait = schedule.delay_after(true, Duration::ZERO);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&wait), "{wait:?}");
            waits.insert(wait.as_millis());
        }
        assert!(waits.len() > 50, "it varies");
        for _ in 0..9 {
            schedule.delay_after(false, Duration::ZERO);
        }
        assert!(schedule.delay_after(false, Duration::ZERO) > Duration::from_secs(50));
        assert!(schedule.delay_after(true, Duration::ZERO) <= Duration::from_secs(11));
    }
}
