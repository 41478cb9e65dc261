//! What an update changed in the fleet: the input of rules, history and the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Agent, Slab, Time};

/// Why an agent or component was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It was missing from a complete report of its source.
    Absent,
    /// It was not reported for `agents.forget_after`.
    Expired,
}

/// An agent or component that was removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The slot it had; it is reused only after these changes were consumed.
    pub slot: u32,
    /// Its project.
    pub project: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Why.
    pub removal: Removal,
}

/// A change of status, as history stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// When.
    pub at: Time,
    /// The agent's or component's project.
    pub project: Arc<str>,
    /// `agent` or `component`.
    pub kind: &'static str,
    /// Its name.
    pub name: Arc<str>,
    /// The previous status; empty if there was none.
    pub from: &'static str,
    /// The new status: a status name, `ended`, `stale`, `removed` or `expired`.
    pub to: &'static str,
    /// The reason, as text.
    pub reason: Option<Arc<str>>,
}

impl HistoryRow {
    /// The change of `agent` at `at`, without a reason.
    pub fn of_agent(at: Time, agent: &Agent, from: &'static str, to: &'static str) -> Self {
        let (project, name) = (Arc::clone(&agent.project), Arc::clone(&agent.name));
        Self { at, project, kind: "agent", name, from, to, reason: None }
    }
}

/// Everything that one update of the fleet changed, by slot.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Agents of which anything may have changed; may contain duplicates.
    pub agents: Vec<u32>,
    /// Components that were reported.
    pub components: Vec<u32>,
    /// Projects whose counts, sums or health changed; without duplicates.
    pub projects: Vec<u32>,
    /// Sources that were polled.
    pub sources: Vec<u32>,
    /// Parts of the sidecar whose health changed.
    pub sidecar_parts: Vec<u32>,
    /// Agents that were removed.
    pub removed_agents: Vec<Removed>,
    /// Components that were removed.
    pub removed_components: Vec<Removed>,
    /// Rows for the history.
    pub history: Vec<HistoryRow>,
    /// Whether a new day of the budgets began.
    pub new_day: bool,
}

impl Changes {
    /// The agent in `slot`, mutable, recorded as changed. The fleet changes agents only through this method, so that no
    /// change is missed.
    pub fn agent<'a>(&mut self, agents: &'a mut Slab<Agent>, slot: u32) -> Option<&'a mut Agent> {
        let agent = agents.get_mut(slot)?;
        if self.agents.last() != Some(&slot) {
            self.agents.push(slot);
        }
        Some(agent)
    }

    /// Empties all lists and keeps their allocations.
    pub fn clear(&mut self) {
        self.agents.clear();
        self.components.clear();
        self.projects.clear();
        self.sources.clear();
        self.sidecar_parts.clear();
        self.removed_agents.clear();
        self.removed_components.clear();
        self.history.clear();
        self.new_day = false;
    }
}
