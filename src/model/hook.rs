//! One event that an agent posted by itself, in our words: whose it is, and what it says of a session.
//!
//! Refuses what was said in a session: no prompt, argument, output or path has a place here, and ids are hashes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Stop, Time};

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Arc<str>,
    /// The agent's name within it, valid by [`crate::text::is_name`].
    pub agent: Arc<str>,
    /// Which tool it is: `claude-code`.
    pub agent_type: Arc<str>,
    /// The session, as a hash of its id.
    pub session: u64,
    /// The subagent that it is about, as a hash of its id; none is the session's own agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagent: Option<u64>,
    /// What happened.
    pub event: SessionEvent,
    /// When its provider takes requests again, where a refusal says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// That it was answered by a stop; none when the agent may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// It began.
    Began,
    /// It ended.
    Ended(SessionEnd),
    /// A person gave it something to do.
    Prompted,
    /// A tool is about to be used, which may itself be a question; then this is what is waited for.
    ToolBegan {
        /// Its name.
        tool: Arc<str>,
        /// What a person has to give, where the tool is a question.
        asks: Option<Arc<str>>,
    },
    /// A tool was used, whatever came of it.
    ToolEnded(Arc<str>),
    /// All tools of a step were used, or refused.
    ToolsEnded,
    /// A person has to allow a tool.
    PermissionRequested(Arc<str>),
    /// A person has to answer something that is no tool.
    InputRequested,
    /// They have.
    InputGiven,
    /// It has been waiting for permission for a while.
    PermissionStillPending,
    /// Nobody has given it anything to do for a while.
    StillIdle,
    /// What it was told to do is done; it may have left tasks running in the background.
    TurnEnded {
        /// Whether any runs.
        in_background: bool,
    },
    /// What it was told to do ended with an error.
    TurnFailed(TurnFailure),
    /// A subagent began.
    SubagentBegan,
    /// A subagent ended.
    SubagentEnded,
    /// Its context is about to be compacted.
    CompactionBegan,
    /// Its context was compacted.
    CompactionEnded,
    /// Something that says no more than that it lives.
    Alive,
}

/// What an agent is about to do that waits for the answer to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingHook {
    /// To take up what a person told it.
    Prompted,
    /// To take up what it was told by something that it had left running.
    Resumed,
    /// To use a tool.
    BeforeTool,
    /// To ask its model what comes next, having used a tool.
    AfterTool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Another one takes its place at once.
    Replaced,
    /// A person left it.
    UserExit,
    /// It was through with its work, or was ended from outside.
    Exited,
}

/// Why a model's answer did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnFailure {
    /// A rate limit of its provider.
    RateLimit,
    /// Its provider had too much to do.
    Overload,
    /// Anything else, in the words of a person.
    Error(Arc<str>),
}

impl TurnFailure {
    /// The reason that a person reads.
    pub fn reason(&self) -> Arc<str> {
        match self {
            Self::RateLimit => Arc::from("failed by rate limit"),
            Self::Overload => Arc::from("failed by overload"),
            Self::Error(reason) => Arc::clone(reason),
        }
    }

    /// Whether time alone cures it, so that the agent waits for its provider and is not down.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimit | Self::Overload)
    }
}
