//! Which points of a stream count, and from what: the one judge for the series of the page and for what agents used.
//!
//! Never counts more than was measured, whatever is repeated, reordered or restarted, and whether one process exports or
//! several that are alike in every attribute. What can't be told apart counts as the least that it can be.

use crate::model::RejectReason;

/// Runs of one stream that are told apart: processes at once, and those of before.
const MAX_RUNS: usize = 16;
/// Intervals of one stream that do not touch.
const MAX_INTERVALS: usize = 32;

/// A cumulative value.
pub trait Total {
    /// Whether it may be what `earlier` has grown to.
    fn covers(&self, earlier: &Self) -> bool;
    /// How much it counts, to find the nearest of several.
    fn size(&self) -> f64;
}

impl Total for f64 {
    fn covers(&self, earlier: &Self) -> bool {
        self >= earlier
    }

    fn size(&self) -> f64 {
        *self
    }
}

/// The counting of one process from its start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run<V> {
    /// When it began to count, in nanoseconds, as its last point says.
    pub start: u64,
    /// When its last point was measured.
    pub time: u64,
    /// Its last value.
    pub value: V,
}

impl<V> Run<V> {
    /// When it began to count; 0 is unknown.
    fn began(&self) -> u64 {
        known_start(self.start, self.time)
    }
}

/// When the counting of a point began, if it says so; else 0. A start that is not before its time is unknown: OpenTelemetry
/// writes the time of the point for it, and a clock that is wrong some time to come.
pub fn known_start(start: u64, time: u64) -> u64 {
    if start < time { start } else { 0 }
}

/// A cumulative stream.
///
/// A value that is less than the last one of its process is another process, and so is one that began after all that is
/// known had ended. One that began meanwhile and has more is taken for the same process under another start, until it is
/// shown to be a second one by a value that fell.
#[derive(Clone, Debug, PartialEq)]
pub struct Runs<V> {
    runs: Vec<Run<V>>,
    /// Runs that began before this may have been forgotten.
    since: u64,
}

/// How a point goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A run, from its last value.
    GoesOn(usize),
    /// A run of its own, from zero.
    Begins,
    /// A run of its own, in place of one that is over.
    Replaces(usize),
}

impl<V> Default for Runs<V> {
    fn default() -> Self {
        Self { runs: Vec::new(), since: 0 }
    }
}

impl<V: Total> Runs<V> {
    /// The runs that are known, and from when on all of them are.
    pub fn parts(&self) -> (&[Run<V>], u64) {
        (&self.runs, self.since)
    }

    /// Takes over what [`Runs::parts`] were.
    pub fn restored(mut runs: Vec<Run<V>>, since: u64) -> Self {
        runs.truncate(MAX_RUNS);
        Self { runs, since }
    }

    /// Where a point belongs, or why it does not count.
    pub fn judge(&self, start: u64, time: u64, value: &V) -> Result<Place, RejectReason> {
        // Of a process that is known, what counts is its own order; else that of all that counted at the time. Where a
        // start is unknown, any of them may be its process, and starts tell no other processes apart either.
        let began = known_start(start, time);
        let is_told_apart = began != 0 && self.runs.iter().all(|run| run.began() != 0);
        let is_known = self.runs.iter().any(|run| run.start == start);
        let of_its_time = |run: &Run<V>| match is_told_apart {
            true if is_known => run.start == start,
            true => began < run.time && run.began() < time,
            false => true,
        };
        let mut nearest: Option<usize> = None;
        for (place, run) in self.runs.iter().enumerate().filter(|(_, run)| of_its_time(run)) {
            if run.time == time {
                return Err(RejectReason::Duplicate);
            }
            if run.time > time {
                return Err(RejectReason::Stale);
            }
            let is_nearer = nearest
                .and_then(|known| self.runs.get(known))
                .is_none_or(|known| run.value.size() > known.value.size());
            if is_nearer && value.covers(&run.value) {
                nearest = Some(place);
            }
        }
        if let Some(place) = nearest {
            return Ok(Place::GoesOn(place));
        }
        if began < self.since {
            return Err(RejectReason::Stale);
        }
        if self.runs.len() < MAX_RUNS {
            return Ok(Place::Begins);
        }
        let oldest = self.runs.iter().enumerate().min_by_key(|(_, run)| run.time);
        oldest.filter(|(_, run)| run.time <= began).map(|(place, _)| Place::Replaces(place)).ok_or(RejectReason::Stale)
    }

