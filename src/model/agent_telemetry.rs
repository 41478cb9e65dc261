//! What telemetry says of an agent: increments, never totals; and through what it arrives.

use std::sync::Arc;
use std::time::Duration;

use super::project::Durations;
use super::{RateLimit, Refusal, Time};

/// What one export adds to what is known of one agent and one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentTelemetry {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Arc<str>,
    /// The agent's name within it, valid by [`crate::text::is_name`].
    pub agent: Arc<str>,
    /// Which tool it is: `claude-code`, `codex`, ….
    pub agent_type: &'static str,
    /// The model that was used, where the telemetry says so.
    pub model: Option<Arc<str>>,
    /// Tokens by type, in the order of [`super::TokenType::ALL`]; disjoint.
    pub tokens: [u64; 5],
    /// Cost in US dollars; `None` when the price of the tokens is not known.
    pub cost_usd: Option<f64>,
    /// Whether another signal is about to say what they cost, so that they are not unpriced yet.
    pub price_follows: bool,
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
    /// Used part of its model's context window, 0 to 1, as the last item said that did.
    pub context_window_ratio: Option<f64>,
    /// How long requests took, under [`super::project::REQUEST_DURATION_BOUNDS`].
    pub durations: Durations,
    /// Tasks that ended.
    pub tasks: Vec<EndedTask>,
}

/// A task that ended, as whoever did it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTask {
    /// Whether well.
    pub is_done: bool,
    /// How long it took, where that is told.
    pub took: Option<Duration>,
}

impl AgentTelemetry {
    /// Whether it says that tokens or money were used.
    pub fn has_usage(&self) -> bool {
        self.tokens.iter().any(|count| *count > 0) || self.cost_usd.is_some_and(|cost| cost > 0.0)
    }
}

/// Through what telemetry arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// OTLP's data points.
    Metrics,
    /// OTLP's spans.
    Traces,
    /// OTLP's log records and events.
    Logs,
    /// Calls that a proxy posts by itself.
    Callback,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Metrics, Self::Traces, Self::Logs, Self::Callback];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Callback => "callback",
        }
    }
}

/// Through which channels telemetry of an agent arrives.
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
    /// Whether it told of tokens without saying in which session they were used.
    pub lacks_session: bool,
    /// What came through each, in the order of [`Channel::ALL`].
    pub channels: [Option<Received>; Channel::ALL.len()],
}

/// What arrives through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// When anything of it came last.
    pub last: Time,
    /// Points, spans, records or calls that say something of the agent.
    pub items: u64,
    /// Whether they ever brought tokens, cost, and requests.
    pub brings: [bool; 3],
}
