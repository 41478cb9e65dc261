//! Applies pushed increments of usage, deduplicated by id within an hour.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BoundedMap, RejectReason, Time, UsageOwner, UsageUpdate};

use super::agent::{PriceStatus, UsageIncrement};
use super::project::{Tally, add_tokens};
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT};

/// How long ids are kept for deduplication.
const ID_TTL: Duration = Duration::from_secs(3600);
/// The maximum number of ids: more than 500 increments per second for that long.
const MAX_IDS: usize = 2_000_000;

/// The ids of counted increments, as 64-bit hashes that are stable over restarts.
#[derive(Debug)]
pub(super) struct SeenIds {
    known: BoundedMap<u64, (), Time>,
    /// Those that are not saved yet, oldest first.
    unsaved: VecDeque<(u64, Time)>,
}

impl Default for SeenIds {
    fn default() -> Self {
        Self { known: BoundedMap::new(MAX_IDS), unsaved: VecDeque::new() }
    }
}

impl SeenIds {
    fn hash(project: &str, id: &str) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((project, id))
    }

    /// Records the hash of a counted increment.
    fn insert(&mut self, now: Time, hash: u64) {
        if self.known.insert(hash, (), now) {
            self.unsaved.push_back((hash, now));
        }
    }

    /// Drops expired ids.
    fn expire(&mut self, now: Time) {
        let is_expired = |at: &Time| now.since(*at) >= ID_TTL;
        self.known.expire(is_expired);
        // Only while the store can't be written: it would drop them as well.
        while self.unsaved.len() > MAX_IDS || self.unsaved.front().is_some_and(|(_, at)| is_expired(at)) {
            self.unsaved.pop_front();
        }
    }

    /// Restores saved ids, oldest first; times in the future are clamped to `now`.
    pub(super) fn restore(&mut self, now: Time, ids: impl IntoIterator<Item = (u64, Time)>) {
        for (hash, at) in ids {
            self.known.insert(hash, (), at.min(now));
        }
        self.expire(now);
    }
}

impl Fleet {
    /// Applies increments of usage in `project`.
    pub fn usage(&mut self, now: Time, project: &str, updates: &[UsageUpdate<'_>]) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        self.roll_over_day(now);
        self.usage_ids.expire(now);
        for update in updates {
            let name = update.agent.as_deref().or(update.task_id.as_deref()).unwrap_or_default();
            match self.apply_increment(now, project, update, name) {
                Ok(()) => outcome.accepted += 1,
                Err((reason, error)) => outcome.reject(("usage", update.index), name, reason, error),
            }
        }
        self.mark_changed();
        outcome
    }

    /// The ids counted since the last call, for the store.
    pub fn take_usage_ids(&mut self) -> Vec<(u64, Time)> {
        std::mem::take(&mut self.usage_ids.unsaved).into()
    }

    /// Whether any id was counted since [`Fleet::take_usage_ids`].
    pub fn has_unsaved_usage_ids(&self) -> bool {
        !self.usage_ids.unsaved.is_empty()
    }

    fn apply_increment(
        &mut self,
        now: Time,
        project: &str,
        update: &UsageUpdate<'_>,
        name: &str,
    ) -> Result<(), (RejectReason, String)> {
        if name.is_empty() {
            return Err((RejectReason::Name, "neither `agent` nor `task_id` is given; give one of them".to_owned()));
        }
        let id = update.id.as_deref().map(|id| SeenIds::hash(project, id));
        // Checked before an agent is created: a duplicate must not bring a removed agent back.
        if let (Some(hash), Some(id)) = (id, &update.id)
            && self.usage_ids.known.contains(&hash)
        {
            return Err((
                RejectReason::Duplicate,
                format!("duplicate id `{}`: the increment was counted before", crate::text::clean(id, 64)),
            ));
        }
        let Some(project_slot) = self.project_slot(project) else {
            return Err((
                RejectReason::SeriesCap,
                "the limit of projects is reached; use fewer project names".to_owned(),
            ));
        };
        let before = self.project_counts(project_slot);
        let holder = match (&update.agent, &update.task_id) {
            (None, Some(task)) => self.indexes.get(project_slot as usize).and_then(|index| index.tasks.get(&**task)),
            _ => None,
        };
        let (slot, is_new) = match holder {
            Some(slot) => (*slot, false),
            None => {
                // A separate source, so that a complete push does not remove agents that only reported usage.
                let source = Arc::clone(&self.usage);
                self.agent_slot(now, project_slot, &source, name).ok_or_else(|| {
                    self.state.series_dropped += SERIES_PER_AGENT as u64;
                    (RejectReason::SeriesCap, self.cap_error())
                })?
            }
        };
        let owner = self.state.agents.get(slot).and_then(|agent| agent.usage_owner);
        let other = match owner {
            Some(UsageOwner::State) => Some("reports cumulative tokens on /api/state"),
            Some(UsageOwner::Telemetry) => Some("sends its tokens as telemetry"),
            Some(UsageOwner::Usage) | None => None,
        };
        if let Some(other) = other {
            return Err((RejectReason::UsageOwner, format!("this agent {other}; report its usage in one way only")));
        }
        if let Some(hash) = id {
            self.usage_ids.insert(now, hash);
        }
        let (Some(agent), Some(totals)) = (
            self.changes.agent(&mut self.state.agents, slot),
            self.state.projects.get_mut(project_slot as usize).map(Arc::make_mut),
        ) else {
            return Ok(());
        };
        if is_new {
            Tally::none().replace_with(Tally::of(agent, false), totals);
            // Increments arrive at no fixed interval, so such an agent expires but is never stale.
            self.agent_deadlines.schedule(slot, now.plus(self.settings.agents.forget_after));
        }
        if agent.ttl.is_none() {
            // The liveness of an agent with a `ttl` depends on its own reports only.
            agent.last_seen = now;
        }
        agent.usage_owner = Some(UsageOwner::Usage);
        if let Some(model) = &update.model {
            agent.model = Some(Arc::from(&**model));
        }
        let tokens = update.tokens.map(Option::unwrap_or_default);
        add_tokens(&mut agent.tokens, &tokens);
        if let Some(cost) = update.cost_usd {
            agent.cost_usd.add(cost);
        }
        let increment = UsageIncrement::reported(now, self.state.started_at, tokens, update.cost_usd);
        let price = PriceStatus::unknown(update.cost_usd.is_none());
        increment.add_to(agent, totals, price, self.settings.budgets.count_cache_read);
        self.refresh_project(now, project_slot, before);
        Ok(())
    }
}
