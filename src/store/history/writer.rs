//! The thread that owns history's file: it gathers for a moment, writes all in one transaction, and prunes in
//! bites. Checkpoints happen here, where nobody waits for them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::pending::Pending;
use super::rows::{Appender, write_closed};
use super::{DropCounts, Message, Reply, remembered, saved, timeline, usage_log};
use crate::clock::Clock;
use crate::model::Time;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::file::{Layout, Place};
use crate::store::health::{Health, Step};
use crate::store::queue::{Received, Receiver};

pub(super) const LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b32,
    migrations: &[
        include_str!("schema.sql"),
        include_str!("timeline.sql"),
        include_str!("remembered.sql"),
        include_str!("streams.sql"),
        include_str!("windows.sql"),
        include_str!("usage_log.sql"),
    ],
    pragmas: "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4096; PRAGMA wal_autocheckpoint=1024; PRAGMA journal_size_limit=4194304;",
};

/// How long the thread gathers after a first row, so that a trickle is not a transaction each.
const GATHER: Duration = Duration::from_millis(50);

/// With so many rows there is no need to gather more.
const ENOUGH: usize = 1_000;

/// Rows that one transaction takes.
const GROUP: usize = 8_192;

/// How often the thread looks around when nothing comes.
const TICK: Duration = Duration::from_secs(1);

/// How often rows are pruned when the last time left nothing.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Rows pruned at once: more than [`GROUP`], so that pruning keeps up with any rate of writing.
const BITE: u32 = 10_000;

/// How often the file is measured.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// Of `max_size`, what is for the log.
const LOG_SHARE: u64 = 16 << 20;

/// The tables that are pruned, and when their rows are from.
const TABLES: [(&str, &str); 3] =
    [("history", "at"), ("alert_history", "ifnull(resolved_at, started_at)"), ("timeline", "at")];

/// Rows pruned at once for their size, and until others have their turn.
const SMALL_BITE: u32 = 1_000;
const MOST_AT_ONCE: usize = 20_000;

/// How often it is logged that rows are dropped for their size.
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// Rows kept at most, whatever their age: on disk about 2 GB, in memory about 10 MB.
const HISTORY_ROWS: [i64; 2] = [20_000_000, 100_000];

/// Closed alerts kept at most: on disk about 1 GB, in memory about 10 MB.
const ALERT_ROWS: [i64; 2] = [1_000_000, 10_000];

/// Entries of timelines kept at most: on disk about 1 GB, in memory about 10 MB.
const TIMELINE_ROWS: [i64; 2] = [4_000_000, 40_000];

