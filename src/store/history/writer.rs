//! The thread that writes history: it batches for a moment, commits one transaction, and prunes in small steps.
//! Checkpoints run here too, where no caller waits for them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::pending::PendingWrites;
use super::rows::{HistoryAppender, write_closed};
use super::{DropCounts, HistoryMessage, WriteReply, counting, saved, timeline, usage_log};
use crate::clock::Clock;
use crate::model::Time;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::file::{DatabaseLocation, Layout};
use crate::store::health::{FileHealth, FileOperation};
use crate::store::queue::{QueueEvent, QueueReceiver};

pub(super) const LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b32,
    migrations: &[
        include_str!("schema.sql"),
        include_str!("timeline.sql"),
        include_str!("counting.sql"),
        include_str!("streams.sql"),
        include_str!("windows.sql"),
        include_str!("usage_log.sql"),
    ],
    pragmas: "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4096; PRAGMA wal_autocheckpoint=1024; PRAGMA journal_size_limit=4194304;",
};

/// How long the thread batches after a first row, so that each row is not a transaction of its own.
const BATCH_WAIT: Duration = Duration::from_millis(50);

/// Number of rows from which batching does not wait for more.
const FULL_BATCH: usize = 1_000;

/// Maximum number of rows per transaction.
const MAX_BATCH: usize = 8_192;

/// Interval of housekeeping while the queue is empty.
const TICK: Duration = Duration::from_secs(1);

/// Interval between prunings once nothing is left to prune.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Maximum number of rows pruned in one step; more than [`MAX_BATCH`], so that pruning keeps up with writing.
const PRUNE_ROWS: u32 = 10_000;

/// How often the file is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// The part of `max_size` that is reserved for the write-ahead log.
const WAL_SHARE: u64 = 16 << 20;

/// The pruned tables and the expression for the time of a row.
const TABLES: [(&str, &str); 3] =
    [("history", "at"), ("alert_history", "ifnull(resolved_at, started_at)"), ("timeline", "at")];

/// Rows deleted in one step to reduce the size of the file.
const SIZE_PRUNE_ROWS: u32 = 1_000;
/// Maximum number of rows deleted for size before the queue is served again.
const MAX_SIZE_PRUNE: usize = 20_000;

/// Minimum interval between warnings about rows deleted for size.
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// Maximum number of rows on disk (about 2 GB) and in memory (about 10 MB).
const HISTORY_ROWS: [i64; 2] = [20_000_000, 100_000];

/// Maximum number of resolved alerts on disk (about 1 GB) and in memory (about 10 MB).
const ALERT_ROWS: [i64; 2] = [1_000_000, 10_000];

/// Maximum number of timeline entries on disk (about 1 GB) and in memory (about 10 MB).
const TIMELINE_ROWS: [i64; 2] = [4_000_000, 40_000];

pub(super) struct HistoryWriter {
    database: Database,
    health: Arc<FileHealth>,
    counts: Arc<DropCounts>,
    clock: Clock,
    pending: PendingWrites,
    appender: HistoryAppender,
    buffer: Vec<u8>,
    /// Whether the write-ahead log has content that is not checkpointed.
    needs_checkpoint: bool,
    prune_at: Time,
    measure_at: Time,
    /// Not before this time the next warning about rows deleted for size.
    warn_at: Time,
}

impl HistoryWriter {
    pub(super) fn new(
        database: Database,
        health: Arc<FileHealth>,
        counts: Arc<DropCounts>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let appender = HistoryAppender::new(&database.connection).map_err(database.location().failed("read"))?;
        let (pending, buffer, now) = (PendingWrites::default(), Vec::new(), clock.now());
        Ok(Self {
            database,
            health,
            counts,
            clock,
            pending,
            appender,
            buffer,
            needs_checkpoint: false,
            prune_at: now,
            measure_at: now,
            warn_at: now,
        })
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.database.location().failed(action)
    }

    /// Serves `queue` until it closes.
    pub(super) fn run(mut self, queue: &QueueReceiver<HistoryMessage>) {
        loop {
            match queue.recv(TICK) {
                QueueEvent::Item(first) => {
                    self.batch(first, queue);
                    let outcome = self.write();
                    for reply in std::mem::take(&mut self.pending.replies) {
                        answer(reply, outcome.clone());
                    }
                    if let Some(close) = self.pending.close.take() {
                        let outcome = outcome.and_then(|()| self.checkpoint("TRUNCATE"));
                        // Close the file and release its lock before the reply.
                        drop(self.database);
                        answer(close, outcome);
                        return;
                    }
                    self.prune_if_due();
                    self.database.note_written();
                }
                QueueEvent::Timeout => {
                    self.housekeep();
                    self.database.note_written();
                }
                QueueEvent::Closed => break,
            }
        }
        if let Err(error) = self.write().and_then(|()| self.checkpoint("TRUNCATE")) {
            tracing::error!(path = %self.database.location().name().display(), %error, "last writes of history are lost");
        }
    }

