//! Runs of agents: which spans belong to which run, and what a run adds up to. Pure: spans and requests in, changed runs
//! and sums out.
//!
//! A span belongs to the run of the nearest root above it in its trace. A trace without a root belongs to the run that
//! its caller named, else to the run of the same session at that time; else it is a run of its own, inferred from its
//! calls, until its caller's run becomes known. What is at rest is dropped from memory and comes back, by
//! [`RunBook::restore`], when a late span asks for it.

pub mod advice;
pub mod config;
mod linking;
mod pieces;
pub mod registry;
pub mod tasks;
mod totals;
mod trace;
pub mod turns;
pub mod view;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use linking::overlaps;
use totals::{add_up, infer_from_calls};
use trace::{Names, Node, OpenTrace, Share, is_explicit};

use crate::model::run_stats::{Contribution, contribution, difference};
use crate::model::{
    AgentIdentity, BoundedMap, RegisteredAgent, Run, RunFacts, RunPart, RunSource, RunStatus, Span, SpanField, SpanId,
    SpanKind, SpanReport, SpanStatus, SpanValue, Time, TokenCounts, TraceId,
};

/// Most spans of one trace; more are dropped and counted.
const MAX_TRACE_SPANS: usize = 50_000;
/// Most spans whose traces are kept in memory.
const MAX_OPEN_SPANS: usize = 100_000;
/// Most runs in memory whose end is awaited; beyond it the oldest are abandoned.
const MAX_OPEN_RUNS: usize = 100_000;
/// Calls of proxies that are remembered.
const MAX_CALLS: usize = 100_000;
/// How long a trace is kept in memory after its last span: batches of a sender are seconds apart, and roots come last.
const REST_AFTER: Duration = Duration::from_secs(600);
/// An inferred run ends this long after its last span.
const INFERRED_END: Duration = Duration::from_secs(60);
/// Sessions with shorter ids are distinguished by their agent as well: people number them 1, 2, 3.
const UNIQUE_SESSION: usize = 16;

/// What became of a reported span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanOutcome {
    /// It is new and is to be stored.
    New,
    /// It has been reported before.
    Duplicate,
    /// Its trace has as many spans as it may have.
    TraceFull,
}

/// The beginning of a run by a request, a hook or a poll.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// Its id.
    pub id: TraceId,
    /// The trace and the id of its topmost span.
    pub trace: TraceId,
    /// The topmost span.
    pub span: SpanId,
    /// The span above that, in the trace of its caller.
    pub above: Option<SpanId>,
    /// Its agent.
    pub agent: Arc<AgentIdentity>,
    /// What it does.
    pub name: Arc<str>,
    /// What reports it.
    pub source: RunSource,
    /// The run or trace that started it.
    pub parent: Option<TraceId>,
    /// Its session.
    pub session: Option<Arc<str>>,
    /// Its task.
    pub task: Option<Arc<str>>,
    /// Through what the agent was reached.
    pub platform: Option<Arc<str>>,
    /// What its beginning reports besides.
    pub facts: RunFacts,
    /// When it began.
    pub at: Time,
}

impl RunStart {
    /// The beginning of a run of a registered agent by a request, named like the agent. `inherited`: the trace and the
    /// span that it goes on from.
    pub fn of_registered(
        agent: &RegisteredAgent,
        (id, span): (TraceId, SpanId),
        inherited: Option<(TraceId, SpanId)>,
        at: Time,
    ) -> Self {
        Self {
            id,
            trace: inherited.map_or(id, |(trace, _)| trace),
            span,
            above: inherited.map(|(_, above)| above),
            agent: Arc::new(AgentIdentity {
                project: Arc::clone(&agent.project),
                agent: Arc::clone(&agent.name),
                agent_type: Arc::clone(&agent.agent_type),
                is_named: true,
            }),
            name: Arc::clone(&agent.name),
            source: RunSource::Api,
            parent: None,
            session: None,
            task: None,
            platform: None,
            facts: RunFacts::default(),
            at,
        }
    }
}

