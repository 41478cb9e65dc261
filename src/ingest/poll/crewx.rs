//! Polls CrewX's database: each agent that ran a task in the last week is an agent, and each task is a run.
//!
//! The file belongs to another program, which must be able to go on writing it: see [`open`]. Columns came with versions,
//! so that only those are read that exist, each by its name; prompts, results and logs are never read. A task whose
//! process was killed stays `running` in the file: whether its process is alive decides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

use super::listed::{self, AgentSketch, RunList, SpanTimes, text_of};
use super::process::{self, ProcessState};
use crate::clock::Clock;
use crate::files;
use crate::ingest::page::failed;
use crate::model::{
    AgentIdentity, AgentStatus, Batch, SourceError, SourceErrorReason, Span, SpanField, SpanId, SpanKind, SpanStatus,
    Time, TokenType, TraceId,
};

/// Most tasks, and most spans and uses of tools, that are read in one poll; the newest ones.
const MAX_ROWS: i64 = 5_000;
/// How often it is read again when it changed meanwhile.
const ATTEMPTS: u32 = 3;
/// How long a read waits for a writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);
/// Why a task failed whose process is gone.
const GONE: &str = "its process is gone";

/// The columns of a task, and what is read of them. `error` and `metadata` are cut, since they may be long.
const TASK: [(&str, &str); 16] = [
    ("id", "id"),
    ("agent_id", "agent_id"),
    ("status", "status"),
    ("started_at", "started_at"),
    ("completed_at", "completed_at"),
    ("mode", "mode"),
    ("trace_id", "trace_id"),
    ("parent_task_id", "parent_task_id"),
    ("model", "model"),
    ("platform", "platform"),
    ("workspace_name", "workspace_name"),
    ("error", "substr(error, 1, 2000)"),
    ("pid", "pid"),
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("cached_input_tokens", "cached_input_tokens"),
];
const COST: (&str, &str) = ("cost_usd", "cost_usd");
const SKILL: [(&str, &str); 7] = [
    ("id", "id"),
    ("task_id", "task_id"),
    ("started_at", "started_at"),
    ("completed_at", "completed_at"),
    ("parent_span_id", "parent_span_id"),
    ("name", "substr(name, 1, 500)"),
    ("status", "status"),
];
const TOOL_CALL: [(&str, &str); 6] = [
    ("id", "id"),
    ("task_id", "task_id"),
    ("timestamp", "timestamp"),
    ("tool_name", "substr(tool_name, 1, 500)"),
    ("session_id", "session_id"),
    ("duration_ms", "duration_ms"),
];

/// The state that is kept between polls.
#[derive(Debug)]
pub(super) struct Crewx {
    pub(super) runs: RunList,
    /// The source's name, which is part of ids.
    source: String,
    path: PathBuf,
    /// Whether the project is given, so that workspaces are not projects.
    has_project: bool,
    /// What was read last, and the state of the files then.
    read: Option<(FileStamp, Arc<CrewxTables>)>,
    /// Tasks whose process was gone at the last poll. One that just ended is gone before its row says so.
    gone: BTreeSet<String>,
}

/// What changes when the database does: length and time of the file and of its log.
type FileStamp = [Option<(u64, i64, i64, u64)>; 2];

/// What a poll reads.
#[derive(Debug, Default)]
struct CrewxTables {
    tasks: Vec<CrewxTask>,
    skills: BTreeMap<String, Vec<CrewxPart>>,
    tools: BTreeMap<String, Vec<CrewxPart>>,
    errors: Vec<String>,
}

/// A row of `tasks`.
#[derive(Clone, Debug, Default)]
struct CrewxTask {
    id: String,
    agent: String,
    status: String,
    started_at: u64,
    completed_at: Option<u64>,
    mode: Option<String>,
    trace: Option<String>,
    parent: Option<String>,
    model: Option<String>,
    platform: Option<String>,
    workspace: Option<String>,
    error: Option<String>,
    pid: Option<i64>,
    tokens: [u64; 3],
    cost_usd: f64,
}

/// A row of `spans` or `tool_calls`.
#[derive(Clone, Debug)]
struct CrewxPart {
    id: String,
    parent: Option<String>,
    name: String,
    times: SpanTimes,
    is_error: bool,
    session: Option<String>,
}

