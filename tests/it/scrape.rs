//! `/metrics` as read by promtool, the reference parsers of both formats, and a live Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use lookout::clock::Clock;
use lookout::metrics::names::FAMILIES;
use serde_json::{Value, json};

use crate::counterparts::Need;
use crate::program::{Lookout, Setup, eventually};
use crate::prometheus::Prometheus;
use crate::{Case, http, tidy, trial};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The `Accept` header of Prometheus.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.75,application/openmetrics-text;version=0.0.1;q=0.7,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
/// A name that needs every escape of the formats, or looks like one.
const AWKWARD: &str = r#"a"b\c{d}=e,f 🤖 \n #g"#;

/// The families of custom metrics on a full page.
const CUSTOM: [&str; 4] = [
    "orchestrator_custom_jobs_total",
    "orchestrator_custom_lag",
    "orchestrator_custom_pool_size",
    "orchestrator_custom_queue_length",
];

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("metrics: promtool finds no problem in a full page", &[Need::Promtool], promtool_is_silent),
        trial("metrics: every family of the table is on a full page", &[], every_family_is_there),
        trial("metrics: both formats carry the same samples", &[Need::PrometheusClient], formats_agree),
        trial("metrics: awkward names survive, control characters do not", &[Need::PrometheusClient], names_survive),
        trial("metrics: content types, HEAD and gzip", &[], head_and_gzip),
        trial("metrics: a removed agent has no series", &[], gone_is_gone),
        trial("metrics: a counter never goes backwards", &[], counters_only_rise),
        trial("metrics: a state set has exactly one state", &[], one_state),
        trial("metrics: a live Prometheus and its recording rules", &[Need::Prometheus], a_live_prometheus),
    ]
}

/// The body that has every field of the contract filled.
fn full(step: u64) -> Value {
    let now = Clock::system().now();
    let (before, soon) = (now.minus(Duration::from_secs(60)), now.plus(Duration::from_secs(600)));
    let agent = |name: &str, status: &str, factor: u64| {
        json!({
            "name": name, "type": "custom", "status": status, "reason": "as reported", "task_id": format!("task-{status}"),
            "task_started_at": before.to_string(), "last_activity": now.to_string(),
            "phase": "implement", "progress": 42.5, "context_window_ratio": 0.5, "restart_count": step, "estimated_completion": soon.to_string(),
            "model": format!("model \"{factor}\""),
            "tokens": {"input": 1000 * factor + 100 * step, "output": 500 + 10 * step, "cache_read": 7, "cache_creation": 5,
                       "reasoning": 3, "cost_usd": 0.0123 + step as f64},
            "requests": {"total": 40 + step, "errors": 1, "rate_limited": 2, "retries": 3},
            "reviews": {"passed": 3 + step, "failed": 1},
            "rate_limits": [
                {"provider": "anthropic", "limit_type": "requests", "limit": 50, "remaining": 12, "reset_at": now.to_string()},
                {"provider": "openai", "limit_type": "tokens", "limit": 5000, "remaining": 0, "reset_at": soon.to_string()}]
        })
    };
    json!({
        "project": "shop",
        "agents": [agent("grand_boss", "running", 1), agent(AWKWARD, "waiting_question", 2), agent("ended", "completed", 3),
                   {"name": "hardly known"}],
        "components": [{"name": "DatabaseManager", "status": "WARNING", "details": "pool is full",
                        "metrics": {"pool_size": 10}}, {"name": AWKWARD, "status": "LIMITED"}]
    })
}

