//! Exports: what came in goes on to a collector, without content, in order, and at least once whatever fails.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lookout::clock::Stopwatch;
use serde_json::{Value, json};

use crate::callbacks::sample;
use crate::counterparts::{self, Need};
use crate::doubles::collector::{Answer, Collector, attribute};
use crate::doubles::slack::Slack;
use crate::otlp::private;
use crate::program::{Lookout, Setup, eventually};
use crate::slack::{metric, push, receiver};
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("export: recordings go on without content", &[], recordings_go_on),
        trial("export: content goes on where it is wanted", &[], full_content),
        trial("export: what waits outlives kills and arrives once the target is there", &[], away_and_back),
        trial("export: pauses, refusals and partial successes are obeyed", &[], verdicts),
        trial("export: a wrong token is tried again until its file is right", &[], wrong_token),
        trial("export: over the bound the oldest is dropped and counted", &[], bounded),
        trial("export: two sidecars that export to each other send nothing round", &[], loops),
        trial("export: runs of hooks and requests are exported as spans", &[], own_runs),
        trial("export: a slow target delays no alert, and lagging is one", &[], slow_target),
        trial("export: rotel takes HTTP and gRPC, plain and gzip", &[Need::Rotel], rotel),
        trial("export: mistakes in the section are found at once", &[], mistakes),
        trial("export: requests that are too large are halved, and a single item is dropped", &[], too_large),
        trial("export: each target is tried, with cause and remedy", &[], tried),
        trial("export: a reload adds and changes targets, and loses nothing", &[], reloaded),
        trial("export: what waits for a target that a reload removes is sent once it is back", &[], removed),
    ]
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn config(target: &str, more: &str) -> String {
    format!("export: {{otlp: {{endpoint: '{target}'{more}}}}}\n")
}

/// An export of one call for each name.
fn calls(names: &[&str], attributes: &[(&str, &str)]) -> Value {
    let attributes: Vec<Value> = [("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "gpt-5")]
        .iter()
        .chain(attributes)
        .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}))
        .collect();
    let spans: Vec<Value> = names
        .iter()
        .map(|name| {
            let id: String =
                format!("{:016x}", name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte)));
            json!({"traceId": TRACE, "spanId": id, "name": name, "kind": 3, "startTimeUnixNano": "1796000000000000000",
                "endTimeUnixNano": "1796000000500000000", "attributes": attributes})
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"scope": {"name": "shop"}, "spans": spans}],
    }]})
}

