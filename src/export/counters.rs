//! Counters of the exports, by target and signal.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::model::Time;
use crate::otlp::Signal;
use crate::store::spool::SpoolHealth;

/// Why items were dropped before a target took them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Too much waited for the thread that writes the spool.
    Busy,
    /// The spool can't be written.
    Disk,
    /// The spool was full.
    Size,
    /// They waited for too long.
    Age,
    /// This sidecar had sent them before: they came back.
    Loop,
    /// The target refused their batch for good.
    Refused,
    /// A single item is larger than the target takes.
    TooLarge,
    /// The target refused the sender for an hour.
    Unauthorized,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Busy, Self::Disk, Self::Size, Self::Age, Self::Loop, Self::Refused, Self::TooLarge, Self::Unauthorized];

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Disk => "disk",
            Self::Size => "size",
            Self::Age => "age",
            Self::Loop => "loop",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// Counters of one lane: a signal for a target.
#[derive(Debug)]
pub struct LaneCounters {
    /// The target.
    pub target: &'static str,
    /// The signal.
    pub signal: Signal,
    /// Batches that the target took.
    pub sent_batches: AtomicU64,
    /// Items that the target took.
    pub sent_items: AtomicU64,
    /// Items that the target rejected of batches that it took.
    pub rejected_items: AtomicU64,
    /// Attempts that failed.
    pub errors: AtomicU64,
    /// Items that were dropped, by [`DropReason`].
    pub dropped_items: [AtomicU64; DropReason::ALL.len()],
    /// Bytes that wait in the spool.
    pub waiting_bytes: AtomicU64,
    /// Items that wait in the spool.
    pub waiting_items: AtomicU64,
    oldest: AtomicI64,
    last_success: AtomicI64,
    last_error: Mutex<String>,
}

/// Stands for no time.
const NEVER: i64 = i64::MIN;

impl LaneCounters {
    /// Counters at zero.
    pub(super) fn new(target: &'static str, signal: Signal) -> Self {
        Self {
            target,
            signal,
            sent_batches: AtomicU64::new(0),
            sent_items: AtomicU64::new(0),
            rejected_items: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dropped_items: Default::default(),
            waiting_bytes: AtomicU64::new(0),
            waiting_items: AtomicU64::new(0),
            oldest: AtomicI64::new(NEVER),
            last_success: AtomicI64::new(NEVER),
            last_error: Mutex::default(),
        }
    }

    /// When the oldest batch that waits came; `None` if none waits.
    pub fn oldest(&self) -> Option<Time> {
        time(&self.oldest)
    }

    /// When the target last took a batch.
    pub fn last_success(&self) -> Option<Time> {
        time(&self.last_success)
    }

    /// Items that were dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped_items.get(reason as usize).map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn drop_items(&self, reason: DropReason, items: u64) {
        if let Some(count) = self.dropped_items.get(reason as usize) {
            count.fetch_add(items, Relaxed);
        }
    }

    pub(super) fn set_oldest(&self, oldest: Option<Time>) {
        self.oldest.store(oldest.map_or(NEVER, |at| at.as_millis()), Relaxed);
    }

    /// Why the last attempt failed; empty after a success.
    pub fn last_error(&self) -> String {
        self.last_error.lock().map(|error| error.clone()).unwrap_or_default()
    }

    pub(super) fn set_last_error(&self, error: &str) {
        if let Ok(mut last) = self.last_error.lock() {
            error.clone_into(&mut last);
        }
    }

    pub(super) fn succeeded(&self, now: Time) {
        self.last_success.store(now.as_millis(), Relaxed);
    }
}

fn time(at: &AtomicI64) -> Option<Time> {
    Some(at.load(Relaxed)).filter(|at| *at != NEVER).map(Time::from_millis)
}

/// Counters of all lanes, and the health of the spool.
#[derive(Debug)]
pub struct ExportCounters {
    /// By target and signal.
    pub lanes: Vec<Arc<LaneCounters>>,
    /// The spool.
    pub spool: SpoolHealth,
}
