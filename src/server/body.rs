//! Request bodies, read up to a limit and within a time.

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::error::Refusal;
use crate::config::server::LimitsConfig;

/// The JSON body of a request. Refuses another content type, a body over the limit before it is read where
/// its length is announced, and one that dribbles.
pub(super) async fn read<B>(request: http::Request<B>, limits: &LimitsConfig) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if !content_type.is_some_and(is_json) {
        let message = "the body must be JSON; send it with `content-type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let mut body = request.into_body();
    let too_large = || {
        let message = format!("the body is larger than limits.body, {} bytes; send it in parts", limits.body);
        Refusal { header: Some((header::CONNECTION, "close")), ..Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message) }
    };
    if body.size_hint().lower() > limits.body as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_timeout, collect(&mut body, limits.body)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))),
        Err(_) => {
            let message = "the body took longer than limits.body_timeout";
            Err(Refusal {
                header: Some((header::CONNECTION, "close")),
                ..Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
            })
        }
    }
}

/// The whole body, or nothing when it is larger than `limit`.
pub(super) async fn collect<B>(body: &mut B, limit: usize) -> Result<Option<Bytes>, B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.as_ref().map_or(0, Bytes::len) + whole.len() + data.len() > limit {
            return Ok(None);
        }
        // Most bodies come in one piece, which needs no copy.
        match first.take() {
            None if whole.is_empty() => first = Some(data),
            None => append(&mut whole, &data, limit),
            Some(one) => {
                append(&mut whole, &one, limit);
                append(&mut whole, &data, limit);
            }
        }
    }
    Ok(Some(first.unwrap_or_else(|| whole.freeze())))
}

/// Adds `data` to what has come. Room grows by doubling, and never past `limit`: many large bodies come at once.
fn append(whole: &mut BytesMut, data: &Bytes, limit: usize) {
    let needed = whole.len() + data.len();
    if needed > whole.capacity() {
        let room = (whole.capacity() * 2).min(limit).max(needed);
        whole.reserve(room - whole.len());
    }
    whole.extend_from_slice(data);
}

fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/json")
}
