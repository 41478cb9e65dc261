//! Runs out of ClickHouse, for `runs.read_from: clickhouse`: the spans of some traces become runs by the same code that links
//! and adds up what arrives here.
//!
//! ClickHouse finds candidates by what single spans say; what only a whole run says is filtered here. Every request has a
//! bound on time, traces and spans.

mod assemble;
mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use crate::clock::Clock;
use crate::export::clickhouse::TraceTable;
use crate::export::clickhouse::client::{ClickHouse, ClickHouseError};
use crate::export::clickhouse::config::ClickHouseConfig;
use crate::http_client::ClientError;
use crate::model::run_stats::contribution;
use crate::model::{Capture, Run, StatCell, StatGroup, StatRow, Time, TraceId};
use crate::otlp::config::OtlpConfig;
use crate::profiles::registered::NameFeed;
use crate::profiles::spans::SpanReader;
use crate::store::traces::{RunCursor, RunFilter, StatsQuery, StoredRuns};
use assemble::{ArchivedSpan, Assembled};
use select::{Candidate, Selection};

/// Traces that one request looks at: of a list, of statistics, of one run.
const MAX_LISTED: usize = 2_000;
const MAX_COUNTED: usize = 20_000;
const MAX_TOGETHER: usize = 200;
/// Traces whose spans are read at a time, and their spans.
const BATCH: usize = 200;
const MAX_SPANS: usize = 50_000;
/// Most bytes of an answer.
const MAX_ANSWER: usize = 128 << 20;
/// Requests that read at a time; an answer may take much memory.
const READERS: usize = 2;

/// Why runs can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// ClickHouse is away, or refuses.
    #[error("runs are read from ClickHouse: {0}")]
    ClickHouse(Arc<ClickHouseError>),
    /// It has more than one request may read.
    #[error("{0}")]
    TooMuch(String),
    /// The program is shutting down.
    #[error("shutting down")]
    Stopped,
}

impl From<ClickHouseError> for ArchiveError {
    fn from(error: ClickHouseError) -> Self {
        Self::ClickHouse(Arc::new(error))
    }
}

/// The names of an agent in a table of spans: its name, and the ids that spans may have in place of it.
#[derive(Clone, Debug, Default)]
pub struct ArchivedAgents {
    /// Agents (project, name).
    pub agents: Vec<(String, String)>,
    /// Their ids in the registry.
    pub ids: Vec<String>,
}

/// A table of spans, and how it is asked.
#[derive(Debug)]
pub struct ArchivedTable {
    client: ClickHouse,
    table: TraceTable,
    has_scopes: OnceCell<bool>,
}

impl ArchivedTable {
    /// By the configuration. Reads `ca_file` from disk.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, ClientError> {
        Ok(Self { client: ClickHouse::new(config)?, table: TraceTable::new(config), has_scopes: OnceCell::new() })
    }
}

/// Reads runs from ClickHouse.
#[derive(Debug)]
pub struct RunArchive {
    table: Mutex<Arc<ArchivedTable>>,
    reader: Arc<Mutex<SpanReader>>,
    clock: Clock,
    turns: Semaphore,
}

impl RunArchive {
    /// Reads from `table`.
    pub fn new(table: ArchivedTable, otlp: &OtlpConfig, capture: Capture, clock: Clock) -> Self {
        Self {
            table: Mutex::new(Arc::new(table)),
            reader: Arc::new(Mutex::new(SpanReader::new(otlp, capture))),
            clock,
            turns: Semaphore::new(READERS),
        }
    }

