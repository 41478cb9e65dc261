//! The indicators that rules can read (the key `signal` of a rule file), one table row each.
//!
//! A row has the name, the kinds of subject, how the value is read, the class of its alerts, how time changes the value,
//! its unit, and its PromQL equivalent. Everything else is derived from the row, including which agents changed, so adding
//! a row is all that a new indicator needs.

use std::time::Duration;

use serde::Deserialize;

use super::row::{CounterValue, Drift, ForEach, IndicatorRow, PromQl, Reading, counter, mix, of_agent, row};
use crate::model::{
    Agent, AgentRuns, AgentStatus, Class, ComponentStatus, Health, Snapshot, SpendKind, Time, Velocity,
};

/// Declares the enum of the indicators and the table of their rows.
macro_rules! indicators {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $row:expr;)*) => {
        /// A value of a subject that a rule can read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        pub enum Indicator {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Indicator {
            /// All indicators, in table order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        static TABLE: [IndicatorRow; Indicator::ALL.len()] = [$($row.named($name)),*];
    };
}

indicators! {
    /// Seconds since the agent's last activity. An agent without a `ttl` is evaluated at each report.
    IdleSeconds = "idle_seconds": of_agent(idle_seconds).grows().depends_on(last_seen_without_ttl)
        .promql(PromQl::UnlessDone("orchestrator_agent_idle_time_seconds"));
    /// Seconds since the agent was last seen, once it is stale.
    StaleSeconds = "stale_seconds": of_agent(stale_seconds).grows().known_while_stale().class(Class::AgentStale)
        .at_least(|agent| agent.ttl.map_or(0.0, |ttl| ttl.as_secs_f64()))
        .promql(PromQl::SilentSince("orchestrator_agent_up"));
    /// Restarts of the agent. Those that a new agent reports at first count as an increase.
    Restarts = "restarts": counter(|agent, fleet| {
        let CounterValue { value, is_from_zero } = CounterValue::by(&agent.restarts);
        CounterValue { value, is_from_zero: is_from_zero || agent.first_seen >= fleet.started_at }
    }).promql(PromQl::Family("orchestrator_agent_restarts_total"));
    /// The agent's status.
    Status = "status": of_agent(|agent, _, _| Reading::of(agent.status.map(|status| f64::from(status as u8))))
        .changes(|agent, _| CounterValue { value: Some(f64::from(agent.status_changes)), is_from_zero: false })
        .words(|| AgentStatus::ALL.map(AgentStatus::as_str).to_vec())
        .promql(PromQl::Words("orchestrator_agent_status", "status"));
    /// Seconds that the open task has taken while starting or running.
    TaskSeconds = "task_seconds": of_agent(task_seconds).grows()
        .promql(PromQl::Unavailable("no metric exposes when a task began"));
    /// Progress of the task, 0 to 1.
    Progress = "progress": of_agent(|agent, _, _| Reading::of(agent.progress)).ratio().averaged()
        .promql(PromQl::Family("orchestrator_agent_progress_ratio"));
    /// How full the model's context window is, 0 to 1; not applicable once the agent has ended.
    ContextWindowRatio = "context_window_ratio": of_agent(|agent, _, _| {
        if agent.is_over() { Reading::NotApplicable } else { Reading::of(agent.context_window_ratio) }
    }).ratio().averaged().promql(PromQl::Family("orchestrator_agent_context_window_ratio"));
    /// Tokens of all types.
    Tokens = "tokens": counter(|agent, _| CounterValue {
        value: agent.total_tokens().map(|tokens| tokens as f64),
        is_from_zero: agent.tokens.iter().all(|count| count.is_unknown() || count.is_accumulated()),
    }).promql(PromQl::ByType("orchestrator_agent_tokens_total"));
    /// Cost in US dollars.
    CostUsd = "cost_usd": counter(|agent, _| CounterValue {
        value: agent.cost_usd.get(),
        is_from_zero: agent.cost_usd.is_accumulated(),
    }).promql(PromQl::Family("orchestrator_agent_cost_usd_total"));
    /// The used fraction of the task's token budget.
    TaskBudgetRatio = "task_budget_ratio": of_agent(task_budget_ratio).ratio().averaged()
        .promql(TOKENS_OF_TASK);
    /// The used fraction of the day's token budget.
    DayBudgetRatio = "day_budget_ratio": of_agent(day_budget_ratio).ratio().averaged().of_the_day()
        .promql(TOKENS_OF_DAY);
    /// The used fraction of the day's cost budget.
    DayCostRatio = "day_cost_ratio": of_agent(|agent, fleet, _| {
        share(agent.day_cost_usd, fleet.budgets.cost_usd_per_day)
    }).ratio().averaged().of_the_day().promql(COST_OF_DAY);
    /// Seconds until the day's token budget is used up at the current rate.
    DayBudgetGoneInSeconds = "day_budget_gone_in_seconds": of_agent(|agent, fleet, now| {
        let left = fleet.budgets.tokens_per_day.map(|budget| budget as f64 - agent.day_tokens as f64);
        exhausted_in(agent, SpendKind::Tokens, left, fleet.day_ends, now)
    }).seconds().of_the_day().fades(Drift::Rises, daily_rate_basis);
    /// Seconds until the day's cost budget is used up at the current rate.
    DayCostGoneInSeconds = "day_cost_gone_in_seconds": of_agent(|agent, fleet, now| {
        let left = fleet.budgets.cost_usd_per_day.map(|budget| budget - agent.day_cost_usd);
        exhausted_in(agent, SpendKind::Cost, left, fleet.day_ends, now)
    }).seconds().of_the_day().fades(Drift::Rises, daily_rate_basis);
    /// Tokens per minute over the last five minutes, as a multiple of the agent's baseline.
    TokenVelocityRatio = "token_velocity_ratio": of_agent(token_velocity_ratio).fades(Drift::Falls, rate_basis);
    /// Tokens since the agent's progress, phase or task last changed.
    TokensSinceProgress = "tokens_since_progress": of_agent(tokens_since_progress);
    /// The number of consecutive failures of the agent with the same error.
    SameErrorCount = "same_error_count": of_agent(|agent, _, now| {
        let same = agent.spending.as_ref().and_then(|spending| spending.same_errors(now));
        same.map_or(Reading::NotApplicable, |count| Reading::Value(f64::from(count)))
    }).fades(Drift::Falls, |agent| agent.spending.as_ref().map_or(0, |it| it.error_basis()));
    /// Tokens since the agent's status is one of not working.
    IdleSpendingTokens = "idle_spending_tokens": of_agent(idle_spending_tokens);
    /// Requests to a model.
    Requests = "requests": counter(|agent, _| CounterValue::by(&agent.requests))
        .promql(PromQl::Family("orchestrator_agent_requests_total"));
    /// Requests that ended in an error.
    RequestErrors = "request_errors": counter(|agent, _| CounterValue::by(&agent.request_errors))
        .promql(PromQl::Family("orchestrator_agent_request_errors_total"));
    /// Rate-limited requests.
    RateLimitHits = "rate_limit_hits": counter(|agent, _| CounterValue::by(&agent.rate_limit_hits)).class(Class::AgentLimited)
        .promql(PromQl::Family("orchestrator_agent_rate_limit_hits_total"));
    /// Requests that were retried.
    Retries = "retries": counter(|agent, _| CounterValue::by(&agent.retries))
        .promql(PromQl::Family("orchestrator_agent_retries_total"));
    /// Runs that ended.
    Runs = "runs": counter(|agent, _| of_runs(agent, AgentRuns::total)).known_while_stale()
        .promql(PromQl::ByType("orchestrator_agent_runs_total"));
    /// Runs that failed or were abandoned.
    RunErrors = "run_errors": counter(|agent, _| of_runs(agent, AgentRuns::failed)).known_while_stale()
        .promql(PromQl::Except("orchestrator_agent_runs_total", "status", "ok"));
    /// Calls of another model or provider right after a failed one, in ended runs.
    Fallbacks = "fallbacks": counter(|agent, _| of_runs(agent, |runs| runs.fallbacks)).known_while_stale()
        .promql(PromQl::Family("orchestrator_agent_fallbacks_total"));
    /// The fraction of the runs of the last hour that failed, of at least ten.
    RunErrorRatio = "run_error_ratio": of_agent(|_, _, _| Reading::NotApplicable).ratio()
        .ratio_of("run_errors", "runs", Duration::from_secs(3600), 10.0);
    /// Seconds of the agent's longest run in progress, or of the last one that ended within an hour if that took longer.
    RunSeconds = "run_seconds": of_agent(|agent, _, now| {
        agent.runs.as_ref().map_or(Reading::NotApplicable, |runs| applicable(runs.run_seconds(now)))
    }).grows().grows_at(|agent| agent.runs.as_ref()?.grows_at()).known_while_stale()
        .usual("p95", |agent, now| agent.runs.as_ref()?.usual_seconds(now)).depends_on(run_basis)
        .promql(PromQl::Usual("orchestrator_agent_run_longest_seconds", "orchestrator_agent_run_p95_seconds"));
    /// Cost in US dollars of the last run that ended within an hour.
    RunCostUsd = "run_cost_usd": of_agent(|agent, _, _| {
        agent.runs.as_ref().map_or(Reading::NotApplicable, |runs| applicable(runs.run_cost()))
    }).dollars().known_while_stale().usual("median", |agent, _| agent.runs.as_ref()?.usual_cost()).depends_on(run_basis)
        .promql(PromQl::Usual("orchestrator_agent_run_last_cost_usd", "orchestrator_agent_run_median_cost_usd"));
    /// Agents that are down: the number of a project, 0 or 1 of one agent.
    AgentsDown = "agents_down": of_agent(|agent, _, _| flag(agent.is_down())).class(Class::AgentDown).known_while_stale()
        .of_project(Class::AgentsDown, |project, _| Reading::Value(f64::from(project.down)))
        .promql(PromQl::Below("orchestrator_agent_up", "orchestrator_agent_expected"));
    /// Rate-limited agents: the number of a project, 0 or 1 of one agent.
    AgentsLimited = "agents_limited": of_agent(|agent, _, _| flag(agent.limited.is_some())).class(Class::AgentLimited)
        .of_project(Class::AgentsLimited, |project, _| Reading::Value(f64::from(project.limited)))
        .promql(PromQl::Flag("orchestrator_agent_limited"));
    /// Seconds for which an expected agent, or the expected number of agents, has been missing.
    AgentsMissing = "agents_missing": row().of_missing_agents().grows()
        .of_project(Class::Other, |project, now| Reading::since(project.too_small_since, now))
        .promql(PromQl::Unavailable("no metric exposes expected agents that were never seen"));
    /// A component's status.
    ComponentStatus = "component_status": row().of_component(|it| Reading::Value(f64::from(it.status as u8)))
        .words(|| ComponentStatus::ALL.map(ComponentStatus::as_str).to_vec())
        .promql(PromQl::Words("orchestrator_component_status", "status"));
    /// A project's health.
    ClusterHealth = "cluster_health": row()
        .of_project(Class::ClusterHealth, |project, _| Reading::Value(f64::from(project.health() as u8)))
        .words(|| Health::ALL.map(Health::as_str).to_vec())
        .promql(PromQl::Words("orchestrator_cluster_health", "health"));
    /// Seconds for which polls of a source have failed.
    SourceFailingSeconds = "source_failing_seconds": row().grows()
        .of_source(|source, now| Reading::since(source.failing_since, now))
        .promql(PromQl::SourceDown("lookout_source_up"));
    /// Seconds for which all deliveries to a receiver have failed.
    ReceiverFailingSeconds = "receiver_failing_seconds": row().grows()
        .of_receiver(|receiver, now| Reading::since(receiver.failing_since, now))
        .promql(PromQl::Unavailable("no metric exposes since when a receiver has failed"));
    /// Age in seconds of the oldest alert that is not delivered to a receiver.
    UndeliveredSeconds = "undelivered_seconds": row().grows()
        .of_receiver(|receiver, now| Reading::since(receiver.oldest_undelivered, now))
        .promql(PromQl::OfSidecar("lookout_outbox_oldest_age_seconds"));
    /// Alerts dead-lettered by a receiver since its last successful delivery.
    DeadLettered = "dead_lettered": row().of_receiver(|receiver, _| Reading::Value(f64::from(receiver.dead_lettered)))
        .promql(PromQl::Unavailable("no metric exposes alerts dead-lettered since the last delivery"));
    /// Seconds by which rules are evaluated late.
    LagSeconds = "lag_seconds": row().seconds().of_sidecar(|sidecar, _| Reading::Value(sidecar.lag_seconds))
        .promql(PromQl::OfSidecar("lookout_engine_lag_seconds"));
    /// Seconds for which the store has not been writable.
    StoreFailingSeconds = "store_failing_seconds": row().grows()
        .of_sidecar(|sidecar, now| Reading::since(sidecar.store_failing_since, now))
        .promql(PromQl::Unavailable("no metric exposes since when the store has failed"));
    /// Age in seconds of the oldest batch that waits to be exported.
    ExportWaitingSeconds = "export_waiting_seconds": row().grows()
        .of_sidecar(|sidecar, now| Reading::since(sidecar.export_waiting_since, now))
        .promql(PromQl::OfSidecar("lookout_export_oldest_age_seconds"));
    /// A custom metric, which the rule names.
    Metric = "metric": of_agent(|_, _, _| Reading::NotApplicable).depends_on(|agent| {
        agent.custom.as_ref().map_or(0, |metrics| metrics.revision)
    }).known_while_stale().of_component(|_| Reading::NotApplicable).component_class(Class::Other)
        .of_project(Class::Other, |_, _| Reading::NotApplicable)
        .promql(PromQl::Custom);
}

