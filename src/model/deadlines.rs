//! Timers by slot: at most one deadline per slot, in a heap, with lazy removal.
//!
//! Moving a deadline to a later time is not recorded: the earlier one fires, and its owner checks again and schedules the
//! next. So agents that all report every second cause no heap operations at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Time;

/// A heap of deadlines, at most one for each slot.
#[derive(Clone, Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Time, u32)>>,
    scheduled: Vec<Option<Time>>,
    live: usize,
}

impl Deadlines {
    /// Makes `slot` due at `at`, unless it is due earlier already.
    pub fn schedule(&mut self, slot: u32, at: Time) {
        let place = slot as usize;
        if place >= self.scheduled.len() {
            self.scheduled.resize(place + 1, None);
        }
        let Some(entry) = self.scheduled.get_mut(place) else { return };
        match entry {
            Some(earlier) if *earlier <= at => return,
            Some(_) => {}
            None => self.live += 1,
        }
        *entry = Some(at);
        self.heap.push(Reverse((at, slot)));
        // Stale entries are removed once they make up most of the heap.
        if self.heap.len() > 4 * self.live + 64 {
            let scheduled = &self.scheduled;
            self.heap.retain(|Reverse((at, slot))| scheduled.get(*slot as usize) == Some(&Some(*at)));
        }
    }

    /// Removes the deadline of `slot`.
    pub fn cancel(&mut self, slot: u32) {
        if let Some(entry) = self.scheduled.get_mut(slot as usize)
            && entry.take().is_some()
        {
            self.live -= 1;
        }
    }

    /// Removes and returns the next slot whose deadline is `now` or earlier.
    pub fn pop_due(&mut self, now: Time) -> Option<u32> {
        while let Some(Reverse((at, slot))) = self.heap.peek().copied() {
            let live = self.scheduled.get(slot as usize) == Some(&Some(at));
            if live && at > now {
                return None;
            }
            self.heap.pop();
            if live {
                self.cancel(slot);
                return Some(slot);
            }
        }
        None
    }

    /// The earliest deadline in the heap. It may have been replaced or cancelled; then nothing is due at that time.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn a_slot_is_due_once_at_its_earliest_deadline() {
        let mut deadlines = Deadlines::default();
        deadlines.schedule(1, at(10));
        deadlines.schedule(1, at(20));
        deadlines.schedule(2, at(5));
        deadlines.schedule(1, at(7));
        assert_eq!(deadlines.pop_due(at(4)), None);
        assert_eq!(deadlines.pop_due(at(30)), Some(2));
        assert_eq!(deadlines.pop_due(at(30)), Some(1));
        assert_eq!(deadlines.pop_due(at(30)), None, "a replaced deadline does not fire");
    }

    #[test]
    fn moving_a_deadline_repeatedly_uses_bounded_memory() {
        let mut deadlines = Deadlines::default();
        for seconds in (0..100_000).rev() {
            deadlines.schedule(0, at(seconds));
        }
        assert!(deadlines.heap.len() < 100, "{}", deadlines.heap.len());
        assert_eq!(deadlines.pop_due(at(0)), Some(0));
    }
}