/// The program with every family filled: fields, budgets, rate limits, components, a source, a receiver, an alert.
fn full_page() -> (Setup, Lookout) {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let setup = Setup::new(&format!(
        "budgets: {{tokens_per_task: 200000, tokens_per_day: 1000000, cost_usd_per_day: 20}}\n\
         sources:\n  - {{name: page, kind: orchestrator-cc, url: \"http://{closed}\", interval: 1s}}\n  \
         - {{name: other, kind: http-json, url: \"URL\", interval: 1s, fields: {{agents: \"$.agents[*]\", name: \"$.name\"}}}}\n\
         receivers: [{{name: ops, slack: {{webhook_url: \"http://{closed}/hook\"}}}}]\n\
         export: {{otlp: {{endpoint: \"URL\"}}}}\nregistry: {{mysql: {{url: \"mysql://lookout@{closed}/agents\"}}}}\n"
    ).replace("URL", &page_of_agents()));
    let lookout = setup.start();
    for step in 0..2 {
        let answer = lookout.post("/api/state", &full(step));
        assert_eq!(answer.json(), json!({"accepted": 6}), "{}", answer.text());
    }
    let usage = json!({"project": "shop", "usage": [{"agent": "biller", "model": "m", "input": 5, "output": 6}]});
    assert_eq!(lookout.post("/api/usage", &usage).status, 200);
    let custom = json!({"project": "shop", "metrics": [
        {"name": "queueLength", "value": 2.5, "agent": AWKWARD, "labels": {"Queue": AWKWARD}},
        {"name": "jobs", "kind": "counter", "value": 1e18, "labels": {"pool": "a"}},
        {"name": "jobs_total", "value": 4, "labels": {"pool": "b"}},
        {"name": "lag", "value": -0.25, "component": "DatabaseManager"}]});
    let answer = lookout.post("/api/metrics", &custom);
    assert_eq!(answer.json(), json!({"accepted": 4}), "{}", answer.text());
    let failed = json!({"project": "shop", "agents": [{"name": "broken", "status": "failed"}]});
    assert_eq!(lookout.post("/api/state", &failed).status, 200);
    report_runs(&lookout, 21);
    eventually("both sources were polled, a notice failed, and runs were exported", || {
        let page = lookout.get("/metrics");
        let page = page.text();
        let failed = page.lines().any(|line| {
            line.starts_with("lookout_notifications_failed_total{receiver=\"ops\"") && !line.ends_with(" 0")
        });
        let polled = ["lookout_source_up{source=\"page\"} 0\n", "lookout_source_up{source=\"other\"} 1\n"];
        let exported = page.contains("\nlookout_export_last_success_timestamp_seconds{");
        (failed && exported && polled.iter().all(|line| page.contains(line))).then_some(())
    });
    (setup, lookout)
}

/// Reports so many runs of an agent, the last of which failed, and one that goes on.
fn report_runs(lookout: &Lookout, count: usize) {
    let agent = json!({"project_id": "shop", "name": "grand_boss", "type": "custom"});
    assert!([200, 201].contains(&lookout.post("/agents/register", &agent).status));
    let start =
        || lookout.post("/agents/shop/grand_boss/trace/start", &json!({"name": "nightly", "platform": "slack"})).json();
    for number in 1..=count {
        let status = if number == count { "error" } else { "ok" };
        let end = json!({"trace_id": start()["trace_id"], "status": status, "cost_usd": 0.25, "tokens": {"input": 5, "output": 6},
            "metadata": {"thread_length": 4, "answered": number % 2 == 0}});
        assert_eq!(lookout.post("/agents/shop/grand_boss/trace/end", &end).status, 200);
    }
    start();
}

/// The address of a page of one agent, served as long as the tests run.
fn page_of_agents() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 2048];
            // The client closed the connection; the response is not read.
            if stream.read(&mut head).is_ok() {
                let body = r#"{"agents": [{"name": "polled"}]}"#;
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).unwrap_or_default();
            }
        }
    });
    format!("http://{address}")
}

fn page(lookout: &Lookout, accept: &str) -> http::Response {
    lookout.send("GET", "/metrics", &[("accept", accept)], b"")
}

/// Runs a program with `input`, and returns its output.
fn fed(command: &mut Command, input: &[u8]) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_vec();
    // Unread input shows in its exit status.
    let feeder = std::thread::spawn(move || stdin.write_all(&input).unwrap_or_default());
    let output = child.wait_with_output().expect("its end");
    feeder.join().expect("the input is written");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    text
}

