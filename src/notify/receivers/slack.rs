//! Slack, through an incoming webhook (one POST) or a bot: its section of the configuration, and what its answers mean.
//!
//! The webhook's URL and the bot's token are secrets. They are read at each send, and no error names them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CHAT, Parts, Rate, ReceiverSection, Sending, Transport, Wrong};
use crate::model::{DeliveryReceipt, Notice, SendError, SendReason, Time};
use crate::notify::answer::{Answer, Success};
use crate::notify::http::{DEADLINE, exchange, read};
use crate::notify::settings::{Reporter, webhook_url};
use crate::notify::words::Words;
use crate::secret::{Secret, SecretSource, SecretUrl};
use crate::text;

mod bot;
mod payload;

use bot::Bot;

/// The words of <https://api.slack.com/messaging/webhooks#handling_errors>, and those of its block checks, with which
/// Slack rejects a message. `rollup_error` is a transient one.
const MESSAGE_REJECTED: [&str; 9] = [
    "invalid_payload",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_attachments",
    "msg_blocks_too_long",
    "msg_too_long",
    "too_many_attachments",
    "no_text",
    "user_not_found",
];
/// The words with which it rejects a webhook or a channel.
const RECEIVER_REJECTED: [&str; 9] = [
    "action_prohibited",
    "posting_to_general_channel_denied",
    "invalid_token",
    "channel_not_found",
    "channel_is_archived",
    "no_service",
    "no_service_id",
    "no_team",
    "team_disabled",
];

/// A channel in Slack: through an incoming webhook, or, with more to it, through a bot.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// The webhook's URL, which is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// The file that holds the webhook's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
    /// The bot's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_token: Option<Secret>,
    /// The file that holds the bot's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_token_file: Option<PathBuf>,
    /// The channel that the bot writes to: its id, or `#name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Where the bot's API is, if not at slack.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<SecretUrl>,
}

/// How it is sent to.
#[derive(Clone, Debug)]
enum Way {
    /// Through a webhook, whose URL is a secret.
    Webhook(SecretSource),
    /// Through a bot.
    Bot {
        /// Its token.
        token: SecretSource,
        /// Where it writes.
        channel: String,
        /// Where its API is.
        api: String,
    },
}

impl SlackConfig {
    /// How it is sent to; the error is the key and what is wrong with it.
    fn way(&self) -> Result<Way, Wrong> {
        let token = SecretSource::from_pair(&self.bot_token, &self.bot_token_file)
            .map_err(|problem| ("bot_token", problem.to_owned()))?;
        let webhook = SecretSource::from_pair(&self.webhook_url, &self.webhook_url_file)
            .map_err(|problem| ("webhook_url", problem.to_owned()))?;
        let is_bots = self.channel.is_some() || self.api_url.is_some();
        match (token, webhook) {
            (Some(_), Some(_)) => {
                Err(("webhook_url", "it is given together with a bot_token; give one of the two".to_owned()))
            }
            (None, _) if is_bots => {
                Err(("bot_token", "it is not given, but its channel or api_url is; give it".to_owned()))
            }
            (None, None) => {
                Err(("webhook_url", "it is not given; give it, or `webhook_url_file`, or a bot_token".to_owned()))
            }
            (None, Some(webhook)) => {
                if let SecretSource::Value(url) = &webhook {
                    webhook_url(url.expose()).map_err(|problem| ("webhook_url", format!("it {problem}")))?;
                }
                Ok(Way::Webhook(webhook))
            }
            (Some(token), None) => {
                let channel = self.channel.clone().unwrap_or_default();
                if !text::is_name(&channel, 80) {
                    return Err(("channel", "it is not given; give the channel's id or #name".to_owned()));
                }
                let api = self.api_url.as_deref().unwrap_or("https://slack.com/api").to_owned();
                webhook_url(&api).map_err(|problem| ("api_url", format!("it {problem}")))?;
                Ok(Way::Bot { token, channel, api })
            }
        }
    }
}

impl ReceiverSection for SlackConfig {
    fn validate(&self, report: &mut Reporter<'_>) {
        if let Err((key, problem)) = self.way() {
            report.add(key, problem);
        }
    }

    fn build(&self, mut parts: Parts<'_>) -> Result<Box<dyn Transport>, Wrong> {
        let (client, deadline) = (parts.client()?, parts.deadline.unwrap_or(DEADLINE));
        Ok(match self.way()? {
            Way::Webhook(webhook) => Box::new(Slack { client, webhook, deadline, words: parts.words }),
            Way::Bot { token, channel, api } => Box::new(Bot::new(client, token, channel, api, deadline, parts.words)),
        })
    }

    #[cfg(test)]
    fn samples(address: std::net::SocketAddr) -> Vec<super::Sample> {
        use super::{SECRET, Sample};
        let webhook = serde_json::json!({"webhook_url": format!("http://{address}/services/{SECRET}")});
        let api = format!("http://{address}");
        let bot = serde_json::json!({"bot_token": SECRET, "channel": "#ops", "api_url": api});
        vec![Sample::post(Success::Acknowledgement, webhook), Sample::post(None, bot)]
    }
}

