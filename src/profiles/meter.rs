//! Sums of what each signal of a producer says, so that what several signals say counts once.
//!
//! A tool that sends its tokens as metrics, as logs and as spans says the same thing three times, in any order and some of
//! it late or never. Each signal is summed up by itself, and what counts is the furthest of the sums: an amount is
//! counted when the first signal brings it, and not again when the others do.

use std::collections::{HashMap, HashSet};

use super::table::{COLUMNS, Column};
use crate::decode::read::MAX_COUNT;
use crate::model::{BoundedMap, CountingState, GroupCount, RunCount, StreamCount};
use crate::otlp::sequence::{Intervals, Run, Runs};
use crate::otlp::wire::Temporality;

/// Amounts by column.
pub(super) type Amounts = [f64; COLUMNS];

/// Producers and models remembered; who comes after evicts whom was first.
const MAX_GROUPS: usize = 65_536;
/// Signals of one group: three, from several libraries, and a list of prices.
const MAX_METERS: usize = 12;
/// Who says what the tokens of a group cost where none of its signals does: the configuration's list of prices.
pub(super) const LISTED: u64 = 0;
/// Items remembered, by which a retried export is known.
const MAX_SEEN: usize = 262_144;
/// Streams of data points remembered.
const MAX_STREAMS: usize = 65_536;

#[derive(Debug, Default)]
struct Group {
    meters: Vec<(u64, Amounts)>,
    counted: Amounts,
    /// The meter that its durations are taken from.
    timed_by: Option<u64>,
    /// Whether it is among those that have changed.
    is_changed: bool,
}

/// The sums.
#[derive(Debug)]
pub(super) struct Meters {
    groups: BoundedMap<u64, Group>,
    changed: Vec<u64>,
}

impl Default for Meters {
    fn default() -> Self {
        Self { groups: BoundedMap::new(MAX_GROUPS), changed: Vec::new() }
    }
}

impl Meters {
    /// Takes over what was remembered before a restart.
    pub(super) fn restore(&mut self, groups: HashMap<u64, GroupCount>) {
        for (id, saved) in groups.into_iter().take(MAX_GROUPS) {
            let meters = saved.meters.iter().take(MAX_METERS).map(|(id, sums)| (*id, amounts(sums))).collect();
            let group = Group { meters, counted: amounts(&saved.counted), timed_by: saved.timed_by, is_changed: false };
            self.groups.insert(id, group, ());
        }
    }

    /// What was remembered anew since the last call.
    pub(super) fn take_changed(&mut self) -> HashMap<u64, GroupCount> {
        let mut changed = HashMap::new();
        for id in self.changed.drain(..) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.is_changed = false;
            let meters = group.meters.iter().map(|(id, sums)| (*id, sums.to_vec())).collect();
            changed.insert(id, GroupCount { meters, counted: group.counted.to_vec(), timed_by: group.timed_by });
        }
        changed
    }

    /// What is known of a group, which is about to change.
    fn group(&mut self, group: u64) -> &mut Group {
        let known = self.groups.get_or_default(group, ());
        if !std::mem::replace(&mut known.is_changed, true) {
            self.changed.push(group);
        }
        known
    }

    /// Adds to what `meter` says in `group`; [`Meters::settle`] says what of it is news.
    pub(super) fn add(&mut self, group: u64, meter: u64, amounts: &Amounts) {
        let known = self.group(group);
        let place = match known.meters.iter().position(|(id, _)| *id == meter) {
            Some(place) => place,
            None if known.meters.len() < MAX_METERS => {
                known.meters.push((meter, [0.0; COLUMNS]));
                known.meters.len() - 1
            }
            None => return,
        };
        if let Some((_, sums)) = known.meters.get_mut(place) {
            sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
        }
    }

    /// Whether any signal of a group has said what its tokens cost.
    pub(super) fn tells_cost(&self, group: u64) -> bool {
        let costs = |(meter, sums): &(u64, Amounts)| {
            *meter != LISTED && sums.get(Column::Cost as usize).is_some_and(|cost| *cost > 0.0)
        };
        self.groups.get(&group).is_some_and(|group| group.meters.iter().any(costs))
    }

    /// Whether `meter` is the one that the durations of `group` are taken from; the first that asks is.
    pub(super) fn times(&mut self, group: u64, meter: u64) -> bool {
        *self.group(group).timed_by.get_or_insert(meter) == meter
    }

    /// What no signal had said before. Whole numbers, but for cost.
    pub(super) fn settle(&mut self, group: u64) -> Amounts {
        let mut news = [0.0; COLUMNS];
        let Some(group) = self.groups.get_mut(&group) else { return news };
        let mut furthest = [0.0; COLUMNS];
        for (place, furthest) in furthest.iter_mut().enumerate() {
            let sums = group.meters.iter().filter_map(|(_, sums)| sums.get(place)).copied();
            *furthest = sums.fold(0.0, f64::max);
        }
        take_out(&mut furthest, &group.counted, Column::Input, &[Column::CacheRead, Column::CacheCreation]);
        take_out(&mut furthest, &group.counted, Column::Output, &[Column::Reasoning]);
        for (place, (news, counted)) in news.iter_mut().zip(&mut group.counted).enumerate() {
            let step = furthest.get(place).copied().unwrap_or_default() - *counted;
            let step = if place == Column::Cost as usize { step } else { step.floor() };
            // More than that of one export is rubbish, however many items it has.
            let step = step.min(MAX_COUNT as f64);
            // A millionth of a cent is how sums in another order differ.
            if step > 1e-8 && step.is_finite() {
                *counted += step;
                *news = step;
            }
        }
        news
    }
}

