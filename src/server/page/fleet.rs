//! The fleet: who needs you, as rows, then the healthy as squares.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use minijinja::{Value, context};

use super::board::{FleetBoard, LabelTable, OpenAlerts, PageStamp};
use super::filter::{FleetFilter, choices, link};
use super::shown::{Shown, Standing, loose_alerts, standings};
use super::summary::{FLEET_SECTIONS, SectionInput, ShownCounts, headline};
use super::{AlertSummary, PageError, Visit, frame, render, respond, rows};
use crate::engine::View;
use crate::model::{Agent, TokenType, duration};
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::text::number;

/// Most rows of one state, unless the page is asked for that state alone.
const MAX_ROWS: usize = 100;
const MAX_ROWS_OF_STATE: usize = 2_000;
/// Most agents whose last 24 hours are read for a page; what was read before comes in addition.
const MAX_DAYS_READ: usize = 100;

/// `GET /` for browsers.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let hub = shared.context.streams.clone();
    let board = hub.board();
    let since = hub.page_id();
    let revision = board.alert_revision();
    let alerts = board.alerts(&shared.context.engine).await?;
    let view = shared.context.engine.view().await?;
    let labels = board.read_labels(&shared.context.runs).await;
    let stamp = PageStamp { generation: view.fleet.generation, alerts: revision };
    let key = visit.key("fleet", since.as_deref());
    if let Some(bytes) = board.rendered(&key, stamp) {
        return Ok(respond(&shared, &reader, &visit, bytes).await?);
    }
    let mut is_last = false;
    loop {
        let (hub, visit_shown, since) = (hub.clone(), visit.clone(), since.clone());
        let (view, alerts, labels) = (Arc::clone(&view), Arc::clone(&alerts), Arc::clone(&labels));
        let build = move || {
            let (value, unread) =
                page(&visit_shown, &view, &FleetData { alerts: &alerts, labels: &labels, board: hub.board() }, since);
            // Rendered only once the history of those that are shown is there.
            if unread.is_empty() || is_last {
                (render("fleet.html", value, visit_shown.accepts_gzip).map(Some), unread)
            } else {
                (Ok(None), unread)
            }
        };
        let (rendered, unread) = shared.sending.build(build).await?;
        match rendered? {
            Some(bytes) => {
                board.keep_rendered(key, stamp, &bytes);
                return Ok(respond(&shared, &reader, &visit, bytes).await?);
            }
            None => {
                board.read_days(&unread).await;
                is_last = true;
            }
        }
    }
}

/// What is shown in addition to the view.
#[derive(Clone, Copy)]
struct FleetData<'a> {
    alerts: &'a OpenAlerts,
    labels: &'a LabelTable,
    board: &'a FleetBoard,
}

/// The page's values, and the agents whose last day it would show and has not.
fn page(visit: &Visit, view: &View, data: &FleetData<'_>, since: Option<String>) -> (Value, Vec<Agent>) {
    let fleet = &*view.fleet;
    let now = fleet.wall.to_wall(fleet.at);
    let filter = FleetFilter::new(visit);
    let all = standings(fleet, data.alerts, data.labels);
    let counts = ShownCounts::of(&all);
    let mut unread = Vec::new();
    let mut groups = Vec::new();
    let mut covered = 0;
    for shown in Shown::ALL {
        let of_state: Vec<&Standing<'_>> =
            all.iter().filter(|standing| standing.shown == shown && filter.covers(standing)).collect();
        covered += of_state.len();
        let is_rows = shown.is_urgent() || filter.state.is_some();
        let most = if filter.state.is_some() { MAX_ROWS_OF_STATE } else { MAX_ROWS };
        let rest = if is_rows { of_state.len().saturating_sub(most) } else { 0 };
        let more = (rest > 0).then(|| {
            context! { href => link(visit, &[("state", shown.key())]), text => format!("{rest} more"), count => rest }
        });
        let (mut rows, mut teams) = (String::new(), Vec::new());
        if is_rows {
            for standing in of_state.iter().take(most) {
                let day = data.board.day(standing.agent);
                if day.is_none() && unread.len() < MAX_DAYS_READ {
                    unread.push(standing.agent.clone());
                }
                rows.push_str(&rows::row(now, standing, day.as_ref(), visit.is_admin));
            }
        } else {
            teams = squares(visit, &of_state, &filter);
        }
        groups.push(context! {
            state => shown.key(), name => shown.word(), count => of_state.len(), more => more,
            is_rows => is_rows, rows => Value::from_safe_string(rows), teams => teams,
        });
    }
    let loose_count = loose_alerts(fleet, data.alerts).len();
    let input = SectionInput {
        fleet,
        alerts: data.alerts,
        is_admin: visit.is_admin,
        is_shown: &|project| filter.covers_alert(project),
    };
    let sections = FLEET_SECTIONS.iter().map(|section| {
        let html = Value::from_safe_string((section.render)(&input));
        context! { name => section.name, is_above => section.is_above, html => html }
    });
    let headline = headline(fleet, &counts, loose_count);
    let summary = AlertSummary { needs: counts.urgent() + loose_count, ..AlertSummary::of(data.alerts) };
    let title = format!("{} · lookout", headline.title);
    let value = context! {
        page => frame(visit, "fleet", title, summary, now),
        since => since,
        summary => Value::from_safe_string(headline.html),
        filter => choices(visit, &all, &filter),
        has_hosts => data.labels.has_hosts(),
        group_key => filter.group.key(),
        sections => sections.collect::<Vec<_>>(),
        groups => groups,
        empty => all.is_empty().then(super::setup::beginnings),
        is_matched => covered > 0,
    };
    (value, unread)
}

/// The agents of a calm state as squares, by what they are grouped by.
fn squares(visit: &Visit, agents: &[&Standing<'_>], filter: &FleetFilter) -> Vec<Value> {
    let mut teams: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for standing in agents {
        let (count, html) = teams.entry(filter.group.of(standing)).or_default();
        *count += 1;
        rows::square(html, standing);
    }
    let team = |(value, (count, squares)): (&str, (usize, String))| {
        context! {
            value => value,
            name => filter.group.shown(value),
            href => link(visit, &[(filter.group.key(), value)]),
            count => count,
            squares => Value::from_safe_string(squares),
        }
    };
    teams.into_iter().map(team).collect()
}

/// Tokens by type in words, for tooltips.
pub(super) fn tokens_in_words(agent: &Agent) -> String {
    let known = TokenType::ALL.iter().zip(&agent.tokens);
    let known = known.filter(|(_, count)| count.total() > 0).filter_map(|(kind, count)| {
        Some(format!("{} {}", number::short(count.get()? as f64), kind.as_str().replace('_', " ")))
    });
    known.collect::<Vec<_>>().join(", ")
}

/// How long, in words of the API.
pub(super) fn long(seconds: std::time::Duration) -> String {
    duration::display(seconds)
}
