//! The sessions of an agent that tells of itself by hooks: they add up and never fight.
//!
//! The agent waits when one of them waits, runs when one runs, and is idle only when all are. It is saved with the
//! agent, so that a restart between a question and its answer changes nothing. Refuses the ids of sessions: a hash
//! tells them apart.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hook::{Hook, SessionEnd, SessionEvent, TurnFailure};
use super::{AgentStatus, Budget, RateLimitHit, Stop, Time};
use session::HookSession;

pub use session::Prompt;

/// Sessions followed for one agent; the one heard of longest ago makes room.
const MAX_SESSIONS: usize = 8;
/// For so long after a hook told of a refused request, telemetry may tell of the same one: ten of its usual exports.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// A question stays open for so long at least: somebody who left in the evening comes back, also after a weekend.
pub const PATIENCE: Duration = Duration::from_secs(3 * 86_400);

/// A session that works and says nothing for so long has vanished, where a newer one of the agent is heard: few tools
/// take longer, and a program that is killed says no goodbye.
const VANISHED: Duration = Duration::from_secs(30 * 60);

/// The sessions of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    #[serde(default)]
    sessions: Vec<HookSession>,
    /// How often it was told what to do.
    #[serde(default)]
    prompts: u64,
    /// Refused requests of which telemetry has not told yet, and when the last of them was.
    #[serde(default)]
    untold: u64,
    #[serde(default)]
    untold_at: Time,
    /// When a hook last came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard_at: Option<Time>,
    /// By budget, [`Stop::about`] of what it was told last.
    #[serde(default, skip_serializing_if = "none_told")]
    stops: [Option<u64>; Budget::ALL.len()],
}

fn none_told(stops: &[Option<u64>]) -> bool {
    stops.iter().all(Option::is_none)
}

/// What a hook comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookOutcome {
    /// What the agent does now and why; `None` when the hook says nothing of it.
    pub status: Option<(AgentStatus, Option<Arc<str>>)>,
    /// What it was told to do first and has not done yet.
    pub prompt: Option<Prompt>,
    /// What it was told to do and did, or failed to do, by this hook; the flag says which.
    pub ended: Option<(Prompt, bool)>,
    /// A request of it that was refused for a rate limit.
    pub refusal: Option<RateLimitHit>,
    /// Whether a request of it was answered.
    pub is_answered: bool,
    /// Whether the agent did something: that it still waits is nothing it does.
    pub is_activity: bool,
}

impl Sessions {
    /// Takes in a hook. Sessions that said nothing for `expiry` were ended without a word.
    pub fn take(&mut self, now: Time, expiry: Duration, hook: &Hook) -> HookOutcome {
        let kept = |session: &HookSession| if session.waits() { expiry.max(PATIENCE) } else { expiry };
        self.sessions.retain(|session| now.since(session.seen) < kept(session));
        self.heard_at = Some(now);
        if let Some(stop) = &hook.stop
            && let Some(told) = self.stops.get_mut(stop.budget as usize)
        {
            *told = Some(stop.about);
        }
        let place = self.sessions.iter().position(|session| session.id == hook.session);
        let before = place.and_then(|place| self.sessions.get(place));
        let open = before.and_then(|session| session.prompt);
        let was_braked = before.is_some_and(|session| session.braked().is_some());
        let is_activity = !matches!(hook.event, SessionEvent::PermissionStillPending | SessionEvent::StillIdle);
        let refusal = (hook.event == SessionEvent::TurnFailed(TurnFailure::RateLimit))
            .then_some(RateLimitHit { provider: None, until: hook.retry_at });
        if refusal.is_some() {
            (self.untold, self.untold_at) = (self.untold_at(now) + 1, now);
        }
        let (status, ended) = match (&hook.event, place) {
            // Whoever merely lives has not begun a session.
            (SessionEvent::Alive, None) => (None, None),
            // A subagent's end is not that of the session.
            (SessionEvent::Ended(_), None) if hook.subagent.is_some() => (None, None),
            (SessionEvent::Ended(end), _) if hook.subagent.is_none() => {
                let last = place.map(|place| self.sessions.remove(place));
                let (status, reason) = ended(last.as_ref(), *end);
                let is_undone = status == AgentStatus::Failed || was_braked;
                let undone = open.filter(|_| is_undone).map(|prompt| (prompt, false));
                (Some(self.fold().unwrap_or((status, reason))), undone)
            }
            (step, place) => {
                let place = place.unwrap_or_else(|| self.add(now, hook.session));
                self.supersede(now, place, step);
                if let Some(session) = self.sessions.get_mut(place) {
                    session.take(now, hook, &mut self.prompts);
                }
                let is_done = match step {
                    _ if hook.subagent.is_some() => None,
                    SessionEvent::TurnEnded { .. } if !was_braked => Some(true),
                    SessionEvent::TurnFailed(_) => Some(false),
                    // It goes on with something else.
                    SessionEvent::Prompted if was_braked && hook.stop.is_none() => Some(false),
                    _ => None,
                };
                (self.fold(), open.zip(is_done))
            }
        };
        // What a model says to do was answered by it.
        let is_answered = matches!(
            hook.event,
            SessionEvent::ToolBegan { .. } | SessionEvent::SubagentBegan | SessionEvent::TurnEnded { .. }
        );
        HookOutcome { status, prompt: self.prompt(), ended, refusal, is_answered, is_activity }
    }

