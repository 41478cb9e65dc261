//! Runs as a list, and one run as a waterfall.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use minijinja::{Value, context};
use serde_json::Value as Json;

use super::words::{self, agent_href, count, dollars, millis, query, text};
use super::{AlertSummary, PageError, Visit, active_alerts, frame, send, svg};
use crate::model::Time;
use crate::runs::view;
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::server::error::ApiError;
use crate::store::traces::{RunCursor, RunFilter};

/// Parameters that the list passes on to the filter, with what their fields are named and hint at.
const FIELDS: [(&str, &str, &str); 6] = [
    ("project", "project", "any"),
    ("agent", "agent", "any"),
    ("model", "model", "any"),
    ("tool", "tool", "any"),
    ("since", "since", "24h"),
    ("min_cost", "from $", "0"),
];
/// What may be chosen as the status.
const STATUSES: [&str; 4] = ["running", "ok", "error", "abandoned"];
/// Other parameters of the filter that links may have.
const HIDDEN: [&str; 6] = ["task", "session", "platform", "provider", "until", "min_duration"];

/// The class of a run's status.
pub(super) fn state_of(status: &str) -> &'static str {
    match status {
        "ok" => "done",
        "error" => "failed",
        "running" => "working",
        _ => "unknown",
    }
}

/// A run for the templates.
pub(super) fn run_value(run: &Json, now: Time) -> Value {
    let (project, agent) = (text(run, "project"), text(run, "agent_name"));
    context! {
        id => text(run, "run_id"),
        name => text(run, "name"),
        status => text(run, "status"),
        state => state_of(text(run, "status")),
        agent => format!("{project}/{agent}"),
        agent_href => agent_href(project, agent),
        started_at => text(run, "started_at"),
        began => words::at_text(now, text(run, "started_at")),
        took => millis(&run["duration_ms"]),
        model => text(run, "model"),
        calls => count(&run["calls"]),
        tools => count(&run["tools"]),
        tokens => count(&run["tokens"]["total"]),
        cost => dollars(&run["cost_usd"]),
        error => text(run, "error"),
    }
}

/// `GET /runs`.
pub(crate) async fn list(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let now = shared.context.clock.wall();
    let known = FIELDS.iter().map(|(key, ..)| *key).chain(HIDDEN).chain(["q", "status", "cursor"]);
    let parameters = known.filter_map(|key| Some((key.to_owned(), visit.parameter(key)?.to_owned()))).collect();
    let found = match RunFilter::new(parameters, now) {
        Ok(filter) => crate::server::runs::find(&shared, filter)
            .await
            .map(|(runs, cursor)| (runs.iter().map(view::run).collect::<Vec<_>>(), cursor)),
        Err(message) => Err(ApiError::new(http::StatusCode::BAD_REQUEST, message)),
    };
    let (runs, cursor, error) = match found {
        Ok((runs, cursor)) => (runs, cursor, None),
        Err(error) => (Vec::new(), None, Some(error.message)),
    };
    let alerts = active_alerts(&shared).await?;
    let shown = visit.clone();
    let build = move || {
        let is_filtered = shown.query.iter().any(|(key, value)| key != "cursor" && !value.trim().is_empty());
        let nothing = match (&error, is_filtered) {
            (Some(_), _) => "",
            (None, true) => "No run matches.",
            (None, false) => {
                "No runs yet. Agents report them by OTLP traces, by hooks, or by POST /agents/{id}/trace/start."
            }
        };
        context! {
            page => frame(&shown, "runs", "Runs · lookout".to_owned(), AlertSummary::of(&alerts), now),
            filter => fields(&shown),
            runs => runs.iter().map(|run| run_value(run, now)).collect::<Vec<_>>(),
            next => cursor.map(|cursor| next_href(&shown, cursor)),
            error => error,
            nothing => nothing,
        }
    };
    Ok(send(&shared, &reader, &visit, "runs.html", build).await?)
}

fn fields(visit: &Visit) -> Value {
    let status = visit.parameter("status");
    let option = |value: &str, name: &str| context! { value => value, name => name, selected => status.unwrap_or_default() == value };
    let mut options = vec![option("", "any")];
    options.extend(STATUSES.iter().map(|word| option(word, word)));
    let mut fields = vec![context! { key => "status", name => "status", options => options }];
    fields.extend(FIELDS.iter().map(|(key, name, hint)| {
        context! { key => *key, name => *name, hint => *hint, value => visit.parameter(key).unwrap_or_default() }
    }));
    context! { q => visit.parameter("q").unwrap_or_default(), fields => fields }
}

fn next_href(visit: &Visit, cursor: RunCursor) -> String {
    let kept = visit.query.iter().filter(|(key, value)| *key != "cursor" && !value.is_empty());
    let kept = kept.map(|(key, value)| format!("{}={}&", query(key), query(value)));
    format!("runs?{}cursor={}", kept.collect::<String>(), cursor.to_text())
}

