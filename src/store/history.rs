//! History and saved state: what the fleet and its alerts did, and how the fleet is, to go on from after a restart.
//!
//! A file of its own, `synchronous=NORMAL`, written in large batches by one thread and read by another, so that
//! bulk never delays an alarm, writers never wait for readers, and the caller never waits at all. After a crash of
//! the machine (not of the program) the last moments may be missing; the ledger holds what must not be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::database;
use super::error::StoreError;
use super::file::Place;
use super::health::Health;
use super::queue::{self, Sender};
use crate::clock::Clock;
use crate::model::{
    Agent, AgentWindows, ClosedAlert, Component, CountingState, Decision, Fingerprint, HistoryRow, Level, Project,
    Snapshot, Time,
};

mod limit;
mod pending;
mod reader;
mod remembered;
mod rows;
mod saved;
mod timeline;
mod usage_log;
mod writer;

/// Rows that may wait for the thread: a second's worth at the rate that a disk takes.
const QUEUE: u32 = 65_536;

/// Bytes of a body of usage that count as one row: all bodies that wait have 16 MiB.
const USAGE_WEIGHT: usize = 256;

/// Saves that may wait: each holds on to a snapshot.
const SAVES: usize = 2;

/// Reads that may wait for the reading thread.
const READS: u32 = 64;

/// Ids of usage increments that are kept at most.
pub const USAGE_IDS: usize = 2_000_000;

/// How long they are kept, as long as the fleet remembers them.
pub const USAGE_IDS_LAST: Duration = Duration::from_secs(3600);

/// Which closed alerts a reader wants; `None` is all.
#[derive(Clone, Debug, Default)]
pub struct ClosedFilter {
    /// Whose last level was this.
    pub level: Option<Level>,
    /// About this agent, in any project.
    pub agent: Option<String>,
    /// Of this rule.
    pub rule: Option<String>,
    /// At most so many; never more than [`MAX_ROWS`].
    pub limit: usize,
}

/// Rows that one read returns at most.
pub const MAX_ROWS: usize = 10_000;

/// A change of status, read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// When.
    pub at: Time,
    /// `agent` or `component`.
    pub kind: String,
    /// The status before; empty when there was none.
    pub from: String,
    /// The status then.
    pub to: String,
    /// Why, in words.
    pub reason: Option<String>,
}

/// What changed in the fleet since the last save.
#[derive(Clone, Debug, Default)]
pub struct Save {
    /// The fleet now. Rows are made from it on the store's thread.
    pub snapshot: Arc<Snapshot>,
    /// Slots of agents that changed; one that is empty by now is passed over.
    pub agents: Vec<u32>,
    /// Slots of components that changed.
    pub components: Vec<u32>,
    /// Places of projects that changed.
    pub projects: Vec<u32>,
    /// By (project, name), agents that are gone; one that is back and named in `agents` is saved all the same.
    pub removed_agents: Vec<(Arc<str>, Arc<str>)>,
    /// By (project, name), components that are gone.
    pub removed_components: Vec<(Arc<str>, Arc<str>)>,
    /// Hashes of ids of usage increments that were counted, with the time, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// The last body of the usage log that this holds the effect of.
    pub usage_through: u64,
    /// What counting telemetry has remembered since the last save.
    pub counting: CountingState,
    /// By (project, name) of their agents, windows that changed.
    pub windows: BTreeMap<(Arc<str>, Arc<str>), AgentWindows>,
}

/// A body of `POST /api/usage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBody {
    /// Its number: each is greater than the one before.
    pub seq: u64,
    /// When it came.
    pub at: Time,
    /// As it came.
    pub body: Bytes,
}

