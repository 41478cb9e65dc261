//! The wall clock against our own time, which never steps: how times that others say are read, and ours are shown.
//!
//! Ours is the wall's until the wall is set, or the machine was suspended. From then on both differ, and what others
//! say may be of either clock: of the one before, if they repeat what they said, or of the one now.

use std::time::Duration;

use super::Time;

/// A smaller difference is no step: clocks are kept right by little.
const STEP: i64 = 2_000;
/// By how much the clocks of others may be ahead of the wall clock here.
const AHEAD: Duration = Duration::from_secs(60);
/// Steps that are remembered. What was said before earlier ones is not read right any more.
const STEPS: usize = 4;

/// How the wall clock stands to our time, and how it stood before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wall {
    /// Milliseconds by which it is ahead of our time.
    skew: i64,
    /// When it was set, oldest first, and how far ahead it was until then.
    steps: Vec<(Time, i64)>,
}

impl Wall {
    /// Takes note of what the wall clock says at `now`; returns whether it was set since it was last asked.
    pub fn note(&mut self, now: Time, wall: Time) -> bool {
        let skew = wall.as_millis().saturating_sub(now.as_millis());
        if skew.saturating_sub(self.skew).saturating_abs() <= STEP {
            return false;
        }
        if self.steps.len() == STEPS {
            self.steps.remove(0);
        }
        self.steps.push((now, self.skew));
        self.skew = if skew.saturating_abs() <= STEP { 0 } else { skew };
        true
    }

    /// Our time `at` as the wall clock has it.
    pub fn show(&self, at: Time) -> Time {
        shift(at, self.skew)
    }

    /// What the wall clock now calls `said`, in our time; for times to come.
    pub fn expect(&self, said: Time) -> Time {
        shift(said, self.skew.saturating_neg())
    }

    /// A time of the past that was `said` by `now`, in our time. If it is `known` under any clock, it is said again;
    /// else it was said as late as it can have been, so that a step makes nobody look idle. It may be after `now` when
    /// it can't have been said.
    pub fn read(&self, now: Time, said: Time, known: Option<Time>) -> Time {
        let current = self.expect(said);
        if self.steps.is_empty() {
            return current;
        }
        let mut latest = Some(current).filter(|at| *at <= now.plus(AHEAD));
        // Said by a clock of before, of a time before that one was set: only if there is no better way to read it.
        let (mut earlier, mut begun) = (None, None);
        for (until, skew) in &self.steps {
            let at = shift(said, skew.saturating_neg());
            // The wall may have been a little ahead of our time without having been set.
            if at <= until.plus(Duration::from_millis(STEP.unsigned_abs())) {
                // What was ahead when it was heard is known as of then.
                if let Some(known) = known.filter(|known| *known <= at && at <= known.plus(AHEAD)) {
                    return known;
                }
                let fits = if begun.is_none_or(|begun| begun <= at) { &mut latest } else { &mut earlier };
                *fits = (*fits).max(Some(at));
            }
            begun = Some(*until);
        }
        latest.or(earlier).unwrap_or(current)
    }
}

fn shift(at: Time, by: i64) -> Time {
    Time::from_millis(at.as_millis().saturating_add(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;

    /// Noon and so many seconds.
    fn noon(seconds: i64) -> Time {
        Time::from_millis((1_000_000 + seconds) * 1_000)
    }

    /// A wall clock that was set by `by` seconds at noon.
    fn set(by: i64) -> Wall {
        let mut wall = Wall::default();
        assert!(!wall.note(noon(-10), noon(-9)), "a second is no step");
        assert!(wall.note(noon(0), noon(by)));
        assert!(!wall.note(noon(1), noon(by + 1)));
        wall
    }

    #[test]
    fn while_nobody_sets_it_both_are_one() {
        let wall = Wall::default();
        assert_eq!(wall.show(noon(5)), noon(5));
        assert_eq!(wall.read(noon(5), noon(-300), None), noon(-300));
        assert_eq!(wall.read(noon(5), noon(60), None), noon(60));
    }

    #[test]
    fn what_is_said_by_either_clock_is_read_right() {
        for (by, now, said, ours) in [
            // Said by the clock as it is now.
            (HOUR, 10, HOUR + 8, 8),
            (-HOUR, 10, -HOUR + 8, 8),
            // The same by a clock that is a little ahead.
            (HOUR, 10, HOUR + 13, 13),
            (-HOUR, 10, -HOUR + 13, 13),
            (HOUR, 600, HOUR + 300, 300),
            // It was active before the step, and says so by the clock of now: two minutes before it.
            (HOUR, 10, HOUR - 120, -120),
            (-HOUR, 10, -HOUR - 120, -120),
            // Said by the clock before, and first heard after the step.
            (HOUR, 10, -2, -2),
            (HOUR, 10, -120, -120),
            (-HOUR, 10, -2, -2),
        ] {
            assert_eq!(set(by).read(noon(now), noon(said), None), noon(ours), "{by} {now} {said}");
        }
    }

    #[test]
    fn what_is_said_again_stays_what_it_was() {
        // An hour after the clock was set back the same words could mean now.
        let wall = set(-HOUR);
        let (said, later) = (noon(-120), noon(HOUR + 60));
        assert_eq!(wall.read(later, said, Some(said)), said);
        assert_eq!(wall.read(later, said, None), noon(HOUR - 120), "unless they are new");
    }

    #[test]
    fn what_was_ahead_when_it_was_heard_stays_what_it_was() {
        for (by, ahead) in [(HOUR, 1), (HOUR, 30), (-HOUR, 1), (-HOUR, 30)] {
            let (heard, said) = (noon(-40), noon(-40 + ahead));
            assert_eq!(set(by).read(noon(10), said, Some(heard)), heard, "{by} {ahead}");
        }
        // The wall was a second ahead, which is no step, when this was said just before it was set.
        let (heard, said) = (noon(0), noon(1));
        assert_eq!(set(HOUR).read(noon(10), said, Some(heard)), heard);
        assert_eq!(set(HOUR).read(noon(10), said, None), said);
    }

    #[test]
    fn a_clock_that_is_set_back_to_right_is_ours_again() {
        let mut wall = set(HOUR);
        assert_eq!(wall.show(noon(5)), noon(HOUR + 5));
        assert!(wall.note(noon(100), noon(101)));
        assert_eq!(wall.show(noon(105)), noon(105));
        // Said before, between and after.
        for (said, ours) in [(-30, -30), (HOUR + 50, 50), (HOUR - 700, -700), (110, 110)] {
            assert_eq!(wall.read(noon(120), noon(said), None), noon(ours));
        }
    }

    #[test]
    fn no_number_of_steps_and_no_time_is_too_much() {
        let mut wall = Wall::default();
        for place in 0..100 {
            let hour = if place % 2 == 0 { HOUR } else { -HOUR };
            assert!(wall.note(noon(place), noon(place + hour)));
        }
        assert_eq!(wall.steps.len(), STEPS);
        for said in [i64::MIN, i64::MAX, 0] {
            wall.read(noon(100), Time::from_millis(said), None);
        }
    }
}
