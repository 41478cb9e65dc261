//! A receiver: what it wants to be told of, and the transport that tells it.

use std::sync::Arc;
use std::time::Duration;

use crate::http_client;
use crate::model::{Audience, Level, Notice, Problem, Receipt, ReceiverPolicy, SendError, Time};

use super::alertmanager::Alertmanager;
use super::answer::Success;
use super::config::{self, EmailConfig, ReceiverConfig, SlackWay};
use super::console;
use super::email::{Email, smtp::Server};
use super::http::{self, Http, Target};
use super::queue::Pace;
use super::slack::{Bot, Slack};
use super::template::{Medium, Templated};
use super::webhook::Webhook;
use super::words::Words;

/// Alerts that one request to a webhook carries.
const WEBHOOK_ALERTS: usize = 500;

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
    /// Through a Slack bot.
    SlackBot(Box<Bot>),
    /// By mail.
    Email(Box<Email>),
    /// Through a webhook that takes Alertmanager's payload.
    Webhook(Webhook),
    /// Through an Alertmanager.
    Alertmanager(Alertmanager),
    /// Through one of the media that have a template.
    Templated(Box<Templated>),
    /// On standard output.
    Console,
}

impl Receiver {
    /// The receivers that `configs` describe, or every mistake in it, those of [`config::validate`] included.
    /// It reads each `ca_file`, and no secret.
    pub fn build(configs: &[ReceiverConfig]) -> Result<Vec<Self>, Vec<Problem>> {
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
                    problems.push(Problem::new(format!("receivers[{place}].{key}"), message));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (receiver, config) in receivers.iter_mut().zip(configs) {
            let sharing = configs.iter().filter(|other| are_one_endpoint(config, other)).count();
            receiver.pace.share(u32::try_from(sharing).unwrap_or(u32::MAX));
        }
        Ok(receivers)
    }

    /// One receiver; the error is the key and what is wrong. All that are told over HTTP share one `client`.
    fn one(config: &ReceiverConfig, client: &mut Option<reqwest::Client>) -> Result<Self, (&'static str, String)> {
        let mut pace = Pace { gather: config.gather, group_by: config.group_by, ..Pace::default() };
        let words = Words::new(config.title.as_deref(), config.text.as_deref())?;
        let mut client = || match client {
            Some(client) => Ok(client.clone()),
            None => http_client::build(http::DEADLINE, None)
                .map(|built| client.insert(built).clone())
                .map_err(|error| ("", error.to_string())),
        };
        let http = |client: reqwest::Client, kind: &'static str, source, success| {
            Http::new(kind, client, Target::Url(source), success)
        };
        let mut audience = Audience::People;
        let transport = if let Some(slack) = &config.slack {
            // Slack takes one message a second, and short bursts.
            pace.bucket = Some((Duration::from_secs(1), 3));
            match slack.way()? {
                SlackWay::Webhook(webhook) => Transport::Slack(Slack::new(client()?, webhook, words)),
                SlackWay::Bot { token, channel, api } => {
                    Transport::SlackBot(Box::new(Bot::new(client()?, token, channel, api, words)))
                }
            }
        } else if let Some(email) = &config.email {
            Transport::Email(Box::new(mail(email, words)?))
        } else if let Some(hook) = &config.webhook {
            audience = Audience::Program;
            let http = http(client()?, "webhook", hook.address().map_err(wrong("webhook.url"))?, Success::AnyAnswer)
                .with_secret(hook.secret().map_err(wrong("webhook.secret"))?)
                .with_token(hook.token().map_err(wrong("webhook.token"))?)
                .with_headers(hook.headers.clone().into_iter().collect());
            Transport::Webhook(Webhook::new(http, Arc::from(config.name.as_str()), config.external_url.clone()))
        } else if let Some(alertmanager) = &config.alertmanager {
            audience = Audience::Program;
            let token = alertmanager.token().map_err(wrong("alertmanager.token"))?;
            let mut instances = Vec::with_capacity(alertmanager.urls.len());
            for url in &alertmanager.urls {
                let target = Target::Plain(format!("{}/api/v2/alerts", url.trim_end_matches('/')));
                instances
                    .push(Http::new("alertmanager", client()?, target, Success::NoError).with_token(token.clone()));
            }
            Transport::Alertmanager(Alertmanager::new(instances, config.external_url.clone()))
        } else {
            let (medium, http, token, chat_id) = if let Some(teams) = &config.teams {
                let address = teams.address().map_err(wrong("teams.webhook_url"))?;
                (Medium::Teams, http(client()?, "teams", address, Success::NoError), None, String::new())
            } else if let Some(discord) = &config.discord {
                let address = discord.address().map_err(wrong("discord.webhook_url"))?;
                (Medium::Discord, http(client()?, "discord", address, Success::NoError), None, String::new())
            } else if let Some(telegram) = &config.telegram {
                let token = telegram.token().map_err(wrong("telegram.bot_token"))?;
                let api = telegram.api_url.as_deref().unwrap_or("https://api.telegram.org");
                let url = format!("{}/bot{{token}}/sendMessage", api.trim_end_matches('/'));
                let http = Http::new("telegram", client()?, Target::WithToken(url, token), Success::Acknowledgement);
                (Medium::Telegram, http, None, telegram.chat_id.clone())
            } else if let Some(pagerduty) = &config.pagerduty {
                audience = Audience::Program;
                let key = pagerduty.key().map_err(wrong("pagerduty.routing_key"))?;
                let api = pagerduty.api_url.as_deref().unwrap_or("https://events.pagerduty.com/v2/enqueue");
                let target = Target::Plain(api.to_owned());
                let http = Http::new("pagerduty", client()?, target, Success::Acknowledgement);
                (Medium::PagerDuty, http, Some(key), String::new())
            } else {
                return Err(("", "it has no kind".to_owned()));
            };
            if medium != Medium::PagerDuty {
                // None of the chats takes more than about one message a second from one sender.
                pace.bucket = Some((Duration::from_secs(1), 3));
            }
            let templated = Templated::new(medium, http, token, chat_id, words).map_err(|error| ("", error))?;
            Transport::Templated(Box::new(templated))
        };
        pace.keeps_batches = audience == Audience::Program;
        let policy = ReceiverPolicy {
            send_resolved: config.send_resolved,
            audience,
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

    /// What kind it is: the key that configures it, or `console`.
    pub fn kind(&self) -> &'static str {
        match &self.transport {
            Transport::Slack(_) | Transport::SlackBot(_) => "slack",
            Transport::Email(_) => "email",
            Transport::Webhook(_) => "webhook",
            Transport::Alertmanager(_) => "alertmanager",
            Transport::Templated(templated) => templated.medium().as_str(),
            Transport::Console => "console",
        }
    }

