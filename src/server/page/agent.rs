//! One agent: its state over a day, its task, tokens, cost, requests, limits, runs, alerts and signals.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use minijinja::{Value, context};

use super::board::{LabelTable, OpenAlerts};
use super::runs::run_value;
use super::shown::{Shown, Standing};
use super::words::{self, count, dollars, millis, percent};
use super::{AlertSummary, PageError, Visit, active_alerts, fleet, frame, send, svg};
use crate::engine::{AlertFilter, View};
use crate::machine::AlertView;
use crate::model::run_stats::hour_of;
use crate::model::{
    Agent, AlertState, RateLimit, Run, SpendKind, StatCell, StatGroup, StatRow, TelemetryChannel, TelemetryChannels,
    Time, duration,
};
use crate::runs::view;
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::server::error::ApiError;
use crate::server::runs::with_reader;
use crate::store::HistoryEntry;
use crate::store::traces::RunFilter;
use crate::text::number;

/// Runs, resolved alerts and changes of state that are listed.
const LISTED: usize = 10;
/// Agents of its project that it can be compared with.
const MAX_OTHERS: usize = 200;
/// Hours of the chart.
const HOURS: u32 = 24;

/// What is read for the page in addition to the view.
struct AgentDetails {
    alerts: Arc<OpenAlerts>,
    labels: Arc<LabelTable>,
    past: Vec<AlertView>,
    changes: Vec<HistoryEntry>,
    receptions: Vec<TelemetryChannels>,
    runs: Vec<Run>,
    by_hour: Vec<StatRow>,
    by_model: Vec<StatRow>,
}

/// `GET /agent?project=&agent=`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let project = visit.parameter("project").unwrap_or(crate::model::DEFAULT_PROJECT).to_owned();
    let name = visit.parameter("agent").unwrap_or_default().to_owned();
    let view = shared.context.engine.view().await?;
    let is_it = |agent: &&Agent| (&*agent.project, &*agent.name) == (&*project, &*name);
    if !view.fleet.agents.iter().any(|agent| is_it(&agent)) {
        let message = format!("unknown agent {project}/{name}; it may have been removed, or have expired");
        return Err(ApiError::new(StatusCode::NOT_FOUND, crate::text::clean(&message, 300)).into());
    }
    let now = shared.context.clock.wall();
    let hour = hour_of(now.as_millis());
    let hours = (hour + 1).saturating_sub(HOURS)..hour + 1;
    let of_agent = [(project.clone(), name.clone())];
    let (project_asked, name_asked) = (project.clone(), name.clone());
    let (runs, by_hour, by_model) = with_reader(&shared, move |reader| {
        let filter =
            RunFilter { agent: Some(name_asked), project: Some(project_asked), limit: LISTED, ..RunFilter::default() };
        let (runs, _) = reader.runs(&filter)?;
        let by_hour = reader.stats(&of_agent, hours.clone(), StatGroup::Total)?;
        Ok((runs, by_hour, reader.stats(&of_agent, hours, StatGroup::Model)?))
    })
    .await?;
    let past = AlertFilter {
        project: Some(project.clone()),
        agent: Some(name.clone()),
        limit: LISTED,
        ..AlertFilter::default()
    };
    let details = AgentDetails {
        alerts: active_alerts(&shared).await?,
        labels: shared.context.streams.board().read_labels(&shared.context.runs).await,
        past: (shared.context.history)(past).await,
        changes: (shared.context.statuses)(project.clone(), name.clone()).await,
        receptions: shared.context.otlp.receptions().await,
        runs,
        by_hour,
        by_model,
    };
    let shown_to = visit.clone();
    Ok(send(&shared, &reader, &visit, "agent.html", move || page(&shown_to, &view, (&project, &name), &details))
        .await?)
}

