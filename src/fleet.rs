//! The state of every agent: what sources say goes in, what changed comes out.
//!
//! Owns the live [`Snapshot`], the indexes into it, and the timers that make an agent stale or forgotten.
//! Refuses I/O and clocks: `now` comes in. Judges nothing: thresholds are the rules' business.

mod agent;
mod batch;
mod component;
pub mod config;
mod expected;
mod expiry;
mod hooks;
mod project;
mod rate_limits;
mod removal;
mod restore;
mod sources;
mod telemetry;
mod usage;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use config::{AgentsConfig, BudgetsConfig, ExpectedConfig};
use jiff::tz::TimeZone;

use crate::model::labels::agent_labels;
use crate::model::sessions::HookOutcome;
use crate::model::sidecar_part::SidecarPart;
use crate::model::{ActiveRateLimit, Agent, AgentUpdate, Changes, Deadlines, Snapshot, Time};
use project::{Index, Tally};

pub use crate::model::agent::SERIES_PER_AGENT;
pub use batch::{ChunkedPush, IngestOutcome};

/// Series that a component has.
const SERIES_PER_COMPONENT: usize = 4;
/// Projects known at most; each has about 30 series and sums of its own.
const MAX_PROJECTS: usize = 1_000;
/// Longest project, agent or component name in bytes.
pub const MAX_NAME: usize = 256;

/// What the fleet is run with.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// Silence, idleness, forgetting.
    pub agents: AgentsConfig,
    /// Who must be there.
    pub expected: Vec<ExpectedConfig>,
    /// What an agent may use.
    pub budgets: BudgetsConfig,
    /// Most series that agents and components may have together.
    pub max_series: usize,
    /// Polled sources: name, kind and the rhythm of their polls.
    pub sources: Vec<(String, &'static str, Duration)>,
}

/// The fleet.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    zone: TimeZone,
    state: Snapshot,
    /// The last snapshot, as long as a reader holds it: one kept for nobody would be copied on every write.
    published: Weak<Snapshot>,
    projects: HashMap<Arc<str>, u32>,
    indexes: Vec<Index>,
    /// Per agent slot: the number of the batch that last named it.
    named_in: Vec<u64>,
    batch: u64,
    orders: batch::ReportOrders,
    agent_deadlines: Deadlines,
    component_deadlines: Deadlines,
    released_agents: Vec<u32>,
    released_components: Vec<u32>,
    usage_ids: usage::SeenIds,
    day: i32,
    day_ends: Time,
    push: Arc<str>,
    /// The source of those whom hooks named first.
    hooks: Arc<str>,
    usage: Arc<str>,
    /// The source of those whom telemetry named first.
    otlp: Arc<str>,
    changes: Changes,
}

impl Fleet {
    /// An empty fleet at `now`.
    pub fn new(now: Time, settings: FleetSettings) -> Self {
        let mut fleet = Self {
            zone: TimeZone::UTC,
            state: Snapshot { at: now, started_at: now, monitoring: true, ..Snapshot::default() },
            published: Weak::new(),
            projects: HashMap::new(),
            indexes: Vec::new(),
            named_in: Vec::new(),
            batch: 0,
            orders: batch::ReportOrders::default(),
            agent_deadlines: Deadlines::default(),
            component_deadlines: Deadlines::default(),
            released_agents: Vec::new(),
            released_components: Vec::new(),
            usage_ids: usage::SeenIds::default(),
            day: i32::MIN,
            day_ends: now,
            push: Arc::from("push"),
            hooks: Arc::from("hooks"),
            usage: Arc::from("usage"),
            otlp: Arc::from("otlp"),
            changes: Changes::default(),
            settings: settings.clone(),
        };
        fleet.configure(now, settings);
        fleet.changes.clear();
        fleet
    }

    /// Takes over other settings; what is known stays known.
    pub fn configure(&mut self, now: Time, settings: FleetSettings) {
        self.zone = settings.budgets.zone().unwrap_or(TimeZone::UTC);
        self.state.budgets = settings.budgets.limits();
        self.configure_sources(&settings.sources);
        self.settings = settings;
        self.begin_day(now);
        self.configure_expected(now);
        // A shorter `forget_after` or `timeout` holds at once.
        self.state.agents.iter().for_each(|agent| self.agent_deadlines.schedule(agent.slot, now));
        self.state.components.iter().for_each(|component| self.component_deadlines.schedule(component.slot, now));
        self.touched();
    }

    /// The zone in which the budgets' day turns.
    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The fleet as it stands, for those who judge it at once.
    pub const fn state(&self) -> &Snapshot {
        &self.state
    }

    /// The agent of that name.
    pub fn find(&self, project: &str, name: &str) -> Option<&Agent> {
        let index = self.indexes.get(*self.projects.get(project)? as usize)?;
        self.state.agents.get(*index.agents.get(name)?)
    }

    /// What changed since the last call of [`Fleet::clear_changes`].
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Starts a new list of changes, and lets slots of what was removed be used again.
    pub fn clear_changes(&mut self) {
        self.changes.clear();
        for slot in self.released_agents.drain(..) {
            self.state.agents.release(slot);
        }
        for slot in self.released_components.drain(..) {
            self.state.components.release(slot);
        }
    }

