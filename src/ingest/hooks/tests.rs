//! Hooks: what events mean, and that errors quote nothing.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::claude_code::TOOL;
use super::*;
use crate::model::hook::{SessionEnd, SessionEvent, TurnFailure};

/// Saturday, 2026-11-21, at noon in UTC.
const NOON: Time = Time::from_millis(1_795_262_400_000);

fn body(event: &str, fields: &Json) -> String {
    let mut body = json!({"session_id": "s", "hook_event_name": event, "cwd": "/srv/me/shop/", "new": [1]});
    body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
    body.to_string()
}

fn read(body: &str) -> Result<HookEvent, HookError> {
    TOOL.decode(body.as_bytes(), NOON)
}

fn check(event: &str, fields: Json, expected: &SessionEvent) {
    assert_eq!(read(&body(event, &fields)).unwrap().step, *expected, "{event} {fields}");
}

#[test]
fn only_rate_limit_errors_have_a_time_to_retry() {
    let words = "You've hit your limit · resets 4pm (Europe/Berlin)";
    let retry_at = |event: &str, error: &str| {
        let fields = json!({"error": error, "last_assistant_message": words});
        read(&body(event, &fields)).unwrap().retry_at.map(|at| at.to_string())
    };
    assert_eq!(retry_at("StopFailure", "rate_limit").as_deref(), Some("2026-11-21T15:00:00Z"));
    assert_eq!(retry_at("StopFailure", "billing_error"), None);
    assert_eq!(retry_at("Stop", "rate_limit"), None, "other messages are not read");
}

#[test]
fn each_event_has_its_step() {
    let bash = || json!({"tool_name": "Bash"});
    check("SessionStart", json!({"source": "startup"}), &SessionEvent::Began);
    check("SessionStart", json!({"source": "compact"}), &SessionEvent::CompactionEnded);
    for (reason, end) in [
        ("clear", SessionEnd::Replaced),
        ("resume", SessionEnd::Replaced),
        ("logout", SessionEnd::UserExit),
        ("prompt_input_exit", SessionEnd::UserExit),
        ("other", SessionEnd::Exited),
        ("bypass_permissions_disabled", SessionEnd::Exited),
    ] {
        check("SessionEnd", json!({"reason": reason}), &SessionEvent::Ended(end));
    }
    check("UserPromptSubmit", json!({"prompt": "hi"}), &SessionEvent::Prompted);
    check("PreToolUse", bash(), &SessionEvent::ToolBegan { tool: "Bash".into(), asks: None });
    let question =
        SessionEvent::ToolBegan { tool: "AskUserQuestion".into(), asks: Some("an answer to its question".into()) };
    check("PreToolUse", json!({"tool_name": "AskUserQuestion"}), &question);
    let plan = SessionEvent::ToolBegan { tool: "ExitPlanMode".into(), asks: Some("approval of its plan".into()) };
    check("PreToolUse", json!({"tool_name": "ExitPlanMode"}), &plan);
    for event in ["PostToolUse", "PostToolUseFailure", "PermissionDenied"] {
        check(event, bash(), &SessionEvent::ToolEnded("Bash".into()));
    }
    check("PostToolBatch", json!({"tool_calls": []}), &SessionEvent::ToolsEnded);
    check("PermissionRequest", bash(), &SessionEvent::PermissionRequested("Bash".into()));
    check("Elicitation", json!({}), &SessionEvent::InputRequested);
    check("ElicitationResult", json!({}), &SessionEvent::InputGiven);
    check("Stop", json!({"background_tasks": []}), &SessionEvent::TurnEnded { in_background: false });
    check(
        "Stop",
        json!({"background_tasks": [{"status": "completed"}]}),
        &SessionEvent::TurnEnded { in_background: false },
    );
    check(
        "Stop",
        json!({"background_tasks": [{"status": "running"}]}),
        &SessionEvent::TurnEnded { in_background: true },
    );
    check("StopFailure", json!({"error": "rate_limit"}), &SessionEvent::TurnFailed(TurnFailure::RateLimit));
    check("StopFailure", json!({"error": "overloaded"}), &SessionEvent::TurnFailed(TurnFailure::Overload));
    for (error, reason) in [
        ("billing_error", "billing error"),
        ("server_error", "provider server error"),
        ("brand_new", "brand new"),
        ("what the user said", "unknown error"),
    ] {
        check("StopFailure", json!({"error": error}), &SessionEvent::TurnFailed(TurnFailure::Error(reason.into())));
    }
    check("SubagentStart", json!({"agent_id": "x"}), &SessionEvent::SubagentBegan);
    check("SubagentStop", json!({"agent_id": "x"}), &SessionEvent::SubagentEnded);
    check("PreCompact", json!({"trigger": "auto"}), &SessionEvent::CompactionBegan);
    check("PostCompact", json!({"trigger": "auto"}), &SessionEvent::CompactionEnded);
    for (kind, step) in [
        ("permission_prompt", SessionEvent::PermissionStillPending),
        ("idle_prompt", SessionEvent::StillIdle),
        ("elicitation_dialog", SessionEvent::InputRequested),
        ("elicitation_response", SessionEvent::InputGiven),
        ("elicitation_url_dialog", SessionEvent::InputRequested),
        ("agent_needs_input", SessionEvent::Alive),
        ("auth_success", SessionEvent::Alive),
    ] {
        check("Notification", json!({"notification_type": kind}), &step);
    }
    // Events without a meaning for the status show that the agent is alive.
    for event in [
        "BrandNew",
        "UserPromptExpansion",
        "PreModelSwitch",
        "PostModelSwitch",
        "Setup",
        "TeammateIdle",
        "TaskCreated",
        "TaskCompleted",
        "ConfigChange",
        "WorktreeCreate",
        "WorktreeRemove",
        "InstructionsLoaded",
        "CwdChanged",
        "FileChanged",
        "DirectoryAdded",
        "MessageDisplay",
        "PreSkillShellCommand",
    ] {
        check(event, json!({}), &SessionEvent::Alive);
    }
}

