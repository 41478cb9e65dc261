//! Starts the sidecar, connects its tasks, and shuts it down.

mod heartbeat;
mod keys;
mod otlp;
mod pollers;
mod reload;
mod signals;
mod streams;
mod supervisor;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, ConfigError, ConfigSource, Prepared};
use crate::engine::archive::{ArchivedTable, RunArchive};
use crate::engine::live::LiveFeed;
use crate::engine::runs::{RunsHandle, RunsSettings};
use crate::engine::sharing::SharingTask;
use crate::engine::{self, AlertFilter, AlertView, Engine, EngineHandle, EngineParts, telemetry};
use crate::export::ExportHandle;
use crate::metrics::SidecarMetrics;
use crate::model::{Fingerprint, TimelineEntry};
use crate::notify::Receiver;
use crate::rules::compile::{RuleSet, RuleSettings};
use crate::runs::config::RunsReadFrom;
use crate::server::listener::Certificate;
use crate::server::{self, AccessRules, AccessState, BodyReader, BoundListener, FlowServers, ServerContext, Surface};
use crate::store::traces::TraceStore;
use crate::store::{ClosedFilter, HistoryEntry, HistoryHandle, Recorder, Store};
use heartbeat::HeartbeatTask;
use otlp::OtlpThread;
use pollers::Pollers;
use reload::Reloader;
use signals::SignalRequest;
pub use signals::Signals;
use streams::StreamThread;
use supervisor::Supervisor;

/// Maximum duration of a shutdown; service managers kill processes that take longer.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of it for running requests.
const REQUEST_GRACE: Duration = Duration::from_secs(3);
/// The part of it for closing the store after the last notification.
const STORE_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The part of it that is left as a margin.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);
/// How long `/-/healthy` reports a failed task before the process exits.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// Changes of status of an agent that are read: a day of most agents has fewer.
const MAX_STATUSES: usize = 500;
/// How long a query of history waits for queued writes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Modifies a loaded configuration.
pub type Adjust = Arc<dyn Fn(&mut Config) + Send + Sync>;
/// Sets the log level.
pub type SetLogLevel = Box<dyn Fn(&str) -> anyhow::Result<()> + Send + Sync>;

/// Options of a command in addition to the configuration.
#[derive(Default)]
pub struct RunOptions {
    /// Whether to print notifications as well.
    pub console: bool,
    /// Additional rule files as (name, text), which override those of the configuration.
    pub rules: Vec<(String, String)>,
    /// Path of the recording, instead of `record.path`.
    pub record: Option<PathBuf>,
    /// Modifies the configuration, at startup and on each reload.
    pub adjust: Option<Adjust>,
    /// Applies a changed `log.level`.
    pub set_log_level: Option<SetLogLevel>,
    /// Called with the address of the main listener once it serves.
    pub started: Option<Box<dyn FnOnce(SocketAddr) -> anyhow::Result<()> + Send>>,
}

impl std::fmt::Debug for RunOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("RunOptions").field("console", &self.console).finish_non_exhaustive()
    }
}

/// Runs the sidecar until a signal stops it or a task fails. A reload loads `source` again.
pub async fn serve(
    config: Config,
    source: ConfigSource,
    options: RunOptions,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let Some(running) = signals.unless_stopped(RunningSidecar::start(config, source, options)).await else {
        return Ok(());
    };
    let running = running?;
    let ended = running.wait(&mut signals).await;
    running.stop(ended).await
}

/// Loads everything that the configuration names. `check`, startup and reload all use it, so they report the same problems.
pub fn try_config(config: Config) -> Result<Prepared, ConfigError> {
    let prepared = config.prepare()?;
    AccessRules::unkept(&prepared.config, prepared.config.listen.0)?;
    Ok(prepared)
}

/// Applies `adjust`, then [`try_config`].
fn prepare(mut config: Config, adjust: &Adjust) -> Result<Prepared, ConfigError> {
    adjust(&mut config);
    try_config(config)
}

/// Handles SIGXFSZ, so that a write beyond the limit on file size fails like on a full disk instead of killing the process.
fn handle_file_size_limit() -> std::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

/// A running sidecar.
struct RunningSidecar {
    address: SocketAddr,
    supervisor: Supervisor,
    reloader: Arc<Reloader>,
    otlp: OtlpThread,
    streams: StreamThread,
    serving: JoinHandle<()>,
    engine: JoinHandle<()>,
    stop: CancellationToken,
    stop_engine: oneshot::Sender<Duration>,
}

