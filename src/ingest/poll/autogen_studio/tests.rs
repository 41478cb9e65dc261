//! Tests of `ingest::poll::autogen_studio`.

use super::*;

const RUNS: &str = include_str!("../../../../tests/it/samples/flows/autogen-studio-session-3-runs.json");

fn studio() -> AutogenStudio {
    AutogenStudio { zone: TimeZone::UTC, ..AutogenStudio::new("studio", None) }
}

fn session() -> StudioSession {
    StudioSession { id: "3".to_owned(), team: "1".to_owned() }
}

fn now() -> Time {
    Time::parse("2026-11-29T21:00:00Z").expect("a time")
}

#[test]
fn messages_are_calls_and_tools() {
    let mut runs = read_runs(RUNS).expect("runs");
    let tool = serde_json::json!([
        {"id": 40, "created_at": "2026-11-29T20:46:35.700", "config": {"type": "ToolCallRequestEvent", "source": "clerk",
            "content": [{"id": "c1", "name": "count_stock", "arguments": "apples"}]}},
        {"id": 41, "created_at": "2026-11-29T20:46:35.750", "config": {"type": "ToolCallExecutionEvent",
            "content": [{"call_id": "c1", "content": "12 apples", "is_error": true}]}},
    ]);
    runs[0]["messages"].as_array_mut().expect("messages").splice(1..1, tool.as_array().expect("two").clone());
    let mut studio = studio();
    assert_eq!(studio.take(&runs[0], &session(), None, "studio", now()), Some(()));
    let spans = studio.runs.take();
    let shown: Vec<(SpanKind, &str, u64)> =
        spans.iter().map(|it| (it.span.kind, &*it.span.name, it.span.duration.unwrap_or(0) / 1_000_000)).collect();
    let expected = [
        (SpanKind::Agent, "team", 595),
        (SpanKind::Tool, "count_stock", 50),
        (SpanKind::Llm, "clerk", 64),
        (SpanKind::Llm, "clerk", 210),
    ];
    assert_eq!(shown, expected);
    assert_eq!(spans[0].span.tokens, Some([256, 32, 0, 0, 0]), "used where no message reports any");
    assert!(!format!("{spans:?}").contains("apples"), "no prompt, no answer, no argument");
    assert_eq!(studio.take(&runs[0], &session(), None, "studio", now()), Some(()));
    assert!(studio.runs.take().is_empty(), "the same again");
}

#[test]
fn a_run_goes_on_and_ends() {
    let mut runs = read_runs(RUNS).expect("runs");
    let mut studio = studio();
    let take = |studio: &mut AutogenStudio, run: &Value| {
        studio.take(run, &session(), None, "studio", now());
        let top = studio.runs.take().remove(0).span;
        (top.duration.is_some(), top.status, top.field(SpanField::Error).map(str::to_owned))
    };
    runs[0]["status"] = "active".into();
    assert_eq!(take(&mut studio, &runs[0]), (false, SpanStatus::Unset, None));
    runs[0]["status"] = "error".into();
    runs[0]["error_message"] = "no model".into();
    assert_eq!(take(&mut studio, &runs[0]), (true, SpanStatus::Error, Some("no model".to_owned())));
    for (key, value) in [("status", serde_json::json!("later")), ("id", Value::Null), ("created_at", "today".into())] {
        let mut broken = runs[0].clone();
        broken[key] = value;
        assert_eq!(studio.take(&broken, &session(), None, "studio", now()), None, "{key}");
    }
}

#[test]
fn an_answer_that_failed_is_an_error_of_the_source() {
    let error = rows(r#"{"status": false, "message": "no such user"}"#, "/api/teams/").expect_err("failed");
    assert_eq!((error.reason, error.message.as_str()), (SourceErrorReason::Upstream, "/api/teams/: no such user"));
    assert_eq!(rows("{}", "/api/teams/").expect_err("foreign").reason, SourceErrorReason::Malformed);
    assert_eq!(id_of(&serde_json::json!({"id": "../3"}), "id"), None, "it would change the path");
}