fn promtool_is_silent() {
    let (_setup, lookout) = full_page();
    for accept in ["text/plain", "*/*"] {
        let output = fed(Command::new("promtool").args(["check", "metrics"]), &page(&lookout, accept).body);
        assert_eq!(output, "");
    }
}

fn every_family_is_there() {
    let (_setup, lookout) = full_page();
    let page = lookout.get("/metrics");
    let page = page.text();
    let mut typed = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = line.split_once(' ').expect("a name and a type");
        assert!(typed.insert(name), "{name} is there twice");
        let is_known = FAMILIES.iter().any(|family| family.name == name) || CUSTOM.contains(&name);
        assert!(is_known, "{name} is not in the table");
    }
    assert!(CUSTOM.iter().all(|name| typed.contains(name)), "{CUSTOM:?} are on the page");
    for family in FAMILIES {
        let sampled = page.lines().any(|line| {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            name == family.name || name.strip_suffix("_count") == Some(family.name)
        });
        assert!(sampled && typed.contains(family.name), "no sample of {}", family.name);
    }
    // Every label of the table, and no other.
    let is_own =
        |line: &&str| !line.starts_with('#') && !line.contains("🤖") && !line.starts_with("orchestrator_custom_");
    for line in page.lines().filter(is_own) {
        let (name, rest) = line.split_once(['{', ' ']).expect("a sample");
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let family = FAMILIES.iter().find(|family| family.name == name || family.name == base);
        let family = family.unwrap_or_else(|| panic!("{name} is not in the table"));
        let labels: BTreeSet<&str> = match rest.rsplit_once('}') {
            Some((labels, _)) => labels
                .split("\",")
                .filter_map(|pair| pair.split_once('='))
                .map(|(label, _)| label)
                .filter(|label| *label != "le")
                .collect(),
            None => BTreeSet::new(),
        };
        assert_eq!(labels, family.labels.iter().copied().collect(), "{line}");
    }
}

/// The samples of a page under the reference parser of its format: (name, labels) to (value, type).
fn samples(format: &str, page: &[u8]) -> BTreeMap<(String, String), (String, String)> {
    let script = tidy::root().join("tests/it/doubles/exposition.py");
    let printed = fed(Command::new("python3").arg(script).arg(format), page);
    let mut samples = BTreeMap::new();
    for line in printed.lines() {
        let sample: Value = serde_json::from_str(line).expect("a sample");
        let word = |place: usize| sample[place].as_str().expect("a word").to_owned();
        let before = samples.insert((word(0), sample[1].to_string()), (word(2), word(3)));
        assert!(before.is_none(), "{line} is there twice");
    }
    samples
}

fn formats_agree() {
    let (_setup, lookout) = full_page();
    // Gauges of the process and of time move between two scrapes.
    let moves = |name: &str| {
        let moving =
            ["process_", "lookout_", "orchestrator_agent_idle_time_seconds", "orchestrator_agent_run_longest_seconds"];
        moving.iter().any(|start| name.starts_with(start))
    };
    let read = |format: &str, accept: &str| samples(format, &page(&lookout, accept).body);
    let (open, text) = (read("openmetrics", OPENMETRICS), read("text", TEXT));
    assert!(open.keys().eq(text.keys()), "only in one format:\n{:#?}", {
        let (open, text): (BTreeSet<_>, BTreeSet<_>) = (open.keys().collect(), text.keys().collect());
        open.symmetric_difference(&text).map(|key| format!("{key:?}")).collect::<Vec<_>>()
    });
    for (key, (value, kind)) in &open {
        let (other, other_kind) = &text[key];
        assert_eq!(kind, other_kind, "{key:?}");
        assert!(value == other || moves(&key.0), "{key:?} is {value} and {other}");
    }
    assert!(open.len() > 250, "a full page has {} samples", open.len());
}

