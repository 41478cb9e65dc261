//! Hostile telemetry: attributes that are read, with values of any type and size.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::decode::read::MAX_COUNT;
use crate::otlp::wire::{
    ArrayValue, Data, ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Histogram,
    HistogramDataPoint, InstrumentationScope, Metric, Number, NumberDataPoint, Resource, ResourceLogs, ResourceMetrics,
    ResourceSpans, ScopeLogs, ScopeMetrics, ScopeSpans, Status, Sum, Value, attribute, span,
};
use crate::text::is_name;

/// Attributes that some profile reads.
const KEYS: [&str; 44] = [
    "service.name",
    "service.instance.id",
    "host.name",
    "agent.name",
    "gen_ai.agent.name",
    "agent_id",
    "project",
    "service.namespace",
    "session.id",
    "type",
    "token_type",
    "gen_ai.token.type",
    "model",
    "gen_ai.request.model",
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.response.id",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.cost.total_cost",
    "litellm.call_id",
    "litellm.provider.model",
    "metadata.requester_metadata",
    "metadata.usage_object",
    "metadata.user_api_key_alias",
    "hidden_params",
    "flow_id",
    "status",
    "status_code",
    "error.type",
    "error.message",
    "success",
    "attempt",
    "retry_after",
    "duration_ms",
    "event.name",
    "event.kind",
    "input_tokens",
    "output_token_count",
    "cached_token_count",
    "cost_usd",
    "http.response.header.x-ratelimit-remaining-requests",
];
/// Names of tools, metrics and events, and values of attributes.
const WORDS: [&str; 40] = [
    "claude-code",
    "codex_exec",
    "gemini-cli",
    "litellm",
    "autogen-core",
    "langflow.observability",
    "claude_code.token.usage",
    "claude_code.cost.usage",
    "claude_code.api_request",
    "claude_code.llm_request",
    "codex.turn.token_usage",
    "codex.api_request",
    "codex.sse_event",
    "gemini_cli.token.usage",
    "gemini_cli.api.request.count",
    "gemini_cli.api_response",
    "gen_ai.client.token.usage",
    "gen_ai.client.operation.duration",
    "litellm_request",
    "litellm.callback",
    "flow.execute",
    "chat",
    "response.completed",
    "input",
    "output",
    "cacheRead",
    "cached_input",
    "thought",
    "429",
    "NaN",
    "-1",
    "1e400",
    "999999999999999999999999",
    "try again in 99999999999999s",
    "{'agent_id': 'a', 'cached_tokens': 4294967295}",
    "{\"additional_headers\": {\"x-litellm-attempted-retries\": 4294967295, \"retry-after\": \"1e300\"}}",
    "3f2b8c1de4a54f6b9c0d1e2f3a4b5c6d",
    "a\u{202e}b\u{7}",
    "",
    "some-agent",
];

fn value() -> impl Strategy<Value = Option<Value>> {
    let number = prop_oneof![
        any::<f64>(),
        select(&[f64::NAN, f64::INFINITY, -1.0, 1e308, 0.5, 429.0, 1e18, 3.0][..]),
        0.0..1e6,
    ];
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(|word| Some(Value::StringValue(word.to_owned()))),
        3 => number.prop_map(|number| Some(Value::DoubleValue(number))),
        3 => prop_oneof![any::<i64>(), 0..1000_i64].prop_map(|number| Some(Value::IntValue(number))),
        1 => any::<bool>().prop_map(|flag| Some(Value::BoolValue(flag))),
        1 => any::<String>().prop_map(|text| Some(Value::StringValue(text))),
        1 => Just(Some(Value::ArrayValue(ArrayValue { values: Vec::new() }))),
        1 => Just(None),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let one = (select(&KEYS[..]), value()).prop_map(|(key, value)| match value {
        Some(value) => attribute(key, value),
        None => KeyValue { key: key.to_owned(), value: None, ..KeyValue::default() },
    });
    prop::collection::vec(one, 0..9)
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), 1_795_000_000_000_000_000..1_796_000_000_000_000_000_u64]
}

