//! What arrived, state before anybody read it: what a recording keeps and a trial is fed with.

use std::sync::Arc;

use bytes::Bytes;

use super::{Fingerprint, Hook, Silence, SourceError};

/// Something that arrived.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// The body of `POST /api/state`.
    State(Bytes),
    /// The body of `POST /api/usage`.
    Usage(Bytes),
    /// A hook, as far as it was understood.
    Hook(Hook),
    /// The outcome of a poll.
    Poll {
        /// The source's name.
        source: Arc<str>,
        /// What it reported, as bodies of `POST /api/state`, one for each project; or why there is nothing.
        result: Result<Vec<String>, SourceError>,
    },
    /// A silence that began, or was changed.
    Silence(Silence),
    /// A silence that was ended.
    Unsilence {
        /// Which.
        id: Arc<str>,
        /// By whom.
        by: Arc<str>,
    },
    /// Somebody looks after an alert.
    Ack {
        /// Which.
        fingerprint: Fingerprint,
        /// Who.
        by: Arc<str>,
        /// What they said; may be empty.
        comment: Arc<str>,
    },
}
