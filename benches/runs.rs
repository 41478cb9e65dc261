//! Runs and their spans, from OTLP bytes to disk and back.
//!
//! `cargo bench --bench runs [-- ingest|size|queries]`. The floor of `ingest` is what cannot be avoided: prost's decoding,
//! and one raw row per span, of the bytes that arrived, in transactions of the same size. CPU time is that of the whole
//! process. `queries` fills a file with 1 million spans, or as many as `LOOKOUT_BENCH_SPANS` says. With
//! `LOOKOUT_BENCH_ROTEL=/path/to/rotel-agent`, `ingest` also measures that program, which receives and drops the spans,
//! next to lookout as a whole program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise"
)]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

#[path = "support/spans.rs"]
mod spans;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lookout::clock::Clock;
use lookout::engine::live::LiveFeed;
use lookout::engine::runs::{RunsError, RunsHandle, RunsSettings, start};
use lookout::export::ExportHandle;
use lookout::model::{StatGroup, TraceId};
use lookout::otlp::config::OtlpConfig;
use lookout::otlp::wire::{ExportTraceServiceRequest, Span};
use lookout::otlp::{Encoding, OtlpRequest, Signal, decode};
use lookout::runs::config::RunsConfig;
use lookout::runs::view;
use lookout::store::traces::{RunFilter, StatsQuery, TraceLimits, TraceStore};
use prost::Message as _;
use spans::{AGENTS, RUN, RUNS_PER_EXPORT, batches, export, run};

/// Spans of a measurement of the whole way.
const SPANS: usize = 300_000;
/// Exports that are under way at a time.
const UNDER_WAY: usize = 8;

type Measure = (&'static str, fn());

fn main() {
    let measures: [Measure; 3] = [("ingest", ingest), ("size", size), ("queries", queries)];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, measure) in measures {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}

/// CPU seconds of a process, all threads.
fn cpu(pid: u32) -> f64 {
    let stat = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64
}

fn own_cpu() -> f64 {
    cpu(std::process::id())
}

fn now_nanos() -> u64 {
    Clock::system().wall().as_millis().unsigned_abs() * 1_000_000
}

/// Bodies as agents' own SDKs send them: each run by itself, five spans at a time, the root last.
fn small_exports(random: &mut fastrand::Rng, runs: usize, began: u64) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let at_work: Vec<(usize, Vec<Span>)> = (0..runs)
        .map(|index| {
            let (_, mut spans) = run(random, began);
            spans.rotate_left(1);
            (index % AGENTS, spans)
        })
        .collect();
    for first in (0..RUN).step_by(5) {
        for (agent, spans) in &at_work {
            bodies.push(export(vec![(*agent, spans[first..first + 5].to_vec())]));
        }
    }
    bodies
}

fn started(path: &Path) -> RunsHandle {
    let config = RunsConfig { max_size: 100 << 30, ..RunsConfig::default() };
    let settings = RunsSettings::new(&config, &OtlpConfig::default());
    let clock = Clock::system();
    let store = TraceStore::open(Some(path), settings.limits, clock.wall()).unwrap();
    start(store, &settings, ExportHandle::default(), clock, None, LiveFeed::default(), ()).unwrap()
}

fn decoded(body: &[u8]) -> ExportTraceServiceRequest {
    let request = decode(Signal::Traces, Encoding::Protobuf, false, body, 1 << 30).unwrap();
    let OtlpRequest::Traces(request) = request else { panic!("traces") };
    request
}

/// Sends the bodies, a few under way at a time, and waits until all are committed.
fn send<B: AsRef<[u8]>>(handle: &RunsHandle, bodies: impl IntoIterator<Item = B>) {
    let mut under_way: VecDeque<tokio::sync::oneshot::Receiver<Result<(), RunsError>>> = VecDeque::new();
    for body in bodies {
        if under_way.len() >= UNDER_WAY {
            under_way.pop_front().unwrap().blocking_recv().unwrap().unwrap();
        }
        under_way.push_back(handle.export(decoded(body.as_ref())).unwrap());
    }
    for last in under_way {
        last.blocking_recv().unwrap().unwrap();
    }
}

