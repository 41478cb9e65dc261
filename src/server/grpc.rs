//! OTLP over gRPC: HTTP/2, three unary methods, bodies handed on unread.
//!
//! Owns limits and access of this transport. Refuses to decode messages here: that is the owner's. Statuses are tonic's;
//! the one frame of a body is read here, since tonic's reader sets aside what a frame says it will have before it came,
//! inflates it there and then, and answers what is too large with a code on which senders try again: the shared
//! room of bodies holds here as well.

use std::net::IpAddr;
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

use super::Context;
use super::connections::{Arriving, Connection, MAX_HEAD};
use super::error::Refusal;
use super::otlp::{self, Failure};
use super::routes::{Asked, Way};
use crate::otlp::{Encoding, OtlpDecodeError, response};

/// Exports under way on one connection at once; senders have one for each signal.
const STREAMS: u32 = 32;
/// What a connection may send before it is read, in bytes: what is not, since it waits for room, is kept by the library.
const WINDOW: u32 = 256 * 1024;
/// How often a silent peer is asked whether it is still there, and how long it may take to answer.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_FOR: Duration = Duration::from_secs(20);

/// When a sender may come back for whom there was no place.
const AGAIN: Duration = Duration::from_secs(1);

/// What a message begins with: whether it is compressed, and its length.
const PREFIX: usize = 5;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Serves one connection until it ends or `stop`.
pub(super) async fn serve(
    socket: impl hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    context: &Context,
    connection: &Connection,
    stop: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (context, connection, work) = (context.clone(), connection.clone(), connection.serve());
        async move {
            let local = connection.local();
            let response = answer(&context, request.map(|body| connection.arriving(body)), local).await;
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
        .keep_alive_interval(ASK_EVERY)
        .keep_alive_timeout(ASK_FOR)
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
        tracing::debug!(error = %error, "connection ended");
    }
}

async fn answer(context: &Context, request: Request<Arriving>, local: IpAddr) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(CONTENT_TYPE.as_bytes())) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    export(context, request, local).await.unwrap_or_else(refuse)
}

async fn export(context: &Context, request: Request<Arriving>, local: IpAddr) -> Result<Response<Body>, Status> {
    let Asked { needs, way } = Asked::of(request.method(), request.uri().path());
    let access = Arc::clone(&context.access.borrow());
    access.renew(request.headers()).await;
    access.check(&request, needs, local)?;
    let Way::Export(signal) = way else {
        return Err(refused(Code::Unimplemented, "only OTLP's export services are served here"));
    };
    let is_gzip = is_gzip(request.headers())?;
    let give_way = CancellationToken::new();
    let mut place = context.connections.streams().share(Instant::now(), give_way.clone());
    if place.grow(1).await.is_err() {
        otlp::count_busy(&context.own, signal);
        return Err(refused(Code::Unavailable, "too many exports are under way; try again"));
    }
    let message = |body| message(body, is_gzip);
    let taken = otlp::receive(context, signal, Encoding::Protobuf, request.into_body(), &give_way, message).await?;
    Ok(respond(&response(signal, Encoding::Protobuf, &taken)))
}

/// Whether compressed messages of this request are gzip.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(refused(Code::Unimplemented, "send messages plain or with `grpc-encoding: gzip`")),
    }
}

/// The one message of a body, and whether it is gzip.
pub(super) fn message(mut body: Bytes, is_gzip: bool) -> Result<(bool, Bytes), OtlpDecodeError> {
    let malformed = |what: &str| OtlpDecodeError::Malformed(format!("the body is not one gRPC message: {what}"));
    if body.len() < PREFIX {
        return Err(malformed("it has no length"));
    }
    let (compressed, length) = (body.get_u8(), body.get_u32());
    if body.len() != length as usize {
        return Err(malformed(&format!("it says {length} bytes and has {}", body.len())));
    }
    match compressed {
        0 => Ok((false, body)),
        1 if is_gzip => Ok((true, body)),
        _ => Err(malformed("it is compressed, and nothing says how")),
    }
}

/// A refusal; one that is for now says when to come back.
fn refused(code: Code, message: impl Into<String>) -> Status {
    match code {
        Code::Unavailable => Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(AGAIN))),
        _ => Status::new(code, message),
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Refusal::from(failure).into()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refused(otlp::code(refusal.status), refusal.message)
    }
}

/// The answer to a refused export.
fn refuse(status: Status) -> Response<Body> {
    let mut response = status.into_http();
    response.headers_mut().insert(ACCEPT_ENCODING, GZIP);
    response
}

/// The answer with one message.
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
    fn a_body_is_one_message() {
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
    fn messages_of_statuses_are_escaped() {
        let response = refuse(refused(Code::InvalidArgument, "100 % of \u{fc}\n"));
        assert_eq!(response.headers()["grpc-message"], "100%20%25%20of%20%C3%BC%0A");
        assert!(!response.headers().contains_key("grpc-status-details-bin"), "it is of no use to come back");
        let response = refuse(refused(Code::Unavailable, "later"));
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "later");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.get_details_retry_info().and_then(|it| it.retry_delay), Some(AGAIN), "when to come back");
    }
}
