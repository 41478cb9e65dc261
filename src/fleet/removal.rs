//! Removal: of agents that a complete report no longer names, and of whatever is forgotten.

use std::sync::Arc;

use crate::model::{Batch, HistoryRow, Removal, Removed, Time};

use super::Fleet;
use super::project::{Tally, count_component};

impl Fleet {
    /// Removes the agents that a poll of `source` no longer names.
    pub(super) fn remove_unnamed_of(&mut self, now: Time, source: &Arc<str>, batches: &[Batch<'_>]) {
        if batches.iter().all(|batch| batch.complete) {
            return self.remove_unnamed(now, source, None, self.batch);
        }
        // Whom an unreadable entry was about is not known, so nobody of its project is taken for gone.
        for batch in batches.iter().filter(|batch| batch.complete) {
            if let Some(project) = self.projects.get(&*batch.project).copied() {
                self.remove_unnamed(now, source, Some(project), self.batch);
            }
        }
    }

    /// Removes the agents that `source` reported before and that no batch named from number `since` on; in one project, or
    /// in all. What another source reports is not touched.
    pub(super) fn remove_unnamed(&mut self, now: Time, source: &Arc<str>, project: Option<u32>, since: u64) {
        let projects = match project {
            Some(slot) => slot..slot + 1,
            None => 0..u32::try_from(self.indexes.len()).unwrap_or(u32::MAX),
        };
        for project in projects {
            let Some(index) = self.indexes.get(project as usize) else { continue };
            let gone: Vec<u32> = index
                .agents
                .values()
                .copied()
                .filter(|slot| self.named_in.get(*slot as usize).is_none_or(|number| *number < since))
                .filter(|slot| self.state.agents.get(*slot).is_some_and(|agent| agent.source == *source))
                .collect();
            if gone.is_empty() {
                continue;
            }
            let before = self.tally(project);
            for slot in gone {
                self.remove_agent(now, slot, Removal::Absent);
            }
            self.settle_project(now, project, before);
        }
    }

    /// Keeps the agents of `source` that the current batch did not name from going stale: an entry of it that could not be
    /// read may be about any of them, so how they are is unknown.
    pub(super) fn hold_unnamed_of(&mut self, now: Time, source: &Arc<str>) {
        let unnamed: Vec<u32> = self
            .state
            .agents
            .iter()
            .filter(|agent| agent.source == *source && self.named_in.get(agent.slot as usize) != Some(&self.batch))
            .filter(|agent| !agent.stale)
            .map(|agent| agent.slot)
            .collect();
        for slot in unnamed {
            if let Some(agent) = self.changes.agent(&mut self.state.agents, slot) {
                agent.possibly_reported_at = Some(now);
            }
        }
    }

    /// Takes an agent out of the fleet; the caller settles its project.
    pub(super) fn remove_agent(&mut self, now: Time, slot: u32, removal: Removal) {
        let Some(agent) = self.state.agents.remove(slot) else { return };
        self.agent_deadlines.cancel(slot);
        self.released_agents.push(slot);
        if let Some(index) = self.indexes.get_mut(agent.project_slot as usize) {
            index.agents.remove(&agent.name);
            index.follow_task(slot, agent.task.as_ref().map(|task| Arc::clone(&task.id)), None);
        }
        if let Some(project) = self.state.projects.get_mut(agent.project_slot as usize) {
            Tally::of(&agent, false).replace_with(Tally::none(), Arc::make_mut(project));
        }
        let to = match removal {
            Removal::Absent => "removed",
            Removal::Expired => "expired",
        };
        let from = agent.status.map_or("", |status| status.as_str());
        self.changes.history.push(HistoryRow::of_agent(now, &agent, from, to));
        self.changes.removed_agents.push(Removed { slot, project: agent.project, name: agent.name, removal });
        self.touched();
    }

    /// Takes a component out of the fleet.
    pub(super) fn remove_component(&mut self, now: Time, slot: u32) {
        let Some(component) = self.state.components.remove(slot) else { return };
        let before = self.tally(component.project_slot);
        self.released_components.push(slot);
        if let Some(index) = self.indexes.get_mut(component.project_slot as usize) {
            index.components.remove(&component.name);
        }
        if let Some(project) = self.state.projects.get_mut(component.project_slot as usize) {
            count_component(Arc::make_mut(project), Some(component.status), None);
        }
        self.changes.removed_components.push(Removed {
            slot,
            project: component.project,
            name: component.name,
            removal: Removal::Expired,
        });
        self.settle_project(now, component.project_slot, before);
        self.touched();
    }
}
