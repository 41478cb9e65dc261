//! Slack, through an incoming webhook: one POST, and what its answer means.
//!
//! The webhook's URL is a secret. It is read at each send, and no error names it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Notice, SendError, SendReason, Time};
use crate::secret::SecretSource;

use super::answer::{Answer, Success};
use super::http::{DEADLINE, exchange, read};
use super::words::Words;

mod bot;
mod payload;

pub(super) use bot::Bot;

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

/// A webhook.
#[derive(Debug)]
pub(super) struct Slack {
    client: reqwest::Client,
    webhook: SecretSource,
    deadline: Duration,
    words: Words,
}

impl Slack {
    /// Posts to `webhook` through `client`, in these words.
    pub(super) const fn new(client: reqwest::Client, webhook: SecretSource, words: Words) -> Self {
        Self { client, webhook, deadline: DEADLINE, words }
    }

    /// The body of the request that tells `notices`.
    pub(super) fn render(&self, now: Time, notices: &[Arc<Notice>]) -> String {
        payload::render(now, &self.words.compose(now, notices))
    }

    /// The same with another deadline, for tests of a receiver that hangs.
    #[cfg(test)]
    pub(super) const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many of `notices`, from the first on, one message has room to tell.
    pub(super) fn fitting(now: Time, notices: &[&Notice]) -> usize {
        payload::fitting(now, notices)
    }

    /// Sends `notices` in one message.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let secret = read(&self.webhook).await?;
        let url = super::config::webhook_url(secret.expose())
            .map_err(|problem| SendError::transient(SendReason::Secret, format!("the webhook URL {problem}")))?;
        let body = self.render(now, notices);
        let request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        meaning(&exchange("slack", now, self.deadline, request).await?)
    }
}

/// What an answer means. Only words known to be Slack's are repeated: an answer could hold anything. A server that
/// speaks for Slack (Mattermost, Rocket.Chat) may acknowledge in words of its own.
fn meaning(answer: &Answer) -> Result<(), SendError> {
    let body = String::from_utf8_lossy(&answer.body);
    let named = answer.json().get("error").and_then(serde_json::Value::as_str).map(str::to_owned);
    let said = named.as_deref().unwrap_or(body.trim());
    let Some(word) = MESSAGE_REJECTED.into_iter().chain(RECEIVER_REJECTED).find(|word| *word == said) else {
        return answer.accepted("slack", Success::Acknowledgement);
    };
    let message = format!("slack answered {} and {word}", answer.status);
    match answer.accepted_status("slack") {
        Ok(()) if MESSAGE_REJECTED.contains(&word) => Err(SendError::permanent(SendReason::Refused, message)),
        Ok(()) => Err(SendError::limited(SendReason::Refused, message)),
        Err(error) => Err(SendError { message, ..error }),
    }
}

#[cfg(test)]
mod tests;