fn names_survive() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let names =
        ["a\"b", "a\\b", "a\\nb", "{a=\"b\"}", "🤖 grüße", "a,b", "# EOF", "a b", "\\\"", "\\", "'", "%s", AWKWARD];
    let agents: Vec<Value> = names.iter().map(|name| json!({"name": name, "type": name, "model": name})).collect();
    let components: Vec<Value> = names.iter().map(|name| json!({"name": name, "status": "OK"})).collect();
    for project in ["shop", AWKWARD] {
        let answer =
            lookout.post("/api/state", &json!({"project": project, "agents": agents, "components": components}));
        assert_eq!(answer.json(), json!({"accepted": 2 * names.len()}), "{}", answer.text());
    }
    for hostile in ["a\nb", "a\rb", "a\u{0}b", "\u{1b}[31mred", "a\u{202e}b", "", "\u{7f}"] {
        let answer = lookout.post("/api/state", &json!({"agents": [{"name": hostile}]}));
        let answered =
            (answer.status, answer.json()["accepted"].clone(), answer.json()["rejected"][0]["field"].clone());
        assert_eq!(answered, (200, json!(0), json!("name")), "{hostile:?}: {}", answer.text());
        assert_eq!(lookout.post("/api/state", &json!({"project": hostile, "agents": []})).status, 400, "{hostile:?}");
    }
    for (format, accept) in [("openmetrics", OPENMETRICS), ("text", TEXT)] {
        let samples = samples(format, &page(&lookout, accept).body);
        for name in names {
            for project in ["shop", AWKWARD] {
                let labels = json!([["agent_name", name], ["project", project]]).to_string();
                assert!(samples.contains_key(&("orchestrator_agent_up".to_owned(), labels)), "{format}: {name}");
                let labels = json!([["agent_name", name], ["agent_type", name], ["model", name], ["project", project]]);
                let key = ("orchestrator_agent_info".to_owned(), labels.to_string());
                assert!(samples.contains_key(&key), "{format}: {key:?}");
            }
        }
        let up = samples.keys().filter(|(name, _)| name == "orchestrator_agent_up").count();
        assert_eq!(up, 2 * names.len(), "{format}");
    }
}

fn head_and_gzip() {
    let setup = Setup::new("");
    let lookout = setup.start();
    lookout.post("/api/state", &full(0));
    for (accept, expected) in [
        (ACCEPT, OPENMETRICS),
        (OPENMETRICS, OPENMETRICS),
        ("text/plain;version=0.0.4", TEXT),
        ("*/*", TEXT),
        ("", TEXT),
        ("application/json", TEXT),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", TEXT),
    ] {
        let plain = page(&lookout, accept);
        assert_eq!((plain.status, plain.header("content-type")), (200, Some(expected)), "{accept}");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.text().ends_with("\n# EOF\n"), expected == OPENMETRICS, "{accept}");
        let head = lookout.send("HEAD", "/metrics", &[("accept", accept)], b"");
        assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some(expected), 0));

        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let packed = lookout.send("GET", "/metrics", &headers, b"");
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        assert_eq!(packed.header("content-type"), Some(expected));
        assert!(packed.header("vary").is_some_and(|vary| vary.to_lowercase().contains("accept-encoding")));
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&*packed.body).read_to_string(&mut unpacked).expect("a gzip body");
        // The sidecar's own metrics change between two scrapes; the fleet's do not.
        let steady = |page: &str| -> Vec<String> {
            let moves = |line: &&str| {
                let line = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
                !["process_", "lookout_", "orchestrator_agent_idle"].iter().any(|start| line.starts_with(start))
            };
            page.lines().filter(moves).map(str::to_owned).collect()
        };
        assert_eq!(steady(&unpacked), steady(plain.text()), "{accept}");
        assert_eq!(unpacked.lines().count(), plain.text().lines().count(), "{accept}");
    }
    let refused = lookout.send("GET", "/metrics", &[("accept-encoding", "gzip;q=0, br")], b"");
    assert_eq!(refused.header("content-encoding"), None);
    assert_eq!(lookout.send("HEAD", "/api/status", &[], b"").status, 200);
}

