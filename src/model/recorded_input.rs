//! Input as a recording stores it and `replay` and `test rules` feed it: bodies as they arrived, before decoding.

use std::sync::Arc;

use bytes::Bytes;

use super::{Fingerprint, Hook, RunSummary, Silence, SourceError};

/// One input.
#[derive(Clone, Debug)]
pub enum RecordedInput {
    /// The body of `POST /api/state`.
    State(Bytes),
    /// The body of `POST /api/usage`.
    Usage(Bytes),
    /// The body of `POST /api/metrics`.
    Metrics(Bytes),
    /// A decoded hook.
    Hook(Hook),
    /// The outcome of a poll.
    Poll {
        /// The source's name.
        source: Arc<str>,
        /// What it reported, as bodies of `POST /api/state`, one per project; or why the poll failed.
        result: Result<Vec<String>, SourceError>,
    },
    /// Runs that began or ended.
    Runs(Vec<RunSummary>),
    /// A silence that was created or changed.
    Silence(Silence),
    /// A silence that was expired early.
    Unsilence {
        /// Its id.
        id: Arc<str>,
        /// Who expired it.
        by: Arc<str>,
    },
    /// An acknowledgement of an alert.
    Ack {
        /// The alert.
        fingerprint: Fingerprint,
        /// Its author.
        by: Arc<str>,
        /// Its comment; may be empty.
        comment: Arc<str>,
    },
}
