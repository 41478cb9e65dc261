//! The section `receivers`: who is told, how, and from which level on.

mod email;
mod hooks;
mod slack;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use email::{EmailConfig, SmtpConfig, SmtpTls};
pub(super) use email::{RECIPIENTS, mailbox};
pub use hooks::{AlertmanagerConfig, ChatConfig, PagerDutyConfig, TelegramConfig, WebhookConfig};
pub use slack::SlackConfig;
pub(super) use slack::SlackWay;

use super::queue::GroupBy;
use crate::model::{Level, Matchers, Problem, QuietHours};
use crate::secret::Secret;
use crate::text;

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
    /// Slack, through an incoming webhook or a bot.
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

/// All mistakes in the section, in its order.
pub fn validate(receivers: &[ReceiverConfig]) -> Vec<Problem> {
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
    problems: &'a mut Vec<Problem>,
}

impl Reporter<'_> {
    fn add(&mut self, key: &str, message: impl Into<String>) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.problems.push(Problem::new(path, message));
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
        let nowhere = SlackConfig { webhook_url: Some(Secret::new("https://slack.invalid/")), ..Default::default() };
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

#[cfg(test)]
mod tests;