/// A webhook.
#[derive(Debug)]
struct Slack {
    client: reqwest::Client,
    webhook: SecretSource,
    deadline: Duration,
    words: Words,
}

impl Slack {
    fn body(&self, now: Time, notices: &[Arc<Notice>]) -> String {
        payload::render(&self.words.compose(now, notices))
    }
}

impl Transport for Slack {
    fn rate(&self) -> Option<Rate> {
        CHAT
    }

    fn fitting(&self, _now: Time, notices: &[&Notice]) -> usize {
        payload::fitting(notices)
    }

    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        Ok(self.body(now, notices).into_bytes())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let secret = read(&self.webhook).await?;
            let url = webhook_url(secret.expose())
                .map_err(|problem| SendError::transient(SendReason::Secret, format!("the webhook URL {problem}")))?;
            let request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json");
            let answer = exchange("slack", now, self.deadline, request.body(self.body(now, notices))).await?;
            meaning(&answer).map(|()| DeliveryReceipt::default())
        })
    }
}

/// What an answer means. Only words known to be Slack's are repeated: an answer could hold anything. A server that
/// speaks for Slack (Mattermost, Rocket.Chat) may acknowledge in words of its own.
fn meaning(answer: &Answer) -> Result<(), SendError> {
    let body = String::from_utf8_lossy(&answer.body);
    let named = answer.json().get("error").and_then(serde_json::Value::as_str).map(str::to_owned);
    let reply = named.as_deref().unwrap_or(body.trim());
    let Some(word) = MESSAGE_REJECTED.into_iter().chain(RECEIVER_REJECTED).find(|word| *word == reply) else {
        return answer.accepted("slack", Success::Acknowledgement);
    };
    let remedy = if MESSAGE_REJECTED.contains(&word) { "" } else { "; check its webhook URL" };
    let message = format!("{} answered {} ({word}){remedy}", answer.who("slack"), answer.status);
    match answer.accepted_status("slack") {
        Ok(()) if MESSAGE_REJECTED.contains(&word) => Err(SendError::permanent(SendReason::Refused, message)),
        Ok(()) => Err(SendError::limited(SendReason::Refused, message)),
        Err(error) => Err(SendError { message, ..error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Retry;

    fn verdict(status: u16, body: &str) -> Result<(), SendError> {
        let (retry_after, body) = (Some(Duration::from_secs(7)), body.as_bytes().to_vec());
        meaning(&Answer { host: String::new(), status, retry_after, is_page: false, body, is_complete: true })
    }

    fn check(status: u16, body: &str, expected: Option<(SendReason, Retry)>) {
        let verdict = verdict(status, body);
        assert_eq!(verdict.as_ref().err().map(|error| (error.reason, error.retry)), expected, "{status} {body}");
        if let Err(error) = verdict {
            assert!(error.message.contains(&status.to_string()), "{error}");
        }
    }

    #[test]
    fn an_acknowledgement_is_a_success_whoever_speaks_for_slack() {
        for body in ["ok", "ok\n", "", r#"{"ok":true}"#, r#"{"success":true}"#, r#"{"ok": true, "ts": "1.2"}"#] {
            check(200, body, None);
        }
        check(200, "<html>captive portal</html>", Some((SendReason::Server, Retry::Unlimited)));
        check(200, "come back later", Some((SendReason::Server, Retry::Unlimited)));
        check(200, r#"{"ok":false,"error":"internal_error"}"#, Some((SendReason::Server, Retry::Unlimited)));
        check(200, r#"{"success":false}"#, Some((SendReason::Server, Retry::Unlimited)));
        check(200, "invalid_payload", Some((SendReason::Refused, Retry::Never)));
        check(200, r#"{"ok":false,"error":"no_text"}"#, Some((SendReason::Refused, Retry::Never)));
        check(200, "channel_not_found", Some((SendReason::Refused, Retry::Limited)));
    }

    #[test]
    fn what_may_pass_is_retried_and_what_rejects_us_for_an_hour() {
        check(400, "invalid_payload", Some((SendReason::Refused, Retry::Never)));
        check(410, "channel_is_archived", Some((SendReason::Refused, Retry::Never)));
        check(302, "", Some((SendReason::Refused, Retry::Limited)));
        check(401, "", Some((SendReason::Auth, Retry::Limited)));
        check(403, "invalid_token", Some((SendReason::Auth, Retry::Limited)));
        check(404, "no_service", Some((SendReason::Refused, Retry::Limited)));
        check(408, "", Some((SendReason::Server, Retry::Unlimited)));
        check(425, "", Some((SendReason::Server, Retry::Unlimited)));
        check(429, "", Some((SendReason::RateLimited, Retry::Unlimited)));
        check(500, "rollup_error", Some((SendReason::Server, Retry::Unlimited)));
        check(503, "", Some((SendReason::Server, Retry::Unlimited)));
    }

    #[test]
    fn an_error_repeats_only_words_that_are_slacks() {
        let error = verdict(400, "no_text").expect_err("rejected");
        assert_eq!(error.message, "slack answered 400 (no_text)");
        let error = verdict(400, "https://hooks.slack.com/services/S3CRET").expect_err("rejected");
        assert_eq!(error.message, "slack answered 400");
    }
}
