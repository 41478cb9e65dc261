//! The whole program compared with its lower bounds: CPU time per state, scrapes, latency of a notification, memory.
//!
//! `cargo bench --bench sidecar [-- ingest|scrape|latency|memory|spans|hooks]`. Starts the release binary with files on disk, and in
//! this process a minimal server with hyper and serde_json as the lower bound. Both have the same load generator, whose CPU
//! time is included, so the ratio is what counts. `LOOKOUT_BASELINE=/path/to/lookout` is another build, measured first in
//! the same run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise"
)]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "support/spans.rs"]
mod spans;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Connections of the load generator, which writes to all of them and then reads from all.
const CONNECTIONS: usize = 32;

/// A measurement by name.
type Measure = (&'static str, fn(&Path));

const MEASURES: [Measure; 6] = [
    ("ingest", ingest),
    ("scrape", scrape),
    ("memory", memory),
    ("latency", latency),
    ("spans", latency_beneath_spans),
    ("hooks", hooks),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let baseline = std::env::var_os("LOOKOUT_BASELINE").map(PathBuf::from);
    for (name, measure) in MEASURES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            for program in baseline.iter().map(PathBuf::as_path).chain([Path::new(env!("CARGO_BIN_EXE_lookout"))]) {
                println!("{}:\n", program.display());
                measure(program);
            }
        }
    }
}