impl Indicator {
    /// Its row.
    pub(super) fn row(self) -> &'static IndicatorRow {
        &TABLE[self as usize]
    }

    /// Its name in rule files.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The kinds of subject that rules reading it can be evaluated for.
    pub fn for_each(self) -> Vec<ForEach> {
        self.row().subjects()
    }

    /// Its PromQL equivalent.
    pub fn promql(self) -> PromQl {
        self.row().promql
    }

    /// The status names that its thresholds may be written with; the value is the index.
    pub fn words(self) -> Vec<&'static str> {
        self.row().words.map(|words| words()).unwrap_or_default()
    }

    /// The indicator with this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|indicator| indicator.name() == word)
    }
}

const TOKENS_USED: &str = "orchestrator_agent_budget_used_tokens";
const TOKENS_BUDGET: &str = "orchestrator_agent_budget_tokens";
const TOKENS_OF_TASK: PromQl = PromQl::Share { used: TOKENS_USED, budget: TOKENS_BUDGET, scope: "task" };
const TOKENS_OF_DAY: PromQl = PromQl::Share { used: TOKENS_USED, budget: TOKENS_BUDGET, scope: "day" };
const COST_OF_DAY: PromQl =
    PromQl::Share { used: "orchestrator_agent_budget_used_usd", budget: "orchestrator_agent_budget_usd", scope: "day" };

