//! Polled sources that respond, fail, hang, flood and recover.

mod orchestrator_cc;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::program::{Lookout, PATIENCE, Setup, eventually};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    let mut trials = orchestrator_cc::trials();
    trials.extend([
        trial("polling: orchestrator-cc: agents of older versions", &[], older_shape),
        trial("polling: orchestrator-cc: heartbeats of newer versions", &[], newer_shape),
        trial("polling: any page by JSONPath, with secrets", &[], any_page),
        trial("polling: a failing upstream changes no agent and resolves no alert", &[], broken_upstreams),
        trial("polling: a rejected agent removes none", &[], unreadable_entry),
        trial("polling: invalid values are rejected and reported without their agents", &[], bad_values),
    ]);
    trials
}

/// How the upstream responds to a request.
#[derive(Clone)]
pub(crate) enum UpstreamBehavior {
    /// Responds with this status and body.
    Responds(u16, String),
    /// Never responds.
    Hangs,
    /// Responds with an endless body.
    Floods,
    /// Closes the connection at once.
    Closes,
    /// Sends half a body and closes the connection.
    Breaks,
}

/// An upstream whose routes have responses that tests change.
pub(crate) struct Upstream {
    address: SocketAddr,
    routes: Arc<Mutex<Vec<(String, UpstreamBehavior)>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let routes: Arc<Mutex<Vec<(String, UpstreamBehavior)>>> = Arc::default();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (behaviors, seen) = (Arc::clone(&routes), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (behaviors, seen) = (Arc::clone(&behaviors), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, &behaviors, &seen));
            }
        });
        Self { address, routes, heads }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the behavior of `route`; other routes respond with 404.
    pub(crate) fn set(&self, route: &str, behavior: UpstreamBehavior) {
        let mut routes = self.routes.lock().unwrap();
        routes.retain(|(known, _)| known != route);
        routes.push((route.to_owned(), behavior));
    }

    pub(crate) fn respond_with(&self, route: &str, body: &Value) {
        self.set(route, UpstreamBehavior::Responds(200, body.to_string()));
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    /// Waits until a request that started after this call was answered.
    fn asked_again(&self) {
        let before = self.requests();
        // The first one may have started before; the third starts after the second ended.
        eventually("it is polled again", || (self.requests() >= before + 3).then_some(()));
    }
}

fn serve(mut stream: TcpStream, behaviors: &Mutex<Vec<(String, UpstreamBehavior)>>, seen: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) if head.len() < 16 * 1024 => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let route = head.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(head);
    let behavior =
        behaviors.lock().unwrap().iter().find(|(known, _)| *known == route).map(|(_, behavior)| behavior.clone());
    // The program may have closed the connection.
    let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match behavior.unwrap_or(UpstreamBehavior::Responds(404, "{\"detail\": \"Not Found\"}".to_owned())) {
        UpstreamBehavior::Responds(status, body) => {
            let length = body.len();
            send(&format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            ));
        }
        UpstreamBehavior::Hangs => drop(stream.read(&mut byte)),
        UpstreamBehavior::Floods => {
            let chunk = format!("10000\r\n{}\r\n", "[".repeat(65_536));
            // Bounded, so that the test of a broken program ends.
            let mut is_open = send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for _ in 0..8_192 {
                is_open = is_open && send(&chunk);
            }
        }
        UpstreamBehavior::Closes => {}
        UpstreamBehavior::Breaks => {
            send("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"agents\": [{\"name\":");
        }
    }
}

/// The agents of a project: name, then the agent.
fn agents(lookout: &Lookout, project: &str) -> Vec<(String, Value)> {
    let status = lookout.get("/api/status").json();
    let projects = status["projects"].as_array().expect("projects");
    let Some(project) = projects.iter().find(|one| one["name"] == project) else { return Vec::new() };
    let agents = project["agents"].as_array().expect("agents");
    agents.iter().map(|agent| (agent["name"].as_str().expect("a name").to_owned(), agent.clone())).collect()
}

fn names(lookout: &Lookout, project: &str) -> Vec<String> {
    agents(lookout, project).into_iter().map(|(name, _)| name).collect()
}

fn source(lookout: &Lookout) -> Value {
    lookout.get("/api/status").json()["sources"][0].clone()
}

