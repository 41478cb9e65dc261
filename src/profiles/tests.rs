//! Recorded exports of real tools against the usage that their model server reported.

mod counting;
mod hostile;
mod litellm;

use std::collections::BTreeMap;
use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::otlp::config::{AgentRule, ModelPrice};
use crate::otlp::wire::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Value, attribute, string_attribute};
use crate::otlp::{Encoding, Signal, decode};

/// Stands for the recorded body of LiteLLM's callback in place of a path.
const CALLBACK: &str = "callback";

/// Tokens, cost and request counts by agent and model.
type Sums = BTreeMap<String, ([u64; 5], f64, [u64; 4])>;

fn export(path: &str) -> Export {
    let file = format!("{}/tests/it/samples/otlp/{path}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut body = Vec::new();
    let packed = std::fs::read(&file).expect("a sample");
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut body).expect("gzip");
    let signal = Signal::ALL.into_iter().find(|signal| path.contains(signal.as_str())).expect("a signal");
    let encoding = if path.ends_with("json") { Encoding::Json } else { Encoding::Protobuf };
    decode(signal, encoding, false, &body, 100_000_000).expect("OTLP")
}

/// A time before the recordings.
fn before() -> Time {
    Time::parse("2026-11-21T00:00:00Z").expect("a time")
}

/// The calls of a recorded body of LiteLLM's callback.
fn callback() -> super::litellm::callback::CallbackCalls {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/samples/callback/litellm-1.106.2.json.gz");
    let mut body = Vec::new();
    let packed = std::fs::read(path).expect("a sample");
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut body).expect("gzip");
    super::litellm::callback::decode(&[], &body).expect("calls")
}

fn sums(profiles: &mut Profiles, paths: &[&str]) -> Sums {
    let mut sums = Sums::new();
    let extract = |path: &&str| match *path {
        CALLBACK => profiles.extract_callback(before(), &callback().request),
        path => profiles.extract(before(), &export(path)),
    };
    for agent in paths.iter().flat_map(extract) {
        let key = format!("{}/{} {}", agent.project, agent.agent, agent.model.as_deref().unwrap_or("-"));
        let (tokens, cost, counts) = sums.entry(key).or_default();
        tokens.iter_mut().zip(agent.tokens).for_each(|(sum, step)| *sum += step);
        *cost += agent.cost_usd.unwrap_or(0.0);
        let steps = [agent.requests, agent.request_errors, agent.rate_limit_hits, agent.retries];
        counts.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
    }
    sums.retain(|_, (tokens, cost, counts)| tokens.iter().chain(&*counts).any(|count| *count > 0) || *cost > 0.0);
    sums
}

/// Checks the totals, which must be the same in either order of the signals, and when all of them are sent again.
fn check(paths: &[&str], expected: &[(&str, [u64; 5], f64, [u64; 4])]) {
    let expected: Vec<_> = expected.to_vec();
    let mut orders = vec![paths.to_vec()];
    orders.push(paths.iter().rev().copied().collect());
    for order in orders {
        let mut profiles = Profiles::new(before(), &OtlpConfig::default());
        let found = sums(&mut profiles, &order);
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(keys, expected.iter().map(|it| it.0).collect::<Vec<_>>(), "{order:?} {found:#?}");
        for (key, tokens, cost, counts) in &expected {
            let (found_tokens, found_cost, found_counts) = &found[*key];
            assert_eq!((found_tokens, found_counts), (tokens, counts), "{key} {order:?}");
            assert!((found_cost - cost).abs() < 1e-9, "{key} {order:?}: {found_cost}");
        }
        assert_eq!(sums(&mut profiles, &order), Sums::new(), "sent again {order:?}");
    }
}

#[test]
fn claude_code_counts_once_in_three_signals_and_both_encodings() {
    let expected = [
        ("default/claude-code -", [0; 5], 0.0, [1, 0, 0, 0]),
        ("default/claude-code claude-opus-5-5", [1874, 57, 20480, 312, 0], 0.014_292, [0; 4]),
    ];
    for (name, ending) in [("success-http-json", "json"), ("success-grpc", "pb")] {
        let paths = ["001-traces", "002-logs", "003-metrics"].map(|it| format!("claude-code/{name}-{it}.{ending}"));
        check(&paths.each_ref().map(String::as_str), &expected);
    }
}

