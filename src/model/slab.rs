//! A copy-on-write collection addressed by slot, which makes a snapshot of ten thousand agents cheap.
//!
//! Items live in chunks behind `Arc`. A clone costs one reference count per chunk, and a write after a clone copies only
//! the chunk that it changes.

use std::sync::Arc;

/// Items per chunk: few enough that a write after a snapshot copies little, enough that a snapshot clones few chunks.
const CHUNK: usize = 16;

/// A copy-on-write collection addressed by stable `u32` slots.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Vec<Arc<Vec<Option<T>>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Slab<T> {
    /// The number of items.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One past the highest slot, for tables that are indexed by the same slots.
    pub fn slots(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The item in `slot`.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }

    /// The item in `slot`, mutable; copies its chunk if a clone shares it.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?;
        Arc::make_mut(chunk).get_mut(slot as usize % CHUNK)?.as_mut()
    }

    /// Inserts the item that `make` builds for its slot, and returns the slot.
    pub fn insert_with(&mut self, make: impl FnOnce(u32) -> T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.free.pop()
            && let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK)
            && let Some(place) = Arc::make_mut(chunk).get_mut(slot as usize % CHUNK)
        {
            *place = Some(make(slot));
            return slot;
        }
        let slot = u32::try_from(self.slots()).unwrap_or(u32::MAX);
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(Some(make(slot))),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(Some(make(slot)));
                self.chunks.push(Arc::new(chunk));
            }
        }
        slot
    }

    /// Removes the item in `slot`. The slot is not reused before [`Slab::release`].
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?;
        let item = Arc::make_mut(chunk).get_mut(slot as usize % CHUNK)?.take()?;
        self.len -= 1;
        Some(item)
    }

    /// Makes a removed slot available again, once all tables that are indexed by slot have been updated.
    pub fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// The slots whose items may differ from those of `before`, an earlier clone, each with the items then and now. Chunks
    /// that both share are skipped.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
        let chunks = self.chunks.len().max(before.chunks.len());
        let is_shared = |place: usize| match (self.chunks.get(place), before.chunks.get(place)) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        let item = |slab: &'a Self, place: usize, at: usize| slab.chunks.get(place)?.get(at)?.as_ref();
        (0..chunks)
            .filter(move |place| !is_shared(*place))
            .flat_map(|place| (0..CHUNK).map(move |at| (place, at)))
            .map(move |(place, at)| (item(before, place, at), item(self, place, at)))
            .filter(|(then, now)| then.is_some() || now.is_some())
    }

    /// All items in slot order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_found_without_looking_at_what_is_shared() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..100).map(|n| slab.insert_with(|_| n)).collect();
        let before = slab.clone();
        assert_eq!(slab.changes_since(&before).count(), 0);
        *slab.get_mut(slots[40]).expect("there") = 1_000;
        slab.remove(slots[99]);
        let looked_at: Vec<_> = slab.changes_since(&before).collect();
        assert_eq!(looked_at.len(), CHUNK + 4, "two chunks, the last of which is not full");
        let differing: Vec<_> = looked_at.into_iter().filter(|(then, now)| then != now).collect();
        assert_eq!(differing, [(Some(&40), Some(&1_000)), (Some(&99), None)]);
        assert_eq!(slab.changes_since(&Slab::default()).filter(|(then, _)| then.is_none()).count(), 99);
    }

    #[test]
    fn a_clone_is_not_changed_by_later_writes() {
        let mut slab = Slab::default();
        let slots: Vec<u32> = (0..100).map(|n| slab.insert_with(|_| n)).collect();
        let before = slab.clone();
        *slab.get_mut(slots[40]).expect("there") = 1_000;
        slab.remove(slots[41]);
        assert_eq!((before.get(40), before.get(41), before.len()), (Some(&40), Some(&41), 100));
        assert_eq!((slab.get(40), slab.get(41), slab.len()), (Some(&1_000), None, 99));
        assert_eq!(slab.insert_with(|slot| slot as i32), 100, "a removed slot waits for its release");
        slab.release(41);
        assert_eq!(slab.insert_with(|slot| slot as i32), 41);
        assert_eq!(slab.iter().count(), 101);
    }
}
