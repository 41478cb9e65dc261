//! Reads runs, spans, statistics and agents.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::block::BLOCK_BITS;
use super::{LAYOUT, RunCursor, RunFilter, StoredRuns, block, row};
use crate::model::agent_runs::USUAL_RUNS;
use crate::model::{
    RegisteredAgent, RegistryStatus, Run, RunFacts, RunGroups, RunSource, RunStatus, RunTotals, SharedFields, Sharing,
    Sketch, Span, SpanId, StatCell, StatGroup, StatRow, Time, TraceId, UsualRuns,
};
use crate::store::error::StoreError;
use crate::store::file::{DatabaseLocation, connect_read_only};

/// Most runs on a page.
const MAX_PAGE: usize = 1_000;
/// Most sums that one query of statistics reads.
const MAX_STATS: usize = 1_000_000;
/// Most runs that belong together by their traces; further ones are not loaded with them.
const MAX_TOGETHER: usize = 10_000;

/// A connection that reads.
#[derive(Debug)]
pub struct TraceReader {
    location: DatabaseLocation,
    connection: Connection,
}

impl TraceReader {
    pub(super) const fn new(location: DatabaseLocation, connection: Connection) -> Self {
        Self { location, connection }
    }

    /// Opens the file at `path` without changing anything, whether or not a sidecar runs.
    pub fn open_file(path: &Path) -> Result<Self, StoreError> {
        let location = DatabaseLocation::new(Some(path));
        let connection = connect_read_only(path, &LAYOUT).map_err(location.failed("open"))?;
        Ok(Self { location, connection })
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.location.failed("read")
    }

    /// Runs that match, newest first, and where the next page begins.
    pub fn runs(&self, filter: &RunFilter) -> Result<(Vec<Run>, Option<RunCursor>), StoreError> {
        list(&self.connection, filter).map_err(self.failed())
    }

    /// The runs that an id names, by run or by trace, with all of their spans.
    pub fn run(&self, id: TraceId) -> Result<StoredRuns, StoreError> {
        Self::load(&self.connection, id, true).map_err(self.failed())
    }

    /// Sums of the agents (project, name) from one hour to another, by `group`.
    pub fn stats(
        &self,
        agents: &[(String, String)],
        hours: std::ops::Range<u32>,
        group: StatGroup,
    ) -> Result<Vec<StatRow>, StoreError> {
        let read = || {
            let mut rows = Vec::new();
            for (project, agent) in agents {
                rows.extend(stats(&self.connection, project, agent, &hours, group)?);
            }
            Ok(rows)
        };
        read().map_err(self.failed())
    }

