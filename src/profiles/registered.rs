//! Registered agents by id: platforms name the agent of a call by its id in the registry.
//!
//! The registry's owner publishes names, and each reader keeps a copy of its own. A reader that has all names sees that
//! without a lock; only what is new is handed over under one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Most ids that are kept; the registry has room for as many agents.
const MAX_NAMES: usize = 100_000;

/// A registered agent: its id, its project and its name.
pub type RegisteredName = (Arc<str>, Arc<str>, Arc<str>);

/// Hands new names over to one reader. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct NameFeed(Arc<FeedState>);

#[derive(Debug, Default)]
struct FeedState {
    has_news: AtomicBool,
    news: Mutex<Vec<RegisteredName>>,
}

impl NameFeed {
    /// Adds names.
    pub fn publish(&self, names: impl IntoIterator<Item = RegisteredName>) {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        let before = news.len();
        let room = MAX_NAMES.saturating_sub(before);
        news.extend(names.into_iter().take(room));
        if news.len() > before {
            self.0.has_news.store(true, Ordering::Release);
        }
    }
}

/// A reader's copy.
#[derive(Debug, Default)]
pub struct RegisteredNames {
    names: HashMap<Arc<str>, (Arc<str>, Arc<str>)>,
    feed: NameFeed,
}

impl RegisteredNames {
    /// A copy that takes what `feed` hands over.
    pub fn fed_by(feed: NameFeed) -> Self {
        Self { names: HashMap::new(), feed }
    }

    /// Takes what is new.
    pub fn refresh(&mut self) {
        if self.feed.0.has_news.swap(false, Ordering::AcqRel) {
            let news = std::mem::take(&mut *self.feed.0.news.lock().unwrap_or_else(PoisonError::into_inner));
            for name in news {
                self.add(name);
            }
        }
    }

    /// Adds a name; returns whether it was not known.
    pub fn add(&mut self, (id, project, agent): RegisteredName) -> bool {
        let name = (project, agent);
        if self.names.get(&id) == Some(&name) || self.names.len() >= MAX_NAMES && !self.names.contains_key(&id) {
            return false;
        }
        self.names.insert(id, name);
        true
    }

    /// The project and the name of the agent with this id.
    pub(super) fn get(&self, id: &str) -> Option<&(Arc<str>, Arc<str>)> {
        self.names.get(id)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
