//! Histories of hooks, and the status after each.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const S: fn(u64) -> Time = |seconds| Time::from_millis(1_000_000_000).plus(Duration::from_secs(seconds));

/// One agent's hooks: session, event, other fields, and what it does then.
fn check(history: &[(&str, &str, Value, &str)]) {
    let mut hooks = ClaudeCode::default();
    let target = Target::new([Some("worker")], [Some("shop")]);
    for (at, (session, event, fields, expected)) in history.iter().enumerate() {
        let mut body = json!({"session_id": session, "hook_event_name": event, "cwd": "/srv/me/x", "new": [1]});
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let batch = hooks.take(S(at as u64), &target, &body.to_string()).unwrap();
        assert_eq!(shown(batch.as_ref()), *expected, "after {at}: {session} {event} {fields}");
    }
}

fn shown(batch: Option<&Batch<'_>>) -> String {
    let Some(batch) = batch else { return String::new() };
    let agent = &batch.agents[0];
    assert_eq!((&*batch.project, &*agent.name), ("shop", "worker"));
    let status = agent.status.unwrap().as_str();
    match &agent.reason {
        Patch::Set(reason) => format!("{status}: {reason}"),
        _ => status.to_owned(),
    }
}

#[test]
fn every_event_has_its_status() {
    let bash = || json!({"tool_name": "Bash", "tool_input": {"command": "cat secret"}});
    check(&[
        ("a", "SessionStart", json!({"source": "startup"}), "idle"),
        ("a", "UserPromptSubmit", json!({"prompt": "hi"}), "running"),
        ("a", "PreToolUse", bash(), "running"),
        ("a", "PermissionRequest", bash(), "waiting_question: permission to run Bash"),
        (
            "a",
            "Notification",
            json!({"notification_type": "permission_prompt"}),
            "waiting_question: permission to run Bash",
        ),
        ("a", "PostToolUse", json!({"tool_name": "Read"}), "waiting_question: permission to run Bash"),
        ("a", "PostToolUse", bash(), "running"),
        ("a", "PreCompact", json!({"trigger": "auto"}), "running: compacting its context"),
        ("a", "SessionStart", json!({"source": "compact"}), "running"),
        ("a", "PreToolUse", json!({"tool_name": "AskUserQuestion"}), "waiting_question: an answer to its question"),
        (
            "a",
            "PermissionRequest",
            json!({"tool_name": "AskUserQuestion"}),
            "waiting_question: an answer to its question",
        ),
        ("a", "PreToolUse", json!({"tool_name": "ExitPlanMode"}), "waiting_question: approval of its plan"),
        ("a", "PostToolUse", json!({"tool_name": "ExitPlanMode"}), "running"),
        ("a", "Stop", json!({"background_tasks": [{"status": "running"}]}), "running: a background task runs"),
        ("a", "Stop", json!({"background_tasks": [{"status": "completed"}]}), "idle"),
        ("a", "PreCompact", json!({"trigger": "manual"}), "running: compacting its context"),
        ("a", "SessionStart", json!({"source": "compact"}), "idle"),
        ("a", "Notification", json!({"notification_type": "agent_needs_input"}), "waiting_question: input"),
        ("a", "Notification", json!({"notification_type": "idle_prompt"}), "idle"),
        ("a", "StopFailure", json!({"error": "rate_limit"}), "failed: rate limit"),
        ("a", "Notification", json!({"notification_type": "idle_prompt"}), "failed: rate limit"),
        ("a", "UserPromptSubmit", json!({}), "running"),
        ("a", "StopFailure", json!({"error": "brand_new"}), "failed: brand new"),
        ("a", "SomethingNew", json!({}), ""),
        ("a", "SessionEnd", json!({"reason": "other"}), "failed: brand new"),
        ("a", "SessionStart", json!({}), "idle"),
        ("a", "SessionEnd", json!({"reason": "prompt_input_exit"}), "completed"),
    ]);
}

