//! What must outlive the process: the ledger with its outbox, and history with the fleet's saved state.
//!
//! Two SQLite files, each on a thread of its own behind a bounded queue: the ledger is durable before a send
//! begins, history is written in bulk and never delays it. Both can be read with `sqlite3` while lookout runs.
//! A recording of what comes in, when one is wanted, is a third file.
//! Refuses to decide anything: it keeps what it is given and gives it back.

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

use std::time::Duration;

pub use config::StoreConfig;
pub use error::StoreError;
pub use history::{ClosedFilter, History, HistoryEntry, HistoryHandle, Save, Saved, UsageBody};
pub use ledger::{Commit, Ledger, LedgerCounts, LedgerHandle, LostNotice, Receipt, Restored, Settled};
pub use record::Recorder;

use crate::clock::Clock;

/// Both files, open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// Alerts and what people are owed.
    pub ledger: LedgerHandle,
    /// What happened, and the fleet as it is.
    pub history: HistoryHandle,
}

impl Store {
    /// Opens both files (or both in memory, when the configuration names none) and returns what they knew.
    ///
    /// The directory must exist. A damaged file is set aside, see [`Restored::damaged`] and [`Saved::damaged`].
    pub fn open(config: &StoreConfig, clock: &Clock) -> Result<(Self, Restored, Saved), StoreError> {
        let StoreConfig { path, retention, .. } = config;
        let [of_ledger, of_history] = config.sizes();
        let (ledger, restored) = Ledger::open(path.as_deref(), *retention, of_ledger, clock.clone())?;
        let (history, saved) = History::open(config.history_path().as_deref(), *retention, of_history, clock.clone())?;
        Ok((Self { ledger, history }, restored, saved))
    }

    /// Keeps rows for as long, and files as small, as `config` says from now on; where they are does not change.
    pub fn configure(&self, config: &StoreConfig) {
        self.ledger.set_retention(config.retention);
        self.history.set_retention(config.retention);
        let [ledger, history] = config.sizes();
        self.ledger.set_max_size(ledger);
        self.history.set_max_size(history);
    }

    /// Waits until a thread of the store has ended, and names it.
    pub async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.ledger.ended() => "the ledger's thread",
            () = self.history.ended() => "a thread of history",
        }
    }

    /// Writes all that was handed over, folds the logs into the files and closes them, within `within`.
    /// What did not make it by then is still written if the process lives long enough.
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
