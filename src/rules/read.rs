//! The value of a signal for a subject at one moment.

use crate::model::{Agent, AgentStatus, Signal, Snapshot, Spending, Spent, Time, Velocity};

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    /// The value.
    Value(f64),
    /// The signal does not apply now, so nothing is wrong: no open task, no budget, not alive.
    Fine,
    /// The value is not known now.
    Unknown,
}

impl Reading {
    fn of(value: Option<f64>) -> Self {
        value.map_or(Self::Unknown, Self::Value)
    }
}

/// Whether `signal` of an agent grows by one each second while nothing happens.
pub(super) const fn grows(signal: Signal) -> bool {
    matches!(signal, Signal::IdleSeconds | Signal::StaleSeconds | Signal::TaskSeconds)
}

/// Whether `signal` of an agent gets better while nothing happens, until it means nothing any more.
pub(super) const fn fades(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::DayBudgetGoneInSeconds
            | Signal::DayCostGoneInSeconds
            | Signal::TokenVelocityRatio
            | Signal::SameErrorCount
    )
}

/// Whether `signal` is about the use of one day, and so over when that is.
pub(super) const fn is_of_the_day(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::DayBudgetRatio | Signal::DayCostRatio | Signal::DayBudgetGoneInSeconds | Signal::DayCostGoneInSeconds
    )
}

/// Whether `signal` of `agent` grows now: the time of a task stands still while it waits.
pub(super) fn is_growing(signal: Signal, agent: &Agent) -> bool {
    match signal {
        Signal::TaskSeconds => agent.task.as_ref().is_some_and(|task| task.working_since.is_some()),
        _ => grows(signal),
    }
}

/// The cumulative value of a signal that counts; `None` for one that does not, or while it is not known.
pub(super) fn counter(signal: Signal, agent: &Agent) -> Option<f64> {
    let count = match signal {
        Signal::Restarts => agent.restarts.get(),
        Signal::Tokens => agent.total_tokens(),
        Signal::Requests => agent.requests.get(),
        Signal::RequestErrors => agent.request_errors.get(),
        Signal::RateLimitHits => agent.rate_limit_hits.get(),
        Signal::Retries => agent.retries.get(),
        Signal::CostUsd => return agent.cost_usd.get(),
        Signal::Status => Some(u64::from(agent.status_changes)),
        _ => None,
    };
    count.map(|count| count as f64)
}

/// Whether a signal that counts was counted here from zero, so that its first value is an increase in full.
pub(super) fn is_counted_here(signal: Signal, agent: &Agent) -> bool {
    match signal {
        Signal::Restarts => agent.restarts.is_counted_here(),
        Signal::Tokens => agent.tokens.iter().all(|count| count.is_unknown() || count.is_counted_here()),
        Signal::Requests => agent.requests.is_counted_here(),
        Signal::RequestErrors => agent.request_errors.is_counted_here(),
        Signal::RateLimitHits => agent.rate_limit_hits.is_counted_here(),
        Signal::Retries => agent.retries.is_counted_here(),
        Signal::CostUsd => agent.cost_usd.is_counted_here(),
        _ => false,
    }
}

/// Whether increases of the signal can be taken over time.
pub(super) const fn counts(signal: Signal) -> bool {
    matches!(
        signal,
        Signal::Restarts
            | Signal::Tokens
            | Signal::CostUsd
            | Signal::Requests
            | Signal::RequestErrors
            | Signal::RateLimitHits
            | Signal::Retries
    )
}

