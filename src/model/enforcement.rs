//! What an agent is told that has used up a budget which stops it.
//!
//! Owns which budget it was and the words for it. Refuses to decide who is stopped, and how a tool is told.

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

    /// Why an agent stands still that was stopped for it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TokensPerTask => "stopped by lookout: over its budget of tokens for this task",
            Self::TokensPerDay => "stopped by lookout: over its budget of tokens for today",
            Self::CostUsdPerDay => "stopped by lookout: over its budget of money for today",
        }
    }
}

/// That an agent is told to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// What it has used up.
    pub budget: Budget,
    /// Tells the task or day and its limit from others, so that each is told of once.
    pub about: u64,
    /// What it did: `used 212000 of its 200000 tokens for this task (budgets.tokens_per_task)`.
    pub why: Arc<str>,
}
