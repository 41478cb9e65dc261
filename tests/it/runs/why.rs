//! What `lookout why` and `lookout alerts` show of rules about runs.

use std::time::Duration;

use lookout::clock::Clock;
use serde_json::json;

use crate::program::{Lookout, Setup, eventually};

/// Reports a run of `shop/AGENT` that ended just now.
fn report(lookout: &Lookout, agent: &str, number: u32, seconds: u64, status: &str, cost: f64) {
    let now = Clock::system().wall();
    let body = json!({
        "run_id": format!("{}{number:08x}", if agent == "clerk" { "a".repeat(24) } else { "b".repeat(24) }),
        "project": "shop", "agent_name": agent, "name": "import", "status": status, "cost_usd": cost,
        "error": if status == "error" { json!("no such table: stock") } else { json!(null) },
        "started_at": now.minus(Duration::from_secs(seconds)).to_string(), "ended_at": now.to_string(),
    });
    let answer = lookout.post("/api/traces", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

pub(super) fn why_reads_well() {
    let setup = Setup::new("");
    let lookout = setup.start();
    for number in 0..20 {
        report(&lookout, "clerk", number, 10, "ok", 0.5);
    }
    report(&lookout, "clerk", 20, 95, "ok", 12.0);
    for number in 0..10 {
        report(&lookout, "feeder", number, 3, "error", 0.0);
    }
    for (rule, headline, message) in [
        (
            "AgentErrorRate",
            "AgentErrorRate on shop/feeder: critical, firing",
            "100 % of its runs failed within 1h (limit 50 %), last import: no such table: stock",
        ),
        ("RunSlow", "RunSlow on shop/clerk: warning, firing", "run import took 1m35s (limit 30s), usually at most 10s"),
        ("RunCostly", "RunCostly on shop/clerk: error, firing", "run import cost $12.00 (limit $10.00), usually $0.50"),
    ] {
        let alert = eventually(rule, || {
            let found = lookout.get(&format!("/api/alerts?state=firing&rule={rule}")).json();
            Some(found["alerts"][0].clone()).filter(|alert| alert["fingerprint"].is_string())
        });
        let id = alert["fingerprint"].as_str().expect("an id");
        let mut why = setup.command(&["why", id]);
        let output = why.env("LOOKOUT_URL", lookout.url()).env("COLUMNS", "160").output().expect("runs");
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success() && shown.starts_with(headline), "{shown}");
        assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with(message)), "{shown}");
        // What to do, and what was decided when.
        assert!(shown.lines().nth(2).is_some_and(|line| !line.is_empty()) && shown.contains("firing"), "{shown}");
    }
}
