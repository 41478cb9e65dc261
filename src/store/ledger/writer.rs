//! The thread that owns the ledger's file: one transaction for all that waits, housekeeping when it is quiet.
//!
//! What a failed transaction held is kept and merged into the next one, so that the file is right again as soon
//! as the disk is. Checkpoints run when nothing came for a while: none sits between an alert and its message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;

use super::{Commit, LedgerCounts, LostNotice, Message, Reply, Restored, Settled};
use crate::clock::Clock;
use crate::model::{Alert, Fingerprint, Notice, Silence, Time};
use crate::store::database::{Database, Opened};
use crate::store::error::StoreError;
use crate::store::file::{Layout, Place};
use crate::store::health::{Health, Step};
use crate::store::queue::{Received, Receiver};

pub(super) const LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b31,
    migrations: &[include_str!("schema.sql"), include_str!("silences.sql")],
    // Checkpoints are made when it is quiet; at 64 MiB of log one is made in the way of a commit after all.
    pragmas: "PRAGMA synchronous=FULL; PRAGMA cache_size=-1024; PRAGMA wal_autocheckpoint=16384; PRAGMA journal_size_limit=8388608;",
};

/// Rows that one transaction takes before it is synced and answered.
const GROUP: usize = 2048;

/// After so long without a commit the log is folded into the file.
const QUIET: Duration = Duration::from_millis(100);

/// How often the thread looks around when nothing comes.
const TICK: Duration = Duration::from_secs(1);

/// How often settled rows are pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long pruning waits for quiet before it steps between two commits.
const PRUNE_AT_LAST: Duration = Duration::from_secs(600);

/// Rows pruned at once, about 5 ms.
const BITE: u32 = 500;

/// Settled rows kept at most, whatever their age: on disk about 1 GB, in memory about 10 MB.
const SETTLED_ROWS: [u32; 2] = [1_000_000, 10_000];

/// Rows kept for a disk that fails; beyond them the oldest notices and new alerts are given up.
const BACKLOG: usize = 65_536;

/// How much log is laid out at the start. Overwriting it takes half the time that growing it does.
const LOG_ROOM: u32 = 1 << 20;

pub(super) struct Writer {
    database: Database,
    health: Arc<Health>,
    clock: Clock,
    /// What is to be written; after a success it is empty.
    work: Work,
    /// Whether the log holds what the file does not.
    unfolded: bool,
    prune_at: Time,
}

/// Everything that the next transaction writes; later commits override earlier ones.
#[derive(Default)]
struct Work {
    alerts: HashMap<Fingerprint, Option<Alert>>,
    notices: Vec<Arc<Notice>>,
    settled: Vec<(Arc<str>, Settled)>,
    /// By id; `None` is over. No more than may be known at once, and those that ended since.
    silences: HashMap<Arc<str>, Option<Silence>>,
    counts: Option<LedgerCounts>,
}

impl Work {
    fn take(&mut self, commit: Commit) {
        self.alerts.extend(commit.alerts.into_iter().map(|alert| (alert.fingerprint, Some(alert))));
        self.alerts.extend(commit.forget.into_iter().map(|fingerprint| (fingerprint, None)));
        self.notices.extend(commit.notices);
        self.settled.extend(commit.settled);
        self.silences.extend(commit.silences.into_iter().map(|silence| (silence.id.clone(), Some(silence))));
        self.silences.extend(commit.silences_over.into_iter().map(|id| (id, None)));
        self.counts = commit.counts.or(self.counts);
    }

    fn is_empty(&self) -> bool {
        self.alerts.is_empty()
            && self.notices.is_empty()
            && self.settled.is_empty()
            && self.silences.is_empty()
            && self.counts.is_none()
    }

    fn clear(&mut self) {
        self.alerts.clear();
        self.notices.clear();
        self.settled.clear();
        self.silences.clear();
        self.counts = None;
    }

    /// Cuts what a failing disk left here to [`BACKLOG`] rows of each kind and returns how many rows went.
    fn trim(&mut self) -> usize {
        let notices = self.notices.len().saturating_sub(BACKLOG);
        self.notices.drain(..notices);
        let settled = self.settled.len().saturating_sub(BACKLOG);
        self.settled.drain(..settled);
        let alerts = self.alerts.len().saturating_sub(BACKLOG);
        let extra: Vec<Fingerprint> = self.alerts.keys().copied().take(alerts).collect();
        for fingerprint in extra {
            self.alerts.remove(&fingerprint);
        }
        notices + settled + alerts
    }
}

impl Writer {
    pub(super) fn new(opened: Opened<Restored>, health: Arc<Health>, clock: Clock) -> Self {
        let writer = Self {
            database: opened.database,
            health,
            work: Work::default(),
            unfolded: false,
            prune_at: clock.now(),
            clock,
        };
        if writer.database.is_writable() {
            // A disk that is full now may take what is to be written once it matters.
            writer.health.record(Step::Write, &writer.lay_out_log().map_err(writer.failed("write")));
        }
        writer
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.database.place().failed(action)
    }

