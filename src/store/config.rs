//! The sections `store`, where the ledger is kept and for how long history is, and `record`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Problem;

/// Where things are kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The ledger's file; history is beside it, `lookout.history.db` for `lookout.db`. Null keeps everything in memory.
    pub path: Option<PathBuf>,
    /// How long history is kept.
    #[serde(with = "crate::model::duration")]
    pub retention: Duration,
    /// Most bytes that the ledger and history have together, logs included: a quarter and three quarters. The oldest
    /// history goes first.
    pub max_size: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let retention = Duration::from_secs(30 * 24 * 3600);
        Self { path: Some(PathBuf::from("lookout.db")), retention, max_size: 1 << 30 }
    }
}

impl StoreConfig {
    /// The smallest `max_size`: the fleet itself and the logs need room.
    pub const SMALLEST: u64 = 32 << 20;

    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.retention.is_zero() {
            problems.push(Problem::new("store.retention", "is 0s; history needs a time, such as 30d"));
        }
        let (size, smallest) = (self.max_size, Self::SMALLEST);
        if size < smallest {
            let message = format!("{size} is too small for the state of a fleet; give at least {smallest} bytes");
            problems.push(Problem::new("store.max_size", message));
        }
        problems
    }

    /// Most bytes of the ledger and of history.
    pub(super) const fn sizes(&self) -> [u64; 2] {
        [self.max_size / 4, self.max_size / 4 * 3]
    }

    /// The file of history and saved state: `x.history.db` for `x.db`.
    pub fn history_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("history.db"))
    }
}

/// What comes in, recorded for `lookout replay`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordConfig {
    /// The file; the one before it is beside it, with `.1` behind its name. Null, the default, records nothing.
    pub path: Option<PathBuf>,
    /// Most bytes that both files have together.
    pub max_size: u64,
}

impl RecordConfig {
    /// The smallest `max_size`.
    pub const SMALLEST: u64 = 64 * 1024;

    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        let (size, smallest) = (self.max_size, Self::SMALLEST);
        if size >= smallest {
            return Vec::new();
        }
        let message = format!("{size} is too small to record anything; give at least {smallest} bytes");
        vec![Problem::new("record.max_size", message)]
    }
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self { path: None, max_size: 256 * 1024 * 1024 }
    }
}
