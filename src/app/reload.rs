//! A reload: the configuration is read and tried as a whole, and only then anything changes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use super::heartbeat::Heartbeat;
use super::keys::restart_needed;
use super::pollers::Pollers;
use super::{Adjust, SetLogLevel, engine_settings, prepare};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Source};
use crate::engine::{EngineHandle, telemetry};
use crate::files;
use crate::metrics::Own;
use crate::otlp::config::AgentRule;
use crate::server::listener::Certificate;
use crate::server::{Access, Reloaded};
use crate::store::Store;

/// How long reading all files may take.
const READING: Duration = Duration::from_secs(5);

/// Reads the configuration again and puts it in force when it is valid.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) console: bool,
    pub(super) rules: Vec<(String, String)>,
    pub(super) adjust: Adjust,
    pub(super) set_log_level: Option<SetLogLevel>,
    pub(super) started_with: Config,
    pub(super) handle: EngineHandle,
    pub(super) store: Store,
    pub(super) own: Arc<Own>,
    pub(super) clock: Clock,
    /// Who may use each listener.
    pub(super) access: Vec<(SocketAddr, watch::Sender<Arc<Access>>)>,
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Whom hooks are about that do not name it themselves.
    pub(super) agent_rules: watch::Sender<Arc<[AgentRule]>>,
    pub(super) otlp: telemetry::TelemetryHandle,
    pub(super) pollers: Pollers,
    pub(super) heartbeat: Heartbeat,
    /// One reload at a time.
    pub(super) turn: Mutex<()>,
}

impl Reloader {
    /// Reloads, and names the keys that take effect at the next start only.
    pub(super) async fn reload(&self) -> Reloaded {
        let _turn = self.turn.lock().await;
        let result = self.try_reload().await;
        self.own.reloaded(self.clock.wall(), result.is_ok());
        match &result {
            Ok(keys) if keys.is_empty() => tracing::info!("configuration reloaded"),
            Ok(keys) => tracing::warn!(
                restart_needed = keys.join(", "),
                "configuration reloaded; the keys that need a restart keep the values of the start until then"
            ),
            Err(error) => tracing::error!(error = %error, "configuration not reloaded; the old one stays in force"),
        }
        result.map_err(|error| format!("{error:#}"))
    }

    async fn try_reload(&self) -> anyhow::Result<Vec<&'static str>> {
        let (source, adjust) = (self.source.clone(), Arc::clone(&self.adjust));
        let file = self.source.file.clone().unwrap_or_default();
        let addresses: Vec<SocketAddr> = self.access.iter().map(|(address, _)| *address).collect();
        let read = move || {
            let prepared = prepare(source.load_again()?, &adjust)?;
            let access = addresses.into_iter().map(|address| Access::new(&prepared.config, address));
            let access = access.collect::<Result<Vec<_>, _>>()?;
            Ok::<_, ConfigError>((prepared, access))
        };
        let (prepared, access) = files::beside(Path::new(&file), READING, read).await.map_err(|error| {
            anyhow::anyhow!("the configuration, or a file that it names, could not be read: {error}")
        })??;
        let keys = restart_needed(&self.started_with, &prepared.config);
        let certificate = prepared.certificate.clone();
        let (config, settings) = engine_settings(prepared, self.console, &self.rules)?;
        // From here on nothing can be wrong any more.
        for ((_, now), access) in self.access.iter().zip(access) {
            now.send_replace(Arc::new(access));
        }
        if let (Some(shown), Some(certificate)) = (&self.certificate, certificate) {
            shown.replace(certificate);
        }
        if let Some(set_log_level) = &self.set_log_level {
            set_log_level(&config.log.level)?;
        }
        self.store.configure(&config.store);
        self.agent_rules.send_replace(config.otlp.agents.clone().into());
        anyhow::ensure!(self.otlp.configure(&config.otlp).await, "shutting down");
        self.handle.reload(settings).await?;
        self.heartbeat.replace(&config).await;
        self.pollers.replace(&config).await?;
        Ok(keys)
    }
}
