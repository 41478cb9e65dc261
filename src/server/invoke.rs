//! `POST /agents/{id}/invoke`: runs a flow of a server in the configuration as a run of the agent.
//!
//! The address comes from the configuration alone; the agent names a server of it and a flow there, whose id is one
//! segment of a path. The body goes on as it is, and so does the answer, while it arrives.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body::{Frame, SizeHint};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::HandlerState;
use super::error::ApiError;
use super::runs::{random, traceparent};
use crate::clock::Clock;
use crate::config::flows::{FlowConfig, FlowKind};
use crate::engine::runs::{RunsError, RunsHandle};
use crate::http_client::{self, ClientError};
use crate::model::{RegisteredAgent, RunStatus, SpanId, TokenCounts, TokenType, TraceId, duration};
use crate::runs::{RunEnd, RunStart};
use crate::secret::SecretSource;
use crate::text::clean;

/// Flows that run at once; more are refused.
const MAX_AT_ONCE: usize = 64;
/// Longest id of a flow, in bytes.
const MAX_ID: usize = 128;
/// Answers up to this size are read for their usage, in bytes.
const MAX_READ: usize = 4 << 20;
/// Longest error and session, in bytes.
const MAX_TEXT: usize = 200;
/// Most runs of the server that one answer names.
const MAX_NAMED: usize = 16;

/// The flow servers of the configuration.
#[derive(Debug)]
pub struct FlowServers {
    servers: BTreeMap<String, FlowServer>,
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct FlowServer {
    kind: FlowKind,
    url: Url,
    key: Option<SecretSource>,
    config: FlowConfig,
    client: reqwest::Client,
}

impl FlowServers {
    /// The servers of a validated configuration. Reads certificates, which may block.
    pub fn new(flows: &[FlowConfig]) -> Result<Self, ClientError> {
        let server = |flow: &FlowConfig| {
            let wrong = |error: String| ClientError::Build(error);
            Ok((
                flow.name.clone(),
                FlowServer {
                    kind: flow.kind,
                    url: Url::parse(&flow.url).map_err(|error| wrong(error.to_string()))?,
                    key: SecretSource::from_pair(&flow.api_key, &flow.api_key_file)
                        .map_err(|error| wrong(error.to_owned()))?,
                    config: flow.clone(),
                    client: http_client::build(flow.timeout, flow.ca_file.as_deref())?,
                },
            ))
        };
        let servers = flows.iter().map(server).collect::<Result<_, _>>()?;
        Ok(Self { servers, turns: Arc::new(Semaphore::new(MAX_AT_ONCE)) })
    }
}

impl FlowServer {
    /// Where a flow runs.
    fn address(&self, flow: &str, is_stream: Option<bool>) -> Url {
        let mut url = self.url.clone();
        let route = match self.kind {
            FlowKind::Langflow => "run",
            FlowKind::Flowise => "prediction",
        };
        // A URL with a host always has path segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", route, flow]);
        }
        if let Some(is_stream) = is_stream.filter(|_| self.kind == FlowKind::Langflow) {
            url.query_pairs_mut().append_pair("stream", if is_stream { "true" } else { "false" });
        }
        url
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message.into())
}

/// `POST /agents/{id}/invoke`.
pub(super) async fn invoke(
    State(shared): State<HandlerState>,
    Path(agent): Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    run_flow(&shared, agent, request).await
}

