//! The ledger: every alert that matters and the outbox of what people are owed, durable before a send begins.
//!
//! One SQLite file, one thread, `synchronous=FULL`; alerts and outbox change in one transaction. Commits that wait
//! together are written with one sync. Refuses to judge: what is kept, forgotten or due is the caller's business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::database;
use super::error::StoreError;
use super::file::Place;
use super::health::Health;
use super::queue::{self, Sender};
use crate::clock::Clock;
use crate::model::{Alert, Fingerprint, Notice, SendReason, Silence, Time};

mod told;
mod writer;

pub use told::told;

/// Commits that may wait for the disk.
const QUEUE: u32 = 1024;

/// Numbers that must not begin anew when the program does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Alerts raised since the ledger began, once for each level reached, by [`crate::model::Level::index`].
    pub raised: [u64; 4],
    /// Alerts that have fired since the ledger began.
    pub fired: u64,
}

/// What came of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The receiver took it.
    Delivered,
    /// It was not sent: a newer notice of the same alert said it all.
    Superseded,
    /// It was given up for good.
    Dead {
        /// Why, as a label.
        reason: SendReason,
        /// Why, in words, without secrets.
        message: String,
    },
}

impl Settled {
    /// The outbox's word for it.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Dead { .. } => "dead",
        }
    }
}

/// A change of the ledger. Its parts become true together or not at all; it is applied in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Alerts as they are now, by fingerprint.
    pub alerts: Vec<Alert>,
    /// Alerts that need not be known any longer.
    pub forget: Vec<Fingerprint>,
    /// New rows of the outbox; a key that was ever there is ignored.
    pub notices: Vec<Arc<Notice>>,
    /// By notice key, what came of notices; a key that is not pending is ignored.
    pub settled: Vec<(Arc<str>, Settled)>,
    /// Silences that began to be known or changed.
    pub silences: Vec<Silence>,
    /// Silences that are over.
    pub silences_over: Vec<Arc<str>>,
    /// The counts now; `None` leaves them.
    pub counts: Option<LedgerCounts>,
}

impl Commit {
    fn rows(&self) -> usize {
        self.alerts.len() + self.forget.len() + self.notices.len() + self.settled.len() + self.silences.len()
    }
}

/// What the ledger knew when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// All alerts, by fingerprint.
    pub alerts: Vec<Alert>,
    /// The notices that are still owed, in the order in which they were committed.
    pub outbox: Vec<Notice>,
    /// The silences that were not over.
    pub silences: Vec<Silence>,
    /// The counts of the last commit.
    pub counts: LedgerCounts,
    /// When the last commit was written; `None` for a new ledger.
    pub written_at: Option<Time>,
    /// Notices that are still owed and can't be read, as far as their columns tell of them.
    pub lost: Vec<LostNotice>,
    /// Other rows that could not be read. They are left where they are.
    pub unreadable: u64,
    /// Where a damaged file was put, in place of which a new one was begun.
    pub damaged: Option<PathBuf>,
}

/// What is known of a row of the outbox whose body can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostNotice {
    /// The notice's key.
    pub key: Arc<str>,
    /// For whom.
    pub receiver: Arc<str>,
    /// The alert's identity, as the column has it.
    pub fingerprint: String,
}

/// The way into the ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LedgerHandle {
    queue: Sender<Message>,
    health: Arc<Health>,
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

#[derive(Debug)]
enum Message {
    Commit(Box<Commit>, Reply),
    Close(Reply),
}

/// What waits for a commit.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), StoreError>>);

