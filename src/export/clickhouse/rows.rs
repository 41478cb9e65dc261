//! Spans as rows in JSON, a line each.

use base64::Engine as _;
use serde_json::{Map, Value as Json, json};

use super::schema::TraceColumns;
use crate::otlp::wire::{AnyValue, ExportTraceServiceRequest, KeyValue, Span, Value};

/// The rows of a request, and how many they are.
pub(super) fn json_rows(request: &ExportTraceServiceRequest, columns: &TraceColumns) -> (Vec<u8>, usize) {
    let mut lines = Vec::new();
    let mut count = 0;
    for resource_spans in &request.resource_spans {
        let about = resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let service = about.iter().rfind(|attribute| attribute.key == "service.name");
        let service = service.map_or_else(String::new, |attribute| text(attribute.value.as_ref()));
        let about = attributes(about);
        for scope_spans in &resource_spans.scope_spans {
            let scope = scope_spans.scope.as_ref().map(|scope| (&*scope.name, &*scope.version)).unwrap_or_default();
            for span in &scope_spans.spans {
                let mut row = Map::new();
                let mut add = |name: &str, value: Json| {
                    if columns.has(name) {
                        row.insert(name.to_owned(), value);
                    }
                };
                add("ServiceName", json!(service));
                add("ResourceAttributes", about.clone());
                add("ScopeName", json!(scope.0));
                add("ScopeVersion", json!(scope.1));
                fill(span, columns.has_old_words(), add);
                // Writing to memory does not fail.
                serde_json::to_writer(&mut lines, &row).ok();
                lines.push(b'\n');
                count += 1;
            }
        }
    }
    (lines, count)
}

fn fill(span: &Span, has_old_words: bool, mut add: impl FnMut(&str, Json)) {
    add("Timestamp", nanos(span.start_time_unix_nano));
    add("TraceId", id(&span.trace_id));
    add("SpanId", id(&span.span_id));
    add("ParentSpanId", id(&span.parent_span_id));
    add("TraceState", json!(span.trace_state));
    add("SpanName", json!(span.name));
    let kind = usize::try_from(span.kind).unwrap_or(0);
    add("SpanKind", json!(word(&KINDS, kind, "SPAN_KIND_", has_old_words)));
    add("SpanAttributes", attributes(&span.attributes));
    // A clock that was set back is no duration. A column of an old table is signed.
    let duration = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    add("Duration", json!(duration.min(i64::MAX.unsigned_abs())));
    let (code, message) = span.status.as_ref().map_or((0, ""), |status| (status.code, &status.message));
    add("StatusCode", json!(word(&CODES, usize::try_from(code).unwrap_or(0), "STATUS_CODE_", has_old_words)));
    add("StatusMessage", json!(message));
    add("Events.Timestamp", span.events.iter().map(|event| nanos(event.time_unix_nano)).collect());
    add("Events.Name", span.events.iter().map(|event| json!(event.name)).collect());
    add("Events.Attributes", span.events.iter().map(|event| attributes(&event.attributes)).collect());
    add("Links.TraceId", span.links.iter().map(|link| id(&link.trace_id)).collect());
    add("Links.SpanId", span.links.iter().map(|link| id(&link.span_id)).collect());
    add("Links.TraceState", span.links.iter().map(|link| json!(link.trace_state)).collect());
    add("Links.Attributes", span.links.iter().map(|link| attributes(&link.attributes)).collect());
}

const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
const CODES: [&str; 3] = ["Unset", "Ok", "Error"];

fn word(words: &[&str], place: usize, prefix: &str, is_old: bool) -> String {
    let word = words.get(place).or(words.first()).copied().unwrap_or_default();
    if is_old { format!("{prefix}{}", word.to_ascii_uppercase()) } else { word.to_owned() }
}

/// A time as a text of nanoseconds, which no time zone changes.
fn nanos(time: u64) -> Json {
    json!(time.min(i64::MAX.unsigned_abs()).to_string())
}

/// An id in lower hex; one of zeros is none.
fn id(bytes: &[u8]) -> Json {
    let is_none = bytes.iter().all(|byte| *byte == 0);
    json!(if is_none { String::new() } else { hex::encode(bytes) })
}

fn attributes(attributes: &[KeyValue]) -> Json {
    let pairs = attributes.iter().map(|attribute| (attribute.key.clone(), json!(text(attribute.value.as_ref()))));
    Json::Object(pairs.collect())
}

