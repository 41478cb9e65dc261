//! Applies one report to one agent and records what it changed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::decode::limits::is_about_limit;
use crate::model::project::Project;
use crate::model::sessions::HookOutcome;
use crate::model::spending::UsageReport;
use crate::model::{
    Agent, AgentStatus, AgentUpdate, EndedTask, HistoryRow, Patch, RateLimitHit, Task, Time, TokenType, UsageOwner,
    WallClock,
};

use super::project::{add_model_usage, add_tokens, end_task};

/// The reason of an agent that is reported as not running without any other reason.
pub(super) const NOT_RUNNING: &str = "not running";

/// A report that is being applied, and what it has changed.
pub(super) struct AgentReport<'a> {
    pub(super) now: Time,
    pub(super) wall: &'a WallClock,
    started_at: Time,
    count_cache_read: bool,
    /// What a hook changes in addition, if the report is one. Tasks of a hook end by its prompts, not by the status.
    hook: Option<&'a HookOutcome>,
    /// Whether progress, phase or task changed.
    has_moved: bool,
    /// Whether progress was reported or the phase changed from one to another, so that the agent reports progress.
    has_progressed: bool,
    pub(super) history: Option<HistoryRow>,
    pub(super) task_changed: bool,
    pub(super) old_task: Option<Arc<str>>,
    /// Whether usage was rejected, since the agent's usage is reported in another way.
    pub(super) is_usage_rejected: bool,
    /// Whether it contains a rate-limited request, or a limit of which nothing remains.
    pub(super) is_rate_limited: bool,
    /// Whether it ended the agent's run.
    pub(super) has_ended: bool,
}

impl<'a> AgentReport<'a> {
    pub(super) const fn new(
        now: Time,
        started_at: Time,
        wall: &'a WallClock,
        count_cache_read: bool,
        hook: Option<&'a HookOutcome>,
    ) -> Self {
        Self {
            now,
            wall,
            started_at,
            count_cache_read,
            hook,
            has_moved: false,
            has_progressed: false,
            history: None,
            task_changed: false,
            old_task: None,
            is_usage_rejected: false,
            is_rate_limited: false,
            has_ended: false,
        }
    }

    /// Applies `update` to `agent`, and its increases to the sums of `project`.
    pub(super) fn apply(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>, project: &mut Project) {
        agent.stale = false;
        agent.last_seen = self.now;
        self.describe(agent, update);
        self.apply_task(agent, update);
        self.apply_status(agent, update, project);
        if let Some(at) = update.last_activity {
            agent.last_activity = Some(self.wall.resolve(self.now, at, agent.last_activity).min(self.now));
        } else if update.is_last_activity_unreadable {
            agent.last_activity = None;
        }
        self.apply_counters(agent, update, project);
        self.apply_usage(agent, update, project);
        if let Some(hook) = self.hook {
            self.apply_hook(agent, hook, project);
        }
        self.settle_rate_limit(agent);
        // After the usage, which led to this progress.
        if self.has_moved || self.task_changed {
            self.record_progress(agent);
        }
    }

    /// Records progress for the spending statistics.
    fn record_progress(&mut self, agent: &mut Agent) {
        if agent.spending.is_some() {
            agent.spending_mut().record_progress(self.has_progressed);
        }
    }

    /// Records failures, completion and resumed work for the spending statistics.
    fn record_task_result(&mut self, agent: &mut Agent, changed: bool, has_failed: bool, other_reason: bool) {
        // A failure with the next task is a new one, even if no other status was reported in between.
        let is_new = changed || self.task_changed && agent.task.is_some();
        match (agent.status, agent.reason.clone()) {
            (Some(AgentStatus::Failed), Some(reason)) if has_failed && (is_new || other_reason) => {
                agent.spending_mut().record_failure(self.now, &reason, is_new);
            }
            (Some(AgentStatus::Completed), _) if changed && agent.spending.is_some() => {
                agent.spending_mut().record_success()
            }
            (Some(AgentStatus::Starting | AgentStatus::Running), _) if changed && agent.spending.is_some() => {
                agent.spending_mut().record_work();
            }
            _ => {}
        }
    }