    /// Adds `first` and what arrives within [`BATCH_WAIT`], up to [`MAX_BATCH`] rows.
    fn batch(&mut self, first: HistoryMessage, queue: &QueueReceiver<HistoryMessage>) {
        self.pending.add(first);
        self.drain(queue);
        if self.pending.rows.len() < FULL_BATCH && !self.pending.is_urgent() {
            // Parked rather than waiting on the queue, so that a sender need not wake this thread. A caller that waits for a
            // reply unparks it.
            std::thread::park_timeout(BATCH_WAIT);
            self.drain(queue);
        }
    }

    fn drain(&mut self, queue: &QueueReceiver<HistoryMessage>) {
        while self.pending.rows.len() < MAX_BATCH && self.pending.close.is_none() {
            let Some(message) = queue.try_recv() else { return };
            self.pending.add(message);
        }
    }

    /// Commits everything pending in one transaction. On failure it stays pending.
    fn write(&mut self) -> Result<(), StoreError> {
        let limited = std::mem::take(&mut self.pending.rate_limited);
        self.counts.rate_limited.fetch_add(limited as u64, Relaxed);
        if self.pending.is_empty() { Ok(()) } else { self.write_now() }
    }

    /// Commits even when nothing is pending, which tests whether the disk is writable.
    fn write_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.restore().and_then(|()| self.transact().map_err(self.failed("write")));
        self.health.record(FileOperation::Write, &outcome);
        match &outcome {
            Ok(()) => {
                self.needs_checkpoint = true;
                self.pending.clear();
            }
            Err(error) => {
                self.appender.rolled_back();
                if error.is_damage() {
                    self.start_over();
                }
                self.health.drop_rows(self.pending.trim());
            }
        }
        // Before the replies, so that any later change to the files is detected.
        self.database.note_written();
        outcome
    }

    /// Ensures that the file at the path is the one that is written.
    fn restore(&mut self) -> Result<(), StoreError> {
        if self.database.restore(self.clock.now())? {
            self.health.set_lost();
            self.appender = HistoryAppender::new(&self.database.connection).map_err(self.failed("read"))?;
        }
        Ok(())
    }

    /// Replaces a damaged file by an empty one. The engine then saves its whole state again.
    fn start_over(&mut self) {
        let DatabaseLocation::File(path) = self.database.location().clone() else { return };
        let opened = self.database.start_over(&path, self.clock.now());
        let opened = opened.and_then(|()| HistoryAppender::new(&self.database.connection).map_err(self.failed("read")));
        match opened {
            Ok(appender) => {
                self.appender = appender;
                self.health.set_lost();
            }
            Err(error) => self.health.record(FileOperation::Write, &Err::<(), _>(error)),
        }
    }

    fn transact(&mut self) -> rusqlite::Result<()> {
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = self.appender.write(&transaction, &self.pending.rows)?;
        for closed in &self.pending.closed {
            write_closed(&transaction, closed)?;
        }
        timeline::write(&transaction, &self.pending.decisions)?;
        usage_log::write(&transaction, &self.pending.usage)?;
        counting::write(&transaction, &self.pending.counting, self.clock.now(), &mut self.buffer)?;
        if let Some(pending) = &self.pending.save {
            saved::write(&transaction, &pending.save, &mut self.buffer)?;
        }
        if self.pending.is_empty() {
            transaction.execute(
                "INSERT OR REPLACE INTO meta(key, value) VALUES('probed_at', ?1)",
                [self.clock.now().as_millis()],
            )?;
        }
        transaction.commit()?;
        self.appender.committed(last);
        Ok(())
    }

    fn checkpoint(&self, mode: &str) -> Result<(), StoreError> {
        if !self.database.is_writable() {
            return Ok(());
        }
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.database.connection.query_row(&sql, [], |_| Ok(())).map_err(self.failed("checkpoint"))
    }

    fn checkpoint_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.checkpoint("PASSIVE");
        self.needs_checkpoint = false;
        self.health.record(FileOperation::Checkpoint, &outcome);
        outcome
    }

    /// One step of housekeeping.
    fn housekeep(&mut self) {
        // Outcomes are recorded in the health.
        if !self.pending.is_empty() || !self.health.is_ok() {
            self.write_now().and_then(|()| self.checkpoint_now()).ok();
        } else if self.needs_checkpoint {
            self.checkpoint_now().ok();
        } else {
            let restored = self.restore();
            if restored.is_err() {
                self.health.record(FileOperation::Write, &restored);
            }
        }
        self.prune_if_due();
    }

    fn prune_if_due(&mut self) {
        // Read once: rows that expire while pruning runs are left to the next run.
        let now = self.clock.now();
        if now >= self.measure_at {
            self.measure_at = now.plus(MEASURE_EVERY);
            let bounded = self.bound_size(now);
            self.pruned(now, bounded);
        }
        if now >= self.prune_at {
            let pruned = self.prune(now);
            // More rows may be due; the next call continues.
            if !matches!(pruned, Ok(1..)) {
                self.prune_at = now.plus(PRUNE_EVERY);
            }
            self.pruned(now, pruned);
        }
    }

    fn pruned(&mut self, now: Time, outcome: rusqlite::Result<usize>) {
        match outcome {
            Ok(0) => {}
            Ok(_) => self.needs_checkpoint = true,
            Err(_) if !self.health.is_ok() => self.measure_at = now.plus(PRUNE_EVERY),
            Err(error) => {
                self.health.record(FileOperation::Write, &Err::<(), _>(self.failed("prune")(error)));
                self.measure_at = now.plus(PRUNE_EVERY);
            }
        }
    }

    /// Deletes the oldest rows while the file is too large, returns free pages to the file system, and returns the number of
    /// deleted rows.
    fn bound_size(&mut self, now: Time) -> rusqlite::Result<usize> {
        let max_size = self.health.max_size();
        let most = max_size.saturating_sub(WAL_SHARE.min(max_size / 4));
        let mut removed = 0;
        if self.database.used()? > most {
            // Frees a sixteenth at once rather than a few rows each time.
            while removed < MAX_SIZE_PRUNE && self.database.used()? > most - most / 16 {
                let deleted = self.prune_oldest()?;
                if deleted == 0 {
                    break;
                }
                removed += deleted;
            }
            self.counts.pruned_for_size.fetch_add(removed as u64, Relaxed);
            if removed > 0 && now >= self.warn_at {
                self.warn_at = now.plus(WARN_EVERY);
                tracing::warn!(
                    path = %self.database.location().name().display(),
                    max_size,
                    rows = removed,
                    "history reached its share of store.max_size; its oldest rows are deleted before store.retention"
                );
            }
        }
        self.database.vacuum(most)?;
        self.health.set_size(self.database.size());
        Ok(removed)
    }

    /// Deletes some of the oldest rows of the table that has the oldest row.
    fn prune_oldest(&self) -> rusqlite::Result<usize> {
        let connection = &self.database.connection;
        let mut oldest: Option<(i64, &str)> = None;
        for (table, at) in TABLES {
            let first = format!("SELECT {at} FROM {table} ORDER BY id LIMIT 1");
            let first: Option<i64> = connection.prepare_cached(&first)?.query_row([], |row| row.get(0)).optional()?;
            oldest = match (oldest, first) {
                (Some(known), Some(first)) if known.0 <= first => Some(known),
                (known, None) => known,
                (_, Some(first)) => Some((first, table)),
            };
        }
        let Some((_, table)) = oldest else { return Ok(0) };
        let delete = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?1)");
        let removed = connection.prepare_cached(&delete)?.execute([SIZE_PRUNE_ROWS])?;
        if table == "history" {
            self.prune_heads()?;
        }
        Ok(removed)
    }

    fn prune_heads(&self) -> rusqlite::Result<()> {
        let sql = "DELETE FROM heads WHERE last < (SELECT ifnull(min(id), 9223372036854775807) FROM history)";
        self.database.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Deletes up to [`PRUNE_ROWS`] expired or excess rows of each table, and returns how many.
    fn prune(&self, now: Time) -> rusqlite::Result<usize> {
        let oldest = now.minus(self.health.retention()).as_millis();
        let memory = usize::from(self.database.location().is_memory());
        // Rows are appended, so the oldest have the lowest ids and the scan can be limited.
        let mut history = self.database.connection.prepare_cached(
            "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM history) - ?3)",
        )?;
        let mut removed = history.execute(params![PRUNE_ROWS, oldest, HISTORY_ROWS[memory]])?;
        if removed > 0 {
            self.prune_heads()?;
        }
        let mut alerts = self.database.connection.prepare_cached(
            "DELETE FROM alert_history WHERE id IN (SELECT id FROM alert_history ORDER BY id LIMIT ?1)
             AND (ifnull(resolved_at, started_at) < ?2 OR id <= (SELECT max(id) FROM alert_history) - ?3)",
        )?;
        removed += alerts.execute(params![PRUNE_ROWS, oldest, ALERT_ROWS[memory]])?;
        let mut timeline = self.database.connection.prepare_cached(
            "DELETE FROM timeline WHERE id IN (SELECT id FROM timeline ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM timeline) - ?3)",
        )?;
        removed += timeline.execute(params![PRUNE_ROWS, oldest, TIMELINE_ROWS[memory]])?;
        counting::prune(&self.database.connection, oldest)?;
        Ok(removed)
    }
}

/// Replies to a caller, which may be gone.
fn answer(reply: WriteReply, outcome: Result<(), StoreError>) {
    reply.send(outcome).ok();
}
