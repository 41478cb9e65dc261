//! Spans of a table become runs, by the code that links what arrives here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::{
    Run, RunSource, RunStatus, Span, SpanField, SpanId, SpanKind, SpanReport, SpanStatus, SpanValue, Time, TraceId,
};
use crate::otlp::wire::{
    self, ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Status,
    string_attribute,
};
use crate::profiles::spans::SpanReader;
use crate::runs::{RunBook, RunEnd, RunStart};

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchivedSpan {
    nanos: String,
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    span_name: String,
    resource_attributes: Map<String, Value>,
    scope_name: String,
    span_attributes: Map<String, Value>,
    took: String,
    status_code: String,
    status_message: String,
    #[serde(default)]
    event_names: Vec<String>,
    #[serde(default)]
    event_attributes: Vec<Map<String, Value>>,
    #[serde(default)]
    link_traces: Vec<String>,
}

/// Runs with all of their spans.
#[derive(Debug, Default)]
pub(super) struct Assembled {
    pub(super) runs: Vec<Run>,
    pub(super) spans: Vec<Span<'static>>,
}

/// When a run without an end is taken for abandoned.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// The runs of these spans.
pub(super) fn assemble(spans: Vec<ArchivedSpan>, reader: &mut SpanReader, now: Time) -> Assembled {
    let mut book = RunBook::new(TIMEOUT);
    let request = request(spans);
    let mut reports: Vec<SpanReport<'_>> = Vec::new();
    reader.read(&request, |report| reports.push(report));
    reports.sort_by_key(|report| report.span.started_at);
    let mut kept = Vec::new();
    for mut report in reports {
        let (source, run) = own_parts(&mut report.span);
        let root = source.filter(|_| report.span.begins_run).and_then(|source| start_of(source, run, &report));
        match root {
            Some((start, end)) => {
                let id = start.id;
                book.start(now, &start);
                book.end(now, id, end);
            }
            None => drop(book.span(now, &report)),
        }
        kept.push(owned(report.span));
    }
    Assembled { runs: book.take_changes(now).runs, spans: kept }
}

/// Takes what lookout itself wrote out of a span's attributes: what reported it, and its run.
fn own_parts(span: &mut Span<'_>) -> (Option<RunSource>, Option<TraceId>) {
    let (mut source, mut run) = (None, None);
    let (mut kind, mut cost) = (None, None);
    span.attributes.retain(|(key, value)| {
        let text = match value {
            SpanValue::Text(text) => Cow::Borrowed(&**text),
            SpanValue::Int(number) => Cow::Owned(number.to_string()),
            SpanValue::Float(_) | SpanValue::Bool(_) => return true,
        };
        let text = &*text;
        match &**key {
            "lookout.source" => source = RunSource::parse(text),
            "lookout.span.kind" => kind = SpanKind::ALL.into_iter().find(|kind| kind.as_str() == text),
            "lookout.cost_usd" => cost = text.parse::<f64>().ok().filter(|cost| cost.is_finite() && *cost >= 0.0),
            "metadata.parent_trace_id" => {
                run = TraceId::parse(text);
                return true;
            }
            _ => return true,
        }
        false
    });
    if let Some(source) = source {
        span.source = source;
        span.kind = kind.unwrap_or(span.kind);
        span.begins_run = span.kind == SpanKind::Agent;
        span.cost_usd = cost.or(span.cost_usd);
    }
    (source, run)
}

/// The beginning and the end of a run that its topmost span stands for.
fn start_of(source: RunSource, run: Option<TraceId>, report: &SpanReport<'_>) -> Option<(RunStart, RunEnd)> {
    let (span, agent) = (&report.span, report.agent.as_ref()?);
    let at = |nanos: u64| Time::from_millis((nanos / 1_000_000).cast_signed());
    let text = |field: SpanField| span.field(field).map(Arc::<str>::from);
    let start = RunStart {
        id: run.unwrap_or(span.trace),
        trace: span.trace,
        span: span.id,
        above: span.parent,
        agent: Arc::clone(agent),
        name: Arc::from(&*span.name),
        source,
        parent: None,
        session: text(SpanField::Session),
        task: text(SpanField::Task),
        platform: text(SpanField::Platform),
        facts: report.facts.as_deref().copied().unwrap_or_default(),
        at: at(span.started_at),
    };
    let status = if span.status == SpanStatus::Error { RunStatus::Error } else { RunStatus::Ok };
    let end = RunEnd { status, error: text(SpanField::Error), at: at(span.ended_at()), ..RunEnd::default() };
    Some((start, end))
}

