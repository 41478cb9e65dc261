//! Tests of `ingest::poll::langflow`.

use super::*;
use crate::model::RunSource;

const TRACE: &str = include_str!("../../../../tests/it/samples/flows/langflow-trace.json");

fn spans(text: &str) -> Vec<SpanReport<'static>> {
    let detail = page::tree(text).expect("JSON");
    let trace = text_of(&detail, "id").and_then(TraceId::parse).expect("an id");
    spans_of(trace, &detail, &listed::identity("flows", "shop-clerk", "langflow"))
}

#[test]
fn tokens_of_a_component_and_of_its_call_are_counted_once() {
    let spans = spans(TRACE);
    let calls: Vec<&Span<'_>> = spans.iter().map(|it| &it.span).filter(|span| span.kind == SpanKind::Llm).collect();
    assert_eq!(calls.len(), 1);
    assert_eq!((&*calls[0].name, calls[0].tokens), ("ChatOpenAI gpt-4o-mini", Some([128, 16, 0, 0, 0])));
    assert_eq!(calls[0].field(SpanField::Model), Some("gpt-4o-mini"));
    assert!(spans.iter().all(|it| it.span.source == RunSource::Poll && it.span.attributes.is_empty()));
    let text = format!("{spans:?}");
    assert!(!text.contains("apples"), "no prompt, no answer");
}

#[test]
fn a_failed_trace_has_its_error_and_a_half_one_its_end() {
    let failed =
        TRACE.replacen(r#""status":"ok""#, r#""status":"error""#, 1).replace(r#""error":null"#, r#""error":"quota""#);
    let top = &spans(&failed)[0].span;
    assert_eq!((top.status, top.field(SpanField::Error)), (SpanStatus::Error, Some("quota")));
    let half = r#"{"id": "e4882f39-c53c-4d9f-87b0-ab98e64d525b", "startTime": "2026-11-29T20:44:13.989590Z",
        "totalLatencyMs": 1382, "totalTokens": 144, "spans": [7, {"id": 3}, {"id": "a", "type": "tool", "name": "x"}]}"#;
    let spans = spans(half);
    assert_eq!((spans.len(), spans[0].span.duration), (2, Some(1_382_000_000)));
    assert_eq!(spans[0].span.tokens, Some([144, 0, 0, 0, 0]), "used where no call reports any");
    assert_eq!(spans[1].span.field(SpanField::Tool), Some("x"));
    assert!(super::spans_of(spans[0].span.trace, &Value::Null, &listed::identity("p", "a", "langflow")).is_empty());
}

#[test]
fn flows_of_one_name_are_distinguished_and_broken_ones_cost_nothing_else() {
    let page = r#"[{"id": "b2345678-1", "name": "shop"}, {"id": "a1", "name": "shop"}, {"id": "c", "name": "part", "is_component": true}, {}, 7]"#;
    let (flows, errors) = read_flows(page).expect("a list");
    let names: Vec<&str> = flows.iter().map(|flow| flow.name.as_str()).collect();
    assert_eq!((names, errors.len()), (vec!["shop", "shop (b2345678)"], 2));
    assert_eq!(read_flows(r#"{"detail": "x"}"#).expect_err("no list").reason, SourceErrorReason::Malformed);
    let (traces, errors) =
        read_traces(r#"{"traces": [{"id": "no"}, {"id": "e4882f39-c53c-4d9f-87b0-ab98e64d525b"}]}"#).expect("a list");
    assert_eq!((traces.len(), errors.len()), (1, 1));
}
