//! The sessions of an agent that is reported by hooks, combined into one status.
//!
//! The agent is waiting if any session waits, running if any session runs, and idle only if all are. The sessions are
//! saved with the agent, so that a restart between a question and its answer changes nothing. Their ids are kept as hashes
//! only.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hook::{Hook, SessionEnd, SessionEvent, TurnFailure};
use super::{AgentStatus, Budget, RateLimitHit, StopOrder, Time};
use session::HookSession;

pub use session::Prompt;

/// Sessions kept per agent; the one last seen longest ago is evicted.
const MAX_SESSIONS: usize = 8;
/// How long after a hook reported a rate-limited request telemetry may report the same one: ten usual export intervals.
const TELEMETRY_DELAY: Duration = Duration::from_secs(600);

/// How long a question stays open at least: over a weekend, since it may be asked on Friday evening.
pub const QUESTION_TTL: Duration = Duration::from_secs(3 * 86_400);

/// A working session without events for this long is taken for lost once a newer session is active: a killed process
/// posts no last event, and few tool calls take longer.
const LOST_AFTER: Duration = Duration::from_secs(30 * 60);

/// The sessions of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    #[serde(default)]
    sessions: Vec<HookSession>,
    /// The number of hooks so far.
    #[serde(default)]
    hooks: u64,
    /// The number of prompts so far.
    #[serde(default)]
    prompts: u64,
    /// Rate-limited requests that hooks reported and telemetry has not reported yet.
    #[serde(default)]
    unmatched: u64,
    /// When the last of them was reported.
    #[serde(default)]
    unmatched_at: Time,
    /// When the last hook arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_hook_at: Option<Time>,
    /// Per budget, [`StopOrder::about`] of the last stop order that a hook was answered with.
    #[serde(default, skip_serializing_if = "none_delivered")]
    stops: [Option<u64>; Budget::ALL.len()],
}

fn none_delivered(stops: &[Option<u64>]) -> bool {
    stops.iter().all(Option::is_none)
}

/// What a hook changes about its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookOutcome {
    /// The agent's status and its reason; `None` if the hook implies none.
    pub status: Option<(AgentStatus, Option<Arc<str>>)>,
    /// The oldest open prompt.
    pub prompt: Option<Prompt>,
    /// The prompt that this hook ends, and whether it succeeded.
    pub ended: Option<(Prompt, bool)>,
    /// The rate-limited request that the hook reports.
    pub rate_limit_hit: Option<RateLimitHit>,
    /// Whether the hook implies a successful request.
    pub is_request_successful: bool,
    /// Whether the hook is an activity of the agent; a reminder that it is still waiting is not.
    pub is_activity: bool,
}

impl Sessions {
    /// Applies a hook. Sessions without events for `expiry` are dropped first.
    pub fn apply(&mut self, now: Time, expiry: Duration, hook: &Hook) -> HookOutcome {
        let kept = |session: &HookSession| if session.is_waiting() { expiry.max(QUESTION_TTL) } else { expiry };
        self.sessions.retain(|session| now.since(session.last_seen) < kept(session));
        self.last_hook_at = Some(now);
        self.hooks += 1;
        if let Some(stop) = &hook.stop
            && let Some(delivered) = self.stops.get_mut(stop.budget as usize)
        {
            *delivered = Some(stop.about);
        }
        let place = self.sessions.iter().position(|session| session.id == hook.session);
        let before = place.and_then(|place| self.sessions.get(place));
        let open = before.and_then(|session| session.prompt);
        let was_stopped = before.is_some_and(|session| session.stopped_by().is_some());
        let is_activity = !matches!(hook.event, SessionEvent::PermissionStillPending | SessionEvent::StillIdle);
        let rate_limit_hit = (hook.event == SessionEvent::TurnFailed(TurnFailure::RateLimit))
            .then_some(RateLimitHit { provider: None, until: hook.retry_at });
        if rate_limit_hit.is_some() {
            (self.unmatched, self.unmatched_at) = (self.unmatched_at(now) + 1, now);
        }
        let (status, ended) = match (&hook.event, place) {
            // A sign of life alone does not begin a session.
            (SessionEvent::Alive, None) => (None, None),
            // The end of a subagent does not end the session.
            (SessionEvent::Ended(_), None) if hook.subagent.is_some() => (None, None),
            (SessionEvent::Ended(end), _) if hook.subagent.is_none() => {
                let last = place.map(|place| self.sessions.remove(place));
                let (status, reason) = end_status(last.as_ref(), *end);
                let is_undone = status == AgentStatus::Failed || was_stopped;
                let undone = open.filter(|_| is_undone).map(|prompt| (prompt, false));
                (Some(self.combined_status().unwrap_or((status, reason))), undone)
            }
            (event, place) => {
                let place = place.unwrap_or_else(|| self.add(now, hook.session));
                self.mark_lost(now, place, event);
                if let Some(session) = self.sessions.get_mut(place) {
                    session.apply(now, self.hooks, hook, &mut self.prompts);
                }
                let is_done = match event {
                    _ if hook.subagent.is_some() => None,
                    SessionEvent::TurnEnded { .. } if !was_stopped => Some(true),
                    SessionEvent::TurnFailed(_) => Some(false),
                    // The user replaced the prompt that was stopped.
                    SessionEvent::Prompted if was_stopped && hook.stop.is_none() => Some(false),
                    _ => None,
                };
                (self.combined_status(), open.zip(is_done))
            }
        };
        // The model's answer to a request is what leads to these events.
        let is_request_successful = matches!(
            hook.event,
            SessionEvent::ToolBegan { .. } | SessionEvent::SubagentBegan | SessionEvent::TurnEnded { .. }
        );
        HookOutcome { status, prompt: self.prompt(), ended, rate_limit_hit, is_request_successful, is_activity }
    }

