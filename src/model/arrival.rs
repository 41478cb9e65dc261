//! State as it arrived, before anybody read it: what a recording keeps and a trial is fed with.

use std::sync::Arc;

use bytes::Bytes;

use super::SourceError;

/// Something that arrived.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// The body of `POST /api/state`.
    State(Bytes),
    /// The body of `POST /api/usage`.
    Usage(Bytes),
    /// The outcome of a poll.
    Poll {
        /// The source's name.
        source: Arc<str>,
        /// What it reported, as bodies of `POST /api/state`, one for each project; or why there is nothing.
        result: Result<Vec<String>, SourceError>,
    },
}