/// `POST /agents/{id}/{name}/invoke`.
pub(super) async fn invoke_named(
    State(shared): State<HandlerState>,
    Path((project, name)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    run_flow(&shared, format!("{project}/{name}"), request).await
}

async fn run_flow(shared: &HandlerState, id: String, request: Request<Body>) -> Result<Response, ApiError> {
    let asked = id.clone();
    let agent = shared.context.runs.registry(move |registry| registry.find(&asked).cloned()).await?;
    let agent = agent.ok_or(RunsError::UnknownAgent(id))?;
    let flows = Arc::clone(&shared.context.flows.borrow());
    let (server, flow) = flow_of(&agent, &flows)?;
    let is_stream = is_stream(request.uri().query().unwrap_or_default())?;
    let turn = Arc::clone(&flows.turns).try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_AT_ONCE} flows run already; try again later");
        ApiError { header: Some((header::RETRY_AFTER, "5")), ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    })?;
    let inherited = request.headers().get("traceparent").and_then(|header| header.to_str().ok()).and_then(traceparent);
    let body = shared.context.bodies.read(request).await?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = &server.key {
        let (name, value) = key_header(server.kind, key).await?;
        headers.insert(name, value);
    }
    let run = begin(shared, &agent, inherited, session_of(server.kind, &body)).await?;
    if let Ok(value) = HeaderValue::from_str(&run.traceparent) {
        headers.insert("traceparent", value);
    }
    let sent = server.client.post(server.address(&flow, is_stream)).headers(headers).body(body).send().await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            let name = &server.config.name;
            let (status, message) = if error.is_timeout() {
                let within = duration::exact(server.config.timeout);
                (StatusCode::GATEWAY_TIMEOUT, format!("flow server `{name}`: no answer within {within}"))
            } else {
                (
                    StatusCode::BAD_GATEWAY,
                    format!("flow server `{name}` can't be reached; check `flows` in the configuration"),
                )
            };
            run.end(RunStatus::Error, Some(&message), Answered::default());
            return Err(ApiError::new(status, message));
        }
    };
    Ok(passed_on(response, server.kind, run, turn))
}

/// The server that the agent's configuration names, and the id of the flow there.
fn flow_of<'f>(agent: &RegisteredAgent, flows: &'f FlowServers) -> Result<(&'f FlowServer, String), ApiError> {
    let text = |key: &str| agent.config.as_ref().and_then(|config| config.get(key)?.as_str());
    let missing = "the agent has no flow; register it with `config`: {\"flow\": a name in `flows` of the configuration, \"flow_id\": …}";
    let name = text("flow").ok_or_else(|| bad(missing))?;
    let server = flows.servers.get(name).ok_or_else(|| {
        bad(format!(
            "`flows` of the configuration has no `{}`; `config.flow` of the agent names it",
            clean(name, MAX_TEXT)
        ))
    })?;
    let flow = text("flow_id").or(agent.external_id.as_deref()).ok_or_else(|| bad(missing))?;
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if flow.is_empty() || flow.len() > MAX_ID || !flow.bytes().all(is_id) || flow.bytes().all(|byte| byte == b'.') {
        return Err(bad("`config.flow_id` of the agent is not the id of a flow: letters, digits, `-`, `_` and `.`"));
    }
    Ok((server, flow.to_owned()))
}

/// Langflow's parameter `stream`.
fn is_stream(query: &str) -> Result<Option<bool>, ApiError> {
    match query {
        "" => Ok(None),
        "stream=true" => Ok(Some(true)),
        "stream=false" => Ok(Some(false)),
        _ => Err(bad("unknown parameter; use stream=true or stream=false")),
    }
}