fn of_runs(agent: &Agent, count: fn(&AgentRuns) -> u64) -> CounterValue {
    CounterValue { value: agent.runs.as_ref().map(|runs| count(runs) as f64), is_from_zero: true }
}

fn applicable(value: Option<f64>) -> Reading {
    value.map_or(Reading::NotApplicable, Reading::Value)
}

/// What the numbers of single runs are compared with, and when they begin to grow.
fn run_basis(agent: &Agent) -> u64 {
    let Some(runs) = &agent.runs else { return 0 };
    let usual = [runs.p95_seconds(), runs.usual_cost(), runs.usual_seconds(Time::from_millis(i64::MIN))];
    let usual = usual.into_iter().fold(0, |basis, usual| mix(basis, usual.map_or(1, f64::to_bits)));
    mix(usual, runs.grows_at().map_or(1, |at| at.as_millis().unsigned_abs()))
}

fn flag(is_set: bool) -> Reading {
    Reading::Value(f64::from(u8::from(is_set)))
}

fn idle_seconds(agent: &Agent, _: &Snapshot, now: Time) -> Reading {
    match agent.idle_seconds(now) {
        Some(seconds) => Reading::Value(seconds),
        None if agent.last_activity.is_some() => Reading::NotApplicable,
        None => Reading::Unknown,
    }
}

