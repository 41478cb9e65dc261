//! Two or more runs side by side.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use minijinja::{Value, context};
use serde_json::Value as Json;

use super::words::{count, dollars, millis, text};
use super::{AlertSummary, PageError, Visit, active_alerts, frame, send};
use crate::runs::view;
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::text::number;

/// Most runs side by side.
const MOST: usize = 5;

/// How a value is read and written.
type Row = (&'static str, fn(&Json) -> Json, fn(&Json) -> String);

const ROWS: [Row; 9] = [
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

/// `GET /compare?run=&run=`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    uri: Uri,
    visit: Visit,
) -> Result<Response, PageError> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let asked: Vec<&str> = pairs.filter(|(key, _)| *key == "run").map(|(_, id)| id).take(MOST).collect();
    let mut runs = Vec::new();
    let mut error = (asked.len() < 2).then(|| "Choose two runs in the list.".to_owned());
    for id in asked {
        let found = match crate::server::runs::trace_id(id) {
            Ok(id) => crate::server::runs::load(&shared, id).await.map(|stored| (id, stored)),
            Err(error) => Err(error),
        };
        match found {
            Ok((id, stored)) => runs.extend(view::run_with_spans(id, &stored.runs, &stored.spans)),
            Err(failed) => error = Some(failed.message),
        }
    }
    let alerts = active_alerts(&shared).await?;
    let now = shared.context.clock.wall();
    let shown = visit.clone();
    let build = move || {
        let columns = runs.iter().map(|run| {
            let name = format!("{}/{} · {}", text(run, "project"), text(run, "agent_name"), text(run, "name"));
            context! { name => name, href => format!("run?id={}", text(run, "run_id")) }
        });
        let lines = ROWS.iter().map(|(name, read, write)| {
            let values: Vec<Json> = runs.iter().map(read).collect();
            let ratio = match values.iter().filter_map(Json::as_f64).collect::<Vec<_>>()[..] {
                [first, second] if first > 0.0 => format!("{} ×", number::shortest(second / first, 2)),
                _ => String::new(),
            };
            context! { name => *name, cells => values.iter().map(write).collect::<Vec<_>>(), difference => ratio }
        });
        let title = "Runs compared".to_owned();
        context! {
            page => frame(&shown, "runs", format!("{title} · lookout"), AlertSummary::of(&alerts), now),
            title => title,
            lede => "The difference is the second in multiples of the first.",
            error => error,
            columns => columns.collect::<Vec<Value>>(),
            lines => lines.collect::<Vec<Value>>(),
        }
    };
    Ok(send(&shared, &reader, &visit, "compare.html", build).await?)
}
