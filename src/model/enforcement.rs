//! Budgets with `action: stop`, and the stop order for an agent that has used one up.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Tokens of a task.
    TokensPerTask,
    /// Tokens of a day.
    TokensPerDay,
    /// US dollars of a day.
    CostUsdPerDay,
}

impl Budget {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TokensPerTask, Self::TokensPerDay, Self::CostUsdPerDay];

    /// Its key beneath `budgets`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerTask => "tokens_per_task",
            Self::TokensPerDay => "tokens_per_day",
            Self::CostUsdPerDay => "cost_usd_per_day",
        }
    }

    /// The status reason of an agent that was stopped because of it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TokensPerTask => "stopped by lookout: over its budget of tokens for this task",
            Self::TokensPerDay => "stopped by lookout: over its budget of tokens for today",
            Self::CostUsdPerDay => "stopped by lookout: over its budget of money for today",
        }
    }
}

/// An order to an agent to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The budget that is used up.
    pub budget: Budget,
    /// A digest of task or day and limit, so that each is announced once.
    pub about: u64,
    /// Its reason, like `used 212000 of its 200000 tokens for this task (budgets.tokens_per_task)`.
    pub why: Arc<str>,
}