fn page(visit: &Visit, view: &View, (project, name): (&str, &str), details: &AgentDetails) -> Value {
    let fleet = &view.fleet;
    let Some(agent) = fleet.agents.iter().find(|agent| (&*agent.project, &*agent.name) == (project, name)) else {
        return Value::UNDEFINED;
    };
    let mut own: Vec<&AlertView> = details.alerts.of(agent).collect();
    own.sort_unstable_by(|a, b| (b.level, &b.started_at).cmp(&(a.level, &a.started_at)));
    let standing = Standing::new(agent, fleet, &details.alerts, &details.labels);
    let now = fleet.wall.to_wall(fleet.at);
    let first_seen = fleet.wall.to_wall(agent.first_seen);
    let band = svg::day(now, &details.changes, (standing.shown, standing.since), first_seen);
    let advice: Vec<String> = own
        .iter()
        .filter(|alert| alert.state == AlertState::Firing && !alert.action.is_empty())
        .map(|alert| alert.action.clone())
        .collect();
    let title = format!("{project}/{name}: {} · lookout", standing.shown.word().to_lowercase());
    let others = fleet.agents.iter().filter(|other| other.slot != agent.slot && other.project == agent.project);
    let mut others: Vec<String> = others.map(|other| format!("{project}/{}", other.name)).collect();
    others.sort_unstable();
    others.truncate(MAX_OTHERS);
    let cards = [
        now_card(agent, view),
        spending_card(agent, view),
        hours_card(&details.by_hour, now),
        models_card(&details.by_model),
        requests_card(agent, &details.by_hour, view),
        alerts_card(&own, details, now),
        runs_card(&details.runs, now),
        changes_card(&details.changes, now),
        signals_card(agent, view, &details.receptions),
    ];
    context! {
        page => frame(visit, "agent", title, AlertSummary::of(&details.alerts), now),
        agent => context! {
            key => format!("{project}/{name}"),
            project => project,
            name => name,
            state => standing.shown.key(),
            word => standing.shown.word(),
            age => Value::from_safe_string(words::ago(now, standing.since, "since")),
            others => others,
            reason => standing.reason,
            advice => advice,
            band => Value::from_safe_string(svg::band(&band, true)),
        },
        cards => cards.into_iter().flatten().collect::<Vec<_>>(),
    }
}

/// A fact; `source` says in a tooltip where its value comes from.
fn fact(name: &str, text: Option<impl Into<Value>>, note: impl Into<Value>, source: &str) -> Value {
    context! { name => name, text => text.map(Into::into), note => note.into(), source => source }
}

/// A value of a budget or a window.
fn metered(name: &str, text: Option<String>, ratio: Option<f64>, note: impl Into<Value>, source: &str) -> Value {
    let meter = ratio.map(|ratio| Value::from_safe_string(svg::meter(ratio)));
    context! { name => name, text => text, note => note.into(), meter => meter, source => source }
}

fn now_card(agent: &Agent, view: &View) -> Option<Value> {
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let ago = |at: Time, verb: &str| since(now, fleet.wall.to_wall(at), verb);
    let task = agent.task.as_ref();
    let share = |ratio: f64| format!("{} %", number::shortest(ratio * 100.0, 0));
    let window = agent.context_window_ratio;
    let reported = format!("reported by {}", agent.source);
    let worked = task.map_or_else(String::new, |task| format!("at work for {}", fleet::long(task.worked_at(fleet.at))));
    let ends = agent.estimated_completion.map(|at| until_note("done about", now, fleet.wall.to_wall(at)));
    let mut facts = vec![
        fact("Status", agent.status.map(|status| status.as_str().replace('_', " ")), "", &reported),
        fact("Task", task.map(|task| task.id.to_string()), worked, &reported),
        fact("Phase", agent.phase.as_deref(), "", &reported),
        // A task that is nearly done is no warning.
        metered("Progress", agent.progress.map(share), agent.progress.map(|ratio| ratio.min(0.899)), ends, &reported),
        metered("Context window", window.map(|ratio| format!("{} used", share(ratio))), window, "", &reported),
        fact("Model", agent.model.as_deref(), "", "the model it last reported, or last called"),
        fact("Type", agent.agent_type.as_deref(), "", "reported, or known from its hooks and telemetry"),
        fact(
            "Reported by",
            Some(agent.source.to_string()),
            ago(agent.last_seen, "last seen"),
            "the source that last reported it",
        ),
        fact(
            "Last activity",
            agent.last_activity.map(|at| ago(at, "last active")),
            "",
            "reported, or its last request or hook",
        ),
        fact("Restarts", agent.restarts.get().map(|restarts| restarts.to_string()), "", &reported),
    ];
    if let Some(sessions) = &agent.sessions
        && let Some(last) = sessions.last_hook_at()
    {
        facts.push(fact("Last hook", Some(ago(last, "last hook")), "", "hooks of the tool"));
    }
    Some(context! { title => "Now", facts => facts })
}

/// How long ago, in a sentence.
fn since(now: Time, then: Time, verb: &str) -> Value {
    Value::from_safe_string(format!("{} ago", words::ago(now, then, verb)))
}

/// A time with the word that comes before it.
fn until_note(word: &str, now: Time, at: Time) -> Value {
    Value::from_safe_string(format!("{word} {}", words::at(now, at)))
}

