//! `lookout pipe`: output passes through unchanged whatever the state of the sidecar, and a working sidecar gets the agent's
//! state.

mod bad_sidecars;
mod claude_code;
mod runs;
mod signals;

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use lookout::model::Time;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::program::{Lookout, Setup, eventually};
use crate::{Case, counterparts, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    let mut trials = vec![
        trial(
            "pipe: recorded runs pass through unchanged and are reported, run after run",
            &[],
            recorded_runs_are_known,
        ),
        trial("pipe: a resumed run continues its totals", &[], a_resumed_run_goes_on),
        trial("pipe: interactive output is not delayed", &[], an_interactive_stream_is_not_held_back),
        trial("pipe: any bytes in any chunks pass through unchanged", &[], any_bytes_come_out),
        trial("pipe: a gigabyte without a newline needs no more memory than a line", &[], a_gigabyte_passes),
        trial("pipe: no token is lost when parsing falls behind", &[], reading_behind_misses_no_token),
        trial(
            "pipe: an absent, hanging or rejecting sidecar changes neither output nor exit code",
            &[],
            bad_sidecars::a_bad_sidecar_changes_nothing,
        ),
        trial(
            "pipe: a sidecar that starts late gets the latest state, with counts from zero",
            &[],
            bad_sidecars::a_late_sidecar_gets_the_report,
        ),
        trial("pipe: a restarted sidecar is found again", &[], bad_sidecars::a_dying_sidecar_is_done_without),
        trial("pipe: a reader that closes the output ends pipe and agent", &[], a_reader_that_goes_ends_it),
        trial(
            "pipe: patterns come from the configuration, and an invalid one is only a warning",
            &[],
            patterns_are_configured,
        ),
        trial(
            "pipe: the end of the output is parsed although parsing is behind",
            &[],
            the_last_words_of_a_flood_are_read,
        ),
        trial("pipe: a rate-limited request limits the agent until one succeeds", &[], a_refusal_limits),
        trial("pipe: a run ended by a rate limit is rate-limited, not down", &[], a_limit_ends_a_run),
        trial("pipe: JSON is parsed in any layout", &[], any_layout_is_understood),
        trial("pipe: an outdated report is rejected", &[], a_late_report_is_refused),
    ];
    trials.extend(signals::trials());
    trials.extend(claude_code::trials());
    trials.extend(runs::trials());
    trials
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(tidy::root().join("tests/it/samples/stream").join(name)).expect(name)
}

/// `lookout pipe` while it runs.
struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Pipe {
    fn start(setup: &Setup, url: &str, arguments: &[&str]) -> Self {
        let all = [&["pipe", "--url", url], arguments].concat();
        let mut command = setup.command(&all);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lookout");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        Self { child, input, output: BufReader::new(output) }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().expect("its input").write_all(bytes).expect("to be read");
    }

    /// The next bytes that come out, as many as `expected` has.
    fn expect(&mut self, expected: &[u8]) {
        let mut bytes = vec![0; expected.len()];
        self.output.read_exact(&mut bytes).expect("its output");
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
    }

    /// Closes its input and returns the rest of its output, its standard error and its exit status.
    fn end(mut self) -> (Vec<u8>, String, ExitStatus) {
        drop(self.input.take());
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).expect("its output");
        let mut stderr = String::new();
        self.child.stderr.take().expect("its words").read_to_string(&mut stderr).expect("text");
        (rest, stderr, self.child.wait().expect("its end"))
    }

    fn signal(&self, name: &str) {
        counterparts::run(Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.child.id())]));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Passes `bytes` through, all of which must come out.
fn pass(setup: &Setup, url: &str, arguments: &[&str], bytes: &[u8]) -> (String, ExitStatus) {
    let mut pipe = Pipe::start(setup, url, arguments);
    let mut input = pipe.input.take().expect("its input");
    let copy = bytes.to_vec();
    let writer = thread::spawn(move || input.write_all(&copy));
    let (out, stderr, status) = pipe.end();
    writer.join().unwrap().expect("all is read");
    assert!(out == bytes, "{} bytes went in, {} came out", bytes.len(), out.len());
    (stderr, status)
}

/// An address without a listener.
fn unused_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn agent(lookout: &Lookout, name: &str) -> Option<Value> {
    let status = lookout.get("/api/status").json();
    let all = status["projects"].as_array()?.iter().flat_map(|project| project["agents"].as_array().unwrap().clone());
    all.into_iter().find(|agent| agent["name"] == name)
}