/// The fleet as it was last saved.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Agents by project and name; slots and labels are not set.
    pub agents: Vec<Agent>,
    /// Components by project and name; slots and labels are not set.
    pub components: Vec<Component>,
    /// Projects by name; counts over the fleet are not set.
    pub projects: Vec<Project>,
    /// The last [`USAGE_IDS`] ids of usage increments, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// Bodies of usage that came after the last save, in their order.
    pub usage_log: Vec<UsageBody>,
    /// All that counting telemetry remembers.
    pub counting: CountingState,
    /// The windows of agents.
    pub windows: crate::model::windows::SavedWindows,
    /// Since when polls of which sources fail.
    pub sources: Vec<(Arc<str>, Time)>,
    /// [`Snapshot::at`] of the last save; `None` when nothing was ever saved.
    pub saved_at: Option<Time>,
    /// Rows that could not be read. They are left where they are.
    pub unreadable: u64,
    /// Where a damaged file was put, in place of which a new one was begun.
    pub damaged: Option<PathBuf>,
}

/// The way into history. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HistoryHandle {
    queue: Sender<Message>,
    saves: Arc<Semaphore>,
    reads: Sender<reader::Read>,
    health: Arc<Health>,
    counts: Arc<DropCounts>,
    /// Woken when somebody waits.
    thread: Thread,
}

/// Rows that history left out or dropped before their time.
#[derive(Debug, Default)]
struct DropCounts {
    rate: AtomicU64,
    size: AtomicU64,
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

#[derive(Debug)]
enum Message {
    Rows(Vec<HistoryRow>),
    Closed(Box<ClosedAlert>),
    Decisions(Vec<Decision>),
    Save(Box<Save>, OwnedSemaphorePermit),
    Usage(UsageBody, Reply),
    CountingState(Box<CountingState>, Reply),
    Flush(Reply),
    Close(Reply),
}

/// The namespace of history's way in.
#[derive(Debug)]
pub struct History;

impl History {
    /// Opens history at `path`, or in memory, and starts its two threads.
    /// Rows are kept for `retention`, and at most 20 million of them (100,000 in memory); the oldest go before that when
    /// the file would be larger than `max_size` bytes.
    pub fn open(
        path: Option<&Path>,
        retention: Duration,
        max_size: u64,
        clock: Clock,
    ) -> Result<(HistoryHandle, Saved), StoreError> {
        let place = Place::new(path);
        let opened = database::open(&place, &writer::LAYOUT, clock.now(), saved::restore)?;
        let (reads, reads_end) = queue::bounded(READS);
        let health = Arc::new(Health::new(place.name(), opened.unwritable.as_ref()));
        health.set_retention(retention);
        let reader = reader::Reader::open(&opened.database, &writer::LAYOUT)?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            let thread = thread.map_err(|error| StoreError::Io {
                path: place.name().to_owned(),
                action: "start a thread for",
                source: Arc::new(error),
            })?;
            Ok::<_, StoreError>(thread.thread().clone())
        };
        let (queue, end) = queue::bounded(QUEUE);
        let saved = Saved { damaged: opened.damaged, ..opened.read };
        let counts = Arc::<DropCounts>::default();
        health.set_max_size(max_size);
        let writer = writer::Writer::new(opened.database, Arc::clone(&health), Arc::clone(&counts), clock)?;
        spawn("history-read", Box::new(move || reader.run(&reads_end)))?;
        let thread = spawn("history", Box::new(move || writer.run(&end)))?;
        let saves = Arc::new(Semaphore::new(SAVES));
        Ok((HistoryHandle { queue, saves, reads, health, counts, thread }, saved))
    }
}

impl HistoryHandle {
    /// Hands `rows` over and never waits; when there is no room they are dropped and counted.
    pub fn record(&self, rows: Vec<HistoryRow>) {
        let count = rows.len();
        if count > 0 && self.queue.try_send(Message::Rows(rows), u32::try_from(count).unwrap_or(u32::MAX)).is_err() {
            self.health.drop_rows(count);
        }
    }

    /// Hands over an alert that is over and never waits; when there is no room it is dropped and counted.
    pub fn close_alert(&self, alert: ClosedAlert) {
        if self.queue.try_send(Message::Closed(Box::new(alert)), 1).is_err() {
            self.health.drop_rows(1);
        }
    }