/// The end of a run.
#[derive(Clone, Debug, Default)]
pub struct RunEnd {
    /// How it ended.
    pub status: RunStatus,
    /// Why it failed.
    pub error: Option<Arc<str>>,
    /// Its tokens, used if no span reports any.
    pub tokens: Option<TokenCounts>,
    /// Its cost in US dollars, used likewise.
    pub cost_usd: Option<f64>,
    /// What it reports besides; where that is unknown, what the beginning did.
    pub facts: RunFacts,
    /// When it ended.
    pub at: Time,
}

/// What changed since the last [`RunBook::take_changes`].
#[derive(Debug, Default)]
pub struct RunChanges {
    /// New and changed runs.
    pub runs: Vec<Run>,
    /// Runs that became part of another run.
    pub removed: Vec<TraceId>,
    /// Traces in which no agent did anything; nothing of them is to be kept.
    pub discarded: Vec<TraceId>,
    /// What is to be added to statistics.
    pub stats: Contribution,
    /// Runs that ended, by id.
    pub ended: Vec<TraceId>,
    /// Runs with a beginning that is known and that have not ended, by id, each once.
    pub began: Vec<TraceId>,
}

/// A run in memory.
#[derive(Debug)]
struct OpenRun {
    run: Run,
    /// The topmost span in which trace; `None` of an inferred run.
    root: Option<RunPart>,
    /// What it adds up to in traces that are no longer in memory.
    rested: Vec<(TraceId, Share)>,
    /// What statistics have of it.
    counted: Contribution,
    /// Whether it is among the deadlines.
    has_deadline: bool,
    /// Whether another run names it as its parent.
    has_children: bool,
    /// Whether its end has been reported in [`RunChanges::ended`].
    end_reported: bool,
    /// Whether it has been reported in [`RunChanges::began`].
    begin_reported: bool,
}

/// All runs that may still change.
#[derive(Debug)]
pub struct RunBook {
    runs: HashMap<TraceId, OpenRun>,
    traces: HashMap<TraceId, OpenTrace>,
    /// The last runs of each session.
    sessions: HashMap<SessionKey, Vec<TraceId>>,
    /// Inferred runs by the run that their caller named.
    awaited: HashMap<TraceId, BTreeSet<TraceId>>,
    /// Inferred runs by session.
    inferred: HashMap<Arc<str>, BTreeSet<TraceId>>,
    /// Traces in which runs must be found again.
    unsettled: BTreeSet<TraceId>,
    changed: BTreeSet<TraceId>,
    /// Runs that may be at rest.
    idle: BTreeSet<TraceId>,
    removed: BTreeSet<TraceId>,
    /// Statistics of removed runs that are to be subtracted.
    subtracted: Contribution,
    /// Traces of no agent.
    discarded: Vec<TraceId>,
    /// When to look at a run again.
    deadlines: BTreeSet<(Time, TraceId)>,
    /// Traces by their last span.
    resting: BTreeSet<(Time, TraceId)>,
    open_spans: usize,
    /// Calls of a proxy, which reports each by spans and by a callback.
    calls: BoundedMap<u64, (TraceId, SpanId)>,
    /// Runs that others are reports of, by the ids of those.
    joined: BoundedMap<TraceId, TraceId>,
    names: Names,
    timeout: Duration,
}

impl RunBook {
    /// An empty book; a run whose end is not reported is abandoned `timeout` after anything was last reported of it.
    pub fn new(timeout: Duration) -> Self {
        Self {
            runs: HashMap::default(),
            traces: HashMap::default(),
            sessions: HashMap::default(),
            awaited: HashMap::default(),
            inferred: HashMap::default(),
            idle: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            changed: BTreeSet::new(),
            removed: BTreeSet::new(),
            subtracted: Contribution::new(),
            discarded: Vec::new(),
            deadlines: BTreeSet::new(),
            resting: BTreeSet::new(),
            open_spans: 0,
            calls: BoundedMap::new(MAX_CALLS),
            joined: BoundedMap::new(MAX_CALLS),
            names: Names::default(),
            timeout,
        }
    }

    /// Changes the timeout.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Whether the trace is in memory. If not, what is stored of it must be restored before its spans are added.
    pub fn has_trace(&self, trace: TraceId) -> bool {
        self.traces.contains_key(&trace)
    }

    /// Whether the run is in memory.
    pub fn has_run(&self, run: TraceId) -> bool {
        self.runs.contains_key(&run)
    }

