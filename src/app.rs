//! Start, wire, drain: the only place that knows every part.

mod beside;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Source};
use crate::engine::{self, AlertFilter, AlertView, Engine, Handle, Parts};
use crate::metrics::Own;
use crate::model::{Decision, Fingerprint, PollReport};
use crate::notify::{Receiver, heartbeat};
use crate::rules::compile::{RuleSet, RuleSettings};
use crate::server::{self, Access, Bodies, Bound, Context, Surface};
use crate::sources;
use crate::store::{ClosedFilter, HistoryHandle, Recorder, Store};
use beside::Beside;

/// How long running requests may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long what is due may take to be sent when the program ends.
const FLUSH: Duration = Duration::from_secs(10);
/// How long a reader of history waits for what is being written.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Polls that may wait for the engine.
const POLLS: usize = 64;

/// What a caller adds to the configuration.
#[derive(Default)]
pub struct Extras {
    /// Whether notices are printed as well.
    pub console: bool,
    /// Rules over those of the configuration: (name, text).
    pub rules: Vec<(String, String)>,
    /// Where to record what comes in, in place of what the configuration says.
    pub record: Option<PathBuf>,
    /// Called with the address once requests are served.
    pub started: Option<Box<dyn FnOnce(SocketAddr) -> anyhow::Result<()> + Send>>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Extras").field("console", &self.console).finish_non_exhaustive()
    }
}

/// Runs the sidecar until it is told to stop; `source` is read again on a reload.
pub async fn serve(config: Config, source: Source, extras: Extras) -> anyhow::Result<()> {
    let clock = Clock::system();
    outlive_size_limits().context("take the signal of a file's size limit")?;
    let bound = Bound::bind(config.listen.0, "listen").await?;
    let address = bound.address();
    let tls = server::listener::acceptor(&config.tls, Surface::Main)?;
    let access = Access::new(&config, address)?;
    let (access_now, access) = watch::channel(Arc::new(access));
    let mut rules_of_access = vec![(address, access_now)];
    let listeners = beside::listen(&config, &mut rules_of_access).await?;
    let settings = settings(&config, &extras)?;
    let (store, restored, mut saved) = Store::open(&config.store, &clock).context("open the store")?;
    for damaged in restored.damaged.iter().chain(&saved.damaged) {
        tracing::error!(kept_aside = %damaged.display(), "a database was damaged; it was put aside and a new one begun");
    }
    let counting = std::mem::take(&mut saved.counting);
    let own = Arc::new(Own::new());
    own.reloaded(clock.wall(), true);
    let history = store.history.clone();
    let store_of_reloads = store.clone();
    let (monitoring, polls_on) = watch::channel(true);
    let (handle, queues) = Handle::new(engine::BULK_QUEUE, engine::CONTROL_QUEUE, engine::HOOK_QUEUE);
    let recorder = recorder(extras.record.as_ref().or(config.record.path.as_ref()), &config, &clock)?;
    let parts =
        Parts { clock: clock.clone(), settings, own: Arc::clone(&own), store, restored, saved, monitoring, recorder };
    let (engine, reports) = Engine::new(parts);
    let braked = engine.braked();
    let (stop_engine, engine_stop) = oneshot::channel();
    let engine = tokio::spawn(engine.run(queues, reports, engine_stop));

    let (otlp, inbox) = sources::otlp::Handle::new();
    let stop = CancellationToken::new();
    let pollers = Pollers::new(handle.clone(), clock.clone(), polls_on);
    pollers.replace(&config).await?;
    let heart = Heart::new(handle.clone());
    heart.replace(&config).await;
    let reloader = Arc::new(Reloader {
        source,
        console: extras.console,
        rules: extras.rules,
        started_with: config.clone(),
        handle: handle.clone(),
        own: Arc::clone(&own),
        store: store_of_reloads,
        clock: clock.clone(),
        access: rules_of_access,
        otlp: otlp.clone(),
        pollers,
        heart,
        turn: Mutex::new(()),
    });
    let reload = {
        let reloader = Arc::clone(&reloader);
        move || -> server::Later<Result<(), String>> {
            let reloader = Arc::clone(&reloader);
            Box::pin(async move { reloader.reload().await })
        }
    };
    let context = Context {
        engine: handle,
        braked,
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
    };
    let beside = Beside::start(listeners, inbox, counting, &config, clock, &context, &stop)?;
    let mut serving = tokio::spawn(server::serve(bound, tls, Surface::Main, context, stop.clone(), GRACE));
    tracing::info!(
        address = %address,
        version = env!("CARGO_PKG_VERSION"),
        sources = config.sources.len(),
        receivers = config.receivers.len(),
        "listening"
    );
    let started = extras.started.map_or(Ok(()), |started| started(address));

    let ended = match started {
        Ok(()) => wait_for_end(&reloader, &mut serving).await,
        Err(error) => Err(error),
    };
    tracing::info!("stopping");
    stop.cancel();
    if !serving.is_finished() {
        // It bounds its own time; it can only have broken.
        drop(serving.await);
    }
    beside.stop().await;
    reloader.heart.stop().await;
    reloader.pollers.stop().await;
    if stop_engine.send(FLUSH).is_err() {
        tracing::error!("the engine had ended already");
    }
    engine.await.context("the engine broke")?;
    ended
}

