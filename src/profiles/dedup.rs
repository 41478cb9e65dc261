//! Which items and data points have been counted, so that a retried export counts nothing twice.

use std::collections::HashSet;

use crate::model::{BoundedMap, CountingState, RunCount, StreamCount};
use crate::otlp::sequence::{CumulativeStream, DeltaStream, Sequence};
use crate::otlp::wire::Temporality;

/// Digests of spans and log records that are remembered.
const MAX_ITEMS: usize = 262_144;
/// Streams of data points that are remembered.
const MAX_STREAMS: usize = 65_536;

/// The items that were seen, and the state of each stream of data points; the oldest are evicted first.
#[derive(Debug)]
pub(super) struct DedupCache {
    items: BoundedMap<u64>,
    streams: BoundedMap<u64, StreamProgress>,
    /// Streams that changed since they were last saved.
    changed_streams: HashSet<u64>,
    /// When observation began, in nanoseconds. A stream that started later and is not in the cache was never counted, so
    /// that its first value counts in full; of one that started earlier, only growth counts.
    observed_since: u64,
    /// What has to be saved.
    unsaved: CountingState,
}

/// What has been counted of one stream.
#[derive(Debug)]
enum StreamProgress {
    Delta(DeltaStream),
    Cumulative(CumulativeStream<f64>),
}

impl StreamProgress {
    const fn temporality(&self) -> Temporality {
        match self {
            Self::Delta(_) => Temporality::Delta,
            Self::Cumulative(_) => Temporality::Cumulative,
        }
    }

    fn to_saved(&self) -> StreamCount {
        match self {
            Self::Delta(stream) => StreamCount::Deltas(stream.intervals().to_vec()),
            Self::Cumulative(stream) => {
                let (sequences, since) = stream.state();
                let run = |&Sequence { start, time, value }: &Sequence<f64>| RunCount { start, time, value };
                StreamCount::Totals { runs: sequences.iter().map(run).collect(), since }
            }
        }
    }

    fn from_saved(saved: StreamCount) -> Self {
        match saved {
            StreamCount::Deltas(intervals) => Self::Delta(DeltaStream::restore(intervals)),
            StreamCount::Totals { runs, since } => {
                let runs = runs.into_iter().filter(|run| run.value.is_finite());
                let sequence = |RunCount { start, time, value }| Sequence { start, time, value };
                Self::Cumulative(CumulativeStream::restore(runs.map(sequence).collect(), since))
            }
        }
    }
}

impl DedupCache {
    /// An empty cache whose observation begins at `since`, in nanoseconds.
    pub(super) fn new(since: u64) -> Self {
        let unsaved = CountingState { since: Some(since), ..CountingState::default() };
        let (items, streams) = (BoundedMap::new(MAX_ITEMS), BoundedMap::new(MAX_STREAMS));
        Self { items, streams, changed_streams: HashSet::new(), observed_since: since, unsaved }
    }

    /// Restores what was saved before a restart. What streams counted during the restart then counts as growth.
    pub(super) fn restore(&mut self, saved: CountingState) {
        // A time in the future was saved before the clock was set back; the present one replaces it.
        if let Some(since) = saved.since.filter(|since| *since <= self.observed_since) {
            self.observed_since = since;
            self.unsaved.since = None;
        }
        for digest in saved.seen.into_iter().take(MAX_ITEMS) {
            self.items.insert(digest, (), ());
        }
        for (id, stream) in saved.streams.into_iter().take(MAX_STREAMS) {
            self.streams.insert(id, StreamProgress::from_saved(stream), ());
        }
    }

    /// What was added or changed since the last call, to be saved.
    pub(super) fn take_unsaved(&mut self) -> CountingState {
        let Self { changed_streams, streams, unsaved, .. } = self;
        unsaved.streams.extend(changed_streams.drain().filter_map(|id| Some((id, streams.get(&id)?.to_saved()))));
        std::mem::take(unsaved)
    }

    /// Whether the item has been seen.
    pub(super) fn contains(&self, digest: u64) -> bool {
        self.items.contains(&digest)
    }

    /// Adds an item; returns whether it is new.
    pub(super) fn insert(&mut self, digest: u64) -> bool {
        let is_new = self.items.insert(digest, (), ());
        if is_new {
            self.unsaved.seen.push(digest);
        }
        is_new
    }

    /// How much a point of `value` adds to its stream; 0 when it has been counted. What a cumulative stream counted
    /// before observation began does not count.
    pub(super) fn step(&mut self, id: u64, temporality: Temporality, (start, time): (u64, u64), value: f64) -> f64 {
        let since = self.observed_since;
        let is_new = self.streams.get(&id).is_none_or(|known| known.temporality() != temporality);
        if is_new {
            self.insert_stream(id, temporality);
        }
        let step = match self.streams.get_mut(&id) {
            Some(StreamProgress::Delta(stream)) => stream.insert(start, time).map(|()| value),
            Some(StreamProgress::Cumulative(stream)) => stream.classify(start, time, &value).map(|position| {
                // A new sequence counts in full when it started after observation began, or when it follows another
                // one of a stream that is known.
                let unobserved = if start >= since || start == 0 && !is_new { 0.0 } else { value };
                let before = stream.value(position).copied().unwrap_or(unobserved);
                stream.record(position, start, time, value);
                value - before
            }),
            None => return 0.0,
        };
        if step.is_ok() {
            self.changed_streams.insert(id);
        }
        step.unwrap_or(0.0)
    }

