//! The inputs of both programs: pushes, hooks, exports, callbacks, streams, pages and files; and the outputs to compare.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::transcript::Transcript;
use crate::doubles::sink::Sink;
use crate::http;
use crate::polling::{Upstream, UpstreamBehavior};
use crate::program::{Lookout, Setup, eventually};
use crate::tidy;

/// Longer than `group_wait` of the receivers, so that the notifications of one step are sent before the next.
const QUIET: Duration = Duration::from_millis(1500);

/// The program with all listeners on free ports.
fn setup(program: &Path, config: &str) -> Setup {
    let setup = Setup::new(config).program(program);
    setup.env("LOOKOUT_OTLP__HTTP", "127.0.0.1:0").env("LOOKOUT_OTLP__GRPC", "127.0.0.1:0")
}

/// All that the program serves at this moment.
fn pages(transcript: &mut Transcript, lookout: &Lookout, when: &str) {
    for path in ["/api/status", "/api/telemetry", "/api/metrics", "/api/silences"] {
        let answer = lookout.get(path);
        let mut shown = answer.json();
        // In the order in which they were first seen, which is a matter of milliseconds for polls.
        if let Some(projects) = shown.get_mut("projects").and_then(Value::as_array_mut) {
            projects.sort_by_key(|project| project["name"].to_string());
        }
        let pretty = serde_json::to_string_pretty(&shown).expect("JSON");
        transcript.add(format!("{when} {path}"), &format!("{}\n{pretty}", answer.status));
    }
    let openmetrics = [("accept", "application/openmetrics-text;version=1.0.0")];
    transcript.metrics(format!("{when} metrics"), lookout.get("/metrics").text());
    transcript.metrics(format!("{when} openmetrics"), lookout.send("GET", "/metrics", &openmetrics, b"").text());
    // Each by itself, since what happened within one millisecond is listed in either order.
    let alerts = lookout.get("/api/alerts?limit=1000").json();
    let explained = alerts["alerts"].as_array().expect("alerts").iter().map(|alert| {
        let fingerprint = alert["fingerprint"].as_str().expect("a fingerprint");
        let mut why = lookout.get(&format!("/api/alerts/{fingerprint}/why")).json();
        // The order of responses of several receivers is random.
        if let Some(decisions) = why["timeline"].as_array_mut() {
            decisions.sort_by_key(|decision| decision["receiver"].as_str().unwrap_or_default().to_owned());
        }
        let pretty = [alert, &why].map(|value| serde_json::to_string_pretty(value).expect("JSON"));
        format!("{fingerprint}{}", pretty.join("\n"))
    });
    transcript.unordered(format!("{when} alerts"), explained);
}

/// The messages of the sink since the last call, as items to compare.
fn messages(sink: &Sink) -> Vec<String> {
    let messages = sink.drain_when_quiet(QUIET);
    messages.into_iter().map(|message| format!("{}\n{}", message.path, message.text)).collect()
}

fn files(below: &str) -> Vec<PathBuf> {
    tidy::files(below)
}

fn bytes(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(tidy::root().join(path)).expect("a file of the project");
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut plain = Vec::new();
        GzDecoder::new(&*bytes).read_to_end(&mut plain).expect("gzip");
        return plain;
    }
    bytes
}

fn stem(path: &Path) -> String {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    name.split('.').next().expect("a stem").to_owned()
}

