//! OTLP over HTTP, and what both transports have in common: which signal a path stands for, how much may be held, what
//! is counted.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Refusal;
use super::{Context, body};
use crate::metrics::Own;
use crate::sources::otlp::{self, Code, DecodeError, Encoding, ExportError, Signal, Taken};

/// How much of all bodies together may be held at once, in KiB: senders above it are told to come back.
const ROOM: usize = 64 * 1024;

/// The signal that is exported at `path`, over HTTP or gRPC.
pub(super) fn signal(path: &str) -> Option<Signal> {
    match path {
        "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        _ => None,
    }
}

/// Room for bodies, shared by all who send.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

/// What a body holds of the room; given back when the last of those who hold it is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

/// A body that takes room for what it brings.
pub(super) struct Metered<B> {
    body: B,
    room: Room,
    held: Held,
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// There is no room for it now.
    #[error("too much is being received; try again in a second")]
    Busy,
    /// The connection failed.
    #[error("the body could not be read: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl<B> Metered<B> {
    pub(super) fn new(body: B, room: &Room) -> (Self, Held) {
        let held = Held::default();
        (Self { body, room: room.clone(), held: held.clone() }, held)
    }

    fn take(&self, bytes: usize) -> Result<(), Unread> {
        let pieces = u32::try_from(bytes.div_ceil(1024)).map_err(|_| Unread::Busy)?;
        let more = Arc::clone(&self.room.0).try_acquire_many_owned(pieces).map_err(|_| Unread::Busy)?;
        let mut held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl<B> http_body::Body for Metered<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Unread;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        Pin::new(&mut self.body).poll_frame(task).map(|frame| {
            let frame = frame?.map_err(|error| Unread::Broken(error.into()));
            Some(frame.and_then(|frame| {
                self.take(frame.data_ref().map_or(0, Bytes::len))?;
                Ok(frame)
            }))
        })
    }
}

/// Counts what came of an export.
pub(super) fn count(own: &Own, signal: Signal, result: &Result<Taken, ExportError>) {
    let signal = signal.as_str();
    match result {
        Ok(taken) => {
            own.ingested(signal, taken.accepted);
            taken.rejected().for_each(|(reason, count)| own.rejected(signal, reason.as_str(), count));
        }
        Err(ExportError::Decode(DecodeError::Malformed(_))) => own.rejected(signal, "malformed", 1),
        Err(ExportError::Decode(DecodeError::TooLarge(_) | DecodeError::TooMany(_))) => {
            own.rejected(signal, "too_large", 1)
        }
        Err(ExportError::Busy | ExportError::Stopped) => own.rejected(signal, "busy", 1),
    }
}

/// Answers an export, in the encoding in which it came.
pub(super) async fn answer(
    context: &Context,
    signal: Signal,
    allowed: Result<(), Refusal>,
    request: Request<Incoming>,
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
            let body = otlp::refusal(told, code(refusal.status), &refusal.message);
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
    request: Request<Incoming>,
) -> Result<Taken, Refusal> {
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
    let limit = context.limits.body;
    let (mut metered, held) = Metered::new(request.into_body(), &context.room);
    let read = if metered.body.size_hint().lower() > limit as u64 {
        Ok(Ok(None))
    } else {
        tokio::time::timeout(context.limits.body_timeout, body::collect(&mut metered, limit)).await
    };
    let result = match read {
        Ok(Ok(Some(body))) => context.otlp.export(signal, encoding, is_gzip, body).await,
        Ok(Ok(None)) => Err(DecodeError::TooLarge(limit).into()),
        Ok(Err(Unread::Busy)) => Err(ExportError::Busy),
        Ok(Err(error @ Unread::Broken(_))) => {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, error.to_string()));
        }
        Err(_) => {
            let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took longer than limits.body_timeout");
            return Err(Refusal { header: Some((header::CONNECTION, "close")), ..refusal });
        }
    };
    drop(held);
    count(&context.own, signal, &result);
    result.map_err(Refusal::from)
}

impl From<ExportError> for Refusal {
    fn from(error: ExportError) -> Self {
        let (status, header) = match &error {
            ExportError::Decode(DecodeError::Malformed(_)) => (StatusCode::BAD_REQUEST, None),
            ExportError::Decode(DecodeError::TooLarge(_) | DecodeError::TooMany(_)) => {
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