/// How a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TaskState {
    Running,
    Succeeded,
    Failed,
    /// Its process is gone.
    Gone,
}

impl Crewx {
    pub(super) fn new(source: &str, path: &Path, has_project: bool) -> Self {
        Self {
            runs: RunList::default(),
            source: source.to_owned(),
            path: path.to_owned(),
            has_project,
            read: None,
            gone: BTreeSet::new(),
        }
    }

    pub(super) async fn poll(
        &mut self,
        timeout: Duration,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let (path, now) = (self.path.clone(), clock.wall());
        let known = self.read.as_ref().map(|(stamp, tables)| (*stamp, Arc::clone(tables)));
        let work = move || -> Result<_, SourceError> {
            let (stamp, tables) = match known {
                Some((stamp, tables)) if stamp_of(&path)? == stamp => (stamp, tables),
                _ => read(&path, now)?,
            };
            let running = tables.tasks.iter().filter(|task| task.is_running());
            let gone = running.filter(|task| task.is_gone()).map(|task| task.id.clone());
            Ok((stamp, gone.collect::<BTreeSet<_>>(), tables))
        };
        let done = files::run_blocking(&self.path, timeout, work).await;
        let (stamp, gone, tables) =
            done.map_err(|error| failed(SourceErrorReason::Timeout, &format!("{}: {error}", self.path.display())))??;
        let before = std::mem::replace(&mut self.gone, gone);
        let is_gone: BTreeSet<String> = self.gone.intersection(&before).cloned().collect();
        self.read = Some((stamp, Arc::clone(&tables)));
        Ok(self.take(&tables, &is_gone, now, project))
    }

    /// The agents by project, and the runs of tasks whose state is new.
    fn take(&mut self, tables: &CrewxTables, gone: &BTreeSet<String>, now: Time, project: &str) -> Vec<Batch<'static>> {
        let mut agents: BTreeMap<String, BTreeMap<String, (bool, u64, AgentSketch)>> =
            BTreeMap::from([(project.to_owned(), BTreeMap::new())]);
        for task in &tables.tasks {
            let of_workspace = task.workspace.as_deref().filter(|_| !self.has_project);
            let project = of_workspace.unwrap_or(project);
            let state = match &*task.status {
                "success" => TaskState::Succeeded,
                "failed" => TaskState::Failed,
                _ if gone.contains(&task.id) => TaskState::Gone,
                _ => TaskState::Running,
            };
            let is_running = state == TaskState::Running;
            let known = agents.entry(project.to_owned()).or_default().entry(task.agent.clone()).or_default();
            if (is_running, task.started_at) >= (known.0, known.1) {
                *known = (is_running, task.started_at, sketch_of(task, state));
            }
            self.run(tables, task, state, now, &listed::identity(project, &task.agent, "crewx"));
        }
        let mut errors = tables.errors.clone();
        let batches = agents.into_iter().map(|(project, agents)| {
            let agents = agents.into_iter().map(|(name, (_, _, sketch))| (name, sketch)).collect();
            listed::batch(&project, "crewx", agents, std::mem::take(&mut errors))
        });
        batches.collect()
    }

    fn run(
        &mut self,
        tables: &CrewxTables,
        task: &CrewxTask,
        state: TaskState,
        now: Time,
        agent: &Arc<AgentIdentity>,
    ) -> Option<()> {
        let trace = listed::trace_id(&format!("crewx {}", self.source), task.trace.as_deref().unwrap_or(&task.id))?;
        let root = task_span(&task.id)?;
        let [skills, tools] =
            [&tables.skills, &tables.tools].map(|parts| parts.get(&task.id).map(Vec::as_slice).unwrap_or_default());
        let version = (state as u64) << 48 | (skills.len() as u64) << 24 | tools.len() as u64;
        if self.runs.has((trace, root), version) {
            return None;
        }
        let mut spans = vec![listed::begin_run(top_of((trace, root), task, state, now, tools), agent)];
        for (parts, kind) in [(skills, "skill"), (tools, "tool")] {
            for part in parts {
                let id = listed::span_id(&format!("{kind} {}", part.id))?;
                let above = part.parent.as_ref().and_then(|parent| listed::span_id(&format!("{kind} {parent}")));
                let mut span = listed::span((trace, id), above.or(Some(root)), SpanKind::Tool, &part.name, part.times);
                if part.is_error {
                    listed::fail(&mut span, None);
                }
                spans.push(listed::report(span, agent));
            }
        }
        spans.extend(call_of((trace, root), task, state).map(|call| listed::report(call, agent)));
        spans.truncate(listed::MAX_SPANS);
        self.runs.add((trace, root), version, spans);
        Some(())
    }
}

