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
use super::runs::{MAX_TEXT, OutcomeFields, bad, body, cost, error_text, outcome, tokens, trace_id};
use crate::engine::runs::ReportedRun;
use crate::model::registry::project_of_id;
use crate::model::{
    AgentIdentity, DEFAULT_PROJECT, InputKind, RejectReason, Rejected, RunSource, RunStatus, Span, SpanField, SpanId,
    SpanKind, SpanReport, SpanStatus, Time, TraceId,
};
use crate::runs::RunStart;
use crate::text::{clean, is_name};

/// Most spans of one report.
const MAX_SPANS: usize = 5_000;
/// Longest name of an agent, in bytes.
const MAX_NAME: usize = 256;
/// Most rejected spans that an answer lists.
const MAX_REJECTED: usize = 100;
const ROOT: SpanId = SpanId::REPORTED_ROOT;

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
    spans: Vec<Value>,
    #[serde(default)]
    ended_at: Option<String>,
    #[serde(flatten)]
    outcome: OutcomeFields,
}

/// A span of a report. What it needs: `span_id`, `name` and `started_at`; a value of another type than it should have is
/// none.
#[derive(Debug, Deserialize)]
struct ReportedSpan {
    span_id: String,
    #[serde(default)]
    parent_span_id: Option<String>,
    name: String,
    #[serde(default)]
    kind: Value,
    started_at: String,
    #[serde(default)]
    duration_ms: Value,
    #[serde(default)]
    status: Value,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    model: Value,
    #[serde(default)]
    provider: Value,
    #[serde(default)]
    tokens: Option<Value>,
    #[serde(default)]
    cost_usd: Value,
}

/// `POST /api/traces`.
pub(super) async fn report(State(shared): State<HandlerState>, request: Request<Body>) -> Result<Response, ApiError> {
    let given: ReportRequest = body(&shared, request).await?;
    let (report, rejected) = reported(given)?;
    let run = shared.context.runs.report_run(report).await?;
    let mut answer = json!({"run_id": run.id, "status": run.status});
    if !rejected.is_empty() {
        shared.context.own.rejected(InputKind::Runs, RejectReason::Value, rejected.len() as u64);
        answer["rejected"] = json!(rejected.get(..MAX_REJECTED).unwrap_or(&rejected));
    }
    Ok(json_answer(StatusCode::OK, answer.to_string()))
}