#[test]
fn codex_counts_once_in_logs_and_metrics() {
    let paths = ["codex/success-http-json-001-metrics.json", "codex/success-http-json-002-logs.json"];
    check(
        &paths,
        &[
            ("default/codex_exec -", [0; 5], 0.0, [1, 0, 0, 0]),
            ("default/codex_exec gpt-5.1-codex", [1134, 48, 4096, 0, 16], 0.0, [0; 4]),
        ],
    );
}

#[test]
fn gemini_cli_counts_once_with_its_gen_ai_metrics() {
    let paths = ["001-traces", "002-logs", "003-metrics"].map(|it| format!("gemini-cli/success-http-{it}.json"));
    let usage = [2120, 42, 4000, 0, 18];
    check(
        &paths.each_ref().map(String::as_str),
        &[
            ("default/gemini-cli@devbox -", [0; 5], 0.0, [2, 0, 0, 0]),
            ("default/gemini-cli@devbox gemini-3.5-flash-lite", usage, 0.0, [0; 4]),
            ("default/gemini-cli@devbox gemini-3.8-flash", usage, 0.0, [0; 4]),
        ],
    );
}

#[test]
fn codex_adds_up_the_requests_of_a_tool_run() {
    let paths = ["codex/tool-exec-001-metrics.pb", "codex/tool-exec-002-logs.pb"];
    check(
        &paths,
        &[
            ("default/codex_exec -", [0; 5], 0.0, [2, 0, 0, 0]),
            ("default/codex_exec gpt-5.1-codex", [2268, 96, 8192, 0, 32], 0.0, [0; 4]),
        ],
    );
}

#[test]
fn an_export_of_several_agents_is_attributed_to_each() {
    let spans = |agents: &[&str]| {
        let span = |place: usize, agent: &str| Span {
            trace_id: vec![1; 16],
            span_id: vec![u8::try_from(place).expect("few"); 8],
            name: "chat".to_owned(),
            attributes: [("gen_ai.operation.name", "chat"), ("gen_ai.agent.name", agent)]
                .map(|(key, value)| string_attribute(key, value))
                .into_iter()
                .chain([attribute("gen_ai.usage.input_tokens", Value::IntValue(10 + place as i64))])
                .collect(),
            ..Span::default()
        };
        let spans = agents.iter().enumerate().map(|(place, agent)| span(place, agent)).collect();
        let scope_spans = vec![ScopeSpans { scope: None, spans, ..ScopeSpans::default() }];
        Export::Traces(ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource: None, scope_spans, ..ResourceSpans::default() }],
        })
    };
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let agents = profiles.extract(before(), &spans(&["clerk", "manager", "clerk"]));
    let of = |agent: &str| {
        let its = agents.iter().filter(|it| &*it.agent == agent);
        its.fold((0, 0), |(tokens, requests), it| (tokens + it.tokens[0], requests + it.requests))
    };
    assert_eq!((of("clerk"), of("manager")), ((22, 2), (11, 1)));
}

#[test]
fn semantic_conventions_count_once_in_metrics_and_spans() {
    let paths = ["001-metrics", "003-metrics", "006-metrics", "007-metrics", "008-traces"];
    let paths = paths.map(|it| format!("python-sdk/http-delta-{it}.pb"));
    check(
        &paths.each_ref().map(String::as_str),
        &[
            ("shop/Shop Agent -", [0; 5], 0.0, [3, 1, 1, 0]),
            ("shop/Shop Agent gpt-4o-mini", [2402, 114, 0, 0, 0], 0.0, [0; 4]),
        ],
    );
}

#[test]
fn autogen_names_its_agents_and_its_client_reports_usage() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let agents = profiles.extract(before(), &export("autogen/team-tool-001-traces.pb"));
    let mut names: Vec<&str> = agents.iter().map(|it| &*it.agent).collect();
    names.sort_unstable();
    assert_eq!(names, ["clerk", "manager"]);
    assert!(agents.iter().all(|it| it.agent_type == "autogen" && !it.has_usage() && it.requests == 0), "{agents:?}");
    let found = sums(&mut profiles, &["autogen/error-500-hard-002-metrics.pb"]);
    assert_eq!(found.values().map(|(_, _, counts)| *counts).collect::<Vec<_>>(), [[1, 1, 0, 0]]);
}

