//! Handler of reports of runs: a run with its spans, as `lookout pipe` finds them in the output of an agent.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::HandlerState;
use super::error::{ApiError, json as json_answer};
use super::runs::{MAX_TEXT, bad, body, error_text, outcome, tokens, trace_id};
use crate::engine::runs::ReportedRun;
use crate::model::registry::project_of_id;
use crate::model::{
    AgentIdentity, DEFAULT_PROJECT, RunFacts, RunSource, RunStatus, Span, SpanField, SpanId, SpanKind, SpanReport,
    SpanStatus, Time, TraceId,
};
use crate::runs::{RunEnd, RunStart};
use crate::text::{clean, is_name};

/// Most spans of one report.
const MAX_SPANS: usize = 5_000;
/// Longest name of an agent, in bytes.
const MAX_NAME: usize = 256;
/// The id of the topmost span of a reported run.
const ROOT: u64 = 1;

/// The body of `POST /api/traces`. What is not known is ignored.
#[derive(Debug, Deserialize)]
struct ReportRequest {
    run_id: String,
    agent_name: String,
    #[serde(default, alias = "project_id")]
    project: Option<String>,
    #[serde(rename = "type", default)]
    agent_type: Option<String>,
    #[serde(default)]
    name: Option<String>,
    started_at: String,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    task_id: Option<String>,
    #[serde(default)]
    platform: Option<String>,
    #[serde(default)]
    spans: Vec<ReportedSpan>,
    #[serde(default)]
    ended_at: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    tokens: Option<Value>,
    #[serde(default)]
    cost_usd: Option<f64>,
    #[serde(default)]
    metadata: Option<Value>,
}

/// A span of a report.
#[derive(Debug, Deserialize)]
struct ReportedSpan {
    span_id: String,
    #[serde(default)]
    parent_span_id: Option<String>,
    name: String,
    #[serde(default)]
    kind: Option<String>,
    started_at: String,
    #[serde(default)]
    duration_ms: f64,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    tokens: Option<Value>,
    #[serde(default)]
    cost_usd: Option<f64>,
}

/// `POST /api/traces`.
pub(super) async fn report(State(shared): State<HandlerState>, request: Request<Body>) -> Result<Response, ApiError> {
    let given: ReportRequest = body(&shared, request).await?;
    let run = shared.context.runs.report_run(reported(given)?).await?;
    Ok(json_answer(StatusCode::OK, json!({"run_id": run.id, "status": run.status}).to_string()))
}

fn reported(given: ReportRequest) -> Result<ReportedRun, ApiError> {
    if given.spans.len() > MAX_SPANS {
        return Err(bad(format!(
            "a report has at most {MAX_SPANS} spans; send the rest in another one of the same run"
        )));
    }
    let id = trace_id(&given.run_id)?;
    let at = time("started_at", &given.started_at)?;
    let named = |key: &str, name: &str| {
        let message = || bad(format!("{key} must be a name of at most {MAX_NAME} bytes without control characters"));
        is_name(name, MAX_NAME).then(|| Arc::<str>::from(name)).ok_or_else(message)
    };
    let agent = Arc::new(AgentIdentity {
        project: named("project", project_of_id(given.project.as_deref().unwrap_or(DEFAULT_PROJECT)))?,
        agent: named("agent_name", &given.agent_name)?,
        agent_type: named("type", given.agent_type.as_deref().unwrap_or("custom"))?,
        is_named: true,
    });
    let text = |given: Option<String>| {
        given.map(|text| Arc::<str>::from(&*clean(&text, MAX_TEXT))).filter(|text| !text.is_empty())
    };
    let facts = given.metadata.as_ref().map(RunFacts::of_metadata).unwrap_or_default();
    let end = match (given.ended_at.as_deref(), given.status.as_deref()) {
        (None, None | Some("running")) => None,
        (ended_at, status) => Some(RunEnd {
            status: status.map_or(Ok(RunStatus::Ok), outcome)?,
            error: error_text(given.error.as_ref()),
            tokens: given.tokens.as_ref().and_then(tokens),
            cost_usd: cost(given.cost_usd),
            facts,
            at: time("ended_at", ended_at.ok_or_else(|| bad("`ended_at` is missing; a run that ended has one"))?)?,
        }),
    };
    let spans = given.spans.into_iter().map(|span| span_of(id, &agent, span)).collect::<Result<_, _>>()?;
    let name = text(given.name).unwrap_or_else(|| Arc::clone(&agent.agent));
    let start = RunStart {
        id,
        trace: id,
        span: root()?,
        above: None,
        agent,
        name,
        source: RunSource::Pipe,
        parent: None,
        session: text(given.session_id),
        task: text(given.task_id),
        platform: text(given.platform),
        facts,
        at,
    };
    Ok(ReportedRun { start, spans, end })
}

fn root() -> Result<SpanId, ApiError> {
    SpanId::from_slice(&ROOT.to_be_bytes()).ok_or_else(|| bad("no id"))
}

fn time(key: &str, text: &str) -> Result<Time, ApiError> {
    Time::parse(text).ok_or_else(|| bad(format!("`{key}` is not a time; use one such as 2026-11-21T02:00:00Z")))
}

