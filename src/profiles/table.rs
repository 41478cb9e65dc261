//! The shape of a profile: which names of a tool's telemetry mean what.

use super::attributes::text;
use crate::otlp::wire::KeyValue;

/// What is counted of an agent. The first five are in the order of [`crate::model::TokenType::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
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

/// How many columns there are.
pub(super) const COLUMNS: usize = 10;

/// What a number is added to. `Input` and `Output` are sums with their parts inside; the meter takes the parts out.
pub(super) type Adds = &'static [Column];

pub(super) const INPUT: Adds = &[Column::Input];
pub(super) const OUTPUT: Adds = &[Column::Output];
/// Cached tokens that the tool's input has inside already.
pub(super) const CACHE_READ_OF_INPUT: Adds = &[Column::CacheRead];
pub(super) const CACHE_CREATION_OF_INPUT: Adds = &[Column::CacheCreation];
pub(super) const REASONING_OF_OUTPUT: Adds = &[Column::Reasoning];
/// The same where the tool counts them beside its input or output.
pub(super) const CACHE_READ: Adds = &[Column::CacheRead, Column::Input];
pub(super) const CACHE_CREATION: Adds = &[Column::CacheCreation, Column::Input];
pub(super) const REASONING: Adds = &[Column::Reasoning, Column::Output];
pub(super) const COST: Adds = &[Column::Cost];

/// From an item to the name of its agent, and whether somebody chose it.
pub(super) type Called = fn(&[KeyValue]) -> Option<(String, bool)>;

/// A tool.
#[derive(Debug)]
pub(super) struct Profile {
    /// The agent's type.
    pub(super) name: &'static str,
    /// How the names of its libraries, or of its service, begin.
    pub(super) prefixes: &'static [&'static str],
    /// Whose models it uses, where its telemetry does not say.
    pub(super) provider: Option<&'static str>,
    /// The attribute that tells its processes apart in all its signals; only a hash of it is kept.
    pub(super) session: Option<&'static str>,
    /// Whether the host may tell its producers apart: all its signals name it, or none.
    pub(super) names_host: bool,
    /// Whether its spans leave out what its tokens cost, though its other signals say it.
    pub(super) spans_lack_cost: bool,
    /// Whether items may name the agent, rather than the producer alone.
    pub(super) items_name_agents: bool,
    /// What an agent is called that neither its telemetry nor a rule names.
    pub(super) called: Option<Called>,
    /// Whether each call has an id that all items about it name, so that they count once whatever brings them.
    pub(super) tells_calls: bool,
    /// Its metrics.
    pub(super) metrics: &'static [MetricRow],
    /// Its log events.
    pub(super) logs: &'static [EventRow],
    /// Its spans.
    pub(super) spans: &'static [EventRow],
}

/// A metric.
#[derive(Debug)]
pub(super) struct MetricRow {
    /// Its name.
    pub(super) name: &'static str,
    /// What its points mean.
    pub(super) meaning: Points,
    /// What is named by other metrics of the same library once more, in other words, is another set.
    pub(super) set: Set,
    /// Which points are meant.
    pub(super) of: Operations,
}

impl MetricRow {
    /// A metric of which all points are meant, and which nothing repeats.
    pub(super) const fn new(name: &'static str, meaning: Points) -> Self {
        Self { name, meaning, set: Set::Only, of: Operations::Any }
    }

    /// Whether a point with these attributes is meant.
    pub(super) fn concerns(&self, attributes: &[KeyValue]) -> bool {
        let operation = match self.of {
            Operations::Any => return true,
            Operations::Calls | Operations::NoOthers => text(attributes, OPERATION),
        };
        operation.map_or(self.of == Operations::NoOthers, |operation| CALLS.contains(&&*operation))
    }
}

/// The attribute that names an operation.
pub(super) const OPERATION: &str = "gen_ai.operation.name";
/// The operations that ask a model. Tools, agents and workflows sum up the calls beneath them, and whoever fetches an
/// answer or looks something up asks no model.
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

/// Metrics that add up to one whole; several of them say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Set {
    /// There is no other.
    Only,
    /// The sums by direction.
    ByDirection,
    /// The sums with their parts.
    Detailed,
}

/// Points of which operations are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operations {
    /// All.
    Any,
    /// Those that ask a model.
    Calls,
    /// The same, and those that are not named.
    NoOthers,
}

/// What points mean.
#[derive(Debug)]
pub(super) enum Points {
    /// The number is added as it is.
    Number(Adds),
    /// The number, or a histogram's sum, goes where the attribute's value says.
    By(&'static str, &'static [(&'static str, Adds)]),
    /// The number, or a histogram's count, is one of requests; points with the attribute repeat what others say.
    Requests(Option<&'static str>),
    /// The number is one of events of streams; where one failed, its request is counted already and was no success.
    Streams,
}

/// A log event or a span.
#[derive(Debug)]
pub(super) struct EventRow {
    /// When it is meant.
    pub(super) when: When,
    /// Numbers in its attributes; of several names for one, the first that is there counts.
    pub(super) fields: &'static [(&'static [&'static str], Adds)],
    /// Whether it is a request that ended.
    pub(super) request: Request,
}

/// Which events are meant.
#[derive(Debug)]
pub(super) enum When {
    /// Those of that name.
    Named(&'static str),
    /// Those of that name whose attribute has that value.
    NamedWith(&'static str, &'static str, &'static str),
    /// Those of that name that tell of an error.
    NamedFailed(&'static str),
    /// Those with one of these values in one of these attributes.
    Any(&'static [&'static str], &'static [&'static str]),
}

/// Whether an event is a request, and what its attribute `attempt` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// It is none.
    No,
    /// It is one; failed when its attributes say so.
    Ended,
    /// It is one that failed.
    Failed,
    /// It is none, but says that the answer to one that was counted already broke off.
    Broken,
    /// It is one of several attempts, numbered from 0, each with an event of its own.
    Attempt,
    /// It is none, but a run of an agent, which is a task.
    Run,
}
