//! Changes by time alone: agents go stale and expire, agents known from telemetry become idle, rate limits end, components
//! expire, and the day of the budgets ends.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::model::hook::TurnFailure;
use crate::model::sessions::QUESTION_TTL;
use crate::model::{Agent, AgentStatus, Deadlines, HistoryRow, Removal, Time};

use super::Fleet;
use super::project::Tally;

/// The day that `now` belongs to in `zone`, as days since 1970, and when it ends.
pub(super) fn day_at(now: Time, zone: &TimeZone) -> (i32, Time) {
    let local = now.to_jiff().to_zoned_datetime(zone.clone());
    let day = local.date().since(jiff::civil::date(1970, 1, 1)).map_or(0, |span| span.get_days());
    let ends = local
        .tomorrow()
        .and_then(|next| next.start_of_day())
        .map_or(now.plus(Duration::from_secs(86_400)), |next| Time::from_millis(next.timestamp().as_millisecond()));
    (day, ends)
}

impl Fleet {
    /// When [`Fleet::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Time> {
        let [agents, components] = [&self.agent_deadlines, &self.component_deadlines].map(Deadlines::next);
        [agents, components, self.custom_deadlines.next(), Some(self.day_ends)].into_iter().flatten().min()
    }

    /// Applies all changes that are due at `now`.
    pub fn tick(&mut self, now: Time) {
        self.roll_over_day(now);
        while let Some(slot) = self.agent_deadlines.pop_due(now) {
            self.expire_agent(now, slot);
        }
        self.expire_metrics(now);
        while let Some(slot) = self.component_deadlines.pop_due(now) {
            let forget_after = self.settings.agents.forget_after;
            let Some(component) = self.state.components.get(slot) else { continue };
            let at = component.last_seen.max(self.state.started_at).plus(forget_after);
            if at <= now {
                self.remove_component(now, slot);
            } else {
                self.component_deadlines.schedule(slot, at);
            }
        }
    }

    /// Marks the agent as stale or removes it if that is due, and schedules the next check.
    fn expire_agent(&mut self, now: Time, slot: u32) {
        self.end_rate_limit(now, slot);
        self.expire_telemetry_activity(now, slot);
        self.end_rate_limit_wait(now, slot);
        self.expire_runs(now, slot);
        let forget_after = self.settings.agents.forget_after;
        let Some(agent) = self.state.agents.get(slot) else { return };
        // Reports during our own downtime are not known, so all periods count from our start at the earliest.
        let last_seen =
            agent.last_seen.max(self.state.started_at).max(agent.possibly_reported_at.unwrap_or(agent.last_seen));
        let stale_at = agent.ttl.map(|ttl| last_seen.plus(ttl.max(self.grace(last_seen))));
        let expires_at = last_seen.plus(self.expiry_after(agent));
        // An agent with a long `ttl` must be stale before it expires.
        let expires_after_stale =
            stale_at.filter(|at| *at >= expires_at).map(|at| at.plus(self.settings.agents.timeout));
        let expires_at = expires_after_stale.unwrap_or(expires_at);
        // A run in progress reports nothing until it ends.
        let is_running = agent.ttl.is_none() && agent.runs.as_ref().is_some_and(|runs| !runs.running().is_empty());
        let expires_at = if is_running { expires_at.max(now.plus(forget_after)) } else { expires_at };
        if let Some(limited) = &agent.limited {
            self.agent_deadlines.schedule(slot, limited.ends());
        }
        let project = agent.project_slot;
        if expires_at <= now {
            let before = self.project_counts(project);
            self.remove_agent(now, slot, Removal::Expired);
            self.refresh_project(now, project, before);
            return;
        }
        match stale_at {
            Some(at) if !agent.stale && at > now => self.agent_deadlines.schedule(slot, at.min(expires_at)),
            Some(_) if !agent.stale => {
                self.mark_stale(now, slot);
                self.agent_deadlines.schedule(slot, expires_at);
            }
            _ => self.agent_deadlines.schedule(slot, expires_at),
        }
    }

    /// How long after the last report the agent expires. An agent known only from hooks reports nothing while it waits for
    /// the user, and must still be there when the user comes back.
    fn expiry_after(&self, agent: &Agent) -> Duration {
        let has_question = matches!(agent.status, Some(AgentStatus::WaitingQuestion | AgentStatus::WaitingReview));
        let forget_after = self.settings.agents.forget_after;
        if has_question && agent.ttl.is_none() { forget_after.max(QUESTION_TTL) } else { forget_after }
    }

    /// Ends the agent's rate limit if that is due.
    fn end_rate_limit(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot) else { return };
        if agent.limited.as_ref().is_none_or(|limited| limited.ends() > now) {
            return;
        }
        let project = agent.project_slot;
        let before = self.project_counts(project);
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let Some(totals) = self.state.projects.get_mut(project as usize) else { return };
        let tally = Tally::of(agent, false);
        agent.limited = None;
        tally.replace_with(Tally::of(agent, false), Arc::make_mut(totals));
        // An agent whose run it ended is down from now on, unless it was restarted.
        self.project_changed(project);
        self.refresh_project(now, project, before);
        self.mark_changed();
    }

    /// Ends the wait for a rate limit, once it has ended, of an agent known from telemetry or hooks: it is running as far as
    /// telemetry knows, or idle if its session reported the end of its turn.
    pub(super) fn end_rate_limit_wait(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot) else { return };
        if agent.limited.is_some() || agent.status != Some(AgentStatus::WaitingDependency) {
            return;
        }
        let is_ours = |reason: &str| agent.reason.as_deref() == Some(reason);
        if is_ours(super::telemetry::LIMITED) {
            return self.set_status(now, slot, AgentStatus::Running, None);
        }
        if is_ours(&TurnFailure::RateLimit.reason())
            && let Some(agent) = self.changes.agent(&mut self.state.agents, slot)
            && let Some(sessions) = &mut agent.sessions
            && let Some((status, reason)) = Arc::make_mut(sessions).rate_limit_ended()
        {
            self.set_status(now, slot, status, reason);
        }
    }

    /// Sets a status that follows from other data than a report of it.
    pub(super) fn set_status(&mut self, now: Time, slot: u32, status: AgentStatus, reason: Option<Arc<str>>) {
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let project = agent.project_slot;
        let Some(totals) = self.state.projects.get_mut(project as usize) else { return };
        let from = agent.status.map_or("", AgentStatus::as_str);
        let tally = Tally::of(agent, false);
        (agent.status, agent.status_since, agent.reason) = (Some(status), now, reason);
        agent.status_changes = agent.status_changes.saturating_add(1);
        tally.replace_with(Tally::of(agent, false), Arc::make_mut(totals));
        let row = HistoryRow::of_agent(now, agent, from, status.as_str());
        self.changes.history.push(HistoryRow { reason: agent.reason.clone(), ..row });
        self.project_changed(project);
        self.mark_changed();
    }

    /// The time within which nothing is stale: `agents.timeout` after our start.
    fn grace(&self, last_seen: Time) -> Duration {
        if last_seen == self.state.started_at { self.settings.agents.timeout } else { Duration::ZERO }
    }

    fn mark_stale(&mut self, now: Time, slot: u32) {
        let before = self.state.agents.get(slot).and_then(|agent| self.project_counts(agent.project_slot));
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let Some(project) = self.state.projects.get_mut(agent.project_slot as usize) else { return };
        let tally = Tally::of(agent, false);
        agent.stale = true;
        tally.replace_with(Tally::of(agent, false), Arc::make_mut(project));
        let from = agent.status.map_or("", AgentStatus::as_str);
        self.changes.history.push(HistoryRow::of_agent(now, agent, from, "stale"));
        let project = agent.project_slot;
        self.refresh_project(now, project, before);
        self.mark_changed();
    }

    /// Begins a new day if `now` is past the end of the current one.
    pub(super) fn roll_over_day(&mut self, now: Time) {
        if now >= self.day_ends {
            self.set_day(now);
        }
    }

    /// Sets the day that `now` belongs to; if it is a new one, the daily usage of all agents is reset.
    pub(super) fn set_day(&mut self, now: Time) {
        let before = self.day;
        (self.day, self.day_ends) = day_at(now, &self.zone);
        self.state.day_ends = self.day_ends;
        if self.day == before {
            return;
        }
        self.changes.new_day = true;
        let used: Vec<u32> =
            self.state.agents.iter().filter(|agent| agent.day != self.day).map(|agent| agent.slot).collect();
        for slot in used {
            if let Some(agent) = self.changes.agent(&mut self.state.agents, slot) {
                (agent.day, agent.day_tokens, agent.day_cost_usd) = (self.day, 0, 0.0);
            }
        }
        self.mark_changed();
    }
}
