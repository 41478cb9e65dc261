//! Tests of `ingest::poll`.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::model::Time;

/// Longest wait for an expected event.
const DEADLINE: Duration = Duration::from_secs(20);

/// An upstream that responds with `answer`, which gets the number, path and headers of each request.
async fn upstream<F>(answer: F) -> String
where
    F: Fn(usize, String, HeaderMap) -> UpstreamAnswer + Clone + Send + Sync + 'static,
{
    let calls = Arc::new(AtomicUsize::new(0));
    let serve = move |uri: Uri, headers: HeaderMap| {
        let (answer, call) = (answer.clone(), calls.fetch_add(1, Ordering::SeqCst));
        async move { answer(call, uri.path().to_owned(), headers).into_response().await }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
    format!("http://{address}")
}

enum UpstreamAnswer {
    Json(String),
    Status(u16),
    Redirect(String),
    Hang,
}

impl UpstreamAnswer {
    async fn into_response(self) -> Response {
        match self {
            Self::Json(body) => body.into_response(),
            Self::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
            Self::Hang => std::future::pending().await,
        }
    }
}

fn json(text: &str) -> UpstreamAnswer {
    UpstreamAnswer::Json(text.to_owned())
}

fn source(kind: &str, url: &str, change: serde_json::Value) -> SourceConfig {
    let mut source = serde_json::json!({"name": "up", "kind": kind, "url": url, "interval": "100ms", "timeout": "10s"});
    if kind == "http-json" {
        source["fields"] = serde_json::json!({"agents": "$.agents[*]", "name": "$.name", "status": "$.status"});
    }
    for (key, value) in change.as_object().expect("an object") {
        source[key] = value.clone();
    }
    let source: SourceConfig = serde_json::from_value(source).expect("a source");
    assert_eq!(crate::ingest::validate(std::slice::from_ref(&source)), []);
    source
}

fn clock() -> Clock {
    Clock::at(Time::parse("2026-11-21T02:10:00Z").expect("a time"))
}

async fn poll_once(source: &SourceConfig) -> Result<Vec<Batch<'static>>, SourceError> {
    Poller::new(source, clock()).expect("a poller").poll().await
}