/// Waits until the agent `name` has ended with an unknown result.
fn ended(lookout: &Lookout, name: &str) {
    eventually(&format!("the end of {name}"), || {
        let agent = agent(lookout, name)?;
        let reason = agent["reason"].as_str() == Some("ended with an unknown result");
        (reason && agent["status"].is_null() && agent["up"] == false && agent["expected"] == false).then_some(())
    });
}

/// The agent `name`, as soon as it is in that status for that reason.
fn seen(lookout: &Lookout, name: &str, status: &str, reason: Option<&str>) -> Value {
    eventually(&format!("{name} {status} {reason:?}"), || {
        agent(lookout, name).filter(|agent| agent["status"] == status && agent["reason"].as_str() == reason)
    })
}

/// The value of a series of an agent.
fn value(lookout: &Lookout, family: &str, name: &str, label: &str) -> Option<f64> {
    let page = lookout.get("/metrics");
    let start = format!("orchestrator_agent_{family}{{project=\"default\",agent_name=\"{name}\"{label}}} ");
    page.text().lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

fn tokens(lookout: &Lookout, name: &str) -> [f64; 5] {
    ["input", "output", "cache_read", "cache_creation", "reasoning"]
        .map(|kind| value(lookout, "tokens_total", name, &format!(",token_type=\"{kind}\"")).unwrap_or_default())
}

fn recorded_runs_are_known() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // The usage of the model server, for each run.
    for (file, status, used, cost) in [
        ("claude-code-tool.jsonl", "completed", [3748.0, 114.0, 40_960.0, 624.0, 0.0], 0.028_584),
        ("claude-code-subagents.jsonl", "completed", [20_614.0, 627.0, 225_280.0, 3432.0, 0.0], 0.252_835),
        ("codex-tool.jsonl", "completed", [2268.0, 96.0, 8192.0, 0.0, 32.0], 0.0),
        ("codex-429-hard.jsonl", "failed", [0.0; 5], 0.0),
        ("claude-code-429-hard.jsonl", "failed", [0.0; 5], 0.0),
    ] {
        let name = file.trim_end_matches(".jsonl");
        for run in 1..=3 {
            let (stderr, ended) = pass(&setup, &lookout.url(), &["--agent", name], &sample(file));
            assert!(ended.success() && stderr.is_empty(), "{name}: {stderr}");
            // The last report came before the exit.
            let agent = agent(&lookout, name).expect("an agent");
            assert_eq!(agent["status"], status, "{name}");
            let runs = f64::from(run);
            assert_eq!(tokens(&lookout, name), used.map(|count| count * runs), "{name}, run {run}");
            let spent = value(&lookout, "cost_usd_total", name, "").unwrap_or_default();
            assert!((spent - cost * runs).abs() < 1e-9, "{name}, run {run}: {spent}");
            let ended = value(&lookout, "tasks_total", name, &format!(",outcome=\"{status}\""));
            assert_eq!(ended, Some(runs), "{name}, run {run}");
        }
    }
    assert_eq!(value(&lookout, "rate_limit_hits_total", "claude-code-429-hard", ""), Some(6.0));
    assert_eq!(value(&lookout, "retries_total", "claude-code-429-hard", ""), Some(3.0));
    assert_eq!(agent(&lookout, "codex-429-hard").unwrap()["reason"], "429, rate limit");
    assert_eq!(agent(&lookout, "codex-tool").unwrap()["type"], "codex");
    // No text of the conversation is exposed.
    let all = [lookout.get("/metrics").text(), lookout.get("/api/status").text(), &lookout.log()].concat();
    for word in ["apples", "stock", "echo", "account", "/srv/dev", "req_"] {
        assert!(!all.contains(word), "`{word}` got out");
    }
}

fn a_resumed_run_goes_on() {
    let setup = Setup::new("");
    let lookout = setup.start();
    pass(&setup, &lookout.url(), &["--agent", "c"], &sample("codex-tool.jsonl"));
    pass(&setup, &lookout.url(), &["--agent", "c", "--resumed"], &sample("codex-resumed.jsonl"));
    // The resumed run prints 15690 input tokens, 10460 of which are those of the run before.
    assert_eq!(tokens(&lookout, "c"), [3402.0, 144.0, 12_288.0, 0.0, 48.0]);
}

