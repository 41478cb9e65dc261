//! The real Claude Code, piped: a rate-limited request that a retry completes, and its usage.

use std::fs;

use serde_json::Value;

use super::{agent, tokens, value};
use crate::counterparts::{Need, run};
use crate::doubles::model::ModelBehavior;
use crate::hooks::claude_code::Home;
use crate::program::Setup;
use crate::{Case, trial};

pub(super) fn trials() -> Vec<Case> {
    vec![trial(
        "pipe: the real Claude Code is rate-limited, retries and completes",
        &[Need::ClaudeCode],
        a_cured_refusal,
    )]
}

fn a_cured_refusal() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let home = Home::new(ModelBehavior::UsesShell);
    home.model.fail_next(429, 1);
    let printed = setup.path().join("printed");
    let line = "claude -p count --allowedTools Bash --output-format stream-json --verbose \
                | tee \"$1\" | \"$2\" pipe --agent writer --url \"$3\"";
    let program = crate::program::lookout();
    let mut shell = home.command("sh");
    shell.args(["-c", line, "sh"]).arg(&printed).arg(program).arg(lookout.url());
    let passed = run(shell.stdin(std::process::Stdio::null()));
    let printed = fs::read_to_string(printed).expect("what it printed");
    assert_eq!(passed, printed);
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let retries = lines.iter().filter(|line| line["subtype"] == "api_retry" && line["error_status"] == 429).count();
    assert_eq!(retries, 1, "{printed}");
    let result = lines.iter().find(|line| line["type"] == "result").expect("a result");
    let cost = result["total_cost_usd"].as_f64().expect("a cost");
    let totals = home.model.totals();
    // The tool call and the final sentence, besides requests of its own.
    assert!(totals.answers >= 2 && totals.errors == 1 && cost > 0.0, "{totals:?} for {cost}");
    let now = agent(&lookout, "writer").expect("an agent");
    assert_eq!((&now["status"], &now["type"]), (&Value::from("completed"), &Value::from("claude-code")));
    let used = totals.sum();
    let used = [used.input, used.output, used.cache_read, used.cache_creation].map(|tokens| tokens as f64);
    assert_eq!(tokens(&lookout, "writer")[..4], used);
    let spent = value(&lookout, "cost_usd_total", "writer", "").expect("a cost");
    assert!((spent - cost).abs() < 1e-9, "{spent} for {cost}");
    for (family, count) in [("rate_limit_hits_total", 1.0), ("retries_total", 1.0), ("request_errors_total", 1.0)] {
        assert_eq!(value(&lookout, family, "writer", ""), Some(count), "{family}");
    }
}
