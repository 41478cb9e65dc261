//! Sidecars that are absent, hang, reject, die or start late do not affect the stream.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::Value;

use super::{Pipe, pass, sample, seen, tokens, unused_address};
use crate::program::{Setup, eventually};

/// The response of a sidecar's double.
#[derive(Clone, Copy)]
enum Does {
    Accepts,
    Answers500,
    Refuses,
    Hangs,
    BreaksOff,
}

/// A sidecar's double, and the bodies that it got.
struct Double {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Double {
    fn start(listener: TcpListener, does: Does) -> Self {
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&bodies);
        thread::spawn(move || {
            let mut hung = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(body) = read_body(&stream) else { continue };
                taken.lock().unwrap().push(body);
                let answer = match does {
                    Does::Accepts => {
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 14\r\n\r\n{\"accepted\":1}"
                    }
                    Does::Answers500 => "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
                    Does::Refuses => {
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 53\r\n\r\n{\"accepted\":0,\"rejected\":[{\"name\":\"a\",\"error\":\"no\"}]}"
                    }
                    Does::BreaksOff => "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"acc",
                    Does::Hangs => {
                        hung.push(stream);
                        continue;
                    }
                };
                drop((&stream).write_all(answer.as_bytes()));
            }
        });
        Self { url, bodies }
    }

    fn agents(&self) -> Vec<Value> {
        self.states().into_iter().map(|mut body| body["agents"][0].take()).collect()
    }

    /// The reports of state; others are of runs.
    fn states(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().filter(|body| body["agents"].is_array()).cloned().collect()
    }
}

fn read_body(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

pub(super) fn a_bad_sidecar_changes_nothing() {
    let setup = Setup::new("");
    let sample = sample("codex-tool.jsonl");
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    // How long it takes without a sidecar, on this machine under its current load.
    let mut without = None;
    for (does, expected) in [
        (None, "Connection refused"),
        (Some(Does::Answers500), "HTTP 500"),
        (Some(Does::Refuses), "rejected by the sidecar: no"),
        (Some(Does::BreaksOff), "is incomplete"),
        (Some(Does::Hangs), ""),
    ] {
        let double = does.map(|does| Double::start(listener(), does));
        let url = double.as_ref().map_or_else(unused_address, |double| double.url.clone());
        let mut pipe = Pipe::start(&setup, &url, &["--agent", "a"]);
        for line in sample.split_inclusive(|byte| *byte == b'\n') {
            pipe.write(line);
            pipe.expect(line);
        }
        let watch = Stopwatch::start();
        let (rest, stderr, status) = pipe.end();
        // The last report has a timeout of 2 s; while the agent works it is much longer.
        let without = *without.get_or_insert(watch.elapsed());
        assert!(watch.elapsed() < without * 4 + Duration::from_secs(8), "{:?}", watch.elapsed());
        assert!(rest.is_empty() && status.success(), "{status}: {stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == usize::from(!expected.is_empty()), "{stderr}");
        // No output if quiet.
        let (stderr, status) = pass(&setup, &url, &["--agent", "a", "--quiet"], &sample);
        assert!(stderr.is_empty() && status.success(), "{stderr}");
    }
    // A token that can't be read is the sidecar's business, not the agent's.
    let (stderr, status) = pass(&setup, &unused_address(), &["--agent", "a", "--token-file", "nowhere"], &sample);
    assert!(status.success() && stderr.contains("nowhere"), "{stderr}");
    // Errors of the command line are reported before any input is read.
    let (_, stderr, status) = Pipe::start(&setup, "ftp://x", &["--agent", "a"]).end();
    assert!(status.code() == Some(1) && stderr.contains("is not an address"), "{stderr}");
    assert_eq!(Pipe::start(&setup, "h:1", &["--agent", "a", "--pattern", "x"]).end().2.code(), Some(2));
}

pub(super) fn a_late_sidecar_gets_the_report() {
    let setup = Setup::new("");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut pipe = Pipe::start(&setup, &format!("http://{address}"), &["--agent", "a", "--quiet"]);
    let sample = sample("claude-code-partial.jsonl");
    pipe.write(&sample[..sample.len() - 100]);
    pipe.expect(&sample[..sample.len() - 100]);
    let double = Double::start(TcpListener::bind(address).expect("the same port"), Does::Accepts);
    let total = Value::from(3748);
    let agents = eventually("the latest", || {
        Some(double.agents()).filter(|agents| agents.last().is_some_and(|agent| agent["tokens"]["input"] == total))
    });
    // First a zero for each count, so that it is not taken for the continuation of another run.
    let counted: Vec<&Value> = agents.iter().filter(|agent| agent["tokens"]["input"] != Value::Null).collect();
    assert_eq!((&counted[0]["tokens"]["input"], &counted[0]["requests"]["total"]), (&0.into(), &0.into()));
    assert_eq!((&counted[1]["tokens"]["input"], &counted[1]["requests"]["rate_limited"]), (&total, &2.into()));
    assert_eq!(counted[1]["status"], "running");
    pipe.write(&sample[sample.len() - 100..]);
    assert!(pipe.end().2.success());
    let last = double.agents().pop().expect("a last word");
    assert_eq!((&last["status"], &last["tokens"]["output"]), (&Value::from("completed"), &Value::from(114)));
    let runs =
        double.bodies.lock().unwrap().iter().filter(|body| body["run_id"].is_string()).cloned().collect::<Vec<_>>();
    let last = runs.last().expect("a run");
    assert_eq!(
        (&last["status"], &last["tokens"]["output"], &last["run_id"]),
        (&"ok".into(), &114.into(), &runs[0]["run_id"])
    );
    let bodies = double.states();
    assert_eq!(bodies[0]["ttl"], "1m");
    // Each report has a number of its own, so that a late one is recognized.
    let numbers: Vec<u64> = bodies.iter().filter_map(|body| body["ordinal"]["number"].as_u64()).collect();
    assert!(numbers.len() == bodies.len() && numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert!(
        bodies
            .iter()
            .all(|body| body["ordinal"]["run"].is_string() && body["ordinal"]["run"] == bodies[0]["ordinal"]["run"])
    );
}

pub(super) fn a_dying_sidecar_is_done_without() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let port = lookout.address().port().to_string();
    let url = lookout.url();
    let sample = sample("codex-429.jsonl");
    let mut pipe = Pipe::start(&setup, &url, &["--agent", "a"]);
    let lines: Vec<&[u8]> = sample.split_inclusive(|byte| *byte == b'\n').collect();
    let (before, after) = lines.split_at(4);
    for line in before {
        pipe.write(line);
        pipe.expect(line);
    }
    seen(&lookout, "a", "running", Some("retrying after 429, rate limit"));
    lookout.kill9();
    for line in after {
        pipe.write(line);
        pipe.expect(line);
    }
    // It starts again at the same address and gets the state without further input.
    let setup = setup.env("LOOKOUT_LISTEN", &format!("127.0.0.1:{port}"));
    let lookout = setup.start();
    seen(&lookout, "a", "completed", None);
    assert_eq!(tokens(&lookout, "a"), [1134.0, 48.0, 4096.0, 0.0, 16.0]);
    assert!(pipe.end().2.success());
}