fn older_shape() {
    let upstream = Upstream::start();
    let before = "2026-01-01T00:00:00Z";
    let agent = |name: &str, running: bool, restarts: u64| json!({"name": name, "running": running, "last_activity": before, "restart_count": restarts});
    upstream.respond_with("/api/agents", &json!({"agents": [agent("boss", true, 1), agent("dead", false, 0)]}));
    let setup = Setup::new(&format!(
        "sources: [{{name: orch, kind: orchestrator-cc, url: \"{}\", interval: 100ms, project: shop}}]",
        upstream.url()
    ));
    let lookout = setup.start();
    eventually("it is polled", || (names(&lookout, "shop") == ["boss", "dead"]).then_some(()));
    let found = agents(&lookout, "shop");
    let (boss, dead) = (&found[0].1, &found[1].1);
    assert_eq!([&boss["status"], &boss["up"], &boss["restart_count"]], [&json!("running"), &json!(true), &json!(1)]);
    assert!(boss["idle_seconds"].as_f64().is_some_and(|idle| idle > 86_400.0), "{boss}");
    assert_eq!(
        [&dead["status"], &dead["reason"], &dead["up"]],
        [&json!("failed"), &json!("not running"), &json!(false)]
    );
    let alerts = lookout.get("/api/alerts?rule=AgentDown").json();
    assert_eq!(
        alerts["alerts"][0]["agent_name"], "dead",
        "an agent that is down when first seen has an alert: {alerts}"
    );
    assert_eq!(source(&lookout)["up"], true);

    // An agent that is missing in a later poll is removed; agents of other senders are not.
    lookout.post("/api/state", &json!({"project": "shop", "agents": [{"name": "pushed"}]}));
    upstream.respond_with("/api/agents", &json!({"agents": [agent("boss", true, 2)]}));
    eventually("the other is gone", || (names(&lookout, "shop") == ["boss", "pushed"]).then_some(()));
    assert!(!lookout.get("/metrics").text().contains("\"dead\""), "no series is left");
    upstream.respond_with("/api/agents", &json!({"agents": []}));
    eventually("an empty list is an empty fleet", || (names(&lookout, "shop") == ["pushed"]).then_some(()));
}

fn newer_shape() {
    let upstream = Upstream::start();
    let beat = |healthy: bool, elapsed: f64| json!({"isHealthy": healthy, "lastActivity": "2026-01-01T00:00:00", "timeoutThreshold": 60, "elapsed": elapsed});
    upstream.respond_with(
        "/api/health",
        &json!({"shop": {"a": beat(true, 1.0), "b": beat(false, 90.0)}, "lab": {"c": beat(true, 400.0)}}),
    );
    let setup = Setup::new(&format!(
        "sources: [{{name: orch, kind: orchestrator-cc, url: \"{}/\", interval: 100ms}}]",
        upstream.url()
    ));
    let lookout = setup.start();
    eventually("teams are projects", || {
        (names(&lookout, "shop") == ["a", "b"] && names(&lookout, "lab") == ["c"]).then_some(())
    });
    let shop = agents(&lookout, "shop");
    assert_eq!([&shop[0].1["status"], &shop[1].1["status"]], ["running", "failed"]);
    let idle = agents(&lookout, "lab")[0].1["idle_seconds"].as_f64();
    assert!(
        idle.is_some_and(|idle| (400.0..430.0).contains(&idle)),
        "by elapsed, not by a time without zone: {idle:?}"
    );
    let idle = lookout.get("/api/alerts?rule=AgentIdle").json();
    assert_eq!([&idle["alerts"][0]["agent_name"], &idle["alerts"][0]["level"]], ["c", "warning"], "{idle}");
    upstream.respond_with("/api/health", &json!({"shop": {"a": beat(true, 1.0)}}));
    eventually("a team that is gone", || {
        (names(&lookout, "shop") == ["a"] && names(&lookout, "lab").is_empty()).then_some(())
    });
}

fn any_page() {
    let upstream = Upstream::start();
    upstream.respond_with(
        "/fleet?key=hidden4711",
        &json!({"bots": {"x": {"state": "BUSY", "used": {"in": 7}}, "y": {"state": "zzz"}}}),
    );
    let setup = Setup::new(&format!(
        "sources:\n  - name: page\n    kind: http-json\n    url: \"{}/fleet?key=hidden4711\"\n    interval: 100ms\n    \
         bearer_token_file: token\n    headers: {{x-team: shop4711}}\n    \
         fields: {{agents: \"$.bots.*\", name: \"@key\", status: \"$.state\", tokens.input: \"$.used.in\"}}\n    \
         status_map: {{BUSY: running, zzz: idle}}\n",
        upstream.url()
    ));
    setup.write("token", "bearer4711\n");
    let lookout = setup.start();
    eventually("it is polled", || (names(&lookout, "page") == ["x", "y"]).then_some(()));
    let found = agents(&lookout, "page");
    assert_eq!([&found[0].1["status"], &found[1].1["status"]], ["running", "idle"]);
    assert_eq!(
        [&found[0].1["tokens"]["input"], &found[1].1["tokens"]],
        [&json!(7), &Value::Null],
        "unknown is not zero"
    );
    let head = upstream.heads.lock().unwrap()[0].to_lowercase();
    assert!(head.contains("authorization: bearer bearer4711\r\n") && head.contains("x-team: shop4711\r\n"), "{head}");
    upstream.set("/fleet?key=hidden4711", UpstreamBehavior::Responds(500, String::new()));
    eventually("it fails", || (source(&lookout)["up"] == false).then_some(()));
    for text in [lookout.log(), lookout.get("/api/status").text().to_owned(), lookout.get("/metrics").text().to_owned()]
    {
        assert!(!text.contains("4711"), "a secret is shown: {text}");
    }
}