/// Sums as they were saved; columns that are new since are nothing.
fn amounts(saved: &[f64]) -> Amounts {
    let mut amounts = [0.0; COLUMNS];
    amounts.iter_mut().zip(saved).filter(|(_, saved)| saved.is_finite()).for_each(|(sum, saved)| *sum = *saved);
    amounts
}

/// Makes `whole` what is left of it without `parts`. Parts that were counted in the whole before anybody told them apart
/// stay there: what one signal tells apart and another does not is still counted once.
fn take_out(furthest: &mut Amounts, counted: &Amounts, whole: Column, parts: &[Column]) {
    let get = |amounts: &Amounts, column: Column| amounts.get(column as usize).copied().unwrap_or_default();
    let all = parts.iter().fold(get(counted, whole), |sum, part| sum + get(counted, *part));
    let mut room = (get(furthest, whole) - all).max(0.0);
    for part in parts {
        let known = get(counted, *part);
        let step = (get(furthest, *part) - known).clamp(0.0, room);
        room -= step;
        if let Some(place) = furthest.get_mut(*part as usize) {
            *place = known + step;
        }
    }
    if let Some(place) = furthest.get_mut(whole as usize) {
        *place = get(counted, whole) + room;
    }
}

/// What was seen before, and what was counted of streams of data points; the oldest are forgotten.
#[derive(Debug)]
pub(super) struct Memory {
    seen: BoundedMap<u64>,
    streams: BoundedMap<u64, Counted>,
    /// Streams that have gone on since they were last saved.
    changed: HashSet<u64>,
    /// From when on every stream that began is remembered, or was never heard of; in nanoseconds.
    since: u64,
    /// What was remembered anew.
    fresh: CountingState,
}

/// What was counted of a stream.
#[derive(Debug)]
enum Counted {
    Deltas(Intervals),
    Totals(Runs<f64>),
}

impl Counted {
    const fn temporality(&self) -> Temporality {
        match self {
            Self::Deltas(_) => Temporality::Delta,
            Self::Totals(_) => Temporality::Cumulative,
        }
    }

    fn saved(&self) -> StreamCount {
        match self {
            Self::Deltas(intervals) => StreamCount::Deltas(intervals.parts().to_vec()),
            Self::Totals(runs) => {
                let (runs, since) = runs.parts();
                let run = |&Run { start, time, value }: &Run<f64>| RunCount { start, time, value };
                StreamCount::Totals { runs: runs.iter().map(run).collect(), since }
            }
        }
    }

    fn restored(saved: StreamCount) -> Self {
        match saved {
            StreamCount::Deltas(intervals) => Self::Deltas(Intervals::restored(intervals)),
            StreamCount::Totals { runs, since } => {
                let runs = runs.into_iter().filter(|run| run.value.is_finite());
                let run = |RunCount { start, time, value }| Run { start, time, value };
                Self::Totals(Runs::restored(runs.map(run).collect(), since))
            }
        }
    }
}