fn close(handle: &RunsHandle) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(handle.close());
}

/// One raw row per span, of its own bytes, in transactions of the same size as lookout's.
fn raw_rows(path: &Path, bodies: &[Vec<u8>]) -> u64 {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             CREATE TABLE spans(trace BLOB, id BLOB, span BLOB); CREATE INDEX by_trace ON spans(trace);",
        )
        .unwrap();
    for group in bodies.chunks(UNDER_WAY) {
        let transaction = connection.transaction().unwrap();
        for body in group {
            let request = ExportTraceServiceRequest::decode(&**body).unwrap();
            let mut insert = transaction.prepare_cached("INSERT INTO spans VALUES(?1, ?2, ?3)").unwrap();
            for span in
                request.resource_spans.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans)
            {
                insert.execute((&span.trace_id, &span.span_id, span.encode_to_vec())).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    std::fs::metadata(path).unwrap().len()
}

fn ingest() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let began = now_nanos() - 600_000_000_000;
    let bodies = batches(&mut random, SPANS, |_| began);
    println!(
        "| {SPANS} spans of 12 attributes, {RUN} to a run, 500 to an export | CPU µs per span | spans per CPU second |\n|---|---|---|"
    );
    let row = |what: &str, seconds: f64| {
        println!("| {what} | {:.2} | {:.0} |", seconds * 1e6 / SPANS as f64, SPANS as f64 / seconds);
        seconds
    };
    let before = own_cpu();
    for body in &bodies {
        std::hint::black_box(ExportTraceServiceRequest::decode(&**body).unwrap());
    }
    row("prost's decoding alone", own_cpu() - before);
    let before = own_cpu();
    let raw_bytes = raw_rows(&folder.path().join("raw.db"), &bodies);
    let floor = row("floor: that, and raw rows", own_cpu() - before);
    let path = folder.path().join("runs.db");
    let handle = started(&path);
    let (before, watch) = (own_cpu(), Instant::now());
    send(&handle, &bodies);
    let (took, seconds) = (watch.elapsed(), own_cpu() - before);
    row("lookout, from bytes to disk", seconds);
    close(&handle);
    let bytes = std::fs::metadata(&path).unwrap().len();
    println!(
        "\n{:.2} × the floor; {:.0} spans a second by the clock; {:.0} bytes a span (raw rows: {:.0})\n",
        seconds / floor,
        SPANS as f64 / took.as_secs_f64(),
        bytes as f64 / SPANS as f64,
        raw_bytes as f64 / SPANS as f64
    );
    programs(&bodies);
}

