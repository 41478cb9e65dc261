//! One session of Claude Code: what its events add up to.

use std::borrow::Cow;

use super::event::{Event, Kind};
use crate::model::{AgentStatus, Time};

/// Subagents followed in one session; more are not told apart from none.
const MAX_SUBAGENTS: usize = 32;
/// Questions that one session may have open at a time.
const MAX_WAITS: usize = 8;

/// A question that a person has to answer.
#[derive(Clone, Debug)]
struct Wait {
    subagent: Option<u64>,
    /// The tool that it is about, where it is known.
    tool: Option<Box<str>>,
    reason: Box<str>,
}

/// What the session's own agent does.
#[derive(Clone, Debug)]
enum Main {
    Idle,
    Working,
    Background,
    Failed(Cow<'static, str>),
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) seen: Time,
    main: Main,
    subagents: Vec<u64>,
    waits: Vec<Wait>,
    is_compacting: bool,
}

impl Session {
    pub(super) const fn new(id: u64, now: Time) -> Self {
        Self { id, seen: now, main: Main::Idle, subagents: Vec::new(), waits: Vec::new(), is_compacting: false }
    }

    /// Takes in an event that is not the session's end.
    pub(super) fn take(&mut self, now: Time, event: &Event<'_>) {
        self.seen = now;
        if event.kind == Kind::Other {
            return;
        }
        self.is_compacting = event.kind == Kind::Compacts;
        let by = event.subagent;
        match &event.kind {
            // The session goes on where it was before its context was compacted.
            Kind::Started { compacted: true } | Kind::Compacts | Kind::Other | Kind::Ended { .. } => {}
            Kind::Started { compacted: false } => *self = Self::new(self.id, now),
            Kind::Prompt => {
                self.waits.clear();
                self.main = Main::Working;
            }
            Kind::ToolBegins(tool) => {
                // Whoever goes on to a next step has its answer.
                self.waits.retain(|wait| wait.subagent != by);
                self.works(by);
                match &**tool {
                    "AskUserQuestion" => self.wait(by, Some(tool), "an answer to its question".to_owned()),
                    "ExitPlanMode" => self.wait(by, Some(tool), "approval of its plan".to_owned()),
                    _ => {}
                }
            }
            Kind::ToolEnded(tool) => {
                // Another tool may end beside one that waits for permission.
                self.waits.retain(|wait| {
                    wait.subagent != by || wait.tool.as_deref().is_some_and(|waiting| waiting != &**tool)
                });
                if by.is_none() {
                    self.main = Main::Working;
                }
            }
            Kind::AsksPermission(tool) => {
                self.works(by);
                // A question or a plan that is shown already says what is waited for.
                let shown = self.waits.iter().any(|wait| wait.subagent == by && wait.tool.as_deref() == Some(&**tool));
                if !shown {
                    self.wait(by, Some(tool), format!("permission to run {tool}"));
                }
            }
            Kind::Stopped { in_background } => {
                self.waits.retain(|wait| wait.subagent.is_some());
                self.main = if *in_background { Main::Background } else { Main::Idle };
            }
            Kind::Failed(error) => {
                self.waits.clear();
                self.main = Main::Failed(failure(error));
            }
            Kind::SubagentBegins => self.works(Some(by.unwrap_or_default())),
            Kind::SubagentEnded => {
                let gone = Some(by.unwrap_or_default());
                self.subagents.retain(|one| Some(*one) != gone);
                self.waits.retain(|wait| wait.subagent != gone);
            }
            // It follows the request that named the tool, and says less.
            Kind::WaitsForPermission if self.waits.is_empty() => self.wait(by, None, "permission".to_owned()),
            Kind::WaitsForInput if self.waits.is_empty() => self.wait(by, None, "input".to_owned()),
            Kind::WaitsForPermission | Kind::WaitsForInput => {}
            Kind::SitsIdle => {
                self.waits.retain(|wait| wait.subagent.is_some());
                if let Main::Working = self.main {
                    self.main = Main::Idle;
                }
            }
        }
    }

    fn works(&mut self, by: Option<u64>) {
        match by {
            None => self.main = Main::Working,
            Some(subagent) if self.subagents.contains(&subagent) => {}
            Some(subagent) if self.subagents.len() < MAX_SUBAGENTS => self.subagents.push(subagent),
            Some(_) => {}
        }
    }

    fn wait(&mut self, subagent: Option<u64>, tool: Option<&str>, reason: String) {
        if self.waits.len() < MAX_WAITS {
            self.waits.push(Wait { subagent, tool: tool.map(Box::from), reason: reason.into() });
        }
    }

    /// What it does, and why.
    pub(super) fn status(&self) -> (AgentStatus, Option<&str>) {
        if let Some(wait) = self.waits.first() {
            return (AgentStatus::WaitingQuestion, Some(&wait.reason));
        }
        if self.is_compacting {
            return (AgentStatus::Running, Some("compacting its context"));
        }
        match (&self.main, self.subagents.is_empty()) {
            (Main::Working, _) => (AgentStatus::Running, None),
            (_, false) => (AgentStatus::Running, Some("a subagent works")),
            (Main::Background, true) => (AgentStatus::Running, Some("a background task runs")),
            (Main::Failed(error), true) => (AgentStatus::Failed, Some(error)),
            (Main::Idle, true) => (AgentStatus::Idle, None),
        }
    }
}

/// The kind of an error in the words of a person.
fn failure(error: &str) -> Cow<'static, str> {
    Cow::Borrowed(match error {
        "rate_limit" => "rate limit",
        "overloaded" => "the model is overloaded",
        "authentication_failed" => "authentication failed",
        "oauth_org_not_allowed" => "the organization is not allowed",
        "billing_error" => "billing error",
        "invalid_request" => "invalid request",
        "model_not_found" => "the model was not found",
        "server_error" => "server error",
        "max_output_tokens" => "the limit of output tokens was reached",
        "unknown" => "unknown error",
        other => return Cow::Owned(other.replace('_', " ")),
    })
}
