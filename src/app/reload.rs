//! Reloads the configuration: it is loaded and validated as a whole before anything changes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Mutex, watch};

use super::heartbeat::HeartbeatTask;
use super::keys::restart_needed;
use super::pollers::Pollers;
use super::{Adjust, SetLogLevel, engine_settings, prepare};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, ConfigSource};
use crate::engine::archive::ArchivedTable;
use crate::engine::runs::{RunsHandle, RunsSettings};
use crate::engine::{EngineHandle, telemetry};
use crate::files;
use crate::metrics::SidecarMetrics;
use crate::model::Problem;
use crate::otlp::config::AgentRule;
use crate::server::listener::Certificate;
use crate::server::{AccessRules, AccessState, FlowServers, ReloadResult};
use crate::store::Store;

/// Timeout of loading all files.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Loads the configuration again and applies it if it is valid.
pub(super) struct Reloader {
    pub(super) source: ConfigSource,
    pub(super) console: bool,
    pub(super) rules: Vec<(String, String)>,
    pub(super) adjust: Adjust,
    pub(super) set_log_level: Option<SetLogLevel>,
    pub(super) started_with: Config,
    pub(super) handle: EngineHandle,
    pub(super) store: Store,
    pub(super) own: Arc<SidecarMetrics>,
    pub(super) clock: Clock,
    /// The access rules of each listener.
    pub(super) access: Vec<(SocketAddr, watch::Sender<Arc<AccessRules>>)>,
    /// What those keep over reloads.
    pub(super) access_state: Arc<AccessState>,
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Rules that name the agent of a hook that does not name it itself.
    pub(super) agent_rules: watch::Sender<Arc<[AgentRule]>>,
    /// The servers whose flows may be run.
    pub(super) flows: watch::Sender<Arc<FlowServers>>,
    pub(super) otlp: telemetry::TelemetryHandle,
    pub(super) runs: RunsHandle,
    pub(super) pollers: Pollers,
    pub(super) heartbeat: HeartbeatTask,
    /// The configuration in force.
    pub(super) current: watch::Sender<Arc<Config>>,
    /// Serializes reloads.
    pub(super) turn: Mutex<()>,
}

impl Reloader {
    /// Reloads and returns the changed keys that need a restart.
    pub(super) async fn reload(&self) -> ReloadResult {
        let _turn = self.turn.lock().await;
        let result = self.try_reload().await;
        self.own.reloaded(self.clock.wall(), result.is_ok());
        match &result {
            Ok(keys) if keys.is_empty() => tracing::info!("configuration reloaded"),
            Ok(keys) => tracing::warn!(
                restart_needed = keys.join(", "),
                "configuration reloaded; some changed keys need a restart to take effect"
            ),
            Err(error) => {
                tracing::error!(error = %error, "configuration reload failed; the previous configuration remains active")
            }
        }
        result.map_err(|error| format!("{error:#}"))
    }

    async fn try_reload(&self) -> anyhow::Result<Vec<&'static str>> {
        let (source, adjust) = (self.source.clone(), Arc::clone(&self.adjust));
        let access_state = Arc::clone(&self.access_state);
        let file = self.source.file.clone().unwrap_or_default();
        let addresses: Vec<SocketAddr> = self.access.iter().map(|(address, _)| *address).collect();
        let read = move || {
            let prepared = prepare(source.load_again()?, &adjust)?;
            let access =
                addresses.into_iter().map(|address| AccessRules::new(&prepared.config, address, &access_state));
            let access = access.collect::<Result<Vec<_>, _>>()?;
            let flows = FlowServers::new(&prepared.config.flows)
                .map_err(|error| ConfigError { problems: vec![Problem::new("flows", error.to_string())] })?;
            let export = &prepared.config.export;
            let targets = export
                .targets()
                .map_err(|error| ConfigError { problems: vec![Problem::new("export", error.to_string())] })?;
            let table = export.clickhouse.as_ref().map(ArchivedTable::new).transpose();
            let table = table.map_err(|error| ConfigError {
                problems: vec![Problem::new("export.clickhouse", error.to_string())],
            })?;
            Ok::<_, ConfigError>((prepared, access, flows, targets, table))
        };
        let (prepared, access, flows, targets, table) = files::run_blocking(Path::new(&file), LOAD_TIMEOUT, read)
            .await
            .map_err(|error| anyhow::anyhow!("read the configuration or a file that it names: {error}"))??;
        let keys = restart_needed(&self.started_with, &prepared.config);
        let certificate = prepared.certificate.clone();
        let (config, settings) = engine_settings(prepared, self.console, &self.rules)?;
        // The only step that can fail for another reason than the configuration, if the spool has to be opened, comes first.
        let exports = self.runs.exports().clone();
        tokio::task::spawn_blocking(move || exports.configure(targets)).await.context("exports panicked")??;
        // From here on the configuration is valid.
        if let (Some(archive), Some(table)) = (self.runs.archive(), table) {
            archive.read_from(table);
        }
        for ((_, current), access) in self.access.iter().zip(access) {
            current.send_replace(Arc::new(access));
        }
        if let (Some(shown), Some(certificate)) = (&self.certificate, certificate) {
            shown.replace(certificate);
        }
        if let Some(set_log_level) = &self.set_log_level {
            set_log_level(&config.log.level)?;
        }
        self.store.configure(&config.store);
        self.flows.send_replace(Arc::new(flows));
        self.agent_rules.send_replace(config.otlp.agents.clone().into());
        self.runs.configure(RunsSettings::new(&config.runs, &config.otlp));
        anyhow::ensure!(self.otlp.configure(&config.otlp).await, "shutting down");
        self.handle.reload(settings).await?;
        self.heartbeat.replace(&config).await;
        self.pollers.replace(&config).await?;
        self.current.send_replace(Arc::new(config));
        Ok(keys)
    }
}
