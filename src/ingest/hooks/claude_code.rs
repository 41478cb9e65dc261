//! One hook event of Claude Code, as far as it says anything about status.
//!
//! Fields of an unexpected type count as absent, and events that are not known say no more than that the agent lives: a
//! newer version must not lose its status over them. The names are those that Claude Code 2.1.197 and 2.1.329
//! list; HTTP hooks are not run for `SessionStart`, which a hook of the kind `command` may post.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{HookError, HookEvent, HookTool, hash, text, word};
use crate::decode::retry::retry_at;
use crate::model::Time;
use crate::model::hook::{BlockingHook, SessionEnd, SessionEvent, TurnFailure};

/// Claude Code.
pub const TOOL: HookTool = HookTool { name: "claude-code", path: "/hooks/claude-code", read, stop };

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
    last_assistant_message: Option<&'a RawValue>,
    prompt: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct BackgroundTask<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// Reads the body of one hook, which came at `now` by the wall clock.
fn read(body: &str, now: Time) -> Result<HookEvent, HookError> {
    let body: Body<'_> = serde_json::from_str(body)
        .map_err(|error| HookError::NotAnObject { line: error.line(), column: error.column() })?;
    let tool = || word(body.tool_name).map_or_else(|| Arc::from("a tool"), |tool| Arc::<str>::from(&*tool));
    let name = text(body.hook_event_name).ok_or(HookError::NoEvent)?;
    let step = match &*name {
        // A compacted session goes on where it was.
        "SessionStart" if text(body.source).as_deref() == Some("compact") => SessionEvent::CompactionEnded,
        "SessionStart" => SessionEvent::Began,
        "SessionEnd" => SessionEvent::Ended(match text(body.reason).as_deref() {
            Some("clear" | "resume") => SessionEnd::Replaced,
            Some("logout" | "prompt_input_exit") => SessionEnd::UserExit,
            _ => SessionEnd::Exited,
        }),
        "UserPromptSubmit" => SessionEvent::Prompted,
        "PreToolUse" => {
            let tool = tool();
            let asks = match &*tool {
                "AskUserQuestion" => Some("an answer to its question"),
                "ExitPlanMode" => Some("approval of its plan"),
                _ => None,
            };
            SessionEvent::ToolBegan { tool, asks: asks.map(Arc::from) }
        }
        "PostToolUse" | "PostToolUseFailure" | "PermissionDenied" => SessionEvent::ToolEnded(tool()),
        "PostToolBatch" => SessionEvent::ToolsEnded,
        "PermissionRequest" => SessionEvent::PermissionRequested(tool()),
        "Elicitation" => SessionEvent::InputRequested,
        "ElicitationResult" => SessionEvent::InputGiven,
        "Stop" => SessionEvent::TurnEnded { in_background: has_live_task(body.background_tasks) },
        "StopFailure" => SessionEvent::TurnFailed(failure(word(body.error).as_deref())),
        "SubagentStart" => SessionEvent::SubagentBegan,
        "SubagentStop" => SessionEvent::SubagentEnded,
        "PreCompact" => SessionEvent::CompactionBegan,
        "PostCompact" => SessionEvent::CompactionEnded,
        "Notification" => match &*text(body.notification_type).unwrap_or_default() {
            "permission_prompt" | "worker_permission_prompt" => SessionEvent::PermissionStillPending,
            "elicitation_dialog" | "elicitation_url_dialog" => SessionEvent::InputRequested,
            "elicitation_complete" | "elicitation_response" => SessionEvent::InputGiven,
            "idle_prompt" => SessionEvent::StillIdle,
            // `agent_needs_input` and `agent_completed` are about other sessions, which tell of themselves.
            _ => SessionEvent::Alive,
        },
        _ => SessionEvent::Alive,
    };
    let session = text(body.session_id).map_or(0, |id| hash(&id));
    let subagent = text(body.agent_id).map(|id| hash(&id));
    // What is said to a person beside the refusal; nothing of it is kept but a time.
    let words = text(body.last_assistant_message).filter(|_| step == SessionEvent::TurnFailed(TurnFailure::RateLimit));
    let retry_at = words.and_then(|words| retry_at(&words, now));
    let moment = moment(&name, subagent.is_some(), body.prompt);
    let cwd = text(body.cwd).map(Cow::into_owned);
    Ok(HookEvent { session, subagent, cwd, step, retry_at, moment })
}

/// Where an event can be answered by a stop. Claude Code 2.1.329 obeys it at these, and at `Stop`, where it stops anyway;
/// at `PostToolUseFailure`, which `PostToolBatch` follows, and at `PermissionRequest` it does not.
fn moment(event: &str, is_subagent: bool, prompt: Option<&RawValue>) -> Option<BlockingHook> {
    match event {
        // How it hears of the end of a background task or subagent. No more of a prompt is looked at than this.
        // What a subagent is asked is its parent's doing, and lifts nothing.
        "UserPromptSubmit" if is_subagent => Some(BlockingHook::Resumed),
        "UserPromptSubmit" if prompt.is_some_and(|prompt| prompt.get().starts_with("\"<task-notification>")) => {
            Some(BlockingHook::Resumed)
        }
        "UserPromptSubmit" => Some(BlockingHook::Prompted),
        "PreToolUse" => Some(BlockingHook::BeforeTool),
        "PostToolUse" | "PostToolBatch" => Some(BlockingHook::AfterTool),
        _ => None,
    }
}

/// The answer that stops it. `continue: false` alone lets the tool run first that it asked about.
fn stop(moment: BlockingHook, why: &str) -> String {
    let why = format!("stopped by lookout: {why}");
    let mut answer = json!({"continue": false, "stopReason": why});
    if moment == BlockingHook::BeforeTool
        && let Some(answer) = answer.as_object_mut()
    {
        let denied = json!({
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": why,
        });
        answer.insert("hookSpecificOutput".to_owned(), denied);
    }
    answer.to_string()
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

/// Why a turn failed.
fn failure(error: Option<&str>) -> TurnFailure {
    let reason = match error {
        Some("rate_limit") => return TurnFailure::RateLimit,
        Some("overloaded") => return TurnFailure::Overload,
        Some("authentication_failed") => "failed by authentication",
        Some("oauth_org_not_allowed") => "failed by an organization that is not allowed",
        Some("billing_error") => "failed by billing",
        Some("invalid_request") => "failed by an invalid request",
        Some("model_not_found") => "failed by a model that is not there",
        Some("server_error") => "failed by server error",
        Some("max_output_tokens") => "failed by the limit of output tokens",
        None | Some("unknown") => "failed by unknown error",
        Some(other) => return TurnFailure::Error(Arc::from(format!("failed by {}", other.replace('_', " ")))),
    };
    TurnFailure::Error(Arc::from(reason))
}