impl RunningSidecar {
    async fn start(config: Config, source: ConfigSource, options: RunOptions) -> anyhow::Result<Self> {
        let clock = Clock::system();
        handle_file_size_limit().context("install the handler of SIGXFSZ")?;
        let supervisor = Supervisor::default();
        let adjust = options.adjust.clone().unwrap_or_else(|| Arc::new(|_| ()));
        let first = Arc::clone(&adjust);
        let prepared = tokio::task::spawn_blocking(move || prepare(config, &first)).await??;
        let bound = BoundListener::bind(prepared.config.listen.0, "listen").await?;
        let address = bound.address();
        let certificate = prepared.certificate.clone().map(|key| Arc::new(Certificate::new(key)));
        let tls = certificate.as_ref().map(|shown| server::listener::acceptor(shown, Surface::Main)).transpose()?;
        let (config, settings) = engine_settings(prepared, options.console, &options.rules)?;
        let access_state = AccessState::new(&config, clock.clone());
        let access = AccessRules::new(&config, address, &access_state)?;
        let (agent_rules_now, agent_rules) = watch::channel(config.otlp.agents.clone().into());
        let (access_now, access) = watch::channel(Arc::new(access));
        let flows = config.flows.clone();
        let flows = tokio::task::spawn_blocking(move || FlowServers::new(&flows)).await?;
        let (flows_now, flows) = watch::channel(Arc::new(flows.context("flows")?));
        let mut listener_access = vec![(address, access_now)];
        let listeners = otlp::listen(&config, certificate.as_ref(), &access_state, &mut listener_access).await?;
        let (store_config, store_clock) = (config.store.clone(), clock.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&store_config, &store_clock)).await?;
        let (store, restored, mut saved) = opened.context("open the store")?;
        for damaged in restored.damaged.iter().chain(&saved.damaged) {
            tracing::error!(moved_to = %damaged.display(), "store file was damaged and moved aside; starting with an empty one");
        }
        let (handle, queues) = EngineHandle::new(engine::BULK_QUEUE, engine::CONTROL_QUEUE, engine::HOOK_QUEUE);
        let exports = open_exports(&config, &clock, &supervisor).await?;
        let live = LiveFeed::default();
        let runs = open_runs(&config, exports, (handle.clone(), live.clone()), &clock, &supervisor).await?;
        let counting = std::mem::take(&mut saved.counting);
        let mut profiles = otlp::restore_profiles(counting, &config, &clock, &store.history).await;
        profiles.set_registered(runs.names());
        let own = Arc::new(SidecarMetrics::new());
        own.reloaded(clock.wall(), true);
        let history = store.history.clone();
        let (monitoring, polls_on) = watch::channel(true);
        let recorder = recorder(options.record.as_ref().or(config.record.path.as_ref()), &config, &clock)?;
        let (engine_own, engine_store) = (Arc::clone(&own), store.clone());
        let parts = EngineParts {
            clock: clock.clone(),
            settings,
            own: engine_own,
            store: engine_store,
            restored,
            saved,
            monitoring,
            recorder,
            runs: runs.clone(),
            live: live.clone(),
        };
        let (engine, reports) = Engine::new(parts);
        watch_threads(&supervisor, &store, engine.broken());
        let stop_orders = engine.stop_orders();
        let (stop_engine, engine_stop) = oneshot::channel();
        let guard = supervisor.watch("engine");
        let engine = tokio::spawn(async move {
            let _guard = guard;
            engine.run(queues, reports, engine_stop).await;
        });