/// When an agent without a `ttl` was last seen.
fn last_seen_without_ttl(agent: &Agent) -> u64 {
    if agent.ttl.is_none() { agent.last_seen.as_millis().unsigned_abs() } else { 0 }
}

fn stale_seconds(agent: &Agent, fleet: &Snapshot, now: Time) -> Reading {
    let last_seen = agent.last_seen.max(fleet.started_at);
    // An agent that has ended or is paused is not expected to report.
    let is_done = agent.is_over() || agent.status == Some(AgentStatus::Paused);
    if agent.stale && !is_done { Reading::Value(now.seconds_since(last_seen)) } else { Reading::NotApplicable }
}

fn task_seconds(agent: &Agent, _: &Snapshot, now: Time) -> Reading {
    match &agent.task {
        Some(task) if agent.has_open_task() => Reading::Value(task.worked_at(now).as_secs_f64()),
        _ => Reading::NotApplicable,
    }
}

fn share(used: f64, budget: Option<f64>) -> Reading {
    match budget {
        Some(budget) if budget > 0.0 => Reading::Value(used / budget),
        _ => Reading::NotApplicable,
    }
}

fn task_budget_ratio(agent: &Agent, fleet: &Snapshot, _: Time) -> Reading {
    match &agent.task {
        Some(task) if agent.has_open_task() => {
            share(task.tokens as f64, fleet.budgets.tokens_per_task.map(|budget| budget as f64))
        }
        _ => Reading::NotApplicable,
    }
}

