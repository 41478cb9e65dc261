//! A map that keeps what came last: with a bound, an order to forget in, and a count of what had no room.
//!
//! What was seen, what was counted and what was posted is remembered in one, so that no flood of new names takes more
//! memory than the bound. Reading or changing an entry does not keep it longer: the order is that of arrival.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map of `limit` entries at most; the oldest makes room for a new one. `At` is when an entry came, where that matters.
#[derive(Debug)]
pub struct BoundedMap<K, V = (), At = ()> {
    limit: usize,
    entries: HashMap<K, V>,
    order: VecDeque<(K, At)>,
    dropped: u64,
}

impl<K: Clone + Eq + Hash, V, At> BoundedMap<K, V, At> {
    /// An empty map of `limit` entries at most.
    pub fn new(limit: usize) -> Self {
        Self { limit, entries: HashMap::new(), order: VecDeque::new(), dropped: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries were dropped because there was no room; what expired is not counted.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether `key` is known.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// What is kept for `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// What is kept for `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Adds an entry unless its key is known; whether it was new.
    pub fn insert(&mut self, key: K, value: V, at: At) -> bool {
        let Entry::Vacant(place) = self.entries.entry(key.clone()) else { return false };
        place.insert(value);
        self.order.push_back((key, at));
        if self.entries.len() > self.limit {
            self.dropped += 1;
            self.pop_oldest();
        }
        true
    }

    /// What is kept for `key`, which begins as its default.
    pub fn get_or_default(&mut self, key: K, at: At) -> &mut V
    where
        V: Default,
    {
        if !self.contains(&key) {
            self.make_room();
            self.order.push_back((key.clone(), at));
        }
        self.entries.entry(key).or_default()
    }

    /// Drops the oldest entry where there is no room for one more; for callers who have to know which one it is.
    pub fn make_room(&mut self) -> Option<(K, V)> {
        if self.entries.len() < self.limit {
            return None;
        }
        self.dropped += 1;
        self.pop_oldest()
    }

    /// Takes out the oldest entry.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (oldest, _) = self.order.pop_front()?;
        self.entries.remove_entry(&oldest)
    }

    /// Forgets the oldest entries for as long as `is_over` says so of when they came.
    pub fn expire(&mut self, is_over: impl Fn(&At) -> bool) {
        while self.order.front().is_some_and(|(_, at)| is_over(at)) {
            self.pop_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_is_counted() {
        let mut map: BoundedMap<u8, &str> = BoundedMap::new(2);
        assert!(map.insert(1, "a", ()) && map.insert(2, "b", ()));
        assert!(!map.insert(1, "again", ()), "it is known");
        assert_eq!((map.get(&1), map.len(), map.dropped()), (Some(&"a"), 2, 0));
        assert!(map.insert(3, "c", ()));
        assert_eq!((map.get(&1), map.len(), map.dropped()), (None, 2, 1));
        assert_eq!(map.make_room(), Some((2, "b")));
        assert_eq!(map.make_room(), None, "there is room");
        assert_eq!((map.pop_oldest(), map.is_empty(), map.dropped()), (Some((3, "c")), true, 2));
    }

    #[test]
    fn an_entry_begins_as_its_default_and_keeps_its_place() {
        let mut map: BoundedMap<u8, u32> = BoundedMap::new(2);
        for key in [1, 2, 1, 3] {
            *map.get_or_default(key, ()) += 1;
        }
        assert_eq!((map.get(&1), map.get(&2), map.get(&3)), (None, Some(&1), Some(&1)));
        if let Some(count) = map.get_mut(&2) {
            *count = 7;
        }
        assert_eq!(map.pop_oldest(), Some((2, 7)));
    }

    #[test]
    fn what_is_over_expires_in_order() {
        let mut map: BoundedMap<u8, (), u64> = BoundedMap::new(9);
        for (key, at) in [(1, 10), (2, 20), (3, 5)] {
            map.insert(key, (), at);
        }
        map.expire(|at| *at <= 10);
        assert!(!map.contains(&1) && map.contains(&2) && map.contains(&3), "3 waits behind 2");
        map.expire(|at| *at <= 20);
        assert_eq!((map.len(), map.dropped()), (0, 0));
    }
}