fn task_span(id: &str) -> Option<SpanId> {
    listed::span_id(&format!("task {id}"))
}

fn sketch_of(task: &CrewxTask, state: TaskState) -> AgentSketch {
    let (status, reason) = match state {
        TaskState::Running => (AgentStatus::Running, None),
        TaskState::Succeeded => (AgentStatus::Completed, None),
        TaskState::Failed => (AgentStatus::Failed, task.error_text()),
        TaskState::Gone => (AgentStatus::Failed, Some(GONE.to_owned())),
    };
    AgentSketch {
        status: Some(status),
        reason,
        task: Some(task.id.clone()),
        task_started_at: Some(listed::time_of(task.started_at)),
        model: task.model.clone(),
        last_activity: Some(listed::time_of(task.completed_at.unwrap_or(task.started_at))),
    }
}

fn top_of(
    (trace, root): (TraceId, SpanId),
    task: &CrewxTask,
    state: TaskState,
    now: Time,
    tools: &[CrewxPart],
) -> Span<'static> {
    let until_now = || u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
    let to = match state {
        TaskState::Running => None,
        TaskState::Gone => Some(until_now()),
        TaskState::Succeeded | TaskState::Failed => Some(task.completed_at.unwrap_or(task.started_at)),
    };
    let times = SpanTimes { from: task.started_at, to: to.map(|to| to.max(task.started_at)) };
    let parent = task.parent.as_deref().and_then(task_span);
    let name = task.mode.as_deref().unwrap_or("task");
    let mut top = listed::span((trace, root), parent, SpanKind::Agent, name, times);
    listed::with(&mut top, SpanField::Task, Some(&task.id));
    listed::with(&mut top, SpanField::Platform, task.platform.as_deref());
    // The session of the coding agent, by which its own report of the same run is known.
    listed::with(&mut top, SpanField::Session, tools.iter().find_map(|tool| tool.session.as_deref()));
    match state {
        TaskState::Running => {}
        TaskState::Succeeded => top.status = SpanStatus::Ok,
        TaskState::Failed => listed::fail(&mut top, task.error_text().as_deref().or(Some("an error"))),
        TaskState::Gone => listed::fail(&mut top, Some(GONE)),
    }
    top
}

/// The calls of models of a task, as one span; none where no tokens are known: older versions write 0.
fn call_of((trace, root): (TraceId, SpanId), task: &CrewxTask, state: TaskState) -> Option<Span<'static>> {
    let [input, output, cached] = task.tokens;
    if state == TaskState::Running || input.saturating_add(output).saturating_add(cached) == 0 {
        return None;
    }
    let times = SpanTimes { from: task.started_at, to: Some(task.completed_at.unwrap_or(task.started_at)) };
    let id = listed::span_id(&format!("call {}", task.id))?;
    let name = task.model.as_deref().unwrap_or("model");
    let mut span = listed::span((trace, id), Some(root), SpanKind::Llm, name, times);
    listed::with_model(&mut span, task.model.as_deref());
    let mut tokens = [0; TokenType::ALL.len()];
    tokens[TokenType::Input as usize] = input.saturating_sub(cached);
    tokens[TokenType::Output as usize] = output;
    tokens[TokenType::CacheRead as usize] = cached;
    span.tokens = Some(tokens);
    span.cost_usd = Some(task.cost_usd).filter(|cost| *cost > 0.0);
    Some(span)
}

impl CrewxTask {
    fn is_running(&self) -> bool {
        !matches!(&*self.status, "success" | "failed")
    }

    /// Whether its process ended. The id of a process may belong to another one by now.
    fn is_gone(&self) -> bool {
        let Some(pid) = self.pid.and_then(|pid| i32::try_from(pid).ok()) else { return false };
        match process::state(pid) {
            ProcessState::Gone => true,
            ProcessState::Alive { since } => !process::may_have_begun(since, listed::time_of(self.started_at)),
            ProcessState::Unknown => false,
        }
    }

