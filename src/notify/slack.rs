//! Slack, through an incoming webhook: one POST, and what its answer means.
//!
//! The webhook's URL is a secret. It is read at each send, and no error names it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Notice, SendError, SendReason, Time};
use crate::secret::SecretSource;

use super::http::{DEADLINE, exchange, passing, read};
use super::words::Words;

mod bot;
mod payload;

pub(super) use bot::Bot;

/// The words of <https://api.slack.com/messaging/webhooks#handling_errors>, and those of its block checks,
/// with which Slack refuses a message or a webhook for good. `rollup_error` is a passing one.
const REFUSALS: [&str; 18] = [
    "invalid_payload",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_attachments",
    "msg_blocks_too_long",
    "msg_too_long",
    "too_many_attachments",
    "no_text",
    "user_not_found",
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

    /// Tells `notices` in one message.
    pub(super) async fn send(&self, now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let secret = read(&self.webhook).await?;
        let url = super::config::webhook_url(secret.expose())
            .map_err(|problem| passing(SendReason::Secret, format!("the webhook URL {problem}")))?;
        let body = self.render(now, notices);
        let request = self.client.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(body);
        let answer = exchange("slack", self.deadline, request).await?;
        judge(answer.status, String::from_utf8_lossy(&answer.body).trim(), answer.retry_after)
    }
}

/// What an answer means. Only words known to be Slack's are repeated: an answer could hold anything.
fn judge(status: u16, body: &str, retry_after: Option<Duration>) -> Result<(), SendError> {
    let word = REFUSALS.into_iter().find(|word| *word == body);
    let said = word.map(|word| format!(" and {word}")).unwrap_or_default();
    let message = format!("slack answered {status}{said}");
    let refused = |reason| SendError { reason, retryable: false, retry_after: None, message: message.clone() };
    match status {
        200 if body == "ok" => Ok(()),
        200 if word.is_some() => Err(refused(SendReason::Refused)),
        429 => Err(SendError { retry_after, ..passing(SendReason::RateLimited, message) }),
        401 | 403 => Err(refused(SendReason::Auth)),
        300..=499 => Err(refused(SendReason::Refused)),
        500..=599 => Err(SendError { retry_after, ..passing(SendReason::Server, message) }),
        _ => Err(passing(SendReason::Server, format!("slack answered {status} without ok"))),
    }
}

#[cfg(test)]
mod tests;
