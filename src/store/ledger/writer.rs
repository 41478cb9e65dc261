//! The thread that writes the ledger: one transaction for all queued commits, and housekeeping while the queue is empty.
//!
//! The content of a failed transaction is merged into the next one. Checkpoints run only when the queue has been empty for
//! a while, so that none delays a notification.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;

use super::{Commit, LedgerCounts, LedgerMessage, LostNotice, NoticeOutcome, RestoredLedger, WriteReply};
use crate::clock::Clock;
use crate::model::{Alert, Fingerprint, Notice, Silence, Time};
use crate::store::database::{Database, OpenedDatabase};
use crate::store::error::StoreError;
use crate::store::file::{DatabaseLocation, Layout};
use crate::store::health::{FileHealth, FileOperation};
use crate::store::queue::{QueueEvent, QueueReceiver};

pub(super) const LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b31,
    migrations: &[include_str!("schema.sql"), include_str!("silences.sql")],
    // Checkpoints run while the queue is empty; only at 64 MiB of write-ahead log one runs within a commit.
    pragmas: "PRAGMA synchronous=FULL; PRAGMA cache_size=-1024; PRAGMA wal_autocheckpoint=16384; PRAGMA journal_size_limit=8388608;",
};

/// Maximum number of rows per transaction.
const MAX_BATCH: usize = 2048;

/// How long after the last commit the write-ahead log is checkpointed.
const CHECKPOINT_DELAY: Duration = Duration::from_millis(100);

/// Interval of housekeeping while the queue is empty.
const TICK: Duration = Duration::from_secs(1);

/// Interval between prunings of the outbox.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long pruning waits for an empty queue before it runs between two commits.
const MAX_PRUNE_DELAY: Duration = Duration::from_secs(600);

/// Maximum number of rows pruned in one step, which takes about 5 ms.
const PRUNE_ROWS: u32 = 500;

/// Maximum number of notices that are no longer pending, on disk (about 1 GB) and in memory (about 10 MB).
const SETTLED_ROWS: [u32; 2] = [1_000_000, 10_000];

/// Maximum number of pending rows of each kind while writes fail; beyond it the oldest notices and any alerts are dropped.
const MAX_PENDING: usize = 65_536;

/// Size to which the write-ahead log is grown at startup. Overwriting it takes half the time of growing it.
const WAL_PREALLOCATION: u32 = 1 << 20;

pub(super) struct LedgerWriter {
    database: Database,
    health: Arc<FileHealth>,
    clock: Clock,
    /// What the next transaction writes.
    pending: PendingCommit,
    /// Whether the write-ahead log has content that is not checkpointed.
    needs_checkpoint: bool,
    prune_at: Time,
}

/// Merged commits that the next transaction writes; later ones override earlier ones.
#[derive(Default)]
struct PendingCommit {
    alerts: HashMap<Fingerprint, Option<Alert>>,
    notices: Vec<Arc<Notice>>,
    outcomes: Vec<(Arc<str>, NoticeOutcome)>,
    /// By id; `None` for an ended silence.
    silences: HashMap<Arc<str>, Option<Silence>>,
    counts: Option<LedgerCounts>,
}

impl PendingCommit {
    fn add(&mut self, commit: Commit) {
        self.alerts.extend(commit.alerts.into_iter().map(|alert| (alert.fingerprint, Some(alert))));
        self.alerts.extend(commit.delete.into_iter().map(|fingerprint| (fingerprint, None)));
        self.notices.extend(commit.notices);
        self.outcomes.extend(commit.outcomes);
        self.silences.extend(commit.silences.into_iter().map(|silence| (silence.id.clone(), Some(silence))));
        self.silences.extend(commit.ended_silences.into_iter().map(|id| (id, None)));
        self.counts = commit.counts.or(self.counts);
    }

    fn is_empty(&self) -> bool {
        self.alerts.is_empty()
            && self.notices.is_empty()
            && self.outcomes.is_empty()
            && self.silences.is_empty()
            && self.counts.is_none()
    }

    fn clear(&mut self) {
        self.alerts.clear();
        self.notices.clear();
        self.outcomes.clear();
        self.silences.clear();
        self.counts = None;
    }

