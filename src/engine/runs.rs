//! The thread that owns runs and the registry: it decodes spans, links them to runs, and writes both in groups.
//!
//! A sender is answered once the group that its spans are in was committed. What a failed commit did not write is written
//! with the next; until then senders get an error and try again, and what they send again is recognised.

mod counters;
mod handle;
mod outgoing;
mod sampler;
mod settings;
mod summaries;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::handle::EngineHandle;
use super::live::LiveFeed;
use outgoing::Outgoing;

use crate::clock::Clock;
use crate::export::ExportHandle;
use crate::model::run_stats::Contribution;
use crate::model::{RegisteredAgent, Run, RunSource, Span, SpanId, SpanReport, Time, TraceId};
use crate::otlp::wire::ExportTraceServiceRequest;
use crate::profiles::registered::NameFeed;
use crate::profiles::spans::SpanReader;
use crate::runs::registry::{Registration, Registry};
use crate::runs::{RunBook, RunChanges, RunEnd, RunStart, SpanOutcome};
use crate::store::traces::{TraceBatch, TraceStore};
pub use counters::RunCounters;
pub use handle::ReportedRun;
pub use handle::RunsHandle;
use handle::{RunsMessage, RunsReply, WAITING_SPANS};
use sampler::Sampler;
pub use settings::{PriceList, RunsError, RunsSettings};
use summaries::SummaryQueue;

/// Messages that wait.
const QUEUE: usize = 1_024;
/// Spans after which a group is committed although more wait.
const GROUP_SPANS: usize = 10_000;
/// How long a group grows while more arrives.
const GROUP_TIME: Duration = Duration::from_millis(50);
/// How long the thread sleeps at most.
const TICK: Duration = Duration::from_secs(1);
/// How often something is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(10);
/// Bytes of compressed spans that a store that can't be written holds back; beyond it spans are refused.
const MAX_UNWRITTEN: usize = 16 << 20;
/// The same for runs.
const MAX_UNWRITTEN_RUNS: usize = 20_000;
/// Runs that are taken back into memory at the start, so that calls that follow find them.
const RECENT: (Duration, usize) = (Duration::from_secs(600), 1_000);

/// Runs that are being deleted.
struct Deletion {
    before: Time,
    deleted: u64,
    reply: RunsReply<u64>,
}

/// Answers a sender with the outcome of the commit.
type PendingReply = Box<dyn FnOnce(Result<(), RunsError>) + Send>;

/// The thread's state.
struct RunsThread {
    book: RunBook,
    registry: Registry,
    reader: SpanReader,
    store: TraceStore,
    clock: Clock,
    counters: Arc<RunCounters>,
    sampler: Sampler,
    outgoing: Outgoing,
    /// What a failed commit did not write.
    unwritten: Unwritten,
    /// Answered once the group is committed.
    replies: Vec<PendingReply>,
    group_spans: usize,
    prune_at: Time,
    deletions: VecDeque<Deletion>,
    summaries: SummaryQueue,
    live: LiveFeed,
    /// Names of registered agents, for the counting of telemetry.
    names: NameFeed,
}

#[derive(Default)]
struct Unwritten {
    runs: BTreeMap<TraceId, Run>,
    removed: Vec<TraceId>,
    discarded: Vec<TraceId>,
    stats: Contribution,
}

impl Unwritten {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.removed.is_empty() && self.stats.is_empty()
    }
}

