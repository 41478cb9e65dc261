//! From method and path to an answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tower::ServiceExt as _;

use super::access::{Caller, is_health};
use super::connections::{Arriving, Connection};
use super::error::{Refusal, json as json_answer};
use super::scrape::Scraper;
use super::sending::Sending;
use super::{Context, Surface, answers, callbacks, hooks, otlp, quiet};
use crate::engine::AlertFilter;
use crate::ingest::hooks::TOOLS;
use crate::model::{Input, Level};

/// Most alerts that one answer holds.
const MAX_ALERTS: usize = 1_000;

/// Everything that is served.
#[derive(Debug)]
pub(super) struct Routes {
    surface: Surface,
    context: Context,
    router: Router,
}

#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) context: Context,
    scraper: Arc<Scraper>,
    pub(super) sending: Sending,
}

impl Routes {
    /// What the routes work with.
    pub(super) const fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn new(surface: Surface, context: Context) -> Self {
        let sending = Sending::new();
        let (own, engine, otlp) = (Arc::clone(&context.own), context.engine.clone(), context.otlp.clone());
        let scraper = Arc::new(Scraper::new(own, engine, otlp, sending.clone()));
        let shared = Shared { scraper, sending, context: context.clone() };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/api/status", get(status))
            .route("/api/metrics", get(totals))
            .route("/api/alerts", get(alerts))
            .route("/api/alerts/{fingerprint}/why", get(quiet::why))
            .route("/api/alerts/{fingerprint}/ack", post(quiet::acknowledge))
            .route("/api/silences", get(quiet::list).post(quiet::begin))
            .route("/api/silences/{id}", delete(quiet::end))
            .route("/api/telemetry", get(telemetry))
            .route("/api/monitoring/start", post(start))
            .route("/api/monitoring/stop", post(stop))
            .route("/-/ready", get(ready))
            .route("/-/healthy", get(healthy))
            .route("/-/reload", post(reload))
            .route("/", get(async || json_answer(StatusCode::OK, FRONT)))
            // Served below, without the router; named here so that another method is answered as such.
            .route("/api/state", post(async || StatusCode::NOT_FOUND))
            .route("/api/usage", post(async || StatusCode::NOT_FOUND))
            .merge(
                TOOLS
                    .iter()
                    .fold(Router::new(), |router, tool| router.route(tool.path, post(async || StatusCode::NOT_FOUND))),
            )
            .route(callbacks::LITELLM, post(async || StatusCode::NOT_FOUND))
            .fallback(async || {
                Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is").into_response()
            })
            .method_not_allowed_fallback(async || {
                Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "this route does not take that method; see the header Allow",
                )
                .into_response()
            })
            .with_state(shared);
        Self { surface, context, router }
    }
}

/// What there is, for one who opens the address.
const FRONT: &str = r#"{"name": "lookout", "routes": ["GET /metrics", "GET /api/status", "GET /api/metrics", "GET /api/alerts", "GET /api/alerts/{fingerprint}/why", "POST /api/alerts/{fingerprint}/ack", "GET /api/silences", "POST /api/silences", "DELETE /api/silences/{id}", "GET /api/telemetry", "POST /api/state", "POST /api/usage", "POST /hooks/claude-code", "POST /hooks/litellm", "POST /v1/metrics", "POST /v1/traces", "POST /v1/logs", "POST /api/monitoring/start", "POST /api/monitoring/stop", "GET /-/healthy", "GET /-/ready", "POST /-/reload"]}"#;

/// Answers one request.
pub(super) async fn answer(routes: &Routes, mut request: Request<Arriving>, connection: Connection) -> Response {
    let access = Arc::clone(&routes.context.access.borrow());
    let (method, path) = (request.method(), request.uri().path());
    if connection.is_reserved() && !is_health(path) {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way; try again")
            .into_response();
    }
    if !is_health(path) {
        access.renew(request.headers()).await;
    }
    let allowed = access.check(&request, connection.local());
    if let Some(signal) = otlp::signal(path) {
        return otlp::answer(&routes.context, signal, allowed.map(drop), request).await;
    }
    let caller = match allowed {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    if routes.surface != Surface::Main {
        let message = "only OTLP is received here: POST /v1/metrics, /v1/traces, /v1/logs";
        return Refusal::new(StatusCode::NOT_FOUND, message).into_response();
    }
    // What comes in by the thousand goes past the router.
    if method == Method::POST
        && let Some(tool) = TOOLS.iter().find(|tool| tool.path == path)
    {
        return hooks::answer(&routes.context, tool, request).await;
    }
    let is_usage = match (method, path) {
        (&Method::POST, "/api/state") => false,
        (&Method::POST, "/api/usage") => true,
        (&Method::POST, callbacks::LITELLM) => {
            return callbacks::answer(&routes.context, request).await.unwrap_or_else(Refusal::into_response);
        }
        _ => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(connection);
            return dispatch(routes, request).await;
        }
    };
    ingest(&routes.context, is_usage, request).await.unwrap_or_else(|refusal| {
        // What the engine refuses it counts itself.
        if let Some(reason) = refusal.loss() {
            routes.context.own.rejected(if is_usage { Input::Usage } else { Input::State }, reason, 1);
        }
        refusal.into_response()
    })
}

