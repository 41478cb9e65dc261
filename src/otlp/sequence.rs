//! Which points of a stream count, and how much: start times, resets, duplicates and late points. Used for the exposed
//! series and for the usage of agents alike.
//!
//! Never counts more than was measured, whatever is repeated, reordered or restarted, and whether one process exports
//! under a set of attributes or several do. Where points of several processes can't be distinguished, the smallest total that
//! explains them counts.

use crate::model::RejectReason;

/// Sequences of one stream that are remembered: those of running processes and of earlier ones.
const MAX_SEQUENCES: usize = 16;
/// Disjoint intervals of one stream that are remembered.
const MAX_INTERVALS: usize = 32;

/// A cumulative value.
pub trait CumulativeValue {
    /// Whether the process that reported `earlier` may have reported this value later.
    fn can_follow(&self, earlier: &Self) -> bool;
    /// The value as one number, to compare values by.
    fn magnitude(&self) -> f64;
}

impl CumulativeValue for f64 {
    fn can_follow(&self, earlier: &Self) -> bool {
        self >= earlier
    }

    fn magnitude(&self) -> f64 {
        *self
    }
}

/// The points of one process, from its start to its end: an unbroken sequence in the terms of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence<V> {
    /// The start time of its last point, in nanoseconds.
    pub start: u64,
    /// The time of its last point.
    pub time: u64,
    /// The value of its last point.
    pub value: V,
}

impl<V> Sequence<V> {
    /// Its start time; 0 is unknown.
    fn started(&self) -> u64 {
        known_start(self.start, self.time)
    }
}

/// The start time of a point, or 0 where it is unknown. A start time that is not before the point's time is unknown:
/// OpenTelemetry sets it to the time of the first point, and a wrong clock to a time in the future.
pub fn known_start(start: u64, time: u64) -> u64 {
    if start < time { start } else { 0 }
}

/// A cumulative stream, which several processes may feed, one after the other or at the same time.
///
/// A point begins a new sequence when its value is smaller than the last one, or when it started after all known sequences
/// had ended. A point with another start time and a larger value is taken for a known sequence whose start time changed,
/// until a smaller value proves that there are two.
#[derive(Clone, Debug, PartialEq)]
pub struct CumulativeStream<V> {
    sequences: Vec<Sequence<V>>,
    /// Sequences that started earlier may have been evicted.
    since: u64,
}

/// Which sequence a point belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceMatch {
    /// The known sequence at this position; its growth counts.
    Continues(usize),
    /// A new sequence; its value counts in full.
    Starts,
    /// A new sequence that evicts the one at this position.
    Replaces(usize),
}

impl<V> Default for CumulativeStream<V> {
    fn default() -> Self {
        Self { sequences: Vec::new(), since: 0 }
    }
}

impl<V: CumulativeValue> CumulativeStream<V> {
    /// The sequences, and the time since when none was evicted; to be saved.
    pub fn state(&self) -> (&[Sequence<V>], u64) {
        (&self.sequences, self.since)
    }

    /// The stream with the state that [`CumulativeStream::state`] returned.
    pub fn restore(mut sequences: Vec<Sequence<V>>, since: u64) -> Self {
        sequences.truncate(MAX_SEQUENCES);
        Self { sequences, since }
    }

    /// The sequence that a point belongs to; the error is why it does not count.
    pub fn classify(&self, start: u64, time: u64, value: &V) -> Result<SequenceMatch, RejectReason> {
        // A point is compared with the sequence of its start time, else with those that overlap it in time. Once a start
        // time is unknown, start times no longer identify processes, and it is compared with all of them.
        let started = known_start(start, time);
        let has_known_starts = started != 0 && self.sequences.iter().all(|sequence| sequence.started() != 0);
        let is_known = self.sequences.iter().any(|sequence| sequence.start == start);
        let overlaps = |sequence: &Sequence<V>| match has_known_starts {
            true if is_known => sequence.start == start,
            true => started < sequence.time && sequence.started() < time,
            false => true,
        };
        let mut nearest: Option<usize> = None;
        for (position, sequence) in self.sequences.iter().enumerate().filter(|(_, sequence)| overlaps(sequence)) {
            if sequence.time == time {
                return Err(RejectReason::Duplicate);
            }
            if sequence.time > time {
                return Err(RejectReason::Stale);
            }
            let is_nearer = nearest
                .and_then(|known| self.sequences.get(known))
                .is_none_or(|known| sequence.value.magnitude() > known.value.magnitude());
            if is_nearer && value.can_follow(&sequence.value) {
                nearest = Some(position);
            }
        }
        if let Some(position) = nearest {
            return Ok(SequenceMatch::Continues(position));
        }
        if started < self.since {
            return Err(RejectReason::Stale);
        }
        if self.sequences.len() < MAX_SEQUENCES {
            return Ok(SequenceMatch::Starts);
        }
        let oldest = self.sequences.iter().enumerate().min_by_key(|(_, sequence)| sequence.time);
        oldest
            .filter(|(_, sequence)| sequence.time <= started)
            .map(|(position, _)| SequenceMatch::Replaces(position))
            .ok_or(RejectReason::Stale)
    }

