//! A rate limit on history rows per subject, so that a flapping agent does not displace the history of the others.
//!
//! The generic cell rate algorithm needs one number per subject.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::model::Time;

/// Maximum burst of rows per subject.
const BURST: i64 = 50;

/// How long until one more row is admitted.
const INTERVAL: Duration = Duration::from_secs(6);

/// Maximum number of tracked subjects, about 6 MB.
const MAX_SUBJECTS: usize = 262_144;

/// The rate limits of all subjects.
#[derive(Debug, Default)]
pub(super) struct SubjectRateLimit {
    /// By subject, when its full burst is available again, in Unix milliseconds.
    full_at: FxHashMap<i64, i64>,
}

impl SubjectRateLimit {
    /// Whether a row of `subject` is admitted.
    pub(super) fn admits(&mut self, at: Time, subject: i64) -> bool {
        let at = at.as_millis();
        let interval = i64::try_from(INTERVAL.as_millis()).unwrap_or(i64::MAX);
        if self.full_at.len() >= MAX_SUBJECTS {
            self.full_at.retain(|_, full_at| *full_at > at);
            if self.full_at.len() >= MAX_SUBJECTS {
                self.full_at.clear();
            }
        }
        let full_at = self.full_at.entry(subject).or_insert(at);
        // A clock that was set back must not block a subject for long.
        *full_at = (*full_at).clamp(at, at.saturating_add(interval * BURST));
        let next = full_at.saturating_add(interval);
        let is_admitted = next.saturating_sub(at) <= interval * BURST;
        if is_admitted {
            *full_at = next;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flapping_subject_is_limited_and_others_are_not() {
        let mut limit = SubjectRateLimit::default();
        let at = |seconds: i64| Time::from_millis(1_800_000_000_000 + seconds * 1000);
        let admitted = |limit: &mut SubjectRateLimit, second, subject| {
            (0..500).filter(|_| limit.admits(at(second), subject)).count()
        };
        assert_eq!((admitted(&mut limit, 0, 1), admitted(&mut limit, 0, 2)), (50, 50));
        assert_eq!(admitted(&mut limit, 60, 1), 10, "ten a minute");
        assert_eq!(admitted(&mut limit, 86_400, 1), 50, "the full burst after a day");
        assert_eq!(admitted(&mut limit, 0, 1), 0, "the clock was set back");
        assert_eq!(admitted(&mut limit, 60, 1), 10, "and continues from there");
    }
}
