//! That a rate limit holds an agent up: since when, and until when as far as anybody said.
//!
//! A request that is answered ends it, and so does time. Refuses to guess an end: where nobody tells one, it is over
//! when no request was refused for as long as the built-in rule RateLimited looks back.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// So long after the last refusal a limit counts as over whose end nobody told.
const UNTOLD: Duration = Duration::from_secs(600);

/// A refused request, or what a provider said of a limit that has nothing left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitHit {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// When requests are taken again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// A limit that holds an agent up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRateLimit {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Since when.
    pub since: Time,
    /// When it ends, as the provider said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// When a request was last refused, or said to be.
    pub refused_at: Time,
    /// Whether it ended the agent's run: then the agent is rate-limited and not down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_run: bool,
}

impl ActiveRateLimit {
    /// When it is over, unless something is heard before.
    pub fn ends(&self) -> Time {
        self.until.unwrap_or_else(|| self.refused_at.plus(UNTOLD))
    }
}
