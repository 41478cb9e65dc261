//! Removal of agents that are missing from a complete report, and of expired agents and components.

use std::sync::Arc;

use crate::model::{Batch, CustomScope, HistoryRow, Removal, Removed, Time};

use super::Fleet;
use super::project::{Tally, count_component};

impl Fleet {
    /// Removes the agents that are missing from a poll of `source`.
    pub(super) fn remove_missing_of(&mut self, now: Time, source: &Arc<str>, batches: &[Batch<'_>]) {
        if batches.iter().all(|batch| batch.complete) {
            return self.remove_missing(now, source, None, self.batch);
        }
        // An entry that could not be parsed may be about any agent of its project, so none of them is missing.
        for batch in batches.iter().filter(|batch| batch.complete) {
            if let Some(project) = self.projects.get(&*batch.project).copied() {
                self.remove_missing(now, source, Some(project), self.batch);
            }
        }
    }

    /// Removes the agents of `source`, in one project or in all, that no batch from number `since` on contained.
    pub(super) fn remove_missing(&mut self, now: Time, source: &Arc<str>, project: Option<u32>, since: u64) {
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
                .filter(|slot| self.last_batch_of.get(*slot as usize).is_none_or(|number| *number < since))
                .filter(|slot| self.state.agents.get(*slot).is_some_and(|agent| agent.source == *source))
                .collect();
            if gone.is_empty() {
                continue;
            }
            let before = self.project_counts(project);
            for slot in gone {
                self.remove_agent(now, slot, Removal::Absent);
            }
            self.refresh_project(now, project, before);
        }
    }

    /// Keeps the agents of `source` that the current batch did not contain from going stale: an entry that could not be
    /// parsed may have been about any of them.
    pub(super) fn record_possible_reports(&mut self, now: Time, source: &Arc<str>) {
        let unnamed: Vec<u32> = self
            .state
            .agents
            .iter()
            .filter(|agent| agent.source == *source && self.last_batch_of.get(agent.slot as usize) != Some(&self.batch))
            .filter(|agent| !agent.stale)
            .map(|agent| agent.slot)
            .collect();
        for slot in unnamed {
            if let Some(agent) = self.changes.agent(&mut self.state.agents, slot) {
                agent.possibly_reported_at = Some(now);
            }
        }
    }

    /// Removes an agent; the caller refreshes its project.
    pub(super) fn remove_agent(&mut self, now: Time, slot: u32, removal: Removal) {
        let Some(agent) = self.state.agents.remove(slot) else { return };
        self.agent_deadlines.cancel(slot);
        self.release_metrics((CustomScope::Agent, slot), agent.custom.as_deref());
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
        self.mark_changed();
    }

    /// Removes a component.
    pub(super) fn remove_component(&mut self, now: Time, slot: u32) {
        let Some(component) = self.state.components.remove(slot) else { return };
        self.release_metrics((CustomScope::Component, slot), component.custom.as_deref());
        let before = self.project_counts(component.project_slot);
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
        self.refresh_project(now, component.project_slot, before);
        self.mark_changed();
    }
}
