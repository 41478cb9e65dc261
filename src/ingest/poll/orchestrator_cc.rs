//! Polls orchestrator-cc, all versions.
//!
//! Older versions list agents on `/api/agents`. Newer ones list Claude Code's teams and their members on `/api/teams`, tasks
//! and messages on routes of each team, and heartbeats of registered agents on `/api/health`, which is empty after each
//! restart and where no agent registers. One version has both families of routes. Which families exist is detected, and
//! detected again when a response no longer fits.
//!
//! A response that does not fit is never taken for an empty fleet, since that would remove all agents. Nothing is posted.

mod teams;

#[cfg(any(test, fuzzing))]
pub(in crate::ingest) use teams::from_pages as newer;

use std::sync::Arc;

use serde_json::Value;

use self::teams::Teams;
use crate::clock::Clock;
use crate::decode::read::Scalar;
use crate::ingest::draft::{AgentDraft, ItemError, ItemLocation};
use crate::ingest::fields::{AgentField, KeyMeaning};
use crate::ingest::page::{self, failed, malformed};
use crate::ingest::poll::request::{PollFailure, SourceClient};
use crate::ingest::{MAX_AGENTS, owned};
use crate::model::{AgentUpdate, Batch, RejectReason, SourceError, SourceErrorReason, Time};

/// The list of agents of older versions.
const AGENTS: [&str; 2] = ["api", "agents"];

/// Polls one server, and remembers which routes it has.
#[derive(Debug, Default)]
pub(in crate::ingest) struct OrchestratorCc {
    routes: Option<RouteFamilies>,
    teams: Teams,
}

/// The families of routes that a server has; at least one.
#[derive(Clone, Copy, Debug)]
struct RouteFamilies {
    agents: bool,
    teams: bool,
}

type Polled<T> = Result<T, PollFailure>;

impl OrchestratorCc {
    /// Polls all agents: one batch for each project. Agents without a team belong to `project`.
    pub(in crate::ingest) async fn poll(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        if let Some(routes) = self.routes {
            match self.ask(routes, client, clock, project).await {
                // It may be another version by now.
                Err(failure) if is_foreign(&failure) && !self.teams.just_emptied() => {}
                asked => return asked.map_err(|failure| failure.error),
            }
        }
        self.detect(client, clock, project).await
    }

    async fn ask(
        &mut self,
        routes: RouteFamilies,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Polled<Vec<Batch<'static>>> {
        let mut batches = Vec::new();
        if routes.agents {
            batches.extend(agents(client, clock, project).await?);
        }
        if routes.teams {
            batches.extend(self.teams.poll(client, clock).await?);
        }
        Ok(batches)
    }

    /// Polls both families of routes. `{"error": …}` is the response where a family does not exist, and where it is not
    /// ready; which of the two depends on the other family.
    async fn detect(
        &mut self,
        client: &Arc<SourceClient>,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        let teams = family_answer(self.teams.poll(client, clock).await)?;
        let agents = family_answer(agents(client, clock, project).await)?;
        let known = self.routes.unwrap_or(RouteFamilies { agents: false, teams: false });
        match (agents, teams) {
            (Err(agents), Err(teams)) => Err(unavailable(agents, teams)),
            // The family existed before and is starting: its agents are not removed.
            (Err(error), _) if known.agents && is_starting(&error) => Err(error),
            (_, Err(error)) if known.teams && is_starting(&error) => Err(error),
            (agents, teams) => {
                let is_ready = ![agents.as_ref().err(), teams.as_ref().err()].into_iter().flatten().any(is_starting);
                self.routes = is_ready.then_some(RouteFamilies { agents: agents.is_ok(), teams: teams.is_ok() });
                Ok([agents, teams].into_iter().flatten().flatten().collect())
            }
        }
    }
}

/// Whether a route seems not to exist, or responds with `{"error": …}`.
fn is_foreign(failure: &PollFailure) -> bool {
    failure.is_foreign() || failure.error.reason == SourceErrorReason::Upstream
}

/// Whether a server has the route but is still starting.
fn is_starting(error: &SourceError) -> bool {
    error.reason == SourceErrorReason::Upstream && error.message.contains("not initialized")
}

/// The response of a family of routes; the outer error is one that fails the whole poll.
fn family_answer<T>(asked: Polled<T>) -> Result<Result<T, SourceError>, SourceError> {
    match asked {
        Ok(read) => Ok(Ok(read)),
        Err(failure) if is_foreign(&failure) => Ok(Err(failure.error)),
        Err(failure) => Err(failure.error),
    }
}

/// The error where neither family of routes fits: that of the family that exists, if there is one.
fn unavailable(agents: SourceError, teams: SourceError) -> SourceError {
    for reason in [SourceErrorReason::Upstream, SourceErrorReason::Malformed] {
        if let Some(error) = [&teams, &agents].into_iter().find(|error| error.reason == reason) {
            return error.clone();
        }
    }
    let message = "neither /api/teams nor /api/agents exists; set `url` to the root of the orchestrator";
    failed(SourceErrorReason::Status, message)
}

async fn agents(client: &SourceClient, clock: &Clock, project: &str) -> Polled<Vec<Batch<'static>>> {
    let (clock, project) = (clock.clone(), project.to_owned());
    client.fetch(&AGENTS, move |text| older(text, clock.wall(), &project).map(|batch| vec![batch])).await
}

/// Decodes the page of older versions: `{"agents": [{name, role, running, last_activity, restart_count}]}`.
pub(in crate::ingest) fn older(text: &str, now: Time, project: &str) -> Result<Batch<'static>, SourceError> {
    if let Some(error) = page::reported_error(text) {
        return Err(error);
    }
    let page = page::tree(text)?;
    let Some(Value::Array(agents)) = page.get("agents") else {
        return Err(malformed("/api/agents: expected a list `agents`"));
    };
    if agents.len() > MAX_AGENTS {
        return Err(failed(SourceErrorReason::TooLarge, &format!("/api/agents: more than {MAX_AGENTS} agents")));
    }
    let mut batch = Batch { project: project.to_owned().into(), complete: true, ..Batch::default() };
    for (index, agent) in agents.iter().enumerate() {
        match older_agent(agent, now).finish().report(ItemLocation::agent(index), &mut batch.rejected) {
            Some(agent) => batch.agents.push(owned::agent(AgentUpdate { index, ..agent })),
            None => batch.complete = false,
        }
    }
    Ok(batch)
}

fn older_agent(agent: &Value, now: Time) -> AgentDraft<'_> {
    let mut draft = AgentDraft::new(now);
    let Value::Object(agent) = agent else {
        draft.fail(ItemError::of_item(
            RejectReason::Value,
            format!("an agent is {}; it must be an object", Scalar::from(agent).shown()),
        ));
        return draft;
    };
    for (key, value) in agent {
        match KeyMeaning::of(key) {
            KeyMeaning::Field(field) => draft.set(field, Scalar::from(value)),
            _ if key == "role" => draft.set(AgentField::Type, Scalar::from(value)),
            _ => {}
        }
    }
    draft
}

#[cfg(test)]
mod tests;
