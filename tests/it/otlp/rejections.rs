//! Rejected exports and their responses: malformed and oversized bodies, missing permissions, full buffers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{JSON, PROTOBUF, python, receiver, started};
use crate::doubles::smtp::certify;
use crate::program::{Setup, eventually};
use crate::{counterparts, http, tidy};

/// Fills the buffers of bodies by starting exports without completing them.
fn fill(address: SocketAddr) -> Vec<TcpStream> {
    const SIZE: usize = 1024 * 1024;
    let begin = |_| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let patience = std::time::Duration::from_millis(200);
        stream.set_write_timeout(Some(patience)).expect("a timeout");
        let head = format!(
            "POST /v1/metrics HTTP/1.1\r\nhost: {address}\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
            SIZE + 1
        );
        stream.write_all(head.as_bytes()).expect("a head");
        // Without room the body is not read.
        drop(stream.write_all(&vec![0; SIZE]));
        stream
    };
    (0..66).map(begin).collect()
}

pub(super) fn stalled_exports_make_room() {
    let receiver = receiver("");
    for (protocol, address) in [("http", receiver.http), ("grpc", receiver.grpc)] {
        let held = fill(receiver.http);
        let large = format!("{{}}{}", " ".repeat(64 * 1024));
        let accepted = receiver.post("/v1/metrics", &[("content-type", JSON)], large.as_bytes());
        assert_eq!(accepted.status, 200, "{}", accepted.text());
        let busy = || receiver.value("lookout_rejected_total", &["\"metrics\"", "\"busy\""]);
        eventually("a stalled export to be closed", || busy().filter(|count| *count > 0.0));
        let folder = receiver.setup.path().join(protocol);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("0-metrics"), b"").expect("a file");
        let folder = folder.display().to_string();
        let output = python("otlp_grpc.py", &[&receiver.grpc.to_string(), &folder, "none", "0-metrics", "large"]);
        assert!(output.starts_with("INVALID_ARGUMENT "), "it was read, and is not OTLP: {output}");
        let script = tidy::root().join("tests/it/doubles/otel_client.py");
        let client = Command::new("timeout")
            .args(["60", "python3"])
            .arg(script)
            .args([protocol, &address.to_string(), "delta", "none", protocol])
            .env("OTEL_RESOURCE_ATTRIBUTES", format!("ballast={}", "x".repeat(100_000)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(client.expect("python3 starts").success());
        let instance = format!("instance=\"{protocol}\"");
        assert_eq!(receiver.value("jobs_done_total", &[&instance]), Some(10.0), "{protocol}");
        let is_closed = held.into_iter().any(|mut stream| {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).expect("a timeout");
            let mut answer = [0; 12];
            stream.read(&mut answer).is_ok_and(|_| answer.ends_with(b" 503"))
        });
        assert!(is_closed, "stalled exports get a retryable status");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) fn streams_are_bounded() {
    const CONNECTIONS: u32 = 4;
    let receiver = receiver(&format!("limits: {{connections: {CONNECTIONS}}}"));
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).expect("a short one"));
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let busy = || receiver.value("lookout_rejected_total", &["\"logs\"", "\"busy\""]);
    let mut stream = TcpStream::connect(receiver.grpc).expect("a connection");
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..]].concat()).expect("a preface");
    // Exports that are never completed.
    for place in 0..CONNECTIONS + 3 {
        stream.write_all(&frame(1, 4, 2 * place + 1, &headers)).expect("a head");
        stream.write_all(&frame(0, 0, 2 * place + 1, b"\0")).expect("the beginning of a body");
    }
    eventually("three rejected streams", || (busy() == Some(3.0)).then_some(()));
    drop(stream);
    let mut stream = TcpStream::connect(receiver.grpc).expect("a connection");
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..]].concat()).expect("a preface");
    stream.write_all(&frame(1, 4, 1, &headers)).expect("a head");
    stream.write_all(&frame(0, 1, 1, &[0; 5])).expect("a body");
    let mut answer = Vec::new();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("a timeout");
    drop(stream.read_to_end(&mut answer));
    let data = frame(0, 0, 1, &[0; 5]);
    assert!(answer.windows(data.len()).any(|part| part == data), "closed streams free their places: {answer:?}");
    assert_eq!(busy(), Some(3.0));
}

