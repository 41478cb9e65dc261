//! Polls Flowise: each flow is an agent, and each execution of its list is a run.
//!
//! Only agentflows have executions, which are listed while they run too. Flows come with their whole graphs, so that they
//! are read less often. Nothing is posted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::listed::{self, AgentSketch, RunList, SpanTimes, count_of, nanos, text_of};
use super::request::{PollFailure, SourceClient};
use crate::clock::Clock;
use crate::ingest::MAX_AGENTS;
use crate::ingest::page::{self, failed, malformed};
use crate::model::{
    AgentIdentity, AgentStatus, Batch, SourceError, SourceErrorReason, Span, SpanField, SpanId, SpanKind, SpanReport,
    SpanStatus, Time, TokenType, TraceId,
};
use crate::text::names;

/// The routes of flows and of executions.
const FLOWS: [&str; 3] = ["api", "v1", "chatflows"];
const EXECUTIONS: [&str; 3] = ["api", "v1", "executions"];
/// Flows are read again after so many polls.
const POLLS_PER_FLOWS: u32 = 12;
/// Executions of a page, and pages that are read while all of their executions are new. Each comes with its whole flow.
const PAGE_SIZE: usize = 10;
const MAX_PAGES: usize = 5;
/// An execution that is listed as running for longer outlived its server.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// The state that is kept between polls.
#[derive(Debug, Default)]
pub(super) struct Flowise {
    pub(super) runs: RunList,
    polls: u32,
    /// Pairs of id and name.
    flows: Vec<(String, String)>,
    /// What is known of each flow from its last execution, and when that was updated.
    last: BTreeMap<String, (u64, AgentSketch)>,
}

/// The state of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExecutionState {
    Running,
    /// It waits for a person, and goes on in the same execution.
    Waiting,
    Finished,
    Failed(&'static str),
}

impl ExecutionState {
    fn of(row: &Value) -> Option<Self> {
        Some(match text_of(row, "state")? {
            "INPROGRESS" => Self::Running,
            "STOPPED" if row.get("action").is_some_and(|action| !action.is_null()) => Self::Waiting,
            "FINISHED" => Self::Finished,
            "STOPPED" => Self::Failed("stopped"),
            "TERMINATED" => Self::Failed("terminated"),
            "TIMEOUT" => Self::Failed("timed out"),
            "ERROR" => Self::Failed("an error"),
            _ => return None,
        })
    }
}

impl Flowise {
    pub(super) async fn poll(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let mut errors = Vec::new();
        if self.polls.is_multiple_of(POLLS_PER_FLOWS) || self.flows.is_empty() {
            let (flows, wrong) = client.fetch(&FLOWS, read_flows).await.map_err(|failure| failure.error)?;
            (self.flows, errors) = (listed::named_apart(flows), wrong);
        }
        self.polls = self.polls.wrapping_add(1);
        match self.executions(client, clock, project, &mut errors).await {
            Ok(()) => {}
            // Older versions have none.
            Err(failure) if failure.status.is_some_and(|status| status.as_u16() == 404) => {}
            // Without it, it may be that nothing responds any more.
            Err(failure) if failure.status.is_none() => return Err(failure.error),
            Err(failure) if failure.status.is_some_and(|status| matches!(status.as_u16(), 401 | 403)) => {
                return Err(failure.error);
            }
            Err(failure) => errors.push(failure.error.message),
        }
        let agents = self.flows.iter().map(|(id, name)| {
            let sketch = self.last.get(id).map(|(_, sketch)| sketch.clone()).unwrap_or_default();
            (name.clone(), AgentSketch { status: sketch.status.or(Some(AgentStatus::Idle)), ..sketch })
        });
        Ok(vec![listed::batch(project, "flowise", agents.collect(), errors)])
    }

    async fn executions(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
        errors: &mut Vec<String>,
    ) -> Result<(), PollFailure> {
        let now = clock.wall();
        for page in 1..=MAX_PAGES {
            let (number, size) = (page.to_string(), PAGE_SIZE.to_string());
            let parameters = [("page", number.as_str()), ("limit", size.as_str())];
            let rows = client.fetch_page(&EXECUTIONS, &parameters, read_executions).await?;
            let (count, mut new) = (rows.len(), 0);
            for row in rows {
                match self.take(&row, now, project) {
                    Some(is_new) => new += usize::from(is_new),
                    None => {
                        errors.push("/api/v1/executions: an execution without a valid id, state or time".to_owned())
                    }
                }
            }
            if count < PAGE_SIZE || new < count {
                break;
            }
        }
        Ok(())
    }