fn owned(span: Span<'_>) -> Span<'static> {
    let text = |text: Cow<'_, str>| -> Cow<'static, str> { Cow::Owned(text.into_owned()) };
    let value = |value: SpanValue<'_>| match value {
        SpanValue::Text(inner) => SpanValue::Text(text(inner)),
        SpanValue::Int(number) => SpanValue::Int(number),
        SpanValue::Float(number) => SpanValue::Float(number),
        SpanValue::Bool(flag) => SpanValue::Bool(flag),
    };
    let mut copy = Span::new(span.trace, span.id, text(span.name), span.started_at);
    (copy.parent, copy.kind, copy.status) = (span.parent, span.kind, span.status);
    (copy.source, copy.begins_run, copy.duration) = (span.source, span.begins_run, span.duration);
    (copy.tokens, copy.cost_usd, copy.links) = (span.tokens, span.cost_usd, span.links);
    copy.fields = span.fields.into_iter().map(|(field, inner)| (field, text(inner))).collect();
    copy.attributes = span.attributes.into_iter().map(|(key, inner)| (text(key), value(inner))).collect();
    copy
}

/// The rows as an export of spans.
fn request(spans: Vec<ArchivedSpan>) -> ExportTraceServiceRequest {
    type SpansOfScope = (Map<String, Value>, Vec<wire::Span>);
    let mut groups: BTreeMap<(String, String), SpansOfScope> = BTreeMap::new();
    for mut row in spans {
        let about = std::mem::take(&mut row.resource_attributes);
        let key = (Value::Object(about.clone()).to_string(), std::mem::take(&mut row.scope_name));
        let Some(span) = wire_span(row) else { continue };
        groups.entry(key).or_insert_with(|| (about, Vec::new())).1.push(span);
    }
    let resource_spans = groups.into_iter().map(|((_, scope), (about, spans))| ResourceSpans {
        resource: Some(Resource { attributes: attributes(about), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope { name: scope, ..InstrumentationScope::default() }),
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn wire_span(row: ArchivedSpan) -> Option<wire::Span> {
    let id = |text: &str| hex::decode(text).unwrap_or_default();
    TraceId::parse(&row.trace_id)?;
    SpanId::parse(&row.span_id)?;
    let start: u64 = row.nanos.parse().ok()?;
    let code = match &*row.status_code {
        "Ok" | "STATUS_CODE_OK" => 1,
        "Error" | "STATUS_CODE_ERROR" => 2,
        _ => 0,
    };
    let events = row.event_names.into_iter().zip(row.event_attributes).map(|(name, pairs)| wire::span::Event {
        name,
        attributes: attributes(pairs),
        ..wire::span::Event::default()
    });
    let links = row.link_traces.iter().map(|trace| wire::span::Link { trace_id: id(trace), ..Default::default() });
    Some(wire::Span {
        trace_id: id(&row.trace_id),
        span_id: id(&row.span_id),
        parent_span_id: id(&row.parent_span_id),
        name: row.span_name,
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(row.took.parse().unwrap_or(0)),
        attributes: attributes(row.span_attributes),
        events: events.collect(),
        links: links.collect(),
        status: Some(Status { code, message: row.status_message }),
        ..wire::Span::default()
    })
}

fn attributes(pairs: Map<String, Value>) -> Vec<KeyValue> {
    let pair = |(key, value): (String, Value)| {
        let text = if let Value::String(text) = value { text } else { value.to_string() };
        // Numbers were written as text.
        match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => wire::attribute(&key, wire::Value::IntValue(number)),
            _ => string_attribute(&key, &text),
        }
    };
    pairs.into_iter().map(pair).collect()
}