fn gone_is_gone() {
    let setup = Setup::new("agents: {forget_after: 2s, timeout: 1s}");
    let lookout = setup.start();
    let mut leaver = full(0)["agents"][0].clone();
    leaver["name"] = json!("leaver");
    let all =
        json!({"project": "shop", "complete": true, "agents": [full(0)["agents"][0], leaver, {"name": "stayer"}]});
    assert_eq!(lookout.post("/api/state", &all).status, 200);
    assert!(lookout.get("/metrics").text().matches("agent_name=\"leaver\"").count() > 25);
    let rest = json!({"project": "shop", "complete": true, "agents": [{"name": "stayer"}]});
    assert_eq!(lookout.post("/api/state", &rest).status, 200);
    for (format, page) in [("text", page(&lookout, TEXT)), ("openmetrics", page(&lookout, OPENMETRICS))] {
        assert!(!page.text().contains("leaver"), "{format}: no series at all");
        assert!(page.text().contains("agent_name=\"stayer\""), "{format}");
    }
    // Its usage is still part of its project's totals.
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["tokens"]["input"], 2_000);

    eventually("the agent without further reports is stale", || {
        let page = lookout.get("/metrics");
        page.text().contains("orchestrator_agent_up{project=\"shop\",agent_name=\"stayer\"} 0\n").then_some(())
    });
    eventually("it is forgotten", || (!lookout.get("/metrics").text().contains("stayer")).then_some(()));
    assert_eq!(lookout.get("/api/metrics").json()["metrics"]["total_agents"], 0);
}

fn counters_only_rise() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let mut last = BTreeMap::new();
    for (input, restarts, requests, cost) in
        [(1_000, 3, 40, 1.5), (5_000, 4, 41, 2.5), (200, 0, 2, 0.25), (0, 0, 0, 0.0), (300, 1, 5, 0.5)]
    {
        let agent = json!({"name": "a", "model": "m", "restart_count": restarts,
            "tokens": {"input": input, "output": 1, "cost_usd": cost},
            "requests": {"total": requests, "errors": 0}, "reviews": {"passed": requests, "failed": 0}});
        assert_eq!(lookout.post("/api/state", &json!({"agents": [agent]})).status, 200);
        let page = lookout.get("/metrics");
        for line in page.text().lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let value: f64 = value.parse().expect("a number");
            let name = series.split('{').next().unwrap_or_default();
            if ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end)) {
                let before = last.insert(series.to_owned(), value).unwrap_or(0.0);
                assert!(value >= before, "{series} went from {before} to {value}");
            }
        }
    }
    for (series, expected) in [
        ("orchestrator_agent_tokens_total{project=\"default\",agent_name=\"a\",token_type=\"input\"}", 5_500.0),
        ("orchestrator_agent_restarts_total{project=\"default\",agent_name=\"a\"}", 5.0),
        ("orchestrator_agent_requests_total{project=\"default\",agent_name=\"a\"}", 48.0),
        ("orchestrator_agent_cost_usd_total{project=\"default\",agent_name=\"a\"}", 3.25),
        ("orchestrator_model_tokens_total{project=\"default\",model=\"m\",token_type=\"input\"}", 5_500.0),
    ] {
        assert_eq!(last.get(series), Some(&expected), "{series}");
    }
}

