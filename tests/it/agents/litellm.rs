//! LiteLLM's proxy: its spans and its generic callback, alone and together, through rate limits, a failure and a restart of
//! lookout between calls.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{AGENT, Home, PROJECT, Shown, Sidecar, free};
use crate::counterparts::{Need, python};
use crate::doubles::model::{Model, ModelBehavior, Usage};
use crate::http;
use crate::program::within;
use crate::{Case, trial};

const NEEDS: &[Need] = &[Need::LiteLlm, Need::Promtool];

pub(super) fn trials() -> Vec<Case> {
    vec![
        trial("agents: LiteLLM's spans and its callback are counted once, as its provider counts", NEEDS, both_ways),
        trial("agents: LiteLLM's newer spans over grpc are counted as its provider counts", NEEDS, newer_spans),
    ]
}

/// How long the proxy may take to start, which is long.
const START: Duration = Duration::from_secs(150);
/// The key that callers of the proxy send.
const KEY: &str = "sk-opens-nothing-at-all-litellm";
const FIRST: Usage = Usage { input: 640, output: 24, cache_read: 384, cache_creation: 0, reasoning: 8 };

/// A running proxy. Dropping it stops it.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    /// Starts a proxy in front of `model`, with `settings` and the variables that `printed` exports.
    pub(crate) fn start(
        home: &Home,
        model: &Model,
        settings: &str,
        printed: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let config = format!(
            "model_list:\n  - model_name: house\n    litellm_params: {{model: openai/gpt-4o-mini, api_base: \"{}/v1\", \
             api_key: opens-nothing, input_cost_per_token: 0.000001, output_cost_per_token: 0.00001, \
             cache_read_input_token_cost: 0.0000001}}\nrouter_settings: {{num_retries: 2}}\n\
             general_settings: {{master_key: {KEY}}}\n{settings}",
            model.url()
        );
        home.write("shop/config.yaml", &config);
        let address = free();
        // Run by the interpreter, since the path in the script's first line may no longer exist.
        let program = python().join("python3");
        let mut command = home.command(program.to_str().expect("a path"), printed, 300);
        command.arg(python().join("litellm"));
        command.args(["--config", "config.yaml", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
        // It uses its built-in prices and fetches none.
        command.envs([("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_MODE", "PRODUCTION")]);
        command.envs([("DEFAULT_FLUSH_INTERVAL_SECONDS", "1"), ("OTEL_BSP_SCHEDULE_DELAY", "500")]);
        command.envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        let proxy = Self { child: command.spawn().expect("it starts"), address };
        within(START, "LiteLLM's proxy", || {
            let answer = http::request(address, "GET", "/health/liveliness", &[], b"").ok()?;
            (answer.status == 200).then_some(())
        });
        proxy
    }

    /// Calls the model as the agent does; returns the status of the response.
    pub(crate) fn call(&self, more: &Value) -> u16 {
        let mut body = json!({"model": "house", "messages": [{"role": "user", "content": "How many items?"}],
            "metadata": {"agent_id": AGENT}});
        body.as_object_mut().expect("fields").extend(more.as_object().cloned().unwrap_or_default());
        let authorization = format!("Bearer {KEY}");
        let headers = [("content-type", "application/json"), ("authorization", &*authorization)];
        let path = "/v1/chat/completions";
        http::request(self.address, "POST", path, &headers, body.to_string().as_bytes()).expect("an answer").status
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // `timeout` forwards the signal, and may have exited already.
        let line = format!("kill -s TERM {}", self.child.id());
        drop(std::process::Command::new("sh").args(["-c", &line]).status());
        drop(self.child.wait());
    }
}

/// The expected usage after so many requests, errors, 429s and retries.
fn shown(model: &Model, [requests, errors, rate_limit_hits, retries]: [u64; 4]) -> Shown {
    let tokens = model.totals().sum();
    let millionths =
        tokens.input as f64 + (tokens.output + tokens.reasoning) as f64 * 10.0 + tokens.cache_read as f64 / 10.0;
    Shown { tokens, cost: millionths / 1e6, requests, errors, rate_limit_hits, retries }
}

fn both_ways() {
    let mut spans_and_callback = Sidecar::start("");
    let mut callback = Sidecar::start("");
    let model = Model::using(ModelBehavior::Answers, FIRST);
    let home = Home::new();
    let printed = spans_and_callback.printed("litellm");
    let settings_of = |printed: &str| {
        let (_, settings) = printed.split_once("callback_settings:\n").expect("the callback");
        settings.split_once("\n\n").expect("an end").0.to_owned()
    };
    let elsewhere = settings_of(&callback.printed("litellm")).replacen("lookout:", "elsewhere:", 1);
    let settings = format!(
        "litellm_settings: {{callbacks: [otel, lookout, elsewhere]}}\ncallback_settings:\n{}\n{elsewhere}\n",
        settings_of(&printed)
    );
    let proxy = Proxy::start(&home, &model, &settings, &printed, &[]);
    let both_show = |what: &str, one: &Sidecar, other: &Sidecar, counts: [u64; 4]| {
        one.shows(&format!("spans and callback: {what}"), &shown(&model, counts));
        other.shows(&format!("callback: {what}"), &shown(&model, counts));
    };
    assert_eq!(proxy.call(&json!({})), 200);
    assert_eq!(model.totals().sum(), FIRST);
    both_show("the first call", &spans_and_callback, &callback, [1, 0, 0, 0]);

    spans_and_callback.crash();
    callback.crash();
    model.fail_next(429, 1);
    assert_eq!(proxy.call(&json!({})), 200);
    assert_eq!((model.totals().answers, model.totals().errors), (2, 1));
    both_show("an error and an answer", &spans_and_callback, &callback, [3, 1, 1, 1]);

    assert_eq!(proxy.call(&json!({"stream": true, "stream_options": {"include_usage": true}})), 200);
    both_show("a stream", &spans_and_callback, &callback, [4, 1, 1, 1]);

    model.set(ModelBehavior::Fails(500));
    assert_eq!(proxy.call(&json!({})), 500);
    assert_eq!(model.totals().errors, 4, "it is tried three times");
    // It reports that once.
    both_show("a failure for good", &spans_and_callback, &callback, [5, 2, 1, 1]);
    spans_and_callback.is_well();
    let output = callback.doctor();
    assert!(output.contains("callback") && output.contains("only the callback arrives"), "{output}");
}

fn newer_spans() {
    // They report neither the caller nor reasoning apart.
    let newer = |model: &Model, counts: [u64; 4]| {
        let shown = shown(model, counts);
        let output = shown.tokens.output + shown.tokens.reasoning;
        Shown { tokens: Usage { output, reasoning: 0, ..shown.tokens }, ..shown }
    };
    let rule = format!("otlp: {{agents: [{{match: {{service.name: litellm}}, agent: {AGENT}, project: {PROJECT}}}]}}");
    let mut sidecar = Sidecar::start(&rule);
    let model = Model::using(ModelBehavior::Answers, FIRST);
    let home = Home::new();
    let endpoint = format!("http://{}", sidecar.grpc);
    let environment = [
        ("LITELLM_OTEL_V2", "true"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
    ];
    let proxy = Proxy::start(&home, &model, "litellm_settings: {callbacks: [otel]}\n", "", &environment);
    assert_eq!(proxy.call(&json!({})), 200);
    sidecar.shows("the first call", &newer(&model, [1, 0, 0, 0]));

    sidecar.crash();
    model.fail_next(429, 1);
    assert_eq!(proxy.call(&json!({})), 200);
    sidecar.shows("an error and an answer", &newer(&model, [3, 1, 1, 0]));

    model.set(ModelBehavior::Fails(500));
    assert_eq!(proxy.call(&json!({})), 500);
    sidecar.shows("a failure for good", &newer(&model, [4, 2, 1, 0]));
    sidecar.is_well();
}
