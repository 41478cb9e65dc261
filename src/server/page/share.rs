//! The page behind a shared link: names and states of agents, and nothing else.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use minijinja::{Value, context};

use super::board::{LabelTable, OpenAlerts};
use super::shown::{Shown, Standing, standings};
use super::{PageError, REFRESH, Visit, active_alerts, assets, send};
use crate::model::Snapshot;
use crate::server::HandlerState;
use crate::server::connections::Connection;

/// Most names of one state.
const MAX_NAMES: usize = 2_000;

/// Marks a request for the shared page, whose token was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedLink;

/// `GET /?share=…`. The other parameters filter nothing: that would show what the filter matched.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let view = shared.context.engine.view().await?;
    let alerts = active_alerts(&shared).await?;
    let labels = shared.context.streams.board().known_labels();
    let shown = visit.clone();
    let values = move || page(&shown, &view.fleet, &alerts, &labels);
    let mut response = send(&shared, &reader, &visit, "share.html", values).await?;
    // The address is a secret.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

fn page(visit: &Visit, fleet: &Snapshot, alerts: &OpenAlerts, labels: &LabelTable) -> Value {
    let all = standings(fleet, alerts, labels);
    let mut groups = Vec::new();
    let mut sentences = Vec::new();
    let mut urgent = 0;
    for shown in Shown::ALL {
        let agents: Vec<&Standing<'_>> = all.iter().filter(|standing| standing.shown == shown).collect();
        if agents.is_empty() {
            continue;
        }
        urgent += if shown.is_urgent() { agents.len() } else { 0 };
        sentences.push((shown, shown.sentence(agents.len())));
        let mut by_project: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for standing in agents.iter().take(MAX_NAMES) {
            by_project.entry(&standing.agent.project).or_default().push(standing.agent.name.to_string());
        }
        let projects = by_project.into_iter().map(|(name, agents)| context! { name => name, agents => agents });
        groups.push(context! {
            state => shown.key(),
            name => shown.word(),
            urgent => shown.is_urgent(),
            count => agents.len(),
            projects => projects.collect::<Vec<_>>(),
            more => agents.len().saturating_sub(MAX_NAMES),
        });
    }
    let parts: Vec<Value> = sentences
        .iter()
        .filter(|(shown, _)| urgent == 0 || shown.is_urgent())
        .map(|(shown, text)| context! { state => shown.key(), text => text })
        .collect();
    let texts: Vec<&str> =
        sentences.iter().filter(|(shown, _)| urgent == 0 || shown.is_urgent()).map(|(_, text)| &**text).collect();
    let title = if all.is_empty() { "No agents yet".to_owned() } else { texts.join(" · ") };
    context! {
        title => format!("{title} · lookout"),
        icon => assets::icon_href(urgent, false),
        style => assets::STYLE.href(),
        refresh => REFRESH,
        theme => visit.theme,
        wall => visit.query.contains_key("wall"),
        taken => fleet.wall.to_wall(fleet.at).to_jiff().strftime("%H:%M:%S UTC").to_string(),
        parts => parts,
        groups => groups,
    }
}
