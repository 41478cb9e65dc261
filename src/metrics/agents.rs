//! The families that each agent has.

use super::names::{self, Family};
use super::writer::{Value, Writer};
use crate::model::labels::escape;
use crate::model::{Agent, AgentStatus, Count, Snapshot, Time, TokenType};

/// The end of a line of a set of nine states, for the state that holds and for one that does not.
const STATUS_TAILS: [[&str; 2]; 9] = [
    [",status=\"idle\"} 0\n", ",status=\"idle\"} 1\n"],
    [",status=\"starting\"} 0\n", ",status=\"starting\"} 1\n"],
    [",status=\"running\"} 0\n", ",status=\"running\"} 1\n"],
    [",status=\"waiting_review\"} 0\n", ",status=\"waiting_review\"} 1\n"],
    [",status=\"waiting_dependency\"} 0\n", ",status=\"waiting_dependency\"} 1\n"],
    [",status=\"waiting_question\"} 0\n", ",status=\"waiting_question\"} 1\n"],
    [",status=\"paused\"} 0\n", ",status=\"paused\"} 1\n"],
    [",status=\"completed\"} 0\n", ",status=\"completed\"} 1\n"],
    [",status=\"failed\"} 0\n", ",status=\"failed\"} 1\n"],
];

const TOKEN_TYPES: [&str; 5] = [
    "token_type=\"input\"",
    "token_type=\"output\"",
    "token_type=\"cache_read\"",
    "token_type=\"cache_creation\"",
    "token_type=\"reasoning\"",
];

/// Writes a family of one series for each agent that has a value.
fn each<V: Into<Value>>(out: &mut Writer<'_>, fleet: &Snapshot, family: &Family, value: impl Fn(&Agent) -> Option<V>) {
    series(out, fleet, family, |out, agent| {
        if let Some(value) = value(agent) {
            out.sample(family.name, &agent.labels, "", value.into());
        }
    });
}

fn series(out: &mut Writer<'_>, fleet: &Snapshot, family: &Family, write: impl Fn(&mut Writer<'_>, &Agent)) {
    out.head(family);
    for agent in fleet.agents.iter() {
        write(out, agent);
        out.pass();
    }
}

/// Whether any token was ever reported: from then on every type has a series.
pub(super) fn token_counts(tokens: &[Count; 5]) -> Option<[u64; 5]> {
    tokens.iter().any(|count| count.get().is_some()).then(|| tokens.map(|count| count.total()))
}

/// Writes tokens by type.
pub(super) fn tokens(out: &mut Writer<'_>, name: &str, labels: &str, tokens: &[Count; 5]) {
    for (kind, count) in TOKEN_TYPES.iter().zip(token_counts(tokens).iter().flatten()) {
        out.sample(name, labels, kind, (*count).into());
    }
}

/// Writes every family of agents.
pub(super) fn write(out: &mut Writer<'_>, fleet: &Snapshot) {
    each(out, fleet, &names::AGENT_UP, |agent| Some(agent.is_up()));
    info(out, fleet);
    series(out, fleet, &names::AGENT_STATUS, |out, agent| {
        let Some(status) = agent.status else { return };
        for (state, [not, yes]) in AgentStatus::ALL.iter().zip(&STATUS_TAILS) {
            out.state(names::AGENT_STATUS.name, &agent.labels, if *state == status { yes } else { not });
        }
    });
    // What a dead agent was about to do is over; its status, counters and last activity stay.
    let alive = |agent: &Agent| agent.is_up();
    each(out, fleet, &names::AGENT_IDLE, |agent| agent.idle_seconds(fleet.at).filter(|_| alive(agent)));
    each(out, fleet, &names::AGENT_LAST_ACTIVITY, |agent| agent.last_activity.map(Time::as_secs_f64));
    each(out, fleet, &names::AGENT_RESTARTS, |agent| Some(agent.restarts.total()));
    each(out, fleet, &names::AGENT_PROGRESS, |agent| agent.progress.filter(|_| alive(agent)));
    each(out, fleet, &names::AGENT_COMPLETION, |agent| {
        agent.estimated_completion.filter(|_| alive(agent)).map(Time::as_secs_f64)
    });
    series(out, fleet, &names::AGENT_TOKENS, |out, agent| {
        tokens(out, names::AGENT_TOKENS.name, &agent.labels, &agent.tokens);
    });
    each(out, fleet, &names::AGENT_COST, |agent| agent.cost_usd.get());
    each(out, fleet, &names::AGENT_UNPRICED, |agent| {
        token_counts(&agent.tokens).map(|_| agent.unpriced_tokens.total())
    });
    each(out, fleet, &names::AGENT_EXPECTED, |agent| Some(agent.is_expected()));
    budgets(out, fleet);
    let requests = |agent: &Agent, count: &Count| agent.requests.get().or(count.get()).map(|_| count.total());
    each(out, fleet, &names::AGENT_REQUESTS, |agent| agent.requests.get());
    each(out, fleet, &names::AGENT_REQUEST_ERRORS, |agent| requests(agent, &agent.request_errors));
    each(out, fleet, &names::AGENT_RATE_LIMIT_HITS, |agent| requests(agent, &agent.rate_limit_hits));
    each(out, fleet, &names::AGENT_RETRIES, |agent| requests(agent, &agent.retries));
    rate_limits(out, fleet);
    series(out, fleet, &names::AGENT_TASKS, |out, agent| {
        let name = names::AGENT_TASKS.name;
        out.sample(name, &agent.labels, "outcome=\"completed\"", agent.tasks_completed.total().into());
        out.sample(name, &agent.labels, "outcome=\"failed\"", agent.tasks_failed.total().into());
    });
    series(out, fleet, &names::AGENT_REVIEWS, |out, agent| {
        if agent.reviews_passed.get().or(agent.reviews_failed.get()).is_some() {
            let name = names::AGENT_REVIEWS.name;
            out.sample(name, &agent.labels, "result=\"passed\"", agent.reviews_passed.total().into());
            out.sample(name, &agent.labels, "result=\"failed\"", agent.reviews_failed.total().into());
        }
    });
}