    /// The runs of an agent (project, name) that began since a time and failed or were abandoned: how many, how many of
    /// them have a known cost, and what those cost together.
    pub fn failed_runs(&self, project: &str, agent: &str, since: Time) -> Result<(u64, u64, f64), StoreError> {
        let read = || {
            let mut query = self.connection.prepare_cached(
                "SELECT count(*), count(cost_usd), ifnull(sum(cost_usd), 0) FROM runs
                 WHERE project = (SELECT id FROM names WHERE name = ?1) AND agent = (SELECT id FROM names WHERE name = ?2)
                    AND started_at >= ?3 AND status IN (?4, ?5) AND is_rooted",
            )?;
            let failed = [RunStatus::Error as u8, RunStatus::Abandoned as u8];
            let values = rusqlite::params![project, agent, since.as_millis(), failed[0], failed[1]];
            query.query_row(values, |row| {
                let count = |column: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(column)?.unsigned_abs()) };
                Ok((count(0)?, count(1)?, row.get(2)?))
            })
        };
        read().map_err(self.failed())
    }

    /// All agents of the registry.
    pub fn agents(&self) -> Result<Vec<RegisteredAgent>, StoreError> {
        agents(&self.connection).map_err(self.failed())
    }

    /// At most `limit` agents (project, name) that have statistics since `hour`.
    pub fn agents_since(&self, hour: u32, limit: usize) -> Result<Vec<(String, String)>, StoreError> {
        let read = || {
            let mut query = self.connection.prepare(
                "SELECT DISTINCT p.name, a.name FROM stats s JOIN names p ON p.id = s.project JOIN names a ON a.id = s.agent
                 WHERE s.hour >= ?1 ORDER BY 1, 2 LIMIT ?2",
            )?;
            let rows = query.query_map(rusqlite::params![hour, limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.failed())
    }

    /// The runs that an id names, and those in the same traces; with those that they started if asked for.
    pub(super) fn load(connection: &Connection, id: TraceId, with_children: bool) -> rusqlite::Result<StoredRuns> {
        let mut runs: BTreeMap<TraceId, Run> = BTreeMap::new();
        let mut traces: BTreeSet<TraceId> = BTreeSet::new();
        let mut ids: Vec<TraceId> = vec![id];
        while let Some(id) = ids.pop() {
            // By its id, and by the trace of that id.
            let mut found: Vec<TraceId> = vec![id];
            let mut query = connection.prepare_cached("SELECT run FROM parts WHERE trace = ?1")?;
            let rows = query.query_map([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
            for run in rows {
                found.extend(TraceId::from_slice(&run?));
            }
            if with_children {
                let mut query = connection.prepare_cached("SELECT id FROM runs WHERE parent = ?1")?;
                let rows = query.query_map([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
                for run in rows {
                    found.extend(TraceId::from_slice(&run?));
                }
            }
            for run in found {
                if runs.contains_key(&run) || runs.len() >= MAX_TOGETHER {
                    continue;
                }
                let Some(run) = run_by_id(connection, run)? else { continue };
                for part in &run.parts {
                    if traces.insert(part.trace) {
                        ids.push(part.trace);
                    }
                }
                if run.id != id && with_children {
                    ids.push(run.id);
                }
                runs.insert(run.id, run);
            }
        }
        let mut spans = Vec::new();
        for trace in traces {
            spans.extend(spans_of(connection, trace)?);
        }
        Ok(StoredRuns { runs: runs.into_values().collect(), spans })
    }
}

const COLUMNS: &str = "r.key, r.id, p.name, a.name, t.name, n.name, r.status, r.source, r.is_rooted, r.is_sampled_out,
    r.started_at, r.ended_at, r.last_at, r.parent, r.awaited, r.task, r.session, f.name, m.name, v.name, r.error,
    r.cost_usd, r.detail";
const JOINS: &str = "FROM runs r JOIN names p ON p.id = r.project JOIN names a ON a.id = r.agent
    JOIN names t ON t.id = r.agent_type JOIN names n ON n.id = r.name LEFT JOIN names f ON f.id = r.platform
    LEFT JOIN names m ON m.id = r.model LEFT JOIN names v ON v.id = r.provider";

fn run_by_id(connection: &Connection, id: TraceId) -> rusqlite::Result<Option<Run>> {
    let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} {JOINS} WHERE r.id = ?1"))?;
    query.query_row([id.as_bytes()], |row| Ok(read_run(row)?.1)).optional()
}

/// A run and its key. One whose detail is damaged has no parts and no groups.
fn read_run(row: &Row<'_>) -> rusqlite::Result<(i64, Run)> {
    let id = |column: usize| -> rusqlite::Result<Option<TraceId>> {
        Ok(row.get::<_, Option<Vec<u8>>>(column)?.and_then(|id| TraceId::from_slice(&id)))
    };
    let text = |column: usize| -> rusqlite::Result<Arc<str>> { Ok(Arc::from(row.get::<_, String>(column)?)) };
    let optional = |column: usize| -> rusqlite::Result<Option<Arc<str>>> {
        Ok(row.get::<_, Option<String>>(column)?.map(Arc::from))
    };
    let time = |column: usize| -> rusqlite::Result<Time> { row.get(column).map(Time::from_millis) };
    let mut run = Run {
        id: id(1)?.ok_or(rusqlite::Error::InvalidQuery)?,
        project: text(2)?,
        agent: text(3)?,
        agent_type: text(4)?,
        name: text(5)?,
        status: *RunStatus::ALL.get(usize::from(row.get::<_, u8>(6)?)).unwrap_or(&RunStatus::Abandoned),
        source: *RunSource::ALL.get(usize::from(row.get::<_, u8>(7)?)).unwrap_or(&RunSource::Otlp),
        is_rooted: row.get(8)?,
        is_sampled_out: row.get(9)?,
        started_at: time(10)?,
        ended_at: row.get::<_, Option<i64>>(11)?.map(Time::from_millis),
        last_at: time(12)?,
        parent: id(13)?,
        awaited: id(14)?,
        parts: Vec::new(),
        task: optional(15)?,
        session: optional(16)?,
        platform: optional(17)?,
        model: optional(18)?,
        provider: optional(19)?,
        error: optional(20)?,
        reported_tokens: None,
        reported_cost: None,
        facts: RunFacts::default(),
        totals: RunTotals { cost_usd: row.get(21)?, ..RunTotals::default() },
        groups: RunGroups::default(),
    };
    if row::decode(&mut run, &row.get::<_, Vec<u8>>(22)?).is_none() {
        tracing::warn!(run = %run.id, "run in the store is damaged; its numbers are missing");
    }
    Ok((row.get(0)?, run))
}

/// The spans of a trace, each once.
pub(super) fn spans_of(connection: &Connection, trace: TraceId) -> rusqlite::Result<Vec<Span<'static>>> {
    let mut find = connection.prepare_cached("SELECT key FROM traces WHERE id = ?1")?;
    let Some(key) = find.query_row([trace.as_bytes()], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(Vec::new());
    };
    let mut spans = DistinctSpans::default();
    let mut query = connection.prepare_cached(BLOCKS_OF)?;
    let mut rows = query.query(block_keys(key))?;
    while let Some(row) = rows.next()? {
        match block::decode(trace, row.get_ref(0)?.as_blob()?) {
            Ok(found) => found.into_iter().for_each(|span| spans.add(span)),
            Err(error) => {
                tracing::warn!(%trace, %error, "block of spans in the store can't be read; its spans are missing")
            }
        }
    }
    Ok(spans.spans)
}

/// The blocks of a trace in the order of their writing, given its [`block_keys`].
pub(super) const BLOCKS_OF: &str = "SELECT block FROM blocks WHERE key BETWEEN ?1 AND ?2 ORDER BY key";

/// The first and the last key that a block of a trace may have.
pub(super) const fn block_keys(trace_key: i64) -> [i64; 2] {
    let first = trace_key << BLOCK_BITS;
    [first, first | ((1 << BLOCK_BITS) - 1)]
}

/// Spans of a trace, each once: of one that was stored at its beginning and at its end, the end.
#[derive(Debug, Default)]
pub(super) struct DistinctSpans {
    pub(super) spans: Vec<Span<'static>>,
    places: rustc_hash::FxHashMap<SpanId, usize>,
}

impl DistinctSpans {
    pub(super) fn add(&mut self, span: Span<'static>) {
        match self.places.entry(span.id) {
            Entry::Vacant(place) => {
                place.insert(self.spans.len());
                self.spans.push(span);
            }
            Entry::Occupied(place) => {
                if let Some(known) = self.spans.get_mut(*place.get())
                    && known.duration.is_none()
                {
                    *known = span;
                }
            }
        }
    }
}

/// What the last ended runs of an agent (project, name) took and cost, the oldest first. When an abandoned run really ended
/// is not known.
pub(super) fn usual_runs(
    connection: &Connection,
    [project, agent]: [&str; 2],
    besides: TraceId,
) -> rusqlite::Result<UsualRuns> {
    let mut query = connection.prepare_cached(
        "SELECT duration_ms, cost_usd FROM runs
         WHERE project = (SELECT id FROM names WHERE name = ?1) AND agent = (SELECT id FROM names WHERE name = ?2)
            AND status IN (?3, ?4) AND is_rooted AND duration_ms IS NOT NULL AND id <> ?5
         ORDER BY started_at DESC LIMIT ?6",
    )?;
    let ended = [RunStatus::Ok as u8, RunStatus::Error as u8];
    let values = rusqlite::params![project, agent, ended[0], ended[1], besides.as_bytes(), USUAL_RUNS as i64];
    let rows = query.query_map(values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<f64>>(1)?)))?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.reverse();
    let mut usual = UsualRuns::default();
    rows.into_iter().for_each(|(duration_ms, cost)| usual.add(duration_ms as f64 / 1000.0, cost));
    Ok(usual)
}

fn list(connection: &Connection, filter: &RunFilter) -> rusqlite::Result<(Vec<Run>, Option<RunCursor>)> {
    let mut wheres: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        wheres.push(condition.replace('?', &format!("?{}", values.len())));
    };
    let text = |text: &String| Value::Text(text.clone());
    let name = "(SELECT id FROM names WHERE name = ?)";
    for (column, value) in [("project", &filter.project), ("agent", &filter.agent), ("platform", &filter.platform)] {
        if let Some(value) = value {
            add(&format!("r.{column} = {name}"), text(value));
        }
    }
    for value in [&filter.provider, &filter.model, &filter.tool].into_iter().flatten() {
        add(&format!("instr(r.words, ',' || {name} || ',') > 0"), text(value));
    }
    for (column, value) in [("task", &filter.task), ("session", &filter.session)] {
        if let Some(value) = value {
            add(&format!("r.{column} = ?"), text(value));
        }
    }
    if let Some(status) = filter.status {
        add("r.status = ?", Value::Integer(status as i64));
    }
    if let Some(since) = filter.since {
        add("r.started_at >= ?", Value::Integer(since.as_millis()));
    }
    if let Some(until) = filter.until {
        add("r.started_at < ?", Value::Integer(until.as_millis()));
    }
    if let Some(min) = filter.min_duration_ms {
        add("r.duration_ms >= ?", Value::Integer(i64::try_from(min).unwrap_or(i64::MAX)));
    }
    if let Some(min) = filter.min_cost {
        add("r.cost_usd >= ?", Value::Real(min));
    }
    if let Some(parent) = filter.parent {
        add("r.parent = ?", Value::Blob(parent.as_bytes().to_vec()));
    }
    if let Some(part) = &filter.text {
        add("(instr(lower(n.name), lower(?)) > 0 OR instr(lower(ifnull(r.error, '')), lower(?)) > 0)", text(part));
    }
    if let Some(after) = filter.after {
        add("r.started_at <= ?", Value::Integer(after.started_at.as_millis()));
        add(&format!("(r.started_at < {} OR r.key < ?)", after.started_at.as_millis()), Value::Integer(after.key));
    }
    let wheres = if wheres.is_empty() { String::new() } else { format!("WHERE {}", wheres.join(" AND ")) };
    let limit = filter.limit.clamp(1, MAX_PAGE);
    let order = format!("ORDER BY r.started_at DESC, r.key DESC LIMIT {}", limit + 1);
    let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} {JOINS} {wheres} {order}"))?;
    let rows = query.query_map(params_from_iter(values), read_run)?;
    let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let cursor = last.map(|(key, run)| RunCursor { started_at: run.started_at, key: *key });
    Ok((found.into_iter().map(|(_, run)| run).collect(), cursor))
}