impl Memory {
    /// One that listens from `since` on, in nanoseconds: what streams had counted before, nobody was there to hear.
    pub(super) fn new(since: u64) -> Self {
        let fresh = CountingState { since: Some(since), ..CountingState::default() };
        let (seen, streams) = (BoundedMap::new(MAX_SEEN), BoundedMap::new(MAX_STREAMS));
        Self { seen, streams, changed: HashSet::new(), since, fresh }
    }

    /// Takes over what was remembered before a restart. What a stream has counted since then is news, and so is all that
    /// one has counted that began meanwhile.
    pub(super) fn restore(&mut self, saved: CountingState) {
        // One that is later was said by a clock that has been set back since, and is to be replaced.
        if let Some(since) = saved.since.filter(|since| *since <= self.since) {
            self.since = since;
            self.fresh.since = None;
        }
        for digest in saved.seen.into_iter().take(MAX_SEEN) {
            self.seen.insert(digest, (), ());
        }
        for (id, stream) in saved.streams.into_iter().take(MAX_STREAMS) {
            self.streams.insert(id, Counted::restored(stream), ());
        }
    }

    /// What was remembered anew since the last call.
    pub(super) fn take_fresh(&mut self) -> CountingState {
        let Self { changed, streams, fresh, .. } = self;
        fresh.streams.extend(changed.drain().filter_map(|id| Some((id, streams.get(&id)?.saved()))));
        std::mem::take(fresh)
    }

    /// Whether it was seen before.
    pub(super) fn knows(&self, digest: u64) -> bool {
        self.seen.contains(&digest)
    }

    /// Whether it is new; it is not the next time.
    pub(super) fn is_new(&mut self, digest: u64) -> bool {
        let is_new = self.seen.insert(digest, (), ());
        if is_new {
            self.fresh.seen.push(digest);
        }
        is_new
    }

    /// What a point of `value` adds to its stream: nothing when it was counted already. What a cumulative stream had
    /// counted before anybody listened does not count.
    pub(super) fn step(&mut self, id: u64, temporality: Temporality, (start, time): (u64, u64), value: f64) -> f64 {
        let since = self.since;
        let is_new = self.streams.get(&id).is_none_or(|known| known.temporality() != temporality);
        if is_new {
            self.begin(id, temporality);
        }
        let step = match self.streams.get_mut(&id) {
            Some(Counted::Deltas(intervals)) => intervals.take(start, time).map(|()| value),
            Some(Counted::Totals(runs)) => runs.judge(start, time, &value).map(|place| {
                // Of a process that nobody has heard of it says when it began, or follows one that has.
                let unheard = if start >= since || start == 0 && !is_new { 0.0 } else { value };
                let before = runs.value(place).copied().unwrap_or(unheard);
                runs.note(place, start, time, value);
                value - before
            }),
            None => return 0.0,
        };
        if step.is_ok() {
            self.changed.insert(id);
        }
        step.unwrap_or(0.0)
    }

