//! What counts: operations, failures, replicas, types of points, and calls that are reported twice.

use super::*;
use crate::model::AgentTelemetry;
use crate::otlp::wire::{
    Data, ExponentialHistogram, ExponentialHistogramDataPoint, ExportLogsServiceRequest, ExportMetricsServiceRequest,
    Histogram, HistogramDataPoint, InstrumentationScope, LogRecord, Metric, Number, NumberDataPoint, Resource,
    ResourceLogs, ResourceMetrics, ScopeLogs, ScopeMetrics, Status, Sum, Summary, SummaryDataPoint, attribute, span,
    string_attribute,
};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
const CODEX: (&str, &str) = ("codex_exec", "codex_otel.log_only");
const CLAUDE: (&str, &str) = ("claude-code", "com.anthropic.claude_code.events");
const CLIENT: (&str, &str) = ("desk", "opentelemetry.instrumentation.openai_v2");
const PROXY: (&str, &str) = ("litellm", "litellm");

fn words(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, text)| string_attribute(key, text)).collect()
}

/// `second` seconds after the start, in nanoseconds.
fn at(second: u64) -> u64 {
    nanos(before()) + second * 1_000_000_000
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: words(&[("service.name", service), ("agent.name", "builder")]), ..Resource::default() })
}

fn scope(name: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() })
}

fn metrics(metrics: Vec<Metric>) -> Export {
    let scope_metrics = vec![ScopeMetrics { scope: scope(CLIENT.1), metrics, ..ScopeMetrics::default() }];
    Export::Metrics(ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(CLIENT.0),
            scope_metrics,
            ..ResourceMetrics::default()
        }],
    })
}

fn named(name: &str) -> Metric {
    Metric { name: name.to_owned(), ..Metric::default() }
}

/// Histogram points of start time, time, count and sum.
fn histogram(name: &str, temporality: i32, points: &[(u64, u64, u64, f64)], attributes: &[(&str, &str)]) -> Metric {
    let point = |&(start, time, count, sum): &(u64, u64, u64, f64)| HistogramDataPoint {
        attributes: words(attributes),
        start_time_unix_nano: at(start),
        time_unix_nano: at(time),
        count,
        sum: Some(sum),
        ..HistogramDataPoint::default()
    };
    let data_points = points.iter().map(point).collect();
    Metric {
        data: Some(Data::Histogram(Histogram { data_points, aggregation_temporality: temporality })),
        ..named(name)
    }
}

fn logs((service, library): (&str, &str), time: u64, attributes: Vec<KeyValue>) -> Export {
    let record = LogRecord { time_unix_nano: at(time), attributes, ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { scope: scope(library), log_records: vec![record], ..ScopeLogs::default() }];
    Export::Logs(ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: resource(service), scope_logs, ..ResourceLogs::default() }],
    })
}

fn spans((service, library): (&str, &str), spans: Vec<Span>) -> Export {
    let scope_spans = vec![ScopeSpans { scope: scope(library), spans, ..ScopeSpans::default() }];
    Export::Traces(ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: resource(service), scope_spans, ..ResourceSpans::default() }],
    })
}

fn span(id: u8, name: &str, attributes: Vec<KeyValue>) -> Span {
    let (start_time_unix_nano, end_time_unix_nano) = (at(1), at(2));
    let ids = (vec![id; 16], vec![id; 8]);
    Span {
        trace_id: ids.0,
        span_id: ids.1,
        name: name.to_owned(),
        attributes,
        start_time_unix_nano,
        end_time_unix_nano,
        ..Span::default()
    }
}

fn later() -> Time {
    before().plus(Duration::from_secs(1_000))
}

fn new_profiles() -> Profiles {
    Profiles::new(before(), &OtlpConfig::default())
}

/// The totals of exports: tokens, cost where it is known; requests, errors, rate-limit hits and retries.
fn total(agents: &[AgentTelemetry]) -> ([u64; 5], Option<f64>, [u64; 4]) {
    let mut total = ([0; 5], None, [0; 4]);
    for it in agents {
        total.0.iter_mut().zip(it.tokens).for_each(|(sum, step)| *sum += step);
        let cost = it.cost_usd.filter(|_| it.tokens.iter().any(|count| *count > 0) || it.cost_usd > Some(0.0));
        total.1 = total.1.map_or(cost, |sum: f64| Some(sum + cost.unwrap_or_default()));
        let steps = [it.requests, it.request_errors, it.rate_limit_hits, it.retries];
        total.2.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
    }
    total
}

fn extracted(profiles: &mut Profiles, exports: &[Export]) -> ([u64; 5], Option<f64>, [u64; 4]) {
    let agents: Vec<_> = exports.iter().flat_map(|export| profiles.extract(later(), export)).collect();
    total(&agents)
}

