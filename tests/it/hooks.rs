//! Claude Code's hooks, posted to the real program: status, reasons, privacy, restarts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::program::{Lookout, Setup, eventually, within};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("hooks: each event becomes a status within 100 ms", &[], statuses),
        trial("hooks: any body is answered, and what can't be read is counted", &[], malformed),
        trial("hooks: nothing that was said is kept anywhere", &[], privacy),
        trial("hooks: status is known after a restart", &[], restart),
    ]
}

const ROUTE: &str = "/hooks/claude-code?agent=worker&project=shop";

fn hook(lookout: &Lookout, event: &str, fields: Value) {
    let mut body = json!({"session_id": "5e551011", "hook_event_name": event, "cwd": "/srv/me/x"});
    body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    let answer = lookout.post(ROUTE, &body);
    assert_eq!((answer.status, answer.text().as_ref()), (204, ""), "{event}");
}

fn agent(lookout: &Lookout) -> Option<(String, Value)> {
    let status = lookout.get("/api/status").json();
    let project = status["projects"].as_array()?.iter().find(|project| project["name"] == "shop")?.clone();
    let agent = project["agents"].as_array()?.iter().find(|agent| agent["name"] == "worker")?.clone();
    Some((agent["status"].as_str()?.to_owned(), agent["reason"].clone()))
}

fn statuses() {
    let lookout = Setup::new("").start();
    let bash = json!({"tool_name": "Bash"});
    for (event, fields, status, reason) in [
        ("SessionStart", json!({}), "idle", Value::Null),
        ("UserPromptSubmit", json!({}), "running", Value::Null),
        ("PermissionRequest", bash.clone(), "waiting_question", json!("permission to run Bash")),
        ("PostToolUse", bash, "running", Value::Null),
        ("StopFailure", json!({"error": "rate_limit"}), "failed", json!("rate limit")),
        ("UserPromptSubmit", json!({}), "running", Value::Null),
        ("Stop", json!({"background_tasks": []}), "idle", Value::Null),
        ("SessionEnd", json!({"reason": "other"}), "completed", Value::Null),
    ] {
        hook(&lookout, event, fields);
        let expected = Some((status.to_owned(), reason));
        within(Duration::from_millis(100), event, || (agent(&lookout) == expected).then_some(()));
    }
}

fn malformed() {
    let lookout = Setup::new("").start();
    let json = [("content-type", "application/json")];
    for body in [&b"{"[..], b"\xff", b"[]", b"{\"hook_event_name\": 7}", b""] {
        let answer = lookout.send("POST", ROUTE, &json, body);
        assert_eq!((answer.status, answer.text().as_ref()), (204, ""));
    }
    let counted = "lookout_rejected_total{signal=\"hooks\",reason=\"malformed\"} 4";
    eventually("counted", || lookout.get("/metrics").text().contains(counted).then_some(()));
    assert_eq!(lookout.send("POST", ROUTE, &[("content-type", "text/plain")], b"{}").status, 415);
    assert_eq!(lookout.get(ROUTE).status, 405);
}

fn privacy() {
    let setup = Setup::new("store: {path: state.db}\n");
    let lookout = setup.start();
    let secret = "sk-ant-api03-Zx81hooksecret";
    for event in ["UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "StopFailure", "Notification"] {
        let fields = json!({"prompt": secret, "tool_name": "Bash", "tool_input": {"command": secret},
            "tool_response": secret, "error_details": secret, "message": secret, "transcript_path": secret,
            "last_assistant_message": secret, "error": "server_error", "notification_type": "permission_prompt"});
        hook(&lookout, event, fields);
    }
    let expected = Some(("waiting_question".to_owned(), json!("permission")));
    eventually("all are taken", || (agent(&lookout) == expected).then_some(()));
    for path in ["/metrics", "/api/status", "/api/alerts", "/api/metrics"] {
        let page = lookout.get(path).text().to_string();
        assert!(!page.contains("hooksecret") && !page.contains("5e551011"), "{path}: {page}");
    }
    let log = lookout.log();
    lookout.sigterm();
    assert!(!log.contains("hooksecret") && !log.contains("5e551011"), "{log}");
    let mut files = 0;
    for entry in std::fs::read_dir(setup.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for word in [&b"hooksecret"[..], b"5e551011"] {
            assert!(!bytes.windows(word.len()).any(|part| part == word), "{}", path.display());
        }
        files += usize::from(bytes.windows(6).any(|part| part == b"worker"));
    }
    assert!(files > 0, "the agent itself is in the database");
}

fn restart() {
    let setup = Setup::new("store: {path: state.db}\n");
    let lookout = setup.start();
    hook(&lookout, "PermissionRequest", json!({"tool_name": "Bash"}));
    let waits = Some(("waiting_question".to_owned(), json!("permission to run Bash")));
    eventually("waits", || (agent(&lookout) == waits).then_some(()));
    lookout.sigterm();
    let lookout = setup.start();
    assert_eq!(agent(&lookout), waits);
    hook(&lookout, "PostToolUse", json!({"tool_name": "Bash"}));
    eventually("runs", || (agent(&lookout)?.0 == "running").then_some(()));
    drop(lookout);
}
