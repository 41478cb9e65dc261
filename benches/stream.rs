//! Streams of events: a thousand viewers at a hundred changes a second, compared with none.
//!
//! `cargo bench --bench stream [-- SECONDS] [page]`, with `page` in the form for the page. Starts the release binary; the load and the viewers are in this process. What
//! counts is the CPU time of the program with viewers, its memory above that without, and the ratio of the times that
//! pushes take.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise"
)]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "support/program.rs"]
mod program;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use program::{Sidecar, percentile};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const VIEWERS: usize = 1_000;
const AGENTS: usize = 1_000;
const CHANGES_PER_SECOND: u32 = 100;

/// When each change was pushed, by its number.
type Pushed = Arc<Mutex<HashMap<usize, Instant>>>;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    allow_descriptors();
    let sidecar = Sidecar::start();
    let mut pusher = Pusher::new(sidecar.address);
    for agent in 0..AGENTS {
        pusher.push(agent);
    }
    let idle = sidecar.memory();
    let without = pusher.run(&sidecar, seconds);
    let seen = watch(sidecar.address, &pusher.pushed);
    open_viewers(sidecar.address);
    let opened = sidecar.memory();
    let with = pusher.run(&sidecar, seconds);
    println!("{:>24} {:>12} {:>12}", "", "no viewers", "viewers");
    for (name, one, other) in [
        ("CPU, cores", without.cores, with.cores),
        ("push, median, ms", without.median, with.median),
        ("push, p99, ms", without.p99, with.p99),
    ] {
        println!("{name:>24} {one:>12.3} {other:>12.3}");
    }
    println!("p99 with viewers: {:.2} times that without (at most 2)", with.p99 / without.p99);
    println!(
        "CPU with {VIEWERS} viewers at {CHANGES_PER_SECOND} changes a second: {:.2} cores (at most 0.5)",
        with.cores
    );
    println!(
        "memory: {idle:.1} MiB idle, {:.1} with viewers, {:.1} at the end: {:.1} above idle (at most 60)",
        opened,
        sidecar.memory(),
        sidecar.memory() - idle
    );
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    println!(
        "pushed to received: median {:.1} ms, p99 {:.1} ms of {}",
        percentile(&mut seen, 0.5),
        percentile(&mut seen, 0.99),
        seen.len()
    );
}

fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

struct Figures {
    cores: f64,
    median: f64,
    p99: f64,
}

/// Pushes one agent at a time on one connection.
struct Pusher {
    socket: BufReader<TcpStream>,
    number: usize,
    pushed: Pushed,
}

impl Pusher {
    fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket: BufReader::new(socket), number: 0, pushed: Pushed::default() }
    }

    /// Pushes a change of an agent; returns how long that took, in milliseconds.
    fn push(&mut self, agent: usize) -> f64 {
        self.number += 1;
        let number = self.number;
        let body = format!(
            r#"{{"project":"shop","agents":[{{"name":"agent-{agent}","type":"custom","status":"running","task_id":"task-{agent}","phase":"p{number}","model":"claude-opus","tokens":{{"input":{number},"output":500,"cost_usd":0.5}},"requests":{{"total":{number}}}}}]}}"#
        );
        let head = "POST /api/state HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        let began = Instant::now();
        self.pushed.lock().unwrap().insert(number, began);
        self.socket.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.socket.read_line(&mut line).unwrap();
            if let Some(given) = line.strip_prefix("content-length: ") {
                length = given.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.socket.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"{\"accepted\":1"), "{}", String::from_utf8_lossy(&answer));
        began.elapsed().as_secs_f64() * 1_000.0
    }

    fn run(&mut self, sidecar: &Sidecar, seconds: u32) -> Figures {
        let (began, cpu) = (Instant::now(), sidecar.cpu());
        let mut took = Vec::new();
        for change in 0..seconds * CHANGES_PER_SECOND {
            let due = began + Duration::from_secs(1) * change / CHANGES_PER_SECOND;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            took.push(self.push(change as usize % AGENTS));
        }
        let cores = (sidecar.cpu() - cpu) / began.elapsed().as_secs_f64();
        Figures { cores, median: percentile(&mut took, 0.5), p99: percentile(&mut took, 0.99) }
    }
}

fn stream() -> String {
    let query = if std::env::args().any(|argument| argument == "page") { "?as=page" } else { "" };
    format!("GET /api/monitoring/stream{query} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// Opens a stream that measures how long after its push each change is received, in milliseconds.
fn watch(address: SocketAddr, pushed: &Pushed) -> Arc<Mutex<Vec<f64>>> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(stream().as_bytes()).unwrap();
    let (seen, pushed) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(pushed));
    let times = Arc::clone(&seen);
    std::thread::spawn(move || {
        for line in BufReader::new(socket).lines().map_while(Result::ok) {
            let phase = line.split_once("\"phase\":\"p").or_else(|| line.split_once(" · p"));
            let phase = phase.and_then(|(_, rest)| rest.split(['"', ',']).next()?.parse().ok());
            if let Some(began) = phase.and_then(|number: usize| pushed.lock().unwrap().get(&number).copied()) {
                times.lock().unwrap().push(began.elapsed().as_secs_f64() * 1_000.0);
            }
        }
    });
    seen
}

/// Opens the other streams, which read as fast as they can for as long as this process lives.
fn open_viewers(address: SocketAddr) {
    let (opened, all) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut viewers = tokio::task::JoinSet::new();
            for _ in 1..VIEWERS {
                let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
                socket.write_all(stream().as_bytes()).await.unwrap();
                let mut buffer = vec![0; 16 * 1024];
                assert!(socket.read(&mut buffer).await.unwrap() > 0);
                viewers.spawn(async move { while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {} });
            }
            opened.send(()).unwrap();
            while viewers.join_next().await.is_some() {}
        });
    });
    all.recv().unwrap();
}