    fn describe(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>) {
        set(&mut agent.agent_type, update.agent_type.as_ref());
        set(&mut agent.model, update.model.as_ref());
        let had_phase = agent.phase.is_some();
        self.has_moved = patch(&mut agent.phase, &update.phase);
        self.has_progressed = self.has_moved && had_phase && agent.phase.is_some();
        let progress = match update.progress {
            Patch::Keep => agent.progress,
            Patch::Clear => None,
            Patch::Set(percent) => Some((percent / 100.0).clamp(0.0, 1.0)),
        };
        if agent.progress != progress {
            agent.progress = progress;
            (self.has_moved, self.has_progressed) = (true, true);
        }
        match update.context_window_ratio {
            Patch::Keep => {}
            Patch::Clear => agent.context_window_ratio = None,
            Patch::Set(ratio) => agent.context_window_ratio = Some(ratio),
        }
        match update.estimated_completion {
            Patch::Keep => {}
            Patch::Clear => agent.estimated_completion = None,
            Patch::Set(at) => agent.estimated_completion = Some(self.wall.from_wall(at)),
        }
        if let Some(limits) = &update.rate_limits {
            self.apply_rate_limits(agent, limits);
        }
    }

    fn apply_task(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>) {
        let known = agent.task.as_ref().map(|task| task.started_at);
        let reported = update.task_started_at.map(|at| self.wall.resolve(self.now, at, known).min(self.now));
        match &update.task_id {
            Patch::Keep => {}
            Patch::Clear => {
                if let Some(task) = agent.task.take() {
                    (self.task_changed, self.old_task) = (true, Some(task.id));
                }
            }
            Patch::Set(id) => {
                if agent.task.as_ref().is_none_or(|task| *task.id != **id) {
                    let started_at = reported.unwrap_or(self.now);
                    let task = Task {
                        id: Arc::from(&**id),
                        started_at,
                        worked: Duration::ZERO,
                        working_since: Some(started_at),
                        tokens: 0,
                    };
                    self.old_task = agent.task.replace(task).map(|old| old.id);
                    self.task_changed = true;
                }
            }
        }
        if let (Some(task), Some(at)) = (&mut agent.task, reported)
            && task.started_at != at
        {
            (task.started_at, task.worked, task.working_since) = (at, Duration::ZERO, Some(at));
            self.task_changed = true;
        }
    }

    fn apply_status(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>, project: &mut Project) {
        if update.ended && update.status.is_none() {
            return self.apply_unknown_end(agent, update);
        }
        let reported = update.status.or(match (update.running, agent.status) {
            (Some(false), _) => Some(AgentStatus::Failed),
            (Some(true), None | Some(AgentStatus::Failed | AgentStatus::Completed)) => Some(AgentStatus::Running),
            _ => None,
        });
        let flagged_down = update.status.is_none() && update.running == Some(false);
        let from = agent.status;
        let changed = reported.is_some_and(|reported| from != Some(reported));
        let was_held = agent.reason.as_deref().is_some_and(is_about_limit);
        if let Some(to) = reported.filter(|_| changed) {
            (agent.status, agent.status_since, agent.ended) = (Some(to), self.now, false);
            self.has_ended = to.is_over();
            if was_held && !to.is_over() && to != AgentStatus::WaitingDependency && self.hook.is_none() {
                // The reporter named a rate limit before and now reports that work continues.
                self.request_succeeded(agent);
            }
            if from.is_some() {
                agent.status_changes = agent.status_changes.saturating_add(1);
            }
            agent.reason = flagged_down.then(|| Arc::from(NOT_RUNNING));
            let ended_task = to.is_over() && from.is_some_and(|from| !from.is_over()) && self.hook.is_none();
            if ended_task && (agent.task.is_some() || !flagged_down) {
                let began = agent.task.as_ref().map(|task| task.started_at);
                self.end_task(agent, project, to == AgentStatus::Completed, began);
            }
        }
        let other_reason = patch(&mut agent.reason, &update.reason);
        if let Some(hit) = update.rate_limit_hit.as_ref().filter(|_| changed || other_reason) {
            let until = hit.until.map(|at| self.wall.from_wall(at));
            self.rate_limited(agent, &RateLimitHit { until, ..hit.clone() });
        }
        self.record_task_result(agent, changed, reported == Some(AgentStatus::Failed) && !flagged_down, other_reason);
        if changed {
            let [from, to] = [from, agent.status].map(|status| status.map_or("", AgentStatus::as_str));
            let row = HistoryRow::of_agent(self.now, agent, from, to);
            self.history = Some(HistoryRow { reason: agent.reason.clone(), ..row });
        }
        let works = matches!(agent.status, None | Some(AgentStatus::Starting | AgentStatus::Running));
        if let Some(task) = &mut agent.task {
            match (works, task.working_since) {
                (true, None) => task.working_since = Some(self.now),
                (false, Some(_)) => {
                    (task.worked, task.working_since) = (task.worked_at(self.now), None);
                }
                _ => {}
            }
        }
    }