#[test]
fn operations_of_tools_and_agents_are_no_requests() {
    let duration = |operation: &str, count, more: &[(&str, &str)]| {
        let operation = [("gen_ai.operation.name", operation)];
        let named = if operation[0].1.is_empty() { &[][..] } else { &operation[..] };
        histogram("gen_ai.client.operation.duration", CUMULATIVE, &[(1, 2, count, 1.0)], &[named, more].concat())
    };
    for (operation, requests) in [
        ("chat", 2),
        ("responses", 2),
        ("embeddings", 2),
        ("execute_tool", 0),
        ("invoke_agent", 0),
        ("plan", 0),
        ("", 0),
    ] {
        let export = metrics(vec![duration(operation, 2, &[])]);
        assert_eq!(extracted(&mut new_profiles(), &[export]).2, [requests, 0, 0, 0], "{operation}");
        let export = metrics(vec![duration(operation, 2, &[("error.type", "ValueError")])]);
        assert_eq!(extracted(&mut new_profiles(), &[export]).2, [requests, requests, 0, 0], "{operation} fails");
    }
    // Tokens are always a model's, unless an operation sums up the calls beneath it.
    for (operation, tokens) in [("chat", 7), ("invoke_agent", 0)] {
        let attributes = [("gen_ai.operation.name", operation), ("gen_ai.token.type", "input")];
        let usage = histogram("gen_ai.client.token.usage", DELTA, &[(1, 2, 1, 7.0)], &attributes);
        assert_eq!(extracted(&mut new_profiles(), &[metrics(vec![usage])]).0[0], tokens, "{operation}");
    }
}

#[test]
fn points_of_every_type_report_tokens() {
    let attributes = words(&[("gen_ai.token.type", "input"), ("gen_ai.request.model", "m")]);
    let (start_time_unix_nano, time_unix_nano) = (at(1), at(2));
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano,
        time_unix_nano,
        count: 2,
        sum: Some(70.0),
        ..ExponentialHistogramDataPoint::default()
    };
    let number = NumberDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano,
        time_unix_nano,
        value: Some(Number::AsInt(70)),
        ..NumberDataPoint::default()
    };
    let summary = SummaryDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count: 2,
        sum: 70.0,
        ..SummaryDataPoint::default()
    };
    for temporality in [DELTA, CUMULATIVE] {
        let of = |metric: Metric| Metric { name: "gen_ai.client.token.usage".to_owned(), ..metric };
        let kinds = [
            of(Metric {
                data: Some(Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: vec![exponential.clone()],
                    aggregation_temporality: temporality,
                })),
                ..Metric::default()
            }),
            of(Metric {
                data: Some(Data::Sum(Sum {
                    data_points: vec![number.clone()],
                    aggregation_temporality: temporality,
                    is_monotonic: true,
                })),
                ..Metric::default()
            }),
            of(Metric {
                data: Some(Data::Summary(Summary { data_points: vec![summary.clone()] })),
                ..Metric::default()
            }),
        ];
        for metric in kinds {
            let mut profiles = new_profiles();
            let exports = [metrics(vec![metric.clone()]), metrics(vec![metric])];
            assert_eq!(extracted(&mut profiles, &exports).0, [70, 0, 0, 0, 0]);
        }
    }
}

#[test]
fn former_and_present_names_count_once() {
    let usage = |name: &str, sum, more: &[(&str, &str)]| {
        histogram(&format!("gen_ai.client.{name}"), DELTA, &[(1, 2, 1, sum)], more)
    };
    let old = [
        usage("token.usage", 100.0, &[("gen_ai.token.type", "input")]),
        usage("token.usage", 20.0, &[("gen_ai.token.type", "output")]),
    ];
    let by_direction =
        [usage("inference.usage.input_tokens", 100.0, &[]), usage("inference.usage.output_tokens", 20.0, &[])];
    let detailed = [
        usage("inference.usage.detailed.input_tokens", 100.0, &[]),
        usage("inference.usage.detailed.cache_read.input_tokens", 60.0, &[]),
        usage("inference.usage.detailed.cache_write.input_tokens", 10.0, &[]),
        usage("inference.usage.detailed.output_tokens", 20.0, &[]),
        usage("inference.usage.detailed.reasoning.output_tokens", 5.0, &[]),
    ];
    let split = [30, 15, 60, 10, 5];
    for (metrics_of, expected) in [
        (old.to_vec(), [100, 20, 0, 0, 0]),
        (by_direction.to_vec(), [100, 20, 0, 0, 0]),
        (detailed.to_vec(), split),
        ([&old[..], &by_direction, &detailed].concat(), split),
    ] {
        assert_eq!(extracted(&mut new_profiles(), &[metrics(metrics_of)]).0, expected);
    }
}

