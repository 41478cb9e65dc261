//! What of a batch was taken in, and what not and why.

use crate::model::{RejectReason, Rejected};
use crate::text::clean;

/// A batch names at most so many rejects; the others are counted.
const MAX_REJECTED: usize = 100;

/// What was taken of a batch.
#[derive(Debug, Default)]
pub struct Taken {
    /// Agents and components taken.
    pub accepted: usize,
    /// What was rejected, at most 100 of it spelt out.
    pub rejected: Vec<Rejected>,
    /// How much was not, named or not, by reason.
    pub reasons: Vec<(RejectReason, u64)>,
}

impl Taken {
    /// Adds what was found wrong while the body was read.
    pub fn add_rejected(&mut self, rejected: Vec<Rejected>) {
        for rejected in rejected {
            self.count(rejected.reason);
            if self.rejected.len() < MAX_REJECTED {
                self.rejected.push(rejected);
            }
        }
    }

    /// Adds what came of another part.
    pub fn merge(&mut self, part: Self) {
        self.accepted += part.accepted;
        self.rejected.extend(part.rejected);
        self.rejected.truncate(MAX_REJECTED);
        for (reason, count) in part.reasons {
            self.add(reason, count);
        }
    }

    /// Rejects the item `name` at `place`, a list and an index.
    pub(super) fn reject(
        &mut self,
        (list, index): (&'static str, usize),
        name: &str,
        reason: RejectReason,
        error: String,
    ) {
        self.count(reason);
        if self.rejected.len() < MAX_REJECTED {
            let name = clean(name, 64).into_owned();
            self.rejected.push(Rejected { list, index: Some(index), name, field: "", reason, error });
        }
    }

    pub(super) fn count(&mut self, reason: RejectReason) {
        self.add(reason, 1);
    }

    pub(super) fn add(&mut self, reason: RejectReason, more: u64) {
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.reasons.push((reason, more)),
        }
    }

    /// What was rejected, in one line: the first of it, and how much more there is.
    pub(super) fn summary(&self) -> String {
        let Some(first) = self.rejected.first() else { return String::new() };
        let more = self.reasons.iter().map(|(_, count)| count).sum::<u64>().saturating_sub(1);
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let subject = first.subject();
        let colon = if subject.is_empty() { "" } else { ": " };
        format!("rejected {subject}{colon}{}{more}", first.error)
    }
}
