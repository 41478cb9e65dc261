//! Malicious and broken clients: rejected with the right status, in bounded memory, without effect on other clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lookout::clock::Stopwatch;
use lookout::fleet::SERIES_PER_AGENT;
use serde_json::{Value, json};

use crate::program::{Lookout, PATIENCE, Setup, eventually};
use crate::{Case, trial};

const MIB: u64 = 1024 * 1024;
/// The time limit of a harmless request during an attack; two busy cores are slow.
const SOON: Duration = PATIENCE;

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("hostile: bodies of 64 MiB are rejected, with and without content-length", &[], huge_bodies),
        trial("hostile: deep nesting is rejected", &[], deep_nesting),
        trial("hostile: garbage, huge headers and idle connections are rejected", &[], rubbish),
        trial("hostile: a small series limit rejects new agents and keeps the known ones", &[], small_cap),
        trial("hostile: distinct agents without end fill the default cap and no more", &[], default_cap),
        trial("hostile: more slow headers than connections allowed block no other client", &[], || {
            slow_heads(300, 100, 1_000);
        }),
        trial("hostile: more slow headers than open files allowed block no other client", &[], || {
            slow_heads(300, 1_024, 160)
        }),
        trial("hostile: slow bodies time out", &[], slow_bodies),
        trial("hostile: stalled bodies block no other client", &[], stalled_places),
        trial("hostile: stalled large bodies block no other large body", &[], stalled_large_bodies),
        trial("hostile: clients that do not read answers block no other client", &[], readers_that_never_read),
        trial("hostile: foreign hosts and origins are rejected", &[], foreign_pages),
        trial("hostile: tokens are required, and roles are enforced", &[], tokens),
    ]
}

/// The first bytes of the server's answer to `bytes`; empty if it just closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    // The server may answer before everything is sent.
    let sent = stream.write_all(bytes);
    let mut received = Vec::new();
    let waits = stream.read_to_end(&mut received).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(sent.is_err() || !waits, "it neither answers nor closes");
    received
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, SOON).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The status of an answer; `None` when there was none.
fn status(received: &[u8]) -> Option<u16> {
    let line = received.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Fails unless the program still answers in time, and its memory never grew by more than this.
fn is_unharmed(lookout: &Lookout, what: &str, most: u64) {
    answers_soon(lookout);
    let grown = lookout.grown();
    println!("hostile: {what}: grown by {} MiB", grown / MIB);
    assert!(grown < most, "{what}: grown by {} MiB, and the bound is {} MiB", grown / MIB, most / MIB);
}

/// Fails unless pushed state is accepted and shown soon.
fn answers_soon(lookout: &Lookout) {
    let watch = Stopwatch::start();
    let pushed = lookout.post("/api/state", &json!({"project": "others", "agents": [{"name": "harmless"}]}));
    assert_eq!(pushed.status, 200, "{}", pushed.text());
    assert!(lookout.get("/metrics").text().contains("agent_name=\"harmless\""), "it is shown");
    assert_eq!(lookout.get("/api/status").status, 200);
    assert!(watch.elapsed() < SOON, "it took {:?}", watch.elapsed());
}

fn huge_bodies() {
    const SIZE: usize = 64 * 1024 * 1024;
    let setup = Setup::new("");
    let lookout = setup.start();
    let headers = [("content-type", "application/json")];
    for route in ["/api/state", "/api/usage"] {
        let refused = lookout.send("POST", route, &headers, &vec![b' '; SIZE]);
        assert_eq!(refused.status, 413, "{route}: {}", refused.text());
        assert!(refused.json()["error"].as_str().is_some_and(|error| error.contains("limits.body")), "the remedy");
    }
    let mut chunked = format!(
        "POST /api/state HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        lookout.address()
    )
    .into_bytes();
    let chunk = vec![b' '; 1024 * 1024];
    for _ in 0..64 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(status(&exchange(lookout.address(), &chunked)), Some(413), "chunked");
    // All together hold at most four times the limit; further ones get 503 with Retry-After.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let status = status(&exchange(lookout.address(), &chunked));
                assert!(matches!(status, Some(413 | 503)), "{status:?}");
            });
        }
    });
    // Of more than a gigabyte, only four times `limits.body` and its copies are held.
    is_unharmed(&lookout, "64 MiB bodies", 192 * MIB);
    let page = lookout.get("/metrics");
    let page = page.text();
    let refused: Option<f64> = ["too_large", "busy"]
        .iter()
        .map(|reason| sample(page, &format!("lookout_rejected_total{{signal=\"state\",reason=\"{reason}\"}}")))
        .sum();
    assert_eq!(refused, Some(18.0), "each refusal is counted");
}

