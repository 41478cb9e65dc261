//! The page in a real browser: what changes is shown, actions work, and nothing keeps anyone out.

mod access;
mod actions;
mod axe;
mod connection;
#[allow(dead_code, reason = "the harness offers what tests take up")]
mod driver;
mod figures;
mod hostile;
mod live;

use std::time::Duration;

use serde_json::{Value, json};

use crate::Case;
use crate::program::{Lookout, Setup, eventually};
use driver::Browser;

pub(crate) fn trials() -> Vec<Case> {
    let all = [
        access::trials(),
        actions::trials(),
        axe::trials(),
        connection::trials(),
        figures::trials(),
        hostile::trials(),
        live::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// The program and its folder, which a test returns, so that it still runs when the console is looked at.
type Kept = (Setup, Lookout);

/// A program without receivers, in which two failed agents are two alerts.
fn start(config: &str) -> Kept {
    let setup = Setup::new(&format!("receivers: []\nrules: [rules.yaml]\n{config}"));
    setup.write("rules.yaml", "rules: [{name: AgentsDown, enabled: false}]\n");
    let lookout = setup.start();
    (setup, lookout)
}

/// Pushes agents of the project `shop`.
fn push(lookout: &Lookout, agents: &Value) {
    let answer = lookout.post("/api/state", &json!({"project": "shop", "agents": agents}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("rejected").is_none(), "{}", answer.text());
}

/// A fleet with an agent of each kind, and the fingerprint of the alert about `failing_fay`.
fn push_fleet(lookout: &Lookout) -> String {
    push(
        lookout,
        &json!([
            {"name": "asking_ann", "status": "waiting_question", "reason": "permission to run Bash"},
            {"name": "failing_fay", "status": "running", "type": "claude-code", "task_id": "t1"},
            {"name": "limited_lee", "status": "running", "rate_limits": [
                {"provider": "anthropic", "limit": 100, "remaining": 0, "reset_seconds": 900}]},
            {"name": "working_wil", "status": "running", "type": "codex", "phase": "test", "model": "gpt-5",
             "tokens": {"input": 1200, "output": 300}, "cost_usd": 0.42, "requests": 4},
            {"name": "idle_ida", "status": "idle"},
            {"name": "done_dan", "status": "completed"}]),
    );
    push(lookout, &json!([{"name": "failing_fay", "status": "failed", "reason": "exit code 137"}]));
    alert_about(lookout, "failing_fay")
}

/// The fingerprint of the alert about an agent, once it fires.
fn alert_about(lookout: &Lookout, agent: &str) -> String {
    eventually("an alert", || {
        let alerts = lookout.get(&format!("/api/alerts?state=firing&agent={agent}")).json();
        alerts["alerts"][0]["fingerprint"].as_str().map(ToOwned::to_owned)
    })
}

/// Two runs of an agent, and the id of each.
fn runs(lookout: &Lookout) -> Vec<String> {
    let agent = json!({"name": "working_wil", "type": "codex", "project_id": "shop"});
    let registered = lookout.post("/agents/register", &agent);
    assert!(registered.status < 300, "{}", registered.text());
    let ids = ["nightly build", "morning build"].map(|name| {
        let started = lookout.post("/agents/shop/working_wil/trace/start", &json!({"name": name}));
        let id = started.json()["trace_id"].as_str().expect("an id").to_owned();
        let tokens = json!({"input": 100, "output": 20});
        let end = json!({"trace_id": id, "status": "error", "error": "no space left", "tokens": tokens});
        assert_eq!(lookout.post("/agents/shop/working_wil/trace/end", &end).status, 200);
        id
    });
    ids.into()
}

/// Opens a page, and waits until it follows the stream.
fn open_live(browser: &Browser, url: &str) {
    browser.go(url);
    browser.until("return document.querySelector('#live')?.dataset.state === 'live'");
}

/// The median and the 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[(times.len() * 99 / 100).min(times.len() - 1)])
}