/// Whole programs that receive the same bodies over HTTP.
fn programs(bodies: &[Vec<u8>]) {
    let requests: Vec<Vec<u8>> = bodies.iter().map(|body| post(body)).collect();
    println!("| the same by OTLP/HTTP, the sender's own time taken off | CPU µs per span |\n|---|---|");
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sink.local_addr().unwrap();
    std::thread::spawn(move || {
        sink.incoming().for_each(|stream| drop(std::thread::spawn(move || answer(stream.unwrap()))))
    });
    let before = own_cpu();
    exchange(address, &requests[..requests.len() / 4]);
    // The sink reads and answers in this process, which costs about what sending does.
    let sending = (own_cpu() - before) * 4.0;
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let row = |what: &str, child: &Child, address: SocketAddr| {
        exchange(address, &requests[..requests.len() / 10]);
        let before = cpu(child.id());
        exchange(address, &requests);
        println!("| {what} | {:.2} |", (cpu(child.id()) - before) * 1e6 / SPANS as f64);
    };
    println!("| (sender and sink alone) | {:.2} |", sending * 1e6 / SPANS as f64);
    let address = free_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookout"));
    command.env("LOOKOUT_LISTEN", "127.0.0.1:0").env("LOOKOUT_OTLP__LISTEN", address.to_string());
    command.env("LOOKOUT_STORE__PATH", folder.path().join("lookout.db"));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    row("lookout, on disk", &child, reached(address));
    child.kill().unwrap();
    child.wait().unwrap();
    if let Some(rotel) = std::env::var_os("LOOKOUT_BENCH_ROTEL") {
        let (address, grpc) = (free_address(), free_address());
        let mut command = Command::new(rotel);
        command.args(["start", "--exporter", "blackhole", "--otlp-http-endpoint", &address.to_string()]);
        command.args(["--otlp-grpc-endpoint", &grpc.to_string()]);
        command.args(["--pid-file".as_ref(), folder.path().join("rotel.pid").as_os_str()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        row("rotel, received and dropped", &child, reached(address));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!();
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Waits until something listens there.
fn reached(address: SocketAddr) -> SocketAddr {
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
    address
}

fn post(body: &[u8]) -> Vec<u8> {
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: ";
    let mut request = format!("{head}{}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    request
}

/// Sends the requests on eight connections, each waiting for its answers.
fn exchange(address: SocketAddr, requests: &[Vec<u8>]) {
    std::thread::scope(|scope| {
        for part in requests.chunks(requests.len().div_ceil(UNDER_WAY)) {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                for request in part {
                    stream.write_all(request).unwrap();
                    let head = read_message(&mut stream).expect("an answer");
                    assert!(head.starts_with("http/1.1 200"), "{head}");
                }
            });
        }
    });
}

/// Reads a message with a content-length; returns its head in lower case.
fn read_message(stream: &mut TcpStream) -> Option<String> {
    let (mut buffer, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        buffer.extend_from_slice(&chunk[..count]);
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut missing =
            (end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap())).saturating_sub(buffer.len());
        while missing > 0 {
            let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
            missing = missing.saturating_sub(count);
        }
        return Some(head);
    }
}

fn answer(mut stream: TcpStream) {
    while read_message(&mut stream).is_some() {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

/// Bytes on disk of a realistic mix: half of the spans in batches of a collector, half as agents send them.
fn size() {
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    println!("| bytes a span | as they arrived | at rest | raw rows |\n|---|---|---|---|");
    let mut random = fastrand::Rng::with_seed(11);
    let began = now_nanos() - 600_000_000_000;
    let spans = 100_000;
    let large = batches(&mut random, spans, |_| began);
    let small = small_exports(&mut random, spans / RUN, began);
    let half = small_exports(&mut random, spans / RUN / 2, began);
    let mix: Vec<Vec<u8>> = large.iter().take(large.len() / 2).chain(&half).cloned().collect();
    for (name, bodies) in [("500 to an export", large), ("5 to an export", small), ("half and half", mix)] {
        let path = folder.path().join(format!("{name}.db"));
        let handle = started(&path);
        send(&handle, &bodies);
        close(&handle);
        let arrived = used(&path);
        let limits = TraceLimits { retention: Duration::MAX, max_size: u64::MAX };
        // The thread that had it open may just be ending.
        let mut attempts = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TraceStore::open(Some(&path), limits, Clock::system().wall())
        });
        let mut store = attempts.find_map(Result::ok).expect("a file that can be opened");
        store.seal(&traces(&bodies)).unwrap();
        drop(store);
        let raw = raw_rows(&folder.path().join(format!("{name}.raw")), &bodies);
        let [arrived, rested, raw] = [arrived, used(&path), raw].map(|bytes| bytes as f64 / spans as f64);
        println!("| {name} | {arrived:.0} | {rested:.0} | {raw:.0} |");
    }
    println!();
}

/// Bytes of a database, without pages that are free to be used again.
fn used(path: &Path) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap();
    let pages = number("PRAGMA page_count") - number("PRAGMA freelist_count");
    (pages * number("PRAGMA page_size")).cast_unsigned()
}

/// The traces of the spans of these bodies.
fn traces(bodies: &[Vec<u8>]) -> Vec<TraceId> {
    let requests = bodies.iter().map(|body| decoded(body));
    let ids = requests.flat_map(|request| {
        let resources = request.resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        spans.filter_map(|span| TraceId::from_slice(&span.trace_id)).collect::<Vec<_>>()
    });
    ids.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The 99th percentile of the time that `work` takes, in milliseconds.
fn p99(times: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut took: Vec<f64> = (0..times)
        .map(|number| {
            let watch = Instant::now();
            work(number);
            watch.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[times * 99 / 100]
}

fn queries() {
    let spans: usize = std::env::var("LOOKOUT_BENCH_SPANS").map_or(1_000_000, |spans| spans.parse().unwrap());
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = folder.path().join("runs.db");
    let handle = started(&path);
    let mut random = fastrand::Rng::with_seed(5);
    let runs = spans / RUN;
    // Spread over the last thirty days but the last hour, so that everything has ended.
    let (end, month) = (now_nanos() - 3_600_000_000_000, 29 * 24 * 3_600_000_000_000_u64);
    let began = |index: usize| end - month + (month as f64 * index as f64 / runs as f64) as u64;
    let mut ids: Vec<TraceId> = Vec::new();
    for first in (0..runs).step_by(RUNS_PER_EXPORT) {
        let batch: Vec<(usize, Vec<Span>)> = (first..first + RUNS_PER_EXPORT)
            .map(|index| {
                let (id, spans) = run(&mut random, began(index));
                ids.extend(TraceId::from_slice(&id).filter(|_| index % 97 == 0));
                (index % AGENTS, spans)
            })
            .collect();
        send(&handle, [export(batch)]);
    }
    close(&handle);
    let clock = Clock::system();
    let filter = |pairs: &[(&str, &str)]| {
        let query: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        RunFilter::new(query, clock.wall()).unwrap()
    };
    let bytes = std::fs::metadata(&path).unwrap().len() as f64;
    println!("| {spans} spans stored, {:.0} bytes each | p99 ms |\n|---|---|", bytes / spans as f64);
    let readers = handle.readers();
    let took = p99(1_000, |number| {
        let id = ids[number * 7_919 % ids.len()];
        let stored = readers.with(|reader| reader.run(id)).unwrap();
        let shown = view::run_with_spans(id, &stored.runs, &stored.spans).unwrap().to_string();
        assert!(shown.len() > 10_000, "{shown}");
    });
    println!("| a trace of {RUN} spans by id | {took:.2} |");
    let agent = |number: usize| format!("default/clerk-{}", number % AGENTS);
    let lists: [(&str, &[(&str, &str)]); 4] = [
        ("the newest 50 runs of an agent", &[]),
        ("the same, failed", &[("status", "error")]),
        ("the same, by model and tool", &[("model", "gpt-4o-mini"), ("tool", "WebFetch")]),
        ("the same, by a name that none has", &[("q", "nothing has this name")]),
    ];
    for (what, pairs) in lists {
        let took = p99(200, |number| {
            let agent = agent(number);
            let mut all = vec![("agent", agent.as_str())];
            all.extend(pairs);
            let (runs, _) = readers.with(|reader| reader.runs(&filter(&all))).unwrap();
            std::hint::black_box(runs.iter().map(|run| view::run(run).to_string().len()).sum::<usize>());
        });
        println!("| {what} | {took:.2} |");
    }
    let end = StatsQuery::new(BTreeMap::new(), clock.wall()).unwrap().hours.end;
    for (what, hours) in [("statistics of an agent, 24 h by hour", 24), ("the same, 30 days", 720)] {
        let took = p99(200, |number| {
            let agents = [("default".to_owned(), format!("clerk-{}", number % AGENTS))];
            let range = end - hours..end;
            let rows = readers.with(|reader| reader.stats(&agents, range.clone(), StatGroup::Total)).unwrap();
            std::hint::black_box(view::stats(&agents, &rows, &[], &range, StatGroup::Total, Some(1)).to_string());
        });
        println!("| {what} | {took:.2} |");
    }
    println!();
}
