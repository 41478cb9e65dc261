//! The state of all agents: reports of sources go in, changes come out.
//!
//! It owns the live [`Snapshot`], the indexes into it, and the timers by which agents go stale and expire. It does no I/O
//! and reads no clock: `now` is an argument. Thresholds belong to the rules.

mod agent;
mod batch;
mod component;
pub mod config;
mod custom;
mod expected;
mod expiry;
mod hooks;
mod project;
mod rate_limits;
mod removal;
mod restore;
mod runs;
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
use crate::model::{ActiveRateLimit, Agent, AgentUpdate, Changes, Deadlines, PlatformTotals, Snapshot, Time};
use project::{Index, Tally};

pub use crate::model::agent::SERIES_PER_AGENT;
pub use batch::{ChunkedPush, IngestOutcome};

/// Series of one component, counted against the series cap.
const SERIES_PER_COMPONENT: usize = 4;
/// The maximum number of projects; each has about 30 series and its own sums.
const MAX_PROJECTS: usize = 1_000;
/// The maximum length of a project, agent or component name, in bytes.
pub const MAX_NAME: usize = 256;

/// The settings of the fleet.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// When agents are stale, idle and expired.
    pub agents: AgentsConfig,
    /// Which agents are expected.
    pub expected: Vec<ExpectedConfig>,
    /// The budgets of agents.
    pub budgets: BudgetsConfig,
    /// The series cap of agents and components.
    pub max_series: usize,
    /// Polled sources: name, kind and poll interval.
    pub sources: Vec<(String, &'static str, Duration)>,
}

