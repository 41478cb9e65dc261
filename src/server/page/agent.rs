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
use super::words::{age, count, dollars, millis, percent, shown};
use super::{AlertSummary, PageError, Visit, active_alerts, fleet, frame, send, svg};
use crate::engine::{AlertFilter, View};
use crate::machine::AlertView;
use crate::model::run_stats::hour_of;
use crate::model::{
    Agent, AlertState, RateLimit, Run, StatCell, StatGroup, StatRow, TelemetryChannel, TelemetryChannels, Time,
    duration,
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
    let past =
        AlertFilter { level: None, state: None, agent: Some(name.clone()), rule: None, task: None, limit: LISTED };
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
    let cards = [
        now_card(agent, view),
        spending_card(agent, view),
        hours_card(&details.by_hour, now),
        models_card(&details.by_model),
        requests_card(agent, &details.by_hour, view),
        alerts_card(&own, details, project, now),
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
            age => age(now, standing.since),
            reason => standing.reason,
            advice => advice,
            band => Value::from_safe_string(svg::band(&band, true)),
        },
        cards => cards.into_iter().flatten().collect::<Vec<_>>(),
    }
}

fn fact(name: &str, text: Option<String>, note: &str) -> Value {
    context! { name => name, text => text, note => note }
}

fn now_card(agent: &Agent, view: &View) -> Option<Value> {
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let ago = |at: Time| format!("{} ago", age(now, fleet.wall.to_wall(at)));
    let task = agent.task.as_ref();
    let progress = agent.progress.map(|ratio| format!("{} %", number::shortest(ratio * 100.0, 0)));
    let window = agent.context_window_ratio;
    let mut facts = vec![
        fact("Status", agent.status.map(|status| status.as_str().replace('_', " ")), ""),
        fact(
            "Task",
            task.map(|task| task.id.to_string()),
            &task.map_or_else(String::new, |task| format!("at work for {}", fleet::long(task.worked_at(fleet.at)))),
        ),
        fact("Phase", agent.phase.as_deref().map(ToOwned::to_owned), ""),
        context! { name => "Progress", text => progress, meter => agent.progress.map(|ratio| Value::from_safe_string(svg::meter(ratio.min(0.899)))) },
        context! {
            name => "Context window",
            text => window.map(|ratio| format!("{} % used", number::shortest(ratio * 100.0, 0))),
            meter => window.map(|ratio| Value::from_safe_string(svg::meter(ratio))),
        },
        fact("Model", agent.model.as_deref().map(ToOwned::to_owned), ""),
        fact("Type", agent.agent_type.as_deref().map(ToOwned::to_owned), ""),
        fact("Reported by", Some(agent.source.to_string()), &ago(agent.last_seen)),
        fact("Last activity", agent.last_activity.map(ago), ""),
        fact("Restarts", agent.restarts.get().map(|restarts| restarts.to_string()), ""),
    ];
    if let Some(sessions) = &agent.sessions
        && let Some(last) = sessions.last_hook_at()
    {
        facts.push(fact("Last hook", Some(ago(last)), ""));
    }
    Some(context! { title => "Now", facts => facts })
}

fn spending_card(agent: &Agent, view: &View) -> Option<Value> {
    let budgets = view.fleet.budgets;
    let day_ends = view.fleet.wall.to_wall(view.fleet.day_ends);
    let now = view.fleet.wall.to_wall(view.fleet.at);
    let of_budget = |name: &str, used: f64, budget: Option<f64>, word: &dyn Fn(f64) -> String| match budget {
        Some(budget) if budget > 0.0 => context! {
            name => name,
            text => format!("{} of {}", word(used), word(budget)),
            meter => Value::from_safe_string(svg::meter(used / budget)),
        },
        _ => context! { name => name, text => (used > 0.0).then(|| word(used)), note => "no budget" },
    };
    let tokens = |number: f64| number::short(number);
    let mut facts = vec![
        fact("Tokens", agent.total_tokens().map(|total| number::short(total as f64)), &fleet::tokens_in_words(agent)),
        fact("Cost", agent.cost_usd.get().map(number::dollars), ""),
        of_budget("Tokens today", agent.day_tokens as f64, budgets.tokens_per_day.map(|budget| budget as f64), &tokens),
        of_budget("Cost today", agent.day_cost_usd, budgets.cost_usd_per_day, &number::dollars),
    ];
    if let Some(task) = &agent.task {
        facts.push(of_budget(
            "Tokens of the task",
            task.tokens as f64,
            budgets.tokens_per_task.map(|budget| budget as f64),
            &tokens,
        ));
    }
    if let Some(unpriced) = agent.unpriced_tokens.get().filter(|unpriced| *unpriced > 0) {
        facts.push(fact(
            "Without a price",
            Some(format!("{} tokens", number::short(unpriced as f64))),
            "see otlp.prices",
        ));
    }
    let ends = format!("the day ends in {}", duration::display(day_ends.since(now)));
    Some(context! { title => "Tokens and cost", note => ends, facts => facts })
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
    let mut facts = vec![
        fact("Requests", counted(agent.requests.get()), ""),
        fact("Errors", counted(agent.request_errors.get()), ""),
        fact("429s", counted(agent.rate_limit_hits.get()), ""),
        fact("Retries", counted(agent.retries.get()), ""),
    ];
    if total.calls > 0 {
        facts.push(fact("Latency", Some(latency.join(" · ")), "p50 · p95 · p99 of 24 h"));
    }
    if total.runs > 0 {
        facts.push(fact(
            "Runs",
            Some(count(&shown["runs"])),
            &format!("{} failed in 24 h", percent(&shown["error_rate"])),
        ));
    }
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    if let Some(limited) = &agent.limited {
        let until =
            limited.until.map(|until| format!("until {} UTC", super::words::shown(now, fleet.wall.to_wall(until))));
        facts.push(fact(
            "Rate-limited by",
            Some(limited.provider.as_deref().unwrap_or("a provider").to_owned()),
            &until.unwrap_or_default(),
        ));
    }
    facts.extend(agent.rate_limits.iter().map(|limit| limit_fact(limit, view, now)));
    Some(context! { title => "Requests and limits", facts => facts })
}

