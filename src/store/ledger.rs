//! The ledger: active alerts, silences, and the outbox of notifications, durable before a notification is sent.
//!
//! One SQLite file with `synchronous=FULL`, written by one thread. Alerts and outbox change in one transaction; queued
//! commits share one sync.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::database;
use super::error::StoreError;
use super::file::DatabaseLocation;
use super::health::FileHealth;
use super::queue::{self, QueueSender, WriteReply};
use crate::clock::Clock;
use crate::model::{Alert, Fingerprint, Notice, SendReason, Silence, Time};

mod outbox;
mod writer;

pub use outbox::read_outbox;

/// Maximum number of queued commits.
const QUEUE: u32 = 1024;

/// Counters that survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Alerts since the ledger was created, counted once per level reached, by [`crate::model::Level::index`].
    #[serde(rename = "raised")]
    pub by_level: [u64; 4],
    /// Alerts that fired since the ledger was created.
    pub fired: u64,
}

/// The final state of a notice in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeOutcome {
    /// It was delivered.
    Delivered,
    /// It was not sent, since a newer notice of the same alert replaced it.
    Superseded,
    /// It was dead-lettered.
    Dead {
        /// The reason, as a label value.
        reason: SendReason,
        /// The error message, without secrets.
        message: String,
    },
}

impl NoticeOutcome {
    /// The value of the column `state`.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Dead { .. } => "dead",
        }
    }
}

/// An atomic change of the ledger, applied in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// New or changed alerts.
    pub alerts: Vec<Alert>,
    /// Alerts to delete.
    pub delete: Vec<Fingerprint>,
    /// New notices for the outbox. A key that already exists is ignored.
    pub notices: Vec<Arc<Notice>>,
    /// Final states by notice key. A key that is not pending is ignored.
    pub outcomes: Vec<(Arc<str>, NoticeOutcome)>,
    /// New or changed silences.
    pub silences: Vec<Silence>,
    /// Ids of ended silences.
    pub ended_silences: Vec<Arc<str>>,
    /// New counters; `None` leaves them unchanged.
    pub counts: Option<LedgerCounts>,
}

impl Commit {
    fn rows(&self) -> usize {
        self.alerts.len() + self.delete.len() + self.notices.len() + self.outcomes.len() + self.silences.len()
    }
}

/// The content of the ledger when it was opened.
#[derive(Clone, Debug, Default)]
pub struct RestoredLedger {
    /// All alerts, by fingerprint.
    pub alerts: Vec<Alert>,
    /// Notices whose delivery is pending, in the order of their commits.
    pub outbox: Vec<Notice>,
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// The counters.
    pub counts: LedgerCounts,
    /// Time of the last commit; `None` for a new ledger.
    pub written_at: Option<Time>,
    /// Pending notices whose body can't be read.
    pub lost: Vec<LostNotice>,
    /// Number of other rows that could not be read. They stay in the file.
    pub unreadable: u64,
    /// Where a damaged file was moved to.
    pub damaged: Option<PathBuf>,
}

/// The readable columns of a pending notice whose body can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostNotice {
    /// The notice's key.
    pub key: Arc<str>,
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// The alert's fingerprint, as stored.
    pub fingerprint: String,
}

/// Handle of the ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LedgerHandle {
    queue: QueueSender<LedgerMessage>,
    health: Arc<FileHealth>,
}

#[derive(Debug)]
enum LedgerMessage {
    Commit(Box<Commit>, WriteReply),
    Close(WriteReply),
}

/// Resolves when a submitted commit is durable.
#[derive(Debug)]
pub struct CommitReceipt(oneshot::Receiver<Result<(), StoreError>>);

