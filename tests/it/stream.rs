//! The stream of events: changes are pushed, resumed, filtered and bounded, with a plain client and real ones.

pub(crate) mod client;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::counterparts::Need;
use crate::nginx::Nginx;
use crate::program::{Lookout, PATIENCE, Setup, eventually};
use crate::slack::metric;
use crate::{Case, trial};
use client::{Event, EventSource};

/// The route.
const PATH: &str = "/api/monitoring/stream";
/// How long it is watched that nothing arrives.
const QUIET: Duration = Duration::from_millis(400);

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("stream: a change is pushed as /api/status shows it, and a removal", &[], changes_are_pushed),
        trial("stream: each change of an alert is an event", &[], alerts_are_pushed),
        trial("stream: runs and totals are events, and a pause is visible", &[], runs_and_totals),
        trial("stream: a client that reconnects misses nothing and gets nothing twice", &[], resumes),
        trial("stream: what cannot be resumed begins with resync", &[], resync_after_a_restart),
        trial("stream: filters apply, and unknown values are named", &[], filters),
        trial("stream: headers, HEAD and other methods", &[], protocol),
        trial("stream: names of agents cannot end an event", &[], hostile_names),
        trial("stream: too many streams are refused, and count apart from connections", &[], limits),
        trial("stream: a revoked token ends it", &[], revoked),
        trial("stream: a shutdown ends it at once", &[], shutdown),
        trial("stream: a slow reader resyncs, and others get everything", &[], slow_reader),
        trial("stream: curl shows each event as it comes", &[Need::Curl], by_curl),
        trial("stream: nginx that buffers passes events on at once", &[Need::Curl, Need::Nginx], behind_nginx),
        trial("stream: a thousand viewers see each change", &[], a_thousand_viewers),
    ]
}

