//! Tests of `ingest::poll::http_json`.

use serde_json::json;

use super::*;
use crate::model::Patch;

const NOW: &str = "2026-11-21T02:10:00Z";

fn now() -> Time {
    Time::parse(NOW).expect("a time")
}

fn compiled(fields: Value, status_map: Value) -> HttpJson {
    let source =
        json!({"name": "web", "kind": "http-json", "url": "http://x/", "fields": fields, "status_map": status_map});
    HttpJson::compile(&serde_json::from_value(source).expect("a source")).expect("paths")
}

fn page(agents: &str) -> HttpJson {
    compiled(json!({"agents": agents, "name": "$.id", "status": "$.state"}), json!({}))
}

/// The only agent of a page that is an object `agent`, with `field` read from `$.x`.
fn check(field: &str, value: Value, expected: impl FnOnce(&AgentUpdate<'_>) -> bool) {
    let reader =
        compiled(json!({"agents": "$[*]", "name": "$.id", field: "$.x"}), json!({"busy": "running", "3": "paused"}));
    let batches = reader.read(&json!([{"id": "a", "x": value}]).to_string(), now(), "p").expect("batches");
    assert!(batches[0].rejected.is_empty(), "{field} {value}: {:?}", batches[0].rejected);
    assert!(expected(&batches[0].agents[0]), "{field} {value}: {:?}", batches[0].agents[0]);
}

#[test]
fn every_field_is_read_and_values_are_converted() {
    let two = Time::parse("2026-11-21T02:00:00Z");
    check("status", json!("BUSY"), |agent| agent.status == Some(AgentStatus::Running));
    check("status", json!("waitingReview"), |agent| agent.status == Some(AgentStatus::WaitingReview));
    check("status", json!(3), |agent| agent.status == Some(AgentStatus::Paused));
    check("status", json!(null), |agent| agent.status.is_none());
    for flag in [json!(true), json!("true"), json!(1), json!("Yes")] {
        check("running", flag, |agent| agent.running == Some(true));
    }
    check("running", json!("0"), |agent| agent.running == Some(false));
    check("task_id", json!(17), |agent| agent.task_id == Patch::Set("17".into()));
    check("phase", json!(null), |agent| agent.phase == Patch::Clear);
    check("progress", json!("42.5"), |agent| agent.progress == Patch::Set(42.5));
    check("context_window_ratio", json!("0.5"), |agent| agent.context_window_ratio == Patch::Set(0.5));
    check("restart_count", json!("12"), |agent| agent.restart_count == Some(12));
    for time in
        [json!("2026-11-21T02:00:00Z"), json!(1_795_226_400), json!("1795226400000"), json!(1_795_226_400_000_u64)]
    {
        check("last_activity", time, |agent| agent.last_activity == two);
    }
    check("idle_seconds", json!("600"), |agent| agent.last_activity == two);
    check("elapsed", json!(600.0), |agent| agent.last_activity == two);
    check("estimated_completion", json!("2026-11-21T02:00:00Z"), |agent| {
        agent.estimated_completion == Patch::Set(two.expect("a time"))
    });
    check("tokens.cache_read", json!("7"), |agent| agent.tokens[2] == Some(7));
    check("tokens.total", json!(7), |agent| agent.tokens[0] == Some(7));
    check("cost_usd", json!("0.25"), |agent| agent.cost_usd == Some(0.25));
    check("requests.rate_limited", json!(4), |agent| agent.rate_limit_hits == Some(4));
    check("reviews.failed", json!(""), |agent| agent.reviews_failed.is_none());
    check("type", json!("langflow"), |agent| agent.agent_type.as_deref() == Some("langflow"));
}

#[test]
fn filters_match_patterns_as_the_standard_requires() {
    let all = ["cat", "cats", "bobcat", "Käse", "a\rb"].map(|id| json!({"id": id}));
    let text = json!({"agents": all}).to_string();
    let names = |filter: &str| -> Vec<String> {
        let batches = page(&format!("$.agents[?{filter}]")).read(&text, now(), "web").expect("batches");
        batches[0].agents.iter().map(|agent| agent.name.to_string()).collect()
    };
    assert_eq!(names("match(@.id, 'cat|c.t')"), ["cat"]);
    assert_eq!(names("match(@.id, '[a-c]+(t|ts)')"), ["cat", "cats"]);
    assert_eq!(names("search(@.id, 'cat|dog')"), ["cat", "cats", "bobcat"]);
    assert_eq!(names("match(@.id, 'K.s{1,2}e')"), ["Käse"], "a dot is a character, not a byte");
    assert_eq!(names("match(@.id, 'a.b')"), [""; 0], "and not a line break");
    assert_eq!(names("search(@.id, '(')"), [""; 0], "an invalid pattern matches nothing");
    assert_eq!(names("match(@.id, '\\\\p{L}+')"), ["cat", "cats", "bobcat", "Käse"]);
}

#[test]
fn an_invalid_value_is_rejected_alone_and_an_invalid_name_with_its_agent() {
    let text =
        r#"{"agents": [{"id": "a", "state": "hibernating"}, {"id": "b", "state": "idle"}, {"state": "idle"}, 7]}"#;
    let batches = page("$.agents[*]").read(text, now(), "web").expect("batches");
    assert_eq!((batches[0].agents.len(), batches[0].complete), (2, false), "no agent is removed");
    assert_eq!((&*batches[0].agents[0].name, batches[0].agents[0].status), ("a", None));
    let rejected: Vec<_> = batches[0].rejected.iter().map(|it| (it.subject(), it.field, it.reason.as_str())).collect();
    assert_eq!(
        rejected,
        [
            ("agents[0] a".to_owned(), "status", "status"),
            ("agents[2]".to_owned(), "name", "name"),
            ("agents[3]".to_owned(), "name", "name")
        ]
    );
    assert!(batches[0].rejected[0].error.contains("`status_map`"), "{}", batches[0].rejected[0].error);
    let valued = page("$.agents[*]").read(r#"{"agents": [{"id": "a", "state": "hibernating"}]}"#, now(), "web");
    assert!(valued.expect("batches")[0].complete, "all agents were read");
}

#[test]
fn a_key_can_be_the_name_and_a_field_the_project() {
    let reader = compiled(json!({"agents": "$.teams.*.agents.*", "name": "@key", "project": "$.team"}), json!({}));
    let text = r#"{"teams": {"x": {"agents": {"a": {"team": "red"}, "b\u00e9": {"team": "blue"}}}, "y": {"agents": {"c": {}}}}}"#;
    let batches = reader.read(text, now(), "web").expect("batches");
    let found: Vec<_> = batches.iter().map(|batch| (&*batch.project, &*batch.agents[0].name, batch.complete)).collect();
    assert_eq!(found, [("blue", "bé", true), ("red", "a", true), ("web", "c", true)]);
    let listed = reader.read(r#"{"teams": {"x": {"agents": [{}]}}}"#, now(), "web").expect("batches");
    assert_eq!(listed[0].rejected[0].reason.as_str(), "name", "a list has no keys");
}

#[test]
fn only_an_empty_list_is_an_empty_fleet() {
    for (path, text) in [
        ("$.agents[*]", r#"{"agents": []}"#),
        ("$.agents.*", r#"{"agents": {}}"#),
        ("$[*]", "[]"),
        ("$.agents[?@.kind == 'x']", r#"{"agents": [{"kind": "y"}]}"#),
        ("$.teams[*].agents[*]", r#"{"teams": []}"#),
        ("$.teams[*].agents[*]", r#"{"teams": [{"agents": []}]}"#),
    ] {
        let batches = page(path).read(text, now(), "web").unwrap_or_else(|error| panic!("{path} {text}: {error}"));
        assert_eq!((batches.len(), batches[0].complete, batches[0].agents.len()), (1, true, 0), "{path} {text}");
        assert_eq!(batches[0].project, "web");
    }
    for (path, text, reason) in [
        ("$.agents[*]", "{}", SourceErrorReason::Malformed),
        ("$.agents[*]", r#"{"agents": null}"#, SourceErrorReason::Malformed),
        ("$.agents[*]", r#"{"agents": "none"}"#, SourceErrorReason::Malformed),
        ("$.agents[*]", r#"{"error": "starting"}"#, SourceErrorReason::Upstream),
        ("$.agents[*]", r#"{"agents": [], "error": "starting"}"#, SourceErrorReason::Upstream),
        ("$.agent", r#"{"status": "starting"}"#, SourceErrorReason::Malformed),
        ("$.teams[*].agents[*]", r#"{"teams": [{"name": "x"}]}"#, SourceErrorReason::Malformed),
        ("$..agents[*]", "{}", SourceErrorReason::Malformed),
        ("$[*]", "7", SourceErrorReason::Malformed),
        ("$.agents[*]", "<html>", SourceErrorReason::Malformed),
    ] {
        let error = page(path).read(text, now(), "web").expect_err(text);
        assert_eq!(error.reason, reason, "{path} {text}: {error}");
    }
}

#[test]
fn an_error_on_a_page_with_agents_keeps_them_and_removes_none() {
    let batches =
        page("$.agents[*]").read(r#"{"agents": [{"id": "a"}], "error": "half of it"}"#, now(), "web").expect("batches");
    assert_eq!((batches[0].agents.len(), batches[0].complete), (1, false));
}

#[test]
fn an_agent_may_be_a_plain_name() {
    let reader = compiled(json!({"agents": "$.up[*]", "name": "$"}), json!({}));
    let batches = reader.read(r#"{"up": ["a", "b"]}"#, now(), "web").expect("batches");
    assert_eq!(batches[0].agents.iter().map(|agent| &*agent.name).collect::<Vec<_>>(), ["a", "b"]);
}