    /// Takes an execution; returns whether its state is new, and `None` if it can't be read.
    fn take(&mut self, row: &Value, now: Time, project: &str) -> Option<bool> {
        let trace = TraceId::parse(text_of(row, "id")?)?;
        let state = ExecutionState::of(row)?;
        let created = text_of(row, "createdDate").and_then(nanos)?;
        let updated = text_of(row, "updatedDate").and_then(nanos).unwrap_or(created);
        let flow = text_of(row, "agentflowId").unwrap_or_default();
        let named = self.flows.iter().find(|(id, _)| id == flow).map(|(_, name)| name.as_str());
        let name = named.or_else(|| text_of(row.get("agentflow")?, "name")).unwrap_or("flow");
        let agent = listed::identity(project, name, "flowise");
        let run = (trace, listed::span_id("flowise")?);
        let nodes = nodes_of(row);
        let version = updated ^ (nodes.len() as u64) ^ ((state == ExecutionState::Running) as u64) << 63;
        let is_new = listed::time_of(updated) >= now.minus(listed::MAX_AGE) && !self.runs.has(run, version);
        if is_new {
            let spans = spans_of(run, row, (state, created, updated), &nodes, &agent);
            self.note(flow, state, updated, now, &spans);
            self.runs.add(run, version, spans);
        }
        Some(is_new)
    }

    fn note(&mut self, flow: &str, state: ExecutionState, updated: u64, now: Time, spans: &[SpanReport<'static>]) {
        let last = self.last.entry(flow.to_owned()).or_default();
        if updated < last.0 {
            return;
        }
        let model = spans.iter().rev().find_map(|it| it.span.field(SpanField::Model)).map(str::to_owned);
        let is_recent = listed::time_of(updated).plus(LONGEST) > now;
        let (status, reason) = match state {
            ExecutionState::Running if is_recent => (AgentStatus::Running, None),
            ExecutionState::Waiting if is_recent => {
                (AgentStatus::WaitingQuestion, Some("an answer to its flow".to_owned()))
            }
            _ => (AgentStatus::Idle, None),
        };
        let is_working = status != AgentStatus::Idle;
        let top = spans.first().map(|root| &root.span).filter(|_| is_working);
        let sketch = AgentSketch {
            status: Some(status),
            reason,
            task: top.map(|top| top.trace.to_string()),
            task_started_at: top.map(|top| listed::time_of(top.started_at)),
            model: model.or_else(|| last.1.model.take()),
            last_activity: Some(listed::time_of(updated)),
        };
        *last = (updated, sketch);
    }
}

/// Pairs of id and name, and what is wrong with other flows.
type FlowisePage = (Vec<(String, String)>, Vec<String>);

/// The flows of a page. The list is a page in newer versions.
fn read_flows(text: &str) -> Result<FlowisePage, SourceError> {
    let mut page = page::tree(text)?;
    let rows = match page.get_mut("data").map(Value::take).unwrap_or(page) {
        Value::Array(rows) => rows,
        _ => {
            return Err(page::reported_error(text)
                .unwrap_or_else(|| malformed("/api/v1/chatflows: expected a list; set `url` to the root of Flowise")));
        }
    };
    if rows.len() > MAX_AGENTS {
        return Err(failed(SourceErrorReason::TooLarge, &format!("more than {MAX_AGENTS} flows")));
    }
    let (mut flows, mut errors) = (Vec::new(), Vec::new());
    for row in rows {
        match (text_of(&row, "id"), text_of(&row, "name")) {
            (Some(id), Some(name)) => flows.push((id.to_owned(), name.to_owned())),
            _ => errors.push("/api/v1/chatflows: a flow without `id` and `name`".to_owned()),
        }
    }
    Ok((flows, errors))
}

fn read_executions(text: &str) -> Result<Vec<Value>, SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    match page::tree(text)?.get_mut("data").map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => Err(malformed("/api/v1/executions: expected a list `data`")),
    }
}

/// The nodes of an execution, which are JSON within a text. What can't be read has none.
fn nodes_of(row: &Value) -> Vec<Value> {
    let nodes = text_of(row, "executionData").and_then(|text| page::tree(text).ok());
    match nodes {
        Some(Value::Array(nodes)) => nodes,
        _ => Vec::new(),
    }
}

