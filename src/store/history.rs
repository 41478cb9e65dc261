//! History of status changes and alerts, and the state of the fleet, which is restored after a restart.
//!
//! A file of its own with `synchronous=NORMAL`, written in large batches by one thread and read by another. Bulk therefore
//! never delays a notification, writers never wait for readers, and callers never wait. After a crash of the machine (not
//! of the program) the last second may be missing; what must survive that is in the ledger.

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
use super::file::DatabaseLocation;
use super::health::FileHealth;
use super::queue::{self, QueueSender, WriteReply};
use crate::clock::Clock;
use crate::model::windows::SavedWindows;
use crate::model::{
    Agent, ClosedAlert, Component, CountingState, Fingerprint, HistoryRow, Level, Project, Snapshot, Time,
    TimelineEntry,
};

mod counting;
mod pending;
mod rate_limit;
mod reader;
mod rows;
mod saved;
mod timeline;
mod usage_log;
mod writer;

/// Maximum number of queued rows: what a disk writes in about a second.
const QUEUE: u32 = 65_536;

/// Bytes of a usage body that count as one row, which limits queued bodies to 16 MiB.
const USAGE_WEIGHT: usize = 256;

/// Maximum number of saves that are queued or being written. Each keeps a snapshot alive, of which the engine then changes
/// a copy.
const SAVES: usize = 1;

/// Maximum number of queued queries.
const READS: u32 = 64;

/// Maximum number of kept ids of usage increments.
pub const USAGE_IDS: usize = 2_000_000;

/// How long ids of usage increments are kept; as long as the fleet keeps them.
pub const USAGE_ID_RETENTION: Duration = Duration::from_secs(3600);

/// A filter for resolved alerts; `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct ClosedFilter {
    /// This alert: each time that it was resolved.
    pub fingerprint: Option<Fingerprint>,
    /// The project of what it is about.
    pub project: Option<String>,
    /// The last level.
    pub level: Option<Level>,
    /// The name of the agent, in any project.
    pub agent: Option<String>,
    /// The name of the rule.
    pub rule: Option<String>,
    /// The task that its agent worked on when it fired.
    pub task: Option<String>,
    /// Maximum number of alerts, up to [`MAX_ROWS`].
    pub limit: usize,
}

/// Maximum number of rows that one query returns.
pub const MAX_ROWS: usize = 10_000;

/// A past change of status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Time,
    /// `agent` or `component`.
    pub kind: String,
    /// The previous status; empty when there was none.
    pub from: String,
    /// The new status.
    pub to: String,
    /// The reason, as text.
    pub reason: Option<String>,
}

/// What changed in the fleet since the last save.
#[derive(Clone, Debug, Default)]
pub struct FleetSave {
    /// The current fleet. The store's thread builds rows from it.
    pub snapshot: Arc<Snapshot>,
    /// Slots of agents that changed; a slot that is empty by now is skipped.
    pub agents: Vec<u32>,
    /// Slots of components that changed.
    pub components: Vec<u32>,
    /// Indexes of projects that changed.
    pub projects: Vec<u32>,
    /// Removed agents as (project, name). An agent that came back and is in `agents` is saved nevertheless.
    pub removed_agents: Vec<(Arc<str>, Arc<str>)>,
    /// Removed components as (project, name).
    pub removed_components: Vec<(Arc<str>, Arc<str>)>,
    /// Hashes of the ids of counted usage increments with their time, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// Sequence number of the last body in the usage log whose effect this save includes.
    pub usage_through: u64,
    /// Changes of the counting state of telemetry since the last save.
    pub counting: CountingState,
    /// Rule windows that changed, by (project, name) of their agent.
    pub windows: SavedWindows,
}

/// A body of `POST /api/usage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBody {
    /// Sequence number; increases with each body.
    pub seq: u64,
    /// When it arrived.
    pub at: Time,
    /// The body as received.
    pub body: Bytes,
}

