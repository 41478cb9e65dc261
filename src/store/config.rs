//! The configuration sections `store` and `record`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Problem;

/// The section `store`: where state is kept, for how long, and how much of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The file of the ledger. History is written next to it: `lookout.history.db` for `lookout.db`. With null
    /// everything is kept in memory.
    pub path: Option<PathBuf>,
    /// How long history is kept.
    #[serde(with = "crate::model::duration")]
    pub retention: Duration,
    /// Maximum size in bytes of both files together, write-ahead logs included. The ledger has a quarter of it, history
    /// three quarters. The oldest history is deleted first.
    pub max_size: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let retention = Duration::from_secs(30 * 24 * 3600);
        Self { path: Some(PathBuf::from("lookout.db")), retention, max_size: 1 << 30 }
    }
}

impl StoreConfig {
    /// The smallest valid `max_size`: the state of the fleet and the write-ahead logs need room.
    pub const MIN_SIZE: u64 = 32 << 20;

    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.retention.is_zero() {
            problems.push(Problem::new("store.retention", "must not be 0s; set it to a duration such as 30d"));
        }
        let (size, min) = (self.max_size, Self::MIN_SIZE);
        if size < min {
            let message = format!("{size} bytes are too few for the state of a fleet; set at least {min}");
            problems.push(Problem::new("store.max_size", message));
        }
        problems
    }

    /// The maximum sizes of the ledger and of history, in bytes.
    pub(super) const fn sizes(&self) -> [u64; 2] {
        [self.max_size / 4, self.max_size / 4 * 3]
    }

    /// The file of runs, spans and the registry: `x.traces.db` for `x.db`.
    pub fn traces_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("traces.db"))
    }

    /// The file of batches that wait until another system takes them: `x.export.db` for `x.db`.
    pub fn export_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("export.db"))
    }

    /// The file of the admin token that lookout makes where nothing else gives access: `x.token` for `x.db`.
    pub fn token_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("token"))
    }

    /// The file of the key that signs sessions of browsers: `x.session.key` for `x.db`.
    pub fn session_key_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("session.key"))
    }

    /// The file of history and of the saved state: `x.history.db` for `x.db`.
    pub fn history_path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.with_extension("history.db"))
    }
}

/// The section `record`: recording all input for `lookout replay`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordConfig {
    /// The file. When it is full it is renamed to `<path>.1`. Null, the default, turns recording off.
    pub path: Option<PathBuf>,
    /// Maximum size in bytes of both files together.
    pub max_size: u64,
}

impl RecordConfig {
    /// The smallest valid `max_size`.
    pub const MIN_SIZE: u64 = 64 * 1024;

    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let (size, min) = (self.max_size, Self::MIN_SIZE);
        if size >= min {
            return Vec::new();
        }
        let message = format!("{size} bytes are too few for a recording; set at least {min}");
        vec![Problem::new("record.max_size", message)]
    }
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self { path: None, max_size: 256 * 1024 * 1024 }
    }
}