/// The spans of an execution, the topmost first.
fn spans_of(
    (trace, root): (TraceId, SpanId),
    row: &Value,
    (state, created, updated): (ExecutionState, u64, u64),
    nodes: &[Value],
    agent: &Arc<AgentIdentity>,
) -> Vec<SpanReport<'static>> {
    let is_over = matches!(state, ExecutionState::Finished | ExecutionState::Failed(_));
    let timed: Vec<SpanTimes> = nodes.iter().filter_map(times_of).collect();
    // The dates of an execution have whole seconds.
    let first =
        timed.iter().map(|times| times.from).min().filter(|first| *first < created.saturating_add(1_000_000_000));
    let from = first.unwrap_or(created);
    let last = timed.iter().filter_map(|times| times.to).max().unwrap_or(0);
    let times = SpanTimes { from, to: is_over.then_some(updated.max(last).max(from)) };
    let mut top = listed::span((trace, root), None, SpanKind::Agent, &agent.agent, times);
    listed::with(&mut top, SpanField::Session, text_of(row, "sessionId"));
    let mut beneath = Vec::new();
    let mut error = None;
    for (index, node) in nodes.iter().take(listed::MAX_SPANS).enumerate() {
        let failed = text_of(node, "status") == Some("ERROR");
        let reason = node.get("data").and_then(|data| text_of(data, "error"));
        if failed {
            error = error.or(reason);
        }
        let at =
            times_of(node).or_else(|| failed.then(|| SpanTimes { from: last.max(from), to: Some(last.max(from)) }));
        let Some((at, id)) = at.zip(listed::span_id(&format!("{index} {}", text_of(node, "nodeId").unwrap_or(""))))
        else {
            continue;
        };
        let name = text_of(node, "nodeLabel").or_else(|| text_of(node, "nodeId")).unwrap_or("node");
        let mut span = listed::span((trace, id), Some(root), kind_of(node), name, at);
        if span.kind == SpanKind::Llm {
            set_usage(&mut span, node);
        }
        if failed {
            listed::fail(&mut span, reason);
        }
        beneath.push(listed::report(span, agent));
        for (number, tool) in called_tools(node).enumerate() {
            let Some(tool_id) = listed::span_id(&format!("{index} {number} {tool}")) else { continue };
            let at = SpanTimes { from: at.from, to: Some(at.from) };
            beneath.push(listed::report(listed::span((trace, tool_id), Some(id), SpanKind::Tool, tool, at), agent));
        }
    }
    match state {
        ExecutionState::Finished => top.status = SpanStatus::Ok,
        ExecutionState::Failed(word) => listed::fail(&mut top, error.or(Some(word))),
        ExecutionState::Running | ExecutionState::Waiting => {}
    }
    let mut spans = vec![listed::begin_run(top, agent)];
    spans.extend(beneath);
    spans
}

fn output_of(node: &Value) -> Option<&Value> {
    node.get("data")?.get("output")
}

/// When a node ran; only those that call something say so.
fn times_of(node: &Value) -> Option<SpanTimes> {
    let times = output_of(node)?.get("timeMetadata")?;
    let time = |key: &str| times.get(key).and_then(Value::as_f64).and_then(listed::nanos_of_millis);
    let from = time("start")?;
    Some(SpanTimes { from, to: Some(time("end").unwrap_or(from).max(from)) })
}

fn kind_of(node: &Value) -> SpanKind {
    let name = node.get("data").and_then(|data| text_of(data, "name")).unwrap_or("");
    let has_usage = output_of(node).is_some_and(|output| output.get("usageMetadata").is_some());
    match name {
        "llmAgentflow" | "agentAgentflow" | "conditionAgentAgentflow" => SpanKind::Llm,
        "toolAgentflow" => SpanKind::Tool,
        "retrieverAgentflow" => SpanKind::Retrieval,
        _ if has_usage => SpanKind::Llm,
        _ => SpanKind::Other,
    }
}

fn called_tools(node: &Value) -> impl Iterator<Item = &str> {
    let tools = output_of(node).and_then(|output| output.get("calledTools")).and_then(Value::as_array);
    let name = |tool| text_of(tool, "tool").or_else(|| text_of(tool, "name"));
    tools.into_iter().flatten().filter_map(name).take(100)
}

fn set_usage(span: &mut Span<'static>, node: &Value) {
    let data = node.get("data");
    let asked = || text_of(data?.get("input")?.get("llmModelConfig")?, "modelName");
    let output = output_of(node);
    let answered = output.and_then(|it| it.get("responseMetadata")).and_then(|it| text_of(it, "model_name"));
    listed::with_model(span, answered.or_else(asked));
    let provider = output.and_then(|it| it.get("responseMetadata")).and_then(|it| text_of(it, "model_provider"));
    listed::with(span, SpanField::Provider, provider.and_then(names::provider).as_deref());
    let Some(usage) = output.and_then(|output| output.get("usageMetadata")) else { return };
    let detail = |key: &str, part: &str| usage.get(key).and_then(|it| count_of(it, part)).unwrap_or(0);
    let cached = detail("input_token_details", "cache_read");
    let created = detail("input_token_details", "cache_creation");
    let reasoning = detail("output_token_details", "reasoning");
    let mut tokens = [0; TokenType::ALL.len()];
    tokens[TokenType::Input as usize] =
        count_of(usage, "input_tokens").unwrap_or(0).saturating_sub(cached.saturating_add(created));
    tokens[TokenType::Output as usize] = count_of(usage, "output_tokens").unwrap_or(0).saturating_sub(reasoning);
    tokens[TokenType::CacheRead as usize] = cached;
    tokens[TokenType::CacheCreation as usize] = created;
    tokens[TokenType::Reasoning as usize] = reasoning;
    span.tokens = (tokens != [0; TokenType::ALL.len()]).then_some(tokens);
    span.cost_usd = usage.get("total_cost").and_then(Value::as_f64).filter(|cost| *cost >= 0.0);
}

#[cfg(test)]
mod tests;
