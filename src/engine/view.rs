//! What readers see: one immutable picture of fleet, alerts and receivers.

use std::sync::Arc;

use serde::Serialize;

use crate::model::{AlertCounts, Snapshot};

/// Everything that a scrape or an answer is made of, at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The fleet.
    pub fleet: Arc<Snapshot>,
    /// How many alerts there are.
    pub alerts: AlertCounts,
    /// The receivers and what they wait for.
    pub receivers: Vec<ReceiverView>,
    /// How late the last deadline was served, in seconds.
    pub lag_seconds: f64,
    /// Whether the ledger and history can be written.
    pub store_ok: bool,
}

/// A receiver as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiverView {
    /// Its name.
    pub name: Arc<str>,
    /// Notices that wait for it.
    pub pending: usize,
    /// The age of the oldest of them in seconds.
    pub oldest_age_seconds: f64,
    /// What the last failed send said; `None` once a send succeeded.
    pub last_error: Option<String>,
}