/// `GET /run?id=`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let id = crate::server::runs::trace_id(visit.parameter("id").unwrap_or_default())?;
    let stored = crate::server::runs::load(&shared, id).await?;
    let alerts = active_alerts(&shared).await?;
    let now = shared.context.clock.wall();
    let shown = visit.clone();
    let build = move || {
        let run = view::run_with_spans(id, &stored.runs, &stored.spans).unwrap_or_default();
        page(&shown, &run, AlertSummary::of(&alerts), now)
    };
    Ok(send(&shared, &reader, &visit, "run.html", build).await?)
}

fn page(visit: &Visit, run: &Json, alerts: AlertSummary, now: Time) -> Value {
    let began = Time::parse(text(run, "started_at")).unwrap_or(now);
    let mut bars = Vec::new();
    let mut total = run["duration_ms"].as_f64().unwrap_or_else(|| now.since(began).as_secs_f64() * 1_000.0);
    for span in run["tree"].as_array().into_iter().flatten() {
        collect(span, began, 0, &mut bars);
    }
    total = bars.iter().map(|bar| bar.start + bar.length).fold(total, f64::max);
    let all = bars.len();
    bars.truncate(svg::MAX_SPANS);
    let cut = (all > bars.len())
        .then(|| format!("{} spans more; GET /api/traces/{} has all.", all - bars.len(), text(run, "run_id")));
    let began_at = Value::from_safe_string(format!("began {}", words::at_text(now, text(run, "started_at"))));
    let mut line = vec![began_at];
    let mut push = |shown: String| line.push(shown.into());
    if run["duration_ms"].is_number() {
        push(format!("took {}", millis(&run["duration_ms"])));
    }
    for key in ["model", "platform"] {
        if !text(run, key).is_empty() {
            push(text(run, key).to_owned());
        }
    }
    let fact = |name: &str, text: String| context! { name => name, text => text };
    let tokens = &run["tokens"];
    let by_type = tokens.as_object().into_iter().flatten().filter(|(kind, _)| *kind != "total");
    let by_type: Vec<String> =
        by_type.map(|(kind, amount)| format!("{} {}", count(amount), kind.replace('_', " "))).collect();
    let mut facts = vec![
        fact("Model calls", format!("{} ({} failed)", count(&run["calls"]), count(&run["failed_calls"]))),
        fact("Tool calls", count(&run["tools"])),
        fact(
            "Tokens",
            if by_type.is_empty() {
                "–".to_owned()
            } else {
                format!("{}: {}", count(&tokens["total"]), by_type.join(", "))
            },
        ),
        fact("Cost", dollars(&run["cost_usd"])),
        fact("Waited for a person", millis(&run["waited_ms"])),
        fact("Fallbacks", count(&run["fallbacks"])),
    ];
    facts.extend((!text(run, "task_id").is_empty()).then(|| fact("Task", text(run, "task_id").to_owned())));
    let traces = run["trace_ids"].as_array().into_iter().flatten().filter_map(Json::as_str).map(ToOwned::to_owned);
    let ids = [("Run", text(run, "run_id").to_owned())]
        .into_iter()
        .chain(traces.map(|id| ("Trace", id)))
        .chain((!text(run, "session_id").is_empty()).then(|| ("Session", text(run, "session_id").to_owned())))
        .map(|(name, id)| fact(name, id));
    let (project, agent) = (text(run, "project"), text(run, "agent_name"));
    context! {
        page => frame(visit, "run", format!("{} · {project}/{agent} · lookout", text(run, "name")), alerts, now),
        run => context! {
            name => text(run, "name"),
            status => text(run, "status"),
            state => state_of(text(run, "status")),
            agent => format!("{project}/{agent}"),
            agent_href => agent_href(project, agent),
            line => line,
            error => text(run, "error"),
            spans => count(&run["spans"]),
            waterfall => Value::from_safe_string(svg::waterfall(&bars, total)),
            cut => cut,
        },
        facts => facts,
        ids => ids.collect::<Vec<_>>(),
    }
}

/// The spans of a tree as lines, each beneath its parent.
fn collect(span: &Json, began: Time, depth: usize, bars: &mut Vec<svg::Bar>) {
    let start = Time::parse(text(span, "started_at")).unwrap_or(began);
    let mut notes = Vec::new();
    if span["tokens"]["total"].as_f64().is_some_and(|total| total > 0.0) {
        notes.push(format!("{} tok", count(&span["tokens"]["total"])));
    }
    if span["cost_usd"].is_number() {
        notes.push(dollars(&span["cost_usd"]));
    }
    bars.push(svg::Bar {
        depth,
        name: text(span, "name").to_owned(),
        kind: text(span, "kind").to_owned(),
        is_bad: text(span, "status") == "error",
        start: (start.as_millis() - began.as_millis()).max(0) as f64,
        length: span["duration_ms"].as_f64().unwrap_or(0.0),
        note: notes.join(" "),
    });
    for child in span["children"].as_array().into_iter().flatten() {
        collect(child, began, depth + 1, bars);
    }
}
