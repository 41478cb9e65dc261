//! What telemetry reports about an agent, as increments, and through which channels it arrives.

use std::sync::Arc;
use std::time::Duration;

use super::project::DurationHistogram;
use super::{RateLimit, RateLimitHit, Time};

/// What one export adds to the counters of one agent, for one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentTelemetry {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Arc<str>,
    /// The agent's name within it, valid by [`crate::text::is_name`].
    pub agent: Arc<str>,
    /// Which tool it is: `claude-code`, `codex`, ….
    pub agent_type: &'static str,
    /// The model that was used, if the telemetry names it.
    pub model: Option<Arc<str>>,
    /// Tokens by type, in the order of [`super::TokenType::ALL`]; disjoint.
    pub tokens: [u64; 5],
    /// Cost in US dollars; `None` if the price of the tokens is unknown.
    pub cost_usd: Option<f64>,
    /// Whether the cost of the tokens is reported by another signal later; until then they do not count as unpriced.
    pub price_follows: bool,
    /// Finished requests.
    pub requests: u64,
    /// Finished requests that failed.
    pub request_errors: u64,
    /// Rate-limited requests.
    pub rate_limit_hits: u64,
    /// Requests that were retried.
    pub retries: u64,
    /// When the last counted activity took place.
    pub active: Option<Time>,
    /// The last rate-limited request, and when it was sent.
    pub rate_limited: Option<(Time, RateLimitHit)>,
    /// When a request last succeeded.
    pub answered: Option<Time>,
    /// The latest state of each rate limit.
    pub rate_limits: Vec<RateLimit>,
    /// How full the model's context window is, 0 to 1, by the last item that reports it.
    pub context_window_ratio: Option<f64>,
    /// Durations of requests, with the bounds [`super::project::REQUEST_DURATION_BOUNDS`].
    pub durations: DurationHistogram,
    /// Finished tasks.
    pub tasks: Vec<EndedTask>,
}

/// A finished task, as reported by the agent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedTask {
    /// Whether it succeeded.
    pub is_done: bool,
    /// How long it took, if reported.
    pub took: Option<Duration>,
}

impl AgentTelemetry {
    /// Whether it reports used tokens or cost.
    pub fn has_usage(&self) -> bool {
        self.tokens.iter().any(|count| *count > 0) || self.cost_usd.is_some_and(|cost| cost > 0.0)
    }
}

/// A channel through which telemetry arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TelemetryChannel {
    /// OTLP's data points.
    Metrics,
    /// OTLP's spans.
    Traces,
    /// OTLP's log records and events.
    Logs,
    /// Calls posted by a proxy's callback.
    Callback,
}

impl TelemetryChannel {
    /// All channels.
    pub const ALL: [Self; 4] = [Self::Metrics, Self::Traces, Self::Logs, Self::Callback];

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Callback => "callback",
        }
    }
}

/// The channels through which the telemetry of one agent arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryChannels {
    /// The agent's project.
    pub project: Arc<str>,
    /// Its name.
    pub agent: Arc<str>,
    /// Which tool it is.
    pub agent_type: &'static str,
    /// Whether its name comes from the telemetry or from configuration, rather than from its service and host.
    pub is_named: bool,
    /// Whether it reported tokens without a session id.
    pub lacks_session: bool,
    /// What arrived through each, in the order of [`TelemetryChannel::ALL`].
    pub channels: [Option<ChannelStats>; TelemetryChannel::ALL.len()],
}

/// What arrived through one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelStats {
    /// When the last item arrived.
    pub last: Time,
    /// Data points, spans, log records or calls about the agent.
    pub items: u64,
    /// Whether they ever carried tokens, cost, and requests.
    pub brings: [bool; 3],
}
