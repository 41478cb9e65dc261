//! What sources yield: states, usage and the outcome of polls.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{AgentStatus, ComponentStatus, RateLimitHit, Rejected, SourceError, Time};

/// A field that may be left as it is, cleared, or set.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Patch<T> {
    /// Not named: what was known stays.
    #[default]
    Keep,
    /// Named as null: no longer so.
    Clear,
    /// Named with a value.
    Set(T),
}

/// One agent's state; `None` and `Keep` are "not said".
#[derive(Clone, Debug, Default)]
pub struct AgentUpdate<'a> {
    /// Its name within the project, valid by [`crate::text::is_name`].
    pub name: Cow<'a, str>,
    /// Its place in the list that it came in, from 0.
    pub index: usize,
    /// What kind of agent it is.
    pub agent_type: Option<Cow<'a, str>>,
    /// What it is doing.
    pub status: Option<AgentStatus>,
    /// Whether it runs, from a source that knows no more; taken when there is no `status`.
    pub running: Option<bool>,
    /// Whether it ended and nobody knows how, so that no status is known any more; taken when there is no `status`.
    pub ended: bool,
    /// Why it is in that status.
    pub reason: Patch<Cow<'a, str>>,
    /// The task it holds.
    pub task_id: Patch<Cow<'a, str>>,
    /// When that task began.
    pub task_started_at: Option<Time>,
    /// The phase of its work.
    pub phase: Patch<Cow<'a, str>>,
    /// Progress in percent, 0 to 100.
    pub progress: Patch<f64>,
    /// Used part of its model's context window, 0 to 1.
    pub context_window_ratio: Patch<f64>,
    /// Cumulative restarts.
    pub restart_count: Option<u64>,
    /// When it last did something.
    pub last_activity: Option<Time>,
    /// Whether that was said and could not be read: then it is unknown.
    pub is_last_activity_unreadable: bool,
    /// When it expects to be done.
    pub estimated_completion: Patch<Time>,
    /// The model it uses.
    pub model: Option<Cow<'a, str>>,
    /// Cumulative tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Option<u64>; 5],
    /// Cumulative cost in US dollars.
    pub cost_usd: Option<f64>,
    /// Cumulative requests.
    pub requests: Option<u64>,
    /// Cumulative failed requests.
    pub request_errors: Option<u64>,
    /// Cumulative requests refused for a rate limit.
    pub rate_limit_hits: Option<u64>,
    /// Cumulative retries.
    pub retries: Option<u64>,
    /// Cumulative reviews passed.
    pub reviews_passed: Option<u64>,
    /// Cumulative reviews failed.
    pub reviews_failed: Option<u64>,
    /// What its providers said of their limits; `None` leaves what was known.
    pub rate_limits: Option<Vec<RateLimitUpdate<'a>>>,
    /// The rate limit that its reason speaks of, where that is why it waits or failed.
    pub rate_limit_hit: Option<RateLimitHit>,
}

/// What a provider said of one of its limits.
#[derive(Clone, Debug, Default)]
pub struct RateLimitUpdate<'a> {
    /// The provider.
    pub provider: Cow<'a, str>,
    /// `requests`, `tokens`, `input_tokens` or `output_tokens`.
    pub limit_type: Cow<'a, str>,
    /// How much is allowed.
    pub limit: Option<u64>,
    /// How much is left.
    pub remaining: Option<u64>,
    /// When the period ends.
    pub reset_at: Option<Time>,
}

/// One component's state.
#[derive(Clone, Debug)]
pub struct ComponentUpdate<'a> {
    /// Its name within the project.
    pub name: Cow<'a, str>,
    /// Its place in the list that it came in, from 0.
    pub index: usize,
    /// How it is.
    pub status: ComponentStatus,
    /// Why.
    pub details: Option<Cow<'a, str>>,
    /// Numbers it sent along.
    pub metrics: Vec<(Cow<'a, str>, f64)>,
}

/// States that arrived together, all of one project.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Cow<'a, str>,
    /// Whether agents that this source named before and does not name now are gone.
    pub complete: bool,
    /// How long the agents named may stay silent; `None` for the default.
    pub ttl: Option<Duration>,
    /// Which report it is, from a sender that numbers them.
    pub ordinal: Option<Ordinal<'a>>,
    /// Agents.
    pub agents: Vec<AgentUpdate<'a>>,
    /// Components.
    pub components: Vec<ComponentUpdate<'a>>,
    /// What of the batch could not be taken, found while it was read.
    pub rejected: Vec<Rejected>,
}

/// The place of a report among those of one run: one that was held up on its way is known by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinal<'a> {
    /// The run, valid by [`crate::text::is_name`]; every run has its own.
    pub run: Cow<'a, str>,
    /// Its number, higher with each report.
    pub number: u64,
}

/// An increment of usage.
#[derive(Clone, Debug, Default)]
pub struct UsageUpdate<'a> {
    /// Its place in the list that it came in, from 0.
    pub index: usize,
    /// The agent; else it is found through the task.
    pub agent: Option<Cow<'a, str>>,
    /// The task.
    pub task_id: Option<Cow<'a, str>>,
    /// The model.
    pub model: Option<Cow<'a, str>>,
    /// Tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Option<u64>; 5],
    /// Cost in US dollars; unknown is unpriced, not zero.
    pub cost_usd: Option<f64>,
    /// A repeated id counts once.
    pub id: Option<Cow<'a, str>>,
}

/// The outcome of one poll of one source.
#[derive(Debug)]
pub struct PollReport {
    /// The source's name.
    pub source: Arc<str>,
    /// One batch per project that it reported; or why there is none, which changes no agent.
    pub result: Result<Vec<Batch<'static>>, SourceError>,
}
