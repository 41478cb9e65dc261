//! Deadlines by slot: one live deadline each, earliest first, moved without a search.
//!
//! A later deadline for a slot that has an earlier one is not recorded: the earlier one comes due, its
//! owner looks again and schedules what is true by then. So a fleet whose agents all report each second
//! moves no heap entries at all.

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
    /// Sees to it that `slot` comes due at `at` or earlier.
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
        // Entries that an earlier one replaced are dropped when they are the most of the heap.
        if self.heap.len() > 4 * self.live + 64 {
            let scheduled = &self.scheduled;
            self.heap.retain(|Reverse((at, slot))| scheduled.get(*slot as usize) == Some(&Some(*at)));
        }
    }

    /// Forgets the deadline of `slot`.
    pub fn cancel(&mut self, slot: u32) {
        if let Some(entry) = self.scheduled.get_mut(slot as usize)
            && entry.take().is_some()
        {
            self.live -= 1;
        }
    }

    /// The next slot whose deadline is `now` or earlier; it has no deadline any more.
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

    /// When the next deadline is. It may name one that was replaced or cancelled; then nothing is due by then.
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
    fn the_earliest_deadline_of_a_slot_counts() {
        let mut deadlines = Deadlines::default();
        deadlines.schedule(1, at(10));
        deadlines.schedule(1, at(20));
        deadlines.schedule(2, at(5));
        deadlines.schedule(1, at(7));
        assert_eq!(deadlines.pop_due(at(4)), None);
        assert_eq!(deadlines.pop_due(at(30)), Some(2));
        assert_eq!(deadlines.pop_due(at(30)), Some(1));
        assert_eq!(deadlines.pop_due(at(30)), None, "a replaced deadline does not come due");
    }

    #[test]
    fn moving_a_deadline_for_ever_takes_no_memory() {
        let mut deadlines = Deadlines::default();
        for seconds in (0..100_000).rev() {
            deadlines.schedule(0, at(seconds));
        }
        assert!(deadlines.heap.len() < 100, "{}", deadlines.heap.len());
        assert_eq!(deadlines.pop_due(at(0)), Some(0));
    }
}
