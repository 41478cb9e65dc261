//! Spans of runs, whatever source reports them. A span borrows its texts from the export that it was read from.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::run::{RunSource, TokenCounts};
use super::run_facts::RunFacts;
use super::trace_id::{SpanId, TraceId};

/// What a span is, whichever convention named it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// An agent's, a flow's or a workflow's execution.
    Agent,
    /// A call of a model.
    Llm,
    /// A tool.
    Tool,
    /// Something looked up.
    Retrieval,
    /// Waiting, for a person or for a rate limit.
    Wait,
    /// Anything else.
    #[default]
    Other,
}

impl SpanKind {
    /// All of them; the place is the number that is stored.
    pub const ALL: [Self; 6] = [Self::Agent, Self::Llm, Self::Tool, Self::Retrieval, Self::Wait, Self::Other];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Llm => "llm",
            Self::Tool => "tool",
            Self::Retrieval => "retrieval",
            Self::Wait => "wait",
            Self::Other => "other",
        }
    }
}

/// OpenTelemetry's status of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    /// Not set, which is not a failure.
    #[default]
    Unset,
    /// Set to be good.
    Ok,
    /// It failed.
    Error,
}

impl SpanStatus {
    /// All of them; the place is the number that is stored, and that of OTLP.
    pub const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];
}

/// The value of an attribute. Lists and maps are their JSON text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum SpanValue<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A flag.
    Bool(bool),
}

/// What every list and statistic of runs needs of a span, by the names of no single convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanField {
    /// The model that answered or was asked.
    Model,
    /// Whose model it is.
    Provider,
    /// The tool's name.
    Tool,
    /// The session or conversation.
    Session,
    /// The task.
    Task,
    /// What the agent was reached by: `cli`, `slack`, `mcp`.
    Platform,
    /// The agent's name; of spans that begin a run.
    Agent,
    /// The agent's project; likewise.
    Project,
    /// The kind of agent; likewise.
    AgentType,
    /// Why it failed.
    Error,
}

impl SpanField {
    /// All of them; the place is the number that is stored.
    pub const ALL: [Self; 10] = [
        Self::Model,
        Self::Provider,
        Self::Tool,
        Self::Session,
        Self::Task,
        Self::Platform,
        Self::Agent,
        Self::Project,
        Self::AgentType,
        Self::Error,
    ];

    /// The key in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Tool => "tool",
            Self::Session => "session",
            Self::Task => "task",
            Self::Platform => "platform",
            Self::Agent => "agent_name",
            Self::Project => "project",
            Self::AgentType => "agent_type",
            Self::Error => "error",
        }
    }
}

/// A span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<'a> {
    /// The trace that it is part of.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// The span above it, perhaps in another process.
    pub parent: Option<SpanId>,
    /// What it is.
    pub kind: SpanKind,
    /// How it ended.
    pub status: SpanStatus,
    /// What reported it.
    pub source: RunSource,
    /// Whether it is the topmost span of an agent's execution, so that a run begins with it.
    pub begins_run: bool,
    /// Its name.
    pub name: Cow<'a, str>,
    /// When it began, in nanoseconds since 1970.
    pub started_at: u64,
    /// How long it took, in nanoseconds; `None` while it runs.
    pub duration: Option<u64>,
    /// What lists and statistics need of it; each field once at most.
    pub fields: Vec<(SpanField, Cow<'a, str>)>,
    /// Its own tokens, disjoint by type, without those of the spans beneath it. Unknown is not zero.
    pub tokens: Option<TokenCounts>,
    /// What it cost in US dollars, where that is known.
    pub cost_usd: Option<f64>,
    /// Other traces that it names as its causes or parts.
    pub links: Vec<TraceId>,
    /// Its other attributes, without those that the privacy rules drop.
    pub attributes: Vec<(Cow<'a, str>, SpanValue<'a>)>,
}

impl<'a> Span<'a> {
    /// A span with nothing but its place, name and time.
    pub const fn new(trace: TraceId, id: SpanId, name: Cow<'a, str>, started_at: u64) -> Self {
        Self {
            trace,
            id,
            parent: None,
            kind: SpanKind::Other,
            status: SpanStatus::Unset,
            source: RunSource::Otlp,
            begins_run: false,
            name,
            started_at,
            duration: None,
            fields: Vec::new(),
            tokens: None,
            cost_usd: None,
            links: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// When it ended, in nanoseconds since 1970; when it began while it runs.
    pub const fn ended_at(&self) -> u64 {
        self.started_at.saturating_add(match self.duration {
            Some(duration) => duration,
            None => 0,
        })
    }

    /// The value of a field.
    pub fn field(&self, field: SpanField) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, value)| &**value)
    }
}

/// The agent that a run belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentIdentity {
    /// Its project.
    pub project: Arc<str>,
    /// Its name.
    pub agent: Arc<str>,
    /// What kind of agent it is.
    pub agent_type: Arc<str>,
    /// Whether a person chose the name.
    pub is_named: bool,
}

impl AgentIdentity {
    /// Whether it is the same agent, whatever its kind.
    pub fn is_same_agent(&self, other: &Self) -> bool {
        (&self.project, &self.agent) == (&other.project, &other.agent)
    }
}

/// What is kept of the content of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Names, numbers and times.
    #[default]
    Metadata,
    /// Prompts, answers, arguments and outputs as well, with keys masked and each cut at 8 KiB.
    Full,
}

/// A span as its source reports it.
#[derive(Clone, Debug)]
pub struct SpanReport<'a> {
    /// The span.
    pub span: Span<'a>,
    /// The agent that it names, or that its sender is.
    pub agent: Option<Arc<AgentIdentity>>,
    /// The run that its caller named in metadata.
    pub caller: Option<TraceId>,
    /// The id that its server gave the run that begins with it, whatever signal reports it.
    pub run: Option<TraceId>,
    /// The hash of the id of the model's response.
    pub response: Option<u64>,
    /// The hash of the id that a proxy gave the call, whatever signal reports it.
    pub call: Option<u64>,
    /// What it reports besides of the run that begins with it.
    pub facts: Option<Box<RunFacts>>,
}