fn spending_card(agent: &Agent, view: &View) -> Option<Value> {
    let fleet = &view.fleet;
    let budgets = fleet.budgets;
    let day_ends = fleet.wall.to_wall(fleet.day_ends);
    let now = fleet.wall.to_wall(fleet.at);
    let of_budget = |name: &str, used: f64, budget: Option<f64>, word: fn(f64) -> String, source: &str| match budget {
        Some(budget) if budget > 0.0 => {
            metered(name, Some(format!("{} of {}", word(used), word(budget))), Some(used / budget), "", source)
        }
        _ => fact(name, (used > 0.0).then(|| word(used)), "no budget", source),
    };
    let usage = match agent.usage_owner {
        Some(_) => "as reported, or counted from its calls; since it was first seen",
        None => "nothing has reported any",
    };
    let total = agent.total_tokens().map(|total| number::short(total as f64));
    let mut facts = vec![
        fact("Tokens", total, fleet::tokens_in_words(agent), usage),
        fact("Cost", agent.cost_usd.get().map(number::dollars), "", usage),
    ];
    let of_day = "since the budgets' day began, without tokens read from a cache; budgets.tokens_per_day";
    let budget = budgets.tokens_per_day.map(|budget| budget as f64);
    facts.push(of_budget("Tokens today", agent.day_tokens as f64, budget, number::short, of_day));
    let of_day = "since the budgets' day began; budgets.cost_usd_per_day";
    facts.push(of_budget("Cost today", agent.day_cost_usd, budgets.cost_usd_per_day, number::dollars, of_day));
    if let Some(task) = &agent.task {
        let budget = budgets.tokens_per_task.map(|budget| budget as f64);
        let source = "since the task began; budgets.tokens_per_task";
        facts.push(of_budget("Tokens of the task", task.tokens as f64, budget, number::short, source));
    }
    facts.extend(forecast(agent, view));
    if let Some(unpriced) = agent.unpriced_tokens.get().filter(|unpriced| *unpriced > 0) {
        let text = format!("{} tokens", number::short(unpriced as f64));
        facts.push(fact("Without a price", Some(text), "see otlp.prices", "tokens of models that have no price"));
    }
    let ends = format!("the day ends in {}", duration::display(day_ends.since(now)));
    Some(context! { title => "Tokens and cost", note => ends, facts => facts })
}

/// What the agent will have used at the day's end at its present rate, and when that is more than its budget.
fn forecast(agent: &Agent, view: &View) -> Vec<Value> {
    let fleet = &view.fleet;
    let budgets = fleet.budgets;
    let left = fleet.day_ends.since(fleet.at).as_secs_f64();
    let rate = |kind: SpendKind| agent.spending.as_deref().and_then(|spending| spending.rate(kind, fleet.at));
    let token_budget = budgets.tokens_per_day.map(|budget| budget as f64);
    let dollars: fn(f64) -> String = number::dollars;
    let of_kind = [
        ("Cost by the day's end", SpendKind::Cost, agent.day_cost_usd, budgets.cost_usd_per_day, dollars),
        ("Tokens by the day's end", SpendKind::Tokens, agent.day_tokens as f64, token_budget, number::short),
    ];
    let facts = of_kind.into_iter().filter_map(|(name, kind, used, budget, word)| {
        let rate = rate(kind).filter(|rate| *rate > 0.0)?;
        let gone = budget.map(|budget| (budget - used) / rate).filter(|seconds| *seconds > 0.0 && *seconds < left);
        let note = gone
            .map(|gone| format!("budget used up in {}", duration::display(std::time::Duration::from_secs_f64(gone))));
        let source = "a forecast: what it used today, and its rate of about the last hour until the day ends";
        Some(fact(name, Some(format!("about {}", word(used + rate * left))), note, source))
    });
    facts.collect()
}

fn sum(cells: &[&StatCell]) -> StatCell {
    let mut sum = StatCell::default();
    cells.iter().for_each(|cell| sum.add(cell, 1));
    sum
}

