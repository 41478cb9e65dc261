//! What hooks say of agents: status, activity, the task at hand. They promise no rhythm.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::project::Project;
use crate::model::sessions::HookOutcome;
use crate::model::{Agent, AgentUpdate, Hook, Patch, RejectReason, Time, UsageOwner, hook};

use super::agent::AgentReport;
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT};

impl Fleet {
    /// Takes in a hook. An agent that a poll or a push reports stays theirs, with the rhythm that they promised and the
    /// tasks that they name, and what it does here is activity; one known from hooks alone never goes stale by silence.
    pub fn hook(&mut self, now: Time, hook: &Hook) -> IngestOutcome {
        let mut taken = IngestOutcome::default();
        self.turn_day(now);
        if hook.event == hook::SessionEvent::Alive && self.find(&hook.project, &hook.agent).is_none() {
            // Nothing is known of it that could be shown.
            taken.accepted = 1;
            return taken;
        }
        let Some(project) = self.project_slot(&hook.project) else {
            let error = "too many projects are known already; use fewer project names";
            taken.reject(("", 0), &hook.agent, RejectReason::SeriesCap, error.to_owned());
            return taken;
        };
        let before = self.tally(project);
        let source = Arc::clone(&self.hooks);
        let Some((slot, is_new)) = self.agent_slot(now, project, &source, &hook.agent) else {
            self.state.series_dropped += SERIES_PER_AGENT as u64;
            taken.reject(("", 0), &hook.agent, RejectReason::SeriesCap, self.cap_error());
            return taken;
        };
        let forget_after = self.settings.agents.forget_after;
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return taken };
        let sessions = Arc::make_mut(agent.sessions.get_or_insert_default());
        let mut heard = sessions.take(now, forget_after, hook);
        if let Some(refusal) = &mut heard.refusal {
            refusal.until = refusal.until.map(|at| self.state.wall.from_wall(at));
        }
        let (owner, ttl) = (Arc::clone(&agent.source), agent.ttl);
        let is_ours = ttl.is_none();
        let is_active = heard.is_activity && (is_ours || agent.last_activity.is_some());
        let mut update = AgentUpdate {
            name: Cow::Borrowed(&*hook.agent),
            agent_type: agent.agent_type.is_none().then(|| Cow::Borrowed(&*hook.agent_type)),
            last_activity: is_active.then(|| self.state.wall.to_wall(now)),
            ..AgentUpdate::default()
        };
        if let Some((status, reason)) = &heard.status {
            update.status = Some(*status);
            update.reason = reason.as_deref().map_or(Patch::Clear, |reason| Patch::Set(Cow::Borrowed(reason)));
        }
        // A task that began here ends here, also when others report the agent by now.
        let began_here = |id: &str| id.strip_prefix(&*hook.agent).is_some_and(|rest| rest.starts_with('#'));
        if is_ours || agent.task.as_ref().is_some_and(|task| began_here(&task.id)) {
            // Numbers of its own, so that no id of a session or a prompt is shown.
            let task = heard.prompt.map(|prompt| (format!("{}#{}", hook.agent, prompt.number), prompt.since));
            let is_other = |id: &str| agent.task.as_ref().is_none_or(|known| *known.id != *id);
            let began = task.as_ref().filter(|(id, _)| is_other(id)).map(|(_, since)| *since);
            update.task_started_at = began.map(|since| self.state.wall.to_wall(since));
            update.task_id = task.map_or(Patch::Clear, |(id, _)| Patch::Set(Cow::Owned(id)));
        }
        self.apply_agent(now, (project, slot, is_new), (&owner, ttl), &update, Some(&heard));
        self.end_wait(now, slot);
        taken.accepted = 1;
        self.settle_project(now, project, before);
        self.touched();
        taken
    }
}

impl AgentReport<'_> {
    /// Books what a hook tells beyond the state that it leaves.
    pub(super) fn take_heard(&mut self, agent: &mut Agent, heard: &HookOutcome, project: &mut Project) {
        match &heard.refusal {
            Some(refusal) => self.refused(agent, refusal),
            None if heard.is_answered => self.answered(agent),
            None => {}
        }
        // Who pushes totals counts refused requests and tasks himself.
        if agent.usage_owner != Some(UsageOwner::State) {
            let refused = u64::from(heard.refusal.is_some());
            // Known from the first hook on, so that the first refusal is an increase.
            agent.rate_limit_hits.add(refused);
            project.totals.rate_limit_hits.add(refused);
        }
        if let Some((prompt, is_done)) = heard.ended.filter(|_| agent.ttl.is_none()) {
            self.end_task(agent, project, is_done, Some(prompt.since));
            if is_done && agent.spending.is_some() {
                agent.spending_mut().succeeded();
            }
        }
    }
}
