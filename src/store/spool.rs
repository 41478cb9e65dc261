//! Batches that wait until another system has taken them: `lookout.export.db`.
//!
//! Written by one thread. `synchronous=NORMAL`: a committed batch survives the end of the process, not a power cut.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::database::{self, Database};
use super::error::StoreError;
use super::file::{DatabaseLocation, Layout};
use super::health::{FileHealth, FileOperation};
use crate::model::Time;

static LAYOUT: Layout = Layout {
    application_id: 0x4c4f_4b34,
    migrations: &[include_str!("spool/schema.sql")],
    pragmas: "PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000; PRAGMA journal_size_limit=16777216;",
};

/// The open file, for writing.
#[derive(Debug)]
pub struct Spool {
    database: Database,
    health: Arc<FileHealth>,
}

/// A batch to be written.
#[derive(Debug)]
pub struct NewBatch<'a> {
    /// The target that it waits for.
    pub target: &'a str,
    /// Its signal.
    pub signal: &'a str,
    /// When it came.
    pub at: Time,
    /// Number of data points, spans or log records in it.
    pub items: u64,
    /// Bytes of the request.
    pub size: u64,
    /// The request, compressed by gzip.
    pub body: &'a [u8],
}

/// A batch that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledBatch {
    /// Its id; later batches have larger ones.
    pub id: i64,
    /// When it came.
    pub at: Time,
    /// Number of items in it.
    pub items: u64,
    /// The request, compressed by gzip.
    pub body: Vec<u8>,
}

/// What waits for one target, of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolLane {
    /// The target.
    pub target: String,
    /// The signal.
    pub signal: String,
    /// What waits.
    pub waiting: SpoolTotals,
    /// When the oldest came.
    pub oldest: Option<Time>,
}

/// Sums over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolTotals {
    /// Number of batches.
    pub batches: u64,
    /// Number of items in them.
    pub items: u64,
    /// Their bytes in the file.
    pub bytes: u64,
}

/// Readers of the health of the file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SpoolHealth(Arc<FileHealth>);

impl SpoolHealth {
    /// Size of the file and its write-ahead log, in bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// Whether the last transaction succeeded.
    pub fn is_ok(&self) -> bool {
        self.0.is_ok()
    }

    /// Number of failed transactions.
    pub fn errors(&self) -> u64 {
        self.0.errors()
    }
}

impl Spool {
    /// Opens the file at `path`, or one in memory. A damaged file is moved aside.
    pub fn open(path: Option<&Path>, now: Time) -> Result<Self, StoreError> {
        let location = DatabaseLocation::new(path);
        let opened = database::open(&location, &LAYOUT, now, |_| Ok(()))?;
        if let Some(damaged) = &opened.damaged {
            tracing::error!(moved_to = %damaged.display(), "export spool was damaged and moved aside; starting with an empty one");
        }
        let health = Arc::new(FileHealth::new(location.name(), opened.unwritable.as_ref()));
        Ok(Self { database: opened.database, health })
    }

    /// The health of the file.
    pub fn health(&self) -> SpoolHealth {
        SpoolHealth(Arc::clone(&self.health))
    }