pub(super) fn responses_have_the_encoding_of_the_request() {
    let receiver = receiver("");
    let ok = receiver.json(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":1}]}}]}]}]}"#,
    );
    assert_eq!((ok.status, ok.text(), ok.header("content-type")), (200, "{}", Some(JSON)));
    assert_eq!(receiver.value("m", &[]), Some(1.0), "a read after the response sees it");
    let partial = receiver.json(r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","sum":{"dataPoints":[{"asInt":1},{"asInt":1}]}}]}]}]}"#);
    assert_eq!((partial.status, &partial.json()["partialSuccess"]["rejectedDataPoints"]), (200, &Value::from("2")));

    let empty = receiver.post("/v1/logs", &[("content-type", "application/x-protobuf; charset=x")], b"");
    assert_eq!((empty.status, &*empty.body, empty.header("content-type")), (200, &b""[..], Some(PROTOBUF)));
    let bad = receiver.post("/v1/traces", &[("content-type", PROTOBUF)], b"\xff\xff");
    assert_eq!((bad.status, bad.header("content-type"), bad.body[..2].to_vec()), (400, Some(PROTOBUF), vec![0x08, 3]));
    let odd = receiver.json("{\"resourceMetrics\": 3}");
    let warning = odd.json()["partialSuccess"]["errorMessage"].as_str().unwrap_or_default().to_owned();
    assert_eq!((odd.status, warning.is_empty()), (200, false), "dropped values are reported: {}", odd.text());
    let bad = receiver.json("{\"resourceMetrics\": [");
    assert_eq!((bad.status, &bad.json()["code"]), (400, &Value::from(3)));
    assert!(
        bad.json()["message"].as_str().is_some_and(|message| message.starts_with("the body is not OTLP in JSON: "))
    );
    let bad = receiver.post("/v1/logs", &[("content-type", JSON), ("content-encoding", "gzip")], b"{}");
    assert_eq!(bad.status, 400, "what is not gzip");
    for (headers, status) in [
        (&[("content-type", "text/plain")][..], 415),
        (&[], 415),
        (&[("content-type", JSON), ("content-encoding", "br")], 415),
        (&[("content-type", JSON), ("origin", "https://evil.example")], 403),
    ] {
        assert_eq!(receiver.post("/v1/logs", headers, b"{}").status, status, "{headers:?}");
    }
    assert_eq!(
        http::request(receiver.http, "GET", "/v1/logs", &[("content-type", JSON)], b"").expect("one").status,
        405
    );
    assert_eq!(http::request(receiver.http, "GET", "/metrics", &[], b"").expect("an answer").status, 404);

    // A chunked body with one byte per chunk.
    let mut stream = TcpStream::connect(receiver.http).expect("a connection");
    let head = format!(
        "POST /v1/logs HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n",
        receiver.http
    );
    stream.write_all(head.as_bytes()).expect("a head");
    for byte in br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":null}]}]}]}"# {
        stream.write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).expect("a chunk");
    }
    stream.write_all(b"0\r\n\r\n").expect("the end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n{}"), "{answer}");
    assert_eq!(receiver.value("lookout_ingested_total", &["\"logs\""]), Some(1.0));
    assert_eq!(receiver.value("lookout_rejected_total", &["\"logs\"", "\"malformed\""]), Some(1.0));
}

pub(super) fn bombs_are_refused() {
    let receiver = receiver("limits: {body: 1000000}\n");
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..200 {
        bomb.write_all(&[b' '; 1_000_000]).expect("memory");
    }
    let bomb = bomb.finish().expect("memory");
    assert!(bomb.len() < 400_000);
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let answer = receiver.post("/v1/metrics", &headers, &bomb);
    assert_eq!((answer.status, &answer.json()["code"]), (413, &Value::from(8)));
    let answer = receiver.post("/v1/metrics", &headers[..1], &vec![b' '; 1_000_001]);
    assert_eq!(answer.status, 413);
    assert_eq!(receiver.value("lookout_rejected_total", &["\"metrics\"", "\"too_large\""]), Some(2.0));
    let grown = receiver.lookout.grown();
    assert!(grown < 100_000_000, "it grew by {grown} bytes, half of the decompressed size");
}

pub(super) fn grpc_codes() {
    let receiver = receiver("limits: {body: 100000}\n");
    let folder = receiver.setup.path().join("bodies");
    std::fs::create_dir(&folder).expect("a folder");
    let write = |name: &str, body: &[u8]| std::fs::write(folder.join(name), body).expect("a file");
    write("0-metrics", b"");
    write("1-traces", b"\xff\xff");
    write("2-logs", &[0; 100_001]);
    write("3-profiles", b"");
    let (address, folder) = (receiver.grpc.to_string(), folder.display().to_string());
    let output = python("otlp_grpc.py", &[&address, &folder]);
    let codes: Vec<&str> = output.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(codes, ["OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"], "{output}");
    let output = python("otlp_grpc.py", &[&address, &folder, "gzip"]);
    let codes: Vec<&str> = output.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(codes[2], "RESOURCE_EXHAUSTED", "after decompression: {output}");
    assert_eq!(receiver.value("lookout_rejected_total", &["\"logs\"", "\"too_large\""]), Some(2.0));
}

