//! How a file of the store fares: what its thread tells the rest of the program without a message.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::error::StoreError;

/// Counters of one file. The thread that owns the file writes them; everybody may read.
#[derive(Debug)]
pub(super) struct Health {
    path: PathBuf,
    errors: AtomicU64,
    dropped: AtomicU64,
    failing: AtomicBool,
    /// Whether it fails until the next start, whatever is written where.
    unwritable: bool,
    /// How long rows are kept, in milliseconds.
    retention: AtomicU64,
}

impl Health {
    /// The health of the file at `path`; `unwritable` is why nothing is kept in it.
    pub(super) fn new(path: &Path, unwritable: Option<&StoreError>) -> Self {
        if let Some(error) = unwritable {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(
                path = %path.display(),
                %error,
                cause,
                "store cannot be written: what it holds was read, and what comes is kept in memory until a restart finds it writable"
            );
        }
        Self {
            path: path.to_owned(),
            errors: AtomicU64::new(u64::from(unwritable.is_some())),
            dropped: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            unwritable: unwritable.is_some(),
            retention: AtomicU64::new(0),
        }
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

    /// Takes in the outcome of a transaction; an outage is logged when it begins and when it ends.
    pub(super) fn wrote(&self, outcome: &Result<(), StoreError>) {
        let path = self.path.display();
        match outcome {
            Err(error) => {
                self.errors.fetch_add(1, Relaxed);
                if !self.failing.swap(true, Relaxed) {
                    let cause = error.source().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%path, %error, cause, "store cannot be written");
                }
            }
            Ok(()) => {
                if self.failing.swap(false, Relaxed) {
                    tracing::info!(%path, "store can be written again");
                }
            }
        }
    }

    pub(super) fn drop_rows(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(super) fn is_ok(&self) -> bool {
        !self.unwritable && !self.failing.load(Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