    /// Hands over what was decided and never waits; when there is no room it is dropped and counted.
    pub fn decide(&self, decisions: Vec<Decision>) {
        let count = decisions.len();
        let rows = u32::try_from(count).unwrap_or(u32::MAX);
        if count > 0 && self.queue.try_send(Message::Decisions(decisions), rows).is_err() {
            self.health.drop_rows(count);
        }
    }

    /// The timeline of an alert, oldest first; at most its last 200 entries. What was handed over in the last
    /// moments may not be there yet.
    pub async fn timeline(&self, fingerprint: Fingerprint) -> Result<Vec<Decision>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(reader::Read::Timeline(fingerprint, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Hands over what changed and never waits. `Err` gives it back, to be merged into the next one: earlier ones
    /// still wait for the disk, or history is closed. A failed write is counted, logged and tried again.
    pub fn save(&self, save: Save) -> Result<(), Box<Save>> {
        let save = Box::new(save);
        let Ok(permit) = Arc::clone(&self.saves).try_acquire_owned() else { return Err(save) };
        self.queue.try_send(Message::Save(save, permit), 1).map_err(|message| match message {
            Message::Save(save, _) => save,
            _ => Box::default(),
        })
    }

    /// Hands a body of usage over and never waits. What it returns answers once the body outlives the process: until a
    /// save says that it holds its effect, a start finds it in [`Saved::usage_log`].
    pub fn log_usage(&self, body: UsageBody) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        let weight = u32::try_from(body.body.len() / USAGE_WEIGHT).unwrap_or(u32::MAX).clamp(1, QUEUE);
        match self.queue.try_send(Message::Usage(body, reply), weight) {
            Ok(()) => self.thread.unpark(),
            // Whoever waits learns from the answer that never comes.
            Err(_) => self.health.drop_rows(1),
        }
        answer
    }

    /// Saves what counting telemetry has remembered before any agent does, and returns once it outlives the process. What
    /// could not be written is tried again.
    pub async fn remember(&self, counting: CountingState) -> Result<(), StoreError> {
        self.ask(|reply| Message::CountingState(Box::new(counting), reply)).await
    }

    /// Returns once everything handed over before is committed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Message::Flush).await
    }

    /// Writes what is queued, folds the log into the file and closes it. Later calls answer [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(Message::Close).await
    }

    async fn ask(&self, message: impl FnOnce(Reply) -> Message) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(message(reply)).await.map_err(|_| StoreError::Closed)?;
        self.thread.unpark();
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Closed alerts, the last closed first. What was handed over in the last moments may not be there yet.
    pub async fn alerts(&self, filter: ClosedFilter) -> Result<Vec<ClosedAlert>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(reader::Read::Alerts(filter, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// What became of one agent or component, newest first, at most `limit` and never more than [`MAX_ROWS`].
    /// What was handed over in the last moments may not be there yet.
    pub async fn history(&self, project: &str, name: &str, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let read = reader::Read::History { project: project.to_owned(), name: name.to_owned(), limit, reply };
        self.reads.send(read).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Rows that were dropped because the disk did not keep up or failed for too long.
    pub fn dropped(&self) -> u64 {
        self.health.dropped()
    }

    /// Rows that were left out because one subject had too many of them.
    pub fn rate_limited(&self) -> u64 {
        self.counts.rate.load(Relaxed)
    }

    /// Rows that were dropped before their time to keep the file below its size.
    pub fn pruned_for_size(&self) -> u64 {
        self.counts.size.load(Relaxed)
    }

    /// Whether the file turned out to be damaged since the last call, so that all must be saved anew.
    pub fn take_lost(&self) -> bool {
        self.health.take_lost()
    }

    /// Transactions that failed.
    pub fn errors(&self) -> u64 {
        self.health.errors()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Keeps rows for `retention` from now on.
    pub fn set_retention(&self, retention: Duration) {
        self.health.set_retention(retention);
    }

    /// Waits until one of its threads has ended, whatever ended it.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.queue.ended() => {}
            () = self.reads.ended() => {}
        }
    }

    /// Rows that wait for the thread.
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
