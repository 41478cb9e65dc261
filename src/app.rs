//! Start, wire, drain: the only place that knows every part.

mod heartbeat;
mod keys;
mod otlp;
mod pollers;
mod reload;
mod signals;
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
use crate::config::{Config, ConfigError, Prepared, Source};
use crate::engine::{self, AlertFilter, AlertView, Engine, EngineHandle, EngineParts, telemetry};
use crate::metrics::Own;
use crate::model::{Fingerprint, TimelineEntry};
use crate::notify::Receiver;
use crate::rules::compile::{RuleSet, RuleSettings};
use crate::server::listener::Certificate;
use crate::server::{self, Access, Bodies, Bound, Context, Surface};
use crate::store::{ClosedFilter, HistoryHandle, Recorder, Store};
use heartbeat::Heartbeat;
use otlp::OtlpThread;
use pollers::Pollers;
use reload::Reloader;
pub use signals::Signals;
use signals::Wish;
use supervisor::Supervisor;

/// How long the end may take, whatever hangs: service managers kill what takes longer.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// Of that, how long running requests may take.
const GRACE: Duration = Duration::from_secs(3);
/// Of that, what the store needs after the last send.
const CLOSING: Duration = Duration::from_secs(3);
/// Of that, what is left for the process itself.
const MARGIN: Duration = Duration::from_millis(500);
/// How long `/-/healthy` says that a part has failed before the program ends for it.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long a reader of history waits for what is being written.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Changes a configuration that was read.
pub type Adjust = Arc<dyn Fn(&mut Config) + Send + Sync>;
/// Sets how much is logged.
pub type SetLogLevel = Box<dyn Fn(&str) -> anyhow::Result<()> + Send + Sync>;

/// What a caller adds to the configuration.
#[derive(Default)]
pub struct Extras {
    /// Whether notices are printed as well.
    pub console: bool,
    /// Rules over those of the configuration: (name, text).
    pub rules: Vec<(String, String)>,
    /// Where to record what comes in, in place of what the configuration says.
    pub record: Option<PathBuf>,
    /// What is changed in the configuration, at the start and at each reload.
    pub adjust: Option<Adjust>,
    /// Takes over `log.level` when it was changed.
    pub set_log_level: Option<SetLogLevel>,
    /// Called with the address once requests are served.
    pub started: Option<Box<dyn FnOnce(SocketAddr) -> anyhow::Result<()> + Send>>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Extras").field("console", &self.console).finish_non_exhaustive()
    }
}

/// Runs the sidecar until a signal ends it or a part of it fails; `source` is read again on a reload.
pub async fn serve(config: Config, source: Source, extras: Extras, mut signals: Signals) -> anyhow::Result<()> {
    let Some(running) = signals.unless_ended(Running::start(config, source, extras)).await else { return Ok(()) };
    let running = running?;
    let ended = running.wait(&mut signals).await;
    running.stop(ended).await
}

/// The configuration with all that it names read; whatever this refuses, `check`, a start and a reload refuse.
pub fn try_config(config: Config) -> Result<Prepared, ConfigError> {
    let prepared = config.prepare()?;
    Access::new(&prepared.config, prepared.config.listen.0)?;
    Ok(prepared)
}

/// [`try_config`] of the configuration after `adjust`.
fn prepare(mut config: Config, adjust: &Adjust) -> Result<Prepared, ConfigError> {
    adjust(&mut config);
    try_config(config)
}

/// Has a write beyond the limit of a file's size fail as it does on a full disk, where the signal would end the process.
fn outlive_size_limits() -> std::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

/// The sidecar with all its parts.
struct Running {
    address: SocketAddr,
    supervisor: Supervisor,
    reloader: Arc<Reloader>,
    otlp: OtlpThread,
    serving: JoinHandle<()>,
    engine: JoinHandle<()>,
    stop: CancellationToken,
    stop_engine: oneshot::Sender<Duration>,
}

