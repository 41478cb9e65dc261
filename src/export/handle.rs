//! Starts the exports and replaces their targets, and what the rest of the program hands telemetry over by.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock, mpsc};

use anyhow::Context as _;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::counters::{DropReason, ExportCounters, LaneCounters};
use super::pace::LanePace;
use super::sender::{Sender, SpoolQueue};
use super::spans::TraceExport;
use super::spooler::{LaneId, SpoolMessage, SpoolThread};
use super::target::{ExportTarget, TargetSpec};
use crate::clock::Clock;
use crate::otlp::{OtlpRequest, Signal};
use crate::store::spool::{Spool, SpoolHealth};

/// Messages that wait.
const QUEUE: usize = 1_024;
/// Lanes whose senders may wait to be started.
const MAX_LANES: usize = 32;
/// Items that wait to be encoded; more are dropped.
const MAX_QUEUED: usize = 100_000;

/// Hands telemetry over, never waiting. Cheap to clone.
#[derive(Clone, Default)]
pub struct ExportHandle(Option<Arc<Exports>>);

/// Makes a guard of a thread by its name, which is held for as long as it runs.
type WatchThread = Box<dyn Fn(&'static str) -> Box<dyn Send> + Send + Sync>;

struct Exports {
    /// The file of the spool; `None` in memory.
    path: Option<PathBuf>,
    clock: Clock,
    watch: WatchThread,
    /// The threads, once something was exported. Locked while targets are replaced.
    threads: Mutex<Option<ExportThreads>>,
    queue: RwLock<Option<Arc<ExportQueue>>>,
}

/// The two threads, and what each lane sends by.
struct ExportThreads {
    queue: mpsc::SyncSender<SpoolMessage>,
    queued: Arc<AtomicUsize>,
    spool: SpoolHealth,
    stop: CancellationToken,
    /// Takes the senders of new lanes.
    senders: tokio::sync::mpsc::Sender<Sender>,
    transports: BTreeMap<LaneId, watch::Sender<Option<Arc<dyn ExportTarget>>>>,
}

/// Takes telemetry for the targets that are configured.
struct ExportQueue {
    queue: mpsc::SyncSender<SpoolMessage>,
    queued: Arc<AtomicUsize>,
    counters: Arc<ExportCounters>,
    stop: CancellationToken,
}

impl fmt::Debug for ExportHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ExportHandle").field("is_on", &self.queue().is_some()).finish_non_exhaustive()
    }
}

impl ExportHandle {
    /// Exports to nothing yet, with the spool in the file at `path`. `watch` gives a guard of each thread, held for as long
    /// as it runs.
    pub fn new<G: Send + 'static>(
        path: Option<PathBuf>,
        clock: Clock,
        watch: impl Fn(&'static str) -> G + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(Exports {
            path,
            clock,
            watch: Box::new(move |name| Box::new(watch(name))),
            threads: Mutex::default(),
            queue: RwLock::default(),
        })))
    }

    /// Replaces the targets. Opens the spool and starts both threads when there first is something to export, or something
    /// waits in the file. Blocks on disk I/O; on an error nothing has changed.
    pub fn configure(&self, targets: Vec<TargetSpec>) -> anyhow::Result<()> {
        let Some(exports) = &self.0 else { return Ok(()) };
        let mut threads =
            exports.threads.lock().map_err(|_| anyhow::anyhow!("an earlier change of exports panicked"))?;
        if threads.is_none() {
            if targets.is_empty() && !exports.path.as_ref().is_some_and(|path| path.exists()) {
                return Ok(());
            }
            *threads = Some(exports.start()?);
        }
        let Some(threads) = threads.as_mut() else { return Ok(()) };
        let counters = threads.configure(targets, &exports.clock)?;
        let ExportThreads { queue, queued, stop, spool, .. } = threads;
        let running = ExportQueue {
            queue: queue.clone(),
            queued: Arc::clone(queued),
            counters: Arc::new(ExportCounters { lanes: counters, spool: spool.clone() }),
            stop: stop.clone(),
        };
        if let Ok(mut current) = exports.queue.write() {
            *current = Some(Arc::new(running));
        }
        Ok(())
    }

    fn queue(&self) -> Option<Arc<ExportQueue>> {
        self.0.as_ref()?.queue.read().ok()?.clone()
    }

    /// Whether anything takes this signal.
    pub fn takes(&self, signal: Signal) -> bool {
        self.queue().is_some_and(|queue| queue.takes(signal))
    }

    /// Hands spans over.
    pub fn traces(&self, export: TraceExport) {
        if let Some(queue) = self.queue().filter(|queue| queue.takes(Signal::Traces)) {
            queue.post(Signal::Traces, export.notes.len(), SpoolMessage::Traces(Box::new(export)));
        }
    }

    /// Hands data points or log records over.
    pub fn other(&self, request: OtlpRequest) {
        let signal = match request {
            OtlpRequest::Metrics(_) => Signal::Metrics,
            OtlpRequest::Traces(_) => Signal::Traces,
            OtlpRequest::Logs(_) => Signal::Logs,
        };
        if let Some(queue) = self.queue().filter(|queue| queue.takes(signal)) {
            let items = usize::try_from(request.items()).unwrap_or(0);
            queue.post(signal, items, SpoolMessage::Other(Box::new(request)));
        }
    }

    /// Calls `then` once everything that was handed over before is in the spool, or was dropped; at once if nothing is
    /// exported.
    pub fn after_spooled(&self, then: Box<dyn FnOnce() + Send>) {
        let message = SpoolMessage::AfterWritten(then);
        let refused = match self.queue() {
            Some(inner) => inner.queue.try_send(message).err(),
            None => Some(mpsc::TrySendError::Full(message)),
        };
        if let Some(mpsc::TrySendError::Full(SpoolMessage::AfterWritten(then)))
        | Some(mpsc::TrySendError::Disconnected(SpoolMessage::AfterWritten(then))) = refused
        {
            then();
        }
    }

    /// The counters of what is exported now; `None` if nothing was yet.
    pub fn counters(&self) -> Option<Arc<ExportCounters>> {
        self.queue().map(|queue| Arc::clone(&queue.counters))
    }

    /// Stops sending, writes what is queued to the spool and closes it.
    pub async fn close(&self) {
        let Some(inner) = self.queue() else { return };
        inner.stop.cancel();
        let (reply, done) = oneshot::channel();
        if inner.queue.try_send(SpoolMessage::Close(reply)).is_ok() {
            // The thread may have failed.
            done.await.ok();
        }
    }
}

