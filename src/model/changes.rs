//! What an update changed, for those who follow the fleet.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Agent, Slab, Time};

/// Why something is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// Its source reported everything, and not it.
    Absent,
    /// Nothing was heard of it for `agents.forget_after`.
    Forgotten,
}

/// An agent or component that is no longer there.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The slot it had; released before the next change.
    pub slot: u32,
    /// Its project.
    pub project: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Why.
    pub removal: Removal,
}

/// A change of status, as history keeps it.
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
    /// The status before; empty when there was none.
    pub from: &'static str,
    /// The status now: a status word, `stale`, `removed` or `forgotten`.
    pub to: &'static str,
    /// Why, in words.
    pub reason: Option<Arc<str>>,
}

impl HistoryRow {
    /// What became of `agent` at `at`.
    pub fn of_agent(at: Time, agent: &Agent, from: &'static str, to: &'static str) -> Self {
        let (project, name) = (Arc::clone(&agent.project), Arc::clone(&agent.name));
        Self { at, project, kind: "agent", name, from, to, reason: None }
    }
}

/// Everything that one step of the fleet changed, by slot.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Agents of which anything may differ now; one may be named more than once.
    pub agents: Vec<u32>,
    /// Components whose status changed or that are new.
    pub components: Vec<u32>,
    /// Projects whose counts, sums or health changed; each once.
    pub projects: Vec<u32>,
    /// Sources whose polling took another turn.
    pub sources: Vec<u32>,
    /// Parts of the sidecar whose signals changed.
    pub watched: Vec<u32>,
    /// Agents that are gone.
    pub removed_agents: Vec<Removed>,
    /// Components that are gone.
    pub removed_components: Vec<Removed>,
    /// What history keeps.
    pub history: Vec<HistoryRow>,
    /// Whether the budgets' day turned.
    pub new_day: bool,
}

impl Changes {
    /// The agent in `slot`, for a change, which is noted. The fleet changes agents in no other way, so that none is
    /// forgotten.
    pub fn agent<'a>(&mut self, agents: &'a mut Slab<Agent>, slot: u32) -> Option<&'a mut Agent> {
        let agent = agents.get_mut(slot)?;
        if self.agents.last() != Some(&slot) {
            self.agents.push(slot);
        }
        Some(agent)
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.agents.clear();
        self.components.clear();
        self.projects.clear();
        self.sources.clear();
        self.watched.clear();
        self.removed_agents.clear();
        self.removed_components.clear();
        self.history.clear();
        self.new_day = false;
    }
}