fn day_budget_ratio(agent: &Agent, fleet: &Snapshot, _: Time) -> Reading {
    if agent.total_tokens().is_none() {
        return Reading::NotApplicable;
    }
    share(agent.day_tokens as f64, fleet.budgets.tokens_per_day.map(|budget| budget as f64))
}

fn token_velocity_ratio(agent: &Agent, _: &Snapshot, now: Time) -> Reading {
    match agent.spending.as_ref().map(|spending| spending.velocity(now)) {
        Some(Velocity::Ratio(ratio)) => Reading::Value(ratio),
        Some(Velocity::BelowMinimum) => Reading::NotApplicable,
        Some(Velocity::Unknown) | None => Reading::Unknown,
    }
}

fn tokens_since_progress(agent: &Agent, _: &Snapshot, _: Time) -> Reading {
    if agent.is_over() {
        return Reading::NotApplicable;
    }
    let tokens = agent.spending.as_ref().and_then(|spending| spending.since_progress());
    Reading::of(tokens.map(|tokens| tokens as f64))
}

fn idle_spending_tokens(agent: &Agent, _: &Snapshot, _: Time) -> Reading {
    if agent.idle_since().is_none() {
        return Reading::NotApplicable;
    }
    let tokens = agent.spending.as_ref().and_then(|spending| spending.idle_tokens());
    Reading::of(tokens.map(|tokens| tokens as f64))
}

/// In how many seconds what is `left` of a day's budget is used up. It is not applicable if it lasts until the end of the
/// day, and unknown if it is used up already.
fn exhausted_in(agent: &Agent, kind: SpendKind, left: Option<f64>, day_ends: Time, now: Time) -> Reading {
    let Some(left) = left else { return Reading::NotApplicable };
    let Some(rate) = agent.spending.as_deref().and_then(|spending| spending.rate(kind, now)) else {
        return Reading::Unknown;
    };
    if left <= 0.0 {
        return Reading::Unknown;
    }
    let seconds = left / rate;
    if seconds < day_ends.seconds_since(now) { Reading::Value(seconds) } else { Reading::NotApplicable }
}

fn rate_basis(agent: &Agent) -> u64 {
    agent.spending.as_ref().map_or(0, |spending| spending.rate_basis())
}

fn daily_rate_basis(agent: &Agent) -> u64 {
    mix(mix(rate_basis(agent), agent.day_tokens), agent.day_cost_usd.to_bits())
}

/// A set of indicators, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Indicators(u64);

const _: () = assert!(Indicator::ALL.len() <= u64::BITS as usize, "a set has a bit for each indicator");

impl Indicators {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(u64::MAX);

    /// This set and `indicator`.
    pub(super) const fn with(self, indicator: Indicator) -> Self {
        Self(self.0 | 1 << indicator as u64)
    }

    /// This set and all of `other`.
    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn insert(&mut self, indicator: Indicator) {
        *self = self.with(indicator);
    }

    pub(super) const fn contains(self, indicator: Indicator) -> bool {
        self.0 & (1 << indicator as u64) != 0
    }

    /// Whether the two have an indicator in common.
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