    /// The last value of the run that a point goes on from.
    pub fn value(&self, place: Place) -> Option<&V> {
        match place {
            Place::GoesOn(place) => self.runs.get(place).map(|run| &run.value),
            Place::Begins | Place::Replaces(_) => None,
        }
    }

    /// Notes a point at the place that was found for it.
    pub fn note(&mut self, place: Place, start: u64, time: u64, value: V) {
        let new = Run { start, time, value };
        match place {
            Place::Begins => {
                // Nearly all streams are of one process.
                self.runs.reserve_exact(1);
                self.runs.push(new);
            }
            Place::GoesOn(place) => {
                if let Some(run) = self.runs.get_mut(place) {
                    // The first point of many a process has its own time as its start, which the next ones repeat. What
                    // goes on under another start stays unknown.
                    let is_unknown = run.start != start && (run.began() == 0 || new.began() == 0);
                    *run = Run { start: if is_unknown { 0 } else { start }, ..new };
                }
            }
            Place::Replaces(place) => {
                if let Some(run) = self.runs.get_mut(place) {
                    self.since = self.since.max(run.start.saturating_add(1));
                    *run = new;
                }
            }
        }
    }
}

/// A stream of deltas: the time that is counted, in whatever order its points come.
///
/// What overlaps counted time is counted in part and left out. A process that is alike in all attributes shows by
/// going on exactly where a point ended that was left out; from then on it counts too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    /// The intervals that are counted.
    pub fn parts(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Takes over what [`Intervals::parts`] were.
    pub fn restored(mut intervals: Vec<(u64, u64)>) -> Self {
        intervals.truncate(MAX_INTERVALS);
        Self(intervals)
    }

    /// Takes in the time of a point, from `start` to `time`; a start of 0 is unknown.
    pub fn take(&mut self, start: u64, time: u64) -> Result<(), RejectReason> {
        let start = if start == 0 || start > time { time } else { start };
        let is_moment = start == time;
        if !is_moment && let Some(place) = self.0.iter().position(|(_, end)| *end == start) {
            if let Some(interval) = self.0.get_mut(place) {
                interval.1 = time;
            }
            self.join(place);
            return Ok(());
        }
        let touches = |(from, until): &(u64, u64)| {
            if is_moment { (*from..=*until).contains(&time) } else { start < *until && *from < time }
        };
        if self.0.iter().any(touches) {
            if self.0.iter().all(|(_, until)| *until < time) {
                self.add((time, time));
            }
            return Err(RejectReason::Duplicate);
        }
        match self.0.iter().position(|(from, _)| *from == time) {
            Some(place) => {
                if let Some(interval) = self.0.get_mut(place) {
                    interval.0 = start;
                }
            }
            None => self.add((start, time)),
        }
        Ok(())
    }

    /// Makes the interval at `place`, which has grown, one with those that begin or end where it ends.
    fn join(&mut self, place: usize) {
        let Some((from, end)) = self.0.get(place).copied() else { return };
        let Some(other) = self
            .0
            .iter()
            .enumerate()
            .position(|(other, (from, until))| other != place && (*from == end || *until == end))
        else {
            return;
        };
        let joined = self.0.get(other).map_or((from, end), |(start, until)| (from.min(*start), end.max(*until)));
        if let Some(interval) = self.0.get_mut(place) {
            *interval = joined;
        }
        self.0.swap_remove(other);
    }

    /// Adds an interval. Of too many, the two oldest become one, and what lies between them counts as heard.
    fn add(&mut self, interval: (u64, u64)) {
        self.0.reserve_exact(1);
        self.0.push(interval);
        if self.0.len() > MAX_INTERVALS {
            self.0.sort_unstable_by_key(|(_, until)| *until);
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                next.0 = next.0.min(oldest.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a stream of numbers comes to.
    fn counted(points: &[(u64, u64, f64)]) -> f64 {
        let mut runs = Runs::default();
        let mut sum = 0.0;
        for (start, time, value) in points {
            if let Ok(place) = runs.judge(*start, *time, value) {
                sum += value - runs.value(place).copied().unwrap_or(0.0);
                runs.note(place, *start, *time, *value);
            }
        }
        sum
    }

    #[test]
    fn twins_count_what_each_of_them_used_and_never_more() {
        // Alike in all but their starts, in turns.
        let turns: Vec<_> = (0..20).flat_map(|at| [(10, 100 + 2 * at, 700.0), (50, 101 + 2 * at, 700.0)]).collect();
        assert_eq!(counted(&turns), 700.0, "one that moved its start, as far as anybody can tell");
        assert_eq!(counted(&[&turns[..], &[(10, 200, 800.0), (50, 201, 700.0)]].concat()), 1500.0, "two of them");
        // With less than the other from the beginning.
        assert_eq!(counted(&[(10, 100, 700.0), (50, 101, 300.0), (10, 102, 750.0), (50, 103, 310.0)]), 1060.0);
        // Forked with one start, or with none.
        for start in [0, 10] {
            let turns: Vec<_> =
                (0..20).flat_map(|at| [(start, 100 + 2 * at, 700.0), (start, 101 + 2 * at, 300.0)]).collect();
            assert_eq!(counted(&turns), 1000.0);
        }
    }

    #[test]
    fn a_start_that_moves_to_and_fro_adds_nothing() {
        let wobbles: Vec<_> = (0..50_u64).map(|at| (10 + at % 3, 100 + at, 700.0 + at as f64)).collect();
        assert_eq!(counted(&wobbles), 749.0);
        // What is sent again adds nothing either, in whatever order.
        let again: Vec<_> = wobbles.iter().chain(wobbles.iter().rev()).copied().collect();
        assert_eq!(counted(&again), 749.0);
    }

    #[test]
    fn a_process_that_took_the_place_of_another_counts_in_full() {
        assert_eq!(counted(&[(10, 20, 5.0), (20, 30, 9.0), (40, 50, 9.0)]), 23.0, "one after the other");
        assert_eq!(counted(&[(10, 20, 5.0), (15, 30, 1.0), (10, 25, 6.0)]), 7.0, "an old one that says its last");
        assert_eq!(counted(&[(0, 20, 5.0), (0, 30, 2.0), (0, 40, 3.0)]), 8.0, "nobody says when it began");
        let many: Vec<_> = (1..100).map(|at| (at * 10, at * 10 + 5, 2.0)).collect();
        assert_eq!(counted(&many), 198.0);
        let again = [(10, 2_000, 2.0), (10, 2_001, 1.0)];
        assert_eq!(counted(&[&many[..], &again].concat()), 198.0, "one that was forgotten stays so");
    }

    #[test]
    fn a_start_that_is_not_before_its_time_is_unknown() {
        let rising = |ahead: u64| (1..=6).map(move |at| (100 * at + ahead, 100 * at, 100.0 * at as f64));
        for ahead in [0, 1, 250, 1_000_000] {
            let points: Vec<_> = rising(ahead).collect();
            assert_eq!(counted(&points), 600.0, "{ahead} ahead of its time");
            let again: Vec<_> = points.iter().chain(points.iter().rev()).copied().collect();
            assert_eq!(counted(&again), 600.0, "{ahead} ahead of its time, sent again");
        }
        assert_eq!(counted(&[(100, 100, 5.0), (100, 110, 7.0), (100, 120, 9.0)]), 9.0, "the first has its time");
        assert_eq!(counted(&[(101, 100, 5.0), (101, 110, 7.0)]), 7.0, "begun while it was collected");
        assert_eq!(counted(&[(900, 100, 5.0), (900, 500, 7.0), (900, 1_000, 9.0)]), 9.0, "a clock that was ahead");
        assert_eq!(counted(&[(100, 100, 5.0), (200, 200, 2.0), (300, 300, 3.0)]), 8.0, "a value that fell");
        assert_eq!(counted(&[(0, 100, 5.0), (200, 200, 6.0), (10, 300, 7.0), (200, 200, 6.0), (0, 310, 8.0)]), 8.0);
        assert_eq!(counted(&[(200, 100, 5.0), (110, 120, 3.0)]), 8.0, "another began after it");
    }

    /// What a process says of its start.
    #[derive(Clone, Copy, Debug)]
    enum Says {
        Fixed(u64),
        Time,
        Ahead(u64),
    }

    fn says() -> impl Strategy<Value = Says> {
        prop_oneof![
            4 => (0..30_u64).prop_map(Says::Fixed),
            1 => Just(Says::Fixed(0)),
            // Ahead of some of its points, or of all of them.
            1 => (30..500_u64).prop_map(Says::Fixed),
            2 => Just(Says::Time),
            2 => (1..100_u64).prop_map(Says::Ahead),
        ]
    }

    proptest! {
        /// However processes export, and whatever is sent again or late, no more than they have used is counted.
        #[test]
        fn never_more_than_was_used(
            steps in prop::collection::vec((0..4_usize, 0..50_u64, 1..5_u64), 1..60),
            starts in prop::collection::vec(says(), 4),
            repeats in prop::collection::vec((0..60_usize, 0..60_usize), 0..20),
        ) {
            let (mut used, mut now) = ([0_u64; 4], 30);
            let mut points = Vec::new();
            for (process, grows, passes) in steps {
                now += passes;
                used[process] += grows;
                let start = match starts[process] {
                    Says::Fixed(start) => start,
                    Says::Time => now,
                    Says::Ahead(by) => now + by,
                };
                points.push((start, now, used[process] as f64));
            }
            for (from, to) in repeats {
                let point = points[from % points.len()];
                points.insert(to % points.len(), point);
            }
            prop_assert!(counted(&points) <= used.iter().sum::<u64>() as f64);
        }

        /// The points of one process count once each in any order, as long as not too many are missing between them.
        #[test]
        fn deltas_count_in_any_order(order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut intervals = Intervals::default();
            for at in &order {
                prop_assert_eq!(intervals.take(10 + at * 10, 20 + at * 10), Ok(()));
            }
            for at in &order {
                prop_assert_eq!(intervals.take(10 + at * 10, 20 + at * 10), Err(RejectReason::Duplicate));
            }
            prop_assert_eq!(intervals.parts(), &[(10, 410)]);
        }
    }

    #[test]
    fn deltas_of_twins_count_from_their_second_point_on() {
        let mut intervals = Intervals::default();
        let points = [(10, 20), (13, 23), (20, 30), (23, 33), (30, 40), (33, 43)];
        let taken = points.map(|(start, time)| intervals.take(start, time).is_ok());
        assert_eq!(taken, [true, false, true, true, true, true]);
        assert!(points.iter().all(|(start, time)| intervals.take(*start, *time).is_err()), "sent again");
    }

    #[test]
    fn deltas_without_a_start_count_once_by_their_time() {
        let mut intervals = Intervals::default();
        assert_eq!([30, 10, 20, 10, 30].map(|time| intervals.take(0, time).is_ok()), [true, true, true, false, false]);
        assert_eq!([40, 40].map(|time| intervals.take(40, time).is_ok()), [true, false], "its start is its time");
        assert_eq!(intervals.take(40, 50), Ok(()));
        let mut many = Intervals::default();
        assert!((1..1_000).all(|at| many.take(at * 10, at * 10 + 5).is_ok()));
        assert!((1..1_000).all(|at| many.take(at * 10, at * 10 + 5).is_err()) && many.parts().len() <= MAX_INTERVALS);
    }
}
