//! AutoGen AgentChat: its own spans, and those and the metrics of OpenTelemetry's instrumentation of its client.

use super::{Home, Shown, Sidecar, fails};
use crate::counterparts::{Need, python, run};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::AutoGen, Need::Promtool];

pub(super) fn trials() -> Vec<Case> {
    vec![trial("agents: AutoGen over http and grpc is counted as its provider counts", NEEDS, is_counted)]
}

fn is_counted() {
    let prices = "otlp: {prices: {gpt-4o-mini: {input: 1, output: 10}}}\n";
    let mut sidecar = Sidecar::start(prices);
    let first = Usage { input: 640, output: 24, cache_read: 384, cache_creation: 0, reasoning: 8 };
    let model = Model::using(ModelBehavior::Answers, first);
    let home = Home::new();
    let printed = sidecar.printed("opentelemetry");
    let grpc = format!("http://{}", sidecar.grpc);
    let program = python().join("python3");
    let team = |protocol: &str| {
        let mut team = home.command(program.to_str().expect("a path"), &printed, 60);
        team.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/doubles/autogen_team.py"));
        team.env("MODEL_URL", model.url());
        if protocol == "grpc" {
            team.envs([("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_ENDPOINT", &grpc)]);
        }
        team
    };
    let shown = |requests: u64, errors: u64| {
        let all = model.totals().sum();
        // The instrumentation of its client reports neither cached tokens nor reasoning apart.
        let (input, output) = (all.input + all.cache_read, all.output + all.reasoning);
        let cost = (input as f64 + output as f64 * 10.0) / 1e6;
        Shown { tokens: Usage { input, output, ..Usage::default() }, cost, requests, errors, ..Shown::default() }
    };
    // A rate limit that a retry overcomes is not reported.
    model.fail_next(429, 1);
    run(&mut team("http/protobuf"));
    assert_eq!((model.totals().answers, model.totals().errors), (2, 1));
    sidecar.shows("the first run", &shown(2, 0));

    sidecar.crash();
    run(&mut team("grpc"));
    sidecar.shows("the second run", &shown(4, 0));

    model.set(ModelBehavior::Fails(500));
    fails(&mut team("http/protobuf"));
    assert_eq!(model.totals().errors, 4, "it is tried three times");
    sidecar.shows("the run that failed", &shown(5, 1));
    sidecar.is_well();
}
