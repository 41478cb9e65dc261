//! Handlers of the JSON API and of the health routes.

pub(super) mod status;
mod telemetry;
pub(super) mod totals;

pub(super) use self::status::exports;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::HandlerState;
use super::access::Caller;
use super::connections::Connection;
use super::error::{ApiError, json as json_answer};
use crate::engine::AlertFilter;
use crate::model::Level;

/// Maximum number of alerts in a response.
const MAX_ALERTS: usize = 1_000;

/// `GET /metrics`.
pub(super) async fn metrics(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let view = shared.context.engine.view().await?;
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    shared.scraper.answer(view, header(header::ACCEPT), header(header::ACCEPT_ENCODING), &reader).await
}

/// `GET /api/telemetry`.
pub(super) async fn telemetry(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
) -> Result<Response, ApiError> {
    let receptions = shared.context.otlp.receptions().await;
    let view = shared.context.engine.view().await?;
    shared.sending.json(&reader, move || telemetry::of(&receptions, &view.fleet)).await
}

/// `GET /api/status`.
pub(super) async fn status(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
) -> Result<Response, ApiError> {
    let view = shared.context.engine.view().await?;
    let exports = shared.context.runs.exports().clone();
    let wall = shared.context.clock.wall();
    shared.sending.json(&reader, move || status::of(&view, status::exports(wall, &exports))).await
}

/// `GET /api/metrics`.
pub(super) async fn totals(State(shared): State<HandlerState>) -> Result<Response, ApiError> {
    let view = shared.context.engine.view().await?;
    Ok(json_answer(StatusCode::OK, totals::of(&view).to_string()))
}

#[derive(Debug, Deserialize)]
pub(super) struct AlertsQuery {
    level: Option<String>,
    state: Option<String>,
    agent: Option<String>,
    rule: Option<String>,
    task: Option<String>,
    limit: Option<String>,
}

/// `GET /api/alerts`.
pub(super) async fn alerts(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    query: Result<Query<AlertsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    let level = query.level.map(|word| {
        Level::parse(&word).ok_or_else(|| bad(format!("unknown level `{word}`; use info, warning, error or critical")))
    });
    if let Some(state) = &query.state
        && !["pending", "firing", "resolved"].contains(&&**state)
    {
        return Err(bad(format!("unknown state `{state}`; use pending, firing or resolved")));
    }
    let limit = query.limit.map_or(Ok(100), |text| {
        let limit = text.parse().ok().filter(|limit| (1..=MAX_ALERTS).contains(limit));
        limit.ok_or_else(|| bad(format!("invalid limit `{text}`; use a number from 1 to {MAX_ALERTS}")))
    })?;
    let filter = AlertFilter {
        level: level.transpose()?,
        state: query.state,
        agent: query.agent,
        rule: query.rule,
        task: query.task,
        limit,
        ..AlertFilter::default()
    };
    let mut found = if filter.state.as_deref() == Some("resolved") {
        Vec::new()
    } else {
        shared.context.engine.alerts(filter.clone()).await?
    };
    if found.len() < limit && filter.state.as_deref().is_none_or(|state| state == "resolved") {
        let rest = limit - found.len();
        found.extend((shared.context.history)(AlertFilter { limit: rest, ..filter }).await);
    }
    let total = found.len();
    shared.sending.json(&reader, move || json!({"alerts": found, "total": total}).to_string()).await
}

/// `POST /api/receivers/{name}/test`.
pub(super) async fn test_receiver(
    State(shared): State<HandlerState>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let shown = crate::text::clean(&name, 100).into_owned();
    let (is_delivered, text) = match (shared.context.test_receiver)(name).await {
        None => return Err(ApiError::new(StatusCode::NOT_FOUND, format!("no receiver is named `{shown}`"))),
        Some(Ok(None)) => (true, "delivered".to_owned()),
        Some(Ok(Some(warning))) => (true, format!("delivered, but {warning}")),
        Some(Err(error)) => (false, format!("failed: {error}")),
    };
    let text = crate::text::clean(&text, 2_000);
    Ok(json_answer(StatusCode::OK, json!({"delivered": is_delivered, "text": text}).to_string()))
}

/// `POST /api/monitoring/start`.
pub(super) async fn start(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    shared.context.engine.set_monitoring(true, caller.name(None)).await?;
    Ok(json_answer(StatusCode::OK, json!({"monitoring": true}).to_string()))
}

/// `POST /api/monitoring/stop`.
pub(super) async fn stop(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    shared.context.engine.set_monitoring(false, caller.name(None)).await?;
    let resumes = crate::engine::PAUSE.as_secs();
    Ok(json_answer(StatusCode::OK, json!({"monitoring": false, "resumes_after_seconds": resumes}).to_string()))
}

/// `GET /-/healthy`: whether all tasks run. Asks none of them, so that it responds even if they hang.
pub(super) async fn healthy(State(shared): State<HandlerState>) -> Response {
    match (shared.context.failed)() {
        None => json_answer(StatusCode::OK, r#"{"healthy": true}"#),
        Some(part) => {
            let reason = format!("task failed: {part}");
            json_answer(StatusCode::SERVICE_UNAVAILABLE, json!({"healthy": false, "reasons": [reason]}).to_string())
        }
    }
}

/// `GET /-/ready`: whether the store is writable.
pub(super) async fn ready(State(shared): State<HandlerState>) -> Result<Response, ApiError> {
    let view = shared.context.engine.view().await?;
    let (status, ready) = if view.store_ok { (StatusCode::OK, true) } else { (StatusCode::SERVICE_UNAVAILABLE, false) };
    let reasons: &[&str] = if view.store_ok {
        &[]
    } else {
        &["the store is not writable; notifications are still sent, but a restart now would lose alert state"]
    };
    Ok(json_answer(status, json!({"ready": ready, "reasons": reasons}).to_string()))
}

/// `POST /-/reload`.
pub(super) async fn reload(State(shared): State<HandlerState>) -> Result<Response, ApiError> {
    match (shared.context.reload)().await {
        Ok(restart) => {
            Ok(json_answer(StatusCode::OK, json!({"reloaded": true, "restart_needed": restart}).to_string()))
        }
        Err(error) => Err(ApiError::new(StatusCode::BAD_REQUEST, error)),
    }
}