fn an_interactive_stream_is_not_held_back() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let sample = sample("claude-code-permission.jsonl");
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "claude", "--project", "shop", "--task", "t-1"]);
    seen(&lookout, "claude", "starting", None);
    let mut waited = false;
    for line in sample.split_inclusive(|byte| *byte == b'\n') {
        // In two writes, since a piece of a line must not wait for its end.
        let (start, end) = line.split_at(line.len() / 2);
        pipe.write(start);
        pipe.expect(start);
        pipe.write(end);
        pipe.expect(end);
        if line.starts_with(b"{\"type\":\"control_request\"") {
            let agent = seen(&lookout, "claude", "waiting_question", Some("permission to run Bash"));
            assert_eq!(agent["task_id"], "t-1");
            waited = true;
        }
    }
    assert!(waited);
    assert!(pipe.end().2.success());
    seen(&lookout, "claude", "completed", None);

    // A question in a terminal ends without a newline.
    let arguments = ["--agent", "any", "--format", "text", "--pattern", r"waiting_question=(Go on)\? \[y/N\]"];
    let mut pipe = Pipe::start(&setup, &lookout.url(), &arguments);
    pipe.write(b"working\nGo on? [y/N] ");
    pipe.expect(b"working\nGo on? [y/N] ");
    seen(&lookout, "any", "waiting_question", Some("Go on"));
    pipe.write(b"y\nworking\n");
    seen(&lookout, "any", "running", None);
    pipe.expect(b"y\nworking\n");
    assert!(pipe.end().2.success());
    ended(&lookout, "any");
}

fn a_limit_ends_a_run() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let codex = |words: &str| {
        format!(
            "{{\"type\":\"thread.started\",\"thread_id\":\"t\"}}\n{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{words}\"}}}}\n"
        )
    };
    let claude = "You've hit your weekly limit · resets 7am (Europe/Zurich)";
    let result = json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": 429, "result": claude, "session_id": "s", "total_cost_usd": 0});
    for (name, stream) in [
        ("codex", codex("You’ve hit your usage limit. Try again in 2 days 17 hours 14 minutes.")),
        ("claude", format!("{result}\n")),
        ("array", format!("[{result}]")),
        ("text", format!("{claude}\n")),
    ] {
        pass(&setup, &lookout.url(), &["--agent", name], stream.as_bytes());
        let agent = eventually(name, || agent(&lookout, name).filter(|agent| agent["status"] == "failed"));
        assert!(agent["limited"]["until"].is_string(), "{agent}");
        assert_eq!((&agent["up"], &agent["expected"]), (&json!(false), &json!(false)), "{agent}");
    }
    pass(&setup, &lookout.url(), &["--agent", "broken"], codex("it broke").as_bytes());
    seen(&lookout, "broken", "failed", Some("an error"));
    let firing = lookout.get("/api/alerts?state=firing").json();
    let down: Vec<&Value> =
        firing["alerts"].as_array().expect("alerts").iter().filter(|alert| alert["rule"] == "AgentDown").collect();
    assert_eq!(down.iter().map(|alert| &alert["agent_name"]).collect::<Vec<_>>(), ["broken"]);
}

fn any_layout_is_understood() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let usage = json!({"input_tokens": 50, "output_tokens": 70});
    let run = |subtype: &str, answer: &str| {
        json!([
            {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "tools": []},
            {"type": "result", "subtype": subtype, "is_error": subtype != "success", "session_id": "s",
                "total_cost_usd": 0.25, "usage": usage, "result": answer},
        ])
    };
    let long = "a long answer ".repeat(100_000);
    for (place, answer) in ["x", &long].into_iter().enumerate() {
        for (subtype, status, reason) in
            [("success", "completed", None), ("error_during_execution", "failed", Some("error during execution"))]
        {
            let run = run(subtype, answer);
            for (kind, stream) in [
                ("array", run.to_string()),
                ("object", run[1].to_string()),
                ("pretty", serde_json::to_string_pretty(&run).expect("JSON")),
                ("marked", format!("\u{feff}{run}\n")),
            ] {
                let name = format!("{kind}-{place}-{status}");
                let (stderr, _) = pass(&setup, &lookout.url(), &["--agent", &name], stream.as_bytes());
                assert_eq!(stderr, "");
                seen(&lookout, &name, status, reason);
                assert_eq!(
                    (tokens(&lookout, &name)[1], value(&lookout, "cost_usd_total", &name, "")),
                    (70.0, Some(0.25))
                );
            }
        }
    }
    pass(&setup, &lookout.url(), &["--agent", "unknown"], b"{\n  \"answer\": 42\n}\n");
    ended(&lookout, "unknown");
}

