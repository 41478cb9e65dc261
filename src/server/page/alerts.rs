//! Alerts, active and resolved, and why one of them is as it is.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use minijinja::{Value, context};

use super::board::PageStamp;
use super::words::{self, agent_href, ago, at_text, element_id};
use super::{AlertSummary, PageError, Visit, active_alerts, frame, render, respond, send};
use crate::alerts::timeline;
use crate::engine::AlertFilter;
use crate::machine::AlertView;
use crate::model::{AlertState, Fingerprint, Level, Silence, Time, TimelineEvent, WallClock, duration};
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::server::error::ApiError;
use crate::text::number;

/// Most active alerts on the page, the worst first.
const MAX_ROWS: usize = 300;
/// Resolved alerts on the page.
const PAST: usize = 50;

/// What an alert is about, and the page of that.
fn subject(alert: &AlertView) -> (String, Option<String>) {
    let project = alert.project.as_deref().unwrap_or_default();
    if let Some(agent) = &alert.agent_name {
        return (format!("{project}/{agent}"), Some(agent_href(project, agent)));
    }
    let other = [
        ("component", &alert.component),
        ("source", &alert.source),
        ("receiver", &alert.receiver),
        ("sidecar", &alert.sidecar),
    ];
    match other.into_iter().find_map(|(kind, name)| Some((kind, name.as_deref()?))) {
        Some(("sidecar", _)) => ("this sidecar".to_owned(), None),
        Some((kind, name)) if project.is_empty() => (format!("{kind} {name}"), None),
        Some((kind, name)) => (format!("{project} · {kind} {name}"), None),
        None => (format!("project {project}"), None),
    }
}

/// An alert for the templates.
pub(super) fn alert_value(alert: &AlertView, now: Time) -> Value {
    let since = alert.resolved_at.as_deref().filter(|_| alert.resolved).or(alert.fired_at.as_deref());
    let since = since.unwrap_or(&alert.started_at);
    let mut tags = Vec::new();
    let mut tag = |text: &str, title: String| tags.push(context! { text => text, title => title });
    if alert.state == AlertState::Pending {
        tag("pending", "its `for` is not over yet".to_owned());
    }
    if alert.no_data {
        tag("no data", "its value is unknown; its state is held".to_owned());
    }
    if let Some(by) = &alert.inhibited_by {
        tag("inhibited", format!("by {by}"));
    }
    if let Some(id) = &alert.silenced_by {
        tag("silenced", format!("by silence {id}"));
    }
    if let Some(by) = &alert.acked_by {
        tag("acknowledged", format!("by {by}"));
    }
    let (subject, subject_href) = subject(alert);
    let agent =
        alert.agent_name.as_ref().map(|name| format!("{}/{name}", alert.project.as_deref().unwrap_or_default()));
    let verb = if alert.resolved {
        "resolved"
    } else if alert.fired_at.is_some() {
        "firing since"
    } else {
        "pending since"
    };
    context! {
        id => element_id("l", &[&alert.fingerprint.to_string(), since]),
        fingerprint => alert.fingerprint.to_string(),
        rule => &*alert.rule,
        level => alert.level.as_str(),
        glyph => if alert.resolved { "done" } else { "alert" },
        state => alert.state.as_str(),
        message => alert.message.clone(),
        action => alert.action.clone(),
        since => Time::parse(since).map(|since| Value::from_safe_string(ago(now, since, verb))),
        subject => subject,
        subject_href => subject_href,
        agent => agent,
        project => alert.project.as_deref(),
        name => alert.agent_name.as_deref(),
        component => alert.component.as_deref(),
        source => alert.source.as_deref(),
        receiver => alert.receiver.as_deref(),
        tags => tags,
        resolved => alert.resolved,
        can_ack => alert.acked_by.is_none() && alert.state == AlertState::Firing,
    }
}

fn silence_value(silence: &Silence, now: Time, wall: &WallClock) -> Value {
    let matchers = serde_json::to_value(&silence.matchers).unwrap_or_default();
    let matchers = matchers.as_object().into_iter().flatten();
    let matchers: Vec<String> =
        matchers.map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default())).collect();
    context! {
        id => &*silence.id,
        matchers => matchers.join(", "),
        comment => &*silence.comment,
        created_by => &*silence.created_by,
        active => silence.is_active(now),
        starts => words::at(wall.to_wall(now), wall.to_wall(silence.starts_at)),
        left => format!("{} left", duration::display(silence.ends_at.since(now))),
    }
}

