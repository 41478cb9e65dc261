//! What became of an export: how many of its items were accepted, and how many were rejected for which reason.

use std::fmt::Write as _;

use crate::model::RejectReason;

/// What became of the data points, spans or log records of one export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOutcome {
    /// Items that were accepted.
    pub accepted: u64,
    /// Items that were rejected, by reason; each reason once, in the order in which it first occurred.
    rejected: Vec<(RejectReason, u64)>,
    /// Values inside accepted items that could not be decoded and were dropped.
    pub undecodable_values: u64,
}

impl ExportOutcome {
    /// An export of which all `accepted` items were accepted.
    pub const fn all_accepted(accepted: u64) -> Self {
        Self { accepted, rejected: Vec::new(), undecodable_values: 0 }
    }

    /// Counts one item.
    pub(crate) fn add(&mut self, result: Result<(), RejectReason>) {
        match result {
            Ok(()) => self.accepted += 1,
            Err(reason) => self.reject(reason, 1),
        }
    }

    /// Counts `count` rejected items.
    pub(crate) fn reject(&mut self, reason: RejectReason, count: usize) {
        if count == 0 {
            return;
        }
        match self.rejected.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += count as u64,
            None => self.rejected.push((reason, count as u64)),
        }
    }

    /// How many items were rejected, by reason; only reasons that occurred.
    pub fn rejected(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        self.rejected.iter().copied()
    }

    /// OTLP's partial success: how many items were rejected, and an error message; `None` when the export succeeded in
    /// full. Zero rejected items with a message are a warning.
    ///
    /// Duplicates are left out: their values were counted when they arrived first, so that nothing of them is lost.
    pub fn partial_success(&self) -> Option<(u64, String)> {
        let (mut lost, mut message) = (0, String::new());
        for (reason, count) in self.rejected().filter(|(reason, _)| *reason != RejectReason::Duplicate) {
            lost += count;
            let separator = if message.is_empty() { "" } else { "; " };
            // Writing into a string does not fail.
            if write!(message, "{separator}{count} rejected: {}", explanation(reason)).is_err() {
                break;
            }
        }
        if self.undecodable_values > 0 {
            let separator = if message.is_empty() { "" } else { "; " };
            message.push_str(separator);
            message.push_str(&format!("dropped {} values that could not be decoded", self.undecodable_values));
        }
        (!message.is_empty()).then_some((lost, message))
    }
}

/// The cause of a rejection and its remedy, for the sender.
const fn explanation(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::Duplicate => "already received",
        RejectReason::Stale => "older than the last point of their stream",
        RejectReason::Time => "timestamp more than a day in the future; set the sender's clock",
        RejectReason::Value => "no value, or one that is invalid for the metric's type",
        RejectReason::Buckets => "invalid histogram buckets, or other buckets than those of the series",
        RejectReason::Temporality => "aggregation temporality is neither delta nor cumulative",
        RejectReason::Name => "metric name without a letter or digit",
        RejectReason::Conflict => "metric name in use by a metric of another type; rename one of them",
        RejectReason::Labels => "more attributes than otlp.max_labels; drop some with otlp.drop_attributes",
        RejectReason::SeriesCap => {
            "over otlp.max_series or otlp.max_series_per_metric; drop attributes or raise the limit"
        }
        RejectReason::Malformed => "not a call, or more calls than one body may hold",
        // These are about whole bodies, or about pushes and polls; no item of an export is rejected for them.
        RejectReason::TooLarge
        | RejectReason::Busy
        | RejectReason::Status
        | RejectReason::Limit
        | RejectReason::UsageOwner
        | RejectReason::Late => reason.as_str(),
    }
}
