//! What a rule can look at, and sets of it.

use serde::{Deserialize, Serialize};

/// Something about a subject that has a value and can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Seconds since the agent's last activity.
    IdleSeconds,
    /// Seconds since the agent was last heard, once its promised rhythm is over.
    StaleSeconds,
    /// Restarts of the agent.
    Restarts,
    /// The agent's status.
    Status,
    /// Seconds that the open task has taken while starting or running.
    TaskSeconds,
    /// Progress of the task, 0 to 1.
    Progress,
    /// Tokens of all types.
    Tokens,
    /// Cost in US dollars.
    CostUsd,
    /// Used part of the task's token budget.
    TaskBudgetRatio,
    /// Used part of the day's token budget.
    DayBudgetRatio,
    /// Used part of the day's cost budget.
    DayCostRatio,
    /// Seconds until the day's token budget is used up at the present pace.
    DayBudgetGoneInSeconds,
    /// Seconds until the day's cost budget is used up at the present pace.
    DayCostGoneInSeconds,
    /// Tokens per minute of the last five minutes, in multiples of the agent's own norm.
    TokenVelocityRatio,
    /// Tokens since the agent's progress, phase or task last changed.
    TokensSinceProgress,
    /// How often in a row the agent failed with the same error.
    SameErrorCount,
    /// Tokens since the agent said that it does not work.
    IdleSpendingTokens,
    /// Requests to a model.
    Requests,
    /// Requests that ended in an error.
    RequestErrors,
    /// Requests refused for a rate limit.
    RateLimitHits,
    /// Requests sent again.
    Retries,
    /// Agents down: in a project a number, of one agent 0 or 1.
    AgentsDown,
    /// Agents that a rate limit holds up: in a project a number, of one agent 0 or 1.
    AgentsLimited,
    /// Seconds for which an expected agent, or enough of them, is missing.
    AgentsMissing,
    /// A component's status.
    ComponentStatus,
    /// A project's health.
    ClusterHealth,
    /// Seconds for which polls of a source have failed.
    SourceFailingSeconds,
    /// Seconds for which a receiver has taken no message.
    ReceiverFailingSeconds,
    /// Age in seconds of the oldest alert that a receiver is owed.
    UndeliveredSeconds,
    /// Alerts that a receiver refused for good since it last took one.
    GivenUp,
    /// Seconds by which alerts are judged too late.
    LagSeconds,
    /// Seconds for which the store could not be written.
    StoreFailingSeconds,
}

impl Signal {
    /// All signals.
    pub const ALL: [Self; 32] = [
        Self::IdleSeconds,
        Self::StaleSeconds,
        Self::Restarts,
        Self::Status,
        Self::TaskSeconds,
        Self::Progress,
        Self::Tokens,
        Self::CostUsd,
        Self::TaskBudgetRatio,
        Self::DayBudgetRatio,
        Self::DayCostRatio,
        Self::DayBudgetGoneInSeconds,
        Self::DayCostGoneInSeconds,
        Self::TokenVelocityRatio,
        Self::TokensSinceProgress,
        Self::SameErrorCount,
        Self::IdleSpendingTokens,
        Self::Requests,
        Self::RequestErrors,
        Self::RateLimitHits,
        Self::Retries,
        Self::AgentsDown,
        Self::AgentsLimited,
        Self::AgentsMissing,
        Self::ComponentStatus,
        Self::ClusterHealth,
        Self::SourceFailingSeconds,
        Self::ReceiverFailingSeconds,
        Self::UndeliveredSeconds,
        Self::GivenUp,
        Self::LagSeconds,
        Self::StoreFailingSeconds,
    ];

    /// The word for it, as a rule file has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::IdleSeconds => "idle_seconds",
            Self::StaleSeconds => "stale_seconds",
            Self::Restarts => "restarts",
            Self::Status => "status",
            Self::TaskSeconds => "task_seconds",
            Self::Progress => "progress",
            Self::Tokens => "tokens",
            Self::CostUsd => "cost_usd",
            Self::TaskBudgetRatio => "task_budget_ratio",
            Self::DayBudgetRatio => "day_budget_ratio",
            Self::DayCostRatio => "day_cost_ratio",
            Self::DayBudgetGoneInSeconds => "day_budget_gone_in_seconds",
            Self::DayCostGoneInSeconds => "day_cost_gone_in_seconds",
            Self::TokenVelocityRatio => "token_velocity_ratio",
            Self::TokensSinceProgress => "tokens_since_progress",
            Self::SameErrorCount => "same_error_count",
            Self::IdleSpendingTokens => "idle_spending_tokens",
            Self::Requests => "requests",
            Self::RequestErrors => "request_errors",
            Self::RateLimitHits => "rate_limit_hits",
            Self::Retries => "retries",
            Self::AgentsDown => "agents_down",
            Self::AgentsLimited => "agents_limited",
            Self::AgentsMissing => "agents_missing",
            Self::ComponentStatus => "component_status",
            Self::ClusterHealth => "cluster_health",
            Self::SourceFailingSeconds => "source_failing_seconds",
            Self::ReceiverFailingSeconds => "receiver_failing_seconds",
            Self::UndeliveredSeconds => "undelivered_seconds",
            Self::GivenUp => "given_up",
            Self::LagSeconds => "lag_seconds",
            Self::StoreFailingSeconds => "store_failing_seconds",
        }
    }
}

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals(u32);

impl Signals {
    /// No signal.
    pub const NONE: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u32::MAX);

    /// This set and `signal`.
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << signal as u32)
    }

    /// This set and all of `other`.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Adds `signal`.
    pub const fn insert(&mut self, signal: Signal) {
        self.0 |= 1 << signal as u32;
    }

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u32) != 0
    }

    /// Whether the two have a signal in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
