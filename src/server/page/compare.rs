//! Two or more runs side by side, or agents over a day.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use minijinja::{Value, context};
use serde_json::Value as Json;

use super::words::{agent_href, count, dollars, millis, percent, text};
use super::{AlertSummary, PageError, Visit, active_alerts, frame, send};
use crate::model::run_stats::hour_of;
use crate::model::{DEFAULT_PROJECT, StatCell, StatGroup};
use crate::runs::view;
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::server::runs::with_reader;
use crate::text::number;

/// Most runs or agents side by side.
const MOST: usize = 5;
/// Hours over which agents are compared.
const HOURS: u32 = 24;

/// How a value is read and written.
type Row = (&'static str, fn(&Json) -> Json, fn(&Json) -> String);

const OF_RUNS: [Row; 9] = [
    ("Time", |run| run["duration_ms"].clone(), millis),
    ("Waited for a person", |run| run["waited_ms"].clone(), millis),
    ("Model calls", |run| run["calls"].clone(), count),
    ("Failed calls", |run| run["failed_calls"].clone(), count),
    ("Tool calls", |run| run["tools"].clone(), count),
    ("Fallbacks", |run| run["fallbacks"].clone(), count),
    ("Tokens", |run| run["tokens"]["total"].clone(), count),
    ("Tokens read from a cache", |run| run["tokens"]["cache_read"].clone(), count),
    ("Cost", |run| run["cost_usd"].clone(), dollars),
];

const OF_AGENTS: [Row; 11] = [
    ("Runs", |stats| stats["runs"].clone(), count),
    ("Failed runs", |stats| stats["error_rate"].clone(), percent),
    ("Time of a run, p50", |stats| stats["run_duration_ms"]["p50"].clone(), millis),
    ("Time of a run, p95", |stats| stats["run_duration_ms"]["p95"].clone(), millis),
    ("Model calls", |stats| stats["calls"].clone(), count),
    ("Failed calls", |stats| stats["call_error_rate"].clone(), percent),
    ("Time of a call, p95", |stats| stats["call_duration_ms"]["p95"].clone(), millis),
    ("Tool calls", |stats| stats["tools"].clone(), count),
    ("Tokens", |stats| stats["tokens"]["total"].clone(), count),
    ("Tokens a call", |stats| stats["tokens_per_call"].clone(), count),
    ("Cost", |stats| stats["cost_usd"].clone(), dollars),
];

/// A column: its name, where it leads, and its values.
struct Column {
    name: String,
    href: String,
    values: Json,
}

/// `GET /compare?run=&run=` and `GET /compare?agents=&agents=`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    uri: Uri,
    visit: Visit,
) -> Result<Response, PageError> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let decoded = |value: &str| {
        let spaced = value.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let (mut runs, mut agents) = (Vec::new(), Vec::new());
    for (key, value) in pairs {
        match key {
            "run" => runs.push(decoded(value)),
            "agents" => agents.extend(decoded(value).split(',').filter(|name| !name.is_empty()).map(agent_of)),
            _ => {}
        }
    }
    let is_of_agents = !agents.is_empty();
    let (columns, error) = if is_of_agents { of_agents(&shared, agents).await? } else { of_runs(&shared, runs).await };
    let alerts = active_alerts(&shared).await?;
    let now = shared.context.clock.wall();
    let shown = visit.clone();
    let build = move || {
        let rows: &[Row] = if is_of_agents { &OF_AGENTS } else { &OF_RUNS };
        let lines = rows.iter().map(|(name, read, write)| {
            let values: Vec<Json> = columns.iter().map(|column| read(&column.values)).collect();
            let ratio = match values.iter().filter_map(Json::as_f64).collect::<Vec<_>>()[..] {
                [first, second] if first > 0.0 => format!("{} ×", number::shortest(second / first, 2)),
                _ => String::new(),
            };
            context! { name => *name, cells => values.iter().map(write).collect::<Vec<_>>(), difference => ratio }
        });
        let title = if is_of_agents { "Agents compared" } else { "Runs compared" };
        let of = if is_of_agents { "What their runs took in the last 24 hours. " } else { "" };
        let heads = columns.iter().map(|column| context! { name => column.name.clone(), href => column.href.clone() });
        context! {
            page => frame(&shown, "runs", format!("{title} · lookout"), AlertSummary::of(&alerts), now),
            title => title,
            lede => format!("{of}The difference is the second in multiples of the first."),
            error => error,
            columns => heads.collect::<Vec<Value>>(),
            lines => lines.collect::<Vec<Value>>(),
        }
    };
    Ok(send(&shared, &reader, &visit, "compare.html", build).await?)
}

/// The project and name of `shop/ann`.
fn agent_of(name: &str) -> (String, String) {
    let (project, agent) = name.split_once('/').unwrap_or((DEFAULT_PROJECT, name));
    (project.to_owned(), agent.to_owned())
}

async fn of_runs(shared: &HandlerState, ids: Vec<String>) -> (Vec<Column>, Option<String>) {
    let mut columns = Vec::new();
    let mut error = (ids.len() < 2).then(|| "Choose two runs in the list.".to_owned());
    for id in ids.iter().take(MOST) {
        let found = match crate::server::runs::trace_id(id) {
            Ok(id) => crate::server::runs::load(shared, id).await.map(|stored| (id, stored)),
            Err(error) => Err(error),
        };
        match found {
            Ok((id, stored)) => {
                let run = stored.runs.iter().find(|run| run.id == id).or_else(|| stored.runs.first());
                columns.extend(run.map(view::run).map(|run| Column {
                    name: format!("{}/{} · {}", text(&run, "project"), text(&run, "agent_name"), text(&run, "name")),
                    href: format!("run?id={}", text(&run, "run_id")),
                    values: run,
                }));
            }
            Err(failed) => error = Some(failed.message),
        }
    }
    (columns, error)
}

async fn of_agents(
    shared: &HandlerState,
    mut agents: Vec<(String, String)>,
) -> Result<(Vec<Column>, Option<String>), PageError> {
    agents.truncate(MOST);
    let error = (agents.len() < 2).then(|| "Name two agents: /compare?agents=shop/ann,shop/bob".to_owned());
    let hour = hour_of(shared.context.clock.wall().as_millis());
    let hours = (hour + 1).saturating_sub(HOURS)..hour + 1;
    let asked = agents.clone();
    let rows = with_reader(shared, move |reader| reader.stats(&asked, hours, StatGroup::Total)).await?;
    let columns = agents.into_iter().map(|(project, name)| {
        let own = rows.iter().filter(|row| (&*row.project, &*row.agent) == (&*project, &*name));
        let sum = own.fold(StatCell::default(), |mut sum, row| {
            sum.add(&row.cell, 1);
            sum
        });
        Column { name: format!("{project}/{name}"), href: agent_href(&project, &name), values: view::stat(&sum) }
    });
    Ok((columns.collect(), error))
}