    fn is_memory(&self) -> bool {
        self.database.place().is_memory()
    }

    /// Grows the log once and folds it, so that the commits to come overwrite what is there.
    fn lay_out_log(&self) -> rusqlite::Result<()> {
        if self.is_memory() {
            return Ok(());
        }
        // With a small cache, or these pages would fill it for good.
        let connection = &self.database.connection;
        connection.execute_batch("PRAGMA cache_size=-64")?;
        let fill = "INSERT INTO meta(key, value) VALUES('room', zeroblob(?1))";
        connection.execute(fill, [LOG_ROOM])?;
        connection.execute("DELETE FROM meta WHERE key = 'room'", [])?;
        connection.execute_batch(LAYOUT.pragmas)?;
        self.fold("PASSIVE")
    }

    fn fold(&self, how: &str) -> rusqlite::Result<()> {
        self.database.connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
    }

    /// Serves `queue` until it closes.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv(if self.unfolded { QUIET } else { TICK }) {
                Received::Item(first) => {
                    if let Some(close) = self.serve(first, queue) {
                        let outcome = self.finish();
                        // The file and its lock are free before the answer says so.
                        drop(self.database);
                        answer(close, outcome);
                        return;
                    }
                    if self.clock.now() >= self.prune_at.plus(PRUNE_AT_LAST) {
                        self.prune_if_due();
                        self.database.note();
                    }
                }
                Received::Quiet => {
                    self.tend();
                    self.database.note();
                }
                Received::Closed => break,
            }
        }
        if let Err(error) = self.finish() {
            tracing::error!(path = %self.database.place().name().display(), %error, "ledger was left without its last writes");
        }
    }

    /// Writes `first` and what waits behind it, and answers; returns who asked to close.
    fn serve(&mut self, first: Message, queue: &Receiver<Message>) -> Option<Reply> {
        let (mut replies, mut rows, mut next) = (Vec::new(), 0, Some(first));
        let mut close = None;
        while let Some(message) = next {
            match message {
                Message::Commit(commit, reply) => {
                    rows += commit.rows().max(1);
                    self.work.take(*commit);
                    replies.push(reply);
                }
                Message::Close(reply) => {
                    close = Some(reply);
                    break;
                }
            }
            next = if rows < GROUP { queue.try_recv() } else { None };
        }
        let outcome = self.write();
        for reply in replies {
            answer(reply, outcome.clone());
        }
        close
    }

    /// Writes all work in one transaction; on a failure the work stays.
    fn write(&mut self) -> Result<(), StoreError> {
        if self.work.is_empty() { Ok(()) } else { self.write_now() }
    }

    /// The same with no work, too: whether the disk takes a transaction is then known.
    fn write_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.transact();
        self.health.record(Step::Write, &outcome);
        match &outcome {
            Ok(()) => {
                self.unfolded = !self.is_memory();
                self.work.clear();
            }
            Err(error) => {
                if error.is_damage() {
                    self.begin_anew();
                }
                self.health.drop_rows(self.work.trim());
            }
        }
        // Before anybody is answered: whatever is done to the files from then on is noticed.
        self.database.note();
        outcome
    }

    fn transact(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.restore(now)?;
        let failed = self.failed("write");
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let written = transaction.and_then(|transaction| {
            write_work(&transaction, &self.work, now)?;
            transaction.commit()
        });
        written.map_err(failed)
    }

    /// Has the file at the path be the one that is written.
    fn restore(&mut self, now: Time) -> Result<(), StoreError> {
        if self.database.restore(now)? {
            self.health.lose();
        }
        Ok(())
    }

    /// Puts a new file in place of one that turned out to be damaged; the engine then says again what it knows.
    fn begin_anew(&mut self) {
        let Place::File(path) = self.database.place().clone() else { return };
        match self.database.begin_anew(&path, self.clock.now()) {
            Ok(()) => self.health.lose(),
            Err(error) => self.health.record(Step::Write, &Err::<(), _>(error)),
        }
    }

    /// One piece of housekeeping, small enough that a commit behind it hardly waits.
    fn tend(&mut self) {
        // The outcomes are in the health; nobody waits for them.
        if !self.work.is_empty() || !self.health.is_ok() {
            self.write_now().and_then(|()| self.fold_now()).ok();
        } else if self.unfolded {
            self.fold_now().ok();
        } else {
            let restored = self.restore(self.clock.now());
            if restored.is_err() {
                self.health.record(Step::Write, &restored);
            }
            self.health.measured(self.database.size());
            self.prune_if_due();
        }
    }

    fn fold_now(&mut self) -> Result<(), StoreError> {
        if self.is_memory() {
            return Ok(());
        }
        let outcome = self.fold("PASSIVE").map_err(self.failed("checkpoint"));
        self.unfolded = false;
        self.health.record(Step::Fold, &outcome);
        outcome
    }

    fn prune_if_due(&mut self) {
        if self.clock.now() < self.prune_at {
            return;
        }
        match self.prune() {
            Ok(0) => self.prune_at = self.clock.now().plus(PRUNE_EVERY),
            // There may be more; the log goes first.
            Ok(_) => self.unfolded = true,
            Err(error) => {
                self.health.record(Step::Write, &Err::<(), _>(self.failed("prune")(error)));
                self.prune_at = self.clock.now().plus(PRUNE_EVERY);
            }
        }
    }

    /// Removes up to [`BITE`] settled rows that are past their time or too many, and returns how many.
    fn prune(&self) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM outbox WHERE settled_at IS NOT NULL";
        let rows: u32 = self.database.connection.prepare_cached(count)?.query_row([], |row| row.get(0))?;
        // Alerts and what is pending are not given up for the size of the file.
        let max_size = self.health.max_size();
        let is_large = self.database.used()? > max_size;
        let extra =
            if is_large { BITE } else { rows.saturating_sub(SETTLED_ROWS[usize::from(self.is_memory())]).min(BITE) };
        let oldest = self.clock.now().minus(self.health.retention()).as_millis();
        let mut statement = self.database.connection.prepare_cached(
            "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE settled_at < ?1 ORDER BY settled_at LIMIT ?2)
             OR seq IN (SELECT seq FROM outbox WHERE settled_at IS NOT NULL ORDER BY settled_at LIMIT ?3)",
        )?;
        let removed = statement.execute(params![oldest, BITE, extra])?;
        self.database.give_back(max_size)?;
        Ok(removed)
    }

    /// Writes what is left and folds the log away.
    fn finish(&mut self) -> Result<(), StoreError> {
        self.write()?;
        if self.is_memory() || !self.database.is_writable() {
            return Ok(());
        }
        self.fold("TRUNCATE").map_err(self.failed("checkpoint"))
    }
}