/// Has a write beyond the limit of a file's size fail as it does on a full disk, where the signal would end the process.
fn outlive_size_limits() -> std::io::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map(drop)
}

/// Serves signals until one of them ends the program; a listener that ends by itself is an error.
async fn wait_for_end(reloader: &Reloader, serving: &mut tokio::task::JoinHandle<()>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => drop(reloader.reload().await),
            _ = &mut *serving => anyhow::bail!("the listener broke"),
        }
    }
}

/// The recording, when one is wanted.
fn recorder(path: Option<&PathBuf>, config: &Config, clock: &Clock) -> anyhow::Result<Option<Recorder>> {
    let Some(path) = path else { return Ok(None) };
    let recorder = Recorder::open(path, config.record.max_size, clock.now()).context("open the recording")?;
    tracing::info!(path = %path.display(), max_size = config.record.max_size, "recording what comes in");
    Ok(Some(recorder))
}

/// What the engine takes from the configuration.
fn settings(config: &Config, extras: &Extras) -> anyhow::Result<engine::Settings> {
    engine_settings(config, extras.console, &extras.rules)
}

fn engine_settings(config: &Config, console: bool, rules: &[(String, String)]) -> anyhow::Result<engine::Settings> {
    let mut receivers = Receiver::build(&config.receivers).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    if console {
        receivers.push(Receiver::console());
    }
    Ok(engine::Settings {
        fleet: config.fleet_settings(),
        agent_rules: config.otlp.agents.clone().into(),
        rules: if rules.is_empty() { config.rule_set()? } else { rule_set(config, rules)? },
        incidents: config.incidents.policy(),
        digest: config.digest.clone(),
        receivers,
    })
}

/// The rules of the configuration with others over them.
fn rule_set(config: &Config, rules: &[(String, String)]) -> anyhow::Result<RuleSet> {
    let mut files = Vec::new();
    for path in &config.rules {
        files.push((path.display().to_string(), std::fs::read_to_string(path)?));
    }
    files.extend(rules.iter().cloned());
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    RuleSet::load(&files, settings)
        .map_err(|errors| anyhow::anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Alerts that are over, as readers see them.
async fn closed_alerts(history: HistoryHandle, clock: Clock, filter: AlertFilter) -> Vec<AlertView> {
    // An alert that ended before this read began must be in it. A disk that fails or hangs makes it merely older.
    drop(tokio::time::timeout(CATCH_UP, history.flush()).await);
    let AlertFilter { level, agent, rule, limit, .. } = filter;
    let wall = clock.skew();
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
async fn timeline(history: HistoryHandle, fingerprint: Fingerprint) -> Vec<Decision> {
    // What was decided before this read began must be in it.
    drop(tokio::time::timeout(CATCH_UP, history.flush()).await);
    history.timeline(fingerprint).await.unwrap_or_else(|error| {
        tracing::error!(error = %error, "history not read");
        Vec::new()
    })
}

/// The polls of the configured sources.
struct Pollers {
    handle: Handle,
    clock: Clock,
    on: watch::Receiver<bool>,
    running: Mutex<Option<(CancellationToken, tokio_util::task::TaskTracker)>>,
}

impl Pollers {
    fn new(handle: Handle, clock: Clock, on: watch::Receiver<bool>) -> Self {
        Self { handle, clock, on, running: Mutex::new(None) }
    }

    /// Polls these sources in place of the ones before.
    async fn replace(&self, config: &Config) -> anyhow::Result<()> {
        self.stop().await;
        let stop = CancellationToken::new();
        let (sender, mut reports) = mpsc::channel::<PollReport>(POLLS);
        let tracker =
            sources::poll::start(&config.sources, &self.clock, &sender, &self.on, &stop).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(|(key, text)| format!("sources{key}: {text}")).collect();
                anyhow::anyhow!(lines.join("\n"))
            })?;
        let (handle, stopped) = (self.handle.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    report = reports.recv() => match report {
                        Some(report) => if handle.poll(report).await.is_err() { return },
                        None => return,
                    },
                }
            }
        });
        *self.running.lock().await = Some((stop, tracker));
        Ok(())
    }

    async fn stop(&self) {
        if let Some((stop, tracker)) = self.running.lock().await.take() {
            stop.cancel();
            tracker.close();
            tracker.wait().await;
        }
    }
}