/// The last saved state of the fleet.
#[derive(Clone, Debug, Default)]
pub struct SavedFleet {
    /// Agents by project and name; slots and labels are not set.
    pub agents: Vec<Agent>,
    /// Components by project and name; slots and labels are not set.
    pub components: Vec<Component>,
    /// Projects by name; counts over the fleet are not set.
    pub projects: Vec<Project>,
    /// The last [`USAGE_IDS`] ids of usage increments, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// Usage bodies that arrived after the last save, in order.
    pub usage_log: Vec<UsageBody>,
    /// The counting state of telemetry.
    pub counting: CountingState,
    /// The rule windows of agents.
    pub windows: SavedWindows,
    /// Sources whose polls fail, and since when.
    pub sources: Vec<(Arc<str>, Time)>,
    /// [`Snapshot::at`] of the last save; `None` when nothing was ever saved.
    pub saved_at: Option<Time>,
    /// Number of rows that could not be read. They stay in the file.
    pub unreadable: u64,
    /// Where a damaged file was moved to.
    pub damaged: Option<PathBuf>,
}

/// Handle of history. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HistoryHandle {
    queue: QueueSender<HistoryMessage>,
    saves: Arc<Semaphore>,
    reads: QueueSender<reader::HistoryQuery>,
    health: Arc<FileHealth>,
    counts: Arc<DropCounts>,
    /// The writing thread, woken when a caller waits for a reply.
    thread: Thread,
}

/// Counts of rows that history dropped.
#[derive(Debug, Default)]
struct DropCounts {
    rate_limited: AtomicU64,
    pruned_for_size: AtomicU64,
}

/// Room for one save.
#[derive(Debug)]
pub struct SaveSlot {
    written: OwnedSemaphorePermit,
    queued: OwnedSemaphorePermit,
}

/// A save that is queued or being written.
#[derive(Debug)]
struct PendingSave {
    save: FleetSave,
    /// Makes room for the next save when it is written.
    _written: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum HistoryMessage {
    Rows(Vec<HistoryRow>),
    Closed(Box<ClosedAlert>),
    Decisions(Vec<TimelineEntry>),
    Save(Box<PendingSave>),
    Usage(UsageBody, WriteReply),
    CountingState(Box<CountingState>, WriteReply),
    Flush(WriteReply),
    Close(WriteReply),
}

/// Opens history.
#[derive(Debug)]
pub struct History;

impl History {
    /// Opens history at `path`, or in memory, and starts its two threads.
    /// Rows are kept for `retention`, at most 20 million of them (100,000 in memory). The oldest are deleted earlier when
    /// the file would exceed `max_size` bytes.
    pub fn open(
        path: Option<&Path>,
        retention: Duration,
        max_size: u64,
        clock: Clock,
    ) -> Result<(HistoryHandle, SavedFleet), StoreError> {
        let location = DatabaseLocation::new(path);
        let opened = database::open(&location, &writer::LAYOUT, clock.now(), saved::restore)?;
        let (reads, reads_end) = queue::bounded(READS);
        let health = Arc::new(FileHealth::new(location.name(), opened.unwritable.as_ref()));
        health.set_retention(retention);
        let reader = reader::HistoryReader::open(&opened.database, &writer::LAYOUT)?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            let thread = thread.map_err(|error| StoreError::Io {
                path: location.name().to_owned(),
                action: "start a thread for",
                source: Arc::new(error),
            })?;
            Ok::<_, StoreError>(thread.thread().clone())
        };
        let (queue, end) = queue::bounded(QUEUE);
        let saved = SavedFleet { damaged: opened.damaged, ..opened.read };
        let counts = Arc::<DropCounts>::default();
        health.set_max_size(max_size);
        let writer = writer::HistoryWriter::new(opened.database, Arc::clone(&health), Arc::clone(&counts), clock)?;
        spawn("history-read", Box::new(move || reader.run(&reads_end)))?;
        let thread = spawn("history", Box::new(move || writer.run(&end)))?;
        let saves = Arc::new(Semaphore::new(SAVES));
        Ok((HistoryHandle { queue, saves, reads, health, counts, thread }, saved))
    }
}

impl HistoryHandle {
    /// Queues `rows` without waiting. When the queue is full they are dropped and counted.
    pub fn record(&self, rows: Vec<HistoryRow>) {
        let count = rows.len();
        if count > 0
            && self.queue.try_send(HistoryMessage::Rows(rows), u32::try_from(count).unwrap_or(u32::MAX)).is_err()
        {
            self.health.drop_rows(count);
        }
    }

    /// Queues a resolved alert without waiting. When the queue is full it is dropped and counted.
    pub fn close_alert(&self, alert: ClosedAlert) {
        if self.queue.try_send(HistoryMessage::Closed(Box::new(alert)), 1).is_err() {
            self.health.drop_rows(1);
        }
    }