    /// The value that was saved under `key`, else `new`, which is saved.
    pub fn saved_or(&mut self, now: Time, key: &str, new: &str) -> Result<String, StoreError> {
        let known =
            self.database.connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0));
        if let Some(known) = known.optional().map_err(self.database.location().failed("read"))? {
            return Ok(known);
        }
        self.write(now, |transaction| {
            transaction.execute("INSERT OR IGNORE INTO meta VALUES (?1, ?2)", [key, new]).map(|_| new.to_owned())
        })
    }

    /// Writes batches; all or none.
    pub fn append(&mut self, now: Time, batches: &[NewBatch<'_>]) -> Result<(), StoreError> {
        self.write(now, |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO batches (target, signal, at, items, size, bytes, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for batch in batches {
                let (items, size, bytes) = (signed(batch.items), signed(batch.size), signed(batch.body.len() as u64));
                let at = batch.at.as_millis();
                insert.execute(params![batch.target, batch.signal, at, items, size, bytes, batch.body])?;
            }
            Ok(())
        })
    }

    /// The oldest batches of a lane after `after` and up to `last`: at least one, and as many as have `max_size` bytes
    /// of requests together.
    pub fn read(
        &self,
        (target, signal): (&str, &str),
        (after, last): (i64, i64),
        max_size: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError> {
        let read = || {
            let mut query = self.database.connection.prepare_cached(
                "SELECT id, at, items, size, body FROM batches WHERE target = ?1 AND signal = ?2 AND id > ?3 AND id <= ?4 ORDER BY id",
            )?;
            let mut rows = query.query(params![target, signal, after, last])?;
            let (mut found, mut total) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                total += unsigned(row.get(3)?);
                if total > max_size && !found.is_empty() {
                    break;
                }
                let (id, at, items, body) = (row.get(0)?, Time::from_millis(row.get(1)?), row.get(2)?, row.get(4)?);
                found.push(SpooledBatch { id, at, items: unsigned(items), body });
            }
            Ok(found)
        };
        read().map_err(self.database.location().failed("read"))
    }

    /// Deletes the batches of a lane up to `last`; returns what they were.
    pub fn remove(&mut self, now: Time, (target, signal): (&str, &str), last: i64) -> Result<SpoolTotals, StoreError> {
        let found = self.sums("WHERE target = ?1 AND signal = ?2 AND id <= ?3", params![target, signal, last])?;
        self.write(now, |transaction| {
            let mut delete =
                transaction.prepare_cached("DELETE FROM batches WHERE target = ?1 AND signal = ?2 AND id <= ?3")?;
            delete.execute(params![target, signal, last]).map(drop)
        })?;
        Ok(found.first().map(|lane| lane.waiting).unwrap_or_default())
    }

    /// Replaces a batch by a smaller one; returns by how much there is less, nothing if the batch is not there any more.
    pub fn shrink(
        &mut self,
        now: Time,
        id: i64,
        items: u64,
        size: u64,
        body: &[u8],
    ) -> Result<SpoolTotals, StoreError> {
        let before =
            self.database.connection.query_row("SELECT items, bytes FROM batches WHERE id = ?1", [id], |row| {
                Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)))
            });
        let before = before.optional().map_err(self.database.location().failed("read"))?;
        let Some((items_before, bytes_before)) = before else { return Ok(SpoolTotals::default()) };
        self.write(now, |transaction| {
            let sql = "UPDATE batches SET items = ?2, size = ?3, bytes = ?4, body = ?5 WHERE id = ?1";
            let bytes = signed(body.len() as u64);
            transaction.prepare_cached(sql)?.execute(params![id, signed(items), signed(size), bytes, body])
        })?;
        let bytes = bytes_before.saturating_sub(body.len() as u64);
        Ok(SpoolTotals { batches: 0, items: items_before.saturating_sub(items), bytes })
    }

    /// When the oldest batch of a lane after `after` came.
    pub fn oldest(&self, (target, signal): (&str, &str), after: i64) -> Result<Option<Time>, StoreError> {
        let sql = "SELECT at FROM batches WHERE target = ?1 AND signal = ?2 AND id > ?3 ORDER BY id LIMIT 1";
        let found = self.database.connection.prepare_cached(sql).and_then(|mut query| {
            query.query_row(params![target, signal, after], |row| row.get(0).map(Time::from_millis)).optional()
        });
        found.map_err(self.database.location().failed("read"))
    }

    /// Deletes the batches that came before a time; returns them by target and signal.
    pub fn drop_before(&mut self, now: Time, target: &str, before: Time) -> Result<Vec<SpoolLane>, StoreError> {
        let sql = "SELECT coalesce(max(id), 0) FROM batches WHERE target = ?1 AND at < ?2";
        let last = self
            .database
            .connection
            .prepare_cached(sql)
            .and_then(|mut query| query.query_row(params![target, before.as_millis()], |row| row.get::<_, i64>(0)));
        let last = last.map_err(self.database.location().failed("read"))?;
        self.drop_up_to(now, target, last)
    }

    /// Deletes the oldest batches of a target that have at least so many bytes together; returns them by signal.
    pub fn drop_bytes(&mut self, now: Time, target: &str, bytes: u64) -> Result<Vec<SpoolLane>, StoreError> {
        let find = || {
            let sql = "SELECT id, bytes FROM batches WHERE target = ?1 ORDER BY id";
            let mut query = self.database.connection.prepare_cached(sql)?;
            let mut rows = query.query([target])?;
            let (mut last, mut freed) = (0, 0);
            while let Some(row) = rows.next()?.filter(|_| freed < bytes) {
                last = row.get(0)?;
                freed += unsigned(row.get(1)?);
            }
            Ok(last)
        };
        let last = find().map_err(self.database.location().failed("read"))?;
        self.drop_up_to(now, target, last)
    }

    fn drop_up_to(&mut self, now: Time, target: &str, last: i64) -> Result<Vec<SpoolLane>, StoreError> {
        if last == 0 {
            return Ok(Vec::new());
        }
        let dropped = self.sums("WHERE target = ?1 AND id <= ?2", params![target, last])?;
        self.write(now, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM batches WHERE target = ?1 AND id <= ?2")?;
            delete.execute(params![target, last]).map(drop)
        })?;
        if let Err(error) = self.database.vacuum(u64::MAX) {
            tracing::debug!(%error, "export spool not vacuumed");
        }
        Ok(dropped)
    }

    /// What waits, by target and signal.
    pub fn lanes(&self) -> Result<Vec<SpoolLane>, StoreError> {
        self.sums("", params![])
    }

    fn sums(&self, condition: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<SpoolLane>, StoreError> {
        let sql = format!(
            "SELECT target, signal, count(*), sum(items), sum(bytes), min(at) FROM batches {condition} GROUP BY target, signal"
        );
        let read = || {
            let mut query = self.database.connection.prepare_cached(&sql)?;
            let rows = query.query_map(values, |row| {
                let [batches, items, bytes] = [unsigned(row.get(2)?), unsigned(row.get(3)?), unsigned(row.get(4)?)];
                Ok(SpoolLane {
                    target: row.get(0)?,
                    signal: row.get(1)?,
                    waiting: SpoolTotals { batches, items, bytes },
                    oldest: row.get::<_, Option<i64>>(5)?.map(Time::from_millis),
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.database.location().failed("read"))
    }

    /// Writes the write-ahead log back into the file.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let done = self.database.connection.query_row(checkpoint, [], |_| Ok(()));
        done.map_err(self.database.location().failed("checkpoint"))
    }

    fn write<T>(
        &mut self,
        now: Time,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let outcome = self.transact(now, work);
        self.health.record(FileOperation::Write, &outcome);
        if let Err(error) = &outcome
            && error.is_damage()
            && let DatabaseLocation::File(path) = self.database.location().clone()
            && let Err(error) = self.database.start_over(&path, now)
        {
            tracing::error!(%error, "damaged export spool could not be replaced");
        }
        self.database.note_written();
        self.health.set_size(self.database.size());
        outcome
    }

    fn transact<T>(
        &mut self,
        now: Time,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.database.restore(now)?;
        let failed = self.database.location().failed("write");
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let written = transaction.and_then(|transaction| {
            let result = work(&transaction)?;
            transaction.commit().map(|()| result)
        });
        written.map_err(failed)
    }
}

const fn signed(number: u64) -> i64 {
    if number > i64::MAX as u64 { i64::MAX } else { number as i64 }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(spool: &mut Spool, target: &str, signal: &str, at: i64, body: &[u8]) {
        let at = Time::from_millis(at);
        let batch = NewBatch { target, signal, at, items: 2, size: 10, body };
        spool.append(at, &[batch]).expect("written");
    }

    #[test]
    fn batches_wait_in_order_and_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.export.db");
        let now = Time::from_millis(1_000);
        let mut spool = Spool::open(Some(&path), now).expect("opened");
        let instance = spool.saved_or(now, "instance", "a").expect("saved");
        append(&mut spool, "otlp", "traces", 1, b"one");
        append(&mut spool, "otlp", "logs", 2, b"log");
        append(&mut spool, "clickhouse", "traces", 3, b"one");
        append(&mut spool, "otlp", "traces", 4, b"two");
        drop(spool);
        let mut spool = Spool::open(Some(&path), now).expect("opened again");
        assert_eq!(spool.saved_or(now, "instance", "b").expect("read"), instance);
        let lane = ("otlp", "traces");
        let bodies = |spool: &Spool, after, last, size| -> Vec<Vec<u8>> {
            spool.read(lane, (after, last), size).expect("read").into_iter().map(|batch| batch.body).collect()
        };
        assert_eq!(bodies(&spool, 0, i64::MAX, 20), [b"one", b"two"]);
        assert_eq!(bodies(&spool, 0, i64::MAX, 1), [b"one"], "one at least");
        assert_eq!(bodies(&spool, 1, i64::MAX, 20), [b"two"]);
        assert_eq!(bodies(&spool, 0, 3, 20), [b"one"]);
        spool.remove(now, lane, 1).expect("removed");
        assert_eq!(bodies(&spool, 0, i64::MAX, 20), [b"two"]);
        let others = spool.lanes().expect("read");
        assert_eq!(others.iter().map(|lane| lane.waiting.batches).sum::<u64>(), 3, "{others:?}");
    }

    #[test]
    fn the_oldest_are_dropped_by_bytes_and_age() {
        let now = Time::from_millis(1_000);
        let mut spool = Spool::open(None, now).expect("opened");
        for at in 1..=5 {
            append(&mut spool, "otlp", if at % 2 == 0 { "logs" } else { "traces" }, at, b"12345");
        }
        append(&mut spool, "other", "traces", 1, b"12345");
        let dropped = spool.drop_bytes(now, "otlp", 6).expect("dropped");
        assert_eq!(
            dropped.iter().map(|lane| (lane.waiting.batches, lane.waiting.items)).collect::<Vec<_>>(),
            [(1, 2); 2]
        );
        assert!(spool.drop_bytes(now, "none", 6).expect("dropped").is_empty());
        let dropped = spool.drop_before(now, "otlp", Time::from_millis(5)).expect("dropped");
        assert_eq!(dropped.iter().map(|lane| lane.waiting.batches).sum::<u64>(), 2);
        let lanes = spool.lanes().expect("read");
        assert_eq!(lanes.len(), 2);
        assert_eq!(lanes[1].oldest, Some(Time::from_millis(5)));
    }
}