impl Receipt {
    /// Returns once the commit is synced to disk; see [`LedgerHandle::commit`].
    pub async fn written(self) -> Result<(), StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The namespace of the ledger's way in.
#[derive(Debug)]
pub struct Ledger;

impl Ledger {
    /// Opens the ledger at `path`, or one in memory, and starts its thread.
    /// Settled notices are kept for `retention`, and the oldest not as long when the file is larger than `max_size`.
    pub fn open(
        path: Option<&Path>,
        retention: Duration,
        max_size: u64,
        clock: Clock,
    ) -> Result<(LedgerHandle, Restored), StoreError> {
        let place = Place::new(path);
        let opened = database::open(&place, &writer::LAYOUT, clock.now(), writer::restore)?;
        let health = Arc::new(Health::new(place.name(), opened.unwritable.as_ref()));
        health.set_retention(retention);
        health.set_max_size(max_size);
        let restored = Restored { damaged: opened.damaged.clone(), ..opened.read.clone() };
        let (queue, end) = queue::bounded(QUEUE);
        let writer = writer::Writer::new(opened, Arc::clone(&health), clock);
        let thread = std::thread::Builder::new().name("ledger".to_owned());
        let started = thread.spawn(move || writer.run(&end));
        started.map_err(|error| StoreError::Io {
            path: place.name().to_owned(),
            action: "start a thread for",
            source: Arc::new(error),
        })?;
        Ok((LedgerHandle { queue, health }, restored))
    }
}

impl LedgerHandle {
    /// Writes `commit` and returns once it is synced to disk; waits while the queue is full.
    ///
    /// On an error the content is kept and written as soon as the disk takes it, so it must not be committed again.
    /// There is no deadline in here: a disk that hangs hangs this call, so the caller sets one.
    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Message::Commit(Box::new(commit), reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands `commit` over without waiting; it is written after all that was handed over before it, whether or not the
    /// receipt is waited for. `Err` gives it back: the queue is full, or the ledger is closed.
    pub fn submit(&self, commit: Commit) -> Result<Receipt, Box<Commit>> {
        let (reply, answer) = oneshot::channel();
        let submitted = self.queue.try_send(Message::Commit(Box::new(commit), reply), 1);
        submitted.map(|()| Receipt(answer)).map_err(|message| match message {
            Message::Commit(commit, _) => commit,
            Message::Close(_) => Box::default(),
        })
    }

    /// A ledger whose thread hangs, with room for so many commits.
    #[cfg(test)]
    pub(crate) fn hung(room: u32) -> (Self, impl FnMut() -> Option<Commit>) {
        let (queue, end) = queue::bounded(room);
        let next = move || match end.try_recv()? {
            Message::Commit(commit, reply) => {
                reply.send(Ok(())).ok();
                Some(*commit)
            }
            Message::Close(_) => None,
        };
        (Self { queue, health: Arc::new(Health::new(Path::new("hung.db"), None)) }, next)
    }

    /// Writes what is queued, folds the log into the file and closes it. Later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Message::Close(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Transactions that failed.
    pub fn errors(&self) -> u64 {
        self.health.errors()
    }

    /// Rows that were given up because the disk failed for too long.
    pub fn dropped(&self) -> u64 {
        self.health.dropped()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Keeps settled notices for `retention` from now on.
    pub fn set_retention(&self, retention: Duration) {
        self.health.set_retention(retention);
    }

    /// Waits until its thread has ended, whatever ended it.
    pub(super) async fn ended(&self) {
        self.queue.ended().await;
    }

    /// Transactions that succeeded.
    pub fn written(&self) -> u64 {
        self.health.written()
    }

    /// Whether the file turned out to be damaged since the last call, so that all must be committed anew.
    pub fn take_lost(&self) -> bool {
        self.health.take_lost()
    }

    /// Commits that wait for the thread.
    pub fn queued(&self) -> usize {
        self.queue.waiting()
    }

    /// Bytes of the file and its log; 0 in memory.
    pub fn size(&self) -> u64 {
        self.health.size()
    }

    /// Bounds the file to so many bytes from now on.
    pub fn set_max_size(&self, bytes: u64) {
        self.health.set_max_size(bytes);
    }

    /// Where the file is; `in memory` when there is none.
    pub fn path(&self) -> &Path {
        self.health.path()
    }
}

#[cfg(test)]
mod tests;
