//! Applies increments from telemetry, unless the agent's usage is reported in another way.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{
    ActiveRateLimit, Agent, AgentStatus, AgentTelemetry, AgentUpdate, Patch, Project, RejectReason, Time, UsageOwner,
};

use super::agent::{PriceStatus, UsageIncrement};
use super::project::{Tally, add_tokens, end_task};
use super::{Fleet, IngestOutcome, SERIES_PER_AGENT, rate_limits};

/// The reason of an agent that is known from telemetry to be rate-limited.
pub(super) const LIMITED: &str = "its requests are rate-limited";
/// The reason of an agent that is idle for lack of telemetry.
const NO_ACTIVITY: &str = "no activity in its telemetry";

impl Fleet {
    /// Applies increments from telemetry. It arrives at no fixed interval, so its absence makes no agent stale.
    pub fn telemetry(&mut self, now: Time, increments: &[AgentTelemetry]) -> IngestOutcome {
        let mut outcome = IngestOutcome::default();
        self.roll_over_day(now);
        for telemetry in increments {
            match self.apply_telemetry(now, telemetry) {
                Ok(()) => outcome.accepted += 1,
                Err((reason, error)) => outcome.reject(("", 0), &telemetry.agent, reason, error),
            }
        }
        self.mark_changed();
        outcome
    }

    /// Derives the status of an agent known only from telemetry: running while there is activity, waiting while it is
    /// rate-limited. [`Fleet::expire_telemetry_activity`] ends that, as telemetry never
    /// reports that an agent is idle.
    fn apply_activity(&mut self, now: Time, (project, slot): (u32, u32), telemetry: &AgentTelemetry) {
        let (Some(agent), Some(active)) = (self.state.agents.get(slot), telemetry.active) else { return };
        if !self.is_telemetry_only(agent) {
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

    /// Whether the agent is known only from telemetry.
    fn is_telemetry_only(&self, agent: &Agent) -> bool {
        agent.source == self.otlp && agent.ttl.is_none() && agent.sessions.is_none()
    }

    /// Makes an agent known only from telemetry idle if it had no activity for `agents.max_idle`.
    pub(super) fn expire_telemetry_activity(&mut self, now: Time, slot: u32) {
        let Some(agent) = self.state.agents.get(slot).filter(|agent| self.is_telemetry_only(agent)) else { return };
        let is_active = matches!(agent.status, Some(AgentStatus::Running | AgentStatus::WaitingDependency));
        // Activity before our start is not known.
        let last_seen = agent.last_activity.unwrap_or(agent.last_seen).max(self.state.started_at);
        let idle_at = last_seen.plus(self.settings.agents.max_idle);
        if !is_active || agent.limited.is_some() {
            return;
        }
        if idle_at > now {
            return self.agent_deadlines.schedule(slot, idle_at);
        }
        self.set_status(now, slot, AgentStatus::Idle, Some(Arc::from(NO_ACTIVITY)));
    }

    fn apply_telemetry(&mut self, now: Time, telemetry: &AgentTelemetry) -> Result<(), (RejectReason, String)> {
        let Some(project_slot) = self.project_slot(&telemetry.project) else {
            return Err((
                RejectReason::SeriesCap,
                "the limit of projects is reached; use fewer project names".to_owned(),
            ));
        };
        let before = self.project_counts(project_slot);
        let source = Arc::clone(&self.otlp);
        let Some((slot, is_new)) = self.agent_slot(now, project_slot, &source, &telemetry.agent) else {
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
            // The liveness of an agent with a `ttl` depends on its own reports only.
            agent.last_seen = now;
        }
        agent.agent_type.get_or_insert_with(|| Arc::from(telemetry.agent_type));
        if telemetry.model.is_some() && agent.model != telemetry.model {
            agent.model.clone_from(&telemetry.model);
        }
        agent.context_window_ratio = telemetry.context_window_ratio.or(agent.context_window_ratio);
        let has_numbers = telemetry.has_usage() || request_counts(telemetry).iter().any(|count| *count > 0);
        if let Some(at) = &mut agent.last_activity
            && (agent.ttl.is_some() || agent.sessions.is_some() && has_numbers)
        {
            // Only if its activity is reported otherwise: a pause between exports is not idleness. And an export without
            // increments is not an activity.
            *at = now.max(*at);
        }
        let owner = agent.usage_owner;
        let is_ours = owner.is_none_or(|owner| owner == UsageOwner::Telemetry);
        if has_numbers && is_ours {
            agent.usage_owner = Some(UsageOwner::Telemetry);
            count_requests(now, agent, totals, telemetry);
        }
        if telemetry.has_usage() && is_ours {
            add_tokens(&mut agent.tokens, &telemetry.tokens);
            if let Some(cost) = telemetry.cost_usd {
                agent.cost_usd.add(cost);
            }
            let increment = UsageIncrement::reported(now, self.state.started_at, telemetry.tokens, telemetry.cost_usd);
            let price = match telemetry.cost_usd {
                None if telemetry.price_follows => PriceStatus::Follows,
                cost => PriceStatus::unknown(cost.is_none()),
            };
            increment.add_to(agent, totals, price, self.settings.budgets.count_cache_read);
        }
        if rate_limits::apply_telemetry(agent, now, telemetry, &self.state.wall) {
            let ends = agent.limited.as_ref().map(ActiveRateLimit::ends);
            ends.into_iter().for_each(|at| self.agent_deadlines.schedule(slot, at));
        }
        // Another source of the agent reports its tasks, too.
        let counts_tasks = agent.ttl.is_none() && agent.sessions.is_none();
        for task in telemetry.tasks.iter().filter(|_| counts_tasks) {
            end_task(now, agent, totals, *task);
            if task.is_done && agent.spending.is_some() {
                agent.spending_mut().record_success();
            }
        }
        if !telemetry.durations.is_empty() {
            totals.request_durations.add(&telemetry.durations);
        }
        tally.replace_with(Tally::of(agent, false), totals);
        self.apply_activity(now, (project_slot, slot), telemetry);
        self.end_rate_limit_wait(now, slot);
        self.refresh_project(now, project_slot, before);
        if has_numbers && !is_ours {
            let error = "the agent's usage is reported in another way already; report it in one way only";
            return Err((RejectReason::UsageOwner, error.to_owned()));
        }
        Ok(())
    }
}

/// Requests, failed, rate-limited and retried ones of an export.
const fn request_counts(telemetry: &AgentTelemetry) -> [u64; 4] {
    [telemetry.requests, telemetry.request_errors, telemetry.rate_limit_hits, telemetry.retries]
}

/// Adds the requests of an export to the agent and its project, without rate-limited ones that a hook reported before.
fn count_requests(now: Time, agent: &mut Agent, project: &mut Project, telemetry: &AgentTelemetry) {
    let mut counts = request_counts(telemetry);
    let [_, _, hits, _] = &mut counts;
    if *hits > 0
        && let Some(sessions) = &mut agent.sessions
    {
        *hits -= Arc::make_mut(sessions).match_rate_limits(now, *hits);
    }
    let of_agent = [&mut agent.requests, &mut agent.request_errors, &mut agent.rate_limit_hits, &mut agent.retries];
    let sums = &mut project.totals;
    let of_project = [&mut sums.requests, &mut sums.request_errors, &mut sums.rate_limit_hits, &mut sums.retries];
    for ((count, sum), step) in of_agent.into_iter().zip(of_project).zip(counts) {
        count.add(step);
        sum.add(step);
    }
}
