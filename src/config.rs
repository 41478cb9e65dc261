//! Configuration: defaults, then the file with what it says of the environment that this is, then variables, read and
//! checked as a whole.
//!
//! Owns loading, the error texts and what `check --print` shows; each part declares its own section beside its
//! code. Refuses unknown keys, and to show a secret.

mod environment;
mod file;
mod layers;
pub mod log;
pub mod pipe;
mod prepared;
mod reader;
pub mod rule_tests;
mod rules;
pub mod server;
mod shorthand;
mod validate;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use environment::Environment;
pub use prepared::Prepared;

use self::pipe::PipeConfig;
use crate::alerts::config::{DigestConfig, IncidentsConfig};
use crate::fleet;
use crate::fleet::config::{AgentsConfig, BudgetsConfig, ExpectedConfig};
use crate::ingest::config::SourceConfig;
use crate::model::{Origin, Problem};
use crate::notify::config::ReceiverConfig;
use crate::notify::heartbeat::HeartbeatConfig;
use crate::otlp::OtlpConfig;
use crate::store::config::{RecordConfig, StoreConfig};
use crate::written::yaml;
use log::LogConfig;
use reader::Reader;
use server::{AuthConfig, LimitsConfig, TlsConfig};

/// The effective configuration. Serialises as a file that would be read back, with `***` for secrets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Config {
    /// Which environment this is.
    pub environment: EnvironmentName,
    /// The main listener's address. Port 0 picks a free one.
    pub listen: Listen,
    /// Names and addresses that a Host header may carry beside loopback ones, the address that was connected to and the
    /// host of `external_url`.
    pub allowed_hosts: Vec<String>,
    /// Who may do what.
    pub auth: AuthConfig,
    /// The main listener's certificate.
    pub tls: TlsConfig,
    /// What is taken in at most.
    pub limits: LimitsConfig,
    /// What goes to the log.
    pub log: LogConfig,
    /// Where things are kept; a relative path is relative to the working directory.
    pub store: StoreConfig,
    /// Whether and where what comes in is recorded; a relative path is relative to the working directory.
    pub record: RecordConfig,
    /// What is polled.
    pub sources: Vec<SourceConfig>,
    /// Where OpenTelemetry's protocol is received and what is kept of it.
    pub otlp: OtlpConfig,
    /// How `lookout pipe` understands text.
    pub pipe: PipeConfig,
    /// When an agent counts as silent, idle and forgotten.
    pub agents: AgentsConfig,
    /// Who must be there.
    pub expected: Vec<ExpectedConfig>,
    /// What an agent may use.
    pub budgets: BudgetsConfig,
    /// Rule files; given relative to the configuration file, here with its folder before them.
    pub rules: Vec<PathBuf>,
    /// When many alerts of one rule are told as one.
    pub incidents: IncidentsConfig,
    /// A message a day about how things are.
    pub digest: DigestConfig,
    /// An address that is called while all is well.
    pub heartbeat: HeartbeatConfig,
    /// Where others find us, for links in what they are told.
    pub external_url: ExternalUrl,
    /// Who is told.
    pub receivers: Vec<ReceiverConfig>,
}

/// Where a configuration comes from; loading it again is a reload.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The variables.
    pub env: Environment,
}

impl Source {
    /// Reads and checks everything; the error names all that is wrong.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let file = match self.file.as_deref() {
            Some(path) => Some((path, file::document(path).map_err(|message| unreadable(path, message))?)),
            None => None,
        };
        let mut reader = Reader::new(file, &self.env);
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

impl Source {
    /// [`Source::load`] for a reload: what could be read once only, such as a pipe on standard input, is refused.
    pub fn load_again(&self) -> Result<Config, ConfigError> {
        match self.file.as_deref() {
            Some(path) if !path.is_file() && path != Path::new("/dev/null") => {
                let message = match path.exists() {
                    true => {
                        "it is not a regular file and cannot be read again; restart lookout to change its configuration"
                    }
                    false => "there is no such file; check the path",
                };
                Err(unreadable(path, message.to_owned()))
            }
            _ => self.load(),
        }
    }
}

/// Everything that is wrong, in the order of the file's sections. Display writes one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// The same, naming `file` where nothing else is named: for what is found wrong once the configuration is used.
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

/// A file that can't be read at all.
fn unreadable(path: &Path, message: String) -> ConfigError {
    ConfigError { problems: vec![Problem::in_file(path, "", message)] }
}

impl Config {
    /// What is said of everything but the environment, which the reader knows.
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            environment: EnvironmentName::default(),
            listen: reader.section("listen"),
            allowed_hosts: reader.list("allowed_hosts"),
            auth: reader.section("auth"),
            tls: reader.section("tls"),
            limits: reader.section("limits"),
            log: reader.section("log"),
            store: reader.section("store"),
            record: reader.section("record"),
            sources: reader.list("sources"),
            otlp: reader.section("otlp"),
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

    /// What the fleet takes from the configuration.
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

    /// The effective configuration as YAML, with `***` for secrets, also for those inside URLs.
    pub fn print(&self) -> String {
        yaml::print(self).unwrap_or_else(|error| format!("# can't be shown: {error}\n"))
    }
}

/// Which environment this is, such as `production`: what the file says of it in `profiles` counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct EnvironmentName(pub String);

impl Default for EnvironmentName {
    fn default() -> Self {
        Self("production".to_owned())
    }
}

/// Where others find us; empty when nobody said.
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
            Ok(url) if !matches!(url.scheme(), "http" | "https") => "is not an address",
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "holds credentials, which every message would show"
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                "holds a query or a fragment, to which no path can be added"
            }
            Ok(_) => return Ok(Self(text)),
            Err(_) => "is not an address",
        };
        Err(serde::de::Error::custom(format!("`{text}` {problem}; write https://lookout.example.com")))
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
                "`{text}` is not an address with a port; write it like 127.0.0.1:9797 or [::1]:9797"
            ))
        })?;
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests;
