//! Silences and acknowledgements, with their authors.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Level, Matchers, Time};

/// Suppresses notifications of the alerts that it matches while it is active, except resolves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id, generated when it was created.
    pub id: Arc<str>,
    /// Which alerts it matches.
    pub matchers: Matchers,
    /// When it starts.
    pub starts_at: Time,
    /// When it expires.
    pub ends_at: Time,
    /// Who created it.
    pub created_by: Arc<str>,
    /// Why; may be empty.
    pub comment: Arc<str>,
}

impl Silence {
    /// Whether it is active at `now`.
    pub fn is_active(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

/// An acknowledgement: the alert is not repeated until it escalates. Ends with the alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// Who.
    pub by: Arc<str>,
    /// Their comment; may be empty.
    pub comment: Arc<str>,
    /// When.
    pub at: Time,
    /// The alert's level then: higher levels are notified.
    pub level: Level,
}
