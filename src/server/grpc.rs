//! OTLP over gRPC: HTTP/2, three unary methods, bodies handed on unread.
//!
//! Owns limits, access and statuses of this transport. Refuses to decode messages here: that is the owner's. Three methods
//! of one message each need no more of gRPC than a frame, a status and two codings; the shared room of bodies holds
//! here as well.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::connections::{Arriving, Connection, MAX_HEAD};
use super::error::Refusal;
use super::otlp::{self, Failure};
use super::routes::{Asked, Way};
use crate::otlp::{Code, DecodeError, Encoding, response, retry_details};

/// Exports under way on one connection at once; senders have one for each signal.
const STREAMS: u32 = 32;
/// What a connection may send before it is read, in bytes: what is not, since it waits for room, is kept by the library.
const WINDOW: u32 = 256 * 1024;
/// How often a silent peer is asked whether it is still there, and how long it may take to answer.
const ASK_EVERY: Duration = Duration::from_secs(60);
const ASK_FOR: Duration = Duration::from_secs(20);

/// What a message begins with: whether it is compressed, and its length.
const PREFIX: usize = 5;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

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
    export(context, request, local).await.unwrap_or_else(Status::answer)
}

async fn export(context: &Context, request: Request<Arriving>, local: IpAddr) -> Result<Response<Body>, Status> {
    let Asked { needs, way } = Asked::of(request.method(), request.uri().path());
    let access = Arc::clone(&context.access.borrow());
    access.renew(request.headers()).await;
    access.check(&request, needs, local)?;
    let Way::Export(signal) = way else {
        return Err(Status::new(Code::Unimplemented, "only OTLP's export services are served here"));
    };
    let is_gzip = is_gzip(request.headers())?;
    let give_way = CancellationToken::new();
    let mut place = context.connections.streams().share(Instant::now(), give_way.clone());
    if place.grow(1).await.is_err() {
        otlp::count_busy(&context.own, signal);
        return Err(Status::new(Code::Unavailable, "too many exports are under way; try again"));
    }
    let message = |body| message(body, is_gzip);
    let taken = otlp::receive(context, signal, Encoding::Protobuf, request.into_body(), &give_way, message).await?;
    let message = response(signal, Encoding::Protobuf, &taken);
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    let trailers = HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
    Ok(respond(Body::new(body)))
}

/// Whether compressed messages of this request are gzip.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Status> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(false),
        Some(b"gzip") => Ok(true),
        Some(_) => Err(Status::new(Code::Unimplemented, "send messages plain or with `grpc-encoding: gzip`")),
    }
}

/// The one message of a body, and whether it is gzip.
pub(super) fn message(mut body: Bytes, is_gzip: bool) -> Result<(bool, Bytes), DecodeError> {
    let malformed = |what: &str| DecodeError::Malformed(format!("the body is not one gRPC message: {what}"));
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

/// A refused export.
#[derive(Debug)]
struct Status {
    code: Code,
    message: String,
}

impl Status {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn answer(self) -> Response<Body> {
        let mut response = respond(Body::empty());
        let headers = response.headers_mut();
        headers.insert(STATUS, HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::from_str(&escaped(&self.message)) {
            headers.insert(MESSAGE, message);
        }
        if self.code == Code::Unavailable
            && let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(retry_details(&self.message, 1)))
        {
            headers.insert(DETAILS, details);
        }
        response
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Refusal::from(failure).into()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(otlp::code(refusal.status), refusal.message)
    }
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// A message as a header may carry it.
fn escaped(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            // Writing into a string does not fail.
            break;
        }
    }
    out
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
            assert!(matches!(message(body.clone(), is_gzip), Err(DecodeError::Malformed(_))), "{body:?}");
        }
    }

    #[test]
    fn messages_of_statuses_are_escaped() {
        assert_eq!(escaped("100 % of \u{fc}\n"), "100 %25 of %C3%BC%0A");
        let response = Status::new(Code::Unavailable, "later").answer();
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "later");
        assert!(response.headers().contains_key("grpc-status-details-bin"), "when to come back");
    }
}
