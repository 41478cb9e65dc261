//! Handlers of runs: lists, one run with its spans, statistics, and their beginning and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HandlerState;
use super::connections::Connection;
use super::error::{ApiError, json as json_answer};
use crate::decode::lenient::LenientBody;
use crate::engine::archive::{ArchiveError, ArchivedAgents};
use crate::engine::runs::{PriceList, RunsError};
use crate::model::{
    RegisteredAgent, Run, RunFacts, RunStatus, SpanId, StatCell, StatGroup, StatRow, Time, TokenCounts, TokenType,
    TraceId,
};
use crate::otlp::config::{ModelPrice, find_price};
use crate::runs::registry::Registry;
use crate::runs::{RunEnd, RunStart, advice, view};
use crate::store::StoreError;
use crate::store::traces::query;
use crate::store::traces::{RunCursor, RunFilter, StatsQuery, StoredRuns, TraceReader};
use crate::text::clean;

/// Longest name, error and the like that a client gives, in bytes.
pub(super) const MAX_TEXT: usize = 200;

pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, message.into())
}

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> Self {
        let (status, header) = match &error {
            RunsError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some((http::header::RETRY_AFTER, "1"))),
            RunsError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, Some((http::header::RETRY_AFTER, "5"))),
            RunsError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, None),
            RunsError::UnknownRun(_) | RunsError::UnknownAgent(_) => (StatusCode::NOT_FOUND, None),
            RunsError::RegistryFull(_) => (StatusCode::TOO_MANY_REQUESTS, Some((http::header::RETRY_AFTER, "60"))),
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// Runs `read` on a connection of its own, on a blocking thread.
pub(super) async fn with_reader<T: Send + 'static>(
    shared: &HandlerState,
    read: impl FnOnce(&TraceReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let _turn = super::responses::acquire(&shared.readers).await?;
    let readers = shared.context.runs.readers().clone();
    let done = tokio::task::spawn_blocking(move || readers.with(read)).await;
    let done = done.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "reading runs failed"))?;
    done.map_err(|error| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        let (status, header) = match &error {
            ArchiveError::ClickHouse(_) => (StatusCode::SERVICE_UNAVAILABLE, Some((http::header::RETRY_AFTER, "5"))),
            ArchiveError::TooMuch(_) => (StatusCode::BAD_REQUEST, None),
            ArchiveError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        Self { header, ..Self::new(status, error.to_string()) }
    }
}

/// Agents by project, if that is given, and name, with their ids in the registry.
async fn archived_agents(
    shared: &HandlerState,
    named: Vec<(Option<String>, String)>,
) -> Result<ArchivedAgents, ApiError> {
    if named.is_empty() {
        return Ok(ArchivedAgents::default());
    }
    let found = move |registry: &Registry| {
        let mut agents = ArchivedAgents::default();
        for (project, name) in named {
            let is_it = |agent: &&RegisteredAgent| {
                *agent.name == *name && project.as_deref().is_none_or(|project| *agent.project == *project)
            };
            for agent in registry.agents().filter(is_it) {
                agents.ids.extend(
                    [Some(&agent.id), agent.sharing.former_id.as_ref()].into_iter().flatten().map(ToString::to_string),
                );
            }
            agents.agents.push((project.unwrap_or_default(), name));
        }
        agents
    };
    Ok(shared.context.runs.registry(found).await?)
}

/// Runs with the types of their agents, which spans of lookout itself do not have.
async fn with_types(shared: &HandlerState, mut runs: Vec<Run>) -> Result<Vec<Run>, ApiError> {
    let typed = move |registry: &Registry| {
        for run in &mut runs {
            if let Some(agent) = registry.named(&run.project, &run.agent) {
                run.agent_type = Arc::clone(&agent.agent_type);
            }
        }
        runs
    };
    Ok(shared.context.runs.registry(typed).await?)
}

/// Parameters by name. An unknown one is an error, since it would be a filter that does not filter.
type Parameters = BTreeMap<String, String>;

