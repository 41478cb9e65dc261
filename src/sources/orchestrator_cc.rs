//! orchestrator-cc, in the two shapes that its versions document.
//!
//! The older one lists its agents on `/api/agents`; its states are read as pushed ones are. The newer one has a
//! heartbeat of every agent of every team on `/api/health`, which says all that is needed: its teams' own routes
//! are not asked. Which one it is, is found by asking, and found again when the answer stops fitting.
//!
//! Refuses to take what does not fit for an empty fleet: that would remove every agent.

use serde_json::Value;

use super::draft::{Draft, Fault, reject};
use super::fields::Field;
use super::page::{self, malformed};
use super::poll::request::{Failure, Requester};
use super::read::Scalar;
use super::{MAX_AGENTS, MAX_TEXT, VALUE, owned, push};
use crate::clock::Clock;
use crate::model::{Batch, SourceError, SourceErrorReason, Time, duration, text};

/// The older shape's list of agents.
const AGENTS: &str = "/api/agents";
/// The newer shape's heartbeats.
const HEALTH: &str = "/api/health";
/// The newer shape's teams; asked only when `/api/health` is empty and it is not known yet whose it is.
const TEAMS: &str = "/api/teams";

/// An orchestrator-cc, and what was learnt of it.
#[derive(Debug, Default)]
pub(super) struct OrchestratorCc {
    shape: Option<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Older,
    Newer,
}

impl OrchestratorCc {
    /// Asks for all agents: one complete batch for each project. `project` is that of agents without a team.
    pub(super) async fn poll(
        &mut self,
        requester: &Requester,
        clock: &Clock,
        project: &str,
    ) -> Result<Vec<Batch<'static>>, SourceError> {
        if let Some(shape) = self.shape {
            match ask(shape, requester, clock, project).await {
                Err(failure) if failure.is_foreign() => self.shape = None,
                answered => return answered.map_err(|failure| failure.error),
            }
        }
        let (shape, batches) = detect(requester, clock, project).await?;
        self.shape = Some(shape);
        Ok(batches)
    }
}

async fn ask(
    shape: Shape,
    requester: &Requester,
    clock: &Clock,
    project: &str,
) -> Result<Vec<Batch<'static>>, Failure> {
    let (clock, project) = (clock.clone(), project.to_owned());
    match shape {
        Shape::Older => requester.fetch(AGENTS, move |text| older(text, clock.wall(), &project)).await,
        Shape::Newer => requester.fetch(HEALTH, move |text| newer(text, clock.wall(), &project)).await,
    }
}

async fn detect(
    requester: &Requester,
    clock: &Clock,
    project: &str,
) -> Result<(Shape, Vec<Batch<'static>>), SourceError> {
    let older = match ask(Shape::Older, requester, clock, project).await {
        Ok(batches) => return Ok((Shape::Older, batches)),
        Err(failure) if failure.is_foreign() => failure,
        Err(failure) => return Err(failure.error),
    };
    let newer = match ask(Shape::Newer, requester, clock, project).await {
        // An empty object could be anybody's; the teams tell.
        Ok(batches) if batches.is_empty() => match requester.fetch(TEAMS, teams).await {
            Ok(()) => return Ok((Shape::Newer, batches)),
            Err(failure) if failure.is_foreign() => {
                malformed(&format!("{HEALTH}: an empty object, and no {TEAMS} that would tell whose it is")).into()
            }
            Err(failure) => failure,
        },
        Ok(batches) => return Ok((Shape::Newer, batches)),
        Err(failure) => failure,
    };
    if !newer.is_foreign() {
        return Err(newer.error);
    }
    // Of two routes that don't fit, the one that is there tells more.
    if newer.error.reason == SourceErrorReason::Malformed {
        return Err(newer.error);
    }
    if older.error.reason == SourceErrorReason::Malformed {
        return Err(older.error);
    }
    let message = format!("neither {AGENTS} nor {HEALTH} is there; set `url` to the orchestrator's root");
    Err(page::failed(SourceErrorReason::Status, &message))
}

