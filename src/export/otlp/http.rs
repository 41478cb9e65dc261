//! OTLP over HTTP, in protobuf.

use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::super::compress::gzip;
use super::super::config::Compression;
use super::super::target::{ExportBatch, ExportFuture, ExportTarget, ExportVerdict};
use super::{MAX_ANSWER, OtlpPeer, taken};
use crate::http_client;
use crate::model::Time;
use crate::otlp::Signal;

/// Sends by HTTP.
#[derive(Debug)]
pub(super) struct OtlpHttp(pub(super) OtlpPeer);

impl OtlpHttp {
    async fn try_send(&self, now: Time, batch: &ExportBatch) -> Result<ExportVerdict, ExportVerdict> {
        let mut call = self.0.call(&format!("/v1/{}", batch.signal.as_str())).await?;
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let body = match self.0.compression {
            Compression::Gzip => {
                call.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                gzip(&batch.body)
            }
            Compression::None => batch.body.clone(),
        };
        let host = call.host.clone();
        let response = self.0.post(call, body).await?;
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
        413 => ExportVerdict::TooLarge { error: answered },
        // What collectors answer over their `max_request_body_size`.
        400 if memchr::memmem::find(body, b"body too large").is_some() => ExportVerdict::TooLarge { error: answered },
        _ => ExportVerdict::Refused { error: format!("{answered}; see its log for the reason") },
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
        for status in [400, 405, 410, 415, 422, 500, 501, 507] {
            assert!(matches!(of(status), ExportVerdict::Refused { .. }), "{status}");
        }
        assert!(matches!(of(413), ExportVerdict::TooLarge { .. }));
        let large = verdict("h", 400, after, Signal::Logs, b"http: request body too large");
        assert!(matches!(large, ExportVerdict::TooLarge { .. }));
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