fn any_bytes_come_out() {
    let setup = Setup::new("");
    let url = unused_address();
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        Just(b"\n\n\r\n\0\xff".to_vec()),
        Just(sample("claude-code-partial.jsonl")),
        Just(vec![b'x'; 200_000]),
    ];
    let strategy = proptest::collection::vec(piece, 0..8);
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let passes = |pieces: Vec<Vec<u8>>| {
        let mut pipe = Pipe::start(&setup, &url, &["--agent", "a", "--quiet"]);
        let mut input = pipe.input.take().expect("its input");
        let expected = pieces.concat();
        let writer = thread::spawn(move || pieces.iter().all(|piece| input.write_all(piece).is_ok()));
        let (out, stderr, status) = pipe.end();
        prop_assert!(writer.join().unwrap());
        prop_assert!(out == expected, "{} bytes went in, {} came out", expected.len(), out.len());
        prop_assert!(status.success() && stderr.is_empty(), "{}", stderr);
        Ok(())
    };
    TestRunner::new(config).run(&strategy, passes).unwrap_or_else(|error| panic!("{error}"));
}

fn a_gigabyte_passes() {
    let setup = Setup::new("");
    let mut pipe = Pipe::start(&setup, &unused_address(), &["--agent", "a", "--quiet"]);
    let mut input = pipe.input.take().expect("its input");
    // Each block differs from the one before, so that none can be lost or come twice.
    let block = |number: u32| {
        let mut block = vec![0xe2_u8; 1 << 20];
        block[..4].copy_from_slice(&(number | 0x8080_8080).to_be_bytes());
        block
    };
    let writer = thread::spawn(move || (0..1024).all(|number| input.write_all(&block(number)).is_ok()));
    let mut bytes = vec![0; 1 << 20];
    for number in 0..1024 {
        pipe.output.read_exact(&mut bytes).expect("its output");
        assert!(bytes == block(number), "block {number}");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", pipe.child.id())).expect("its state");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    assert!(kilobytes < 64 * 1024, "{kilobytes} kB");
    assert!(writer.join().unwrap());
    let (rest, _, status) = pipe.end();
    assert!(rest.is_empty() && status.success());
}

fn reading_behind_misses_no_token() {
    let setup = Setup::new("");
    let lookout = setup.start();
    // Sessions of one answer and a result each, more than can be parsed as fast as they arrive.
    let filler =
        format!("{{\"type\":\"user\",\"session_id\":\"s\",\"message\":{{\"content\":\"{}\"}}}}\n", "x".repeat(1000));
    let sessions = 500;
    let (mut stream, mut total) = (Vec::new(), 0);
    for session in 0..sessions {
        for _ in 0..200 {
            stream.extend_from_slice(filler.as_bytes());
        }
        let used = 1000 + session;
        total += used;
        let line = format!(
            "{{\"subtype\":\"success\",\"session_id\":\"s{session}\",\"total_cost_usd\":0.5,\"modelUsage\":{{\"m\":{{\"inputTokens\":{used},\"outputTokens\":1}}}},\"is_error\":false,\"type\":\"result\"}}\n"
        );
        stream.extend_from_slice(line.as_bytes());
    }
    let (stderr, status) = pass(&setup, &lookout.url(), &["--agent", "a", "--format", "claude-code"], &stream);
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    let agent = seen(&lookout, "a", "completed", None);
    assert_eq!(agent["task_id"], Value::Null);
    assert_eq!(tokens(&lookout, "a")[..2], [f64::from(total), f64::from(sessions)]);
    assert_eq!(value(&lookout, "cost_usd_total", "a", ""), Some(0.5 * f64::from(sessions)));
}

fn a_reader_that_goes_ends_it() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "a"]);
    pipe.write(b"one\n");
    pipe.expect(b"one\n");
    let Pipe { child, input, output } = &mut pipe;
    drop(std::mem::replace(output, BufReader::new(spent())));
    // The agent gets SIGPIPE at the same write as it would without `lookout pipe`.
    let input = input.as_mut().expect("its input");
    eventually("a broken pipe", || input.write_all(b"more\n").err());
    let status = eventually("its end", || child.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
    seen(&lookout, "a", "failed", Some("the reader of its output closed the pipe"));
}

