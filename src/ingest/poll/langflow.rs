//! Polls Langflow: each flow is an agent, and each trace of its list is a run.
//!
//! The id of a trace is that of the run, also in the spans that Langflow exports itself. A trace is written when its run
//! ends, so that no running run is seen. Nothing is posted.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::task::JoinSet;

use super::listed::{self, AgentSketch, RunList, SpanTimes, count_of, nanos, text_of};
use super::request::{PollFailure, SourceClient};
use crate::clock::Clock;
use crate::ingest::MAX_AGENTS;
use crate::ingest::page::{self, failed, malformed};
use crate::model::{
    AgentIdentity, AgentStatus, Batch, SourceError, SourceErrorReason, Span, SpanField, SpanId, SpanKind, SpanReport,
    SpanStatus, TokenType, TraceId,
};

/// The routes of flows and of traces. The list of flows has a slash at its end.
const FLOWS: [&str; 4] = ["api", "v1", "flows", ""];
const TRACES: [&str; 4] = ["api", "v1", "monitor", "traces"];
/// Traces of a page, and pages that are read while all of their traces are new, or in every sweep.
const PAGE_SIZE: usize = 50;
const MAX_PAGES: usize = 10;
const POLLS_PER_SWEEP: u32 = 60;
/// Traces that are read with their spans in one poll; others follow in the next polls.
const TRACES_PER_POLL: usize = 20;
/// Concurrent requests.
const MAX_CONCURRENT_REQUESTS: usize = 4;
/// Failed attempts to read the spans of a trace, after which it is reported without.
const MAX_ATTEMPTS: u32 = 3;

/// The state that is kept between polls.
#[derive(Debug, Default)]
pub(super) struct Langflow {
    pub(super) runs: RunList,
    polls: u32,
    /// Failed attempts by trace.
    attempts: BTreeMap<TraceId, u32>,
    /// By flow: the end of its last run, and its model.
    last: BTreeMap<String, (u64, Option<String>)>,
}

/// A flow.
#[derive(Debug, PartialEq)]
struct ListedFlow {
    id: String,
    name: String,
}

/// A row of the list of traces.
#[derive(Clone, Debug)]
struct ListedTrace {
    id: TraceId,
    /// Its id as the server writes it.
    key: String,
    flow: String,
    row: Value,
}

impl Langflow {
    pub(super) async fn poll(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let parameters = [("header_flows", "true"), ("get_all", "true"), ("remove_example_flows", "true")];
        let (flows, mut errors) =
            client.fetch_page(&FLOWS, &parameters, read_flows).await.map_err(|failure| failure.error)?;
        if let Err(failure) = self.traces(client, clock, &flows, project, &mut errors).await {
            // Older versions have no traces.
            if failure.status.is_none_or(|status| status.as_u16() != 404) {
                errors.push(failure.error.message);
            }
        }
        let agents = flows.into_iter().map(|flow| {
            let (last, model) = self.last.get(&flow.id).cloned().unzip();
            let last_activity = last.map(listed::time_of);
            let sketch = AgentSketch {
                status: Some(AgentStatus::Idle),
                model: model.flatten(),
                last_activity,
                ..AgentSketch::default()
            };
            (flow.name, sketch)
        });
        Ok(vec![listed::batch(project, "langflow", agents.collect(), errors)])
    }