    /// Its error: text, or JSON with a message.
    fn error_text(&self) -> Option<String> {
        let error = self.error.as_deref()?;
        let message = |error: &Value| text_of(error, "message").map(str::to_owned);
        let inner = serde_json::from_str::<Value>(error).ok().as_ref().and_then(message);
        Some(inner.unwrap_or_else(|| error.to_owned()))
    }
}

fn unreadable(path: &Path, reason: SourceErrorReason, why: &str) -> SourceError {
    failed(reason, &format!("{}: {why}", path.display()))
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn stamp_of(path: &Path) -> Result<FileStamp, SourceError> {
    let of = |data: Metadata| (data.len(), data.mtime(), data.mtime_nsec(), data.ino());
    let file = fs::metadata(path).map_err(|error| {
        let remedy = if error.kind() == std::io::ErrorKind::NotFound { "; check `path`" } else { "" };
        unreadable(path, SourceErrorReason::Connect, &format!("{error}{remedy}"))
    })?;
    Ok([Some(of(file)), fs::metadata(companion(path, "-wal")).ok().map(of)])
}

/// Reads everything, with the state of the files before.
fn read(path: &Path, now: Time) -> Result<(FileStamp, Arc<CrewxTables>), SourceError> {
    for _ in 0..ATTEMPTS {
        let stamp = stamp_of(path)?;
        // Not kept: an open snapshot keeps the writer from emptying its log.
        let read = open(path).and_then(|connection| {
            tables(&connection, now).map_err(|error| {
                let message = format!("not readable as CrewX's database: {error}");
                unreadable(path, SourceErrorReason::Malformed, &message)
            })
        });
        // A file without a log is read without locks.
        if stamp_of(path)? == stamp {
            return Ok((stamp, Arc::new(read?)));
        }
    }
    Err(unreadable(path, SourceErrorReason::Connect, "it changed while it was read; the next poll reads it again"))
}

/// Opens the file without leaving anything next to it.
///
/// A read-only connection to a database with a write-ahead log creates its `-wal` and `-shm`, which then belong to the
/// reader, and the writer fails. So the log is read only where it exists: with its index, or, after a crash, without one,
/// indexed in memory and without locks, since no one has it open. Without a log the file is all there is.
fn open(path: &Path) -> Result<Connection, SourceError> {
    let connect_error = |why: &str| unreadable(path, SourceErrorReason::Connect, why);
    let [has_log, has_index] = ["-wal", "-shm"].map(|suffix| fs::metadata(companion(path, suffix)).is_ok());
    let (mode, settings) = match (has_log, has_index) {
        (true, true) => ("mode=ro&readonly_shm=1", ""),
        (true, false) => ("mode=ro&vfs=unix-none", "PRAGMA locking_mode=EXCLUSIVE"),
        (false, _) => ("immutable=1", ""),
    };
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let open = || {
        let connection = Connection::open_with_flags(format!("file:{escaped}?{mode}"), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.execute_batch(settings)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| connect_error(&error.to_string()))
}

fn tables(connection: &Connection, now: Time) -> rusqlite::Result<CrewxTables> {
    // One snapshot of all tables.
    let snapshot = connection.unchecked_transaction()?;
    let since = format!("{:.3}", now.minus(listed::MAX_AGE).to_jiff());
    let mut tables = CrewxTables::default();
    let columns = columns(&snapshot, "tasks")?;
    for needed in ["id", "agent_id", "status", "started_at"] {
        if !columns.contains(needed) {
            return Err(rusqlite::Error::InvalidColumnName(format!("tasks.{needed}")));
        }
    }
    let listed: Vec<(&str, &str)> = TASK.into_iter().chain([COST]).collect();
    let mut wrong = 0_usize;
    each(&snapshot, "tasks", &columns, (&listed, "started_at"), &since, |row| {
        match task(row) {
            Some(task) => tables.tasks.push(task),
            None => wrong += 1,
        }
        Ok(())
    })?;
    for (table, listed, time) in
        [("spans", SKILL.as_slice(), "started_at"), ("tool_calls", TOOL_CALL.as_slice(), "timestamp")]
    {
        let columns = self::columns(&snapshot, table)?;
        if !["id", "task_id", time].iter().all(|needed| columns.contains(*needed)) {
            continue;
        }
        let parts = if table == "spans" { &mut tables.skills } else { &mut tables.tools };
        each(&snapshot, table, &columns, (listed, time), &since, |row| {
            match part(row, table == "tool_calls") {
                Some((task, part)) => parts.entry(task).or_insert_with(Vec::new).push(part),
                None => wrong += 1,
            }
            Ok(())
        })?;
    }
    if wrong > 0 {
        tables.errors.push(format!("{wrong} rows have no valid id or time"));
    }
    Ok(tables)
}

/// The names of a table's columns; none if there is no such table.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<BTreeSet<String>> {
    let mut query = connection.prepare(&format!("PRAGMA table_info({table})"))?;
    let names = query.query_map([], |row| row.get::<_, String>("name"))?;
    names.collect()
}

/// Calls `each_row` with the newest rows, the oldest of them first. Columns that do not exist are null.
fn each(
    connection: &Connection,
    table: &str,
    columns: &BTreeSet<String>,
    (listed, time): (&[(&str, &str)], &str),
    since: &str,
    mut each_row: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let selected = listed.iter().map(|(name, read)| {
        let read = if columns.contains(*name) { read } else { "NULL" };
        format!("{read} AS {name}")
    });
    let selected = selected.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT * FROM (SELECT {selected} FROM {table} WHERE {time} >= ?1 ORDER BY {time} DESC LIMIT {MAX_ROWS}) ORDER BY {time}"
    );
    let mut query = connection.prepare(&sql)?;
    let mut rows = query.query([since])?;
    while let Some(row) = rows.next()? {
        each_row(row)?;
    }
    Ok(())
}

