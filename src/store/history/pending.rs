//! What waits to be written, merged so that it is written once.

use std::sync::Arc;

use super::limit::RateLimit;
use super::rows::subject;
use super::{Message, Reply, Save, USAGE_IDS, UsageBody};
use crate::model::{ClosedAlert, CountingState, Decision, HistoryRow};

/// Rows kept for a disk that fails; the oldest go first.
const BACKLOG: usize = 65_536;

/// Everything that the next transaction writes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) rows: Vec<HistoryRow>,
    pub(super) closed: Vec<ClosedAlert>,
    pub(super) decisions: Vec<Decision>,
    pub(super) save: Option<Save>,
    pub(super) usage: Vec<UsageBody>,
    /// What counting telemetry remembered before [`Pending::save`].
    pub(super) counting: CountingState,
    limit: RateLimit,
    /// Rows that [`RateLimit`] left out since somebody counted them.
    pub(super) rate_limited: usize,
    /// Who waits for the transaction.
    pub(super) replies: Vec<Reply>,
    pub(super) close: Option<Reply>,
}

impl Pending {
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Rows(mut rows) => {
                let count = rows.len();
                rows.retain(|row| self.limit.admits(row.at, subject(&row.project, &row.name)));
                self.rate_limited += count - rows.len();
                if self.rows.is_empty() { self.rows = rows } else { self.rows.extend(rows) }
            }
            Message::Closed(closed) => {
                let alert = &closed.alert;
                if self.limit.admits(alert.changed_at, alert.fingerprint.0.cast_signed()) {
                    self.closed.push(*closed);
                } else {
                    self.rate_limited += 1;
                }
            }
            Message::Decisions(decisions) => self.decisions.extend(decisions),
            Message::Usage(body, reply) => {
                self.usage.push(body);
                self.replies.push(reply);
            }
            Message::CountingState(counting, reply) => {
                self.counting.merge(*counting);
                self.replies.push(reply);
            }
            Message::Save(save, permit) => {
                // What failed to be logged is in the save now.
                self.usage.retain(|body| body.seq > save.usage_through);
                match &mut self.save {
                    Some(earlier) => earlier.merge(*save),
                    None => self.save = Some(*save),
                }
                // One snapshot is held here whatever comes, so that the next save may queue.
                drop(permit);
            }
            Message::Flush(reply) => self.replies.push(reply),
            Message::Close(reply) => self.close = Some(reply),
        }
    }

    /// Whether somebody waits, so that no more should be gathered.
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

    /// Cuts what a failing disk left here and returns how many rows went.
    pub(super) fn trim(&mut self) -> usize {
        let rows = self.rows.len().saturating_sub(BACKLOG);
        self.rows.drain(..rows);
        let closed = self.closed.len().saturating_sub(BACKLOG / 16);
        self.closed.drain(..closed);
        let decisions = self.decisions.len().saturating_sub(BACKLOG);
        self.decisions.drain(..decisions);
        rows + closed + decisions
    }
}

impl Save {
    /// Adds a later save: rows are made from the later snapshot, whichever of the two named them.
    /// Removals come before rows, so that what is gone and back is there.
    pub fn merge(&mut self, later: Self) {
        self.snapshot = Arc::clone(&later.snapshot);
        for (slots, more) in [
            (&mut self.agents, later.agents),
            (&mut self.components, later.components),
            (&mut self.projects, later.projects),
        ] {
            slots.extend(more);
            slots.sort_unstable();
            slots.dedup();
        }
        // Removals come before rows: one of an agent that is gone since would stay for good.
        later.removed_agents.iter().for_each(|name| drop(self.windows.remove(name)));
        for (removed, more) in
            [(&mut self.removed_agents, later.removed_agents), (&mut self.removed_components, later.removed_components)]
        {
            removed.extend(more);
            removed.sort_unstable();
            removed.dedup();
        }
        self.usage_through = self.usage_through.max(later.usage_through);
        self.usage_ids.extend(later.usage_ids);
        let old = self.usage_ids.len().saturating_sub(USAGE_IDS);
        self.usage_ids.drain(..old);
        self.counting.merge(later.counting);
        self.windows.extend(later.windows);
    }
}