fn parameters(
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Parameters, ApiError> {
    query.map(|Query(query)| query).map_err(|error| bad(error.body_text()))
}

/// Runs that match, from the store or from ClickHouse, and where the next page begins.
pub(super) async fn find(shared: &HandlerState, filter: RunFilter) -> Result<(Vec<Run>, Option<RunCursor>), ApiError> {
    match shared.context.runs.archive() {
        Some(archive) => {
            let named = filter.agent.iter().map(|name| (filter.project.clone(), name.clone())).collect();
            let (runs, cursor) = archive.runs(&filter, &archived_agents(shared, named).await?).await?;
            Ok((with_types(shared, runs).await?, cursor))
        }
        None => with_reader(shared, move |reader| reader.runs(&filter)).await,
    }
}

/// The runs that an id names, with their spans.
pub(super) async fn load(shared: &HandlerState, id: TraceId) -> Result<StoredRuns, ApiError> {
    let stored = match shared.context.runs.archive() {
        Some(archive) => {
            let StoredRuns { runs, spans } = archive.run(id).await?;
            StoredRuns { runs: with_types(shared, runs).await?, spans }
        }
        None => with_reader(shared, move |reader| reader.run(id)).await?,
    };
    if stored.runs.is_empty() { Err(RunsError::UnknownRun(id).into()) } else { Ok(stored) }
}

/// `GET /api/traces`.
pub(super) async fn list(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let filter = RunFilter::new(parameters(query)?, shared.context.clock.wall()).map_err(bad)?;
    let (runs, cursor) = find(&shared, filter).await?;
    let build = move || {
        let runs: Vec<Value> = runs.iter().map(view::run).collect();
        json!({"runs": runs, "next_cursor": cursor.map(RunCursor::to_text)}).to_string()
    };
    shared.sending.json(&reader, build).await
}

/// `DELETE /api/traces?before=`.
pub(super) async fn delete_old(
    State(shared): State<HandlerState>,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let query = parameters(query)?;
    let before = query.get("before").filter(|_| query.len() == 1);
    let before = before.ok_or_else(|| bad("give `before`: a time, or a duration before now such as 7d"))?;
    let before = query::time("before", before, shared.context.clock.wall()).map_err(bad)?;
    let deleted = shared.context.runs.delete_before(before).await?;
    Ok(json_answer(StatusCode::OK, json!({"deleted": deleted}).to_string()))
}

/// `GET /api/traces/{id}`.
pub(super) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = trace_id(&id)?;
    let stored = load(&shared, id).await?;
    let build = move || {
        view::run_with_spans(id, &stored.runs, &stored.spans).map_or_else(String::new, |shown| shown.to_string())
    };
    shared.sending.json(&reader, build).await
}

pub(super) fn trace_id(text: &str) -> Result<TraceId, ApiError> {
    let message = || bad("invalid id; use the 32 hexadecimal digits of a run or trace");
    TraceId::parse(text).ok_or_else(message)
}

/// `GET /api/agents/stats`.
pub(super) async fn stats(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    query: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let now = shared.context.clock.wall();
    let asked = StatsQuery::new(parameters(query)?, now).map_err(bad)?;
    let (hours, group, step) = (asked.hours.clone(), asked.group, asked.step);
    let prices = shared.context.runs.prices();
    let (rows, facts, agents, advice) = match shared.context.runs.archive() {
        Some(_) if asked.advice => {
            return Err(bad("advice is given from the store alone; leave it out while runs.read_from is clickhouse"));
        }
        Some(archive) => {
            let agents = match asked.agents {
                Some(agents) => {
                    let named = agents.into_iter().map(|(project, name)| (Some(project), name)).collect();
                    Some(archived_agents(&shared, named).await?)
                }
                None => None,
            };
            let (rows, agents) = archive.stats(agents.as_ref(), asked.hours, asked.group).await?;
            let (facts, rows) = rows.into_iter().partition(|row| row.group == StatGroup::Fact);
            (rows, facts, agents, Vec::new())
        }
        None => {
            with_reader(&shared, move |reader| {
                let agents = match asked.agents {
                    Some(agents) => agents,
                    None => reader.agents_since(asked.hours.start, StatsQuery::MAX_AGENTS)?,
                };
                let advice = if asked.advice { savings(reader, &agents, &asked.hours, &prices)? } else { Vec::new() };
                let facts = reader.stats(&agents, asked.hours.clone(), StatGroup::Fact)?;
                Ok((reader.stats(&agents, asked.hours, asked.group)?, facts, agents, advice))
            })
            .await?
        }
    };
    let build = move || {
        let mut shown = view::stats(&agents, &rows, &facts, &hours, group, step);
        for (agent, advice) in shown["agents"].as_array_mut().into_iter().flatten().zip(advice) {
            agent["advice"] = Value::Array(advice);
        }
        shown.to_string()
    };
    shared.sending.json(&reader, build).await
}

/// What could have been saved, of each agent.
fn savings(
    reader: &TraceReader,
    agents: &[(String, String)],
    hours: &std::ops::Range<u32>,
    prices: &PriceList,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let models = reader.stats(agents, hours.clone(), StatGroup::Model)?;
    let totals = reader.stats(agents, hours.clone(), StatGroup::Total)?;
    let list: Vec<advice::PricedModel> = prices.iter().map(|(name, price)| (name.clone(), price.by_type())).collect();
    let price_of = |model: &str| find_price(prices, model).map(ModelPrice::by_type);
    let since = Time::from_millis(i64::from(hours.start) * 3_600_000);
    let one = |(project, agent): &(String, String)| {
        let is_own = |row: &&StatRow| (&*row.project, &*row.agent) == (&**project, &**agent);
        let mut total = StatCell::default();
        totals.iter().filter(is_own).for_each(|row| total.add(&row.cell, 1));
        let own: Vec<&StatRow> = models.iter().filter(is_own).collect();
        let (runs, priced, cost_usd) = reader.failed_runs(project, agent, since)?;
        let failed = advice::FailedRuns { runs, priced, cost_usd };
        Ok(advice::advice(&own, &total, failed, &list, &price_of))
    };
    agents.iter().map(one).collect()
}

