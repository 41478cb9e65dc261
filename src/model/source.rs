//! A place that state comes from, and how polling it goes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Time;

/// Why a poll failed, as a closed set for the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceErrorReason {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// An HTTP status that is no success.
    Status,
    /// A body larger than the limit.
    TooLarge,
    /// A body that can't be read.
    Malformed,
    /// A body that says it is an error.
    Upstream,
    /// A secret of the source that can't be read.
    Secret,
}

impl SourceErrorReason {
    /// All reasons.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Timeout, Self::Status, Self::TooLarge, Self::Malformed, Self::Upstream, Self::Secret];

    /// The word for it.
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
    /// Why, as a label.
    pub reason: SourceErrorReason,
    /// Why, in words, without secrets.
    pub message: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}

/// A polled source as it stands.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// `orchestrator-cc`, `http-json`.
    pub kind: &'static str,
    /// Whether the last poll succeeded; `None` before the first one ended.
    pub up: Option<bool>,
    /// Since when polls fail.
    pub failing_since: Option<Time>,
    /// When a poll last succeeded.
    pub last_success: Option<Time>,
    /// What the last failed poll said.
    pub last_error: Option<Arc<str>>,
    /// Failed polls, in the order of [`SourceErrorReason::ALL`].
    pub errors: [u64; 7],
}
