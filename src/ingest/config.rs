//! The section `sources` of the configuration: what is polled, and how responses are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, SecretUrl};

/// A polled source.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name, unique among sources.
    pub name: String,
    /// Its kind.
    pub kind: SourceKind,
    /// Its URL: the root of a server, or the address of a page. A file has none.
    #[serde(default, skip_serializing_if = "is_empty_url")]
    pub url: SecretUrl,
    /// For `crewx`: its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How often it is polled.
    #[serde(default = "interval", with = "crate::model::duration")]
    pub interval: Duration,
    /// How long a poll may take.
    #[serde(default = "timeout", with = "crate::model::duration")]
    pub timeout: Duration,
    /// The largest response body, in bytes.
    #[serde(default = "body")]
    pub max_body: usize,
    /// The project of agents for which the response names none; by default the source's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Additional request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// The file that holds the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// For flow servers: the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// The file that holds the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// For `autogen-studio`: whose teams and runs are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// CA certificates to trust in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// For `http-json`: the path of each field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<FieldPaths>,
    /// For `http-json`: from the page's statuses to lookout's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub status_map: BTreeMap<String, String>,
}

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// orchestrator-cc, all versions.
    OrchestratorCc,
    /// Any JSON page, read by JSONPath.
    HttpJson,
    /// Langflow's lists of flows and traces.
    Langflow,
    /// Flowise's lists of flows and executions.
    Flowise,
    /// AutoGen Studio's lists of teams and runs.
    AutogenStudio,
    /// CrewX's database.
    Crewx,
}

impl SourceKind {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrchestratorCc => "orchestrator-cc",
            Self::HttpJson => "http-json",
            Self::Langflow => "langflow",
            Self::Flowise => "flowise",
            Self::AutogenStudio => "autogen-studio",
            Self::Crewx => "crewx",
        }
    }

    /// Whether it lists runs, and takes an API key if it is a server.
    pub const fn takes_key(self) -> bool {
        matches!(self, Self::Langflow | Self::Flowise | Self::AutogenStudio)
    }
}

fn is_empty_url(url: &SecretUrl) -> bool {
    url.is_empty()
}

/// A user and a password.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// JSONPath (RFC 9535) of each field. `agents` selects the agents in the page; the others are read within one agent.
///
/// Serde can't both deny unknown keys and collect them, so that validation reports those that are no field.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FieldPaths {
    /// The agents, such as `$.agents[*]`.
    pub agents: String,
    /// The agent's name; `@key` where agents are the values of an object and its keys are their names.
    pub name: String,
    /// Other fields, by lookout's names for them: `status`, `task_id`, `tokens.input`, `requests.total`, ….
    #[serde(flatten)]
    pub fields: BTreeMap<String, String>,
}

const fn interval() -> Duration {
    Duration::from_secs(5)
}

const fn timeout() -> Duration {
    Duration::from_secs(3)
}

const fn body() -> usize {
    16 * 1024 * 1024
}
