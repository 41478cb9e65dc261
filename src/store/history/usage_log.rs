//! The usage log: bodies of usage that were acknowledged, until a save of the fleet includes their effect.
//!
//! An increment is sent only once, so it must be durable before it is acknowledged. Saving the fleet for each would cost a
//! thousand times as much as logging the body.

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::UsageBody;
use crate::model::Time;

/// Appends `bodies` within an open transaction.
pub(super) fn write(connection: &Connection, bodies: &[UsageBody]) -> rusqlite::Result<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO usage_log(seq, at, body) VALUES(?1, ?2, ?3)")?;
    for UsageBody { seq, at, body } in bodies {
        insert.execute(params![seq.cast_signed(), at.as_millis(), &**body])?;
    }
    Ok(())
}

/// Deletes bodies whose effect a save includes, up to and including `through`.
pub(super) fn remove(connection: &Connection, through: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM usage_log WHERE seq <= ?1")?.execute([through.cast_signed()])?;
    Ok(())
}

/// Bodies that no save includes yet, in order.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<UsageBody>> {
    let mut statement = connection.prepare("SELECT seq, at, body FROM usage_log ORDER BY seq")?;
    let bodies = statement.query_map([], |row| {
        let body = Bytes::copy_from_slice(row.get_ref(2)?.as_bytes()?);
        Ok(UsageBody { seq: row.get::<_, i64>(0)?.cast_unsigned(), at: Time::from_millis(row.get(1)?), body })
    })?;
    bodies.collect()
}
