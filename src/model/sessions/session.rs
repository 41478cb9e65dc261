//! One session: what its events add up to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::hook::{Hook, SessionEvent, TurnFailure};
use crate::model::{AgentStatus, Budget, Time};

/// Subagents followed in one session; more are not told apart from none.
const MAX_SUBAGENTS: usize = 32;
/// Questions that one session may have open at a time.
const MAX_WAITS: usize = 8;

/// A question that a person has to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenQuestion {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subagent: Option<u64>,
    /// The tool that it is about, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool: Option<Arc<str>>,
    reason: Arc<str>,
}

/// What the session's own agent does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SessionState {
    Idle,
    Working,
    Background,
    Failed(TurnFailure),
    /// It was told to stop.
    Braked(Budget),
}

/// What it was told to do and has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The agent's prompts are numbered, beginning with 1.
    pub number: u64,
    /// When it began.
    pub since: Time,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookSession {
    pub(super) id: u64,
    pub(super) seen: Time,
    /// When it was first heard of, or began anew.
    #[serde(default)]
    pub(super) began: Time,
    /// Whether a newer session took its place without a word of its end; a word of it says that it lives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_superseded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<Prompt>,
    main: SessionState,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subagents: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waits: Vec<OpenQuestion>,
    #[serde(default)]
    is_compacting: bool,
}

impl HookSession {
    pub(super) const fn new(id: u64, now: Time) -> Self {
        Self {
            id,
            seen: now,
            began: now,
            is_superseded: false,
            prompt: None,
            main: SessionState::Idle,
            subagents: Vec::new(),
            waits: Vec::new(),
            is_compacting: false,
        }
    }

    /// Takes in a step that is not the session's end. `prompts` counts what the agent was told to do.
    pub(super) fn take(&mut self, now: Time, hook: &Hook, prompts: &mut u64) {
        self.seen = now;
        self.is_superseded = false;
        let by = hook.subagent;
        if let Some(stop) = &hook.stop {
            return self.brake(by, stop.budget);
        }
        match &hook.event {
            // A subagent has prompts, turns and ends of its own; none of them is its parent's.
            SessionEvent::Began
            | SessionEvent::Prompted
            | SessionEvent::CompactionBegan
            | SessionEvent::CompactionEnded
                if by.is_some() =>
            {
                self.works(by)
            }
            SessionEvent::TurnEnded { .. }
            | SessionEvent::TurnFailed(_)
            | SessionEvent::Ended(_)
            | SessionEvent::StillIdle
                if by.is_some() =>
            {
                self.subagent_ended(by);
            }
            SessionEvent::Alive | SessionEvent::Ended(_) => return,
            SessionEvent::Began => *self = Self::new(self.id, now),
            SessionEvent::CompactionBegan | SessionEvent::CompactionEnded => {}
            SessionEvent::Prompted => {
                self.waits.clear();
                // Whatever it still had to do, it was interrupted in.
                self.prompt = None;
                self.main = SessionState::Working;
            }
            SessionEvent::ToolBegan { tool, asks } => {
                // Whoever goes on to a next step has its answer.
                self.waits.retain(|wait| wait.subagent != by);
                if by.is_none() {
                    // It may, or would have been stopped again.
                    self.main = SessionState::Working;
                }
                self.works(by);
                if let Some(reason) = asks {
                    self.wait(by, Some(tool), Arc::clone(reason));
                }
            }
            SessionEvent::ToolEnded(tool) => {
                // Another tool may end beside one that waits for permission.
                self.waits
                    .retain(|wait| wait.subagent != by || wait.tool.as_ref().is_some_and(|waiting| waiting != tool));
                self.works(by);
            }
            SessionEvent::ToolsEnded => {
                self.waits.retain(|wait| wait.subagent != by);
                self.works(by);
            }
            SessionEvent::PermissionRequested(tool) => {
                self.works(by);
                // A question or a plan that is shown already says what is waited for.
                let is_shown = self.waits.iter().any(|wait| wait.subagent == by && wait.tool.as_ref() == Some(tool));
                if !is_shown {
                    self.wait(by, Some(tool), Arc::from(format!("permission to run {tool}")));
                }
            }
            SessionEvent::InputRequested if self.waits.is_empty() => self.wait(by, None, Arc::from("input")),
            SessionEvent::InputGiven => self.waits.retain(|wait| wait.subagent != by || wait.tool.is_some()),
            // It follows the request that named the tool, and says less.
            SessionEvent::PermissionStillPending if self.waits.is_empty() => {
                self.wait(by, None, Arc::from("permission"))
            }
            SessionEvent::InputRequested | SessionEvent::PermissionStillPending => {}
            SessionEvent::StillIdle => {
                // An interruption by a person ends the work without a word; this is the first that is heard of it.
                self.waits.retain(|wait| wait.subagent.is_some());
                if self.main == SessionState::Working {
                    self.main = SessionState::Idle;
                }
            }
            SessionEvent::TurnEnded { in_background } => {
                self.waits.retain(|wait| wait.subagent.is_some());
                if self.braked().is_none() {
                    self.main = if *in_background { SessionState::Background } else { SessionState::Idle };
                }
            }
            SessionEvent::TurnFailed(failure) => {
                self.waits.clear();
                self.main = SessionState::Failed(failure.clone());
            }
            SessionEvent::SubagentBegan => self.works(Some(by.unwrap_or_default())),
            SessionEvent::SubagentEnded => self.subagent_ended(Some(by.unwrap_or_default())),
        }
        if by.is_none() {
            self.is_compacting = hook.event == SessionEvent::CompactionBegan;
        }
        match (&self.main, self.prompt) {
            (SessionState::Working, None) => {
                *prompts += 1;
                self.prompt = Some(Prompt { number: *prompts, since: now });
            }
            // What it was stopped in stays as it is until it is told something else.
            (SessionState::Working | SessionState::Braked(_), Some(_)) | (_, None) => {}
            (_, Some(_)) => self.prompt = None,
        }
    }

