//! What of a batch was taken in, and what not and why.

use crate::model::Rejected;
use crate::model::text::clean;

/// A batch names at most so many rejects; the others are counted.
const MAX_REJECTED: usize = 100;

/// What was taken of a batch.
#[derive(Debug, Default)]
pub struct Taken {
    /// Agents and components taken.
    pub accepted: usize,
    /// What was not, at most 100 of it by name.
    pub rejected: Vec<Rejected>,
    /// How much was not, named or not, by reason.
    pub reasons: Vec<(&'static str, u64)>,
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

    pub(super) fn reject(&mut self, name: &str, reason: &'static str, error: String) {
        self.count(reason);
        if self.rejected.len() < MAX_REJECTED {
            self.rejected.push(Rejected { name: clean(name, 64).into_owned(), reason, error });
        }
    }

    pub(super) fn count(&mut self, reason: &'static str) {
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }
}