fn one_state() {
    let setup = Setup::new("");
    let lookout = setup.start();
    let statuses = [
        "idle",
        "starting",
        "running",
        "waiting_review",
        "waiting_dependency",
        "waiting_question",
        "paused",
        "completed",
        "failed",
        "idle",
    ];
    for status in statuses {
        for component in ["OK", "LIMITED", "WARNING", "ERROR"] {
            let body = json!({"agents": [{"name": "a", "status": status}, {"name": "other", "status": "running"}],
                              "components": [{"name": "c", "status": component}]});
            assert_eq!(lookout.post("/api/state", &body).status, 200);
            let page = lookout.get("/metrics");
            let mut sets: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
            for (family, label) in [
                ("orchestrator_agent_status{", "status"),
                ("orchestrator_component_status{", "status"),
                ("orchestrator_cluster_health{", "health"),
            ] {
                for line in page.text().lines().filter(|line| line.starts_with(family)) {
                    let (set, rest) = line.split_once(&format!(",{label}=\"")).expect("the state's label");
                    let (state, value) = rest.split_once("\"} ").expect("a value");
                    sets.entry(set.to_owned()).or_default().push((state.to_owned(), value.to_owned()));
                }
            }
            assert_eq!(sets.len(), 4, "{sets:?}");
            for (set, states) in &sets {
                let on: Vec<&str> =
                    states.iter().filter(|(_, value)| value == "1").map(|(state, _)| state.as_str()).collect();
                assert!(
                    on.len() == 1 && states.iter().all(|(_, value)| value == "0" || value == "1"),
                    "{set}: {states:?}"
                );
                if set.contains("agent_name=\"a\"") {
                    assert_eq!((on[0], states.len()), (status, 9));
                } else if set.contains("component=") {
                    assert_eq!((on[0], states.len()), (component, 4));
                }
            }
        }
    }
}

fn a_live_prometheus() {
    let setup = Setup::new("budgets: {tokens_per_task: 200000, tokens_per_day: 1000000, cost_usd_per_day: 2000}");
    let lookout = setup.start();
    assert_eq!(lookout.post("/api/state", &full(0)).status, 200);
    let prometheus = Prometheus::scraping(lookout.address());
    eventually("the fleet", || (prometheus.value("sum(orchestrator_agent_up)") == Some(3.0)).then_some(()));
    assert_eq!(prometheus.value("up{job=\"lookout\"}"), Some(1.0));
    assert_eq!(prometheus.value("count(orchestrator_agent_up)"), Some(4.0), "the completed one is there and not up");
    let sum = "sum(orchestrator_agent_tokens_total{token_type=\"input\"})";
    assert_eq!(prometheus.value(sum), Some(6_000.0));
    let awkward = format!("orchestrator_agent_up{{agent_name={}}}", Value::from(AWKWARD));
    assert_eq!(prometheus.value(&awkward), Some(1.0), "{awkward}");

    // Windows need change to show any.
    let records: Vec<String> = tidy::text("prometheus/recording.rules.yml")
        .expect("the rules")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: ").map(str::to_owned))
        .collect();
    assert!(records.len() > 15);
    let mut step = 0;
    let mut without: Vec<&String> = Vec::new();
    eventually(&format!("each recording rule has a value; {records:?}"), || {
        step += 1;
        let mut body = full(step);
        // A task ends each time, once completed and once failed.
        body["agents"][0]["status"] = json!(if step % 2 == 0 { "completed" } else { "running" });
        body["agents"][1]["status"] = json!(if step % 2 == 0 { "failed" } else { "running" });
        assert_eq!(lookout.post("/api/state", &body).status, 200);
        report_runs(&lookout, 2);
        let no_number = |record: &&String| {
            let series = prometheus.query(record);
            !series.iter().any(|one| one["value"][1].as_str().is_some_and(|number| number != "NaN"))
        };
        without = records.iter().filter(no_number).collect();
        without.is_empty().then_some(())
    });
    // The budget of the day counts from the first value.
    step += 1;
    assert_eq!(lookout.post("/api/state", &full(step)).status, 200);
    let ratio = "agent:orchestrator_agent_budget_tokens_used:ratio{agent_name=\"grand_boss\", scope=\"day\"}";
    eventually("a part of the day's budget is used", || {
        prometheus.value(ratio).is_some_and(|ratio| ratio > 0.0 && ratio < 1.0).then_some(())
    });
    eventually("sums follow", || {
        let input = (6_000 + 300 * step) as f64;
        (prometheus.value(sum) == Some(input)).then_some(())
    });
    // A removed agent is stale for Prometheus at once.
    let rest = json!({"project": "shop", "complete": true, "agents": [{"name": "grand_boss"}]});
    assert_eq!(lookout.post("/api/state", &rest).status, 200);
    eventually("only one is left", || (prometheus.value("count(orchestrator_agent_up)") == Some(1.0)).then_some(()));
}
