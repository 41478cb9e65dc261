//! Events: what changed, as typed data and as the bytes that all viewers share.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Fingerprint, Level, TraceId};

/// The kinds of events. The set is closed: a new kind is a variant here, and an arm in the modules that match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// An agent that changed or left.
    Status,
    /// Totals of the fleet.
    Metrics,
    /// An alert that changed.
    Alert,
    /// A run that began or ended.
    Run,
    /// Of the page: an agent as a row or a square.
    Row,
    /// Of the page: a part of it.
    Part,
    /// Events are missing: everything is to be fetched again.
    Resync,
}

impl EventKind {
    /// The kinds that a viewer can choose; `resync` is always sent.
    pub(super) const CHOICES: [Self; 4] = [Self::Status, Self::Metrics, Self::Alert, Self::Run];

    /// The name in `event:` and in the parameter `events`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Metrics => "metrics",
            Self::Alert => "alert",
            Self::Run => "run",
            Self::Row => "row",
            Self::Part => "part",
            Self::Resync => "resync",
        }
    }
}

/// What an event is about: for filters, and for those that render it in another form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EventTarget {
    /// An agent.
    Agent {
        /// Its project.
        project: Arc<str>,
        /// Its name.
        name: Arc<str>,
        /// Whether it left.
        is_removed: bool,
    },
    /// The totals of the fleet.
    Fleet,
    /// An alert.
    Alert {
        /// Which.
        fingerprint: Fingerprint,
        /// Its level, and the one of its last event.
        levels: [Level; 2],
        /// Its project; a source has none.
        project: Option<Arc<str>>,
        /// The agent it is about.
        agent: Option<Arc<str>>,
    },
    /// A run.
    Run {
        /// Which.
        id: TraceId,
        /// The project of its agent.
        project: Arc<str>,
        /// Its agent.
        agent: Arc<str>,
    },
    /// An agent on the page.
    Row,
    /// A part of the page.
    Part,
    /// Something that pages with more about it than rows load again.
    Hint(EventKind),
    /// Everything.
    All,
}

impl EventTarget {
    /// The kind of events about it.
    pub(super) const fn kind(&self) -> EventKind {
        match self {
            Self::Agent { .. } => EventKind::Status,
            Self::Fleet => EventKind::Metrics,
            Self::Alert { .. } => EventKind::Alert,
            Self::Run { .. } => EventKind::Run,
            Self::Row => EventKind::Row,
            Self::Part => EventKind::Part,
            Self::Hint(kind) => *kind,
            Self::All => EventKind::Resync,
        }
    }
}

/// An event, once for all viewers.
#[derive(Clone, Debug)]
pub(super) struct StreamEvent {
    /// What it is about.
    pub(super) target: EventTarget,
    /// Its text, as it is sent.
    pub(super) frame: Bytes,
}

/// The text of an event. Data of several lines becomes several `data:` lines, so that no data can end the event.
pub(super) fn frame(id: impl std::fmt::Display, kind: EventKind, data: &str) -> Bytes {
    let mut text = String::with_capacity(data.len() + 96);
    // Writing into a string does not fail.
    write!(text, "id: {id}\nevent: {}\n", kind.as_str()).unwrap_or_default();
    for line in data.split(['\n', '\r']) {
        text.extend(["data: ", line, "\n"]);
    }
    text.push('\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_ends_an_event() {
        for (data, expected) in [
            ("{}", "id: s-1\nevent: run\ndata: {}\n\n"),
            ("a\n\nevent: x\rid: 9", "id: s-1\nevent: run\ndata: a\ndata: \ndata: event: x\ndata: id: 9\n\n"),
        ] {
            assert_eq!(frame("s-1", EventKind::Run, data), expected);
        }
    }
}
