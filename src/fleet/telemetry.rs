//! Increments from telemetry: whose they are, and that no other kind of report has them already.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{
    ActiveRateLimit, Agent, AgentStatus, AgentTelemetry, AgentUpdate, Patch, RejectReason, Time, UsageOwner,
};

use super::agent::{PriceStatus, UsageIncrement};
use super::project::{Tally, add_tokens, end_task};
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT, rate_limits};

/// Why an agent waits that a rate limit holds up.
pub(super) const LIMITED: &str = "its requests are rate-limited";
/// Why an agent is taken for idle.
const RESTS: &str = "no activity in its telemetry";

impl Fleet {
    /// Takes in what telemetry says of agents. Telemetry promises no rhythm: silence alone makes nobody stale.
    pub fn telemetry(&mut self, now: Time, said: &[AgentTelemetry]) -> IngestOutcome {
        let mut taken = IngestOutcome::default();
        self.turn_day(now);
        for telemetry in said {
            match self.take_telemetry(now, telemetry) {
                Ok(()) => taken.accepted += 1,
                Err((reason, error)) => taken.reject(("", 0), &telemetry.agent, reason, error),
            }
        }
        self.touched();
        taken
    }

    /// Takes an agent that nobody else tells of for running while it does something, and for waiting while a rate limit
    /// holds it up. [`Fleet::rest`] ends that: telemetry never says that an agent is idle.
    fn take_activity(&mut self, now: Time, (project, slot): (u32, u32), said: &AgentTelemetry) {
        let (Some(agent), Some(active)) = (self.state.agents.get(slot), said.active) else { return };
        if !self.is_telemetrys(agent) {
            return;
        }
        let active = self.state.wall.from_wall(active).min(now);
        let active = agent.last_activity.map_or(active, |known| known.max(active));
        let is_limited = agent.limited.is_some();
        let update = AgentUpdate {
            name: Cow::Owned(agent.name.to_string()),
            status: Some(if is_limited { AgentStatus::WaitingDependency } else { AgentStatus::Running }),
            reason: if is_limited { Patch::Set(Cow::Borrowed(LIMITED)) } else { Patch::Clear },
            last_activity: Some(self.state.wall.to_wall(active)),
            ..AgentUpdate::default()
        };
        let source = Arc::clone(&self.otlp);
        self.apply_agent(now, (project, slot, false), (&source, None), &update, None);
        self.agent_deadlines.schedule(slot, active.plus(self.settings.agents.max_idle));
    }

    /// Whether telemetry alone tells of the agent.
    fn is_telemetrys(&self, agent: &Agent) -> bool {
        agent.source == self.otlp && agent.ttl.is_none() && agent.sessions.is_none()
    }