/// CPU seconds that a process has used, all threads.
fn cpu(pid: u32) -> f64 {
    let stat = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

/// A value of `/proc/PID/status` in MiB.
fn mebibytes(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

struct Sidecar {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Sidecar {
    fn start(program: &Path, extra: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut command = Command::new(program);
        // Otherwise it would be taken for a configuration key.
        command.env_remove("LOOKOUT_BASELINE");
        command.env("LOOKOUT_LISTEN", "127.0.0.1:0").env("LOOKOUT_LOG__FORMAT", "json");
        command.env("LOOKOUT_STORE__PATH", folder.path().join("lookout.db"));
        for (name, value) in extra {
            command.env(name, value);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let address = loop {
            let line = lines.next().expect("the program starts").unwrap();
            // OTLP listeners log their address too.
            let is_main = line.contains("\"listening\"");
            if let Some((_, rest)) = line.split_once("\"address\":\"").filter(|_| is_main) {
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _folder: folder }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn state(number: usize, round: usize, changes: bool) -> String {
    let status =
        if changes && number % 10 == round % 10 && (round / 10).is_multiple_of(2) { "idle" } else { "running" };
    format!(
        r#"{{"name":"agent-{number}","type":"custom","status":"{status}","task_id":"task-{number}","phase":"implement","progress":{},"restart_count":1,"last_activity":"2026-11-21T02:00:{:02}Z","model":"claude-opus","tokens":{{"input":{},"output":{},"cache_read":100,"cache_creation":5,"reasoning":7,"cost_usd":{}}},"requests":{{"total":{},"errors":1,"rate_limited":0,"retries":0}}}}"#,
        round % 100,
        round % 60,
        1000 + round * 10,
        500 + round * 3,
        round as f64 * 0.001,
        40 + round
    )
}

fn request(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Reads one response with a Content-Length and returns whether it was 200.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the connection was closed");
        buffer.extend_from_slice(&chunk[..count]);
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
        let length: usize =
            text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        if buffer.len() >= head + 4 + length {
            return text.starts_with("http/1.1 200");
        }
    }
}

/// Sends `count` requests, cycling through `requests`, and returns the latencies of rounds over all connections.
fn load(address: SocketAddr, requests: &[Vec<u8>], count: usize) -> Vec<Duration> {
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
    let (mut buffer, mut next, mut latencies) = (Vec::new(), 0, Vec::new());
    while next < count {
        let started = Instant::now();
        for stream in &mut streams {
            stream.write_all(&requests[next % requests.len()]).unwrap();
            next += 1;
        }
        for stream in &mut streams {
            assert!(read_answer(stream, &mut buffer), "{}", String::from_utf8_lossy(&buffer));
        }
        latencies.push(started.elapsed());
    }
    latencies
}

/// A minimal server with hyper and serde_json: parses each body into borrowed fields and responds.
fn floor() -> SocketAddr {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
                        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                        let text = std::str::from_utf8(&body).unwrap();
                        let parsed: Parsed<'_> = serde_json::from_str(text).unwrap();
                        let answer = format!("{{\"accepted\":{}}}", parsed.agents.len());
                        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::new(
                            bytes::Bytes::from(answer),
                        )))
                    });
                    let io = hyper_util::rt::TokioIo::new(stream);
                    drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await);
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[derive(serde::Deserialize)]
struct Parsed<'a> {
    #[serde(borrow)]
    agents: Vec<ParsedAgent<'a>>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "parsed and not read, like the floor of any server")]
struct ParsedAgent<'a> {
    name: &'a str,
    status: Option<&'a str>,
    task_id: Option<&'a str>,
    phase: Option<&'a str>,
    model: Option<&'a str>,
    last_activity: Option<&'a str>,
    progress: Option<f64>,
    restart_count: Option<u64>,
}

/// CPU time per state in microseconds, of this process and of the sidecar if any.
fn measure(address: SocketAddr, pid: Option<u32>, requests: &[Vec<u8>], count: usize, states: usize) -> f64 {
    load(address, requests, requests.len().min(count));
    let me = std::process::id();
    let total = || cpu(me) + pid.map_or(0.0, cpu);
    let before = total();
    load(address, requests, count);
    (total() - before) * 1e6 / (count * states) as f64
}

fn ingest(program: &Path) {
    println!("| ingest | floor µs | lookout µs | ratio |\n|---|---|---|---|");
    let floor = floor();
    for agents in [100, 10_000] {
        let single: Vec<Vec<u8>> = (0..agents.min(2_000))
            .map(|number| request("/api/state", &format!("{{\"agents\":[{}]}}", state(number, number % 60, false))))
            .collect();
        let sidecar = Sidecar::start(program, &[]);
        fill(&sidecar, agents);
        let low = measure(floor, None, &single, 100_000, 1);
        let ours = measure(sidecar.address, Some(sidecar.pid()), &single, 100_000, 1);
        println!("| 1 state per POST, {agents} agents | {low:.2} | {ours:.2} | {:.2} |", ours / low);
    }
    let agents = 10_000;
    let mut batches = Vec::new();
    for round in 0..20 {
        for first in (0..agents).step_by(100) {
            let states: Vec<String> = (first..first + 100).map(|number| state(number, round, true)).collect();
            batches.push(request("/api/state", &format!("{{\"agents\":[{}]}}", states.join(","))));
        }
    }
    let sidecar = Sidecar::start(program, &[]);
    fill(&sidecar, agents);
    let low = measure(floor, None, &batches, 10_000, 100);
    let ours = measure(sidecar.address, Some(sidecar.pid()), &batches, 10_000, 100);
    println!("| 100 states per POST, {agents} agents, 1 in 10 changes | {low:.2} | {ours:.2} | {:.2} |\n", ours / low);
}

fn fill(sidecar: &Sidecar, agents: usize) {
    let batches: Vec<Vec<u8>> = (0..agents)
        .step_by(100)
        .map(|first| {
            let states: Vec<String> =
                (first..(first + 100).min(agents)).map(|number| state(number, 0, false)).collect();
            request("/api/state", &format!("{{\"agents\":[{}]}}", states.join(",")))
        })
        .collect();
    let mut stream = TcpStream::connect(sidecar.address).unwrap();
    let mut buffer = Vec::new();
    for batch in batches {
        stream.write_all(&batch).unwrap();
        assert!(read_answer(&mut stream, &mut buffer), "{}", String::from_utf8_lossy(&buffer));
    }
}

/// Median duration of a scrape over `runs` in milliseconds, with a change before each so that nothing is cached; and its size.
fn scrape_time(sidecar: &Sidecar, headers: &str, runs: usize) -> (f64, usize) {
    let change = request("/api/state", &format!("{{\"agents\":[{}]}}", state(0, 1, false)));
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..runs {
        let mut stream = TcpStream::connect(sidecar.address).unwrap();
        stream.write_all(&change).unwrap();
        assert!(read_answer(&mut stream, &mut Vec::new()));
        let started = Instant::now();
        size = get(sidecar.address, "/metrics", headers).len();
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], size)
}

