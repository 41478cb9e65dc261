//! The page: server time of the fleet with 100 and 10,000 agents, and what a browser loads.
//!
//! `cargo bench --bench page`. Starts the program; each load but the last follows a change, so that nothing was rendered
//! before.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise"
)]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "support/program.rs"]
#[expect(dead_code, reason = "it is shared with another bench")]
mod program;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use program::{Sidecar, percentile};

const LOADS: usize = 100;
/// Agents of a project that are pushed at once; of twenty projects.
const TEAM: usize = 50;

fn main() {
    println!("| agents | page, gzip | all of it, gzip | requests | server time, median | p99 | unchanged, median |");
    println!("|---|---|---|---|---|---|---|");
    for agents in [100, 10_000] {
        let sidecar = Sidecar::start();
        let mut client = Client::new(sidecar.address);
        for first in (0..agents).step_by(TEAM) {
            client.push(first..agents.min(first + TEAM), 0);
        }
        // The last day of those in the queue is read once.
        let (page, _) = client.load();
        let (mut bytes, mut requests) = (page.len(), 1);
        for path in assets(&client.get("/", "identity").0) {
            bytes += client.get(&path, "gzip").0.len();
            requests += 1;
        }
        let mut changed: Vec<f64> = (1..=LOADS)
            .map(|number| {
                client.push(number..number + 1, number);
                client.load().1
            })
            .collect();
        let mut unchanged: Vec<f64> = (0..LOADS).map(|_| client.load().1).collect();
        println!(
            "| {agents} | {:.1} kB | {:.1} kB | {requests} | {:.2} ms | {:.2} ms | {:.2} ms |",
            page.len() as f64 / 1e3,
            bytes as f64 / 1e3,
            percentile(&mut changed, 0.5),
            percentile(&mut changed, 0.99),
            percentile(&mut unchanged, 0.5),
        );
    }
}

/// The style, script and icon that a page names.
fn assets(page: &[u8]) -> Vec<String> {
    let page = String::from_utf8_lossy(page).replace("&#x2f;", "/").replace("&amp;", "&");
    let heads = ["rel=\"icon\" type=\"image/svg+xml\" href=\"", "rel=\"stylesheet\" href=\"", "type=\"module\" src=\""];
    heads.iter().map(|head| format!("/{}", page.split_once(head).unwrap().1.split('"').next().unwrap())).collect()
}

/// One connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(BufReader::new(socket))
    }

    /// The body of the answer, and how long it took in milliseconds.
    fn send(&mut self, request: &str) -> (Vec<u8>, f64) {
        let began = Instant::now();
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if let Some(given) = line.strip_prefix("content-length: ") {
                length = given.trim().parse().unwrap();
            }
            is_chunked |= line.starts_with("transfer-encoding: chunked");
            if line == "\r\n" {
                break;
            }
        }
        assert!(!is_chunked, "an answer of known length");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (body, began.elapsed().as_secs_f64() * 1_000.0)
    }

    fn get(&mut self, path: &str, coding: &str) -> (Vec<u8>, f64) {
        let head = "host: localhost\r\naccept: text/html";
        self.send(&format!("GET {path} HTTP/1.1\r\n{head}\r\naccept-encoding: {coding}\r\n\r\n"))
    }

    fn load(&mut self) -> (Vec<u8>, f64) {
        let (page, took) = self.get("/", "gzip");
        assert!(page.starts_with(&[0x1f, 0x8b]), "a compressed page");
        (page, took)
    }

    /// Pushes agents, of which one in twenty failed or waits.
    fn push(&mut self, agents: std::ops::Range<usize>, phase: usize) {
        let project = agents.start / TEAM % 20;
        let states: Vec<String> = agents
            .map(|agent| {
                let status = match agent % 40 {
                    1 => "waiting_question",
                    2 => "failed",
                    _ => "running",
                };
                format!(
                    r#"{{"name":"agent-{agent}","type":"custom","status":"{status}","task_id":"task-{agent}","phase":"p{phase}","model":"claude-opus","tokens":{{"input":{agent},"output":500}}}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"project":"team-{project}","agents":[{}]}}"#, states.join(","));
        let head = "POST /api/state HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
        let (answer, _) = self.send(&format!("{head} {}\r\n\r\n{body}", body.len()));
        assert!(answer.starts_with(b"{\"accepted\":"), "{}", String::from_utf8_lossy(&answer));
    }
}
