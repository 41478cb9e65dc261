//! The one sender of every receiver that takes an HTTP POST.
//!
//! Addresses and tokens are secrets: they are read at each send. Errors name the host, and nothing else of an address.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use ring::hmac;

use super::answer::{Answer, Success};
use super::settings::webhook_url;
use crate::clock::Stopwatch;
use crate::http_client;
use crate::model::{Notice, SendError, SendReason, Time};
use crate::secret::{Secret, SecretSource};

/// How long a send may take, from the first byte of the request to the last of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Most of an answer that is read, in bytes: Telegram's repeats the whole message.
const ANSWER: usize = 64 * 1024;

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
    success: Success,
    /// Sent as `Authorization: Bearer …`.
    token: Option<SecretSource>,
    /// Signs the body.
    secret: Option<SecretSource>,
    headers: Vec<(String, Secret)>,
    deadline: Duration,
}

impl Http {
    /// Posts to `target` through `client`, `success` is what it answers then; `kind` is what errors call it.
    pub(super) const fn new(kind: &'static str, client: reqwest::Client, target: Target, success: Success) -> Self {
        Self { kind, client, target, success, token: None, secret: None, headers: Vec::new(), deadline: DEADLINE }
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

    /// The same with another deadline.
    pub(super) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Posts `body`; `key` is the same whenever the same is sent again, see [`key`].
    pub(super) async fn post(&self, now: Time, body: String, key: &str) -> Result<(), SendError> {
        self.exchange(now, body, key).await?.accepted(self.kind, self.success)
    }

    /// The same for a service whose answers mean more than their status and [`Success`].
    pub(super) async fn exchange(&self, now: Time, body: String, key: &str) -> Result<Answer, SendError> {
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
        exchange(self.kind, now, self.deadline, request.body(body)).await
    }

    async fn url(&self) -> Result<reqwest::Url, SendError> {
        let text = match &self.target {
            // An Alertmanager is often reached in the clear, within a cluster.
            Target::Plain(url) => {
                let wrong = |_| {
                    SendError::transient(SendReason::Connect, format!("the address of {} can't be read", self.kind))
                };
                return reqwest::Url::parse(url).map_err(wrong);
            }
            Target::Url(source) => read(source).await?.expose().to_owned(),
            Target::WithToken(url, source) => url.replace("{token}", read(source).await?.expose()),
        };
        webhook_url(&text).map_err(|problem| SendError::transient(SendReason::Secret, format!("the address {problem}")))
    }
}

/// The key of a request with `notices`: that of its notice, or a digest of those of all.
pub(super) fn key(notices: &[Arc<Notice>]) -> String {
    if let [notice] = notices {
        return notice.key.to_string();
    }
    let mut keys: Vec<&str> = notices.iter().map(|notice| &*notice.key).collect();
    keys.sort_unstable();
    let digest = ring::digest::digest(&ring::digest::SHA256, keys.join("\n").as_bytes());
    hex::encode(digest.as_ref().get(..16).unwrap_or_default())
}

/// The signature of `body` sent at `seconds`: HMAC-SHA-256 over `{seconds}.{body}`.
fn sign(secret: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body.as_bytes());
    format!("sha256={}", hex::encode(context.sign()))
}

/// Sends `request` to what errors call `kind`, and reads the answer, all within `deadline`.
///
/// With its status a request is answered: of a body that breaks off, hangs or goes on and on is read what came.
pub(super) async fn exchange(
    kind: &str,
    now: Time,
    deadline: Duration,
    request: reqwest::RequestBuilder,
) -> Result<Answer, SendError> {
    let watch = Stopwatch::start();
    let (client, request) = request.build_split();
    let request = request.map_err(|error| broken(kind, error))?;
    // The host is no secret; the rest of the address may be.
    let host = request.url().host_str().unwrap_or_default().to_owned();
    let mut response = match tokio::time::timeout(deadline, client.execute(request)).await {
        Ok(sent) => sent.map_err(|error| broken(&format!("{kind} at {host}"), error))?,
        Err(_) => {
            return Err(SendError::transient(SendReason::Timeout, format!("{kind} at {host} did not answer in time")));
        }
    };
    let status = response.status().as_u16();
    let headers = response.headers();
    let retry_after = http_client::retry_after(headers, now);
    let media_type = headers.get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_page = media_type.is_some_and(|media_type| media_type.to_ascii_lowercase().contains("html"));
    let mut body = Vec::new();
    let reading = read_up_to(ANSWER, &mut response, &mut body);
    let is_complete = tokio::time::timeout(deadline.saturating_sub(watch.elapsed()), reading).await == Ok(true);
    Ok(Answer { host, status, retry_after, is_page, body, is_complete }.with_pause_of_body())
}

/// Reads the body of `response` into `body`. Returns whether that is all of it.
async fn read_up_to(cap: usize, response: &mut reqwest::Response, body: &mut Vec<u8>) -> bool {
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = cap.saturating_sub(body.len());
                body.extend(chunk.iter().take(room));
                if chunk.len() > room {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// A secret as it is now.
pub(super) async fn read(source: &SecretSource) -> Result<Secret, SendError> {
    source.read().await.map_err(|error| SendError::transient(SendReason::Secret, error.in_full()))
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
    SendError::transient(reason, format!("{kind} can't be reached: {root}"))
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
}
