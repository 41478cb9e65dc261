//! The notifications that the sidecar recorded: the rows of its outbox, read with SQLite.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// A notice of an alert, in the order in which they were written.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) receiver: String,
    /// The subject.
    pub(super) name: String,
    pub(super) rule: String,
    /// `firing`, `escalated`, `resolved`, …
    pub(super) kind: String,
    /// The level as in a message: `WARNING`, …, `RESOLVED`.
    pub(super) word: String,
    /// When it was created, in Unix milliseconds.
    pub(super) at: i64,
    /// `pending`, `delivered`, `superseded` or `dead`.
    pub(super) state: String,
    pub(super) key: String,
    /// The kind.
    pub(super) message: String,
}

/// The rows of the ledger in `folder`, after a clean shutdown of its sidecar.
pub(super) fn read(folder: &Path) -> Vec<Row> {
    let path = folder.join("lookout.db");
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the ledger");
    let sql = "SELECT receiver, rule, state, key, body FROM outbox ORDER BY seq";
    let mut statement = database.prepare(sql).expect("its outbox");
    let rows = statement.query_map([], |row| {
        let body: String = row.get(4)?;
        let body: Value = serde_json::from_str(&body).expect("a notice");
        let kind = body["kind"].as_str().unwrap_or_default().to_owned();
        let level = body["level"].as_str().unwrap_or_default().to_uppercase();
        let named = body["subject"].as_object().and_then(|subject| subject.values().next()).unwrap_or(&Value::Null);
        let name = named["name"].as_str().or_else(|| body["subject"]["name"].as_str());
        Ok(Row {
            receiver: row.get(0)?,
            rule: row.get(1)?,
            state: row.get(2)?,
            key: row.get(3)?,
            name: name.unwrap_or_default().to_owned(),
            word: if kind == "resolved" { "RESOLVED".to_owned() } else { level },
            at: body["at"].as_i64().unwrap_or_default(),
            message: body["message"].as_str().unwrap_or_default().to_owned(),
            kind,
        })
    });
    rows.expect("its rows").map(|row| row.expect("a row")).collect()
}

/// The same after a kill: reads a copy, since opening a ledger recovers it.
pub(super) fn read_copy(folder: &Path) -> Vec<Row> {
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["lookout.db", "lookout.db-wal"] {
        // There is no write-ahead log after a checkpoint.
        drop(std::fs::copy(folder.join(name), copy.path().join(name)));
    }
    fold(&copy.path().join("lookout.db"));
    read(copy.path())
}

/// Checkpoints the write-ahead log of a database, as the next start would.
pub(super) fn fold(path: &Path) {
    let database = Connection::open(path).expect("a database");
    database.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0)).expect("its tables");
}
