//! What sections about receivers have in common: how mistakes are reported, secrets in pairs, and addresses.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::Problem;
use crate::secret::{Secret, SecretPair, SecretSource, SecretUrl};

/// Collects mistakes under one path.
pub(super) struct Reporter<'a> {
    path: String,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reporter<'a> {
    /// Collects in `problems` what is wrong under `path`.
    pub(super) const fn new(path: String, problems: &'a mut Vec<Problem>) -> Self {
        Self { path, problems }
    }

    /// The same under the key `key` of this path.
    pub(super) fn within(&mut self, key: &str) -> Reporter<'_> {
        Reporter { path: format!("{}.{key}", self.path), problems: self.problems }
    }

    /// Adds the mistake `message` about `key`, or about all of it when that is empty.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.problems.push(Problem::new(path, message));
    }

    /// Adds what is wrong with the secret of `key`, if anything is.
    pub(super) fn secret(&mut self, key: &str, source: SecretPair) {
        if let Err(problem) = source {
            self.add(key, problem);
        }
    }

    /// Adds what is wrong with the address in `key`, which has to be given.
    pub(super) fn address(&mut self, key: &str, source: Result<SecretSource, &'static str>) {
        match source {
            Ok(SecretSource::Value(url)) => self.url(key, Some(url.expose())),
            Ok(SecretSource::File(_)) => {}
            Err(problem) => self.add(key, problem),
        }
    }

    /// Adds what is wrong with the address in `key`, if it is given.
    pub(super) fn url(&mut self, key: &str, url: Option<&str>) {
        if let Some(Err(problem)) = url.map(webhook_url) {
            self.add(key, format!("it {problem}"));
        }
    }
}

/// The webhook of a chat, where it is the section's only key.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebhookAddress {
    /// Its address, which is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_url: Option<Secret>,
    /// The file that holds its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_url_file: Option<PathBuf>,
}

impl WebhookAddress {
    /// The address; the error is what is wrong with `webhook_url`.
    pub(super) fn source(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_required_pair(&self.webhook_url, &self.webhook_url_file)
    }

    /// Reports what is wrong with it.
    pub(super) fn validate(&self, report: &mut Reporter<'_>) {
        report.address("webhook_url", self.source());
    }
}

/// Where a service's API is: at `url`, else at `usual`.
pub(super) fn api<'a>(url: Option<&'a SecretUrl>, usual: &'a str) -> &'a str {
    url.map_or(usual, |url| url).trim_end_matches('/')
}

/// Reads a webhook's URL; the error is what is wrong with it, without the URL.
pub(super) fn webhook_url(url: &str) -> Result<reqwest::Url, &'static str> {
    let url = reqwest::Url::parse(url)
        .map_err(|_| "can't be read; it should look like https://hooks.slack.com/services/…")?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("does not begin with https://; http:// is for loopback addresses only"),
    }
}
