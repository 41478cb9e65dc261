//! A receiver: its name, what it wants to hear, and the way to it.

use std::sync::Arc;

use super::config::{EmailConfig, ReceiverConfig};
use super::console;
use super::email::Email;
use super::slack::Slack;
use crate::model::{Level, Notice, ReceiverPolicy, SendError};
use crate::secret::SecretSource;

/// Someone who is told.
#[derive(Debug)]
pub struct Receiver {
    policy: ReceiverPolicy,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Slack(Slack),
    Email(Box<Email>),
    Console,
}

impl Receiver {
    /// The receiver that `config` describes; the errors name key and remedy.
    pub fn new(config: &ReceiverConfig) -> Result<Self, Vec<(String, String)>> {
        config.check()?;
        let wrong = |key: &str| {
            let key = key.to_owned();
            move |message: String| vec![(key, message)]
        };
        let transport = match (&config.slack, &config.email) {
            (Some(slack), _) => {
                let url = slack.source().map_err(wrong("slack"))?;
                Transport::Slack(Slack::new(url).map_err(wrong("slack"))?)
            }
            (None, Some(email)) => Transport::Email(Box::new(Email::new(email).map_err(wrong("email"))?)),
            (None, None) => return Err(vec![(String::new(), "no way to it is given; add slack or email".into())]),
        };
        let policy = ReceiverPolicy {
            name: Arc::from(config.name.as_str()),
            min_level: config.min_level,
            send_resolved: config.send_resolved,
        };
        Ok(Self { policy, transport })
    }

    /// Standard output, for the demo.
    pub fn console() -> Self {
        let policy = ReceiverPolicy { name: "console".into(), min_level: Level::Info, send_resolved: true };
        Self { policy, transport: Transport::Console }
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        &self.policy.name
    }

    /// What it wants to hear.
    pub fn policy(&self) -> ReceiverPolicy {
        self.policy.clone()
    }

    /// Sends one message that carries all of `notices`. Returns within the transport's deadline.
    pub async fn send(&self, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        match &self.transport {
            Transport::Slack(slack) => slack.send(notices).await,
            Transport::Email(email) => email.send(notices).await,
            Transport::Console => console::send(notices),
        }
    }
}

impl ReceiverConfig {
    /// What is wrong with it, as pairs of a key beneath it and a text.
    pub fn check(&self) -> Result<(), Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut report = |key: &str, message: String| problems.push((key.to_owned(), message));
        if !crate::model::text::is_name(&self.name, 100) || self.name.trim().is_empty() {
            report("name", "a name has from 1 to 100 visible characters".to_owned());
        }
        match (&self.slack, &self.email) {
            (None, None) => report("", "no way to it is given; add slack or email".to_owned()),
            (Some(_), Some(_)) => report("", "slack and email are given both; make two receivers of them".to_owned()),
            (Some(slack), None) => {
                if let Err(problem) = slack.source() {
                    report("slack", problem);
                }
            }
            (None, Some(email)) => email.check(&mut report),
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl super::config::SlackConfig {
    /// Where the webhook's URL comes from.
    pub(super) fn source(&self) -> Result<SecretSource, String> {
        let source = SecretSource::from_pair(self.webhook_url.as_ref(), self.webhook_url_file.as_deref())?
            .ok_or("neither webhook_url nor webhook_url_file is given; give one of them")?;
        if let SecretSource::Value(url) = &source
            && !reqwest::Url::parse(url.expose()).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            return Err("webhook_url is not a URL; copy it from Slack, it begins with https://".to_owned());
        }
        Ok(source)
    }
}

impl EmailConfig {
    fn check(&self, report: &mut impl FnMut(&str, String)) {
        if self.to.is_empty() {
            report("email.to", "nobody is named; give at least one address".to_owned());
        }
        for (place, address) in self.to.iter().enumerate() {
            if address.parse::<lettre::message::Mailbox>().is_err() {
                report(&format!("email.to[{place}]"), format!("`{address}` is not a mail address"));
            }
        }
        if self.from.parse::<lettre::message::Mailbox>().is_err() {
            report("email.from", format!("`{}` is not a mail address", self.from));
        }
        if self.smtp.host.is_empty() {
            report("email.smtp.host", "the name of the mail server is missing".to_owned());
        }
        if let Err(problem) = self.smtp.login() {
            report("email.smtp", problem);
        }
    }
}
