//! Hooks of Claude Code, recorded and real: status, alerts, privacy, restarts.

mod budgets;
pub(crate) mod claude_code;

use serde_json::{Value, json};

use crate::doubles::slack::Slack;
use crate::durability::{number, wait_until_saved};
use crate::program::{Lookout, Setup, eventually};
use crate::slack::receiver;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    let mut trials = vec![
        trial("hooks: a read after the response sees the hook", &[], recordings),
        trial("hooks: two sessions of one agent add up", &[], two_sessions),
        trial("hooks: the end of a subagent is not its parent's", &[], subagents),
        trial("hooks: a rate-limited agent has an alert of its own and is not down", &[], rate_limit),
        trial("hooks: malformed hooks get a response and are counted", &[], malformed),
        trial("hooks: posting needs the role ingest", &[], access),
        trial("hooks: no prompt, argument or output is stored", &[], privacy),
        trial("hooks: sessions survive a kill", &[], killed),
        trial("hooks: recorded hooks are replayed", &[], replayed),
    ];
    trials.extend(budgets::trials());
    trials.extend(claude_code::trials());
    trials
}

const ROUTE: &str = "/hooks/claude-code?agent=worker&project=shop";

/// Posts an event of `session`; the response is empty.
fn hook(lookout: &Lookout, session: &str, event: &str, fields: Value) {
    let mut body = json!({"session_id": session, "hook_event_name": event, "cwd": "/srv/me/x"});
    body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    let answer = lookout.post(ROUTE, &body);
    assert_eq!((answer.status, answer.text()), (204, ""), "{event}");
}

fn bash() -> Value {
    json!({"tool_name": "Bash"})
}

/// An agent in `/api/status`.
fn agent(lookout: &Lookout, project: &str, name: &str) -> Value {
    let status = lookout.get("/api/status").json();
    let find = |list: &Value, name: &str| {
        list.as_array().into_iter().flatten().find(|it| it["name"] == name).cloned().unwrap_or_default()
    };
    find(&find(&status["projects"], project)["agents"], name)
}

/// Its status and the reason.
fn shown(agent: &Value) -> String {
    match (agent["status"].as_str(), agent["reason"].as_str()) {
        (None, _) => String::new(),
        (Some(status), None) => status.to_owned(),
        (Some(status), Some(reason)) => format!("{status}: {reason}"),
    }
}

fn worker(lookout: &Lookout) -> String {
    shown(&agent(lookout, "shop", "worker"))
}