fn deep_nesting() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let headers = [("content-type", "application/json")];
    let depth = 1_000_000;
    for (open, close) in [("[", "]"), ("{\"agents\":", "}"), ("{\"x\":[", "]}")] {
        let body = open.repeat(depth) + &close.repeat(depth);
        let refused = lookout.send("POST", "/api/state", &headers, body.as_bytes());
        assert_eq!(refused.status, 400, "{open}");
        assert!(refused.json()["error"].is_string());
    }
    // Inside an agent, under a key that is ignored, and cut off before it ends.
    let inside = format!("{{\"agents\":[{{\"name\":\"a\",\"ignored\":{}", "[".repeat(depth));
    assert_eq!(lookout.send("POST", "/api/state", &headers, inside.as_bytes()).status, 400);
    is_unharmed(&lookout, "deep nesting", 128 * MIB);
}

fn rubbish() {
    let setup = Setup::new("limits: {header_timeout: 1s}");
    let lookout = setup.start();
    let address = lookout.address();
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();

    let mut noise = Vec::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..8192 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 500]].concat();
    let head = |line: &str| format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n{line}\r\n\r\n").into_bytes();
    let many: String = (0..500).map(|number| format!("x-{number}: y\r\n")).collect();
    for (what, bytes) in [
        ("noise", noise),
        ("zeros", vec![0; 4096]),
        ("TLS to a plain port", hello),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("no version", b"GET /metrics\r\n\r\n".to_vec()),
        ("a header without a colon", head("rubbish")),
        ("a header that is not text", [b"GET / HTTP/1.1\r\nx\xff: \xff\0\r\n\r\n".to_vec()].concat()),
        ("a huge header", head(&format!("x: {}", "y".repeat(1024 * 1024)))),
        ("a huge path", format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(1024 * 1024)).into_bytes()),
        ("many headers", head(&many)),
        ("two lengths", b"POST /api/state HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec()),
        ("a length that is none", b"POST /api/state HTTP/1.1\r\ncontent-length: -5\r\n\r\nhello".to_vec()),
    ] {
        let received = exchange(address, &bytes);
        assert!(
            received.is_empty() || status(&received).is_some_and(|status| (400..=499).contains(&status)),
            "{what}: {}",
            String::from_utf8_lossy(&received[..received.len().min(200)])
        );
    }
    for body in [&b"\xff\xfe\x00"[..], b"", b"null", b"5", b"\"text\"", b"{", b"{\"agents\": 5}", b"\0\0\0\0"] {
        let refused = lookout.send("POST", "/api/state", &[("content-type", "application/json")], body);
        assert_eq!(refused.status, 400, "{body:?}: {}", refused.text());
    }
    // Idle connections are closed after `limits.header_timeout`.
    for mut stream in silent {
        let mut received = Vec::new();
        // A response, a close and a reset all end the connection; only a timeout fails.
        let end = stream.read_to_end(&mut received);
        let waits = end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!waits && status(&received).is_none_or(|status| status >= 400), "silence ends");
    }
    is_unharmed(&lookout, "rubbish", 128 * MIB);
}

/// A batch of agents `from..to`.
fn batch(from: usize, to: usize) -> Value {
    let agents: Vec<Value> = (from..to).map(|number| json!({"name": format!("agent-{number}"), "status": "running", "phase": "plan", "tokens": {"input": number, "output": 1}, "requests": {"total": 1, "errors": 0}})).collect();
    json!({"project": "flood", "agents": agents})
}

