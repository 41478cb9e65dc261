//! The dead man's switch: a URL of another service that is called while lookout itself works.
//!
//! That service notices when the calls stay away. No call is made while rules are not evaluated or alerts can't be sent;
//! whether that is so is decided elsewhere.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::webhook_url;
use crate::http_client;
use crate::model::Problem;
use crate::secret::{Secret, SecretSource};

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The shortest pause between two calls.
const SHORTEST: Duration = Duration::from_secs(1);

/// The section `heartbeat`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// The address; none is no heartbeat. A secret, as whoever knows it can call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The file that holds the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// How often it is called.
    #[serde(with = "crate::model::duration")]
    pub interval: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { url: None, url_file: None, interval: Duration::from_secs(60) }
    }
}

impl HeartbeatConfig {
    fn source(&self) -> Result<Option<SecretSource>, &'static str> {
        SecretSource::from_pair(&self.url, &self.url_file)
    }

    /// All mistakes in the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut report = |key: &str, message: String| {
            problems.push(Problem::new(format!("heartbeat.{key}"), message));
        };
        match self.source() {
            Ok(Some(SecretSource::Value(url))) => {
                if let Err(problem) = webhook_url(url.expose()) {
                    report("url", format!("it {problem}"));
                }
            }
            Ok(_) => {}
            Err(problem) => report("url", problem.to_owned()),
        }
        if self.interval < SHORTEST {
            report("interval", "it is shorter than 1s; once a minute is usual".to_owned());
        }
        problems
    }
}

/// Calls the address again and again while `is_well` succeeds; ends at once when there is no address.
pub async fn beat<W>(config: HeartbeatConfig, is_well: impl Fn() -> W)
where
    W: Future<Output = Result<(), String>>,
{
    let Ok(Some(source)) = config.source() else { return };
    // The machine's roots are read from disk.
    let client = match tokio::task::spawn_blocking(|| http_client::build(DEADLINE, None)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            tracing::error!(error = %error, "no heartbeat");
            return;
        }
        // Only a runtime that ends takes no such work.
        Err(_) => return,
    };
    let mut turns = tokio::time::interval(config.interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_failure = String::new();
    loop {
        turns.tick().await;
        let done = match is_well().await {
            Ok(()) => call(&client, &source).await.map_err(|reason| format!("the call failed: {reason}")),
            Err(reason) => Err(format!("not called: {reason}")),
        };
        let failure = done.err().unwrap_or_default();
        if failure != last_failure && failure.is_empty() {
            tracing::info!("heartbeat called again");
        } else if failure != last_failure {
            tracing::warn!(reason = failure, "heartbeat missed");
        }
        last_failure = failure;
    }
}

async fn call(client: &reqwest::Client, source: &SecretSource) -> Result<(), String> {
    let url = source.read().await.map_err(|error| error.in_full())?;
    let url = webhook_url(url.expose()).map_err(|problem| format!("the address {problem}"))?;
    let response = client.get(url).send().await.map_err(|error| {
        let kind = if error.is_timeout() { "no answer in time" } else { "no connection" };
        kind.to_owned()
    })?;
    if response.status().is_success() { Ok(()) } else { Err(format!("answered {}", response.status().as_u16())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_checked_and_never_shown() {
        for (config, message) in [
            (r#"{}"#, None),
            (r#"{"url": "https://hc.example/S3CRET"}"#, None),
            (r#"{"url": "http://hc.example/S3CRET"}"#, Some("https://")),
            (r#"{"url": "https://hc.example/S3CRET", "url_file": "/x"}"#, Some("not both")),
            (r#"{"interval": "10ms"}"#, Some("shorter than 1s")),
        ] {
            let config: HeartbeatConfig = serde_json::from_str(config).unwrap();
            let problems = config.validate();
            assert_eq!(problems.len(), usize::from(message.is_some()), "{problems:?}");
            assert!(problems.iter().all(|it| it.message.contains(message.unwrap()) && !it.message.contains("S3CRET")));
            assert!(!serde_json::to_string(&config).unwrap().contains("S3CRET"));
        }
    }
}
