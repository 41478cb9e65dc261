//! Writes runs, spans, statistics and agents.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use rustc_hash::FxHashMap;

use super::block::{BLOCK_BITS, BlockWriter};
use super::reader::TraceReader;
use super::{LAYOUT, StoredRuns, TraceBatch, TraceLimits, TraceReaders, row};
use crate::model::run_stats::Contribution;
use crate::model::{RegisteredAgent, Run, Sketch, Span, StatKey, Time, TraceId, UsualRuns};
use crate::store::database::{self, Database};
use crate::store::error::StoreError;
use crate::store::file::DatabaseLocation;
use crate::store::health::{FileHealth, FileOperation};

/// A trace has at most this many blocks; more are refused, like spans over the limit of a trace.
const MAX_BLOCKS: i64 = 1 << BLOCK_BITS;
/// Bytes of spans, before compression, from which a block is full.
pub(super) const FULL_BLOCK: usize = 256 << 10;
/// Names and sketches that are kept in memory; beyond it all are dropped and read again.
const MAX_CACHED: usize = 16_384;

/// The open file, for writing.
#[derive(Debug)]
pub struct TraceStore {
    pub(super) database: Database,
    pub(super) health: Arc<FileHealth>,
    pub(super) limits: TraceLimits,
    pub(super) blocks: BlockWriter,
    pending: Vec<PendingBlock>,
    names: FxHashMap<Arc<str>, i64>,
    sketches: FxHashMap<StatKey, [Sketch; 2]>,
    pub(super) pruned_runs: u64,
}

/// A block that the next transaction writes.
#[derive(Debug)]
struct PendingBlock {
    trace: TraceId,
    spans: u32,
    last_at: Time,
    bytes: Vec<u8>,
}

impl TraceStore {
    /// Opens the file at `path`, or one in memory. A damaged file is moved aside.
    pub fn open(path: Option<&Path>, limits: TraceLimits, now: Time) -> Result<Self, StoreError> {
        let location = DatabaseLocation::new(path);
        let opened = database::open(&location, &LAYOUT, now, |_| Ok(()))?;
        let health = Arc::new(FileHealth::new(location.name(), opened.unwritable.as_ref()));
        if let Some(damaged) = &opened.damaged {
            tracing::error!(moved_to = %damaged.display(), "runs were damaged and moved aside; starting with an empty file");
        }
        Ok(Self {
            database: opened.database,
            health,
            limits,
            blocks: BlockWriter::new(),
            pending: Vec::new(),
            names: FxHashMap::default(),
            sketches: FxHashMap::default(),
            pruned_runs: 0,
        })
    }

    /// What opens readers of the file.
    pub fn readers(&self) -> TraceReaders {
        TraceReaders {
            location: self.database.location().clone(),
            health: Arc::clone(&self.health),
            generation: self.database.generation(),
            idle: Arc::default(),
        }
    }

    /// Changes how long and how much is kept.
    pub fn set_limits(&mut self, limits: TraceLimits) {
        self.limits = limits;
    }

    /// Runs that were deleted to stay within the limits.
    pub const fn pruned_runs(&self) -> u64 {
        self.pruned_runs
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        self.database.location().failed(action)
    }

