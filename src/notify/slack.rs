//! Slack's incoming webhooks: blocks in one coloured attachment, within Slack's limits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::message;
use crate::http_client::{self, BodyError};
use crate::model::{Notice, SendError, SendReason};
use crate::secret::SecretSource;

/// How long a send may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest text of a section (Slack: 3,000).
const SECTION: usize = 2_900;
/// Longest field of a section (Slack: 2,000).
const FIELD: usize = 1_000;
/// Longest message in all; Slack answers `msg_blocks_too_long` from about 13,000 on.
const TOTAL: usize = 11_000;
/// Longest wait that a receiver can ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// A webhook.
#[derive(Debug)]
pub(super) struct Slack {
    url: SecretSource,
    client: reqwest::Client,
}

impl Slack {
    pub(super) fn new(url: SecretSource) -> Result<Self, String> {
        let client = http_client::build(DEADLINE, None).map_err(|error| error.to_string())?;
        Ok(Self { url, client })
    }

    /// Sends one message; it is taken when Slack answers 200 `ok`.
    pub(super) async fn send(&self, notices: &[Arc<Notice>]) -> Result<(), SendError> {
        let url = self.url.read().map_err(|error| failure(SendReason::Secret, true, error.in_full()))?;
        let body = payload(notices).to_string();
        let request = self.client.post(url.expose()).header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(network)?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds: u64| Duration::from_secs(seconds).min(MAX_WAIT));
        let body = match http_client::read_body(response, 4 * 1024).await {
            Ok(body) => String::from_utf8_lossy(&body).trim().to_owned(),
            Err(BodyError::TooLarge) => "an answer of more than 4 KiB".to_owned(),
            Err(BodyError::Http(error)) => return Err(network(error)),
        };
        judge(status, &body, retry_after)
    }
}

/// What Slack's answer means.
fn judge(status: u16, body: &str, retry_after: Option<Duration>) -> Result<(), SendError> {
    let said = crate::model::text::clean(body, 200);
    let message = format!("slack answered {status} {said}");
    match status {
        200 if body == "ok" => Ok(()),
        // A proxy's page, mostly: the message did not arrive, and may the next time.
        200 => Err(failure(SendReason::Server, true, message)),
        429 => Err(SendError { retry_after, ..failure(SendReason::RateLimited, true, message) }),
        401 | 403 => Err(failure(SendReason::Auth, false, message)),
        300..=499 => Err(failure(SendReason::Refused, false, message)),
        _ => Err(SendError { retry_after, ..failure(SendReason::Server, true, message) }),
    }
}

fn failure(reason: SendReason, retryable: bool, message: String) -> SendError {
    SendError { reason, retryable, retry_after: None, message }
}

/// A send that got no answer. The URL, which is the secret, is taken out of the error.
fn network(error: reqwest::Error) -> SendError {
    if error.is_builder() {
        return failure(SendReason::Message, false, "the webhook URL can't be read as a URL".to_owned());
    }
    let reason = if error.is_timeout() {
        SendReason::Timeout
    } else if error.is_connect() {
        SendReason::Connect
    } else {
        SendReason::Network
    };
    let error = error.without_url();
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    failure(reason, true, message)
}

/// The body of the request.
pub(super) fn payload(notices: &[Arc<Notice>]) -> Value {
    let title = message::title(notices);
    let mut room = Room(TOTAL);
    let mut blocks = Vec::new();
    let fallback;
    if let [one] = notices {
        let sentence = message::sentence(one);
        fallback = escaped(&format!("{title}: {sentence}"), FIELD);
        blocks.push(section(&format!("*{}*\n{}", escaped(&title, FIELD), escaped(&sentence, SECTION - FIELD - 10))));
        let fields: Vec<Value> = message::facts(one)
            .iter()
            .map(|(name, value)| json!({"type": "mrkdwn", "text": format!("*{name}*\n{}", escaped(value, 400))}))
            .collect();
        blocks.push(json!({"type": "section", "fields": fields}));
        if let Some(action) = message::action(one) {
            let text = escaped(action, FIELD);
            blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}));
        }
    } else {
        fallback = escaped(&title, FIELD);
        let head = format!("*{}*", escaped(&title, FIELD));
        room.take(head.len());
        blocks.push(section(&head));
        let (mut text, mut left_out) = (String::new(), 0);
        for notice in message::in_order(notices) {
            let line = escaped(&message::line(notice), 400);
            if left_out > 0 || !room.take(line.len() + 1) {
                left_out += 1;
                continue;
            }
            if text.len() + line.len() + 1 > SECTION {
                blocks.push(section(&std::mem::take(&mut text)));
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
        if !text.is_empty() {
            blocks.push(section(&text));
        }
        if left_out > 0 {
            let text = format!("… and {left_out} more; `lookout alerts` lists them all.");
            blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}));
        }
    }
    json!({"attachments": [{"color": message::colour_of(notices), "fallback": fallback, "blocks": blocks}]})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
}

/// What is left of the total.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        match self.0.checked_sub(bytes) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
}

/// `text` with Slack's three special characters escaped, so that nobody is mentioned by an agent's words;
/// cut to `limit` bytes between characters.
fn escaped(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for letter in text.chars() {
        let mut buffer = [0; 4];
        let piece: &str = match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            other => other.encode_utf8(&mut buffer),
        };
        if out.len() + piece.len() + '…'.len_utf8() > limit {
            out.push('…');
            break;
        }
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_as_slack_means_them() {
        let wait = Some(Duration::from_secs(30));
        for (status, body, expected) in [
            (200, "ok", None),
            (200, "<html>login</html>", Some((SendReason::Server, true, None))),
            (400, "invalid_payload", Some((SendReason::Refused, false, None))),
            (403, "invalid_token", Some((SendReason::Auth, false, None))),
            (404, "no_service", Some((SendReason::Refused, false, None))),
            (410, "channel_is_archived", Some((SendReason::Refused, false, None))),
            (429, "rate_limited", Some((SendReason::RateLimited, true, wait))),
            (302, "", Some((SendReason::Refused, false, None))),
            (500, "rollup_error", Some((SendReason::Server, true, wait))),
        ] {
            let got = judge(status, body, wait).err().map(|error| (error.reason, error.retryable, error.retry_after));
            assert_eq!(got, expected, "{status} {body}");
        }
    }

    #[test]
    fn escaping_cuts_between_characters_and_never_within_an_entity() {
        assert_eq!(escaped("<!channel> & co", 100), "&lt;!channel&gt; &amp; co");
        assert_eq!(escaped("aaa<<<", 8), "aaa…");
        assert_eq!(escaped("🤖🤖🤖", 11), "🤖🤖…");
    }
}
