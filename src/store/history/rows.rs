//! Writes status changes and resolved alerts.
//!
//! Each history row contains the id of the previous row of the same agent, and `heads` the id of the newest one. An append
//! thus touches the last page of the table and a few of `heads`; an index over names would touch a page per row.

use rusqlite::{Connection, OptionalExtension, Statement, params};
use rustc_hash::FxHashMap;

use crate::model::{ClosedAlert, HistoryRow, Time};

/// Rows per INSERT statement.
const ROWS: usize = 50;

/// Columns per history row.
const COLUMNS: usize = 9;

/// Maximum number of cached heads, about 8 MB. When it is exceeded the cache is cleared.
const MAX_HEADS: usize = 262_144;

/// Appends rows to the table `history`.
#[derive(Debug, Default)]
pub(super) struct HistoryAppender {
    /// The id of the last committed row.
    last: i64,
    /// Cached ids of the last row by subject.
    heads: FxHashMap<i64, i64>,
    /// Subjects whose head the open transaction changed.
    changed: Vec<i64>,
    insert_many: String,
}

/// The key of (project, name) in `heads`: FNV-1a with 64 bits, which is stable across versions. Subjects with the same key
/// share a chain; queries skip the rows of the other one.
pub(super) fn subject(project: &str, name: &str) -> i64 {
    let bytes = project.bytes().chain([0]).chain(name.bytes());
    bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        .cast_signed()
}

impl HistoryAppender {
    pub(super) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let last = connection.query_row("SELECT ifnull(max(id), 0) FROM history", [], |row| row.get(0))?;
        Ok(Self { last, heads: FxHashMap::default(), changed: Vec::new(), insert_many: insert(ROWS) })
    }

    /// Writes `rows` within an open transaction and returns the last id, for [`HistoryAppender::committed`].
    pub(super) fn write(&mut self, connection: &Connection, rows: &[HistoryRow]) -> rusqlite::Result<i64> {
        let mut last = self.last;
        self.changed.clear();
        if self.heads.len() > MAX_HEADS {
            self.heads.clear();
        }
        let mut head = connection.prepare_cached("SELECT last FROM heads WHERE subject = ?1")?;
        let (many, rest) = rows.as_chunks::<ROWS>();
        if !many.is_empty() {
            let mut statement = connection.prepare_cached(&self.insert_many)?;
            for chunk in many {
                self.bind(&mut statement, &mut head, &mut last, chunk)?;
            }
        }
        if !rest.is_empty() {
            let mut statement = connection.prepare_cached(&insert(1))?;
            for row in rest {
                self.bind(&mut statement, &mut head, &mut last, std::slice::from_ref(row))?;
            }
        }
        // In the order of the table, so that each page is touched once.
        self.changed.sort_unstable();
        self.changed.dedup();
        let mut move_head = connection.prepare_cached("INSERT OR REPLACE INTO heads(subject, last) VALUES(?1, ?2)")?;
        for subject in &self.changed {
            move_head.execute([Some(subject), self.heads.get(subject)])?;
        }
        Ok(last)
    }

    fn bind(
        &mut self,
        insert: &mut Statement<'_>,
        head: &mut Statement<'_>,
        last: &mut i64,
        rows: &[HistoryRow],
    ) -> rusqlite::Result<()> {
        for (index, row) in rows.iter().enumerate() {
            *last += 1;
            let subject = subject(&row.project, &row.name);
            let prev = match self.heads.insert(subject, *last) {
                Some(prev) => prev,
                None => head.query_row([subject], |row| row.get(0)).optional()?.unwrap_or(0),
            };
            self.changed.push(subject);
            let first = index * COLUMNS;
            insert.raw_bind_parameter(first + 1, *last)?;
            insert.raw_bind_parameter(first + 2, row.at.as_millis())?;
            insert.raw_bind_parameter(first + 3, &*row.project)?;
            insert.raw_bind_parameter(first + 4, row.kind)?;
            insert.raw_bind_parameter(first + 5, &*row.name)?;
            insert.raw_bind_parameter(first + 6, row.from)?;
            insert.raw_bind_parameter(first + 7, row.to)?;
            insert.raw_bind_parameter(first + 8, row.reason.as_deref())?;
            insert.raw_bind_parameter(first + 9, prev)?;
        }
        insert.raw_execute().map(|_| ())
    }

    /// To be called after a committed transaction.
    pub(super) fn committed(&mut self, last: i64) {
        self.last = last;
    }

    /// To be called after a failed transaction: clears the cache, which may contain its rows.
    pub(super) fn rolled_back(&mut self) {
        self.heads.clear();
    }
}

fn insert(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!("INSERT INTO history(id, at, project, kind, name, from_status, to_status, reason, prev) VALUES {values}")
}

/// Writes a resolved alert.
pub(super) fn write_closed(connection: &Connection, closed: &ClosedAlert) -> rusqlite::Result<()> {
    let alert = &closed.alert;
    let body = serde_json::to_string(closed).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO alert_history(fingerprint, rule, level, project, subject_kind, subject, started_at, fired_at,
         resolved_at, message, body) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
    )?;
    statement.execute(params![
        alert.fingerprint.to_string(),
        alert.rule,
        alert.level.as_str(),
        alert.subject.project(),
        alert.subject.label(),
        alert.subject.name(),
        alert.started_at.as_millis(),
        alert.fired_at.map(Time::as_millis),
        alert.resolved_at.map(Time::as_millis),
        closed.message,
        body,
    ])?;
    Ok(())
}

/// `value` as JSON, written into the reused `buffer`.
pub(super) fn json<'a, T: serde::Serialize>(value: &T, buffer: &'a mut Vec<u8>) -> rusqlite::Result<&'a str> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    std::str::from_utf8(buffer).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