fn push(lookout: &Lookout, agents: &Value) {
    let answer = lookout.post("/api/state", &json!({"project": "shop", "agents": agents}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("rejected").is_none(), "{}", answer.text());
}

fn open(lookout: &Lookout, query: &str) -> EventSource {
    EventSource::open(lookout.address(), &format!("{PATH}{query}"), &[]).expect("a stream")
}

/// The data of the next event, which is of this kind.
fn next(source: &mut EventSource, kind: &str) -> Value {
    let Event { kind: found, data, .. } = source.next(PATIENCE).unwrap_or_else(|| panic!("no event {kind}"));
    assert_eq!(found, kind, "{data}");
    data
}

/// An agent in `/api/status`.
fn status_of(lookout: &Lookout, name: &str) -> Value {
    let status = lookout.get("/api/status").json();
    let projects = status["projects"].as_array().expect("projects");
    let mut agents = projects.iter().flat_map(|project| project["agents"].as_array().expect("agents"));
    agents.find(|agent| agent["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}

fn changes_are_pushed() {
    let setup = Setup::new("");
    let lookout = setup.start();
    push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    let mut source = open(&lookout, "?events=status");
    push(&lookout, &json!([{"name": "ann", "status": "waiting_question", "tokens": {"input": 7}}]));
    let mut event = next(&mut source, "status");
    assert_eq!(event["project"].take(), json!("shop"));
    let mut shown = status_of(&lookout, "ann");
    for passing in ["idle_seconds", "task_seconds", "last_seen"] {
        (event[passing], shown[passing]) = (Value::Null, Value::Null);
    }
    shown["project"] = Value::Null;
    assert_eq!(event, shown, "as in the list of agents, with its project");
    // What an agent reports again is no change.
    push(&lookout, &json!([{"name": "ann", "status": "waiting_question", "tokens": {"input": 7}}]));
    assert!(source.next(QUIET).is_none());
    push(&lookout, &json!([{"name": "bob", "status": "idle"}]));
    assert_eq!(next(&mut source, "status")["name"], "bob");
    // A complete report without an agent removes it.
    let complete = json!({"project": "shop", "complete": true, "agents": [{"name": "bob", "status": "idle"}]});
    assert_eq!(lookout.post("/api/state", &complete).status, 200);
    assert_eq!(next(&mut source, "status"), json!({"project": "shop", "name": "ann", "removed": true}));
}

fn alerts_are_pushed() {
    let setup = Setup::new("agents: {max_idle: 5m}\n");
    let lookout = setup.start();
    let mut source = open(&lookout, "?events=alert&agent=ann");
    push(&lookout, &json!([{"name": "ann", "status": "failed", "reason": "exit code 137"}]));
    let fired = next(&mut source, "alert");
    assert_eq!([&fired["rule"], &fired["state"]], [&json!("AgentDown"), &json!("firing")], "{fired}");
    let listed = lookout.get("/api/alerts?state=firing&agent=ann").json()["alerts"][0].clone();
    assert_eq!(fired, listed, "as in the list of alerts");
    let fingerprint = fired["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let acknowledge = lookout.post(&format!("/api/alerts/{fingerprint}/ack"), &json!({"by": "ann", "comment": ""}));
    assert_eq!(acknowledge.status, 200, "{}", acknowledge.text());
    assert_eq!(next(&mut source, "alert")["acked_by"], "ann");
    let silence = json!({"matchers": {"agent_name": "ann"}, "duration": "1h", "created_by": "ann", "comment": "x"});
    let silenced = lookout.post("/api/silences", &silence).json();
    let id = silenced["id"].as_str().expect("an id").to_owned();
    assert_eq!(next(&mut source, "alert")["silenced_by"], json!(id));
    assert_eq!(lookout.send("DELETE", &format!("/api/silences/{id}"), &[], b"").status, 200);
    assert_eq!(next(&mut source, "alert")["silenced_by"], Value::Null);
    push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    let resolved = next(&mut source, "alert");
    assert_eq!([&resolved["state"], &resolved["resolved"]], [&json!("resolved"), &json!(true)], "{resolved}");
    // However fast it goes, each firing and each resolve is an event.
    for _ in 0..20 {
        push(&lookout, &json!([{"name": "ann", "status": "failed"}]));
        push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    }
    let states: Vec<String> =
        (0..40).map(|_| next(&mut source, "alert")["state"].as_str().expect("a state").to_owned()).collect();
    assert_eq!(states, ["firing", "resolved"].repeat(20));
    assert!(source.next(QUIET).is_none());
}

fn runs_and_totals() {
    let setup = Setup::new("");
    let lookout = setup.start();
    push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    eventually("it is registered", || (lookout.get("/agents/shop/ann").status == 200).then_some(()));
    let mut runs = open(&lookout, "?events=run");
    let mut totals = open(&lookout, "?events=metrics");
    let started = lookout.post("/agents/shop/ann/trace/start", &json!({"name": "a turn"})).json();
    let began = next(&mut runs, "run");
    assert_eq!([&began["run_id"], &began["status"]], [&started["run_id"], &json!("running")], "{began}");
    let ended = lookout.post("/agents/shop/ann/trace/end", &json!({"trace_id": started["run_id"]}));
    assert_eq!(ended.status, 200, "{}", ended.text());
    let event = next(&mut runs, "run");
    assert_eq!(event["status"], "ok");
    assert_eq!(event, lookout.get("/api/traces").json()["runs"][0], "as in the list of runs");
    push(&lookout, &json!([{"name": "ann", "status": "running", "requests": 4}]));
    let mut event = next(&mut totals, "metrics");
    while event["metrics"]["requests"] != 4 {
        event = next(&mut totals, "metrics");
    }
    let mut listed = lookout.get("/api/metrics").json();
    for totals in [&mut event, &mut listed] {
        totals["metrics"]["timestamp"] = Value::Null;
        totals["projects"]["shop"]["timestamp"] = Value::Null;
    }
    assert_eq!(event, listed);
    assert_eq!(lookout.send("POST", "/api/monitoring/stop", &[], b"").status, 200);
    assert_eq!(next(&mut totals, "metrics")["monitoring"], false);
    assert_eq!(lookout.send("POST", "/api/monitoring/start", &[], b"").status, 200);
    assert_eq!(next(&mut totals, "metrics")["monitoring"], true);
}

fn resumes() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut source = open(&lookout, "?events=status");
    let mut seen = Vec::new();
    let mut by_query = false;
    for number in 0..60 {
        if number % 20 == 10 {
            // It reconnects while changes go on.
            let id = source.last_id().to_owned();
            drop(source);
            push(&lookout, &json!([{"name": format!("missed{number}"), "status": "idle"}]));
            by_query = !by_query;
            source = if by_query {
                open(&lookout, &format!("?events=status&last_event_id={id}"))
            } else {
                EventSource::open(lookout.address(), &format!("{PATH}?events=status"), &[("last-event-id", &id)])
                    .expect("a stream")
            };
        }
        push(&lookout, &json!([{"name": format!("a{number}"), "status": "idle"}]));
        // Sometimes it leaves before it has read everything.
        if number % 20 < 8 {
            seen.push(next(&mut source, "status")["name"].as_str().expect("a name").to_owned());
        }
    }
    while let Some(event) = source.next(QUIET) {
        assert_eq!(event.kind, "status");
        seen.push(event.data["name"].as_str().expect("a name").to_owned());
    }
    let expected = (0..60).flat_map(|number| {
        let missed = (number % 20 == 10).then(|| format!("missed{number}"));
        missed.into_iter().chain([format!("a{number}")])
    });
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

fn resync_after_a_restart() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut source = open(&lookout, "");
    push(&lookout, &json!([{"name": "ann", "status": "idle"}]));
    assert_eq!(next(&mut source, "status")["name"], "ann");
    let id = source.last_id().to_owned();
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    let mut source = EventSource::open(lookout.address(), PATH, &[("last-event-id", &id)]).expect("a stream");
    let event = source.next(PATIENCE).expect("an event");
    assert_eq!((&*event.kind, &event.data), ("resync", &json!({"reason": "unknown_id"})));
    assert_ne!(event.id, id);
    push(&lookout, &json!([{"name": "ann", "status": "running"}]));
    assert_eq!(next(&mut source, "status")["status"], "running", "it goes on from there");
    drop(source);
    // What follows a resync can be resumed.
    let mut source = EventSource::open(lookout.address(), PATH, &[("last-event-id", &event.id)]).expect("a stream");
    assert_eq!(next(&mut source, "status")["status"], "running");
    assert_eq!(metric(&lookout, "lookout_stream_resyncs_total"), Some(1.0));
}

fn filters() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut by_agent = open(&lookout, "?agent=bob&events=status,alert");
    let mut by_project = open(&lookout, "?project=lab&events=status");
    let mut by_level = open(&lookout, "?level=critical&events=alert");
    push(&lookout, &json!([{"name": "ann", "status": "failed"}, {"name": "bob", "status": "idle"}]));
    let lab = json!({"project": "lab", "agents": [{"name": "ann", "status": "idle"}]});
    assert_eq!(lookout.post("/api/state", &lab).status, 200);
    assert_eq!(next(&mut by_agent, "status")["name"], "bob");
    assert_eq!(next(&mut by_project, "status")["project"], "lab");
    for source in [&mut by_agent, &mut by_project, &mut by_level] {
        assert!(source.next(QUIET).is_none());
    }
    for (query, error) in [
        ("?events=status,issues", "unknown event `issues`; use status, metrics, alert, run"),
        ("?level=high", "unknown level `high`; use info, warning, error or critical"),
        ("?agents=a", "unknown parameter `agents`; use events, project, agent, level or last_event_id"),
    ] {
        let answer = lookout.get(&format!("{PATH}{query}"));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{query}");
    }
}

fn protocol() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let source = open(&lookout, "");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(source.header(name), Some(value), "{name}");
    }
    assert_eq!(source.header("content-encoding"), None);
    assert!(source.preface().starts_with(": "), "{:?}", source.preface());
    assert!(source.preface().contains("\nretry: 2000\n"), "{:?}", source.preface());
    let head = lookout.send("HEAD", PATH, &[], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(metric(&lookout, "lookout_streams"), Some(1.0), "HEAD opens none");
    let wrong = lookout.post(PATH, &json!({}));
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET,HEAD")));
    drop(source);
    eventually("the place is free again", || (metric(&lookout, "lookout_streams") == Some(0.0)).then_some(()));
    let zipped = EventSource::open(lookout.address(), PATH, &[("accept-encoding", "gzip")]).expect("a stream");
    assert_eq!(zipped.header("content-encoding"), None);
}

fn hostile_names() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut source = open(&lookout, "?events=status");
    let names = ["data: x", "id: 9", "event: resync", "\u{2028}", "</script>", "a\\nb", "\"}"];
    for name in names {
        let answer = lookout.post("/api/state", &json!({"agents": [{"name": name, "status": "idle"}]}));
        if answer.json().get("rejected").is_some() {
            continue;
        }
        let event = next(&mut source, "status");
        assert_eq!(event["name"], name);
    }
    for text in ["a\nb\r\n\nevent: resync\ndata: {}", "x\u{85}y", "\u{1b}[31m"] {
        push(&lookout, &json!([{"name": "ann", "status": "failed", "reason": text}]));
        let event = next(&mut source, "status");
        assert_eq!(event["reason"], status_of(&lookout, "ann")["reason"]);
    }
    assert!(source.next(QUIET).is_none());
}

fn limits() {
    let setup = Setup::new("limits: {streams: 3, connections: 2}\n");
    let lookout = setup.start();
    let mut sources: Vec<EventSource> = (0..3).map(|_| open(&lookout, "")).collect();
    let answer = lookout.get(PATH);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "{}", answer.text());
    assert_eq!(answer.json()["error"], "too many streams are open; see limits.streams");
    assert_eq!(metric(&lookout, "lookout_streams"), Some(3.0));
    assert_eq!(metric(&lookout, "lookout_streams_rejected_total"), Some(1.0));
    // Streams do not take the places of connections, and no connection takes the place of a stream.
    for _ in 0..2 {
        let idle: Vec<TcpStream> = (0..4).filter_map(|_| TcpStream::connect(lookout.address()).ok()).collect();
        assert_eq!(lookout.get("/api/status").status, 200);
        drop(idle);
    }
    push(&lookout, &json!([{"name": "ann", "status": "idle"}]));
    for source in &mut sources {
        assert_eq!(next(source, "status")["name"], "ann");
    }
    sources.pop();
    eventually("the place is free again", || (metric(&lookout, "lookout_streams") == Some(2.0)).then_some(()));
    sources.push(open(&lookout, ""));
}

