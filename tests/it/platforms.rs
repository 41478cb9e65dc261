//! What runs report besides their calls, by platform.

use serde_json::{Value, json};

use crate::durability::number;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::metric;
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![trial("platforms: what runs report is in statistics once, also after a kill", &[], reported)]
}

/// Runs the agent on a platform; returns the body that ended the run.
fn run_on(lookout: &Lookout, platform: &str, begin: &Value, end: &Value) -> Value {
    let start = json!({"platform": platform, "metadata": begin});
    let started = lookout.post("/agents/shop/clerk/trace/start", &start).json();
    let end = json!({"trace_id": started["trace_id"], "status": "ok", "metadata": end});
    assert_eq!(lookout.post("/agents/shop/clerk/trace/end", &end).status, 200);
    end
}

fn reported() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let agent = json!({"name": "clerk", "type": "crewx", "project_id": "shop"});
    assert_eq!(lookout.post("/agents/register", &agent).status, 201);
    let thread = json!({"channel": "C024BE91L", "thread_length": 4, "files": ["a.png", "b.png"]});
    let first = run_on(
        &lookout,
        "slack",
        &thread,
        &json!({"response_time_ms": 1500, "answered": true, "user_satisfaction": 4}),
    );
    run_on(&lookout, "slack", &json!({"thread_length": 8}), &json!({"answered": false, "review_passed": true}));
    run_on(&lookout, "cli", &json!({"parallel": 3, "review_passed": false}), &json!({}));
    // The client did not see its answer.
    for _ in 0..2 {
        assert_eq!(lookout.post("/agents/shop/clerk/trace/end", &first).status, 200);
    }
    let check = |lookout: &Lookout| {
        for (series, expected) in [
            (r#"orchestrator_platform_runs_total{project="shop",platform="slack",status="ok"}"#, 2.0),
            (r#"orchestrator_platform_reports_total{project="shop",platform="slack",fact="thread_length"}"#, 2.0),
            (r#"orchestrator_platform_reported_total{project="shop",platform="slack",fact="thread_length"}"#, 12.0),
        ] {
            eventually(series, || (metric(lookout, series) == Some(expected)).then_some(()));
        }
        let by = lookout.get("/api/agents/stats?agents=shop/clerk&range=1d&by=platform").json();
        let points = by["agents"][0]["points"].as_array().expect("platforms").clone();
        let of = |platform: &str| {
            points.iter().find(|point| point["platform"] == platform).expect("a platform")["reported"].clone()
        };
        assert_eq!(
            of("slack"),
            json!({
                "thread_length": {"runs": 2, "sum": 12.0, "mean": 6.0},
                "response_time_ms": {"runs": 1, "sum": 1500.0, "mean": 1500.0},
                "files": {"runs": 1, "sum": 2.0, "mean": 2.0},
                "answered": {"runs": 2, "sum": 1.0, "mean": 0.5},
                "review_passed": {"runs": 1, "sum": 1.0, "mean": 1.0},
                "user_satisfaction": {"runs": 1, "sum": 4.0, "mean": 4.0},
            })
        );
        assert_eq!(of("cli")["parallel_width"]["mean"], 3.0);
        let total = lookout.get("/api/agents/stats?agents=shop/clerk&range=1d").json()["agents"][0].clone();
        assert_eq!((&total["review_pass_rate"], &total["user_satisfaction"]), (&json!(0.5), &json!(4.0)), "{total}");
        assert_eq!(total["reported"]["thread_length"]["runs"], 2);
    };
    check(&lookout);
    let history = setup.path().join("lookout.history.db");
    // The last run was on this one.
    let saved = "SELECT count(*) FROM projects WHERE body LIKE '%\"cli\"%'";
    eventually("the platforms on disk", || (number(&history, saved) == Some(1)).then_some(()));
    lookout.kill9();
    let lookout = setup.start();
    assert_eq!(lookout.post("/agents/shop/clerk/trace/end", &first).status, 200);
    check(&lookout);
    let page = lookout.get("/metrics");
    assert!(!page.text().contains("C024BE91L"), "a channel is never a label");
}
