//! Spans on their way out: what is known of their runs, and spans of runs that no telemetry reported.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{RunSource, Span, SpanField, SpanKind, SpanStatus, SpanValue, TokenType};
use crate::otlp::wire::{
    self, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Status,
    Value, string_attribute,
};

/// The attributes that platforms query spans by.
const AGENT_ID: &str = "metadata.agent_id";
const PARENT_TRACE_ID: &str = "metadata.parent_trace_id";

/// What is known of the run of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanNote {
    /// The id of its agent: as the caller gave it, else the registry's.
    pub agent_id: Option<Arc<str>>,
    /// The id of its run: as the caller gave it, else ours.
    pub parent_trace_id: Option<Arc<str>>,
}

/// An export of spans that is to go on.
#[derive(Debug, Default)]
pub struct TraceExport {
    /// The request.
    pub request: ExportTraceServiceRequest,
    /// One for each of its spans, in their order.
    pub notes: Vec<SpanNote>,
}

/// Adds the attributes of the notes to the spans that lack them.
pub(super) fn annotate(request: &mut ExportTraceServiceRequest, notes: &[SpanNote]) {
    let spans = request.resource_spans.iter_mut().flat_map(|it| &mut it.scope_spans).flat_map(|it| &mut it.spans);
    for (span, note) in spans.zip(notes) {
        for (key, value) in [(AGENT_ID, &note.agent_id), (PARENT_TRACE_ID, &note.parent_trace_id)] {
            if let Some(value) = value
                && !span.attributes.iter().any(|attribute| attribute.key == key)
            {
                span.attributes.push(string_attribute(key, value));
            }
        }
    }
}

/// Spans of one agent (project, name) as OTLP, by the GenAI conventions.
pub fn resource_spans<'s>([project, agent]: [&str; 2], spans: impl IntoIterator<Item = &'s Span<'s>>) -> ResourceSpans {
    let attributes = vec![
        string_attribute("service.name", agent),
        string_attribute("service.namespace", project),
        string_attribute("telemetry.sdk.name", "lookout"),
    ];
    let scope = InstrumentationScope {
        name: "lookout".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(|span| otlp_span(agent, span)).collect();
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

/// Internal work, and a call of another system.
const INTERNAL: i32 = 1;
const CLIENT: i32 = 3;

fn otlp_span(agent: &str, span: &Span<'_>) -> wire::Span {
    let (operation, name) = match span.kind {
        SpanKind::Agent => (Some("invoke_agent"), Some(("gen_ai.agent.name", agent))),
        SpanKind::Llm => (Some("chat"), None),
        SpanKind::Tool => (Some("execute_tool"), span.field(SpanField::Tool).map(|tool| ("gen_ai.tool.name", tool))),
        SpanKind::Retrieval => (Some("retrieval"), None),
        SpanKind::Wait | SpanKind::Other => (None, None),
    };
    let mut attributes: Vec<KeyValue> = Vec::new();
    let mut add = |key: &str, value: Option<&str>| {
        attributes.extend(value.map(|value| string_attribute(key, value)));
    };
    add("gen_ai.operation.name", operation);
    if let Some((key, name)) = name {
        add(key, Some(name));
    }
    add("gen_ai.request.model", span.field(SpanField::Model));
    add("gen_ai.provider.name", span.field(SpanField::Provider));
    add("gen_ai.conversation.id", span.field(SpanField::Session));
    add("task.id", span.field(SpanField::Task));
    add("platform", span.field(SpanField::Platform));
    add("lookout.span.kind", Some(span.kind.as_str()));
    add("lookout.source", Some(span.source.as_str()));
    if let Some(tokens) = span.tokens {
        let count = |types: &[TokenType]| {
            let sum = types.iter().map(|kind| tokens.get(*kind as usize).copied().unwrap_or(0)).sum::<u64>();
            Value::IntValue(i64::try_from(sum).unwrap_or(i64::MAX))
        };
        // By the conventions, cached tokens are part of the input, and reasoning of the output.
        let cached = [TokenType::CacheRead, TokenType::CacheCreation];
        let input = [TokenType::Input, TokenType::CacheRead, TokenType::CacheCreation];
        for (key, types) in [
            ("gen_ai.usage.input_tokens", &input[..]),
            ("gen_ai.usage.output_tokens", &[TokenType::Output, TokenType::Reasoning]),
            ("gen_ai.usage.cache_read.input_tokens", &cached[..1]),
            ("gen_ai.usage.cache_creation.input_tokens", &cached[1..]),
        ] {
            attributes.push(wire::attribute(key, count(types)));
        }
    }
    attributes.extend(span.cost_usd.map(|cost| wire::attribute("lookout.cost_usd", Value::DoubleValue(cost))));
    for (key, value) in &span.attributes {
        if !attributes.iter().any(|known| known.key == **key) {
            let value = match value {
                SpanValue::Text(text) => Value::StringValue(text.clone().into_owned()),
                SpanValue::Int(number) => Value::IntValue(*number),
                SpanValue::Float(number) => Value::DoubleValue(*number),
                SpanValue::Bool(flag) => Value::BoolValue(*flag),
            };
            attributes.push(wire::attribute(key, value));
        }
    }
    wire::Span {
        trace_id: span.trace.as_bytes().to_vec(),
        span_id: span.id.as_bytes().to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.as_bytes().to_vec()),
        name: Cow::clone(&span.name).into_owned(),
        kind: if span.kind == SpanKind::Llm { CLIENT } else { INTERNAL },
        start_time_unix_nano: span.started_at,
        end_time_unix_nano: span.ended_at(),
        attributes,
        status: match span.status {
            SpanStatus::Unset => None,
            SpanStatus::Ok => Some(Status { code: 1, ..Status::default() }),
            SpanStatus::Error => {
                let message = span.field(SpanField::Error).unwrap_or_default().to_owned();
                Some(Status { code: 2, message })
            }
        },
        ..wire::Span::default()
    }
}

/// Whether spans of this source came by no telemetry, so that nothing else sends them on.
pub const fn is_own(source: RunSource) -> bool {
    matches!(source, RunSource::Api | RunSource::Hook | RunSource::Pipe | RunSource::Poll)
}
