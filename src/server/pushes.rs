//! Pushes of state, usage and custom metrics. Large bodies are decoded on a blocking thread, so that hooks do not wait for them.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use super::ServerContext;
use super::connections::RequestBody;
use super::error::{ApiError, json as json_answer};
use crate::engine::Accepted;
use crate::engine::handle::DecodePermit;
use crate::ingest::{PushDecodeError, decode_pushed_metrics, decode_pushed_state, decode_pushed_usage};
use crate::model::{InputKind, RejectReason};

/// `POST /api/state`.
pub(super) async fn state(context: &ServerContext, request: Request<RequestBody>) -> Response {
    answer(context, InputKind::State, push_state(context, request).await)
}

/// `POST /api/usage`.
pub(super) async fn usage(context: &ServerContext, request: Request<RequestBody>) -> Response {
    answer(context, InputKind::Usage, push_usage(context, request).await)
}

/// `POST /api/metrics`.
pub(super) async fn metrics(context: &ServerContext, request: Request<RequestBody>) -> Response {
    answer(context, InputKind::Custom, push_metrics(context, request).await)
}

/// The response to a push.
fn answer(context: &ServerContext, input: InputKind, pushed: Result<Accepted, ApiError>) -> Response {
    match pushed {
        Ok(accepted) => accepted_answer(&accepted),
        Err(error) => {
            if let Some(reason) = error.reject_reason() {
                context.own.rejected(input, reason, 1);
            }
            error.into_response()
        }
    }
}

async fn push_state(context: &ServerContext, request: Request<RequestBody>) -> Result<Accepted, ApiError> {
    let body = context.bodies.read(request).await?;
    let now = context.clock.wall();
    let (state, turn) = decoded(context, InputKind::State, body, move |body| decode_pushed_state(body, now)).await?;
    Ok(context.engine.push_state(state, turn).await?)
}

async fn push_usage(context: &ServerContext, request: Request<RequestBody>) -> Result<Accepted, ApiError> {
    let body = context.bodies.read(request).await?;
    let (usage, turn) = decoded(context, InputKind::Usage, body, decode_pushed_usage).await?;
    Ok(context.engine.push_usage(usage, turn).await?)
}

async fn push_metrics(context: &ServerContext, request: Request<RequestBody>) -> Result<Accepted, ApiError> {
    let body = context.bodies.read(request).await?;
    let (metrics, turn) = decoded(context, InputKind::Custom, body, decode_pushed_metrics).await?;
    Ok(context.engine.push_metrics(metrics, turn).await?)
}

/// The decoded body, and the permit if it is a large one.
async fn decoded<T: Send + 'static>(
    context: &ServerContext,
    input: InputKind,
    body: Bytes,
    decode: impl FnOnce(Bytes) -> Result<T, PushDecodeError> + Send + 'static,
) -> Result<(T, DecodePermit), ApiError> {
    let (decoded, turn) = context.bodies.decode(body, decode).await?;
    let decoded = decoded.map_err(|error| {
        context.own.rejected(input, RejectReason::Malformed, 1);
        ApiError::new(StatusCode::BAD_REQUEST, error.to_string())
    })?;
    Ok((decoded, turn))
}

fn accepted_answer(accepted: &Accepted) -> Response {
    if accepted.in_memory_only {
        let note = "the store is not writable; the accepted items would be lost by a restart now";
        let answer =
            json!({"accepted": accepted.accepted, "rejected": accepted.rejected, "durable": false, "note": note});
        return json_answer(StatusCode::ACCEPTED, answer.to_string());
    }
    let answer = if accepted.rejected.is_empty() {
        format!("{{\"accepted\":{}}}", accepted.accepted)
    } else {
        json!(accepted).to_string()
    };
    json_answer(StatusCode::OK, answer)
}
