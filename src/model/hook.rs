//! A decoded hook: the agent that posted it and the session event that it reports.
//!
//! It holds no content of a session: no prompts, arguments, outputs or paths, and ids only as hashes.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StopOrder, Time};

/// The hash of a session's id. Stable across restarts, so that saved sessions are found again.
pub fn session_hash(id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
}

/// A decoded hook of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Arc<str>,
    /// The agent's name within it, valid by [`crate::text::is_name`].
    pub agent: Arc<str>,
    /// The tool that posted it: `claude-code`.
    pub agent_type: Arc<str>,
    /// The session, as a hash of its id.
    pub session: u64,
    /// The subagent that it is about, as a hash of its id; `None` for the session's main agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subagent: Option<u64>,
    /// What happened.
    pub event: SessionEvent,
    /// When the rate limit ends, if the hook reports one with its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Time>,
    /// The stop order that the hook was answered with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopOrder>,
}

/// An event in a session of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// The session began.
    Began,
    /// The session ended.
    Ended(SessionEnd),
    /// The user submitted a prompt.
    Prompted,
    /// A tool call begins. The tool may itself be a question to the user.
    ToolBegan {
        /// Its name.
        tool: Arc<str>,
        /// What the user has to provide, if the tool is a question.
        asks: Option<Arc<str>>,
    },
    /// A tool call ended, with whatever result.
    ToolEnded(Arc<str>),
    /// All tool calls of a step have ended or were denied.
    ToolsEnded,
    /// The user has to permit the call of this tool.
    PermissionRequested(Arc<str>),
    /// The user has to answer something other than a tool call.
    InputRequested,
    /// The user has answered it.
    InputGiven,
    /// The session has been waiting for permission for a while.
    PermissionStillPending,
    /// The session has been without a prompt for a while.
    StillIdle,
    /// The turn ended: the prompt is done. Tasks may still run in the background.
    TurnEnded {
        /// Whether any task still runs.
        in_background: bool,
    },
    /// The turn ended with an error.
    TurnFailed(TurnFailure),
    /// A subagent began.
    SubagentBegan,
    /// A subagent ended.
    SubagentEnded,
    /// Compaction of the context begins.
    CompactionBegan,
    /// Compaction of the context ended.
    CompactionEnded,
    /// Any other event: it only shows that the session is alive.
    Alive,
}

/// A hook whose answer the agent waits for, so that the answer can stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingHook {
    /// Before it works on the user's prompt.
    Prompted,
    /// Before it works on the result of a background task.
    Resumed,
    /// Before a tool call.
    BeforeTool,
    /// After a tool call, before the next request to its model.
    AfterTool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// Another session takes its place at once.
    Replaced,
    /// The user left it.
    UserExit,
    /// It finished its work, or its process was terminated.
    Exited,
}

/// Why a turn failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnFailure {
    /// Rate-limited by the provider.
    RateLimit,
    /// The provider was overloaded.
    Overload,
    /// Anything else, as the text to show.
    Error(Arc<str>),
}

impl TurnFailure {
    /// The reason to show for the agent's status.
    pub fn reason(&self) -> Arc<str> {
        match self {
            Self::RateLimit => Arc::from("rate-limited"),
            Self::Overload => Arc::from("provider overloaded"),
            Self::Error(reason) => Arc::clone(reason),
        }
    }

    /// Whether it passes without anybody's help: the agent waits for its provider and is not down.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::RateLimit | Self::Overload)
    }
}
