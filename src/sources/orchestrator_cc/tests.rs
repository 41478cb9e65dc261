//! Tests of `sources::orchestrator_cc`.

use super::*;
use crate::model::{AgentUpdate, Patch};

/// As an older version answers on `/api/agents`.
const OLDER: &str = r#"{"agents": [
    {"name": "boss", "running": true, "last_activity": 1795226400.123456, "restart_count": 0},
    {"name": "worker-1", "running": true, "last_activity": 0.0, "restart_count": 2},
    {"name": "worker-2", "running": false, "last_activity": 1795225000.5, "restart_count": 5}]}"#;

/// As a newer version answers on `/api/health`.
const NEWER: &str = r#"{
    "cc-team": {
        "boss": {"isHealthy": true, "lastActivity": "2026-11-21T03:09:30.123456", "timeoutThreshold": 300, "elapsed": 30.5},
        "frontend": {"isHealthy": false, "lastActivity": "2026-11-21T02:57:30", "timeoutThreshold": 300, "elapsed": 750}},
    "ops": {"deployer": {"isHealthy": true, "lastActivity": null, "timeoutThreshold": 600, "elapsed": null}},
    "resting": {}}"#;

fn now() -> Time {
    Time::parse("2026-11-21T02:10:00Z").expect("a time")
}

fn ago(millis: u64) -> Option<Time> {
    Some(now().minus(std::time::Duration::from_millis(millis)))
}

fn brief<'a>(agent: &'a AgentUpdate<'_>) -> (&'a str, Option<bool>, Option<Time>, Option<u64>) {
    (&agent.name, agent.running, agent.last_activity, agent.restart_count)
}

#[test]
fn the_older_shape_is_read() {
    let batches = older(OLDER, now(), "orchestrator").expect("batches");
    assert_eq!(batches.len(), 1);
    assert_eq!((&*batches[0].project, batches[0].complete, batches[0].ttl), ("orchestrator", true, None));
    let agents: Vec<_> = batches[0].agents.iter().map(brief).collect();
    let boss = Some(Time::from_millis(1_795_226_400_123));
    assert_eq!(
        agents,
        [
            ("boss", Some(true), boss, Some(0)),
            ("worker-1", Some(true), None, Some(2)),
            ("worker-2", Some(false), Some(Time::from_millis(1_795_225_000_500)), Some(5)),
        ]
    );
}

#[test]
fn the_newer_shape_is_read() {
    let batches = newer(NEWER, now(), "orchestrator").expect("batches");
    let projects: Vec<_> = batches.iter().map(|batch| (&*batch.project, batch.complete, batch.agents.len())).collect();
    assert_eq!(projects, [("cc-team", true, 2), ("ops", true, 1), ("resting", true, 0)]);
    assert_eq!(brief(&batches[0].agents[0]), ("boss", Some(true), ago(30_500), None));
    assert_eq!(brief(&batches[0].agents[1]), ("frontend", Some(false), ago(750_000), None));
    let reason = "not healthy: silent for 12m30s, its limit is 5m";
    assert_eq!(batches[0].agents[1].reason, Patch::Set(reason.into()));
    assert_eq!(batches[0].agents[0].reason, Patch::Keep);
    assert_eq!(brief(&batches[1].agents[0]), ("deployer", Some(true), None, None));
}

#[test]
fn what_is_neither_is_never_an_empty_fleet() {
    use SourceErrorReason::{Malformed, Upstream};
    for (text, reason) in [
        (r#"{"error": "tmux session is gone"}"#, Upstream),
        (r#"{"agents": [], "error": "database is locked"}"#, Upstream),
        (r#"{"status": "healthy"}"#, Malformed),
        ("[]", Malformed),
        ("null", Malformed),
        ("<html>", Malformed),
        (r#"{"agents": 7}"#, Malformed),
    ] {
        assert_eq!(older(text, now(), "p").expect_err(text).reason, reason, "older: {text}");
        assert_eq!(newer(text, now(), "p").expect_err(text).reason, reason, "newer: {text}");
    }
    assert_eq!(older("{}", now(), "p").expect_err("no list").reason, Malformed);
    assert!(!older(r#"{"components": []}"#, now(), "p").expect("a batch")[0].complete);
}

#[test]
fn a_heartbeat_that_is_none_removes_nobody() {
    let text =
        r#"{"t": {"a": {"isHealthy": true}, "b": {"ok": 1}, "c": 3, "d": {"isHealthy": "yes"}, "e": {"elapsed": -1}}}"#;
    let batches = newer(text, now(), "p").expect("batches");
    assert_eq!((batches[0].complete, batches[0].agents.len(), batches[0].rejected.len()), (false, 1, 4));
    let nameless = newer(r#"{"": {"a": {"isHealthy": true}}}"#, now(), "p").expect("batches");
    assert_eq!((nameless[0].complete, nameless[0].agents.len(), nameless[0].rejected.len()), (false, 0, 1));
}
