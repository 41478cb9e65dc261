//! A polled source and the health of its polls.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Time;

/// Why a poll failed, as in the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceErrorReason {
    /// The connection failed.
    Connect,
    /// The request timed out.
    Timeout,
    /// The HTTP status is not a success.
    Status,
    /// The body is larger than the limit.
    TooLarge,
    /// The body cannot be parsed.
    Malformed,
    /// The body reports an error.
    Upstream,
    /// A secret of the source cannot be read.
    Secret,
}

impl SourceErrorReason {
    /// All reasons.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Timeout, Self::Status, Self::TooLarge, Self::Malformed, Self::Upstream, Self::Secret];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Upstream => "upstream",
            Self::Secret => "secret",
        }
    }
}

/// A poll that failed.
#[derive(Clone, Debug)]
pub struct SourceError {
    /// The reason.
    pub reason: SourceErrorReason,
    /// The error as text, without secrets.
    pub message: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}

/// The state of one polled source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// `orchestrator-cc`, `http-json`.
    pub kind: &'static str,
    /// Whether the last poll succeeded; `None` before the first.
    pub up: Option<bool>,
    /// Since when polls have failed.
    pub failing_since: Option<Time>,
    /// When a poll last succeeded.
    pub last_success: Option<Time>,
    /// The last error.
    pub last_error: Option<Arc<str>>,
    /// Failed polls, in the order of [`SourceErrorReason::ALL`].
    pub errors: [u64; 7],
}
