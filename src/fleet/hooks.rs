//! Applies hooks: status, activity and tasks of agents. Hooks arrive at no fixed interval.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::project::Project;
use crate::model::sessions::HookOutcome;
use crate::model::{Agent, AgentUpdate, Hook, Patch, RejectReason, Time, UsageOwner, hook};

use super::agent::AgentReport;
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT};

impl Fleet {
    /// Applies a hook. An agent that is also polled or pushed keeps that source, its `ttl` and its tasks, and a hook only
    /// updates its status and activity. An agent known only from hooks never goes stale.
    pub fn hook(&mut self, now: Time, hook: &Hook) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        self.roll_over_day(now);
        if hook.event == hook::SessionEvent::Alive && self.find(&hook.project, &hook.agent).is_none() {
            // A sign of life alone creates no agent: there is nothing to show.
            outcome.accepted = 1;
            return outcome;
        }
        let Some(project) = self.project_slot(&hook.project) else {
            let error = "the limit of projects is reached; use fewer project names";
            outcome.reject(("", 0), &hook.agent, RejectReason::SeriesCap, error.to_owned());
            return outcome;
        };
        let before = self.project_counts(project);
        let source = Arc::clone(&self.hooks);
        let Some((slot, is_new)) = self.agent_slot(now, project, &source, &hook.agent) else {
            self.state.series_dropped += SERIES_PER_AGENT as u64;
            outcome.reject(("", 0), &hook.agent, RejectReason::SeriesCap, self.cap_error());
            return outcome;
        };
        let forget_after = self.settings.agents.forget_after;
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return outcome };
        let sessions = Arc::make_mut(agent.sessions.get_or_insert_default());
        let mut result = sessions.apply(now, forget_after, hook);
        if let Some(hit) = &mut result.rate_limit_hit {
            hit.until = hit.until.map(|at| self.state.wall.from_wall(at));
        }
        let (owner, ttl) = (Arc::clone(&agent.source), agent.ttl);
        let is_ours = ttl.is_none();
        let is_active = result.is_activity && (is_ours || agent.last_activity.is_some());
        let mut update = AgentUpdate {
            name: Cow::Borrowed(&*hook.agent),
            agent_type: agent.agent_type.is_none().then(|| Cow::Borrowed(&*hook.agent_type)),
            last_activity: is_active.then(|| self.state.wall.to_wall(now)),
            ..AgentUpdate::default()
        };
        if let Some((status, reason)) = &result.status {
            update.status = Some(*status);
            update.reason = reason.as_deref().map_or(Patch::Clear, |reason| Patch::Set(Cow::Borrowed(reason)));
        }
        // A task that a hook created is also ended by a hook, even if the agent is polled or pushed by now.
        let began_here = |id: &str| id.strip_prefix(&*hook.agent).is_some_and(|rest| rest.starts_with('#'));
        if is_ours || agent.task.as_ref().is_some_and(|task| began_here(&task.id)) {
            // Tasks are numbered here, so that no id of a session or prompt is exposed.
            let task = result.prompt.map(|prompt| (format!("{}#{}", hook.agent, prompt.number), prompt.since));
            let is_other = |id: &str| agent.task.as_ref().is_none_or(|known| *known.id != *id);
            let began = task.as_ref().filter(|(id, _)| is_other(id)).map(|(_, since)| *since);
            update.task_started_at = began.map(|since| self.state.wall.to_wall(since));
            update.task_id = task.map_or(Patch::Clear, |(id, _)| Patch::Set(Cow::Owned(id)));
        }
        self.apply_agent(now, (project, slot, is_new), (&owner, ttl), &update, Some(&result));
        self.end_rate_limit_wait(now, slot);
        outcome.accepted = 1;
        self.refresh_project(now, project, before);
        self.mark_changed();
        outcome
    }
}

impl AgentReport<'_> {
    /// Applies what a hook reports in addition to a status.
    pub(super) fn apply_hook(&mut self, agent: &mut Agent, hook: &HookOutcome, project: &mut Project) {
        match &hook.rate_limit_hit {
            Some(hit) => self.rate_limited(agent, hit),
            None if hook.is_request_successful => self.request_succeeded(agent),
            None => {}
        }
        // An agent that pushes totals counts rate-limited requests itself.
        if agent.usage_owner != Some(UsageOwner::State) {
            let hits = u64::from(hook.rate_limit_hit.is_some());
            // Known from the first hook on, so that the first hit is an increase.
            agent.rate_limit_hits.add(hits);
            project.totals.rate_limit_hits.add(hits);
        }
        if let Some((prompt, is_done)) = hook.ended.filter(|_| agent.ttl.is_none()) {
            self.end_task(agent, project, is_done, Some(prompt.since));
            if is_done && agent.spending.is_some() {
                agent.spending_mut().record_success();
            }
        }
    }
}