async fn dispatch(routes: &Routes, request: Request<Arriving>) -> Response {
    match routes.router.clone().oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn ingest(context: &Context, is_usage: bool, request: Request<Arriving>) -> Result<Response, Refusal> {
    let body = context.bodies.read(request).await?;
    let taken = if is_usage { context.engine.push_usage(body).await? } else { context.engine.push_state(body).await? };
    if taken.in_memory_only {
        let note = "the store can't be written: what was taken in is lost if the process ends before it can be";
        let answer = json!({"accepted": taken.accepted, "rejected": taken.rejected, "durable": false, "note": note});
        return Ok(json_answer(StatusCode::ACCEPTED, answer.to_string()));
    }
    let answer = if taken.rejected.is_empty() {
        format!("{{\"accepted\":{}}}", taken.accepted)
    } else {
        json!(taken).to_string()
    };
    Ok(json_answer(StatusCode::OK, answer))
}

async fn metrics(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    shared.scraper.answer(view, header(header::ACCEPT), header(header::ACCEPT_ENCODING), &reader).await
}

async fn telemetry(
    State(shared): State<Shared>,
    Extension(reader): Extension<Connection>,
) -> Result<Response, Refusal> {
    let receptions = shared.context.otlp.receptions().await;
    let view = shared.context.engine.view().await?;
    shared.sending.json(&reader, move || answers::telemetry::of(&receptions, &view.fleet)).await
}

async fn status(State(shared): State<Shared>, Extension(reader): Extension<Connection>) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    shared.sending.json(&reader, move || answers::status::of(&view)).await
}

async fn totals(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    Ok(json_answer(StatusCode::OK, answers::totals::of(&view).to_string()))
}

#[derive(Debug, Deserialize)]
struct AlertsQuery {
    level: Option<String>,
    state: Option<String>,
    agent: Option<String>,
    rule: Option<String>,
    limit: Option<String>,
}

async fn alerts(
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

async fn start(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    shared.context.engine.set_monitoring(true, caller.name(None)).await?;
    Ok(json_answer(StatusCode::OK, json!({"monitoring": true}).to_string()))
}

async fn stop(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    shared.context.engine.set_monitoring(false, caller.name(None)).await?;
    let resumes = crate::engine::PAUSE.as_secs();
    Ok(json_answer(StatusCode::OK, json!({"monitoring": false, "resumes_after_seconds": resumes}).to_string()))
}

/// Whether all parts of the program run. It asks none of them, so that it answers whatever they do.
async fn healthy(State(shared): State<Shared>) -> Response {
    match (shared.context.failed)() {
        None => json_answer(StatusCode::OK, r#"{"healthy": true}"#),
        Some(part) => {
            let reason = format!("a part of the program ended unexpectedly: {part}");
            json_answer(StatusCode::SERVICE_UNAVAILABLE, json!({"healthy": false, "reasons": [reason]}).to_string())
        }
    }
}

async fn ready(State(shared): State<Shared>) -> Result<Response, Refusal> {
    let view = shared.context.engine.view().await?;
    let (status, ready) = if view.store_ok { (StatusCode::OK, true) } else { (StatusCode::SERVICE_UNAVAILABLE, false) };
    let reasons: &[&str] =
        if view.store_ok { &[] } else { &["the store can't be written; alerts are sent all the same"] };
    Ok(json_answer(status, json!({"ready": ready, "reasons": reasons}).to_string()))
}

async fn reload(State(shared): State<Shared>) -> Result<Response, Refusal> {
    match (shared.context.reload)().await {
        Ok(restart) => {
            Ok(json_answer(StatusCode::OK, json!({"reloaded": true, "restart_needed": restart}).to_string()))
        }
        Err(error) => Err(Refusal::new(StatusCode::BAD_REQUEST, error)),
    }
}
