//! What the rest of the program sends to the thread of runs.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::super::archive::RunArchive;
use super::counters::RunCounters;
use super::settings::{PriceList, RunsError, RunsSettings};
use crate::export::ExportHandle;
use crate::model::{RegisteredAgent, Run, SpanReport, Time, TraceId};
use crate::otlp::wire::ExportTraceServiceRequest;
use crate::profiles::registered::NameFeed;
use crate::runs::registry::{Registration, Registry, RegistryPatch};
use crate::runs::turns::TurnChange;
use crate::runs::{RunEnd, RunStart};
use crate::store::traces::TraceReaders;

/// Spans that wait; more are refused.
pub(super) const WAITING_SPANS: usize = 100_000;

pub(super) type RunsReply<T> = oneshot::Sender<Result<T, RunsError>>;

/// A report of a run as a whole, perhaps one of several: what is known of it already changes nothing.
#[derive(Clone, Debug)]
pub struct ReportedRun {
    /// Its beginning.
    pub start: RunStart,
    /// Spans beneath its topmost one.
    pub spans: Vec<SpanReport<'static>>,
    /// Its end, if it has ended.
    pub end: Option<RunEnd>,
}

/// A message to the thread.
pub(super) enum RunsMessage {
    /// With whether it repeats calls that spans may report as well.
    Export(Box<ExportTraceServiceRequest>, bool, OwnedSemaphorePermit, RunsReply<()>),
    Spans(Vec<SpanReport<'static>>, Option<RunsReply<()>>),
    Join(TraceId, Vec<TraceId>),
    Report(Box<ReportedRun>, RunsReply<Run>),
    Start(String, Box<dyn FnOnce(&RegisteredAgent) -> RunStart + Send>, RunsReply<Run>),
    Begin(Box<RunStart>),
    End(TraceId, Box<RunEnd>, RunsReply<Run>),
    Finish(TraceId, Box<RunEnd>),
    FinishSession(Arc<str>, Box<RunEnd>),
    AgentsEnded(Vec<(Arc<str>, Arc<str>)>),
    InProgress(Vec<(Arc<str>, Arc<str>, TraceId)>),
    Alerting(HashSet<(Arc<str>, Arc<str>)>),
    Register(Box<Registration>, RunsReply<(RegisteredAgent, bool)>),
    Saw(Vec<Registration>),
    Patch(String, RegistryPatch, RunsReply<RegisteredAgent>),
    Registry(Box<dyn FnOnce(&mut Registry) + Send>),
    Configure(Box<RunsSettings>),
    DeleteBefore(Time, RunsReply<u64>),
    Close(oneshot::Sender<()>),
}

/// Sends to the thread. Cheap to clone.
#[derive(Clone)]
pub struct RunsHandle {
    pub(super) queue: mpsc::SyncSender<RunsMessage>,
    pub(super) room: Arc<Semaphore>,
    pub(super) readers: TraceReaders,
    pub(super) counters: Arc<RunCounters>,
    pub(super) exports: ExportHandle,
    pub(super) prices: Arc<Mutex<PriceList>>,
    pub(super) archive: Option<Arc<RunArchive>>,
    pub(super) names: NameFeed,
}

impl std::fmt::Debug for RunsHandle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RunsHandle").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl RunsHandle {
    fn send(&self, message: RunsMessage) -> Result<(), RunsError> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => RunsError::Busy,
            mpsc::TrySendError::Disconnected(_) => RunsError::Stopped,
        })
    }

    /// Sends what no one waits for. When too much waits it is dropped and counted.
    fn post(&self, message: RunsMessage) {
        if let Err(RunsError::Busy) = self.send(message) {
            self.counters.busy.fetch_add(1, Relaxed);
        }
    }

    async fn ask<T>(&self, message: impl FnOnce(RunsReply<T>) -> RunsMessage) -> Result<T, RunsError> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply))?;
        answer.await.unwrap_or(Err(RunsError::Stopped))
    }

    /// Queues an export of spans. The receiver resolves once they are committed.
    pub fn export(
        &self,
        request: ExportTraceServiceRequest,
    ) -> Result<oneshot::Receiver<Result<(), RunsError>>, RunsError> {
        self.queue_export(request, false)
    }

    /// The same for calls that a proxy reports apart from its spans; those that spans reported are not exported again.
    pub fn export_calls(
        &self,
        calls: ExportTraceServiceRequest,
    ) -> Result<oneshot::Receiver<Result<(), RunsError>>, RunsError> {
        self.queue_export(calls, true)
    }

    fn queue_export(
        &self,
        request: ExportTraceServiceRequest,
        repeats: bool,
    ) -> Result<oneshot::Receiver<Result<(), RunsError>>, RunsError> {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans = scopes.map(|scope| scope.spans.len()).sum::<usize>();
        let permits = u32::try_from(spans.clamp(1, WAITING_SPANS)).unwrap_or(1);
        let room = Arc::clone(&self.room).try_acquire_many_owned(permits).map_err(|_| RunsError::Busy)?;
        let (reply, answer) = oneshot::channel();
        self.send(RunsMessage::Export(Box::new(request), repeats, room, reply))?;
        Ok(answer)
    }

    /// Queues spans of hooks, polls and the like without waiting; they are dropped when too much waits.
    pub fn spans(&self, spans: Vec<SpanReport<'static>>) {
        self.post(RunsMessage::Spans(spans, None));
    }

    /// Adds spans that a poll found; resolves once they are committed. Spans that were added before count once.
    pub async fn report(&self, spans: Vec<SpanReport<'static>>) -> Result<(), RunsError> {
        self.ask(|reply| RunsMessage::Spans(spans, Some(reply))).await
    }

    /// Makes what is reported of the runs `others` part of `run`: they are the same execution.
    pub fn join(&self, run: TraceId, others: Vec<TraceId>) {
        if !others.is_empty() {
            self.post(RunsMessage::Join(run, others));
        }
    }

    /// Begins a run of a registered agent, given by id or by `project/name`.
    pub async fn start(
        &self,
        agent: &str,
        start: impl FnOnce(&RegisteredAgent) -> RunStart + Send + 'static,
    ) -> Result<Run, RunsError> {
        let agent = agent.to_owned();
        self.ask(|reply| RunsMessage::Start(agent, Box::new(start), reply)).await
    }

    /// Takes a report of a run; resolves once it is committed, with the run that it is of.
    pub async fn report_run(&self, report: ReportedRun) -> Result<Run, RunsError> {
        self.ask(|reply| RunsMessage::Report(Box::new(report), reply)).await
    }

    /// Begins a run that a hook or a poll reports, without waiting.
    pub fn begin(&self, start: RunStart) {
        self.post(RunsMessage::Begin(Box::new(start)));
    }

    /// Ends a run, given by its id or by its trace.
    pub async fn end(&self, id: TraceId, end: RunEnd) -> Result<Run, RunsError> {
        self.ask(|reply| RunsMessage::End(id, Box::new(end), reply)).await
    }

    /// Ends a run that a hook or a poll reports, without waiting.
    pub fn finish(&self, id: TraceId, end: RunEnd) {
        self.post(RunsMessage::Finish(id, Box::new(end)));
    }

    /// Takes what a hook does to runs, without waiting.
    pub fn turn(&self, change: TurnChange) {
        match change {
            TurnChange::Begin(start) => self.begin(*start),
            TurnChange::Part(part) => self.spans(vec![*part]),
            TurnChange::End(run, end) => self.finish(run, end),
            TurnChange::EndOfSession(session, end) => {
                self.post(RunsMessage::FinishSession(session, Box::new(end)));
            }
        }
    }

    /// Agents (project, name) ended; their running runs are abandoned.
    pub fn agents_ended(&self, agents: Vec<(Arc<str>, Arc<str>)>) {
        if !agents.is_empty() {
            self.post(RunsMessage::AgentsEnded(agents));
        }
    }

    /// The runs (project, agent, run) that were in progress before a restart; those that are not are reported.
    pub fn in_progress(&self, runs: Vec<(Arc<str>, Arc<str>, TraceId)>) {
        if !runs.is_empty() {
            self.post(RunsMessage::InProgress(runs));
        }
    }

    /// The agents (project, name) with a firing alert; their runs keep their spans.
    pub fn alerting(&self, agents: HashSet<(Arc<str>, Arc<str>)>) {
        self.post(RunsMessage::Alerting(agents));
    }

    /// Registers an agent; returns it and whether it is new.
    pub async fn register(&self, registration: Registration) -> Result<(RegisteredAgent, bool), RunsError> {
        self.ask(|reply| RunsMessage::Register(Box::new(registration), reply)).await
    }

    /// Agents were seen at work; each new one gets an id.
    pub fn saw(&self, agents: Vec<Registration>) {
        if !agents.is_empty() {
            self.post(RunsMessage::Saw(agents));
        }
    }

    /// Changes an agent.
    pub async fn patch(&self, agent: &str, patch: RegistryPatch) -> Result<RegisteredAgent, RunsError> {
        let agent = agent.to_owned();
        self.ask(|reply| RunsMessage::Patch(agent, patch, reply)).await
    }

    /// What `read` finds in the registry.
    pub async fn registry<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Registry) -> T + Send + 'static,
    ) -> Result<T, RunsError> {
        self.change_registry(|registry| read(registry)).await
    }

    /// Changes the registry.
    pub async fn change_registry<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Registry) -> T + Send + 'static,
    ) -> Result<T, RunsError> {
        let (reply, answer) = oneshot::channel();
        self.send(RunsMessage::Registry(Box::new(move |registry| drop(reply.send(change(registry))))))?;
        answer.await.map_err(|_| RunsError::Stopped)
    }

    /// Replaces the settings.
    pub fn configure(&self, settings: RunsSettings) {
        if let Ok(mut prices) = self.prices.lock() {
            *prices = Arc::new(settings.otlp.prices.clone());
        }
        if let Some(archive) = &self.archive {
            archive.configure(&settings.otlp, settings.capture);
        }
        self.post(RunsMessage::Configure(Box::new(settings)));
    }

    /// The prices of models in the configuration.
    pub fn prices(&self) -> PriceList {
        self.prices.lock().map(|prices| Arc::clone(&prices)).unwrap_or_default()
    }

    /// Deletes runs that began before a time; returns how many.
    pub async fn delete_before(&self, before: Time) -> Result<u64, RunsError> {
        self.ask(|reply| RunsMessage::DeleteBefore(before, reply)).await
    }

    /// Commits what is queued and closes the file.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(RunsMessage::Close(reply)).is_ok() {
            drop(answer.await);
        }
    }

    /// Names of registered agents by id, for one reader.
    pub fn names(&self) -> NameFeed {
        self.names.clone()
    }

    /// What opens readers of the store.
    pub const fn readers(&self) -> &TraceReaders {
        &self.readers
    }

    /// With another place that runs are read from.
    pub fn with_archive(self, archive: Option<RunArchive>) -> Self {
        if let Some(archive) = &archive {
            archive.set_registered(self.names());
        }
        Self { archive: archive.map(Arc::new), ..self }
    }

    /// Where runs are read from, if that is not the store.
    pub fn archive(&self) -> Option<Arc<RunArchive>> {
        self.archive.clone()
    }

    /// What telemetry is handed over by to other systems.
    pub const fn exports(&self) -> &ExportHandle {
        &self.exports
    }

    /// Counters of what arrived and was stored.
    pub fn counters(&self) -> &RunCounters {
        &self.counters
    }
}