    /// The fleet at `now`, for readers. The same one again when nothing changed within a second.
    pub fn snapshot(&mut self, now: Time) -> Arc<Snapshot> {
        if let Some(published) = self.published.upgrade()
            && published.generation == self.state.generation
            && now.since(published.at) < Duration::from_secs(1)
        {
            return published;
        }
        self.state.at = now;
        let snapshot = Arc::new(self.state.clone());
        self.published = Arc::downgrade(&snapshot);
        snapshot
    }

    /// Sets whether monitoring is on, for readers.
    pub fn set_monitoring(&mut self, on: bool) {
        self.state.monitoring = on;
        self.touched();
    }

    /// Takes note of what the wall clock says at `now`, by which sources say times; returns whether it was set.
    pub fn observe_wall_clock(&mut self, now: Time, wall: Time) -> bool {
        let was_set = self.state.wall.observe(now, wall);
        if was_set {
            self.touched();
        }
        was_set
    }

    /// Takes over how the parts of the sidecar are; returns whether anything is to be judged.
    pub fn set_sidecar_parts(&mut self, watched: Vec<Arc<SidecarPart>>) -> bool {
        if watched == self.state.sidecar_parts {
            return false;
        }
        for (place, part) in watched.iter().enumerate() {
            if self.state.sidecar_parts.get(place) != Some(part) {
                self.changes.sidecar_parts.push(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        self.state.sidecar_parts = watched;
        true
    }

    fn cap_error(&self) -> String {
        format!("the series cap of {} is reached; raise limits.series or report fewer agents", self.settings.max_series)
    }

    fn has_room(&self, series: usize) -> bool {
        let used = self.state.agents.len() * SERIES_PER_AGENT + self.state.components.len() * SERIES_PER_COMPONENT;
        used + series <= self.settings.max_series
    }

    /// The slot of the agent `name`, made when there is room; and whether it is new.
    fn agent_slot(&mut self, now: Time, project: u32, source: &Arc<str>, name: &str) -> Option<(u32, bool)> {
        let known = self.indexes.get(project as usize)?.agents.get(name).copied();
        let slot = match known {
            Some(slot) => slot,
            None => {
                if !self.has_room(SERIES_PER_AGENT) {
                    return None;
                }
                let project_name = Arc::clone(&self.state.projects.get(project as usize)?.name);
                let name: Arc<str> = Arc::from(name);
                let mut agent = Agent::new(project_name, Arc::clone(&name), Arc::clone(source), now);
                agent.labels = agent_labels(&agent.project, &name);
                (agent.project_slot, agent.day) = (project, self.day);
                let slot = self.state.agents.insert_with(|slot| Agent { slot, ..agent });
                self.indexes.get_mut(project as usize)?.agents.insert(name, slot);
                self.orders.begin(slot);
                slot
            }
        };
        let place = slot as usize;
        if place >= self.named_in.len() {
            self.named_in.resize(place + 1, 0);
        }
        if let Some(named) = self.named_in.get_mut(place) {
            *named = self.batch;
        }
        Some((slot, known.is_none()))
    }

    /// Takes over what `update` says, from a source that promises to be heard from again within `ttl`, and what a hook
    /// told beside it; false when its tokens were left out, since increments own the agent's totals.
    fn apply_agent(
        &mut self,
        now: Time,
        (project, slot, is_new): (u32, u32, bool),
        (source, ttl): (&Arc<str>, Option<Duration>),
        update: &AgentUpdate<'_>,
        heard: Option<&HookOutcome>,
    ) -> bool {
        let (Some(agent), Some(totals), Some(index)) = (
            self.changes.agent(&mut self.state.agents, slot),
            self.state.projects.get_mut(project as usize).map(Arc::make_mut),
            self.indexes.get_mut(project as usize),
        ) else {
            return true;
        };
        if agent.source != *source {
            agent.source = Arc::clone(source);
        }
        agent.ttl = ttl;
        let before = Tally::of(agent, is_new);
        let (started_at, count_cache_read) = (self.state.started_at, self.settings.budgets.count_cache_read);
        let mut step = agent::AgentReport::new(now, started_at, &self.state.wall, count_cache_read, heard);
        step.apply(agent, update, totals);
        before.replace_with(Tally::of(agent, false), totals);
        if step.task_changed {
            index.follow_task(slot, step.old_task.take(), agent.task.as_ref());
        }
        self.changes.history.extend(step.history);
        let silent = ttl.map_or(self.settings.agents.forget_after, |ttl| ttl.min(self.settings.agents.forget_after));
        let limited = agent.limited.as_ref().map(ActiveRateLimit::ends);
        self.agent_deadlines.schedule(slot, limited.map_or(now.plus(silent), |ends| ends.min(now.plus(silent))));
        !step.usage_refused
    }

    /// Marks the state as changed, for readers.
    fn touched(&mut self) {
        self.state.generation += 1;
    }
}