fn revoked() {
    let config = |tokens: &str| {
        format!("listen: 127.0.0.1:0\nlog: {{format: json, level: info}}\nauth: {{tokens: [{tokens}]}}\n")
    };
    let (admin, reader) = ("{name: a, role: admin, token: admin-4711}", "{name: r, role: read, token: read-4711}");
    let setup = Setup::new("");
    setup.write("lookout.yaml", &config(&format!("{admin}, {reader}, {{name: f, role: read, token_file: f.token}}")));
    setup.write("f.token", "file-4711");
    let lookout = setup.start();
    let with = |token: &str| {
        let header = format!("Bearer {token}");
        EventSource::open(lookout.address(), &format!("{PATH}?events=status"), &[("authorization", &header)])
    };
    assert_eq!(with("other-4711").err().map(|answer| answer.status), Some(401));
    let (mut kept, mut lost) = (with("admin-4711").expect("a stream"), with("read-4711").expect("a stream"));
    setup.write("lookout.yaml", &config(admin));
    let admin_header = [("authorization", "Bearer admin-4711")];
    assert_eq!(lookout.send("POST", "/-/reload", &admin_header, b"").status, 200);
    assert!(lost.ends(PATIENCE), "its token is gone");
    let state = json!({"agents": [{"name": "ann", "status": "idle"}]}).to_string();
    let headers = [admin_header[0], ("content-type", "application/json")];
    assert_eq!(lookout.send("POST", "/api/state", &headers, state.as_bytes()).status, 200);
    assert_eq!(next(&mut kept, "status")["name"], "ann", "the other goes on");
}