/// The body of `POST /agents/{id}/trace/start`. What is not known is ignored: platforms send more than this.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StartRequest {
    name: Option<String>,
    parent_trace_id: Option<String>,
    session_id: Option<String>,
    task_id: Option<String>,
    platform: Option<String>,
    metadata: Option<Value>,
}

/// The body of `POST /agents/{id}/trace/end`.
#[derive(Debug, Deserialize)]
struct EndRequest {
    #[serde(alias = "run_id")]
    trace_id: String,
    #[serde(flatten)]
    outcome: OutcomeFields,
}

/// How a run ended, and what it used.
#[derive(Debug, Deserialize)]
pub(super) struct OutcomeFields {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    tokens: Option<Value>,
    #[serde(default)]
    cost_usd: Option<f64>,
    #[serde(default)]
    metadata: Option<Value>,
}

impl OutcomeFields {
    /// What was reported besides calls.
    pub(super) fn facts(&self) -> RunFacts {
        self.metadata.as_ref().map(RunFacts::of_metadata).unwrap_or_default()
    }

    /// The end at `at`; one with an error and no status failed.
    pub(super) fn end(&self, at: Time) -> Result<RunEnd, ApiError> {
        let error = error_text(self.error.as_ref());
        let status = match self.status.as_deref() {
            None if error.is_some() => RunStatus::Error,
            None => RunStatus::Ok,
            Some(word) => outcome(word)?,
        };
        let (tokens, cost_usd) = (self.tokens.as_ref().and_then(tokens), cost(self.cost_usd));
        Ok(RunEnd { status, error, tokens, cost_usd, facts: self.facts(), at })
    }
}

/// A cost that may be added up.
pub(super) fn cost(given: Option<f64>) -> Option<f64> {
    given.filter(|cost| cost.is_finite() && *cost >= 0.0)
}

/// The body of a request, read as leniently as that of a push.
pub(super) async fn body<T: serde::de::DeserializeOwned>(
    shared: &HandlerState,
    request: Request<Body>,
) -> Result<T, ApiError> {
    let body = shared.context.bodies.read(request).await?;
    let body = LenientBody::new(&body);
    body.read(|text| serde_json::from_str(text)).map_err(|error| bad(format!("invalid body: {error}")))
}

/// Random bytes for ids that are not guessed.
pub(super) fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, &mut bytes)
        .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the system has no random numbers"))?;
    bytes[0] |= 1;
    Ok(bytes)
}

/// The trace and the span of a `traceparent` (W3C Trace Context). Of a version that is not known, the first fields count.
pub(super) fn traceparent(header: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = header.trim().split('-');
    let version = parts.next().filter(|version| version.len() == 2 && !version.eq_ignore_ascii_case("ff"))?;
    version.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    let trace = parts.next().filter(|trace| trace.len() == 32).and_then(TraceId::parse)?;
    Some((trace, SpanId::parse(parts.next()?)?))
}

/// `POST /agents/{id}/trace/start`.
pub(super) async fn start(
    State(shared): State<HandlerState>,
    Path(agent): Path<String>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    begin(&shared, agent, &headers, request).await
}

