//! The types that describe a tool's telemetry: which metrics, log events and spans report usage, and in which fields.

use super::attributes::{Attributes, text};

/// What is counted of an agent. The first five are in the order of [`crate::model::TokenType::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsageColumn {
    Input,
    Output,
    CacheRead,
    CacheCreation,
    Reasoning,
    Cost,
    Requests,
    Errors,
    RateLimited,
    Retries,
}

/// The number of columns.
pub(super) const COLUMNS: usize = 10;

/// The columns that a number is added to. `Input` includes cached tokens and `Output` includes reasoning; the parts are
/// subtracted once all signals of an export are summed up.
pub(super) type Columns = &'static [UsageColumn];

pub(super) const INPUT: Columns = &[UsageColumn::Input];
pub(super) const OUTPUT: Columns = &[UsageColumn::Output];
/// Cached tokens that the tool's input count includes.
pub(super) const CACHE_READ_OF_INPUT: Columns = &[UsageColumn::CacheRead];
pub(super) const CACHE_CREATION_OF_INPUT: Columns = &[UsageColumn::CacheCreation];
pub(super) const REASONING_OF_OUTPUT: Columns = &[UsageColumn::Reasoning];
/// Cached tokens that the tool's input count does not include.
pub(super) const CACHE_READ: Columns = &[UsageColumn::CacheRead, UsageColumn::Input];
pub(super) const CACHE_CREATION: Columns = &[UsageColumn::CacheCreation, UsageColumn::Input];
pub(super) const REASONING: Columns = &[UsageColumn::Reasoning, UsageColumn::Output];
pub(super) const COST: Columns = &[UsageColumn::Cost];

/// From the attributes of an item to the name of its agent, and whether a person chose that name.
pub(super) type DefaultAgentName = fn(Attributes<'_>) -> Option<(String, bool)>;

/// A tool's telemetry.
#[derive(Debug)]
pub(super) struct Profile {
    /// The type of its agents.
    pub(super) name: &'static str,
    /// Prefixes of its instrumentation scopes' names, or of its `service.name`.
    pub(super) prefixes: &'static [&'static str],
    /// The provider of its models, where its telemetry names none.
    pub(super) provider: Option<&'static str>,
    /// The attribute that identifies a session in all its signals; only a hash of the value is kept.
    pub(super) session_attribute: Option<&'static str>,
    /// Whether `host.name` identifies its processes: either all its signals have the attribute, or none.
    pub(super) uses_host_name: bool,
    /// Whether its spans have no cost, though its other signals do.
    pub(super) spans_lack_cost: bool,
    /// Whether attributes of items may name the agent, rather than those of the resource alone.
    pub(super) agent_from_items: bool,
    /// Names an agent that neither its telemetry nor a rule names; by default it is the service and its host.
    pub(super) default_agent_name: Option<DefaultAgentName>,
    /// Whether all items about a call carry the call's id, so that it is counted once whatever signal brings it.
    pub(super) has_call_ids: bool,
    /// Its metrics.
    pub(super) metrics: &'static [MetricRow],
    /// Its log events.
    pub(super) logs: &'static [EventRow],
    /// Its spans.
    pub(super) spans: &'static [EventRow],
}

/// A metric that reports usage.
#[derive(Debug)]
pub(super) struct MetricRow {
    /// Its name.
    pub(super) name: &'static str,
    /// What its points count.
    pub(super) meaning: PointMeaning,
    /// Metrics of one library that report the same usage under several names are in different sets.
    pub(super) set: MetricSet,
    /// The operations whose points count.
    pub(super) operations: OperationFilter,
}

impl MetricRow {
    /// A metric whose points all count, and which no other metric repeats.
    pub(super) const fn new(name: &'static str, meaning: PointMeaning) -> Self {
        Self { name, meaning, set: MetricSet::Only, operations: OperationFilter::Any }
    }

    /// Whether a point with these attributes counts.
    pub(super) fn accepts(&self, attributes: Attributes<'_>) -> bool {
        let operation = match self.operations {
            OperationFilter::Any => return true,
            OperationFilter::Calls | OperationFilter::CallsOrUnnamed => text(attributes, OPERATION),
        };
        operation.map_or(self.operations == OperationFilter::CallsOrUnnamed, |operation| CALLS.contains(&&*operation))
    }
}

/// The attribute that names an operation.
pub(super) const OPERATION: &str = "gen_ai.operation.name";
/// Operations that call a model. Those of tools, agents and workflows sum up the calls beneath them; retrievals and
/// look-ups call none.
pub(super) const CALLS: &[&str] = &[
    "chat",
    "text_completion",
    "completion",
    "generate_content",
    "embeddings",
    "responses",
    "anthropic_messages",
    "image_generation",
];

/// Metrics that add up to the whole usage; several sets of one library report the same usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MetricSet {
    /// The only set.
    Only,
    /// Tokens by direction.
    ByDirection,
    /// Tokens with their cached and reasoning parts.
    Detailed,
}

/// The operations whose points count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperationFilter {
    /// All.
    Any,
    /// Calls of a model.
    Calls,
    /// Calls of a model, and points that name no operation.
    CallsOrUnnamed,
}

/// What the points of a metric count.
#[derive(Debug)]
pub(super) enum PointMeaning {
    /// The value goes to these columns.
    Number(Columns),
    /// The value, or a histogram's sum, goes to the columns that the value of the attribute selects.
    By(&'static str, &'static [(&'static str, Columns)]),
    /// The value, or a histogram's count, is a number of requests. Points that have the attribute repeat what others
    /// count.
    Requests(Option<&'static str>),
    /// The value is a number of events of streamed responses. A failed event turns a request that has been counted as a
    /// success into an error.
    Streams,
}

/// A log event or a span that reports usage.
#[derive(Debug)]
pub(super) struct EventRow {
    /// Which events it describes.
    pub(super) matching: EventMatch,
    /// Attributes with usage; of several names for one number, the first that is present counts.
    pub(super) fields: &'static [(&'static [&'static str], Columns)],
    /// What the event means for requests.
    pub(super) request: RequestKind,
}

/// Which events a row describes.
#[derive(Debug)]
pub(super) enum EventMatch {
    /// Events of that name.
    Named(&'static str),
    /// Events of that name, whose attribute has that value.
    NamedWith(&'static str, &'static str, &'static str),
    /// Events of that name that report an error.
    NamedFailed(&'static str),
    /// Events where one of these attributes has one of these values.
    Any(&'static [&'static str], &'static [&'static str]),
}

/// What an event means for requests, and so what its attribute `attempt` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// No request.
    None,
    /// A request that ended; failed if its attributes report an error.
    Ended,
    /// A request that failed.
    Failed,
    /// No request of its own: the streamed response to a request that was counted as a success has failed.
    StreamFailed,
    /// One of several attempts, numbered from 0, each with an event of its own.
    Attempt,
    /// No request, but a run of an agent, which is a task.
    TaskRun,
}
