//! Writes status changes and closed alerts.
//!
//! Each history row carries the id of the one before it of the same agent; the newest one's id is in `heads`.
//! Appending so touches one page at the end of the table and a few of `heads`, where an index over names would
//! touch a page per row.

use rusqlite::{Connection, OptionalExtension, Statement, params};
use rustc_hash::FxHashMap;

use crate::model::{ClosedAlert, HistoryRow, Time};

/// Rows of one INSERT statement.
const ROWS: usize = 50;

/// Columns of a history row.
const COLUMNS: usize = 9;

/// Heads that are remembered, about 8 MB; beyond it the memory starts anew and the table is asked.
const REMEMBERED: usize = 262_144;

/// Appends to `history`.
#[derive(Debug, Default)]
pub(super) struct Appender {
    /// The id of the last row committed.
    last: i64,
    /// The last row of a subject, for subjects seen since the start.
    heads: FxHashMap<i64, i64>,
    /// Subjects whose head the open transaction moved.
    moved: Vec<i64>,
    insert_many: String,
}

/// The key of (project, name) in `heads`: 64 bits of FNV-1a, which will be the same in years to come. Two subjects
/// that share it share a chain, in which readers pass over the other's rows.
pub(super) fn subject(project: &str, name: &str) -> i64 {
    let bytes = project.bytes().chain([0]).chain(name.bytes());
    bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        .cast_signed()
}

impl Appender {
    pub(super) fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let last = connection.query_row("SELECT ifnull(max(id), 0) FROM history", [], |row| row.get(0))?;
        Ok(Self { last, heads: FxHashMap::default(), moved: Vec::new(), insert_many: insert(ROWS) })
    }

    /// Writes `rows` within an open transaction and returns the last id, to be told to [`Appender::committed`].
    pub(super) fn write(&mut self, connection: &Connection, rows: &[HistoryRow]) -> rusqlite::Result<i64> {
        let mut last = self.last;
        self.moved.clear();
        if self.heads.len() > REMEMBERED {
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
        // In the table's order, so that a page is touched once.
        self.moved.sort_unstable();
        self.moved.dedup();
        let mut move_head = connection.prepare_cached("INSERT OR REPLACE INTO heads(subject, last) VALUES(?1, ?2)")?;
        for subject in &self.moved {
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
        for (place, row) in rows.iter().enumerate() {
            *last += 1;
            let subject = subject(&row.project, &row.name);
            let prev = match self.heads.insert(subject, *last) {
                Some(prev) => prev,
                None => head.query_row([subject], |row| row.get(0)).optional()?.unwrap_or(0),
            };
            self.moved.push(subject);
            let first = place * COLUMNS;
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

    /// The transaction succeeded.
    pub(super) fn committed(&mut self, last: i64) {
        self.last = last;
    }

    /// The transaction failed: what is remembered of it is forgotten.
    pub(super) fn rolled_back(&mut self) {
        self.heads.clear();
    }
}

fn insert(rows: usize) -> String {
    let values = vec!["(?,?,?,?,?,?,?,?,?)"; rows].join(",");
    format!("INSERT INTO history(id, at, project, kind, name, from_status, to_status, reason, prev) VALUES {values}")
}

/// Writes an alert that is over.
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

/// `value` as JSON in `buffer`, which is used again and again.
pub(super) fn json<'a, T: serde::Serialize>(value: &T, buffer: &'a mut Vec<u8>) -> rusqlite::Result<&'a str> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    std::str::from_utf8(buffer).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
