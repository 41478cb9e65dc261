//! Custom metrics: from a push over `/metrics` and rules to people, over a kill.

use serde_json::json;

use crate::doubles::slack::Slack;
use crate::durability::number;
use crate::program::{Setup, eventually};
use crate::slack::{metric, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![trial("custom metrics: a rule about one notifies Slack and resolves, also after a kill", &[], notify)]
}

const RULES: &str = r#"
rules:
  - name: PoolExhausted
    for_each: cluster
    signal: {metric: free, labels: {pool: "d*"}}
    when: at_most
    levels: {warning: 5, critical: 0}
    summary: "the pool has {{ measure }} connections left"
    resolved: "has connections again"
  - {name: JobsFail, for_each: agent, signal: {increase_of: {metric: failed_jobs}, over: 1h}, when: at_least, levels: {error: 3}}
"#;

fn notify() {
    let slack = Slack::start();
    let setup = Setup::new(&format!("rules: [mine.yaml]\nreceivers:\n{}", receiver("team", &slack)));
    setup.write("mine.yaml", RULES);
    let lookout = setup.start();
    let about = |words: &str| {
        let texts: Vec<String> = slack.taken().iter().map(|seen| seen.text().to_owned()).collect();
        texts.into_iter().find(|text| text.contains(words))
    };
    let pools = |db: i64, cache: i64| {
        json!({"project": "shop", "metrics": [
            {"name": "free", "value": db, "labels": {"pool": "db"}},
            {"name": "free", "value": cache, "labels": {"pool": "cache"}}]})
    };
    let failed =
        |count: u64| json!({"project": "shop", "agent": "importer", "name": "failed_jobs_total", "value": count});
    assert_eq!(lookout.post("/api/metrics", &pools(9, 0)).json(), json!({"accepted": 2}));
    // One invalid metric costs itself.
    let mixed = json!([failed(100), {"project": "shop", "name": "free", "value": "none"}, {"name": "", "value": 1}]);
    let answer = lookout.post("/api/metrics", &mixed).json();
    let rejected = answer["rejected"].as_array().expect("the rejected ones");
    let places: Vec<_> =
        rejected.iter().map(|it| (it["index"].as_u64(), it["reason"].as_str(), it["field"].as_str())).collect();
    assert_eq!(answer["accepted"], 1, "{answer}");
    assert_eq!(places, [(Some(1), Some("value"), Some("value")), (Some(2), Some("name"), Some("name"))], "{answer}");
    let free = r#"orchestrator_custom_free{project="shop",pool="db"}"#;
    let jobs = r#"orchestrator_custom_failed_jobs_total{project="shop",agent_name="importer"}"#;
    assert_eq!((metric(&lookout, free), metric(&lookout, jobs)), (Some(9.0), Some(100.0)));
    assert_eq!(metric(&lookout, r#"lookout_rejected_total{signal="custom",reason="value"}"#), Some(1.0));
    let status = lookout.get("/api/status").json();
    assert_eq!(status["projects"][0]["metrics"][r#"free{pool="db"}"#], 9.0, "{status}");
    assert_eq!(status["projects"][0]["agents"][0]["metrics"]["failed_jobs_total"], 100.0, "{status}");

    assert_eq!(lookout.post("/api/metrics", &pools(3, 0)).status, 200);
    let message = eventually("the team is notified", || about("shop: the pool has 3"));
    assert!(message.contains("WARNING") && message.contains("limit 5"), "{message}");
    let fingerprint = lookout.get("/api/alerts?rule=PoolExhausted").json()["alerts"][0]["fingerprint"].clone();
    let why = lookout.get(&format!("/api/alerts/{}/why", fingerprint.as_str().expect("an alert"))).json();
    assert_eq!(why["alert"]["value"], 3.0, "{why}");
    assert_eq!(lookout.post("/api/metrics", &failed(102)).status, 200);
    let history = setup.path().join("lookout.history.db");
    let saved = "SELECT count(*) FROM agents WHERE body LIKE '%102%'";
    eventually("the counter on disk", || (number(&history, saved) == Some(1)).then_some(()));
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!((metric(&lookout, free), metric(&lookout, jobs)), (Some(3.0), Some(102.0)));
    // The third failure within the hour is the first one after the kill; the counter of the restarted client began again.
    assert_eq!(lookout.post("/api/metrics", &failed(1)).status, 200);
    assert_eq!(metric(&lookout, jobs), Some(103.0));
    eventually("the failures are notified", || about("shop/importer: JobsFail"));
    assert_eq!(lookout.post("/api/metrics", &pools(7, 0)).status, 200);
    eventually("the pool is resolved", || about("has connections again"));
    let pool_messages = slack.taken().iter().filter(|seen| seen.text().contains("connections left")).count();
    assert_eq!(pool_messages, 1, "the kill repeated nothing");
    // Gone with its agent.
    let state = json!({"project": "shop", "agents": [{"name": "importer", "status": "running"}]});
    assert_eq!(lookout.post("/api/state", &state).status, 200);
    let complete = json!({"project": "shop", "complete": true, "agents": []});
    assert_eq!(lookout.post("/api/state", &complete).status, 200);
    assert_eq!(metric(&lookout, jobs), None);
}
