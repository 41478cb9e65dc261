//! Runs that a flow server or a database lists, as spans.
//!
//! Ids follow from those of the source, so that a repeated poll and a restart report the same run. Only names, numbers,
//! times and errors are kept: no prompt, answer, argument or output.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::ingest::MAX_TEXT;
use crate::ingest::draft::{ItemError, ItemLocation, reject};
use crate::model::{
    AgentIdentity, AgentStatus, AgentUpdate, Batch, BoundedMap, Patch, RejectReason, RunSource, Span, SpanField,
    SpanId, SpanKind, SpanReport, SpanStatus, Time, TraceId,
};
use crate::text::{self, clean, names};

/// Longest name of a span and longest error, in bytes.
const MAX_NAME: usize = 200;
/// Runs whose last reported state is remembered.
const MAX_RUNS: usize = 20_000;
/// Most spans of one run; more are left out.
pub(super) const MAX_SPANS: usize = 1_000;
/// Older runs are not read: they would be deleted soon.
pub(super) const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The runs of a source: what was reported of them, and what is to be reported.
#[derive(Debug)]
pub(super) struct RunList {
    /// The state of each run as it was reported last.
    reported: BoundedMap<(TraceId, SpanId), u64>,
    spans: Vec<SpanReport<'static>>,
}

impl Default for RunList {
    fn default() -> Self {
        Self { reported: BoundedMap::new(MAX_RUNS), spans: Vec::new() }
    }
}

impl RunList {
    /// Whether the run has been reported in this state.
    pub(super) fn has(&self, run: (TraceId, SpanId), state: u64) -> bool {
        self.reported.get(&run) == Some(&state)
    }

    /// Adds a run in this state: its topmost span, and those beneath it.
    pub(super) fn add(&mut self, run: (TraceId, SpanId), state: u64, spans: Vec<SpanReport<'static>>) {
        match self.reported.get_mut(&run) {
            Some(known) => *known = state,
            None => drop(self.reported.insert(run, state, ())),
        }
        self.spans.extend(spans);
    }

    /// What is to be reported.
    pub(super) fn take(&mut self) -> Vec<SpanReport<'static>> {
        std::mem::take(&mut self.spans)
    }

    /// Reports all runs again: some did not reach the store.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// From when to when, in nanoseconds since 1970; without an end while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanTimes {
    pub(super) from: u64,
    pub(super) to: Option<u64>,
}

/// The id of what a source lists as `id`: a UUID as it is, else a hash.
pub(super) fn trace_id(source: &str, id: &str) -> Option<TraceId> {
    let is_uuid = id.len() == 36 || id.len() == 32;
    TraceId::parse(id).filter(|_| is_uuid).or_else(|| {
        let hashed = digest(&SHA256, format!("{source}\n{id}").as_bytes());
        TraceId::from_slice(hashed.as_ref().get(..16)?)
    })
}

/// The id of a span that its source lists as `id`.
pub(super) fn span_id(id: &str) -> Option<SpanId> {
    SpanId::from_slice(digest(&SHA256, id.as_bytes()).as_ref().get(..8)?)
}

/// A time with an offset, in nanoseconds since 1970.
pub(super) fn nanos(text: &str) -> Option<u64> {
    text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_nanosecond()).ok())
}

/// Milliseconds since 1970 in nanoseconds.
pub(super) fn nanos_of_millis(millis: f64) -> Option<u64> {
    (millis.is_finite() && (0.0..1e14).contains(&millis)).then(|| (millis * 1e6).round() as u64)
}

/// The time of nanoseconds since 1970.
pub(super) fn time_of(nanos: u64) -> Time {
    Time::from_millis((nanos / 1_000_000).cast_signed())
}

/// The text of a key.
pub(super) fn text_of<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A whole number of a key.
pub(super) fn count_of(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

/// The agent of a run.
pub(super) fn identity(project: &str, agent: &str, agent_type: &'static str) -> Arc<AgentIdentity> {
    Arc::new(AgentIdentity {
        project: Arc::from(project),
        agent: Arc::from(agent),
        agent_type: Arc::from(agent_type),
        is_named: true,
    })
}

/// A span of a run.
pub(super) fn span(
    (trace, id): (TraceId, SpanId),
    parent: Option<SpanId>,
    kind: SpanKind,
    name: &str,
    times: SpanTimes,
) -> Span<'static> {
    let mut span = Span::new(trace, id, Cow::Owned(clean(name, MAX_NAME).into_owned()), times.from);
    span.parent = parent;
    span.kind = kind;
    span.source = RunSource::Poll;
    span.duration = times.to.map(|to| to.saturating_sub(times.from));
    if kind == SpanKind::Tool {
        with(&mut span, SpanField::Tool, Some(name));
    }
    span
}

