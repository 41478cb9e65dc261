//! Changes of the fleet since the last save.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Machine;
use crate::model::{AgentWindows, Changes, CountingState, Removed, Snapshot, Time};

/// What changed since the last save: slots of agents, components and projects, and what has no slot.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// Agents, by slot.
    pub agents: Slots,
    /// Components, by slot.
    pub components: Slots,
    /// Projects, by slot.
    pub projects: Slots,
    /// Whether any source changed.
    pub sources: bool,
    /// Removed agents, by project and name.
    pub removed_agents: Vec<(Arc<str>, Arc<str>)>,
    /// Removed components, by project and name.
    pub removed_components: Vec<(Arc<str>, Arc<str>)>,
    /// The state of counters in telemetry.
    pub counting: CountingState,
    /// Windows of agents, by project and name.
    pub windows: BTreeMap<(Arc<str>, Arc<str>), AgentWindows>,
    /// Ids of increments that were counted, with the time.
    pub usage_ids: Vec<(u64, Time)>,
}

/// A set of slots: inserting is a flag lookup, and emptying costs only its members.
#[derive(Debug, Default)]
pub struct Slots {
    members: Vec<u32>,
    is_in: Vec<bool>,
}

impl Slots {
    /// Adds a slot.
    pub fn insert(&mut self, slot: u32) {
        let place = slot as usize;
        if place >= self.is_in.len() {
            self.is_in.resize(place + 1, false);
        }
        if let Some(is_in) = self.is_in.get_mut(place)
            && !std::mem::replace(is_in, true)
        {
            self.members.push(slot);
        }
    }

    /// Empties the set and returns its members.
    pub fn take(&mut self) -> Vec<u32> {
        for slot in &self.members {
            if let Some(is_in) = self.is_in.get_mut(*slot as usize) {
                *is_in = false;
            }
        }
        std::mem::take(&mut self.members)
    }
}

impl Unsaved {
    /// Adds what `changes` contains.
    pub(super) fn note(&mut self, changes: &Changes) {
        changes.agents.iter().for_each(|slot| self.agents.insert(*slot));
        changes.components.iter().for_each(|slot| self.components.insert(*slot));
        changes.projects.iter().for_each(|slot| self.projects.insert(*slot));
        self.sources |= !changes.sources.is_empty();
        let name = |removed: &Removed| (Arc::clone(&removed.project), Arc::clone(&removed.name));
        for removed in &changes.removed_agents {
            self.windows.remove(&name(removed));
            self.removed_agents.push(name(removed));
        }
        self.removed_components.extend(changes.removed_components.iter().map(name));
    }

    /// Adds the whole fleet.
    pub fn note_all(&mut self, state: &Snapshot) {
        state.agents.iter().for_each(|agent| self.agents.insert(agent.slot));
        state.components.iter().for_each(|component| self.components.insert(component.slot));
        (0..u32::try_from(state.projects.len()).unwrap_or(u32::MAX)).for_each(|place| self.projects.insert(place));
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.agents.members.is_empty()
            && self.components.members.is_empty()
            && self.projects.members.is_empty()
            && self.removed_agents.is_empty()
            && self.removed_components.is_empty()
            && self.counting.is_empty()
            && self.windows.is_empty()
            && self.usage_ids.is_empty()
            && !self.sources
    }
}

impl Machine {
    /// What changed since it was last saved; the caller takes what it saves.
    pub fn unsaved(&mut self) -> &mut Unsaved {
        self.unsaved.usage_ids.extend(self.fleet.take_usage_ids());
        for (slot, windows) in self.rules.take_windows() {
            if let Some(agent) = self.fleet.state().agents.get(slot) {
                self.unsaved.windows.insert((Arc::clone(&agent.project), Arc::clone(&agent.name)), windows);
            }
        }
        &mut self.unsaved
    }

    /// Marks the whole fleet as changed, so that it is saved again.
    pub fn save_all_again(&mut self) {
        self.unsaved.note_all(self.fleet.state());
    }
}