    /// Queues decisions without waiting. When the queue is full they are dropped and counted.
    pub fn record_decisions(&self, decisions: Vec<TimelineEntry>) {
        let count = decisions.len();
        let rows = u32::try_from(count).unwrap_or(u32::MAX);
        if count > 0 && self.queue.try_send(HistoryMessage::Decisions(decisions), rows).is_err() {
            self.health.drop_rows(count);
        }
    }

    /// The timeline of an alert, oldest first; at most its last 200 entries. Entries that are still queued are missing.
    pub async fn timeline(&self, fingerprint: Fingerprint) -> Result<Vec<TimelineEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(reader::HistoryQuery::Timeline(fingerprint, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Room for a save; `None` while the last one is not written, or the queue is full.
    pub fn save_slot(&self) -> Option<SaveSlot> {
        let written = Arc::clone(&self.saves).try_acquire_owned().ok()?;
        Some(SaveSlot { written, queued: self.queue.reserve(1)? })
    }

    /// Queues what changed without waiting. A failed write is counted, logged and retried.
    pub fn save(&self, slot: SaveSlot, save: FleetSave) {
        let SaveSlot { written, queued } = slot;
        // Once history is closed nothing is saved any more.
        drop(self.queue.send_reserved(HistoryMessage::Save(Box::new(PendingSave { save, _written: written })), queued));
    }

    /// Queues a usage body without waiting. The receiver resolves once the body is durable: a restart finds it in
    /// [`SavedFleet::usage_log`] until a save includes its effect.
    pub fn log_usage(&self, body: UsageBody) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        let weight = u32::try_from(body.body.len() / USAGE_WEIGHT).unwrap_or(u32::MAX).clamp(1, QUEUE);
        match self.queue.try_send(HistoryMessage::Usage(body, reply), weight) {
            Ok(()) => self.thread.unpark(),
            // The caller sees the closed channel.
            Err(_) => self.health.drop_rows(1),
        }
        answer
    }

    /// Saves counting state before the next save of the fleet, and returns once it is durable. A failed write is retried.
    pub async fn save_counting(&self, counting: CountingState) -> Result<(), StoreError> {
        self.ask(|reply| HistoryMessage::CountingState(Box::new(counting), reply)).await
    }

    /// Returns once everything queued before is committed.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.ask(HistoryMessage::Flush).await
    }

    /// Writes what is queued, checkpoints the write-ahead log and closes the file. Later calls return
    /// [`StoreError::Closed`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(HistoryMessage::Close).await
    }

    async fn ask(&self, message: impl FnOnce(WriteReply) -> HistoryMessage) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(message(reply)).await.map_err(|_| StoreError::Closed)?;
        self.thread.unpark();
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Resolved alerts, the most recent first. Alerts that are still queued are missing.
    pub async fn alerts(&self, filter: ClosedFilter) -> Result<Vec<ClosedAlert>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.reads.send(reader::HistoryQuery::Alerts(filter, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Status changes of one agent or component, newest first, at most `limit` and [`MAX_ROWS`]. Rows that are still queued
    /// are missing.
    pub async fn history(&self, project: &str, name: &str, limit: usize) -> Result<Vec<HistoryEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let read = reader::HistoryQuery::History { project: project.to_owned(), name: name.to_owned(), limit, reply };
        self.reads.send(read).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Number of rows dropped because the disk was too slow or failed for too long.
    pub fn dropped(&self) -> u64 {
        self.health.dropped()
    }

    /// Number of rows dropped because their subject exceeded its rate limit.
    pub fn rate_limited(&self) -> u64 {
        self.counts.rate_limited.load(Relaxed)
    }

    /// Number of rows deleted before their retention to keep the file below its maximum size.
    pub fn pruned_for_size(&self) -> u64 {
        self.counts.pruned_for_size.load(Relaxed)
    }

    /// Whether the content was lost since the last call, so that everything must be saved again.
    pub fn take_lost(&self) -> bool {
        self.health.take_lost()
    }

    /// Number of failed transactions.
    pub fn errors(&self) -> u64 {
        self.health.errors()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.health.is_ok()
    }

    /// Changes how long rows are kept.
    pub fn set_retention(&self, retention: Duration) {
        self.health.set_retention(retention);
    }

    /// Waits until one of its threads has ended, for whatever reason.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.queue.ended() => {}
            () = self.reads.ended() => {}
        }
    }

    /// Number of queued rows.
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
