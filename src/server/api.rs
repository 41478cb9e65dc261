//! The JSON API and the routes for supervisors: what is asked of the engine, and how the answer is put.

mod status;
mod telemetry;
mod totals;

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::access::Caller;
use super::connections::Connection;
use super::error::{Refusal, json as json_answer};
use crate::engine::AlertFilter;
use crate::model::Level;

/// Most alerts that one answer holds.
const MAX_ALERTS: usize = 1_000;

/// `GET /metrics`: the page for Prometheus.
pub(super) async fn metrics(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    shared.scraper.answer(view, header(header::ACCEPT), header(header::ACCEPT_ENCODING), &reader).await
}

/// `GET /api/telemetry`.
pub(super) async fn telemetry(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
) -> Result<Response, Refusal> {
    let receptions = shared.context.otlp.receptions().await;
    let view = shared.context.engine.view().await?;
    shared.sending.json(&reader, move || telemetry::of(&receptions, &view.fleet)).await
}

/// `GET /api/status`.
pub(super) async fn status(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    shared.sending.json(&reader, move || status::of(&view)).await
}

/// `GET /api/metrics`.
pub(super) async fn totals(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    Ok(json_answer(StatusCode::OK, totals::of(&view).to_string()))
}

#[derive(Debug, Deserialize)]
pub(super) struct AlertsQuery {
    level: Option<String>,
    state: Option<String>,
    agent: Option<String>,
    rule: Option<String>,
    limit: Option<String>,
}

/// `GET /api/alerts`.
pub(super) async fn alerts(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
    query: Result<Query<AlertsQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let level = query.level.map(|word| {
        Level::parse(&word).ok_or_else(|| bad(format!("level `{word}` is none of info, warning, error, critical")))
    });
    if let Some(state) = &query.state
        && !["pending", "firing", "resolved"].contains(&&**state)
    {
        return Err(bad(format!("state `{state}` is none of pending, firing, resolved")));
    }
    let limit = query.limit.map_or(Ok(100), |text| {
        let limit = text.parse().ok().filter(|limit| (1..=MAX_ALERTS).contains(limit));
        limit.ok_or_else(|| bad(format!("limit `{text}` is not a number from 1 to {MAX_ALERTS}")))
    })?;
    let filter =
        AlertFilter { level: level.transpose()?, state: query.state, agent: query.agent, rule: query.rule, limit };
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

/// `POST /api/monitoring/start`.
pub(super) async fn start(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    shared.context.engine.set_monitoring(true, caller.name(None)).await?;
    Ok(json_answer(StatusCode::OK, json!({"monitoring": true}).to_string()))
}

/// `POST /api/monitoring/stop`.
pub(super) async fn stop(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Refusal> {
    shared.context.engine.set_monitoring(false, caller.name(None)).await?;
    let resumes = crate::engine::PAUSE.as_secs();
    Ok(json_answer(StatusCode::OK, json!({"monitoring": false, "resumes_after_seconds": resumes}).to_string()))
}

/// `GET /-/healthy`: whether all parts of the program run. It asks none of them, so that it answers whatever they do.
pub(super) async fn healthy(State(shared): State<Shared>) -> Response {
    match (shared.context.failed)() {
        None => json_answer(StatusCode::OK, r#"{"healthy": true}"#),
        Some(part) => {
            let reason = format!("a part of the program ended unexpectedly: {part}");
            json_answer(StatusCode::SERVICE_UNAVAILABLE, json!({"healthy": false, "reasons": [reason]}).to_string())
        }
    }
}

/// `GET /-/ready`: whether what is told is kept.
pub(super) async fn ready(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    let (status, ready) = if view.store_ok { (StatusCode::OK, true) } else { (StatusCode::SERVICE_UNAVAILABLE, false) };
    let reasons: &[&str] =
        if view.store_ok { &[] } else { &["the store can't be written; alerts are sent all the same"] };
    Ok(json_answer(status, json!({"ready": ready, "reasons": reasons}).to_string()))
}

/// `POST /-/reload`.
pub(super) async fn reload(State(shared): State<Shared>) -> Result<Response, Refusal> {
    match (shared.context.reload)().await {
        Ok(restart) => {
            Ok(json_answer(StatusCode::OK, json!({"reloaded": true, "restart_needed": restart}).to_string()))
        }
        Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, error)),
    }
}