/// The output of a program that has none.
fn spent() -> ChildStdout {
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().expect("true");
    child.wait().expect("its end");
    child.stdout.take().expect("its output")
}

fn patterns_are_configured() {
    let setup = Setup::new("pipe:\n  patterns:\n    failed: ['^fatal: (\\w+)']\n    tokens.total: ['used ([0-9]+)']\n");
    let lookout = setup.start();
    let stream = b"used 10\nused 25 tokens\nfatal: disk is full\n";
    let arguments = ["--agent", "a", "--config", "lookout.yaml", "--pattern", "errors=^fatal"];
    let (stderr, status) = pass(&setup, &lookout.url(), &arguments, stream);
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    seen(&lookout, "a", "failed", Some("disk"));
    assert_eq!(tokens(&lookout, "a")[0], 25.0);
    assert_eq!(value(&lookout, "request_errors_total", "a", ""), Some(1.0));
    setup.write("broken.yaml", "pipe: {patterns: {fialed: [x]}}");
    let checked = setup.command(&["check", "--config", "broken.yaml"]).output().expect("lookout");
    let stderr = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(stderr.contains("pipe.patterns.fialed[0]: unknown key `fialed`; did you mean `failed`?"), "{stderr}");
    let (stderr, status) = pass(&setup, &lookout.url(), &["--agent", "b", "--config", "broken.yaml"], stream);
    assert!(status.success() && stderr.contains("patterns of the configuration are not used"), "{stderr}");
    ended(&lookout, "b");
}

fn the_last_words_of_a_flood_are_read() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let question = ["--agent", "a", "--format", "text", "--pattern", "waiting_question=(Allow \\w+)\\?"];
    let mut pipe = Pipe::start(&setup, &lookout.url(), &question);
    let mut output = std::mem::replace(&mut pipe.output, BufReader::new(spent()));
    // More than can be parsed in the time that it takes to copy it.
    let flood = b"one of many lines\n".repeat(4_000_000);
    let passed = thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    pipe.write(&flood);
    pipe.write(b"Allow Bash?\n");
    seen(&lookout, "a", "waiting_question", Some("Allow Bash"));
    assert!(pipe.end().2.success());
    assert_eq!(passed.join().unwrap().expect("its output"), flood.len() as u64 + 12);
}

fn a_late_report_is_refused() {
    let lookout = Setup::new("").start();
    let report = |number: u32, tokens: u32| {
        let body = serde_json::json!({"ordinal": {"run": "r", "number": number}, "agents": [{"name": "a", "tokens": {"input": tokens}}]});
        let answer = lookout.post("/api/state", &body).json();
        (answer["accepted"].as_u64(), answer["rejected"][0]["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(report(1, 0).0, Some(1));
    assert_eq!(report(3, 300).0, Some(1));
    let (accepted, error) = report(2, 200);
    assert!(accepted == Some(0) && error.starts_with("a newer report of the same run"), "{error}");
    assert_eq!(report(4, 400).0, Some(1));
    assert_eq!(tokens(&lookout, "a")[0], 400.0);
    let page = lookout.get("/metrics");
    let line = "lookout_rejected_total{signal=\"state\",reason=\"late\"} 1";
    assert!(page.text().lines().any(|found| found == line), "{}", page.text());
}

fn a_refusal_limits() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut pipe = Pipe::start(&setup, &lookout.url(), &["--agent", "a"]);
    let retry = "{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":1,\"max_retries\":10,\"retry_delay_ms\":600000,\"error_status\":429,\"session_id\":\"s\"}\n";
    pipe.write(retry.as_bytes());
    let limited = seen(&lookout, "a", "running", Some("retrying after 429, rate limit, 1 of 10"))["limited"].clone();
    let time = |key: &str| limited[key].as_str().and_then(Time::parse).unwrap_or_else(|| panic!("{key} in {limited}"));
    let wait = time("until").since(time("since")).as_secs();
    assert!(limited["provider"] == "anthropic" && (590..=600).contains(&wait), "{limited}");
    pipe.write(b"{\"type\":\"assistant\",\"session_id\":\"s\",\"message\":{\"id\":\"m\",\"model\":\"m\",\"usage\":{\"input_tokens\":1}}}\n");
    eventually("an end", || agent(&lookout, "a").filter(|agent| agent["limited"].is_null()));
    assert_eq!(value(&lookout, "rate_limit_hits_total", "a", ""), Some(1.0));
    assert_eq!(value(&lookout, "retries_total", "a", ""), Some(1.0));
}