/// The heartbeat, while one is wanted.
struct Heart {
    handle: Handle,
    beating: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Heart {
    fn new(handle: Handle) -> Self {
        Self { handle, beating: Mutex::new(None) }
    }

    /// Beats as `config` says from now on.
    async fn replace(&self, config: &Config) {
        self.stop().await;
        let handle = self.handle.clone();
        let is_well = move || {
            let handle = handle.clone();
            async move {
                // An engine that does not answer is not well, whatever it would say.
                match tokio::time::timeout(CATCH_UP, handle.health()).await {
                    Ok(Ok(health)) => health,
                    Ok(Err(stopped)) => Err(stopped.to_string()),
                    Err(_) => Err("the engine does not answer".to_owned()),
                }
            }
        };
        let beat = heartbeat::beat(config.heartbeat.clone(), is_well);
        *self.beating.lock().await = Some(tokio::spawn(beat));
    }

    async fn stop(&self) {
        if let Some(beating) = self.beating.lock().await.take() {
            beating.abort();
        }
    }
}

/// Reads the configuration again and puts it in force when it is valid.
struct Reloader {
    source: Source,
    console: bool,
    rules: Vec<(String, String)>,
    started_with: Config,
    handle: Handle,
    own: Arc<Own>,
    store: Store,
    clock: Clock,
    /// Who may use each listener.
    access: Vec<(SocketAddr, watch::Sender<Arc<Access>>)>,
    otlp: sources::otlp::Handle,
    pollers: Pollers,
    heart: Heart,
    /// One reload at a time.
    turn: Mutex<()>,
}

impl Reloader {
    async fn reload(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let result = self.try_reload().await;
        self.own.reloaded(self.clock.wall(), result.is_ok());
        match &result {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(error) => tracing::error!(error = %error, "configuration not reloaded; the old one stays in force"),
        }
        result.map_err(|error| format!("{error:#}"))
    }

    async fn try_reload(&self) -> anyhow::Result<()> {
        let config = self.source.load()?;
        let settings = engine_settings(&config, self.console, &self.rules)?;
        let access = self.access.iter().map(|(address, now)| Ok((now, Access::new(&config, *address)?)));
        let access = access.collect::<anyhow::Result<Vec<_>>>()?;
        for (key, changed) in [
            ("listen", config.listen != self.started_with.listen),
            ("store.path", config.store.path != self.started_with.store.path),
            ("otlp.http", config.otlp.http != self.started_with.otlp.http),
            ("otlp.grpc", config.otlp.grpc != self.started_with.otlp.grpc),
            ("record", config.record != self.started_with.record),
        ] {
            if changed {
                tracing::warn!(key, "this key takes effect at the next start only");
            }
        }
        for (now, access) in access {
            now.send_replace(Arc::new(access));
        }
        anyhow::ensure!(self.otlp.configure(&config.otlp).await, "shutting down");
        self.store.set_max_size(&config.store);
        self.handle.reload(settings).await?;
        self.heart.replace(&config).await;
        self.pollers.replace(&config).await
    }
}
