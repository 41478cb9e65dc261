//! The thread that reads history, on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, ToSql};
use tokio::sync::oneshot;

use super::rows::subject;
use super::{ClosedFilter, HistoryEntry, MAX_ROWS, timeline};
use crate::model::{ClosedAlert, Decision, Fingerprint, Time};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::file::{Layout, Place};
use crate::store::queue::{Received, Receiver};

/// Rows of other subjects with the same hash that a read passes over.
const STRANGERS: usize = 1_000;

/// A question.
#[derive(Debug)]
pub(super) enum Read {
    Alerts(ClosedFilter, oneshot::Sender<Result<Vec<ClosedAlert>, StoreError>>),
    History {
        project: String,
        name: String,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<HistoryEntry>, StoreError>>,
    },
    Timeline(Fingerprint, oneshot::Sender<Result<Vec<Decision>, StoreError>>),
}

impl Read {
    /// Answers that there is no answer.
    fn refuse(self, error: StoreError) {
        match self {
            Self::Alerts(_, reply) => drop(reply.send(Err(error))),
            Self::History { reply, .. } => drop(reply.send(Err(error))),
            Self::Timeline(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// The connection that reads.
#[derive(Debug)]
pub(super) struct Reader {
    place: Place,
    layout: &'static Layout,
    /// `None` while the file can only be read: who keeps its log's index open read-only keeps the whole process from
    /// ever writing it, so that each answer then has a connection of its own.
    connection: Option<Connection>,
    /// The database's [`Database::generation`], and which of them this connection is to.
    generation: (Arc<AtomicU64>, u64),
}

impl Reader {
    /// A reader beside `database`.
    pub(super) fn open(database: &Database, layout: &'static Layout) -> Result<Self, StoreError> {
        let place = database.place().clone();
        let connection = database.is_writable().then(|| place.connect_reader(layout, true)).transpose()?;
        let generation = database.generation();
        let now = generation.load(Relaxed);
        Ok(Self { place, layout, connection, generation: (generation, now) })
    }

    /// Answers until the queue closes. Who went away needs no answer.
    pub(super) fn run(mut self, queue: &Receiver<Read>) {
        loop {
            match queue.recv(std::time::Duration::MAX) {
                Received::Item(read) => {
                    self.connect_anew();
                    match &self.connection {
                        Some(connection) => self.answer(connection, read),
                        None => match self.place.connect_reader(self.layout, false) {
                            Ok(connection) => self.answer(&connection, read),
                            Err(error) => read.refuse(error),
                        },
                    }
                }
                Received::Quiet => {}
                Received::Closed => return,
            }
        }
    }

    fn answer(&self, connection: &Connection, read: Read) {
        let failed = self.place.failed("read");
        match read {
            Read::Alerts(filter, reply) => {
                reply.send(alerts(connection, &filter).map_err(failed)).ok();
            }
            Read::History { project, name, limit, reply } => {
                reply.send(history(connection, &project, &name, limit).map_err(failed)).ok();
            }
            Read::Timeline(fingerprint, reply) => {
                reply.send(timeline::read(connection, fingerprint).map_err(failed)).ok();
            }
        }
    }

    /// Follows the database to another file.
    fn connect_anew(&mut self) {
        let now = self.generation.0.load(Relaxed);
        if now == self.generation.1 {
            return;
        }
        match self.place.connect_reader(self.layout, true) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.generation.1 = now;
            }
            Err(error) => tracing::debug!(%error, "history is read from the file before"),
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
    if let Some(agent) = &filter.agent {
        sql.push_str(" AND subject_kind = 'agent_name' AND subject = ?");
        values.push(agent);
    }
    if let Some(rule) = &filter.rule {
        sql.push_str(" AND rule = ?");
        values.push(rule);
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    let limit = i64::try_from(filter.limit.min(MAX_ROWS)).unwrap_or(0);
    values.push(&limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // A row that can't be read, from a version to come, is not worth an error for all the others.
        found.extend(row.get_ref(0)?.as_str().ok().and_then(|body| serde_json::from_str(body).ok()));
    }
    Ok(found)
}

fn history(connection: &Connection, project: &str, name: &str, limit: usize) -> rusqlite::Result<Vec<HistoryEntry>> {
    let limit = limit.min(MAX_ROWS);
    let mut found = Vec::new();
    // One read transaction, so that the chain does not move under the walk.
    let transaction = connection.unchecked_transaction()?;
    let mut head = transaction.prepare_cached("SELECT last FROM heads WHERE subject = ?1")?;
    let mut step = transaction.prepare_cached(
        "SELECT prev, project = ?2 AND name = ?3, at, kind, from_status, to_status, reason FROM history WHERE id = ?1",
    )?;
    let mut heads = head.query([subject(project, name)])?;
    let mut next: i64 = heads.next()?.map_or(Ok(0), |row| row.get(0))?;
    for _ in 0..limit.saturating_add(STRANGERS) {
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
        // A chain only leads back; a damaged one must not lead in a circle.
        next = if prev < next { prev } else { 0 };
    }
    Ok(found)
}
