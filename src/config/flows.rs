//! The section `flows`: servers whose flows may be run by `POST /agents/{id}/invoke`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::decode::read::shown;
use crate::model::{Problem, duration};
use crate::secret::{Secret, SecretSource, SecretUrl};
use crate::text;

/// Longest name of a flow server, in bytes.
const MAX_NAME: usize = 128;
/// The shortest and longest timeout.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(24 * 3600));

/// A server whose flows may be run.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FlowConfig {
    /// Its name, which `config.flow` of an agent names.
    pub name: String,
    /// What it is.
    pub kind: FlowKind,
    /// Its URL; paths are appended to it.
    pub url: SecretUrl,
    /// The API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// The file that holds the API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// How long a flow may take until the end of its answer.
    #[serde(default = "timeout", with = "crate::model::duration")]
    pub timeout: Duration,
    /// CA certificates to trust in addition to the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// The kind of a flow server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowKind {
    /// `POST /api/v1/run/{flow_id}`.
    Langflow,
    /// `POST /api/v1/prediction/{flow_id}`.
    Flowise,
}

const fn timeout() -> Duration {
    Duration::from_secs(300)
}

/// The problems of the section.
pub(super) fn validate(flows: &[FlowConfig]) -> Vec<Problem> {
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    for (index, flow) in flows.iter().enumerate() {
        let mut wrong =
            |key: &str, message: String| problems.push(Problem::new(key, message).under(&format!("flows[{index}]")));
        if !names.insert(flow.name.as_str()) {
            let message = format!("duplicate flow server `{}`: give each its own name", shown(&flow.name));
            wrong("name", message);
        }
        if !text::is_name(&flow.name, MAX_NAME) {
            wrong("name", format!("`{}` is not a valid name; use 1 to {MAX_NAME} bytes of text", shown(&flow.name)));
        }
        match Url::parse(&flow.url) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                wrong("url", "not an address; write it like http://localhost:7860".to_owned());
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() || url.query().is_some() => {
                wrong("url", "must have neither credentials nor a query; use `api_key_file`".to_owned());
            }
            Ok(_) => {}
            Err(error) => wrong("url", format!("not a URL ({error}); write it like http://localhost:7860")),
        }
        if let Err(message) = SecretSource::from_pair(&flow.api_key, &flow.api_key_file) {
            wrong("api_key", message.to_owned());
        }
        let (least, most) = TIMEOUTS;
        if flow.timeout < least || flow.timeout > most {
            let (value, least, most) = (duration::exact(flow.timeout), duration::exact(least), duration::exact(most));
            wrong("timeout", format!("{value} is out of range; use {least} to {most}"));
        }
    }
    problems
}
