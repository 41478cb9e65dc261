//! A rate limit in effect for an agent: since when, and until when if the provider reports that.
//!
//! It ends with the first successful request, or at its end. If no end was reported, it ends when no request was
//! rate-limited for the window of the built-in rule RateLimited.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// How long after the last rate-limited request a limit without a reported end is taken to last.
const DEFAULT_DURATION: Duration = Duration::from_secs(600);

/// A rate-limited request, or a report of a limit of which nothing remains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitHit {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// When the limit ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// A rate limit in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRateLimit {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Since when it is in effect.
    pub since: Time,
    /// When it ends, as last reported by the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// When a request was last rate-limited, or reported to be.
    pub last_hit_at: Time,
    /// Whether it ended the agent's run; while it lasts, such an agent is rate-limited and not down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_run: bool,
}

impl ActiveRateLimit {
    /// When it ends, unless a request succeeds before.
    pub fn ends(&self) -> Time {
        self.until.unwrap_or_else(|| self.last_hit_at.plus(DEFAULT_DURATION))
    }
}
