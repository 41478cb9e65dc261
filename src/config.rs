//! Configuration: defaults, the file with its profile for the environment, and environment variables, loaded and validated
//! as a whole.
//!
//! Owns loading, error messages and the output of `check --print`; each module declares its own section next to its code.

mod environment;
mod file;
pub mod flows;
mod layers;
pub mod log;
pub mod pipe;
mod prepared;
mod reader;
pub mod rule_tests;
pub mod server;
mod shorthand;
mod validate;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use environment::Environment;
pub use prepared::Prepared;

use self::flows::FlowConfig;
use self::pipe::PipeConfig;
use crate::alerts::config::{DigestConfig, IncidentsConfig};
use crate::export::ExportConfig;
use crate::fleet;
use crate::fleet::config::{AgentsConfig, BudgetsConfig, ExpectedConfig};
use crate::ingest::config::SourceConfig;
use crate::model::{Origin, Problem};
use crate::notify::config::ReceiverConfig;
use crate::notify::heartbeat::HeartbeatConfig;
use crate::otlp::OtlpConfig;
use crate::runs::config::RunsConfig;
use crate::store::config::{RecordConfig, StoreConfig};
use crate::store::shared_registry::config::RegistryConfig;
use crate::written::yaml;
use log::LogConfig;
use reader::ConfigReader;
use server::{AuthConfig, LimitsConfig, TlsConfig};

/// The effective configuration. Serializes to a file that loads again, with `***` for secrets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Config {
    /// The name of the environment, which selects a profile.
    pub environment: EnvironmentName,
    /// The address of the main listener. Port 0 chooses a free port.
    pub listen: Listen,
    /// Hosts that are accepted in the `Host` header, in addition to loopback, the local address of the connection, and the host
    /// of `external_url`.
    pub allowed_hosts: Vec<String>,
    /// Access control.
    pub auth: AuthConfig,
    /// TLS of the listeners.
    pub tls: TlsConfig,
    /// Limits on requests and series.
    pub limits: LimitsConfig,
    /// Logging.
    pub log: LogConfig,
    /// The store; a relative path is relative to the working directory.
    pub store: StoreConfig,
    /// Runs of agents and their spans.
    pub runs: RunsConfig,
    /// Where the registry of agents is shared with others.
    pub registry: RegistryConfig,
    /// The recording of input; a relative path is relative to the working directory.
    pub record: RecordConfig,
    /// Sources to poll.
    pub sources: Vec<SourceConfig>,
    /// Servers whose flows may be run.
    pub flows: Vec<FlowConfig>,
    /// OTLP listeners and limits.
    pub otlp: OtlpConfig,
    /// Systems that telemetry goes on to.
    pub export: ExportConfig,
    /// Patterns of `lookout pipe`.
    pub pipe: PipeConfig,
    /// When an agent is stale, idle and expired.
    pub agents: AgentsConfig,
    /// Expected agents.
    pub expected: Vec<ExpectedConfig>,
    /// Budgets of agents.
    pub budgets: BudgetsConfig,
    /// Rule files; relative paths in the file are relative to its directory, and resolved here.
    pub rules: Vec<PathBuf>,
    /// When many alerts of one rule are grouped into an incident.
    pub incidents: IncidentsConfig,
    /// The daily digest.
    pub digest: DigestConfig,
    /// The heartbeat URL, called while lookout is healthy.
    pub heartbeat: HeartbeatConfig,
    /// The external URL, for links in notifications.
    pub external_url: ExternalUrl,
    /// Receivers of notifications.
    pub receivers: Vec<ReceiverConfig>,
}

/// Where the configuration is loaded from, at startup and on a reload.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The configuration file, if any.
    pub file: Option<PathBuf>,
    /// The environment variables.
    pub env: Environment,
}

impl ConfigSource {
    /// Loads and validates the configuration. The error contains all problems.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let file = match self.file.as_deref() {
            Some(path) => Some((path, file::document(path).map_err(|message| unreadable(path, message))?)),
            None => None,
        };
        let mut reader = ConfigReader::new(file, &self.env);
        let environment = reader.environment();
        let mut config = Config { environment, ..Config::read(&mut reader) };
        let any_receiver = reader.has_items("receivers");
        reader.read_others(&config.environment, |reader| drop(Config::read(reader)));
        let mut found = reader.finish();
        if let Some(folder) = self.file.as_deref().and_then(Path::parent) {
            config.rules.iter_mut().for_each(|rules| *rules = folder.join(&*rules));
        }
        validate::check(&config, &mut found);
        if !any_receiver {
            let (receivers, problems) = shorthand::receivers(&self.env);
            config.receivers = receivers;
            found.extend(problems);
        }
        for receiver in &mut config.receivers {
            receiver.common.external_url.clone_from(&config.external_url.0);
        }
        let problems = found.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }
}

