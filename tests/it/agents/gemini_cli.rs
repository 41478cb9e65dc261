//! Gemini CLI, which calls two models for each prompt: tokens of both, a rate limit that a retry overcomes, and an error.

use super::{Home, Shown, Sidecar, fails};
use crate::counterparts::{Need, run};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::GeminiCli, Need::Promtool];

pub(super) fn trials() -> Vec<Case> {
    ["http", "grpc"]
        .map(|protocol| {
            let name = format!("agents: Gemini CLI over {protocol} is counted as its provider counts");
            trial(&name, NEEDS, move || is_counted(protocol))
        })
        .into()
}

fn is_counted(protocol: &str) {
    let mut sidecar = Sidecar::start("otlp: {prices: {'gemini-*': {input: 2, output: 12, cache_read: 0.2}}}\n");
    let first = Usage { input: 2_120, output: 42, cache_read: 4_000, cache_creation: 0, reasoning: 18 };
    let model = Model::using(ModelBehavior::Answers, first);
    let home = Home::new();
    let settings = r#"{"security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false}, "general": {"enableAutoUpdate": false}}"#;
    home.write(".gemini/settings.json", settings);
    let printed = sidecar.printed("gemini-cli");
    let printed = match protocol {
        "grpc" => {
            let printed = printed.replace("OTLP_PROTOCOL=http", "OTLP_PROTOCOL=grpc");
            printed.replace(&sidecar.http.to_string(), &sidecar.grpc.to_string())
        }
        _ => printed,
    };
    let gemini = || {
        let mut gemini = home.command("gemini", &printed, 60);
        gemini.args(["-p", "count"]);
        gemini.envs([("GEMINI_API_KEY", "opens-nothing"), ("GOOGLE_GEMINI_BASE_URL", &model.url())]);
        gemini.env("GEMINI_CLI_TRUST_WORKSPACE", "true");
        gemini
    };
    let cost = |tokens: Usage| {
        let millionths = tokens.input as f64 * 2.0
            + (tokens.output + tokens.reasoning) as f64 * 12.0
            + tokens.cache_read as f64 * 0.2;
        millionths / 1e6
    };
    let shown = |errors: u64, rate_limit_hits: u64| {
        let totals = model.totals();
        let tokens = totals.sum();
        Shown { tokens, cost: cost(tokens), requests: totals.answers + errors, errors, rate_limit_hits, retries: 0 }
    };
    run(&mut gemini());
    assert_eq!((model.totals().answers, model.totals().tokens.len()), (2, 2));
    sidecar.shows("the first run", &shown(0, 0));

    sidecar.crash();
    sidecar.shows("as before the crash", &shown(0, 0));
    model.fail_next(429, 1);
    run(&mut gemini());
    assert_eq!((model.totals().answers, model.totals().errors), (4, 1));
    sidecar.shows("the second run", &shown(1, 1));

    model.set(ModelBehavior::Fails(401));
    fails(&mut gemini());
    sidecar.shows("the run that failed", &shown(model.totals().errors, 1));
    sidecar.is_well();
}
