//! The totals of exports on `/metrics` and in the API: visible at once, and never more than was used.

use serde_json::{Value, json};

use super::{JSON, Receiver, receiver};

fn attributes(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

/// An export of one cumulative metric of tokens: `sum` since `start`, by a process of `agent`.
fn tokens(agent: &str, start: u64, time: u64, sum: u64) -> String {
    let point = json!({
        "attributes": attributes(&[("gen_ai.token.type", "input"), ("gen_ai.request.model", "m"), ("pool.name", concat!("/home", "/dev/x"))]),
        "startTimeUnixNano": start.to_string(), "timeUnixNano": time.to_string(),
        "count": "1", "sum": sum, "bucketCounts": ["1", "0"], "explicitBounds": [1000]
    });
    let metric = json!({"name": "gen_ai.client.token.usage", "unit": "{token}",
        "histogram": {"aggregationTemporality": 2, "dataPoints": [point]}});
    json!({"resourceMetrics": [{
        "resource": {"attributes": attributes(&[("service.name", agent), ("agent.name", agent), ("project", "shop")])},
        "scopeMetrics": [{"scope": {"name": "genai"}, "metrics": [metric]}]
    }]})
    .to_string()
}

/// The tokens of the agent in the API; none until the agent is known.
fn used(receiver: &Receiver, agent: &str) -> Option<u64> {
    let status = receiver.lookout.get("/api/status").json();
    let agents = status["projects"].as_array()?.iter().flat_map(|project| project["agents"].as_array());
    agents.flatten().find(|it| it["name"] == agent)?["tokens"]["input"].as_u64()
}

/// Now, in nanoseconds.
fn now() -> u64 {
    u64::try_from(lookout::clock::Clock::system().now().as_millis()).expect("after 1970") * 1_000_000
}

pub(super) fn a_read_follows_its_write() {
    let receiver = receiver("");
    let start = now();
    for round in 1..=50 {
        let agent = format!("agent-{round}");
        assert_eq!(receiver.json(&tokens(&agent, start, start + round, round)).status, 200);
        assert_eq!(used(&receiver, &agent), Some(round), "the API");
        let label = format!("agent_name=\"{agent}\"");
        let labels = [&*label, "token_type=\"input\""];
        assert_eq!(receiver.value("orchestrator_agent_tokens_total", &labels), Some(round as f64), "the page");
    }
    assert!(!receiver.page().contains(concat!("/home", "/dev")), "the page contains a home directory");
    let logs = json!({"resourceLogs": [{"resource": {"attributes": attributes(&[("service.name", "codex_exec"), ("agent.name", "c")])},
        "scopeLogs": [{"scope": {"name": "codex_otel.log_only"}, "logRecords": [
            {"attributes": attributes(&[("event.name", "codex.api_request"), ("error.message", "error sending request")])}]}]}]});
    let answer = receiver.post("/v1/logs", &[("content-type", JSON)], logs.to_string().as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(receiver.value("orchestrator_agent_request_errors_total", &["agent_name=\"c\""]), Some(1.0));
}

pub(super) fn replicas_count_once_each() {
    let receiver = receiver("budgets: {tokens_per_day: 2000}");
    let start = now();
    let starts = [start, start + 1_000];
    for round in 1..=20 {
        for (twin, sum) in [700, 300].into_iter().enumerate() {
            let time = start + 10_000 * round + 100 * twin as u64;
            assert_eq!(receiver.json(&tokens("twins", starts[twin], time, sum)).status, 200);
        }
    }
    assert_eq!(used(&receiver, "twins"), Some(1_000));
    assert_eq!(receiver.value("gen_ai_client_token_usage_sum", &["job=\"twins\""]), Some(1_000.0), "the series agrees");
    assert_eq!(receiver.lookout.get("/api/alerts").json()["alerts"], json!([]));
}

pub(super) fn a_start_time_that_is_not_before_the_point_is_unknown() {
    let receiver = receiver("");
    let hour = 3_600 * 1_000_000_000;
    for (agent, ahead) in [("own-time", 0), ("ahead", hour)] {
        let first = now();
        for (time, sum) in (first..).step_by(1_000).zip([100, 200, 300, 400, 500, 600]) {
            assert_eq!(receiver.json(&tokens(agent, time + ahead, time, sum)).status, 200);
        }
        assert_eq!(used(&receiver, agent), Some(600), "{agent}");
    }
}
