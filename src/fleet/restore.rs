//! Restores the saved fleet after a restart.

use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::{agent_labels, component_labels};
use crate::model::{Agent, Component, CustomScope, Project, Time};

use super::Fleet;
use super::project::{Tally, count_component};

impl Fleet {
    /// Restores saved state. Agents keep the time when they were last seen; the timers allow for the downtime.
    pub fn restore(
        &mut self,
        now: Time,
        projects: Vec<Project>,
        agents: Vec<Agent>,
        components: Vec<Component>,
        usage_ids: impl IntoIterator<Item = (u64, Time)>,
    ) {
        self.usage_ids.restore(now, usage_ids);
        for saved in projects {
            let Some(slot) = self.project_slot(&saved.name) else { continue };
            if let Some(project) = self.state.projects.get_mut(slot as usize).map(Arc::make_mut) {
                project.totals = saved.totals;
                project.models = saved.models;
                self.platforms += saved.platforms.len();
                project.platforms = saved.platforms;
                project.task_durations = saved.task_durations;
                project.request_durations = saved.request_durations;
                project.recent_tasks = saved.recent_tasks;
                project.too_small_since = saved.too_small_since;
                project.missing = saved.missing;
                project.custom = saved.custom;
            }
            self.adopt_metrics(now, (CustomScope::Project, slot));
        }
        for agent in agents {
            self.restore_agent(now, agent);
        }
        for component in components {
            self.restore_component(now, component);
        }
        for slot in 0..self.indexes.len() {
            self.refresh_expected(now, u32::try_from(slot).unwrap_or(u32::MAX));
        }
        self.mark_changed();
    }

    fn restore_agent(&mut self, now: Time, mut agent: Agent) {
        let Some(project_slot) = self.project_slot(&agent.project) else { return };
        let (Some(project), Some(index)) = (
            self.state.projects.get_mut(project_slot as usize).map(Arc::make_mut),
            self.indexes.get_mut(project_slot as usize),
        ) else {
            return;
        };
        if index.agents.contains_key(&agent.name) {
            return;
        }
        // Saved by a clock that was ahead of ours: the last report was still before our start.
        if agent.last_seen > self.state.started_at {
            agent.last_seen = self.state.started_at.minus(Duration::from_millis(1));
        }
        agent.last_activity = agent.last_activity.map(|at| at.min(now));
        agent.status_since = agent.status_since.min(now);
        if let Some(task) = &mut agent.task {
            task.started_at = task.started_at.min(now);
            task.working_since = task.working_since.map(|at| at.min(now));
        }
        if let Some(limited) = &mut agent.limited {
            limited.clamp_times(now);
        }
        if let Some(sessions) = &mut agent.sessions {
            Arc::make_mut(sessions).clamp_times(now);
        }
        if let Some(runs) = &mut agent.runs {
            Arc::make_mut(runs).clamp_times(now);
        }
        agent.project = Arc::clone(&project.name);
        agent.project_slot = project_slot;
        agent.labels = agent_labels(&agent.project, &agent.name);
        let mut turned = false;
        if agent.day != self.day {
            (agent.day, agent.day_tokens, agent.day_cost_usd) = (self.day, 0, 0.0);
            turned = true;
        }
        if agent.source == self.push {
            agent.source = Arc::clone(&self.push);
        }
        Tally::none().replace_with(Tally::of(&agent, false), project);
        let (name, task) = (Arc::clone(&agent.name), agent.task.clone());
        let slot = self.state.agents.insert_with(|slot| Agent { slot, ..agent });
        index.agents.insert(name, slot);
        index.follow_task(slot, None, task.as_ref());
        self.agent_deadlines.schedule(slot, now);
        self.adopt_metrics(now, (CustomScope::Agent, slot));
        if turned {
            // A new day began while the program was down, which ends alerts about yesterday's usage.
            self.changes.new_day = true;
            self.changes.agents.push(slot);
        }
    }

    fn restore_component(&mut self, now: Time, mut component: Component) {
        let Some(project_slot) = self.project_slot(&component.project) else { return };
        let (Some(project), Some(index)) = (
            self.state.projects.get_mut(project_slot as usize).map(Arc::make_mut),
            self.indexes.get_mut(project_slot as usize),
        ) else {
            return;
        };
        if index.components.contains_key(&component.name) {
            return;
        }
        count_component(project, None, Some(component.status));
        component.project = Arc::clone(&project.name);
        component.project_slot = project_slot;
        component.labels = component_labels(&component.project, &component.name);
        component.last_seen = component.last_seen.min(self.state.started_at);
        component.status_since = component.status_since.min(self.state.started_at);
        let (name, last_seen) = (Arc::clone(&component.name), component.last_seen);
        let slot = self.state.components.insert_with(|slot| Component { slot, ..component });
        index.components.insert(name, slot);
        self.component_deadlines
            .schedule(slot, last_seen.max(self.state.started_at).plus(self.settings.agents.forget_after));
        self.adopt_metrics(now, (CustomScope::Component, slot));
    }
}