        let (otlp, inbox) = telemetry::TelemetryHandle::new();
        let stop = CancellationToken::new();
        let pollers = Pollers::new(handle.clone(), runs.clone(), clock.clone(), polls_on, supervisor.clone());
        pollers.replace(&config).await?;
        let heartbeat = HeartbeatTask::new(handle.clone(), supervisor.clone());
        heartbeat.replace(&config).await;
        let (current_now, current) = tokio::sync::watch::channel(Arc::new(config.clone()));
        let reloader = Arc::new(Reloader {
            source,
            console: options.console,
            rules: options.rules,
            adjust,
            set_log_level: options.set_log_level,
            started_with: config.clone(),
            handle: handle.clone(),
            store,
            own: Arc::clone(&own),
            clock: clock.clone(),
            access: listener_access,
            access_state,
            certificate,
            agent_rules: agent_rules_now,
            flows: flows_now,
            otlp: otlp.clone(),
            runs: runs.clone(),
            pollers,
            heartbeat,
            current: current_now,
            turn: Mutex::new(()),
        });
        let reload = {
            let reloader = Arc::clone(&reloader);
            move || -> server::BoxedFuture<server::ReloadResult> {
                let reloader = Arc::clone(&reloader);
                // In a task of its own, so that a disconnecting client does not cancel the reload halfway.
                Box::pin(async move {
                    let reloaded = tokio::spawn(async move { reloader.reload().await }).await;
                    reloaded.unwrap_or_else(|error| Err(format!("reload aborted: {error}")))
                })
            }
        };
        if let Some(mysql) = config.registry.mysql.clone() {
            let task = SharingTask::new(mysql, runs.clone(), handle.clone(), Arc::clone(&own), clock.clone());
            let (guard, stop) = (supervisor.watch("shared registry"), stop.clone());
            tokio::spawn(async move {
                let _guard = guard;
                task.run(stop).await;
            });
        }
        let (connections, most_streams) = server::Connections::new(config.limits.connections, config.limits.streams);
        let statuses: server::StatusReader = {
            let (history, clock) = (history.clone(), clock.clone());
            Arc::new(move |project, name| Box::pin(statuses(history.clone(), clock.clone(), project, name)))
        };
        let for_streams = (handle.clone(), live, Arc::clone(&statuses));
        let (streams, hub) =
            StreamThread::start(most_streams, for_streams, Arc::clone(&own), &clock, &stop, &supervisor)?;
        let context = ServerContext {
            engine: handle,
            stop_orders,
            agent_rules,
            flows,
            own,
            access,
            limits: config.limits.clone(),
            bodies: BodyReader::new(&config.limits),
            otlp,
            runs,
            streams: hub,
            configuration: {
                let config = current.clone();
                Arc::new(move || config.borrow().print())
            },
            test_receiver: Arc::new(move |name| Box::pin(test_receiver(current.clone(), name))),
            connections: Arc::new(connections),
            history: {
                let (history, clock) = (history.clone(), clock.clone());
                Arc::new(move |filter| Box::pin(closed_alerts(history.clone(), clock.clone(), filter)))
            },
            statuses,
            timeline: Arc::new(move |fingerprint| Box::pin(timeline(history.clone(), fingerprint))),
            clock: clock.clone(),
            reload: Arc::new(reload),
            failed: {
                let supervisor = supervisor.clone();
                Arc::new(move || supervisor.failed())
            },
        };
        let otlp = OtlpThread::start((listeners, inbox), profiles, &config, clock, &context, &stop, &supervisor)?;
        let guard = supervisor.watch("main listener");
        let serving = server::serve(bound, tls, Surface::Main, context, stop.clone(), REQUEST_GRACE);
        let serving = tokio::spawn(async move {
            let _guard = guard;
            serving.await;
        });
        tracing::info!(
            address = %address,
            version = env!("CARGO_PKG_VERSION"),
            sources = config.sources.len(),
            receivers = config.receivers.len(),
            "listening"
        );
        if let Some(started) = options.started {
            started(address)?;
        }
        Ok(Self { address, supervisor, reloader, otlp, streams, serving, engine, stop, stop_engine })
    }

    /// Handles signals until one of them stops the program. A failed task is an error.
    async fn wait(&self, signals: &mut Signals) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    SignalRequest::Stop => return Ok(()),
                    SignalRequest::Reload => {
                        let reloader = Arc::clone(&self.reloader);
                        // Not awaited, since a hanging reload must not prevent a shutdown.
                        tokio::spawn(async move { drop(reloader.reload().await) });
                    }
                },
                task = self.supervisor.failure() => {
                    // Gives probes of /-/healthy time to see the failure, unless a signal stops the program.
                    drop(tokio::time::timeout(FAILURE_GRACE, signals.unless_stopped(std::future::pending::<()>())).await);
                    anyhow::bail!("task failed: {task}");
                }
            }
        }
    }

    /// Stops all tasks within [`SHUTDOWN_TIMEOUT`], ingestion first, and returns `ended`.
    async fn stop(self, ended: anyhow::Result<()>) -> anyhow::Result<()> {
        tracing::info!(address = %self.address, "shutting down");
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT - SHUTDOWN_MARGIN;
        let _deadline = exit_after(SHUTDOWN_TIMEOUT);
        self.supervisor.stopping();
        self.stop.cancel();
        let mut hung = Vec::new();
        let grace = Instant::now() + REQUEST_GRACE + SHUTDOWN_MARGIN;
        // Everything acknowledged until now is in the engine or in its queue.
        for (name, done) in [
            ("main listener", tokio::time::timeout_at(grace, self.serving).await.is_ok()),
            ("OTLP thread", tokio::time::timeout_at(grace, self.otlp.stop()).await.is_ok()),
            ("stream thread", tokio::time::timeout_at(grace, self.streams.stop()).await.is_ok()),
        ] {
            hung.extend((!done).then_some(name));
        }
        self.reloader.heartbeat.stop().await;
        if tokio::time::timeout(SHUTDOWN_MARGIN, self.reloader.pollers.stop()).await.is_err() {
            hung.push("pollers");
        }
        let sending = deadline.saturating_duration_since(Instant::now()).saturating_sub(STORE_CLOSE_TIMEOUT);
        // Fails if the engine has ended already.
        let stop_sent = self.stop_engine.send(sending);
        let saved = match tokio::time::timeout_at(deadline, self.engine).await {
            Ok(done) => done
                .context("engine panicked")
                .and_then(|()| stop_sent.map_err(|_| anyhow::anyhow!("engine ended before it could save its state"))),
            Err(_) => Err(anyhow::anyhow!("engine did not save its state within {SHUTDOWN_TIMEOUT:?}; check the disk")),
        };
        if tokio::time::timeout(STORE_CLOSE_TIMEOUT, self.reloader.runs.close()).await.is_err() {
            hung.push("runs");
        }
        if tokio::time::timeout(STORE_CLOSE_TIMEOUT, self.reloader.runs.exports().close()).await.is_err() {
            hung.push("exports");
        }
        if ended.is_err() {
            // Writes what is queued in the store even if the engine failed.
            drop(self.reloader.store.clone().close(STORE_CLOSE_TIMEOUT).await);
        }
        if !hung.is_empty() {
            tracing::error!(tasks = hung.join(", "), "tasks did not stop in time");
        }
        ended.and(saved)
    }
}