#[test]
fn replicas_count_once_each_however_often_they_export() {
    let attributes = [("gen_ai.token.type", "input"), ("gen_ai.request.model", "m")];
    let mut profiles = new_profiles();
    let mut input = 0;
    for round in 0..20 {
        for (start, sum) in [(1, 700.0), (2, 300.0)] {
            let points = [(start, 10 + 2 * round + start, 1, sum)];
            let usage = histogram("gen_ai.client.token.usage", CUMULATIVE, &points, &attributes);
            input += extracted(&mut profiles, &[metrics(vec![usage])]).0[0];
        }
    }
    assert_eq!(input, 1_000);
    // Deltas of one body in any order.
    let points = [(3, 4, 1, 1.0), (1, 2, 1, 2.0), (2, 3, 1, 4.0), (1, 2, 1, 2.0)];
    let usage = histogram("gen_ai.client.token.usage", DELTA, &points, &attributes);
    assert_eq!(extracted(&mut new_profiles(), &[metrics(vec![usage])]).0[0], 7);
}

#[test]
fn a_request_without_a_response_has_failed_and_ends_no_rate_limit() {
    let request = |time, pairs: &[(&str, &str)]| {
        logs(CODEX, time, words(&[&[("event.name", "codex.api_request"), ("model", "m")], pairs].concat()))
    };
    let mut profiles = new_profiles();
    let limited = request(1, &[("http.response.status_code", "429"), ("error.message", "http 429")]);
    let unreachable = request(2, &[("error.message", "error sending request")]);
    let agents: Vec<_> = [limited, unreachable].iter().flat_map(|export| profiles.extract(later(), export)).collect();
    assert_eq!(total(&agents).2, [2, 2, 1, 0]);
    assert!(agents.iter().all(|it| it.answered.is_none()), "{agents:?}");
    // The same for Claude Code, whose backend is down.
    let down =
        logs(CLAUDE, 1, words(&[("event.name", "api_error"), ("error", "Connection error."), ("attempt", "11")]));
    assert_eq!(extracted(&mut new_profiles(), &[down]).2, [11, 11, 0, 10]);
}

#[test]
fn a_failed_stream_is_an_error_or_a_retry() {
    let mut profiles = new_profiles();
    let asked = logs(
        CODEX,
        1,
        words(&[("event.name", "codex.api_request"), ("http.response.status_code", "200"), ("attempt", "0")]),
    );
    let broken = logs(
        CODEX,
        2,
        words(&[("event.name", "codex.sse_event"), ("error.message", "stream closed before response.completed")]),
    );
    let fine = logs(CODEX, 3, words(&[("event.name", "codex.sse_event"), ("event.kind", "response.created")]));
    assert_eq!(extracted(&mut profiles, &[asked, broken, fine]).2, [1, 1, 0, 0]);
    // Claude Code has an event for each attempt in its span, without a number or a failure.
    let event = || span::Event { name: "gen_ai.request.attempt".to_owned(), ..span::Event::default() };
    let tried = Span {
        events: vec![event(), event()],
        ..span(1, "claude_code.llm_request", words(&[("attempt", "1"), ("session.id", "s")]))
    };
    let answered = logs(CLAUDE, 2, words(&[("event.name", "api_request"), ("session.id", "s")]));
    for order in [[0, 1], [1, 0]] {
        let exports = [spans(CLAUDE, vec![tried.clone()]), answered.clone()];
        let mut profiles = new_profiles();
        let counted = order.map(|place: usize| extracted(&mut profiles, &exports[place..=place]).2);
        assert_eq!([0, 1, 2, 3].map(|place| counted[0][place] + counted[1][place]), [2, 1, 0, 1]);
    }
    // A response whose finish reason is an error.
    let reasons = crate::otlp::wire::ArrayValue {
        values: vec![crate::otlp::wire::AnyValue { value: Some(Value::StringValue("error".to_owned())) }],
    };
    let mut attributes = words(&[("gen_ai.operation.name", "chat")]);
    attributes.push(attribute("gen_ai.response.finish_reasons", Value::ArrayValue(reasons)));
    assert_eq!(extracted(&mut new_profiles(), &[spans(CLIENT, vec![span(1, "chat m", attributes)])]).2, [1, 1, 0, 0]);
}

const SESSION: &str = "04d360c9-9614-44be-8de7-152b87d31755";

