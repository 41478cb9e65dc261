//! Codex: tokens by the price table of the configuration, a rate limit that a retry overcomes, and a run that fails.

use super::{Home, Shown, Sidecar, fails};
use crate::counterparts::{Need, run};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::Codex, Need::Promtool];

pub(super) fn trials() -> Vec<Case> {
    ["binary", "json", "grpc"]
        .map(|protocol| {
            let name = format!("agents: Codex over {protocol} is counted as its provider counts");
            trial(&name, NEEDS, move || is_counted(protocol))
        })
        .into()
}

fn is_counted(protocol: &str) {
    let mut sidecar = Sidecar::start("otlp: {prices: {'gpt-5*': {input: 1.25, output: 10, cache_read: 0.125}}}\n");
    let first = Usage { input: 1_134, output: 48, cache_read: 4_096, cache_creation: 0, reasoning: 16 };
    let model = Model::using(ModelBehavior::Answers, first);
    let home = Home::new();
    let printed = sidecar.printed("codex");
    let (_, settings) = printed.split_once("config.toml:\n").expect("settings");
    let settings = settings.split_once("\n\n").map_or(settings, |(settings, _)| settings);
    let settings = match protocol {
        "grpc" => over_grpc(settings, &sidecar),
        _ => settings.replace("\"binary\"", &format!("\"{protocol}\"")),
    };
    let provider = format!(
        "model = \"gpt-5.1-codex\"\nmodel_provider = \"ours\"\ncheck_for_update_on_startup = false\n\
         [model_providers.ours]\nname = \"ours\"\nbase_url = \"{}/v1\"\nenv_key = \"KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 0\nstream_max_retries = 1\n",
        model.url()
    );
    home.write(".codex/config.toml", &format!("{provider}{settings}"));
    let codex = || {
        let mut codex = home.command("codex", &printed, 60);
        codex.args(["exec", "--skip-git-repo-check", "count"]).env("KEY", "opens-nothing");
        codex
    };
    let cost = |tokens: Usage| {
        let millionths = tokens.input as f64 * 1.25
            + (tokens.output + tokens.reasoning) as f64 * 10.0
            + tokens.cache_read as f64 * 0.125;
        millionths / 1e6
    };
    let shown = |requests: u64, errors: u64, rate_limit_hits: u64| {
        let tokens = model.totals().sum();
        Shown { tokens, cost: cost(tokens), requests, errors, rate_limit_hits, retries: 0 }
    };
    run(&mut codex());
    assert_eq!(model.totals().sum(), first);
    sidecar.shows("the first run", &shown(1, 0, 0));

    sidecar.crash();
    sidecar.shows("as before the crash", &shown(1, 0, 0));
    model.fail_next(429, 1);
    run(&mut codex());
    assert_eq!((model.totals().answers, model.totals().errors), (2, 1));
    // It reopens the stream, which it does not report as another attempt.
    sidecar.shows("the second run", &shown(3, 1, 1));

    model.set(ModelBehavior::Fails(401));
    fails(&mut codex());
    let failed = model.totals().errors - 1;
    sidecar.shows("the run that failed", &shown(3 + failed, 1 + failed, 1));
    sidecar.is_well();
}

/// The same exporters over gRPC.
fn over_grpc(settings: &str, sidecar: &Sidecar) -> String {
    let exporter = format!("{{ otlp-grpc = {{ endpoint = \"http://{}\" }} }}", sidecar.grpc);
    let line = |line: &str| match line.split_once(" = { otlp-http") {
        Some((key, _)) => format!("{key} = {exporter}"),
        None => line.to_owned(),
    };
    settings.lines().map(line).collect::<Vec<_>>().join("\n")
}
