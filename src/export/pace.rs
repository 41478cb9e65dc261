//! When a lane tries again, and for how long.

use std::time::Duration;

use crate::model::Time;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// The longest, while a target can't be reached.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest, while it refuses us.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// The longest pause that a target may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// How long refusals of the sender are tried again.
const REFUSED_FOR: Duration = Duration::from_secs(3600);

/// The back-off of one lane.
#[derive(Debug, Default)]
pub(super) struct LanePace {
    failures: u32,
    /// Since when the target has refused us.
    refused_since: Option<Time>,
}

impl LanePace {
    /// After a verdict on a batch, good or bad.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// The pause after a failure that may pass: as long as the target asks, else twice the last one, with jitter from
    /// `random`, which is between 0 and 1.
    pub(super) fn failed(&mut self, after: Option<Duration>, random: f64) -> Duration {
        self.refused_since = None;
        self.pause(after, LONGEST, random)
    }

    /// The same after a refusal of the sender. `None`: it has been refused for so long that a batch that came at `at` is
    /// dropped.
    pub(super) fn refused(&mut self, now: Time, at: Time, after: Option<Duration>, random: f64) -> Option<Duration> {
        let since = *self.refused_since.get_or_insert(now);
        if now.since(since) >= REFUSED_FOR && now.since(at) >= REFUSED_FOR {
            return None;
        }
        Some(self.pause(after, LONGEST_REFUSED, random))
    }

    fn pause(&mut self, after: Option<Duration>, longest: Duration, random: f64) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let own = doubled.mul_f64(0.5 + 0.5 * random);
        after.map_or(own, |asked| asked.min(LONGEST_ASKED).max(own.min(FIRST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_obey_the_target() {
        let mut pace = LanePace::default();
        let pauses: Vec<u64> = (0..8).map(|_| pace.failed(None, 1.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pace.failed(None, 0.0), Duration::from_secs(15), "jitter takes up to half of it");
        assert_eq!(pace.failed(Some(Duration::from_secs(90)), 0.3), Duration::from_secs(90));
        assert_eq!(pace.failed(Some(Duration::ZERO), 1.0), Duration::from_secs(1), "never at once");
        assert_eq!(pace.failed(Some(Duration::MAX), 1.0), LONGEST_ASKED);
        pace.reset();
        assert_eq!(pace.failed(None, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn refusals_of_the_sender_are_tried_for_an_hour() {
        let start = Time::parse("2026-11-30T12:00:00Z").expect("a time");
        let (mut pace, mut now, mut tries) = (LanePace::default(), start, 0);
        while let Some(pause) = pace.refused(now, start, None, 1.0) {
            assert!(pause <= LONGEST_REFUSED);
            now = now.plus(pause);
            tries += 1;
        }
        assert!(now.since(start) >= REFUSED_FOR && now.since(start) < Duration::from_secs(3_900), "{tries}");
        assert!(pace.refused(now, now, None, 1.0).is_some(), "what came since then waits an hour too");
        pace.failed(None, 1.0);
        assert!(pace.refused(now, start, None, 1.0).is_some(), "the hour begins again once it is not refused");
    }
}