fn shutdown() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut sources: Vec<EventSource> = (0..20).map(|_| open(&lookout, "")).collect();
    let watch = lookout::clock::Stopwatch::start();
    assert!(lookout.sigterm().success());
    assert!(watch.elapsed() < Duration::from_secs(2), "it does not wait for streams: {:?}", watch.elapsed());
    assert!(sources.iter_mut().all(|source| source.ends(PATIENCE)), "each ends with its last chunk");
}

fn slow_reader() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut slow = EventSource::open_with_small_buffer(lookout.address(), &format!("{PATH}?events=status"));
    let mut fast = open(&lookout, "?events=status");
    // More than the ring keeps and than sockets hold.
    for round in 0..6 {
        let agents: Vec<Value> =
            (0..2_000).map(|at| json!({"name": format!("a{at}"), "status": "idle", "restart_count": round})).collect();
        push(&lookout, &json!(agents));
        for _ in 0..2_000 {
            next(&mut fast, "status");
        }
    }
    let mut before = 0;
    loop {
        match slow.next(PATIENCE) {
            Some(Event { kind, .. }) if kind == "status" => before += 1,
            Some(event) => {
                assert!(["too_slow", "unknown_id"].map(Some).contains(&event.data["reason"].as_str()), "{event:?}");
                break;
            }
            // One that does not read for 10 s is closed, and comes back.
            None => {
                let headers = [("last-event-id", slow.last_id())];
                let path = format!("{PATH}?events=status");
                slow = EventSource::open(lookout.address(), &path, &headers).expect("a stream");
            }
        }
    }
    push(&lookout, &json!([{"name": "later", "status": "idle"}]));
    assert_eq!(next(&mut slow, "status")["name"], "later", "it goes on with what is new");
    println!("stream: the slow reader got {before} events before its resync");
}