async fn key_header(kind: FlowKind, key: &SecretSource) -> Result<(&'static str, HeaderValue), ApiError> {
    let wrong = |message: String| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message);
    let key = key.read().await.map_err(|error| wrong(error.in_full()))?;
    let (name, value) = match kind {
        FlowKind::Langflow => ("x-api-key", key.expose().to_owned()),
        FlowKind::Flowise => ("authorization", format!("Bearer {}", key.expose())),
    };
    let value = HeaderValue::from_str(&value);
    let mut value =
        value.map_err(|_| wrong("the API key contains characters that are invalid in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The session that a body names, by which the server's own report of the run is known.
fn session_of(kind: FlowKind, body: &[u8]) -> Option<Arc<str>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let session = match kind {
        FlowKind::Langflow => body.get("session_id")?.as_str()?,
        FlowKind::Flowise => {
            let given = body.get("overrideConfig").and_then(|config| config.get("sessionId"));
            given.or_else(|| body.get("chatId"))?.as_str()?
        }
    };
    Some(Arc::from(&*clean(session, MAX_TEXT))).filter(|session: &Arc<str>| !session.is_empty())
}

async fn begin(
    shared: &HandlerState,
    agent: &RegisteredAgent,
    inherited: Option<(TraceId, SpanId)>,
    session: Option<Arc<str>>,
) -> Result<InvokedRun, ApiError> {
    let id = TraceId::from_slice(&random::<16>()?).ok_or_else(|| bad("no id"))?;
    let span = SpanId::from_slice(&random::<8>()?).ok_or_else(|| bad("no id"))?;
    let trace = inherited.map_or(id, |(trace, _)| trace);
    let at = shared.context.clock.wall();
    let start = move |agent: &RegisteredAgent| RunStart {
        session,
        ..RunStart::of_registered(agent, (id, span), inherited, at)
    };
    let run = shared.context.runs.start(&agent.id, start).await?;
    Ok(InvokedRun {
        runs: shared.context.runs.clone(),
        clock: shared.context.clock.clone(),
        id: run.id,
        traceparent: format!("00-{trace}-{span}-01"),
        is_over: false,
    })
}

/// A run that ends: when its answer does, or, where the client goes away before, when it is dropped.
struct InvokedRun {
    runs: RunsHandle,
    clock: Clock,
    id: TraceId,
    traceparent: String,
    is_over: bool,
}

impl InvokedRun {
    fn end(mut self, status: RunStatus, error: Option<&str>, answered: Answered) {
        self.finish(status, error, answered);
    }

    fn finish(&mut self, status: RunStatus, error: Option<&str>, answered: Answered) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        // First, so that what is polled of the same run finds it.
        self.runs.join(self.id, answered.runs);
        let error = error.map(|error| Arc::from(&*clean(error, MAX_TEXT)));
        let at = self.clock.wall();
        self.runs.finish(
            self.id,
            RunEnd { status, error, tokens: answered.tokens, cost_usd: answered.cost_usd, at, ..RunEnd::default() },
        );
    }
}

impl Drop for InvokedRun {
    fn drop(&mut self) {
        self.finish(
            RunStatus::Abandoned,
            Some("the client went away before the answer was complete"),
            Answered::default(),
        );
    }
}

/// The answer, passed on as it arrives.
fn passed_on(
    response: reqwest::Response,
    kind: FlowKind,
    run: InvokedRun,
    turn: tokio::sync::OwnedSemaphorePermit,
) -> Response {
    let (parts, body): (_, reqwest::Body) = http::Response::from(response).into_parts();
    let is_read = !parts.headers.contains_key(header::CONTENT_ENCODING);
    let run_id = run.id;
    let body = InvokedBody {
        inner: body,
        kind,
        status: parts.status,
        seen: is_read.then(Vec::new),
        run: Some(run),
        _turn: turn,
    };
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CACHE_CONTROL, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(&run_id.to_string()) {
        response.headers_mut().insert("x-lookout-run-id", id);
    }
    response
}

/// The body of an answer. Its run ends with it.
struct InvokedBody {
    inner: reqwest::Body,
    kind: FlowKind,
    status: StatusCode,
    /// What was passed on, as long as it is not too large.
    seen: Option<Vec<u8>>,
    run: Option<InvokedRun>,
    _turn: tokio::sync::OwnedSemaphorePermit,
}

impl InvokedBody {
    fn note(&mut self, data: &Bytes) {
        if let Some(seen) = &mut self.seen {
            if seen.len() + data.len() > MAX_READ {
                self.seen = None;
            } else {
                seen.extend_from_slice(data);
            }
        }
    }

    fn finish(&mut self, broken: Option<&str>) {
        let Some(run) = self.run.take() else { return };
        let answered = self.seen.take().map(|seen| Answered::read(self.kind, &seen)).unwrap_or_default();
        let failed = broken.map(str::to_owned).or_else(|| {
            let reason = answered.error.clone();
            let status = self.status;
            if status.is_success() { reason } else { Some(reason.unwrap_or_else(|| format!("HTTP {status}"))) }
        });
        let status = if failed.is_some() { RunStatus::Error } else { RunStatus::Ok };
        run.end(status, failed.as_deref(), answered);
    }
}