#[test]
fn prices_and_names_come_from_the_configuration_where_telemetry_has_none() {
    let rule = AgentRule {
        r#match: [("service.name".to_owned(), "codex*".to_owned())].into(),
        agent: "builder".to_owned(),
        project: Some("shop".to_owned()),
    };
    let price = ModelPrice { input: 1.0, output: 10.0, cache_read: Some(0.1), ..ModelPrice::default() };
    let config =
        OtlpConfig { agents: vec![rule], prices: [("gpt-5*".to_owned(), price)].into(), ..OtlpConfig::default() };
    let mut profiles = Profiles::new(before(), &config);
    let found = sums(&mut profiles, &["codex/success-http-json-002-logs.json"]);
    let (_, cost, _) = found["shop/builder gpt-5.1-codex"];
    assert!((cost - (1134.0 + 10.0 * 64.0 + 0.1 * 4096.0) / 1e6).abs() < 1e-12, "{cost}");

    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let agents = profiles.extract(before(), &export("codex/success-http-json-002-logs.json"));
    assert!(agents.iter().filter(|it| it.has_usage()).all(|it| it.cost_usd.is_none()), "{agents:?}");
}

#[test]
fn cumulative_values_from_before_the_start_are_left_out() {
    let late = Time::parse("2026-11-25T00:00:00Z").expect("a time");
    let mut profiles = Profiles::new(late, &OtlpConfig::default());
    assert_eq!(sums(&mut profiles, &["gemini-cli/success-http-003-metrics.json"]), Sums::new());
}

#[test]
fn receptions_are_recorded_by_agent_and_signal() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    assert_eq!(profiles.receptions(), []);
    let later = before().plus(std::time::Duration::from_secs(5));
    profiles.extract(before(), &export("claude-code/success-http-json-002-logs.json"));
    profiles.extract(later, &export("claude-code/success-http-json-003-metrics.json"));
    profiles.extract(later, &export("claude-code/success-http-json-003-metrics.json"));
    let [reception] = &profiles.receptions()[..] else { panic!("one agent") };
    assert_eq!((&*reception.agent, reception.agent_type, reception.is_named), ("claude-code", "claude-code", false));
    let [Some(metrics), None, Some(logs), None] = reception.channels else { panic!("{reception:?}") };
    assert_eq!((metrics.last, logs.last), (later, before()));
    assert_eq!((metrics.brings, logs.brings), ([true, true, false], [true, true, true]));
    assert!(metrics.items > 3, "duplicates do not count: {metrics:?}");
}

proptest! {
    #[test]
    fn no_order_or_repetition_of_signals_counts_twice(
        signals in prop::collection::vec(0..3_usize, 1..12),
    ) {
        let names = ["001-traces", "002-logs", "003-metrics"];
        let paths: Vec<String> =
            signals.iter().map(|it| format!("claude-code/success-http-json-{}.json", names[*it])).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut profiles = Profiles::new(before(), &OtlpConfig::default());
        let found = sums(&mut profiles, &paths);
        let (tokens, cost, _) = &found["default/claude-code claude-opus-5-5"];
        prop_assert_eq!(tokens, &[1874, 57, 20480, 312, 0]);
        prop_assert!(*cost < 0.014_292 + 1e-9);
    }
}

#[test]
fn gemini_cli_counts_a_rejected_request_with_two_points_once() {
    let paths = ["gemini-cli/error-429-hard-002-metrics.json"];
    check(
        &paths,
        &[
            ("default/gemini-cli@devbox -", [0; 5], 0.0, [3, 2, 2, 0]),
            ("default/gemini-cli@devbox gemini-3.5-flash-lite", [2120, 42, 4000, 0, 18], 0.0, [0; 4]),
        ],
    );
}

#[test]
fn a_tool_that_names_itself_as_agent_adds_no_agent() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let paths = ["001-traces", "002-logs", "003-metrics"].map(|it| format!("gemini-cli/success-http-{it}.json"));
    let agents = paths.iter().flat_map(|path| profiles.extract(before(), &export(path)));
    let names: std::collections::BTreeSet<Arc<str>> = agents.map(|it| it.agent).collect();
    assert_eq!(names.iter().map(|it| &**it).collect::<Vec<_>>(), ["gemini-cli@devbox"]);
}

