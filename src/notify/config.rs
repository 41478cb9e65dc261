//! The section `receivers`: who is told, how, and from which level on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::Level;
use crate::secret::Secret;

/// One receiver. Exactly one of the kinds is given.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// Its name, one of a kind.
    pub name: String,
    /// The mildest level it is told of.
    #[serde(default = "warning")]
    pub min_level: Level,
    /// Whether it is told when an alert is over.
    #[serde(default = "yes")]
    pub send_resolved: bool,
    /// Slack, through an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackConfig>,
    /// E-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailConfig>,
}

/// A Slack incoming webhook.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Its URL, which is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// The file that holds its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
}

/// Mail to some people through one server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// To whom.
    pub to: Vec<String>,
    /// From whom.
    pub from: String,
    /// Through which server.
    pub smtp: SmtpConfig,
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// In the clear first, then STARTTLS; required.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    /// In the clear; no credentials are ever sent so.
    None,
}

/// A mail server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    /// Its host name.
    pub host: String,
    /// Its port; 465 for implicit TLS, else 587.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How TLS is used; `implicit` on port 465 when not given, else `starttls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SmtpTls>,
    /// The user to log in as; none is no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Roots trusted beside the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

const fn warning() -> Level {
    Level::Warning
}

const fn yes() -> bool {
    true
}
