//! Health and counters of one file of the store, written by its thread and read by the rest of the program.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::StoreError;

/// An operation on a file. Each may fail while the other succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileOperation {
    /// Committing a transaction to the write-ahead log.
    Write = 1,
    /// Checkpointing the write-ahead log.
    Checkpoint = 2,
}

/// Health and counters of one file.
#[derive(Debug)]
pub(super) struct FileHealth {
    path: PathBuf,
    errors: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    size: AtomicU64,
    /// Maximum size in bytes.
    max_size: AtomicU64,
    /// One bit for each operation whose last outcome was a failure.
    failing: AtomicU8,
    /// Whether the content was lost since the last [`FileHealth::take_lost`].
    lost: AtomicBool,
    /// How long rows are kept, in milliseconds.
    retention: AtomicU64,
}

impl FileHealth {
    /// The health of the file at `path`; `unwritable` is the reason when it is read-only.
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
            health.failed(FileOperation::Write, error);
        }
        health
    }

    /// How long rows are kept.
    pub(super) fn retention(&self) -> Duration {
        Duration::from_millis(self.retention.load(Relaxed))
    }

    /// Changes how long rows are kept.
    pub(super) fn set_retention(&self, retention: Duration) {
        self.retention.store(millis(retention), Relaxed);
    }

    /// The path of the file, or `in memory`.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Records the outcome of an operation. The start and the end of an outage are logged.
    pub(super) fn record<T>(&self, operation: FileOperation, outcome: &Result<T, StoreError>) {
        match outcome {
            Err(error) => self.failed(operation, error),
            Ok(_) => {
                if matches!(operation, FileOperation::Write) {
                    self.written.fetch_add(1, Relaxed);
                }
                let failing = self.failing.fetch_and(!(operation as u8), Relaxed);
                if failing == operation as u8 {
                    tracing::info!(path = %self.path.display(), "store file is writable again");
                }
            }
        }
    }

    fn failed(&self, operation: FileOperation, error: &StoreError) {
        self.errors.fetch_add(1, Relaxed);
        if self.failing.fetch_or(operation as u8, Relaxed) == 0 {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                path = %self.path.display(),
                %error,
                cause,
                "store file is not writable; changes are kept in memory and written later"
            );
        }
    }

    pub(super) fn drop_rows(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    /// Records that the content of the file was lost.
    pub(super) fn set_lost(&self) {
        self.lost.store(true, Relaxed);
    }

    /// Whether the content of the file was lost since the last call.
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

    /// Last measured size of the file and its write-ahead log, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    pub(super) fn max_size(&self) -> u64 {
        self.max_size.load(Relaxed)
    }

    pub(super) fn set_max_size(&self, bytes: u64) {
        self.max_size.store(bytes, Relaxed);
    }

    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Relaxed);
    }

    pub(super) fn is_ok(&self) -> bool {
        self.failing.load(Relaxed) == 0
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