/// A call as Claude Code reports it, and as its LiteLLM proxy does.
fn claude_and_proxy(id: u8) -> [Export; 2] {
    let mut own = words(&[
        ("event.name", "api_request"),
        ("session.id", SESSION),
        ("model", "claude-opus-5-5"),
        ("input_tokens", "1874"),
        ("output_tokens", "57"),
        ("cost_usd", "0.014"),
    ]);
    own.extend(words(&[("request_id", &id.to_string())]));
    // Headers are forwarded in the letter case in which they were sent.
    let header =
        ["x-claude-code-session-id", "X-Claude-Code-Session-Id", "X-CLAUDE-CODE-SESSION-ID"][usize::from(id) % 3];
    let headers = format!("{{'{header}': '{SESSION}'}}");
    let call = id.to_string();
    let proxied = words(&[
        ("gen_ai.system", ""),
        ("litellm.provider.model", "anthropic/claude-opus-5-5"),
        ("gen_ai.request.model", "claude-opus-5-5"),
        ("gen_ai.operation.name", "anthropic_messages"),
        ("litellm.call_id", &call),
        ("gen_ai.response.id", &call),
        ("gen_ai.usage.input_tokens", "1874"),
        ("gen_ai.usage.output_tokens", "57"),
        ("gen_ai.cost.total_cost", "0.014"),
        ("metadata.requester_custom_headers", &headers),
    ]);
    [logs(CLAUDE, u64::from(id), own), spans(PROXY, vec![span(id, "litellm_request", proxied)])]
}

#[test]
fn a_call_of_claude_code_through_litellm_counts_once_in_any_order_and_across_restarts() {
    let exports: Vec<Export> = (1..4).flat_map(claude_and_proxy).collect();
    for order in [[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 5, 4], [1, 3, 5, 4, 2, 0], [0, 2, 4, 1, 3, 5], [1, 3, 0, 2, 4, 5]] {
        for restart in 0..=6 {
            let mut profiles = new_profiles();
            let mut sums = ([0, 0], 0.0, 0);
            for (turn, place) in order.into_iter().enumerate() {
                if turn == restart {
                    let mut again = Profiles::new(later(), &OtlpConfig::default());
                    again.restore(std::mem::replace(&mut profiles, new_profiles()).take_counting());
                    profiles = again;
                }
                let (tokens, cost, counts) = extracted(&mut profiles, &exports[place..=place]);
                (sums.0[0], sums.0[1]) = (sums.0[0] + tokens[0], sums.0[1] + tokens[1]);
                sums.1 += cost.unwrap_or_default();
                sums.2 += counts[0];
            }
            assert_eq!((sums.0, sums.2), ([3 * 1874, 3 * 57], 3), "{order:?} {restart}");
            assert!((sums.1 - 0.042).abs() < 1e-9, "{order:?} {restart}: {}", sums.1);
        }
    }
}

#[test]
fn a_call_through_litellm_counts_once_by_the_id_of_its_response() {
    let call = |more: &[(&str, &str)]| {
        let attributes = [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "gpt-4o-mini"),
            ("gen_ai.response.id", "chatcmpl-1"),
            ("gen_ai.usage.input_tokens", "10"),
            ("gen_ai.usage.output_tokens", "5"),
        ];
        words(&[&attributes[..], more].concat())
    };
    let own = spans(CLIENT, vec![span(1, "chat gpt-4o-mini", call(&[]))]);
    let proxied = spans(PROXY, vec![span(2, "litellm_request", call(&[("litellm.call_id", "c")]))]);
    for exports in [[own.clone(), proxied.clone()], [proxied, own]] {
        assert_eq!(extracted(&mut new_profiles(), &exports), ([10, 5, 0, 0, 0], None, [1, 0, 0, 0]));
    }
}