impl Running {
    async fn start(config: Config, source: Source, extras: Extras) -> anyhow::Result<Self> {
        let clock = Clock::system();
        outlive_size_limits().context("handle the signal of a file's size limit")?;
        let supervisor = Supervisor::default();
        let adjust = extras.adjust.clone().unwrap_or_else(|| Arc::new(|_| ()));
        let first = Arc::clone(&adjust);
        let prepared = tokio::task::spawn_blocking(move || prepare(config, &first)).await??;
        let bound = Bound::bind(prepared.config.listen.0, "listen").await?;
        let address = bound.address();
        let certificate = prepared.certificate.clone().map(|key| Arc::new(Certificate::new(key)));
        let tls = certificate.as_ref().map(|shown| server::listener::acceptor(shown, Surface::Main)).transpose()?;
        let (config, settings) = engine_settings(prepared, extras.console, &extras.rules)?;
        let access = Access::new(&config, address)?;
        let (agent_rules_now, agent_rules) = watch::channel(config.otlp.agents.clone().into());
        let (access_now, access) = watch::channel(Arc::new(access));
        let mut rules_of_access = vec![(address, access_now)];
        let listeners = otlp::listen(&config, certificate.as_ref(), &mut rules_of_access).await?;
        let (store_config, store_clock) = (config.store.clone(), clock.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&store_config, &store_clock)).await?;
        let (store, restored, mut saved) = opened.context("open the store")?;
        for damaged in restored.damaged.iter().chain(&saved.damaged) {
            tracing::error!(kept_aside = %damaged.display(), "a database was damaged; it was put aside and a new one begun");
        }
        let counting = std::mem::take(&mut saved.counting);
        let profiles = otlp::remembering(counting, &config, &clock, &store.history).await;
        let own = Arc::new(Own::new());
        own.reloaded(clock.wall(), true);
        let history = store.history.clone();
        let (monitoring, polls_on) = watch::channel(true);
        let (handle, queues) = EngineHandle::new(engine::BULK_QUEUE, engine::CONTROL_QUEUE, engine::HOOK_QUEUE);
        let recorder = recorder(extras.record.as_ref().or(config.record.path.as_ref()), &config, &clock)?;
        let (own_of_engine, store_of_engine) = (Arc::clone(&own), store.clone());
        let parts = EngineParts {
            clock: clock.clone(),
            settings,
            own: own_of_engine,
            store: store_of_engine,
            restored,
            saved,
            monitoring,
            recorder,
        };
        let (engine, reports) = Engine::new(parts);
        watch_threads(&supervisor, &store, engine.broken());
        let stop_orders = engine.stop_orders();
        let (stop_engine, engine_stop) = oneshot::channel();
        let part = supervisor.part("the engine");
        let engine = tokio::spawn(async move {
            let _part = part;
            engine.run(queues, reports, engine_stop).await;
        });

        let (otlp, inbox) = telemetry::TelemetryHandle::new();
        let stop = CancellationToken::new();
        let pollers = Pollers::new(handle.clone(), clock.clone(), polls_on, supervisor.clone());
        pollers.replace(&config).await?;
        let heartbeat = Heartbeat::new(handle.clone(), supervisor.clone());
        heartbeat.replace(&config).await;
        let reloader = Arc::new(Reloader {
            source,
            console: extras.console,
            rules: extras.rules,
            adjust,
            set_log_level: extras.set_log_level,
            started_with: config.clone(),
            handle: handle.clone(),
            store,
            own: Arc::clone(&own),
            clock: clock.clone(),
            access: rules_of_access,
            certificate,
            agent_rules: agent_rules_now,
            otlp: otlp.clone(),
            pollers,
            heartbeat,
            turn: Mutex::new(()),
        });
        let reload = {
            let reloader = Arc::clone(&reloader);
            move || -> server::Later<server::Reloaded> {
                let reloader = Arc::clone(&reloader);
                // In a task of its own: whoever asked may hang up, and half a reload is none.
                Box::pin(async move {
                    let reloaded = tokio::spawn(async move { reloader.reload().await }).await;
                    reloaded.unwrap_or_else(|error| Err(format!("the reload was aborted: {error}")))
                })
            }
        };
        let context = Context {
            engine: handle,
            stop_orders,
            agent_rules,
            own,
            access,
            limits: config.limits.clone(),
            bodies: Bodies::new(&config.limits),
            otlp,
            connections: Arc::new(server::Connections::new(config.limits.connections)),
            history: {
                let (history, clock) = (history.clone(), clock.clone());
                Arc::new(move |filter| Box::pin(closed_alerts(history.clone(), clock.clone(), filter)))
            },
            timeline: Arc::new(move |fingerprint| Box::pin(timeline(history.clone(), fingerprint))),
            clock: clock.clone(),
            reload: Arc::new(reload),
            failed: {
                let supervisor = supervisor.clone();
                Arc::new(move || supervisor.failed())
            },
        };
        let otlp = OtlpThread::start((listeners, inbox), profiles, &config, clock, &context, &stop, &supervisor)?;
        let part = supervisor.part("the main listener");
        let serving = server::serve(bound, tls, Surface::Main, context, stop.clone(), GRACE);
        let serving = tokio::spawn(async move {
            let _part = part;
            serving.await;
        });
        tracing::info!(
            address = %address,
            version = env!("CARGO_PKG_VERSION"),
            sources = config.sources.len(),
            receivers = config.receivers.len(),
            "listening"
        );
        if let Some(started) = extras.started {
            started(address)?;
        }
        Ok(Self { address, supervisor, reloader, otlp, serving, engine, stop, stop_engine })
    }

    /// Serves signals until one of them ends the program; a part that fails is an error.
    async fn wait(&self, signals: &mut Signals) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                wish = signals.next() => match wish {
                    Wish::End => return Ok(()),
                    Wish::Reload => {
                        let reloader = Arc::clone(&self.reloader);
                        // Not waited for here: a reload that hangs must not keep the program from ending.
                        tokio::spawn(async move { drop(reloader.reload().await) });
                    }
                },
                part = self.supervisor.failure() => {
                    // Whoever watches /-/healthy hears of it, unless told to end at once.
                    drop(tokio::time::timeout(FAREWELL, signals.unless_ended(std::future::pending::<()>())).await);
                    anyhow::bail!("a part of the program ended unexpectedly: {part}");
                }
            }
        }
    }

    /// Ends all parts, those first that take something in, within [`SHUTDOWN`]; then returns how it `ended`.
    async fn stop(self, ended: anyhow::Result<()>) -> anyhow::Result<()> {
        tracing::info!(address = %self.address, "stopping");
        let deadline = Instant::now() + SHUTDOWN - MARGIN;
        let _deadline = end_process_after(SHUTDOWN);
        self.supervisor.stopping();
        self.stop.cancel();
        let mut hung = Vec::new();
        let grace = Instant::now() + GRACE + MARGIN;
        // What was answered by now is with the engine, or in a queue to it.
        for (name, done) in [
            ("the main listener", tokio::time::timeout_at(grace, self.serving).await.is_ok()),
            ("the OTLP thread", tokio::time::timeout_at(grace, self.otlp.stop()).await.is_ok()),
        ] {
            hung.extend((!done).then_some(name));
        }
        self.reloader.heartbeat.stop().await;
        if tokio::time::timeout(MARGIN, self.reloader.pollers.stop()).await.is_err() {
            hung.push("polls");
        }
        let sending = deadline.saturating_duration_since(Instant::now()).saturating_sub(CLOSING);
        // An engine that has failed takes nothing any more.
        let told = self.stop_engine.send(sending);
        let saved = match tokio::time::timeout_at(deadline, self.engine).await {
            Ok(done) => done
                .context("the engine panicked")
                .and_then(|()| told.map_err(|_| anyhow::anyhow!("the engine had ended before it could save"))),
            Err(_) => Err(anyhow::anyhow!("the engine did not save within {SHUTDOWN:?}; does the disk hang?")),
        };
        if ended.is_err() {
            // What the store took can still be written when the engine can not ask for it.
            drop(self.reloader.store.clone().close(CLOSING).await);
        }
        if !hung.is_empty() {
            tracing::error!(parts = hung.join(", "), "parts of the program did not end in time");
        }
        ended.and(saved)
    }
}