    /// Reads new traces, each with its spans.
    async fn traces(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        flows: &[ListedFlow],
        project: &str,
        errors: &mut Vec<String>,
    ) -> Result<(), PollFailure> {
        let oldest = clock.wall().minus(listed::MAX_AGE);
        // A run that takes long is listed where it began.
        let reads_all = self.polls.is_multiple_of(POLLS_PER_SWEEP);
        self.polls = self.polls.wrapping_add(1);
        let mut new = Vec::new();
        for page in 1..=MAX_PAGES {
            let (number, size) = (page.to_string(), PAGE_SIZE.to_string());
            let parameters = [("page", number.as_str()), ("size", size.as_str())];
            let (rows, wrong) = client.fetch_page(&TRACES, &parameters, read_traces).await?;
            errors.extend(wrong);
            let count = rows.len();
            let is_known = |it: &ListedTrace| root_id().is_none_or(|root| self.runs.has((it.id, root), 0));
            let is_old = |it: &ListedTrace| {
                text_of(&it.row, "startTime").and_then(nanos).is_some_and(|at| listed::time_of(at) < oldest)
            };
            let before = new.len();
            new.extend(rows.into_iter().filter(|it| !is_known(it) && !is_old(it)));
            let is_all_new = new.len() - before == count;
            if count < PAGE_SIZE || !(is_all_new || reads_all) || new.len() >= TRACES_PER_POLL {
                break;
            }
        }
        new.truncate(TRACES_PER_POLL);
        let mut waiting = new.into_iter();
        let mut asking = JoinSet::new();
        // The whole poll has the source's timeout; what is not read in time is read by the next poll.
        let late = tokio::time::sleep(client.timeout().mul_f64(0.6));
        tokio::pin!(late);
        loop {
            while asking.len() < MAX_CONCURRENT_REQUESTS
                && let Some(trace) = waiting.next()
            {
                let client = Arc::clone(client);
                asking.spawn(async move {
                    let route = [TRACES[0], TRACES[1], TRACES[2], TRACES[3], &trace.key];
                    let answer = client.fetch(&route, page::tree).await;
                    (trace, answer)
                });
            }
            let next = tokio::select! {
                () = &mut late => break,
                next = asking.join_next() => next,
            };
            let Some(Ok((trace, answer))) = next else { break };
            let detail = match answer {
                Ok(detail) => detail,
                Err(failure) => {
                    let attempts = self.attempts.entry(trace.id).or_default();
                    *attempts += 1;
                    if *attempts < MAX_ATTEMPTS && failure.status.is_none_or(|status| status.as_u16() != 404) {
                        errors.push(failure.error.message);
                        continue;
                    }
                    trace.row.clone()
                }
            };
            self.attempts.remove(&trace.id);
            self.take(&trace, &detail, flows, project);
        }
        Ok(())
    }

    fn take(&mut self, trace: &ListedTrace, detail: &Value, flows: &[ListedFlow], project: &str) {
        let name = flows.iter().find(|flow| flow.id == trace.flow).map_or_else(
            // A flow that was deleted since: the name of a trace ends with the flow's id.
            || text_of(&trace.row, "name").and_then(|name| name.rsplit_once(" - ")).map_or("flow", |(name, _)| name),
            |flow| &flow.name,
        );
        let agent = listed::identity(project, name, "langflow");
        let Some(root) = root_id() else { return };
        let spans = spans_of(trace.id, detail, &agent);
        if let Some(end) = spans.first().map(|root| root.span.ended_at()) {
            let model = spans.iter().rev().find_map(|it| it.span.field(SpanField::Model)).map(str::to_owned);
            let last = self.last.entry(trace.flow.clone()).or_default();
            if end >= last.0 {
                *last = (end, model.or_else(|| last.1.take()));
            }
        }
        self.runs.add((trace.id, root), 0, spans);
    }
}

fn root_id() -> Option<SpanId> {
    listed::span_id("langflow")
}

/// The flows of a page, and what is wrong with others. Flows of one name get a part of their id, except the first.
fn read_flows(text: &str) -> Result<(Vec<ListedFlow>, Vec<String>), SourceError> {
    let Value::Array(rows) = page::tree(text)? else {
        return Err(page::reported_error(text)
            .unwrap_or_else(|| malformed("/api/v1/flows/: expected a list; set `url` to the root of Langflow")));
    };
    if rows.len() > MAX_AGENTS {
        return Err(failed(SourceErrorReason::TooLarge, &format!("more than {MAX_AGENTS} flows")));
    }
    let (mut flows, mut errors) = (Vec::new(), Vec::new());
    for row in rows {
        if row.get("is_component").and_then(Value::as_bool) == Some(true) {
            continue;
        }
        match (text_of(&row, "id"), text_of(&row, "name")) {
            (Some(id), Some(name)) => flows.push((id.to_owned(), name.to_owned())),
            _ => errors.push("/api/v1/flows/: a flow without `id` and `name`".to_owned()),
        }
    }
    Ok((listed::named_apart(flows).into_iter().map(|(id, name)| ListedFlow { id, name }).collect(), errors))
}

fn read_traces(text: &str) -> Result<(Vec<ListedTrace>, Vec<String>), SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    let Some(Value::Array(rows)) = page::tree(text)?.get_mut("traces").map(Value::take) else {
        return Err(malformed("/api/v1/monitor/traces: expected a list `traces`"));
    };
    let (mut traces, mut errors) = (Vec::new(), Vec::new());
    for mut row in rows {
        // Prompts and answers are not kept for a moment.
        for key in ["input", "output"] {
            row.as_object_mut().and_then(|row| row.remove(key));
        }
        let read = text_of(&row, "id").and_then(|id| Some((TraceId::parse(id)?, id.to_owned())));
        match read {
            Some((id, key)) => {
                traces.push(ListedTrace { id, key, flow: text_of(&row, "flowId").unwrap_or("").to_owned(), row });
            }
            None => errors.push("/api/v1/monitor/traces: a trace without a valid `id`".to_owned()),
        }
    }
    Ok((traces, errors))
}