async fn check(answer: fn(usize, String, HeaderMap) -> UpstreamAnswer, reason: SourceErrorReason, part: &str) {
    let url = upstream(answer).await;
    let limited = serde_json::json!({"max_body": 4096});
    let error = poll_once(&source("http-json", &format!("{url}/s3cret?key=s3cret"), limited)).await.expect_err(part);
    assert_eq!(error.reason, reason, "{error}");
    assert!(error.message.contains(part), "{error}");
    assert!(!error.message.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn every_failed_response_has_its_reason() {
    use SourceErrorReason::{Malformed, Status, TooLarge, Upstream};
    check(|_, _, _| json(r#"{"error": "database is locked"}"#), Upstream, "database is locked").await;
    check(|_, _, _| UpstreamAnswer::Status(503), Status, "HTTP 503").await;
    check(|_, _, _| UpstreamAnswer::Status(404), Status, "check `url`").await;
    check(|_, _, _| UpstreamAnswer::Status(401), Status, "`bearer_token_file`").await;
    check(|_, _, _| UpstreamAnswer::Redirect("/elsewhere".to_owned()), Status, "redirects are not followed").await;
    check(|_, _, _| json(""), Malformed, "the body is empty").await;
    check(|_, _, _| json("<html>\u{7}"), Malformed, "not JSON").await;
    check(|_, _, _| json(r#"{"agents": 7}"#), Malformed, "selects nothing").await;
    check(|_, _, _| json(&format!(r#"{{"agents":{}"#, "[".repeat(4_000))), Malformed, "not JSON").await;
    check(|_, _, _| json(r#"{"agents": [{"name": {}, "status": {}}, {}]}"#), Malformed, "none of 2 agents").await;
    check(|_, _, _| json(&"x".repeat(5_000)), TooLarge, "larger than 4096 bytes").await;
}

#[tokio::test]
async fn a_refused_connection_has_the_reason_connect() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("an address"));
    drop(listener);
    let error = poll_once(&source("http-json", &url, serde_json::json!({}))).await.expect_err("no listener");
    assert_eq!(error.reason, SourceErrorReason::Connect, "{error}");
    assert!(error.message.contains("refused") && !error.message.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn secrets_are_read_at_each_poll() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("token");
    let url = upstream(|_, _, headers| {
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        UpstreamAnswer::Json(
            serde_json::json!({"agents": [{"name": format!("{} {}", sent("authorization"), sent("x-team")).trim()}]})
                .to_string(),
        )
    })
    .await;
    let name = |batches: Vec<Batch<'static>>| batches[0].agents[0].name.to_string();
    let bearer =
        source("http-json", &url, serde_json::json!({"bearer_token_file": file, "headers": {"x-team": "red"}}));
    let mut poller = Poller::new(&bearer, clock()).expect("a poller");
    let error = poller.poll().await.expect_err("no file yet");
    assert_eq!(error.reason, SourceErrorReason::Secret, "{error}");
    for token in ["one", "two"] {
        std::fs::write(&file, format!("{token}\n")).expect("write");
        assert_eq!(name(poller.poll().await.expect("batches")), format!("Bearer {token} red"));
    }
    std::fs::write(&file, "hunter2\nhunter2").expect("write");
    let error = poller.poll().await.expect_err("no header");
    assert!(error.reason == SourceErrorReason::Secret && !error.message.contains("hunter2"), "{error}");
    let basic = source("http-json", &url, serde_json::json!({"basic_auth": {"username": "u", "password": "p"}}));
    assert_eq!(name(poll_once(&basic).await.expect("batches")), "Basic dTpw");
}

#[tokio::test]
async fn a_large_page_is_read_whole() {
    let url = upstream(|_, _, _| {
        let agents: Vec<_> =
            (0..10_000).map(|index| serde_json::json!({"name": format!("agent-{index}"), "status": "idle"})).collect();
        UpstreamAnswer::Json(serde_json::json!({"agents": agents}).to_string())
    })
    .await;
    let batches = poll_once(&source("http-json", &url, serde_json::json!({}))).await.expect("batches");
    assert_eq!(batches[0].agents.len(), 10_000);
}

const HEALTH: &str = r#"{"red": {"a": {"isHealthy": true, "elapsed": 5}}}"#;

#[tokio::test]
async fn both_versions_of_orchestrator_cc_and_an_upgrade_are_detected() {
    let url = upstream(|call, path, _| match (call, path.as_str()) {
        (0..4, "/prefix/api/agents") => json(r#"{"agents": [{"name": "a", "running": true, "last_activity": 0.0}]}"#),
        (4.., "/prefix/api/health") => json(HEALTH),
        _ => UpstreamAnswer::Status(404),
    })
    .await;
    let source = source("orchestrator-cc", &format!("{url}/prefix/"), serde_json::json!({"project": "shop"}));
    let mut poller = Poller::new(&source, clock()).expect("a poller");
    for _ in 0..2 {
        assert_eq!(poller.poll().await.expect("the older")[0].project, "shop");
    }
    let batches = poller.poll().await.expect("the newer");
    let projects: Vec<_> = batches.iter().map(|batch| (&*batch.project, batch.agents.len(), batch.complete)).collect();
    assert_eq!(projects, [("red", 1, true), ("shop", 0, true)], "the project of the older version is removed");
    assert_eq!(poller.poll().await.expect("the newer").len(), 1, "and is removed once");
}

#[tokio::test]
async fn only_the_second_empty_list_of_teams_removes_agents() {
    let asked = Arc::new(AtomicUsize::new(0));
    let url = upstream(move |_, path, _| match path.as_str() {
        "/api/teams" if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            json(r#"{"teams": [{"name": "shop", "members": [{"agentId": "a@shop", "name": "a"}]}]}"#)
        }
        "/api/teams" => json(r#"{"teams": []}"#),
        _ => UpstreamAnswer::Status(404),
    })
    .await;
    let mut poller = Poller::new(&source("orchestrator-cc", &url, serde_json::json!({})), clock()).expect("a poller");
    let shown = |polled: Result<Vec<Batch<'_>>, SourceError>| {
        let batches = polled.map_err(|error| error.reason)?;
        Ok(batches.iter().map(|batch| (batch.project.to_string(), batch.agents.len(), batch.complete)).collect())
    };
    assert_eq!(shown(poller.poll().await), Ok(vec![("shop".to_owned(), 1, true)]));
    assert_eq!(shown(poller.poll().await), Err::<Vec<_>, _>(SourceErrorReason::Upstream), "it may be starting");
    assert_eq!(shown(poller.poll().await), Ok(vec![("shop".to_owned(), 0, true)]));
}

#[tokio::test]
async fn a_heartbeat_is_remembered_until_the_next_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let url = upstream(move |_, path, _| match path.as_str() {
        "/api/teams" => json(r#"{"teams": [{"name": "shop", "members": [{"agentId": "a@shop", "name": "a"}]}]}"#),
        "/api/teams/shop/tasks" => json(r#"{"tasks": [{"taskId": "1", "status": "in_progress", "owner": "a"}]}"#),
        "/api/health" => match asked.fetch_add(1, Ordering::Relaxed) {
            0 => json(r#"{"shop": {"a": {"isHealthy": false, "timeoutThreshold": 300.0, "elapsed": 400.0}}}"#),
            1 => json("{}"),
            2 => json("<html>"),
            3 => json(r#"{"shop": {"b": {"isHealthy": true, "elapsed": 1.0}}}"#),
            _ => json(r#"{"shop": {"a": {"isHealthy": true, "timeoutThreshold": 300.0, "elapsed": 2.0}}}"#),
        },
        "/api/teams/shop/messages" => json(r#"{"messages": []}"#),
        _ => UpstreamAnswer::Status(404),
    })
    .await;
    let mut poller = Poller::new(&source("orchestrator-cc", &url, serde_json::json!({})), clock()).expect("a poller");
    let mut last = None;
    for turn in 0..5 {
        let batches = poller.poll().await.expect("teams");
        let agent = &batches[0].agents[0];
        assert_eq!(agent.running, Some(turn == 4), "{turn}: {agent:?}");
        assert!(agent.last_activity >= last, "{turn}: it never goes back");
        last = agent.last_activity;
    }
}

#[tokio::test]
async fn a_failing_orchestrator_is_neither_another_version_nor_empty() {
    async fn check(answer: fn(usize, String, HeaderMap) -> UpstreamAnswer, expected: Result<usize, SourceErrorReason>) {
        let url = upstream(answer).await;
        let polled = poll_once(&source("orchestrator-cc", &url, serde_json::json!({}))).await;
        assert_eq!(polled.map(|batches| batches.len()).map_err(|error| error.reason), expected);
    }
    use SourceErrorReason::{Malformed, Status, Upstream};
    check(|_, path, _| if path == "/api/agents" { UpstreamAnswer::Status(500) } else { json(HEALTH) }, Err(Status))
        .await;
    // A server without the route responds like this as well.
    check(|_, path, _| if path == "/api/agents" { json(r#"{"error": "x"}"#) } else { json(HEALTH) }, Ok(1)).await;
    check(|_, _, _| json(r#"{"error": "x"}"#), Err(Upstream)).await;
    check(|_, path, _| if path == "/api/health" { json(HEALTH) } else { json("<html>") }, Ok(1)).await;
    check(|_, _, _| UpstreamAnswer::Status(404), Err(Status)).await;
    check(|_, _, _| json("{}"), Err(Malformed)).await;
    check(|_, path, _| if path == "/api/health" { json("{}") } else { UpstreamAnswer::Status(404) }, Err(Status)).await;
    check(|_, path, _| if path == "/api/teams" { json("[]") } else { UpstreamAnswer::Status(404) }, Err(Malformed))
        .await;
    check(
        |_, path, _| if path == "/api/teams" { json(r#"{"teams": []}"#) } else { UpstreamAnswer::Status(404) },
        Ok(0),
    )
    .await;
}

struct RunningPoller {
    reports: Receiver<SourceFindings>,
    monitoring: watch::Sender<bool>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

fn run(source: SourceConfig, on: bool) -> RunningPoller {
    let (sender, reports) = mpsc::channel(1);
    let (monitoring, watched) = watch::channel(on);
    let stop = CancellationToken::new();
    let (tracker, _) = start(&[source], &Clock::system(), &sender, &watched, &stop).expect("tasks");
    RunningPoller { reports, monitoring, stop, tracker }
}

impl RunningPoller {
    async fn next(&mut self) -> PollReport {
        let found = tokio::time::timeout(DEADLINE, self.reports.recv()).await;
        found.expect("a report in time").expect("a report").report
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.tracker.wait()).await.expect("the tasks end");
    }
}

#[tokio::test]
async fn a_hanging_upstream_times_out_and_recovers() {
    let url =
        upstream(|call, _, _| if call == 0 { UpstreamAnswer::Hang } else { json(r#"{"agents": [{"name": "a"}]}"#) })
            .await;
    let mut running = run(source("http-json", &url, serde_json::json!({"timeout": "300ms"})), true);
    let first = running.next().await;
    assert_eq!(&*first.source, "up");
    let error = first.result.expect_err("it hung");
    assert_eq!(error.reason, SourceErrorReason::Timeout, "{error}");
    assert_eq!(running.next().await.result.expect("recovered")[0].agents.len(), 1);
    running.end().await;
}

#[tokio::test]
async fn a_hanging_poll_does_not_delay_the_stop() {
    let (asked, mut seen) = mpsc::channel(1);
    let url = upstream(move |_, _, _| {
        asked.try_send(()).ok();
        UpstreamAnswer::Hang
    })
    .await;
    let running = run(source("http-json", &url, serde_json::json!({"timeout": "5m"})), true);
    tokio::time::timeout(DEADLINE, seen.recv()).await.expect("a poll in time");
    running.end().await;
}

#[tokio::test]
async fn nothing_is_polled_while_monitoring_is_off() {
    let (asked, mut seen) = mpsc::channel(64);
    let url = upstream(move |call, _, _| {
        asked.try_send(call).ok();
        json(r#"{"agents": []}"#)
    })
    .await;
    let mut running = run(source("http-json", &url, serde_json::json!({})), false);
    let quiet = tokio::time::timeout(Duration::from_millis(400), seen.recv()).await;
    assert!(quiet.is_err(), "polled while it was off");
    running.monitoring.send_replace(true);
    running.next().await.result.expect("an empty fleet");
    running.end().await;
}

#[tokio::test]
async fn the_tasks_end_when_reports_are_closed() {
    let url = upstream(|_, _, _| json(r#"{"agents": []}"#)).await;
    let RunningPoller { reports, monitoring, stop, tracker } =
        run(source("http-json", &url, serde_json::json!({})), true);
    drop(reports);
    tokio::time::timeout(DEADLINE, tracker.wait()).await.expect("the tasks end");
    drop((monitoring, stop));
}
