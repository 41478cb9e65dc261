//! OTLP over HTTP, and what both transports share: receiving and counting an export.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::ServerContext;
use super::body::BodyReadError;
use super::connections::RequestBody;
use super::error::ApiError;
use crate::engine::telemetry::ExportError;
use crate::metrics::SidecarMetrics;
use crate::model::RejectReason;
use crate::otlp::{self, Encoding, ExportOutcome, OtlpDecodeError, Signal};

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportRequestError {
    /// Its body could not be read.
    #[error(transparent)]
    BodyReadError(#[from] BodyReadError),
    /// Its body was rejected.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Ingests and counts an export. `message` extracts the message from the body, and whether it is compressed by gzip.
pub(super) async fn receive(
    context: &ServerContext,
    signal: Signal,
    encoding: Encoding,
    body: RequestBody,
    give_way: &CancellationToken,
    message: impl FnOnce(Bytes) -> Result<(bool, Bytes), OtlpDecodeError>,
) -> Result<ExportOutcome, ExportRequestError> {
    let receiving = async {
        let (is_gzip, message) = message(context.bodies.read_raw(body, give_way).await?).map_err(ExportError::from)?;
        Ok(context.otlp.export(signal, encoding, is_gzip, message).await?)
    };
    let result = receiving.await;
    count(&context.own, signal, &result);
    result
}

/// Counts an export that was rejected because lookout is busy.
pub(super) fn count_busy(own: &SidecarMetrics, signal: Signal) {
    own.rejected(signal.into(), RejectReason::Busy, 1);
}

fn count(own: &SidecarMetrics, signal: Signal, result: &Result<ExportOutcome, ExportRequestError>) {
    let failure = match result {
        Ok(outcome) => {
            own.ingested(signal.into(), outcome.accepted);
            outcome.rejected().for_each(|(reason, count)| own.rejected(signal.into(), reason, count));
            if outcome.undecodable_values > 0 {
                own.rejected(signal.into(), RejectReason::Value, outcome.undecodable_values);
            }
            return;
        }
        Err(failure) => failure,
    };
    let reason = match failure {
        ExportRequestError::Export(ExportError::Decode(OtlpDecodeError::Malformed(_))) => RejectReason::Malformed,
        ExportRequestError::Export(ExportError::Decode(
            OtlpDecodeError::TooLarge(_) | OtlpDecodeError::TooLargeInMemory(_),
        ))
        | ExportRequestError::BodyReadError(BodyReadError::TooLarge(_)) => RejectReason::TooLarge,
        ExportRequestError::Export(ExportError::Busy | ExportError::Runs(_) | ExportError::Stopped)
        | ExportRequestError::BodyReadError(BodyReadError::PoolExhausted | BodyReadError::Slow) => {
            return count_busy(own, signal);
        }
        // The client disconnected or was too slow.
        ExportRequestError::BodyReadError(BodyReadError::Late | BodyReadError::Broken(_)) => return,
    };
    own.rejected(signal.into(), reason, 1);
}

/// Handles an export and responds in its encoding.
pub(super) async fn answer(
    context: &ServerContext,
    signal: Signal,
    allowed: Result<(), ApiError>,
    request: Request<RequestBody>,
) -> Response {
    let encoding = encoding(request.headers());
    // The error for an unknown encoding is JSON.
    let response_encoding = encoding.unwrap_or(Encoding::Json);
    let result = match (allowed, encoding) {
        (Err(error), _) => Err(error),
        (Ok(()), None) => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported content type; send OTLP with `content-type: application/x-protobuf` or `application/json`",
        )),
        (Ok(()), Some(_)) if request.method() != Method::POST => Err(ApiError {
            header: Some((header::ALLOW, "POST")),
            ..ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use POST")
        }),
        (Ok(()), Some(encoding)) => export(context, signal, encoding, request).await,
    };
    match result {
        Ok(outcome) => respond(response_encoding, StatusCode::OK, otlp::response(signal, response_encoding, &outcome)),
        Err(error) => {
            let body = otlp::error_response(response_encoding, code(error.status), &error.message);
            let mut response = respond(response_encoding, error.status, body);
            if let Some((name, value)) = error.header {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

async fn export(
    context: &ServerContext,
    signal: Signal,
    encoding: Encoding,
    request: Request<RequestBody>,
) -> Result<ExportOutcome, ApiError> {
    let is_gzip = match request.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes().trim_ascii()) {
        None | Some(b"" | b"identity") => false,
        Some(coding) if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => true,
        Some(_) => {
            let error = ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported content encoding; use none or `content-encoding: gzip`",
            );
            return Err(ApiError { header: Some((header::ACCEPT_ENCODING, "gzip")), ..error });
        }
    };
    let (body, give_way) = (request.into_body(), CancellationToken::new());
    Ok(receive(context, signal, encoding, body, &give_way, |body| Ok((is_gzip, body))).await?)
}

impl From<ExportRequestError> for ApiError {
    fn from(failure: ExportRequestError) -> Self {
        match failure {
            ExportRequestError::BodyReadError(unread) => unread.into(),
            ExportRequestError::Export(error) => error.into(),
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        let (status, header) = match &error {
            ExportError::Decode(OtlpDecodeError::Malformed(_)) => (StatusCode::BAD_REQUEST, None),
            ExportError::Decode(OtlpDecodeError::TooLarge(_) | OtlpDecodeError::TooLargeInMemory(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, Some((header::CONNECTION, "close")))
            }
            ExportError::Busy | ExportError::Runs(_) | ExportError::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, Some((header::RETRY_AFTER, "1")))
            }
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// The gRPC code for an HTTP status.
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
