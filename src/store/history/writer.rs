//! The thread that owns history's file: it gathers for a moment, writes all in one transaction, and prunes in
//! bites. Checkpoints happen here, where nobody waits for them.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

use super::pending::Pending;
use super::rows::{Appender, write_closed};
use super::{Message, Reply, remembered, saved, timeline};
use crate::clock::Clock;
use crate::model::Time;
use crate::store::error::StoreError;
use crate::store::file::{Layout, Place};
use crate::store::health::Health;
use crate::store::queue::{Received, Receiver};

pub(super) const LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b32,
    migrations: &[
        include_str!("schema.sql"),
        include_str!("timeline.sql"),
        include_str!("remembered.sql"),
        include_str!("streams.sql"),
        include_str!("windows.sql"),
    ],
    pragmas: "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-4096; PRAGMA wal_autocheckpoint=4096; PRAGMA journal_size_limit=33554432;",
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

/// Rows kept at most, whatever their age: on disk about 2 GB, in memory about 10 MB.
const HISTORY_ROWS: [i64; 2] = [20_000_000, 100_000];

/// Closed alerts kept at most: on disk about 1 GB, in memory about 10 MB.
const ALERT_ROWS: [i64; 2] = [1_000_000, 10_000];

/// Entries of timelines kept at most: on disk about 1 GB, in memory about 10 MB.
const TIMELINE_ROWS: [i64; 2] = [4_000_000, 40_000];

pub(super) struct Writer {
    place: Place,
    connection: Connection,
    lock: Option<File>,
    health: Arc<Health>,
    clock: Clock,
    pending: Pending,
    appender: Appender,
    buffer: Vec<u8>,
    /// Whether the log holds what the file does not.
    unfolded: bool,
    prune_at: Time,
}

impl Writer {
    pub(super) fn new(
        place: Place,
        connection: Connection,
        lock: Option<File>,
        health: Arc<Health>,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let appender = Appender::new(&connection).map_err(place.failed("read"))?;
        let (pending, buffer, prune_at) = (Pending::default(), Vec::new(), clock.now());
        Ok(Self { place, connection, lock, health, clock, pending, appender, buffer, unfolded: false, prune_at })
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
                        drop(self.connection);
                        drop(self.lock);
                        answer(close, outcome);
                        return;
                    }
                    self.prune_if_due();
                }
                Received::Quiet => self.tend(),
                Received::Closed => break,
            }
        }
        if let Err(error) = self.write().and_then(|()| self.fold("TRUNCATE")) {
            tracing::error!(path = %self.place.name().display(), %error, "history was left without its last writes");
        }
    }

    /// Takes `first` and what follows within [`GATHER`], or up to [`GROUP`] rows.
    fn gather(&mut self, first: Message, queue: &Receiver<Message>) {
        self.pending.take(first);
        self.drain(queue);
        if self.pending.rows.len() < ENOUGH && !self.pending.is_urgent() {
            // Asleep, not waiting on the queue: then handing something over costs its caller no wake-up.
            std::thread::sleep(GATHER);
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
        if self.pending.is_empty() {
            return Ok(());
        }
        let outcome = self.transact().map_err(self.place.failed("write"));
        self.health.wrote(&outcome);
        if outcome.is_ok() {
            self.unfolded = true;
            self.pending.clear();
        } else {
            self.appender.rolled_back();
            self.health.drop_rows(self.pending.trim());
        }
        outcome
    }

    fn transact(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = self.appender.write(&transaction, &self.pending.rows)?;
        for closed in &self.pending.closed {
            write_closed(&transaction, closed)?;
        }
        timeline::write(&transaction, &self.pending.decisions)?;
        if let Some(save) = &self.pending.save {
            saved::write(&transaction, save, &mut self.buffer)?;
        }
        transaction.commit()?;
        self.appender.committed(last);
        Ok(())
    }

    fn fold(&self, how: &str) -> Result<(), StoreError> {
        let sql = format!("PRAGMA wal_checkpoint({how})");
        self.connection.query_row(&sql, [], |_| Ok(())).map_err(self.place.failed("checkpoint"))
    }

    /// One piece of housekeeping.
    fn tend(&mut self) {
        if !self.pending.is_empty() {
            // The outcome is in the health; nobody waits for it.
            self.write().ok();
        } else if self.unfolded {
            let outcome = self.fold("PASSIVE");
            self.unfolded = false;
            if outcome.is_err() {
                self.health.wrote(&outcome);
            }
        }
        self.prune_if_due();
    }

    fn prune_if_due(&mut self) {
        // One reading: a time that came while rows were looked for has not been pruned for.
        let now = self.clock.now();
        if now < self.prune_at {
            return;
        }
        match self.prune(now) {
            // There may be more; the next turn takes it.
            Ok(1..) => self.unfolded = true,
            Ok(0) => self.prune_at = now.plus(PRUNE_EVERY),
            Err(error) => {
                self.health.wrote(&Err(self.place.failed("prune")(error)));
                self.prune_at = now.plus(PRUNE_EVERY);
            }
        }
    }

    /// Removes up to [`BITE`] of the oldest rows of each table that are past their time or too many, and returns how many.
    fn prune(&self, now: Time) -> rusqlite::Result<usize> {
        let oldest = now.minus(self.health.retention()).as_millis();
        let memory = usize::from(self.place.is_memory());
        // Rows are appended, so the oldest have the lowest ids and the scan stops after a bite.
        let mut history = self.connection.prepare_cached(
            "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM history) - ?3)",
        )?;
        let mut removed = history.execute(params![BITE, oldest, HISTORY_ROWS[memory]])?;
        let mut heads = self.connection.prepare_cached(
            "DELETE FROM heads WHERE last < (SELECT ifnull(min(id), 9223372036854775807) FROM history)",
        )?;
        if removed > 0 {
            heads.execute([])?;
        }
        let mut alerts = self.connection.prepare_cached(
            "DELETE FROM alert_history WHERE id IN (SELECT id FROM alert_history ORDER BY id LIMIT ?1)
             AND (ifnull(resolved_at, started_at) < ?2 OR id <= (SELECT max(id) FROM alert_history) - ?3)",
        )?;
        removed += alerts.execute(params![BITE, oldest, ALERT_ROWS[memory]])?;
        let mut timeline = self.connection.prepare_cached(
            "DELETE FROM timeline WHERE id IN (SELECT id FROM timeline ORDER BY id LIMIT ?1)
             AND (at < ?2 OR id <= (SELECT max(id) FROM timeline) - ?3)",
        )?;
        removed += timeline.execute(params![BITE, oldest, TIMELINE_ROWS[memory]])?;
        remembered::prune(&self.connection, oldest)?;
        Ok(removed)
    }
}

/// A caller that went away needs no answer.
fn answer(reply: Reply, outcome: Result<(), StoreError>) {
    reply.send(outcome).ok();
}