fn cost(given: Option<f64>) -> Option<f64> {
    given.filter(|cost| cost.is_finite() && *cost >= 0.0)
}

fn span_of(trace: TraceId, agent: &Arc<AgentIdentity>, given: ReportedSpan) -> Result<SpanReport<'static>, ApiError> {
    let id = |text: &str| SpanId::parse(text).ok_or_else(|| bad("invalid span id; use 16 hexadecimal digits"));
    let (own, root) = (id(&given.span_id)?, root()?);
    if own == root {
        return Err(bad(format!("the span id {root} is that of the run itself; use another one")));
    }
    let kind = match given.kind.as_deref() {
        None => SpanKind::Other,
        Some(word) => {
            let kinds = SpanKind::ALL.into_iter().find(|kind| kind.as_str() == word);
            kinds
                .ok_or_else(|| bad(format!("unknown kind `{word}`; use agent, llm, tool, retrieval, wait or other")))?
        }
    };
    let started = time("started_at", &given.started_at)?;
    let nanos = u64::try_from(started.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
    let owned = |text: &str| -> Cow<'static, str> { Cow::Owned(clean(text, MAX_TEXT).into_owned()) };
    let mut span = Span::new(trace, own, owned(&given.name), nanos);
    span.parent = Some(given.parent_span_id.as_deref().map_or(Ok(root), id)?);
    span.kind = kind;
    span.source = RunSource::Pipe;
    // Saturates; what is no duration is none.
    span.duration = Some((given.duration_ms.max(0.0) * 1e6) as u64);
    let error = error_text(given.error.as_ref());
    span.status = match given.status.as_deref().map(outcome).transpose()? {
        Some(RunStatus::Error) => SpanStatus::Error,
        None if error.is_some() => SpanStatus::Error,
        Some(_) => SpanStatus::Ok,
        None => SpanStatus::Unset,
    };
    let model = given.model.filter(|_| kind == SpanKind::Llm);
    let provider = given.provider.filter(|_| kind == SpanKind::Llm);
    let tool = (kind == SpanKind::Tool).then(|| span.name.to_string());
    for (field, value) in [
        (SpanField::Model, model.map(|name| crate::text::names::model(&name).into_owned())),
        (SpanField::Provider, provider),
        (SpanField::Tool, tool),
        (SpanField::Error, error.map(|error| error.to_string())),
    ] {
        span.fields.extend(value.filter(|value| !value.is_empty()).map(|value| (field, owned(&value))));
    }
    span.tokens = given.tokens.as_ref().and_then(tokens);
    span.cost_usd = cost(given.cost_usd);
    Ok(SpanReport { span, agent: Some(Arc::clone(agent)), caller: None, run: None, response: None, call: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<ReportedRun, String> {
        let given = serde_json::from_value(body).map_err(|error| error.to_string())?;
        reported(given).map_err(|error| error.message)
    }

    #[test]
    fn a_report_is_a_run_with_its_spans() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let (from, to) = ("2026-11-21T02:00:00Z", "2026-11-21T02:00:03Z");
        let whole = json!({
            "run_id": id, "agent_name": "builder", "project_id": "default-project", "started_at": from, "ended_at": to,
            "tokens": {"input": 3, "output": 4}, "cost_usd": 0.5, "spans": [
                {"span_id": "00000000000000a1", "name": "Bash", "kind": "tool", "started_at": from, "duration_ms": 1500,
                    "error": "exit code 1"},
            ],
        });
        let run = read(whole.clone()).expect("a run");
        assert_eq!((&*run.start.agent.project, &*run.start.name), ("default", "builder"));
        let end = run.end.expect("an end");
        assert_eq!((end.status, end.tokens, end.cost_usd), (RunStatus::Ok, Some([3, 4, 0, 0, 0]), Some(0.5)));
        let span = &run.spans[0].span;
        assert_eq!((span.duration, span.status), (Some(1_500_000_000), SpanStatus::Error));
        assert_eq!((span.field(SpanField::Tool), span.parent), (Some("Bash"), Some(run.start.span)));
        let with = |path: &str, value: Value| {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).expect(path) = value;
            read(changed).err().unwrap_or_default()
        };
        for (path, value, message) in [
            ("/run_id", json!("x"), "invalid id"),
            ("/agent_name", json!("a\nb"), "agent_name must be a name"),
            ("/started_at", json!("yesterday"), "`started_at` is not a time"),
            ("/spans/0/span_id", json!("0000000000000001"), "is that of the run itself"),
            ("/spans/0/kind", json!("magic"), "unknown kind `magic`"),
            ("/ended_at", json!(7), "invalid type"),
        ] {
            assert!(with(path, value).contains(message), "{path}: {message}");
        }
        let open = json!({"run_id": id, "agent_name": "builder", "started_at": from});
        assert!(read(open).expect("a run").end.is_none());
        let endless = json!({"run_id": id, "agent_name": "builder", "started_at": from, "status": "ok"});
        assert!(read(endless).expect_err("no end").contains("`ended_at` is missing"));
    }
}
