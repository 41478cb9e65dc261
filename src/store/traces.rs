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
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    migrations: &[include_str!("traces/schema.sql")],
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

/// Opens a reader whenever one is needed.
#[derive(Clone, Debug)]
pub struct TraceReaders {
    location: DatabaseLocation,
    health: Arc<FileHealth>,
    generation: Arc<AtomicU64>,
}

impl TraceReaders {
    /// A reader on a connection of its own.
    pub fn open(&self) -> Result<TraceReader, StoreError> {
        // A file that can't be written is opened read-only: an open connection that may write would block that.
        TraceReader::new(self.location.clone(), self.location.connect_reader(&LAYOUT, self.health.is_ok())?)
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

    /// Changes when the file was replaced, so that open readers must be opened again.
    pub fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Relaxed)
    }
}