/// The firing alerts of the worker, as rules and levels.
fn alerts(lookout: &Lookout) -> Vec<String> {
    let alerts = lookout.get("/api/alerts?state=firing&agent=worker").json();
    let mut alerts: Vec<String> = alerts["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| format!("{} {}", alert["rule"].as_str().unwrap(), alert["level"].as_str().unwrap()))
        .collect();
    alerts.sort();
    alerts
}

fn recordings() {
    let lookout = Setup::new("").start();
    let allowed = "waiting_question: permission to run Bash";
    for (name, expected) in [
        ("tool", &["running", "idle", "completed"][..]),
        ("tool-fails", &["running", "idle", "completed"]),
        ("subagent", &["running", "idle", "completed"]),
        ("question", &["running", "waiting_question: an answer to its question", "running", "idle"]),
        ("refused-tool", &["running", allowed, "completed"]),
        ("background-task", &["running", "running: a background task is running", "running", "idle", "completed"]),
        ("rate-limit", &["running", "waiting_dependency: rate-limited", "failed: rate-limited"]),
        ("refused-key", &["running", "failed: authentication failed"]),
        ("ended-at-work", &["running", "failed: session ended during a task"]),
        (
            "terminal",
            &[
                "running",
                allowed,
                "running",
                "idle",
                "running",
                "idle",
                "running",
                "waiting_dependency: rate-limited",
                "running",
                "idle",
                "running: compacting its context",
                "idle",
                "completed",
            ],
        ),
    ] {
        let mut found: Vec<String> = Vec::new();
        let path = format!("/hooks/claude-code?project={name}");
        for body in bodies(name) {
            let answer = lookout.send("POST", &path, &[("content-type", "application/json")], body.as_bytes());
            assert_eq!((answer.status, answer.text()), (204, ""));
            let page = lookout.get("/metrics").text().to_owned();
            let now = agent(&lookout, name, "shop");
            let status = now["status"].as_str().unwrap();
            let series =
                format!("orchestrator_agent_status{{project=\"{name}\",agent_name=\"shop\",status=\"{status}\"}} 1");
            assert!(page.lines().any(|line| line == series), "{name}: {series} after {body}");
            if found.last() != Some(&shown(&now)) {
                found.push(shown(&now));
            }
        }
        assert_eq!(found, expected, "{name}");
    }
}

/// The bodies of a recording.
fn bodies(name: &str) -> Vec<String> {
    let files = tidy::files("tests/it/samples/hooks");
    let file = files.iter().find(|file| file.file_stem().is_some_and(|stem| stem == name));
    let text = std::fs::read_to_string(file.unwrap_or_else(|| panic!("no recording {name}"))).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn two_sessions() {
    let lookout = Setup::new("").start();
    hook(&lookout, "5e551011", "UserPromptSubmit", json!({}));
    hook(&lookout, "5e551022", "UserPromptSubmit", json!({}));
    hook(&lookout, "5e551022", "PermissionRequest", bash());
    hook(&lookout, "5e551011", "PreToolUse", json!({"tool_name": "Read"}));
    assert_eq!(worker(&lookout), "waiting_question: permission to run Bash");
    hook(&lookout, "5e551022", "PostToolUse", bash());
    hook(&lookout, "5e551022", "Stop", json!({}));
    let now = agent(&lookout, "shop", "worker");
    assert_eq!((shown(&now), &now["task_id"]), ("running".to_owned(), &json!("worker#1")));
    hook(&lookout, "5e551011", "Stop", json!({}));
    assert_eq!(worker(&lookout), "idle");
    let page = lookout.get("/metrics").text().to_owned();
    let ended = "orchestrator_agent_tasks_total{project=\"shop\",agent_name=\"worker\",outcome=\"completed\"} 2";
    assert!(page.lines().any(|line| line == ended), "{page}");
    assert_eq!(page.matches("orchestrator_agent_up{").count(), 1);
    assert!(!page.contains("5e5510"), "no id of a session is a label");
}

fn subagents() {
    let lookout = Setup::new("").start();
    hook(&lookout, "s", "UserPromptSubmit", json!({}));
    hook(&lookout, "s", "PreToolUse", json!({"tool_name": "Task"}));
    for (id, event, fields) in [
        ("1", "Stop", json!({})),
        ("2", "StopFailure", json!({"error": "server_error"})),
        ("3", "SessionEnd", json!({"reason": "other"})),
        ("4", "UserPromptSubmit", json!({})),
    ] {
        let by = |mut fields: Value| {
            fields["agent_id"] = json!(id);
            fields
        };
        hook(&lookout, "s", "SubagentStart", by(json!({})));
        hook(&lookout, "s", event, by(fields));
        hook(&lookout, "s", "SubagentStop", by(json!({})));
        let now = agent(&lookout, "shop", "worker");
        assert_eq!((shown(&now), &now["task_id"]), ("running".to_owned(), &json!("worker#1")), "{event}");
    }
    assert_eq!(alerts(&lookout), Vec::<String>::new());
    hook(&lookout, "s", "PermissionRequest", bash());
    // The session is killed while it waits, and another one starts.
    for event in ["UserPromptSubmit", "PreToolUse", "Stop"] {
        hook(&lookout, "t", event, bash());
    }
    assert_eq!(worker(&lookout), "idle");
}

fn rate_limit() {
    let lookout = Setup::new("").start();
    hook(&lookout, "s", "UserPromptSubmit", json!({}));
    hook(&lookout, "s", "StopFailure", json!({"error": "rate_limit"}));
    assert_eq!(worker(&lookout), "waiting_dependency: rate-limited");
    assert_eq!(alerts(&lookout), ["RateLimited warning"]);
    let page = lookout.get("/metrics").text().to_owned();
    for line in [
        "orchestrator_agent_up{project=\"shop\",agent_name=\"worker\"} 1",
        "orchestrator_agent_rate_limit_hits_total{project=\"shop\",agent_name=\"worker\"} 1",
        "orchestrator_agent_tasks_total{project=\"shop\",agent_name=\"worker\",outcome=\"failed\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    hook(&lookout, "s", "UserPromptSubmit", json!({}));
    hook(&lookout, "s", "StopFailure", json!({"error": "billing_error"}));
    assert_eq!(worker(&lookout), "failed: billing error");
    assert_eq!(alerts(&lookout), ["AgentDown error", "RateLimited warning"]);
}

fn malformed() {
    let lookout = Setup::new("limits: {body: 4096}\n").env("LOOKOUT_LOG__LEVEL", "debug").start();
    let json = [("content-type", "application/json")];
    let large = vec![b' '; 4097];
    for body in [&b"{"[..], b"\xff", b"\"hooksecret\"", b"{\"hook_event_name\": [\"hooksecret\"]}", b"", &large] {
        let answer = lookout.send("POST", ROUTE, &json, body);
        assert_eq!((answer.status, answer.text()), (204, ""));
    }
    let page = lookout.get("/metrics").text().to_owned();
    for (reason, count) in [("malformed", 5), ("too_large", 1), ("busy", 0)] {
        let line = format!("lookout_rejected_total{{signal=\"hooks\",reason=\"{reason}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    let log = lookout.wait_for_log(&["rejected malformed hook"]);
    assert!(!log.contains("hooksecret"), "{log}");
    assert_eq!(lookout.send("POST", ROUTE, &[("content-type", "text/plain")], b"{}").status, 415);
    assert_eq!(lookout.get(ROUTE).status, 405);
}

fn access() {
    let tokens = "auth: {tokens: [{name: reader, role: read, token: reads-only}, {name: agents, role: ingest, token: may-post-here}]}\n";
    let lookout = Setup::new(tokens).start();
    let post = |token: Option<&str>, origin: Option<&str>| {
        let token = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json"), ("x-lookout-agent", "by header")];
        headers.extend(token.as_deref().map(|token| ("authorization", token)));
        headers.extend(origin.map(|origin| ("origin", origin)));
        lookout.send("POST", "/hooks/claude-code", &headers, br#"{"hook_event_name": "UserPromptSubmit"}"#).status
    };
    assert_eq!([post(None, None), post(Some("reads-only"), None), post(Some("wrong"), None)], [401, 403, 401]);
    assert_eq!(post(Some("may-post-here"), Some("http://evil.example")), 403);
    assert_eq!(post(Some("may-post-here"), None), 204);
    let page = http_get(&lookout, "reads-only");
    assert!(page.contains("orchestrator_agent_up{project=\"default\",agent_name=\"by header\"} 1"), "{page}");
}

fn http_get(lookout: &Lookout, token: &str) -> String {
    let token = format!("Bearer {token}");
    lookout.send("GET", "/metrics", &[("authorization", &token)], b"").text().to_owned()
}

fn privacy() {
    let setup =
        Setup::new("store: {path: state.db}\nrecord: {path: state.record}\n").env("LOOKOUT_LOG__LEVEL", "trace");
    let lookout = setup.start();
    let secret = "sk-ant-api03-Zx81hooksecret";
    for event in ["UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse", "StopFailure", "Notification"] {
        let fields = json!({"prompt": secret, "tool_name": "Bash", "tool_input": {"command": secret},
            "tool_response": secret, "error_details": secret, "message": secret, "transcript_path": secret,
            "cwd": format!("/srv/hooksecret/{secret}"), "last_assistant_message": secret, "compact_summary": secret,
            "prompt_id": secret, "tool_use_id": secret, "error": format!("about {secret}"), "agent_type": secret,
            "notification_type": "permission_prompt"});
        hook(&lookout, "5e551011", event, fields);
    }
    assert_eq!(worker(&lookout), "waiting_question: permission");
    hook(&lookout, "5e551011", "PermissionRequest", json!({"tool_name": format!("run {secret}")}));
    for path in ["/metrics", "/api/status", "/api/alerts", "/api/metrics"] {
        let page = lookout.get(path).text().to_owned();
        assert!(!page.contains("hooksecret") && !page.contains("5e551011"), "{path}: {page}");
    }
    let log = lookout.log();
    lookout.sigterm();
    assert!(!log.contains("hooksecret") && !log.contains("5e551011"), "{log}");
    let mut files = 0;
    for entry in std::fs::read_dir(setup.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
        assert!(!holds(b"hooksecret") && !holds(b"5e551011"), "{}", path.display());
        files += usize::from(holds(b"worker"));
    }
    assert!(files >= 2, "the agent is in the database and in the recording");
}

fn killed() {
    let setup = Setup::new("");
    let lookout = setup.start();
    hook(&lookout, "a", "UserPromptSubmit", json!({}));
    hook(&lookout, "a", "PermissionRequest", bash());
    hook(&lookout, "b", "UserPromptSubmit", json!({}));
    let before = agent(&lookout, "shop", "worker");
    wait_until_saved(&setup, 1);
    let history = setup.path().join("lookout.history.db");
    eventually("both sessions on disk", || {
        let saved = "SELECT count(*) FROM agents WHERE body LIKE '%\"prompts\":2%'";
        (number(&history, saved) == Some(1)).then_some(())
    });
    lookout.kill9();
    let lookout = setup.start();
    let after = agent(&lookout, "shop", "worker");
    let kept = |agent: &Value| ["status", "reason", "task_id", "up", "expected", "type"].map(|key| agent[key].clone());
    assert_eq!(kept(&after), kept(&before));
    assert_eq!(shown(&after), "waiting_question: permission to run Bash");
    hook(&lookout, "a", "PostToolUse", bash());
    assert_eq!(worker(&lookout), "running");
    hook(&lookout, "a", "Stop", json!({}));
    assert_eq!(worker(&lookout), "running", "the other session was restored");
    hook(&lookout, "b", "Stop", json!({}));
    assert_eq!(worker(&lookout), "idle");
}

fn replayed() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("record: {{path: state.record}}\nreceivers:\n{}", receiver("ops", &slack)));
    let lookout = setup.start();
    hook(&lookout, "s", "UserPromptSubmit", json!({}));
    hook(&lookout, "s", "StopFailure", json!({"error": "rate_limit"}));
    hook(&lookout, "s", "SessionEnd", json!({"reason": "other"}));
    assert_eq!(alerts(&lookout), ["RateLimited warning"], "a run that a limit ended is not down");
    hook(&lookout, "t", "UserPromptSubmit", json!({}));
    hook(&lookout, "t", "StopFailure", json!({"error": "billing_error"}));
    assert_eq!(alerts(&lookout), ["AgentDown error", "RateLimited warning"]);
    lookout.sigterm();
    setup.write("rules.yaml", "rules: []\n");
    let arguments = ["replay", "state.record", "--config", "lookout.yaml", "--rules", "rules.yaml", "--json"];
    let output = setup.command(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Each of the five hooks, and with some of them runs that began or ended.
    assert!(answer["arrivals"].as_u64().is_some_and(|arrivals| arrivals >= 5), "{answer}");
    let notices = answer["notices"].as_array().unwrap();
    let is_notified = |rule: &str| notices.iter().any(|it| it["rule"] == rule && it["agent_name"] == "worker");
    assert!(is_notified("RateLimited") && is_notified("AgentDown"), "{answer}");
}
