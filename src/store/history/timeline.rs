//! The timeline of each alert: every decision about it with its reason. Each alert keeps its last [`MAX_ENTRIES`] entries.

use rusqlite::{Connection, params};

use crate::model::{Fingerprint, TimelineEntry};

/// Maximum number of entries per timeline.
pub(super) const MAX_ENTRIES: u32 = 200;

/// Appends `decisions` within an open transaction and deletes the oldest entries beyond the limit.
pub(super) fn write(connection: &Connection, decisions: &[TimelineEntry]) -> rusqlite::Result<()> {
    if decisions.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached("INSERT INTO timeline(fingerprint, at, body) VALUES(?1, ?2, ?3)")?;
    let mut grown = Vec::with_capacity(decisions.len());
    for decision in decisions {
        let body = serde_json::to_string(decision);
        let body = body.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let id = decision.fingerprint.0.cast_signed();
        insert.execute(params![id, decision.at.as_millis(), body])?;
        grown.push(id);
    }
    grown.sort_unstable();
    grown.dedup();
    let mut cut = connection.prepare_cached(
        "DELETE FROM timeline WHERE fingerprint = ?1 AND id <= (SELECT id FROM timeline WHERE fingerprint = ?1
         ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )?;
    for id in grown {
        cut.execute(params![id, MAX_ENTRIES])?;
    }
    Ok(())
}

/// The timeline of an alert, oldest first.
pub(super) fn read(connection: &Connection, fingerprint: Fingerprint) -> rusqlite::Result<Vec<TimelineEntry>> {
    let mut statement = connection.prepare_cached("SELECT body FROM timeline WHERE fingerprint = ?1 ORDER BY id")?;
    let mut rows = statement.query([fingerprint.0.cast_signed()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // A row of a newer version that can't be read is skipped.
        found.extend(row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()));
    }
    Ok(found)
}
