//! Telemetry across restarts of lookout: usage that was counted is not counted again, whichever signal arrives later.

use lookout::clock::Clock;
use serde_json::{Value, json};

use super::{Recording, recordings};
use crate::durability::wait_until_saved;
use crate::program::{Lookout, Setup, eventually};

/// Sends those recordings of one run whose name contains `part` to the main listener.
fn send(lookout: &Lookout, all: &[Recording], part: &str) {
    let run = all.iter().filter(|it| it.file.to_string_lossy().contains("claude-code/success-http-json"));
    for recording in run.filter(|it| it.file.to_string_lossy().contains(part)) {
        let path = format!("/v1/{}", recording.signal);
        let answer = lookout.send("POST", &path, &[("content-type", recording.encoding)], &recording.plain());
        assert_eq!(answer.status, 200, "{}", recording.file.display());
    }
}

/// Tokens by type, cost and requests of the agent.
fn totals(lookout: &Lookout) -> Vec<String> {
    let page = lookout.get("/metrics").text().to_owned();
    let families =
        ["orchestrator_agent_tokens_total", "orchestrator_agent_cost_usd_total", "orchestrator_agent_requests_total"];
    page.lines().filter(|line| families.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
}

pub(super) fn a_kill_between_signals() {
    let all = recordings();
    let setup = Setup::new("");
    let lookout = setup.start();
    send(&lookout, &all, "metrics");
    wait_until_saved(&setup, 1);
    let counted = totals(&lookout);
    assert!(counted.iter().any(|line| line.ends_with(" 20480")), "{counted:#?}");
    lookout.kill9();

    // Logs and spans report the same tokens, and a client without a response sends the metrics again.
    let lookout = setup.start();
    assert_eq!(totals(&lookout), counted);
    for part in ["logs", "traces", "metrics", "logs"] {
        send(&lookout, &all, part);
    }
    let requests = |lines: &[String]| {
        lines.iter().any(|line| line.starts_with("orchestrator_agent_requests") && line.ends_with(" 1"))
    };
    let after =
        eventually("the request, which metrics do not report", || Some(totals(&lookout)).filter(|it| requests(it)));
    let kept = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !line.starts_with("orchestrator_agent_requests")).cloned().collect()
    };
    assert_eq!(kept(&after), kept(&counted));
}

/// An export of a process that started at `started` and used `tokens` until `time`; times in milliseconds.
fn used(started: i64, time: i64, tokens: u64) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let nanos = |millis: i64| (millis * 1_000_000).to_string();
    json!({"resourceMetrics": [{
        "resource": {"attributes": [text("service.name", "claude-code"), text("agent.name", "builder")]},
        "scopeMetrics": [{"scope": {"name": "com.anthropic.claude_code"}, "metrics": [{
            "name": "claude_code.token.usage", "unit": "tokens",
            "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
                "attributes": [text("type", "input"), text("model", "claude-opus")],
                "startTimeUnixNano": nanos(started), "timeUnixNano": nanos(time), "asInt": tokens.to_string(),
            }]},
        }]}],
    }]})
}

/// Tokens of the one agent.
fn tokens(lookout: &Lookout) -> Value {
    let agent = &lookout.get("/api/status").json()["projects"][0]["agents"][0];
    agent["tokens"]["input"].clone()
}

pub(super) fn a_kill_after_the_first_export() {
    let setup = Setup::new("");
    let mut lookout = setup.start();
    let started = Clock::system().now().as_millis();
    // The program is killed before it saves any of these exports.
    for round in 1..=3_u64 {
        let answer = lookout.post("/v1/metrics", &used(started, started + round.cast_signed(), 700 * round));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(tokens(&lookout), json!(700 * round));
        lookout.kill9();
        lookout = setup.start();
    }
    assert_eq!(lookout.post("/v1/metrics", &used(started, started + 10, 2_800)).status, 200);
    assert_eq!(tokens(&lookout), json!(2_800));
}
