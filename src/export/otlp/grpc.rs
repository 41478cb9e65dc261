//! OTLP over gRPC: one unary call a batch.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http_body_util::{BodyExt as _, Limited};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::compress::gzip;
use super::super::config::Compression;
use super::super::target::{ExportBatch, ExportFuture, ExportTarget, ExportVerdict};
use super::http::verdict;
use super::{MAX_ANSWER, MAX_MESSAGE, OtlpPeer, taken};
use crate::http_client;
use crate::model::Time;
use crate::otlp::Signal;
use crate::text::clean;

/// Length of the head of a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Sends by gRPC.
#[derive(Debug)]
pub(super) struct OtlpGrpc(pub(super) OtlpPeer);

impl OtlpGrpc {
    async fn try_send(&self, now: Time, batch: &ExportBatch) -> Result<ExportVerdict, ExportVerdict> {
        let mut call = self.0.call(method(batch.signal)).await?;
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        call.headers.insert(TE, HeaderValue::from_static("trailers"));
        let message = match self.0.compression {
            Compression::Gzip => {
                call.headers.insert(HeaderName::from_static("grpc-encoding"), HeaderValue::from_static("gzip"));
                framed(true, &gzip(&batch.body))
            }
            Compression::None => framed(false, &batch.body),
        };
        let host = call.host.clone();
        let response: http::Response<reqwest::Body> = self.0.post(call, message).await?.into();
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            let after = http_client::retry_after(&head.headers, now);
            return Ok(verdict(&host, head.status.as_u16(), after, batch.signal, b""));
        }
        if let Some(status) = Status::from_header_map(&head.headers) {
            return Ok(meaning(&host, &status, batch.signal, b""));
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| ExportVerdict::Retry {
            error: format!("{host} broke off its answer: {error}"),
            after: None,
        })?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let message = body.to_bytes();
        Ok(answer(&host, &trailers, batch.signal, &message))
    }
}

impl ExportTarget for OtlpGrpc {
    fn send<'a>(&'a self, now: Time, batch: &'a ExportBatch) -> ExportFuture<'a> {
        Box::pin(async move { self.try_send(now, batch).await.unwrap_or_else(|failed| failed) })
    }
}

const fn method(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

fn framed(is_compressed: bool, message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(HEAD + message.len());
    framed.push(u8::from(is_compressed));
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

fn answer(host: &str, trailers: &HeaderMap, signal: Signal, message: &[u8]) -> ExportVerdict {
    match Status::from_header_map(trailers) {
        Some(status) => meaning(host, &status, signal, message.get(HEAD..).unwrap_or_default()),
        None => ExportVerdict::Retry { error: format!("{host} answered without a status of gRPC"), after: None },
    }
}

/// What a status means, by the specification of OTLP and, for refusals of the sender, as for receivers.
fn meaning(host: &str, status: &Status, signal: Signal, message: &[u8]) -> ExportVerdict {
    let reason = clean(status.message(), MAX_MESSAGE);
    let mut error = format!("{host} answered {:?}", status.code());
    if !reason.is_empty() {
        error = format!("{error}: {reason}");
    }
    let retry_info = status.get_details_retry_info();
    let after = retry_info.as_ref().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Ok => taken(message),
        Code::ResourceExhausted | Code::OutOfRange if is_about_size(status.message()) => {
            ExportVerdict::TooLarge { error }
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => ExportVerdict::Retry { error, after },
        Code::ResourceExhausted if retry_info.is_some() => ExportVerdict::Retry { error, after },
        Code::Unauthenticated | Code::PermissionDenied => {
            ExportVerdict::Unauthorized { error: format!("{error}; check headers or headers_file"), after }
        }
        Code::Unimplemented => {
            let remedy = format!("; check endpoint, or remove {} from signals", signal.as_str());
            ExportVerdict::Unauthorized { error: error + &remedy, after }
        }
        Code::ResourceExhausted => ExportVerdict::Refused { error: format!("{error}; raise its limits") },
        _ => ExportVerdict::Refused { error: format!("{error}; see its log for the reason") },
    }
}

/// Whether a message says that a request was too large, in the words of gRPC's libraries for Go, C, Java and Rust, or of
/// another sidecar.
fn is_about_size(message: &str) -> bool {
    ["larger than", "too large", "exceeds maximum size", "exceeds limits.body"].iter().any(|it| message.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tonic_types::ErrorDetails;

    #[test]
    fn statuses_are_retried_refused_for_an_hour_or_dropped() {
        let of = |code: Code| meaning("h", &Status::new(code, "why"), Signal::Traces, b"");
        assert_eq!(of(Code::Ok), ExportVerdict::Delivered);
        for code in [1, 4, 10, 11, 14, 15] {
            assert!(matches!(of(Code::from_i32(code)), ExportVerdict::Retry { .. }), "{code}");
        }
        for code in [7, 12, 16] {
            assert!(matches!(of(Code::from_i32(code)), ExportVerdict::Unauthorized { .. }), "{code}");
        }
        for code in [2, 3, 5, 6, 8, 9, 13] {
            let ExportVerdict::Refused { error } = of(Code::from_i32(code)) else { panic!("{code}") };
            assert!(error.starts_with("h answered ") && error.contains("why; "), "{error}");
        }
        for (code, message) in [
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
            (Code::OutOfRange, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
        ] {
            let verdict = meaning("h", &Status::new(code, message), Signal::Traces, b"");
            assert!(matches!(verdict, ExportVerdict::TooLarge { .. }), "{message}");
        }
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let full = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let expected = Some(Duration::from_secs(7));
        assert!(
            matches!(meaning("h", &full, Signal::Logs, b""), ExportVerdict::Retry { after, .. } if after == expected)
        );
    }

    #[test]
    fn an_answer_is_its_trailers_and_its_message() {
        let mut trailers = HeaderMap::new();
        assert!(matches!(answer("h", &trailers, Signal::Logs, b""), ExportVerdict::Retry { .. }));
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(answer("h", &trailers, Signal::Logs, b""), ExportVerdict::Delivered);
        let message = framed(false, b"\x0a\x02\x08\x03");
        let rejected = ExportVerdict::PartlyRejected { items: 3, message: String::new() };
        assert_eq!(answer("h", &trailers, Signal::Logs, &message), rejected);
    }
}
