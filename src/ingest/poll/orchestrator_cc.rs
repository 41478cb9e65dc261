//! orchestrator-cc, in both shapes that its servers have.
//!
//! The older one lists its agents on `/api/agents`. The newer one lists Claude Code's teams and their members on
//! `/api/teams`, what each team does on routes of its own, and heartbeats of those that registered on `/api/health`,
//! which is empty in most uses and after each restart, and then says nothing. One version has both families of routes.
//! Which ones there are is found by asking, and found again when an answer stops fitting.
//!
//! Refuses to take what does not fit for an empty fleet, since that would remove every agent, and to post anything:
//! activity that a watcher reports is none.

mod teams;

#[cfg(any(test, fuzzing))]
pub(in crate::ingest) use teams::of_pages as newer;

use std::sync::Arc;

use serde_json::Value;

use self::teams::Teams;
use crate::clock::Clock;
use crate::decode::read::Scalar;
use crate::ingest::draft::{Draft, Fault, Place};
use crate::ingest::fields::{Field, Member};
use crate::ingest::page::{self, failed, malformed};
use crate::ingest::poll::request::{Failure, Requester};
use crate::ingest::{MAX_AGENTS, owned};
use crate::model::{AgentUpdate, Batch, RejectReason, SourceError, SourceErrorReason, Time};

/// The older shape's list of agents.
const AGENTS: [&str; 2] = ["api", "agents"];

/// An orchestrator-cc, and what was learnt of it.
#[derive(Debug, Default)]
pub(in crate::ingest) struct OrchestratorCc {
    shape: Option<Shape>,
    teams: Teams,
}

/// Which families of routes answer; at least one.
#[derive(Clone, Copy, Debug)]
struct Shape {
    agents: bool,
    teams: bool,
}

type Polled<T> = Result<T, Failure>;

impl OrchestratorCc {
    /// Asks for all agents: one batch for each project. `project` is that of agents without a team.
    pub(in crate::ingest) async fn poll(
        &mut self,
        requester: &Arc<Requester>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        if let Some(shape) = self.shape {
            match self.ask(shape, requester, clock, project).await {
                // It may be another server by now.
                Err(failure) if is_foreign(&failure) && !self.teams.just_emptied() => {}
                asked => return asked.map_err(|failure| failure.error),
            }
        }
        self.detect(requester, clock, project).await
    }

    async fn ask(
        &mut self,
        shape: Shape,
        requester: &Arc<Requester>,
        clock: &Clock,
        project: &str,
    ) -> Polled<Vec<Batch<'static>>> {
        let mut batches = Vec::new();
        if shape.agents {
            batches.extend(agents(requester, clock, project).await?);
        }
        if shape.teams {
            batches.extend(self.teams.poll(requester, clock).await?);
        }
        Ok(batches)
    }

    /// Asks both families of routes. `{"error": …}` is how a server without the one answers there, and how one that has
    /// it says that it is not ready: the other family tells which.
    async fn detect(
        &mut self,
        requester: &Arc<Requester>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let teams = of_family(self.teams.poll(requester, clock).await)?;
        let agents = of_family(agents(requester, clock, project).await)?;
        let known = self.shape.unwrap_or(Shape { agents: false, teams: false });
        match (agents, teams) {
            (Err(agents), Err(teams)) => Err(neither(agents, teams)),
            // It was there before and will be again: those whom it listed are not gone.
            (Err(error), _) if known.agents && is_starting(&error) => Err(error),
            (_, Err(error)) if known.teams && is_starting(&error) => Err(error),
            (agents, teams) => {
                let is_ready = ![agents.as_ref().err(), teams.as_ref().err()].into_iter().flatten().any(is_starting);
                self.shape = is_ready.then_some(Shape { agents: agents.is_ok(), teams: teams.is_ok() });
                Ok([agents, teams].into_iter().flatten().flatten().collect())
            }
        }
    }
}

/// Whether a route answered as if it were not there: as a foreign one does, or with `{"error": …}`.
fn is_foreign(failure: &Failure) -> bool {
    failure.is_foreign() || failure.error.reason == SourceErrorReason::Upstream
}

/// Whether a server has the route and is not ready to serve it, as right after its start.
fn is_starting(error: &SourceError) -> bool {
    error.reason == SourceErrorReason::Upstream && error.message.contains("not initialized")
}

/// What a family of routes answered; the outer error is one after which nobody else need be asked.
fn of_family<T>(asked: Polled<T>) -> Result<Result<T, SourceError>, SourceError> {
    match asked {
        Ok(read) => Ok(Ok(read)),
        Err(failure) if is_foreign(&failure) => Ok(Err(failure.error)),
        Err(failure) => Err(failure.error),
    }
}

/// Of two families of routes that don't fit, the one that is there tells more.
fn neither(agents: SourceError, teams: SourceError) -> SourceError {
    for reason in [SourceErrorReason::Upstream, SourceErrorReason::Malformed] {
        if let Some(error) = [&teams, &agents].into_iter().find(|error| error.reason == reason) {
            return error.clone();
        }
    }
    let message = "neither /api/teams nor /api/agents is there; set `url` to the orchestrator's root";
    failed(SourceErrorReason::Status, message)
}

async fn agents(requester: &Requester, clock: &Clock, project: &str) -> Polled<Vec<Batch<'static>>> {
    let (clock, project) = (clock.clone(), project.to_owned());
    requester.fetch(&AGENTS, move |text| older(text, clock.wall(), &project).map(|batch| vec![batch])).await
}

/// The older shape: `{"agents": [{name, role, running, last_activity, restart_count}]}`.
pub(in crate::ingest) fn older(text: &str, now: Time, project: &str) -> Result<Batch<'static>, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    let page = page::tree(text)?;
    let Some(Value::Array(agents)) = page.get("agents") else {
        return Err(malformed("/api/agents: no list `agents`"));
    };
    if agents.len() > MAX_AGENTS {
        return Err(failed(SourceErrorReason::TooLarge, &format!("/api/agents: more than {MAX_AGENTS} agents")));
    }
    let mut batch = Batch { project: project.to_owned().into(), complete: true, ..Batch::default() };
    for (index, agent) in agents.iter().enumerate() {
        match older_agent(agent, now).finish().settle(Place::agent(index), &mut batch.rejected) {
            Some(agent) => batch.agents.push(owned::agent(AgentUpdate { index, ..agent })),
            None => batch.complete = false,
        }
    }
    Ok(batch)
}

fn older_agent(agent: &Value, now: Time) -> Draft<'_> {
    let mut draft = Draft::new(now);
    let Value::Object(agent) = agent else {
        draft.fail(Fault::item(
            RejectReason::Value,
            format!("an agent is {}; it must be an object", Scalar::from(agent).shown()),
        ));
        return draft;
    };
    for (key, value) in agent {
        match Member::of(key) {
            Member::Field(field) => draft.set(field, Scalar::from(value)),
            _ if key == "role" => draft.set(Field::Type, Scalar::from(value)),
            _ => {}
        }
    }
    draft
}

#[cfg(test)]
mod tests;
