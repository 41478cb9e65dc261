//! Quiet on purpose: silences and acknowledgements, always with who wants it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Level, Matchers, Time};

/// Nobody is told of the alerts that it covers while it lasts; what was told is told over all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name, made when it began.
    pub id: Arc<str>,
    /// Which alerts it covers.
    pub matchers: Matchers,
    /// From when.
    pub starts_at: Time,
    /// Until when.
    pub ends_at: Time,
    /// Who wants it.
    pub created_by: Arc<str>,
    /// Why; may be empty.
    pub comment: Arc<str>,
}

impl Silence {
    /// Whether it lasts at `now`.
    pub fn is_active(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

/// Somebody looks after an alert: it is not said again until it gets worse. Ends with the alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// Who.
    pub by: Arc<str>,
    /// What they said; may be empty.
    pub comment: Arc<str>,
    /// When.
    pub at: Time,
    /// The alert's level then: what is worse is told.
    pub level: Level,
}
