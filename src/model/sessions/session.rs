//! One session: what its events add up to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::hook::{Failure, Hook, Step};
use crate::model::{AgentStatus, Budget, Time};

/// Subagents followed in one session; more are not told apart from none.
const MAX_SUBAGENTS: usize = 32;
/// Questions that one session may have open at a time.
const MAX_WAITS: usize = 8;

/// A question that a person has to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
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
enum Main {
    Idle,
    Working,
    Background,
    Failed(Failure),
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
pub(super) struct Session {
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
    main: Main,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) subagents: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waits: Vec<Wait>,
    #[serde(default)]
    is_compacting: bool,
}

impl Session {
    pub(super) const fn new(id: u64, now: Time) -> Self {
        Self {
            id,
            seen: now,
            began: now,
            is_superseded: false,
            prompt: None,
            main: Main::Idle,
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
        match &hook.step {
            // A subagent has prompts, turns and ends of its own; none of them is its parent's.
            Step::Began | Step::Prompted | Step::Compacts | Step::Compacted if by.is_some() => self.works(by),
            Step::Stopped { .. } | Step::Failed(_) | Step::Ended(_) | Step::StillIdle if by.is_some() => {
                self.subagent_ended(by);
            }
            Step::Lives | Step::Ended(_) => return,
            Step::Began => *self = Self::new(self.id, now),
            Step::Compacts | Step::Compacted => {}
            Step::Prompted => {
                self.waits.clear();
                // Whatever it still had to do, it was interrupted in.
                self.prompt = None;
                self.main = Main::Working;
            }
            Step::ToolBegan { tool, asks } => {
                // Whoever goes on to a next step has its answer.
                self.waits.retain(|wait| wait.subagent != by);
                if by.is_none() {
                    // It may, or would have been stopped again.
                    self.main = Main::Working;
                }
                self.works(by);
                if let Some(reason) = asks {
                    self.wait(by, Some(tool), Arc::clone(reason));
                }
            }
            Step::ToolEnded(tool) => {
                // Another tool may end beside one that waits for permission.
                self.waits
                    .retain(|wait| wait.subagent != by || wait.tool.as_ref().is_some_and(|waiting| waiting != tool));
                self.works(by);
            }
            Step::ToolsEnded => {
                self.waits.retain(|wait| wait.subagent != by);
                self.works(by);
            }
            Step::AsksPermission(tool) => {
                self.works(by);
                // A question or a plan that is shown already says what is waited for.
                let is_shown = self.waits.iter().any(|wait| wait.subagent == by && wait.tool.as_ref() == Some(tool));
                if !is_shown {
                    self.wait(by, Some(tool), Arc::from(format!("permission to run {tool}")));
                }
            }
            Step::AsksInput if self.waits.is_empty() => self.wait(by, None, Arc::from("input")),
            Step::InputGiven => self.waits.retain(|wait| wait.subagent != by || wait.tool.is_some()),
            // It follows the request that named the tool, and says less.
            Step::StillAsksPermission if self.waits.is_empty() => self.wait(by, None, Arc::from("permission")),
            Step::AsksInput | Step::StillAsksPermission => {}
            Step::StillIdle => {
                // An interruption by a person ends the work without a word; this is the first that is heard of it.
                self.waits.retain(|wait| wait.subagent.is_some());
                if self.main == Main::Working {
                    self.main = Main::Idle;
                }
            }
            Step::Stopped { in_background } => {
                self.waits.retain(|wait| wait.subagent.is_some());
                if self.braked().is_none() {
                    self.main = if *in_background { Main::Background } else { Main::Idle };
                }
            }
            Step::Failed(failure) => {
                self.waits.clear();
                self.main = Main::Failed(failure.clone());
            }
            Step::SubagentBegan => self.works(Some(by.unwrap_or_default())),
            Step::SubagentEnded => self.subagent_ended(Some(by.unwrap_or_default())),
        }
        if by.is_none() {
            self.is_compacting = hook.step == Step::Compacts;
        }
        match (&self.main, self.prompt) {
            (Main::Working, None) => {
                *prompts += 1;
                self.prompt = Some(Prompt { number: *prompts, since: now });
            }
            // What it was stopped in stays as it is until it is told something else.
            (Main::Working | Main::Braked(_), Some(_)) | (_, None) => {}
            (_, Some(_)) => self.prompt = None,
        }
    }

    /// Takes note that it, or a subagent of it, was told to stop. No hook tells of the end that follows.
    fn brake(&mut self, by: Option<u64>, budget: Budget) {
        self.waits.retain(|wait| wait.subagent != by);
        match by {
            None => (self.main, self.is_compacting) = (Main::Braked(budget), false),
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
            None => self.main = Main::Working,
            Some(subagent) if self.subagents.contains(&subagent) => {}
            Some(subagent) if self.subagents.len() < MAX_SUBAGENTS => self.subagents.push(subagent),
            Some(_) => {}
        }
    }

    fn wait(&mut self, subagent: Option<u64>, tool: Option<&Arc<str>>, reason: Arc<str>) {
        if self.waits.len() < MAX_WAITS {
            self.waits.push(Wait { subagent, tool: tool.cloned(), reason });
        }
    }

    /// Why what it was told last did not come to an end.
    pub(super) const fn failure(&self) -> Option<&Failure> {
        match &self.main {
            Main::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Ends its wait for the end of a rate limit; whether it waited for that.
    pub(super) fn limit_is_over(&mut self) -> bool {
        let waits = self.failure() == Some(&Failure::RateLimit);
        if waits {
            self.main = Main::Idle;
        }
        waits
    }

    /// For which budget it was told to stop.
    pub(super) const fn braked(&self) -> Option<Budget> {
        match &self.main {
            Main::Braked(budget) => Some(*budget),
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
            (Main::Working, _) => (AgentStatus::Running, None),
            (_, false) => because(AgentStatus::Running, "a subagent works"),
            (Main::Background, true) => because(AgentStatus::Running, "a background task runs"),
            (Main::Failed(failure), true) if failure.passes() => {
                (AgentStatus::WaitingDependency, Some(failure.reason()))
            }
            (Main::Failed(failure), true) => (AgentStatus::Failed, Some(failure.reason())),
            (Main::Braked(budget), true) => because(AgentStatus::Paused, budget.reason()),
            (Main::Idle, true) => (AgentStatus::Idle, None),
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