/// Opens the store and starts the thread; `watch` is held for as long as it runs.
pub fn start(
    mut store: TraceStore,
    settings: &RunsSettings,
    exports: ExportHandle,
    clock: Clock,
    engine: Option<EngineHandle>,
    live: LiveFeed,
    watch: impl Send + 'static,
) -> anyhow::Result<RunsHandle> {
    store.set_limits(settings.limits);
    let (queue, inbox) = mpsc::sync_channel(QUEUE);
    let counters = Arc::<RunCounters>::default();
    counters.samples.store(settings.sample < 1.0, Relaxed);
    let readers = store.readers();
    let prices = Arc::new(Mutex::new(Arc::new(settings.otlp.prices.clone())));
    let now = clock.wall();
    let names = NameFeed::default();
    let mut thread = RunsThread {
        book: RunBook::new(settings.timeout),
        registry: Registry::restore(store.agents()?),
        reader: SpanReader::new(&settings.otlp, settings.capture),
        store,
        clock,
        counters: Arc::clone(&counters),
        sampler: Sampler::new(settings.sample),
        outgoing: Outgoing::new(exports.clone()),
        unwritten: Unwritten::default(),
        replies: Vec::new(),
        group_spans: 0,
        prune_at: now,
        deletions: VecDeque::new(),
        summaries: SummaryQueue::new(engine),
        live,
        names: names.clone(),
    };
    let all: Vec<RegisteredAgent> = thread.registry.agents().cloned().collect();
    thread.publish(&all);
    for id in thread.store.unfinished(now.minus(RECENT.0), RECENT.1)? {
        thread.bring_back(now, id);
    }
    let work = move || {
        let _watch = watch;
        thread.run(&inbox);
    };
    std::thread::Builder::new().name("runs".to_owned()).spawn(work)?;
    Ok(RunsHandle {
        queue,
        room: Arc::new(Semaphore::new(WAITING_SPANS)),
        readers,
        counters,
        exports,
        prices,
        archive: None,
        names,
    })
}

