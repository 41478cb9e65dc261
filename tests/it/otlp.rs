//! OTLP: recorded exports of seven tools, OpenTelemetry's SDK as a client, malformed and excessive exports.

mod counting;
mod doctor;
pub(crate) mod private;
mod rejections;
mod restarts;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::counterparts::{self, Need};
use crate::http::{self, Response};
use crate::program::{Lookout, Setup, eventually};
use crate::prometheus::{self, Prometheus};
use crate::{Case, tidy, trial};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

pub(crate) fn trials() -> Vec<Case> {
    const SDK: &[Need] = &[Need::OpenTelemetry];
    vec![
        trial("otlp: recorded exports of seven tools make a valid exposition", &[Need::Promtool], recordings_over_http),
        trial("otlp: both exposition formats have the same samples", &[Need::PrometheusClient], formats_agree),
        trial("otlp: recorded exports over gRPC count once", SDK, recordings_over_grpc),
        trial("otlp: recorded exports become agents and count once", &[], recordings_become_agents),
        trial("otlp: no private attribute reaches metrics, API, log or disk", &[], private::recordings_stay_private),
        trial(
            "otlp: OpenTelemetry's SDK over HTTP and gRPC, plain and gzip, delta and cumulative",
            SDK,
            the_sdk_is_counted_right,
        ),
        trial("otlp: stalled exports are closed to make room for others", SDK, rejections::stalled_exports_make_room),
        trial(
            "otlp: Prometheus' increase is right over a restart of the sender",
            &[Need::OpenTelemetry, Need::Prometheus],
            increase_is_right,
        ),
        trial(
            "otlp: responses have the encoding of the request, and errors a cause",
            &[],
            rejections::responses_have_the_encoding_of_the_request,
        ),
        trial("otlp: a decompression bomb is rejected while it is decompressed", &[], rejections::bombs_are_refused),
        trial("otlp: gRPC errors have the codes of OTLP", SDK, rejections::grpc_codes),
        trial("otlp: streams of one connection count as connections", &[], rejections::streams_are_bounded),
        trial(
            "otlp: TLS holds on every listener, for OpenTelemetry's SDK over HTTP and gRPC",
            &[Need::OpenTelemetry, Need::Openssl, Need::Curl],
            rejections::tls_holds,
        ),
        trial("otlp: tokens, hosts and roles are checked on every listener", SDK, rejections::access_holds),
        trial("otlp: a default port in use is a warning, a configured one an error", &[], rejections::taken_ports),
        trial("otlp: a read after the response sees the export", &[], counting::a_read_follows_its_write),
        trial("otlp: replicas and duplicates count no more than was used", &[], counting::replicas_count_once_each),
        trial(
            "otlp: a start time that is not before the point is no reset",
            &[],
            counting::a_start_time_that_is_not_before_the_point_is_unknown,
        ),
        trial("otlp: the rule that `setup` prints for Codex names its agent", &[], setup_names_the_agent),
        trial("otlp: `doctor` reports missing signals", &[], doctor::it_reports_missing_signals),
        trial("otlp: signals before and after a kill count once", &[], restarts::a_kill_between_signals),
        trial(
            "otlp: a kill right after the first export loses nothing that is exported again",
            &[],
            restarts::a_kill_after_the_first_export,
        ),
        trial("otlp: a reload drops attributes at once", &[], rejections::a_reload_drops),
    ]
}

/// The program with OTLP on free ports, and their addresses.
struct Receiver {
    setup: Setup,
    lookout: Lookout,
    http: SocketAddr,
    grpc: SocketAddr,
}

fn receiver(config: &str) -> Receiver {
    started(Setup::new(config), Setup::start)
}

/// The same with an existing setup and another way to start.
fn started(setup: Setup, start: impl FnOnce(&Setup) -> Lookout) -> Receiver {
    let setup = setup.env("LOOKOUT_OTLP__HTTP", "127.0.0.1:0").env("LOOKOUT_OTLP__GRPC", "127.0.0.1:0");
    let lookout = start(&setup);
    let address = |surface: &str| {
        let log = lookout.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut found = lines.filter(|line| line["message"] == "OTLP listener started" && line["surface"] == surface);
        Some(found.next()?["address"].as_str()?.parse::<SocketAddr>().expect("an address"))
    };
    let http = eventually("a listener of OTLP over HTTP", || address("OtlpHttp"));
    let grpc = eventually("a listener of OTLP over gRPC", || address("OtlpGrpc"));
    Receiver { setup, lookout, http, grpc }
}

