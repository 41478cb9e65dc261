//! Decoded input: reported states, usage and poll results.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{AgentStatus, ComponentStatus, CustomUpdate, RateLimitHit, Rejected, SourceError, Time};

/// An update of a field that can be cleared.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Patch<T> {
    /// Absent: the known value is kept.
    #[default]
    Keep,
    /// Null: the value is cleared.
    Clear,
    /// A new value.
    Set(T),
}

/// The reported state of one agent; `None` and `Keep` stand for absent fields.
#[derive(Clone, Debug, Default)]
pub struct AgentUpdate<'a> {
    /// Its name within the project, valid by [`crate::text::is_name`].
    pub name: Cow<'a, str>,
    /// Its index in the reported list, from 0.
    pub index: usize,
    /// What kind of agent it is.
    pub agent_type: Option<Cow<'a, str>>,
    /// Its status.
    pub status: Option<AgentStatus>,
    /// Whether it is running, from a source that reports no more than that; ignored if there is a `status`.
    pub running: Option<bool>,
    /// Whether its run ended with an unknown result; ignored if there is a `status`.
    pub ended: bool,
    /// The reason for the status.
    pub reason: Patch<Cow<'a, str>>,
    /// Its current task.
    pub task_id: Patch<Cow<'a, str>>,
    /// When that task began.
    pub task_started_at: Option<Time>,
    /// The phase of its work.
    pub phase: Patch<Cow<'a, str>>,
    /// Progress in percent, 0 to 100.
    pub progress: Patch<f64>,
    /// How full its model's context window is, 0 to 1.
    pub context_window_ratio: Patch<f64>,
    /// Cumulative restarts.
    pub restart_count: Option<u64>,
    /// Its last activity.
    pub last_activity: Option<Time>,
    /// Whether a last activity was reported but could not be parsed; then it is unknown.
    pub is_last_activity_unreadable: bool,
    /// When it expects to finish.
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
    /// Cumulative rate-limited requests.
    pub rate_limit_hits: Option<u64>,
    /// Cumulative retries.
    pub retries: Option<u64>,
    /// Cumulative reviews passed.
    pub reviews_passed: Option<u64>,
    /// Cumulative reviews failed.
    pub reviews_failed: Option<u64>,
    /// The rate limits of its providers; `None` keeps the known ones.
    pub rate_limits: Option<Vec<RateLimitUpdate<'a>>>,
    /// The rate limit named in its reason, if that is why it waits or failed.
    pub rate_limit_hit: Option<RateLimitHit>,
}

/// The reported state of one rate limit.
#[derive(Clone, Debug, Default)]
pub struct RateLimitUpdate<'a> {
    /// The provider.
    pub provider: Cow<'a, str>,
    /// `requests`, `tokens`, `input_tokens` or `output_tokens`.
    pub limit_type: Cow<'a, str>,
    /// The allowance per period.
    pub limit: Option<u64>,
    /// What remains of it.
    pub remaining: Option<u64>,
    /// When the period ends.
    pub reset_at: Option<Time>,
}

/// The reported state of one component.
#[derive(Clone, Debug)]
pub struct ComponentUpdate<'a> {
    /// Its name within the project.
    pub name: Cow<'a, str>,
    /// Its index in the reported list, from 0.
    pub index: usize,
    /// Its status.
    pub status: ComponentStatus,
    /// The reason for the status.
    pub details: Option<Cow<'a, str>>,
    /// Numbers that it reports, by name.
    pub metrics: Vec<(Cow<'a, str>, f64)>,
    /// Those that it reports with labels, a type or a `ttl`.
    pub custom: Vec<CustomUpdate>,
}

/// States that were reported together, all of one project.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Cow<'a, str>,
    /// Whether the report is complete: agents that its source reported before and that are absent now are removed.
    pub complete: bool,
    /// After how long without another report these agents are stale; `None` for the default.
    pub ttl: Option<Duration>,
    /// The sequence number of the report, from a sender that numbers them.
    pub ordinal: Option<Ordinal<'a>>,
    /// Agents.
    pub agents: Vec<AgentUpdate<'a>>,
    /// Components.
    pub components: Vec<ComponentUpdate<'a>>,
    /// Items that were rejected while the batch was decoded.
    pub rejected: Vec<Rejected>,
}

/// The sequence number of a report within a run, by which reports that arrive late are recognized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordinal<'a> {
    /// The id of the run, valid by [`crate::text::is_name`]; different for every run.
    pub run: Cow<'a, str>,
    /// The number, higher with each report.
    pub number: u64,
}

/// An increment of usage.
#[derive(Clone, Debug, Default)]
pub struct UsageUpdate<'a> {
    /// Its index in the reported list, from 0.
    pub index: usize,
    /// The agent; if absent, it is the one that holds the task.
    pub agent: Option<Cow<'a, str>>,
    /// The task.
    pub task_id: Option<Cow<'a, str>>,
    /// The model.
    pub model: Option<Cow<'a, str>>,
    /// Tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Option<u64>; 5],
    /// Cost in US dollars; if absent, the tokens are unpriced.
    pub cost_usd: Option<f64>,
    /// An id by which repeated increments are deduplicated.
    pub id: Option<Cow<'a, str>>,
}

/// The result of one poll of one source.
#[derive(Debug)]
pub struct PollReport {
    /// The source's name.
    pub source: Arc<str>,
    /// One batch per reported project, or why the poll failed. A failed poll changes no agent.
    pub result: Result<Vec<Batch<'static>>, SourceError>,
}