fn broken_upstreams() {
    let upstream = Upstream::start();
    let good = json!({"agents": [{"name": "sleeper", "running": true, "last_activity": "2026-01-01T00:00:00Z", "restart_count": 3},
                                 {"name": "worker", "running": true}]});
    upstream.respond_with("/api/agents", &good);
    let setup = Setup::new(&format!(
        "sources: [{{name: orch, kind: orchestrator-cc, url: \"{}\", interval: 100ms, timeout: 300ms, max_body: 100000, project: shop}}]\n\
         rules: [fast.yaml]\n",
        upstream.url()
    ));
    setup.write(
        "fast.yaml",
        "rules:\n  - {name: SourceDown, for_each: source, signal: source_failing_seconds, when: at_least, levels: {warning: 200ms, error: 10m}}\n",
    );
    let lookout = setup.start();
    let idle = || lookout.get("/api/alerts?rule=AgentIdle").json()["alerts"].clone();
    let down = |state: &str| {
        let alerts = lookout.get(&format!("/api/alerts?rule=SourceDown&state={state}")).json();
        alerts["alerts"].as_array().expect("alerts").len()
    };
    eventually("the alert of the idle agent", || (idle()[0]["state"] == "firing").then_some(()));
    let fired = idle();
    let steady = || -> Vec<Value> {
        let keys = ["name", "status", "up", "last_activity", "last_seen", "restart_count"];
        agents(&lookout, "shop").iter().map(|(_, agent)| keys.iter().map(|key| agent[key].clone()).collect()).collect()
    };
    let bad = [
        (
            "an error with 200",
            UpstreamBehavior::Responds(200, r#"{"error": "database is locked"}"#.to_owned()),
            "database is locked",
        ),
        ("a hang", UpstreamBehavior::Hangs, "no complete response within "),
        ("a flood", UpstreamBehavior::Floods, "max_body"),
        ("a huge body", UpstreamBehavior::Responds(200, " ".repeat(5_000_000)), "max_body"),
        ("a closed connection", UpstreamBehavior::Closes, ""),
        ("half an answer", UpstreamBehavior::Breaks, ""),
        ("500", UpstreamBehavior::Responds(500, "oops".to_owned()), "500"),
        ("a redirect", UpstreamBehavior::Responds(302, String::new()), "redirects"),
        ("rubbish", UpstreamBehavior::Responds(200, "\u{0}<html>".to_owned()), ""),
        ("nothing", UpstreamBehavior::Responds(200, String::new()), ""),
        ("another shape", UpstreamBehavior::Responds(200, r#"[1, 2]"#.to_owned()), ""),
        ("null", UpstreamBehavior::Responds(200, "null".to_owned()), ""),
        ("no list", UpstreamBehavior::Responds(200, r#"{"agents": null}"#.to_owned()), ""),
        ("deep nesting", UpstreamBehavior::Responds(200, "[".repeat(90_000)), ""),
    ];
    for (round, (what, behavior, expected)) in bad.into_iter().enumerate() {
        eventually("it is up", || (source(&lookout)["up"] == true).then_some(()));
        upstream.set("/api/agents", behavior);
        eventually(what, || (source(&lookout)["up"] == false).then_some(()));
        let before = steady();
        assert_eq!(before.len(), 2, "{what}: no agent is removed");
        eventually("the source's alert fires", || (down("firing") == 1).then_some(()));
        upstream.asked_again();
        let now = source(&lookout);
        let error = now["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(expected) && !error.is_empty(), "{what}: {now}");
        assert_eq!(steady(), before, "{what}: a failed poll changes no agent");
        let still = idle();
        assert_eq!(still.as_array().map(Vec::len), Some(1), "{what}: {still}");
        for key in ["state", "fingerprint", "fired_at", "resolved_at"] {
            assert_eq!(still[0][key], fired[0][key], "{what}: it still fires: {still}");
        }
        let page = lookout.get("/metrics");
        assert!(page.text().contains("lookout_source_up{source=\"orch\"} 0\n"), "{what}");
        assert!(
            page.text().contains("orchestrator_alerts_active{project=\"\",level=\"warning\",rule=\"SourceDown\"} 1\n"),
            "{what}: {}",
            page.text()
        );

        // Recovery.
        upstream.respond_with("/api/agents", &good);
        eventually("it recovers", || (source(&lookout)["up"] == true).then_some(()));
        assert_eq!(source(&lookout)["last_error"], Value::Null);
        eventually("the source's alert is over", || {
            (down("firing") == 0 && down("resolved") == round + 1).then_some(())
        });
    }
    let errors = lookout.get("/metrics");
    for reason in ["timeout", "too_large", "status", "malformed", "connect"] {
        let line = format!("lookout_source_errors_total{{source=\"orch\",reason=\"{reason}\"}} ");
        let count = errors.text().lines().find_map(|text| text.strip_prefix(&line)).expect(reason);
        assert_ne!(count, "0", "{reason} was counted");
    }
    // The endless body alone was half a gigabyte.
    assert!(lookout.grown() < 128 << 20, "it grew by {} bytes", lookout.grown());
}

fn unreadable_entry() {
    let upstream = Upstream::start();
    upstream.respond_with(
        "/api/agents",
        &json!({"agents": [{"name": "a", "running": true}, {"name": "b", "running": true}]}),
    );
    let setup = Setup::new(&format!(
        "sources: [{{name: orch, kind: orchestrator-cc, url: \"{}\", interval: 100ms}}]",
        upstream.url()
    ));
    let lookout = setup.start();
    eventually("it is polled", || (names(&lookout, "orch") == ["a", "b"]).then_some(()));
    // The rejected entry may be that of b.
    upstream.respond_with(
        "/api/agents",
        &json!({"agents": [{"name": "a", "running": false}, {"name": {}, "running": {}}]}),
    );
    eventually("the valid one is applied", || (agents(&lookout, "orch")[0].1["status"] == "failed").then_some(()));
    upstream.asked_again();
    assert_eq!(names(&lookout, "orch"), ["a", "b"], "no agent is removed");
    upstream.respond_with("/api/agents", &json!({"agents": [{"name": "a", "running": true}]}));
    eventually("a complete page removes the agent", || (names(&lookout, "orch") == ["a"]).then_some(()));
}

/// An agent with invalid values is neither removed nor down, and the error is reported.
fn bad_values() {
    let upstream = Upstream::start();
    let page = |one: &str| {
        UpstreamBehavior::Responds(200, format!(r#"{{"workers": [{one}, {{"id": "w2", "state": "busy"}}]}}"#))
    };
    let seen = r#""seen": "2026-11-29T20:00:00Z", "used": 5, "task": "t1""#;
    upstream.set("/st", page(&format!(r#"{{"id": "w1", "state": "busy", {seen}}}"#)));
    let setup = Setup::new(&format!(
        "agents: {{timeout: 1s}}\nsources:\n  - name: page\n    kind: http-json\n    url: \"{}/st\"\n    interval: 100ms\n    \
         project: shop\n    status_map: {{busy: running}}\n    \
         fields: {{agents: \"$.workers[*]\", name: \"$.id\", status: \"$.state\", last_activity: \"$.seen\", task_id: \"$.task\", tokens.input: \"$.used\", reason: \"$.why\"}}\n",
        upstream.url()
    ));
    let lookout = setup.start();
    eventually("it is polled", || (names(&lookout, "shop") == ["w1", "w2"]).then_some(()));
    for (what, one, expected) in [
        (
            "a time without a zone",
            r#"{"id": "w1", "state": "busy", "seen": "2026-11-29T20:00:00.123456"}"#,
            "last_activity",
        ),
        ("an unmapped status", r#"{"id": "w1", "state": "pondering"}"#, "pondering"),
        ("a number with a comma", r#"{"id": "w1", "state": "busy", "used": "1,234"}"#, "1,234"),
        ("half a surrogate pair", r#"{"id": "w1", "state": "busy", "why": "cut \ud83d", "used": []}"#, "tokens.input"),
        ("no number in JSON", r#"{"id": "w1", "state": "busy", "used": NaN}"#, "NaN"),
        ("a name with a line end", r#"{"id": "w1\n", "state": "busy"}"#, "name"),
        ("no object", "7", "name"),
    ] {
        upstream.set("/st", page(one));
        eventually(what, || {
            source(&lookout)["last_error"].as_str().is_some_and(|error| error.contains(expected)).then_some(())
        });
        // For longer than the timeout of agents.
        let polls = upstream.requests();
        eventually("many polls", || (upstream.requests() >= polls + 15).then_some(()));
        assert_eq!(names(&lookout, "shop"), ["w1", "w2"], "{what}");
        assert_eq!(source(&lookout)["up"], true, "{what}");
        let alerts = lookout.get("/api/alerts?rule=AgentDown").json();
        assert_eq!(alerts["total"], 0, "{what}: {alerts}");
        lookout.wait_for_log(&["polled values rejected"]);
    }
    upstream.set("/st", page(r#"{"id": "w1", "state": "busy"}"#));
    eventually("the error is cleared", || (source(&lookout)["last_error"] == Value::Null).then_some(()));
}
