//! Claude Code's telemetry: tokens, cost, a rate limit that a retry overcomes, and a permanent error.

use std::process::Command;

use serde_json::Value;

use super::{Home, Shown, Sidecar, fails};
use crate::counterparts::{Need, run};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::ClaudeCode, Need::Promtool];
/// An invalid key.
const KEY: &str = "sk-ant-api03-opens-nothing-at-all-livesecret";

pub(super) fn trials() -> Vec<Case> {
    ["http/protobuf", "http/json", "grpc"]
        .map(|protocol| {
            let name = format!("agents: Claude Code over {protocol} is counted as its provider counts");
            trial(&name, NEEDS, move || is_counted(protocol))
        })
        .into()
}

fn is_counted(protocol: &str) {
    let mut sidecar = Sidecar::start("");
    let first = Usage { input: 1_874, output: 57, cache_read: 20_480, cache_creation: 312, reasoning: 0 };
    let model = Model::using(ModelBehavior::Answers, first);
    let home = Home::new();
    let printed = sidecar.printed("claude-code").replace("http/protobuf", protocol);
    let printed = match protocol {
        "grpc" => printed.replace(&sidecar.http.to_string(), &sidecar.grpc.to_string()),
        _ => printed,
    };
    let claude = || -> Command {
        let mut claude = home.command("claude", &printed, 60);
        claude.args(["-p", "count", "--output-format", "json"]);
        claude.envs([("ANTHROPIC_API_KEY", KEY), ("ANTHROPIC_BASE_URL", &model.url())]);
        claude.envs([("DISABLE_AUTOUPDATER", "1"), ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")]);
        claude
    };
    // The cost comes from its own price table, since the provider reports none.
    let cost = || {
        let result: Value = serde_json::from_str(&run(&mut claude())).expect("JSON");
        result["total_cost_usd"].as_f64().filter(|cost| *cost > 0.0).expect("a cost")
    };
    let mut expected = Shown { cost: cost(), requests: 1, ..Shown::default() };
    expected.tokens = model.totals().sum();
    assert_eq!(expected.tokens, first);
    sidecar.shows("the first run", &expected);

    sidecar.crash();
    sidecar.shows("as before the crash", &expected);
    model.fail_next(429, 1);
    expected.cost += cost();
    // Each attempt is a request.
    expected = Shown { tokens: model.totals().sum(), requests: 3, errors: 1, retries: 1, ..expected };
    assert_eq!((model.totals().answers, model.totals().errors), (2, 1));
    sidecar.shows("the second run", &expected);

    model.set(ModelBehavior::Fails(500));
    fails(claude().env("CLAUDE_CODE_MAX_RETRIES", "0"));
    expected = Shown { requests: 4, errors: 2, ..expected };
    sidecar.shows("the run that failed", &expected);
    // Tasks are known from hooks alone, which are not set up here.
    sidecar.doctor_reports(
        "shop/builder: no hooks arrive, so tasks and waiting for a person are unknown; add the hooks of \
         `lookout setup claude-code`\n1 agent, 1 thing to fix",
    );
    assert!(!sidecar.lookout().get("/metrics").text().contains("livesecret"));
}
