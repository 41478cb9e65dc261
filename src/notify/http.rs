//! The one sender of every receiver that is told by an HTTP POST, and what an answer means.
//!
//! Addresses and tokens are secrets: they are read at each send, and no error names them.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use ring::hmac;

use super::config::webhook_url;
use crate::http_client;
use crate::model::{SendError, SendReason, Time};
use crate::secret::{Secret, SecretSource};

/// How long a send may take, from the first byte of the request to the last of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes.
const ANSWER: usize = 4 * 1024;

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// To this address, which is no secret.
    Plain(String),
    /// To this address.
    Url(SecretSource),
    /// To this address, a token put in the place of `{token}`.
    WithToken(String, SecretSource),
}

/// A POST of JSON to one address.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// What it is called in errors.
    kind: &'static str,
    client: reqwest::Client,
    target: Target,
    /// Sent as `Authorization: Bearer …`.
    token: Option<SecretSource>,
    /// Signs the body.
    secret: Option<SecretSource>,
    headers: Vec<(String, Secret)>,
    deadline: Duration,
}

impl Http {
    /// Posts to `target` through `client`; `kind` is what errors call it.
    pub(super) const fn new(kind: &'static str, client: reqwest::Client, target: Target) -> Self {
        Self { kind, client, target, token: None, secret: None, headers: Vec::new(), deadline: DEADLINE }
    }

    /// The same with a bearer token.
    pub(super) fn with_token(self, token: Option<SecretSource>) -> Self {
        Self { token, ..self }
    }

    /// The same with a secret that signs each body.
    pub(super) fn with_secret(self, secret: Option<SecretSource>) -> Self {
        Self { secret, ..self }
    }

    /// The same with more headers.
    pub(super) fn with_headers(self, headers: Vec<(String, Secret)>) -> Self {
        Self { headers, ..self }
    }

    /// The same with another deadline, for tests of a receiver that hangs.
    #[cfg(test)]
    pub(super) const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Posts `body`; `key` is the same whenever the same is sent again.
    pub(super) async fn post(&self, now: Time, body: String, key: &str) -> Result<(), SendError> {
        let mut request = self
            .client
            .post(self.url().await?)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key);
        if let Some(token) = &self.token {
            request = request.bearer_auth(read(token).await?.expose());
        }
        if let Some(secret) = &self.secret {
            let seconds = now.as_millis().div_euclid(1000);
            request = request
                .header("X-Lookout-Timestamp", seconds)
                .header("X-Lookout-Signature", sign(read(secret).await?.expose(), seconds, &body));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.expose());
        }
        let answer = exchange(self.kind, self.deadline, request.body(body)).await?;
        judge(self.kind, answer.status, answer.retry_after)
    }

    async fn url(&self) -> Result<reqwest::Url, SendError> {
        let text = match &self.target {
            // An Alertmanager is often reached in the clear, within a cluster.
            Target::Plain(url) => {
                let wrong = |_| passing(SendReason::Connect, format!("the address of {} can't be read", self.kind));
                return reqwest::Url::parse(url).map_err(wrong);
            }
            Target::Url(source) => read(source).await?.expose().to_owned(),
            Target::WithToken(url, source) => url.replace("{token}", read(source).await?.expose()),
        };
        webhook_url(&text).map_err(|problem| passing(SendReason::Secret, format!("the address {problem}")))
    }
}

/// The signature of `body` sent at `seconds`: HMAC-SHA-256 over `{seconds}.{body}`.
fn sign(secret: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in context.sign().as_ref() {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "a string takes all that is written to it");
    }
    text
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// How long we are asked to wait.
    pub(super) retry_after: Option<Duration>,
    /// The body; empty when it was too long, or broke off after the status of an error.
    pub(super) body: Vec<u8>,
}

/// Sends `request` to what errors call `kind`, and reads the answer, all within `deadline`.
pub(super) async fn exchange(
    kind: &str,
    deadline: Duration,
    request: reqwest::RequestBuilder,
) -> Result<Answer, SendError> {
    let exchange = async {
        let response = request.send().await.map_err(|error| broken(kind, error))?;
        let status = response.status().as_u16();
        let asked = retry_after(&response);
        let body = match http_client::read_body(response, ANSWER).await {
            Ok(body) => body,
            // The status line says all there is to know of an error; a success without its words is none.
            Err(http_client::BodyError::Http(error)) if status < 300 => return Err(broken(kind, error)),
            Err(_) => Vec::new(),
        };
        let retry_after = asked.or_else(|| (status == 429).then(|| asked_in_body(&body)).flatten());
        Ok(Answer { status, retry_after, body })
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(passing(SendReason::Timeout, format!("{kind} did not answer in time"))),
    }
}

/// The pause that Discord (`retry_after`) and Telegram (`parameters.retry_after`) ask for in the body, in seconds.
fn asked_in_body(body: &[u8]) -> Option<Duration> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let seconds = body.get("retry_after").or_else(|| body.pointer("/parameters/retry_after"))?.as_f64()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// A secret as it is now.
pub(super) async fn read(source: &SecretSource) -> Result<Secret, SendError> {
    source.read().await.map_err(|error| passing(SendReason::Secret, error.in_full()))
}

/// How long the receiver asks us to wait.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// What a status means where nothing but the status is known.
pub(super) fn judge(kind: &str, status: u16, retry_after: Option<Duration>) -> Result<(), SendError> {
    let message = format!("{kind} answered {status}");
    match status {
        200..=299 => Ok(()),
        429 => Err(SendError { retry_after, ..passing(SendReason::RateLimited, message) }),
        401 | 403 => Err(SendError { retryable: false, ..passing(SendReason::Auth, message) }),
        408 | 425 | 500..=599 => Err(SendError { retry_after, ..passing(SendReason::Server, message) }),
        300..=499 => Err(SendError { retryable: false, ..passing(SendReason::Refused, message) }),
        _ => Err(passing(SendReason::Server, message)),
    }
}

/// What a broken exchange means, without the URL.
fn broken(kind: &str, error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let (mut tls, mut root) = (false, error.to_string());
    let mut source = error.source();
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        tls |= cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>());
        root = cause.to_string();
        source = cause.source();
    }
    let reason = if tls {
        SendReason::Tls
    } else if error.is_timeout() {
        SendReason::Timeout
    } else if error.is_connect() {
        SendReason::Connect
    } else {
        SendReason::Network
    };
    passing(reason, format!("{kind} can't be reached: {root}"))
}

/// An error after which it is tried again.
pub(super) const fn passing(reason: SendReason, message: String) -> SendError {
    SendError { reason, retryable: true, retry_after: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_can_be_checked_by_others() {
        // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        assert_eq!(
            sign("key", 1_700_000_000, r#"{"a":1}"#),
            "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03"
        );
    }

    #[test]
    fn statuses_are_passing_or_for_good() {
        let wait = Some(Duration::from_secs(7));
        for (status, reason, retryable) in [
            (301, SendReason::Refused, false),
            (400, SendReason::Refused, false),
            (401, SendReason::Auth, false),
            (403, SendReason::Auth, false),
            (408, SendReason::Server, true),
            (429, SendReason::RateLimited, true),
            (500, SendReason::Server, true),
            (503, SendReason::Server, true),
        ] {
            let error = judge("webhook", status, wait).unwrap_err();
            assert_eq!((error.reason, error.retryable), (reason, retryable), "{status}");
            assert_eq!(error.message, format!("webhook answered {status}"));
        }
        assert_eq!(judge("webhook", 429, wait).unwrap_err().retry_after, wait);
        assert!(judge("webhook", 202, None).is_ok());
    }
}
