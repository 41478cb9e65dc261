//! The HTTP API as scripts use it: shapes, filters, consistency, and errors.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("api: status has the documented shape", &[], status_shape),
        trial("api: metrics are sums, and unknown values are null", &[], metrics_shape),
        trial("api: alerts are listed, active before history, by filter", &[], alerts_shape),
        trial("api: nothing is evaluated while monitoring is stopped", &[], stop_and_start),
        trial("api: a read after a write sees it", &[], read_after_write),
        trial("api: usage is counted once, also after a crash", &[], usage_counts_once),
        trial("api: cumulative and incremental tokens are never summed", &[], one_owner_of_totals),
        trial("api: errors are JSON with the right status code", &[], refusals),
        trial("api: an invalid value is rejected alone, an invalid name with its agent", &[], partial_batches),
        trial("api: bodies with one value that strict parsers reject", &[], lenient_bodies),
        trial("api: every route requires its role, which OpenAPI names", &[], roles),
    ]
}

/// `{"agents": [{"name": "zipped"}]}` as gzip, in base64.
const ZIPPED: &str = "H4sIAAAAAAACA6tWSkxPzSspVrJSiK5WykvMTQWylKoyCwpSU5RqY2sBRsdz/CAAAAA=";

fn push(lookout: &Lookout, body: &Value) {
    let answer = lookout.post("/api/state", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("rejected").is_none(), "{}", answer.text());
}