fn hours_card(rows: &[StatRow], now: Time) -> Option<Value> {
    if rows.is_empty() {
        return None;
    }
    let hour = hour_of(now.as_millis());
    let first = (hour + 1).saturating_sub(HOURS);
    let mut by_hour: BTreeMap<u32, StatCell> = BTreeMap::new();
    rows.iter().for_each(|row| by_hour.entry(row.hour).or_default().add(&row.cell, 1));
    let has_cost = rows.iter().any(|row| row.cell.cost_nanos > 0);
    let bars: Vec<(f64, String)> = (first..=hour)
        .map(|hour| {
            let cell = by_hour.get(&hour).cloned().unwrap_or_default();
            let shown = view::stat(&cell);
            let at = Time::from_millis(i64::from(hour) * 3_600_000).to_jiff().strftime("%H:00 UTC").to_string();
            let title = format!(
                "{at}: {}, {} tokens, {} calls",
                dollars(&shown["cost_usd"]),
                count(&shown["tokens"]["total"]),
                cell.calls
            );
            let value = if has_cost { shown["cost_usd"].as_f64() } else { shown["tokens"]["total"].as_f64() };
            (value.unwrap_or(0.0), title)
        })
        .collect();
    let what = if has_cost { "cost" } else { "tokens" };
    let total = view::stat(&sum(&rows.iter().map(|row| &row.cell).collect::<Vec<_>>()));
    let note =
        if has_cost { dollars(&total["cost_usd"]) } else { format!("{} tokens", count(&total["tokens"]["total"])) };
    Some(context! {
        title => format!("{} by hour", if has_cost { "Cost" } else { "Tokens" }),
        note => format!("{note} in 24 h"),
        chart => Value::from_safe_string(svg::bars(&bars, &format!("{what} by hour"))),
        axis => ["24 h ago", "12 h", "now"],
    })
}

fn head(name: &str, num: bool) -> Value {
    context! { name => name, num => num }
}

fn cell(text: String, num: bool) -> Value {
    context! { text => text, num => num }
}

fn models_card(rows: &[StatRow]) -> Option<Value> {
    let mut by_model: BTreeMap<&str, StatCell> = BTreeMap::new();
    rows.iter().for_each(|row| by_model.entry(&row.name).or_default().add(&row.cell, 1));
    if by_model.is_empty() {
        return None;
    }
    let lines = by_model.iter().map(|(model, own)| {
        let shown = view::stat(own);
        vec![
            cell((*model).to_owned(), false),
            cell(own.calls.to_string(), true),
            cell(percent(&shown["call_error_rate"]), true),
            cell(millis(&shown["call_duration_ms"]["p95"]), true),
            cell(count(&shown["tokens"]["total"]), true),
            cell(dollars(&shown["cost_usd"]), true),
        ]
    });
    let heads = [
        head("Model", false),
        head("Calls", true),
        head("Failed", true),
        head("p95", true),
        head("Tokens", true),
        head("Cost", true),
    ];
    Some(
        context! { title => "Models", note => "24 h", table => context! { heads => heads, lines => lines.collect::<Vec<_>>() } },
    )
}

fn requests_card(agent: &Agent, rows: &[StatRow], view: &View) -> Option<Value> {
    let total = sum(&rows.iter().map(|row| &row.cell).collect::<Vec<_>>());
    let shown = view::stat(&total);
    let counted = |number: Option<u64>| number.map(|number| number::short(number as f64));
    let latency = ["p50", "p95", "p99"].map(|share| millis(&shown["call_duration_ms"][share]));
    let source = "requests to models, as reported or from telemetry; since it was first seen";
    let mut facts = vec![
        fact("Requests", counted(agent.requests.get()), "", source),
        fact("Errors", counted(agent.request_errors.get()), "", source),
        fact("429s", counted(agent.rate_limit_hits.get()), "", source),
        fact("Retries", counted(agent.retries.get()), "", source),
    ];
    if total.calls > 0 {
        facts.push(fact("Latency", Some(latency.join(" · ")), "p50 · p95 · p99 of 24 h", "model calls of its runs"));
    }
    if total.runs > 0 {
        let failed = format!("{} failed in 24 h", percent(&shown["error_rate"]));
        facts.push(fact("Runs", Some(count(&shown["runs"])), failed, "runs that ended within 24 hours"));
    }
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    if let Some(limited) = &agent.limited {
        let until = limited.until.map(|until| until_note("until", now, fleet.wall.to_wall(until)));
        let provider = limited.provider.as_deref().unwrap_or("a provider").to_owned();
        facts.push(fact("Rate-limited by", Some(provider), until, "its requests are answered with 429"));
    }
    facts.extend(agent.rate_limits.iter().map(|limit| limit_fact(limit, view, now)));
    Some(context! { title => "Requests and limits", facts => facts })
}