pub(super) struct Writer {
    database: Database,
    health: Arc<Health>,
    counts: Arc<DropCounts>,
    clock: Clock,
    pending: Pending,
    appender: Appender,
    buffer: Vec<u8>,
    /// Whether the log holds what the file does not.
    unfolded: bool,
    prune_at: Time,
    measure_at: Time,
    /// When it may be logged again that rows are dropped for their size.
    warn_at: Time,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        health: Arc<Health>,
        counts: Arc<DropCounts>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let appender = Appender::new(&database.connection).map_err(database.place().failed("read"))?;
        let (pending, buffer, now) = (Pending::default(), Vec::new(), clock.now());
        Ok(Self {
            database,
            health,
            counts,
            clock,
            pending,
            appender,
            buffer,
            unfolded: false,
            prune_at: now,
            measure_at: now,
            warn_at: now,
        })
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.database.place().failed(action)
    }

    /// Serves `queue` until it closes.
    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            match queue.recv(TICK) {
                Received::Item(first) => {
                    self.gather(first, queue);
                    let outcome = self.write();
                    for reply in std::mem::take(&mut self.pending.replies) {
                        answer(reply, outcome.clone());
                    }
                    if let Some(close) = self.pending.close.take() {
                        let outcome = outcome.and_then(|()| self.fold("TRUNCATE"));
                        // The file and its lock are free before the answer says so.
                        drop(self.database);
                        answer(close, outcome);
                        return;
                    }
                    self.prune_if_due();
                    self.database.note();
                }
                Received::Quiet => {
                    self.tend();
                    self.database.note();
                }
                Received::Closed => break,
            }
        }
        if let Err(error) = self.write().and_then(|()| self.fold("TRUNCATE")) {
            tracing::error!(path = %self.database.place().name().display(), %error, "history was left without its last writes");
        }
    }

    /// Takes `first` and what follows within [`GATHER`], or up to [`GROUP`] rows.
    fn gather(&mut self, first: Message, queue: &Receiver<Message>) {
        self.pending.take(first);
        self.drain(queue);
        if self.pending.rows.len() < ENOUGH && !self.pending.is_urgent() {
            // Not waiting on the queue: then handing something over costs its caller no wake-up. Who waits for an answer
            // wakes this thread.
            std::thread::park_timeout(GATHER);
            self.drain(queue);
        }
    }

    fn drain(&mut self, queue: &Receiver<Message>) {
        while self.pending.rows.len() < GROUP && self.pending.close.is_none() {
            let Some(message) = queue.try_recv() else { return };
            self.pending.take(message);
        }
    }

    /// Writes all that is pending in one transaction; on a failure it stays pending.
    fn write(&mut self) -> Result<(), StoreError> {
        let limited = std::mem::take(&mut self.pending.rate_limited);
        self.counts.rate.fetch_add(limited as u64, Relaxed);
        if self.pending.is_empty() { Ok(()) } else { self.write_now() }
    }

    /// The same with nothing pending, too: whether the disk takes a transaction is then known.
    fn write_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.restore().and_then(|()| self.transact().map_err(self.failed("write")));
        self.health.record(Step::Write, &outcome);
        match &outcome {
            Ok(()) => {
                self.unfolded = true;
                self.pending.clear();
            }
            Err(error) => {
                self.appender.rolled_back();
                if error.is_damage() {
                    self.begin_anew();
                }
                self.health.drop_rows(self.pending.trim());
            }
        }
        // Before anybody is answered: whatever is done to the files from then on is noticed.
        self.database.note();
        outcome
    }

    /// Has the file at the path be the one that is written.
    fn restore(&mut self) -> Result<(), StoreError> {
        if self.database.restore(self.clock.now())? {
            self.health.lose();
            self.appender = Appender::new(&self.database.connection).map_err(self.failed("read"))?;
        }
        Ok(())
    }

    /// Puts a new file in place of one that turned out to be damaged; the engine then says again what it knows.
    fn begin_anew(&mut self) {
        let Place::File(path) = self.database.place().clone() else { return };
        let begun = self.database.begin_anew(&path, self.clock.now());
        let begun = begun.and_then(|()| Appender::new(&self.database.connection).map_err(self.failed("read")));
        match begun {
            Ok(appender) => {
                self.appender = appender;
                self.health.lose();
            }
            Err(error) => self.health.record(Step::Write, &Err::<(), _>(error)),
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
        remembered::write(&transaction, &self.pending.counting, self.clock.now(), &mut self.buffer)?;
        if let Some(save) = &self.pending.save {
            saved::write(&transaction, save, &mut self.buffer)?;
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

    fn fold(&self, how: &str) -> Result<(), StoreError> {
        if !self.database.is_writable() {
            return Ok(());
        }
        let sql = format!("PRAGMA wal_checkpoint({how})");
        self.database.connection.query_row(&sql, [], |_| Ok(())).map_err(self.failed("checkpoint"))
    }

    fn fold_now(&mut self) -> Result<(), StoreError> {
        let outcome = self.fold("PASSIVE");
        self.unfolded = false;
        self.health.record(Step::Fold, &outcome);
        outcome
    }

    /// One piece of housekeeping.
    fn tend(&mut self) {
        // The outcomes are in the health; nobody waits for them.
        if !self.pending.is_empty() || !self.health.is_ok() {
            self.write_now().and_then(|()| self.fold_now()).ok();
        } else if self.unfolded {
            self.fold_now().ok();
        } else {
            let restored = self.restore();
            if restored.is_err() {
                self.health.record(Step::Write, &restored);
            }
        }
        self.prune_if_due();
    }

    fn prune_if_due(&mut self) {
        // One reading: a time that came while rows were looked for has not been pruned for.
        let now = self.clock.now();
        if now >= self.measure_at {
            self.measure_at = now.plus(MEASURE_EVERY);
            let bounded = self.bound_size(now);
            self.pruned(now, bounded);
        }
        if now >= self.prune_at {
            let pruned = self.prune(now);
            // There may be more; the next turn takes it.
            if !matches!(pruned, Ok(1..)) {
                self.prune_at = now.plus(PRUNE_EVERY);
            }
            self.pruned(now, pruned);
        }
    }

    fn pruned(&mut self, now: Time, outcome: rusqlite::Result<usize>) {
        match outcome {
            Ok(0) => {}
            Ok(_) => self.unfolded = true,
            Err(_) if !self.health.is_ok() => self.measure_at = now.plus(PRUNE_EVERY),
            Err(error) => {
                self.health.record(Step::Write, &Err::<(), _>(self.failed("prune")(error)));
                self.measure_at = now.plus(PRUNE_EVERY);
            }
        }
    }

    /// Drops the oldest rows while the file is larger than it may be, gives pages that are free back, and returns how
    /// many rows went.
    fn bound_size(&mut self, now: Time) -> rusqlite::Result<usize> {
        let max_size = self.health.max_size();
        let most = max_size.saturating_sub(LOG_SHARE.min(max_size / 4));
        let mut removed = 0;
        if self.database.used()? > most {
            // Some room at once, so that it is not a few rows each time.
            while removed < MOST_AT_ONCE && self.database.used()? > most - most / 16 {
                let bite = self.prune_oldest()?;
                if bite == 0 {
                    break;
                }
                removed += bite;
            }
            self.counts.size.fetch_add(removed as u64, Relaxed);
            if removed > 0 && now >= self.warn_at {
                self.warn_at = now.plus(WARN_EVERY);
                tracing::warn!(
                    path = %self.database.place().name().display(),
                    max_size,
                    rows = removed,
                    "history has reached its share of store.max_size; its oldest rows are dropped before store.retention"
                );
            }
        }
        self.database.give_back(most)?;
        self.health.measured(self.database.size());
        Ok(removed)
    }

    /// Removes a bite of the oldest rows of the table whose first row is oldest.
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
        let bite = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?1)");
        let removed = connection.prepare_cached(&bite)?.execute([SMALL_BITE])?;
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

    /// Removes up to [`BITE`] of the oldest rows of each table that are past their time or too many, and returns how many.
    fn prune(&self, now: Time) -> rusqlite::Result<usize> {
        let oldest = now.minus(self.health.retention()).as_millis();
        let memory = usize::from(self.database.place().is_memory());
        // Rows are appended, so the oldest have the lowest ids and the scan stops after a bite.
        let mut history = self.database.connection.prepare_cached(
            "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM history) - ?3)",
        )?;
        let mut removed = history.execute(params![BITE, oldest, HISTORY_ROWS[memory]])?;
        if removed > 0 {
            self.prune_heads()?;
        }
        let mut alerts = self.database.connection.prepare_cached(
            "DELETE FROM alert_history WHERE id IN (SELECT id FROM alert_history ORDER BY id LIMIT ?1)
             AND (ifnull(resolved_at, started_at) < ?2 OR id <= (SELECT max(id) FROM alert_history) - ?3)",
        )?;
        removed += alerts.execute(params![BITE, oldest, ALERT_ROWS[memory]])?;
        let mut timeline = self.database.connection.prepare_cached(
            "DELETE FROM timeline WHERE id IN (SELECT id FROM timeline ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM timeline) - ?3)",
        )?;
        removed += timeline.execute(params![BITE, oldest, TIMELINE_ROWS[memory]])?;
        remembered::prune(&self.database.connection, oldest)?;
        Ok(removed)
    }
}

/// A caller that went away needs no answer.
fn answer(reply: Reply, outcome: Result<(), StoreError>) {
    reply.send(outcome).ok();
}
