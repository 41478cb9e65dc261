//! Families with a series or more for each agent: nearly all of the page.
//!
//! What an agent is doing goes when it is over or silent (idle time, progress, context window, expected end, rate limits);
//! `up`, its status, its last activity, what it was counted for and what it used of its budgets stay until it
//! is forgotten.

use crate::metrics::names;
use crate::metrics::series::{Line, Series, Writer, tails};
use crate::model::{Agent, AgentStatus, Count, RateLimit, Snapshot, TokenType};
use crate::text::clean;

/// Longest reason in a label, in bytes.
const MAX_REASON: usize = 128;

/// Writes them all.
pub(super) fn write(writer: &mut Writer<'_>, snapshot: &Snapshot) {
    let agents: Vec<&Agent> = snapshot.agents.iter().collect();
    write_state(writer, snapshot, &agents);
    write_usage(writer, &agents);
    write_budgets(writer, snapshot, &agents);
    write_requests(writer, snapshot, &agents);
    write_work(writer, &agents);
}

fn write_state(writer: &mut Writer<'_>, snapshot: &Snapshot, agents: &[&Agent]) {
    writer.family(&names::AGENT_UP, |series| {
        agents.iter().for_each(|agent| series.line(&agent.labels).flag(agent.is_up()));
    });
    writer.family(&names::AGENT_EXPECTED, |series| {
        agents.iter().for_each(|agent| series.line(&agent.labels).flag(agent.is_expected()));
    });
    writer.family(&names::AGENT_INFO, |series| {
        for agent in agents {
            let line = series.line(&agent.labels).label("agent_type", agent.agent_type.as_deref().unwrap_or_default());
            line.label("model", agent.model.as_deref().unwrap_or_default()).flag(true);
        }
    });
    let statuses = tails("status", AgentStatus::ALL.map(AgentStatus::as_str));
    writer.family(&names::AGENT_STATUS, |series| {
        for agent in agents {
            if let Some(place) = agent.status.and_then(|status| AgentStatus::ALL.iter().position(|one| *one == status))
            {
                series.states(&agent.labels, &statuses, place);
            }
        }
    });
    // One series for each agent that waits, so that its words cost no more than its status does.
    writer.family(&names::AGENT_WAITING, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(status) = agent.status.filter(|status| status.waits()) {
                let reason = clean(agent.reason.as_deref().unwrap_or_default(), MAX_REASON);
                series.line(&agent.labels).label("status", status.as_str()).label("reason", &reason).flag(true);
            }
        }
    });
    writer.family(&names::AGENT_IDLE_TIME, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(seconds) = agent.idle_seconds(snapshot.at) {
                series.line(&agent.labels).number(seconds);
            }
        }
    });
    writer.family(&names::AGENT_LAST_ACTIVITY, |series| {
        for agent in agents {
            if let Some(at) = agent.last_activity {
                series.line(&agent.labels).time(snapshot.wall.to_wall(at));
            }
        }
    });
    writer.family(&names::AGENT_RESTARTS, |series| {
        agents.iter().for_each(|agent| series.line(&agent.labels).count(agent.restarts.total()));
    });
    writer.family(&names::AGENT_PROGRESS, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(progress) = agent.progress {
                series.line(&agent.labels).number(progress);
            }
        }
    });
    writer.family(&names::AGENT_CONTEXT_WINDOW, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(ratio) = agent.context_window_ratio {
                series.line(&agent.labels).number(ratio);
            }
        }
    });
    writer.family(&names::AGENT_ESTIMATED_COMPLETION, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(at) = agent.estimated_completion {
                series.line(&agent.labels).time(snapshot.wall.to_wall(at));
            }
        }
    });
}

fn write_usage(writer: &mut Writer<'_>, agents: &[&Agent]) {
    let types = tails("token_type", TokenType::ALL.map(TokenType::as_str));
    writer.family(&names::AGENT_TOKENS, |series| {
        for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
            series.counts(&agent.labels, &types, agent.tokens.map(|count| count.total()));
        }
    });
    writer.family(&names::AGENT_COST, |series| {
        for agent in agents {
            if let Some(cost) = agent.cost_usd.get() {
                series.line(&agent.labels).number(cost);
            }
        }
    });
    writer.family(&names::AGENT_UNPRICED_TOKENS, |series| {
        // The fleet counts them beside the tokens, so none is a fact as soon as those are known.
        for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
            series.line(&agent.labels).count(agent.unpriced_tokens.total());
        }
    });
}