    /// Adds spans of one trace to the next transaction.
    pub fn add_spans<'s>(&mut self, trace: TraceId, spans: impl IntoIterator<Item = &'s Span<'s>>, now: Time) {
        let mut count = 0;
        for span in spans {
            self.blocks.push(span);
            count += 1;
            if self.blocks.len() >= FULL_BLOCK {
                self.finish_block(trace, std::mem::take(&mut count), now);
            }
        }
        if count > 0 {
            self.finish_block(trace, count, now);
        }
    }

    fn finish_block(&mut self, trace: TraceId, spans: u32, last_at: Time) {
        let bytes = self.blocks.finish();
        self.pending.push(PendingBlock { trace, spans, last_at, bytes });
    }

    /// Commits the spans that were added and `batch`. On failure nothing of it is written, and the spans stay to be
    /// written with the next batch.
    pub fn write(&mut self, now: Time, batch: &TraceBatch<'_>) -> Result<(), StoreError> {
        let outcome = self.transact(now, batch);
        self.health.record(FileOperation::Write, &outcome);
        match &outcome {
            Ok(()) => self.pending.clear(),
            Err(error) => {
                // What the failed transaction cached was never committed.
                self.names.clear();
                self.sketches.clear();
                if error.is_damage()
                    && let DatabaseLocation::File(path) = self.database.location().clone()
                    && let Err(error) = self.database.start_over(&path, now)
                {
                    tracing::error!(%error, "damaged file of runs could not be replaced");
                }
            }
        }
        self.database.note_written();
        self.health.set_size(self.database.size());
        outcome
    }

    /// Bytes of spans that wait for a transaction.
    pub fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|block| block.bytes.len()).sum()
    }

    fn transact(&mut self, now: Time, batch: &TraceBatch<'_>) -> Result<(), StoreError> {
        if self.database.restore(now)? {
            self.names.clear();
            self.sketches.clear();
        }
        let failed = self.failed("write");
        if self.names.len() > MAX_CACHED {
            self.names.clear();
        }
        if self.sketches.len() > MAX_CACHED {
            self.sketches.clear();
        }
        let Self { database, pending, names, sketches, .. } = self;
        let transaction = database.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let written = transaction.and_then(|transaction| {
            write_blocks(&transaction, pending)?;
            for id in batch.removed {
                transaction.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id.as_bytes()])?;
                transaction.prepare_cached("DELETE FROM parts WHERE run = ?1")?.execute([id.as_bytes()])?;
            }
            for run in batch.runs {
                write_run(&transaction, names, run)?;
            }
            if let Some(stats) = batch.stats {
                write_stats(&transaction, names, sketches, stats)?;
            }
            for agent in batch.agents {
                write_agent(&transaction, agent)?;
            }
            transaction.commit()
        });
        written.map_err(failed)
    }

    /// The runs that a trace or run id names, with all runs of the same traces and their spans.
    pub fn load(&self, id: TraceId) -> Result<StoredRuns, StoreError> {
        TraceReader::load(&self.database.connection, id, false).map_err(self.failed("read"))
    }

    /// What the last ended runs of an agent took and cost, without the run `besides`.
    pub fn usual_runs(&self, project: &str, agent: &str, besides: TraceId) -> Result<UsualRuns, StoreError> {
        super::reader::usual_runs(&self.database.connection, [project, agent], besides).map_err(self.failed("read"))
    }

    /// Inferred runs whose caller named the run `id`.
    pub fn awaiting(&self, id: TraceId) -> Result<Vec<TraceId>, StoreError> {
        let read = || {
            let mut query = self.database.connection.prepare_cached("SELECT id FROM runs WHERE awaited = ?1")?;
            let rows = query.query_map([id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let ids = read().map_err(self.failed("read"))?;
        Ok(ids.iter().filter_map(|id| TraceId::from_slice(id)).collect())
    }

    /// Runs that have not ended, and those of which anything was reported since `since`; newest first, at most `limit`.
    pub fn unfinished(&self, since: Time, limit: usize) -> Result<Vec<TraceId>, StoreError> {
        let read = || {
            let mut query = self.database.connection.prepare(
                "SELECT id FROM runs WHERE status = 0 OR started_at >= ?1 AND last_at >= ?1 ORDER BY started_at DESC LIMIT ?2",
            )?;
            let rows = query.query_map(params![since.as_millis(), limit as i64], |row| row.get::<_, Vec<u8>>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let ids = read().map_err(self.failed("read"))?;
        Ok(ids.iter().filter_map(|id| TraceId::from_slice(id)).collect())
    }

    /// All agents of the registry.
    pub fn agents(&self) -> Result<Vec<RegisteredAgent>, StoreError> {
        super::reader::agents(&self.database.connection).map_err(self.failed("read"))
    }

    /// Copies the write-ahead log into the file. Readers that hold an older state delay it.
    pub fn checkpoint(&self, mode: &str) -> Result<(), StoreError> {
        if self.database.location().is_memory() {
            return Ok(());
        }
        let outcome = self.database.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        let outcome = outcome.map_err(self.failed("checkpoint"));
        self.health.record(FileOperation::Checkpoint, &outcome);
        outcome
    }
}

fn write_blocks(connection: &Connection, pending: &[PendingBlock]) -> rusqlite::Result<()> {
    let mut add = connection.prepare_cached(
        "INSERT INTO traces(id, blocks, spans, last_at) VALUES(?1, 1, ?2, ?3)
         ON CONFLICT(id) DO UPDATE SET blocks = blocks + 1, spans = spans + excluded.spans, last_at = max(last_at, excluded.last_at)
         RETURNING key, blocks",
    )?;
    let mut insert = connection.prepare_cached("INSERT INTO blocks(key, block) VALUES(?1, ?2)")?;
    for block in pending {
        let values = params![block.trace.as_bytes(), block.spans, block.last_at.as_millis()];
        let (key, number): (i64, i64) = add.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if number < MAX_BLOCKS {
            insert.execute(params![key << BLOCK_BITS | number, block.bytes])?;
        }
    }
    Ok(())
}

/// The id of a name, which is added if it is new.
pub(super) fn name_id(
    connection: &Connection,
    names: &mut FxHashMap<Arc<str>, i64>,
    name: &Arc<str>,
) -> rusqlite::Result<i64> {
    if let Some(id) = names.get(name) {
        return Ok(*id);
    }
    let known =
        connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?.query_row([&**name], |row| row.get(0));
    let id = match known.optional()? {
        Some(id) => id,
        None => {
            connection.prepare_cached("INSERT INTO names(name) VALUES(?1)")?.execute([&**name])?;
            connection.last_insert_rowid()
        }
    };
    names.insert(Arc::clone(name), id);
    Ok(id)
}

fn write_run(connection: &Connection, names: &mut FxHashMap<Arc<str>, i64>, run: &Run) -> rusqlite::Result<()> {
    let mut name = |name: &Arc<str>| name_id(connection, names, name);
    let optional = |name: &mut dyn FnMut(&Arc<str>) -> rusqlite::Result<i64>, value: &Option<Arc<str>>| {
        value.as_ref().map(name).transpose()
    };
    let mut words = std::collections::BTreeSet::new();
    for group in &run.groups.calls {
        for word in [&group.model, &group.provider] {
            if !word.is_empty() {
                words.insert(name(word)?);
            }
        }
    }
    for group in &run.groups.tools {
        words.insert(name(&group.tool)?);
    }
    let words: String = std::iter::once(",".to_owned()).chain(words.iter().map(|id| format!("{id},"))).collect();
    let duration = run.ended_at.map(|ended| ended.as_millis() - run.started_at.as_millis());
    connection
        .prepare_cached(
            "INSERT INTO runs(id, project, agent, agent_type, name, status, source, is_rooted, is_sampled_out, started_at,
                ended_at, last_at, duration_ms, parent, awaited, task, session, platform, model, provider, error, cost_usd,
                words, detail)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)
             ON CONFLICT(id) DO UPDATE SET project = ?2, agent = ?3, agent_type = ?4, name = ?5, status = ?6, source = ?7,
                is_rooted = ?8, is_sampled_out = ?9, started_at = ?10, ended_at = ?11, last_at = ?12, duration_ms = ?13,
                parent = ?14, awaited = ?15, task = ?16, session = ?17, platform = ?18, model = ?19, provider = ?20,
                error = ?21, cost_usd = ?22, words = ?23, detail = ?24",
        )?
        .execute(params![
            run.id.as_bytes(),
            name(&run.project)?,
            name(&run.agent)?,
            name(&run.agent_type)?,
            name(&run.name)?,
            run.status as u8,
            run.source as u8,
            run.is_rooted,
            run.is_sampled_out,
            run.started_at.as_millis(),
            run.ended_at.map(Time::as_millis),
            run.last_at.as_millis(),
            duration,
            run.parent.as_ref().map(TraceId::as_bytes),
            run.awaited.as_ref().map(TraceId::as_bytes),
            run.task.as_deref(),
            run.session.as_deref(),
            optional(&mut name, &run.platform)?,
            optional(&mut name, &run.model)?,
            optional(&mut name, &run.provider)?,
            run.error.as_deref(),
            run.totals.cost_usd,
            words,
            row::encode(run),
        ])?;
    for part in run.parts.iter().filter(|part| part.trace != run.id) {
        connection
            .prepare_cached("INSERT OR IGNORE INTO parts(trace, run) VALUES(?1, ?2)")?
            .execute([part.trace.as_bytes(), run.id.as_bytes()])?;
    }
    Ok(())
}

fn write_stats(
    connection: &Connection,
    names: &mut FxHashMap<Arc<str>, i64>,
    sketches: &mut FxHashMap<StatKey, [Sketch; 2]>,
    stats: &Contribution,
) -> rusqlite::Result<()> {
    let mut read = connection.prepare_cached(
        "SELECT run_durations, call_durations FROM stats WHERE project = ?1 AND agent = ?2 AND hour = ?3 AND kind = ?4 AND name = ?5",
    )?;
    let mut add = connection.prepare_cached(
        "INSERT INTO stats VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
         ON CONFLICT DO UPDATE SET runs = runs + ?6, failed_runs = failed_runs + ?7, calls = calls + ?8,
            failed_calls = failed_calls + ?9, tools = tools + ?10, input = input + ?11, output = output + ?12,
            cache_read = cache_read + ?13, cache_creation = cache_creation + ?14, reasoning = reasoning + ?15,
            cost_nanos = cost_nanos + ?16, fallbacks = fallbacks + ?17, waited_ms = waited_ms + ?18,
            run_durations = ?19, call_durations = ?20",
    )?;
    for (key, cell) in stats {
        let (project, agent) = (name_id(connection, names, &key.project)?, name_id(connection, names, &key.agent)?);
        let (hour, kind, name) = (key.hour, key.group as u8, name_id(connection, names, &key.name)?);
        if !sketches.contains_key(key) {
            let known = read.query_row(params![project, agent, hour, kind, name], |row| {
                Ok([row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?])
            });
            let known = known.optional()?.unwrap_or_default();
            sketches.insert(key.clone(), known.map(|bytes| Sketch::decode(&bytes)));
        }
        let Some([runs, calls]) = sketches.get_mut(key) else { continue };
        runs.merge(&cell.run_durations);
        calls.merge(&cell.call_durations);
        let [input, output, cache_read, cache_creation, reasoning] = cell.tokens;
        add.execute(params![
            project,
            agent,
            hour,
            kind,
            name,
            cell.runs,
            cell.failed_runs,
            cell.calls,
            cell.failed_calls,
            cell.tools,
            input,
            output,
            cache_read,
            cache_creation,
            reasoning,
            cell.cost_nanos,
            cell.fallbacks,
            cell.waited_ms,
            runs.encode(),
            calls.encode(),
        ])?;
    }
    Ok(())
}

/// Writes an agent in place of those that had its id or its name.
fn write_agent(connection: &Connection, agent: &RegisteredAgent) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM agents WHERE id = ?1 OR project = ?2 AND name = ?3")?.execute(params![
        &*agent.id,
        &*agent.project,
        &*agent.name
    ])?;
    connection
        .prepare_cached("INSERT INTO agents VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?
        .execute(params![
            &*agent.id,
            &*agent.project,
            &*agent.name,
            &*agent.agent_type,
            agent.external_id.as_deref(),
            agent.config.as_ref().map(ToString::to_string),
            agent.monitoring_enabled,
            agent.status.as_str(),
            &*agent.created_by,
            agent.created_at.as_millis(),
            agent.last_used_at.map(Time::as_millis),
            agent.sharing.is_shared,
            agent.sharing.pending.0,
            agent.sharing.former_id.as_deref(),
        ])?;
    Ok(())
}