/// One receiver of each kind, all with the address of the sink.
fn receivers(sink: &Sink) -> String {
    let http = sink.http;
    let mail = format!("{{host: 127.0.0.1, port: {}, tls: none}}", sink.smtp.port());
    format!(
        r#"
external_url: https://lookout.example.com
receivers:
  - {{name: slack, min_level: info, slack: {{webhook_url: "http://{http}/slack"}}}}
  - {{name: bot, slack: {{bot_token: xoxb-1, channel: "C1", api_url: "http://{http}/bot"}}}}
  - {{name: mail, min_level: error, email: {{to: [a@example.com, b@example.com], from: l@example.com, smtp: {mail}}}}}
  - {{name: teams, teams: {{webhook_url: "http://{http}/teams"}}, group_by: rule}}
  - {{name: discord, discord: {{webhook_url: "http://{http}/discord"}}, send_resolved: false}}
  - {{name: telegram, telegram: {{bot_token: "1:k", chat_id: "42", api_url: "http://{http}/telegram"}}, group_by: project}}
  - {{name: pagerduty, min_level: critical, pagerduty: {{routing_key: k, api_url: "http://{http}/pagerduty"}}}}
  - {{name: webhook, webhook: {{url: "http://{http}/webhook", token: t, headers: {{x-a: b}}}}, only: [{{project: shop}}]}}
  - {{name: alertmanager, alertmanager: {{urls: ["http://{http}/alertmanager"]}}, except: [{{rule: "Agent*"}}]}}
  - {{name: worded, slack: {{webhook_url: "http://{http}/slack/worded"}}, title: "{{{{ level }}}} {{{{ subject }}}}", text: "{{{{ message }}}} {{{{ value }}}}"}}
"#
    )
}