pub(super) fn tls_holds() {
    let setup = Setup::new("tls: {cert_file: cert.pem, key_file: key.pem}\n");
    certify(setup.path());
    let receiver = started(setup, |setup| setup.spawn().expect("it starts"));
    let authority = receiver.setup.path().join("ca.pem");
    let at = |address: SocketAddr| format!("localhost:{}", address.port());
    for (number, (protocol, address)) in [("http", receiver.http), ("grpc", receiver.grpc)].into_iter().enumerate() {
        let script = tidy::root().join("tests/it/doubles/otel_client.py");
        let mut client = Command::new("timeout");
        client.args(["60", "python3"]).arg(script).env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority);
        // These would override the certificate.
        client.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
        counterparts::run(client.args([protocol, &at(address), "cumulative", "none", &format!("i{number}")]));
    }
    let curl = |more: &[&str], url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(&authority).args(more).arg(url);
        curl.output().expect("curl")
    };
    let page = curl(&[], &format!("https://{}/metrics", at(receiver.lookout.address())));
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    for instance in ["i0", "i1"] {
        let is_there = |line: &&str| line.starts_with("jobs_done_total{") && line.contains(instance);
        assert!(page.lines().any(|line| is_there(&line) && line.ends_with(" 10")), "{instance}:\n{page}");
    }
    assert!(page.contains("lookout_ingested_total{signal=\"traces\"} 4"), "spans over both");
    for address in [receiver.http, receiver.grpc, receiver.lookout.address()] {
        let clear = http::request(address, "POST", "/v1/logs", &[("content-type", JSON)], b"{}");
        assert!(clear.is_err(), "nothing is served without TLS: {clear:?}");
    }
    let foreign =
        curl(&["-X", "POST", "-H", "origin: https://evil.example"], &format!("https://{}/v1/logs", at(receiver.http)));
    assert!(String::from_utf8_lossy(&foreign.stdout).contains("cross-origin request rejected"), "{foreign:?}");
}

pub(super) fn access_holds() {
    let receiver = receiver("auth: {tokens: [{name: r, role: read, token: r}, {name: i, role: ingest, token: i}]}\n");
    let headers = [("content-type", JSON)];
    let answer = receiver.post("/v1/metrics", &headers, b"{}");
    assert_eq!((answer.status, &answer.json()["code"]), (401, &Value::from(16)));
    for (token, status) in [("Bearer r", 403), ("Bearer i", 200)] {
        let headers = [headers[0], ("authorization", token)];
        assert_eq!(receiver.post("/v1/metrics", &headers, b"{}").status, status, "{token}");
        assert_eq!(receiver.lookout.send("POST", "/v1/logs", &headers, b"{}").status, status, "{token}");
    }
    let folder = receiver.setup.path().join("bodies");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("0-metrics"), b"").expect("a file");
    let (address, folder) = (receiver.grpc.to_string(), folder.display().to_string());
    for (token, code) in [("", "UNAUTHENTICATED"), ("Bearer r", "PERMISSION_DENIED"), ("Bearer i", "OK")] {
        let output = python("otlp_grpc.py", &[&address, &folder, "none", "0-metrics", token]);
        assert!(output.starts_with(code), "{token}: {output}");
    }
}

pub(super) fn taken_ports() {
    // Another program may use the default port already, which serves the test as well.
    let default = TcpListener::bind("127.0.0.1:4318");
    let setup = Setup::new("").env("LOOKOUT_OTLP__HTTP", "127.0.0.1:4318");
    let lookout = setup.start();
    lookout.wait_for_log(&["default address already in use", "otlp.http"]);
    drop(default);

    let configured = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = configured.local_addr().expect("its address").to_string();
    let setup = Setup::new("").env("LOOKOUT_OTLP__GRPC", &address);
    let output = setup.command(&["run", "--config", "lookout.yaml"]).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&format!("listen on {address}; set `otlp.grpc` to a free address")), "{errors}");
}

pub(super) fn a_reload_drops() {
    let receiver = receiver("");
    let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"asInt":1,"attributes":[{"key":"secret","value":{"stringValue":"x"}}]}]}}]}]}]}"#;
    receiver.json(body);
    assert_eq!(receiver.value("m", &["secret=\"x\""]), Some(1.0));
    let before = std::fs::read_to_string(receiver.setup.path().join("lookout.yaml")).expect("a file");
    receiver.setup.write("lookout.yaml", &format!("{before}otlp: {{drop_attributes: [secret]}}\n"));
    assert_eq!(receiver.lookout.send("POST", "/-/reload", &[], b"").status, 200);
    assert_eq!(receiver.value("m", &[]), None);
    receiver.json(body);
    assert_eq!(receiver.value("m", &[]), Some(1.0));
    assert!(!receiver.page().contains("secret"));
    receiver.setup.write("lookout.yaml", &format!("{before}otlp: {{max_labels: 0}}\n"));
    let answer = receiver.lookout.send("POST", "/-/reload", &[], b"");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("otlp.max_labels: is 0"), "{}", answer.text());
}
