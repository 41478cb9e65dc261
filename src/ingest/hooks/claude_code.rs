//! Decodes the hooks of Claude Code.
//!
//! Fields of an unexpected type count as absent, and unknown events only show that the agent is alive, so that newer
//! versions still have a status. The names are those of Claude Code 2.1.197 and 2.1.329. Claude Code runs no HTTP hooks
//! for `SessionStart`; a hook of type `command` may post it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{HookError, HookEvent, HookTool, identifier, text};
use crate::decode::retry::retry_at;
use crate::model::Time;
use crate::model::hook::{BlockingHook, SessionEnd, SessionEvent, TurnFailure, session_hash};

/// Claude Code.
pub const TOOL: HookTool = HookTool { name: "claude-code", path: "/hooks/claude-code", read, stop };

/// The fields of a hook that are read.
#[derive(Deserialize)]
struct ClaudeCodeHook<'a> {
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

/// Decodes the body of one hook that arrived at `now` by the wall clock.
fn read(body: &str, now: Time) -> Result<HookEvent, HookError> {
    let body: ClaudeCodeHook<'_> = serde_json::from_str(body)
        .map_err(|error| HookError::NotAnObject { line: error.line(), column: error.column() })?;
    let tool = || identifier(body.tool_name).map_or_else(|| Arc::from("a tool"), |tool| Arc::<str>::from(&*tool));
    let name = text(body.hook_event_name).ok_or(HookError::NoEvent)?;
    let step = match &*name {
        // A compacted session continues.
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
        "StopFailure" => SessionEvent::TurnFailed(failure(identifier(body.error).as_deref())),
        "SubagentStart" => SessionEvent::SubagentBegan,
        "SubagentStop" => SessionEvent::SubagentEnded,
        "PreCompact" => SessionEvent::CompactionBegan,
        "PostCompact" => SessionEvent::CompactionEnded,
        "Notification" => match &*text(body.notification_type).unwrap_or_default() {
            "permission_prompt" | "worker_permission_prompt" => SessionEvent::PermissionStillPending,
            "elicitation_dialog" | "elicitation_url_dialog" => SessionEvent::InputRequested,
            "elicitation_complete" | "elicitation_response" => SessionEvent::InputGiven,
            "idle_prompt" => SessionEvent::StillIdle,
            // `agent_needs_input` and `agent_completed` are about other sessions, which have hooks of their own.
            _ => SessionEvent::Alive,
        },
        _ => SessionEvent::Alive,
    };
    let session = text(body.session_id).map_or(0, |id| session_hash(&id));
    let subagent = text(body.agent_id).map(|id| session_hash(&id));
    // The message to the user about a rate limit. Only the time in it is kept.
    let message =
        text(body.last_assistant_message).filter(|_| step == SessionEvent::TurnFailed(TurnFailure::RateLimit));
    let retry_at = message.and_then(|message| retry_at(&message, now));
    let moment = moment(&name, subagent.is_some(), body.prompt);
    let cwd = text(body.cwd).map(Cow::into_owned);
    Ok(HookEvent { session, subagent, cwd, step, retry_at, moment })
}

/// Whether the response to an event can stop the agent. Claude Code 2.1.329 obeys at these events, and at `Stop`, where it
/// stops anyway; it does not at `PermissionRequest`, nor at `PostToolUseFailure`, which `PostToolBatch` follows.
fn moment(event: &str, is_subagent: bool, prompt: Option<&RawValue>) -> Option<BlockingHook> {
    match event {
        // A prompt by a parent agent, or about the end of a background task, is not one by a person. No more of a prompt
        // is read than this prefix.
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

/// The response body that stops the agent. With `continue: false` alone, the tool that the event is about would still run.
fn stop(moment: BlockingHook, cause: &str) -> String {
    let reason = format!("stopped by lookout: {cause}");
    let mut answer = json!({"continue": false, "stopReason": reason});
    if moment == BlockingHook::BeforeTool
        && let Some(answer) = answer.as_object_mut()
    {
        let denied = json!({
            "hookEventName": "PreToolUse",
            "permissionDecision": "deny",
            "permissionDecisionReason": reason,
        });
        answer.insert("hookSpecificOutput".to_owned(), denied);
    }
    answer.to_string()
}

/// Whether a background task is still running; a task with an unknown status counts as running.
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
        Some("authentication_failed") => "authentication failed",
        Some("oauth_org_not_allowed") => "organization not allowed",
        Some("billing_error") => "billing error",
        Some("invalid_request") => "invalid request",
        Some("model_not_found") => "model not found",
        Some("server_error") => "provider server error",
        Some("max_output_tokens") => "output token limit reached",
        None | Some("unknown") => "unknown error",
        Some(other) => return TurnFailure::Error(Arc::from(other.replace('_', " "))),
    };
    TurnFailure::Error(Arc::from(reason))
}