    /// The last value of the sequence that a point continues.
    pub fn value(&self, found: SequenceMatch) -> Option<&V> {
        match found {
            SequenceMatch::Continues(position) => self.sequences.get(position).map(|sequence| &sequence.value),
            SequenceMatch::Starts | SequenceMatch::Replaces(_) => None,
        }
    }

    /// Records a point in the sequence that [`CumulativeStream::classify`] found for it.
    pub fn record(&mut self, found: SequenceMatch, start: u64, time: u64, value: V) {
        let new = Sequence { start, time, value };
        match found {
            SequenceMatch::Starts => {
                // Nearly all streams have one process.
                self.sequences.reserve_exact(1);
                self.sequences.push(new);
            }
            SequenceMatch::Continues(position) => {
                if let Some(sequence) = self.sequences.get_mut(position) {
                    // The first point of a process may have its own time as start time, which the next points repeat. A
                    // sequence that continues under another start time has an unknown one.
                    let is_unknown = sequence.start != start && (sequence.started() == 0 || new.started() == 0);
                    *sequence = Sequence { start: if is_unknown { 0 } else { start }, ..new };
                }
            }
            SequenceMatch::Replaces(position) => {
                if let Some(sequence) = self.sequences.get_mut(position) {
                    self.since = self.since.max(sequence.start.saturating_add(1));
                    *sequence = new;
                }
            }
        }
    }
}

/// A delta stream: the intervals that have been counted, whatever the order of its points.
///
/// A point that overlaps a counted interval is dropped as a duplicate. Of a second process under the same attributes the
/// first point is dropped so; the following ones begin exactly where a dropped point ended, and count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeltaStream(Vec<(u64, u64)>);