/// A budget has series only beside what was used of it, so that the ratio is one of known numbers.
fn write_budgets(writer: &mut Writer<'_>, snapshot: &Snapshot, agents: &[&Agent]) {
    let budgets = &snapshot.budgets;
    let mut tokens = |family, of_task: &dyn Fn(u64, u64) -> u64| {
        writer.family(family, |series| {
            for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
                if let (Some(budget), Some(task)) = (budgets.tokens_per_task, &agent.task)
                    && agent.has_open_task()
                {
                    series.line(&agent.labels).label("scope", "task").count(of_task(budget, task.tokens));
                }
                if let Some(budget) = budgets.tokens_per_day {
                    series.line(&agent.labels).label("scope", "day").count(of_task(budget, agent.day_tokens));
                }
            }
        });
    };
    tokens(&names::AGENT_BUDGET_TOKENS, &|budget, _| budget);
    tokens(&names::AGENT_BUDGET_USED_TOKENS, &|_, used| used);
    let Some(budget) = budgets.cost_usd_per_day else { return };
    let mut usd = |family, amount: &dyn Fn(&Agent) -> f64| {
        writer.family(family, |series| {
            for agent in agents.iter().filter(|agent| agent.cost_usd.get().is_some()) {
                series.line(&agent.labels).label("scope", "day").number(amount(agent));
            }
        });
    };
    usd(&names::AGENT_BUDGET_USD, &|_| budget);
    usd(&names::AGENT_BUDGET_USED_USD, &|agent| agent.day_cost_usd);
}

fn write_requests(writer: &mut Writer<'_>, snapshot: &Snapshot, agents: &[&Agent]) {
    let mut counter = |family, count: fn(&Agent) -> Count| {
        writer.family(family, |series| {
            for agent in agents {
                if let Some(count) = count(agent).get() {
                    series.line(&agent.labels).count(count);
                }
            }
        });
    };
    counter(&names::AGENT_REQUESTS, |agent| agent.requests);
    counter(&names::AGENT_REQUEST_ERRORS, |agent| agent.request_errors);
    counter(&names::AGENT_RATE_LIMIT_HITS, |agent| agent.rate_limit_hits);
    counter(&names::AGENT_RETRIES, |agent| agent.retries);
    // What a provider said goes with the agent: nobody reports that the period has ended.
    writer.family(&names::AGENT_RATE_LIMIT_LIMIT, |series| {
        for (agent, limit) in rate_limits(agents) {
            if let Some(allowed) = limit.limit {
                limit_line(series, agent, limit).count(allowed);
            }
        }
    });
    writer.family(&names::AGENT_RATE_LIMIT_REMAINING, |series| {
        for (agent, limit) in rate_limits(agents) {
            if let Some(remaining) = limit.remaining {
                limit_line(series, agent, limit).count(remaining);
            }
        }
    });
    writer.family(&names::AGENT_RATE_LIMIT_RESET, |series| {
        for (agent, limit) in rate_limits(agents) {
            if let Some(at) = limit.reset_at {
                limit_line(series, agent, limit).time(snapshot.wall.to_wall(at));
            }
        }
    });
    writer.family(&names::AGENT_LIMITED, |series| {
        let is_told = |agent: &&&Agent| agent.rate_limit_hits.get().is_some() || !agent.rate_limits.is_empty();
        for agent in agents.iter().filter(|agent| agent.is_up()).filter(is_told) {
            series.line(&agent.labels).flag(agent.limited.is_some());
        }
    });
    writer.family(&names::AGENT_LIMITED_UNTIL, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(until) = agent.limited.as_ref().and_then(|limited| limited.until) {
                series.line(&agent.labels).time(snapshot.wall.to_wall(until));
            }
        }
    });
}

/// The limits of agents that are up; the fleet keeps one per provider and type.
fn rate_limits<'a>(agents: &'a [&'a Agent]) -> impl Iterator<Item = (&'a Agent, &'a RateLimit)> {
    let up = agents.iter().filter(|agent| agent.is_up());
    up.flat_map(|agent| agent.rate_limits.iter().map(move |limit| (*agent, limit)))
}

fn limit_line<'s, 'a>(series: &'s mut Series<'_, 'a>, agent: &Agent, limit: &RateLimit) -> Line<'s, 'a> {
    series.line(&agent.labels).label("provider", &limit.provider).label("limit_type", &limit.limit_type)
}

fn write_work(writer: &mut Writer<'_>, agents: &[&Agent]) {
    let outcomes = tails("outcome", ["completed", "failed"]);
    writer.family(&names::AGENT_TASKS, |series| {
        for agent in agents {
            series.counts(&agent.labels, &outcomes, [agent.tasks_completed.total(), agent.tasks_failed.total()]);
        }
    });
    let results = tails("result", ["passed", "failed"]);
    writer.family(&names::AGENT_REVIEWS, |series| {
        for agent in agents.iter().filter(|agent| is_known(&[agent.reviews_passed, agent.reviews_failed])) {
            series.counts(&agent.labels, &results, [agent.reviews_passed.total(), agent.reviews_failed.total()]);
        }
    });
}

fn is_known(counts: &[Count]) -> bool {
    counts.iter().any(|count| count.get().is_some())
}