fn stats(
    connection: &Connection,
    project: &str,
    agent: &str,
    hours: &std::ops::Range<u32>,
    group: StatGroup,
) -> rusqlite::Result<Vec<StatRow>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT s.hour, n.name, s.runs, s.failed_runs, s.calls, s.failed_calls, s.tools, s.input, s.output, s.cache_read,
            s.cache_creation, s.reasoning, s.cost_nanos, s.fallbacks, s.waited_ms, s.run_durations, s.call_durations
         FROM stats s JOIN names n ON n.id = s.name
         WHERE s.project = (SELECT id FROM names WHERE name = ?1) AND s.agent = (SELECT id FROM names WHERE name = ?2)
            AND s.hour >= ?3 AND s.hour < ?4 AND s.kind = ?5
         ORDER BY s.hour, n.name LIMIT {MAX_STATS}"
    ))?;
    let (project, agent): (Arc<str>, Arc<str>) = (Arc::from(project), Arc::from(agent));
    let rows = query.query_map(rusqlite::params![&*project, &*agent, hours.start, hours.end, group as u8], |row| {
        Ok(StatRow {
            project: Arc::clone(&project),
            agent: Arc::clone(&agent),
            hour: row.get(0)?,
            group,
            name: Arc::from(row.get::<_, String>(1)?),
            cell: StatCell {
                runs: sum(row, 2)?,
                failed_runs: sum(row, 3)?,
                calls: sum(row, 4)?,
                failed_calls: sum(row, 5)?,
                tools: sum(row, 6)?,
                tokens: [sum(row, 7)?, sum(row, 8)?, sum(row, 9)?, sum(row, 10)?, sum(row, 11)?],
                cost_nanos: sum(row, 12)?,
                fallbacks: sum(row, 13)?,
                waited_ms: sum(row, 14)?,
                run_durations: Sketch::decode(row.get_ref(15)?.as_blob()?),
                call_durations: Sketch::decode(row.get_ref(16)?.as_blob()?),
            },
        })
    })?;
    rows.collect()
}