/// All agents, components, projects and sources.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    zone: TimeZone,
    state: Snapshot,
    /// The last snapshot, for as long as a reader holds it: holding it here would make every write copy a chunk.
    published: Weak<Snapshot>,
    projects: HashMap<Arc<str>, u32>,
    indexes: Vec<Index>,
    /// By agent slot: the number of the batch that last contained the agent.
    last_batch_of: Vec<u64>,
    batch: u64,
    report_positions: batch::ReportPositions,
    agent_deadlines: Deadlines,
    component_deadlines: Deadlines,
    custom_deadlines: custom::CustomDeadlines,
    /// Counts changes of custom metrics.
    custom_revision: u64,
    released_agents: Vec<u32>,
    released_components: Vec<u32>,
    usage_ids: usage::SeenIds,
    day: i32,
    day_ends: Time,
    push: Arc<str>,
    /// The source of agents that were first reported by a hook.
    hooks: Arc<str>,
    usage: Arc<str>,
    /// The source of agents that were first reported by a custom metric.
    metrics: Arc<str>,
    /// The source of agents that were first reported by telemetry.
    otlp: Arc<str>,
    /// The source of agents that were first reported by a run.
    runs: Arc<str>,
    /// How many platforms all projects have.
    platforms: usize,
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
            last_batch_of: Vec::new(),
            batch: 0,
            report_positions: batch::ReportPositions::default(),
            agent_deadlines: Deadlines::default(),
            component_deadlines: Deadlines::default(),
            custom_deadlines: custom::CustomDeadlines::default(),
            custom_revision: 0,
            released_agents: Vec::new(),
            released_components: Vec::new(),
            usage_ids: usage::SeenIds::default(),
            day: i32::MIN,
            day_ends: now,
            push: Arc::from("push"),
            hooks: Arc::from("hooks"),
            usage: Arc::from("usage"),
            metrics: Arc::from("metrics"),
            otlp: Arc::from("otlp"),
            runs: Arc::from("runs"),
            platforms: 0,
            changes: Changes::default(),
            settings: settings.clone(),
        };
        fleet.configure(now, settings);
        fleet.changes.clear();
        fleet
    }

    /// Applies new settings; the state is kept.
    pub fn configure(&mut self, now: Time, settings: FleetSettings) {
        self.zone = settings.budgets.zone().unwrap_or(TimeZone::UTC);
        self.state.budgets = settings.budgets.limits();
        self.configure_sources(&settings.sources);
        self.settings = settings;
        self.set_day(now);
        self.configure_expected(now);
        // A shorter `forget_after` or `timeout` takes effect at once.
        self.state.agents.iter().for_each(|agent| self.agent_deadlines.schedule(agent.slot, now));
        self.state.components.iter().for_each(|component| self.component_deadlines.schedule(component.slot, now));
        self.mark_changed();
    }

    /// The time zone of the budgets' day.
    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The current state, for evaluation on the spot.
    pub const fn state(&self) -> &Snapshot {
        &self.state
    }

    /// The agent with this name.
    pub fn find(&self, project: &str, name: &str) -> Option<&Agent> {
        let index = self.indexes.get(*self.projects.get(project)? as usize)?;
        self.state.agents.get(*index.agents.get(name)?)
    }

    /// What changed since the last call of [`Fleet::clear_changes`].
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Clears the changes, and makes the slots of removed agents and components available again.
    pub fn clear_changes(&mut self) {
        self.changes.clear();
        for slot in self.released_agents.drain(..) {
            self.state.agents.release(slot);
        }
        for slot in self.released_components.drain(..) {
            self.state.components.release(slot);
        }
    }

    /// The fleet at `now`, for readers; the last snapshot if nothing changed and it is less than a second old.
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

    /// Records whether monitoring is on, for readers.
    pub fn set_monitoring(&mut self, on: bool) {
        self.state.monitoring = on;
        self.mark_changed();
    }

    /// Records that the wall clock shows `wall` at `now`; returns whether it was set since the last call.
    pub fn observe_wall_clock(&mut self, now: Time, wall: Time) -> bool {
        let was_set = self.state.wall.observe(now, wall);
        if was_set {
            self.mark_changed();
        }
        was_set
    }

    /// Sets the health of the parts of the sidecar; returns whether anything changed.
    pub fn set_sidecar_parts(&mut self, parts: Vec<Arc<SidecarPart>>) -> bool {
        if parts == self.state.sidecar_parts {
            return false;
        }
        for (place, part) in parts.iter().enumerate() {
            if self.state.sidecar_parts.get(place) != Some(part) {
                self.changes.sidecar_parts.push(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        self.state.sidecar_parts = parts;
        true
    }

    fn cap_error(&self) -> String {
        format!("the series cap of {} is reached; raise limits.series or report fewer agents", self.settings.max_series)
    }

    fn has_room(&self, series: usize) -> bool {
        let used = self.state.agents.len() * SERIES_PER_AGENT
            + self.state.components.len() * SERIES_PER_COMPONENT
            + self.platforms * PlatformTotals::SERIES
            + self.state.custom.series();
        used + series <= self.settings.max_series
    }

    /// The slot of the agent `name`, and whether it is new; `None` if it is new and there is no room.
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
                self.report_positions.begin(slot);
                slot
            }
        };
        let place = slot as usize;
        if place >= self.last_batch_of.len() {
            self.last_batch_of.resize(place + 1, 0);
        }
        if let Some(named) = self.last_batch_of.get_mut(place) {
            *named = self.batch;
        }
        Some((slot, known.is_none()))
    }

    /// Applies `update`, reported by `source`, which is expected to report again within `ttl`; `hook` is what a hook changes
    /// in addition. Returns false if usage in it was rejected, since the agent's usage is reported in another way.
    fn apply_agent(
        &mut self,
        now: Time,
        (project, slot, is_new): (u32, u32, bool),
        (source, ttl): (&Arc<str>, Option<Duration>),
        update: &AgentUpdate<'_>,
        hook: Option<&HookOutcome>,
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
        let mut report = agent::AgentReport::new(now, started_at, &self.state.wall, count_cache_read, hook);
        report.apply(agent, update, totals);
        before.replace_with(Tally::of(agent, false), totals);
        if report.task_changed {
            index.follow_task(slot, report.old_task.take(), agent.task.as_ref());
        }
        self.changes.history.extend(report.history);
        let ttl = ttl.map_or(self.settings.agents.forget_after, |ttl| ttl.min(self.settings.agents.forget_after));
        let limited = agent.limited.as_ref().map(ActiveRateLimit::ends);
        self.agent_deadlines.schedule(slot, limited.map_or(now.plus(ttl), |ends| ends.min(now.plus(ttl))));
        !report.is_usage_rejected
    }

    /// Marks the snapshot as outdated.
    fn mark_changed(&mut self) {
        self.state.generation += 1;
    }
}