/// Ends the process when the guard that is returned lives longer than `patience`, even if this runtime is stuck.
fn end_process_after(patience: Duration) -> std::sync::mpsc::Sender<()> {
    let (guard, ended) = std::sync::mpsc::channel();
    let watch = move || {
        if ended.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // Not waited for: the log may be what hangs.
            std::thread::spawn(|| tracing::error!("the end took too long; the process ends without it"));
            std::thread::sleep(Duration::from_millis(50));
            std::process::exit(1);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("deadline".to_owned()).spawn(watch) {
        tracing::warn!(error = %error, "nothing bounds the time that the end may take");
    }
    guard
}

/// Has the supervisor notice the end of the store's threads, and of the tasks of receivers.
fn watch_threads(supervisor: &Supervisor, store: &Store, broken: Option<CancellationToken>) {
    let (supervisor, store) = (supervisor.clone(), store.clone());
    tokio::spawn(async move {
        let receivers = async {
            match broken {
                Some(broken) => broken.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            name = store.ended() => supervisor.fail(name),
            () = receivers => supervisor.fail("the task of a receiver"),
        }
    });
}

/// The recording, when one is wanted.
fn recorder(path: Option<&PathBuf>, config: &Config, clock: &Clock) -> anyhow::Result<Option<Recorder>> {
    let Some(path) = path else { return Ok(None) };
    let recorder = Recorder::open(path, config.record.max_size, clock.now()).context("open the recording")?;
    tracing::info!(path = %path.display(), max_size = config.record.max_size, "recording what comes in");
    Ok(Some(recorder))
}

/// What the engine takes from the configuration, with `rules` over its rules.
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

/// The rules of the configuration with others over them.
fn rule_set(config: &Config, rules: &[(String, String)]) -> anyhow::Result<RuleSet> {
    let mut files = config.rule_files()?;
    files.extend(rules.iter().cloned());
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    RuleSet::load(&files, settings)
        .map_err(|wrong| anyhow::anyhow!(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Alerts that are over, as readers see them.
async fn closed_alerts(history: HistoryHandle, clock: Clock, filter: AlertFilter) -> Vec<AlertView> {
    // An alert that ended before this read began must be in it. A disk that fails or hangs makes it merely older.
    drop(tokio::time::timeout(CATCH_UP, history.flush()).await);
    let AlertFilter { level, agent, rule, limit, .. } = filter;
    let wall = clock.wall_clock();
    match history.alerts(ClosedFilter { level, agent, rule, limit }).await {
        Ok(closed) => closed
            .into_iter()
            .map(|closed| AlertView::of(&wall, &closed.alert, closed.message.to_string(), closed.action.to_string()))
            .collect(),
        Err(error) => {
            tracing::error!(error = %error, "history not read");
            Vec::new()
        }
    }
}

/// The timeline of an alert.
async fn timeline(history: HistoryHandle, fingerprint: Fingerprint) -> Vec<TimelineEntry> {
    // What was decided before this read began must be in it.
    drop(tokio::time::timeout(CATCH_UP, history.flush()).await);
    history.timeline(fingerprint).await.unwrap_or_else(|error| {
        tracing::error!(error = %error, "history not read");
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