/// A value as text: lists and maps as JSON, bytes in base64.
fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(value) => match json_of(value) {
            Json::String(text) => text,
            other => other.to_string(),
        },
    }
}

fn json_of(value: &Value) -> Json {
    let inner = |value: Option<&AnyValue>| value.and_then(|value| value.value.as_ref()).map_or(Json::Null, json_of);
    match value {
        Value::StringValue(text) => json!(text),
        Value::BoolValue(flag) => json!(flag),
        Value::IntValue(number) => json!(number),
        Value::DoubleValue(number) if number.is_finite() => json!(number),
        Value::DoubleValue(number) => json!(number.to_string()),
        Value::BytesValue(bytes) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        Value::ArrayValue(list) => list.values.iter().map(|value| inner(Some(value))).collect(),
        Value::KvlistValue(map) => {
            Json::Object(map.values.iter().map(|pair| (pair.key.clone(), inner(pair.value.as_ref()))).collect())
        }
        Value::StringValueStrindex(_) => Json::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::COLUMNS;
    use super::*;
    use crate::otlp::wire::{
        ArrayValue, InstrumentationScope, Resource, ResourceSpans, ScopeSpans, Status, attribute, span,
        string_attribute,
    };

    fn request(span: Span) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope { name: "shop".to_owned(), version: "2".to_owned(), ..Default::default() };
        let attributes = vec![string_attribute("service.name", "clerk"), attribute("a", Value::BoolValue(true))];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes, ..Resource::default() }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans: vec![span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        }
    }

    fn span() -> Span {
        let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }] };
        Span {
            trace_id: vec![0xab; 16],
            span_id: vec![0xcd; 8],
            name: "chat".to_owned(),
            kind: 3,
            start_time_unix_nano: 1_795_984_023_723_000_001,
            end_time_unix_nano: 1_795_984_023_723_000_000,
            attributes: vec![
                attribute("tokens", Value::IntValue(12)),
                attribute("cost", Value::DoubleValue(0.5)),
                attribute("list", Value::ArrayValue(list)),
                string_attribute("metadata.agent_id", "agent-1"),
            ],
            events: vec![span::Event { name: "exception".to_owned(), time_unix_nano: 5, ..Default::default() }],
            status: Some(Status { code: 2, message: "no".to_owned() }),
            ..Span::default()
        }
    }

    fn row(columns: &[&'static str]) -> Json {
        let (lines, count) = json_rows(&request(span()), &TraceColumns::of(columns));
        assert_eq!((count, lines.last()), (1, Some(&b'\n')));
        serde_json::from_slice(&lines).expect("a row")
    }

    #[test]
    fn a_span_is_a_row_as_the_collector_writes_it() {
        let expected = json!({
            "Timestamp": "1795984023723000001", "TraceId": "ab".repeat(16), "SpanId": "cd".repeat(8), "ParentSpanId": "",
            "TraceState": "", "SpanName": "chat", "SpanKind": "Client", "ServiceName": "clerk",
            "ResourceAttributes": {"service.name": "clerk", "a": "true"}, "ScopeName": "shop", "ScopeVersion": "2",
            "SpanAttributes": {"tokens": "12", "cost": "0.5", "list": "[1]", "metadata.agent_id": "agent-1"},
            "Duration": 0, "StatusCode": "Error", "StatusMessage": "no",
            "Events.Timestamp": ["5"], "Events.Name": ["exception"], "Events.Attributes": [{}],
            "Links.TraceId": [], "Links.SpanId": [], "Links.TraceState": [], "Links.Attributes": [],
        });
        assert_eq!(row(&COLUMNS), expected);
    }

    #[test]
    fn an_old_table_gets_its_columns_and_words() {
        let old = ["TraceId", "SpanKind", "StatusCode"];
        let expected =
            json!({"TraceId": "ab".repeat(16), "SpanKind": "SPAN_KIND_CLIENT", "StatusCode": "STATUS_CODE_ERROR"});
        assert_eq!(row(&old), expected);
    }

    #[test]
    fn odd_values_fit() {
        assert_eq!((id(&[0; 8]), id(&[]), nanos(u64::MAX)), (json!(""), json!(""), json!(i64::MAX.to_string())));
        assert_eq!(word(&KINDS, 77, "", false), "Unspecified");
        assert_eq!(text(None), "");
        assert_eq!(text(Some(&AnyValue { value: Some(Value::BytesValue(vec![1, 2])) })), "AQI=");
    }
}