impl DeltaStream {
    /// The intervals that have been counted, to be saved.
    pub fn intervals(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// The stream with the intervals that [`DeltaStream::intervals`] returned.
    pub fn restore(mut intervals: Vec<(u64, u64)>) -> Self {
        intervals.truncate(MAX_INTERVALS);
        Self(intervals)
    }

    /// Counts the interval of a point, from `start` to `time`; a start of 0 is unknown. The error is why it does not count.
    pub fn insert(&mut self, start: u64, time: u64) -> Result<(), RejectReason> {
        let start = if start == 0 || start > time { time } else { start };
        let is_instant = start == time;
        if !is_instant && let Some(position) = self.0.iter().position(|(_, end)| *end == start) {
            if let Some(interval) = self.0.get_mut(position) {
                interval.1 = time;
            }
            self.join(position);
            return Ok(());
        }
        let touches = |(from, until): &(u64, u64)| {
            if is_instant { (*from..=*until).contains(&time) } else { start < *until && *from < time }
        };
        if self.0.iter().any(touches) {
            if self.0.iter().all(|(_, until)| *until < time) {
                self.add((time, time));
            }
            return Err(RejectReason::Duplicate);
        }
        match self.0.iter().position(|(from, _)| *from == time) {
            Some(position) => {
                if let Some(interval) = self.0.get_mut(position) {
                    interval.0 = start;
                }
            }
            None => self.add((start, time)),
        }
        Ok(())
    }

    /// Merges the interval at `position`, which has grown, with one that begins or ends where it ends.
    fn join(&mut self, position: usize) {
        let Some((from, end)) = self.0.get(position).copied() else { return };
        let Some(other) = self
            .0
            .iter()
            .enumerate()
            .position(|(other, (from, until))| other != position && (*from == end || *until == end))
        else {
            return;
        };
        let joined = self.0.get(other).map_or((from, end), |(start, until)| (from.min(*start), end.max(*until)));
        if let Some(interval) = self.0.get_mut(position) {
            *interval = joined;
        }
        self.0.swap_remove(other);
    }

    /// Adds an interval. When there are too many, the two oldest are merged, and the gap between them is lost.
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

    /// The total that the points of a stream add up to.
    fn sum_counted(points: &[(u64, u64, f64)]) -> f64 {
        let mut stream = CumulativeStream::default();
        let mut sum = 0.0;
        for (start, time, value) in points {
            if let Ok(found) = stream.classify(*start, *time, value) {
                sum += value - stream.value(found).copied().unwrap_or(0.0);
                stream.record(found, *start, *time, *value);
            }
        }
        sum
    }

    #[test]
    fn replicas_count_what_each_of_them_used_and_never_more() {
        // Two processes that differ in their start times only, in turns.
        let turns: Vec<_> = (0..20).flat_map(|at| [(10, 100 + 2 * at, 700.0), (50, 101 + 2 * at, 700.0)]).collect();
        assert_eq!(sum_counted(&turns), 700.0, "may be one process whose start time changes");
        assert_eq!(sum_counted(&[&turns[..], &[(10, 200, 800.0), (50, 201, 700.0)]].concat()), 1500.0, "two processes");
        // One of them smaller from the beginning.
        assert_eq!(sum_counted(&[(10, 100, 700.0), (50, 101, 300.0), (10, 102, 750.0), (50, 103, 310.0)]), 1060.0);
        // With the same start time, or with none.
        for start in [0, 10] {
            let turns: Vec<_> =
                (0..20).flat_map(|at| [(start, 100 + 2 * at, 700.0), (start, 101 + 2 * at, 300.0)]).collect();
            assert_eq!(sum_counted(&turns), 1000.0);
        }
    }

    #[test]
    fn a_start_time_that_varies_adds_nothing() {
        let varying: Vec<_> = (0..50_u64).map(|at| (10 + at % 3, 100 + at, 700.0 + at as f64)).collect();
        assert_eq!(sum_counted(&varying), 749.0);
        // Duplicates add nothing either, in any order.
        let again: Vec<_> = varying.iter().chain(varying.iter().rev()).copied().collect();
        assert_eq!(sum_counted(&again), 749.0);
    }

    #[test]
    fn a_process_that_replaces_another_counts_in_full() {
        assert_eq!(sum_counted(&[(10, 20, 5.0), (20, 30, 9.0), (40, 50, 9.0)]), 23.0, "one after the other");
        assert_eq!(sum_counted(&[(10, 20, 5.0), (15, 30, 1.0), (10, 25, 6.0)]), 7.0, "a last point of the old one");
        assert_eq!(sum_counted(&[(0, 20, 5.0), (0, 30, 2.0), (0, 40, 3.0)]), 8.0, "unknown start times");
        let many: Vec<_> = (1..100).map(|at| (at * 10, at * 10 + 5, 2.0)).collect();
        assert_eq!(sum_counted(&many), 198.0);
        let again = [(10, 2_000, 2.0), (10, 2_001, 1.0)];
        assert_eq!(sum_counted(&[&many[..], &again].concat()), 198.0, "an evicted sequence is not counted again");
    }

    #[test]
    fn a_start_time_that_is_not_before_the_point_is_unknown() {
        let rising = |ahead: u64| (1..=6).map(move |at| (100 * at + ahead, 100 * at, 100.0 * at as f64));
        for ahead in [0, 1, 250, 1_000_000] {
            let points: Vec<_> = rising(ahead).collect();
            assert_eq!(sum_counted(&points), 600.0, "start {ahead} ahead");
            let again: Vec<_> = points.iter().chain(points.iter().rev()).copied().collect();
            assert_eq!(sum_counted(&again), 600.0, "start {ahead} ahead, sent again");
        }
        assert_eq!(
            sum_counted(&[(100, 100, 5.0), (100, 110, 7.0), (100, 120, 9.0)]),
            9.0,
            "the first starts at its own time"
        );
        assert_eq!(sum_counted(&[(101, 100, 5.0), (101, 110, 7.0)]), 7.0, "started while it was collected");
        assert_eq!(sum_counted(&[(900, 100, 5.0), (900, 500, 7.0), (900, 1_000, 9.0)]), 9.0, "a clock that was ahead");
        assert_eq!(sum_counted(&[(100, 100, 5.0), (200, 200, 2.0), (300, 300, 3.0)]), 8.0, "a value that fell");
        assert_eq!(sum_counted(&[(0, 100, 5.0), (200, 200, 6.0), (10, 300, 7.0), (200, 200, 6.0), (0, 310, 8.0)]), 8.0);
        assert_eq!(sum_counted(&[(200, 100, 5.0), (110, 120, 3.0)]), 8.0, "another started after it");
    }

    /// The start time that a process reports.
    #[derive(Clone, Copy, Debug)]
    enum StartReporting {
        Fixed(u64),
        Time,
        Ahead(u64),
    }

    fn start_reporting() -> impl Strategy<Value = StartReporting> {
        prop_oneof![
            4 => (0..30_u64).prop_map(StartReporting::Fixed),
            1 => Just(StartReporting::Fixed(0)),
            // In the future of some of its points, or of all.
            1 => (30..500_u64).prop_map(StartReporting::Fixed),
            2 => Just(StartReporting::Time),
            2 => (1..100_u64).prop_map(StartReporting::Ahead),
        ]
    }

    proptest! {
        /// Whatever processes export, repeat or send late, no more than they used is counted.
        #[test]
        fn never_more_than_was_used(
            steps in prop::collection::vec((0..4_usize, 0..50_u64, 1..5_u64), 1..60),
            starts in prop::collection::vec(start_reporting(), 4),
            repeats in prop::collection::vec((0..60_usize, 0..60_usize), 0..20),
        ) {
            let (mut used, mut now) = ([0_u64; 4], 30);
            let mut points = Vec::new();
            for (process, grows, passes) in steps {
                now += passes;
                used[process] += grows;
                let start = match starts[process] {
                    StartReporting::Fixed(start) => start,
                    StartReporting::Time => now,
                    StartReporting::Ahead(by) => now + by,
                };
                points.push((start, now, used[process] as f64));
            }
            for (from, to) in repeats {
                let point = points[from % points.len()];
                points.insert(to % points.len(), point);
            }
            prop_assert!(sum_counted(&points) <= used.iter().sum::<u64>() as f64);
        }

        /// The points of one process count once each in any order, unless too many are missing in between.
        #[test]
        fn deltas_count_in_any_order(order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut stream = DeltaStream::default();
            for at in &order {
                prop_assert_eq!(stream.insert(10 + at * 10, 20 + at * 10), Ok(()));
            }
            for at in &order {
                prop_assert_eq!(stream.insert(10 + at * 10, 20 + at * 10), Err(RejectReason::Duplicate));
            }
            prop_assert_eq!(stream.intervals(), &[(10, 410)]);
        }
    }

    #[test]
    fn deltas_of_replicas_count_from_their_second_point_on() {
        let mut stream = DeltaStream::default();
        let points = [(10, 20), (13, 23), (20, 30), (23, 33), (30, 40), (33, 43)];
        let counted = points.map(|(start, time)| stream.insert(start, time).is_ok());
        assert_eq!(counted, [true, false, true, true, true, true]);
        assert!(points.iter().all(|(start, time)| stream.insert(*start, *time).is_err()), "sent again");
    }

    #[test]
    fn deltas_without_a_start_count_once_by_their_time() {
        let mut stream = DeltaStream::default();
        assert_eq!([30, 10, 20, 10, 30].map(|time| stream.insert(0, time).is_ok()), [true, true, true, false, false]);
        assert_eq!([40, 40].map(|time| stream.insert(40, time).is_ok()), [true, false], "starts at its own time");
        assert_eq!(stream.insert(40, 50), Ok(()));
        let mut many = DeltaStream::default();
        assert!((1..1_000).all(|at| many.insert(at * 10, at * 10 + 5).is_ok()));
        assert!(
            (1..1_000).all(|at| many.insert(at * 10, at * 10 + 5).is_err()) && many.intervals().len() <= MAX_INTERVALS
        );
    }
}