/// A caller that went away needs no answer.
fn answer(reply: Reply, outcome: Result<(), StoreError>) {
    reply.send(outcome).ok();
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn write_work(transaction: &Transaction<'_>, work: &Work, now: Time) -> rusqlite::Result<()> {
    let mut upsert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO alerts(id, fingerprint, rule, project, subject_kind, subject, state, level, value,
         started_at, fired_at, resolved_at, changed_at, body) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    )?;
    let mut forget = transaction.prepare_cached("DELETE FROM alerts WHERE id = ?1")?;
    for (fingerprint, alert) in &work.alerts {
        let id = fingerprint.0.cast_signed();
        let Some(alert) = alert else {
            forget.execute([id])?;
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
    for notice in &work.notices {
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
    for (key, settled) in &work.settled {
        let (reason, error) = match settled {
            Settled::Delivered | Settled::Superseded => (None, None),
            Settled::Dead { reason, message } => (Some(reason.as_str()), Some(message)),
        };
        settle.execute(params![key, settled.as_str(), now.as_millis(), reason, error])?;
    }
    for (id, silence) in &work.silences {
        match silence {
            Some(silence) => transaction
                .prepare_cached("INSERT OR REPLACE INTO silences(id, ends_at, body) VALUES(?1, ?2, ?3)")?
                .execute(params![id, silence.ends_at.as_millis(), json(silence)?])?,
            None => transaction.prepare_cached("DELETE FROM silences WHERE id = ?1")?.execute([id])?,
        };
    }
    let mut meta = transaction.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)")?;
    if let Some(counts) = &work.counts {
        meta.execute(params!["counts", json(counts)?])?;
    }
    meta.execute(params!["written_at", now.as_millis()])?;
    Ok(())
}

/// Reads everything back; rows that can't be read are counted.
pub(super) fn restore(connection: &Connection) -> rusqlite::Result<Restored> {
    let mut unreadable = 0;
    let alerts = bodies(connection, "SELECT body FROM alerts ORDER BY id", &mut unreadable)?;
    let (outbox, lost) = pending(connection)?;
    let silences = bodies(connection, "SELECT body FROM silences ORDER BY id", &mut unreadable)?;
    let meta = "SELECT value FROM meta WHERE key = ?1";
    let counts: Option<String> = connection.query_row(meta, ["counts"], |row| row.get(0)).optional()?;
    let written_at: Option<i64> = connection.query_row(meta, ["written_at"], |row| row.get(0)).optional()?;
    let counts = counts.map_or(Ok(LedgerCounts::default()), |text| serde_json::from_str(&text)).unwrap_or_else(|_| {
        unreadable += 1;
        LedgerCounts::default()
    });
    Ok(Restored {
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

/// The notices that are still owed, and those of them that can't be read.
fn pending(connection: &Connection) -> rusqlite::Result<(Vec<Notice>, Vec<LostNotice>)> {
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

/// The column of JSON texts that `sql` selects, read.
fn bodies<T: DeserializeOwned>(connection: &Connection, sql: &str, unreadable: &mut u64) -> rusqlite::Result<Vec<T>> {
    bodies_of(connection, sql, [], unreadable)
}

/// The same of a statement with parameters.
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