fn scrape(program: &Path) {
    let sidecar = Sidecar::start(
        program,
        &[("LOOKOUT_BUDGETS__TOKENS_PER_DAY", "1000000"), ("LOOKOUT_BUDGETS__TOKENS_PER_TASK", "1000")],
    );
    fill(&sidecar, 10_000);
    let page = get(sidecar.address, "/metrics", "");
    let series = page.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"orchestrator_")).count();
    let per = 100_000.0 / series as f64;
    let (plain, plain_size) = scrape_time(&sidecar, "", 15);
    let (gzip, gzip_size) = scrape_time(&sidecar, "accept-encoding: gzip\r\n", 15);
    println!("| scrape, {series} series | ms | ms per 100,000 series | MB |\n|---|---|---|---|");
    println!("| plain | {plain:.1} | {:.2} | {:.1} |", plain * per, plain_size as f64 / 1e6);
    println!("| gzip | {gzip:.1} | {:.2} | {:.1} |\n", gzip * per, gzip_size as f64 / 1e6);

    let batch: Vec<Vec<u8>> = (0..1_000)
        .map(|number| request("/api/state", &format!("{{\"agents\":[{}]}}", state(number, 3, false))))
        .collect();
    let p99 = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() * 99 / 100].as_secs_f64() * 1e3
    };
    let quiet = p99(load(sidecar.address, &batch, 60_000));
    let (address, (stop, stopped)) = (sidecar.address, mpsc::channel::<()>());
    let scraper = std::thread::spawn(move || {
        let mut count = 0;
        while stopped.try_recv().is_err() {
            get(address, "/metrics", "accept-encoding: gzip\r\n");
            count += 1;
        }
        count
    });
    let busy = p99(load(sidecar.address, &batch, 60_000));
    stop.send(()).unwrap();
    let count = scraper.join().unwrap();
    println!(
        "| ingest p99 of a round of {CONNECTIONS} | ms |\n|---|---|\n| quiet | {quiet:.2} |\n| while {count} scrapes run | {busy:.2} ({:.2}×) |\n",
        busy / quiet
    );
}

fn memory(program: &Path) {
    let sidecar = Sidecar::start(program, &[]);
    std::thread::sleep(Duration::from_secs(2));
    let idle = mebibytes(sidecar.pid(), "VmRSS");
    fill(&sidecar, 10_000);
    for round in 0..10 {
        for first in (0..10_000).step_by(1_000) {
            let states: Vec<String> = (first..first + 1_000).map(|number| state(number, round, true)).collect();
            let body = request("/api/state", &format!("{{\"agents\":[{}]}}", states.join(",")));
            let mut stream = TcpStream::connect(sidecar.address).unwrap();
            stream.write_all(&body).unwrap();
            assert!(read_answer(&mut stream, &mut Vec::new()));
        }
        get(sidecar.address, "/metrics", "accept-encoding: gzip\r\n");
    }
    let binary = std::fs::metadata(program).unwrap().len() as f64 / 1e6;
    println!("| memory | MB |\n|---|---|\n| idle | {idle:.1} |");
    println!(
        "| peak, 10,000 agents, gzip scrapes | {:.1} |\n| binary | {binary:.1} |\n",
        mebibytes(sidecar.pid(), "VmHWM")
    );
}

