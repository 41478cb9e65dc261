//! Handlers of the registry of agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HandlerState;
use super::access::Caller;
use super::api::status::progress_estimate;
use super::connections::Connection;
use super::error::{ApiError, json as json_answer};
use super::runs::{body, with_reader};
use crate::engine::AlertFilter;
use crate::engine::runs::{RunsError, new_agent_id};
use crate::engine::sharing::apply_monitoring;
use crate::model::registry::project_of_id;
use crate::model::run_stats::hour_of;
use crate::model::{DEFAULT_PROJECT, RegisteredAgent, RegistryStatus, StatCell, StatGroup};
use crate::runs::registry::{Registration, RegistryPatch};
use crate::runs::view;
use crate::text::is_name;

/// Longest name and type of an agent, in bytes.
const MAX_NAME: usize = 256;
/// Largest `config` of an agent, in bytes.
const MAX_CONFIG: usize = 64 << 10;
/// Agents on a page unless another number is asked for, and at most.
const PAGE: [usize; 2] = [100, 1_000];

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message.into())
}

/// The body of `POST /agents/register`.
#[derive(Debug, Deserialize)]
struct RegisterRequest {
    name: String,
    #[serde(rename = "type", default)]
    agent_type: Option<String>,
    #[serde(default, alias = "project")]
    project_id: Option<String>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    config: Option<Value>,
    #[serde(default)]
    monitoring_enabled: Option<bool>,
}

/// The body of `PATCH /agents/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchRequest {
    config: Option<Value>,
    monitoring_enabled: Option<bool>,
    status: Option<RegistryStatus>,
}

fn checked(key: &str, name: &str) -> Result<Arc<str>, ApiError> {
    if is_name(name, MAX_NAME) {
        return Ok(Arc::from(name));
    }
    Err(bad(format!(
        "{key} must be a name of at most {MAX_NAME} bytes without control or invisible characters, and not blank"
    )))
}

fn checked_config(config: Option<Value>) -> Result<Option<Value>, ApiError> {
    match config {
        None | Some(Value::Null) => Ok(None),
        Some(config) if !config.is_object() => Err(bad("config must be a JSON object")),
        Some(config) if config.to_string().len() > MAX_CONFIG => {
            Err(bad(format!("config is larger than {MAX_CONFIG} bytes")))
        }
        config => Ok(config),
    }
}

/// `POST /agents/register`.
pub(super) async fn register(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let given: RegisterRequest = body(&shared, request).await?;
    if given.monitoring_enabled == Some(false) && !caller.is_admin() {
        let message = "only an admin may set monitoring_enabled to false; leave it out or use an admin token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let registration = Registration {
        project: checked("project_id", project_of_id(given.project_id.as_deref().unwrap_or(DEFAULT_PROJECT)))?,
        name: checked("name", &given.name)?,
        agent_type: checked("type", given.agent_type.as_deref().unwrap_or("custom"))?,
        external_id: given.external_id.as_deref().map(|id| checked("external_id", id)).transpose()?,
        config: checked_config(given.config)?,
        monitoring_enabled: given.monitoring_enabled,
        created_by: Arc::from("api"),
        new_id: new_agent_id(),
    };
    let (agent, is_new) = shared.context.runs.register(registration).await?;
    if given.monitoring_enabled.is_some() {
        set_monitoring(&shared, &agent, &caller).await?;
    }
    let mut answer = view::agent(&agent);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("created".to_owned(), json!(is_new));
    }
    Ok(json_answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }, answer.to_string()))
}

/// `GET /agents`.
pub(super) async fn list(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(mut query) = query.map_err(|error| bad(error.body_text()))?;
    let mut take = |key: &str| query.remove(key);
    let project = take("project_id").or_else(|| take("project")).map(|id| project_of_id(&id).to_owned());
    let (agent_type, status, text) = (take("type"), take("status"), take("q").map(|text| text.to_lowercase()));
    let status = status.map(|word| {
        RegistryStatus::parse(&word).ok_or_else(|| bad(format!("unknown status `{word}`; use active or inactive")))
    });
    let status = status.transpose()?;
    let limit = take("limit").map_or(Ok(PAGE[0]), |text| {
        let limit = text.parse().ok().filter(|limit| (1..=PAGE[1]).contains(limit));
        limit.ok_or_else(|| bad(format!("invalid limit `{text}`; use a number from 1 to {}", PAGE[1])))
    })?;
    let cursor = take("cursor");
    if let Some(unknown) = query.keys().next() {
        return Err(bad(format!("unknown parameter `{unknown}`; use project_id, type, status, q, limit or cursor")));
    }
    let (agents, total, next) = shared
        .context
        .runs
        .registry(move |registry| {
            let place = |agent: &RegisteredAgent| format!("{}/{}", agent.project, agent.name);
            let matching: Vec<&RegisteredAgent> = registry
                .all()
                .into_iter()
                .filter(|agent| project.as_deref().is_none_or(|project| *project == *agent.project))
                .filter(|agent| agent_type.as_deref().is_none_or(|kind| *kind == *agent.agent_type))
                .filter(|agent| status.is_none_or(|status| status == agent.status))
                .filter(|agent| text.as_deref().is_none_or(|text| agent.name.to_lowercase().contains(text)))
                .collect();
            let total = matching.len();
            let after = matching.into_iter().skip_while(|agent| cursor.as_ref().is_some_and(|at| place(agent) <= *at));
            let mut page: Vec<&RegisteredAgent> = after.take(limit + 1).collect();
            let has_more = page.len() > limit;
            page.truncate(limit);
            let next = page.last().filter(|_| has_more).map(|agent| place(agent));
            (page.into_iter().map(view::agent).collect::<Vec<_>>(), total, next)
        })
        .await?;
    let build = move || json!({"agents": agents, "total": total, "next_cursor": next}).to_string();
    shared.sending.json(&reader, build).await
}

