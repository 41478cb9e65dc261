//! Budget enforcement: an agent over a budget with `action: stop` gets a stop order in the response to its next hook, and no
//! other agent does.

use serde_json::{Value, json};

use super::{agent, hook, shown};
use crate::doubles::slack::Slack;
use crate::durability::number;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{metric, receiver};
use crate::{Case, trial};

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("hooks: a budget stops its agent, notifies once, and a higher limit ends the stop", &[], used_up),
        trial("hooks: an agent over its daily budget accepts no prompt, also in a replay", &[], no_prompt),
    ]
}

/// Posts an event of this agent; returns status and text of the response.
fn post(lookout: &Lookout, agent: &str, event: &str) -> (u16, String) {
    let route = format!("/hooks/claude-code?agent={agent}&project=shop");
    let answer = lookout.post(&route, &json!({"session_id": "s", "hook_event_name": event, "tool_name": "Bash"}));
    (answer.status, answer.text().to_owned())
}

fn goes_on(lookout: &Lookout, agent: &str, event: &str) {
    assert_eq!(post(lookout, agent, event), (204, String::new()), "{agent} {event}");
}

/// Posts an event whose response must be a stop order; returns its reason.
fn stopped(lookout: &Lookout, agent: &str, event: &str) -> String {
    let (status, text) = post(lookout, agent, event);
    assert_eq!(status, 200, "{agent} {event}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["continue"], false, "{text}");
    let denied = &answer["hookSpecificOutput"]["permissionDecision"];
    assert_eq!(*denied == "deny", event == "PreToolUse", "{text}");
    answer["stopReason"].as_str().expect("a reason").to_owned()
}

/// Reports usage of the agent, which is applied when this returns.
pub(super) fn uses(lookout: &Lookout, project: &str, agent: &str, tokens: u64) {
    let usage = json!({"project": project, "usage": [{"agent": agent, "input": tokens}]});
    let answer = lookout.post("/api/usage", &usage);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn stops(lookout: &Lookout, budget: &str) -> Option<f64> {
    metric(lookout, &format!("lookout_stops_total{{budget=\"{budget}\"}}"))
}

fn used_up() {
    let slack = Slack::start();
    let config = |limit: u32| {
        let budget = format!("budgets: {{tokens_per_task: {{limit: {limit}, action: stop}}}}\n");
        format!(
            "listen: 127.0.0.1:0\nlog: {{format: json, level: info}}\nrules: [quiet.yaml]\n{budget}receivers:\n{}",
            receiver("ops", &slack)
        )
    };
    let setup = Setup::new("");
    setup.write("quiet.yaml", "rules: [{name: TaskTokenBudget, enabled: false}]\n");
    setup.write("lookout.yaml", &config(200_000));
    let lookout = setup.start();
    for agent in ["worker-3", "other"] {
        goes_on(&lookout, agent, "UserPromptSubmit");
        goes_on(&lookout, agent, "PreToolUse");
    }
    assert_eq!(stops(&lookout, "tokens_per_task"), Some(0.0));
    uses(&lookout, "shop", "worker-3", 212_000);
    let why = "used 212000 of its 200000 tokens for this task (budgets.tokens_per_task)";
    assert_eq!(stopped(&lookout, "worker-3", "PreToolUse"), format!("stopped by lookout: worker-3 {why}"));
    let stands = "paused: stopped by lookout: over its budget of tokens for this task";
    assert_eq!(shown(&agent(&lookout, "shop", "worker-3")), stands);
    stopped(&lookout, "worker-3", "PostToolUse");
    // Other agents are not affected.
    goes_on(&lookout, "other", "PreToolUse");
    for event in ["Notification", "PostToolUseFailure", "Stop", "BrandNew"] {
        goes_on(&lookout, "worker-3", event);
    }
    let json = [("content-type", "application/json")];
    assert_eq!(lookout.send("POST", "/hooks/claude-code?agent=worker-3&project=shop", &json, b"{").status, 204);
    assert_eq!(metric(&lookout, "lookout_rejected_total{signal=\"hooks\",reason=\"malformed\"}"), Some(1.0));
    assert_eq!(stops(&lookout, "tokens_per_task"), Some(2.0));
    let message = format!("shop/worker-3: stop order sent, {why}");
    assert!(slack.wait(1)[0].text().contains(&message), "{:?}", slack.delivered());
    let history = setup.path().join("lookout.history.db");
    eventually("the stop order on disk", || {
        let saved = "SELECT count(*) FROM agents WHERE body LIKE '%\"stops\":[%'";
        (number(&history, saved) == Some(1)).then_some(())
    });
    lookout.kill9();

    let lookout = setup.start();
    assert_eq!(shown(&agent(&lookout, "shop", "worker-3")), stands);
    stopped(&lookout, "worker-3", "PreToolUse");
    setup.write("lookout.yaml", &config(300_000));
    assert_eq!(lookout.send("POST", "/-/reload", &[], b"").status, 200);
    goes_on(&lookout, "worker-3", "PreToolUse");
    assert_eq!(shown(&agent(&lookout, "shop", "worker-3")), "running");
    setup.write("lookout.yaml", &config(200_000));
    assert_eq!(lookout.send("POST", "/-/reload", &[], b"").status, 200);
    stopped(&lookout, "worker-3", "PreToolUse");
    // Another prompt is another task.
    goes_on(&lookout, "worker-3", "UserPromptSubmit");
    goes_on(&lookout, "worker-3", "PreToolUse");
    assert!(lookout.sigterm().success());
    assert_eq!(slack.taken().len(), 1, "notified once: {:?}", slack.delivered());
}

fn no_prompt() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("record: {{path: state.record}}\nreceivers:\n{}", receiver("ops", &slack)))
        .env("LOOKOUT_BUDGETS__TOKENS_PER_DAY__LIMIT", "1000")
        .env("LOOKOUT_BUDGETS__TOKENS_PER_DAY__ACTION", "stop");
    let lookout = setup.start();
    // Budgets are enforced while monitoring is paused: the pause is about alerts.
    assert_eq!(lookout.send("POST", "/api/monitoring/stop", &[], b"").status, 200);
    uses(&lookout, "shop", "worker", 1_000);
    let why = stopped(&lookout, "worker", "UserPromptSubmit");
    assert_eq!(why, "stopped by lookout: worker used 1000 of its 1000 tokens for today (budgets.tokens_per_day)");
    let now = agent(&lookout, "shop", "worker");
    assert_eq!(shown(&now), "paused: stopped by lookout: over its budget of tokens for today");
    assert_eq!(now["task_id"], Value::Null);
    slack.wait_for("the stop", |seen| seen.iter().any(|one| one.text().contains("shop/worker: stop order sent")));
    hook(&lookout, "s", "SessionEnd", json!({"reason": "other"}));
    let ended = agent(&lookout, "shop", "worker");
    assert_eq!(shown(&ended), "completed: stopped by lookout: over its budget of tokens for today");
    assert_eq!((&ended["up"], &ended["down"]), (&json!(false), &json!(false)));
    lookout.sigterm();
    let arguments = ["replay", "state.record", "--config", "lookout.yaml", "--rules", "rules.yaml", "--json"];
    setup.write("rules.yaml", "rules: []\n");
    let output = setup.command(&arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let notices = answer["notices"].as_array().unwrap();
    let is_stop =
        |notice: &&Value| notice["message"].as_str().is_some_and(|text| text.contains("stop order sent, used"));
    assert_eq!(notices.iter().filter(is_stop).count(), 1, "{answer}");
}
