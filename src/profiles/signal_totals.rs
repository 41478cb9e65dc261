//! Usage summed up by signal, so that what a tool reports in several signals is counted once.
//!
//! A tool may report the same tokens as metrics, as logs and as spans, in any order, some of them late or never. Each
//! signal is summed up by itself, and the largest of the sums counts: an amount is counted when the first signal brings
//! it, and not again when the others follow.

use std::collections::HashMap;

use super::profile::{COLUMNS, UsageColumn};
use crate::decode::read::MAX_COUNT;
use crate::model::{BoundedMap, GroupCount};

/// Amounts by column.
pub(super) type Amounts = [f64; COLUMNS];

/// Groups that are remembered; a new one evicts the oldest.
const MAX_GROUPS: usize = 65_536;
/// Signals of one group: three from several libraries, and the price list.
const MAX_SIGNALS: usize = 12;
/// The id of the configured price list among the signals of a group. It has the cost of tokens where no signal reports it.
pub(super) const PRICE_LIST: u64 = 0;

/// What the signals of one process reported for one model.
#[derive(Debug, Default)]
struct SignalGroup {
    /// The sums of each signal, by its id.
    signals: Vec<(u64, Amounts)>,
    /// What has been counted of them.
    counted: Amounts,
    /// The signal that request durations are taken from.
    timed_by: Option<u64>,
    /// Whether the group is in [`SignalTotals::changed`].
    is_changed: bool,
}

/// The sums of all groups, by the digest of the group.
#[derive(Debug)]
pub(super) struct SignalTotals {
    groups: BoundedMap<u64, SignalGroup>,
    /// Groups that changed since they were last saved.
    changed: Vec<u64>,
}

impl Default for SignalTotals {
    fn default() -> Self {
        Self { groups: BoundedMap::new(MAX_GROUPS), changed: Vec::new() }
    }
}

impl SignalTotals {
    /// Restores the sums that were saved before a restart.
    pub(super) fn restore(&mut self, groups: HashMap<u64, GroupCount>) {
        for (id, saved) in groups.into_iter().take(MAX_GROUPS) {
            let signals = saved.meters.iter().take(MAX_SIGNALS).map(|(id, sums)| (*id, restored(sums))).collect();
            let counted = restored(&saved.counted);
            let group = SignalGroup { signals, counted, timed_by: saved.timed_by, is_changed: false };
            self.groups.insert(id, group, ());
        }
    }

    /// The groups that changed since the last call, to be saved.
    pub(super) fn take_changed(&mut self) -> HashMap<u64, GroupCount> {
        let mut changed = HashMap::new();
        for id in self.changed.drain(..) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.is_changed = false;
            let meters = group.signals.iter().map(|(id, sums)| (*id, sums.to_vec())).collect();
            changed.insert(id, GroupCount { meters, counted: group.counted.to_vec(), timed_by: group.timed_by });
        }
        changed
    }

    /// The group, marked as changed.
    fn group_mut(&mut self, group: u64) -> &mut SignalGroup {
        let known = self.groups.get_or_default(group, ());
        if !std::mem::replace(&mut known.is_changed, true) {
            self.changed.push(group);
        }
        known
    }

    /// Adds to the sums of `signal` in `group`. [`SignalTotals::take_increase`] then returns what of it is new.
    pub(super) fn add(&mut self, group: u64, signal: u64, amounts: &Amounts) {
        let known = self.group_mut(group);
        let position = match known.signals.iter().position(|(id, _)| *id == signal) {
            Some(position) => position,
            None if known.signals.len() < MAX_SIGNALS => {
                known.signals.push((signal, [0.0; COLUMNS]));
                known.signals.len() - 1
            }
            None => return,
        };
        if let Some((_, sums)) = known.signals.get_mut(position) {
            sums.iter_mut().zip(amounts).for_each(|(sum, amount)| *sum += amount);
        }
    }

    /// Whether a signal of the group has reported what its tokens cost.
    pub(super) fn has_reported_cost(&self, group: u64) -> bool {
        let has_cost = |(signal, sums): &(u64, Amounts)| {
            *signal != PRICE_LIST && sums.get(UsageColumn::Cost as usize).is_some_and(|cost| *cost > 0.0)
        };
        self.groups.get(&group).is_some_and(|group| group.signals.iter().any(has_cost))
    }

    /// Whether request durations of `group` are taken from `signal`; the first signal that asks becomes that one.
    pub(super) fn is_duration_source(&mut self, group: u64, signal: u64) -> bool {
        *self.group_mut(group).timed_by.get_or_insert(signal) == signal
    }

    /// What no signal had reported before, which counts from now on. Whole numbers, but for cost.
    pub(super) fn take_increase(&mut self, group: u64) -> Amounts {
        let mut increase = [0.0; COLUMNS];
        let Some(group) = self.groups.get_mut(&group) else { return increase };
        let mut largest = [0.0; COLUMNS];
        for (column, largest) in largest.iter_mut().enumerate() {
            let sums = group.signals.iter().filter_map(|(_, sums)| sums.get(column)).copied();
            *largest = sums.fold(0.0, f64::max);
        }
        let cached = [UsageColumn::CacheRead, UsageColumn::CacheCreation];
        subtract_parts(&mut largest, &group.counted, UsageColumn::Input, &cached);
        subtract_parts(&mut largest, &group.counted, UsageColumn::Output, &[UsageColumn::Reasoning]);
        for (column, (increase, counted)) in increase.iter_mut().zip(&mut group.counted).enumerate() {
            let step = largest.get(column).copied().unwrap_or_default() - *counted;
            let step = if column == UsageColumn::Cost as usize { step } else { step.floor() };
            // No real export adds more than that, however many items it has.
            let step = step.min(MAX_COUNT as f64);
            // Sums of the same costs in another order differ by less than a millionth of a cent.
            if step > 1e-8 && step.is_finite() {
                *counted += step;
                *increase = step;
            }
        }
        increase
    }
}

/// Sums as they were saved; columns that were added since are 0.
fn restored(saved: &[f64]) -> Amounts {
    let mut amounts = [0.0; COLUMNS];
    amounts.iter_mut().zip(saved).filter(|(_, saved)| saved.is_finite()).for_each(|(sum, saved)| *sum = *saved);
    amounts
}

/// Reduces `whole`, in which the `parts` are included, to what is left without them.
///
/// A part that was counted within the whole before any signal reported it apart stays there: what one signal reports apart
/// and another does not is counted once.
fn subtract_parts(largest: &mut Amounts, counted: &Amounts, whole: UsageColumn, parts: &[UsageColumn]) {
    let get = |amounts: &Amounts, column: UsageColumn| amounts.get(column as usize).copied().unwrap_or_default();
    let all = parts.iter().fold(get(counted, whole), |sum, part| sum + get(counted, *part));
    let mut uncounted = (get(largest, whole) - all).max(0.0);
    for part in parts {
        let known = get(counted, *part);
        let step = (get(largest, *part) - known).clamp(0.0, uncounted);
        uncounted -= step;
        if let Some(amount) = largest.get_mut(*part as usize) {
            *amount = known + step;
        }
    }
    if let Some(amount) = largest.get_mut(whole as usize) {
        *amount = get(counted, whole) + uncounted;
    }
}
