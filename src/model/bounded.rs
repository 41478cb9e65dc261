//! A map with a bound: the oldest entry is evicted first, and evictions are counted.
//!
//! It backs every cache whose keys come from outside, so that a flood of new keys cannot use more memory than the bound.
//! Entries are evicted in the order of insertion: reading or changing one does not keep it longer.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use foldhash::HashMap;

/// A map of at most `limit` entries; a new one evicts the oldest. `At` is the time of insertion, for maps that expire.
#[derive(Debug)]
pub struct BoundedMap<K, V = (), At = ()> {
    limit: usize,
    entries: HashMap<K, V>,
    order: VecDeque<(K, At)>,
    dropped: u64,
}

impl<K: Clone + Eq + Hash, V, At> BoundedMap<K, V, At> {
    /// An empty map of at most `limit` entries.
    pub fn new(limit: usize) -> Self {
        Self { limit, entries: HashMap::default(), order: VecDeque::new(), dropped: 0 }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries were evicted for lack of room; expired ones do not count.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether there is an entry for `key`.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The value of `key`, mutable.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Adds an entry unless its key exists; returns whether it was added.
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

    /// The value of `key`, inserted as its default if missing.
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

    /// Evicts the oldest entry if the map is full and returns it, for callers that must know which one it was.
    pub fn make_room(&mut self) -> Option<(K, V)> {
        if self.entries.len() < self.limit {
            return None;
        }
        self.dropped += 1;
        self.pop_oldest()
    }

    /// Removes the oldest entry.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (oldest, _) = self.order.pop_front()?;
        self.entries.remove_entry(&oldest)
    }

    /// Removes the oldest entries for as long as `is_expired` holds for their time of insertion.
    pub fn expire(&mut self, is_expired: impl Fn(&At) -> bool) {
        while self.order.front().is_some_and(|(_, at)| is_expired(at)) {
            self.pop_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_is_evicted_and_counted() {
        let mut map: BoundedMap<u8, &str> = BoundedMap::new(2);
        assert!(map.insert(1, "a", ()) && map.insert(2, "b", ()));
        assert!(!map.insert(1, "again", ()), "the key exists");
        assert_eq!((map.get(&1), map.len(), map.dropped()), (Some(&"a"), 2, 0));
        assert!(map.insert(3, "c", ()));
        assert_eq!((map.get(&1), map.len(), map.dropped()), (None, 2, 1));
        assert_eq!(map.make_room(), Some((2, "b")));
        assert_eq!(map.make_room(), None, "there is room");
        assert_eq!((map.pop_oldest(), map.is_empty(), map.dropped()), (Some((3, "c")), true, 2));
    }

    #[test]
    fn changing_an_entry_does_not_keep_it_longer() {
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
    fn entries_expire_in_order_of_insertion() {
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
