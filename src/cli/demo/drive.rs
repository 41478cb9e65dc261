//! Sends the simulated fleet's state to the sidecar's push and OTLP endpoints, and serves the polled orchestrator.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::super::terminal::print;
use super::script;
use crate::clock::Clock;
use crate::http_client;
use crate::model::Time;

/// Agents sent in one request.
const BATCH: usize = 500;

/// The simulation since its start.
#[derive(Clone, Debug)]
pub(super) struct DemoWorld {
    clock: Clock,
    started: Time,
}

impl DemoWorld {
    pub(super) fn new(clock: Clock) -> Self {
        Self { started: clock.now(), clock }
    }

    fn seconds(&self) -> u64 {
        self.clock.now().since(self.started).as_secs()
    }

    /// Serves the polled orchestrator until `stop`.
    pub(super) async fn serve_page(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let router = Router::new().route("/fleet", get(page)).with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
    }

    /// Pushes the state of `agents` agents to the sidecar at `url`, and the export of one more, each second until
    /// `stop`.
    pub(super) async fn drive(self, url: String, agents: u32, stop: CancellationToken) -> anyhow::Result<()> {
        let client = http_client::build(Duration::from_secs(10), None)?;
        let mut ticks = tokio::time::interval(Duration::from_secs(script::STEP));
        let mut narrated = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let seconds = self.seconds();
            let now = self.clock.now();
            // Printed before the notifications that follow. A late step also prints the scenes it missed.
            for scene in script::scenes(narrated, seconds) {
                print(&format!("{:>3} s  {} {}", scene.second, scene.about, scene.line))?;
            }
            narrated = Some(seconds);
            let states = bodies(agents, seconds, now).into_iter().map(|body| ("/api/state", body));
            let exported = ("/v1/traces", script::spans(seconds, now).to_string());
            for (path, body) in states.chain([exported]) {
                let sent = client.post(format!("{url}{path}")).header("content-type", "application/json").body(body);
                let answer = sent.send().await;
                if let Err(error) = answer.and_then(reqwest::Response::error_for_status) {
                    tracing::error!(error = %error.without_url(), "push of the simulated fleet failed");
                }
            }
        }
    }
}

async fn page(State(world): State<DemoWorld>) -> Response {
    match script::page(world.seconds(), world.clock.now()) {
        Some(page) => Json(page).into_response(),
        None => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "simulated outage"}))).into_response(),
    }
}

/// The requests of one step.
pub(super) fn bodies(agents: u32, seconds: u64, now: Time) -> Vec<String> {
    let mut bodies = Vec::new();
    for project in ["shop", "lab"] {
        let states: Vec<Value> = (0..agents)
            .filter(|number| script::project(*number) == project)
            .map(|number| script::agent(number, seconds, now))
            .collect();
        for (place, states) in states.chunks(BATCH).enumerate() {
            let is_first = project == "shop" && place == 0;
            let components = if is_first { script::components(seconds) } else { json!([]) };
            bodies.push(json!({"project": project, "agents": states, "components": components}).to_string());
        }
    }
    bodies
}