    /// Adds a stream of which nothing has been counted, evicting the oldest one if the cache is full.
    fn insert_stream(&mut self, id: u64, temporality: Temporality) {
        let new = match temporality {
            Temporality::Delta => StreamProgress::Delta(DeltaStream::default()),
            Temporality::Cumulative => StreamProgress::Cumulative(CumulativeStream::default()),
        };
        if let Some(known) = self.streams.get_mut(&id) {
            *known = new;
            return;
        }
        if let Some((oldest, evicted)) = self.streams.make_room() {
            self.changed_streams.remove(&oldest);
            if matches!(evicted, StreamProgress::Cumulative(_)) {
                // Should the evicted stream come back, its value must not count in full a second time.
                self.observed_since = self.observed_since.max(evicted.to_saved().last_start().saturating_add(1));
                self.unsaved.since = Some(self.observed_since);
            }
        }
        self.streams.insert(id, new, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a point of a cumulative stream adds.
    fn step(cache: &mut DedupCache, id: u64, start: u64, time: u64, value: f64) -> f64 {
        cache.step(id, Temporality::Cumulative, (start, time), value)
    }

    #[test]
    fn a_cumulative_stream_counts_its_growth_across_a_restart() {
        let mut cache = DedupCache::new(100);
        assert_eq!(step(&mut cache, 1, 50, 110, 7.0), 0.0, "counted before the first start");
        assert_eq!(step(&mut cache, 1, 50, 120, 9.0), 2.0);
        assert_eq!(step(&mut cache, 1, 50, 115, 8.0), 0.0, "late");
        assert_eq!(step(&mut cache, 2, 100, 110, 5.0), 5.0, "started after the first start");
        assert_eq!(cache.step(9, Temporality::Delta, (100, 110), 5.0), 5.0);
        let saved = cache.take_unsaved();
        assert!(cache.take_unsaved().is_empty());

        let mut restarted = DedupCache::new(1_000);
        restarted.restore(saved);
        assert_eq!(step(&mut restarted, 1, 50, 1_010, 12.0), 3.0, "grew during the restart");
        assert_eq!(step(&mut restarted, 2, 900, 1_010, 4.0), 4.0, "reset during the restart");
        assert_eq!(step(&mut restarted, 3, 500, 1_010, 6.0), 6.0, "started during the restart");
        assert_eq!(step(&mut restarted, 4, 99, 1_010, 6.0), 0.0, "started before the first start");
        assert_eq!(restarted.step(9, Temporality::Delta, (100, 110), 5.0), 0.0, "sent again");
        assert_eq!(restarted.take_unsaved().since, None, "already saved");
    }

    #[test]
    fn a_clock_that_was_set_back_restarts_the_observed_time() {
        let mut cache = DedupCache::new(1_000);
        cache.restore(CountingState { since: Some(5_000), ..CountingState::default() });
        assert_eq!(cache.take_unsaved().since, Some(1_000));
        assert_eq!(step(&mut cache, 1, 1_010, 1_020, 3.0), 3.0);
    }

    #[test]
    fn replicas_stay_distinct_across_a_restart() {
        let mut cache = DedupCache::new(0);
        let turns = [(10, 20, 700.0), (15, 21, 300.0), (10, 22, 700.0), (15, 23, 300.0)];
        let first: f64 = turns.iter().map(|(start, time, value)| step(&mut cache, 1, *start, *time, *value)).sum();
        let mut restarted = DedupCache::new(1_000);
        restarted.restore(cache.take_unsaved());
        let turns = [(15, 30, 300.0), (10, 31, 700.0), (15, 32, 310.0), (10, 33, 700.0)];
        let then: f64 = turns.iter().map(|(start, time, value)| step(&mut restarted, 1, *start, *time, *value)).sum();
        assert_eq!((first, then), (1000.0, 10.0));
    }

    #[test]
    fn start_times_after_the_point_add_nothing_across_a_restart() {
        let rising = |first: u64| (first..first + 60).step_by(10);
        for ahead in [0, 5, 1_000, u64::MAX - 10_000] {
            let run = |cache: &mut DedupCache, first: u64| -> f64 {
                rising(first).map(|time| step(cache, 1, time + ahead, time, time as f64)).sum()
            };
            let mut cache = DedupCache::new(50);
            let before = run(&mut cache, 100);
            let mut restarted = DedupCache::new(1_000);
            restarted.restore(cache.take_unsaved());
            assert_eq!((before, run(&mut restarted, 1_100)), (150.0, 1_000.0), "{ahead} ahead");
        }
    }

    #[test]
    fn evicting_a_stream_with_a_future_start_costs_no_other_stream() {
        let mut cache = DedupCache::new(0);
        for id in 0..=MAX_STREAMS as u64 {
            step(&mut cache, id, if id == 0 { u64::MAX } else { 10 }, 20, 1.0);
        }
        assert_eq!(step(&mut cache, u64::MAX, 21, 30, 1.0), 1.0);
    }

    #[test]
    fn an_evicted_stream_is_not_counted_again() {
        let mut cache = DedupCache::new(0);
        for id in 0..=MAX_STREAMS as u64 {
            assert_eq!(step(&mut cache, id, 10, 20, 1.0), 1.0);
        }
        assert_eq!(step(&mut cache, 0, 10, 30, 1.0), 0.0);
        assert_eq!(step(&mut cache, u64::MAX, 11, 30, 1.0), 1.0, "a stream that started later is counted");
        assert_eq!(cache.take_unsaved().since, Some(11));
    }
}
