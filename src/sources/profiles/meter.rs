//! Sums of what each signal of a producer says, so that what several signals say counts once.
//!
//! A tool that sends its tokens as metrics, as logs and as spans says the same thing three times, in any order and some of
//! it late or never. Each signal is summed up by itself, and what counts is the furthest of the sums: an amount is
//! counted when the first signal brings it, and not again when the others do.

use std::collections::{HashMap, HashSet, VecDeque};

use super::table::{COLUMNS, Column};

/// Amounts by column.
pub(super) type Amounts = [f64; COLUMNS];

/// Producers and models remembered; who comes after evicts whom was first.
const MAX_GROUPS: usize = 16_384;
/// Signals of one group: three, from several libraries.
const MAX_METERS: usize = 8;
/// Items and points remembered, by which a retried export is known.
const MAX_SEEN: usize = 262_144;
/// Cumulative streams remembered.
const MAX_STREAMS: usize = 65_536;

#[derive(Debug, Default)]
struct Group {
    meters: Vec<(u64, Amounts)>,
    counted: Amounts,
    /// The meter that its durations are taken from.
    timed_by: Option<u64>,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Meters {
    groups: HashMap<u64, Group>,
    order: VecDeque<u64>,
}

impl Meters {
    /// Adds to what `meter` says in `group`; [`Meters::settle`] says what of it is news.
    pub(super) fn add(&mut self, group: u64, meter: u64, amounts: &Amounts) {
        if !self.groups.contains_key(&group) {
            self.order.push_back(group);
            if self.order.len() > MAX_GROUPS
                && let Some(oldest) = self.order.pop_front()
            {
                self.groups.remove(&oldest);
            }
        }
        let known = self.groups.entry(group).or_default();
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

    /// Whether `meter` is the one that the durations of `group` are taken from; the first that asks is.
    pub(super) fn times(&mut self, group: u64, meter: u64) -> bool {
        self.groups.get_mut(&group).is_none_or(|group| *group.timed_by.get_or_insert(meter) == meter)
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
            // A millionth of a cent is how sums in another order differ.
            if step > 1e-8 && step.is_finite() {
                *counted += step;
                *news = step;
            }
        }
        news
    }
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

/// What was seen before, and the last values of cumulative streams; the oldest are forgotten.
#[derive(Debug, Default)]
pub(super) struct Memory {
    seen: HashSet<u64>,
    seen_order: VecDeque<u64>,
    streams: HashMap<u64, (u64, u64, f64)>,
    streams_order: VecDeque<u64>,
}

impl Memory {
    /// Whether it is new; it is not the next time.
    pub(super) fn is_new(&mut self, digest: u64) -> bool {
        if !self.seen.insert(digest) {
            return false;
        }
        self.seen_order.push_back(digest);
        if self.seen_order.len() > MAX_SEEN
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// By how much a cumulative stream grew. What it had counted before `since`, nobody was there to hear.
    pub(super) fn grown(&mut self, stream: u64, start: u64, time: u64, value: f64, since: u64) -> f64 {
        match self.streams.insert(stream, (start, time, value)) {
            Some((old_start, old_time, old)) if old_start == start && time < old_time => {
                self.streams.insert(stream, (old_start, old_time, old));
                0.0
            }
            Some((old_start, _, old)) if old_start == start && value >= old => value - old,
            // It began anew.
            Some(_) => value,
            None => {
                self.streams_order.push_back(stream);
                if self.streams_order.len() > MAX_STREAMS
                    && let Some(oldest) = self.streams_order.pop_front()
                {
                    self.streams.remove(&oldest);
                }
                if start >= since { value } else { 0.0 }
            }
        }
    }
}
