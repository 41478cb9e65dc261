//! The section `sources`: what is polled, and how its answers are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::{Secret, SecretUrl};

/// A polled source.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name, one of a kind.
    pub name: String,
    /// What it speaks.
    pub kind: SourceKind,
    /// Its address: of an orchestrator the root, of a page the page.
    pub url: SecretUrl,
    /// How often it is polled.
    #[serde(default = "interval", with = "crate::model::duration")]
    pub interval: Duration,
    /// How long a poll may take.
    #[serde(default = "timeout", with = "crate::model::duration")]
    pub timeout: Duration,
    /// The largest body read, in bytes.
    #[serde(default = "body")]
    pub max_body: usize,
    /// The project of its agents, where the answer names none; its own name when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Headers sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// The file that holds the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Roots trusted beside the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// For `http-json`: where each field is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<FieldPaths>,
    /// For `http-json`: from its words for a status to ours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub status_map: BTreeMap<String, String>,
}

/// What a source speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// An orchestrator-cc, older or newer.
    OrchestratorCc,
    /// Any JSON page, read by paths.
    HttpJson,
}

impl SourceKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrchestratorCc => "orchestrator-cc",
            Self::HttpJson => "http-json",
        }
    }
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
/// Serde can't both deny unknown keys and collect them, so that validation refuses the ones that are no field.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FieldPaths {
    /// The agents, such as `$.agents[*]`.
    pub agents: String,
    /// The name; for agents that are values of an object by name, `@key`.
    pub name: String,
    /// The other fields, by our names for them: `status`, `task_id`, `tokens.input`, `requests.total`, ….
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
