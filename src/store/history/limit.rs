//! How many rows of history one subject may have: what flaps ten times a second must not push everybody else's past out.
//!
//! The generic cell rate algorithm: one number for each subject.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::model::Time;

/// Rows that a subject may have at once.
const BURST: i64 = 50;

/// How long it takes until it may have one more.
const EVERY: Duration = Duration::from_secs(6);

/// Subjects that are known at most, about 6 MB.
const SUBJECTS: usize = 262_144;

/// The bound of every subject.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// In milliseconds, when a subject will have all of its rows again.
    whole_at: FxHashMap<i64, i64>,
}

impl RateLimit {
    /// Whether a row of `subject` is kept.
    pub(super) fn admits(&mut self, at: Time, subject: i64) -> bool {
        let at = at.as_millis();
        let every = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
        if self.whole_at.len() >= SUBJECTS {
            self.whole_at.retain(|_, whole_at| *whole_at > at);
            if self.whole_at.len() >= SUBJECTS {
                self.whole_at.clear();
            }
        }
        let whole_at = self.whole_at.entry(subject).or_insert(at);
        // A clock that was set back must not keep a subject out for long.
        *whole_at = (*whole_at).clamp(at, at.saturating_add(every * BURST));
        let next = whole_at.saturating_add(every);
        let is_admitted = next.saturating_sub(at) <= every * BURST;
        if is_admitted {
            *whole_at = next;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_that_flaps_is_cut_and_its_neighbour_is_not() {
        let mut limit = RateLimit::default();
        let at = |seconds: i64| Time::from_millis(1_800_000_000_000 + seconds * 1000);
        let admitted =
            |limit: &mut RateLimit, second, subject| (0..500).filter(|_| limit.admits(at(second), subject)).count();
        assert_eq!((admitted(&mut limit, 0, 1), admitted(&mut limit, 0, 2)), (50, 50));
        assert_eq!(admitted(&mut limit, 60, 1), 10, "ten a minute");
        assert_eq!(admitted(&mut limit, 86_400, 1), 50, "a day later it has them all again");
        assert_eq!(admitted(&mut limit, 0, 1), 0, "a clock that was set back");
        assert_eq!(admitted(&mut limit, 60, 1), 10, "and goes on");
    }
}