fn alerts(lookout: &Lookout, query: &str) -> Vec<Value> {
    let answer = lookout.get(&format!("/api/alerts{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let alerts = answer["alerts"].as_array().expect("alerts").clone();
    assert_eq!(answer["total"], alerts.len(), "{query}");
    alerts
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

fn has(value: &Value, expected: &str) {
    let keys = keys(value);
    let missing: Vec<&str> = expected.split_whitespace().filter(|key| !keys.contains(key)).collect();
    assert!(missing.is_empty(), "without {missing:?}: {value}");
}

fn status_shape() {
    let setup = Setup::new(
        "receivers: [{name: ops, slack: {webhook_url: \"http://127.0.0.1:9/x\"}}]\n\
         sources: [{name: orch, kind: orchestrator-cc, url: \"http://127.0.0.1:9\", interval: 200ms}]\n",
    );
    let lookout = setup.start();
    push(
        &lookout,
        &json!({"project": "shop", "agents": [
            {"name": "boss", "type": "custom", "status": "running", "taskId": "t1", "currentPhase": "implement", "progress": 42.5,
             "restartCount": 2, "last_activity": "2026-01-01T00:00:00Z", "tokensUsed": 12},
            {"name": "unknown"}],
            "components": [{"name": "db", "status": "ERROR", "details": "full"}]}),
    );
    push(&lookout, &json!({"agents": [{"name": "lonely", "running": false}]}));
    eventually("the source has failed", || {
        (lookout.get("/api/status").json()["sources"][0]["up"] == false).then_some(())
    });
    let answer = lookout.get("/api/status");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let status = answer.json();
    has(&status, "monitoring health total_alerts unresolved_alerts last_metrics projects sources receivers");
    assert_eq!([&status["monitoring"], &status["health"]], [&json!(true), &json!("CRITICAL")], "{status}");
    assert!(status["unresolved_alerts"].as_u64() >= Some(3), "{status}");
    assert_eq!(status["last_metrics"]["total_agents"], 3);
    let project = |name: &str| {
        status["projects"]
            .as_array()
            .expect("projects")
            .iter()
            .find(|one| one["name"] == name)
            .expect("the project")
            .clone()
    };
    let shop = project("shop");
    assert_eq!([&shop["health"], &project("default")["health"]], ["ERROR", "CRITICAL"], "{status}");
    let boss = &shop["agents"][0];
    has(boss, "name type status reason up expected idle_seconds task_id phase progress");
    assert_eq!([&boss["name"], &boss["type"], &boss["status"], &boss["task_id"]], ["boss", "custom", "running", "t1"]);
    for (key, value) in [
        ("reason", Value::Null),
        ("up", json!(true)),
        ("expected", json!(true)),
        ("phase", json!("implement")),
        ("progress", json!(42.5)),
        ("restart_count", json!(2)),
    ] {
        assert_eq!(boss[key], value, "{key}: {boss}");
    }
    assert_eq!(boss["tokens"]["input"], 12);
    for key in ["type", "status", "idle_seconds", "task_id", "progress", "tokens", "cost_usd", "requests", "model"] {
        assert_eq!(shop["agents"][1][key], Value::Null, "absent values are unknown: {key}");
    }
    let lonely = &project("default")["agents"][0];
    assert_eq!(
        [&lonely["status"], &lonely["reason"], &lonely["up"]],
        [&json!("failed"), &json!("not running"), &json!(false)]
    );
    assert_eq!([&shop["components"][0]["name"], &shop["components"][0]["status"]], ["db", "ERROR"]);
    let source = &status["sources"][0];
    has(source, "name kind up last_success last_error");
    assert_eq!(
        [&source["name"], &source["kind"], &source["last_success"]],
        [&json!("orch"), &json!("orchestrator-cc"), &Value::Null]
    );
    assert!(source["last_error"].is_string());
    has(&status["receivers"][0], "name pending oldest_age_seconds last_error");
    assert_eq!(status["receivers"][0]["name"], "ops");
}

fn metrics_shape() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let empty = lookout.get("/api/metrics").json();
    assert_eq!([&empty["metrics"]["total_agents"], &empty["projects"]], [&json!(0), &json!({})], "{empty}");
    let agent = |name: &str, status: &str, requests: u64| {
        json!({"name": name, "status": status, "restart_count": 1, "tokens": {"input": 100, "output": 20, "cost_usd": 0.5},
               "requests": {"total": requests, "errors": 1, "rate_limited": 2, "retries": 3},
               "reviews": {"passed": 3, "failed": 1}, "task_id": "t"})
    };
    push(&lookout, &json!({"project": "shop", "agents": [agent("a", "running", 30), agent("b", "idle", 10)]}));
    push(&lookout, &json!({"project": "shop", "agents": [{"name": "a", "status": "completed"}]}));
    push(&lookout, &json!({"project": "lab", "agents": [{"name": "c", "status": "failed"}]}));
    let answer = lookout.get("/api/metrics").json();
    let all = "timestamp total_agents running_agents idle_agents unhealthy_agents total_restarts tokens cost_usd requests \
               error_rate rate_limit_hits retries tokens_per_request tasks_per_hour completion_rate review_pass_rate";
    assert_eq!(keys(&answer), BTreeSet::from(["metrics", "monitoring", "projects"]));
    for part in [&answer["metrics"], &answer["projects"]["shop"], &answer["projects"]["lab"]] {
        has(part, all);
    }
    let total = &answer["metrics"];
    for (key, value) in [
        ("total_agents", json!(3)),
        ("running_agents", json!(1)),
        ("idle_agents", json!(1)),
        ("unhealthy_agents", json!(1)),
        ("total_restarts", json!(2)),
        ("cost_usd", json!(1.0)),
        ("requests", json!(40)),
        ("error_rate", json!(0.05)),
        ("rate_limit_hits", json!(4)),
        ("retries", json!(6)),
        ("tokens_per_request", json!(6.0)),
        ("tasks_per_hour", json!(1)),
        ("completion_rate", json!(1.0)),
        ("review_pass_rate", json!(0.75)),
    ] {
        assert_eq!(total[key], value, "{key}: {total}");
    }
    assert_eq!([&total["tokens"]["input"], &total["tokens"]["output"]], [&json!(200), &json!(40)]);
    for key in ["cost_usd", "requests", "error_rate", "rate_limit_hits", "tokens_per_request", "review_pass_rate"] {
        assert_eq!(answer["projects"]["lab"][key], Value::Null, "{key}");
    }
    let now = lookout::clock::Clock::system().now().as_secs_f64();
    assert!(total["timestamp"].as_f64().is_some_and(|at| (now - 60.0..=now).contains(&at)), "Unix seconds");
}

fn alerts_shape() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let ago = |seconds: u64| {
        let now = lookout::clock::Clock::system().now();
        now.minus(std::time::Duration::from_secs(seconds)).to_string()
    };
    let state = |a: u64, b: u64, status: &str, db: &str| {
        json!({"project": "shop", "agents": [{"name": "a", "status": "running", "last_activity": ago(a)},
            {"name": "b", "status": "running", "last_activity": ago(b)}, {"name": "c", "status": status}],
            "components": [{"name": "db", "status": db}]})
    };
    push(&lookout, &state(400, 700, "failed", "LIMITED"));
    let found = alerts(&lookout, "");
    let shown: Vec<(&str, &str)> = found
        .iter()
        .map(|alert| (alert["rule"].as_str().expect("a rule"), alert["level"].as_str().expect("a level")))
        .collect();
    let levels: Vec<&str> = shown.iter().map(|(_, level)| *level).collect();
    let rank = |level: &&str| ["critical", "error", "warning", "info"].iter().position(|one| one == level);
    assert!(levels.is_sorted_by_key(rank), "worst first: {shown:?}");
    for expected in
        [("AgentIdle", "error"), ("AgentIdle", "warning"), ("AgentDown", "error"), ("ComponentStatus", "info")]
    {
        assert!(shown.contains(&expected), "{expected:?} in {shown:?}");
    }
    let every = "fingerprint rule level state project value threshold message action started_at fired_at resolved_at \
                 timestamp resolved acked_by silenced_by";
    for alert in &found {
        has(alert, every);
        let subjects: Vec<&str> =
            keys(alert).into_iter().filter(|key| ["agent_name", "component", "source"].contains(key)).collect();
        assert!(subjects.len() <= 1, "{alert}");
        assert_eq!(
            [&alert["state"], &alert["resolved"], &alert["resolved_at"]],
            [&json!("firing"), &json!(false), &Value::Null]
        );
        assert_eq!(alert["project"], "shop");
        assert!(
            !alert["message"].as_str().expect("words").is_empty()
                && !alert["action"].as_str().expect("words").is_empty()
        );
    }
    let one = &alerts(&lookout, "?agent=a")[0];
    assert_eq!([&one["agent_name"], &one["threshold"]], [&json!("a"), &json!(300.0)]);
    assert!(one["value"].as_f64().is_some_and(|value| (399.0..460.0).contains(&value)), "{one}");
    assert_eq!(alerts(&lookout, "?rule=ComponentStatus")[0]["component"], "db");

    push(&lookout, &state(400, 1, "running", "OK"));
    let after = eventually("two of them are history", || {
        let found = alerts(&lookout, "");
        (found.iter().filter(|alert| alert["resolved"] == true).count() >= 3).then_some(found)
    });
    let states: Vec<bool> = after.iter().map(|alert| alert["resolved"] == true).collect();
    assert!(!states[0], "what is active comes first");
    assert!(states.is_sorted(), "history after what is active: {states:?}");
    assert_eq!(after.iter().filter(|alert| alert["resolved"] == false).count(), 1, "{after:?}");
    let over = alerts(&lookout, "?agent=b&rule=AgentIdle");
    assert_eq!(
        [&over[0]["state"], &over[0]["resolved"], &over[0]["level"]],
        [&json!("resolved"), &json!(true), &json!("error")],
        "{over:?}"
    );
    assert!(over[0]["resolved_at"].is_string() && over[0]["timestamp"].as_f64() >= one["timestamp"].as_f64());
    let before: BTreeSet<String> = found.iter().map(|alert| alert["fingerprint"].to_string()).collect();
    assert!(after.iter().all(|alert| before.contains(&alert["fingerprint"].to_string())), "identity stays");

    let count = |query: &str| alerts(&lookout, query).len();
    assert_eq!(count("?state=firing"), 1);
    assert_eq!(count("?state=pending"), 0);
    assert_eq!(count("?state=resolved"), after.len() - 1);
    assert_eq!(count("?level=warning&state=firing"), 1);
    assert_eq!(count("?level=critical"), 0);
    assert_eq!(count("?rule=AgentIdle"), 2);
    assert_eq!(count("?agent=unknown"), 0);
    assert_eq!(count("?limit=2"), 2);
}

fn stop_and_start() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let post = |route: &str| {
        let answer = lookout.post(route, &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    assert_eq!(post("/api/monitoring/stop")["monitoring"], false);
    push(
        &lookout,
        &json!({"agents": [{"name": "a", "status": "failed"}, {"name": "b", "last_activity": "2026-01-01T00:00:00Z"}]}),
    );
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["unhealthy_agents"], 1, "state still comes in");
    assert_eq!(alerts(&lookout, ""), [Value::Null; 0], "nothing is evaluated");
    assert_eq!(post("/api/monitoring/stop")["monitoring"], false, "twice is once");
    assert_eq!(post("/api/monitoring/start")["monitoring"], true);
    let found = alerts(&lookout, "?state=firing");
    let rules: BTreeSet<&str> = found.iter().filter_map(|alert| alert["rule"].as_str()).collect();
    assert!(rules.contains("AgentDown") && rules.contains("AgentIdle"), "evaluated at once: {rules:?}");

    // Alerts from before the stop keep their state until evaluation continues.
    post("/api/monitoring/stop");
    push(&lookout, &json!({"agents": [{"name": "a", "status": "running"}]}));
    assert_eq!(alerts(&lookout, "?state=firing&rule=AgentDown").len(), 1);
    post("/api/monitoring/start");
    assert_eq!(alerts(&lookout, "?state=firing&rule=AgentDown").len(), 0);
}

fn read_after_write() {
    let setup = Setup::new("");
    let lookout = setup.start();
    for round in 1..=200_u64 {
        let is_failed = round % 2 == 1;
        let status = if is_failed { "failed" } else { "running" };
        push(&lookout, &json!({"agents": [{"name": "a", "status": status, "tokens": {"input": round, "output": 0}}]}));
        let shown = match round % 4 {
            0 => lookout.get("/api/status").json()["projects"][0]["agents"][0]["tokens"]["input"].clone(),
            1 => lookout.get("/api/metrics").json()["metrics"]["tokens"]["input"].clone(),
            _ => {
                let page = lookout.get("/metrics");
                let series =
                    "orchestrator_agent_tokens_total{project=\"default\",agent_name=\"a\",token_type=\"input\"} ";
                let line = page.text().lines().find_map(|line| line.strip_prefix(series)).expect("the series");
                line.parse().expect("a number")
            }
        };
        assert_eq!(shown, round, "round {round}");
        let firing = alerts(&lookout, "?rule=AgentDown&state=firing");
        assert_eq!(
            firing.len(),
            usize::from(is_failed),
            "round {round}: alerts change with the state that causes them"
        );
        assert_eq!(
            alerts(&lookout, "?rule=AgentDown&limit=1").len(),
            1,
            "round {round}: what is over is history at once"
        );
    }
}

/// The input tokens of an agent.
fn input(lookout: &Lookout, agent: &str) -> Value {
    let status = lookout.get("/api/status").json();
    let agents = status["projects"][0]["agents"].as_array().expect("agents");
    let agent = agents.iter().find(|one| one["name"] == agent).unwrap_or_else(|| panic!("no {agent} in {status}"));
    agent["tokens"]["input"].clone()
}

fn usage_counts_once() {
    let setup = Setup::new("budgets: {tokens_per_day: 1000}");
    let lookout = setup.start();
    push(&lookout, &json!({"agents": [{"name": "holder", "status": "running", "task_id": "task-1"}]}));
    let send = |lookout: &Lookout, usage: Value| {
        let answer = lookout.post("/api/usage", &json!({"usage": usage}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let by_task = json!([{"task_id": "task-1", "model": "m", "input": 10, "output": 5, "cost_usd": 0.5, "id": "r1"}]);
    assert_eq!(send(&lookout, by_task.clone()), json!({"accepted": 1}));
    let again = send(&lookout, by_task.clone());
    assert_eq!(
        [&again["accepted"], &again["rejected"][0]["error"]],
        [&json!(0), &json!("duplicate id `r1`: the increment was counted before")]
    );
    assert_eq!(input(&lookout, "holder"), 10, "it goes to the agent that holds the task");
    // Without an id each counts; two of one id in one body count once; an unknown task is an agent of its own.
    send(&lookout, json!([{"agent": "holder", "input": 1, "output": 0}, {"agent": "holder", "input": 1, "output": 0}]));
    send(
        &lookout,
        json!([{"agent": "holder", "input": 100, "output": 0, "id": "r2"}, {"agent": "holder", "input": 100, "output": 0, "id": "r2"}]),
    );
    send(&lookout, json!([{"task_id": "task-9", "input": 7, "output": 0}]));
    assert_eq!([input(&lookout, "holder"), input(&lookout, "task-9")], [112, 7]);
    let page = lookout.get("/metrics");
    for line in [
        "lookout_rejected_total{signal=\"usage\",reason=\"duplicate\"} 2\n",
        "lookout_ingested_total{signal=\"usage\"} 5\n",
        "orchestrator_agent_budget_used_tokens{project=\"default\",agent_name=\"holder\",scope=\"day\"} 117\n",
    ] {
        assert!(page.text().contains(line), "no {line} in {}", page.text());
    }
    // The second agent came last; what came before it is saved with it or earlier. Then a crash.
    crate::durability::wait_until_saved(&setup, 2);
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(input(&lookout, "holder"), 112, "totals are restored");
    assert_eq!(send(&lookout, by_task)["accepted"], 0, "and so are the ids");
    assert_eq!(send(&lookout, json!([{"agent": "holder", "input": 1, "output": 0, "id": "r3"}]))["accepted"], 1);
    assert_eq!(input(&lookout, "holder"), 113);
}

fn one_owner_of_totals() {
    let setup = Setup::new("");
    let lookout = setup.start();
    push(&lookout, &json!({"agents": [{"name": "cumulative", "tokens": {"input": 50, "output": 5}}]}));
    let refused = lookout.post("/api/usage", &json!({"usage": [{"agent": "cumulative", "input": 9, "output": 9}]}));
    assert_eq!((refused.status, &refused.json()["accepted"]), (200, &json!(0)), "{}", refused.text());
    assert!(refused.text().contains("one way only"), "{}", refused.text());
    let first = lookout.post("/api/usage", &json!({"usage": [{"agent": "increments", "input": 7, "output": 1}]}));
    assert_eq!(first.status, 200);
    let state =
        json!({"agents": [{"name": "increments", "status": "running", "tokens": {"input": 1000, "output": 1}}]});
    assert_eq!(lookout.post("/api/state", &state).status, 200, "the rest of the state is taken");
    assert_eq!([input(&lookout, "cumulative"), input(&lookout, "increments")], [50, 7]);
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["tokens"]["input"], 57);
    let page = lookout.get("/metrics");
    for line in [
        "lookout_rejected_total{signal=\"usage\",reason=\"usage_owner\"} 1\n",
        "lookout_rejected_total{signal=\"state\",reason=\"usage_owner\"} 1\n",
        "orchestrator_agent_status{project=\"default\",agent_name=\"increments\",status=\"running\"} 1\n",
    ] {
        assert!(page.text().contains(line), "no {line}");
    }
}

fn refusals() {
    let setup = Setup::new("limits: {body: 1000}");
    let lookout = setup.start();
    let json_type: &[(&str, &str)] = &[("content-type", "application/json")];
    let large = format!("{{\"agents\": [], \"x\": \"{}\"}}", "y".repeat(1_000));
    for (method, route, headers, body, expected, message) in [
        ("POST", "/api/state", json_type, "{\n  \"agents\": [}", 400, "line 2 column 14"),
        ("POST", "/api/state", json_type, "", 400, "line 1 column 0"),
        ("POST", "/api/state", json_type, "[]", 400, ""),
        ("POST", "/api/state", json_type, "{}", 400, "agents"),
        ("POST", "/api/state", json_type, "{\"agents\": []} trailing", 400, "line 1 column 16"),
        ("POST", "/api/state", json_type, &large, 413, "limits.body"),
        ("POST", "/api/state", &[], "{\"agents\": []}", 415, "application/json"),
        ("POST", "/api/state", &[("content-type", "text/plain")], "{\"agents\": []}", 415, "application/json"),
        ("GET", "/api/state", &[], "", 405, "method"),
        ("DELETE", "/api/usage", &[], "", 405, "method"),
        ("POST", "/metrics", json_type, "{}", 405, "method"),
        ("PUT", "/api/alerts", json_type, "{}", 405, "method"),
        ("GET", "/api/monitoring/stop", &[], "", 405, "method"),
        ("GET", "/api/alerts?level=loud", &[], "", 400, "critical"),
        ("GET", "/api/alerts?state=odd", &[], "", 400, "firing"),
        ("GET", "/api/alerts?limit=0", &[], "", 400, "1000"),
        ("GET", "/api/alerts?limit=x", &[], "", 400, "1000"),
        ("GET", "/nowhere", &[], "", 404, "GET /"),
        ("POST", "/api/nowhere", json_type, "{}", 404, "GET /"),
        ("GET", "/api/../etc/passwd", &[], "", 404, "GET /"),
    ] {
        let refused = lookout.send(method, route, headers, body.as_bytes());
        assert_eq!(refused.status, expected, "{method} {route} {body}: {}", refused.text());
        assert_eq!(refused.header("content-type"), Some("application/json"), "{method} {route} {body}");
        let answer = refused.json();
        let error = answer["error"].as_str().expect("an error");
        assert!(error.contains(message), "{method} {route} {body}: {error}");
        assert!(!error.ends_with('.') && keys(&answer) == BTreeSet::from(["error"]), "{answer}");
        assert_eq!(refused.header("allow").is_some(), expected == 405, "{method} {route} names what it takes");
    }
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["total_agents"], 0, "nothing was taken");
    let page = lookout.get("/metrics");
    assert!(
        page.text().contains("lookout_rejected_total{signal=\"state\",reason=\"malformed\"} 5\n"),
        "{}",
        page.text()
    );
}

fn partial_batches() {
    let setup = Setup::new("");
    let lookout = setup.start();
    push(&lookout, &json!({"agents": [{"name": "old"}]}));
    let body = json!({"complete": true, "future": {"field": 1}, "agents": [
        {"name": "good", "status": "running", "unknown": [1, {"x": 2}]},
        {"name": "bad", "status": "lazy"}, {"name": "negative", "tokens": {"input": -5, "output": 0}}]});
    let answer = lookout.post("/api/state", &body);
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(answer["accepted"], 3, "only the values are lost: {answer}");
    let place =
        |one: &Value| [&one["list"], &one["index"], &one["name"], &one["field"], &one["reason"]].map(Value::clone);
    let rejected = answer["rejected"].as_array().expect("rejects");
    let expected = |index: u64, name: &str, field: &str, reason: &str| {
        [json!("agents"), json!(index), json!(name), json!(field), json!(reason)]
    };
    assert_eq!(
        rejected.iter().map(place).collect::<Vec<_>>(),
        [expected(1, "bad", "status", "status"), expected(2, "negative", "tokens.input", "value")]
    );
    assert!(
        answer["rejected"][0]["error"].as_str().is_some_and(|error| error.contains("running")),
        "it has the remedy: {answer}"
    );
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["total_agents"], 3, "all were read, and one was left out");
    // An invalid name may be that of any agent, so no agent is removed.
    for name in ["", " ", "\u{200b}", "good\u{2060}", "good\n", "\u{61c}good", "good\u{e0041}"] {
        let body = json!({"complete": true, "agents": [{"name": name, "status": "failed"}]});
        let answer = lookout.post("/api/state", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!((&answer["accepted"], &answer["rejected"][0]["field"]), (&json!(0), &json!("name")), "{answer}");
        assert!(!answer["rejected"][0]["error"].as_str().is_some_and(|error| error.starts_with(':')), "{answer}");
    }
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["total_agents"], 3);
}

/// Bodies with a value that strict parsers reject are accepted as far as possible; also compressed ones.
fn lenient_bodies() {
    let lookout = Setup::new("").start();
    let send = |route: &str, headers: &[(&str, &str)], body: &[u8]| {
        let headers: Vec<_> = [("content-type", "application/json")].iter().chain(headers).copied().collect();
        let answer = lookout.send("POST", route, &headers, body);
        assert_eq!(answer.status, 200, "{}: {}", String::from_utf8_lossy(body), answer.text());
        answer.json()
    };
    for (name, body) in [
        ("half", &br#"{"agents": [{"name": "half", "reason": "cut \ud83d"}, {"name": "half2"}]}"#[..]),
        ("bytes", b"{\"agents\": [{\"name\": \"bytes\", \"reason\": \"\xff\"}, {\"name\": \"bytes2\"}]}"),
        ("mark", b"\xef\xbb\xbf{\"agents\": [{\"name\": \"mark\"}, {\"name\": \"mark2\"}]}"),
        ("raw", b"{\"agents\": [{\"name\": \"raw\", \"reason\": \"two\nlines\"}, {\"name\": \"raw2\"}]}"),
    ] {
        let answer = send("/api/state", &[], body);
        assert_eq!(answer, json!({"accepted": 2}), "{name}");
    }
    let answer = send("/api/state", &[], br#"{"agents": [{"name": "nan", "progress": NaN, "tokens": {"input": 7}}]}"#);
    assert_eq!((&answer["accepted"], &answer["rejected"][0]["field"]), (&json!(1), &json!("progress")), "{answer}");
    let used = br#"{"usage": [{"agent": "user", "input": 5, "id": "cut \ud83d"}, {"agent": "user", "input": 7}]}"#;
    assert_eq!(send("/api/usage", &[], used), json!({"accepted": 2}));
    assert_eq!(input(&lookout, "user"), 12);
    let status = lookout.get("/api/status").text().to_owned();
    assert!(status.contains("two lines") && status.contains("cut \u{fffd}"), "{status}");
    let zipped = base64::engine::general_purpose::STANDARD.decode(ZIPPED).expect("base64");
    assert_eq!(send("/api/state", &[("content-encoding", "gzip")], &zipped), json!({"accepted": 1}));
    let unknown = [("content-type", "application/json"), ("content-encoding", "br")];
    let refused = lookout.send("POST", "/api/state", &unknown, &zipped);
    assert_eq!((refused.status, refused.header("accept-encoding")), (415, Some("gzip, deflate")));
}

fn roles() {
    const TOKENS: [&str; 3] = ["read", "ingest", "admin"];
    let tokens = TOKENS.map(|role| format!("{{name: {role}, role: {role}, token: {role}s-4711}}"));
    let setup = Setup::new(&format!("auth: {{tokens: [{}]}}\n", tokens.join(", ")));
    let lookout = setup.start();
    let ask = |method: &str, path: &str, role: Option<&str>| {
        let bearer = role.map(|role| format!("Bearer {role}s-4711"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        lookout.send(method, path, &headers, if method == "POST" { b"{}" } else { b"" })
    };
    let document = ask("GET", "/api/openapi.json", Some("read")).json();
    let mut named = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let real = path.replace("{fingerprint}", "0123456789abcdef").replace("{id}", "unknown");
        for (method, operation) in operations.as_object().expect("operations") {
            let method = method.to_uppercase();
            // A stream does not end; its head is that of a GET.
            let sent = if path.ends_with("/stream") { "HEAD" } else { &method };
            let needed = operation["security"][0]["bearer"][0].as_str();
            let rank = needed.map(|needed| TOKENS.iter().position(|role| *role == needed).expect("a role"));
            let anonymous = ask(sent, &real, None).status;
            assert_eq!(anonymous == 401, rank.is_some(), "{method} {path} without a token: {anonymous}");
            for (place, role) in TOKENS.iter().enumerate() {
                let status = ask(sent, &real, Some(role)).status;
                assert_eq!(status == 403, rank.is_some_and(|rank| place < rank), "{method} {path} as {role}: {status}");
                assert!(![401, 405].contains(&status), "{method} {path} as {role}: {status}");
            }
            named.push(format!("{method} {path}"));
        }
    }
    let front = ask("GET", "/", Some("read")).json();
    let listed: Vec<&str> = front["routes"].as_array().expect("routes").iter().filter_map(Value::as_str).collect();
    named.sort_unstable();
    assert_eq!(named, BTreeSet::from_iter(listed).into_iter().collect::<Vec<_>>(), "what is listed at /");
    assert!(named.len() > 20, "{named:?}");
}