    /// The run that a span in memory belongs to.
    pub fn owner(&self, trace: TraceId, span: SpanId) -> Option<TraceId> {
        self.traces.get(&trace)?.owner(span)
    }

    /// A run in memory.
    pub fn run(&self, run: TraceId) -> Option<&Run> {
        self.runs.get(&run).map(|open| &open.run)
    }

    /// Marks a run whose spans are not kept; returns the traces of which nothing is kept.
    pub fn sample_out(&mut self, id: TraceId) -> Vec<TraceId> {
        let Some(open) = self.runs.get_mut(&id) else { return Vec::new() };
        open.run.is_sampled_out = true;
        self.changed.insert(id);
        let traces: BTreeSet<TraceId> = open.run.parts.iter().map(|part| part.trace).collect();
        traces.into_iter().filter(|trace| self.is_sampled_out(*trace)).collect()
    }

    /// Whether the spans of all runs of a trace in memory are not kept.
    pub fn is_sampled_out(&self, trace: TraceId) -> bool {
        let Some(trace) = self.traces.get(&trace) else { return false };
        let mut runs = trace.roots.values().chain(&trace.rest).peekable();
        runs.peek().is_some() && runs.all(|run| self.runs.get(run).is_some_and(|open| open.run.is_sampled_out))
    }

    /// Whether more spans are in memory than may be, so that a tick has something to drop.
    pub const fn is_over_limit(&self) -> bool {
        self.open_spans > MAX_OPEN_SPANS
    }

    /// Number of spans in memory.
    pub const fn open_spans(&self) -> usize {
        self.open_spans
    }

