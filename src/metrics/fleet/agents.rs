//! Families with series per agent.
//!
//! Series about current work (idle time, progress, context window, expected completion, rate limits) end when the agent
//! ends or becomes stale. `up`, status, last activity, counters and budgets stay until it is removed or expires.

use crate::metrics::names;
use crate::metrics::series::{FamilySeries, SeriesLine, SeriesWriter, tails};
use crate::model::{Agent, AgentRuns, AgentStatus, Count, RateLimit, RunStatus, Snapshot, TokenType};
use crate::text::clean;

/// Maximum length of a reason in a label, in bytes.
const MAX_REASON: usize = 128;

/// An agent and its labels. Each family reads the labels of all agents: side by side they stay in the CPU's cache.
struct LabelledAgent<'a> {
    agent: &'a Agent,
    labels: &'a str,
}

impl std::ops::Deref for LabelledAgent<'_> {
    type Target = Agent;

    fn deref(&self) -> &Agent {
        self.agent
    }
}

impl<'a> LabelledAgent<'a> {
    /// The agents of `snapshot`; `labels` are those of all of them in the same order.
    fn all(snapshot: &'a Snapshot, labels: &'a str) -> Vec<Self> {
        let mut rest = labels;
        let labelled = snapshot.agents.iter().filter_map(|agent| {
            let (labels, after) = rest.split_at_checked(agent.labels.len())?;
            rest = after;
            Some(Self { agent, labels })
        });
        labelled.collect()
    }
}

/// Writes all families.
pub(super) fn write(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot) {
    let labels: String = snapshot.agents.iter().map(|agent| &*agent.labels).collect();
    let agents = LabelledAgent::all(snapshot, &labels);
    write_state(writer, snapshot, &agents);
    write_usage(writer, &agents);
    write_budgets(writer, snapshot, &agents);
    write_requests(writer, snapshot, &agents);
    write_work(writer, &agents);
    write_runs(writer, snapshot, &agents);
}

fn write_state(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot, agents: &[LabelledAgent<'_>]) {
    writer.family(&names::AGENT_UP, |series| {
        agents.iter().for_each(|agent| series.line(agent.labels).flag(agent.is_up()));
    });
    writer.family(&names::AGENT_EXPECTED, |series| {
        agents.iter().for_each(|agent| series.line(agent.labels).flag(agent.is_expected()));
    });
    writer.family(&names::AGENT_INFO, |series| {
        for agent in agents {
            let line = series.line(agent.labels).label("agent_type", agent.agent_type.as_deref().unwrap_or_default());
            line.label("model", agent.model.as_deref().unwrap_or_default()).flag(true);
        }
    });
    let statuses = tails("status", AgentStatus::ALL.map(AgentStatus::as_str));
    writer.family(&names::AGENT_STATUS, |series| {
        for agent in agents {
            if let Some(index) = agent.status.and_then(|status| AgentStatus::ALL.iter().position(|one| *one == status))
            {
                series.states(agent.labels, &statuses, index);
            }
        }
    });
    // One series per waiting agent only, so that free text does not multiply the series.
    writer.family(&names::AGENT_WAITING, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(status) = agent.status.filter(|status| status.waits()) {
                let reason = clean(agent.reason.as_deref().unwrap_or_default(), MAX_REASON);
                series.line(agent.labels).label("status", status.as_str()).label("reason", &reason).flag(true);
            }
        }
    });
    writer.family(&names::AGENT_IDLE_TIME, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(seconds) = agent.idle_seconds(snapshot.at) {
                series.line(agent.labels).number(seconds);
            }
        }
    });
    writer.family(&names::AGENT_LAST_ACTIVITY, |series| {
        for agent in agents {
            if let Some(at) = agent.last_activity {
                series.line(agent.labels).time(snapshot.wall.to_wall(at));
            }
        }
    });
    writer.family(&names::AGENT_RESTARTS, |series| {
        agents.iter().for_each(|agent| series.line(agent.labels).count(agent.restarts.total()));
    });
    writer.family(&names::AGENT_PROGRESS, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(progress) = agent.progress {
                series.line(agent.labels).number(progress);
            }
        }
    });
    writer.family(&names::AGENT_CONTEXT_WINDOW, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(ratio) = agent.context_window_ratio {
                series.line(agent.labels).number(ratio);
            }
        }
    });
    writer.family(&names::AGENT_ESTIMATED_COMPLETION, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(at) = agent.estimated_completion {
                series.line(agent.labels).time(snapshot.wall.to_wall(at));
            }
        }
    });
}

fn write_usage(writer: &mut SeriesWriter<'_>, agents: &[LabelledAgent<'_>]) {
    let types = tails("token_type", TokenType::ALL.map(TokenType::as_str));
    writer.family(&names::AGENT_TOKENS, |series| {
        for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
            series.counts(agent.labels, &types, agent.tokens.map(|count| count.total()));
        }
    });
    writer.family(&names::AGENT_COST, |series| {
        for agent in agents {
            if let Some(cost) = agent.cost_usd.get() {
                series.line(agent.labels).number(cost);
            }
        }
    });
    writer.family(&names::AGENT_UNPRICED_TOKENS, |series| {
        // Counted together with the tokens, so a missing count is 0 once tokens are known.
        for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
            series.line(agent.labels).count(agent.unpriced_tokens.total());
        }
    });
}