fn send(lookout: &Lookout, names: &[&str]) {
    let answer = lookout.post("/v1/traces", &calls(names, &[]));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn exported(lookout: &Lookout, family: &str, signal: &str) -> f64 {
    metric(lookout, &format!("lookout_export_{family}{{target=\"otlp\",signal=\"{signal}\"}}")).unwrap_or_default()
}

fn dropped(lookout: &Lookout, reason: &str) -> f64 {
    let labels = format!("target=\"otlp\",signal=\"traces\",reason=\"{reason}\"");
    metric(lookout, &format!("lookout_export_dropped_items_total{{{labels}}}")).unwrap_or_default()
}

/// Sends every recording; returns how many.
fn send_recordings(lookout: &Lookout) -> usize {
    let files = tidy::files("tests/it/samples/otlp");
    for file in &files {
        let name = file.to_string_lossy();
        let stem = name.trim_end_matches(".gz").trim_end_matches(".json").trim_end_matches(".pb");
        let signal = stem.rsplit_once('-').expect("a signal").1;
        let kind = if name.contains(".json") { "application/json" } else { "application/x-protobuf" };
        let body = sample(name.split_once("samples/").expect("a sample").1);
        let answer = lookout.send("POST", &format!("/v1/{signal}"), &[("content-type", kind)], &body);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    files.len()
}

fn recordings_go_on() {
    for (compression, encoding) in [("gzip", Some("gzip")), ("none", None)] {
        let collector = Collector::start();
        let setup = Setup::new(&config(&collector.url(), &format!(", compression: {compression}")));
        let lookout = setup.start();
        send_recordings(&lookout);
        for signal in ["traces", "metrics", "logs"] {
            eventually("everything is exported", || {
                let waits = exported(&lookout, "waiting_items", signal);
                (exported(&lookout, "items_total", signal) > 0.0 && waits == 0.0).then_some(())
            });
            assert!(exported(&lookout, "last_success_timestamp_seconds", signal) > 1e9);
        }
        let ingested = metric(&lookout, "lookout_ingested_total{signal=\"traces\"}").expect("a count");
        // The log records of a callback are spans as well.
        eventually("all spans", || (collector.spans().len() as f64 >= ingested).then_some(()));
        let received = collector.received();
        assert!(received.len() < 60, "small requests are joined: {}", received.len());
        for request in &received {
            assert_eq!(request.header("content-encoding"), encoding);
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            let text = request.text();
            for secret in private::contents() {
                assert!(!text.contains(&secret), "{}: {secret}", request.path);
            }
        }
        let calls: Vec<_> =
            collector.spans().into_iter().filter(|(_, span)| span.name == "claude_code.llm_request").collect();
        assert!(!calls.is_empty());
        for (_, span) in calls {
            assert_eq!(attribute(&span, "metadata.agent_id").map(|id| id.len()), Some(36), "{span:?}");
            assert!(attribute(&span, "metadata.parent_trace_id").is_some(), "{span:?}");
        }
        assert!(lookout.sigterm().success());
    }
}

fn full_content() {
    let collector = Collector::start();
    let lookout = Setup::new(&config(&collector.url(), ", content: full, signals: [traces]")).start();
    let answer = lookout.post("/v1/traces", &calls(&["chat"], &[("gen_ai.input.messages", "count the apples")]));
    assert_eq!(answer.status, 200);
    let answer = lookout.send(
        "POST",
        "/v1/logs",
        &[("content-type", "application/json")],
        br#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "a"}}]}]}]}"#,
    );
    assert_eq!(answer.status, 200);
    collector.wait_for(&["chat"]);
    let (_, span) = collector.spans().remove(0);
    assert_eq!(attribute(&span, "gen_ai.input.messages").as_deref(), Some("count the apples"));
    assert_eq!(attribute(&span, "metadata.agent_id"), None, "it goes on as it came");
    assert_eq!(span.attributes.len(), 3);
    assert!(lookout.sigterm().success());
    assert!(collector.received().iter().all(|request| request.path == "/v1/traces"));
}

fn away_and_back() {
    let address = Collector::reserve();
    let setup = Setup::new(&config(&format!("http://{address}"), ""));
    let names: Vec<String> = (0..30).map(|index| format!("call-{index:02}")).collect();
    let lookout = setup.start();
    for name in &names[..15] {
        send(&lookout, &[name]);
    }
    eventually("spooled", || (exported(&lookout, "waiting_items", "traces") >= 15.0).then_some(()));
    lookout.kill9();
    let lookout = setup.start();
    eventually("it still waits", || (exported(&lookout, "waiting_items", "traces") >= 15.0).then_some(()));
    for name in &names[15..] {
        send(&lookout, &[name]);
    }
    eventually("spooled", || (exported(&lookout, "waiting_items", "traces") >= 30.0).then_some(()));
    lookout.wait_for_log(&["export failed; it is tried again", "can't be reached"]);
    lookout.kill9();
    let collector = Collector::on(address);
    let lookout = setup.start();
    collector.wait_for(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let order: Vec<String> = collector.spans().into_iter().map(|(_, span)| span.name).collect();
    assert_eq!(order, names, "in their order, and once, as nothing failed after it was sent");
    eventually("nothing waits", || (exported(&lookout, "waiting_bytes", "traces") == 0.0).then_some(()));
    assert!(lookout.sigterm().success());
}

fn verdicts() {
    let collector = Collector::start();
    let setup = Setup::new(&config(&collector.url(), ", signals: [traces]"));
    let lookout = setup.start();
    let pause = |value: &str| Answer { headers: format!("retry-after: {value}\r\n"), ..Answer::status(503) };
    let date = |seconds: u64| {
        // Held against the date of the answer.
        let date = |second: u64| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
        let headers = format!("date: {}\r\nretry-after: {}\r\n", date(10), date(10 + seconds));
        Answer { headers, ..Answer::status(429) }
    };
    collector.next([pause("3"), date(2), Answer::status(502)]);
    send(&lookout, &["one"]);
    collector.wait_for(&["one"]);
    let received = collector.wait(4);
    let gaps: Vec<u128> = received.windows(2).map(|pair| (pair[1].at - pair[0].at).as_millis()).collect();
    assert!(gaps[0] >= 2_990 && gaps[1] >= 1_990, "{gaps:?}");
    assert!(received.iter().all(|request| request.body == received[0].body), "the same batch");
    // A partial success: one rejected, "too old".
    let partial = Answer { body: b"\x0a\x0b\x08\x01\x12\x07too old".to_vec(), ..Answer::status(200) };
    collector.next([partial]);
    send(&lookout, &["two", "three"]);
    collector.wait(5);
    eventually("counted", || (exported(&lookout, "rejected_items_total", "traces") == 1.0).then_some(()));
    assert_eq!(exported(&lookout, "items_total", "traces"), 2.0, "one and one of the two");
    // A refusal of the batch.
    collector.next([Answer::status(400)]);
    send(&lookout, &["four"]);
    eventually("dropped", || (dropped(&lookout, "refused") == 1.0).then_some(()));
    send(&lookout, &["five"]);
    collector.wait_for(&["five"]);
    assert!(!collector.names().contains("four"));
    let log = lookout.wait_for_log(&["target rejected a part of an export", "export was refused and is dropped"]);
    assert!(log.contains("127.0.0.1 answered 400"), "{log}");
    // Of joined batches only the one that is refused is dropped.
    collector.always(Answer::status(503));
    let before = collector.received().len();
    for (name, waiting) in [("six", 1.0), ("seven", 2.0), ("eight", 3.0)] {
        send(&lookout, &[name]);
        collector.wait(before + 1);
        eventually("it waits", || (exported(&lookout, "waiting_items", "traces") == waiting).then_some(()));
    }
    // The first is tried alone as it was; the others are joined.
    collector.next([
        Answer::status(503),
        Answer::status(200),
        Answer::status(400),
        Answer::status(400),
        Answer::status(200),
    ]);
    collector.always(Answer::status(200));
    eventually("dropped", || (dropped(&lookout, "refused") == 2.0).then_some(()));
    eventually("nothing waits", || (exported(&lookout, "waiting_items", "traces") == 0.0).then_some(()));
    assert!(collector.names().contains("six") && collector.names().contains("eight"), "{:?}", collector.names());
    assert!(lookout.sigterm().success());
}

fn wrong_token() {
    let collector = Collector::start();
    collector.require("Bearer right");
    let setup = Setup::new(&config(&collector.url(), ", headers_file: headers, headers: {x-team: shop}"));
    setup.write("headers", "# of the team\nAuthorization: Bearer S3CRET-wrong\n");
    let lookout = setup.start();
    send(&lookout, &["one"]);
    lookout.wait_for_log(&["export was refused; it is tried again for an hour", "check headers or headers_file"]);
    eventually("counted", || (exported(&lookout, "errors_total", "traces") >= 1.0).then_some(()));
    setup.write("headers", "Authorization: Bearer right\n");
    collector.wait_for(&["one"]);
    assert_eq!(collector.received()[0].header("x-team"), Some("shop"));
    let log = lookout.wait_for_log(&["exported again"]);
    assert!(!log.contains("S3CRET"), "{log}");
    assert!(lookout.sigterm().success());
}

fn bounded() {
    let address = Collector::reserve();
    let setup = Setup::new(&config(&format!("http://{address}"), ", content: full, max_spool: 1048576"));
    let lookout = setup.start();
    // Text that gzip can hardly compress.
    let mut random = 1_u64;
    let mut noise = || {
        let mut text = String::new();
        while text.len() < 200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += &format!("{:x}", random >> 8);
        }
        text
    };
    for index in 0..30 {
        let name = format!("large-{index:02}");
        let answer = lookout.post("/v1/traces", &calls(&[&name], &[("input.value", &noise())]));
        assert_eq!(answer.status, 200);
    }
    eventually("dropped", || (dropped(&lookout, "size") >= 10.0).then_some(()));
    let is_within = |lookout: &Lookout| exported(lookout, "waiting_bytes", "traces") <= 1_048_576.0;
    eventually("within the bound", || is_within(&lookout).then_some(()));
    lookout.wait_for_log(&["export spool is full; the oldest is dropped"]);
    let collector = Collector::on(address);
    collector.wait_for(&["large-29"]);
    eventually("nothing waits", || (exported(&lookout, "waiting_bytes", "traces") == 0.0).then_some(()));
    assert!(!collector.names().contains("large-00"), "the oldest went first");
    let sum = collector.names().len() as f64 + dropped(&lookout, "size");
    assert!(sum >= 30.0, "every item was sent or counted: {sum}");
    assert!(lookout.sigterm().success());
}

/// A free port for a main listener.
fn fixed(setup: &Setup, address: SocketAddr, config: &str) {
    setup.write("lookout.yaml", &format!("listen: {address}\nlog: {{format: json, level: info}}\n{config}"));
}

fn loops() {
    let [one, two] = [Collector::reserve(), Collector::reserve()];
    let setups = [Setup::new(""), Setup::new("")];
    fixed(&setups[0], one, &config(&format!("http://{two}"), ""));
    fixed(&setups[1], two, &config(&format!("http://{one}"), ", content: full"));
    let [first, second] = [setups[0].start(), setups[1].start()];
    send(&first, &["round"]);
    eventually("it came back", || (dropped(&first, "loop") == 1.0).then_some(()));
    first.wait_for_log(&["received telemetry that this sidecar exported"]);
    // By the time that a second one has come back, a first that went on would have been exported again.
    send(&first, &["another round"]);
    eventually("the second came back", || (dropped(&first, "loop") == 2.0).then_some(()));
    assert_eq!(exported(&first, "items_total", "traces"), 2.0);
    assert_eq!(exported(&second, "items_total", "traces"), 2.0);
    assert_eq!(dropped(&second, "loop"), 0.0);
    assert!(first.sigterm().success() && second.sigterm().success());
}

fn own_runs() {
    let collector = Collector::start();
    let lookout = Setup::new(&config(&collector.url(), "")).start();
    let agent = lookout.post("/agents/register", &json!({"name": "stock", "type": "vanna", "project_id": "shop"}));
    assert_eq!(agent.status, 201, "{}", agent.text());
    let id = agent.json()["id"].as_str().expect("an id").to_owned();
    let run =
        lookout.post(&format!("/agents/{id}/trace/start"), &json!({"name": "count the stock", "platform": "cli"}));
    let run = run.json();
    // A call of the run through a proxy.
    let given =
        [("metadata.agent_id", "agent-7"), ("metadata.parent_trace_id", run["run_id"].as_str().expect("an id"))];
    assert_eq!(lookout.post("/v1/traces", &calls(&["chat"], &given)).status, 200);
    collector.wait_for(&["chat"]);
    assert!(!collector.names().contains("count the stock"), "it has not ended");
    let ended = lookout.post(
        &format!("/agents/{id}/trace/end"),
        &json!({"trace_id": run["trace_id"], "status": "error", "error": "no stock"}),
    );
    assert_eq!(ended.status, 200, "{}", ended.text());
    collector.wait_for(&["count the stock"]);
    let spans = collector.spans();
    let (resource, span) = spans.iter().find(|(_, span)| span.name == "count the stock").expect("the run");
    assert_eq!(hex::encode(&span.trace_id), run["trace_id"].as_str().expect("an id"));
    assert_eq!(hex::encode(&span.span_id), run["span_id"].as_str().expect("an id"));
    assert_eq!(span.status.as_ref().map(|status| (status.code, &*status.message)), Some((2, "no stock")));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let service = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    assert!(format!("{service:?}").contains("stock"));
    for (key, value) in [
        ("gen_ai.operation.name", "invoke_agent"),
        ("gen_ai.agent.name", "stock"),
        ("platform", "cli"),
        ("metadata.agent_id", &id),
        ("metadata.parent_trace_id", run["run_id"].as_str().expect("an id")),
    ] {
        assert_eq!(attribute(span, key).as_deref(), Some(value), "{key}");
    }
    let (_, call) = spans.iter().find(|(_, span)| span.name == "chat").expect("the call");
    assert_eq!(attribute(call, "metadata.agent_id").as_deref(), Some("agent-7"), "the caller's own");
    assert!(lookout.sigterm().success());
    let ended = collector.spans().into_iter().filter(|(_, span)| span.name == "count the stock").count();
    assert_eq!(ended, 1, "ending it once exports it once");
}

fn slow_target() {
    let slack = Slack::start();
    let collector = Collector::start();
    collector.always(Answer { after: Duration::from_secs(20), ..Answer::status(200) });
    let rules = std::fs::read_to_string(tidy::root().join("alerts/sidecar.yaml")).expect("built-in rules");
    let (_, rule) = rules.split_once("  - name: ExportLagging").expect("the rule");
    let rules = format!("rules:\n  - name: ExportLagging{}", rule.replace("warning: 5m", "warning: 11s"));
    let setup = Setup::new(&format!(
        "{}rules: [own.yaml]\nreceivers:\n{}",
        config(&collector.url(), ", timeout: 60s"),
        receiver("ops", &slack)
    ));
    setup.write("own.yaml", &rules);
    let lookout = setup.start();
    for index in 0..20 {
        send(&lookout, &[&format!("call-{index}")]);
    }
    collector.wait(1);
    let watch = Stopwatch::start();
    push(&lookout, &json!({"agents": [{"name": "broken", "status": "failed", "reason": "no disk", "task_id": "t"}]}));
    slack.wait_for("the alert", |seen| seen.iter().any(|it| it.text().contains("broken")));
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
    let seen = slack.wait_for("lagging", |seen| seen.iter().any(|it| it.text().contains("to be exported")));
    let text = seen.iter().map(|it| it.text()).find(|text| text.contains("to be exported")).expect("the alert");
    assert!(text.contains("otlp (traces)"), "{text}");
    collector.always(Answer::status(200));
    slack.wait_for("its end", |seen| seen.iter().any(|it| it.text().contains("exports in time again")));
    assert!(lookout.sigterm().success());
}

/// rotel between a sidecar and a collector.
struct Rotel {
    child: Child,
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Rotel {
    fn start(setup: &Setup, target: &Collector) -> Self {
        let [http, grpc] = [Collector::reserve(), Collector::reserve()];
        let program = counterparts::rotel().expect("rotel is installed");
        let mut command = Command::new(program);
        command.args(["start", "--exporter", "otlp", "--batch-timeout", "200ms", "--otlp-exporter-protocol", "http"]);
        command.args(["--otlp-http-endpoint", &http.to_string(), "--otlp-grpc-endpoint", &grpc.to_string()]);
        command.args(["--otlp-exporter-endpoint", &target.url()]);
        command.arg("--pid-file").arg(setup.path().join("rotel.pid"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("rotel");
        for address in [http, grpc] {
            eventually("rotel listens", || std::net::TcpStream::connect(address).ok());
        }
        Self { child, http, grpc }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn rotel() {
    for (protocol, compression) in
        [("http/protobuf", "gzip"), ("http/protobuf", "none"), ("grpc", "gzip"), ("grpc", "none")]
    {
        let collector = Collector::start();
        let setup = Setup::new("");
        let rotel = Rotel::start(&setup, &collector);
        let address = if protocol == "grpc" { rotel.grpc } else { rotel.http };
        let more = format!(", protocol: {protocol}, compression: {compression}");
        let head = "listen: 127.0.0.1:0\nlog: {format: json, level: info}\n";
        setup.write("lookout.yaml", &format!("{head}{}", config(&format!("http://{address}"), &more)));
        let lookout = setup.start();
        send_recordings(&lookout);
        for signal in ["traces", "metrics", "logs"] {
            eventually("everything is exported", || {
                let waits = exported(&lookout, "waiting_items", signal);
                (exported(&lookout, "items_total", signal) > 0.0 && waits == 0.0).then_some(())
            });
            assert_eq!(exported(&lookout, "errors_total", signal), 0.0, "{protocol} {signal}: {}", lookout.log());
        }
        let sent = metric(&lookout, "lookout_ingested_total{signal=\"traces\"}").expect("a count") as usize;
        eventually("rotel sends them on", || (collector.spans().len() >= sent).then_some(()));
        assert_eq!(collector.spans().len(), sent, "{protocol} {compression}");
        assert!(lookout.sigterm().success());
    }
}

fn mistakes() {
    let setup = Setup::new("export: {otlp: {endpoint: 'ftp://h', signals: []}}");
    let output = setup.command(&["check", "--config", "lookout.yaml"]).output().expect("runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success());
    for part in ["export.otlp.endpoint: ", "export.otlp.signals: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let setup = Setup::new(&config("http://127.0.0.1:9", ""));
    let lookout = setup.start();
    setup.write("lookout.yaml", &format!("{HEAD}{}", config("http://127.0.0.1:9", ", ca_file: none.pem")));
    let answer = lookout.send("POST", "/-/reload", &[], b"");
    assert!(answer.status == 400 && answer.text().contains("export.otlp.ca_file: "), "{}", answer.text());
    assert!(lookout.sigterm().success());
    // Without the section there is no file.
    let setup = Setup::new("");
    let lookout = setup.start();
    assert!(lookout.sigterm().success());
    assert!(!setup.path().join("lookout.export.db").exists());
}

const HEAD: &str = "listen: 127.0.0.1:0\nlog: {format: json, level: info}\n";

fn reload(lookout: &Lookout, setup: &Setup, export: &str) {
    setup.write("lookout.yaml", &format!("{HEAD}{export}"));
    let answer = lookout.send("POST", "/-/reload", &[], b"");
    assert_eq!((answer.status, answer.text()), (200, r#"{"reloaded":true,"restart_needed":[]}"#));
}

fn reloaded() {
    let setup = Setup::new("");
    let lookout = setup.start();
    send(&lookout, &["before"]);
    let first = Collector::start();
    reload(&lookout, &setup, &config(&first.url(), ", signals: [traces]"));
    send(&lookout, &["one"]);
    first.wait_for(&["one"]);
    // To an address where nothing listens, then to another one: what waits goes there, without waiting for the back-off.
    let away = Collector::reserve();
    reload(&lookout, &setup, &config(&format!("http://{away}"), ""));
    for name in ["two", "three"] {
        send(&lookout, &[name]);
    }
    eventually("it fails for a while", || (exported(&lookout, "errors_total", "traces") >= 4.0).then_some(()));
    let second = Collector::start();
    second.require("Bearer right");
    reload(&lookout, &setup, &config(&second.url(), ", headers: {authorization: Bearer wrong}"));
    lookout.wait_for_log(&["answered 401"]);
    setup
        .write("lookout.yaml", &format!("{HEAD}{}", config(&second.url(), ", headers: {authorization: Bearer right}")));
    lookout.signal("HUP");
    second.wait_for(&["two", "three"]);
    eventually("nothing waits", || (exported(&lookout, "waiting_items", "traces") == 0.0).then_some(()));
    assert_eq!(exported(&lookout, "items_total", "traces"), 3.0, "counters go on");
    assert!(metric(&lookout, "lookout_export_items_total{target=\"otlp\",signal=\"logs\"}").is_some());
    // By gRPC, where nothing speaks it, and less of it.
    reload(&lookout, &setup, &config(&second.url(), ", protocol: grpc, signals: [metrics]"));
    send(&lookout, &["not exported"]);
    eventually("a signal that is not exported has no series", || {
        metric(&lookout, "lookout_export_items_total{target=\"otlp\",signal=\"traces\"}").is_none().then_some(())
    });
    // Reloads while spans come and go lose none and send none twice.
    let third = Collector::start();
    let names: Vec<String> = (0..60).map(|index| format!("span-{index:02}")).collect();
    for (index, name) in names.iter().enumerate() {
        if index % 5 == 0 {
            let more = if index % 2 == 0 { ", compression: none" } else { ", timeout: 9s" };
            reload(&lookout, &setup, &config(&third.url(), more));
        }
        send(&lookout, &[name]);
    }
    third.wait_for(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let order: Vec<String> = third.spans().into_iter().map(|(_, span)| span.name).collect();
    assert_eq!(order, names);
    assert_eq!((first.spans().len(), second.spans().len()), (1, 2));
    assert!(lookout.sigterm().success());
}

fn removed() {
    let away = Collector::reserve();
    let with = config(&format!("http://{away}"), ", max_age: 1h");
    let setup = Setup::new(&with);
    let lookout = setup.start();
    send(&lookout, &["one"]);
    eventually("it waits", || (exported(&lookout, "waiting_items", "traces") == 1.0).then_some(()));
    reload(&lookout, &setup, "");
    lookout.wait_for_log(&["the spool holds what waits for an export that is not configured any more", "\"items\":1"]);
    eventually("no series", || (!lookout.get("/metrics").text().contains("target=\"otlp\"")).then_some(()));
    assert_eq!(lookout.get("/api/status").json()["exports"], json!([]));
    send(&lookout, &["meanwhile"]);
    // The same over a restart.
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    send(&lookout, &["meanwhile too"]);
    let collector = Collector::on(away);
    reload(&lookout, &setup, &with);
    collector.wait_for(&["one"]);
    send(&lookout, &["two"]);
    collector.wait_for(&["two"]);
    assert_eq!(collector.names().len(), 2, "{:?}", collector.names());
    assert!(lookout.sigterm().success());
}

/// What a command prints, and whether it succeeded.
fn command(setup: &Setup, arguments: &[&str]) -> (bool, String) {
    let output = setup.command(arguments).output().expect("runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("S3CRET"), "{text}");
    (output.status.success(), text)
}

fn tried() {
    let collector = Collector::start();
    let setup = Setup::new(&config(&collector.url(), ", headers_file: headers, signals: [traces, logs]"));
    let check = || command(&setup, &["check", "--config", "lookout.yaml"]);
    let test = || command(&setup, &["test", "export", "--config", "lookout.yaml"]);
    setup.write("headers", "Authorization S3CRET");
    let (is_valid, text) = check();
    assert!(!is_valid && text.contains("export.otlp.headers_file: ") && text.contains("line 1: no `:`"), "{text}");
    setup.write("headers", "Authorization: Bearer S3CRET");
    let (is_valid, text) = check();
    assert!(is_valid && text.contains("EXPORT") && text.contains("traces, logs"), "{text}");
    let (is_good, text) = test();
    assert!(is_good && text.contains("takes traces") && text.contains("takes logs"), "{text}");
    assert!(collector.received().iter().all(|request| request.body.is_empty()), "nothing was sent");
    collector.require("Bearer other");
    let (is_good, text) = test();
    assert!(!is_good && text.contains("answered 401; check headers or headers_file"), "{text}");
    assert!(text.contains("2 of 2 trials failed"), "{text}");
    // Where the sidecar is, the doctor names what fails there and from here.
    let lookout = setup.start();
    send(&lookout, &["one"]);
    lookout.wait_for_log(&["answered 401"]);
    let doctor = ["doctor", "--url", &lookout.url(), "--config", "lookout.yaml"];
    let (_, text) = command(&setup, &doctor);
    for part in ["export otlp (traces): ", "1 items wait", "otlp logs (http://127.0.0.1:"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(lookout.sigterm().success());
    for (export, part) in [
        (config(&collector.url(), ", protocol: grpc, signals: [traces]"), "speaks another protocol on this port"),
        (config(&collector.url().replace("http:", "https:"), ", signals: [traces]"), "http:// or https://"),
        (config(&format!("http://{}", Collector::reserve()), ""), "check endpoint, and whether it runs"),
        (config("http://nowhere.invalid:4318", ""), "check the host name in endpoint"),
        (String::new(), "nothing is exported; add `export`"),
    ] {
        setup.write("lookout.yaml", &format!("{HEAD}{export}"));
        let (is_good, text) = test();
        assert!(!is_good && text.contains(part), "{part} in {text}");
    }
    setup.write("lookout.yaml", &format!("listen: {}\n{}", collector.address, config(&collector.url(), "")));
    let (is_valid, text) = check();
    assert!(!is_valid && text.contains("export.otlp.endpoint: is lookout's own `listen`"), "{text}");
    setup.write("lookout.yaml", &format!("{HEAD}{}", config("http://localhost:4317", "")));
    let (is_valid, text) = check();
    assert!(is_valid && text.contains("set `protocol: grpc`"), "{text}");
}

fn too_large() {
    let collector = Collector::start();
    collector.take_at_most(20_000);
    let lookout = Setup::new(&config(&collector.url(), "")).start();
    let names = |from: usize| (from..from + 40).map(|index| format!("span-{index:03}")).collect::<Vec<_>>();
    // Longer texts are content.
    let text = "x".repeat(190);
    let filler = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|key| (key, &*text));
    let (first, second) = (names(0), names(100));
    let texts = |names: &[String]| names.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let post = |names: &[String], attributes: &[(&str, &str)]| {
        let names = texts(names);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(lookout.post("/v1/traces", &calls(&names, attributes)).status, 200);
    };
    post(&first, &filler);
    collector.wait_for(&first.iter().map(String::as_str).collect::<Vec<_>>());
    // One that is larger alone, between others.
    let large = "y".repeat(190);
    let many: Vec<(String, &str)> = (0..120).map(|index| (format!("app.large{index}"), &*large)).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (&**key, *value)).collect();
    post(&["giant".to_owned()], &many);
    post(&second, &filler);
    collector.wait_for(&second.iter().map(String::as_str).collect::<Vec<_>>());
    eventually("all is counted", || (exported(&lookout, "items_total", "traces") == 80.0).then_some(()));
    eventually("nothing waits", || (exported(&lookout, "waiting_items", "traces") == 0.0).then_some(()));
    let order: Vec<String> = collector.spans().into_iter().map(|(_, span)| span.name).collect();
    assert_eq!(order, [first, second].concat(), "in their order, and each once");
    assert_eq!((dropped(&lookout, "too_large"), dropped(&lookout, "refused")), (1.0, 0.0));
    assert_eq!(exported(&lookout, "waiting_bytes", "traces"), 0.0);
    let log = lookout.wait_for_log(&["request was too large and is split", "an item is too large for the target"]);
    assert!(log.contains("raise the target's limit"), "{log}");
    // Later ones are as small at once.
    let refused = |collector: &Collector| collector.received().iter().filter(|it| it.status == 413).count();
    let before = refused(&collector);
    let third = names(200);
    post(&third, &filler);
    collector.wait_for(&third.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused(&collector), before);
    // Data points of a single metric.
    let point = |at: u64| {
        json!({"timeUnixNano": (1_796_000_000_000_000_000_u64 + at).to_string(), "asInt": at.to_string(),
        "attributes": [{"key": "shard", "value": {"stringValue": format!("shard-{at}")}}]})
    };
    let points: Vec<Value> = (0..1_000).map(point).collect();
    let metrics = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "shards", "gauge": {"dataPoints": points}}]}]}]});
    assert_eq!(lookout.post("/v1/metrics", &metrics).status, 200);
    eventually("all points", || (exported(&lookout, "items_total", "metrics") == 1_000.0).then_some(()));
    eventually("nothing waits", || (exported(&lookout, "waiting_items", "metrics") == 0.0).then_some(()));
    assert!(lookout.sigterm().success());
    // By HTTP and gRPC into another sidecar.
    for protocol in ["http/protobuf", "grpc"] {
        let [main, grpc] = [Collector::reserve(), Collector::reserve()];
        let target = Setup::new("").env("LOOKOUT_OTLP__GRPC", &grpc.to_string());
        fixed(&target, main, "limits: {body: 20000}\n");
        let second = target.start();
        let address = if protocol == "grpc" { grpc } else { main };
        let setup =
            Setup::new(&config(&format!("http://{address}"), &format!(", protocol: {protocol}, signals: [traces]")));
        let lookout = setup.start();
        let names = names(300);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(lookout.post("/v1/traces", &calls(&names, &filler)).status, 200);
        eventually("all spans", || (exported(&lookout, "items_total", "traces") == 40.0).then_some(()));
        let ingested = || metric(&second, "lookout_ingested_total{signal=\"traces\"}");
        eventually("each once", || (ingested() == Some(40.0)).then_some(()));
        assert!(lookout.sigterm().success() && second.sigterm().success());
    }
}