    /// Drops rows beyond [`MAX_PENDING`] of each kind and returns how many were dropped.
    fn trim(&mut self) -> usize {
        let notices = self.notices.len().saturating_sub(MAX_PENDING);
        self.notices.drain(..notices);
        let outcomes = self.outcomes.len().saturating_sub(MAX_PENDING);
        self.outcomes.drain(..outcomes);
        let alerts = self.alerts.len().saturating_sub(MAX_PENDING);
        let extra: Vec<Fingerprint> = self.alerts.keys().copied().take(alerts).collect();
        for fingerprint in extra {
            self.alerts.remove(&fingerprint);
        }
        notices + outcomes + alerts
    }
}

impl LedgerWriter {
    pub(super) fn new(opened: OpenedDatabase<RestoredLedger>, health: Arc<FileHealth>, clock: Clock) -> Self {
        let writer = Self {
            database: opened.database,
            health,
            pending: PendingCommit::default(),
            needs_checkpoint: false,
            prune_at: clock.now(),
            clock,
        };
        if writer.database.is_writable() {
            // On failure (a full disk) the ledger still starts; later writes may succeed.
            writer.health.record(FileOperation::Write, &writer.preallocate_wal().map_err(writer.failed("write")));
        }
        writer
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.database.location().failed(action)
    }

    fn is_memory(&self) -> bool {
        self.database.location().is_memory()
    }

    /// Grows the write-ahead log once and checkpoints it, so that later commits overwrite it.
    fn preallocate_wal(&self) -> rusqlite::Result<()> {
        if self.is_memory() {
            return Ok(());
        }
        // With a small cache, which these pages would otherwise occupy permanently.
        let connection = &self.database.connection;
        connection.execute_batch("PRAGMA cache_size=-64")?;
        let fill = "INSERT INTO meta(key, value) VALUES('room', zeroblob(?1))";
        connection.execute(fill, [WAL_PREALLOCATION])?;
        connection.execute("DELETE FROM meta WHERE key = 'room'", [])?;
        connection.execute_batch(LAYOUT.pragmas)?;
        self.checkpoint("PASSIVE")
    }

    fn checkpoint(&self, mode: &str) -> rusqlite::Result<()> {
        self.database.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }

    /// Serves `queue` until it closes.
    pub(super) fn run(mut self, queue: &QueueReceiver<LedgerMessage>) {
        loop {
            match queue.recv(if self.needs_checkpoint { CHECKPOINT_DELAY } else { TICK }) {
                QueueEvent::Item(first) => {
                    if let Some(close) = self.serve(first, queue) {
                        let outcome = self.finish();
                        // Close the file and release its lock before the reply.
                        drop(self.database);
                        answer(close, outcome);
                        return;
                    }
                    if self.clock.now() >= self.prune_at.plus(MAX_PRUNE_DELAY) {
                        self.prune_if_due();
                        self.database.note_written();
                    }
                }
                QueueEvent::Timeout => {
                    self.housekeep();
                    self.database.note_written();
                }
                QueueEvent::Closed => break,
            }
        }
        if let Err(error) = self.finish() {
            tracing::error!(path = %self.database.location().name().display(), %error, "last writes of the ledger are lost");
        }
    }

    /// Commits `first` and what is queued behind it, and replies. Returns the caller of a close.
    fn serve(&mut self, first: LedgerMessage, queue: &QueueReceiver<LedgerMessage>) -> Option<WriteReply> {
        let (mut replies, mut rows, mut next) = (Vec::new(), 0, Some(first));
        let mut close = None;
        while let Some(message) = next {
            match message {
                LedgerMessage::Commit(commit, reply) => {
                    rows += commit.rows().max(1);
                    self.pending.add(*commit);
                    replies.push(reply);
                }
                LedgerMessage::Close(reply) => {
                    close = Some(reply);
                    break;
                }
            }
            next = if rows < MAX_BATCH { queue.try_recv() } else { None };
        }
        let outcome = self.write();
        for reply in replies {
            answer(reply, outcome.clone());
        }
        close
    }

    /// Commits everything pending in one transaction. On failure it stays pending.
    fn write(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() { Ok(()) } else { self.write_now() }
    }