fn a_thousand_viewers() {
    const VIEWERS: usize = 1_000;
    allow_descriptors(VIEWERS + 200);
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut sources: Vec<EventSource> = (0..VIEWERS).map(|_| open(&lookout, "?events=status")).collect();
    assert_eq!(metric(&lookout, "lookout_streams"), Some(1000.0));
    assert_eq!(lookout.get(PATH).status, 503);
    for number in 0..3 {
        push(&lookout, &json!([{"name": format!("a{number}"), "status": "idle"}]));
    }
    for source in &mut sources {
        for number in 0..3 {
            assert_eq!(next(source, "status")["name"], format!("a{number}"));
        }
    }
    println!("stream: {VIEWERS} viewers: grown by {} MiB", lookout.grown() >> 20);
    assert!(lookout.grown() < 100 << 20, "grown by {} MiB", lookout.grown() >> 20);
    assert!(lookout.sigterm().success());
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Curl at this URL, and its lines as they come.
fn curl(url: &str, arguments: &[&str]) -> (Running, mpsc::Receiver<String>) {
    let mut command = Command::new("curl");
    command.args(["--no-buffer", "--silent", "--show-error"]).args(arguments).arg(url).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("curl");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    (Running(child), lines)
}

/// Waits for a line of curl that contains this.
fn wait_for_line(lines: &mpsc::Receiver<String>, text: &str) {
    while !lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {text}")).contains(text) {}
}

fn by_curl() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let (_curl, lines) = curl(&format!("{}{PATH}?events=status", lookout.url()), &[]);
    wait_for_line(&lines, "retry: 2000");
    for name in ["ann", "bob"] {
        push(&lookout, &json!([{"name": name, "status": "idle"}]));
        wait_for_line(&lines, &format!(r#""name":"{name}""#));
    }
}

fn behind_nginx() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // It speaks HTTP/2 as well.
    let location = format!("location / {{ proxy_pass {}; }}", lookout.url());
    let nginx = Nginx::start(Nginx::free(), "http2", &location);
    let (_curl, lines) = curl(&format!("{}{PATH}?events=status", nginx.url()), &["--http2-prior-knowledge"]);
    wait_for_line(&lines, "retry: 2000");
    for name in ["ann", "bob"] {
        push(&lookout, &json!([{"name": name, "status": "idle"}]));
        wait_for_line(&lines, &format!(r#""name":"{name}""#));
    }
}

/// Raises the limit on open files of the tests' own process.
fn allow_descriptors(needed: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = needed as u64;
    if current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).expect("descriptors for the viewers");
    }
}
