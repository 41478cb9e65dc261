//! How the sidecar itself is, as far as rules can look at it: its receivers, its clockwork and its store.

use std::sync::Arc;

use super::{Subject, Time};

/// One part of the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub enum SidecarPart {
    /// A receiver.
    Receiver(ReceiverHealth),
    /// The sidecar as a whole.
    Sidecar(SidecarHealth),
}

/// How deliveries to one receiver go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverHealth {
    /// Its name.
    pub name: Arc<str>,
    /// Since when the oldest alert waits that it is owed.
    pub oldest_undelivered: Option<Time>,
    /// Since when it has taken no message.
    pub failing_since: Option<Time>,
    /// Alerts that it refused for good since it last took one.
    pub given_up: u32,
}

/// How the clockwork and the store are.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarHealth {
    /// The sidecar's name.
    pub name: Arc<str>,
    /// How late rules are evaluated.
    pub lag_seconds: f64,
    /// Since when the store can't be written.
    pub store_failing_since: Option<Time>,
}

impl SidecarPart {
    /// The part as a subject of rules.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Receiver(receiver) => Subject::Receiver { name: Arc::clone(&receiver.name) },
            Self::Sidecar(sidecar) => Subject::Sidecar { name: Arc::clone(&sidecar.name) },
        }
    }
}