    /// Takes back runs that were dropped from memory, each with all of its spans.
    pub fn restore<'s>(&mut self, now: Time, runs: Vec<Run>, spans: impl IntoIterator<Item = SpanReport<'s>>) {
        for run in runs {
            for part in &run.parts {
                let trace = self.traces.entry(part.trace).or_default();
                match part.root {
                    Some(root) => drop(trace.roots.insert(root, run.id)),
                    None => trace.rest = Some(run.id),
                }
            }
            if self.runs.contains_key(&run.id) {
                continue;
            }
            let root = run.parts.iter().find(|part| part.root.is_some()).copied();
            if let Some(awaited) = run.awaited {
                self.awaited.entry(awaited).or_default().insert(run.id);
            }
            let (id, counted, end_reported) = (run.id, contribution(&run), run.status != RunStatus::Running);
            if let Some(part) = root
                && let Some(span) = part.root
                && is_explicit(run.source)
            {
                self.insert_explicit_root(part.trace, span, None, &run);
            }
            self.note_session(&run);
            self.deadlines.insert((now.plus(INFERRED_END), id));
            self.runs.insert(
                id,
                OpenRun {
                    run,
                    root,
                    rested: Vec::new(),
                    counted,
                    has_deadline: true,
                    has_children: true,
                    end_reported,
                    // Again, since the fleet may have missed it.
                    begin_reported: false,
                },
            );
        }
        let mut restored = BTreeSet::new();
        for report in spans {
            let id = report.span.trace;
            let node = Node::new(&report.span, report.agent.as_ref(), report.response, &mut self.names);
            if let Some(call) = report.call {
                self.calls.insert(call, (id, report.span.id), ());
            }
            let trace = self.traces.entry(id).or_default();
            if trace.nodes.len() < MAX_TRACE_SPANS {
                let is_new = !trace.nodes.contains_key(&report.span.id);
                trace.insert(report.span.id, node);
                self.open_spans += usize::from(is_new);
            }
            restored.insert(id);
        }
        for id in restored {
            if let Some(trace) = self.traces.get_mut(&id) {
                trace.share_out();
                trace.last_at = now;
                self.resting.insert((now, id));
            }
        }
    }

    /// Adds a span.
    pub fn span(&mut self, now: Time, report: &SpanReport<'_>) -> SpanOutcome {
        let (id, span) = (report.span.trace, &report.span);
        if let Some(call) = report.call
            && self.calls.get(&call).is_some_and(|known| *known != (id, span.id))
        {
            return SpanOutcome::Duplicate;
        }
        let trace = self.traces.entry(id).or_default();
        if let Some(known) = trace.nodes.get(&span.id) {
            // The topmost span of a run that began by a request is only a place until it is reported.
            let is_place = known.duration.is_none() && span.duration.is_some();
            if !is_place {
                return SpanOutcome::Duplicate;
            }
        } else if trace.nodes.len() >= MAX_TRACE_SPANS {
            return SpanOutcome::TraceFull;
        } else {
            self.open_spans += 1;
        }
        if let Some(call) = report.call {
            self.calls.insert(call, (id, span.id), ());
        }
        let mut node = Node::new(span, report.agent.as_ref(), report.response, &mut self.names);
        node.run = report.run;
        node.fields.facts.clone_from(&report.facts);
        let is_replaced = trace.nodes.contains_key(&span.id);
        let changes_others = trace.insert(span.id, node) || is_replaced;
        if trace.last_at != now {
            self.resting.remove(&(trace.last_at, id));
            self.resting.insert((now, id));
            trace.last_at = now;
        }
        if changes_others || self.unsettled.contains(&id) || trace.owner(span.id).is_none() {
            self.unsettled.insert(id);
        } else if let Some(run) = trace.add_to_share(span.id) {
            self.touch(now, run);
        }
        if let Some(caller) = report.caller {
            self.link_to_caller(now, id, caller);
        }
        SpanOutcome::New
    }

    /// Begins a run. Calls that named it before are adopted.
    pub fn start(&mut self, now: Time, start: &RunStart) -> &Run {
        let id = start.id;
        let parent = start.parent.map(|parent| self.resolve(parent).unwrap_or(parent)).filter(|parent| *parent != id);
        let above = start.above.and_then(|above| self.traces.get(&start.trace)?.owner(above)).filter(|run| *run != id);
        let agent = [&start.agent.project, &start.agent.agent, &start.agent.agent_type].map(Arc::clone);
        let run = Run {
            is_rooted: true,
            parent: parent.or(above),
            parts: vec![RunPart { trace: start.trace, root: Some(start.span) }],
            task: start.task.clone(),
            session: start.session.clone(),
            platform: start.platform.clone(),
            facts: start.facts,
            ..Run::new(id, agent, Arc::clone(&start.name), start.source, start.at)
        };
        if let Some(known) = self.known_start(start) {
            self.add_report(now, known, &run);
            return &self.runs[&known].run;
        }
        if let Some(other) = self.reported_by_others(start) {
            self.add_piece(now, other, start, &run);
            return &self.runs[&other].run;
        }
        self.insert_explicit_root(start.trace, start.span, start.above, &run);
        let trace = self.traces.entry(start.trace).or_default();
        trace.roots.insert(start.span, id);
        trace.last_at = now;
        self.resting.insert((now, start.trace));
        self.unsettled.insert(start.trace);
        // What arrived of this trace before belongs to the run that began it.
        let early = trace.rest.filter(|_| id == start.trace);
        self.note_session(&run);
        let root = Some(run.parts[0]);
        let session = run.session.clone();
        let open = new_run(run, root);
        self.runs.insert(id, open);
        self.touch(now, id);
        let mut adopted = self.awaited.remove(&id).unwrap_or_default();
        adopted.extend(self.awaited.remove(&start.trace).unwrap_or_default());
        adopted.extend(early);
        if session.is_some() {
            adopted.extend(self.inferred_runs_of_session(id));
        }
        for inferred in adopted {
            self.adopt(now, inferred, id);
        }
        self.bound_runs(now);
        &self.runs[&id].run
    }

    /// Ends a run, given by its id or by its trace. Ending it again changes nothing. Returns the run and whether this
    /// was its end; `None` if no such run is in memory.
    pub fn end(&mut self, now: Time, id: TraceId, end: RunEnd) -> Option<(&Run, bool)> {
        let reported = id;
        let id = self.resolve(id)?;
        let awaits_other = end.status == RunStatus::Abandoned && self.end_is_awaited(id);
        let open = self.runs.get_mut(&id)?;
        let is_open = matches!(open.run.status, RunStatus::Running | RunStatus::Abandoned);
        let is_first = is_open && is_explicit(open.run.source) && !awaits_other;
        let is_of_pipe = open.run.source == RunSource::Pipe;
        if is_of_pipe || self.joined(reported) == Some(id) {
            self.end_piece(now, reported, id, &end);
        }
        let open = self.runs.get_mut(&id)?;
        if is_first {
            let run = &mut open.run;
            run.status = if end.status == RunStatus::Running { RunStatus::Ok } else { end.status };
            run.ended_at = Some(end.at.max(run.started_at));
            run.last_at = run.last_at.max(end.at);
            run.error = end.error;
            run.reported_tokens = end.tokens.or(run.reported_tokens);
            run.reported_cost = end.cost_usd.or(run.reported_cost);
            run.facts = end.facts.or(run.facts);
            self.touch(now, id);
        }
        self.runs.get(&id).map(|open| (&open.run, is_first))
    }

    /// The topmost span of a run that began by a request, as it is now. It is stored at the beginning and at the end.
    pub fn root_span(&self, id: TraceId) -> Option<Span<'static>> {
        let Some(open) = self.runs.get(&id) else { return self.root_span_of_piece(id) };
        let RunPart { trace, root: Some(root) } = open.root? else { return None };
        let run = &open.run;
        let node = self.traces.get(&trace)?.nodes.get(&root);
        let millis = |time: Time| u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        let mut span = Span::new(trace, root, run.name.to_string().into(), millis(run.started_at));
        span.parent = node.and_then(|node| node.parent);
        span.kind = SpanKind::Agent;
        span.source = run.source;
        span.begins_run = true;
        span.duration = run.ended_at.map(|ended| millis(ended).saturating_sub(millis(run.started_at)));
        span.status = match run.status {
            RunStatus::Running => SpanStatus::Unset,
            RunStatus::Ok => SpanStatus::Ok,
            RunStatus::Error | RunStatus::Abandoned => SpanStatus::Error,
        };
        let fields = [
            (SpanField::Project, Some(&run.project)),
            (SpanField::Agent, Some(&run.agent)),
            (SpanField::AgentType, Some(&run.agent_type)),
            (SpanField::Session, run.session.as_ref()),
            (SpanField::Task, run.task.as_ref()),
            (SpanField::Platform, run.platform.as_ref()),
            (SpanField::Error, run.error.as_ref()),
        ];
        span.fields.extend(fields.into_iter().filter_map(|(field, value)| Some((field, value?.to_string().into()))));
        let facts = run.facts.values().map(|(fact, value)| (fact.as_str().into(), SpanValue::Float(value)));
        span.attributes.extend(facts);
        Some(span)
    }

    /// Abandons the running runs of agents (project, name) that ended.
    pub fn agents_ended(&mut self, now: Time, agents: &HashSet<(Arc<str>, Arc<str>)>) {
        let is_of_them = |run: &Run| agents.contains(&(Arc::clone(&run.project), Arc::clone(&run.agent)));
        let running = self.runs.values().filter(|open| open.run.is_rooted && open.run.status == RunStatus::Running);
        let ids: Vec<TraceId> = running.filter(|open| is_of_them(&open.run)).map(|open| open.run.id).collect();
        for id in ids {
            self.abandon(now, id);
        }
    }

    /// The next time at which time alone changes something.
    pub fn next_deadline(&self) -> Option<Time> {
        let rest = self.resting.first().map(|(last, _)| last.plus(REST_AFTER));
        let run = self.deadlines.first().map(|(at, _)| *at);
        [rest, run].into_iter().flatten().min()
    }

    /// What time alone changes: inferred runs end, forgotten ones are abandoned, and traces at rest leave memory; returns
    /// those.
    pub fn tick(&mut self, now: Time) -> Vec<TraceId> {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            let Some(open) = self.runs.get_mut(&id) else { continue };
            open.has_deadline = false;
            if open.run.status != RunStatus::Running {
                continue;
            }
            let timeout = self.timeout;
            let (is_rooted, due) = (open.run.is_rooted, due(&open.run, timeout));
            if due > now {
                open.has_deadline = true;
                self.deadlines.insert((due, id));
            } else if is_rooted {
                self.abandon(now, id);
            } else {
                self.changed.insert(id);
            }
        }
        self.settle(now);
        let mut rested = Vec::new();
        while let Some((last, id)) = self.resting.first().copied() {
            if last.plus(REST_AFTER) > now && self.open_spans <= MAX_OPEN_SPANS {
                break;
            }
            self.resting.remove(&(last, id));
            self.rest(id);
            rested.push(id);
        }
        rested
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self, now: Time) -> RunChanges {
        self.settle(now);
        let mut changes = RunChanges {
            removed: std::mem::take(&mut self.removed).into_iter().collect(),
            discarded: std::mem::take(&mut self.discarded),
            stats: std::mem::take(&mut self.subtracted),
            ..RunChanges::default()
        };
        for id in std::mem::take(&mut self.changed) {
            self.fold(now, id);
            let Some(open) = self.runs.get_mut(&id) else { continue };
            if !open.is_of_agent() {
                continue;
            }
            let counted = contribution(&open.run);
            if open.counted.is_empty() {
                add_to(&mut changes.stats, &counted);
            } else {
                add_to(&mut changes.stats, &difference(&open.counted, &counted));
            }
            open.counted = counted;
            let ends = open.run.status != RunStatus::Running && !open.end_reported;
            open.end_reported |= ends;
            self.idle.insert(id);
            changes.ended.extend(ends.then_some(id));
            let begins = open.run.status == RunStatus::Running && open.run.is_rooted && !open.begin_reported;
            open.begin_reported |= begins;
            changes.began.extend(begins.then_some(id));
            changes.runs.push(open.run.clone());
        }
        changes.stats.retain(|_, cell| !cell.is_empty());
        self.drop_idle_runs();
        changes
    }

    /// The running run of a session in memory.
    pub fn running_in_session(&self, session: &str) -> Option<TraceId> {
        let session = Arc::from(session);
        let mut runs = self.runs_of_session(&session, None);
        runs.find(|open| open.run.status == RunStatus::Running).map(|open| open.run.id)
    }

    /// The run with this id, else the one that began in the trace with this id.
    pub fn resolve(&self, id: TraceId) -> Option<TraceId> {
        if self.runs.contains_key(&id) {
            return Some(id);
        }
        if let Some(run) = self.joined(id).filter(|run| self.runs.contains_key(run)) {
            return Some(run);
        }
        let trace = self.traces.get(&id)?;
        let latest = trace.roots.values().filter_map(|run| self.runs.get(run)).max_by_key(|open| open.run.started_at);
        latest.map(|open| open.run.id).or(trace.rest)
    }

    fn insert_explicit_root(&mut self, trace: TraceId, span: SpanId, above: Option<SpanId>, run: &Run) {
        let trace = self.traces.entry(trace).or_default();
        if trace.nodes.contains_key(&span) {
            return;
        }
        let agent = AgentIdentity {
            project: Arc::clone(&run.project),
            agent: Arc::clone(&run.agent),
            agent_type: Arc::clone(&run.agent_type),
            is_named: true,
        };
        let started_at = u64::try_from(run.started_at.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        self.open_spans += 1;
        trace.insert(
            span,
            Node {
                parent: above,
                kind: SpanKind::Agent,
                is_error: false,
                source: run.source,
                begins_run: true,
                run: None,
                name: Arc::clone(&run.name),
                started_at,
                duration: None,
                agent: Some(Arc::new(agent)),
                fields: trace::NodeFields::default(),
                tokens: None,
                cost_nanos: None,
            },
        );
    }

    /// Marks a run as changed by something that was reported now.
    fn touch(&mut self, now: Time, id: TraceId) {
        self.changed.insert(id);
        if let Some(open) = self.runs.get_mut(&id)
            && open.run.status == RunStatus::Running
            && !std::mem::replace(&mut open.has_deadline, true)
        {
            self.deadlines.insert((now.plus(INFERRED_END), id));
        }
    }

    fn abandon(&mut self, now: Time, id: TraceId) {
        if let Some(open) = self.runs.get_mut(&id) {
            open.run.status = RunStatus::Abandoned;
            open.run.ended_at = Some(open.run.last_at);
            self.touch(now, id);
        }
    }

    /// Over the limit, the runs that were silent for longest are abandoned.
    fn bound_runs(&mut self, now: Time) {
        if self.runs.len() <= MAX_OPEN_RUNS {
            return;
        }
        let oldest = self.runs.values().filter(|open| open.run.status == RunStatus::Running);
        if let Some(id) = oldest.min_by_key(|open| open.run.last_at).map(|open| open.run.id) {
            self.abandon(now, id);
        }
    }

    /// Drops a trace from memory. What it adds to its runs stays with them.
    fn rest(&mut self, id: TraceId) {
        let Some(trace) = self.traces.remove(&id) else { return };
        self.open_spans -= trace.nodes.len();
        let is_of_agent = |run: &TraceId| self.runs.get(run).is_some_and(OpenRun::is_of_agent);
        if !trace.shares.keys().any(is_of_agent) {
            self.discarded.push(id);
            for run in trace.shares.keys() {
                self.runs.remove(run);
            }
            return;
        }
        for (run, share) in trace.shares {
            if let Some(open) = self.runs.get_mut(&run) {
                open.rested.retain(|(trace, _)| *trace != id);
                open.rested.push((id, share));
                self.idle.insert(run);
            }
        }
    }

    /// Drops runs that ended and whose traces are all at rest.
    fn drop_idle_runs(&mut self) {
        for id in std::mem::take(&mut self.idle) {
            let Some(open) = self.runs.get(&id) else { continue };
            let is_in_memory = |part: &RunPart| self.traces.contains_key(&part.trace);
            if open.run.status != RunStatus::Running && !open.run.parts.iter().any(is_in_memory) {
                let run = open.run.clone();
                self.runs.remove(&id);
                self.forget_session(&run);
                self.stop_awaiting(&run);
            }
        }
    }

    /// Adds up a run.
    fn fold(&mut self, now: Time, id: TraceId) {
        let Some(OpenRun { run, rested, .. }) = self.runs.get_mut(&id) else { return };
        let mut seen = BTreeSet::new();
        let in_memory = run.parts.iter().filter(|part| seen.insert(part.trace));
        let in_memory = in_memory.filter_map(|part| self.traces.get(&part.trace)?.shares.get(&id));
        let rested = rested.iter().filter(|(trace, _)| !self.traces.contains_key(trace)).map(|(_, share)| share);
        let shares: Vec<&Share> = in_memory.chain(rested).collect();
        let session_before = run.session.clone();
        let due = due(run, self.timeout);
        add_up(run, &shares);
        if !run.is_rooted {
            let is_over = now >= due.max(run.last_at.plus(INFERRED_END));
            infer_from_calls(run, &shares, is_over);
        }
        if run.session != session_before || !run.is_rooted {
            let run = run.clone();
            self.note_session(&run);
        }
    }
}