/// The spans of a trace, the topmost first; none if it has no start.
fn spans_of(trace: TraceId, detail: &Value, agent: &Arc<AgentIdentity>) -> Vec<SpanReport<'static>> {
    let Some((from, root)) = text_of(detail, "startTime").and_then(nanos).zip(root_id()) else { return Vec::new() };
    let latency = || detail.get("totalLatencyMs").and_then(Value::as_f64).and_then(listed::nanos_of_millis);
    let to = text_of(detail, "endTime").and_then(nanos).or_else(|| latency().map(|took| from.saturating_add(took)));
    let times = SpanTimes { from, to: Some(to.unwrap_or(from)) };
    let mut top = listed::span((trace, root), None, SpanKind::Agent, &agent.agent, times);
    listed::with(&mut top, SpanField::Session, text_of(detail, "sessionId"));
    // Counted only where no call reports any.
    let total = count_of(detail, "totalTokens").filter(|total| *total > 0);
    top.tokens = total.map(|total| {
        let mut tokens = [0; TokenType::ALL.len()];
        tokens[TokenType::Input as usize] = total;
        tokens
    });
    let mut beneath = Vec::new();
    let mut errors = Vec::new();
    for span in detail.get("spans").and_then(Value::as_array).into_iter().flatten() {
        add_span(trace, root, span, times, agent, (&mut beneath, &mut errors));
    }
    if text_of(detail, "status") == Some("error") {
        listed::fail(&mut top, errors.first().map(String::as_str).or_else(|| text_of(detail, "error")));
    } else {
        top.status = SpanStatus::Ok;
    }
    let mut spans = vec![listed::begin_run(top, agent)];
    spans.extend(beneath);
    spans
}

/// Adds a span and those beneath it. Returns whether one of them is a call of a model.
fn add_span(
    trace: TraceId,
    parent: SpanId,
    given: &Value,
    run: SpanTimes,
    agent: &Arc<AgentIdentity>,
    found: (&mut Vec<SpanReport<'static>>, &mut Vec<String>),
) -> bool {
    let (spans, errors) = found;
    let Some(id) = text_of(given, "id").and_then(listed::span_id).filter(|_| spans.len() < listed::MAX_SPANS) else {
        return false;
    };
    let time = |key: &str| text_of(given, key).and_then(nanos);
    let from = time("startTime").unwrap_or(run.from);
    let times = SpanTimes { from, to: Some(time("endTime").unwrap_or(from)) };
    let place = spans.len();
    let name = text_of(given, "name").unwrap_or("span");
    spans.push(listed::report(listed::span((trace, id), Some(parent), SpanKind::Other, name, times), agent));
    let mut has_call = false;
    for child in given.get("children").and_then(Value::as_array).into_iter().flatten() {
        has_call |= add_span(trace, id, child, run, agent, (spans, errors));
    }
    let Some(SpanReport { span, .. }) = spans.get_mut(place) else { return has_call };
    // A component reports the tokens of the call beneath it again.
    let is_call = matches!(text_of(given, "type"), Some("llm" | "embedding")) && !has_call;
    span.kind = match text_of(given, "type") {
        Some("llm" | "embedding") if is_call => SpanKind::Llm,
        Some("tool") => SpanKind::Tool,
        Some("retriever") => SpanKind::Retrieval,
        Some("agent") => SpanKind::Agent,
        _ => SpanKind::Other,
    };
    if span.kind == SpanKind::Tool {
        listed::with(span, SpanField::Tool, Some(name));
    }
    if is_call {
        set_usage(span, given);
    }
    if text_of(given, "status") == Some("error") || given.get("error").is_some_and(|error| !error.is_null()) {
        let error = text_of(given, "error");
        listed::fail(span, error);
        errors.extend(error.map(str::to_owned));
    }
    has_call || is_call
}

fn set_usage(span: &mut Span<'static>, given: &Value) {
    listed::with_model(span, text_of(given, "modelName"));
    let Some(usage) = given.get("tokenUsage").filter(|usage| usage.is_object()) else { return };
    let mut tokens = [0; TokenType::ALL.len()];
    tokens[TokenType::Input as usize] = count_of(usage, "promptTokens").unwrap_or(0);
    tokens[TokenType::Output as usize] = count_of(usage, "completionTokens").unwrap_or(0);
    span.tokens = (tokens != [0; TokenType::ALL.len()]).then_some(tokens);
}

#[cfg(test)]
mod tests;
