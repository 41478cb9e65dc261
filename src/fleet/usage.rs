//! Increments of usage: whose they are, and that each counts once.
//!
//! Refuses to remember ids for ever: a retry comes within an hour, or never.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BoundedMap, RejectReason, Time, UsageOwner, UsageUpdate};

use super::agent::{PriceStatus, UsageIncrement};
use super::project::{Tally, add_tokens};
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT};

/// How long ids are remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Ids remembered at most: more than 500 increments a second for that long. It keeps the memory of a flood bounded.
const MAX_IDS: usize = 2_000_000;

/// The ids of increments that were counted, as 64-bit hashes that mean the same after a restart.
#[derive(Debug)]
pub(super) struct SeenIds {
    known: BoundedMap<u64, (), Time>,
    unsaved: Vec<(u64, Time)>,
}

impl Default for SeenIds {
    fn default() -> Self {
        Self { known: BoundedMap::new(MAX_IDS), unsaved: Vec::new() }
    }
}

impl SeenIds {
    fn hash(project: &str, id: &str) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one((project, id))
    }

    /// Notes that the increment of that hash was counted.
    fn insert(&mut self, now: Time, hash: u64) {
        if self.known.insert(hash, (), now) {
            self.unsaved.push((hash, now));
        }
    }

    /// Forgets what was counted too long ago.
    fn expire(&mut self, now: Time) {
        self.known.expire(|at| now.since(*at) >= REMEMBERED);
    }

    /// Takes over ids from before a restart, oldest first. Those of a clock that was ahead of ours are of now.
    pub(super) fn restore(&mut self, now: Time, ids: impl IntoIterator<Item = (u64, Time)>) {
        for (hash, at) in ids {
            self.known.insert(hash, (), at.min(now));
        }
        self.expire(now);
    }
}

impl Fleet {
    /// Takes in increments of usage in `project`.
    pub fn usage(&mut self, now: Time, project: &str, updates: &[UsageUpdate<'_>]) -> IngestOutcome {
        let mut taken = IngestOutcome::default();
        self.turn_day(now);
        self.usage_ids.expire(now);
        for update in updates {
            let name = update.agent.as_deref().or(update.task_id.as_deref()).unwrap_or_default();
            match self.take_increment(now, project, update, name) {
                Ok(()) => taken.accepted += 1,
                Err((reason, error)) => taken.reject(("usage", update.index), name, reason, error),
            }
        }
        self.touched();
        taken
    }

    /// The ids counted since the last call, for the store.
    pub fn take_usage_ids(&mut self) -> Vec<(u64, Time)> {
        std::mem::take(&mut self.usage_ids.unsaved)
    }

    /// Takes back ids that the store had no room for.
    pub fn return_usage_ids(&mut self, mut ids: Vec<(u64, Time)>) {
        ids.append(&mut self.usage_ids.unsaved);
        // What is forgotten here need not be saved either.
        ids.drain(..ids.len().saturating_sub(MAX_IDS));
        self.usage_ids.unsaved = ids;
    }

    fn take_increment(
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
        // Before anybody is made for it: a repeated increment brings no agent back.
        if let (Some(hash), Some(id)) = (id, &update.id)
            && self.usage_ids.known.contains(&hash)
        {
            return Err((
                RejectReason::Duplicate,
                format!("the id `{}` was counted already", crate::text::clean(id, 64)),
            ));
        }
        let Some(project_slot) = self.project_slot(project) else {
            return Err((
                RejectReason::SeriesCap,
                "too many projects are known already; use fewer project names".to_owned(),
            ));
        };
        let before = self.tally(project_slot);
        let holder = match (&update.agent, &update.task_id) {
            (None, Some(task)) => self.indexes.get(project_slot as usize).and_then(|index| index.tasks.get(&**task)),
            _ => None,
        };
        let (slot, is_new) = match holder {
            Some(slot) => (*slot, false),
            None => {
                // A source of its own, so that a complete push does not remove whom only usage named.
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
            // Increments promise no rhythm, so silence alone makes such an agent forgotten and never stale.
            self.agent_deadlines.schedule(slot, now.plus(self.settings.agents.forget_after));
        }
        if agent.ttl.is_none() {
            // Whoever promised a rhythm is heard by it alone; anybody else is heard by this.
            agent.last_seen = now;
        }
        agent.usage_owner = Some(UsageOwner::Usage);
        if let Some(model) = &update.model {
            agent.model = Some(Arc::from(&**model));
        }
        let tokens = update.tokens.map(Option::unwrap_or_default);
        add_tokens(&mut agent.tokens, &tokens);
        let cost = update.cost_usd.unwrap_or(0.0);
        if update.cost_usd.is_some() {
            agent.cost_usd.add(cost);
        }
        let started_at = self.state.started_at;
        let used =
            UsageIncrement { now, started_at, is_total: false, tokens, day_tokens: tokens, cost, day_cost: cost };
        let price = PriceStatus::unknown(update.cost_usd.is_none());
        used.spend(agent, totals, price, self.settings.budgets.count_cache_read);
        self.settle_project(now, project_slot, before);
        Ok(())
    }
}