/// A session, and the agent (project, name) of one whose id others may have too.
type SessionKey = (Arc<str>, Option<(Arc<str>, Arc<str>)>);

fn session_key(session: &Arc<str>, agent: Option<&AgentIdentity>) -> SessionKey {
    let agent = agent.filter(|_| session.len() < UNIQUE_SESSION);
    (Arc::clone(session), agent.map(|agent| (Arc::clone(&agent.project), Arc::clone(&agent.agent))))
}

fn session_key_of_run(session: &Arc<str>, run: &Run) -> SessionKey {
    let agent = (session.len() < UNIQUE_SESSION).then(|| (Arc::clone(&run.project), Arc::clone(&run.agent)));
    (Arc::clone(session), agent)
}

fn add_to(sums: &mut Contribution, more: &Contribution) {
    for (key, cell) in more {
        match sums.get_mut(key) {
            Some(sum) => sum.add(cell, 1),
            None => drop(sums.insert(key.clone(), cell.clone())),
        }
    }
}

/// When a running run ends if nothing more is reported of it.
fn due(run: &Run, timeout: Duration) -> Time {
    run.last_at.plus(if run.is_rooted { timeout } else { INFERRED_END })
}

fn new_run(run: Run, root: Option<RunPart>) -> OpenRun {
    let (rested, counted) = (Vec::new(), Contribution::new());
    OpenRun {
        run,
        root,
        rested,
        counted,
        has_deadline: false,
        has_children: false,
        end_reported: false,
        begin_reported: false,
    }
}

impl OpenRun {
    /// Whether an agent did anything in it: other programs export spans too.
    fn is_of_agent(&self) -> bool {
        let totals = &self.run.totals;
        self.run.is_rooted || self.has_children || totals.calls + totals.tools + totals.waited_ms > 0
    }
}

#[cfg(test)]
mod tests;