fn limit_fact(limit: &RateLimit, view: &View, now: Time) -> Value {
    let name = format!("{} {}", limit.provider, limit.limit_type.replace('_', " "));
    let reset = limit.reset_at.map(|at| until_note("resets at", now, view.fleet.wall.to_wall(at)));
    let used = limit.limit.zip(limit.remaining).filter(|(limit, _)| *limit > 0);
    let short = |number: u64| number::short(number as f64);
    let text = limit.remaining.map(|left| match limit.limit {
        Some(limit) => format!("{} of {} left", short(left), short(limit)),
        None => format!("{} left", short(left)),
    });
    let ratio = used.map(|(limit, left)| 1.0 - left as f64 / limit as f64);
    metered(&name, text, ratio, reset, "headers of the provider's answers, as reported")
}

fn alerts_card(own: &[&AlertView], details: &AgentDetails, now: Time) -> Option<Value> {
    let lines: Vec<Vec<Value>> = own
        .iter()
        .copied()
        .chain(&details.past)
        .map(|alert| {
            let at = alert.resolved_at.as_deref().filter(|_| alert.resolved).unwrap_or(&alert.started_at);
            vec![
                context! { text => &*alert.rule, href => format!("alert?id={}", alert.fingerprint), sub => alert.message.clone() },
                cell(alert.level.as_str().to_owned(), false),
                cell(alert.state.as_str().to_owned(), false),
                context! { text => Time::parse(at).map(|at| since(now, at, alert.state.as_str())), num => true },
            ]
        })
        .collect();
    let heads = [head("Rule", false), head("Level", false), head("State", false), head("Since", true)];
    let empty = lines.is_empty().then_some("None, within the time that history is kept.");
    let table = (!lines.is_empty()).then(|| context! { heads => heads, lines => lines });
    Some(context! { title => "Alerts", table => table, empty => empty })
}

fn runs_card(runs: &[Run], now: Time) -> Option<Value> {
    if runs.is_empty() {
        return None;
    }
    let lines = runs.iter().map(|run| {
        let shown = run_value(&view::run(run), now);
        let get = |key: &str| shown.get_attr(key).ok().map(|value| value.to_string()).unwrap_or_default();
        vec![
            context! { text => get("name"), href => format!("run?id={}", get("id")), sub => get("error") },
            cell(get("status"), false),
            context! { text => shown.get_attr("began").unwrap_or_default() },
            cell(get("took"), true),
            cell(get("tokens"), true),
            cell(get("cost"), true),
        ]
    });
    let heads = [
        head("Run", false),
        head("Status", false),
        head("Began", false),
        head("Took", true),
        head("Tokens", true),
        head("Cost", true),
    ];
    Some(
        context! { title => "Runs", note => "the newest", table => context! { heads => heads, lines => lines.collect::<Vec<_>>() } },
    )
}

fn changes_card(changes: &[HistoryEntry], now: Time) -> Option<Value> {
    let lines: Vec<Vec<Value>> = changes
        .iter()
        .filter(|change| change.kind == "agent")
        .take(LISTED)
        .map(|change| {
            let word = Shown::of_word(&change.to).map_or("", Shown::word);
            vec![
                context! { text => words::at(now, change.at) },
                context! { text => change.to.replace('_', " "), sub => change.reason.clone() },
                cell(word.to_owned(), false),
            ]
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let heads = [head("At", false), head("Became", false), head("Shown as", false)];
    Some(context! { title => "Changes of state", table => context! { heads => heads, lines => lines } })
}

fn signals_card(agent: &Agent, view: &View, receptions: &[TelemetryChannels]) -> Option<Value> {
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let ago = |at: Time| since(now, fleet.wall.to_wall(at), "last");
    let own = receptions.iter().find(|it| (&*it.project, &*it.agent) == (&*agent.project, &*agent.name));
    let channel = |(channel, stats): (&TelemetryChannel, &Option<crate::model::ChannelStats>)| {
        let text = stats.as_ref().map(|stats| format!("{} items", number::short(stats.items as f64)));
        fact(channel.as_str(), text, stats.as_ref().map(|stats| ago(stats.last)), "received since the start")
    };
    let mut facts: Vec<Value> =
        own.map(|own| TelemetryChannel::ALL.iter().zip(&own.channels).map(channel).collect()).unwrap_or_default();
    let hook = agent.sessions.as_ref().and_then(|sessions| sessions.last_hook_at());
    facts.push(fact("hooks", hook.map(ago), "", "POST /hooks/…"));
    let stale = agent.ttl.map(|ttl| format!("stale after {}", duration::display(ttl)));
    let states = if agent.ttl.is_some() { Some(ago(agent.last_seen)) } else { None };
    facts.push(fact("states", states, stale, "pushed or polled"));
    Some(context! { title => "Signals", note => "what arrives", facts => facts })
}