impl CommitReceipt {
    /// Returns once the commit is synced to disk; see [`LedgerHandle::commit`].
    pub async fn written(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Opens the ledger.
#[derive(Debug)]
pub struct Ledger;

impl Ledger {
    /// Opens the ledger at `path`, or in memory, and starts its thread.
    /// Notices that are no longer pending are kept for `retention`; the oldest are deleted earlier when the file is larger
    /// than `max_size` bytes.
    pub fn open(
        path: Option<&Path>,
        retention: Duration,
        max_size: u64,
        clock: Clock,
    ) -> Result<(LedgerHandle, RestoredLedger), StoreError> {
        let location = DatabaseLocation::new(path);
        let opened = database::open(&location, &writer::LAYOUT, clock.now(), writer::restore)?;
        let health = Arc::new(FileHealth::new(location.name(), opened.unwritable.as_ref()));
        health.set_retention(retention);
        health.set_max_size(max_size);
        let restored = RestoredLedger { damaged: opened.damaged.clone(), ..opened.read.clone() };
        let (queue, end) = queue::bounded(QUEUE);
        let writer = writer::LedgerWriter::new(opened, Arc::clone(&health), clock);
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let started = thread.spawn(move || writer.run(&end));
        started.map_err(|error| StoreError::Io {
            path: location.name().to_owned(),
            action: "start a thread for",
            source: Arc::new(error),
        })?;
        Ok((LedgerHandle { queue, health }, restored))
    }
}

impl LedgerHandle {
    /// Writes `commit` and returns once it is synced to disk. Waits while the queue is full.
    ///
    /// After an error the content is kept and written later, so it must not be committed again. The call has no timeout:
    /// on a disk that hangs it hangs too.
    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(LedgerMessage::Commit(Box::new(commit), reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Queues `commit` without waiting. It is written in order, whether or not the receipt is awaited. `Err` returns it:
    /// the queue is full, or the ledger is closed.
    pub fn submit(&self, commit: Commit) -> Result<CommitReceipt, Box<Commit>> {
        let (reply, answer) = oneshot::channel();
        let submitted = self.queue.try_send(LedgerMessage::Commit(Box::new(commit), reply), 1);
        submitted.map(|()| CommitReceipt(answer)).map_err(|message| match message {
            LedgerMessage::Commit(commit, _) => commit,
            LedgerMessage::Close(_) => Box::default(),
        })
    }

    /// A ledger whose thread hangs, with a queue of `capacity` commits.
    #[cfg(test)]
    pub(crate) fn hung(capacity: u32) -> (Self, impl FnMut() -> Option<Commit>) {
        let (queue, end) = queue::bounded(capacity);
        let next = move || match end.try_recv()? {
            LedgerMessage::Commit(commit, reply) => {
                reply.send(Ok(())).ok();
                Some(*commit)
            }
            LedgerMessage::Close(_) => None,
        };
        (Self { queue, health: Arc::new(FileHealth::new(Path::new("hung.db"), None)) }, next)
    }

    /// Writes what is queued, checkpoints the write-ahead log and closes the file. Later calls return
    /// [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(LedgerMessage::Close(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Number of failed transactions.
    pub fn errors(&self) -> u64 {
        self.health.errors()
    }

    /// Number of rows dropped because the disk failed for too long.
    pub fn dropped(&self) -> u64 {
        self.health.dropped()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Changes how long notices are kept that are no longer pending.
    pub fn set_retention(&self, retention: Duration) {
        self.health.set_retention(retention);
    }

    /// Waits until its thread has ended, for whatever reason.
    pub(super) async fn ended(&self) {
        self.queue.ended().await;
    }

    /// Number of successful transactions.
    pub fn written(&self) -> u64 {
        self.health.written()
    }

    /// Whether the content was lost since the last call, so that everything must be committed again.
    pub fn take_lost(&self) -> bool {
        self.health.take_lost()
    }

    /// Number of queued commits.
    pub fn queued(&self) -> usize {
        self.queue.queued()
    }

    /// Size of the file and its write-ahead log in bytes; 0 in memory.
    pub fn size(&self) -> u64 {
        self.health.size()
    }

    /// Changes the maximum size of the file, in bytes.
    pub fn set_max_size(&self, bytes: u64) {
        self.health.set_max_size(bytes);
    }

    /// The path of the file, or `in memory`.
    pub fn path(&self) -> &Path {
        self.health.path()
    }
}

#[cfg(test)]
mod tests;