impl http_body::Body for InvokedBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    self.note(&data);
                }
                // A body of known length may not be polled again after its last byte.
                if http_body::Body::is_end_stream(&self.inner) {
                    self.finish(None);
                }
            }
            Some(Err(error)) if error.is_timeout() => self.finish(Some("the answer took too long")),
            Some(Err(_)) => self.finish(Some("the answer broke off")),
            None => self.finish(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What an answer says of its run.
#[derive(Debug, Default, PartialEq)]
struct Answered {
    /// The ids of the run at its server.
    runs: Vec<TraceId>,
    tokens: Option<TokenCounts>,
    cost_usd: Option<f64>,
    error: Option<String>,
}

impl Answered {
    /// Reads an answer: JSON, or events of which each is JSON.
    fn read(kind: FlowKind, body: &[u8]) -> Self {
        let mut answered = Self::default();
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => answered.take(kind, &value),
            Err(_) => {
                for line in body.split(|byte| *byte == b'\n') {
                    let line = line.trim_ascii();
                    let line = line.strip_prefix(b"data:").or_else(|| line.strip_prefix(b"message:")).unwrap_or(line);
                    if let Ok(event @ Value::Object(_)) = serde_json::from_slice::<Value>(line.trim_ascii()) {
                        answered.event(kind, &event);
                    }
                }
            }
        }
        answered.runs.truncate(MAX_NAMED);
        answered
    }

    /// An event of a stream: Langflow's `end` has the whole result, Flowise's come one by one.
    fn event(&mut self, kind: FlowKind, event: &Value) {
        let data = event.get("data").unwrap_or(&Value::Null);
        match (kind, event.get("event").and_then(Value::as_str)) {
            (FlowKind::Langflow, Some("end")) => self.take(kind, data.get("result").unwrap_or(data)),
            (_, Some("error")) => {
                let text = data.as_str().or_else(|| data.get("error")?.as_str()).or_else(|| data.get("text")?.as_str());
                self.error = Some(text.unwrap_or("the flow failed").to_owned());
            }
            (FlowKind::Flowise, Some("metadata")) => self.take(kind, data),
            (FlowKind::Flowise, Some("agentFlowExecutedData")) => self.nodes(data),
            _ => {}
        }
    }

    fn take(&mut self, kind: FlowKind, value: &Value) {
        if let Some(error) = ["detail", "message", "error"].iter().find_map(|key| value.get(*key)?.as_str()) {
            self.error = Some(error.to_owned());
        }
        match kind {
            FlowKind::Langflow => {
                let mut messages = Vec::new();
                let outputs = |of: &Value| of.get("outputs").and_then(Value::as_array).cloned().unwrap_or_default();
                for output in outputs(value).iter().flat_map(outputs) {
                    let Some(message) = output.get("results").and_then(|results| results.get("message")) else {
                        continue;
                    };
                    let data = message.get("data").unwrap_or(message);
                    if messages.contains(&data["id"]) {
                        continue;
                    }
                    messages.push(data["id"].clone());
                    let run = data.get("run_id").or_else(|| data.get("session_metadata")?.get("graph_run_id"));
                    self.note_run(run);
                    self.add(data.get("properties").and_then(|it| it.get("usage")).unwrap_or(&Value::Null));
                }
            }
            FlowKind::Flowise => {
                self.note_run(value.get("executionId"));
                self.nodes(value.get("agentFlowExecutedData").unwrap_or(&Value::Null));
            }
        }
    }

    fn note_run(&mut self, id: Option<&Value>) {
        if let Some(id) = id.and_then(Value::as_str).and_then(TraceId::parse)
            && !self.runs.contains(&id)
        {
            self.runs.push(id);
        }
    }

    /// The executed nodes of an agentflow.
    fn nodes(&mut self, nodes: &Value) {
        for node in nodes.as_array().into_iter().flatten() {
            if let Some(usage) = node.pointer("/data/output/usageMetadata") {
                self.add(usage);
            }
        }
    }

    fn add(&mut self, usage: &Value) {
        let count = |key: &str| usage.get(key).and_then(Value::as_u64);
        let detail = |key: &str, part: &str| usage.get(key).and_then(|it| it.get(part)?.as_u64()).unwrap_or(0);
        let (Some(input), output) = (count("input_tokens"), count("output_tokens").unwrap_or(0)) else { return };
        let (cached, reasoning) =
            (detail("input_token_details", "cache_read"), detail("output_token_details", "reasoning"));
        let tokens = self.tokens.get_or_insert([0; TokenType::ALL.len()]);
        for (token_type, more) in [
            (TokenType::Input, input.saturating_sub(cached)),
            (TokenType::Output, output.saturating_sub(reasoning)),
            (TokenType::CacheRead, cached),
            (TokenType::Reasoning, reasoning),
        ] {
            tokens[token_type as usize] = tokens[token_type as usize].saturating_add(more);
        }
        if let Some(cost) = usage.get("total_cost").and_then(Value::as_f64).filter(|cost| *cost >= 0.0) {
            self.cost_usd = Some(self.cost_usd.unwrap_or(0.0) + cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGFLOW: &str = include_str!("../../tests/it/samples/flows/langflow-run.json");
    const FLOWISE: &str = include_str!("../../tests/it/samples/flows/flowise-prediction.json");

    #[test]
    fn an_answer_names_its_run_tokens_and_cost() {
        let answered = Answered::read(FlowKind::Langflow, LANGFLOW.as_bytes());
        assert_eq!(answered.runs, [TraceId::parse("e4882f39-c53c-4d9f-87b0-ab98e64d525b").expect("an id")]);
        assert_eq!((answered.tokens, answered.cost_usd, answered.error), (Some([128, 16, 0, 0, 0]), None, None));
        let answered = Answered::read(FlowKind::Flowise, FLOWISE.as_bytes());
        assert_eq!(answered.runs, [TraceId::parse("d7bbc363-07d4-42c3-9094-7802b3c97fc8").expect("an id")]);
        assert_eq!((answered.tokens, answered.cost_usd), (Some([64, 16, 64, 0, 0]), Some(2.88e-5)));
    }

    #[test]
    fn an_answer_in_events_is_read_likewise() {
        let end = format!(
            "{{\"event\": \"token\", \"data\": {{\"chunk\": \"The\"}}}}\n\n{{\"event\": \"end\", \"data\": {{\"result\": {}}}}}\n",
            LANGFLOW.trim()
        );
        let whole = Answered::read(FlowKind::Langflow, LANGFLOW.as_bytes());
        assert_eq!(Answered::read(FlowKind::Langflow, end.as_bytes()), whole);
        let failed = "message:\ndata:{\"event\":\"token\",\"data\":\"T\"}\n\nmessage:\ndata:{\"event\":\"error\",\"data\":\"no model\"}\n\n";
        assert_eq!(Answered::read(FlowKind::Flowise, failed.as_bytes()).error.as_deref(), Some("no model"));
        for other in ["", "[DONE]", "data: 7", "{", "{\"outputs\": [7, {\"outputs\": {}}]}"] {
            assert_eq!(Answered::read(FlowKind::Langflow, other.as_bytes()), Answered::default(), "{other}");
        }
    }

    #[test]
    fn the_path_is_that_of_the_configuration_and_the_id() {
        let flow = |kind: &str| -> FlowConfig {
            serde_json::from_value(serde_json::json!({"name": "f", "kind": kind, "url": "http://flows.example/base/"}))
                .expect("a server")
        };
        let servers = FlowServers::new(&[flow("langflow")]).expect("a client");
        let address = servers.servers["f"].address("a..b", Some(true));
        assert_eq!(address.as_str(), "http://flows.example/base/api/v1/run/a..b?stream=true");
        let servers = FlowServers::new(&[flow("flowise")]).expect("a client");
        let address = servers.servers["f"].address("x", Some(true));
        assert_eq!(address.as_str(), "http://flows.example/base/api/v1/prediction/x");
        let agent = |id: &str| RegisteredAgent {
            id: "1".into(),
            name: "a".into(),
            project: "default".into(),
            agent_type: "flowise".into(),
            external_id: None,
            config: Some(serde_json::json!({"flow": "f", "flow_id": id})),
            monitoring_enabled: true,
            status: crate::model::RegistryStatus::Active,
            created_by: "api".into(),
            created_at: crate::model::Time::default(),
            last_used_at: None,
            sharing: crate::model::registry::Sharing::default(),
        };
        assert!(flow_of(&agent("6d940e3d-0f45"), &servers).is_ok());
        for wrong in ["", "..", "a/b", "a%2fb", "a?b", "a#b", "@x", "é", "a\\b", &"x".repeat(200)] {
            assert_eq!(
                flow_of(&agent(wrong), &servers).err().map(|it| it.status),
                Some(StatusCode::BAD_REQUEST),
                "{wrong}"
            );
        }
    }
}
