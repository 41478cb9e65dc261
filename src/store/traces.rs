//! Runs, their spans, statistics and the registry of agents: `lookout.traces.db`.
//!
//! Written by one thread, in groups, each of which is one transaction: spans, the runs that they change and what that adds
//! to statistics. `synchronous=NORMAL`: a committed group survives the end of the process, not a power cut. Any number of
//! readers, of this program and of others, see the last committed group.

mod block;
mod prune;
pub mod query;
mod reader;
mod row;
mod seal;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::StoreError;
use super::file::{DatabaseLocation, Layout};
use super::health::FileHealth;
use crate::model::run_stats::Contribution;
use crate::model::{RegisteredAgent, Run, Span, TraceId};

pub use query::{RunCursor, RunFilter, StatsQuery};
pub use reader::TraceReader;
pub use writer::TraceStore;

static LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b33,
    migrations: &[include_str!("traces/schema.sql"), include_str!("traces/sharing.sql")],
    pragmas: "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8192; PRAGMA wal_autocheckpoint=4096; PRAGMA journal_size_limit=16777216;",
};

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLimits {
    /// How long runs are kept after their last span.
    pub retention: Duration,
    /// Maximum size of the file in bytes.
    pub max_size: u64,
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct TraceBatch<'a> {
    /// New and changed runs.
    pub runs: &'a [Run],
    /// Runs that became part of others.
    pub removed: &'a [TraceId],
    /// What is added to statistics.
    pub stats: Option<&'a Contribution>,
    /// New and changed agents.
    pub agents: &'a [RegisteredAgent],
}

/// Runs with all of their spans, to go on with them.
#[derive(Debug, Default)]
pub struct StoredRuns {
    /// The runs.
    pub runs: Vec<Run>,
    /// Their spans, and those of other runs in the same traces.
    pub spans: Vec<Span<'static>>,
}

/// Idle readers that are kept.
const MAX_IDLE: usize = 4;
/// How often, and how long after each other, opening a connection is tried again.
const OPEN_ATTEMPTS: u32 = 5;
const OPEN_RETRY: Duration = Duration::from_millis(20);

/// Readers of the file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceReaders {
    location: DatabaseLocation,
    health: Arc<FileHealth>,
    /// Changes when the file was replaced, so that open readers are of no use.
    generation: Arc<AtomicU64>,
    idle: Arc<Mutex<Vec<(u64, TraceReader)>>>,
}

impl TraceReaders {
    /// Calls `read` with a reader: an idle one, else one on a new connection.
    pub fn with<T>(&self, read: impl FnOnce(&TraceReader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let is_writable = self.health.is_ok();
        let generation = self.generation.load(Relaxed);
        let idle = || self.idle.lock().ok()?.pop().filter(|(opened, _)| *opened == generation);
        let reader = match idle().filter(|_| is_writable) {
            Some((_, reader)) => reader,
            // A file that can't be written is opened read-only: an open connection that may write would block that.
            None => self.open(is_writable)?,
        };
        let found = read(&reader);
        if is_writable
            && found.is_ok()
            && let Ok(mut idle) = self.idle.lock()
            && idle.len() < MAX_IDLE
        {
            idle.push((generation, reader));
        }
        found
    }

    /// A new connection. While the writer creates or replaces its files, opening them fails for a moment.
    fn open(&self, is_writable: bool) -> Result<TraceReader, StoreError> {
        let mut attempt = 0;
        loop {
            match self.location.connect_reader(&LAYOUT, is_writable) {
                Ok(connection) => return Ok(TraceReader::new(self.location.clone(), connection)),
                Err(error) if attempt >= OPEN_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
            std::thread::sleep(OPEN_RETRY);
        }
    }

    /// The path of the file, or `in memory`.
    pub fn path(&self) -> PathBuf {
        self.health.path().to_owned()
    }

    /// Size of the file and its write-ahead log, in bytes.
    pub fn size(&self) -> u64 {
        self.health.size()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Number of failed transactions.
    pub fn errors(&self) -> u64 {
        self.health.errors()
    }
}