    /// Makes room for a stream that is new.
    fn begin(&mut self, id: u64, temporality: Temporality) {
        let new = match temporality {
            Temporality::Delta => Counted::Deltas(Intervals::default()),
            Temporality::Cumulative => Counted::Totals(Runs::default()),
        };
        if let Some(known) = self.streams.get_mut(&id) {
            *known = new;
            return;
        }
        if let Some((oldest, forgotten)) = self.streams.make_room() {
            self.changed.remove(&oldest);
            if matches!(forgotten, Counted::Totals(_)) {
                // Should it come back, what it counted until then was heard.
                self.since = self.since.max(forgotten.saved().last_start().saturating_add(1));
                self.fresh.since = Some(self.since);
            }
        }
        self.streams.insert(id, new, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a point of a cumulative stream adds.
    fn grown(memory: &mut Memory, id: u64, start: u64, time: u64, value: f64) -> f64 {
        memory.step(id, Temporality::Cumulative, (start, time), value)
    }

    #[test]
    fn a_stream_counts_what_it_grew_by_also_while_nobody_listened() {
        let mut memory = Memory::new(100);
        assert_eq!(grown(&mut memory, 1, 50, 110, 7.0), 0.0, "what was counted before is not ours");
        assert_eq!(grown(&mut memory, 1, 50, 120, 9.0), 2.0);
        assert_eq!(grown(&mut memory, 1, 50, 115, 8.0), 0.0, "late");
        assert_eq!(grown(&mut memory, 2, 100, 110, 5.0), 5.0, "it began while we listened");
        assert_eq!(memory.step(9, Temporality::Delta, (100, 110), 5.0), 5.0);
        let saved = memory.take_fresh();
        assert!(memory.take_fresh().is_empty());

        let mut again = Memory::new(1_000);
        again.restore(saved);
        assert_eq!(grown(&mut again, 1, 50, 1_010, 12.0), 3.0, "it grew while we were down");
        assert_eq!(grown(&mut again, 2, 900, 1_010, 4.0), 4.0, "it began anew meanwhile");
        assert_eq!(grown(&mut again, 3, 500, 1_010, 6.0), 6.0, "it began meanwhile");
        assert_eq!(grown(&mut again, 4, 99, 1_010, 6.0), 0.0, "it began before the first start");
        assert_eq!(again.step(9, Temporality::Delta, (100, 110), 5.0), 0.0, "sent again");
        assert_eq!(again.take_fresh().since, None, "it is saved already");
    }

    #[test]
    fn a_clock_that_was_set_back_begins_the_time_that_is_heard_anew() {
        let mut memory = Memory::new(1_000);
        memory.restore(CountingState { since: Some(5_000), ..CountingState::default() });
        assert_eq!(memory.take_fresh().since, Some(1_000));
        assert_eq!(grown(&mut memory, 1, 1_010, 1_020, 3.0), 3.0);
    }

    #[test]
    fn twins_are_told_apart_over_a_restart() {
        let mut memory = Memory::new(0);
        let turns = [(10, 20, 700.0), (15, 21, 300.0), (10, 22, 700.0), (15, 23, 300.0)];
        let first: f64 = turns.iter().map(|(start, time, value)| grown(&mut memory, 1, *start, *time, *value)).sum();
        let mut again = Memory::new(1_000);
        again.restore(memory.take_fresh());
        let turns = [(15, 30, 300.0), (10, 31, 700.0), (15, 32, 310.0), (10, 33, 700.0)];
        let then: f64 = turns.iter().map(|(start, time, value)| grown(&mut again, 1, *start, *time, *value)).sum();
        assert_eq!((first, then), (1000.0, 10.0));
    }

    #[test]
    fn starts_that_are_not_before_their_times_add_nothing_over_a_restart() {
        let rising = |first: u64| (first..first + 60).step_by(10);
        for ahead in [0, 5, 1_000, u64::MAX - 10_000] {
            let grow = |memory: &mut Memory, first: u64| -> f64 {
                rising(first).map(|time| grown(memory, 1, time + ahead, time, time as f64)).sum()
            };
            let mut memory = Memory::new(50);
            let before = grow(&mut memory, 100);
            let mut again = Memory::new(1_000);
            again.restore(memory.take_fresh());
            assert_eq!((before, grow(&mut again, 1_100)), (150.0, 1_000.0), "{ahead} ahead");
        }
    }

    #[test]
    fn a_stream_whose_clock_is_ahead_takes_nothing_from_others_when_it_is_forgotten() {
        let mut memory = Memory::new(0);
        for id in 0..=MAX_STREAMS as u64 {
            grown(&mut memory, id, if id == 0 { u64::MAX } else { 10 }, 20, 1.0);
        }
        assert_eq!(grown(&mut memory, u64::MAX, 21, 30, 1.0), 1.0);
    }

    #[test]
    fn a_stream_that_was_forgotten_is_not_counted_again() {
        let mut memory = Memory::new(0);
        for id in 0..=MAX_STREAMS as u64 {
            assert_eq!(grown(&mut memory, id, 10, 20, 1.0), 1.0);
        }
        assert_eq!(grown(&mut memory, 0, 10, 30, 1.0), 0.0);
        assert_eq!(grown(&mut memory, u64::MAX, 11, 30, 1.0), 1.0, "one that began later is");
        assert_eq!(memory.take_fresh().since, Some(11));
    }
}
