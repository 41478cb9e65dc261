//! Recorded samples of real tools against what their model server handed out.

use std::collections::BTreeMap;
use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::sources::otlp::config::{AgentRule, Price};
use crate::sources::otlp::{Encoding, Signal, decode};

/// Sums by agent and model.
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

/// Some time before the recordings.
fn before() -> Time {
    Time::parse("2026-11-20T00:00:00Z").expect("a time")
}

fn sums(profiles: &mut Profiles, paths: &[&str]) -> Sums {
    let mut sums = Sums::new();
    for said in paths.iter().flat_map(|path| profiles.distil(before(), &export(path))) {
        let key = format!("{}/{} {}", said.project, said.agent, said.model.as_deref().unwrap_or("-"));
        let (tokens, cost, counts) = sums.entry(key).or_default();
        tokens.iter_mut().zip(said.tokens).for_each(|(sum, step)| *sum += step);
        *cost += said.cost_usd.unwrap_or(0.0);
        let steps = [said.requests, said.request_errors, said.rate_limit_hits, said.retries];
        counts.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
    }
    sums.retain(|_, (tokens, cost, counts)| tokens.iter().chain(&*counts).any(|count| *count > 0) || *cost > 0.0);
    sums
}

/// Whatever the order of the signals, and when all is sent again, the totals are these.
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
fn gemini_cli_counts_once_beside_its_general_metrics() {
    let paths = ["001-traces", "002-logs", "003-metrics"].map(|it| format!("gemini-cli/success-http-{it}.json"));
    let handed_out = [2120, 42, 4000, 0, 18];
    check(
        &paths.each_ref().map(String::as_str),
        &[
            ("default/gemini-cli@devbox -", [0; 5], 0.0, [2, 0, 0, 0]),
            ("default/gemini-cli@devbox gemini-3.5-flash-lite", handed_out, 0.0, [0; 4]),
            ("default/gemini-cli@devbox gemini-3.8-flash", handed_out, 0.0, [0; 4]),
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
fn litellm_belongs_to_the_caller_whom_its_metadata_names() {
    check(
        &["litellm/rate-limit-429-then-success-004-traces.pb"],
        &[
            ("default/shop-agent-1 -", [0; 5], 0.0, [1, 0, 0, 0]),
            ("default/shop-agent-1 gpt-4o-mini", [64, 16, 64, 0, 0], 0.000_024, [0; 4]),
        ],
    );
    let paths = ["001-traces", "002-traces", "003-metrics"].map(|it| format!("litellm/v2-success-grpc-{it}.pb"));
    check(
        &paths.each_ref().map(String::as_str),
        &[
            ("default/litellm -", [0; 5], 0.0, [1, 0, 0, 0]),
            ("default/litellm shop-gpt", [64, 16, 64, 0, 0], 0.0, [0; 4]),
        ],
    );
}

#[test]
fn the_conventions_count_once_in_metrics_and_spans() {
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
fn autogen_names_its_agents_and_its_client_counts() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let said = profiles.distil(before(), &export("autogen/team-tool-001-traces.pb"));
    let mut names: Vec<&str> = said.iter().map(|it| &*it.agent).collect();
    names.sort_unstable();
    assert_eq!(names, ["clerk", "manager"]);
    assert!(said.iter().all(|it| it.agent_type == "autogen" && !it.has_usage() && it.requests == 0), "{said:?}");
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
    let price = Price { input: 1.0, output: 10.0, cache_read: Some(0.1), ..Price::default() };
    let config =
        OtlpConfig { agents: vec![rule], prices: [("gpt-5*".to_owned(), price)].into(), ..OtlpConfig::default() };
    let mut profiles = Profiles::new(before(), &config);
    let found = sums(&mut profiles, &["codex/success-http-json-002-logs.json"]);
    let (_, cost, _) = found["shop/builder gpt-5.1-codex"];
    assert!((cost - (1134.0 + 10.0 * 64.0 + 0.1 * 4096.0) / 1e6).abs() < 1e-12, "{cost}");

    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let said = profiles.distil(before(), &export("codex/success-http-json-002-logs.json"));
    assert!(said.iter().filter(|it| it.has_usage()).all(|it| it.cost_usd.is_none()), "{said:?}");
}

#[test]
fn what_was_counted_before_we_listened_is_left_out() {
    let late = Time::parse("2026-11-25T00:00:00Z").expect("a time");
    let mut profiles = Profiles::new(late, &OtlpConfig::default());
    assert_eq!(sums(&mut profiles, &["gemini-cli/success-http-003-metrics.json"]), Sums::new());
}

#[test]
fn litellm_names_the_agent_inside_a_text() {
    let python = "{'user': 'x', 'agent_id': 'shop-agent-1', 'n': 1}";
    assert_eq!(litellm::inner(python, "agent_id"), Some("shop-agent-1"));
    assert_eq!(litellm::inner("{\"agent_id\": \"a\"}", "agent_id"), Some("a"));
    assert_eq!(litellm::inner("{'agent_id': None}", "agent_id"), None);
}

#[test]
fn what_arrives_is_noted_by_agent_and_signal() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    assert_eq!(profiles.receptions(), []);
    let later = before().plus(std::time::Duration::from_secs(5));
    profiles.distil(before(), &export("claude-code/success-http-json-002-logs.json"));
    profiles.distil(later, &export("claude-code/success-http-json-003-metrics.json"));
    profiles.distil(later, &export("claude-code/success-http-json-003-metrics.json"));
    let [reception] = &profiles.receptions()[..] else { panic!("one agent") };
    assert_eq!((&*reception.agent, reception.agent_type, reception.is_named), ("claude-code", "claude-code", false));
    let [Some(metrics), None, Some(logs)] = reception.signals else { panic!("{reception:?}") };
    assert_eq!((metrics.last, logs.last), (later, before()));
    assert_eq!((metrics.brings, logs.brings), ([true, true, false], [true, true, true]));
    assert!(metrics.items > 3, "what is sent again does not count: {metrics:?}");
}

proptest! {
    #[test]
    fn the_order_of_signals_and_repeats_never_count_twice(
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
fn gemini_cli_counts_each_refusal_once_though_it_has_two_points() {
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
fn a_tool_that_calls_itself_the_agent_is_not_a_second_one() {
    let mut profiles = Profiles::new(before(), &OtlpConfig::default());
    let paths = ["001-traces", "002-logs", "003-metrics"].map(|it| format!("gemini-cli/success-http-{it}.json"));
    let said = paths.iter().flat_map(|path| profiles.distil(before(), &export(path)));
    let names: std::collections::BTreeSet<Arc<str>> = said.map(|it| it.agent).collect();
    assert_eq!(names.iter().map(|it| &**it).collect::<Vec<_>>(), ["gemini-cli@devbox"]);
}

/// Whatever of a run came before a restart and whatever is sent again after it, all of it counts once.
#[test]
fn a_restart_counts_nothing_twice() {
    let runs: [(&str, &[&str]); 3] = [
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
            let mut saved = Counting::default();
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
fn digests_that_were_made_otherwise_are_not_taken_over() {
    let path = "claude-code/success-http-json-003-metrics.json";
    let mut first = Profiles::new(before(), &OtlpConfig::default());
    sums(&mut first, &[path]);
    let saved = Counting { scheme: 1, ..first.take_counting() };
    let mut second = Profiles::new(before(), &OtlpConfig::default());
    second.restore(saved);
    assert!(!sums(&mut second, &[path]).is_empty());
}