    fn add(&mut self, now: Time, id: u64) -> usize {
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                (0..self.sessions.len()).min_by_key(|place| self.sessions.get(*place).map(|it| it.last_seen))
        {
            self.sessions.remove(oldest);
        }
        self.sessions.push(HookSession::new(id, now, self.hooks));
        self.sessions.len() - 1
    }

    /// Marks older sessions as lost that had no event since the session at `place` began. A killed process never reports
    /// the end of its session. One with an open question is lost as soon as the newer session works, since the user is
    /// evidently there; a working one is lost after [`LOST_AFTER`]. Its next event, if any, takes the mark back.
    fn mark_lost(&mut self, now: Time, place: usize, event: &SessionEvent) {
        let Some(began) = self.sessions.get(place).map(HookSession::began) else { return };
        let works = matches!(
            event,
            SessionEvent::ToolBegan { .. } | SessionEvent::TurnEnded { .. } | SessionEvent::TurnFailed(_)
        );
        for (other, older) in self.sessions.iter_mut().enumerate() {
            let is_silent = other != place && older.last_event() <= began;
            let is_gone = if older.is_waiting() { works } else { now.since(older.last_seen) >= LOST_AFTER };
            older.is_lost |= is_silent && is_gone;
        }
    }

    /// The sessions that are not lost.
    fn live(&self) -> impl Iterator<Item = &HookSession> {
        self.sessions.iter().filter(|session| !session.is_lost)
    }

    /// The status with the highest priority among the sessions, with its reason.
    fn combined_status(&self) -> Option<(AgentStatus, Option<Arc<str>>)> {
        let weight = |status| match status {
            AgentStatus::WaitingQuestion => 0,
            AgentStatus::Running => 1,
            AgentStatus::Failed => 2,
            AgentStatus::WaitingDependency => 3,
            AgentStatus::Paused => 4,
            _ => 5,
        };
        self.live().map(HookSession::status).min_by_key(|(status, _)| weight(*status))
    }

    /// The oldest open prompt; those of stopped sessions come last.
    fn prompt(&self) -> Option<Prompt> {
        let prompts = self.live().filter_map(|session| Some((session.stopped_by().is_some(), session.prompt?)));
        prompts.min_by_key(|(is_stopped, prompt)| (*is_stopped, prompt.number)).map(|(_, prompt)| prompt)
    }

    /// Ends the wait of sessions whose turn failed by a rate limit: they are idle from now on. Returns the agent's status
    /// and reason, or `None` if no session was waiting.
    pub fn rate_limit_ended(&mut self) -> Option<(AgentStatus, Option<Arc<str>>)> {
        let mut is_any = false;
        for session in &mut self.sessions {
            is_any |= session.rate_limit_ended();
        }
        is_any.then(|| self.combined_status()).flatten()
    }

    /// When the last hook of any session arrived.
    pub const fn last_hook_at(&self) -> Option<Time> {
        self.last_hook_at
    }

    /// Whether a hook was answered with this stop order before.
    pub fn has_answered_with(&self, stop: &StopOrder) -> bool {
        self.stops.get(stop.budget as usize) == Some(&Some(stop.about))
    }

    /// Whether a lack of events means that the agent is idle: a prompt is open and no subagent is working on it.
    pub fn can_idle(&self) -> bool {
        self.prompt().is_some() && self.live().all(|session| session.subagents.is_empty())
    }

    /// How many of the `reported` rate-limited requests in telemetry were reported by hooks before; each is matched once.
    pub fn match_rate_limits(&mut self, now: Time, reported: u64) -> u64 {
        let matched = reported.min(self.unmatched_at(now));
        self.unmatched = self.unmatched_at(now) - matched;
        matched
    }

    fn unmatched_at(&self, now: Time) -> u64 {
        if now.since(self.unmatched_at) < TELEMETRY_DELAY { self.unmatched } else { 0 }
    }

    /// Moves restored times that are after `now` to `now`: they may have been saved by a clock that was ahead.
    pub fn clamp_times(&mut self, now: Time) {
        self.unmatched_at = self.unmatched_at.min(now);
        self.last_hook_at = self.last_hook_at.map(|at| at.min(now));
        self.sessions.iter_mut().for_each(|session| session.clamp_times(now));
    }
}

/// The status of an agent whose last session ended, with the reason.
fn end_status(last: Option<&HookSession>, end: SessionEnd) -> (AgentStatus, Option<Arc<str>>) {
    match end {
        SessionEnd::Replaced => (AgentStatus::Idle, None),
        // A user who leaves has seen the result.
        SessionEnd::UserExit => (AgentStatus::Completed, None),
        SessionEnd::Exited => match last {
            // An agent that we stopped is not down; the stop was notified.
            Some(session) if session.stopped_by().is_some() => {
                (AgentStatus::Completed, session.stopped_by().map(|budget| Arc::from(budget.reason())))
            }
            // A headless run ends because of the failed turn.
            Some(session) if session.failure().is_some() => {
                (AgentStatus::Failed, session.failure().map(TurnFailure::reason))
            }
            Some(session) if session.prompt.is_some() => {
                (AgentStatus::Failed, Some(Arc::from("session ended during a task")))
            }
            _ => (AgentStatus::Completed, None),
        },
    }
}
