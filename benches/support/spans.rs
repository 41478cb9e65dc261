//! Exports of runs as agents and collectors send them.

use lookout::otlp::wire::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, Status,
    Value, attribute, string_attribute,
};
use prost::Message as _;

/// Spans of a run.
pub(crate) const RUN: usize = 50;
/// Runs that a collector's batch of 500 spans holds.
pub(crate) const RUNS_PER_EXPORT: usize = 10;
pub(crate) const AGENTS: usize = 100;
/// The spans of one run of an agent: a root, and calls of models and of tools in turns, of twelve attributes each.
pub(crate) fn run(random: &mut fastrand::Rng, began: u64) -> (Vec<u8>, Vec<Span>) {
    let trace_id = random.u128(1..).to_be_bytes().to_vec();
    let session = format!("{:032x}", random.u128(..));
    let root = random.u64(1..).to_be_bytes().to_vec();
    let mut at = began;
    let mut spans = Vec::with_capacity(RUN);
    for number in 0..RUN {
        let took = random.u64(20..4_000) * 1_000_000 + random.u64(..1_000_000);
        let mut attributes = vec![string_attribute("gen_ai.conversation.id", &session)];
        let name = match number {
            0 => {
                attributes.push(string_attribute("gen_ai.operation.name", "invoke_agent"));
                "invoke_agent clerk"
            }
            _ if number % 2 == 1 => {
                call(random, &mut attributes);
                "chat claude-sonnet-4-6"
            }
            _ => {
                tool(random, &mut attributes);
                "execute_tool Bash"
            }
        };
        spans.push(Span {
            trace_id: trace_id.clone(),
            span_id: if number == 0 { root.clone() } else { random.u64(1..).to_be_bytes().to_vec() },
            parent_span_id: if number == 0 { Vec::new() } else { root.clone() },
            name: name.to_owned(),
            kind: 3,
            start_time_unix_nano: at,
            end_time_unix_nano: at + took,
            attributes,
            status: Some(Status { code: if random.u8(..) < 5 { 2 } else { 0 }, ..Status::default() }),
            ..Span::default()
        });
        at += took;
    }
    spans[0].end_time_unix_nano = at;
    (trace_id, spans)
}

fn number(key: &str, number: u64) -> KeyValue {
    attribute(key, Value::IntValue(number.cast_signed()))
}

fn call(random: &mut fastrand::Rng, attributes: &mut Vec<KeyValue>) {
    let model = ["claude-sonnet-4-6", "claude-haiku-4-5", "gpt-4o-mini"][random.usize(..3)];
    attributes.extend([
        string_attribute("gen_ai.operation.name", "chat"),
        string_attribute("gen_ai.provider.name", "anthropic"),
        string_attribute("gen_ai.request.model", model),
        string_attribute("gen_ai.response.model", model),
        string_attribute("gen_ai.response.id", &format!("msg_01{:020x}", random.u128(..) >> 48)),
        string_attribute("gen_ai.response.finish_reasons", "end_turn"),
        number("gen_ai.usage.input_tokens", random.u64(500..60_000)),
        number("gen_ai.usage.output_tokens", random.u64(20..2_000)),
        number("gen_ai.usage.cache_read.input_tokens", random.u64(..40_000)),
        string_attribute("server.address", "api.anthropic.com"),
        number("ttft_ms", random.u64(100..2_000)),
    ]);
}

fn tool(random: &mut fastrand::Rng, attributes: &mut Vec<KeyValue>) {
    let tool = ["Bash", "Read", "Edit", "Grep", "WebFetch"][random.usize(..5)];
    attributes.extend([
        string_attribute("gen_ai.operation.name", "execute_tool"),
        string_attribute("gen_ai.tool.name", tool),
        string_attribute("gen_ai.tool.type", "function"),
        string_attribute("gen_ai.tool.call.id", &format!("toolu_01{:020x}", random.u128(..) >> 48)),
        string_attribute("decision", "accept"),
        string_attribute("source", "config"),
        number("duration_ms", random.u64(1..4_000)),
        number("thread.id", random.u64(1..16)),
        string_attribute("thread.name", "MainThread"),
        string_attribute("code.namespace", "shop.agent"),
        number("attempt", 1),
    ]);
}

fn resource(agent: usize) -> Option<Resource> {
    let attributes = vec![
        string_attribute("service.name", &format!("clerk-{agent}")),
        string_attribute("service.version", "2.1.329"),
        string_attribute("host.name", "box"),
        string_attribute("telemetry.sdk.language", "python"),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

pub(crate) fn export(spans: Vec<(usize, Vec<Span>)>) -> Vec<u8> {
    let resource_spans = spans
        .into_iter()
        .map(|(agent, spans)| {
            let scope = Some(InstrumentationScope { name: "shop".to_owned(), ..InstrumentationScope::default() });
            let scope_spans = vec![ScopeSpans { scope, spans, ..ScopeSpans::default() }];
            ResourceSpans { resource: resource(agent), scope_spans, ..ResourceSpans::default() }
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Bodies of `spans` spans in all, as a collector batches them: whole runs, ten agents in each.
pub(crate) fn batches(random: &mut fastrand::Rng, spans: usize, began: impl Fn(usize) -> u64) -> Vec<Vec<u8>> {
    let runs = spans / RUN;
    (0..runs)
        .step_by(RUNS_PER_EXPORT)
        .map(|first| {
            export(
                (first..first + RUNS_PER_EXPORT).map(|index| (index % AGENTS, run(random, began(index)).1)).collect(),
            )
        })
        .collect()
}