    /// Takes an agent that telemetry alone tells of for idle when it has told nothing for `agents.max_idle`.
    pub(super) fn rest(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot).filter(|agent| self.is_telemetrys(agent)) else { return };
        let works = matches!(agent.status, Some(AgentStatus::Running | AgentStatus::WaitingDependency));
        // Nobody was there to hear it before our start.
        let heard = agent.last_activity.unwrap_or(agent.last_seen).max(self.state.started_at);
        let rests_at = heard.plus(self.settings.agents.max_idle);
        if !works || agent.limited.is_some() {
            return;
        }
        if rests_at > now {
            return self.agent_deadlines.schedule(slot, rests_at);
        }
        self.becomes(now, slot, AgentStatus::Idle, Some(Arc::from(RESTS)));
    }

    fn take_telemetry(&mut self, now: Time, said: &AgentTelemetry) -> Result<(), (RejectReason, String)> {
        let Some(project_slot) = self.project_slot(&said.project) else {
            return Err((
                RejectReason::SeriesCap,
                "too many projects are known already; use fewer project names".to_owned(),
            ));
        };
        let before = self.tally(project_slot);
        let source = Arc::clone(&self.otlp);
        let Some((slot, is_new)) = self.agent_slot(now, project_slot, &source, &said.agent) else {
            self.state.series_dropped += SERIES_PER_AGENT as u64;
            return Err((RejectReason::SeriesCap, self.cap_error()));
        };
        let (Some(agent), Some(totals)) = (
            self.changes.agent(&mut self.state.agents, slot),
            self.state.projects.get_mut(project_slot as usize).map(Arc::make_mut),
        ) else {
            return Ok(());
        };
        let tally = Tally::of(agent, is_new);
        if is_new {
            self.agent_deadlines.schedule(slot, now.plus(self.settings.agents.forget_after));
        }
        if agent.ttl.is_none() {
            // Whoever promised a rhythm is heard by it alone; anybody else is heard by this.
            agent.last_seen = now;
        }
        agent.agent_type.get_or_insert_with(|| Arc::from(said.agent_type));
        if said.model.is_some() && agent.model != said.model {
            agent.model.clone_from(&said.model);
        }
        agent.context_window_ratio = said.context_window_ratio.or(agent.context_window_ratio);
        let mut counts = [said.requests, said.request_errors, said.rate_limit_hits, said.retries];
        let has_numbers = said.has_usage() || counts.iter().any(|count| *count > 0);
        if let Some(at) = &mut agent.last_activity
            && (agent.ttl.is_some() || agent.sessions.is_some() && has_numbers)
        {
            // Only of those whose activity is reported: a pause between two exports is nobody's idleness, and an export
            // that adds nothing is no activity of one who waits.
            *at = now.max(*at);
        }
        let owner = agent.usage_owner;
        let is_ours = owner.is_none_or(|owner| owner == UsageOwner::Telemetry);
        if has_numbers && is_ours {
            agent.usage_owner = Some(UsageOwner::Telemetry);
            let [_, _, refused, _] = &mut counts;
            if *refused > 0
                && let Some(sessions) = &mut agent.sessions
            {
                // A hook told of it at once.
                *refused -= Arc::make_mut(sessions).take_reported_by_hooks(now, *refused);
            }
            let all = [&mut agent.requests, &mut agent.request_errors, &mut agent.rate_limit_hits, &mut agent.retries];
            let sums = &mut totals.totals;
            let of_project =
                [&mut sums.requests, &mut sums.request_errors, &mut sums.rate_limit_hits, &mut sums.retries];
            for ((count, sum), step) in all.into_iter().zip(of_project).zip(counts) {
                count.add(step);
                sum.add(step);
            }
        }
        if said.has_usage() && is_ours {
            add_tokens(&mut agent.tokens, &said.tokens);
            let cost = said.cost_usd.unwrap_or(0.0);
            if said.cost_usd.is_some() {
                agent.cost_usd.add(cost);
            }
            let tokens = said.tokens;
            let started_at = self.state.started_at;
            let used =
                UsageIncrement { now, started_at, is_total: false, tokens, day_tokens: tokens, cost, day_cost: cost };
            let price = match said.cost_usd {
                None if said.price_follows => PriceStatus::Follows,
                cost => PriceStatus::unknown(cost.is_none()),
            };
            used.spend(agent, totals, price, self.settings.budgets.count_cache_read);
        }
        if rate_limits::take_telemetry(agent, now, said, &self.state.wall) {
            let ends = agent.limited.as_ref().map(ActiveRateLimit::ends);
            ends.into_iter().for_each(|at| self.agent_deadlines.schedule(slot, at));
        }
        // Whoever reports the agent otherwise tells of its tasks as well.
        let tells_tasks = agent.ttl.is_none() && agent.sessions.is_none();
        for task in said.tasks.iter().filter(|_| tells_tasks) {
            end_task(now, agent, totals, *task);
            if task.is_done && agent.spending.is_some() {
                agent.spending_mut().succeeded();
            }
        }
        if !said.durations.is_empty() {
            totals.request_durations.add(&said.durations);
        }
        tally.replace_with(Tally::of(agent, false), totals);
        self.take_activity(now, (project_slot, slot), said);
        self.end_wait(now, slot);
        self.settle_project(now, project_slot, before);
        if has_numbers && !is_ours {
            let error =
                "another kind of report owns this agent's tokens and requests; report its usage in one way only";
            return Err((RejectReason::UsageOwner, error.to_owned()));
        }
        Ok(())
    }
}