/// The run that is reported, and spans that can't be read.
fn reported(given: ReportRequest) -> Result<(ReportedRun, Vec<Rejected>), ApiError> {
    if given.spans.len() > MAX_SPANS {
        return Err(bad(format!(
            "{} spans; a report has at most {MAX_SPANS}: send the rest in another one of the same run",
            given.spans.len()
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
    let facts = given.outcome.facts();
    let end = match (given.ended_at.as_deref(), given.outcome.status.as_deref()) {
        (None, None | Some("running")) => None,
        (ended_at, _) => {
            let ended_at = ended_at.ok_or_else(|| bad("`ended_at` is missing; a run that ended has one"))?;
            Some(given.outcome.end(time("ended_at", ended_at)?)?)
        }
    };
    let (mut spans, mut rejected) = (Vec::with_capacity(given.spans.len()), Vec::new());
    for (index, span) in given.spans.into_iter().enumerate() {
        let name = span.get("name").and_then(Value::as_str).map(|name| clean(name, MAX_TEXT).into_owned());
        match span_of(id, &agent, span) {
            Ok(span) => spans.push(span),
            Err(error) => rejected.push(Rejected {
                list: "spans",
                index: Some(index),
                name: name.unwrap_or_default(),
                field: "",
                reason: RejectReason::Value,
                error,
            }),
        }
    }
    let name = text(given.name).unwrap_or_else(|| Arc::clone(&agent.agent));
    let start = RunStart {
        id,
        trace: id,
        span: ROOT,
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
    Ok((ReportedRun { start, spans, end }, rejected))
}

fn time(key: &str, text: &str) -> Result<Time, ApiError> {
    Time::parse(text).ok_or_else(|| bad(format!("`{key}` is not a time; use one such as 2026-11-21T02:00:00Z")))
}

fn span_of(trace: TraceId, agent: &Arc<AgentIdentity>, given: Value) -> Result<SpanReport<'static>, String> {
    let given = ReportedSpan::deserialize(given).map_err(|error| error.to_string())?;
    let id = |text: &str| {
        let message = || format!("invalid span id `{}`; use 16 hexadecimal digits", clean(text, 40));
        SpanId::parse(text).ok_or_else(message)
    };
    let own = id(&given.span_id)?;
    if own == ROOT {
        return Err(format!("the span id {ROOT} is that of the run itself; use another one"));
    }
    let word = given.kind.as_str().unwrap_or_default();
    let kind = SpanKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(SpanKind::Other);
    let started = time("started_at", &given.started_at).map_err(|error| error.message)?;
    let nanos = u64::try_from(started.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
    let owned = |text: &str| -> Cow<'static, str> { Cow::Owned(clean(text, MAX_TEXT).into_owned()) };
    let mut span = Span::new(trace, own, owned(&given.name), nanos);
    span.parent = Some(given.parent_span_id.as_deref().map_or(Ok(ROOT), id)?);
    span.kind = kind;
    span.source = RunSource::Pipe;
    // Saturates; what is no duration is none.
    span.duration = Some((given.duration_ms.as_f64().unwrap_or(0.0).max(0.0) * 1e6) as u64);
    let error = error_text(given.error.as_ref());
    span.status = match given.status.as_str().and_then(|word| outcome(word).ok()) {
        Some(RunStatus::Error) => SpanStatus::Error,
        None if error.is_some() => SpanStatus::Error,
        Some(_) => SpanStatus::Ok,
        None => SpanStatus::Unset,
    };
    let of_call = |value: &Value| value.as_str().filter(|_| kind == SpanKind::Llm).map(ToOwned::to_owned);
    let (model, provider) = (of_call(&given.model), of_call(&given.provider));
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
    span.cost_usd = cost(given.cost_usd.as_f64());
    Ok(SpanReport {
        span,
        agent: Some(Arc::clone(agent)),
        caller: None,
        run: None,
        response: None,
        call: None,
        facts: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<(ReportedRun, Vec<Rejected>), String> {
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
        let (run, rejected) = read(whole.clone()).expect("a run");
        assert!(rejected.is_empty(), "{rejected:?}");
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
            ("/ended_at", json!(7), "invalid type"),
        ] {
            assert!(with(path, value).contains(message), "{path}: {message}");
        }
        let open = json!({"run_id": id, "agent_name": "builder", "started_at": from});
        assert!(read(open).expect("a run").0.end.is_none());
        let endless = json!({"run_id": id, "agent_name": "builder", "started_at": from, "status": "ok"});
        assert!(read(endless).expect_err("no end").contains("`ended_at` is missing"));
    }

    #[test]
    fn one_bad_span_costs_itself() {
        let from = "2026-11-21T02:00:00Z";
        let span = |id: &str, more: Value| {
            let mut span = json!({"span_id": id, "name": "Bash", "started_at": from, "kind": "tool"});
            span.as_object_mut().expect("an object").extend(more.as_object().expect("fields").clone());
            span
        };
        let (run, rejected) = read(json!({
            "run_id": "4bf92f3577b34da6a3ce929d0e0e4736", "agent_name": "builder", "started_at": from, "spans": [
                span("00000000000000a1", json!({"kind": "chain", "model": 5, "duration_ms": null, "status": "odd"})),
                span("0000000000000001", json!({})),
                span("6ba7b810-9dad-11d1-80b4-00c04fd430c8", json!({})),
                span("00000000000000a2", json!({"started_at": "soon"})),
                span("00000000000000a3", json!({"name": ["x"]})),
                17,
                span("00000000000000a4", json!({"kind": "llm", "model": "gpt-4o", "cost_usd": "much"})),
            ],
        }))
        .expect("a run");
        let kinds: Vec<_> = run.spans.iter().map(|report| (report.span.kind, report.span.cost_usd)).collect();
        assert_eq!(kinds, [(SpanKind::Other, None), (SpanKind::Llm, None)]);
        assert_eq!(run.spans[1].span.field(SpanField::Model), Some("gpt-4o"));
        let shown: Vec<_> = rejected.iter().map(|it| (it.index.expect("an index"), it.error.as_str())).collect();
        assert_eq!(
            shown,
            [
                (1, "the span id 0000000000000001 is that of the run itself; use another one"),
                (2, "invalid span id `6ba7b810-9dad-11d1-80b4-00c04fd430c8`; use 16 hexadecimal digits"),
                (3, "`started_at` is not a time; use one such as 2026-11-21T02:00:00Z"),
                (4, "invalid type: sequence, expected a string"),
                (5, "invalid type: integer `17`, expected struct ReportedSpan"),
            ]
        );
    }
}
