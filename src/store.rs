//! What must outlive the process: alerts and the outbox (the ledger), history and the saved state of the fleet.
//!
//! Two SQLite files, each written by a thread of its own behind a bounded queue. The ledger is durable before a
//! notification is sent; history is written in bulk and never delays a notification. Both can be read with `sqlite3`
//! while lookout runs. An optional recording of all input is a third file.

pub mod config;
mod database;
pub mod error;
mod file;
mod health;
pub mod history;
pub mod ledger;
mod lock;
mod queue;
pub mod record;
pub mod shared_registry;
pub mod spool;
pub mod traces;

use std::time::Duration;

pub use config::StoreConfig;
pub use error::StoreError;
pub use history::{ClosedFilter, FleetSave, History, HistoryEntry, HistoryHandle, SaveSlot, SavedFleet, UsageBody};
pub use ledger::{
    Commit, CommitReceipt, Ledger, LedgerCounts, LedgerHandle, LostNotice, NoticeOutcome, RestoredLedger,
};
pub use record::Recorder;

use crate::clock::Clock;

/// Handles of both open files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// Alerts, and the outbox of notifications whose delivery is pending.
    pub ledger: LedgerHandle,
    /// Past status changes and alerts, and the saved state of the fleet.
    pub history: HistoryHandle,
}

impl Store {
    /// Opens both files and returns their content. Both are in memory when the configuration names no path.
    ///
    /// The directory must exist. A damaged file is moved aside, see [`RestoredLedger::damaged`] and [`SavedFleet::damaged`].
    pub fn open(config: &StoreConfig, clock: &Clock) -> Result<(Self, RestoredLedger, SavedFleet), StoreError> {
        let StoreConfig { path, retention, .. } = config;
        let [ledger_size, history_size] = config.sizes();
        let (ledger, restored) = Ledger::open(path.as_deref(), *retention, ledger_size, clock.clone())?;
        let (history, saved) =
            History::open(config.history_path().as_deref(), *retention, history_size, clock.clone())?;
        Ok((Self { ledger, history }, restored, saved))
    }

    /// Applies the retention and the size limit of a reloaded `config`. A new path takes effect at the next start only.
    pub fn configure(&self, config: &StoreConfig) {
        self.ledger.set_retention(config.retention);
        self.history.set_retention(config.retention);
        let [ledger, history] = config.sizes();
        self.ledger.set_max_size(ledger);
        self.history.set_max_size(history);
    }

    /// Waits until a thread of the store has ended and returns its name.
    pub async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.ledger.ended() => "ledger thread",
            () = self.history.ended() => "history thread",
        }
    }

    /// Writes what is queued, checkpoints the write-ahead logs and closes the files. Returns an error after `within`;
    /// the threads go on writing for as long as the process lives.
    pub async fn close(self, within: Duration) -> Result<(), StoreError> {
        let late = |path: &std::path::Path| StoreError::Late { path: path.to_owned(), within };
        let ledger = async { tokio::time::timeout(within, self.ledger.close()).await };
        let history = async { tokio::time::timeout(within, self.history.close()).await };
        let (ledger, history) = tokio::join!(ledger, history);
        ledger.unwrap_or_else(|_| Err(late(self.ledger.path())))?;
        history.unwrap_or_else(|_| Err(late(self.history.path())))
    }
}

#[cfg(test)]
mod tests;