impl Receiver {
    fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(self.http, "POST", path, headers, body).expect("an answer")
    }

    fn json(&self, body: &str) -> Response {
        self.post("/v1/metrics", &[("content-type", JSON)], body.as_bytes())
    }

    fn page(&self) -> String {
        self.lookout.get("/metrics").text().to_owned()
    }

    /// The value of the only series whose line begins with `name` and holds all of `labels`.
    fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let page = self.page();
        let mut found = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let value = found.next()?.rsplit(' ').next()?.parse().expect("a number");
        assert_eq!(found.next(), None, "{name} {labels:?}");
        Some(value)
    }
}

fn recordings_become_agents() {
    let receiver = receiver("otlp: {prices: {'gpt-5*': {input: 1, output: 10}}}");
    for _ in 0..2 {
        for (place, recording) in recordings().into_iter().enumerate() {
            let name = recording.file.to_string_lossy().into_owned();
            if name.contains("claude-code/success-http-json") || name.contains("codex/success-http-json") {
                let path = format!("/v1/{}", recording.signal);
                let answer = receiver.post(&path, &[("content-type", recording.encoding)], &recording.plain());
                assert_eq!(answer.status, 200, "{place} {name}");
            }
        }
    }
    for (agent, kind, tokens) in [
        ("claude-code", "cache_read", 20480.0),
        ("claude-code", "input", 1874.0),
        ("codex_exec", "input", 1134.0),
        ("codex_exec", "reasoning", 16.0),
    ] {
        let labels = [format!("agent_name=\"{agent}\""), format!("token_type=\"{kind}\"")];
        let labels = labels.each_ref().map(String::as_str);
        eventually("the tokens of an agent", || {
            (receiver.value("orchestrator_agent_tokens_total", &labels) == Some(tokens)).then_some(())
        });
    }
    let cost = |agent: &str| receiver.value("orchestrator_agent_cost_usd_total", &[&format!("agent_name=\"{agent}\"")]);
    assert!((cost("claude-code").expect("a cost") - 0.014_292).abs() < 1e-9);
    assert!((cost("codex_exec").expect("a cost") - (1134.0 + 4096.0 + 640.0) / 1e6).abs() < 1e-9);
    for agent in ["claude-code", "codex_exec"] {
        let label = format!("agent_name=\"{agent}\"");
        assert_eq!(receiver.value("orchestrator_agent_requests_total", &[&label]), Some(1.0), "{agent}");
    }
}

fn setup_names_the_agent() {
    // The recording was made with `environment = "test"`; the printed settings use that field for the agent's name.
    let setup = Setup::new("");
    let printed = setup.command(&["setup", "codex", "--agent", "test", "--project", "shop"]).output().expect("it runs");
    let printed = String::from_utf8(printed.stdout).expect("text");
    let (theirs, ours) = printed.split_once("# In lookout.yaml").expect("two parts");
    assert!(theirs.contains("environment = \"test\""), "{theirs}");
    let receiver = receiver(ours.split_once('\n').expect("lines").1);
    for recording in recordings() {
        if recording.file.to_string_lossy().contains("codex/success-http-json") {
            let path = format!("/v1/{}", recording.signal);
            receiver.post(&path, &[("content-type", recording.encoding)], &recording.plain());
        }
    }
    let labels = ["project=\"shop\"", "agent_name=\"test\""];
    eventually("the agent", || {
        (receiver.value("orchestrator_agent_requests_total", &labels) == Some(1.0)).then_some(())
    });
}

/// A recorded export.
struct Recording {
    file: PathBuf,
    signal: String,
    encoding: &'static str,
    gzip: Vec<u8>,
}

impl Recording {
    fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(&*self.gzip).read_to_end(&mut plain).expect("gzip");
        plain
    }
}