/// `GET /alerts`.
pub(crate) async fn list(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let board = shared.context.streams.board();
    let stamp = PageStamp { generation: 0, alerts: board.alert_revision() };
    let key = visit.key("alerts", None);
    if let Some(bytes) = board.rendered(&key, stamp) {
        return Ok(respond(&shared, &reader, &visit, bytes).await?);
    }
    let alerts = active_alerts(&shared).await?;
    let mut past = (shared.context.history)(AlertFilter { limit: PAST + 1, ..AlertFilter::default() }).await;
    let has_more = past.len() > PAST;
    past.truncate(PAST);
    let silences = shared.context.engine.silences().await?;
    let (now, wall) = (shared.context.clock.now(), shared.context.clock.wall_clock());
    let shown = visit.clone();
    let build = move || {
        let today = wall.to_wall(now);
        let summary = AlertSummary::of(&alerts);
        let mut active: Vec<&AlertView> = alerts.iter().collect();
        active.sort_by(|a, b| {
            let rank =
                |alert: &AlertView| (alert.state == AlertState::Firing, alert.inhibited_by.is_none(), alert.level);
            let newest = || (&b.started_at, b.fingerprint).cmp(&(&a.started_at, a.fingerprint));
            rank(b).cmp(&rank(a)).then_with(newest)
        });
        let lede = lede(&active);
        context! {
            page => frame(&shown, "alerts", format!("{lede} · lookout"), AlertSummary { needs: summary.firing, ..summary }, today),
            lede => lede,
            count => active.len(),
            more => active.len().saturating_sub(MAX_ROWS),
            active => active.iter().take(MAX_ROWS).map(|alert| alert_value(alert, today)).collect::<Vec<_>>(),
            past => past.iter().map(|alert| alert_value(alert, today)).collect::<Vec<_>>(),
            past_more => has_more,
            silences => silences.iter().map(|silence| silence_value(silence, now, &wall)).collect::<Vec<_>>(),
        }
    };
    let is_compressed = visit.accepts_gzip;
    let bytes = shared.sending.build(move || render("alerts.html", build(), is_compressed)).await??;
    // An outage has many alerts and many who look at them.
    board.keep_rendered(key, stamp, &bytes);
    Ok(respond(&shared, &reader, &visit, bytes).await?)
}

/// How many fire at which level, in a sentence.
fn lede(active: &[&AlertView]) -> String {
    let firing =
        |level: Level| active.iter().filter(|alert| alert.level == level && alert.state == AlertState::Firing).count();
    let parts: Vec<String> = [Level::Critical, Level::Error, Level::Warning, Level::Info]
        .into_iter()
        .filter(|level| firing(*level) > 0)
        .map(|level| format!("{} {}", firing(level), level.as_str()))
        .collect();
    if parts.is_empty() { "Nothing fires".to_owned() } else { format!("Firing: {}", parts.join(", ")) }
}

/// `GET /alert?id=`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let id = visit.parameter("id").and_then(Fingerprint::parse);
    let id = id.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "give `id`, the 16 hex digits of an alert"))?;
    let explanation = shared.context.engine.explain(id).await?;
    let entries = (shared.context.timeline)(id).await;
    let alert = match &explanation {
        Some(explanation) => Some(explanation.alert.clone()),
        None => {
            let filter = AlertFilter { fingerprint: Some(id), limit: 1, ..AlertFilter::default() };
            (shared.context.history)(filter).await.pop()
        }
    };
    let Some(alert) = alert else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("unknown alert {id}; its history may be over")).into());
    };
    let active = active_alerts(&shared).await?;
    let wall = shared.context.clock.wall_clock();
    let today = shared.context.clock.wall();
    let shown_to = visit.clone();
    let build = move || {
        let value = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| number::shortest(number, 3));
        let fact = |name: &str, text: Value, source: &str| context! { name => name, text => text, source => source };
        let mut facts = vec![
            fact("Value", value(alert.value).into(), "what the rule last read"),
            fact("Threshold", value(alert.threshold).into(), "the limit of this level, from the rule"),
            fact("Pending since", at_text(today, &alert.started_at), "when the condition of the rule began to hold"),
        ];
        let fired = alert.fired_at.as_deref();
        facts.extend(fired.map(|at| fact("Firing since", at_text(today, at), "when it had held for the rule's `for`")));
        let resolved = alert.resolved_at.as_deref();
        facts.extend(resolved.map(|at| fact("Resolved", at_text(today, at), "when the condition no longer held")));
        facts.extend(alert.task_id.as_deref().map(|task| fact("Task", task.into(), "the task of its agent")));
        facts.push(fact("Fingerprint", alert.fingerprint.to_string().into(), "rule and subject, as a hash"));
        let receivers = explanation.iter().flat_map(|explanation| &explanation.receivers);
        let receivers =
            receivers.map(|receiver| context! { name => &*receiver.receiver, text => receiver.text.clone() });
        let timeline = entries.iter().rev().map(|entry| {
            let at = wall.to_wall(entry.at);
            let is_strong = matches!(
                entry.event,
                TimelineEvent::Firing
                    | TimelineEvent::Notified { .. }
                    | TimelineEvent::Level { .. }
                    | TimelineEvent::Resolved { .. }
            );
            context! {
                at => words::at(today, at),
                level => entry.level.as_str(),
                strong => is_strong,
                text => timeline::sentence(entry),
            }
        });
        let title = format!("{} · {} · lookout", alert.rule, subject(&alert).0);
        context! {
            page => frame(&shown_to, "alert", title, AlertSummary::of(&active), today),
            alert => alert_value(&alert, today),
            facts => facts,
            receivers => receivers.collect::<Vec<_>>(),
            timeline => timeline.collect::<Vec<_>>(),
        }
    };
    Ok(send(&shared, &reader, &visit, "alert.html", build).await?)
}