#[test]
fn a_flow_of_langflow_is_an_agent_and_its_runs_are_tasks() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let run = export("langflow/run-success-035-traces.pb");
    let [flow] = &profiles.extract(before(), &run)[..] else { panic!("one flow") };
    assert_eq!((&*flow.agent, flow.agent_type), ("flow-f4dcd9d9", "langflow"));
    let [EndedTask { is_done: true, took: Some(took) }] = flow.tasks[..] else { panic!("{flow:?}") };
    assert_eq!(took.as_millis(), 1_202);
    assert!(profiles.extract(before(), &run).is_empty(), "sent again");
    // Its metrics name no flow.
    let requests = sums(&mut profiles, &["langflow/run-success-034-metrics.pb", "langflow/run-success-040-metrics.pb"]);
    assert_eq!(
        requests.iter().map(|(agent, sums)| (&**agent, sums.2)).collect::<Vec<_>>(),
        [("default/langflow-shop -", [1, 0, 0, 0])]
    );

    let Export::Traces(mut failed) = run else { panic!("spans") };
    for span in failed.resource_spans.iter_mut().flat_map(|it| &mut it.scope_spans).flat_map(|it| &mut it.spans) {
        span.trace_id = b"another".to_vec();
        span.status = Some(crate::otlp::wire::Status { message: String::new(), code: 2 });
    }
    let rule = AgentRule {
        r#match: [("flow_id".to_owned(), "f4dcd9d9-*".to_owned())].into(),
        agent: "stock".to_owned(),
        project: Some("shop".to_owned()),
    };
    profiles.configure(&OtlpConfig { agents: vec![rule], ..OtlpConfig::default() });
    let agents = profiles.extract(before(), &Export::Traces(failed));
    let stock = agents.iter().find(|it| &*it.agent == "stock").expect("by its rule");
    assert!(matches!(stock.tasks[..], [EndedTask { is_done: false, .. }]) && stock.requests == 0, "{stock:?}");
}

/// However a run is split by a restart, and whatever is sent again after it, everything counts once.
#[test]
fn a_restart_counts_nothing_twice() {
    let runs: [(&str, &[&str]); 4] = [
        ("", &[CALLBACK, "litellm/six-calls-001-traces.pb"]),
        ("claude-code/success-http-json-", &["001-traces.json", "002-logs.json", "003-metrics.json"]),
        ("codex/tool-exec-", &["001-metrics.pb", "002-logs.pb"]),
        ("gemini-cli/success-http-", &["001-traces.json", "002-logs.json", "003-metrics.json"]),
    ];
    for (run, names) in runs {
        let paths: Vec<String> = names.iter().map(|name| format!("{run}{name}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let whole = sums(&mut Profiles::new(before(), &OtlpConfig::default()), &paths);
        for cut in 0..=paths.len() {
            let mut first = Profiles::new(before(), &OtlpConfig::default());
            let mut found = sums(&mut first, &paths[..cut]);
            let mut saved = CountingState::default();
            saved.merge(first.take_counting());
            let later = before().plus(std::time::Duration::from_secs(40 * 86_400));
            let mut second = Profiles::new(later, &OtlpConfig::default());
            second.restore(saved);
            for (key, (tokens, cost, counts)) in sums(&mut second, &[&paths[cut..], &paths[..]].concat()) {
                let known = found.entry(key).or_default();
                known.0.iter_mut().zip(tokens).for_each(|(sum, step)| *sum += step);
                known.1 += cost;
                known.2.iter_mut().zip(counts).for_each(|(sum, step)| *sum += step);
            }
            let shown =
                |sums: &Sums| format!("{:?}", sums.iter().map(|(key, it)| (key, it.0, it.2)).collect::<Vec<_>>());
            assert_eq!(shown(&found), shown(&whole), "{run} cut after {cut}");
        }
    }
}

#[test]
fn digests_of_another_scheme_are_not_restored() {
    let path = "claude-code/success-http-json-003-metrics.json";
    let mut first = Profiles::new(before(), &OtlpConfig::default());
    sums(&mut first, &[path]);
    let saved = CountingState { scheme: 1, ..first.take_counting() };
    let mut second = Profiles::new(before(), &OtlpConfig::default());
    second.restore(saved);
    assert!(!sums(&mut second, &[path]).is_empty());
}