/// A receiver of Slack messages: its URL, and when the first byte of each arrived.
fn slack() -> (String, mpsc::Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, arrivals) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                let mut chunk = [0; 65_536];
                loop {
                    let Ok(count) = stream.read(&mut chunk) else { return };
                    if count == 0 {
                        return;
                    }
                    let at = Instant::now();
                    let mut buffer = chunk[..count].to_vec();
                    loop {
                        let head = buffer.windows(4).position(|window| window == b"\r\n\r\n");
                        let whole = head.is_some_and(|head| {
                            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
                            let length: usize = text
                                .split("content-length: ")
                                .nth(1)
                                .unwrap()
                                .split("\r\n")
                                .next()
                                .unwrap()
                                .parse()
                                .unwrap();
                            buffer.len() >= head + 4 + length
                        });
                        if whole {
                            break;
                        }
                        let count = stream.read(&mut chunk).unwrap();
                        buffer.extend_from_slice(&chunk[..count]);
                    }
                    sender.send(at).unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
                }
            });
        }
    });
    (url, arrivals)
}

/// Times from the last byte of a change to the first byte of the request to Slack, in milliseconds.
fn alert_times(sidecar: &Sidecar, arrivals: &mpsc::Receiver<Instant>, count: usize) -> Vec<f64> {
    let mut stream = TcpStream::connect(sidecar.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut times, mut buffer) = (Vec::new(), Vec::new());
    // With this many agents the failing ones are not an incident, which would be grouped.
    let well: Vec<String> = (0..1_000).map(|number| format!(r#"{{"name":"w{number}","status":"running"}}"#)).collect();
    let body = format!(r#"{{"project":"well","agents":[{}]}}"#, well.join(","));
    stream.write_all(&request("/api/state", &body)).unwrap();
    assert!(read_answer(&mut stream, &mut buffer));
    for number in 0..count {
        let body = format!(r#"{{"project":"p{number}","agents":[{{"name":"a","status":"failed"}}]}}"#);
        let request = request("/api/state", &body);
        stream.write_all(&request).unwrap();
        let sent = Instant::now();
        assert!(read_answer(&mut stream, &mut buffer));
        let arrived: Instant = arrivals.recv_timeout(Duration::from_secs(5)).expect("an alert");
        times.push(arrived.saturating_duration_since(sent).as_secs_f64() * 1e3);
        // Notifications within a second of each other would be grouped.
        std::thread::sleep(Duration::from_millis(1_050));
    }
    times
}

/// Time from the last byte of a change to the first byte of the request to Slack, including the sync of the outbox.
fn latency(program: &Path) {
    let (url, arrivals) = slack();
    let sidecar = Sidecar::start(program, &[("SLACK_WEBHOOK_URL", &url)]);
    let mut times = alert_times(&sidecar, &arrivals, 100);
    let first = times[0];
    times.sort_by(f64::total_cmp);
    println!("| change in → Slack request out | ms |\n|---|---|");
    println!("| median | {:.2} |\n| p99 | {:.2} |", times[times.len() / 2], times[times.len() * 99 / 100 - 1]);
    println!("| the first after a start | {first:.2} |\n| slowest | {:.2} |\n", times[times.len() - 1]);
}

/// The same while spans come as fast as they are taken, and the memory meanwhile.
fn latency_beneath_spans(program: &Path) {
    println!("| change in → Slack request out | median ms | slowest of 40, ms | peak MB |\n|---|---|---|---|");
    let now = u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap();
    let bodies = spans::batches(&mut fastrand::Rng::with_seed(3), 100_000, |_| now);
    for senders in [0, 2] {
        let (url, arrivals) = slack();
        let otlp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let variables = [("SLACK_WEBHOOK_URL", url.as_str()), ("LOOKOUT_OTLP__LISTEN", &otlp.to_string())];
        let sidecar = Sidecar::start(program, &variables);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (times, sent) = std::thread::scope(|scope| {
            let sending: Vec<_> = (0..senders)
                .map(|number| {
                    scope.spawn({
                        let (bodies, stop) = (&bodies, &stop);
                        move || send_spans(otlp, bodies, number, stop)
                    })
                })
                .collect();
            let started = Instant::now();
            let times = alert_times(&sidecar, &arrivals, 40);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            let sent: usize = sending.into_iter().map(|thread| thread.join().unwrap()).sum();
            (times, sent as f64 / started.elapsed().as_secs_f64())
        });
        let mut sorted = times;
        sorted.sort_by(f64::total_cmp);
        let what = if senders == 0 { "without spans".to_owned() } else { format!("{sent:.0} spans a second") };
        let (median, slowest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        println!("| {what} | {median:.2} | {slowest:.2} | {:.1} |", mebibytes(sidecar.pid(), "VmHWM"));
    }
    println!();
}

/// Sends exports until `stop`, each time with other trace ids; returns the number of spans that were answered with 200.
fn send_spans(address: SocketAddr, bodies: &[Vec<u8>], sender: u8, stop: &std::sync::atomic::AtomicBool) -> usize {
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: ";
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    // A span begins with its trace's id: field 1, 16 bytes; then its own: field 2, 8 bytes.
    let places = |body: &[u8]| -> Vec<usize> {
        let starts =
            body.windows(20).enumerate().filter(|(_, bytes)| bytes[..2] == [0x0a, 16] && bytes[18..] == [0x12, 8]);
        starts.map(|(place, _)| place + 2).collect()
    };
    let (mut sent, mut buffer) = (0, Vec::new());
    for round in 0_u64.. {
        for body in bodies {
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return sent;
            }
            let mut body = body.clone();
            let ids = places(&body);
            for place in &ids {
                for (byte, other) in body[place + 4..place + 12].iter_mut().zip(round.to_be_bytes()) {
                    *byte ^= other;
                }
                body[*place] ^= sender;
            }
            stream.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
            // While too much waits, exports are refused, and a sender tries again.
            if read_answer(&mut stream, &mut buffer) {
                sent += ids.len();
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    sent
}

/// Latencies of hooks posted every two milliseconds for the given time.
fn hook_latencies(address: SocketAddr, during: Duration) -> Vec<Duration> {
    let body = r#"{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Bash","cwd":"/srv/shop"}"#;
    let hook = request("/hooks/claude-code", body);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (begin, mut latencies, mut answer) = (Instant::now(), Vec::new(), [0; 1024]);
    while begin.elapsed() < during {
        let started = Instant::now();
        stream.write_all(&hook).unwrap();
        let count = stream.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer[..count]));
        latencies.push(started.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    latencies.sort();
    latencies
}

/// Hooks alone, and during consecutive pushes of 15 MB.
fn hooks(program: &Path) {
    println!("| hooks | median ms | p99 ms | worst ms | pushes |\n|---|---|---|---|---|");
    let row = |what: &str, latencies: &[Duration], pushes: usize| {
        let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize].as_secs_f64() * 1e3;
        let worst = latencies.last().unwrap().as_secs_f64() * 1e3;
        println!("| {what} | {:.2} | {:.2} | {worst:.2} | {pushes} |", at(0.5), at(0.99));
    };
    let sidecar = Sidecar::start(program, &[]);
    row("alone", &hook_latencies(sidecar.address, Duration::from_secs(3)), 0);
    let large: Vec<Vec<u8>> = [0, 1]
        .map(|round| {
            let states: Vec<String> = (0..40_000).map(|number| state(number, round * 10, true)).collect();
            request("/api/state", &format!("{{\"agents\":[{}]}}", states.join(",")))
        })
        .into();
    let mebibytes = large[0].len() as f64 / 1024.0 / 1024.0;
    let (stop, stopped) = mpsc::channel::<()>();
    let address = sidecar.address;
    let pushing = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let (mut buffer, mut pushes) = (Vec::new(), 0);
        while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
            stream.write_all(&large[pushes % 2]).unwrap();
            assert!(read_answer(&mut stream, &mut buffer), "{}", String::from_utf8_lossy(&buffer));
            pushes += 1;
        }
        pushes
    });
    let latencies = hook_latencies(address, Duration::from_secs(10));
    drop(stop);
    row(&format!("during pushes of {mebibytes:.0} MiB"), &latencies, pushing.join().unwrap());
    println!();
}