    /// How many of `notices`, from the first on, one message has room to tell.
    pub(super) fn fitting(&self, now: Time, notices: &[&Notice]) -> usize {
        match &self.transport {
            Transport::Slack(_) => Slack::fitting(now, notices),
            Transport::SlackBot(bot) => bot.fitting(now, notices),
            Transport::Templated(templated) => templated.fitting(now, notices),
            Transport::Webhook(_) => notices.len().min(WEBHOOK_ALERTS),
            Transport::Email(_) | Transport::Alertmanager(_) | Transport::Console => notices.len(),
        }
    }

    /// Sends `notices` in one message, within the transport's deadlines (HTTP 10 s; mail 60 s for each step, 10 min for
    /// the reply to the end of the mail); none is no message.
    pub async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Receipt, SendError> {
        if notices.is_empty() {
            return Ok(Receipt::default());
        }
        match &self.transport {
            Transport::SlackBot(bot) => return bot.send(now, notices).await,
            Transport::Alertmanager(alertmanager) => return alertmanager.send(now, notices).await,
            Transport::Slack(slack) => slack.send(now, notices).await,
            Transport::Email(email) => return email.send(now, notices).await,
            Transport::Webhook(webhook) => webhook.send(now, notices).await,
            Transport::Templated(templated) => templated.send(now, notices).await,
            Transport::Console => console::send(now, notices),
        }
        .map(|()| Receipt::default())
    }

    /// Whether it forgets what lasts when it is not reminded of it.
    pub(super) const fn is_forgetful(&self) -> bool {
        matches!(self.transport, Transport::Alertmanager(_))
    }

    /// Reminds it of what lasts.
    pub(super) async fn remind(&self, now: Time, standing: &[Arc<Notice>]) -> Result<Receipt, SendError> {
        match &self.transport {
            Transport::Alertmanager(alertmanager) => alertmanager.remind(now, standing).await,
            _ => Ok(Receipt::default()),
        }
    }
}

impl Receiver {
    /// The bytes of the message that would tell `notices` at `now`: a request's body, a whole mail, or the lines printed.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        match &self.transport {
            Transport::Slack(slack) => Ok(slack.render(now, notices).into_bytes()),
            Transport::SlackBot(bot) => Ok(bot.render(now, notices).into_bytes()),
            Transport::Email(email) => email.render(now, notices),
            Transport::Webhook(webhook) => Ok(webhook.render(notices).into_bytes()),
            Transport::Alertmanager(alertmanager) => Ok(alertmanager.render(now, notices).into_bytes()),
            Transport::Templated(templated) => templated.render(now, notices, "").map(String::into_bytes),
            Transport::Console => Ok(console::render(now, notices).into_bytes()),
        }
    }
}

/// Names the key that a problem belongs to.
fn wrong(key: &'static str) -> impl Fn(&'static str) -> (&'static str, String) {
    move |problem| (key, problem.to_owned())
}

fn mail(config: &EmailConfig, words: Words) -> Result<Email, (&'static str, String)> {
    let smtp = &config.smtp;
    let server = Server {
        host: smtp.host.clone(),
        port: smtp.port(),
        tls: smtp.tls(),
        tls_config: Arc::new(
            http_client::tls(smtp.ca_file.as_deref()).map_err(|error| ("email.smtp.ca_file", error.to_string()))?,
        ),
        login: smtp.login().map_err(|(key, problem)| (key, problem.to_owned()))?,
    };
    let from = config::mailbox(&config.from).map_err(|problem| ("email.from", problem))?;
    let to = config.to.iter().map(|address| config::mailbox(address)).collect::<Result<_, _>>();
    Ok(Email::new(from, to.map_err(|problem| ("email.to", problem))?, server, words))
}

/// Whether both write to one webhook, or through one bot to one channel, which has one rate for all.
fn are_one_endpoint(one: &ReceiverConfig, other: &ReceiverConfig) -> bool {
    fn are_one<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
        one.is_some() && one == other
    }
    are_one(&one.slack, &other.slack)
        || are_one(&one.teams, &other.teams)
        || are_one(&one.discord, &other.discord)
        || are_one(&one.telegram, &other.telegram)
}

#[cfg(test)]
mod tests;