/// The older shape: `{"agents": [{name, running, last_activity, restart_count}]}`.
pub(super) fn older(text: &str, now: Time, project: &str) -> Result<Vec<Batch<'static>>, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    let decoded = push::decode(text, now).map_err(|error| malformed(&format!("{AGENTS}: {error}")))?;
    let mut batch = owned::batch(decoded.batch);
    batch.project = decoded.project.map_or_else(|| project.to_owned(), |named| named.into_owned()).into();
    batch.complete = decoded.whole;
    batch.ttl = None;
    Ok(vec![batch])
}

/// Whether the teams are a list or an object, as in the newer shape.
fn teams(text: &str) -> Result<(), SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    match page::tree(text)? {
        Value::Array(_) | Value::Object(_) => Ok(()),
        _ => Err(malformed(&format!("{TEAMS}: neither a list nor an object"))),
    }
}

/// The newer shape: `{team: {agent: {isHealthy, lastActivity, timeoutThreshold, elapsed}}}`, a batch for each team.
pub(super) fn newer(text: &str, now: Time, project: &str) -> Result<Vec<Batch<'static>>, SourceError> {
    if let Some(error) = page::said_error(text) {
        return Err(error);
    }
    let foreign = || malformed(&format!("{HEALTH}: not an object of teams, each an object of agents"));
    let Value::Object(page) = page::tree(text)? else {
        return Err(foreign());
    };
    let mut batches = Vec::with_capacity(page.len());
    let mut agents = 0;
    for (team, members) in &page {
        let Value::Object(members) = members else {
            return Err(foreign());
        };
        agents += members.len();
        if agents > MAX_AGENTS {
            return Err(page::failed(SourceErrorReason::TooLarge, &format!("{HEALTH}: more than {MAX_AGENTS} agents")));
        }
        let named = text::is_name(team, MAX_TEXT);
        let project = if named { team.as_str() } else { project };
        let mut batch = Batch { project: project.to_owned().into(), complete: named, ..Batch::default() };
        for (name, beat) in members {
            let taken = if named { heartbeat(name, beat, now) } else { Err(Fault::name(&super::read::shown(team))) };
            match taken {
                Ok(agent) => batch.agents.push(owned::agent(agent)),
                Err(fault) => {
                    batch.complete = false;
                    reject(&mut batch.rejected, name, fault);
                }
            }
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// One agent's heartbeat.
///
/// Healthy is running. Not healthy is silent for longer than the orchestrator bears: it takes the agent for dead, and
/// so it does not run, with the silence as the reason. `lastActivity` is local time without a zone; `elapsed` is not.
fn heartbeat<'a>(name: &'a str, beat: &'a Value, now: Time) -> Result<crate::model::AgentUpdate<'a>, Fault> {
    let either = |camel: &str, snake: &str| beat.get(camel).or_else(|| beat.get(snake)).map(Scalar::from);
    let healthy = either("isHealthy", "is_healthy");
    let elapsed = either("elapsed", "elapsed_seconds");
    if healthy.is_none() && elapsed.is_none() {
        let error = "neither `isHealthy` nor `elapsed`; it is no heartbeat".to_owned();
        return Err(Fault { reason: VALUE, error });
    }
    let mut draft = Draft::new(now);
    draft.set(Field::Name, Scalar::Text(name.into()));
    if healthy == Some(Scalar::Flag(false)) {
        let silence = elapsed.as_ref().and_then(|elapsed| elapsed.seconds().ok().flatten());
        let threshold =
            either("timeoutThreshold", "timeout_threshold").and_then(|limit| limit.seconds().ok().flatten());
        let mut reason = "not healthy".to_owned();
        if let Some(silence) = silence {
            reason.push_str(&format!(": silent for {}", duration::display(silence)));
        }
        if let Some(threshold) = threshold {
            reason.push_str(&format!(", its limit is {}", duration::display(threshold)));
        }
        draft.set(Field::Reason, Scalar::Text(reason.into()));
    }
    if let Some(healthy) = healthy {
        draft.set(Field::Running, healthy);
    }
    if let Some(elapsed) = elapsed {
        draft.set(Field::IdleSeconds, elapsed);
    }
    draft.finish().map_err(|(_, fault)| fault)
}

#[cfg(test)]
mod tests;
