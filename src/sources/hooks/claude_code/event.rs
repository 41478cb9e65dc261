//! One hook event of Claude Code, as far as it says anything about status.
//!
//! Fields of an unexpected type count as absent, and events that are not known as nothing: a newer version must not
//! lose its status over them. The names are those of Claude Code's hooks reference.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use rustc_hash::FxBuildHasher;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::text::clean;
use crate::sources::DecodeError;

/// Longest name of a tool or of an error that is kept, in bytes.
const MAX_WORD: usize = 64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Started {
        compacted: bool,
    },
    Ended {
        why: Option<Cow<'a, str>>,
    },
    Prompt,
    ToolBegins(Cow<'a, str>),
    ToolEnded(Cow<'a, str>),
    AsksPermission(Cow<'a, str>),
    Stopped {
        in_background: bool,
    },
    Failed(Cow<'a, str>),
    SubagentBegins,
    SubagentEnded,
    Compacts,
    WaitsForPermission,
    WaitsForInput,
    SitsIdle,
    /// Says nothing about status.
    Other,
}

/// An event of one session.
#[derive(Clone, Debug)]
pub(super) struct Event<'a> {
    /// The session, as a hash: the id itself is kept nowhere.
    pub(super) session: u64,
    /// The subagent that it is about; `None` is the session's own agent.
    pub(super) subagent: Option<u64>,
    pub(super) cwd: Option<Cow<'a, str>>,
    pub(super) kind: Kind<'a>,
}

/// The fields that are read; every other one is skipped unread.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    hook_event_name: Option<&'a RawValue>,
    session_id: Option<&'a RawValue>,
    agent_id: Option<&'a RawValue>,
    cwd: Option<&'a RawValue>,
    tool_name: Option<&'a RawValue>,
    source: Option<&'a RawValue>,
    reason: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    notification_type: Option<&'a RawValue>,
    background_tasks: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BackgroundTask<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value?.get()).ok().map(|text| text.0).filter(|text| !text.is_empty())
}

fn word(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let word = text(value)?;
    Some(Cow::Owned(clean(&word, MAX_WORD).into_owned())).filter(|word: &Cow<'_, str>| !word.is_empty())
}

fn hash(id: &str) -> u64 {
    FxBuildHasher.hash_one(id)
}

impl<'a> Event<'a> {
    /// Reads the body of one hook.
    pub(super) fn decode(body: &'a str) -> Result<Self, DecodeError> {
        let body: Body<'a> = serde_json::from_str(body).map_err(|error| DecodeError::new(&error))?;
        let tool = || word(body.tool_name).unwrap_or(Cow::Borrowed("a tool"));
        let kind = match &*text(body.hook_event_name).unwrap_or_default() {
            "SessionStart" => Kind::Started { compacted: text(body.source).as_deref() == Some("compact") },
            "SessionEnd" => Kind::Ended { why: word(body.reason) },
            "UserPromptSubmit" => Kind::Prompt,
            "PreToolUse" => Kind::ToolBegins(tool()),
            "PostToolUse" | "PostToolUseFailure" => Kind::ToolEnded(tool()),
            "PermissionRequest" => Kind::AsksPermission(tool()),
            "Stop" => Kind::Stopped { in_background: has_live_task(body.background_tasks) },
            "StopFailure" => Kind::Failed(word(body.error).unwrap_or(Cow::Borrowed("unknown"))),
            "SubagentStart" => Kind::SubagentBegins,
            "SubagentStop" => Kind::SubagentEnded,
            "PreCompact" => Kind::Compacts,
            "Notification" => match &*text(body.notification_type).unwrap_or_default() {
                "permission_prompt" => Kind::WaitsForPermission,
                "agent_needs_input" | "elicitation_dialog" => Kind::WaitsForInput,
                "idle_prompt" => Kind::SitsIdle,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        };
        let session = text(body.session_id).map_or(0, |id| hash(&id));
        let subagent = text(body.agent_id).map(|id| hash(&id));
        Ok(Self { session, subagent, cwd: text(body.cwd), kind })
    }
}

/// Whether any background task still runs; one whose status is not known does.
fn has_live_task(tasks: Option<&RawValue>) -> bool {
    let tasks = tasks.and_then(|tasks| serde_json::from_str::<Vec<BackgroundTask<'_>>>(tasks.get()).ok());
    tasks.unwrap_or_default().iter().any(|task| {
        !matches!(
            text(task.status).as_deref(),
            Some("completed" | "failed" | "killed" | "stopped" | "cancelled" | "error" | "done")
        )
    })
}