    /// Takes note that it, or a subagent of it, was told to stop. No hook tells of the end that follows.
    fn brake(&mut self, by: Option<u64>, budget: Budget) {
        self.waits.retain(|wait| wait.subagent != by);
        match by {
            None => (self.main, self.is_compacting) = (SessionState::Braked(budget), false),
            Some(subagent) => self.subagents.retain(|one| *one != subagent),
        }
    }

    fn subagent_ended(&mut self, gone: Option<u64>) {
        self.subagents.retain(|one| Some(*one) != gone);
        self.waits.retain(|wait| wait.subagent != gone);
    }

    fn works(&mut self, by: Option<u64>) {
        match by {
            // The end of a tool that was running beside the one that was stopped.
            None if self.braked().is_some() => {}
            None => self.main = SessionState::Working,
            Some(subagent) if self.subagents.contains(&subagent) => {}
            Some(subagent) if self.subagents.len() < MAX_SUBAGENTS => self.subagents.push(subagent),
            Some(_) => {}
        }
    }

    fn wait(&mut self, subagent: Option<u64>, tool: Option<&Arc<str>>, reason: Arc<str>) {
        if self.waits.len() < MAX_WAITS {
            self.waits.push(OpenQuestion { subagent, tool: tool.cloned(), reason });
        }
    }

    /// Why what it was told last did not come to an end.
    pub(super) const fn failure(&self) -> Option<&TurnFailure> {
        match &self.main {
            SessionState::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Ends its wait for the end of a rate limit; whether it waited for that.
    pub(super) fn limit_is_over(&mut self) -> bool {
        let waits = self.failure() == Some(&TurnFailure::RateLimit);
        if waits {
            self.main = SessionState::Idle;
        }
        waits
    }

    /// For which budget it was told to stop.
    pub(super) const fn braked(&self) -> Option<Budget> {
        match &self.main {
            SessionState::Braked(budget) => Some(*budget),
            _ => None,
        }
    }

    /// Whether a person has to answer it.
    pub(super) const fn waits(&self) -> bool {
        !self.waits.is_empty()
    }

    /// What it does, and why.
    pub(super) fn status(&self) -> (AgentStatus, Option<Arc<str>>) {
        let because = |status, reason: &str| (status, Some(Arc::from(reason)));
        if let Some(wait) = self.waits.first() {
            return (AgentStatus::WaitingQuestion, Some(Arc::clone(&wait.reason)));
        }
        if self.is_compacting {
            return because(AgentStatus::Running, "compacting its context");
        }
        match (&self.main, self.subagents.is_empty()) {
            (SessionState::Working, _) => (AgentStatus::Running, None),
            (_, false) => because(AgentStatus::Running, "a subagent works"),
            (SessionState::Background, true) => because(AgentStatus::Running, "a background task runs"),
            (SessionState::Failed(failure), true) if failure.is_transient() => {
                (AgentStatus::WaitingDependency, Some(failure.reason()))
            }
            (SessionState::Failed(failure), true) => (AgentStatus::Failed, Some(failure.reason())),
            (SessionState::Braked(budget), true) => because(AgentStatus::Paused, budget.reason()),
            (SessionState::Idle, true) => (AgentStatus::Idle, None),
        }
    }

    /// Nothing in it lies ahead of `now`.
    pub(super) fn restored(&mut self, now: Time) {
        self.seen = self.seen.min(now);
        self.began = self.began.min(now);
        if let Some(prompt) = &mut self.prompt {
            prompt.since = prompt.since.min(now);
        }
    }
}
