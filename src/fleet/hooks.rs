//! What hooks say of agents: their status, and no promise of a rhythm.

use std::sync::Arc;

use crate::model::{Batch, Time};

use super::{Fleet, Taken};

impl Fleet {
    /// Takes in a hook's batch of one agent. An agent that a poll or a push reports stays theirs, with the rhythm that
    /// they promised, and what it does here is activity; one known from hooks alone never goes stale by silence.
    pub fn hook(&mut self, now: Time, batch: &mut Batch<'_>) -> Taken {
        let mut owner = (Arc::clone(&self.hooks), None);
        if let Some(update) = batch.agents.first_mut()
            && let Some(known) = self.find(&batch.project, &update.name)
            && *known.source != *self.hooks
        {
            owner = (Arc::clone(&known.source), known.ttl);
            update.last_activity = known.last_activity.map(|_| now);
        }
        self.batch += 1;
        self.take_named(now, &owner.0, owner.1, batch)
    }
}
