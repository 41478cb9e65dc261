//! Tests of `ingest::state`.

use proptest::prelude::*;

use std::time::Duration;

use super::*;
use crate::model::update::Ordinal;
use crate::model::{AgentStatus, AgentUpdate, ComponentStatus, InputKind, Patch};

const NOW: &str = "2026-11-21T02:10:00Z";

fn at(text: &str) -> Time {
    Time::parse(text).expect("a time")
}

fn batch(body: &str) -> Batch<'_> {
    decode_state(body, at(NOW)).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// Checks the only agent of a batch, which has `fields`.
fn check(fields: &str, expected: impl FnOnce(AgentUpdate<'_>)) {
    let body = format!(r#"{{"agents":[{{"name":"a",{fields}}}]}}"#);
    let batch = batch(&body);
    assert!(batch.rejected.is_empty(), "{fields}: {:?}", batch.rejected);
    expected(batch.agents.into_iter().next().expect("an agent"));
}

/// Checks an agent that is rejected as a whole, before a valid one.
fn check_rejected(agent: &str, reason: &str, part: &str) {
    let body = format!(r#"{{"complete":true,"agents":[{agent},{{"name":"good"}}]}}"#);
    let batch = batch(&body);
    assert_eq!(batch.agents.len(), 1, "{agent}: the valid one is accepted");
    assert_eq!(batch.agents[0].index, 1, "{agent}: at its own position");
    assert!(!batch.complete, "{agent}: the rejected one is not removed");
    check_fault(&batch, agent, reason, part);
}

/// Checks an agent with an invalid value of `field`, after a valid one.
fn check_value(agent: &str, field: &str, reason: &str, part: &str) {
    let body = format!(r#"{{"complete":true,"agents":[{{"name":"good"}},{agent}]}}"#);
    let batch = batch(&body);
    assert_eq!(batch.agents.len(), 2, "{agent}: only the value is rejected");
    assert!(batch.complete, "{agent}: all agents were read");
    check_fault(&batch, agent, reason, part);
    let rejected = &batch.rejected[0];
    assert_eq!(
        (rejected.list, rejected.index, &*rejected.name, rejected.field),
        ("agents", Some(1), "a", field),
        "{agent}"
    );
}

fn check_fault(batch: &Batch<'_>, agent: &str, reason: &str, part: &str) {
    let rejected = batch.rejected.first().unwrap_or_else(|| panic!("{agent} was accepted"));
    assert_eq!(rejected.reason.as_str(), reason, "{agent}");
    assert!(rejected.error.contains(part), "{agent}: {}", rejected.error);
    assert!(InputKind::State.reasons().contains(&rejected.reason));
}

/// Checks an invalid field of the body, which is rejected alone.
fn check_body_field(fields: &str, field: &str, part: &str) {
    let body = format!(r#"{{{fields},"agents":[{{"name":"a"}}]}}"#);
    let batch = batch(&body);
    assert_eq!((batch.agents.len(), batch.complete, batch.ttl, &batch.ordinal), (1, false, None, &None), "{fields}");
    let rejected = &batch.rejected[0];
    assert_eq!((rejected.list, rejected.index, rejected.field), ("", None, field), "{fields}");
    assert!(rejected.error.contains(part), "{fields}: {}", rejected.error);
}

fn check_rejected_body(body: &str, part: &str) {
    let error = decode_state(body, at(NOW)).map(|batch| format!("{batch:?}")).expect_err(body).to_string();
    assert!(error.contains(part), "{error}");
    assert!(error.contains(" at line ") && error.contains(" column "), "{error}");
}

#[test]
fn the_documented_state_is_decoded() {
    let body = r#"{"project": "shop", "complete": true, "ttl": "5m",
     "agents": [{
       "name": "grand_boss", "type": "custom", "status": "running", "task_id": "task_123",
       "task_started_at": "2026-11-21T01:40:00Z", "phase": "implement", "progress": 42.5, "restart_count": 1,
       "last_activity": "2026-11-21T02:00:00Z", "estimated_completion": null,
       "model": "claude-opus", "tokens": {"input": 1000, "output": 500, "cache_read": 3, "cache_creation": 0, "reasoning": 7, "cost_usd": 0.0123},
       "requests": {"total": 40, "errors": 1, "rate_limited": 2, "retries": 4},
       "reviews": {"passed": 3, "failed": 1},
       "rate_limits": [{"provider": "anthropic", "limit_type": "requests", "limit": 50, "remaining": 12, "reset_at": "2026-11-21T02:11:00Z"}]}],
     "components": [{"name": "DatabaseManager", "status": "WARNING", "details": "pool is full", "metrics": {"pool_size": 10}}]}"#;
    let batch = batch(body);
    assert_eq!((&*batch.project, batch.complete, batch.ttl), ("shop", true, Some(Duration::from_secs(300))));
    let agent = &batch.agents[0];
    assert_eq!(agent.name, "grand_boss");
    assert_eq!(agent.agent_type.as_deref(), Some("custom"));
    assert_eq!(agent.status, Some(AgentStatus::Running));
    assert_eq!(agent.task_id, Patch::Set("task_123".into()));
    assert_eq!(agent.task_started_at, Some(at("2026-11-21T01:40:00Z")));
    assert_eq!(agent.phase, Patch::Set("implement".into()));
    assert_eq!(agent.progress, Patch::Set(42.5));
    assert_eq!(agent.restart_count, Some(1));
    assert_eq!(agent.last_activity, Some(at("2026-11-21T02:00:00Z")));
    assert_eq!(agent.estimated_completion, Patch::Clear);
    assert_eq!(agent.model.as_deref(), Some("claude-opus"));
    assert_eq!(agent.tokens, [Some(1000), Some(500), Some(3), Some(0), Some(7)]);
    assert_eq!(agent.cost_usd, Some(0.0123));
    assert_eq!((agent.requests, agent.request_errors), (Some(40), Some(1)));
    assert_eq!((agent.rate_limit_hits, agent.retries), (Some(2), Some(4)));
    assert_eq!((agent.reviews_passed, agent.reviews_failed), (Some(3), Some(1)));
    let limit = &agent.rate_limits.as_ref().expect("limits")[0];
    assert_eq!((&*limit.provider, &*limit.limit_type), ("anthropic", "requests"));
    assert_eq!((limit.limit, limit.remaining), (Some(50), Some(12)));
    assert_eq!(limit.reset_at, Some(at("2026-11-21T02:11:00Z")));
    let component = &batch.components[0];
    assert_eq!((&*component.name, component.status), ("DatabaseManager", ComponentStatus::Warning));
    assert_eq!(component.details.as_deref(), Some("pool is full"));
    assert_eq!(component.metrics, [("pool_size".into(), 10.0)]);
}

#[test]
fn the_ordinal_is_decoded() {
    let numbered = batch(r#"{"ordinal":{"number":7,"run":"a-1","more":[]},"agents":[]}"#);
    assert_eq!(numbered.ordinal, Some(Ordinal { run: "a-1".into(), number: 7 }));
    assert_eq!(batch(r#"{"ordinal":null,"agents":[]}"#).ordinal, None);
}

#[test]
fn absent_fields_are_unknown() {
    let batch = batch(r#"{"agents":[{"name":"a"}]}"#);
    assert_eq!((&*batch.project, batch.complete, batch.ttl), ("default", false, None));
    let agent = &batch.agents[0];
    assert_eq!(format!("{agent:?}"), format!("{:?}", AgentUpdate { name: "a".into(), ..AgentUpdate::default() }));
}

#[test]
fn plain_text_is_borrowed() {
    let body = r#"{"project":"p","agents":[{"name":"a","type":"t","model":"m","task_id":"x","phase":"y"}]}"#;
    let batch = batch(body);
    let agent = &batch.agents[0];
    for text in [
        &batch.project,
        &agent.name,
        agent.model.as_ref().expect("a model"),
        agent.agent_type.as_ref().expect("a type"),
    ] {
        assert!(matches!(text, Cow::Borrowed(_)), "{text} was copied");
    }
    assert!(matches!((&agent.task_id, &agent.phase), (Patch::Set(Cow::Borrowed(_)), Patch::Set(Cow::Borrowed(_)))));
}

#[test]
fn camel_case_and_older_names_mean_the_same() {
    check(
        r#""currentPhase":"plan","inputTokens":1,"outputTokens":2,"cacheReadTokens":3,"cacheCreationTokens":4,
           "reasoningTokens":5,"cost":0.5,"restartCount":6,"taskId":7,"lastActivity":1795226400,
           "estimatedCompletion":"2026-11-21T03:00:00Z","agentType":"vanna","rateLimitHits":8,"retryCount":9,
           "rateLimits":[{"provider":"openai","limitType":"inputTokens","resetAt":1795227000}]"#,
        |agent| {
            assert_eq!(agent.phase, Patch::Set("plan".into()));
            assert_eq!(agent.tokens, [Some(1), Some(2), Some(3), Some(4), Some(5)]);
            assert_eq!((agent.cost_usd, agent.restart_count), (Some(0.5), Some(6)));
            assert_eq!(agent.task_id, Patch::Set("7".into()));
            assert_eq!(agent.last_activity, Some(at("2026-11-21T02:00:00Z")));
            assert_eq!(agent.estimated_completion, Patch::Set(at("2026-11-21T03:00:00Z")));
            assert_eq!(agent.agent_type.as_deref(), Some("vanna"));
            assert_eq!((agent.rate_limit_hits, agent.retries), (Some(8), Some(9)));
            let limit = &agent.rate_limits.expect("limits")[0];
            assert_eq!((&*limit.limit_type, limit.reset_at), ("input_tokens", Some(at("2026-11-21T02:10:00Z"))));
        },
    );
    check(r#""tokens":{"cacheRead":3,"inputTokens":1,"costUsd":2},"requests":{"rateLimited":4}"#, |agent| {
        assert_eq!(agent.tokens, [Some(1), None, Some(3), None, None]);
        assert_eq!((agent.cost_usd, agent.rate_limit_hits), (Some(2.0), Some(4)));
    });
}

#[test]
fn a_single_number_of_tokens_is_input_unless_given_by_type() {
    for fields in [r#""tokensUsed":9"#, r#""tokens":9"#, r#""tokens":{"total":9}"#, r#""tokens_used":9.0"#] {
        check(fields, |agent| assert_eq!(agent.tokens, [Some(9), None, None, None, None], "{fields}"));
    }
    check(r#""tokensUsed":9,"tokens":{"output":4}"#, |agent| {
        assert_eq!(agent.tokens, [None, Some(4), None, None, None]);
    });
}

#[test]
fn null_clears_what_can_be_cleared() {
    check(
        r#""phase":null,"task_id":null,"progress":null,"reason":"","rate_limits":null,"model":null,"tokens":null,"status":null"#,
        |agent| {
            assert_eq!((agent.phase, agent.task_id, agent.reason), (Patch::Clear, Patch::Clear, Patch::Clear));
            assert_eq!(agent.progress, Patch::Clear);
            assert_eq!(agent.rate_limits.map(|limits| limits.len()), Some(0));
            assert_eq!((agent.model, agent.tokens, agent.status), (None, [None; 5], None));
        },
    );
}

#[test]
fn times_are_decoded_in_every_format() {
    let two = Some(at("2026-11-21T02:00:00Z"));
    for (value, expected) in [
        (r#""2026-11-21T03:00:00+01:00""#, two),
        ("1795226400", two),
        ("1795226400.0", two),
        ("1795226400000", two),
        (r#""2099-01-01T00:00:00Z""#, Some(at("2099-01-01T00:00:00Z"))),
        ("0", None),
        ("0.0", None),
        ("null", None),
        (r#""0001-01-01T00:00:00Z""#, None),
    ] {
        check(&format!(r#""last_activity":{value}"#), |agent| assert_eq!(agent.last_activity, expected, "{value}"));
        check(&format!(r#""task_started_at":{value}"#), |agent| assert_eq!(agent.task_started_at, expected, "{value}"));
    }
    check(r#""estimated_completion":"2099-01-01T00:00:00Z""#, |agent| {
        assert_eq!(agent.estimated_completion, Patch::Set(at("2099-01-01T00:00:00Z")));
    });
    check(r#""idle_seconds":60"#, |agent| assert_eq!(agent.last_activity, Some(at("2026-11-21T02:09:00Z"))));
    check(r#""idle_seconds":60,"last_activity":1795226400"#, |agent| assert_eq!(agent.last_activity, two));
}

#[test]
fn a_time_to_retry_at_is_a_limit_of_an_unknown_provider() {
    check(r#""retryAfter":30,"rate_limits":[{"provider":"anthropic"}]"#, |agent| {
        let limits = agent.rate_limits.expect("limits");
        assert_eq!(limits.len(), 2);
        assert_eq!((&*limits[1].provider, &*limits[1].limit_type), ("unknown", "requests"));
        assert_eq!((limits[1].reset_at, limits[1].remaining), (Some(at("2026-11-21T02:10:30Z")), Some(0)));
    });
    check(r#""retry_after":null"#, |agent| assert!(agent.rate_limits.is_none()));
}

#[test]
fn statuses_are_decoded_in_any_spelling_and_independent_of_running() {
    for word in ["waitingReview", "WAITING_REVIEW", "waiting-review"] {
        check(&format!(r#""status":"{word}""#), |agent| assert_eq!(agent.status, Some(AgentStatus::WaitingReview)));
    }
    check(r#""running":false"#, |agent| assert_eq!((agent.running, agent.status), (Some(false), None)));
}

#[test]
fn text_is_cleaned_and_cut() {
    let long = "é".repeat(400);
    check(&format!(r#""reason":"{long}","phase":"{long}","model":"a\u001b[1mb\u202e""#), |agent| {
        assert_eq!(agent.reason, Patch::Set("é".repeat(256).into()));
        assert_eq!(agent.phase, Patch::Set("é".repeat(128).into()));
        assert_eq!(agent.model.as_deref(), Some("ab"));
    });
}

#[test]
fn an_invalid_agent_is_rejected_alone() {
    for (agent, reason, part) in [
        ("{}", "name", "without `name`"),
        (r#"{"name":""}"#, "name", "1 to 256 bytes"),
        (r#"{"name":null}"#, "name", "`name` is null"),
        (r#"{"name":7}"#, "name", "`name` is 7"),
        (r#"{"name":"a\u0007"}"#, "name", "control characters"),
        (&format!(r#"{{"name":"{}"}}"#, "x".repeat(257)), "name", "xxx…"),
        ("7", "value", "an agent is 7"),
        ("[[]]", "value", "an agent is a list"),
        ("null", "value", "an agent is null"),
    ] {
        check_rejected(agent, reason, part);
    }
}

#[test]
fn an_invalid_value_is_rejected_without_its_agent() {
    for (agent, field, reason, part) in [
        (r#"{"name":"a","status":"runing"}"#, "status", "status", "did you mean `running`?"),
        (r#"{"name":"a","status":"hibernating"}"#, "status", "status", "use one of idle"),
        (r#"{"name":"a","status":3}"#, "status", "value", "`status` is 3"),
        (r#"{"name":"a","running":"yes"}"#, "running", "value", "true or false"),
        (r#"{"name":"a","context_window_ratio":1.01}"#, "context_window_ratio", "value", "from 0 to 1"),
        (
            r#"{"name":"a","context_window":{"used_percentage":101}}"#,
            "context_window.used_percentage",
            "value",
            "from 0 to 100",
        ),
        (
            r#"{"name":"a","context_window":{"used":2,"size":1}}"#,
            "context_window.used",
            "value",
            "is 2 of 1; it must be no more than its size",
        ),
        (
            r#"{"name":"a","context_window":{"used":0,"size":0}}"#,
            "context_window.used",
            "value",
            "no more than its size",
        ),
        (r#"{"name":"a","context_window":0.5}"#, "context_window", "value", "an object of counters"),
        (r#"{"name":"a","progress":101}"#, "progress", "value", "from 0 to 100"),
        (r#"{"name":"a","progress":-0.1}"#, "progress", "value", "from 0 to 100"),
        (r#"{"name":"a","progress":"NaN"}"#, "progress", "value", "`progress` is `NaN`"),
        (r#"{"name":"a","restart_count":-1}"#, "restart_count", "value", "`restart_count` is -1"),
        (r#"{"name":"a","restart_count":1.5}"#, "restart_count", "value", "a whole number"),
        (r#"{"name":"a","tokens":{"output":18446744073709551615}}"#, "tokens.output", "value", "`tokens.output`"),
        (r#"{"name":"a","tokens":{"cost_usd":-1}}"#, "cost_usd", "value", "US dollars"),
        (r#"{"name":"a","tokens":[1]}"#, "tokens", "value", "an object of counters"),
        (r#"{"name":"a","reviews":3}"#, "reviews", "value", "an object of counters"),
        (r#"{"name":"a","phase":{"x":[1,2]}}"#, "phase", "value", "`phase` is an object"),
        (r#"{"name":"a","last_activity":"yesterday"}"#, "last_activity", "value", "2026-11-21T02:00:00Z"),
        (r#"{"name":"a","last_activity":"2026-11-21T02:00:00"}"#, "last_activity", "value", "2026-11-21T02:00:00Z"),
        (r#"{"name":"a","last_activity":-5}"#, "last_activity", "value", "`last_activity` is -5"),
        (r#"{"name":"a","rate_limits":{}}"#, "rate_limits", "value", "a list"),
        (r#"{"name":"a","rate_limits":[7]}"#, "rate_limits", "value", "a list of objects"),
        (r#"{"name":"a","rate_limits":[{"limit_type":"cups"}]}"#, "rate_limits.limit_type", "value", "input_tokens"),
        (
            &format!(r#"{{"name":"a","rate_limits":[{}{{}}]}}"#, "{},".repeat(16)),
            "rate_limits",
            "limit",
            "more than 16",
        ),
        (r#"{"name":"a","tokens":{"input":"1,234","output":5}}"#, "tokens.input", "value", "`1,234`"),
        (r#"{"name":"a","requests":{"total":"12"}}"#, "requests.total", "value", "a whole number"),
        (r#"{"name":"a","rate_limits":[{"limit":"many"}]}"#, "rate_limits.limit", "value", "`many`"),
    ] {
        check_value(agent, field, reason, part);
    }
    let read = batch(
        r#"{"agents":[{"name":"a","status":"pondering","tokens":{"input":"x","output":5},"phase":"plan","eta":7.5e300,"last_activity":"noon",
        "rate_limits":[{"limit":"x","remaining":3},7,{"provider":[]}]}]}"#,
    );
    let agent = &read.agents[0];
    assert_eq!((agent.status, agent.tokens[0], agent.tokens[1]), (None, None, Some(5)));
    assert_eq!((&agent.phase, agent.is_last_activity_unreadable), (&Patch::Set("plan".into()), true));
    let limits = agent.rate_limits.as_ref().expect("limits");
    assert_eq!((limits.len(), limits[0].limit, limits[0].remaining), (1, None, Some(3)));
    let fields: Vec<_> = read.rejected.iter().map(|rejected| rejected.field).collect();
    assert_eq!(
        fields,
        [
            "status",
            "tokens.input",
            "estimated_completion",
            "last_activity",
            "rate_limits.limit",
            "rate_limits",
            "rate_limits.provider"
        ]
    );
}

#[test]
fn components_are_accepted_or_rejected_one_by_one() {
    let metrics: Vec<String> = (0..33).map(|index| format!(r#""m{index}":{index}"#)).collect();
    let body = format!(
        r#"{{"complete":true,"agents":[],"components":[{{"name":"db","status":"limited","metrics":{{"word":"x",{}}}}},
            {{"name":"q","status":"FAILED"}},{{"status":"OK"}},{{"name":"r"}},4,{{"name":"s","status":"OK","metrics":3}}]}}"#,
        metrics.join(",")
    );
    let batch = batch(&body);
    assert_eq!(batch.components.len(), 2, "`db`, and `s` without its metrics");
    assert_eq!((batch.components[0].status, batch.components[0].metrics.len()), (ComponentStatus::Limited, 32));
    let reasons: Vec<_> =
        batch.rejected.iter().map(|it| (it.list, it.index, &*it.name, it.field, it.reason.as_str())).collect();
    let components = |index, name, field, reason| ("components", Some(index), name, field, reason);
    assert_eq!(
        reasons,
        [
            components(0, "db", "metrics", "limit"),
            components(1, "q", "status", "status"),
            components(2, "", "name", "name"),
            components(3, "r", "status", "value"),
            components(4, "", "", "value"),
            components(5, "s", "metrics", "value")
        ]
    );
    assert!(batch.complete, "all agents were read");
}

#[test]
fn a_body_that_is_no_batch_is_rejected_with_a_position() {
    check_rejected_body("", "EOF");
    check_rejected_body("[]", "the body is a list");
    check_rejected_body("7", "the body is 7");
    check_rejected_body("{}", "neither `agents` nor `components`");
    check_rejected_body(r#"{"name":"a"}"#, "neither `agents` nor `components`");
    check_rejected_body(r#"{"agents":{"a":{}}}"#, "`agents` is an object; it must be a list");
    check_rejected_body(r#"{"components":1}"#, "`components` is 1");
    check_rejected_body(r#"{"project":"","agents":[]}"#, "`project`");
    check_rejected_body(r#"{"project":5,"agents":[]}"#, "`project` is 5");
    check_rejected_body(r#"{"project":"a\nb","agents":[]}"#, "control characters");
    check_rejected_body(r#"{"complete":true,"agents":7,"components":7}"#, "`agents` is 7");
    check_rejected_body(r#"{"agents":[]} x"#, "trailing characters");
    check_rejected_body(r#"{"agents":[{"name":"a"}"#, "EOF");
}

#[test]
fn an_invalid_field_of_the_body_is_rejected_alone() {
    check_body_field(r#""complete":"yes""#, "complete", "`complete` is `yes`");
    for ttl in ["0", "-1", r#""soon""#, "[]", "1e99", r#""99d""#] {
        check_body_field(&format!(r#""ttl":{ttl}"#), "ttl", "`ttl` is ");
    }
    for ordinal in
        [r#"{"run":"","number":1}"#, r#"{"run":5,"number":1}"#, r#"{"run":"a","number":-1}"#, r#"{"run":"a"}"#, "7"]
    {
        check_body_field(&format!(r#""ordinal":{ordinal}"#), "ordinal", "`ordinal");
    }
    check_body_field(r#""components":1"#, "components", "`components` is 1");
    let only = batch(r#"{"complete":true,"components":[{"name":"db","status":"OK"}],"agents":{}}"#);
    assert_eq!((only.components.len(), only.complete), (1, false));
    assert_eq!(only.rejected.iter().map(|it| it.field).collect::<Vec<_>>(), ["agents", "complete"]);
}

#[test]
fn surplus_items_are_rejected_and_counted() {
    let body = format!(r#"{{"complete":true,"agents":[{}{{"name":"a"}},7]}}"#, r#"{"name":"a"},"#.repeat(MAX_AGENTS));
    let many = batch(&body);
    assert_eq!((many.agents.len(), many.complete, many.rejected.len()), (MAX_AGENTS, false, 1));
    assert_eq!((many.rejected[0].field, many.rejected[0].reason.as_str()), ("agents", "limit"));
    assert!(many.rejected[0].error.contains("2 were left out"), "{}", many.rejected[0].error);
    let body = format!(r#"{{"components":[{}]}}"#, vec![r#"{"name":"a","status":"OK"}"#; 1_001].join(","));
    let many = batch(&body);
    assert_eq!((many.components.len(), many.rejected[0].field), (1_000, "components"));
}

#[test]
fn errors_of_a_hostile_body_stay_small() {
    let body = format!(r#"{{"agents":[{}0]}}"#, "0,".repeat(50_000));
    let batch = batch(&body);
    assert_eq!(batch.rejected.len(), 50_001);
    assert!(
        batch
            .rejected
            .iter()
            .skip(100)
            .all(|rejected| rejected.error.is_empty() && rejected.reason.as_str() == "value")
    );
    let error =
        decode_state(&format!(r#"{{"project":"{}\u001b"}}"#, "x".repeat(9_999)), at(NOW)).expect_err("rejected");
    assert!(error.to_string().len() < 600, "{error}");
}

#[test]
fn deep_nesting_is_accepted() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(batch(&format!(r#"{{"x":{deep},"agents":[{{"name":"a","y":{deep}}}]}}"#)).agents.len(), 1);
    let phase = format!(r#"{{"agents":[{{"name":"a","phase":{deep}}}]}}"#);
    let read = batch(&phase);
    assert_eq!((read.agents.len(), read.rejected[0].field), (1, "phase"));
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let keys = prop::sample::select(vec![
        "name",
        "status",
        "agents",
        "components",
        "tokens",
        "requests",
        "rate_limits",
        "progress",
        "phase",
        "ttl",
        "project",
        "complete",
        "ordinal",
        "run",
        "number",
        "lastActivity",
        "metrics",
        "retryAfter",
        "usage",
        "task_id",
        "input",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(keys.clone(), inner, 0..6).prop_map(|map| {
                serde_json::Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// `text` as a JSON string of nothing but escapes.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

proptest! {
    #[test]
    fn a_body_is_decoded_or_rejected_as_a_whole(body in "\\PC*", count in 0..20_usize, cut in any::<prop::sample::Index>()) {
        let is_object = serde_json::from_str::<serde_json::Value>(&body).is_ok_and(|it| it.is_object());
        prop_assert!(is_object || decode_state(&body, at(NOW)).is_err() && crate::ingest::decode_usage(&body).is_err());
        let list = |item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
        let states = format!("{{\"agents\":[{}]}}", list(&|number| format!("{{\"name\":\"a{number}\"}}")));
        let usage = format!("{{\"usage\":[{}]}}", list(&|number| format!("{{\"agent\":\"a{number}\",\"input\":{number}}}")));
        let read = decode_state(&states, at(NOW)).map(|batch| batch.agents.len());
        prop_assert_eq!(read.ok(), Some(count));
        let used = crate::ingest::decode_usage(&usage).map(|usage| usage.usage.iter().filter_map(|it| it.tokens[0]).sum::<u64>());
        prop_assert_eq!(used.ok(), Some((0..count as u64).sum()));
        prop_assert!(decode_state(states.split_at(cut.index(states.len())).0, at(NOW)).is_err());
        prop_assert!(crate::ingest::decode_usage(usage.split_at(cut.index(usage.len())).0).is_err());
    }

    #[test]
    fn any_json_is_survived_and_accepted_values_are_in_range(value in json()) {
        let wrapped = serde_json::json!({"agents": [value.clone(), {"name": "a", "tokens": value.clone(), "rate_limits": [value.clone()]}], "components": [value.clone()]});
        for body in [value.to_string(), wrapped.to_string()] {
            drop(crate::ingest::decode_usage(&body));
            if let Ok(batch) = decode_state(&body, at(NOW)) {
                for agent in &batch.agents {
                    prop_assert!(text::is_name(&agent.name, MAX_TEXT));
                    prop_assert!(agent.last_activity.is_none_or(|time| time <= at(NOW)));
                    prop_assert!(!matches!(agent.progress, Patch::Set(progress) if !(0.0..=100.0).contains(&progress)));
                }
            }
        }
    }

    #[test]
    fn borrowed_and_escaped_text_agree(name in "[^\"\\\\\\p{C}]{1,20}", phase in "[^\"\\\\\\p{C}]{0,20}") {
        let plain = format!(r#"{{"project":"{name}","agents":[{{"name":"{name}","phase":"{phase}","status":"running"}}]}}"#);
        let escapes = format!(
            r#"{{"{}":"{}","agents":[{{"{}":"{}","phase":"{}","status":"{}"}}]}}"#,
            escaped("project"), escaped(&name), escaped("name"), escaped(&name), escaped(&phase), escaped("running")
        );
        let (plain, escapes) = (decode_state(&plain, at(NOW)), decode_state(&escapes, at(NOW)));
        match (plain, escapes) {
            (Ok(plain), Ok(escapes)) => prop_assert_eq!(format!("{plain:?}"), format!("{escapes:?}")),
            (Err(_), Err(_)) => {}
            (plain, escapes) => prop_assert!(false, "{plain:?} {escapes:?}"),
        }
    }
}

#[test]
fn a_context_window_is_a_ratio_percent_or_tokens() {
    let read = |fields: &str| {
        let body = format!(r#"{{"agents": [{{"name": "a", {fields}}}]}}"#);
        let batch = decode_state(&body, at(NOW)).expect("a batch");
        assert_eq!(batch.rejected.len(), 0, "{fields}: {:?}", batch.rejected);
        batch.agents[0].context_window_ratio.clone()
    };
    for fields in [
        r#""context_window_ratio": 0.75"#,
        r#""contextWindowRatio": 0.75"#,
        r#""context_window": {"ratio": 0.75}"#,
        r#""context_window": {"used": 150000, "size": 200000}"#,
        r#""contextWindow": {"contextWindowSize": 8, "used": 6, "other": []}"#,
        r#""context_window": {"used_percentage": 75, "context_window_size": 200000}"#,
        r#""context_window_percent": 75"#,
    ] {
        assert_eq!(read(fields), Patch::Set(0.75), "{fields}");
    }
    assert_eq!(read(r#""context_window_ratio": null"#), Patch::Clear);
    for fields in [r#""context_window": null"#, r#""context_window": {"used": 5}"#, r#""phase": "x""#] {
        assert_eq!(read(fields), Patch::Keep, "{fields}");
    }
}
