//! What readers see: one immutable picture of fleet, alerts and receivers.

use std::sync::Arc;

use serde::Serialize;

use crate::model::{AlertState, Fingerprint, Level, Snapshot, Time, alert::AlertCounts};

/// Everything that a scrape or an answer is made of, at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The fleet.
    pub fleet: Arc<Snapshot>,
    /// How many alerts there are.
    pub alerts: AlertCounts,
    /// The receivers and what they wait for.
    pub receivers: Vec<ReceiverView>,
    /// How late the oldest unserved deadline is, in seconds.
    pub lag_seconds: f64,
    /// Whether the ledger can be written.
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

/// An alert as `/api/alerts` shows it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct AlertView {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// The rule's name.
    pub rule: Arc<str>,
    /// Its level.
    pub level: Level,
    /// Where it is in its life.
    pub state: AlertState,
    /// Its project; a source has none.
    pub project: Option<Arc<str>>,
    /// The agent it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<Arc<str>>,
    /// The component it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Arc<str>>,
    /// The source it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Arc<str>>,
    /// The receiver it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Arc<str>>,
    /// The sidecar, when it is about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<Arc<str>>,
    /// The value last seen.
    pub value: Option<f64>,
    /// The threshold it broke.
    pub threshold: Option<f64>,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub action: String,
    /// When the rule was first broken, RFC 3339.
    pub started_at: String,
    /// When it began to fire, RFC 3339.
    pub fired_at: Option<String>,
    /// When it was over, RFC 3339.
    pub resolved_at: Option<String>,
    /// Unix seconds of the last change.
    pub timestamp: f64,
    /// Whether it is over.
    pub resolved: bool,
    /// Whether its value is unknown at present.
    pub no_data: bool,
    /// The rule whose alert explains it, so that nobody is told.
    pub explained_by: Option<Arc<str>>,
    /// Who acknowledged it.
    pub acked_by: Option<String>,
    /// The silence that covers it.
    pub silenced_by: Option<String>,
}

/// RFC 3339 of an optional time.
pub fn rfc3339(time: Option<Time>) -> Option<String> {
    time.map(|time| time.to_string())
}