fn limit_fact(limit: &RateLimit, view: &View, now: Time) -> Value {
    let name = format!("{} {}", limit.provider, limit.limit_type.replace('_', " "));
    let reset =
        limit.reset_at.map(|at| format!("resets at {} UTC", super::words::shown(now, view.fleet.wall.to_wall(at))));
    let used = limit.limit.zip(limit.remaining).filter(|(limit, _)| *limit > 0);
    let short = |number: u64| number::short(number as f64);
    context! {
        name => name,
        text => limit.remaining.map(|left| match limit.limit {
            Some(limit) => format!("{} of {} left", short(left), short(limit)),
            None => format!("{} left", short(left)),
        }),
        note => reset,
        meter => used.map(|(limit, left)| Value::from_safe_string(svg::meter(1.0 - left as f64 / limit as f64))),
    }
}

fn alerts_card(own: &[&AlertView], details: &AgentDetails, project: &str, now: Time) -> Option<Value> {
    let past = details.past.iter().filter(|alert| alert.project.as_deref() == Some(project));
    let lines: Vec<Vec<Value>> = own
        .iter()
        .copied()
        .chain(past)
        .map(|alert| {
            let at = alert.resolved_at.as_deref().filter(|_| alert.resolved).unwrap_or(&alert.started_at);
            vec![
                context! { text => &*alert.rule, href => format!("alert?id={}", alert.fingerprint), sub => alert.message.clone() },
                cell(alert.level.as_str().to_owned(), false),
                cell(alert.state.as_str().to_owned(), false),
                cell(Time::parse(at).map_or_else(String::new, |at| format!("{} ago", age(now, at))), true),
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
            cell(get("began"), false),
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
                cell(shown(now, change.at), false),
                context! { text => change.to.replace('_', " "), sub => change.reason.clone() },
                cell(word.to_owned(), false),
            ]
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    let heads = [head("At, UTC", false), head("Became", false), head("", false)];
    Some(context! { title => "Changes of state", table => context! { heads => heads, lines => lines } })
}

fn signals_card(agent: &Agent, view: &View, receptions: &[TelemetryChannels]) -> Option<Value> {
    let fleet = &view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let ago = |at: Time| format!("{} ago", age(now, fleet.wall.to_wall(at)));
    let own = receptions.iter().find(|it| (&*it.project, &*it.agent) == (&*agent.project, &*agent.name));
    let channel = |(channel, stats): (&TelemetryChannel, &Option<crate::model::ChannelStats>)| {
        let text = stats.as_ref().map(|stats| format!("{} items", number::short(stats.items as f64)));
        let note = stats.as_ref().map(|stats| ago(stats.last)).unwrap_or_default();
        fact(channel.as_str(), text, &note)
    };
    let mut facts: Vec<Value> =
        own.map(|own| TelemetryChannel::ALL.iter().zip(&own.channels).map(channel).collect()).unwrap_or_default();
    let hook = agent.sessions.as_ref().and_then(|sessions| sessions.last_hook_at());
    facts.push(fact("hooks", hook.map(ago), ""));
    facts.push(fact(
        "states",
        (agent.ttl.is_some()).then(|| ago(agent.last_seen)),
        &agent.ttl.map_or_else(String::new, |ttl| format!("stale after {}", duration::display(ttl))),
    ));
    Some(context! { title => "Signals", note => "what arrives", facts => facts })
}
