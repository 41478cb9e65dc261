//! Start and shutdown: signals during the start, and a shutdown in time whatever hangs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::json;

use crate::doubles::slack::{Act, Slack};
use crate::program::{Setup, eventually};
use crate::slack::{idle, push, receiver};
use crate::{Case, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("supervision: a SIGHUP during the start is no stop", &[], a_signal_during_the_start),
        trial("supervision: shutdown ends in time although everything hangs", &[], all_hangs),
        trial("supervision: accepted telemetry survives a restart", &[], telemetry_is_saved),
    ]
}

fn a_signal_during_the_start() {
    let setup = Setup::new("");
    let mut command = setup.command(&["run", "--config", "/dev/stdin"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    // It waits for its configuration. Once its signal handlers are installed, a signal is sent.
    let status = format!("/proc/{}/status", child.id());
    eventually("it catches SIGHUP", || {
        let status = std::fs::read_to_string(&status).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        (u64::from_str_radix(caught, 16).ok()? & 1 != 0).then_some(())
    });
    let id = child.id();
    let signal = |name: &str| {
        let line = format!("kill -s {name} {id}");
        crate::counterparts::run(std::process::Command::new("sh").args(["-c", &line]));
    };
    signal("HUP");
    let text = "listen: 127.0.0.1:0\nlog: {format: json}\nstore: {path: null}\n";
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("it reads");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening")), "it starts");
    // The requested reload finds a pipe that cannot be read again, and logs that.
    assert!(lines.any(|line| line.contains("configuration reload failed")));
    signal("TERM");
    assert!(child.wait().expect("its end").success());
}

fn all_hangs() {
    let slack = Slack::start();
    slack.always(Act::Hang);
    let hung = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let source = hung.local_addr().expect("its address");
    let setup = Setup::new(&format!(
        "sources: [{{name: s, kind: orchestrator-cc, url: 'http://{source}', interval: 100ms, timeout: 60s}}]\nreceivers:\n{}",
        receiver("ops", &slack)
    ));
    let lookout = setup.start();
    push(&lookout, &idle("a", 400));
    slack.wait_for("a send that hangs", |seen| !seen.is_empty());
    let (_polled, _) = hung.accept().expect("a poll that hangs");
    // A request whose body never ends.
    let mut client = TcpStream::connect(lookout.address()).expect("a connection");
    let head =
        "POST /api/state HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    client.write_all(head.as_bytes()).expect("it reads");
    let watch = Stopwatch::start();
    let ended = lookout.sigterm();
    assert!(ended.success(), "what hangs is no failure of ours: {ended}");
    // Ten seconds are promised; before, it took more than fifteen.
    assert!(watch.elapsed() < Duration::from_secs(13), "{:?}", watch.elapsed());
}

fn telemetry_is_saved() {
    let setup = Setup::new("").env("LOOKOUT_OTLP__HTTP", "127.0.0.1:0");
    let lookout = setup.start();
    let point = |value: u64, at: u64| {
        json!({"asInt": value, "startTimeUnixNano": ((at - 1) * 1_000_000_000).to_string(),
            "timeUnixNano": (at * 1_000_000_000).to_string(),
            "attributes": [{"key": "type", "value": {"stringValue": "input"}}]})
    };
    // One after another, and the end right after the last answer.
    const EXPORTS: u64 = 200;
    for number in 1..=EXPORTS {
        let body = json!({"resourceMetrics": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "claude-code"}},
                {"key": "lookout.agent", "value": {"stringValue": "a"}}]},
            "scopeMetrics": [{"scope": {"name": "com.anthropic.claude_code"}, "metrics": [{"name": "claude_code.token.usage",
                "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point(1, number + 1)]}}]}],
        }]});
        assert_eq!(lookout.post("/v1/metrics", &body).status, 200);
    }
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    let status = lookout.get("/api/status").json();
    let tokens = &status["projects"][0]["agents"][0]["tokens"]["input"];
    assert_eq!(tokens, &json!(EXPORTS), "{status}");
}