    /// Records that the run ended with an unknown result, which is neither success nor failure.
    fn apply_unknown_end(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>) {
        patch(&mut agent.reason, &update.reason);
        if agent.ended {
            return;
        }
        let from = agent.status.take().map_or("", AgentStatus::as_str);
        (agent.ended, agent.status_since, self.has_ended) = (true, self.now, true);
        if let Some(task) = &mut agent.task
            && task.working_since.is_some()
        {
            (task.worked, task.working_since) = (task.worked_at(self.now), None);
        }
        let row = HistoryRow::of_agent(self.now, agent, from, "ended");
        self.history = Some(HistoryRow { reason: agent.reason.clone(), ..row });
    }

    /// Counts a finished task and its duration.
    pub(super) fn end_task(&self, agent: &mut Agent, project: &mut Project, is_done: bool, began: Option<Time>) {
        end_task(self.now, agent, project, EndedTask { is_done, took: began.map(|began| self.now.since(began)) });
    }

    fn apply_counters(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>, project: &mut Project) {
        let totals = &mut project.totals;
        let before = [agent.requests, agent.request_errors, agent.rate_limit_hits];
        let is_telemetry_only = agent.usage_owner == Some(UsageOwner::Telemetry);
        let counters = [
            (update.restart_count, &mut agent.restarts, &mut totals.restarts, false),
            (update.requests, &mut agent.requests, &mut totals.requests, true),
            (update.request_errors, &mut agent.request_errors, &mut totals.request_errors, true),
            (update.rate_limit_hits, &mut agent.rate_limit_hits, &mut totals.rate_limit_hits, true),
            (update.retries, &mut agent.retries, &mut totals.retries, true),
            (update.reviews_passed, &mut agent.reviews_passed, &mut totals.reviews_passed, false),
            (update.reviews_failed, &mut agent.reviews_failed, &mut totals.reviews_failed, false),
        ];
        for (value, count, total, is_of_requests) in counters {
            let Some(value) = value else { continue };
            // Telemetry counts the requests of this agent already.
            if is_telemetry_only && is_of_requests {
                self.is_usage_rejected = true;
                continue;
            }
            let first = count.get().is_none();
            let step = count.report(value);
            if first || step > 0 {
                total.add(step);
            }
        }
        // Reported limits are more precise than counters.
        if update.rate_limits.is_none() {
            let after = [agent.requests, agent.request_errors, agent.rate_limit_hits];
            self.apply_request_counts(agent, before, after);
        }
    }

    fn apply_usage(&mut self, agent: &mut Agent, update: &AgentUpdate<'_>, project: &mut Project) {
        if update.cost_usd.is_none() && update.tokens.iter().all(Option::is_none) {
            return;
        }
        if *agent.usage_owner.get_or_insert(UsageOwner::State) != UsageOwner::State {
            self.is_usage_rejected = true;
            return;
        }
        let mut steps = [0; 5];
        let mut day_steps = [0; 5];
        for (place, value) in update.tokens.iter().enumerate() {
            let (Some(value), Some(count)) = (value, agent.tokens.get_mut(place)) else { continue };
            let first = count.get().is_none();
            let step = count.report(*value);
            if let (Some(all), Some(day)) = (steps.get_mut(place), day_steps.get_mut(place)) {
                // Usage before the agent was first seen does not count for today.
                (*all, *day) = (step, if first { 0 } else { step });
            }
        }
        let first_cost = agent.cost_usd.get().is_none();
        let cost = update.cost_usd.map_or(0.0, |cost| agent.cost_usd.report(cost));
        let unpriced = update.cost_usd.is_none() && first_cost;
        let increment = UsageIncrement {
            now: self.now,
            started_at: self.started_at,
            is_total: true,
            tokens: steps,
            day_tokens: day_steps,
            cost,
            day_cost: if first_cost { 0.0 } else { cost },
        };
        increment.add_to(agent, project, PriceStatus::unknown(unpriced), self.count_cache_read);
    }
}

