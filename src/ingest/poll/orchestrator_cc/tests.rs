//! Tests of `ingest::poll::orchestrator_cc`.

use super::*;
use crate::model::{AgentStatus, AgentUpdate, Patch};

/// A response of an older version on `/api/agents`.
const OLDER: &str = r#"{"agents": [
    {"name": "boss", "role": "grand_boss", "running": true, "last_activity": 1795226400.123456, "restart_count": 0},
    {"name": "worker-1", "role": "specialist", "running": true, "last_activity": 0.0, "restart_count": 2},
    {"name": "worker-2", "role": null, "running": false, "last_activity": 1795225000.5, "restart_count": 5}]}"#;

/// Responses of a newer version.
const TEAMS: &str = r#"{"teams": [
    {"name": "shop", "description": "Shop team", "createdAt": 1795226000000, "leadAgentId": "lead@shop", "members": [
        {"agentId": "lead@shop", "name": "lead", "agentType": "team-lead", "model": "claude-opus-4-6", "joinedAt": 1},
        {"agentId": "clerk@shop", "name": "clerk", "agentType": "general-purpose", "model": "claude-sonnet-4-6"},
        {"agentId": "packer@shop", "name": "packer"}]}]}"#;
const TASKS: &str = r#"{"teamName": "shop", "tasks": [
    {"taskId": "1", "subject": "Count", "description": "…", "status": "completed", "owner": "clerk"},
    {"taskId": "2", "subject": "Sort", "description": "…", "status": "in_progress", "owner": "clerk"},
    {"taskId": "3", "subject": "Pack", "description": "…", "status": "pending", "owner": "packer@shop"},
    {"taskId": "4", "subject": "Ship", "description": "…", "status": "pending", "owner": ""}]}"#;
const MESSAGES: &str = r#"{"teamName": "shop", "messages": [
    {"id": "", "sender": "lead", "content": "Count", "timestamp": "2026-11-21T02:00:00.000Z"},
    {"id": "", "sender": "lead", "content": "Sort", "timestamp": "2026-11-21T02:05:00.000Z"},
    {"id": "", "sender": "clerk", "content": "{\"type\":\"idle_notification\"}", "timestamp": "2026-11-21T02:01:00.000Z"}]}"#;

fn now() -> Time {
    Time::parse("2026-11-21T02:10:00Z").expect("a time")
}

fn ago(millis: u64) -> Option<Time> {
    Some(now().minus(std::time::Duration::from_millis(millis)))
}

fn brief<'a>(agent: &'a AgentUpdate<'_>) -> (&'a str, Option<&'a str>, Option<bool>, Option<Time>, Option<u64>) {
    (&agent.name, agent.agent_type.as_deref(), agent.running, agent.last_activity, agent.restart_count)
}

fn team(tasks: &str, messages: &str, health: &str) -> Batch<'static> {
    newer([TEAMS, tasks, messages, health], now()).expect("batches").remove(0)
}

#[test]
fn the_page_of_older_versions_is_decoded() {
    let batch = older(OLDER, now(), "orchestrator").expect("a batch");
    assert_eq!((&*batch.project, batch.complete, batch.ttl), ("orchestrator", true, None));
    let agents: Vec<_> = batch.agents.iter().map(brief).collect();
    let boss = Some(Time::from_millis(1_795_226_400_123));
    assert_eq!(
        agents,
        [
            ("boss", Some("grand_boss"), Some(true), boss, Some(0)),
            ("worker-1", Some("specialist"), Some(true), None, Some(2)),
            ("worker-2", None, Some(false), Some(Time::from_millis(1_795_225_000_500)), Some(5)),
        ]
    );
}

#[test]
fn members_come_from_teams_and_their_state_from_tasks_and_messages() {
    let batch = team(TASKS, MESSAGES, "{}");
    assert_eq!((&*batch.project, batch.complete, batch.rejected.len()), ("shop", true, 0));
    let doing: Vec<_> =
        batch.agents.iter().map(|it| (&*it.name, it.status, it.task_id.clone(), it.last_activity)).collect();
    let idle = Some(AgentStatus::Idle);
    assert_eq!(
        doing,
        [
            ("lead", idle, Patch::Clear, ago(300_000)),
            ("clerk", Some(AgentStatus::Running), Patch::Set("2".into()), ago(540_000)),
            ("packer", idle, Patch::Clear, None),
        ]
    );
    let described: Vec<_> = batch.agents.iter().map(|it| (it.agent_type.as_deref(), it.model.as_deref())).collect();
    assert_eq!(described[0], (Some("team-lead"), Some("claude-opus-4-6")));
    assert_eq!(described[2], (None, None));
}