/// All recordings, those of a tool in the order in which they were made.
fn recordings() -> Vec<Recording> {
    let files = tidy::files("tests/it/samples/otlp");
    assert_eq!(files.iter().map(|file| file.parent()).collect::<BTreeSet<_>>().len(), 7, "seven tools");
    let read = |file: PathBuf| {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let stem = name.strip_suffix(".gz").expect("gzip");
        let (stem, ending) = stem.rsplit_once('.').expect("an ending");
        let signal = stem.rsplit_once('-').expect("a signal").1.to_owned();
        let encoding = if ending == "json" { JSON } else { PROTOBUF };
        Recording { gzip: std::fs::read(tidy::root().join(&file)).expect("a file"), file, signal, encoding }
    };
    files.into_iter().map(read).collect()
}

fn send_all(receiver: &Receiver) {
    for (place, recording) in recordings().into_iter().enumerate() {
        let path = format!("/v1/{}", recording.signal);
        // Half of them compressed, and a third through the main listener.
        let mut headers = vec![("content-type", recording.encoding)];
        let body = if place % 2 == 0 { recording.plain() } else { recording.gzip };
        if place % 2 == 1 {
            headers.push(("content-encoding", "gzip"));
        }
        let answer = if place % 3 == 0 {
            receiver.lookout.send("POST", &path, &headers, &body)
        } else {
            receiver.post(&path, &headers, &body)
        };
        assert_eq!(answer.status, 200, "{}: {:?}", recording.file.display(), String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), Some(recording.encoding), "{}", recording.file.display());
    }
}

fn recordings_over_http() {
    let receiver = receiver("");
    send_all(&receiver);
    let page = receiver.page();
    prometheus::reads(&page);
    for (family, kind) in [
        ("claude_code_token_usage_tokens_total", "counter"),
        ("codex_turn_token_usage", "histogram"),
        ("gemini_cli_api_request_count_total", "counter"),
        ("gen_ai_usage_cost_USD", "histogram"),
        ("langflow_db_pool_size", "gauge"),
        ("gen_ai_client_operation_duration_seconds", "histogram"),
        ("shop_exp_latency_milliseconds", "histogram"),
        ("shop_queue_depth", "gauge"),
        ("otlp_process_memory_usage_bytes", "gauge"),
        ("target_info", "gauge"),
    ] {
        assert!(page.contains(&format!("\n# TYPE {family} {kind}\n")), "{family}");
    }
    for signal in ["metrics", "traces", "logs"] {
        let ingested = receiver.value("lookout_ingested_total", &[&format!("signal=\"{signal}\"")]);
        assert!(ingested.is_some_and(|count| count > 20.0), "{signal}: {ingested:?}");
    }
    for reason in ["malformed", "conflict", "labels", "series_cap", "name", "buckets", "temporality"] {
        let labels = ["signal=\"metrics\"", &format!("reason=\"{reason}\"")];
        assert_eq!(receiver.value("lookout_rejected_total", &labels), Some(0.0), "{reason}");
    }
}

fn formats_agree() {
    let receiver = receiver("");
    send_all(&receiver);
    let read = |format: &str, page: &str| {
        let script = tidy::root().join("tests/it/doubles/exposition.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(format)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        child.stdin.take().expect("its input").write_all(page.as_bytes()).expect("a page to read");
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "the parser of {format} rejects the page");
        let samples = String::from_utf8(output.stdout).expect("text");
        let ours = ["[\"lookout_", "[\"process_", "[\"orchestrator_"];
        let theirs = samples.lines().filter(|line| !ours.iter().any(|own| line.starts_with(own)));
        // The parser of OpenMetrics names families of counters without `_total`, so that only samples are compared.
        let sample =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON").as_array().expect("a list")[..3].to_vec();
        theirs.map(sample).collect::<Vec<_>>()
    };
    let text = read("text", &receiver.page());
    let answer = receiver.lookout.send("GET", "/metrics", &[("accept", OPENMETRICS)], b"");
    let open_metrics = read("openmetrics", answer.text());
    assert!(text.len() > 1_000, "{}", text.len());
    assert_eq!(text, open_metrics);
}

/// Runs an OTLP client in Python; returns its output.
fn python(script: &str, arguments: &[&str]) -> String {
    let script = tidy::root().join("tests/it/doubles").join(script);
    counterparts::run(Command::new("timeout").args(["60", "python3"]).arg(script).args(arguments))
}