/// Sets a field.
pub(super) fn with(span: &mut Span<'static>, field: SpanField, value: Option<&str>) {
    let value = value.map(|value| clean(value, MAX_NAME).into_owned()).filter(|value| !value.is_empty());
    if let Some(value) = value {
        span.fields.retain(|(known, _)| *known != field);
        span.fields.push((field, Cow::Owned(value)));
    }
}

/// Sets the model and its provider.
pub(super) fn with_model(span: &mut Span<'static>, model: Option<&str>) {
    let Some(model) = model.map(names::model) else { return };
    with(span, SpanField::Provider, names::provider_of(&model));
    with(span, SpanField::Model, Some(&model));
}

/// Makes it failed, with the reason.
pub(super) fn fail(span: &mut Span<'static>, error: Option<&str>) {
    span.status = SpanStatus::Error;
    with(span, SpanField::Error, error);
}

/// Makes it the topmost span of a run of `agent`.
pub(super) fn begin_run(mut span: Span<'static>, agent: &Arc<AgentIdentity>) -> SpanReport<'static> {
    span.begins_run = true;
    with(&mut span, SpanField::Project, Some(&agent.project));
    with(&mut span, SpanField::Agent, Some(&agent.agent));
    with(&mut span, SpanField::AgentType, Some(&agent.agent_type));
    report(span, agent)
}

/// A span of a run of `agent`.
pub(super) fn report(span: Span<'static>, agent: &Arc<AgentIdentity>) -> SpanReport<'static> {
    SpanReport {
        span,
        agent: Some(Arc::clone(agent)),
        caller: None,
        run: None,
        response: None,
        call: None,
        facts: None,
    }
}

/// Pairs of id and name, with names that differ.
pub(super) fn named_apart(mut flows: Vec<(String, String)>) -> Vec<(String, String)> {
    flows.sort();
    let mut taken = BTreeSet::new();
    for (id, name) in &mut flows {
        // Names with spaces at their ends would be rejected.
        *name = clean(name, MAX_TEXT - 16).trim().to_owned();
        if !taken.insert(name.clone()) {
            *name = format!("{name} ({})", id.chars().take(8).collect::<String>());
            taken.insert(name.clone());
        }
    }
    flows
}

/// What is known of an agent from its runs.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentSketch {
    pub(super) status: Option<AgentStatus>,
    pub(super) reason: Option<String>,
    pub(super) task: Option<String>,
    pub(super) task_started_at: Option<Time>,
    pub(super) model: Option<String>,
    /// The end of its last run.
    pub(super) last_activity: Option<Time>,
}

/// A complete batch of the agents of `project`, by name. Those with an invalid name are rejected.
pub(super) fn batch(
    project: &str,
    agent_type: &'static str,
    agents: BTreeMap<String, AgentSketch>,
    errors: Vec<String>,
) -> Batch<'static> {
    let mut batch = Batch { project: project.to_owned().into(), complete: true, ..Batch::default() };
    for error in errors {
        reject(&mut batch.rejected, ItemLocation::BODY, "", ItemError::of_item(RejectReason::Value, error));
    }
    for (index, (name, sketch)) in agents.into_iter().enumerate() {
        if let Some(why) = text::name_error(&name, MAX_TEXT) {
            let error = ItemError { field: "name", reason: RejectReason::Name, error: why };
            reject(&mut batch.rejected, ItemLocation::agent(index), &name, error);
            batch.complete = false;
            continue;
        }
        let is_working = matches!(sketch.status, Some(AgentStatus::Running | AgentStatus::WaitingQuestion));
        let patch = |text: Option<String>| text.map_or(Patch::Clear, |text| Patch::Set(Cow::Owned(text)));
        batch.agents.push(AgentUpdate {
            name: Cow::Owned(name),
            index,
            agent_type: Some(Cow::Borrowed(agent_type)),
            status: sketch.status,
            reason: patch(sketch.reason.map(|reason| clean(&reason, MAX_NAME).into_owned())),
            task_id: patch(sketch.task.map(|task| clean(&task, MAX_TEXT).into_owned())),
            task_started_at: sketch.task_started_at,
            model: sketch.model.map(|model| Cow::Owned(clean(&names::model(&model), MAX_TEXT).into_owned())),
            // The source shows that it works, and not when it last did something.
            last_activity: sketch.last_activity.filter(|_| !is_working),
            is_last_activity_unreadable: is_working,
            ..AgentUpdate::default()
        });
    }
    batch
}
