//! What time alone changes: agents go stale and expire, those known from telemetry come to rest, rate limits end,
//! components expire, the day turns.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::model::hook::TurnFailure;
use crate::model::sessions::PATIENCE;
use crate::model::{Agent, AgentStatus, HistoryRow, Removal, Time};

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
    /// When [`Fleet::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.agent_deadlines.next(), self.component_deadlines.next(), Some(self.day_ends)].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) {
        self.turn_day(now);
        while let Some(slot) = self.agent_deadlines.pop_due(now) {
            self.expire_agent(now, slot);
        }
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

    /// Makes the agent stale or forgets it when that is due, else schedules when it will be.
    fn expire_agent(&mut self, now: Time, slot: u32) {
        self.end_limit(now, slot);
        self.rest(now, slot);
        self.end_wait(now, slot);
        let Some(agent) = self.state.agents.get(slot) else { return };
        // Our own downtime is not the agent's silence: nothing is late before its time has passed since our start.
        let heard =
            agent.last_seen.max(self.state.started_at).max(agent.possibly_reported_at.unwrap_or(agent.last_seen));
        let stale_at = agent.ttl.map(|ttl| heard.plus(ttl.max(self.grace(heard))));
        let forget_at = heard.plus(self.patience(agent));
        // Whoever promises a long silence would else be forgotten in place of being missed.
        let missed_at = stale_at.filter(|at| *at >= forget_at).map(|at| at.plus(self.settings.agents.timeout));
        let forget_at = missed_at.unwrap_or(forget_at);
        if let Some(limited) = &agent.limited {
            self.agent_deadlines.schedule(slot, limited.ends());
        }
        let project = agent.project_slot;
        if forget_at <= now {
            let before = self.tally(project);
            self.remove_agent(now, slot, Removal::Expired);
            self.settle_project(now, project, before);
            return;
        }
        match stale_at {
            Some(at) if !agent.stale && at > now => self.agent_deadlines.schedule(slot, at.min(forget_at)),
            Some(_) if !agent.stale => {
                self.make_stale(now, slot);
                self.agent_deadlines.schedule(slot, forget_at);
            }
            _ => self.agent_deadlines.schedule(slot, forget_at),
        }
    }

    /// After how long without a word the agent is forgotten. One that tells of itself only as it acts says nothing while it
    /// waits for a person, and must not be gone when that person comes in the morning.
    fn patience(&self, agent: &Agent) -> Duration {
        let asks = matches!(agent.status, Some(AgentStatus::WaitingQuestion | AgentStatus::WaitingReview));
        let forget_after = self.settings.agents.forget_after;
        if asks && agent.ttl.is_none() { forget_after.max(PATIENCE) } else { forget_after }
    }

    /// Ends what holds the agent up when its time has come.
    fn end_limit(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot) else { return };
        if agent.limited.as_ref().is_none_or(|limited| limited.ends() > now) {
            return;
        }
        let project = agent.project_slot;
        let before = self.tally(project);
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let Some(totals) = self.state.projects.get_mut(project as usize) else { return };
        let tally = Tally::of(agent, false);
        agent.limited = None;
        tally.replace_with(Tally::of(agent, false), Arc::make_mut(totals));
        // A run that it ended is down from now on, unless it was begun again.
        self.project_changed(project);
        self.settle_project(now, project, before);
        self.touched();
    }

    /// Ends the wait of an agent of which telemetry or a hook alone said that a rate limit holds it up, once none does:
    /// it runs for what is known, or sits idle where its session says that its turn is over.
    pub(super) fn end_wait(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot) else { return };
        if agent.limited.is_some() || agent.status != Some(AgentStatus::WaitingDependency) {
            return;
        }
        let is_ours = |reason: &str| agent.reason.as_deref() == Some(reason);
        if is_ours(super::telemetry::LIMITED) {
            return self.becomes(now, slot, AgentStatus::Running, None);
        }
        if is_ours(&TurnFailure::RateLimit.reason())
            && let Some(agent) = self.changes.agent(&mut self.state.agents, slot)
            && let Some(sessions) = &mut agent.sessions
            && let Some((status, reason)) = Arc::make_mut(sessions).limit_is_over()
        {
            self.becomes(now, slot, status, reason);
        }
    }

    /// Takes the agent for being in `status` though nobody reported it.
    pub(super) fn becomes(&mut self, now: Time, slot: u32, status: AgentStatus, reason: Option<Arc<str>>) {
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
        self.touched();
    }

    /// Nothing goes stale within `agents.timeout` of our start.
    fn grace(&self, heard: Time) -> Duration {
        if heard == self.state.started_at { self.settings.agents.timeout } else { Duration::ZERO }
    }

    fn make_stale(&mut self, now: Time, slot: u32) {
        let before = self.state.agents.get(slot).and_then(|agent| self.tally(agent.project_slot));
        let Some(agent) = self.changes.agent(&mut self.state.agents, slot) else { return };
        let Some(project) = self.state.projects.get_mut(agent.project_slot as usize) else { return };
        let tally = Tally::of(agent, false);
        agent.stale = true;
        tally.replace_with(Tally::of(agent, false), Arc::make_mut(project));
        let from = agent.status.map_or("", AgentStatus::as_str);
        self.changes.history.push(HistoryRow::of_agent(now, agent, from, "stale"));
        let project = agent.project_slot;
        self.settle_project(now, project, before);
        self.touched();
    }

    /// Turns the day when `now` is past its end.
    pub(super) fn turn_day(&mut self, now: Time) {
        if now >= self.day_ends {
            self.begin_day(now);
        }
    }

    /// Settles which day it is. On another one than before, what was used today is nothing again.
    pub(super) fn begin_day(&mut self, now: Time) {
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
        self.touched();
    }
}
