//! How a file of the store fares: what its thread tells the rest of the program without a message.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::StoreError;

/// What is done with a file. Each may fail while the other succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A transaction, up to its end in the log.
    Write = 1,
    /// Folding the log into the file.
    Fold = 2,
}

/// Counters of one file. The thread that owns the file writes them; everybody may read.
#[derive(Debug)]
pub(super) struct Health {
    path: PathBuf,
    errors: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    size: AtomicU64,
    /// Most bytes that it may have.
    max_size: AtomicU64,
    /// Bits of the steps that failed last time.
    failing: AtomicU8,
    /// Whether what the file held was lost since somebody asked.
    lost: AtomicBool,
    /// How long rows are kept, in milliseconds.
    retention: AtomicU64,
}

impl Health {
    /// The health of the file at `path`; `unwritable` is why it can only be read.
    pub(super) fn new(path: &Path, unwritable: Option<&StoreError>) -> Self {
        let health = Self {
            path: path.to_owned(),
            errors: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            size: AtomicU64::new(0),
            max_size: AtomicU64::new(u64::MAX),
            failing: AtomicU8::new(0),
            lost: AtomicBool::new(false),
            retention: AtomicU64::new(0),
        };
        if let Some(error) = unwritable {
            health.failed(Step::Write, error);
        }
        health
    }

    /// How long rows are kept.
    pub(super) fn retention(&self) -> Duration {
        Duration::from_millis(self.retention.load(Relaxed))
    }

    /// Keeps rows for so long from now on.
    pub(super) fn set_retention(&self, retention: Duration) {
        self.retention.store(millis(retention), Relaxed);
    }

    /// Where the file is; `in memory` when there is none.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in the outcome of a step; an outage is logged when it begins and when it ends.
    pub(super) fn record<T>(&self, step: Step, outcome: &Result<T, StoreError>) {
        match outcome {
            Err(error) => self.failed(step, error),
            Ok(_) => {
                if matches!(step, Step::Write) {
                    self.written.fetch_add(1, Relaxed);
                }
                let failing = self.failing.fetch_and(!(step as u8), Relaxed);
                if failing == step as u8 {
                    tracing::info!(path = %self.path.display(), "store can be written again");
                }
            }
        }
    }

    fn failed(&self, step: Step, error: &StoreError) {
        self.errors.fetch_add(1, Relaxed);
        if self.failing.fetch_or(step as u8, Relaxed) == 0 {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                path = %self.path.display(),
                %error,
                cause,
                "store cannot be written; what comes is kept in memory and written once it can be"
            );
        }
    }

    pub(super) fn drop_rows(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    /// Notes that what the file held was lost.
    pub(super) fn lose(&self) {
        self.lost.store(true, Relaxed);
    }

    /// Whether what the file held was lost since the last call.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Relaxed)
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Transactions that succeeded.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Bytes of the file and its log, when they were last measured.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    pub(super) fn max_size(&self) -> u64 {
        self.max_size.load(Relaxed)
    }

    pub(super) fn set_max_size(&self, bytes: u64) {
        self.max_size.store(bytes, Relaxed);
    }

    pub(super) fn measured(&self, size: u64) {
        self.size.store(size, Relaxed);
    }

    pub(super) fn is_ok(&self) -> bool {
        self.failing.load(Relaxed) == 0
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