    /// Commits even when nothing is pending, which tests whether the disk is writable.
    fn write_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.transact();
        self.health.record(FileOperation::Write, &outcome);
        match &outcome {
            Ok(()) => {
                self.needs_checkpoint = !self.is_memory();
                self.pending.clear();
            }
            Err(error) => {
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

    fn transact(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.restore(now)?;
        let failed = self.failed("write");
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let written = transaction.and_then(|transaction| {
            write_pending(&transaction, &self.pending, now)?;
            transaction.commit()
        });
        written.map_err(failed)
    }

    /// Ensures that the file at the path is the one that is written.
    fn restore(&mut self, now: Time) -> Result<(), StoreError> {
        if self.database.restore(now)? {
            self.health.set_lost();
        }
        Ok(())
    }

    /// Replaces a damaged file by an empty one. The engine then commits its whole state again.
    fn start_over(&mut self) {
        let DatabaseLocation::File(path) = self.database.location().clone() else { return };
        match self.database.start_over(&path, self.clock.now()) {
            Ok(()) => self.health.set_lost(),
            Err(error) => self.health.record(FileOperation::Write, &Err::<(), _>(error)),
        }
    }

    /// One step of housekeeping, small enough not to delay a commit noticeably.
    fn housekeep(&mut self) {
        // Outcomes are recorded in the health.
        if !self.pending.is_empty() || !self.health.is_ok() {
            self.write_now().and_then(|()| self.checkpoint_now()).ok();
        } else if self.needs_checkpoint {
            self.checkpoint_now().ok();
        } else {
            let restored = self.restore(self.clock.now());
            if restored.is_err() {
                self.health.record(FileOperation::Write, &restored);
            }
            self.health.set_size(self.database.size());
            self.prune_if_due();
        }
    }

    fn checkpoint_now(&mut self) -> Result<(), StoreError> {
        if self.is_memory() {
            return Ok(());
        }
        let outcome = self.checkpoint("PASSIVE").map_err(self.failed("checkpoint"));
        self.needs_checkpoint = false;
        self.health.record(FileOperation::Checkpoint, &outcome);
        outcome
    }

    fn prune_if_due(&mut self) {
        if self.clock.now() < self.prune_at {
            return;
        }
        match self.prune() {
            Ok(0) => self.prune_at = self.clock.now().plus(PRUNE_EVERY),
            // More rows may be due; the write-ahead log is checkpointed first.
            Ok(_) => self.needs_checkpoint = true,
            Err(error) => {
                self.health.record(FileOperation::Write, &Err::<(), _>(self.failed("prune")(error)));
                self.prune_at = self.clock.now().plus(PRUNE_EVERY);
            }
        }
    }

    /// Deletes up to [`PRUNE_ROWS`] expired or excess rows that are no longer pending, and returns how many.
    fn prune(&self) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM outbox WHERE settled_at IS NOT NULL";
        let rows: u32 = self.database.connection.prepare_cached(count)?.query_row([], |row| row.get(0))?;
        // Alerts and pending notices are never deleted to reduce the size of the file.
        let max_size = self.health.max_size();
        let is_large = self.database.used()? > max_size;
        let extra = if is_large {
            PRUNE_ROWS
        } else {
            rows.saturating_sub(SETTLED_ROWS[usize::from(self.is_memory())]).min(PRUNE_ROWS)
        };
        let oldest = self.clock.now().minus(self.health.retention()).as_millis();
        let mut statement = self.database.connection.prepare_cached(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE settled_at < ?1 ORDER BY settled_at LIMIT ?2)
             OR seq IN (SELECT seq FROM outbox WHERE settled_at IS NOT NULL ORDER BY settled_at LIMIT ?3)",
        )?;
        let removed = statement.execute(params![oldest, PRUNE_ROWS, extra])?;
        self.database.vacuum(max_size)?;
        Ok(removed)
    }

    /// Commits what is pending and checkpoints the write-ahead log.
    fn finish(&mut self) -> Result<(), StoreError> {
        self.write()?;
        if self.is_memory() || !self.database.is_writable() {
            return Ok(());
        }
        self.checkpoint("TRUNCATE").map_err(self.failed("checkpoint"))
    }
}

