//! The section `receivers`: who is told, how, and from which level on.

mod hooks;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

pub use hooks::{AlertmanagerConfig, ChatConfig, PagerDutyConfig, TelegramConfig, WebhookConfig};

use super::queue::GroupBy;
use crate::model::{Level, Matchers, QuietHours, text};
use crate::secret::{Secret, SecretSource};

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
    /// It is told of what one of these covers; of everything when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Matchers>,
    /// It is not told of what one of these covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Matchers>,
    /// It is told only of what fires for so long and nobody looks after.
    #[serde(default, with = "crate::model::duration")]
    pub after: Duration,
    /// When it wants quiet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet_hours: Vec<QuietHours>,
    /// What is told in a message of its own while the rate allows it.
    #[serde(default)]
    pub group_by: GroupBy,
    /// After a message, and when much comes at once, how long what follows is gathered.
    #[serde(default = "gather", with = "crate::model::duration")]
    pub gather: Duration,
    /// The title of its messages, as a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text of its messages, as a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where others find us, for links; that of the whole configuration.
    #[serde(skip)]
    pub external_url: String,
    /// Slack, through an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackConfig>,
    /// E-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailConfig>,
    /// A webhook that takes Alertmanager's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConfig>,
    /// An Alertmanager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerConfig>,
    /// Microsoft Teams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<ChatConfig>,
    /// Discord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord: Option<ChatConfig>,
    /// Telegram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telegram: Option<TelegramConfig>,
    /// PagerDuty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDutyConfig>,
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

const fn gather() -> Duration {
    super::GATHER
}

const fn warning() -> Level {
    Level::Warning
}

const fn yes() -> bool {
    true
}

/// The kinds of receivers.
const KINDS: [&str; 8] = ["slack", "email", "webhook", "alertmanager", "teams", "discord", "telegram", "pagerduty"];
/// Longest time that what follows is gathered.
const LONGEST_GATHER: Duration = Duration::from_secs(60);
/// Longest name of a receiver, in bytes: it is part of idempotency keys and of mail headers.
const NAME_LIMIT: usize = 64;
/// Most recipients of a receiver; RFC 5321, 4.5.3.1.8 has every server take 100 in one transaction.
pub(super) const RECIPIENTS: usize = 100;

/// A mistake in the section, for the report that names file, key, value and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, from `receivers` on: `receivers[0].email.to[1]`.
    pub path: String,
    /// What is wrong with its value, and what would do. It shows no secret.
    pub message: String,
}

/// All mistakes in the section, in its order.
pub fn validate(receivers: &[ReceiverConfig]) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    for (place, receiver) in receivers.iter().enumerate() {
        let mut report = Reporter { path: format!("receivers[{place}]"), problems: &mut problems };
        receiver.validate(&mut report);
        if receivers.iter().take(place).any(|earlier| earlier.name == receiver.name) {
            report.add("name", format!("`{}` is the name of an earlier receiver; choose another", receiver.name));
        }
    }
    problems
}

/// Collects mistakes under one path.
struct Reporter<'a> {
    path: String,
    problems: &'a mut Vec<ConfigProblem>,
}

impl Reporter<'_> {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.problems.push(ConfigProblem { path, message: message.into() });
    }
}

impl ReceiverConfig {
    /// One of that name with no kind yet, and the defaults for the rest.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            min_level: warning(),
            send_resolved: yes(),
            only: Vec::new(),
            except: Vec::new(),
            after: Duration::ZERO,
            quiet_hours: Vec::new(),
            group_by: GroupBy::None,
            gather: gather(),
            title: None,
            text: None,
            external_url: String::new(),
            slack: None,
            email: None,
            webhook: None,
            alertmanager: None,
            teams: None,
            discord: None,
            telegram: None,
            pagerduty: None,
        }
    }

    /// The same, and a Slack webhook that leads nowhere when it has no kind: for trials, in which nothing is sent.
    pub fn or_nowhere(self) -> Self {
        if !self.kinds().is_empty() {
            return self;
        }
        let nowhere = SlackConfig { webhook_url: Some(Secret::new("https://slack.invalid/")), webhook_url_file: None };
        Self { slack: Some(nowhere), ..self }
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        if !text::is_name(&self.name, NAME_LIMIT) {
            let remedy = format!("give it 1 to {NAME_LIMIT} bytes without control characters");
            report.add("name", format!("`{}` is not a name; {remedy}", text::clean(&self.name, NAME_LIMIT)));
        }
        if self.gather > LONGEST_GATHER {
            report.add("gather", "it is longer than 1m; alerts would come late");
        }
        if let Err((key, problem)) = super::words::Words::new(self.title.as_deref(), self.text.as_deref()) {
            report.add(key, problem);
        }
        match self.kinds().as_slice() {
            [_] => {}
            [] => report.add("", format!("it has no kind; give one of {}", KINDS.join(", "))),
            kinds => report.add("", format!("it has several kinds; make a receiver of each of {}", kinds.join(", "))),
        }
        if let Some(slack) = &self.slack {
            slack.validate(report);
        }
        if let Some(email) = &self.email {
            email.validate(report);
        }
        if let Some(webhook) = &self.webhook {
            webhook.validate(report);
        }
        if let Some(alertmanager) = &self.alertmanager {
            alertmanager.validate(report);
        }
        for (kind, chat) in [("teams", &self.teams), ("discord", &self.discord)] {
            if let Some(chat) = chat {
                chat.validate(kind, report);
            }
        }
        if let Some(telegram) = &self.telegram {
            telegram.validate(report);
        }
        if let Some(pagerduty) = &self.pagerduty {
            pagerduty.validate(report);
        }
    }

    /// The kinds that are given.
    fn kinds(&self) -> Vec<&'static str> {
        let given = [
            self.slack.is_some(),
            self.email.is_some(),
            self.webhook.is_some(),
            self.alertmanager.is_some(),
            self.teams.is_some(),
            self.discord.is_some(),
            self.telegram.is_some(),
            self.pagerduty.is_some(),
        ];
        KINDS.into_iter().zip(given).filter(|(_, given)| *given).map(|(kind, _)| kind).collect()
    }
}