#[test]
fn earlier_attempts_of_a_proxy_count_with_the_call() {
    let call = |id: u8, more: &[(&str, &str)]| {
        span(id, "litellm_request", words(&[&[("litellm.call_id", "c")][..], more].concat()))
    };
    let succeeded = call(
        1,
        &[
            ("gen_ai.response.id", "r"),
            ("hidden_params", r#"{"additional_headers": {"x-litellm-attempted-retries": 2}}"#),
        ],
    );
    let rejected = Span {
        status: Some(Status { message: "429".to_owned(), code: 2 }),
        ..call(2, &[("error.type", "RateLimitError")])
    };
    for order in [[&succeeded, &rejected], [&rejected, &succeeded]] {
        let mut profiles = new_profiles();
        let exports = order.map(|it| spans(PROXY, vec![it.clone()]));
        assert_eq!(extracted(&mut profiles, &exports).2, [3, 2, 1, 2]);
    }
    assert_eq!(extracted(&mut new_profiles(), &[spans(PROXY, vec![succeeded])]).2, [3, 2, 0, 2]);
}

#[test]
fn an_unknown_price_is_never_zero() {
    let request = |cost: &str| {
        let mut attributes =
            words(&[("event.name", "api_request"), ("session.id", "s"), ("model", "m"), ("input_tokens", "1000000")]);
        if !cost.is_empty() {
            attributes.extend(words(&[("cost_usd", cost)]));
        }
        logs(CLAUDE, 1, attributes)
    };
    let by_span = |id| {
        let attributes = [("session.id", "s"), ("model", "m"), ("input_tokens", "1000000")];
        spans(CLAUDE, vec![span(id, "claude_code.llm_request", words(&attributes))])
    };
    for unknown in [request(""), request("0"), by_span(1)] {
        assert_eq!(extracted(&mut new_profiles(), &[unknown]).1, None);
    }
    assert_eq!(extracted(&mut new_profiles(), &[request("0.5")]).1, Some(0.5));
    // The price list applies, and only the difference counts once the tool reports the cost.
    let price = ModelPrice { input: 1.0, ..ModelPrice::default() };
    let config = OtlpConfig { prices: [("m".to_owned(), price)].into(), ..OtlpConfig::default() };
    let mut profiles = Profiles::new(before(), &config);
    assert_eq!(extracted(&mut profiles, &[by_span(1)]).1, Some(1.0));
    assert_eq!(extracted(&mut profiles, &[request("1.25")]).1, Some(0.25));
    // Tokens of spans, of a tool whose other signals report the cost.
    let mut profiles = new_profiles();
    assert_eq!(extracted(&mut profiles, &[request("0.5")]).1, Some(0.5));
    let next = logs(
        CLAUDE,
        9,
        words(&[
            ("event.name", "api_request"),
            ("session.id", "s"),
            ("model", "m"),
            ("input_tokens", "0"),
            ("cost_usd", "0.5"),
        ]),
    );
    assert_eq!(extracted(&mut profiles, &[by_span(1), by_span(2)]).1, Some(0.0), "another signal will report it");
    assert_eq!(extracted(&mut profiles, &[next]).1, Some(0.5));
    // Spans that arrive first are not unpriced until the other signals had time to arrive.
    let mut profiles = new_profiles();
    let follows = |profiles: &mut Profiles, now: Time, id| {
        let agents = profiles.extract(now, &by_span(id));
        let [it] = &agents.iter().filter(|it| it.has_usage()).collect::<Vec<_>>()[..] else { panic!("{agents:?}") };
        (it.cost_usd, it.price_follows)
    };
    assert_eq!(follows(&mut profiles, later(), 1), (None, true));
    assert_eq!(follows(&mut profiles, later().plus(Duration::from_secs(91)), 2), (None, false), "only spans arrive");
}

#[test]
fn a_model_is_one_group_under_all_its_names() {
    let by = |id, model: &str| {
        let attributes =
            [("gen_ai.operation.name", "chat"), ("gen_ai.request.model", model), ("gen_ai.usage.input_tokens", "1")];
        spans(CLIENT, vec![span(id, "chat", words(&attributes))])
    };
    let mut profiles = new_profiles();
    let routes = ["anthropic/claude-opus-5-5", "claude-opus-5-5", "claude-opus-5-5[1m]"];
    let agents: Vec<_> = (1..).zip(routes).flat_map(|(id, model)| profiles.extract(later(), &by(id, model))).collect();
    let models: std::collections::BTreeSet<&str> = agents.iter().filter_map(|it| it.model.as_deref()).collect();
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["claude-opus-5-5"]);
    // Its price is found under any of its names.
    let price = ModelPrice { input: 1e6, ..ModelPrice::default() };
    let config = OtlpConfig { prices: [("anthropic/claude-*".to_owned(), price)].into(), ..OtlpConfig::default() };
    assert_eq!(extracted(&mut Profiles::new(before(), &config), &[by(1, routes[2])]).1, Some(1.0));
}

#[test]
fn the_digest_key_is_random_and_survives_a_restart() {
    let (mut first, mut second) = (new_profiles(), new_profiles());
    let key = |profiles: &mut Profiles| profiles.take_counting().key;
    assert_ne!(key(&mut first), key(&mut second), "the key is random");
    second.restore(CountingState { since: Some(1), ..first.take_counting() });
    assert_eq!(key(&mut first), key(&mut second));
    assert!(!format!("{:?}", first.take_counting()).contains(&format!("{}", key(&mut first).expect("a key").0[0])));
}