/// Steps of `POST` path and body, from a healthy fleet to problems and back.
fn steps() -> Vec<(&'static str, &'static str, Value)> {
    let agent = |name: &str, more: Value| {
        let mut agent = json!({"name": name, "type": "worker"});
        agent.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        agent
    };
    let shop = |agents: Vec<Value>| json!({"project": "shop", "agents": agents});
    let many = |status: &str| {
        let agents = (0..40).map(|n| agent(&format!("m{n:02}"), json!({"status": status, "task_id": "t"})));
        json!({"project": "farm", "agents": agents.collect::<Vec<_>>()})
    };
    let tokens = |input: u64| json!({"status": "running", "task_id": "t9", "tokens": {"input": input, "output": 10, "cost_usd": 0.5}});
    let silence =
        |matchers: Value| json!({"matchers": matchers, "duration": "1h", "created_by": "ann", "comment": "x"});
    vec![
        (
            "a quiet fleet",
            "/api/state",
            shop(vec![
                agent(
                    "a",
                    json!({"status": "running", "task_id": "t1", "phase": "build", "progress": 5, "model": "m1"}),
                ),
                agent("b", json!({"running": true, "restart_count": 1})),
                agent("c", json!({"status": "idle"})),
            ]),
        ),
        (
            "one fails",
            "/api/state",
            shop(vec![agent("a", json!({"status": "failed", "reason": "exit code 137\nout of <memory> & *more*"}))]),
        ),
        ("another fails", "/api/state", shop(vec![agent("b", json!({"running": false, "task_id": "t2"}))])),
        ("a third fails", "/api/state", shop(vec![agent("c", json!({"status": "failed", "task_id": "t3"}))])),
        ("one is well again", "/api/state", shop(vec![agent("a", json!({"status": "running"}))])),
        (
            "all are well again",
            "/api/state",
            shop(vec![agent("b", json!({"running": true})), agent("c", json!({"status": "completed"}))]),
        ),
        ("restarts", "/api/state", shop(vec![agent("b", json!({"restart_count": 5}))])),
        ("more restarts", "/api/state", shop(vec![agent("b", json!({"restart_count": 12}))])),
        ("a task's budget", "/api/state", shop(vec![agent("d", tokens(950))])),
        ("over it", "/api/state", shop(vec![agent("d", tokens(1500))])),
        (
            "a rate limit",
            "/api/state",
            shop(vec![agent(
                "e",
                json!({"status": "running", "requests": {"total": 10, "errors": 0, "rate_limited": 0}}),
            )]),
        ),
        (
            "refused requests",
            "/api/state",
            shop(vec![agent(
                "e",
                json!({"requests": {"total": 20, "errors": 4, "rate_limited": 4}, "rate_limits": [{"provider": "anthropic", "limit_type": "requests", "limit": 100, "remaining": 0, "reset_at": "2100-01-01T00:00:00Z"}]}),
            )]),
        ),
        (
            "an answered request",
            "/api/state",
            shop(vec![agent(
                "e",
                json!({"rate_limits": [{"provider": "anthropic", "limit_type": "requests", "limit": 100, "remaining": 50}]}),
            )]),
        ),
        (
            "components",
            "/api/state",
            json!({"project": "shop", "components": [{"name": "queue", "status": "WARNING", "details": "slow", "metrics": {"depth": 7}}, {"name": "db", "status": "ERROR"}]}),
        ),
        (
            "components well",
            "/api/state",
            json!({"project": "shop", "components": [{"name": "queue", "status": "OK"}, {"name": "db", "status": "LIMITED"}]}),
        ),
        (
            "waiting",
            "/api/state",
            shop(vec![agent(
                "f",
                json!({"status": "waiting_question", "reason": "which colour? sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}),
            )]),
        ),
        ("a silence", "/api/silences", silence(json!({"project": "shop", "agent_name": "g"}))),
        ("trouble in silence", "/api/state", shop(vec![agent("g", json!({"status": "failed", "task_id": "t7"}))])),
        ("many fail", "/api/state", many("failed")),
        ("many are well", "/api/state", many("running")),
        (
            "increments",
            "/api/usage",
            json!({"project": "shop", "usage": [{"agent": "h", "input": 10, "output": 5, "cost_usd": 0.01, "id": "r1", "model": "m2"}, {"agent": "h", "input": 10, "id": "r1"}, {"agent": "h", "cache_read": 7, "reasoning": 3, "id": "r2"}]}),
        ),
        (
            "the same increments",
            "/api/usage",
            json!({"project": "shop", "usage": [{"agent": "h", "input": 10, "id": "r1"}, {"agent": "h", "input": 1}]}),
        ),
        (
            "camel case and nulls",
            "/api/state",
            json!({"project": "shop", "agents": [{"name": "a", "taskId": null, "lastActivity": null, "restartCount": 2, "status": "waiting_review"}, {"name": "", "status": "running"}, {"name": "z", "status": "bewildered"}]}),
        ),
        (
            "in order",
            "/api/state",
            json!({"project": "order", "ordinal": {"run": "r", "number": 7}, "agents": [{"name": "o", "status": "running"}]}),
        ),
        (
            "late",
            "/api/state",
            json!({"project": "order", "ordinal": {"run": "r", "number": 6}, "agents": [{"name": "o", "status": "failed"}]}),
        ),
        (
            "a complete list",
            "/api/state",
            json!({"project": "farm", "complete": true, "agents": [{"name": "m00", "status": "running"}]}),
        ),
        ("paused", "/api/monitoring/stop", json!({})),
        ("trouble while paused", "/api/state", shop(vec![agent("i", json!({"status": "failed", "task_id": "t8"}))])),
        ("resumed", "/api/monitoring/start", json!({})),
    ]
}

/// Pushed state from healthy to problems and back, with one receiver of each kind, and a restart.
///
/// In parts that take less than the minute after which an Alertmanager is sent everything again.
pub(super) fn pushes(program: &Path, transcript: &mut Transcript) {
    let mut sent = 0;
    for (number, part) in steps().chunks(10).enumerate() {
        sent += pushed(program, transcript, number, part);
    }
    assert!(sent > 50, "only {sent} messages were sent");
}

/// One part of the steps on a fleet of its own; the number of messages that it caused.
fn pushed(program: &Path, transcript: &mut Transcript, part: usize, steps: &[(&str, &str, Value)]) -> usize {
    let sink = Sink::start();
    let limits = "budgets: {tokens_per_task: 1000, cost_usd_per_day: 3}\nagents: {timeout: 10m, max_idle: 10m}\n";
    let setup = setup(program, &format!("rules: [more.yaml]\n{limits}{}", receivers(&sink)));
    let rule = "name: AgentStatusChanged, enabled: true, for_each: agent, signal: {changes_of: status, over: 1h}";
    setup.write("more.yaml", &format!("rules:\n  - {{{rule}, when: at_least, levels: {{info: 1}}}}\n"));
    let lookout = setup.start();
    let mut sent = 0;
    for (number, (name, path, body)) in steps.iter().enumerate() {
        let answer = lookout.post(path, body);
        let name = format!("{part}.{number} {name}");
        transcript.add(format!("{name}: answer"), &format!("{} {}", answer.status, answer.text()));
        let messages = messages(&sink);
        sent += messages.len();
        transcript.unordered(format!("{name}: messages"), messages);
    }
    pages(transcript, &lookout, &format!("{part} at the end"));
    assert!(lookout.sigterm().success());
    let lookout = setup.start();
    transcript.unordered(format!("{part} after a restart: messages"), messages(&sink));
    pages(transcript, &lookout, &format!("{part} after a restart"));
    sent
}

/// Every recording of the project: hooks, telemetry twice over, callbacks, and streams through `pipe`.
pub(super) fn recordings(program: &Path, transcript: &mut Transcript) {
    let setup = setup(program, "otlp: {agents: [{match: {service.name: litellm}, agent: proxy}]}\n");
    let lookout = setup.start();
    for path in files("tests/it/samples/hooks") {
        let route = format!("/hooks/claude-code?agent={}&project=hooks", stem(&path));
        for line in String::from_utf8(bytes(&path)).expect("text").lines() {
            let answer = lookout.send("POST", &route, &[("content-type", "application/json")], line.as_bytes());
            assert_eq!(answer.status, 204, "{}", path.display());
        }
    }
    pages(transcript, &lookout, "after hooks");
    let otlp = otlp_address(&lookout);
    for turn in ["first", "again"] {
        for path in files("tests/it/samples/otlp") {
            let name = path.to_string_lossy().into_owned();
            let kind = if name.contains(".json") { "application/json" } else { "application/x-protobuf" };
            let signal =
                ["metrics", "traces", "logs"].into_iter().find(|signal| name.contains(signal)).expect("a signal");
            let headers = [("content-type", kind)];
            let answer =
                http::request(otlp, "POST", &format!("/v1/{signal}"), &headers, &bytes(&path)).expect("an answer");
            assert_eq!(answer.status, 200, "{name}");
            transcript.add(format!("{turn} {name}"), &String::from_utf8_lossy(&answer.body));
        }
        settle(&lookout);
        pages(transcript, &lookout, &format!("after telemetry, {turn}"));
    }
    let calls = bytes(Path::new("tests/it/samples/callback/litellm-1.106.2.json.gz"));
    lookout.send("POST", "/hooks/litellm?project=calls", &[("content-type", "application/json")], &calls);
    for path in files("tests/it/samples/stream") {
        let url = lookout.url();
        let mut command = setup.command(&["pipe", "--url", &url, "--project", "streams", "--agent", &stem(&path)]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("lookout");
        let (mut input, stream) = (child.stdin.take().expect("its input"), bytes(&path));
        let writer = std::thread::spawn(move || input.write_all(&stream).expect("a pipe that reads"));
        let output = child.wait_with_output().expect("its end");
        writer.join().expect("a writer");
        assert_eq!(output.stdout, bytes(&path), "{}", path.display());
        transcript.add(format!("pipe {}", stem(&path)), &String::from_utf8_lossy(&output.stderr));
    }
    settle(&lookout);
    pages(transcript, &lookout, "after callbacks and streams");
    for command in [&["doctor"][..], &["agents"], &["status"], &["alerts"]] {
        printed(transcript, &setup, &[command, &["--url", &lookout.url()]].concat());
    }
}

/// The address of OTLP over HTTP, from the log.
fn otlp_address(lookout: &Lookout) -> SocketAddr {
    eventually("a listener of OTLP over HTTP", || {
        let log = lookout.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut found = lines.filter(|line| line.to_string().contains("OtlpHttp"));
        found.next()?["address"].as_str()?.parse().ok()
    })
}

/// Waits until what was accepted is on the pages: two in a row have the same series of the fleet.
fn settle(lookout: &Lookout) {
    let shown = || {
        let page = lookout.get("/metrics");
        let lines = page.text().lines().filter(|line| line.starts_with("orchestrator_") && !line.contains("_seconds"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let mut last = shown();
    eventually("pages that stay", || {
        std::thread::sleep(Duration::from_millis(500));
        let next = shown();
        let stays = last == next;
        last = next;
        stays.then_some(())
    });
}

/// Pages of two kinds that change, break and recover.
pub(super) fn polls(program: &Path, transcript: &mut Transcript) {
    let upstream = Upstream::start();
    let sink = Sink::start();
    let url = upstream.url();
    let config = format!(
        "agents: {{timeout: 10m, max_idle: 10m}}\nsources:\n  - {{name: older, kind: orchestrator-cc, url: \"{url}/older\", interval: 100ms, project: older}}\n  \
         - {{name: newer, kind: orchestrator-cc, url: \"{url}/newer\", interval: 100ms}}\n  \
         - {{name: page, kind: http-json, url: \"{url}/page\", interval: 100ms, project: page, status_map: {{busy: running, dead: failed}}, \
         fields: {{agents: \"$.workers[*]\", name: \"$.id\", status: \"$.state\", tokens.input: \"$.in\", task_id: \"$.task\"}}}}\n{}",
        receivers(&sink)
    );
    let older = |running: bool| json!({"agents": [{"name": "boss", "running": running, "restart_count": 2, "last_activity": 0.0}, {"name": "clerk", "running": true, "restart_count": 0, "last_activity": 0.0}]});
    let newer = json!({"shop": {"a": {"isHealthy": true, "lastActivity": "2026-01-01T00:00:00", "timeoutThreshold": 300, "elapsed": 1.0}, "b": {"isHealthy": false, "lastActivity": "2026-01-01T00:00:00", "timeoutThreshold": 300, "elapsed": 400.0}}});
    let page = |state: &str| json!({"workers": [{"id": "w1", "state": state, "in": 7, "task": "t"}, {"id": "w2", "state": "busy"}, {"state": "busy"}]});
    upstream.respond_with("/older/api/agents", &older(true));
    upstream.respond_with("/newer/api/health", &newer);
    upstream.respond_with("/newer/api/teams", &json!({"teams": []}));
    upstream.respond_with("/page", &page("busy"));
    let lookout = setup(program, &config).start();
    // One page at a time, so that what is sent together does not depend on which is polled first.
    let routes = ["/older/api/agents", "/newer/api/health", "/page"];
    let mut turn = |name: &str, behaviors: [UpstreamBehavior; 3]| {
        for (route, behavior) in routes.into_iter().zip(behaviors) {
            upstream.set(route, behavior);
            transcript.unordered(format!("{name}: messages after {route}"), messages(&sink));
        }
        pages(transcript, &lookout, name);
    };
    let responds = |body: Value| UpstreamBehavior::Responds(200, body.to_string());
    turn("1 all answer", [responds(older(true)), responds(newer.clone()), responds(page("busy"))]);
    turn("2 agents fail", [responds(older(false)), responds(newer.clone()), responds(page("dead"))]);
    turn(
        "3 errors",
        [
            UpstreamBehavior::Responds(500, "no".to_owned()),
            UpstreamBehavior::Closes,
            UpstreamBehavior::Responds(200, "<html>".to_owned()),
        ],
    );
    let odd = responds(json!({"workers": [{"id": "w2", "state": "pondering", "in": -1}]}));
    turn("4 recovered", [responds(older(true)), responds(newer.clone()), odd]);
}

/// Inputs of the fuzzing corpus, and damaged ones: the answers to each, and the pages afterwards.
pub(super) fn rubbish(program: &Path, transcript: &mut Transcript) {
    let setup = setup(program, "");
    let lookout = setup.start();
    let otlp = otlp_address(&lookout);
    let json = [("content-type", "application/json")];
    for path in files("fuzz/inputs/push").into_iter().chain(files("fuzz/inputs/poll")) {
        for route in ["/api/state", "/api/usage", "/hooks/claude-code?agent=x", "/hooks/litellm"] {
            let answer = lookout.send("POST", route, &json, &bytes(&path));
            transcript.add(
                format!("{} {route}", path.display()),
                &format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            );
        }
    }
    let bodies: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("brace", b"{"),
        ("null", b"null"),
        ("array", b"[1, 2]"),
        ("types", br#"{"project": 1, "agents": {"a": 1}}"#),
        ("items", br#"{"agents": [1, null, {"name": 2}, {"name": "ok", "tokens": {"input": -1}, "progress": "x"}]}"#),
        ("long", br#"{"agents": [{"name": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]}"#),
        ("usage", br#"{"usage": [{"agent": "a", "input": "x"}, {"input": 1}, {"agent": "a", "cost_usd": -1}]}"#),
        ("control", b"{\"agents\": [{\"name\": \"a\\u0007b\", \"status\": \"running\"}]}"),
    ];
    for (name, body) in bodies {
        for route in ["/api/state", "/api/usage", "/api/silences", "/hooks/claude-code?agent=y", "/hooks/litellm"] {
            let answer = lookout.send("POST", route, &json, body);
            transcript.add(
                format!("{name} {route}"),
                &format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            );
        }
        for signal in ["metrics", "traces", "logs"] {
            let answer = http::request(otlp, "POST", &format!("/v1/{signal}"), &json, body).expect("an answer");
            transcript.add(
                format!("{name} otlp {signal}"),
                &format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
            );
        }
    }
    settle(&lookout);
    pages(transcript, &lookout, "afterwards");
    for path in files("fuzz/inputs/config") {
        setup.write("other.yaml", &String::from_utf8_lossy(&bytes(&path)));
        let output = setup.command(&["check", "--print", "--config", "other.yaml"]).output().expect("lookout");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        transcript.add(format!("check {}", path.display()), &text);
    }
}

/// Commands without a sidecar: rule tests, exported rules, printed settings, and a recording on the virtual clock.
pub(super) fn offline(program: &Path, transcript: &mut Transcript) {
    let setup = Setup::new("record: {path: state.record}\nbudgets: {tokens_per_task: 1000}\n").program(program);
    let root = tidy::root();
    let tests: Vec<PathBuf> =
        files("alerts/tests").into_iter().chain([PathBuf::from("tests/it/ruletools/scenario.test.yaml")]).collect();
    for path in &tests {
        let output =
            setup.command(&["test", "rules", "--junit", "junit.xml"]).arg(root.join(path)).output().expect("lookout");
        let junit = std::fs::read_to_string(setup.path().join("junit.xml")).unwrap_or_default();
        transcript.add(
            format!("test rules {}", path.display()),
            &format!("{}{junit}", String::from_utf8_lossy(&output.stdout)),
        );
    }
    printed(transcript, &setup, &["export", "prometheus-rules"]);
    let sink = Sink::start();
    setup.write("all.yaml", &receivers(&sink));
    printed(transcript, &setup, &["check", "--print", "--config", "all.yaml"]);
    for tool in ["claude-code", "codex", "gemini-cli", "litellm", "opentelemetry"] {
        printed(transcript, &setup, &["setup", tool, "--agent", "a", "--project", "p", "--config", "all.yaml"]);
    }
    for labels in ["rule=AgentIdle level=error agent_name=w", "rule=SourceDown level=critical project=shop"] {
        let labels: Vec<&str> = labels.split(' ').collect();
        printed(transcript, &setup, &[&["test", "route", "--config", "all.yaml"], &labels[..]].concat());
    }
    let lookout = setup.start();
    for (_, path, body) in steps() {
        if path == "/api/state" || path == "/api/usage" {
            lookout.post(path, &body);
        }
    }
    assert!(lookout.sigterm().success());
    setup.write("other.yaml", OTHER_RULES);
    let replay = ["replay", "state.record", "--rules", "other.yaml", "--config", "lookout.yaml", "--all"];
    printed(transcript, &setup, &replay);
    printed(transcript, &setup, &[&replay[..], &["--json"]].concat());
}

/// Other thresholds for a built-in rule, one rule less, and one of its own.
const OTHER_RULES: &str = "
rules:
  - {name: AgentIdle, for_each: agent, signal: idle_seconds, when: at_least, levels: {warning: 1s, error: 2s}, summary: s}
  - {name: AgentDown, enabled: false}
  - {name: Spent, for_each: agent, signal: tokens, when: at_least, levels: {error: 10}, summary: '{{ agent }} used tokens'}
";

/// The output and exit code of a command.
fn printed(transcript: &mut Transcript, setup: &Setup, arguments: &[&str]) {
    let output = setup.command(arguments).output().expect("lookout");
    let text = format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let shown: Vec<&str> = arguments.iter().copied().filter(|argument| !argument.starts_with("http")).collect();
    transcript.add(format!("$ lookout {}", shown.join(" ")), &text);
}
