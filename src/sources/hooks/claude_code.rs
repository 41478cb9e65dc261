//! Claude Code's HTTP hooks: the status of an agent from the events of its sessions.
//!
//! Owns the sessions of every agent that posts hooks; they add up and never fight: the agent waits when one of them
//! waits, runs when one runs, and is idle only when all are. Pure: `now` comes in. Refuses to keep a session's id,
//! or anything that was said in it.

mod event;
mod session;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use self::event::{Event, Kind};
use self::session::Session;
use super::Target;
use crate::model::{AgentStatus, AgentUpdate, Batch, Patch, Time};
use crate::sources::DecodeError;

/// The type of every agent that posts here.
const AGENT_TYPE: &str = "claude-code";
/// Agents whose sessions are followed; the one heard of longest ago makes room.
const MAX_AGENTS: usize = 10_000;
/// Sessions followed for one agent; the one heard of longest ago makes room.
const MAX_SESSIONS: usize = 8;
/// A session that says nothing for so long was ended without a word.
const EXPIRY: Duration = Duration::from_secs(6 * 3600);

/// Every agent's sessions, by project and name.
#[derive(Debug, Default)]
pub struct ClaudeCode {
    agents: HashMap<(Box<str>, Box<str>), Vec<Session>>,
}

impl ClaudeCode {
    /// Takes in the body of one hook: what its agent does now, as a batch of that one agent; `None` when the event
    /// says nothing of it. A body that is no JSON object, or names nobody, is an error.
    pub fn take(&mut self, now: Time, target: &Target, body: &str) -> Result<Option<Batch<'static>>, DecodeError> {
        let event = Event::decode(body)?;
        let Some((project, agent)) = target.resolve(event.cwd.as_deref()) else {
            let error = "the hook names no agent; add `?agent=NAME` to its URL";
            return Err(DecodeError(error.to_owned()));
        };
        if event.kind == Kind::Other {
            return Ok(None);
        }
        let key = (Box::from(project), Box::from(agent));
        if !self.agents.contains_key(&key) {
            self.make_room();
        }
        let sessions = self.agents.entry(key.clone()).or_default();
        sessions.retain(|session| now.since(session.seen) < EXPIRY);
        let (status, reason) = step(now, sessions, &event);
        if sessions.is_empty() {
            self.agents.remove(&key);
        }
        let update = AgentUpdate {
            name: Cow::Owned(agent.to_owned()),
            agent_type: Some(Cow::Borrowed(AGENT_TYPE)),
            status: Some(status),
            reason: reason.map_or(Patch::Clear, |reason| Patch::Set(Cow::Owned(reason))),
            ..AgentUpdate::default()
        };
        Ok(Some(Batch { project: Cow::Owned(project.to_owned()), agents: vec![update], ..Batch::default() }))
    }

    fn make_room(&mut self) {
        if self.agents.len() < MAX_AGENTS {
            return;
        }
        let seen = |sessions: &Vec<Session>| sessions.iter().map(|session| session.seen).max();
        if let Some(key) = self.agents.iter().min_by_key(|(_, sessions)| seen(sessions)).map(|(key, _)| key.clone()) {
            self.agents.remove(&key);
        }
    }
}

/// Applies `event` to the session that it is of; returns what the agent does then.
fn step(now: Time, sessions: &mut Vec<Session>, event: &Event<'_>) -> (AgentStatus, Option<String>) {
    let place = sessions.iter().position(|session| session.id == event.session);
    if let Kind::Ended { why } = &event.kind {
        let ended = place.map(|place| sessions.remove(place));
        if sessions.is_empty() {
            return end(ended.as_ref(), why.as_deref());
        }
        return fold(sessions);
    }
    let place = place.unwrap_or_else(|| {
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = (0..sessions.len()).min_by_key(|place| sessions.get(*place).map(|one| one.seen))
        {
            sessions.remove(oldest);
        }
        sessions.push(Session::new(event.session, now));
        sessions.len() - 1
    });
    if let Some(session) = sessions.get_mut(place) {
        session.take(now, event);
    }
    fold(sessions)
}

/// What an agent is whose last session ended.
fn end(last: Option<&Session>, why: Option<&str>) -> (AgentStatus, Option<String>) {
    match (why, last.map(Session::status)) {
        // Another session takes its place at once.
        (Some("clear" | "resume"), _) => (AgentStatus::Idle, None),
        // A person who leaves has seen the failure; a run without one ends because of it.
        (Some("logout" | "prompt_input_exit"), _) => (AgentStatus::Completed, None),
        (_, Some((AgentStatus::Failed, reason))) => (AgentStatus::Failed, reason.map(str::to_owned)),
        _ => (AgentStatus::Completed, None),
    }
}

/// The status that counts most among the sessions, of equals the first; with its reason.
fn fold(sessions: &[Session]) -> (AgentStatus, Option<String>) {
    let weight = |status| match status {
        AgentStatus::WaitingQuestion => 0,
        AgentStatus::Running => 1,
        AgentStatus::Failed => 2,
        _ => 3,
    };
    let first = sessions.iter().map(Session::status).min_by_key(|(status, _)| weight(*status));
    first.map_or((AgentStatus::Idle, None), |(status, reason)| (status, reason.map(str::to_owned)))
}
