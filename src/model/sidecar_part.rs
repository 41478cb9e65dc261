//! The health of lookout itself, as rules evaluate it: its receivers, its evaluation loop and its store.

use std::sync::Arc;

use super::{Subject, Time};

/// A part of the sidecar that rules can be evaluated for.
#[derive(Clone, Debug, PartialEq)]
pub enum SidecarPart {
    /// A receiver.
    Receiver(ReceiverHealth),
    /// The sidecar as a whole.
    Sidecar(SidecarHealth),
}

/// The health of deliveries to one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverHealth {
    /// Its name.
    pub name: Arc<str>,
    /// Since when the oldest undelivered alert waits.
    pub oldest_undelivered: Option<Time>,
    /// Since when all deliveries have failed.
    pub failing_since: Option<Time>,
    /// Alerts dead-lettered since the last successful delivery.
    pub dead_lettered: u32,
}

/// The health of the evaluation loop and the store.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarHealth {
    /// The sidecar's name.
    pub name: Arc<str>,
    /// By how many seconds rules are evaluated late.
    pub lag_seconds: f64,
    /// Since when the store has not been writable.
    pub store_failing_since: Option<Time>,
    /// Since when the oldest batch waits to be exported.
    pub export_waiting_since: Option<Time>,
}

impl SidecarPart {
    /// The subject of alerts about this part.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Receiver(receiver) => Subject::Receiver { name: Arc::clone(&receiver.name) },
            Self::Sidecar(sidecar) => Subject::Sidecar { name: Arc::clone(&sidecar.name) },
        }
    }
}
