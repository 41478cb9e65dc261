//! Starts the exports, and what the rest of the program hands telemetry over by.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::counters::{DropReason, ExportCounters};
use super::pace::LanePace;
use super::sender::{Sender, SpoolQueue};
use super::spans::TraceExport;
use super::spooler::{SpoolMessage, SpoolThread};
use super::target::TargetSpec;
use crate::clock::Clock;
use crate::otlp::{OtlpRequest, Signal};
use crate::store::spool::Spool;

/// Messages that wait.
const QUEUE: usize = 1_024;
/// Items that wait to be encoded; more are dropped.
const MAX_QUEUED: usize = 100_000;

/// Hands telemetry over, never waiting. Cheap to clone.
#[derive(Clone, Default)]
pub struct ExportHandle(Option<Arc<ExportQueue>>);

struct ExportQueue {
    queue: mpsc::SyncSender<SpoolMessage>,
    queued: Arc<AtomicUsize>,
    counters: ExportCounters,
    stop: CancellationToken,
}

impl fmt::Debug for ExportHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ExportHandle").field("is_on", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl ExportHandle {
    /// Whether anything takes this signal.
    pub fn takes(&self, signal: Signal) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.counters.lanes.iter().any(|lane| lane.signal == signal))
    }

    /// Hands spans over.
    pub fn traces(&self, export: TraceExport) {
        if let Some(inner) = self.0.as_ref().filter(|_| self.takes(Signal::Traces)) {
            inner.post(Signal::Traces, export.notes.len(), SpoolMessage::Traces(Box::new(export)));
        }
    }

    /// Hands data points or log records over.
    pub fn other(&self, request: OtlpRequest) {
        let signal = match request {
            OtlpRequest::Metrics(_) => Signal::Metrics,
            OtlpRequest::Traces(_) => Signal::Traces,
            OtlpRequest::Logs(_) => Signal::Logs,
        };
        if let Some(inner) = self.0.as_ref().filter(|_| self.takes(signal)) {
            let items = usize::try_from(request.items()).unwrap_or(0);
            inner.post(signal, items, SpoolMessage::Other(Box::new(request)));
        }
    }

    /// Calls `then` once everything that was handed over before is in the spool, or was dropped; at once if nothing is
    /// exported.
    pub fn after_spooled(&self, then: Box<dyn FnOnce() + Send>) {
        let message = SpoolMessage::AfterWritten(then);
        let refused = match &self.0 {
            Some(inner) => inner.queue.try_send(message).err(),
            None => Some(mpsc::TrySendError::Full(message)),
        };
        if let Some(mpsc::TrySendError::Full(SpoolMessage::AfterWritten(then)))
        | Some(mpsc::TrySendError::Disconnected(SpoolMessage::AfterWritten(then))) = refused
        {
            then();
        }
    }

    /// The counters, if anything is exported.
    pub fn counters(&self) -> Option<&ExportCounters> {
        self.0.as_ref().map(|inner| &inner.counters)
    }

    /// Stops sending, writes what is queued to the spool and closes it.
    pub async fn close(&self) {
        let Some(inner) = &self.0 else { return };
        inner.stop.cancel();
        let (reply, done) = oneshot::channel();
        if inner.queue.try_send(SpoolMessage::Close(reply)).is_ok() {
            // The thread may have failed.
            done.await.ok();
        }
    }
}

impl ExportQueue {
    fn post(&self, signal: Signal, items: usize, message: SpoolMessage) {
        let items = items.max(1);
        let is_full = self.queued.fetch_add(items, Relaxed) + items > MAX_QUEUED;
        // Senders need some places as well.
        if is_full || self.queue.try_send(message).is_err() {
            self.queued.fetch_sub(items, Relaxed);
            for lane in self.counters.lanes.iter().filter(|lane| lane.signal == signal) {
                lane.drop_items(DropReason::Busy, items as u64);
            }
        }
    }
}

/// Starts both threads, unless there is no target. `watch` gives a guard for each, held for as long as it runs.
pub fn start<G: Send + 'static>(
    open: impl FnOnce() -> anyhow::Result<Spool>,
    targets: Vec<TargetSpec>,
    clock: Clock,
    watch: impl Fn(&'static str) -> G,
) -> anyhow::Result<ExportHandle> {
    if targets.is_empty() {
        return Ok(ExportHandle::default());
    }
    let spool = open()?;
    let health = spool.health();
    let queued = Arc::<AtomicUsize>::default();
    let (queue, inbox) = mpsc::sync_channel(QUEUE);
    let transports: Vec<_> = targets.iter().map(|target| (target.name, Arc::clone(&target.transport))).collect();
    let thread = SpoolThread::new(spool, targets, Arc::clone(&queued), clock.clone())?;
    let counters = ExportCounters { lanes: thread.counters(), spool: health };
    let guard = watch("export spool");
    let work = move || {
        let _guard = guard;
        thread.run(&inbox);
    };
    std::thread::Builder::new().name("export-spool".to_owned()).spawn(work).context("start the thread of the spool")?;
    let senders: SpoolQueue = {
        let queue = queue.clone();
        // Blocks only the thread of the senders, and only while the spool's is busy.
        Arc::new(move |message| queue.send(message).is_ok())
    };
    let mut tasks = Vec::new();
    for (lane, counters) in counters.lanes.iter().enumerate() {
        let transport = transports.iter().find(|(name, _)| *name == counters.target);
        let Some((_, transport)) = transport else { continue };
        tasks.push(Sender {
            lane,
            counters: Arc::clone(counters),
            transport: Arc::clone(transport),
            spool: Arc::clone(&senders),
            clock: clock.clone(),
            pace: LanePace::default(),
            logged: String::new(),
        });
    }
    let stop = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (guard, stopped) = (watch("export senders"), stop.clone());
    let work = move || {
        let _guard = guard;
        runtime.block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for task in tasks {
                running.spawn(task.run(stopped.clone()));
            }
            // A sender that panics is reported by the guard.
            while let Some(Ok(())) = running.join_next().await {}
        });
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name("export".to_owned()).spawn(work).context("start the thread of exports")?;
    Ok(ExportHandle(Some(Arc::new(ExportQueue { queue, queued, counters, stop }))))
}
