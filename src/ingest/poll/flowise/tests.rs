//! Tests of `ingest::poll::flowise`.

use super::*;

const EXECUTIONS: &str = include_str!("../../../../tests/it/samples/flows/flowise-executions.json");

fn at(text: &str) -> Time {
    Time::parse(text).expect("a time")
}

#[test]
fn an_execution_has_its_calls_cost_and_state() {
    let rows = read_executions(EXECUTIONS).expect("rows");
    let mut flowise = Flowise::default();
    let now = at("2026-11-29T21:00:00Z");
    assert_eq!(flowise.take(&rows[0], now, "flows"), Some(true));
    assert_eq!(flowise.take(&rows[0], now, "flows"), Some(false), "the same again");
    assert_eq!(flowise.take(&rows[1], now, "flows"), Some(true));
    let spans = flowise.runs.take();
    let calls: Vec<&Span<'_>> = spans.iter().map(|it| &it.span).filter(|it| it.kind == SpanKind::Llm).collect();
    assert_eq!((calls[0].tokens, calls[0].cost_usd), (Some([64, 16, 64, 0, 0]), Some(2.88e-5)));
    assert_eq!(calls[1].field(SpanField::Error), Some("Error in LLM node: llmMessages.some is not a function"));
    let tops: Vec<(SpanStatus, Option<&str>)> = spans
        .iter()
        .filter(|it| it.span.begins_run)
        .map(|it| (it.span.status, it.span.field(SpanField::Session)))
        .collect();
    assert_eq!(tops, [(SpanStatus::Ok, Some("shop-ses-1")), (SpanStatus::Error, Some("shop-ses-1"))]);
    assert!(!format!("{spans:?}").contains("apples"), "no prompt, no answer");
    assert_eq!(flowise.take(&rows[0], at("2026-12-20T00:00:00Z"), "flows"), Some(false), "too old");
}

#[test]
fn states_of_executions_are_known() {
    let state = |state: &str, action: Value| ExecutionState::of(&serde_json::json!({"state": state, "action": action}));
    assert_eq!(state("INPROGRESS", Value::Null), Some(ExecutionState::Running));
    assert_eq!(state("STOPPED", serde_json::json!({"id": 1})), Some(ExecutionState::Waiting), "for a person");
    assert_eq!(state("STOPPED", Value::Null), Some(ExecutionState::Failed("stopped")));
    assert_eq!(state("TIMEOUT", Value::Null), Some(ExecutionState::Failed("timed out")));
    assert_eq!(state("LATER", Value::Null), None);
    for broken in [r#"{"id": 7}"#, "7", r#"{"id": "d7bbc363-07d4-42c3-9094-7802b3c97fc8", "state": "FINISHED"}"#] {
        let row = page::tree(broken).expect("JSON");
        assert_eq!(Flowise::default().take(&row, at("2026-11-29T21:00:00Z"), "flows"), None, "{broken}");
    }
    let half = serde_json::json!({"id": "d7bbc363-07d4-42c3-9094-7802b3c97fc8", "state": "FINISHED",
        "createdDate": "2026-11-29T20:56:12.000Z", "executionData": "[{]"});
    assert_eq!(Flowise::default().take(&half, at("2026-11-29T21:00:00Z"), "flows"), Some(true), "without its nodes");
}

#[test]
fn both_forms_of_the_list_of_flows_are_read() {
    let rows = r#"[{"id": "a", "name": "x"}, {"id": "b"}]"#;
    for text in [rows.to_owned(), format!(r#"{{"data": {rows}, "total": 2}}"#)] {
        let (flows, errors) = read_flows(&text).expect("flows");
        assert_eq!((flows, errors.len()), (vec![("a".to_owned(), "x".to_owned())], 1));
    }
    assert!(read_flows(r#"{"error": "Unauthorized Access"}"#).expect_err("an error").message.contains("Unauthorized"));
}
