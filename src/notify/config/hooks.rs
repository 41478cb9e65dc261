//! The kinds of receivers that are told by an HTTP POST: webhook, Alertmanager, Teams, Discord, Telegram, PagerDuty.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Reporter, webhook_url};
use crate::secret::{Secret, SecretSource, SecretUrl};

/// Most instances of one Alertmanager, and most headers of a webhook.
const MANY: usize = 20;

/// A webhook that takes Alertmanager's payload of version 4.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its address, which is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The file that holds its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Signs each body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The file that holds the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// More headers; their values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

/// Every instance of one Alertmanager.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// The address of each instance, without `/api/v2/alerts`; never that of a balancer.
    pub urls: Vec<SecretUrl>,
    /// Sent as a bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The file that holds the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// A webhook of a chat.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// Its address, which is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// The file that holds its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
}

/// A bot in Telegram.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TelegramConfig {
    /// Its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_token: Option<Secret>,
    /// The file that holds its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_token_file: Option<PathBuf>,
    /// The chat.
    pub chat_id: String,
    /// Where Telegram answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

/// A service of PagerDuty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// The key of its integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<Secret>,
    /// The file that holds the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key_file: Option<PathBuf>,
    /// Where PagerDuty takes events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

type Pair = Result<Option<SecretSource>, &'static str>;

fn pair(value: Option<&Secret>, file: Option<&PathBuf>) -> Pair {
    SecretSource::from_pair(value, file.map(PathBuf::as_path))
}

/// A pair that has to be given.
fn needed(pair: Pair) -> Result<SecretSource, &'static str> {
    pair?.ok_or("it is not given; give it, or its `_file`")
}

/// Reports what is wrong with an address that has to be given.
fn address(report: &mut Reporter<'_>, key: &str, source: Result<SecretSource, &'static str>) {
    match source {
        Ok(SecretSource::Value(url)) => {
            if let Err(problem) = webhook_url(url.expose()) {
                report.add(key, format!("it {problem}"));
            }
        }
        Ok(SecretSource::File(_)) => {}
        Err(problem) => report.add(key, problem),
    }
}

fn api_url(report: &mut Reporter<'_>, key: &str, url: Option<&SecretUrl>) {
    if let Some(Err(problem)) = url.map(|url| webhook_url(url)) {
        report.add(key, format!("it {problem}"));
    }
}

impl WebhookConfig {
    pub(in crate::notify) fn address(&self) -> Result<SecretSource, &'static str> {
        needed(pair(self.url.as_ref(), self.url_file.as_ref()))
    }

    pub(in crate::notify) fn secret(&self) -> Pair {
        pair(self.secret.as_ref(), self.secret_file.as_ref())
    }

    pub(in crate::notify) fn token(&self) -> Pair {
        pair(self.token.as_ref(), self.token_file.as_ref())
    }

    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        address(report, "webhook.url", self.address());
        for (key, pair) in [("webhook.secret", self.secret()), ("webhook.token", self.token())] {
            if let Err(problem) = pair {
                report.add(key, problem);
            }
        }
        if self.headers.len() > MANY {
            report.add("webhook.headers", format!("there are {}; give at most {MANY}", self.headers.len()));
        }
        for (name, value) in &self.headers {
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let name = crate::text::clean(name, 50);
                report.add("webhook.headers", format!("`{name}` is not the name of a header"));
            } else if reqwest::header::HeaderValue::from_str(value.expose()).is_err() {
                report.add("webhook.headers", format!("the value of `{name}` can't be sent; remove line ends from it"));
            }
        }
    }
}

impl AlertmanagerConfig {
    pub(in crate::notify) fn token(&self) -> Pair {
        pair(self.token.as_ref(), self.token_file.as_ref())
    }

    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        if self.urls.is_empty() || self.urls.len() > MANY {
            report.add("alertmanager.urls", format!("it has {} addresses; give 1 to {MANY}", self.urls.len()));
        }
        for (place, url) in self.urls.iter().enumerate() {
            let is_http = reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !is_http {
                let message = "it is not an address; write it like http://alertmanager:9093";
                report.add(&format!("alertmanager.urls[{place}]"), message);
            }
        }
        if let Err(problem) = self.token() {
            report.add("alertmanager.token", problem);
        }
    }
}

impl ChatConfig {
    pub(in crate::notify) fn address(&self) -> Result<SecretSource, &'static str> {
        needed(pair(self.webhook_url.as_ref(), self.webhook_url_file.as_ref()))
    }

    pub(super) fn validate(&self, kind: &str, report: &mut Reporter<'_>) {
        address(report, &format!("{kind}.webhook_url"), self.address());
    }
}

impl TelegramConfig {
    pub(in crate::notify) fn token(&self) -> Result<SecretSource, &'static str> {
        needed(pair(self.bot_token.as_ref(), self.bot_token_file.as_ref()))
    }

    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        if let Err(problem) = self.token() {
            report.add("telegram.bot_token", problem);
        }
        if self.chat_id.is_empty() {
            report.add("telegram.chat_id", "it is not given; it is a number, or @name of a channel");
        }
        api_url(report, "telegram.api_url", self.api_url.as_ref());
    }
}

impl PagerDutyConfig {
    pub(in crate::notify) fn key(&self) -> Result<SecretSource, &'static str> {
        needed(pair(self.routing_key.as_ref(), self.routing_key_file.as_ref()))
    }

    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        if let Err(problem) = self.key() {
            report.add("pagerduty.routing_key", problem);
        }
        api_url(report, "pagerduty.api_url", self.api_url.as_ref());
    }
}