    fn add(&mut self, now: Time, id: u64) -> usize {
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                (0..self.sessions.len()).min_by_key(|place| self.sessions.get(*place).map(|it| it.seen))
        {
            self.sessions.remove(oldest);
        }
        self.sessions.push(HookSession::new(id, now));
        self.sessions.len() - 1
    }

    /// Takes sessions for dead that have said nothing since the one at `place` began: those that wait for a person as
    /// soon as that one works, since whoever began it sits there, and those that work after a while. What was killed in
    /// front of its question never says so; what lives after all is heard of again.
    fn supersede(&mut self, now: Time, place: usize, step: &SessionEvent) {
        let Some(began) = self.sessions.get(place).map(|session| session.began) else { return };
        let works = matches!(
            step,
            SessionEvent::ToolBegan { .. } | SessionEvent::TurnEnded { .. } | SessionEvent::TurnFailed(_)
        );
        for (other, older) in self.sessions.iter_mut().enumerate() {
            let is_silent = other != place && older.seen <= began;
            let is_gone = if older.waits() { works } else { now.since(older.seen) >= VANISHED };
            older.is_superseded |= is_silent && is_gone;
        }
    }

    /// The sessions that count.
    fn live(&self) -> impl Iterator<Item = &HookSession> {
        self.sessions.iter().filter(|session| !session.is_superseded)
    }

    /// The status that counts most among the sessions, of equals the first; with its reason.
    fn fold(&self) -> Option<(AgentStatus, Option<Arc<str>>)> {
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

    /// What it was told to do first and has not done yet; what it was stopped in comes last.
    fn prompt(&self) -> Option<Prompt> {
        let prompts = self.live().filter_map(|session| Some((session.braked().is_some(), session.prompt?)));
        prompts.min_by_key(|(is_braked, prompt)| (*is_braked, prompt.number)).map(|(_, prompt)| prompt)
    }

    /// Takes note that no rate limit holds the agent up any more: a session whose turn one ended sits idle. What the
    /// agent does then and why; `None` where no session waited for that.
    pub fn limit_is_over(&mut self) -> Option<(AgentStatus, Option<Arc<str>>)> {
        let mut is_any = false;
        for session in &mut self.sessions {
            is_any |= session.limit_is_over();
        }
        is_any.then(|| self.fold()).flatten()
    }

    /// When a hook last came, of whichever session.
    pub const fn last_hook_at(&self) -> Option<Time> {
        self.heard_at
    }

    /// Whether a hook was answered with such a stop before.
    pub fn has_answered_with(&self, stop: &Stop) -> bool {
        self.stops.get(stop.budget as usize) == Some(&Some(stop.about))
    }

    /// Whether silence means that nothing goes on: something is to be done, and no subagent does it.
    pub fn can_idle(&self) -> bool {
        self.prompt().is_some() && self.live().all(|session| session.subagents.is_empty())
    }

    /// How many of the refused requests that telemetry tells of at `now` hooks told of before.
    pub fn take_reported_by_hooks(&mut self, now: Time, refused: u64) -> u64 {
        let again = refused.min(self.untold_at(now));
        self.untold = self.untold_at(now) - again;
        again
    }

    fn untold_at(&self, now: Time) -> u64 {
        if now.since(self.untold_at) < TOLD_AGAIN { self.untold } else { 0 }
    }

    /// Takes over what was saved by a clock that may have been ahead of ours.
    pub fn restored(&mut self, now: Time) {
        self.untold_at = self.untold_at.min(now);
        self.heard_at = self.heard_at.map(|at| at.min(now));
        self.sessions.iter_mut().for_each(|session| session.restored(now));
    }
}

/// What an agent is whose last session ended.
fn ended(last: Option<&HookSession>, end: SessionEnd) -> (AgentStatus, Option<Arc<str>>) {
    match end {
        SessionEnd::Replaced => (AgentStatus::Idle, None),
        // A person who leaves has seen what there was.
        SessionEnd::UserExit => (AgentStatus::Completed, None),
        SessionEnd::Exited => match last {
            // Nobody is down whom we stopped, and people were told.
            Some(session) if session.braked().is_some() => {
                (AgentStatus::Completed, session.braked().map(|budget| Arc::from(budget.reason())))
            }
            // A run without a person ends because of it.
            Some(session) if session.failure().is_some() => {
                (AgentStatus::Failed, session.failure().map(TurnFailure::reason))
            }
            Some(session) if session.prompt.is_some() => {
                (AgentStatus::Failed, Some(Arc::from("ended in the middle of its work")))
            }
            _ => (AgentStatus::Completed, None),
        },
    }
}
