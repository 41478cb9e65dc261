//! What arrives, who is notified, what is polled, and how to connect an agent.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use minijinja::{Value, context};

use super::words::{self, age, agent_href};
use super::{AlertSummary, PageError, Visit, active_alerts, frame, send};
use crate::engine::View;
use crate::model::{TelemetryChannel, TelemetryChannels, Time, duration};
use crate::server::HandlerState;
use crate::server::connections::Connection;
use crate::text::number;

/// Agents whose signals are listed.
const LISTED: usize = 200;

/// How an agent can be connected: its name, what happens, what to run.
const WAYS: [(&str, &str, &str); 6] = [
    ("Claude Code", "Hooks and telemetry: state, tools, tokens, cost.", "lookout setup claude-code"),
    ("Codex, Gemini CLI, Copilot", "The settings to paste, and where.", "lookout setup codex"),
    ("LiteLLM", "Every agent behind the proxy.", "lookout setup litellm"),
    (
        "Any OpenTelemetry SDK",
        "Traces, metrics and logs by OTLP.",
        "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318",
    ),
    (
        "Any program",
        "Push a state; it is stale once that stops for longer than its ttl.",
        "curl http://127.0.0.1:9797/api/state -d \\\n  '{\"agent\": \"clerk\", \"status\": \"running\", \"ttl\": \"1m\"}'",
    ),
    ("A fleet to look at", "Agents that work, wait, fail, spend and recover.", "lookout demo"),
];

fn ways(count: usize) -> Vec<Value> {
    WAYS.iter().take(count).map(|(name, text, code)| context! { name => *name, text => *text, code => *code }).collect()
}

/// What an empty fleet shows.
pub(super) fn beginnings() -> Value {
    context! { ways => ways(WAYS.len()), hint => "OTLP is received on 4318 (HTTP) and 4317 (gRPC) unless the configuration says otherwise." }
}

/// `GET /setup`.
pub(crate) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    visit: Visit,
) -> Result<Response, PageError> {
    let view = shared.context.engine.view().await?;
    let alerts = active_alerts(&shared).await?;
    let receptions = shared.context.otlp.receptions().await;
    let wall = shared.context.clock.wall();
    let exports = crate::server::api::exports(wall, shared.context.runs.exports());
    // Of hosts and names in it, who may only read learns nothing here.
    let configuration = visit.is_admin.then(|| (shared.context.configuration)());
    let shown = visit.clone();
    let build = move || {
        let fleet = &view.fleet;
        let now = fleet.wall.to_wall(fleet.at);
        let receivers = view.receivers.iter().map(|receiver| {
            let text = match (&receiver.last_error, receiver.pending) {
                (Some(error), _) => error.clone(),
                (None, 0) => "nothing waits".to_owned(),
                (None, pending) => format!(
                    "{pending} waiting, {}",
                    duration::display(std::time::Duration::from_secs_f64(receiver.oldest_age_seconds.clamp(0.0, 1e9)))
                ),
            };
            // The console of the demo is not configured, and cannot be tried.
            let can_test = shown.is_admin && &*receiver.name != "console";
            context! { name => &*receiver.name, text => text, bad => receiver.last_error.is_some(), can_test => can_test }
        });
        let sources = fleet.sources.iter().map(|source| {
            let ago = |at: Time, verb: &str| Value::from_safe_string(words::ago(now, fleet.wall.to_wall(at), verb));
            context! {
                name => &*source.name,
                kind => source.kind,
                bad => source.up == Some(false),
                last => source.last_success.map(|at| ago(at, "last answered")),
                error => source.last_error.as_deref(),
                failing => source.failing_since.map(|at| ago(at, "failing since")),
            }
        });
        let exports = exports.iter().map(|lane| {
            let error = lane["last_error"].as_str();
            let text = error.map_or_else(|| format!("{} sent, {} waiting", super::words::count(&lane["sent"]), super::words::count(&lane["pending"])), ToOwned::to_owned);
            context! { name => super::words::text(lane, "name"), signal => super::words::text(lane, "signal"), text => text, bad => error.is_some() }
        });
        context! {
            page => frame(&shown, "setup", "Set up · lookout".to_owned(), AlertSummary::of(&alerts), now),
            version => env!("CARGO_PKG_VERSION"),
            uptime => duration::display(fleet.at.since(fleet.started_at)),
            lede => format!(
                "{} in {}.",
                counted(fleet.agents.len(), "agent"),
                counted(fleet.projects.iter().filter(|project| project.agents > 0).count(), "project")
            ),
            signals => signals(&view, &receptions, now),
            receivers => receivers.collect::<Vec<_>>(),
            sources => sources.collect::<Vec<_>>(),
            exports => exports.collect::<Vec<_>>(),
            ways => ways(WAYS.len()),
            configuration => configuration,
        }
    };
    Ok(send(&shared, &reader, &visit, "setup.html", build).await?)
}

/// `1 agent`, `2 agents`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn signals(view: &View, receptions: &[TelemetryChannels], now: Time) -> Vec<Value> {
    let fleet = &view.fleet;
    let lines = receptions.iter().take(LISTED).map(|own| {
        let channels = TelemetryChannel::ALL
            .iter()
            .zip(&own.channels)
            .filter_map(|(channel, stats)| Some((channel, stats.as_ref()?)));
        let mut last = None;
        let signals: Vec<Value> = channels
            .map(|(channel, stats)| {
                last = last.max(Some(stats.last));
                let title = format!("last {} ago", age(now, fleet.wall.to_wall(stats.last)));
                context! { name => channel.as_str(), count => number::short(stats.items as f64), title => title }
            })
            .collect();
        context! {
            agent => format!("{}/{}", own.project, own.agent),
            href => agent_href(&own.project, &own.agent),
            signals => signals,
            age => last.map(|last| Value::from_safe_string(words::ago(now, fleet.wall.to_wall(last), "last"))),
        }
    });
    lines.collect()
}
