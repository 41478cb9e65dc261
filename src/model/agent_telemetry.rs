//! What telemetry says of an agent: increments, never totals; and which of its signals arrive.

use std::sync::Arc;

use super::project::Durations;
use super::{RateLimit, Refusal, Time};

/// What one export adds to what is known of one agent and one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentTelemetry {
    /// The project, valid by [`super::text::is_name`].
    pub project: Arc<str>,
    /// The agent's name within it, valid by [`super::text::is_name`].
    pub agent: Arc<str>,
    /// Which tool it is: `claude-code`, `codex`, ….
    pub agent_type: &'static str,
    /// The model that was used, where the telemetry says so.
    pub model: Option<Arc<str>>,
    /// Tokens by type, in the order of [`super::TokenType::ALL`]; disjoint.
    pub tokens: [u64; 5],
    /// Cost in US dollars; `None` when the price of the tokens is not known.
    pub cost_usd: Option<f64>,
    /// Requests that ended.
    pub requests: u64,
    /// Requests of these that failed.
    pub request_errors: u64,
    /// Requests refused for a rate limit.
    pub rate_limit_hits: u64,
    /// Requests sent again.
    pub retries: u64,
    /// When it last did what it is counted for.
    pub active: Option<Time>,
    /// The last request that a rate limit refused, and when that was.
    pub refused: Option<(Time, Refusal)>,
    /// When a request was last answered.
    pub answered: Option<Time>,
    /// What was said last of rate limits; a kind of limit is there once.
    pub rate_limits: Vec<RateLimit>,
    /// How long requests took, under [`super::project::REQUEST_DURATION_BOUNDS`].
    pub durations: Durations,
}

impl AgentTelemetry {
    /// Whether it says that tokens or money were used.
    pub fn has_usage(&self) -> bool {
        self.tokens.iter().any(|count| *count > 0) || self.cost_usd.is_some_and(|cost| cost > 0.0)
    }
}

/// Which signals of an agent arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    /// The agent's project.
    pub project: Arc<str>,
    /// Its name.
    pub agent: Arc<str>,
    /// Which tool it is.
    pub agent_type: &'static str,
    /// Whether the telemetry or a rule names it, rather than its service and host.
    pub is_named: bool,
    /// Its metrics, traces and logs.
    pub signals: [Option<Received>; 3],
}

/// What arrives of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// When anything of it came last.
    pub last: Time,
    /// Points, spans or records that say something of the agent.
    pub items: u64,
    /// Whether they ever brought tokens, cost, and requests.
    pub brings: [bool; 3],
}