impl ExportQueue {
    fn takes(&self, signal: Signal) -> bool {
        self.counters.lanes.iter().any(|lane| lane.signal == signal)
    }

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

impl Exports {
    /// Opens the spool and starts both threads, without a target.
    fn start(&self) -> anyhow::Result<ExportThreads> {
        let spool = Spool::open(self.path.as_deref(), self.clock.wall()).context("open the export spool")?;
        let health = spool.health();
        let queued = Arc::<AtomicUsize>::default();
        let (queue, inbox) = mpsc::sync_channel(QUEUE);
        let thread = SpoolThread::new(spool, Arc::clone(&queued), self.clock.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = (self.watch)("export spool");
        let work = move || {
            let _guard = guard;
            thread.run(&inbox);
        };
        let named = std::thread::Builder::new().name("export-spool".to_owned());
        named.spawn(work).context("start the thread of the spool")?;
        let stop = CancellationToken::new();
        let (senders, new) = tokio::sync::mpsc::channel(MAX_LANES);
        let (guard, stopped) = ((self.watch)("export senders"), stop.clone());
        let work = move || {
            let _guard = guard;
            runtime.block_on(run_senders(new, stopped));
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("export".to_owned()).spawn(work).context("start the thread of exports")?;
        Ok(ExportThreads { queue, queued, spool: health, stop, senders, transports: BTreeMap::new() })
    }
}

impl ExportThreads {
    /// Hands the targets to both threads; returns the counters of their lanes.
    fn configure(&mut self, targets: Vec<TargetSpec>, clock: &Clock) -> anyhow::Result<Vec<Arc<LaneCounters>>> {
        let by_name: Vec<_> = targets.iter().map(|target| (target.name, Arc::clone(&target.transport))).collect();
        let (reply, answer) = oneshot::channel();
        let is_sent = self.queue.send(SpoolMessage::Configure(targets, reply)).is_ok();
        let lanes = answer.blocking_recv().ok().filter(|_| is_sent).context("the thread of the spool has ended")?;
        for (lane, transport) in &self.transports {
            if !lanes.iter().any(|(id, _)| id == lane) {
                transport.send_replace(None);
            }
        }
        for (lane, counters) in &lanes {
            let transport = by_name.iter().find(|(name, _)| *name == counters.target).map(|(_, it)| Arc::clone(it));
            if let Some(current) = self.transports.get(lane) {
                current.send_replace(transport);
                continue;
            }
            let (current, transport) = watch::channel(transport);
            let queue = self.queue.clone();
            // Blocks only the thread of the senders, and only while the spool's is busy.
            let spool: SpoolQueue = Arc::new(move |message| queue.send(message).is_ok());
            let sender = Sender {
                lane: *lane,
                counters: Arc::clone(counters),
                transport,
                spool,
                clock: clock.clone(),
                pace: LanePace::default(),
                logged: String::new(),
                limit: None,
                rest: None,
            };
            self.senders.blocking_send(sender).ok().context("the thread of exports has ended")?;
            self.transports.insert(*lane, current);
        }
        Ok(lanes.into_iter().map(|(_, counters)| counters).collect())
    }
}

/// Runs senders, also those that come later, until `stop`; a panic of one, which the guard of the thread reports, ends all.
async fn run_senders(mut new: tokio::sync::mpsc::Receiver<Sender>, stop: CancellationToken) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(sender) = new.recv() => drop(running.spawn(sender.run(stop.clone()))),
            Some(ended) = running.join_next() => if ended.is_err() { return },
        }
    }
    while let Some(Ok(())) = running.join_next().await {}
}