/// A budget has series only together with its usage, so that their ratio is always defined.
fn write_budgets(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot, agents: &[LabelledAgent<'_>]) {
    let budgets = &snapshot.budgets;
    let mut tokens = |family, of_task: &dyn Fn(u64, u64) -> u64| {
        writer.family(family, |series| {
            for agent in agents.iter().filter(|agent| is_known(&agent.tokens)) {
                if let (Some(budget), Some(task)) = (budgets.tokens_per_task, &agent.task)
                    && agent.has_open_task()
                {
                    series.line(agent.labels).label("scope", "task").count(of_task(budget, task.tokens));
                }
                if let Some(budget) = budgets.tokens_per_day {
                    series.line(agent.labels).label("scope", "day").count(of_task(budget, agent.day_tokens));
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
                series.line(agent.labels).label("scope", "day").number(amount(agent));
            }
        });
    };
    usd(&names::AGENT_BUDGET_USD, &|_| budget);
    usd(&names::AGENT_BUDGET_USED_USD, &|agent| agent.day_cost_usd);
}

fn write_requests(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot, agents: &[LabelledAgent<'_>]) {
    let mut counter = |family, count: fn(&Agent) -> Count| {
        writer.family(family, |series| {
            for agent in agents {
                if let Some(count) = count(agent).get() {
                    series.line(agent.labels).count(count);
                }
            }
        });
    };
    counter(&names::AGENT_REQUESTS, |agent| agent.requests);
    counter(&names::AGENT_REQUEST_ERRORS, |agent| agent.request_errors);
    counter(&names::AGENT_RATE_LIMIT_HITS, |agent| agent.rate_limit_hits);
    counter(&names::AGENT_RETRIES, |agent| agent.retries);
    // Limits are shown until the agent is down: providers do not report the end of a period.
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
        let is_known_to_report =
            |agent: &&LabelledAgent<'_>| agent.rate_limit_hits.get().is_some() || !agent.rate_limits.is_empty();
        for agent in agents.iter().filter(|agent| agent.is_up()).filter(is_known_to_report) {
            series.line(agent.labels).flag(agent.limited.is_some());
        }
    });
    writer.family(&names::AGENT_LIMITED_UNTIL, |series| {
        for agent in agents.iter().filter(|agent| agent.is_up()) {
            if let Some(until) = agent.limited.as_ref().and_then(|limited| limited.until) {
                series.line(agent.labels).time(snapshot.wall.to_wall(until));
            }
        }
    });
}

/// The rate limits of agents that are up, at most one per provider and type.
fn rate_limits<'a>(agents: &'a [LabelledAgent<'a>]) -> impl Iterator<Item = (&'a LabelledAgent<'a>, &'a RateLimit)> {
    let up = agents.iter().filter(|agent| agent.is_up());
    up.flat_map(|agent| agent.rate_limits.iter().map(move |limit| (agent, limit)))
}

fn limit_line<'s, 'a>(
    series: &'s mut FamilySeries<'_, 'a>,
    agent: &LabelledAgent<'_>,
    limit: &RateLimit,
) -> SeriesLine<'s, 'a> {
    series.line(agent.labels).label("provider", &limit.provider).label("limit_type", &limit.limit_type)
}

fn write_work(writer: &mut SeriesWriter<'_>, agents: &[LabelledAgent<'_>]) {
    let outcomes = tails("outcome", ["completed", "failed"]);
    writer.family(&names::AGENT_TASKS, |series| {
        for agent in agents {
            series.counts(agent.labels, &outcomes, [agent.tasks_completed.total(), agent.tasks_failed.total()]);
        }
    });
    let results = tails("result", ["passed", "failed"]);
    writer.family(&names::AGENT_REVIEWS, |series| {
        for agent in agents.iter().filter(|agent| is_known(&[agent.reviews_passed, agent.reviews_failed])) {
            series.counts(agent.labels, &results, [agent.reviews_passed.total(), agent.reviews_failed.total()]);
        }
    });
}

fn write_runs(writer: &mut SeriesWriter<'_>, snapshot: &Snapshot, agents: &[LabelledAgent<'_>]) {
    let with_runs: Vec<(&str, &AgentRuns)> =
        agents.iter().filter_map(|agent| Some((agent.labels, &**agent.agent.runs.as_ref()?))).collect();
    let statuses = tails("status", AgentRuns::STATUSES.map(RunStatus::as_str));
    writer.family(&names::AGENT_RUNS, |series| {
        with_runs.iter().for_each(|(labels, runs)| series.counts(labels, &statuses, runs.ended));
    });
    let mut numbers = |family, number: &dyn Fn(&AgentRuns) -> Option<f64>| {
        writer.family(family, |series| {
            for (labels, runs) in &with_runs {
                if let Some(number) = number(runs) {
                    series.line(labels).number(number);
                }
            }
        });
    };
    numbers(&names::AGENT_RUNS_ACTIVE, &|runs| Some(runs.running().len() as f64));
    numbers(&names::AGENT_RUN_DURATION, &|runs| Some(runs.seconds));
    numbers(&names::AGENT_RUN_COST, &|runs| runs.cost_usd.get());
    numbers(&names::AGENT_FALLBACKS, &|runs| Some(runs.fallbacks as f64));
    numbers(&names::AGENT_RUN_LONGEST, &|runs| runs.run_seconds(snapshot.at));
    numbers(&names::AGENT_RUN_P95, &AgentRuns::p95_seconds);
    numbers(&names::AGENT_RUN_LAST_COST, &AgentRuns::run_cost);
    numbers(&names::AGENT_RUN_MEDIAN_COST, &AgentRuns::median_cost);
}

fn is_known(counts: &[Count]) -> bool {
    counts.iter().any(|count| count.get().is_some())
}
