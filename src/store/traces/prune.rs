//! Keeps the file within its limits: old runs go first, then spans that sampling dropped, in small steps.

use rusqlite::{Connection, TransactionBehavior, params};

use super::reader::block_keys;
use super::writer::TraceStore;
use crate::model::run_stats::hour_of;
use crate::model::{Time, TraceId};
use crate::store::error::StoreError;

/// Traces deleted in one step, which takes a few milliseconds.
const STEP: u32 = 200;

impl TraceStore {
    /// Deletes some of what is older than the retention or, over the size limit, the oldest. Returns whether there may be
    /// more to delete.
    pub fn prune(&mut self, now: Time) -> Result<bool, StoreError> {
        let failed = self.database.location().failed("prune");
        let expired = now.minus(self.limits.retention);
        let used = self.database.used().map_err(&failed)?;
        let before = if used > self.limits.max_size { now } else { expired };
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let deleted = transaction.and_then(|transaction| {
            let deleted = delete_before(&transaction, before)?;
            transaction.prepare_cached("DELETE FROM stats WHERE hour < ?1")?.execute([hour_of(expired.as_millis())])?;
            transaction.commit()?;
            Ok(deleted)
        });
        let deleted = deleted.map_err(&failed)?;
        self.database.vacuum(self.limits.max_size).map_err(&failed)?;
        if used > self.limits.max_size {
            self.pruned_runs += deleted;
        }
        self.health.set_size(self.database.size());
        self.database.note_written();
        Ok(deleted >= u64::from(STEP))
    }

    /// Deletes some of the runs that began before `before`, and their spans; statistics stay. Returns how many, and whether
    /// there are more.
    pub fn delete_before(&mut self, before: Time) -> Result<(u64, bool), StoreError> {
        let failed = self.database.location().failed("delete");
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let deleted = transaction.and_then(|transaction| {
            let deleted = delete_before(&transaction, before)?;
            transaction.commit()?;
            Ok(deleted)
        });
        let deleted = deleted.map_err(&failed)?;
        let has_more = deleted >= u64::from(STEP);
        if !has_more {
            self.database.vacuum(0).map_err(&failed)?;
        }
        self.database.note_written();
        Ok((deleted, has_more))
    }

    /// Deletes the spans of traces whose run is sampled out.
    pub fn delete_spans(&mut self, traces: &[TraceId]) -> Result<(), StoreError> {
        let failed = self.database.location().failed("delete");
        let transaction = self.database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let deleted = transaction.and_then(|transaction| {
            for trace in traces {
                delete_trace(&transaction, *trace)?;
            }
            transaction.commit()
        });
        self.database.note_written();
        deleted.map_err(failed)
    }
}

/// Deletes some runs that began before `before`, the oldest first, and the traces that no other run is part of.
fn delete_before(connection: &Connection, before: Time) -> rusqlite::Result<u64> {
    let mut query = connection
        .prepare_cached("SELECT id FROM runs WHERE started_at < ?1 AND status != 0 ORDER BY started_at LIMIT ?2")?;
    let rows = query.query_map(params![before.as_millis(), STEP], |row| row.get::<_, Vec<u8>>(0))?;
    let ids: Vec<TraceId> = rows.filter_map(|id| id.ok().and_then(|id| TraceId::from_slice(&id))).collect();
    for id in &ids {
        let mut parts = connection.prepare_cached("SELECT trace FROM parts WHERE run = ?1")?;
        let traces = parts.query_map([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
        let traces: Vec<TraceId> =
            traces.filter_map(|trace| trace.ok().and_then(|id| TraceId::from_slice(&id))).collect();
        connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id.as_bytes()])?;
        connection.prepare_cached("DELETE FROM parts WHERE run = ?1")?.execute([id.as_bytes()])?;
        for trace in traces.into_iter().chain([*id]) {
            let mut others = connection.prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM parts WHERE trace = ?1) OR EXISTS(SELECT 1 FROM runs WHERE id = ?1)",
            )?;
            if !others.query_row([trace.as_bytes()], |row| row.get::<_, bool>(0))? {
                delete_trace(connection, trace)?;
            }
        }
    }
    Ok(ids.len() as u64)
}

fn delete_trace(connection: &Connection, trace: TraceId) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM traces WHERE id = ?1 RETURNING key")?;
    let keys =
        delete.query_map([trace.as_bytes()], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for key in keys {
        connection.prepare_cached("DELETE FROM blocks WHERE key BETWEEN ?1 AND ?2")?.execute(block_keys(key))?;
    }
    Ok(())
}
