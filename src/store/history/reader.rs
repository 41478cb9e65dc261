//! The thread that reads history, on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, ToSql};
use tokio::sync::oneshot;

use super::rows::subject;
use super::{ClosedFilter, HistoryEntry, MAX_ROWS, timeline};
use crate::model::{ClosedAlert, Fingerprint, Time, TimelineEntry};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::file::{DatabaseLocation, Layout};
use crate::store::queue::{QueueEvent, QueueReceiver};

/// Maximum number of rows of other subjects with the same hash that a query skips.
const MAX_COLLISIONS: usize = 1_000;

/// A query with the channel for its result.
#[derive(Debug)]
pub(super) enum HistoryQuery {
    Alerts(ClosedFilter, oneshot::Sender<Result<Vec<ClosedAlert>, StoreError>>),
    History {
        project: String,
        name: String,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<HistoryEntry>, StoreError>>,
    },
    Timeline(Fingerprint, oneshot::Sender<Result<Vec<TimelineEntry>, StoreError>>),
}

impl HistoryQuery {
    /// Replies with an error.
    fn fail(self, error: StoreError) {
        match self {
            Self::Alerts(_, reply) => drop(reply.send(Err(error))),
            Self::History { reply, .. } => drop(reply.send(Err(error))),
            Self::Timeline(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// The reading thread's state.
#[derive(Debug)]
pub(super) struct HistoryReader {
    location: DatabaseLocation,
    layout: &'static Layout,
    /// `None` while the file is read-only. An open read-only connection would keep the whole process from writing, so each
    /// query then opens a connection of its own.
    connection: Option<Connection>,
    /// The database's [`Database::generation`], and its value when this connection was opened.
    generation: (Arc<AtomicU64>, u64),
}

impl HistoryReader {
    /// A reader of `database`.
    pub(super) fn open(database: &Database, layout: &'static Layout) -> Result<Self, StoreError> {
        let location = database.location().clone();
        let connection = database.is_writable().then(|| location.connect_reader(layout, true)).transpose()?;
        let generation = database.generation();
        let now = generation.load(Relaxed);
        Ok(Self { location, layout, connection, generation: (generation, now) })
    }

    /// Answers queries until the queue closes. A caller may be gone by then.
    pub(super) fn run(mut self, queue: &QueueReceiver<HistoryQuery>) {
        loop {
            match queue.recv(std::time::Duration::MAX) {
                QueueEvent::Item(query) => {
                    self.reconnect();
                    match &self.connection {
                        Some(connection) => self.answer(connection, query),
                        None => match self.location.connect_reader(self.layout, false) {
                            Ok(connection) => self.answer(&connection, query),
                            Err(error) => query.fail(error),
                        },
                    }
                }
                QueueEvent::Timeout => {}
                QueueEvent::Closed => return,
            }
        }
    }

    fn answer(&self, connection: &Connection, query: HistoryQuery) {
        let failed = self.location.failed("read");
        match query {
            HistoryQuery::Alerts(filter, reply) => {
                reply.send(alerts(connection, &filter).map_err(failed)).ok();
            }
            HistoryQuery::History { project, name, limit, reply } => {
                reply.send(history(connection, &project, &name, limit).map_err(failed)).ok();
            }
            HistoryQuery::Timeline(fingerprint, reply) => {
                reply.send(timeline::read(connection, fingerprint).map_err(failed)).ok();
            }
        }
    }

    /// Reconnects when the database was replaced.
    fn reconnect(&mut self) {
        let now = self.generation.0.load(Relaxed);
        if now == self.generation.1 {
            return;
        }
        match self.location.connect_reader(self.layout, true) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.generation.1 = now;
            }
            Err(error) => tracing::debug!(%error, "history reader could not reconnect; it reads the previous file"),
        }
    }
}

fn alerts(connection: &Connection, filter: &ClosedFilter) -> rusqlite::Result<Vec<ClosedAlert>> {
    let mut sql = "SELECT body FROM alert_history WHERE true".to_owned();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let level = filter.level.map(|level| level.as_str());
    if let Some(level) = &level {
        sql.push_str(" AND level = ?");
        values.push(level);
    }
    let fingerprint = filter.fingerprint.map(|fingerprint| fingerprint.to_string());
    if let Some(fingerprint) = &fingerprint {
        sql.push_str(" AND fingerprint = ?");
        values.push(fingerprint);
    }
    if let Some(project) = &filter.project {
        sql.push_str(" AND project = ?");
        values.push(project);
    }
    if let Some(agent) = &filter.agent {
        sql.push_str(" AND subject_kind = 'agent_name' AND subject = ?");
        values.push(agent);
    }
    if let Some(rule) = &filter.rule {
        sql.push_str(" AND rule = ?");
        values.push(rule);
    }
    if let Some(task) = &filter.task {
        sql.push_str(" AND json_extract(body, '$.task_id') = ?");
        values.push(task);
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    let limit = i64::try_from(filter.limit.min(MAX_ROWS)).unwrap_or(0);
    values.push(&limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // A row of a newer version that can't be read is skipped.
        found.extend(row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()));
    }
    Ok(found)
}

fn history(connection: &Connection, project: &str, name: &str, limit: usize) -> rusqlite::Result<Vec<HistoryEntry>> {
    let limit = limit.min(MAX_ROWS);
    let mut found = Vec::new();
    // One read transaction, so that the chain does not change meanwhile.
    let transaction = connection.unchecked_transaction()?;
    let mut head = transaction.prepare_cached("SELECT last FROM heads WHERE subject = ?1")?;
    let mut step = transaction.prepare_cached(
        "SELECT prev, project = ?2 AND name = ?3, at, kind, from_status, to_status, reason FROM history WHERE id = ?1",
    )?;
    let mut heads = head.query([subject(project, name)])?;
    let mut next: i64 = heads.next()?.map_or(Ok(0), |row| row.get(0))?;
    for _ in 0..limit.saturating_add(MAX_COLLISIONS) {
        if next <= 0 || found.len() >= limit {
            break;
        }
        let mut rows = step.query((next, project, name))?;
        // The rest of the chain was pruned.
        let Some(row) = rows.next()? else { break };
        let prev = row.get(0)?;
        if row.get(1)? {
            found.push(HistoryEntry {
                at: Time::from_millis(row.get(2)?),
                kind: row.get(3)?,
                from: row.get(4)?,
                to: row.get(5)?,
                reason: row.get(6)?,
            });
        }
        // Ids decrease along a chain; stop at a damaged one rather than loop.
        next = if prev < next { prev } else { 0 };
    }
    Ok(found)
}
