//! The outbox as it was: read by programs beside the one that writes it.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, params};

use super::writer::{LAYOUT, bodies_of};
use crate::model::{Notice, Time};
use crate::store::error::StoreError;

/// Every notice that became due from `from` to `until` and is still known, in order: what was delivered, what a newer
/// notice took the place of, what was given up and what is still owed. At most `limit`, the oldest first. Writes
/// nothing; the lookout that owns the file may be running.
pub fn told(path: &Path, from: Time, until: Time, limit: u32) -> Result<Vec<Notice>, StoreError> {
    let failed = |source| StoreError::Sqlite { path: path.to_owned(), action: "read", source: Arc::new(source) };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application_id != LAYOUT.application_id {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let mut unreadable = 0;
    let sql = "SELECT body FROM outbox WHERE created_at BETWEEN ?1 AND ?2 ORDER BY seq LIMIT ?3";
    let asked = params![from.as_millis(), until.as_millis(), limit];
    bodies_of(&connection, sql, asked, &mut unreadable).map_err(failed)
}