/// A sum of statistics. One that outgrew integers is a real number in SQLite, and the largest integer here.
fn sum(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    match row.get_ref(column)? {
        ValueRef::Real(sum) => Ok(sum as i64),
        _ => row.get(column),
    }
}

pub(super) fn agents(connection: &Connection) -> rusqlite::Result<Vec<RegisteredAgent>> {
    let mut query = connection.prepare(
        "SELECT id, project, name, type, external_id, config, monitoring_enabled, status, created_by, created_at, last_used_at,
            is_shared, pending, former_id
         FROM agents ORDER BY project, name",
    )?;
    let rows = query.query_map([], |row| {
        let text = |column: usize| -> rusqlite::Result<Arc<str>> { Ok(Arc::from(row.get::<_, String>(column)?)) };
        Ok(RegisteredAgent {
            id: text(0)?,
            project: text(1)?,
            name: text(2)?,
            agent_type: text(3)?,
            external_id: row.get::<_, Option<String>>(4)?.map(Arc::from),
            config: row.get::<_, Option<String>>(5)?.and_then(|config| serde_json::from_str(&config).ok()),
            monitoring_enabled: row.get(6)?,
            status: RegistryStatus::parse(&row.get::<_, String>(7)?).unwrap_or_default(),
            created_by: text(8)?,
            created_at: Time::from_millis(row.get(9)?),
            last_used_at: row.get::<_, Option<i64>>(10)?.map(Time::from_millis),
            sharing: Sharing {
                is_shared: row.get(11)?,
                pending: SharedFields(row.get(12)?),
                former_id: row.get::<_, Option<String>>(13)?.map(Arc::from),
                error: None,
            },
        })
    })?;
    rows.collect()
}