/// `POST /agents/{id}/{name}/trace/start`.
pub(super) async fn start_named(
    State(shared): State<HandlerState>,
    Path((project, name)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    begin(&shared, format!("{project}/{name}"), &headers, request).await
}

async fn begin(
    shared: &HandlerState,
    agent: String,
    headers: &HeaderMap,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let is_empty = http_body::Body::is_end_stream(request.body());
    let given: StartRequest = if is_empty { StartRequest::default() } else { body(shared, request).await? };
    let inherited = headers.get("traceparent").and_then(|header| header.to_str().ok()).and_then(traceparent);
    let parent = given.parent_trace_id.as_deref().map(trace_id).transpose()?;
    let id = TraceId::from_slice(&random::<16>()?).ok_or_else(|| bad("no id"))?;
    let span = SpanId::from_slice(&random::<8>()?).ok_or_else(|| bad("no id"))?;
    let trace = inherited.map_or(id, |(trace, _)| trace);
    let now = shared.context.clock.wall();
    let of_metadata = |key: &str| {
        given.metadata.as_ref().and_then(|metadata| metadata.get(key)).and_then(Value::as_str).map(ToOwned::to_owned)
    };
    let text = |given: Option<String>, key: &str| {
        given
            .or_else(|| of_metadata(key))
            .map(|text| Arc::<str>::from(&*clean(&text, MAX_TEXT)))
            .filter(|it| !it.is_empty())
    };
    let session = text(given.session_id.clone(), "session_id");
    let task = text(given.task_id.clone(), "task_id");
    let platform = text(given.platform.clone(), "platform");
    let name = text(given.name.clone(), "name");
    let facts = given.metadata.as_ref().map(RunFacts::of_metadata).unwrap_or_default();
    let run = shared
        .context
        .runs
        .start(&agent, move |agent| {
            let start = RunStart::of_registered(agent, (id, span), inherited, now);
            let name = name.or_else(|| task.clone()).unwrap_or_else(|| Arc::clone(&start.name));
            RunStart { name, parent, session, task, platform, facts, ..start }
        })
        .await?;
    let answer = json!({
        "run_id": run.id,
        "trace_id": trace,
        "span_id": span,
        "traceparent": format!("00-{trace}-{span}-01"),
    });
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

/// `POST /agents/{id}/trace/end` and `POST /agents/{id}/{name}/trace/end`. The run is named by its id alone.
pub(super) async fn end(State(shared): State<HandlerState>, request: Request<Body>) -> Result<Response, ApiError> {
    let given: EndRequest = body(&shared, request).await?;
    let id = trace_id(&given.trace_id)?;
    let end = given.outcome.end(shared.context.clock.wall())?;
    let run = shared.context.runs.end(id, end).await?;
    Ok(json_answer(StatusCode::OK, view::run(&run).to_string()))
}

/// How something ended, by the words that programs use.
pub(super) fn outcome(word: &str) -> Result<RunStatus, ApiError> {
    match word.to_ascii_lowercase().as_str() {
        "ok" | "success" | "completed" => Ok(RunStatus::Ok),
        "error" | "failed" | "failure" => Ok(RunStatus::Error),
        _ => Err(bad(format!("unknown status `{word}`; use ok or error"))),
    }
}

/// Why something failed: a text, or a value as its JSON.
pub(super) fn error_text(error: Option<&Value>) -> Option<Arc<str>> {
    error.filter(|error| !error.is_null()).map(|error| {
        let text = error.as_str().map_or_else(|| error.to_string(), ToOwned::to_owned);
        Arc::from(&*clean(&text, MAX_TEXT))
    })
}

/// Tokens by type, by the names of the two large providers, or as one number, which counts as input.
pub(super) fn tokens(given: &Value) -> Option<TokenCounts> {
    const NAMES: [&[&str]; 5] = [
        &["input", "input_tokens", "prompt_tokens", "prompt"],
        &["output", "output_tokens", "completion_tokens", "completion"],
        &["cache_read", "cache_read_input_tokens", "cached_tokens"],
        &["cache_creation", "cache_creation_input_tokens"],
        &["reasoning", "reasoning_tokens"],
    ];
    let whole = |value: &Value| value.as_u64().or_else(|| value.as_f64().filter(|it| *it >= 0.0).map(|it| it as u64));
    if let Some(total) = whole(given) {
        let mut counts = [0; TokenType::ALL.len()];
        counts[TokenType::Input as usize] = total;
        return Some(counts);
    }
    let given = given.as_object()?;
    let found = NAMES.map(|names| names.iter().find_map(|name| whole(given.get(*name)?)));
    found.iter().any(Option::is_some).then(|| found.map(Option::unwrap_or_default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_of_any_version_is_read() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |header: &str| traceparent(header).map(|(trace, span)| format!("{trace}-{span}"));
        let expected = Some(format!("{trace}-00f067aa0ba902b7"));
        assert_eq!(read(&format!("00-{trace}-00f067aa0ba902b7-01")), expected);
        assert_eq!(read(&format!(" cc-{trace}-00f067aa0ba902b7-01-what-the-future-adds ")), expected);
        for wrong in [
            String::new(),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}"),
            format!("0-{trace}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_are_read_by_the_names_of_providers() {
        assert_eq!(tokens(&json!(12)), Some([12, 0, 0, 0, 0]));
        assert_eq!(tokens(&json!({"prompt_tokens": 3, "completion_tokens": 4})), Some([3, 4, 0, 0, 0]));
        assert_eq!(tokens(&json!({"input": 1, "cache_read": 2, "reasoning": 5})), Some([1, 0, 2, 0, 5]));
        assert_eq!((tokens(&json!({})), tokens(&json!(-1)), tokens(&json!("many"))), (None, None, None));
    }
}
