//! OTLP over HTTP, in protobuf.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use prost::Message as _;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::super::common::address;
use super::super::compress::gzip;
use super::super::config::{Compression, OtlpExportConfig, header};
use super::super::target::{ExportBatch, ExportFuture, ExportTarget, ExportVerdict};
use crate::http_client::{self, ClientError};
use crate::model::Time;
use crate::otlp::Signal;
use crate::otlp::wire::ExportTraceServiceResponse;
use crate::secret::{Secret, SecretSource, SecretUrl};
use crate::text::clean;

/// Most of an answer that is read, in bytes.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// Longest message of a target that is repeated, in bytes.
pub(super) const MAX_MESSAGE: usize = 200;

/// Sends by HTTP.
#[derive(Debug)]
pub(super) struct OtlpHttp {
    client: reqwest::Client,
    endpoint: SecretUrl,
    headers: Headers,
    compression: Compression,
}

/// Headers of each request.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    given: BTreeMap<String, Secret>,
    file: Option<PathBuf>,
}

impl Headers {
    pub(super) fn new(config: &OtlpExportConfig) -> Self {
        Self { given: config.headers.clone(), file: config.headers_file.clone() }
    }

    /// The headers as they are now. The error names the file or the header, and no value.
    pub(super) async fn read(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.given {
            let (name, value) = header(name, value.expose())?;
            headers.insert(name, value);
        }
        let Some(path) = &self.file else { return Ok(headers) };
        let text = SecretSource::File(path.clone()).read().await.map_err(|error| error.in_full())?;
        for (at, line) in text.expose().lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |message: String| format!("{}, line {}: {message}", path.display(), at + 1);
            let (name, value) =
                line.split_once(':').ok_or_else(|| wrong("no `:` after the header's name".to_owned()))?;
            let (name, value) = header(name.trim(), value.trim()).map_err(wrong)?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

impl OtlpHttp {
    pub(super) fn new(config: &OtlpExportConfig) -> Result<Self, ClientError> {
        Ok(Self {
            client: http_client::build(config.timeout, config.ca_file.as_deref())?,
            endpoint: config.endpoint.clone(),
            headers: Headers::new(config),
            compression: config.compression,
        })
    }

    async fn try_send(&self, now: Time, batch: &ExportBatch) -> Result<ExportVerdict, ExportVerdict> {
        let retry = |error: String| ExportVerdict::Retry { error, after: None };
        let mut url = address(&self.endpoint).map_err(|error| retry(format!("endpoint {error}")))?;
        let path = format!("{}/v1/{}", url.path().trim_end_matches('/'), batch.signal.as_str());
        url.set_path(&path);
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut headers = self.headers.read().await.map_err(retry)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let body = match self.compression {
            Compression::Gzip => {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip(&batch.body)
            }
            Compression::None => batch.body.clone(),
        };
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| retry(unreachable(&host, error)))?;
        let status = response.status().as_u16();
        let after = http_client::retry_after(response.headers(), now);
        // With its status a request is answered, whatever becomes of the body.
        let body = http_client::read_body(response, MAX_ANSWER).await.unwrap_or_default();
        Ok(verdict(&host, status, after, batch.signal, &body))
    }
}

impl ExportTarget for OtlpHttp {
    fn send<'a>(&'a self, now: Time, batch: &'a ExportBatch) -> ExportFuture<'a> {
        Box::pin(async move { self.try_send(now, batch).await.unwrap_or_else(|failed| failed) })
    }
}

/// What a failed exchange means, without the URL.
pub(super) fn unreachable(host: &str, error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    let (mut root, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        root = cause.to_string();
        source = cause.source();
    }
    if error.is_timeout() {
        format!("{host} did not answer in time")
    } else {
        format!("{host} can't be reached: {root}")
    }
}

/// What an answer means, by the specification of OTLP and, for refusals of the sender, as for receivers.
pub(super) fn verdict(host: &str, status: u16, after: Option<Duration>, signal: Signal, body: &[u8]) -> ExportVerdict {
    let answered = format!("{host} answered {status}");
    match status {
        200..=299 => taken(body),
        // All other errors of a server must not be tried again: they would block what comes after.
        408 | 429 | 502 | 503 | 504 => ExportVerdict::Retry { error: answered, after },
        401 | 403 | 407 => {
            ExportVerdict::Unauthorized { error: format!("{answered}; check headers or headers_file"), after }
        }
        300..=399 | 404 => {
            let remedy = format!("; check endpoint, or remove {} from signals", signal.as_str());
            ExportVerdict::Unauthorized { error: format!("{answered}{remedy}"), after }
        }
        413 => ExportVerdict::Refused { error: format!("{answered}; raise its limit of the size of a body") },
        _ => ExportVerdict::Refused { error: format!("{answered}; see its log for the reason") },
    }
}

/// What the body of a success says. Other bodies than a response of OTLP are those of servers that are content with a status.
pub(super) fn taken(body: &[u8]) -> ExportVerdict {
    // The responses of all signals are alike: a partial success with a number and a message.
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|response| response.partial_success);
    match partial {
        Some(partial) if partial.rejected_spans != 0 || !partial.error_message.is_empty() => {
            ExportVerdict::PartlyRejected {
                items: u64::try_from(partial.rejected_spans).unwrap_or(0),
                message: clean(&partial.error_message, MAX_MESSAGE).into_owned(),
            }
        }
        _ => ExportVerdict::Delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_retried_refused_for_an_hour_or_dropped() {
        let after = Some(Duration::from_secs(7));
        let of = |status| verdict("h", status, after, Signal::Logs, b"");
        for status in [200, 202, 204] {
            assert_eq!(of(status), ExportVerdict::Delivered);
        }
        for status in [408, 429, 502, 503, 504] {
            assert!(matches!(of(status), ExportVerdict::Retry { after: Some(_), .. }), "{status}");
        }
        for status in [301, 401, 403, 404, 407] {
            let ExportVerdict::Unauthorized { error, .. } = of(status) else { panic!("{status}") };
            assert!(error.contains("h answered") && error.contains("check"), "{error}");
        }
        for status in [400, 405, 410, 413, 415, 422, 500, 501, 507] {
            assert!(matches!(of(status), ExportVerdict::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn a_partial_success_is_read_from_the_body() {
        // rejected 3, "too old"
        let body = b"\x0a\x0b\x08\x03\x12\x07too old";
        let expected = ExportVerdict::PartlyRejected { items: 3, message: "too old".to_owned() };
        assert_eq!(taken(body), expected);
        assert_eq!(taken(b""), ExportVerdict::Delivered);
        assert_eq!(taken(b"\x0a\x00"), ExportVerdict::Delivered);
        assert_eq!(taken(b"OK"), ExportVerdict::Delivered);
    }
}
