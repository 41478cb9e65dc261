//! What readers see: one immutable view of fleet, alerts and receivers.

use std::sync::Arc;

use serde::Serialize;

use crate::model::{AlertCounts, Snapshot};

/// Everything that a scrape or an API answer is rendered from, at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The fleet.
    pub fleet: Arc<Snapshot>,
    /// The number of firing alerts, and totals.
    pub alerts: AlertCounts,
    /// The receivers and their pending notices.
    pub receivers: Vec<ReceiverView>,
    /// How late the last deadline was served, in seconds.
    pub lag_seconds: f64,
    /// Whether ledger and history are writable.
    pub store_ok: bool,
}

/// A receiver as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ReceiverView {
    /// Its name.
    pub name: Arc<str>,
    /// Pending notices.
    pub pending: usize,
    /// The age of the oldest of them in seconds.
    pub oldest_age_seconds: f64,
    /// The error of the last failed delivery; `None` once one succeeded.
    pub last_error: Option<String>,
}