fn info(out: &mut Writer<'_>, fleet: &Snapshot) {
    out.head(&names::AGENT_INFO);
    let mut labels = String::new();
    for agent in fleet.agents.iter() {
        labels.clear();
        labels.push_str("agent_type=\"");
        escape(agent.agent_type.as_deref().unwrap_or_default(), &mut labels);
        labels.push_str("\",model=\"");
        escape(agent.model.as_deref().unwrap_or_default(), &mut labels);
        labels.push('"');
        out.sample(names::AGENT_INFO.name, &agent.labels, &labels, 1.into());
        out.pass();
    }
}

fn budgets(out: &mut Writer<'_>, fleet: &Snapshot) {
    let budgets = fleet.budgets;
    let task_used = |agent: &Agent| agent.task.as_ref().filter(|_| agent.has_open_task()).map_or(0, |task| task.tokens);
    type Used<'a> = &'a dyn Fn(&Agent) -> Value;
    let mut family = |family: &Family, scopes: &[(&str, Option<Value>, Option<Used<'_>>)]| {
        series(out, fleet, family, |out, agent| {
            for (scope, budget, used) in scopes {
                if let Some(budget) = budget {
                    out.sample(family.name, &agent.labels, scope, used.map_or(*budget, |used| used(agent)));
                }
            }
        });
    };
    let (task, day, usd) = (budgets.tokens_per_task, budgets.tokens_per_day, budgets.cost_usd_per_day);
    let (task, day, usd) = (task.map(Value::from), day.map(Value::from), usd.map(Value::from));
    let (in_task, in_day) = ("scope=\"task\"", "scope=\"day\"");
    family(&names::AGENT_BUDGET_TOKENS, &[(in_task, task, None), (in_day, day, None)]);
    family(
        &names::AGENT_BUDGET_USED_TOKENS,
        &[
            (in_task, task, Some(&|agent| task_used(agent).into())),
            (in_day, day, Some(&|agent| agent.day_tokens.into())),
        ],
    );
    family(&names::AGENT_BUDGET_USD, &[(in_day, usd, None)]);
    family(&names::AGENT_BUDGET_USED_USD, &[(in_day, usd, Some(&|agent| agent.day_cost_usd.into()))]);
}

fn rate_limits(out: &mut Writer<'_>, fleet: &Snapshot) {
    let mut family = |family: &Family, value: &dyn Fn(&crate::model::RateLimit) -> Option<Value>| {
        out.head(family);
        let mut labels = String::new();
        for agent in fleet.agents.iter() {
            for limit in &agent.rate_limits {
                let Some(value) = value(limit) else { continue };
                labels.clear();
                labels.push_str("provider=\"");
                escape(&limit.provider, &mut labels);
                labels.push_str("\",limit_type=\"");
                escape(&limit.limit_type, &mut labels);
                labels.push('"');
                out.sample(family.name, &agent.labels, &labels, value);
            }
            out.pass();
        }
    };
    family(&names::AGENT_RATE_LIMIT_REMAINING, &|limit| limit.remaining.map(Value::from));
    family(&names::AGENT_RATE_LIMIT_LIMIT, &|limit| limit.limit.map(Value::from));
    family(&names::AGENT_RATE_LIMIT_RESET, &|limit| limit.reset_at.map(|at| at.as_secs_f64().into()));
}

const _: () = assert!(TokenType::ALL.len() == TOKEN_TYPES.len());