impl ConfigSource {
    /// [`ConfigSource::load`] for a reload. A file that can be read only once, such as standard input, is an error.
    pub fn load_again(&self) -> Result<Config, ConfigError> {
        match self.file.as_deref() {
            Some(path) if !path.is_file() && path != Path::new("/dev/null") => {
                let message = match path.exists() {
                    true => "not a regular file, cannot be read again; restart lookout to change the configuration",
                    false => "no such file; check the path",
                };
                Err(unreadable(path, message.to_owned()))
            }
            _ => self.load(),
        }
    }
}

/// All problems of a configuration, in the order of the sections. Displayed with one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Names `file` in problems without a location, such as those found when the configuration is used.
    pub fn found_in(mut self, file: Option<&Path>) -> Self {
        for problem in self.problems.iter_mut().filter(|problem| problem.origin == Origin::Unknown) {
            problem.origin = file.map_or(Origin::Unknown, |file| Origin::File(file.to_owned()));
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The error for a file that can't be read.
fn unreadable(path: &Path, message: String) -> ConfigError {
    ConfigError { problems: vec![Problem::in_file(path, "", message)] }
}

impl Config {
    /// Reads all sections except the environment, which the reader has read already.
    fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            environment: EnvironmentName::default(),
            listen: reader.section("listen"),
            allowed_hosts: reader.list("allowed_hosts"),
            auth: reader.section("auth"),
            tls: reader.section("tls"),
            limits: reader.section("limits"),
            log: reader.section("log"),
            store: reader.section("store"),
            runs: reader.section("runs"),
            registry: reader.section("registry"),
            record: reader.section("record"),
            sources: reader.list("sources"),
            flows: reader.list("flows"),
            otlp: reader.section("otlp"),
            export: reader.section("export"),
            pipe: reader.section("pipe"),
            agents: reader.section("agents"),
            expected: reader.list("expected"),
            budgets: reader.section("budgets"),
            rules: reader.list("rules"),
            incidents: reader.section("incidents"),
            digest: reader.section("digest"),
            heartbeat: reader.section("heartbeat"),
            external_url: reader.section("external_url"),
            receivers: reader.list("receivers"),
        }
    }

    /// What is valid and yet likely a mistake, by key.
    pub fn notes(&self) -> Vec<Problem> {
        validate::notes(self)
    }

    /// The settings of the fleet.
    pub fn fleet_settings(&self) -> fleet::FleetSettings {
        let sources = self.sources.iter().map(|source| (source.name.clone(), source.kind.as_str(), source.interval));
        fleet::FleetSettings {
            agents: self.agents.clone(),
            expected: self.expected.clone(),
            budgets: self.budgets.clone(),
            max_series: self.limits.series,
            sources: sources.collect(),
        }
    }

    /// The file of the admin token that lookout makes itself: where it listens for other machines, and nothing says who may do
    /// what. `None` also without a store, since it could not be kept.
    pub fn own_token_path(&self) -> Option<PathBuf> {
        let is_open = !self.listen.0.ip().is_loopback() && self.auth.is_unset();
        self.store.token_path().filter(|_| is_open)
    }

    /// The effective configuration as YAML, with `***` for secrets, also for those inside URLs.
    pub fn print(&self) -> String {
        yaml::print(self).unwrap_or_else(|error| format!("# not printable: {error}\n"))
    }
}

/// The name of the environment, such as `production`. It selects a section of `profiles`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct EnvironmentName(pub String);

impl Default for EnvironmentName {
    fn default() -> Self {
        Self("production".to_owned())
    }
}

/// The external URL; empty when not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ExternalUrl(pub String);

impl<'de> Deserialize<'de> for ExternalUrl {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(input)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self(text));
        }
        let problem = match reqwest::Url::parse(&text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => "is not a URL",
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "contains credentials, which notifications would reveal"
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                "contains a query or fragment, so no path can be appended"
            }
            Ok(_) => return Ok(Self(text)),
            Err(_) => "is not a URL",
        };
        Err(serde::de::Error::custom(format!("`{text}` {problem}; use a URL such as https://lookout.example.com")))
    }
}

/// The address of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Listen(pub SocketAddr);

impl Default for Listen {
    fn default() -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, 9797)))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let address = text.trim().parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "`{text}` is not an address with a port; use 127.0.0.1:9797 or [::1]:9797, for example"
            ))
        })?;
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests;
