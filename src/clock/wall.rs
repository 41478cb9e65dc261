//! Conversion between the program's clock, which never steps, and the wall clock.
//!
//! Both agree until the wall clock is set or the machine is suspended. From then on a time reported by another program
//! may be by the wall clock as it is now, or as it was before it was set: the latter if a report is repeated.

use std::time::Duration;

use super::Time;

/// A smaller difference in milliseconds is not a step: NTP corrects clocks in small increments all the time.
const STEP: i64 = 2_000;
/// How far the clocks of other machines may be ahead of the wall clock here.
const AHEAD: Duration = Duration::from_secs(60);
/// How many past steps are kept. Times reported before an older one are no longer converted correctly.
const STEPS: usize = 4;

/// The offset of the wall clock from the program's clock, now and before it was last set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// Milliseconds by which the wall clock is ahead of the program's clock.
    offset: i64,
    /// When the wall clock was set, oldest first, with the offset that held until then.
    steps: Vec<(Time, i64)>,
}

impl WallClock {
    /// Records that the wall clock shows `wall` at `now`; returns whether it was set since the last call.
    pub fn observe(&mut self, now: Time, wall: Time) -> bool {
        let offset = wall.as_millis().saturating_sub(now.as_millis());
        if offset.saturating_sub(self.offset).saturating_abs() <= STEP {
            return false;
        }
        if self.steps.len() == STEPS {
            self.steps.remove(0);
        }
        self.steps.push((now, self.offset));
        self.offset = if offset.saturating_abs() <= STEP { 0 } else { offset };
        true
    }

    /// The wall-clock time of `at`, a time of the program's clock.
    pub fn to_wall(&self, at: Time) -> Time {
        shift(at, self.offset)
    }

    /// The program's time of `wall`, by the current offset; right for times in the future.
    pub fn from_wall(&self, wall: Time) -> Time {
        shift(wall, self.offset.saturating_neg())
    }

    /// The program's time of `reported`, a time in the past that another program reports at `now`.
    ///
    /// If it equals the time `known` so far under any past or present offset, the report repeats it and `known` is
    /// returned. Otherwise it is the latest time that it can mean, so that a step of the clock makes no agent look idle.
    /// The result may be after `now` if no offset explains the report.
    pub fn resolve(&self, now: Time, reported: Time, known: Option<Time>) -> Time {
        let current = self.from_wall(reported);
        if self.steps.is_empty() {
            return current;
        }
        let mut latest = Some(current).filter(|at| *at <= now.plus(AHEAD));
        // A past offset was in force from `begun` to `until`. A time before that is only considered if nothing else fits.
        let (mut earlier, mut begun) = (None, None);
        for (until, offset) in &self.steps {
            let at = shift(reported, offset.saturating_neg());
            // The wall clock may have been ahead by less than a step.
            if at <= until.plus(Duration::from_millis(STEP.unsigned_abs())) {
                // A time that was ahead of the clock when it was first reported is known as of that report.
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

    /// So many seconds after noon.
    fn noon(seconds: i64) -> Time {
        Time::from_millis((1_000_000 + seconds) * 1_000)
    }

    /// A wall clock that was set by `by` seconds at noon.
    fn set(by: i64) -> WallClock {
        let mut wall = WallClock::default();
        assert!(!wall.observe(noon(-10), noon(-9)), "a second is not a step");
        assert!(wall.observe(noon(0), noon(by)));
        assert!(!wall.observe(noon(1), noon(by + 1)));
        wall
    }

    #[test]
    fn without_a_step_both_clocks_agree() {
        let wall = WallClock::default();
        assert_eq!(wall.to_wall(noon(5)), noon(5));
        assert_eq!(wall.resolve(noon(5), noon(-300), None), noon(-300));
        assert_eq!(wall.resolve(noon(5), noon(60), None), noon(60));
    }

    #[test]
    fn a_time_by_either_wall_clock_is_resolved() {
        for (by, now, reported, ours) in [
            // By the wall clock as it is now.
            (HOUR, 10, HOUR + 8, 8),
            (-HOUR, 10, -HOUR + 8, 8),
            // By one that is a little ahead of it.
            (HOUR, 10, HOUR + 13, 13),
            (-HOUR, 10, -HOUR + 13, 13),
            (HOUR, 600, HOUR + 300, 300),
            // Two minutes before the step, by the wall clock as it is now.
            (HOUR, 10, HOUR - 120, -120),
            (-HOUR, 10, -HOUR - 120, -120),
            // By the wall clock as it was, first reported after the step.
            (HOUR, 10, -2, -2),
            (HOUR, 10, -120, -120),
            (-HOUR, 10, -2, -2),
        ] {
            assert_eq!(set(by).resolve(noon(now), noon(reported), None), noon(ours), "{by} {now} {reported}");
        }
    }

    #[test]
    fn a_repeated_time_resolves_to_the_known_time() {
        // An hour after the clock was set back the same report could mean now.
        let wall = set(-HOUR);
        let (reported, later) = (noon(-120), noon(HOUR + 60));
        assert_eq!(wall.resolve(later, reported, Some(reported)), reported);
        assert_eq!(wall.resolve(later, reported, None), noon(HOUR - 120), "unless it is new");
    }

    #[test]
    fn a_repeated_time_that_was_ahead_resolves_to_the_known_time() {
        for (by, ahead) in [(HOUR, 1), (HOUR, 30), (-HOUR, 1), (-HOUR, 30)] {
            let (known, reported) = (noon(-40), noon(-40 + ahead));
            assert_eq!(set(by).resolve(noon(10), reported, Some(known)), known, "{by} {ahead}");
        }
        // Reported just before the step, while the wall clock was ahead by a second, which is not a step.
        let (known, reported) = (noon(0), noon(1));
        assert_eq!(set(HOUR).resolve(noon(10), reported, Some(known)), known);
        assert_eq!(set(HOUR).resolve(noon(10), reported, None), reported);
    }

    #[test]
    fn after_the_clock_is_set_back_both_agree_again() {
        let mut wall = set(HOUR);
        assert_eq!(wall.to_wall(noon(5)), noon(HOUR + 5));
        assert!(wall.observe(noon(100), noon(101)));
        assert_eq!(wall.to_wall(noon(105)), noon(105));
        // Reported before, between and after the two steps.
        for (reported, ours) in [(-30, -30), (HOUR + 50, 50), (HOUR - 700, -700), (110, 110)] {
            assert_eq!(wall.resolve(noon(120), noon(reported), None), noon(ours));
        }
    }

    #[test]
    fn steps_are_bounded_and_no_time_overflows() {
        let mut wall = WallClock::default();
        for place in 0..100 {
            let hour = if place % 2 == 0 { HOUR } else { -HOUR };
            assert!(wall.observe(noon(place), noon(place + hour)));
        }
        assert_eq!(wall.steps.len(), STEPS);
        for reported in [i64::MIN, i64::MAX, 0] {
            wall.resolve(noon(100), Time::from_millis(reported), None);
        }
    }
}
