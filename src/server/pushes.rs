//! Pushes of states and usage: decoded where they arrive, large ones beside the runtime's threads, so that no hook waits
//! for them.

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use super::Context;
use super::connections::Arriving;
use super::error::{Refusal, json as json_answer};
use crate::engine::Accepted;
use crate::engine::handle::DecodePermit;
use crate::ingest::{PushDecodeError, decode_pushed_state, decode_pushed_usage};
use crate::model::{InputKind, RejectReason};

/// `POST /api/state`.
pub(super) async fn state(context: &Context, request: Request<Arriving>) -> Response {
    answer(context, InputKind::State, push_state(context, request).await)
}

/// `POST /api/usage`.
pub(super) async fn usage(context: &Context, request: Request<Arriving>) -> Response {
    answer(context, InputKind::Usage, push_usage(context, request).await)
}

/// What the sender is answered.
fn answer(context: &Context, input: InputKind, pushed: Result<Accepted, Refusal>) -> Response {
    match pushed {
        Ok(accepted) => accepted_answer(&accepted),
        Err(refusal) => {
            if let Some(reason) = refusal.loss() {
                context.own.rejected(input, reason, 1);
            }
            refusal.into_response()
        }
    }
}

async fn push_state(context: &Context, request: Request<Arriving>) -> Result<Accepted, Refusal> {
    let body = context.bodies.read(request).await?;
    let now = context.clock.wall();
    let (state, turn) = decoded(context, InputKind::State, body, move |body| decode_pushed_state(body, now)).await?;
    Ok(context.engine.push_state(state, turn).await?)
}

async fn push_usage(context: &Context, request: Request<Arriving>) -> Result<Accepted, Refusal> {
    let body = context.bodies.read(request).await?;
    let (usage, turn) = decoded(context, InputKind::Usage, body, decode_pushed_usage).await?;
    Ok(context.engine.push_usage(usage, turn).await?)
}

/// What `decode` makes of a body, and its turn if it is a large one.
async fn decoded<T: Send + 'static>(
    context: &Context,
    input: InputKind,
    body: Bytes,
    decode: impl FnOnce(Bytes) -> Result<T, PushDecodeError> + Send + 'static,
) -> Result<(T, DecodePermit), Refusal> {
    let (decoded, turn) = context.bodies.decode(body, decode).await?;
    let decoded = decoded.map_err(|error| {
        context.own.rejected(input, RejectReason::Malformed, 1);
        Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
    })?;
    Ok((decoded, turn))
}

fn accepted_answer(accepted: &Accepted) -> Response {
    if accepted.in_memory_only {
        let note = "the store can't be written: what was taken in is lost if the process ends before it can be";
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