#[test]
fn responses_stop_an_agent_where_claude_code_obeys_them() {
    let moment = |event: &str, fields: Json| read(&body(event, &fields)).unwrap().moment;
    let notified = json!({"prompt": "<task-notification>\n<task-id>a</task-id>"});
    for (event, fields, expected) in [
        ("UserPromptSubmit", json!({"prompt": "what is a <task-notification>?"}), Some(BlockingHook::Prompted)),
        ("UserPromptSubmit", json!({}), Some(BlockingHook::Prompted)),
        ("UserPromptSubmit", notified, Some(BlockingHook::Resumed)),
        ("UserPromptSubmit", json!({"agent_id": "x", "prompt": "go on"}), Some(BlockingHook::Resumed)),
        ("PreToolUse", json!({"agent_id": "x"}), Some(BlockingHook::BeforeTool)),
        ("PostToolUse", json!({}), Some(BlockingHook::AfterTool)),
        ("PostToolBatch", json!({}), Some(BlockingHook::AfterTool)),
        ("PostToolUseFailure", json!({}), None),
        ("PermissionRequest", json!({}), None),
        ("Stop", json!({}), None),
        ("SessionEnd", json!({}), None),
        ("BrandNew", json!({}), None),
    ] {
        assert_eq!(moment(event, fields), expected, "{event}");
    }
    let answer = |moment: BlockingHook| {
        serde_json::from_str::<Json>(&(TOOL.stop)(moment, "a \"b\" used 2 of its 1 tokens")).unwrap()
    };
    let why = "stopped by lookout: a \"b\" used 2 of its 1 tokens";
    for moment in [BlockingHook::Prompted, BlockingHook::Resumed, BlockingHook::AfterTool] {
        assert_eq!(answer(moment), json!({"continue": false, "stopReason": why}));
    }
    let denied = json!({"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": why});
    let expected = json!({"continue": false, "stopReason": why, "hookSpecificOutput": denied});
    assert_eq!(answer(BlockingHook::BeforeTool), expected);
}

#[test]
fn fields_of_another_type_count_as_absent() {
    check("PermissionRequest", json!({"tool_name": ["Bash"]}), &SessionEvent::PermissionRequested("a tool".into()));
    check("PermissionRequest", json!({"tool_name": "rm -rf /"}), &SessionEvent::PermissionRequested("a tool".into()));
    check("Stop", json!({"background_tasks": {"a": 1}}), &SessionEvent::TurnEnded { in_background: false });
    assert_eq!(read(&body("Stop", &json!({"agent_id": 7}))).unwrap().subagent, None);
}

#[test]
fn session_hashes_are_stable_across_restarts() {
    let session = |id: &str| read(&body("Stop", &json!({"session_id": id}))).unwrap().session;
    assert_ne!(session("a"), session("b"));
    assert_eq!(session("59285d37-8029-4d05-936d-7005fe197e0d"), 12_295_892_916_498_122_108);
}

#[test]
fn errors_give_a_position_and_quote_nothing() {
    let secret = "sk-ant-api03-secret";
    for body in [
        format!("\"{secret}\""),
        format!("{{\"prompt\": \"{secret}\", \"{secret}\": {secret}}}"),
        format!("{{\"hook_event_name\": [\"{secret}\"]}}"),
        format!("[\"{secret}\"]"),
        format!("{{\"hook_event_name\": \"Stop\"}} {secret}"),
        format!("{{\"hook_event_name\": \"Stop\", \"hook_event_name\": \"{secret}\"}}"),
        String::new(),
    ] {
        let error = read(&body).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = TOOL.decode(b"{\"a\": \xff}", NOON).unwrap_err();
    assert_eq!(error, HookError::NotAnObject { line: 1, column: 7 });
    assert_eq!(read("7").unwrap_err(), HookError::NotAnObject { line: 1, column: 1 });
    assert_eq!(read("{}").unwrap_err(), HookError::NoEvent);
}

proptest! {
    #[test]
    fn any_body_is_survived(text in ".{0,200}", name in "[A-Za-z]{0,20}", value in ".{0,40}", number in any::<f64>()) {
        drop(read(&text));
        for event in ["SessionStart", "PreToolUse", "PermissionRequest", "Stop", "StopFailure", "Notification", &name] {
            let fields = json!({"session_id": number, "cwd": &value, "tool_name": &value, "agent_id": null,
                "background_tasks": {"a": number}, "error": &value, "notification_type": &value});
            if let Ok(event) = TOOL.decode(body(event, &fields).as_bytes(), NOON) {
                let hook = event.into_hook(&TOOL, ("shop".into(), "a".into()), None);
                let written = serde_json::to_string(&hook).expect("it is written");
                prop_assert_eq!(serde_json::from_str::<Hook>(&written).expect("it is read"), hook);
            }
        }
    }
}
