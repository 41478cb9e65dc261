//! Recorded calls of LiteLLM's generic API callback: each counts once, however often and by whichever channel it arrives.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::http::Response;
use crate::program::{Lookout, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("callbacks: calls of LiteLLM count once in all three formats and with its spans", &[], counted_once),
        trial("callbacks: malformed calls are rejected and quoted nowhere", &[], rejected),
        trial("callbacks: no message or secret is stored", &[], private),
        trial("callbacks: posting needs the role ingest", &[], access),
    ]
}

const ROUTE: &str = "/hooks/litellm?project=shop";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A recording beneath `tests/it/samples`, inflated.
pub(crate) fn sample(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/samples").join(path);
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut plain = Vec::new();
    GzDecoder::new(&*packed).read_to_end(&mut plain).expect("gzip");
    plain
}

fn recorded() -> Vec<Value> {
    serde_json::from_slice(&sample("callback/litellm-1.106.2.json.gz")).expect("calls")
}

fn post(lookout: &Lookout, body: &str) -> Response {
    lookout.send("POST", ROUTE, &JSON, body.as_bytes())
}

/// Totals of an agent of the shop: input, output and cached tokens, cost, requests, errors, 429s, retries.
fn totals(lookout: &Lookout, agent: &str) -> [f64; 8] {
    let page = lookout.get("/metrics").text().to_owned();
    let labels = format!("project=\"shop\",agent_name=\"{agent}\"");
    let value = |name: &str, more: &str| {
        let series = format!("orchestrator_agent_{name}_total{{{labels}{more}}} ");
        let found = page.lines().find_map(|line| line.strip_prefix(&series));
        found.map_or(f64::NAN, |value| value.parse().expect("a number"))
    };
    [
        value("tokens", ",token_type=\"input\""),
        value("tokens", ",token_type=\"output\""),
        value("tokens", ",token_type=\"cache_read\""),
        value("cost_usd", ""),
        value("requests", ""),
        value("request_errors", ""),
        value("rate_limit_hits", ""),
        value("retries", ""),
    ]
}

/// Waits for these totals; NaN is an absent series.
fn wait_for(lookout: &Lookout, agent: &str, expected: [f64; 8]) {
    let is_same = |(found, wanted): (f64, f64)| (found - wanted).abs() < 1e-9 || (found.is_nan() && wanted.is_nan());
    eventually(&format!("{expected:?} of {agent}"), || {
        totals(lookout, agent).into_iter().zip(expected).all(is_same).then_some(())
    });
}

fn counted_once() {
    let lookout = Setup::new("").start();
    let calls = recorded();
    let array = post(&lookout, &Value::from(calls.clone()).to_string());
    assert_eq!((array.status, array.json()), (200, json!({"accepted": 7})));
    let lines: Vec<String> = calls.iter().map(Value::to_string).collect();
    assert_eq!(post(&lookout, &lines.join("\n")).json(), json!({"accepted": 7}));
    for line in &lines {
        assert_eq!(post(&lookout, line).json(), json!({"accepted": 1}));
    }
    let spans = sample("otlp/litellm/six-calls-001-traces.pb.gz");
    let answer = lookout.send("POST", "/v1/traces", &[("content-type", "application/x-protobuf")], &spans);
    assert_eq!(answer.status, 200);
    // One more call: once it counts, all before it have been processed.
    let mut last = calls[0].clone();
    (last["id"], last["litellm_call_id"]) = (json!("chatcmpl-last"), json!("last"));
    assert_eq!(post(&lookout, &last.to_string()).json(), json!({"accepted": 1}));
    wait_for(&lookout, "shop-agent-1", [192.0, 48.0, 192.0, 0.000_072, 5.0, 2.0, 1.0, 1.0]);
    let status = lookout.get("/api/telemetry").json();
    let agents = status["agents"].as_array().expect("agents");
    let agent = |project: &str| agents.iter().find(|it| it["name"] == "shop-agent-1" && it["project"] == project);
    let channels = &agent("shop").expect("known")["signals"];
    assert_eq!(channels["callback"]["brings"], json!(["tokens", "cost", "requests"]));
    let page = lookout.get("/metrics").text().to_owned();
    let line = "orchestrator_agent_unpriced_tokens_total{project=\"shop\",agent_name=\"shop-agent-2\"} 144";
    assert!(page.lines().any(|found| found == line), "a cost of 0 is an unknown one");
    // The spans name no project; their calls are duplicates all the same, and not counted for another agent.
    assert!(!page.contains("project=\"default\",agent_name=\"shop-agent-1\",token_type"), "counted twice");
    assert!(page.lines().any(|line| line == "lookout_ingested_total{signal=\"callback\"} 22"), "{page}");
}