/// Exits the process when the returned guard lives longer than `timeout`, even if the runtime is stuck.
fn exit_after(timeout: Duration) -> std::sync::mpsc::Sender<()> {
    let (guard, ended) = std::sync::mpsc::channel();
    let watch = move || {
        if ended.recv_timeout(timeout) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // On a thread of its own, since logging may be what hangs.
            std::thread::spawn(|| tracing::error!("shutdown timed out; exiting"));
            std::thread::sleep(Duration::from_millis(50));
            std::process::exit(1);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("deadline".to_owned()).spawn(watch) {
        tracing::warn!(error = %error, "shutdown timeout is not enforced: cannot start its thread");
    }
    guard
}

/// Opens the file of runs and starts its thread.
async fn open_runs(
    config: &Config,
    exports: ExportHandle,
    (engine, live): (EngineHandle, LiveFeed),
    clock: &Clock,
    supervisor: &Supervisor,
) -> anyhow::Result<RunsHandle> {
    let settings = RunsSettings::new(&config.runs, &config.otlp);
    let (path, clock, guard) = (config.store.traces_path(), clock.clone(), supervisor.watch("runs"));
    let is_archived = config.runs.read_from == RunsReadFrom::ClickHouse;
    let clickhouse = config.export.clickhouse.clone().filter(|_| is_archived);
    let start = move || {
        let store =
            TraceStore::open(path.as_deref(), settings.limits, clock.wall()).context("open the store of runs")?;
        let archive = match clickhouse {
            Some(clickhouse) => {
                let table = ArchivedTable::new(&clickhouse)?;
                Some(RunArchive::new(table, &settings.otlp, settings.capture, clock.clone()))
            }
            None => None,
        };
        Ok(engine::runs::start(store, &settings, exports, clock, Some(engine), live, guard)?.with_archive(archive))
    };
    tokio::task::spawn_blocking(start).await?
}

/// Starts the exports, if anything is exported.
async fn open_exports(config: &Config, clock: &Clock, supervisor: &Supervisor) -> anyhow::Result<ExportHandle> {
    let (section, supervisor) = (config.export.clone(), supervisor.clone());
    let exports = ExportHandle::new(config.store.export_path(), clock.clone(), move |name| supervisor.watch(name));
    let start = move || exports.configure(section.targets()?).map(|()| exports);
    tokio::task::spawn_blocking(start).await?
}

/// Reports the end of the store's threads and of the receivers' tasks to the supervisor.
fn watch_threads(supervisor: &Supervisor, store: &Store, failed: Option<CancellationToken>) {
    let (supervisor, store) = (supervisor.clone(), store.clone());
    tokio::spawn(async move {
        let receivers = async {
            match failed {
                Some(failed) => failed.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            name = store.ended() => supervisor.fail(name),
            () = receivers => supervisor.fail("receiver"),
        }
    });
}

/// Opens the recording, if configured.
fn recorder(path: Option<&PathBuf>, config: &Config, clock: &Clock) -> anyhow::Result<Option<Recorder>> {
    let Some(path) = path else { return Ok(None) };
    let recorder = Recorder::open(path, config.record.max_size, clock.now()).context("open the recording")?;
    tracing::info!(path = %path.display(), max_size = config.record.max_size, "recording all input");
    Ok(Some(recorder))
}

/// The settings of the engine, with additional `rules`.
fn engine_settings(
    prepared: Prepared,
    console: bool,
    rules: &[(String, String)],
) -> anyhow::Result<(Config, engine::EngineSettings)> {
    let Prepared { config, mut receivers, rules: configured, .. } = prepared;
    if console {
        receivers.push(Receiver::console());
    }
    let settings = engine::EngineSettings {
        fleet: config.fleet_settings(),
        rules: if rules.is_empty() { configured } else { rule_set(&config, rules)? },
        incidents: config.incidents.policy(),
        digest: config.digest.clone(),
        receivers,
    };
    Ok((config, settings))
}

/// The rules of the configuration, overridden by `rules`.
fn rule_set(config: &Config, rules: &[(String, String)]) -> anyhow::Result<RuleSet> {
    let mut files = config.rule_files()?;
    files.extend(rules.iter().cloned());
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    RuleSet::load(&files, settings)
        .map_err(|problems| anyhow::anyhow!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Sends a test message to the receiver with that name; returns what became of it, or `None` if there is no such receiver.
async fn test_receiver(
    config: tokio::sync::watch::Receiver<Arc<Config>>,
    name: String,
) -> Option<Result<Option<String>, String>> {
    let receiver = config.borrow().receivers.iter().find(|receiver| receiver.common.name == name).cloned()?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(crate::notify::deliver_test(&receiver, crate::text::clean(&host, 100).trim()).await)
}

/// Resolved alerts for the API.
async fn closed_alerts(history: HistoryHandle, clock: Clock, filter: AlertFilter) -> Vec<AlertView> {
    // Alerts that resolved before this query must be included. If the disk fails or hangs, the result is merely older.
    drop(tokio::time::timeout(FLUSH_TIMEOUT, history.flush()).await);
    let AlertFilter { level, fingerprint, project, agent, rule, task, limit, .. } = filter;
    let wall = clock.wall_clock();
    match history.alerts(ClosedFilter { fingerprint, project, level, agent, rule, task, limit }).await {
        Ok(closed) => closed
            .into_iter()
            .map(|closed| AlertView {
                task_id: closed.task_id,
                ..AlertView::of(&wall, &closed.alert, closed.message.to_string(), closed.action.to_string())
            })
            .collect(),
        Err(error) => {
            tracing::error!(error = %error, "reading history failed");
            Vec::new()
        }
    }
}

/// The latest changes of status of an agent, newest first, by the wall clock.
async fn statuses(history: HistoryHandle, clock: Clock, project: String, name: String) -> Vec<HistoryEntry> {
    let wall = clock.wall_clock();
    let mut found = history.history(&project, &name, MAX_STATUSES).await.unwrap_or_else(|error| {
        tracing::error!(error = %error, "reading history failed");
        Vec::new()
    });
    for entry in &mut found {
        entry.at = wall.to_wall(entry.at);
    }
    found
}

/// The timeline of an alert.
async fn timeline(history: HistoryHandle, fingerprint: Fingerprint) -> Vec<TimelineEntry> {
    // Decisions made before this query must be included.
    drop(tokio::time::timeout(FLUSH_TIMEOUT, history.flush()).await);
    history.timeline(fingerprint).await.unwrap_or_else(|error| {
        tracing::error!(error = %error, "reading history failed");
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
