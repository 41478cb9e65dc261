//! OTLP over gRPC: HTTP/2 with three unary methods. Messages are decoded by the OTLP task, not here.
//!
//! Statuses are tonic's, but the message is framed here: tonic's decoder allocates the announced length before it has
//! arrived, inflates inline, and rejects messages that are too large with a code that senders retry. Here the memory budget
//! of bodies applies as on HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::ServerContext;
use super::access::RequestEnds;
use super::connections::{Connection, MAX_HEAD, RequestBody};
use super::error::ApiError;
use super::otlp::{self, ExportRequestError};
use super::routes::{Dispatch, RouteMatch};
use crate::otlp::{Encoding, OtlpDecodeError, response};

/// Maximum number of concurrent streams per connection; exporters use one per signal.
const STREAMS: u32 = 32;
/// Flow-control window in bytes. The HTTP/2 library buffers as much per stream while a body waits for memory.
const WINDOW: u32 = 256 * 1024;
/// Interval of keep-alive pings.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// Timeout of a keep-alive ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The delay after which an exporter may retry.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Length of a message prefix: a compression flag and the length.
const PREFIX: usize = 5;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Serves one connection until it ends or `stop`.
pub(super) async fn serve(
    socket: impl hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    context: &ServerContext,
    connection: &Connection,
    stop: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (context, connection, work) = (context.clone(), connection.clone(), connection.serve());
        async move {
            let ends = connection.ends();
            let response = answer(&context, request.map(|body| connection.request_body(body)), ends).await;
            drop(work);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(socket, service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection closed with an error");
    }
}

async fn answer(context: &ServerContext, request: Request<RequestBody>, ends: RequestEnds) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(CONTENT_TYPE.as_bytes())) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    export(context, request, ends).await.unwrap_or_else(error_response)
}

async fn export(
    context: &ServerContext,
    request: Request<RequestBody>,
    ends: RequestEnds,
) -> Result<Response<Body>, Status> {
    let RouteMatch { requirement, dispatch } = RouteMatch::of(request.method(), request.uri().path());
    let access = Arc::clone(&context.access.borrow());
    access.renew(request.headers()).await;
    access.check(&request, requirement, ends)?;
    let Dispatch::Export(signal) = dispatch else {
        return Err(error_status(Code::Unimplemented, "unknown method; only the OTLP export services are available"));
    };
    let is_gzip = is_gzip(request.headers())?;
    let give_way = CancellationToken::new();
    let mut slot = context.connections.streams().share(Instant::now(), give_way.clone());
    if slot.grow(1).await.is_err() {
        otlp::count_busy(&context.own, signal);
        return Err(error_status(Code::Unavailable, "too many concurrent exports; try again later"));
    }
    let message = |body| message(body, is_gzip);
    let outcome = otlp::receive(context, signal, Encoding::Protobuf, request.into_body(), &give_way, message).await?;
    Ok(respond(&response(signal, Encoding::Protobuf, &outcome)))
}

/// Whether messages of this request may be compressed by gzip.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(error_status(Code::Unimplemented, "unsupported compression; use none or `grpc-encoding: gzip`")),
    }
}

/// The only message of a body, and whether it is compressed by gzip.
pub(super) fn message(mut body: Bytes, is_gzip: bool) -> Result<(bool, Bytes), OtlpDecodeError> {
    let malformed = |what: &str| OtlpDecodeError::Malformed(format!("invalid gRPC message: {what}"));
    if body.len() < PREFIX {
        return Err(malformed("truncated prefix"));
    }
    let (compressed, length) = (body.get_u8(), body.get_u32());
    if body.len() != length as usize {
        return Err(malformed(&format!("announced length {length}, actual length {}", body.len())));
    }
    match compressed {
        0 => Ok((false, body)),
        1 if is_gzip => Ok((true, body)),
        _ => Err(malformed("compressed without grpc-encoding")),
    }
}

/// An error status; a transient one has a retry delay.
fn error_status(code: Code, message: impl Into<String>) -> Status {
    match code {
        Code::Unavailable => {
            Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(RETRY_DELAY)))
        }
        _ => Status::new(code, message),
    }
}

impl From<ExportRequestError> for Status {
    fn from(failure: ExportRequestError) -> Self {
        ApiError::from(failure).into()
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error_status(otlp::code(error.status), error.message)
    }
}

/// The response of a failed export.
fn error_response(status: Status) -> Response<Body> {
    let mut response = status.into_http();
    response.headers_mut().insert(ACCEPT_ENCODING, GZIP);
    response
}

/// The response with one message.
fn respond(message: &[u8]) -> Response<Body> {
    let mut framed = Vec::with_capacity(PREFIX + message.len());
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response.headers_mut().insert(ACCEPT_ENCODING, GZIP);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_exactly_one_message() {
        let framed =
            |flag: u8, length: u32, rest: &[u8]| Bytes::from([&[flag][..], &length.to_be_bytes(), rest].concat());
        assert_eq!(message(framed(0, 2, b"ab"), true), Ok((false, Bytes::from("ab"))));
        assert_eq!(message(framed(1, 2, b"ab"), true), Ok((true, Bytes::from("ab"))));
        assert_eq!(message(framed(0, 0, b""), false), Ok((false, Bytes::new())));
        for (body, is_gzip) in [
            (framed(1, 2, b"ab"), false),
            (framed(2, 2, b"ab"), true),
            (framed(0, 1, b"ab"), true),
            (framed(0, u32::MAX, b"ab"), true),
            (Bytes::from_static(b"\0\0\0\0"), true),
        ] {
            assert!(matches!(message(body.clone(), is_gzip), Err(OtlpDecodeError::Malformed(_))), "{body:?}");
        }
    }

    #[test]
    fn status_messages_are_percent_encoded() {
        let response = error_response(error_status(Code::InvalidArgument, "100 % of \u{fc}\n"));
        assert_eq!(response.headers()["grpc-message"], "100%20%25%20of%20%C3%BC%0A");
        assert!(!response.headers().contains_key("grpc-status-details-bin"), "not retryable");
        let response = error_response(error_status(Code::Unavailable, "later"));
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "later");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(
            status.get_details_retry_info().and_then(|it| it.retry_delay),
            Some(RETRY_DELAY),
            "with a retry delay"
        );
    }
}