fn recordings_over_grpc() {
    let receiver = receiver("");
    let folder = receiver.setup.path().join("bodies");
    std::fs::create_dir(&folder).expect("a folder");
    // gRPC has protobuf only.
    let sent: Vec<Recording> = recordings().into_iter().filter(|recording| recording.encoding == PROTOBUF).collect();
    for (place, recording) in sent.iter().enumerate() {
        let name = format!("{place:03}-{}", recording.signal);
        std::fs::write(folder.join(name), recording.plain()).expect("a file");
    }
    let (folder, address) = (folder.display().to_string(), receiver.grpc.to_string());
    let once = python("otlp_grpc.py", &[&address, &folder]);
    assert!(once.lines().all(|line| line.starts_with("OK ")), "{once}");
    assert_eq!(once.lines().count(), sent.len());
    let values = |page: String| {
        let ours = ["lookout_", "process_", "orchestrator_", "#"];
        let theirs = page.lines().filter(|line| !ours.iter().any(|own| line.starts_with(own)));
        theirs.map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, count) = (values(receiver.page()), || receiver.value("lookout_ingested_total", &["\"metrics\""]));
    let taken = count();
    assert!(before.len() > 1_000 && taken.is_some_and(|taken| taken > 100.0), "{} {taken:?}", before.len());
    python("otlp_grpc.py", &[&address, &folder, "gzip"]);
    assert_eq!(values(receiver.page()), before, "what was sent again counts once");
    assert_eq!(count(), taken);
}

fn the_sdk_is_counted_right() {
    let receiver = receiver("");
    for (number, (protocol, temporality, compression)) in [
        ("http", "cumulative", "none"),
        ("http", "delta", "gzip"),
        ("grpc", "cumulative", "gzip"),
        ("grpc", "delta", "none"),
    ]
    .into_iter()
    .enumerate()
    {
        let address = if protocol == "http" { receiver.http } else { receiver.grpc };
        let instance = format!("i{number}");
        python("otel_client.py", &[protocol, &address.to_string(), temporality, compression, &instance]);
        let of = |name: &str, more: &[&str]| {
            let instance = format!("instance=\"{instance}\"");
            receiver.value(name, &[&[instance.as_str(), "job=\"team/shop\""], more].concat())
        };
        let what = format!("{protocol} {temporality} {compression}");
        assert_eq!(of("jobs_done_total", &["kind=\"a \\\"b\\\"\""]), Some(10.0), "{what}");
        assert_eq!(of("jobs_cost_USD_total", &[]), Some(0.75), "{what}");
        assert_eq!(of("jobs_waiting", &[]), Some(3.0), "{what}");
        assert_eq!(of("room_temperature_celsius", &[]), Some(21.5), "{what}");
        assert_eq!(of("job_duration_seconds_count", &[]), Some(3.0), "{what}");
        assert_eq!(of("job_duration_seconds_sum", &[]), Some(7.5), "{what}");
        assert_eq!(of("job_duration_seconds_bucket", &["le=\"1.0\""]), Some(1.0), "{what}");
        assert_eq!(of("job_size_bytes_count", &[]), Some(2.0), "{what}");
        assert_eq!(of("target_info", &["service_version=\"1.2\""]), Some(1.0), "{what}");
    }
    assert_eq!(receiver.value("lookout_ingested_total", &["\"traces\""]), Some(4.0 * 2.0));
    assert_eq!(receiver.value("lookout_ingested_total", &["\"logs\""]), Some(4.0));
}

fn increase_is_right() {
    let receiver = receiver("");
    let run = |temporality: &str| {
        python("otel_client.py", &["http", &receiver.http.to_string(), temporality, "none", "one"]);
    };
    run("cumulative");
    let prometheus = Prometheus::scraping(receiver.lookout.address());
    let total = "sum(jobs_done_total{exported_instance=\"one\"})";
    eventually("the first ten", || (prometheus.value(total) == Some(10.0)).then_some(()));
    // Another process of the same name: its count begins at 0 again.
    for runs in [2.0, 3.0] {
        run("cumulative");
        eventually("ten more", || (prometheus.value(total) == Some(10.0 * runs)).then_some(()));
    }
    let resets = "sum(resets(jobs_done_total{exported_instance=\"one\"}[5m]))";
    assert_eq!(prometheus.value(resets), Some(0.0), "a restart of the sender is no reset of the series");
    let grown = "sum(max_over_time(jobs_done_total[5m]) - min_over_time(jobs_done_total[5m]))";
    assert_eq!(prometheus.value(grown), Some(20.0));
}