/// A text of a row, whatever its type in the file; `None` if it is null, empty or no text.
fn text(row: &Row<'_>, column: &str) -> Option<String> {
    row.get::<_, Option<String>>(column).ok().flatten().filter(|text| !text.is_empty())
}

fn count(row: &Row<'_>, column: &str) -> u64 {
    row.get::<_, Option<i64>>(column).ok().flatten().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

fn task(row: &Row<'_>) -> Option<CrewxTask> {
    let time = |column: &str| text(row, column).as_deref().and_then(listed::nanos);
    Some(CrewxTask {
        id: text(row, "id")?,
        agent: text(row, "agent_id")?,
        status: text(row, "status")?,
        started_at: time("started_at")?,
        completed_at: time("completed_at"),
        mode: text(row, "mode"),
        trace: text(row, "trace_id"),
        parent: text(row, "parent_task_id"),
        model: text(row, "model"),
        platform: text(row, "platform"),
        workspace: text(row, "workspace_name"),
        error: text(row, "error"),
        pid: row.get::<_, Option<i64>>("pid").ok().flatten(),
        tokens: [count(row, "input_tokens"), count(row, "output_tokens"), count(row, "cached_input_tokens")],
        cost_usd: row.get::<_, Option<f64>>("cost_usd").ok().flatten().unwrap_or(0.0),
    })
}

fn part(row: &Row<'_>, is_tool_call: bool) -> Option<(String, CrewxPart)> {
    let time = |column: &str| text(row, column).as_deref().and_then(listed::nanos);
    let (id, task) = (text(row, "id")?, text(row, "task_id")?);
    let part = if is_tool_call {
        // Written after the tool ran.
        let to = time("timestamp")?;
        let from = to.saturating_sub(count(row, "duration_ms").saturating_mul(1_000_000));
        CrewxPart {
            id,
            parent: None,
            name: text(row, "tool_name")?,
            times: SpanTimes { from, to: Some(to) },
            is_error: false,
            session: text(row, "session_id"),
        }
    } else {
        let from = time("started_at")?;
        CrewxPart {
            id,
            parent: text(row, "parent_span_id"),
            name: text(row, "name")?,
            times: SpanTimes { from, to: Some(time("completed_at").unwrap_or(from).max(from)) },
            is_error: text(row, "status").as_deref() == Some("error"),
            session: None,
        }
    };
    Some((task, part))
}

#[cfg(test)]
mod tests;