/// One item of each signal, with the same attributes and resource.
fn exports() -> impl Strategy<Value = Vec<Export>> {
    let point = (any::<f64>(), any::<u64>(), prop::option::of(any::<i64>()), 0..4_i32);
    let item =
        (select(&WORDS[..]), select(&WORDS[..]), attributes(), attributes(), (time(), time()), point, any::<[u8; 2]>());
    item.prop_map(|(scope, name, resource, attributes, (start, end), (number, count, int, temporality), id)| {
        let resource = Some(Resource { attributes: resource, ..Resource::default() });
        let scope = Some(InstrumentationScope { name: scope.to_owned(), ..InstrumentationScope::default() });
        let (start_time_unix_nano, time_unix_nano) = (start, end);
        let sum = NumberDataPoint {
            attributes: attributes.clone(),
            start_time_unix_nano,
            time_unix_nano,
            value: Some(int.map_or(Number::AsDouble(number), Number::AsInt)),
            ..NumberDataPoint::default()
        };
        let histogram = HistogramDataPoint {
            attributes: attributes.clone(),
            start_time_unix_nano,
            time_unix_nano,
            count,
            sum: Some(number),
            ..HistogramDataPoint::default()
        };
        let aggregation_temporality = temporality;
        let sum = Data::Sum(Sum { data_points: vec![sum], aggregation_temporality, is_monotonic: true });
        let histogram = Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality });
        let metrics =
            [sum, histogram].map(|data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() });
        let record = LogRecord {
            time_unix_nano,
            event_name: name.to_owned(),
            attributes: attributes.clone(),
            ..LogRecord::default()
        };
        let event =
            span::Event { name: "exception".to_owned(), attributes: attributes.clone(), ..span::Event::default() };
        let span = Span {
            trace_id: id.to_vec(),
            span_id: id.to_vec(),
            name: name.to_owned(),
            start_time_unix_nano,
            end_time_unix_nano: end,
            attributes,
            events: vec![event],
            status: Some(Status { message: name.to_owned(), code: i32::from(id[0] % 3) }),
            ..Span::default()
        };
        let scope_metrics =
            vec![ScopeMetrics { scope: scope.clone(), metrics: metrics.to_vec(), ..ScopeMetrics::default() }];
        let scope_logs = vec![ScopeLogs { scope: scope.clone(), log_records: vec![record], ..ScopeLogs::default() }];
        let scope_spans = vec![ScopeSpans { scope, spans: vec![span], ..ScopeSpans::default() }];
        vec![
            Export::Metrics(ExportMetricsServiceRequest {
                resource_metrics: vec![ResourceMetrics {
                    resource: resource.clone(),
                    scope_metrics,
                    ..ResourceMetrics::default()
                }],
            }),
            Export::Logs(ExportLogsServiceRequest {
                resource_logs: vec![ResourceLogs { resource: resource.clone(), scope_logs, ..ResourceLogs::default() }],
            }),
            Export::Traces(ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn hostile_telemetry_only_adds_and_yields_valid_names(sent in prop::collection::vec(exports(), 1..8)) {
        let config = OtlpConfig {
            prices: [("*".to_owned(), ModelPrice { input: 1.0, output: 2.0, ..ModelPrice::default() })].into(),
            ..OtlpConfig::default()
        };
        let mut profiles = Profiles::new(before(), &config);
        let mut agents = std::collections::BTreeSet::new();
        let exports: Vec<&Export> = sent.iter().flatten().collect();
        for export in &exports {
            let mut agents_of_export = profiles.extract(before(), export);
            if let Export::Logs(logs) = export {
                agents_of_export.extend(profiles.extract_callback(before(), logs));
            }
            for it in agents_of_export {
                prop_assert!(is_name(&it.project, 256) && is_name(&it.agent, 256), "{it:?}");
                prop_assert!(it.cost_usd.is_none_or(|cost| cost.is_finite() && cost >= 0.0), "{it:?}");
                let counts = [it.requests, it.request_errors, it.rate_limit_hits, it.retries];
                prop_assert!(it.tokens.iter().chain(&counts).all(|count| *count <= MAX_COUNT), "{it:?}");
                prop_assert!(it.durations.sum.is_finite() && it.rate_limits.len() <= 4, "{it:?}");
                prop_assert!(it.model.as_ref().is_none_or(|model| model.len() <= 128), "{it:?}");
                agents.insert((it.project, it.agent));
            }
        }
        prop_assert!(agents.len() <= exports.len(), "at most one for each item");
        prop_assert!(profiles.receptions().len() <= exports.len() + sent.len());
        // Duplicates add nothing.
        for export in exports {
            let again = profiles.extract(before(), export);
            let adds = |it: &AgentTelemetry| it.has_usage() || it.requests > 0 || !it.tasks.is_empty();
            prop_assert!(!again.iter().any(adds), "{again:?}");
        }
    }
}
