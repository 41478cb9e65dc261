//! Tests of `ingest::usage`.

use super::*;

fn check(body: &str, expected: &[(&str, &str, [Option<u64>; 5])]) {
    let batch = decode_usage(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    let accepted: Vec<_> = batch
        .usage
        .iter()
        .map(|update| (update.agent.as_deref().unwrap_or(""), update.task_id.as_deref().unwrap_or(""), update.tokens))
        .collect();
    assert_eq!(accepted, expected, "{body}: {:?}", batch.rejected);
}

fn check_rejected(item: &str, reason: &str, part: &str) {
    let body = format!(r#"{{"usage":[{item},{{"agent":"good","input":1}}]}}"#);
    let batch = decode_usage(&body).expect("a batch");
    assert_eq!(batch.usage.len(), 1, "{item}: the valid one is accepted");
    assert_eq!(batch.rejected[0].reason.as_str(), reason, "{item}");
    assert!(batch.rejected[0].error.contains(part), "{item}: {}", batch.rejected[0].error);
}

#[test]
fn increments_have_an_agent_or_a_task() {
    let split = [Some(10), Some(5), Some(2), None, None];
    check(
        r#"{"project":"shop","usage":[{"agent":"a","task_id":"t","input":10,"output":5,"cache_read":2}]}"#,
        &[("a", "t", split)],
    );
    check(r#"{"usage":[{"taskId":7,"inputTokens":10,"outputTokens":5,"cacheReadTokens":2}]}"#, &[("", "7", split)]);
    check(
        r#"{"usage":[{"agent":null,"task_id":"t","tokens":{"input":10,"output":5,"cacheRead":2}}]}"#,
        &[("", "t", split)],
    );
    check(r#"{"usage":[{"agent":"a","tokensUsed":9}]}"#, &[("a", "", [Some(9), None, None, None, None])]);
    check(r#"{"usage":[]}"#, &[]);
}

#[test]
fn one_increment_needs_no_list() {
    let body = r#"{"project":"p","usage":{"agent":"a","output":5,"model":"m","cost_usd":0.5,"id":"r1"}}"#;
    let batch = decode_usage(body).expect("a batch");
    assert_eq!(batch.project, "p");
    let update = &batch.usage[0];
    assert_eq!((update.model.as_deref(), update.cost_usd, update.id.as_deref()), (Some("m"), Some(0.5), Some("r1")));
}

#[test]
fn an_invalid_increment_is_rejected_alone() {
    for (item, reason, part) in [
        (r#"{"input":1}"#, "name", "neither `agent` nor `task_id`"),
        (r#"{"agent":"a"}"#, "value", "neither tokens nor cost"),
        (r#"{"agent":"a","input":-1}"#, "value", "`tokens.input` is -1"),
        (r#"{"agent":"a","cost_usd":"1"}"#, "value", "US dollars"),
        (r#"{"agent":"a","input":1,"id":["x"]}"#, "value", "`id` is a list"),
        (r#"{"agent":"a","input":1,"id":""}"#, "value", "`id`"),
        (r#"{"agent":"","input":1}"#, "name", "`name`"),
        ("3", "value", "an increment is 3"),
    ] {
        check_rejected(item, reason, part);
    }
}

#[test]
fn a_body_without_usage_is_rejected_as_a_whole() {
    for (body, part) in [
        ("", "EOF"),
        ("{}", "no `usage`"),
        (r#"{"usage":3}"#, "`usage` is 3"),
        (r#"{"usage":null}"#, "`usage` is null"),
        (r#"[]"#, "the body is a list"),
        (r#"{"project":[],"usage":[]}"#, "`project` is a list"),
    ] {
        let error = decode_usage(body).expect_err(body).to_string();
        assert!(error.contains(part) && error.contains(" line "), "{error}");
    }
}