#[test]
fn subagents_keep_their_session_at_work() {
    check(&[
        ("a", "UserPromptSubmit", json!({}), "running"),
        ("a", "SubagentStart", json!({"agent_id": "s1"}), "running"),
        ("a", "Stop", json!({}), "running: a subagent works"),
        (
            "a",
            "PermissionRequest",
            json!({"agent_id": "s1", "tool_name": "Bash"}),
            "waiting_question: permission to run Bash",
        ),
        ("a", "PostToolUse", json!({"tool_name": "Read"}), "waiting_question: permission to run Bash"),
        ("a", "SubagentStop", json!({"agent_id": "s1"}), "running"),
        ("a", "Stop", json!({}), "idle"),
    ]);
}

#[test]
fn sessions_add_up_and_never_fight() {
    check(&[
        ("a", "UserPromptSubmit", json!({}), "running"),
        ("b", "SessionStart", json!({}), "running"),
        ("b", "PermissionRequest", json!({"tool_name": "Edit"}), "waiting_question: permission to run Edit"),
        ("a", "PreToolUse", json!({"tool_name": "Bash"}), "waiting_question: permission to run Edit"),
        ("b", "StopFailure", json!({"error": "overloaded"}), "running"),
        ("a", "Stop", json!({}), "failed: the model is overloaded"),
        ("b", "SessionEnd", json!({"reason": "other"}), "idle"),
        ("a", "SessionEnd", json!({"reason": "clear"}), "idle"),
    ]);
}

#[test]
fn names_come_from_the_target_else_from_the_folder() {
    let take = |target: &Target, body: &str| {
        let batch = ClaudeCode::default().take(S(0), target, body);
        batch.map(|batch| batch.map(|batch| (batch.project.into_owned(), batch.agents[0].name.clone().into_owned())))
    };
    let body = r#"{"hook_event_name":"Stop","cwd":"/srv/me/shop/"}"#;
    let named = |project: &str, agent: &str| Some((project.to_owned(), agent.to_owned()));
    assert_eq!(take(&Target::default(), body).unwrap(), named("default", "shop"));
    let target = Target::new([Some("\u{7}"), Some("b")], [None, Some("p")]);
    assert_eq!(take(&target, body).unwrap(), named("p", "b"));
    assert!(take(&Target::default(), r#"{"hook_event_name":"Stop","cwd":"/"}"#).is_err());
    assert!(take(&target, "[").is_err() && take(&target, "7").is_err());
}

#[test]
fn sessions_are_bounded_and_expire() {
    let mut hooks = ClaudeCode::default();
    let target = Target::new([Some("w")], [None]);
    for session in 0..100 {
        let body = json!({"session_id": session.to_string(), "hook_event_name": "UserPromptSubmit"}).to_string();
        hooks.take(S(session), &target, &body).unwrap();
    }
    assert_eq!(hooks.agents.values().map(Vec::len).sum::<usize>(), MAX_SESSIONS);
    let body = r#"{"session_id":"late","hook_event_name":"Stop"}"#;
    let batch = hooks.take(S(100).plus(EXPIRY), &target, body).unwrap().unwrap();
    assert_eq!(batch.agents[0].status, Some(AgentStatus::Idle), "those that ran were ended without a word");
}

proptest! {
    #[test]
    fn any_body_is_survived(body in ".{0,200}", name in "[A-Za-z]{0,20}", value in ".{0,40}", number in any::<f64>()) {
        let mut hooks = ClaudeCode::default();
        let target = Target::default();
        drop(hooks.take(S(0), &target, &body));
        for event in ["SessionStart", "PreToolUse", "PermissionRequest", "Stop", "StopFailure", "Notification", "SessionEnd", &name] {
            let body = json!({"hook_event_name": event, "session_id": number, "cwd": &value, "tool_name": [&value],
                "background_tasks": {"a": number}, "error": &value, "agent_id": null, "notification_type": &value});
            if let Ok(Some(batch)) = hooks.take(S(1), &target, &body.to_string()) {
                prop_assert!(crate::model::text::is_name(&batch.agents[0].name, 256));
            }
        }
    }
}