/// Whether the cost of the tokens in an increment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PriceStatus {
    /// The cost is known.
    Known,
    /// The cost is unknown; the tokens count as unpriced.
    Unknown,
    /// The cost is reported separately.
    Follows,
}

impl PriceStatus {
    /// `Unknown` or `Known`.
    pub(super) const fn unknown(is_unknown: bool) -> Self {
        if is_unknown { Self::Unknown } else { Self::Known }
    }
}

/// An increment of tokens and cost.
pub(super) struct UsageIncrement {
    pub(super) now: Time,
    pub(super) started_at: Time,
    /// Whether it is the increase of a reported total, rather than a reported increment.
    pub(super) is_total: bool,
    pub(super) tokens: [u64; 5],
    pub(super) day_tokens: [u64; 5],
    pub(super) cost: f64,
    pub(super) day_cost: f64,
}

impl UsageIncrement {
    /// An increment as reported; the day has all of it. An unknown cost counts as 0.
    pub(super) fn reported(now: Time, started_at: Time, tokens: [u64; 5], cost_usd: Option<f64>) -> Self {
        let cost = cost_usd.unwrap_or(0.0);
        Self { now, started_at, is_total: false, tokens, day_tokens: tokens, cost, day_cost: cost }
    }

    /// Adds the increment to task, day, project and model. The caller adds it to the agent's own totals.
    pub(super) fn add_to(&self, agent: &mut Agent, project: &mut Project, price: PriceStatus, count_cache_read: bool) {
        let counted = |tokens: &[u64; 5]| -> u64 {
            let counts = |kind: &TokenType| count_cache_read || *kind != TokenType::CacheRead;
            TokenType::ALL
                .iter()
                .zip(tokens)
                .filter(|(kind, _)| counts(kind))
                .map(|(_, step)| *step)
                .fold(0, u64::saturating_add)
        };
        if let Some(task) = &mut agent.task {
            task.tokens = task.tokens.saturating_add(counted(&self.tokens));
        }
        let day_tokens = counted(&self.day_tokens);
        agent.day_tokens = agent.day_tokens.saturating_add(day_tokens);
        agent.day_cost_usd += self.day_cost;
        let idle_since = agent.idle_since();
        agent.spending_mut().record(&UsageReport {
            now: self.now,
            started_at: self.started_at,
            is_total: self.is_total,
            tokens: day_tokens,
            cost: self.day_cost,
            idle_since,
        });
        // Saturating: telemetry may contain any numbers.
        let all = self.tokens.iter().copied().fold(0, u64::saturating_add);
        if price == PriceStatus::Unknown && all > 0 {
            agent.unpriced_tokens.add(all);
        }
        add_tokens(&mut project.totals.tokens, &self.tokens);
        if agent.cost_usd.get().is_some() {
            project.totals.cost_usd.add(self.cost);
        }
        if let Some(model) = &agent.model
            && (all > 0 || self.cost > 0.0)
        {
            // The agent's cost may come from another of its models.
            add_model_usage(project, model, &self.tokens, (price == PriceStatus::Known).then_some(self.cost));
        }
    }
}

/// Sets `known` to `reported`, if any; returns whether it changed.
fn set(known: &mut Option<Arc<str>>, reported: Option<&Cow<'_, str>>) -> bool {
    match reported {
        Some(reported) if known.as_deref() != Some(&**reported) => {
            *known = Some(Arc::from(&**reported));
            true
        }
        _ => false,
    }
}

/// The same for a field that can be cleared.
fn patch(known: &mut Option<Arc<str>>, reported: &Patch<Cow<'_, str>>) -> bool {
    match reported {
        Patch::Keep => false,
        Patch::Clear => known.take().is_some(),
        Patch::Set(reported) => set(known, Some(reported)),
    }
}