impl SlackConfig {
    /// Where the URL comes from; the error says what is wrong with the pair of keys.
    pub(super) fn webhook(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_pair(self.webhook_url.as_ref(), self.webhook_url_file.as_deref())?
            .ok_or("it is not given; give it, or `webhook_url_file`")
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        match self.webhook() {
            Ok(SecretSource::Value(url)) => {
                if let Err(problem) = webhook_url(url.expose()) {
                    report.add("slack.webhook_url", format!("it {problem}"));
                }
            }
            Ok(SecretSource::File(_)) => {}
            Err(problem) => report.add("slack.webhook_url", problem),
        }
    }
}

/// Reads a webhook's URL; the error says what is wrong with it and not what it is.
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

impl EmailConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        if let Err(problem) = mailbox(&self.from) {
            report.add("email.from", problem);
        }
        if self.to.is_empty() || self.to.len() > RECIPIENTS {
            let count = self.to.len();
            report.add("email.to", format!("it has {count} addresses; give 1 to {RECIPIENTS}"));
        }
        for (place, address) in self.to.iter().enumerate() {
            match mailbox(address) {
                Err(problem) => report.add(&format!("email.to[{place}]"), problem),
                Ok(_) if self.to.iter().take(place).any(|earlier| earlier == address) => {
                    report.add(&format!("email.to[{place}]"), format!("`{address}` is named twice; remove one"));
                }
                Ok(_) => {}
            }
        }
        self.smtp.validate(report);
    }
}

/// Reads `ops@example.com` or `Ops <ops@example.com>`; the error names the value and the remedy.
pub(super) fn mailbox(address: &str) -> Result<Mailbox, String> {
    let shown = text::clean(address, 100);
    let wrong = |remedy: &str| format!("`{shown}` is not a mail address; {remedy}");
    if address.chars().any(char::is_control) {
        return Err(wrong("remove its control characters"));
    }
    let mailbox: Mailbox = address.parse().map_err(|_| wrong("write it like ops@example.com"))?;
    let plain = mailbox.email.to_string();
    if !plain.is_ascii() {
        return Err(wrong("write its domain in punycode; not every server takes other letters"));
    }
    if plain.len() > 254 {
        return Err(wrong("it is longer than 254 bytes"));
    }
    Ok(mailbox)
}

impl SmtpConfig {
    /// How TLS is used: as given, else `implicit` on port 465 and `starttls` on any other.
    pub fn tls(&self) -> SmtpTls {
        self.tls.unwrap_or(if self.port == Some(465) { SmtpTls::Implicit } else { SmtpTls::Starttls })
    }

    /// The port: as given, else 465 for implicit TLS and 587 for any other.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls() == SmtpTls::Implicit { 465 } else { 587 })
    }

    /// User and password, if there is a login; the error names the key and what is wrong with it.
    pub(super) fn login(&self) -> Result<Option<(String, SecretSource)>, (&'static str, &'static str)> {
        let password = SecretSource::from_pair(self.password.as_ref(), self.password_file.as_deref())
            .map_err(|problem| ("email.smtp.password", problem))?;
        match (&self.username, password) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) if self.tls() == SmtpTls::None => Err((
                "email.smtp.tls",
                "`none` would send the password in the clear; use starttls or implicit, or remove username and password",
            )),
            (Some(username), Some(password)) => Ok(Some((username.clone(), password))),
            (Some(_), None) => Err(("email.smtp.password", "it is not given; give it, or `password_file`")),
            (None, Some(_)) => Err(("email.smtp.username", "it is not given, but a password is; give both or none")),
        }
    }

    fn validate(&self, report: &mut Reporter<'_>) {
        if ServerName::try_from(self.host.as_str()).is_err() {
            let host = text::clean(&self.host, 100);
            report.add("email.smtp.host", format!("`{host}` is not a host; give a name or an address without a port"));
        }
        if self.port == Some(0) {
            report.add("email.smtp.port", "0 is not a port; leave it out for 587, or 465 with implicit TLS");
        }
        if let Err((key, problem)) = self.login() {
            report.add(key, problem);
        }
    }
}

#[cfg(test)]
mod tests;
