//! The state of one session, derived from its events.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::hook::{Hook, SessionEvent, TurnFailure};
use crate::model::{AgentStatus, Budget, Time};

/// Subagents kept per session; further ones are ignored.
const MAX_SUBAGENTS: usize = 32;
/// Open questions kept per session; further ones are ignored.
const MAX_QUESTIONS: usize = 8;

/// A question that the user has to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenQuestion {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subagent: Option<u64>,
    /// The tool whose call it is about, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool: Option<Arc<str>>,
    reason: Arc<str>,
}

/// The state of the session's main agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionState {
    Idle,
    Working,
    Background,
    Failed(TurnFailure),
    /// Stopped by a stop order.
    Stopped(Budget),
}

/// An open prompt: what the agent was asked to do and has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The number of the prompt among all of the agent's, from 1.
    pub number: u64,
    /// When it began.
    pub since: Time,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookSession {
    pub(super) id: u64,
    pub(super) last_seen: Time,
    /// When it was first seen, or last started.
    #[serde(default)]
    began: Time,
    /// The numbers, among all hooks of the agent, of its last hook and of the one that it began with. They order what
    /// happened within a millisecond.
    #[serde(default)]
    last_hook: u64,
    #[serde(default)]
    began_hook: u64,
    /// Whether it is taken for lost, see `Sessions::mark_lost`; its next event takes that back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_lost: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<Prompt>,
    state: SessionState,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subagents: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    questions: Vec<OpenQuestion>,
    #[serde(default)]
    is_compacting: bool,
}

impl HookSession {
    pub(super) const fn new(id: u64, now: Time, hook_number: u64) -> Self {
        Self {
            id,
            last_seen: now,
            began: now,
            last_hook: hook_number,
            began_hook: hook_number,
            is_lost: false,
            prompt: None,
            state: SessionState::Idle,
            subagents: Vec::new(),
            questions: Vec::new(),
            is_compacting: false,
        }
    }

    /// When it began, comparable with [`Self::last_event`].
    pub(super) const fn began(&self) -> (Time, u64) {
        (self.began, self.began_hook)
    }

    /// When its last event was, comparable with [`Self::began`].
    pub(super) const fn last_event(&self) -> (Time, u64) {
        (self.last_seen, self.last_hook)
    }

    /// Applies an event other than the end of the session; it is number `hook_number` of the agent's hooks. `prompts` counts
    /// the prompts of the agent.
    pub(super) fn apply(&mut self, now: Time, hook_number: u64, hook: &Hook, prompts: &mut u64) {
        (self.last_seen, self.last_hook) = (now, hook_number);
        self.is_lost = false;
        let by = hook.subagent;
        if let Some(stop) = &hook.stop {
            return self.stop(by, stop.budget);
        }
        match &hook.event {
            // Prompts, turns and ends of a subagent are not those of the session.
            SessionEvent::Began
            | SessionEvent::Prompted
            | SessionEvent::CompactionBegan
            | SessionEvent::CompactionEnded
                if by.is_some() =>
            {
                self.record_work(by)
            }
            SessionEvent::TurnEnded { .. }
            | SessionEvent::TurnFailed(_)
            | SessionEvent::Ended(_)
            | SessionEvent::StillIdle
                if by.is_some() =>
            {
                self.end_subagent(by);
            }
            SessionEvent::Alive | SessionEvent::Ended(_) => return,
            SessionEvent::Began => *self = Self::new(self.id, now, hook_number),
            SessionEvent::CompactionBegan | SessionEvent::CompactionEnded => {}
            SessionEvent::Prompted => {
                self.questions.clear();
                // The user interrupted the open prompt, if any.
                self.prompt = None;
                self.state = SessionState::Working;
            }
            SessionEvent::ToolBegan { tool, asks } => {
                // The next step begins only after the question was answered.
                self.questions.retain(|question| question.subagent != by);
                if by.is_none() {
                    // A stopped session is working again: otherwise this hook would have been answered with a stop, too.
                    self.state = SessionState::Working;
                }
                self.record_work(by);
                if let Some(reason) = asks {
                    self.ask(by, Some(tool), Arc::clone(reason));
                }
            }
            SessionEvent::ToolEnded(tool) => {
                // Another tool call may end while this one waits for permission.
                self.questions.retain(|question| {
                    question.subagent != by || question.tool.as_ref().is_some_and(|waiting| waiting != tool)
                });
                self.record_work(by);
            }
            SessionEvent::ToolsEnded => {
                self.questions.retain(|question| question.subagent != by);
                self.record_work(by);
            }
            SessionEvent::PermissionRequested(tool) => {
                self.record_work(by);
                // A tool that is itself a question has been recorded as one.
                let is_shown = self
                    .questions
                    .iter()
                    .any(|question| question.subagent == by && question.tool.as_ref() == Some(tool));
                if !is_shown {
                    self.ask(by, Some(tool), Arc::from(format!("permission to run {tool}")));
                }
            }
            SessionEvent::InputRequested if self.questions.is_empty() => self.ask(by, None, Arc::from("input")),
            SessionEvent::InputGiven => {
                self.questions.retain(|question| question.subagent != by || question.tool.is_some())
            }
            // A reminder; the request before it named the tool.
            SessionEvent::PermissionStillPending if self.questions.is_empty() => {
                self.ask(by, None, Arc::from("permission"))
            }
            SessionEvent::InputRequested | SessionEvent::PermissionStillPending => {}
            SessionEvent::StillIdle => {
                // An interruption by the user ends the turn without an event; this is the first to follow.
                self.questions.retain(|question| question.subagent.is_some());
                if self.state == SessionState::Working {
                    self.state = SessionState::Idle;
                }
            }
            SessionEvent::TurnEnded { in_background } => {
                self.questions.retain(|question| question.subagent.is_some());
                if self.stopped_by().is_none() {
                    self.state = if *in_background { SessionState::Background } else { SessionState::Idle };
                }
            }
            SessionEvent::TurnFailed(failure) => {
                self.questions.clear();
                self.state = SessionState::Failed(failure.clone());
            }
            SessionEvent::SubagentBegan => self.record_work(Some(by.unwrap_or_default())),
            SessionEvent::SubagentEnded => self.end_subagent(Some(by.unwrap_or_default())),
        }
        if by.is_none() {
            self.is_compacting = hook.event == SessionEvent::CompactionBegan;
        }
        match (&self.state, self.prompt) {
            (SessionState::Working, None) => {
                *prompts += 1;
                self.prompt = Some(Prompt { number: *prompts, since: now });
            }
            // The prompt of a stopped session stays open until the next one.
            (SessionState::Working | SessionState::Stopped(_), Some(_)) | (_, None) => {}
            (_, Some(_)) => self.prompt = None,
        }
    }