/// The value of `signal` for `agent`.
pub(super) fn agent(signal: Signal, agent: &Agent, fleet: &Snapshot, now: Time) -> Reading {
    let ratio = |used: f64, budget: Option<f64>| match budget {
        Some(budget) if budget > 0.0 => Reading::Value(used / budget),
        _ => Reading::Fine,
    };
    match signal {
        Signal::IdleSeconds => match agent.idle_seconds(now) {
            Some(seconds) => Reading::Value(seconds),
            None if agent.last_activity.is_some() => Reading::Fine,
            None => Reading::Unknown,
        },
        Signal::StaleSeconds => {
            let heard = agent.last_heard.max(fleet.started_at);
            // Who ended or was stopped on purpose has nothing more to say.
            let is_done = agent.is_over() || agent.status == Some(AgentStatus::Paused);
            if agent.stale && !is_done { Reading::Value(now.seconds_since(heard)) } else { Reading::Fine }
        }
        Signal::Status => Reading::of(agent.status.map(|status| f64::from(status as u8))),
        Signal::TaskSeconds => match &agent.task {
            Some(task) if agent.has_open_task() => Reading::Value(task.worked_at(now).as_secs_f64()),
            _ => Reading::Fine,
        },
        Signal::Progress => Reading::of(agent.progress),
        Signal::TaskBudgetRatio => match &agent.task {
            Some(task) if agent.has_open_task() => {
                ratio(task.tokens as f64, fleet.budgets.tokens_per_task.map(|budget| budget as f64))
            }
            _ => Reading::Fine,
        },
        Signal::DayBudgetRatio => {
            if agent.total_tokens().is_none() {
                return Reading::Fine;
            }
            ratio(agent.day_tokens as f64, fleet.budgets.tokens_per_day.map(|budget| budget as f64))
        }
        Signal::DayCostRatio => ratio(agent.day_cost_usd, fleet.budgets.cost_usd_per_day),
        Signal::DayBudgetGoneInSeconds => {
            let left = fleet.budgets.tokens_per_day.map(|budget| budget as f64 - agent.day_tokens as f64);
            gone_in(agent, Spent::Tokens, left, fleet.day_ends, now)
        }
        Signal::DayCostGoneInSeconds => {
            let left = fleet.budgets.cost_usd_per_day.map(|budget| budget - agent.day_cost_usd);
            gone_in(agent, Spent::Cost, left, fleet.day_ends, now)
        }
        Signal::TokenVelocityRatio => match agent.spending.as_ref().map(|spending| spending.velocity(now)) {
            Some(Velocity::Ratio(ratio)) => Reading::Value(ratio),
            Some(Velocity::Slow) => Reading::Fine,
            Some(Velocity::Unknown) | None => Reading::Unknown,
        },
        Signal::TokensSinceProgress => match &agent.spending {
            _ if agent.is_over() => Reading::Fine,
            spending => Reading::of(
                spending.as_ref().and_then(|spending| spending.since_progress()).map(|tokens| tokens as f64),
            ),
        },
        Signal::SameErrorCount => {
            let same = agent.spending.as_ref().and_then(|spending| spending.same_errors(now));
            same.map_or(Reading::Fine, |count| Reading::Value(f64::from(count)))
        }
        Signal::IdleSpendingTokens => match agent.idle_since() {
            None => Reading::Fine,
            Some(_) => {
                Reading::of(agent.spending.as_ref().and_then(|spending| spending.idle()).map(|tokens| tokens as f64))
            }
        },
        Signal::AgentsDown => Reading::Value(f64::from(u8::from(agent.is_down()))),
        Signal::AgentsLimited => Reading::Value(f64::from(u8::from(agent.limited.is_some()))),
        Signal::Restarts
        | Signal::Tokens
        | Signal::CostUsd
        | Signal::Requests
        | Signal::RequestErrors
        | Signal::RateLimitHits
        | Signal::Retries => Reading::of(counter(signal, agent)),
        Signal::AgentsMissing
        | Signal::ComponentStatus
        | Signal::ClusterHealth
        | Signal::SourceFailingSeconds
        | Signal::ReceiverFailingSeconds
        | Signal::UndeliveredSeconds
        | Signal::GivenUp
        | Signal::LagSeconds
        | Signal::StoreFailingSeconds => Reading::Fine,
    }
}

/// In how many seconds what is `left` of a day's budget is gone. What lasts until the day turns is fine; what
/// is gone already can't be foretold any more.
fn gone_in(agent: &Agent, what: Spent, left: Option<f64>, day_ends: Time, now: Time) -> Reading {
    let Some(left) = left else { return Reading::Fine };
    let Some(pace) = agent.spending.as_deref().and_then(|spending: &Spending| spending.pace(what, now)) else {
        return Reading::Unknown;
    };
    if left <= 0.0 {
        return Reading::Unknown;
    }
    let seconds = left / pace;
    if seconds < day_ends.seconds_since(now) { Reading::Value(seconds) } else { Reading::Fine }
}