fn rejected() {
    let lookout = Setup::new("limits: {body: 4096}").start();
    let bad = post(&lookout, "[{\"id\": hunter2}]");
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("at line 1 column 9") && !bad.text().contains("hunter2"), "{}", bad.text());
    let large = post(&lookout, &json!({"status": "success", "messages": "x".repeat(5_000)}).to_string());
    assert_eq!(large.status, 413);
    let plain = lookout.send("POST", ROUTE, &[("content-type", "text/plain")], b"{}");
    assert_eq!(plain.status, 415);
    let some = post(&lookout, r#"[3, {"status": "success", "prompt_tokens": 7}, {"id": "x"}]"#).json();
    assert_eq!((&some["accepted"], &some["rejected"]), (&json!(1), &json!(2)));
    wait_for(&lookout, "litellm", [7.0, 0.0, 0.0, f64::NAN, 1.0, 0.0, 0.0, 0.0]);
    let page = lookout.get("/metrics").text().to_owned();
    for (reason, count) in [("malformed", 3), ("too_large", 1), ("busy", 0)] {
        let line = format!("lookout_rejected_total{{signal=\"callback\",reason=\"{reason}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line}");
    }
    assert_eq!(lookout.get("/hooks/litellm").status, 405);
}

fn private() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut calls = recorded();
    calls[0]["metadata"]["user_api_key_alias"] = json!(format!("sk-proj-{}", "Ab1".repeat(12)));
    calls[0]["metadata"]["requester_metadata"] = json!({"agent_id": format!("sk-ant-api03-{}", "Ab1".repeat(12))});
    assert_eq!(post(&lookout, &Value::from(calls).to_string()).status, 200);
    wait_for(&lookout, "shop-agent-2", [64.0, 16.0, 64.0, f64::NAN, 1.0, 0.0, 0.0, 0.0]);
    let mut places = vec![("the log".to_owned(), lookout.log().into_bytes())];
    for route in ["/metrics", "/api/status", "/api/telemetry", "/api/metrics", "/api/alerts"] {
        places.push((route.to_owned(), lookout.get(route).body));
    }
    assert!(lookout.sigterm().success());
    let files = std::fs::read_dir(setup.path()).expect("a folder").map(|file| file.expect("a file").path());
    let databases = files.filter(|file| file.to_string_lossy().contains(".db"));
    places.extend(databases.map(|file| (file.display().to_string(), std::fs::read(&file).expect("a database"))));
    assert!(places.len() > 7, "both databases are there");
    for (place, bytes) in places {
        for secret in
            ["How many", "three items", "default_user_id", "master_key", "curl/", "Ab1Ab1", "had an error while"]
        {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{place} has {secret}");
        }
    }
}

fn access() {
    let tokens = "auth: {tokens: [{name: i, role: ingest, token: in-4711}, {name: r, role: read, token: read-4711}]}";
    let lookout = Setup::new(tokens).start();
    for (authorization, status) in [("Bearer in-4711", 200), ("Bearer read-4711", 403), ("Bearer x", 401)] {
        let headers = [JSON[0], ("authorization", authorization)];
        assert_eq!(lookout.send("POST", ROUTE, &headers, b"[]").status, status, "{authorization}");
    }
    let foreign = [JSON[0], ("authorization", "Bearer in-4711"), ("origin", "https://evil.example")];
    assert_eq!(lookout.send("POST", ROUTE, &foreign, b"[]").status, 403);
}