    /// Records that the session or one of its subagents was stopped; no event follows for that.
    fn stop(&mut self, by: Option<u64>, budget: Budget) {
        self.questions.retain(|question| question.subagent != by);
        match by {
            None => (self.state, self.is_compacting) = (SessionState::Stopped(budget), false),
            Some(subagent) => self.subagents.retain(|one| *one != subagent),
        }
    }

    fn end_subagent(&mut self, gone: Option<u64>) {
        self.subagents.retain(|one| Some(*one) != gone);
        self.questions.retain(|question| question.subagent != gone);
    }

    fn record_work(&mut self, by: Option<u64>) {
        match by {
            // A tool call that was still running when the session was stopped.
            None if self.stopped_by().is_some() => {}
            None => self.state = SessionState::Working,
            Some(subagent) if self.subagents.contains(&subagent) => {}
            Some(subagent) if self.subagents.len() < MAX_SUBAGENTS => self.subagents.push(subagent),
            Some(_) => {}
        }
    }

    fn ask(&mut self, subagent: Option<u64>, tool: Option<&Arc<str>>, reason: Arc<str>) {
        if self.questions.len() < MAX_QUESTIONS {
            self.questions.push(OpenQuestion { subagent, tool: tool.cloned(), reason });
        }
    }

    /// Why its last turn failed, if it did.
    pub(super) const fn failure(&self) -> Option<&TurnFailure> {
        match &self.state {
            SessionState::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Makes it idle if its last turn failed by a rate limit; returns whether it did.
    pub(super) fn rate_limit_ended(&mut self) -> bool {
        let waited = self.failure() == Some(&TurnFailure::RateLimit);
        if waited {
            self.state = SessionState::Idle;
        }
        waited
    }

    /// The budget that it was stopped for.
    pub(super) const fn stopped_by(&self) -> Option<Budget> {
        match &self.state {
            SessionState::Stopped(budget) => Some(*budget),
            _ => None,
        }
    }

    /// Whether it waits for an answer by the user.
    pub(super) const fn is_waiting(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Its status, with the reason.
    pub(super) fn status(&self) -> (AgentStatus, Option<Arc<str>>) {
        let because = |status, reason: &str| (status, Some(Arc::from(reason)));
        if let Some(question) = self.questions.first() {
            return (AgentStatus::WaitingQuestion, Some(Arc::clone(&question.reason)));
        }
        if self.is_compacting {
            return because(AgentStatus::Running, "compacting its context");
        }
        match (&self.state, self.subagents.is_empty()) {
            (SessionState::Working, _) => (AgentStatus::Running, None),
            (_, false) => because(AgentStatus::Running, "a subagent is working"),
            (SessionState::Background, true) => because(AgentStatus::Running, "a background task is running"),
            (SessionState::Failed(failure), true) if failure.is_transient() => {
                (AgentStatus::WaitingDependency, Some(failure.reason()))
            }
            (SessionState::Failed(failure), true) => (AgentStatus::Failed, Some(failure.reason())),
            (SessionState::Stopped(budget), true) => because(AgentStatus::Paused, budget.reason()),
            (SessionState::Idle, true) => (AgentStatus::Idle, None),
        }
    }

    /// Moves times that are after `now` to `now`.
    pub(super) fn clamp_times(&mut self, now: Time) {
        self.last_seen = self.last_seen.min(now);
        self.began = self.began.min(now);
        if let Some(prompt) = &mut self.prompt {
            prompt.since = prompt.since.min(now);
        }
    }
}