/// `GET /agents/{id}`.
pub(super) async fn show(State(shared): State<HandlerState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    one(&shared, id).await
}

/// `GET /agents/{id}/{name}`.
pub(super) async fn show_named(
    State(shared): State<HandlerState>,
    Path((project, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    one(&shared, format!("{project}/{name}")).await
}

async fn one(shared: &HandlerState, id: String) -> Result<Response, ApiError> {
    let asked = id.clone();
    let agent = shared.context.runs.registry(move |registry| registry.find(&asked).cloned()).await?;
    let agent = agent.ok_or(RunsError::UnknownAgent(id))?;
    let end = hour_of(shared.context.clock.wall().as_millis()) + 1;
    let key = vec![(agent.project.to_string(), agent.name.to_string())];
    let rows =
        with_reader(shared, move |reader| reader.stats(&key, end.saturating_sub(24)..end, StatGroup::Total)).await?;
    let mut sum = StatCell::default();
    rows.iter().for_each(|row| sum.add(&row.cell, 1));
    let view = shared.context.engine.view().await?;
    let state = view.fleet.agents.iter().find(|known| known.project == agent.project && known.name == agent.name);
    let filter = AlertFilter { agent: Some(agent.name.to_string()), limit: 1_000, ..AlertFilter::default() };
    let alerts = shared.context.engine.alerts(filter).await?;
    let alerts: Vec<Value> = alerts.iter().map(|alert| json!(alert)).collect();
    let alerts: Vec<Value> = alerts.into_iter().filter(|alert| alert["project"] == *agent.project).collect();
    let mut answer = view::agent(&agent);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("state".to_owned(), json!(state.and_then(|agent| agent.status).map(|status| status.as_str())));
        fields.insert("progress".to_owned(), json!(state.and_then(|agent| agent.progress).map(|ratio| ratio * 100.0)));
        let estimate = state.map(|agent| progress_estimate(agent, &view.fleet));
        fields.insert("progress_estimate".to_owned(), estimate.unwrap_or_default());
        fields.insert("last_24h".to_owned(), view::stat(&sum));
        fields.insert("alerts".to_owned(), Value::Array(alerts));
    }
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

/// `PATCH /agents/{id}`.
pub(super) async fn patch(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    change(&shared, id, &caller, request).await
}

/// `PATCH /agents/{id}/{name}`.
pub(super) async fn patch_named(
    State(shared): State<HandlerState>,
    Extension(caller): Extension<Caller>,
    Path((project, name)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    change(&shared, format!("{project}/{name}"), &caller, request).await
}

async fn change(
    shared: &HandlerState,
    id: String,
    caller: &Caller,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let given: PatchRequest = body(shared, request).await?;
    let patch = RegistryPatch {
        config: checked_config(given.config)?,
        monitoring_enabled: given.monitoring_enabled,
        status: given.status,
    };
    let is_monitoring_set = patch.monitoring_enabled.is_some();
    let agent = shared.context.runs.patch(&id, patch).await?;
    if is_monitoring_set {
        set_monitoring(shared, &agent, caller).await?;
    }
    Ok(json_answer(StatusCode::OK, view::agent(&agent).to_string()))
}

async fn set_monitoring(shared: &HandlerState, agent: &RegisteredAgent, caller: &Caller) -> Result<(), ApiError> {
    let (engine, now) = (&shared.context.engine, shared.context.clock.now());
    Ok(apply_monitoring(engine, now, agent, caller.name(None)).await??)
}

/// `DELETE /agents/{id}`: makes it inactive.
pub(super) async fn remove(State(shared): State<HandlerState>, Path(id): Path<String>) -> Result<Response, ApiError> {
    deactivate(&shared, id).await
}

/// `DELETE /agents/{id}/{name}`.
pub(super) async fn remove_named(
    State(shared): State<HandlerState>,
    Path((project, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    deactivate(&shared, format!("{project}/{name}")).await
}

async fn deactivate(shared: &HandlerState, id: String) -> Result<Response, ApiError> {
    let patch = RegistryPatch { status: Some(RegistryStatus::Inactive), ..RegistryPatch::default() };
    let agent = shared.context.runs.patch(&id, patch).await?;
    Ok(json_answer(StatusCode::OK, view::agent(&agent).to_string()))
}
