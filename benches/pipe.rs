//! `lookout pipe` compared with `cat`: bytes per second, and the latency of a line.
//!
//! `cargo bench --bench pipe [-- WORD]`, for all streams or those whose name holds the word. This process writes a stream held in memory to either program, turn by turn, and what
//! comes out is discarded or read here. No sidecar listens, so that the cost of failed connections is included.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first surprise")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

/// Bytes per run, and bytes per run of streams in which every line is parsed.
const RUN: usize = 1 << 30;
const SHORT_RUN: usize = 1 << 26;
/// Runs per program, of which the median is taken.
const RUNS: usize = 7;
/// Number of lines for the latency.
const LINES: usize = 20_000;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("| stream | into | `cat` | `lookout pipe` | ratio |\n|---|---|---|---|---|");
    let claude = middle(&[sample("claude-code-tool.jsonl"), sample("claude-code-partial.jsonl")].concat());
    let codex = middle(&sample("codex-tool.jsonl"));
    let totals = sample("codex-tool.jsonl");
    let short = b"2026-11-21 02:00:00 worker 7 did step 12 of 99 and continues\n".to_vec();
    let counted: &[&str] = &["--format", "text", "--pattern", "tokens.total=used ([0-9]+)"];
    for (name, bytes, arguments) in [
        ("Claude Code's", &claude, &[][..]),
        ("Codex'", &codex, &[]),
        ("Codex', a total in each kilobyte: all of them are read", &totals, &[]),
        ("short lines of text", &short, &["--format", "text"]),
        ("the same, a status by a pattern", &short, &["--format", "text", "--pattern", "failed=^panic"]),
        ("the same, tokens by a pattern: each line is read", &short, counted),
        ("one line without an end", &vec![b'x'; 65_536], &[]),
    ] {
        if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        for reads in [false, true] {
            let length = if name.ends_with("read") { SHORT_RUN } else { RUN };
            let [cat, pipe] = speeds(bytes, arguments, length, reads);
            let into = if reads { "a reader" } else { "nothing" };
            println!("| {name} | {into} | {cat:.2} GB/s | {pipe:.2} GB/s | {:.2} |", pipe / cat);
        }
    }
    println!("\n| one line to and fro | median | p99 |\n|---|---|---|");
    for (name, mut command) in [("`cat`", cat()), ("`lookout pipe`", pipe(&[]))] {
        let (median, p99) = round_trips(&mut command);
        println!("| {name} | {median:.1} µs | {p99:.1} µs |");
    }
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/it/samples/stream/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Typical output in the middle of a run: lines without totals and rate limits.
fn middle(lines: &[u8]) -> Vec<u8> {
    let words = ["modelUsage", "api_retry", "\"turn.", "\"thread."];
    let is_middle = |line: &&[u8]| !words.iter().any(|word| String::from_utf8_lossy(line).contains(word));
    lines.split_inclusive(|byte| *byte == b'\n').filter(is_middle).collect::<Vec<_>>().concat()
}

fn cat() -> Command {
    Command::new("cat")
}

fn pipe(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lookout"));
    command.args(["pipe", "--agent", "bench", "--quiet", "--url", "http://127.0.0.1:1"]).args(arguments);
    command
}

/// GB/s of both programs, alternating.
fn speeds(bytes: &[u8], arguments: &[&str], bytes_passed: usize, reads: bool) -> [f64; 2] {
    let block = bytes.repeat((8 << 20) / bytes.len() + 1);
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (command, speeds) in [cat(), pipe(arguments)].iter_mut().zip(&mut all) {
            speeds.push(run(command, &block, bytes_passed, reads));
        }
    }
    all.map(|mut speeds| {
        speeds.sort_by(f64::total_cmp);
        speeds[RUNS / 2]
    })
}

fn run(command: &mut Command, block: &[u8], bytes: usize, reads: bool) -> f64 {
    let output = if reads { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(Stdio::piped()).stdout(output).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let reader = child.stdout.take().map(|mut output| {
        thread::spawn(move || {
            let (mut buffer, mut passed) = (vec![0; 128 * 1024], 0);
            while let Some(length) = output.read(&mut buffer).ok().filter(|length| *length > 0) {
                passed += length;
            }
            passed
        })
    });
    // One write before the clock starts, so that the start of the program is not measured.
    input.write_all(&block[..1]).unwrap();
    let started = Instant::now();
    let mut written = 0;
    while written < bytes {
        input.write_all(block).unwrap();
        written += block.len();
    }
    drop(input);
    // All but the content of the pipe has been passed on now; waiting for the end would measure the report.
    if let Some(reader) = reader {
        assert_eq!(reader.join().unwrap(), written + 1);
    }
    let seconds = started.elapsed().as_secs_f64();
    assert!(child.wait().unwrap().success());
    written as f64 / 1e9 / seconds
}

/// Median and 99th percentile of the round trip of a line, in microseconds.
fn round_trips(command: &mut Command) -> (f64, f64) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let line = sample("codex-tool.jsonl").split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
    let mut back = vec![0; line.len()];
    let mut times: Vec<f64> = (0..LINES)
        .map(|_| {
            let started = Instant::now();
            input.write_all(&line).unwrap();
            output.read_exact(&mut back).unwrap();
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    drop(input);
    assert!(child.wait().unwrap().success());
    times.sort_by(f64::total_cmp);
    (times[LINES / 2], times[LINES * 99 / 100])
}