/// Replies to a caller, which may be gone.
fn answer(reply: WriteReply, outcome: Result<(), StoreError>) {
    reply.send(outcome).ok();
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn write_pending(transaction: &Transaction<'_>, pending: &PendingCommit, now: Time) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO alerts(id, fingerprint, rule, project, subject_kind, subject, state, level, value,
         started_at, fired_at, resolved_at, changed_at, body) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    )?;
    let mut delete = transaction.prepare_cached("DELETE FROM alerts WHERE id = ?1")?;
    for (fingerprint, alert) in &pending.alerts {
        let id = fingerprint.0.cast_signed();
        let Some(alert) = alert else {
            delete.execute([id])?;
            continue;
        };
        upsert.execute(params![
            id,
            fingerprint.to_string(),
            alert.rule,
            alert.subject.project(),
            alert.subject.label(),
            alert.subject.name(),
            alert.state.as_str(),
            alert.level.as_str(),
            alert.value,
            alert.started_at.as_millis(),
            alert.fired_at.map(Time::as_millis),
            alert.resolved_at.map(Time::as_millis),
            alert.changed_at.as_millis(),
            json(alert)?,
        ])?;
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO outbox(key, receiver, state, rule, fingerprint, level, created_at, body)
         VALUES(?1,?2,'pending',?3,?4,?5,?6,?7) ON CONFLICT(key) DO NOTHING",
    )?;
    for notice in &pending.notices {
        insert.execute(params![
            notice.key,
            notice.receiver,
            notice.rule,
            notice.fingerprint.to_string(),
            notice.level.as_str(),
            now.as_millis(),
            json(notice)?,
        ])?;
    }
    let mut settle = transaction.prepare_cached(
        "UPDATE outbox SET state = ?2, settled_at = ?3, reason = ?4, error = ?5 WHERE key = ?1 AND settled_at IS NULL",
    )?;
    for (key, outcome) in &pending.outcomes {
        let (reason, error) = match outcome {
            NoticeOutcome::Delivered | NoticeOutcome::Superseded => (None, None),
            NoticeOutcome::Dead { reason, message } => (Some(reason.as_str()), Some(message)),
        };
        settle.execute(params![key, outcome.as_str(), now.as_millis(), reason, error])?;
    }
    for (id, silence) in &pending.silences {
        match silence {
            Some(silence) => transaction
                .prepare_cached("INSERT OR REPLACE INTO silences(id, ends_at, body) VALUES(?1, ?2, ?3)")?
                .execute(params![id, silence.ends_at.as_millis(), json(silence)?])?,
            None => transaction.prepare_cached("DELETE FROM silences WHERE id = ?1")?.execute([id])?,
        };
    }
    let mut meta = transaction.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)")?;
    if let Some(counts) = &pending.counts {
        meta.execute(params!["counts", json(counts)?])?;
    }
    meta.execute(params!["written_at", now.as_millis()])?;
    Ok(())
}

/// Reads the ledger; rows that can't be read are counted.
pub(super) fn restore(connection: &Connection) -> rusqlite::Result<RestoredLedger> {
    let mut unreadable = 0;
    let alerts = bodies(connection, "SELECT body FROM alerts ORDER BY id", &mut unreadable)?;
    let (outbox, lost) = read_pending(connection)?;
    let silences = bodies(connection, "SELECT body FROM silences ORDER BY id", &mut unreadable)?;
    let meta = "SELECT value FROM meta WHERE key = ?1";
    let counts: Option<String> = connection.query_row(meta, ["counts"], |row| row.get(0)).optional()?;
    let written_at: Option<i64> = connection.query_row(meta, ["written_at"], |row| row.get(0)).optional()?;
    let counts = counts.map_or(Ok(LedgerCounts::default()), |text| serde_json::from_str(&text)).unwrap_or_else(|_| {
        unreadable += 1;
        LedgerCounts::default()
    });
    Ok(RestoredLedger {
        alerts,
        outbox,
        silences,
        counts,
        lost,
        written_at: written_at.map(Time::from_millis),
        unreadable,
        damaged: None,
    })
}

/// Pending notices, and those among them that can't be read.
fn read_pending(connection: &Connection) -> rusqlite::Result<(Vec<Notice>, Vec<LostNotice>)> {
    let sql = "SELECT body, key, receiver, fingerprint FROM outbox WHERE settled_at IS NULL ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let (mut read, mut lost) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()) {
            Some(notice) => read.push(notice),
            None => lost.push(LostNotice { key: row.get(1)?, receiver: row.get(2)?, fingerprint: row.get(3)? }),
        }
    }
    Ok((read, lost))
}

/// The JSON values of the column that `sql` selects.
fn bodies<T: DeserializeOwned>(connection: &Connection, sql: &str, unreadable: &mut u64) -> rusqlite::Result<Vec<T>> {
    bodies_of(connection, sql, [], unreadable)
}

/// The JSON values of the column that `sql` selects with `parameters`.
pub(super) fn bodies_of<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    unreadable: &mut u64,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok());
        match body {
            Some(body) => found.push(body),
            None => *unreadable += 1,
        }
    }
    Ok(found)
}