#[test]
fn an_unhealthy_agent_is_down_unless_it_writes() {
    let health = r#"{"shop": {
        "lead": {"isHealthy": false, "lastActivity": "2026-11-21T03:09:30.123456", "timeoutThreshold": 300.0, "elapsed": 750.5},
        "clerk": {"isHealthy": false, "lastActivity": "2026-11-21T02:57:30", "timeoutThreshold": 300, "elapsed": 750},
        "packer": {"isHealthy": true, "lastActivity": null, "timeoutThreshold": 600, "elapsed": null},
        "gone": {"isHealthy": false, "elapsed": 1}}}"#;
    let batch = team(TASKS, MESSAGES, health);
    assert_eq!((batch.agents.len(), batch.rejected.len()), (3, 0), "{:?}", batch.rejected);
    let [lead, clerk, packer] = [&batch.agents[0], &batch.agents[1], &batch.agents[2]];
    assert_eq!((lead.running, lead.last_activity), (None, ago(300_000)), "it wrote within the limit");
    assert_eq!((clerk.running, clerk.status, clerk.last_activity), (Some(false), None, ago(540_000)));
    assert_eq!(clerk.reason, Patch::Set("unhealthy: no heartbeat for 12m30s (limit 5m)".into()));
    assert_eq!((packer.running, &packer.reason), (Some(true), &Patch::Keep));
}

#[test]
fn a_failed_route_costs_only_its_own_data() {
    for (tasks, messages, word) in [
        (r#"{"error": "Teams monitor not initialized"}"#, MESSAGES, "not initialized"),
        (r#"{"teamName": "shop", "tasks": {}}"#, MESSAGES, "expected a list `tasks`"),
        ("<html>", MESSAGES, "not JSON"),
        (TASKS, r#"{"teamName": "shop"}"#, "expected a list `messages`"),
    ] {
        let batch = team(tasks, messages, "{}");
        assert_eq!((batch.complete, batch.agents.len()), (true, 3), "{word}");
        assert!(batch.rejected[0].error.contains(word), "{:?}", batch.rejected);
    }
    let batch = team("{}", MESSAGES, "{}");
    assert_eq!((batch.agents[1].status, &batch.agents[1].task_id), (None, &Patch::Keep), "its state is unknown");
}

#[test]
fn an_invalid_value_of_a_member_is_rejected_alone() {
    let tasks = r#"{"tasks": [7, {"owner": "clerk", "status": "blocked", "taskId": "1"}, {"owner": "packer", "status": "in_progress", "taskId": 9}]}"#;
    let messages = r#"{"messages": [null, {"sender": "lead", "timestamp": "2026-11-21T02:00:00"}, {"sender": "lead", "timestamp": "2026-11-21T02:01:00Z"}]}"#;
    let health = r#"{"shop": {"packer": {"isHealthy": "yes", "elapsed": -1}, "clerk": {"ok": 1}}}"#;
    let batch = team(tasks, messages, health);
    assert_eq!((batch.complete, batch.agents.len()), (true, 3));
    assert_eq!(batch.agents[0].last_activity, ago(540_000));
    assert_eq!(batch.agents[2].task_id, Patch::Set("9".into()));
    let fields: Vec<_> = batch.rejected.iter().map(|it| (&*it.name, it.field)).collect();
    assert_eq!(
        fields,
        [
            ("lead", "last_activity"),
            ("clerk", "running"),
            ("clerk", "status"),
            ("packer", "running"),
            ("packer", "idle_seconds"),
            ("packer", "running")
        ]
    );
}

#[test]
fn rejected_members_remove_no_agent() {
    let page = |members: &str| format!(r#"{{"teams": [{{"name": "t", "members": {members}}}]}}"#);
    for (members, agents) in [
        (r#"[{"name": "a"}, {"name": "b\nc"}]"#, 1),
        (r#"[{"name": "a"}, 7, {}]"#, 1),
        ("null", 0),
        ("[]", 0),
        ("{}", 0),
    ] {
        let batch = newer([&page(members), TASKS, MESSAGES, "{}"], now()).expect("batches").remove(0);
        assert_eq!(
            (batch.complete, batch.agents.len(), batch.rejected.is_empty()),
            (false, agents, false),
            "{members}"
        );
    }
    let nameless =
        r#"{"teams": [{"name": " ", "members": [{"name": "a"}]}, {"name": "t", "members": [{"name": "b"}]}]}"#;
    let batches = newer([nameless, TASKS, MESSAGES, "{}"], now()).expect("batches");
    assert_eq!((batches[0].agents.len(), batches[0].complete, batches[1].agents.len()), (0, false, 1));
    assert_eq!(batches[0].rejected[0].field, "team");
    let older = older(r#"{"agents": [{"name": "a"}, {"role": "b"}, "c"]}"#, now(), "p").expect("a batch");
    assert_eq!((older.agents.len(), older.complete, older.rejected.len()), (1, false, 2));
}

#[test]
fn an_unknown_page_is_never_an_empty_fleet() {
    use SourceErrorReason::{Malformed, Upstream};
    for (text, reason) in [
        (r#"{"error": "Dashboard not initialized"}"#, Upstream),
        (r#"{"error": "Frontend dist directory not found"}"#, Upstream),
        (r#"{"agents": [], "teams": [], "error": "database is locked"}"#, Upstream),
        (r#"{"status": "healthy"}"#, Malformed),
        ("[]", Malformed),
        ("{}", Malformed),
        ("null", Malformed),
        ("<html>", Malformed),
        (r#"{"agents": 7, "teams": {}}"#, Malformed),
    ] {
        assert_eq!(older(text, now(), "p").expect_err(text).reason, reason, "older: {text}");
        let newer = newer([text, TASKS, MESSAGES, "{}"], now());
        assert_eq!(newer.expect_err(text).reason, reason, "newer: {text}");
    }
}