/// The value of a series of a page, named with its labels.
fn sample(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn small_cap() {
    let setup = Setup::new(&format!("limits: {{series: {}}}", 10 * SERIES_PER_AGENT));
    let lookout = setup.start();
    let first = lookout.post("/api/state", &batch(0, 12)).json();
    assert_eq!(first["accepted"], 10, "an agent counts for {SERIES_PER_AGENT} series: {first}");
    let rejected = first["rejected"].as_array().expect("what was rejected");
    assert_eq!([&rejected[0]["name"], &rejected[1]["name"]], ["agent-10", "agent-11"], "{first}");
    let is_remedy = |text: &Value| text.as_str().is_some_and(|text| text.contains("raise limits.series"));
    assert!(is_remedy(&rejected[0]["error"]), "{first}");

    let refused = lookout.post("/api/state", &batch(20, 25));
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(is_remedy(&refused.json()["error"].clone()) || refused.text().contains("raise limits.series"), "a remedy");
    assert_eq!(refused.header("retry-after"), Some("60"));
    let usage = json!({"project": "flood", "usage": [{"agent": "newcomer", "input": 1, "output": 1}]});
    assert_eq!(lookout.post("/api/usage", &usage).status, 429);

    let known = json!({"project": "flood", "agents": [{"name": "agent-3", "status": "failed"}, {"name": "another"}]});
    let taken = lookout.post("/api/state", &known);
    assert_eq!((taken.status, &taken.json()["accepted"]), (200, &json!(1)), "{}", taken.text());
    let page = lookout.get("/metrics");
    let page = page.text();
    let of = |name: &str| format!("orchestrator_agent_up{{project=\"flood\",agent_name=\"{name}\"}}");
    assert_eq!(sample(page, &of("agent-3")), Some(0.0), "the known one was updated");
    assert_eq!(sample(page, &of("another")), None);
    // 2 + 5 + 1 + 1 agents were rejected.
    assert_eq!(sample(page, "lookout_series_dropped_total"), Some(9.0 * SERIES_PER_AGENT as f64));
    assert_eq!(sample(page, "lookout_rejected_total{signal=\"state\",reason=\"series_cap\"}"), Some(8.0), "{page}");
    assert_eq!(page.matches("\norchestrator_agent_up{").count(), 10);
}

fn default_cap() {
    const AGENTS: usize = 60_000;
    const ROOM: usize = 1_000_000 / SERIES_PER_AGENT;
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut accepted = 0;
    let mut full = 0;
    for from in (0..AGENTS).step_by(1_000) {
        let answer = lookout.post("/api/state", &batch(from, from + 1_000));
        match answer.status {
            200 => accepted += answer.json()["accepted"].as_u64().expect("a number"),
            429 => full += 1,
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(accepted, ROOM as u64, "whole agents, and no more than fit");
    assert_eq!(full, (AGENTS - ROOM) / 1_000, "batches of newcomers only are refused");
    let totals = lookout.get("/api/metrics").json();
    assert_eq!(totals["metrics"]["total_agents"], ROOM);
    let known =
        lookout.post("/api/state", &json!({"project": "flood", "agents": [{"name": "agent-7", "status": "idle"}]}));
    assert_eq!(known.status, 200, "the known still report");
    // Every reader of such a page at once, compressed and not.
    std::thread::scope(|scope| {
        for encoding in ["gzip", "identity", "gzip"] {
            scope.spawn(|| {
                let page = lookout.send("GET", "/metrics", &[("accept-encoding", encoding)], b"");
                assert_eq!(page.status, 200);
            });
        }
    });
    let page = lookout.get("/metrics");
    assert_eq!(page.text().matches("\norchestrator_agent_up{").count(), ROOM);
    let idle = "orchestrator_agent_status{project=\"flood\",agent_name=\"agent-7\",status=\"idle\"}";
    assert_eq!(sample(page.text(), idle), Some(1.0));
    drop(page);
    // The memory of the accepted agents and of their pages, and none for the others.
    let grown = lookout.grown();
    println!("hostile: {ROOM} agents: grown by {} MiB", grown / MIB);
    assert!(grown < ROOM as u64 * 8 * 1024, "grown by {} MiB", grown / MIB);
}

/// Opens `connections` with unfinished headers, where `taken` are allowed and `files` may be open.
fn slow_heads(connections: usize, taken: usize, files: u32) {
    let setup = Setup::new(&format!("limits: {{connections: {taken}}}")).open_files(files);
    let lookout = setup.start();
    let address = lookout.address();
    let stop = AtomicBool::new(false);
    let opened = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Evicted connections are opened again.
                streams.retain_mut(|stream| stream.write_all(b"x").is_ok());
                while streams.len() < connections && !stop.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect_timeout(&address, SOON) else { break };
                    if stream.write_all(b"GET /metrics HTTP/1.1\r\nx-dribble: ").is_ok() {
                        streams.push(stream);
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        // A panic in here must still end the thread above.
        let harm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("all are connected", || (opened.load(Ordering::Relaxed) >= connections).then_some(()));
            for _ in 0..10 {
                answers_soon(&lookout);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        harm.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    is_unharmed(&lookout, "slow heads", 128 * MIB);
}

fn slow_bodies() {
    let setup = Setup::new("limits: {body_timeout: 1s, connections: 64}");
    let lookout = setup.start();
    let head = format!(
        "POST /api/state HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{",
        lookout.address()
    );
    let streams: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = connect(lookout.address());
            stream.write_all(head.as_bytes()).expect("a head");
            stream
        })
        .collect();
    answers_soon(&lookout);
    for mut stream in streams {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("an end");
        assert_eq!(status(&received), Some(408), "{}", String::from_utf8_lossy(&received));
    }
    is_unharmed(&lookout, "slow bodies", 128 * MIB);
}

fn stalled_places() {
    const PLACES: usize = 50;
    let setup = Setup::new(&format!("limits: {{connections: {PLACES}}}"));
    let lookout = setup.start();
    let host = lookout.address();
    let kinds = [
        format!(
            "POST /api/state HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{{"
        ),
        format!(
            "POST /v1/logs HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{{\r\n"
        ),
        format!(
            "POST /hooks/claude-code HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
        ),
        format!(
            "POST /api/silences HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{{"
        ),
        format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n"),
        format!("GET /-/healthy HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        "\x16\x03\x01".to_owned(),
    ];
    let streams: Vec<TcpStream> = (0..PLACES * 2)
        .map(|number| {
            let mut stream = connect(host);
            // It may have been evicted already.
            drop(stream.write_all(kinds[number % kinds.len()].as_bytes()));
            stream
        })
        .collect();
    for _ in 0..PLACES {
        assert_eq!(lookout.get("/-/healthy").status, 200);
    }
    is_unharmed(&lookout, "half-sent bodies", 80 * MIB);
    let evicted = sample(lookout.get("/metrics").text(), "lookout_connections_closed_total{reason=\"evicted\"}");
    assert!(evicted.is_some_and(|count| count > 0.0), "each that gave way is counted: {evicted:?}");
    drop(streams);
}

fn stalled_large_bodies() {
    const SIZE: usize = 1024 * 1024;
    let setup = Setup::new(&format!("limits: {{body: {SIZE}}}"));
    let lookout = setup.start();
    let head = format!(
        "POST /api/state HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {SIZE}\r\n\r\n",
        lookout.address()
    );
    let streams: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = connect(lookout.address());
            stream.write_all(head.as_bytes()).expect("a head");
            // All but the last byte; a request without room is answered before it has sent everything.
            drop(stream.write_all(&vec![b' '; SIZE - 1]));
            stream
        })
        .collect();
    let large = format!("{{\"agents\": [{{\"name\": \"large\"}}]{}}}", " ".repeat(SIZE - 1000));
    let headers = [("content-type", "application/json")];
    for _ in 0..3 {
        let answer = lookout.send("POST", "/api/state", &headers, large.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    is_unharmed(&lookout, "large bodies that stall", 80 * MIB);
    drop(streams);
}

fn readers_that_never_read() {
    const READERS: usize = 20;
    let setup = Setup::new("");
    let lookout = setup.start();
    for from in (0..10_000).step_by(1_000) {
        assert_eq!(lookout.post("/api/state", &batch(from, from + 1_000)).status, 200);
    }
    let page = lookout.get("/metrics").body.len();
    assert!(page > 16 << 20, "the page is larger than the buffers of a socket: {page}");
    // Each keeps its connection open and reads nothing of the response.
    let readers: Vec<TcpStream> = ["", "accept-encoding: gzip\r\n"]
        .into_iter()
        .flat_map(|line| (0..READERS).map(move |_| line))
        .map(|line| {
            let mut stream = connect(lookout.address());
            let head = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n{line}\r\n", lookout.address());
            stream.write_all(head.as_bytes()).expect("a head");
            stream
        })
        .collect();
    let mut first = [0; 12];
    for mut stream in &readers[READERS..] {
        stream.read_exact(&mut first).expect("the start of a compressed page");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    for encoding in ["gzip", "identity"] {
        let watch = Stopwatch::start();
        let page = lookout.send("GET", "/metrics", &[("accept-encoding", encoding)], b"");
        assert_eq!(page.status, 200, "{encoding}: {}", String::from_utf8_lossy(&page.body));
        assert!(watch.elapsed() < SOON, "{encoding}: {:?}", watch.elapsed());
    }
    // Each would hold megabytes.
    let statuses: Vec<TcpStream> = (0..READERS * 4)
        .map(|_| {
            let mut stream = connect(lookout.address());
            let head = format!("GET /api/status HTTP/1.1\r\nhost: {}\r\n\r\n", lookout.address());
            stream.write_all(head.as_bytes()).expect("a head");
            stream
        })
        .collect();
    eventually("a free connection for a reader", || (lookout.try_get("/api/status").ok()?.status == 200).then_some(()));
    // The whole fleet as JSON, requested by many at once.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            // A slow machine rejects some with 503.
            scope.spawn(|| assert!(matches!(lookout.get("/api/status").status, 200 | 503)));
        }
    });
    // A page for each would be too much.
    is_unharmed(&lookout, "readers that never read", 256 * MIB);
    drop((readers, statuses));
}

fn foreign_pages() {
    let setup = Setup::new("allowed_hosts: [lookout.example]");
    let lookout = setup.start();
    let with = |host: &str, more: &str, route: &str| {
        let request =
            format!("{route} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n");
        status(&exchange(lookout.address(), request.as_bytes()))
    };
    let port = lookout.address().port();
    for (host, more, route, expected) in [
        (&*format!("localhost:{port}"), "", "GET /api/status", 200),
        ("lookout.example", "", "GET /metrics", 200),
        ("evil.example", "", "GET /metrics", 403),
        ("evil.example", "", "POST /api/state", 403),
        ("127.0.0.1.evil.example", "", "GET /api/status", 403),
        ("evil.example", "", "GET /-/healthy", 200),
        ("localhost", "origin: https://evil.example\r\n", "POST /api/monitoring/stop", 403),
        ("localhost", "origin: null\r\n", "POST /-/reload", 403),
        ("localhost", "origin: http://localhost:3000\r\n", "GET /api/alerts", 403),
        ("localhost", "origin: http://localhost:3000\r\n", "POST /api/monitoring/stop", 403),
        ("localhost", "sec-fetch-site: same-site\r\n", "POST /-/reload", 403),
        (&*format!("localhost:{port}"), &*format!("origin: http://localhost:{port}\r\n"), "POST /-/reload", 200),
        ("203.0.113.5", "", "GET /metrics", 403),
    ] {
        assert_eq!(with(host, more, route), Some(expected), "{host} {more:?} {route}");
    }
    // A form, which a foreign page may send without a preflight request, is not JSON.
    for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"] {
        let form = lookout.send("POST", "/api/state", &[("content-type", kind)], b"{\"agents\": []}");
        assert_eq!(form.status, 415, "{kind}");
    }
    assert_eq!(lookout.get("/api/status").json()["monitoring"], true, "monitoring was not paused");
}

fn tokens() {
    let setup = Setup::new(
        "auth: {tokens: [{name: see, role: read, token_file: see.token}, {name: push, role: ingest, token: pushIt4711}, {name: all, role: admin, token: doIt4711}]}",
    );
    setup.write("see.token", "seeIt4711\n");
    // Readiness needs no token.
    let lookout = setup.start();
    let ask = |method: &str, route: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
        let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
        lookout.send(method, route, headers, if method == "POST" { b"{\"agents\": []}" } else { b"" })
    };
    for (method, route, allowed) in [
        ("GET", "/metrics", [401, 200, 200, 200, 401]),
        ("GET", "/api/alerts", [401, 200, 200, 200, 401]),
        ("POST", "/api/state", [401, 403, 200, 200, 401]),
        ("POST", "/api/monitoring/start", [401, 403, 403, 200, 401]),
        ("GET", "/-/healthy", [200; 5]),
    ] {
        for (token, expected) in ["", "seeIt4711", "pushIt4711", "doIt4711", "wrong4711"].into_iter().zip(allowed) {
            let answer = ask(method, route, token);
            assert_eq!(answer.status, expected, "{method} {route} with `{token}`: {}", answer.text());
            assert!(!answer.text().contains("4711"), "no secret in an answer");
            let asks = answer.header("www-authenticate").is_some_and(|how| how.contains("Bearer"));
            assert_eq!(asks, expected == 401, "{method} {route}");
        }
    }
    // A token's file is read again within a second, so that it can be changed.
    setup.write("see.token", "new4711");
    eventually("the old token is refused", || (ask("GET", "/metrics", "seeIt4711").status == 401).then_some(()));
    assert_eq!(ask("GET", "/metrics", "new4711").status, 200);
    assert!(!lookout.log().contains("4711"), "no secret in the log:\n{}", lookout.log());
}
