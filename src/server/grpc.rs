//! OTLP over gRPC: HTTP/2 without TLS, three unary methods, bodies handed on unread.
//!
//! Owns limits, access and statuses of this transport. Refuses to decode messages here: that is the owner's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::{Code, Status};

use super::connections::Connection;
use super::listener::MAX_HEAD;
use super::otlp::{self, Metered, Unread};
use super::{Access, Context};
use crate::sources::otlp::{DecodeError, Encoding, ExportError, Signal, response, retry_details};

/// Exports under way on one connection at once; senders have one for each signal.
const STREAMS: u32 = 32;
/// How often a silent peer is asked whether it is still there, and how long it may take to answer.
const ASK_EVERY: Duration = std::time::Duration::from_secs(60);
const ASK_FOR: Duration = std::time::Duration::from_secs(20);

/// Serves one connection until it ends or `stop`.
pub(super) async fn serve(
    socket: impl hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    context: &Context,
    connection: &Connection,
    stop: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (context, busy) = (context.clone(), connection.serve());
        async move {
            let response = answer(&context, request).await;
            drop(busy);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
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

async fn answer(context: &Context, request: Request<Incoming>) -> Response<Body> {
    let access = Arc::clone(&context.access.borrow());
    if let Err(status) = check(&access, &request) {
        return status.into_http();
    }
    let Some(signal) = otlp::signal(request.uri().path()) else {
        return Status::unimplemented("only OTLP's export services are served here").into_http();
    };
    let (parts, body) = request.into_parts();
    let (metered, held) = Metered::new(body, &context.room);
    let reached = AtomicBool::new(false);
    let exporter = tower::service_fn(|request: tonic::Request<Bytes>| {
        reached.store(true, Ordering::Relaxed);
        async move {
            let result = context.otlp.export(signal, Encoding::Protobuf, false, request.into_inner()).await;
            otlp::count(&context.own, signal, &result);
            let taken = result.map_err(|error| status(&error))?;
            Ok(tonic::Response::new(Bytes::from(response(signal, Encoding::Protobuf, &taken))))
        }
    });
    let mut grpc =
        Grpc::new(Raw).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(context.limits.body);
    let unary = grpc.unary(exporter, Request::from_parts(parts, Body::new(metered.map_err(Status::from))));
    let answer = tokio::time::timeout(context.limits.body_timeout, unary).await;
    drop(held);
    let Ok(answer) = answer else {
        return Status::deadline_exceeded("the export took longer than limits.body_timeout").into_http();
    };
    if reached.into_inner() { answer } else { refused(context, signal, answer) }
}

/// What the transport refused by itself, counted, and in the code that OTLP has for it: a body over the limit must not
/// be sent again, one that found no room must.
fn refused(context: &Context, signal: Signal, answer: Response<Body>) -> Response<Body> {
    let Some(refused) = Status::from_header_map(answer.headers()) else { return answer };
    let error = match refused.code() {
        // OUT_OF_RANGE is what is longer than the limit already before it is inflated.
        Code::OutOfRange | Code::ResourceExhausted => DecodeError::TooLarge(context.limits.body).into(),
        Code::Unavailable => ExportError::Busy,
        Code::Internal => DecodeError::Malformed(refused.message().to_owned()).into(),
        _ => return answer,
    };
    otlp::count(&context.own, signal, &Err(error.clone()));
    status(&error).into_http()
}

/// Whether the caller may export. HTTP/2 says in its own field which host is meant.
fn check(access: &Access, request: &Request<Incoming>) -> Result<(), Status> {
    let mut headers = request.headers().clone();
    if !headers.contains_key(header::HOST)
        && let Some(host) = request.uri().authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok())
    {
        headers.insert(header::HOST, host);
    }
    access
        .check(&Method::POST, request.uri().path(), &headers)
        .map(drop)
        .map_err(|refusal| Status::new(Code::from_i32(otlp::code(refusal.status) as i32), refusal.message))
}

/// The status of a refused export.
fn status(error: &ExportError) -> Status {
    let message = error.to_string();
    match error {
        ExportError::Decode(DecodeError::Malformed(_)) => Status::invalid_argument(message),
        ExportError::Decode(DecodeError::TooLarge(_) | DecodeError::TooMany(_)) => Status::resource_exhausted(message),
        ExportError::Busy | ExportError::Stopped => {
            let details = Bytes::from(retry_details(&message, 1));
            Status::with_details(Code::Unavailable, message, details)
        }
    }
}

impl From<Unread> for Status {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Busy => status(&ExportError::Busy),
            Unread::Broken(_) => Self::cancelled(error.to_string()),
        }
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