    /// Reads from another table from now on.
    pub fn read_from(&self, table: ArchivedTable) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn table(&self) -> Arc<ArchivedTable> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces how agents are named, prices, and what is shown of content.
    pub fn configure(&self, otlp: &OtlpConfig, capture: Capture) {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).configure(otlp, capture);
    }

    /// Sets where names of registered agents come from, which spans may name by their ids.
    pub fn set_registered(&self, names: NameFeed) {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).set_registered(names);
    }

    /// Runs that match, newest first, and where the next page begins.
    pub async fn runs(
        &self,
        filter: &RunFilter,
        agents: &ArchivedAgents,
    ) -> Result<(Vec<Run>, Option<RunCursor>), ArchiveError> {
        let _turn = self.turns.acquire().await.map_err(|_| ArchiveError::Stopped)?;
        let limit = filter.limit;
        let mut found: BTreeMap<(i64, i64), Run> = BTreeMap::new();
        let mut before = filter.after.map(|after| after.started_at);
        let mut looked_at = 0;
        let is_at_end = loop {
            let selection = Selection::of_list(filter, agents, before, BATCH);
            let candidates: Vec<Candidate> = self.select(&selection).await?;
            looked_at += candidates.len();
            let is_last = candidates.len() < BATCH;
            let oldest = candidates.last().map(|candidate| candidate.began());
            let assembled = self.assemble(&candidates).await?;
            for run in assembled.into_iter().flat_map(|part| part.runs) {
                let key = key_of(&run);
                let is_after = filter.after.is_none_or(|after| key < (after.started_at.as_millis(), after.key));
                if is_after && select::matches(filter, &run) {
                    found.insert(key, run);
                }
            }
            // A run that began before the oldest candidate may not be the next one.
            let certain = oldest.map_or(i64::MIN, Time::as_millis);
            let sure = found.range((certain, i64::MIN)..).count();
            if is_last {
                break true;
            }
            if sure > limit || looked_at >= MAX_LISTED {
                break false;
            }
            let next = oldest.filter(|oldest| before.is_none_or(|before| *oldest < before));
            // Too many begin within one millisecond to tell them apart.
            let Some(next) = next else { break true };
            before = Some(next);
        };
        let mut runs: Vec<Run> = found.into_values().rev().collect();
        let has_more = runs.len() > limit || !is_at_end;
        runs.truncate(limit);
        let last =
            runs.last().filter(|_| has_more).map(|run| RunCursor { started_at: run.started_at, key: key_of(run).1 });
        let skipped =
            before.filter(|_| has_more && last.is_none()).map(|began| RunCursor { started_at: began, key: 0 });
        Ok((runs, last.or(skipped)))
    }

    /// The runs that an id names, by run or by trace, with all of their spans.
    pub async fn run(&self, id: TraceId) -> Result<StoredRuns, ArchiveError> {
        let _turn = self.turns.acquire().await.map_err(|_| ArchiveError::Stopped)?;
        let mut traces = BTreeSet::new();
        let mut known = BTreeSet::from([id.to_string()]);
        let mut ids = vec![id.to_string()];
        // Its own traces and the run that they name, then those of calls and runs that name one of them.
        for _ in 0..3 {
            let candidates: Vec<Candidate> = self.select(&Selection::of_ids(&ids, MAX_TOGETHER)).await?;
            ids.clear();
            for Candidate { run, traces: found, .. } in candidates {
                ids.extend(std::iter::once(&run).chain(&found).filter(|id| known.insert((*id).clone())).cloned());
                traces.extend(found);
            }
            if ids.is_empty() || traces.len() > MAX_TOGETHER {
                break;
            }
        }
        let traces = traces.into_iter().take(MAX_TOGETHER).collect();
        let parts = self.assemble(&[Candidate::of_traces(traces)]).await?;
        let mut stored = StoredRuns::default();
        for part in parts {
            stored.runs.extend(part.runs);
            stored.spans.extend(part.spans);
        }
        Ok(stored)
    }

    /// Sums of agents from one hour to another, by `group` and of what runs report besides, and the agents; without any, of all that are found.
    pub async fn stats(
        &self,
        agents: Option<&ArchivedAgents>,
        hours: Range<u32>,
        group: StatGroup,
    ) -> Result<(Vec<StatRow>, Vec<(String, String)>), ArchiveError> {
        let _turn = self.turns.acquire().await.map_err(|_| ArchiveError::Stopped)?;
        let candidates: Vec<Candidate> = self.select(&Selection::of_hours(agents, &hours, MAX_COUNTED + 1)).await?;
        if candidates.len() > MAX_COUNTED {
            return Err(ArchiveError::TooMuch(format!(
                "there are more than {MAX_COUNTED} traces; ask for a shorter range or for fewer agents"
            )));
        }
        let mut sums: BTreeMap<_, StatCell> = BTreeMap::new();
        let mut seen: BTreeSet<TraceId> = BTreeSet::new();
        let mut found: BTreeSet<(String, String)> = BTreeSet::new();
        for batch in candidates.chunks(BATCH) {
            for run in self.assemble(batch).await?.into_iter().flat_map(|part| part.runs) {
                if !seen.insert(run.id) {
                    continue;
                }
                for (key, cell) in contribution(&run) {
                    let is_asked = agents.is_none_or(|agents| {
                        agents
                            .agents
                            .iter()
                            .any(|(project, name)| (&**project, &**name) == (&*key.project, &*key.agent))
                    });
                    if agents.is_none() && hours.contains(&key.hour) {
                        found.insert((key.project.to_string(), key.agent.to_string()));
                    }
                    let is_of_group = key.group == group || key.group == StatGroup::Fact;
                    if is_asked && is_of_group && hours.contains(&key.hour) {
                        sums.entry(key).or_default().add(&cell, 1);
                    }
                }
            }
        }
        let rows: Vec<StatRow> = sums
            .into_iter()
            .map(|(key, cell)| StatRow {
                project: key.project,
                agent: key.agent,
                hour: key.hour,
                group: key.group,
                name: key.name,
                cell,
            })
            .collect();
        let agents = match agents {
            Some(agents) => agents.agents.clone(),
            None => found.into_iter().take(StatsQuery::MAX_AGENTS).collect(),
        };
        Ok((rows, agents))
    }

    async fn select(&self, selection: &Selection) -> Result<Vec<Candidate>, ArchiveError> {
        let ArchivedTable { client, table, .. } = &*self.table();
        let statement = selection.statement(table.name());
        let lines = client.query(&statement, &selection.parameters, &select::SETTINGS.map(own), MAX_ANSWER).await?;
        Ok(select::read_lines(&lines))
    }

    /// The runs of candidates. So many at a time that their spans are not too many.
    async fn assemble(&self, candidates: &[Candidate]) -> Result<Vec<Assembled>, ArchiveError> {
        let ArchivedTable { client, table, has_scopes } = &*self.table();
        let read = || async { Ok::<_, ClickHouseError>(table.prepare(client, false).await?.has("ScopeName")) };
        let has_scopes = *has_scopes.get_or_try_init(read).await?;
        let mut parts = Vec::new();
        let mut rest = candidates;
        let mut size = rest.len();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.clamp(1, rest.len()));
            let (statement, parameters) = select::spans(table.name(), batch, has_scopes, MAX_SPANS + 1);
            let lines = client.query(&statement, &parameters, &select::SETTINGS.map(own), MAX_ANSWER).await?;
            let spans: Vec<ArchivedSpan> = select::read_lines(&lines);
            if spans.len() > MAX_SPANS {
                if batch.len() == 1 {
                    return Err(ArchiveError::TooMuch(format!("one run has more than {MAX_SPANS} spans")));
                }
                size = batch.len() / 2;
                continue;
            }
            let (reader, now) = (Arc::clone(&self.reader), self.clock.wall());
            let done = tokio::task::spawn_blocking(move || {
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.refresh();
                assemble::assemble(spans, &mut reader, now)
            });
            let done = done.await;
            parts.push(done.map_err(|_| ArchiveError::Stopped)?);
            rest = later;
        }
        Ok(parts)
    }
}

fn own((name, value): (&'static str, &'static str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// The place of a run in a list, by its beginning.
fn key_of(run: &Run) -> (i64, i64) {
    let bytes = *run.id.as_bytes();
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    (run.started_at.as_millis(), i64::from_be_bytes([a, b, c, d, e, f, g, h]) & i64::MAX)
}
