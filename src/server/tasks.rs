//! Handler of tasks: what of runs, agents and alerts belongs to one.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::HandlerState;
use super::connections::Connection;
use super::error::ApiError;
use super::runs::with_reader;
use crate::engine::AlertFilter;
use crate::model::{AgentStatus, RunStatus};
use crate::runs::tasks::{self, ReportedTask};
use crate::store::traces::RunFilter;

/// Most runs and alerts of a task that are shown.
const MAX_SHOWN: usize = 1_000;
/// Earlier runs of the agent that an estimate looks at.
const EARLIER: usize = 200;

/// `GET /api/tasks/{id}`.
pub(super) async fn show(
    State(shared): State<HandlerState>,
    Extension(reader): Extension<Connection>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let task = Some(id.clone());
    let (runs, earlier) = with_reader(&shared, move |reader| {
        let (runs, _) = reader.runs(&RunFilter { task, limit: MAX_SHOWN, ..RunFilter::default() })?;
        let earlier = match tasks::main_run(&runs) {
            Some(main) => {
                let filter = RunFilter {
                    project: Some(main.project.to_string()),
                    agent: Some(main.agent.to_string()),
                    status: Some(RunStatus::Ok),
                    limit: EARLIER,
                    ..RunFilter::default()
                };
                reader.runs(&filter)?.0
            }
            None => Vec::new(),
        };
        Ok((runs, earlier))
    })
    .await?;
    let view = shared.context.engine.view().await?;
    let fleet = &view.fleet;
    let now = shared.context.clock.now();
    let working = fleet.agents.iter().filter(|agent| agent.has_open_task());
    let reported: Vec<ReportedTask> = working
        .filter_map(|agent| {
            let task = agent.task.as_ref().filter(|task| *task.id == *id)?;
            Some(ReportedTask {
                project: Arc::clone(&agent.project),
                agent: Arc::clone(&agent.name),
                status: agent.status.map(AgentStatus::as_str),
                started_at: fleet.wall.to_wall(task.started_at),
                worked_seconds: task.worked_at(now).as_secs_f64(),
                tokens: task.tokens,
                progress: agent.progress,
                estimated_completion: agent.estimated_completion.map(|at| fleet.wall.to_wall(at)),
            })
        })
        .collect();
    if runs.is_empty() && reported.is_empty() {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("no run or agent has the task {id:?}")));
    }
    let filter = AlertFilter { task: Some(id.clone()), limit: MAX_SHOWN, ..AlertFilter::default() };
    let alerts = shared.context.engine.alerts(filter).await?;
    let wall = shared.context.clock.wall();
    let build = move || {
        let mut shown = tasks::task(&id, &runs, &reported, &earlier, wall);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("alerts".to_owned(), json!(alerts));
        }
        shown.to_string()
    };
    shared.sending.json(&reader, build).await
}
