//! Pending writes of history, merged so that each row is written once.

use super::rate_limit::SubjectRateLimit;
use super::rows::subject;
use super::{HistoryMessage, PendingSave, UsageBody, WriteReply};
use crate::model::{ClosedAlert, CountingState, HistoryRow, TimelineEntry};

/// Maximum number of pending rows of each kind while writes fail; the oldest are dropped first.
const MAX_PENDING: usize = 65_536;

/// Everything that the next transaction writes.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    pub(super) rows: Vec<HistoryRow>,
    pub(super) closed: Vec<ClosedAlert>,
    pub(super) decisions: Vec<TimelineEntry>,
    pub(super) save: Option<Box<PendingSave>>,
    pub(super) usage: Vec<UsageBody>,
    /// Counting state that is newer than [`PendingWrites::save`].
    pub(super) counting: CountingState,
    limit: SubjectRateLimit,
    /// Number of rows that [`SubjectRateLimit`] dropped since the last count.
    pub(super) rate_limited: usize,
    /// Callers that wait for the transaction.
    pub(super) replies: Vec<WriteReply>,
    pub(super) close: Option<WriteReply>,
}

impl PendingWrites {
    pub(super) fn add(&mut self, message: HistoryMessage) {
        match message {
            HistoryMessage::Rows(mut rows) => {
                let count = rows.len();
                rows.retain(|row| self.limit.admits(row.at, subject(&row.project, &row.name)));
                self.rate_limited += count - rows.len();
                if self.rows.is_empty() { self.rows = rows } else { self.rows.extend(rows) }
            }
            HistoryMessage::Closed(closed) => {
                let alert = &closed.alert;
                if self.limit.admits(alert.changed_at, alert.fingerprint.0.cast_signed()) {
                    self.closed.push(*closed);
                } else {
                    self.rate_limited += 1;
                }
            }
            HistoryMessage::Decisions(decisions) => self.decisions.extend(decisions),
            HistoryMessage::Usage(body, reply) => {
                self.usage.push(body);
                self.replies.push(reply);
            }
            HistoryMessage::CountingState(counting, reply) => {
                self.counting.merge(*counting);
                self.replies.push(reply);
            }
            HistoryMessage::Save(pending) => {
                // The save includes the effect of earlier bodies.
                self.usage.retain(|body| body.seq > pending.save.usage_through);
                self.save = Some(pending);
            }
            HistoryMessage::Flush(reply) => self.replies.push(reply),
            HistoryMessage::Close(reply) => self.close = Some(reply),
        }
    }

    /// Whether a caller waits, so that batching should end.
    pub(super) fn is_urgent(&self) -> bool {
        self.close.is_some() || !self.replies.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.closed.is_empty()
            && self.decisions.is_empty()
            && self.save.is_none()
            && self.usage.is_empty()
            && self.counting.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.closed.clear();
        self.decisions.clear();
        self.save = None;
        self.usage.clear();
        self.counting = CountingState::default();
    }

    /// Drops the oldest rows beyond [`MAX_PENDING`] and returns how many were dropped.
    pub(super) fn trim(&mut self) -> usize {
        let rows = self.rows.len().saturating_sub(MAX_PENDING);
        self.rows.drain(..rows);
        let closed = self.closed.len().saturating_sub(MAX_PENDING / 16);
        self.closed.drain(..closed);
        let decisions = self.decisions.len().saturating_sub(MAX_PENDING);
        self.decisions.drain(..decisions);
        rows + closed + decisions
    }
}
