//! What came of an export: how much was taken, and why the rest was not.

use std::fmt::Write as _;

use crate::model::RejectReason;

/// Why a point was not taken: those [reasons](RejectReason) that are about one point, in the order in which senders are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was there already, or overlaps what was.
    Duplicate,
    /// It is older than what is known of its stream.
    Stale,
    /// It was measured in the future.
    Time,
    /// It is no number, or less than nothing of what only grows.
    Value,
    /// Its buckets make no histogram, or are others than those of its series.
    Buckets,
    /// Nothing says what it counts from.
    Temporality,
    /// Nothing of its metric's name can be kept.
    Name,
    /// Its metric's name stands for something else.
    Conflict,
    /// It has more labels than are kept.
    Labels,
    /// There are more series than are kept.
    SeriesCap,
    /// It is nothing that can be read.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Duplicate,
        Self::Stale,
        Self::Time,
        Self::Value,
        Self::Buckets,
        Self::Temporality,
        Self::Name,
        Self::Conflict,
        Self::Labels,
        Self::SeriesCap,
        Self::Malformed,
    ];

    /// What a sender is told.
    const fn advice(self) -> &'static str {
        match self {
            Self::Duplicate => "sent before",
            Self::Stale => "older than what is known of their streams",
            Self::Time => "more than a day in the future; set the sender's clock",
            Self::Value => "without a value that their kind can have",
            Self::Buckets => "with buckets that make no histogram or differ from their series' ones",
            Self::Temporality => "of neither delta nor cumulative temporality",
            Self::Name => "of metrics whose name has no letter or digit",
            Self::Conflict => "of metrics whose name is taken by another kind; rename one of them",
            Self::Labels => "with more labels than otlp.max_labels; drop some with otlp.drop_attributes",
            Self::Malformed => "that are no calls, or too many for one body",
            Self::SeriesCap => "over otlp.max_series or otlp.max_series_per_metric; drop attributes or raise the cap",
        }
    }
}

impl From<Reason> for RejectReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Duplicate => Self::Duplicate,
            Reason::Stale => Self::Stale,
            Reason::Time => Self::Time,
            Reason::Value => Self::Value,
            Reason::Buckets => Self::Buckets,
            Reason::Temporality => Self::Temporality,
            Reason::Name => Self::Name,
            Reason::Conflict => Self::Conflict,
            Reason::Labels => Self::Labels,
            Reason::SeriesCap => Self::SeriesCap,
            Reason::Malformed => Self::Malformed,
        }
    }
}

/// What came of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Points, spans or records taken.
    pub accepted: u64,
    /// Those that were not, by reason.
    rejected: [u64; Reason::ALL.len()],
    /// Values of those that were, which could not be read.
    pub unread: u64,
}

impl Taken {
    /// So much was taken.
    pub const fn all(accepted: u64) -> Self {
        Self { accepted, rejected: [0; Reason::ALL.len()], unread: 0 }
    }

    pub(crate) fn add(&mut self, result: Result<(), Reason>) {
        match result {
            Ok(()) => self.accepted += 1,
            Err(reason) => self.reject(reason, 1),
        }
    }

    pub(crate) fn reject(&mut self, reason: Reason, count: usize) {
        if let Some(place) = self.rejected.get_mut(reason as usize) {
            *place += count as u64;
        }
    }

    /// How many were not taken, by reason; only reasons that occurred.
    pub fn rejected(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.rejected).filter(|(_, count)| *count > 0)
    }

    /// The answer: how many were lost, and why; with none lost it is a warning. What was sent before is not lost.
    pub fn partial(&self) -> Option<(u64, String)> {
        let (mut lost, mut message) = (0, String::new());
        for (reason, count) in self.rejected().filter(|(reason, _)| *reason != Reason::Duplicate) {
            lost += count;
            let separator = if message.is_empty() { "" } else { "; " };
            // Writing into a string does not fail.
            if write!(message, "{separator}{count} {}", reason.advice()).is_err() {
                break;
            }
        }
        if self.unread > 0 {
            let separator = if message.is_empty() { "" } else { "; " };
            message.push_str(separator);
            message.push_str(&format!("{} values that could not be read were left out", self.unread));
        }
        (!message.is_empty()).then_some((lost, message))
    }
}
