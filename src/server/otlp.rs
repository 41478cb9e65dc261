//! OTLP over HTTP, and what both transports have in common: how an export is received, and what is counted.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::Context;
use super::body::Unread;
use super::connections::Arriving;
use super::error::Refusal;
use crate::engine::telemetry::ExportError;
use crate::metrics::Own;
use crate::model::RejectReason;
use crate::otlp::{self, Encoding, ExportOutcome, OtlpDecodeError, Signal};

/// Why an export was not taken in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Its body did not arrive.
    #[error(transparent)]
    Unread(#[from] Unread),
    /// Its body did, and was not taken.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Takes in an export: `message` finds in the body what was exported, and whether that is gzip. Counts what came of it.
pub(super) async fn receive(
    context: &Context,
    signal: Signal,
    encoding: Encoding,
    body: Arriving,
    give_way: &CancellationToken,
    message: impl FnOnce(Bytes) -> Result<(bool, Bytes), OtlpDecodeError>,
) -> Result<ExportOutcome, Failure> {
    let receiving = async {
        let (is_gzip, message) = message(context.bodies.gather(body, give_way).await?).map_err(ExportError::from)?;
        Ok(context.otlp.export(signal, encoding, is_gzip, message).await?)
    };
    let result = receiving.await;
    count(&context.own, signal, &result);
    result
}

/// Counts an export for which there was no place.
pub(super) fn count_busy(own: &Own, signal: Signal) {
    own.rejected(signal.into(), RejectReason::Busy, 1);
}

fn count(own: &Own, signal: Signal, result: &Result<ExportOutcome, Failure>) {
    let failure = match result {
        Ok(taken) => {
            own.ingested(signal.into(), taken.accepted);
            taken.rejected().for_each(|(reason, count)| own.rejected(signal.into(), reason, count));
            if taken.undecodable_values > 0 {
                own.rejected(signal.into(), RejectReason::Value, taken.undecodable_values);
            }
            return;
        }
        Err(failure) => failure,
    };
    let reason = match failure {
        Failure::Export(ExportError::Decode(OtlpDecodeError::Malformed(_))) => RejectReason::Malformed,
        Failure::Export(ExportError::Decode(OtlpDecodeError::TooLarge(_) | OtlpDecodeError::TooLargeInMemory(_)))
        | Failure::Unread(Unread::TooLarge(_)) => RejectReason::TooLarge,
        Failure::Export(ExportError::Busy | ExportError::Stopped) | Failure::Unread(Unread::NoRoom | Unread::Slow) => {
            return count_busy(own, signal);
        }
        // The sender went away, or was too slow.
        Failure::Unread(Unread::Late | Unread::Broken(_)) => return,
    };
    own.rejected(signal.into(), reason, 1);
}

/// Answers an export, in the encoding in which it came.
pub(super) async fn answer(
    context: &Context,
    signal: Signal,
    allowed: Result<(), Refusal>,
    request: Request<Arriving>,
) -> Response {
    let encoding = encoding(request.headers());
    // What came in no encoding that we know is told in JSON why not.
    let told = encoding.unwrap_or(Encoding::Json);
    let result = match (allowed, encoding) {
        (Err(refusal), _) => Err(refusal),
        (Ok(()), None) => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be OTLP; send it with `content-type: application/x-protobuf` or `application/json`",
        )),
        (Ok(()), Some(_)) if request.method() != Method::POST => Err(Refusal {
            header: Some((header::ALLOW, "POST")),
            ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "exports are sent with POST")
        }),
        (Ok(()), Some(encoding)) => export(context, signal, encoding, request).await,
    };
    match result {
        Ok(taken) => respond(told, StatusCode::OK, otlp::response(signal, told, &taken)),
        Err(refusal) => {
            let body = otlp::error_response(told, code(refusal.status), &refusal.message);
            let mut response = respond(told, refusal.status, body);
            if let Some((name, value)) = refusal.header {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

async fn export(
    context: &Context,
    signal: Signal,
    encoding: Encoding,
    request: Request<Arriving>,
) -> Result<ExportOutcome, Refusal> {
    let is_gzip = match request.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii()) {
        None | Some(b"" | b"identity") => false,
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => true,
        Some(_) => {
            let refusal = Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the body plain or with `content-encoding: gzip`",
            );
            return Err(Refusal { header: Some((header::ACCEPT_ENCODING, "gzip")), ..refusal });
        }
    };
    let (body, give_way) = (request.into_body(), CancellationToken::new());
    Ok(receive(context, signal, encoding, body, &give_way, |body| Ok((is_gzip, body))).await?)
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unread(unread) => unread.into(),
            Failure::Export(error) => error.into(),
        }
    }
}

impl From<ExportError> for Refusal {
    fn from(error: ExportError) -> Self {
        let (status, header) = match &error {
            ExportError::Decode(OtlpDecodeError::Malformed(_)) => (StatusCode::BAD_REQUEST, None),
            ExportError::Decode(OtlpDecodeError::TooLarge(_) | OtlpDecodeError::TooLargeInMemory(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, Some((header::CONNECTION, "close")))
            }
            ExportError::Busy | ExportError::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1")))
            }
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// gRPC's word for an HTTP status.
pub(super) const fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => Code::Unavailable,
        _ => Code::InvalidArgument,
    }
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(b"application/json") {
        Some(Encoding::Json)
    } else if kind.eq_ignore_ascii_case(b"application/x-protobuf") || kind.eq_ignore_ascii_case(b"application/protobuf")
    {
        Some(Encoding::Protobuf)
    } else {
        None
    }
}

fn respond(encoding: Encoding, status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
