//! Changes of the fleet since the last save.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Machine;
use crate::model::windows::SavedWindows;
use crate::model::{Changes, CountingState, Removed, Snapshot, Time};

/// What changed since the last save, by slot where it has one.
#[derive(Debug, Default)]
pub struct UnsavedChanges {
    /// Agents.
    pub agents: Vec<u32>,
    /// Components.
    pub components: Vec<u32>,
    /// Projects.
    pub projects: Vec<u32>,
    /// Removed agents, by project and name.
    pub removed_agents: Vec<(Arc<str>, Arc<str>)>,
    /// Removed components, by project and name.
    pub removed_components: Vec<(Arc<str>, Arc<str>)>,
    /// The state of counters in telemetry.
    pub counting: CountingState,
    /// Windows of agents, by project and name.
    pub windows: SavedWindows,
    /// Ids of increments that were counted, with the time.
    pub usage_ids: Vec<(u64, Time)>,
}

/// Collects changes until they are taken for a save. Windows and ids of usage stay where they are until then.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    agents: Slots,
    components: Slots,
    projects: Slots,
    /// Whether any source changed.
    sources: bool,
    removed_agents: BTreeSet<(Arc<str>, Arc<str>)>,
    removed_components: BTreeSet<(Arc<str>, Arc<str>)>,
    counting: CountingState,
}

/// A set of slots: inserting is a flag lookup, and emptying costs only its members.
#[derive(Debug, Default)]
struct Slots {
    members: Vec<u32>,
    is_in: Vec<bool>,
}

impl Slots {
    /// Adds a slot.
    fn insert(&mut self, slot: u32) {
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
    fn take(&mut self) -> Vec<u32> {
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
        self.removed_agents.extend(changes.removed_agents.iter().map(name));
        self.removed_components.extend(changes.removed_components.iter().map(name));
    }

    /// Adds the whole fleet.
    fn note_all(&mut self, state: &Snapshot) {
        state.agents.iter().for_each(|agent| self.agents.insert(agent.slot));
        state.components.iter().for_each(|component| self.components.insert(component.slot));
        (0..u32::try_from(state.projects.len()).unwrap_or(u32::MAX)).for_each(|place| self.projects.insert(place));
    }

    /// Whether nothing changed.
    fn is_empty(&self) -> bool {
        self.agents.members.is_empty()
            && self.components.members.is_empty()
            && self.projects.members.is_empty()
            && self.removed_agents.is_empty()
            && self.removed_components.is_empty()
            && self.counting.is_empty()
            && !self.sources
    }
}

impl Machine {
    /// Whether nothing changed since [`Machine::take_unsaved`].
    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty() && !self.rules.has_unsaved_windows() && !self.fleet.has_unsaved_usage_ids()
    }

    /// What changed since the last call. Removals are saved before the rest, so that an agent that came back is kept.
    pub fn take_unsaved(&mut self) -> UnsavedChanges {
        let unsaved = &mut self.unsaved;
        unsaved.sources = false;
        UnsavedChanges {
            agents: unsaved.agents.take(),
            components: unsaved.components.take(),
            projects: unsaved.projects.take(),
            removed_agents: std::mem::take(&mut unsaved.removed_agents).into_iter().collect(),
            removed_components: std::mem::take(&mut unsaved.removed_components).into_iter().collect(),
            counting: std::mem::take(&mut unsaved.counting),
            windows: self.rules.take_windows(self.fleet.state()),
            usage_ids: self.fleet.take_usage_ids(),
        }
    }

    /// Adds counting state that is to be saved with the agents whose totals it led to.
    pub fn note_counting(&mut self, counting: CountingState) {
        self.unsaved.counting.merge(counting);
    }

    /// Marks the whole fleet as changed, so that it is saved again.
    pub fn save_all_again(&mut self) {
        self.unsaved.note_all(self.fleet.state());
    }
}