impl RunsThread {
    fn run(&mut self, inbox: &mpsc::Receiver<RunsMessage>) {
        loop {
            let now = self.clock.wall();
            let next = self.book.next_deadline().map_or(TICK, |at| at.since(now)).min(TICK);
            let due = if self.deletions.is_empty() { next } else { Duration::ZERO };
            let first = match inbox.recv_timeout(due) {
                Ok(message) => Some(message),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let began = self.clock.wall();
            let mut next = first;
            let mut close = None;
            while let Some(message) = next {
                if let RunsMessage::Close(reply) = message {
                    close = Some(reply);
                    break;
                }
                self.handle(message);
                let is_full = self.group_spans >= GROUP_SPANS || self.clock.wall().since(began) >= GROUP_TIME;
                next = if is_full { None } else { inbox.try_recv().ok() };
            }
            self.commit(began);
            if let Some(reply) = close {
                drop(self.store.checkpoint("TRUNCATE"));
                // The caller may have given up.
                reply.send(()).ok();
                return;
            }
            self.housekeep();
            self.delete_some();
        }
        self.commit(self.clock.wall());
    }

    /// Goes on with the first deletion, a step at a time, so that senders never wait for many.
    fn delete_some(&mut self) {
        let Some(mut deletion) = self.deletions.pop_front() else { return };
        match self.store.delete_before(deletion.before) {
            Ok((deleted, has_more)) => {
                deletion.deleted += deleted;
                if has_more {
                    self.deletions.push_front(deletion);
                } else {
                    deletion.reply.send(Ok(deletion.deleted)).ok();
                }
            }
            Err(error) => drop(deletion.reply.send(Err(error.into()))),
        }
    }

    fn handle(&mut self, message: RunsMessage) {
        let now = self.clock.wall();
        match message {
            RunsMessage::Export(request, repeats, room, reply) => {
                let taken = self.export(now, &request);
                drop(room);
                match taken {
                    Ok(new) => {
                        self.outgoing.request(*request, repeats.then_some(&new));
                        self.after_commit(reply, ());
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            RunsMessage::Spans(_, Some(reply)) if self.is_blocked() => drop(reply.send(Err(RunsError::Busy))),
            RunsMessage::Spans(_, None) | RunsMessage::Begin(_) if self.is_blocked() => {
                self.counters.busy.fetch_add(1, Relaxed);
            }
            RunsMessage::Start(_, _, reply) | RunsMessage::Report(_, reply) if self.is_blocked() => {
                drop(reply.send(Err(RunsError::Busy)));
            }
            RunsMessage::Spans(spans, reply) => {
                self.take_spans(now, spans);
                if let Some(reply) = reply {
                    self.after_commit(reply, ());
                }
            }
            RunsMessage::Report(report, reply) => {
                let ReportedRun { start, spans, end } = *report;
                let id = start.id;
                // Of a run that sampling left out, what is reported again must not count again.
                if self.book.resolve(id).is_none() && !self.bring_back(now, id) {
                    self.counters.sampled_out.fetch_add(spans.len() as u64, Relaxed);
                    let stored = self.store.load(id).map(|stored| stored.runs.into_iter().find(|run| run.id == id));
                    return match stored {
                        Ok(Some(run)) => self.after_commit(reply, run),
                        Ok(None) => drop(reply.send(Err(RunsError::UnknownRun(id)))),
                        Err(error) => drop(reply.send(Err(error.into()))),
                    };
                }
                let mut run = self.begin(now, start);
                self.take_spans(now, spans);
                if let Some(ended) = end.and_then(|end| self.finish(now, id, end)) {
                    run = ended;
                }
                self.after_commit(reply, run);
            }
            RunsMessage::Join(run, others) => {
                for other in others {
                    for known in [run, other] {
                        if self.book.resolve(known).is_none() {
                            self.bring_back(now, known);
                        }
                    }
                    self.book.join(now, run, other);
                }
            }
            RunsMessage::Start(agent, start, reply) => match self.registry.find(&agent).cloned() {
                Some(agent) => {
                    let started = self.begin(now, start(&agent));
                    self.after_commit(reply, started);
                }
                None => drop(reply.send(Err(RunsError::UnknownAgent(agent)))),
            },
            RunsMessage::Begin(start) => drop(self.begin(now, *start)),
            RunsMessage::End(id, end, reply) => match self.finish(now, id, *end) {
                Some(run) => self.after_commit(reply, run),
                None => drop(reply.send(Err(RunsError::UnknownRun(id)))),
            },
            RunsMessage::Finish(id, end) => drop(self.finish(now, id, *end)),
            RunsMessage::FinishSession(session, end) => {
                if let Some(id) = self.book.running_in_session(&session) {
                    drop(self.finish(now, id, *end));
                }
            }
            RunsMessage::AgentsEnded(agents) => self.book.agents_ended(now, &agents.into_iter().collect()),
            RunsMessage::InProgress(runs) => self.summaries.reconcile(now, &self.store, runs),
            RunsMessage::Alerting(agents) => self.sampler.alerting = agents,
            RunsMessage::Register(registration, reply) => match self.registry.register(now, *registration) {
                Ok((agent, is_new)) => {
                    let answer = (agent.clone(), is_new);
                    self.after_commit(reply, answer);
                }
                Err(error) => drop(reply.send(Err(error.into()))),
            },
            RunsMessage::Saw(agents) => {
                for agent in agents {
                    // A full registry shows in `lookout_registry_agents`.
                    self.registry.saw(now, agent, new_agent_id).ok();
                }
            }
            RunsMessage::Patch(agent, patch, reply) => match self.registry.patch(&agent, patch).cloned() {
                Some(agent) => self.after_commit(reply, agent),
                None => drop(reply.send(Err(RunsError::UnknownAgent(agent)))),
            },
            RunsMessage::Registry(change) => change(&mut self.registry),
            RunsMessage::Configure(settings) => {
                self.reader.configure(&settings.otlp, settings.capture);
                self.book.set_timeout(settings.timeout);
                self.store.set_limits(settings.limits);
                self.sampler.share = settings.sample;
                self.counters.samples.store(settings.sample < 1.0, Relaxed);
            }
            RunsMessage::DeleteBefore(before, reply) => {
                self.deletions.push_back(Deletion { before, deleted: 0, reply });
            }
            RunsMessage::Close(reply) => {
                reply.send(()).ok();
            }
        }
    }

    fn after_commit<T: Send + 'static>(&mut self, reply: RunsReply<T>, value: T) {
        self.replies.push(Box::new(move |outcome| drop(reply.send(outcome.map(|()| value)))));
    }

    /// Takes spans that no export reports.
    fn take_spans(&mut self, now: Time, spans: Vec<SpanReport<'static>>) {
        let mut by_trace: BTreeMap<TraceId, Vec<Span<'_>>> = BTreeMap::new();
        for report in spans {
            if self.add(now, &report) {
                self.outgoing.span(&report.span);
                by_trace.entry(report.span.trace).or_default().push(report.span);
            }
        }
        for (trace, spans) in &by_trace {
            self.store.add_spans(*trace, spans, now);
        }
    }

    /// Takes the spans of a request; returns which of them are new, if it is exported.
    fn export(
        &mut self,
        now: Time,
        request: &ExportTraceServiceRequest,
    ) -> Result<HashSet<(TraceId, SpanId)>, RunsError> {
        if self.is_blocked() {
            return Err(RunsError::Busy);
        }
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let mut reports = Vec::with_capacity(scopes.map(|scope| scope.spans.len()).sum());
        let left_out = self.reader.read(request, |report| reports.push(report));
        self.counters.not_of_agents.fetch_add(left_out, Relaxed);
        // Spans of one trace are stored together.
        let mut by_trace: BTreeMap<TraceId, Vec<&Span<'_>>> = BTreeMap::new();
        let mut new = HashSet::new();
        for report in &reports {
            if self.add(now, report) {
                if self.outgoing.is_on() {
                    new.insert((report.span.trace, report.span.id));
                }
                by_trace.entry(report.span.trace).or_default().push(&report.span);
            }
        }
        for (trace, spans) in by_trace {
            self.store.add_spans(trace, spans, now);
        }
        Ok(new)
    }

    /// Whether so much could not be written that nothing more is taken.
    fn is_blocked(&self) -> bool {
        self.store.pending_bytes() > MAX_UNWRITTEN || self.unwritten.runs.len() > MAX_UNWRITTEN_RUNS
    }

    /// Adds a span to the book; returns whether it is to be stored.
    fn add(&mut self, now: Time, report: &SpanReport<'_>) -> bool {
        self.counters.received.fetch_add(1, Relaxed);
        self.group_spans += 1;
        if !self.book.has_trace(report.span.trace) && !self.bring_back(now, report.span.trace) {
            self.counters.sampled_out.fetch_add(1, Relaxed);
            return false;
        }
        let joined = self.book.joined(report.span.trace);
        for known in [report.caller, report.run, joined].into_iter().flatten() {
            if self.book.resolve(known).is_none() {
                self.bring_back(now, known);
            }
        }
        let (counter, is_new) = match self.book.span(now, report) {
            SpanOutcome::New => (&self.counters.stored, true),
            SpanOutcome::Duplicate => (&self.counters.duplicate, false),
            SpanOutcome::TraceFull => (&self.counters.trace_full, false),
        };
        if is_new && self.book.is_sampled_out(report.span.trace) {
            self.counters.sampled_out.fetch_add(1, Relaxed);
            return false;
        }
        counter.fetch_add(1, Relaxed);
        is_new
    }

    /// Takes what the store has of a run or trace back into memory. Returns `false` for one that can't go on: without its
    /// spans, which sampling deleted, its sums could not be distinguished from what arrives.
    fn bring_back(&mut self, now: Time, id: TraceId) -> bool {
        match self.store.load(id) {
            Ok(stored) if stored.runs.iter().any(|run| run.is_sampled_out) => return false,
            Ok(stored) if !stored.runs.is_empty() => {
                let spans: Vec<_> = stored.spans.into_iter().map(|span| self.reader.stored(span)).collect();
                self.book.restore(now, stored.runs, spans);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(id = %id, %error, "runs can't be read; a late span may make a run of its own"),
        }
        true
    }

    fn begin(&mut self, now: Time, start: RunStart) -> Run {
        let (id, trace, parent) = (start.id, start.trace, start.parent);
        for known in [Some(trace), parent].into_iter().flatten() {
            if self.book.resolve(known).is_none() {
                self.bring_back(now, known);
            }
        }
        for waiting in self.store.awaiting(id).unwrap_or_default() {
            if !self.book.has_run(waiting) {
                self.bring_back(now, waiting);
            }
        }
        if matches!(start.source, RunSource::Api | RunSource::Pipe) {
            self.registry
                .saw(
                    now,
                    Registration {
                        project: Arc::clone(&start.agent.project),
                        name: Arc::clone(&start.agent.agent),
                        agent_type: Arc::clone(&start.agent.agent_type),
                        external_id: None,
                        config: None,
                        monitoring_enabled: None,
                        created_by: Arc::from(start.source.as_str()),
                        new_id: Arc::from(""),
                    },
                    new_agent_id,
                )
                .ok();
        }
        let is_known = start.source == RunSource::Pipe && self.book.owner(trace, start.span).is_some();
        let run = self.book.start(now, &start).clone();
        if !is_known {
            self.store_root(now, id);
        }
        run
    }

    fn finish(&mut self, now: Time, id: TraceId, end: RunEnd) -> Option<Run> {
        if self.book.resolve(id).is_none() {
            self.bring_back(now, id);
        }
        let (run, is_first) = self.book.end(now, id, end)?;
        let run = run.clone();
        if is_first {
            self.store_root(now, run.id);
        }
        if run.id != id {
            self.store_root(now, id);
        }
        Some(run)
    }

    fn store_root(&mut self, now: Time, id: TraceId) {
        if let Some(span) = self.book.root_span(id) {
            self.store.add_spans(span.trace, [&span], now);
        }
    }

    /// Commits the group and answers its senders.
    fn commit(&mut self, began: Time) {
        let now = self.clock.wall();
        let changes = self.book.take_changes(now);
        self.counters.ended.fetch_add(changes.ended.len() as u64, Relaxed);
        self.outgoing.prepare(now, &self.book, &mut self.registry, &changes.ended);
        let lost = self.summaries.report(now, &self.book, &changes, &self.store);
        self.counters.busy.fetch_add(lost, Relaxed);
        let begun_or_ended = self.begun_or_ended(&changes);
        let sampled_out = self.sample_out(&changes.ended);
        self.take(changes);
        if !sampled_out.is_empty() {
            self.unwritten.discarded.extend(sampled_out);
            let changes = self.book.take_changes(now);
            self.take(changes);
        }
        let agents = self.registry.take_changes();
        self.publish(&agents);
        self.counters.agents.store(self.registry.len() as u64, Relaxed);
        let is_empty = self.unwritten.is_empty() && agents.is_empty() && self.store.pending_bytes() == 0;
        let outcome = if is_empty {
            Ok(())
        } else {
            let runs: Vec<Run> = self.unwritten.runs.values().cloned().collect();
            let batch = TraceBatch {
                runs: &runs,
                removed: &self.unwritten.removed,
                stats: Some(&self.unwritten.stats),
                agents: &agents,
            };
            self.store.write(now, &batch)
        };
        // Once they can be read.
        self.live.runs(begun_or_ended.into_iter());
        self.group_spans = 0;
        let (replies, answer) = (std::mem::take(&mut self.replies), outcome.clone());
        self.outgoing.committed(outcome.is_ok(), move || {
            for reply in replies {
                reply(answer.clone().map_err(RunsError::from));
            }
        });
        match &outcome {
            Ok(()) => {
                let discarded = std::mem::take(&mut self.unwritten.discarded);
                self.unwritten = Unwritten::default();
                if !discarded.is_empty()
                    && let Err(error) = self.store.delete_spans(&discarded)
                {
                    tracing::warn!(%error, "spans of no agent could not be deleted; retention removes them");
                }
            }
            Err(_) => self.registry.not_written(&agents),
        }
        if !is_empty {
            let took = self.clock.wall().since(began).as_millis();
            self.counters.last_commit_ms.store(u64::try_from(took).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// The runs that began or ended, if the stream of events is read.
    fn begun_or_ended(&self, changes: &RunChanges) -> Vec<Run> {
        if !self.live.is_on() {
            return Vec::new();
        }
        let ids: HashSet<TraceId> = changes.began.iter().chain(&changes.ended).copied().collect();
        changes.runs.iter().filter(|run| ids.contains(&run.id)).cloned().collect()
    }

    /// Hands the names of agents over to those who read ids of agents in telemetry.
    fn publish(&mut self, agents: &[RegisteredAgent]) {
        let mut news = Vec::new();
        for agent in agents {
            for id in [Some(&agent.id), agent.sharing.former_id.as_ref()].into_iter().flatten() {
                let name = (Arc::clone(id), Arc::clone(&agent.project), Arc::clone(&agent.name));
                if self.reader.add_registered(name.clone()) {
                    news.push(name);
                }
            }
        }
        self.names.publish(news);
    }

    /// Takes changes over, to be written with the next commit.
    fn take(&mut self, changes: RunChanges) {
        for id in &changes.removed {
            self.unwritten.runs.remove(id);
        }
        self.unwritten.removed.extend(changes.removed);
        self.unwritten.discarded.extend(changes.discarded);
        self.unwritten.runs.extend(changes.runs.into_iter().map(|run| (run.id, run)));
        for (key, cell) in changes.stats {
            self.unwritten.stats.entry(key).or_default().add(&cell, 1);
        }
    }

    /// Marks the runs that ended and whose spans are not kept; returns the traces whose spans are to be deleted.
    fn sample_out(&mut self, ended: &[TraceId]) -> Vec<TraceId> {
        let mut traces = Vec::new();
        for id in ended {
            if let Some(run) = self.book.run(*id)
                && !self.sampler.keeps(run)
            {
                traces.extend(self.book.sample_out(*id));
            }
        }
        traces
    }

    /// What waits until nothing else does.
    fn housekeep(&mut self) {
        let now = self.clock.wall();
        let is_due = self.book.next_deadline().is_some_and(|at| at <= now);
        // What is not written yet must stay in memory, or it would be taken for new when it is sent again.
        if (is_due || self.book.is_over_limit()) && self.unwritten.runs.is_empty() && self.store.pending_bytes() == 0 {
            let rested = self.book.tick(now);
            self.commit(now);
            if let Err(error) = self.store.seal(&rested) {
                tracing::warn!(%error, "blocks of spans could not be joined; they stay larger than need be");
            }
        }
        if now >= self.prune_at {
            match self.store.prune(now) {
                Ok(true) => {}
                Ok(false) => self.prune_at = now.plus(PRUNE_EVERY),
                Err(error) => {
                    tracing::warn!(%error, "old runs could not be deleted");
                    self.prune_at = now.plus(PRUNE_EVERY);
                }
            }
            self.counters.pruned.store(self.store.pruned_runs(), Relaxed);
        }
    }
}

/// A random UUID (version 4).
pub fn new_agent_id() -> Arc<str> {
    let mut bytes = [0; 16];
    let random = ring::rand::SystemRandom::new();
    // The system's random numbers were used at the start already.
    ring::rand::SecureRandom::fill(&random, &mut bytes).ok();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    Arc::from(parts.join("-"))
}

/// A handle of runs in memory.
#[cfg(test)]
pub(crate) fn in_memory() -> RunsHandle {
    let settings = RunsSettings::new(&Default::default(), &Default::default());
    let clock = Clock::system();
    let store = TraceStore::open(None, settings.limits, clock.wall()).expect("a store in memory");
    start(store, &settings, ExportHandle::default(), clock, None, LiveFeed::default(), ()).expect("a thread")
}
