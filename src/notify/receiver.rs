//! A receiver: what it wants to be told of, and the transport that tells it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;

use crate::http_client;
use crate::model::{Level, Notice, ReceiverPolicy, SendError, Time};

use super::config::{self, ConfigProblem, ReceiverConfig};
use super::console;
use super::email::{Email, smtp::Server};
use super::queue::Pace;
use super::slack::{self, Slack};

/// A receiver that is ready to be told.
#[derive(Debug)]
pub struct Receiver {
    /// Its name.
    pub name: Arc<str>,
    /// Whom and when it is told, beyond the level.
    pub(super) policy: ReceiverPolicy,
    pub(super) transport: Transport,
    pub(super) pace: Pace,
}

/// How a receiver is told.
#[derive(Debug)]
pub(super) enum Transport {
    /// Through a Slack webhook.
    Slack(Slack),
    /// By mail.
    Email(Box<Email>),
    /// On standard output.
    Console,
}

impl Receiver {
    /// The receivers that `configs` describe, or every mistake in it, those of [`config::validate`] included.
    /// It reads each `ca_file`, and no secret.
    pub fn build(configs: &[ReceiverConfig]) -> Result<Vec<Self>, Vec<ConfigProblem>> {
        let mut problems = config::validate(configs);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut client = None;
        let mut receivers = Vec::with_capacity(configs.len());
        for (place, config) in configs.iter().enumerate() {
            match Self::one(config, &mut client) {
                Ok(receiver) => receivers.push(receiver),
                Err((key, message)) => {
                    problems.push(ConfigProblem { path: format!("receivers[{place}].{key}"), message });
                }
            }
        }
        if problems.is_empty() { Ok(receivers) } else { Err(problems) }
    }

    /// One receiver; the error is the key and what is wrong. All Slack receivers share one `client`.
    fn one(config: &ReceiverConfig, client: &mut Option<reqwest::Client>) -> Result<Self, (&'static str, String)> {
        let mut pace = Pace { gather: config.gather, group_by: config.group_by, ..Pace::default() };
        let transport = match (&config.slack, &config.email) {
            (Some(config), None) => {
                let webhook = config.webhook().map_err(|problem| ("slack.webhook_url", problem.to_owned()))?;
                let client = match client {
                    Some(client) => client.clone(),
                    None => client
                        .insert(
                            http_client::build(slack::DEADLINE, None).map_err(|error| ("slack", error.to_string()))?,
                        )
                        .clone(),
                };
                // Slack takes one message a second from a webhook, and short bursts.
                pace.bucket = Some((Duration::from_secs(1), 3));
                Transport::Slack(Slack::new(client, webhook))
            }
            (None, Some(config)) => {
                let smtp = &config.smtp;
                let server = Server {
                    host: smtp.host.clone(),
                    port: smtp.port(),
                    tls: smtp.tls(),
                    tls_config: tls_config(smtp.ca_file.as_deref()).map_err(|error| ("email.smtp.ca_file", error))?,
                    login: smtp.login().map_err(|(key, problem)| (key, problem.to_owned()))?,
                };
                let from = config::mailbox(&config.from).map_err(|problem| ("email.from", problem))?;
                let to = config.to.iter().map(|address| config::mailbox(address)).collect::<Result<_, _>>();
                Transport::Email(Box::new(Email::new(from, to.map_err(|problem| ("email.to", problem))?, server)))
            }
            _ => return Err(("", "it has no kind, or two; give one of slack, email".to_owned())),
        };
        let policy = ReceiverPolicy {
            send_resolved: config.send_resolved,
            only: Arc::from(config.only.as_slice()),
            except: Arc::from(config.except.as_slice()),
            after: config.after,
            quiet: Arc::from(config.quiet_hours.as_slice()),
            ..ReceiverPolicy::new(config.name.as_str(), config.min_level)
        };
        Ok(Self { name: Arc::clone(&policy.name), policy, transport, pace })
    }

    /// Standard output, for the demo: it is told of everything.
    pub fn console() -> Self {
        Self {
            name: Arc::from("console"),
            policy: ReceiverPolicy::new("console", Level::Info),
            transport: Transport::Console,
            pace: Pace::default(),
        }
    }

    /// What the life of an alert must know of it.
    pub fn policy(&self) -> ReceiverPolicy {
        self.policy.clone()
    }

    /// What kind it is: `slack`, `email` or `console`.
    pub const fn kind(&self) -> &'static str {
        match self.transport {
            Transport::Slack(_) => "slack",
            Transport::Email(_) => "email",
            Transport::Console => "console",
        }
    }

    /// How many of `notices`, from the first on, one message has room to tell.
    pub(super) fn fitting(&self, now: Time, notices: &[&Notice]) -> usize {
        match &self.transport {
            Transport::Slack(_) => Slack::fitting(now, notices),
            Transport::Email(_) | Transport::Console => notices.len(),
        }
    }

    /// Tells `notices` in one message, within the transport's deadline (Slack 10 s, mail 30 s); none is no message.
    pub async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        if notices.is_empty() {
            return Ok(());
        }
        match &self.transport {
            Transport::Slack(slack) => slack.send(now, notices).await,
            Transport::Email(email) => email.send(now, notices).await,
            Transport::Console => console::send(now, notices),
        }
    }
}

fn tls_config(ca_file: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, String> {
    let roots = http_client::roots(ca_file).map_err(|error| error.to_string())?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
