//! Reads the outbox of a ledger that another lookout may have open.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, params};

use super::writer::{LAYOUT, bodies_of};
use crate::model::{Notice, Time};
use crate::store::error::StoreError;

/// All notices that were created from `from` to `until` and are still kept, in order, whatever their state; at most
/// `limit`, the oldest first. The file is opened read-only; the lookout that owns it may be running.
pub fn read_outbox(path: &Path, from: Time, until: Time, limit: u32) -> Result<Vec<Notice>, StoreError> {
    let failed = |source| StoreError::Sqlite { path: path.to_owned(), action: "read", source: Arc::new(source) };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application_id != LAYOUT.application_id {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let mut unreadable = 0;
    let sql = "SELECT body FROM outbox WHERE created_at BETWEEN ?1 AND ?2 ORDER BY seq LIMIT ?3";
    let parameters = params![from.as_millis(), until.as_millis(), limit];
    bodies_of(&connection, sql, parameters, &mut unreadable).map_err(failed)
}
