//! A live Prometheus that scrapes the program, with the rules that we ship, and its own checker of pages.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{PATIENCE, eventually};
use crate::{http, tidy};

/// A running Prometheus. Dropping it kills it.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts Prometheus with `prometheus/prometheus.yml`, but each second and for the program at `target`; waits until it
    /// has scraped once.
    pub(crate) fn scraping(target: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let shipped = tidy::text("prometheus/prometheus.yml").expect("the configuration that is shipped");
        let rules = tidy::root().join("prometheus/recording.rules.yml").display().to_string();
        let mut adapted = shipped;
        for (from, to, times) in [
            ("interval: 15s", "interval: 1s", 2),
            ("lookout:9797", &target.to_string(), 1),
            ("  - recording.rules.yml", &format!("  - {rules}"), 1),
        ] {
            assert_eq!(adapted.matches(from).count(), times, "prometheus.yml has `{from}` {times} times");
            adapted = adapted.replace(from, to);
        }
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, adapted).expect("a file in the test's folder");
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Prometheus starts");
        let stderr = child.stderr.take().expect("its standard error");
        let (found, address) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that it never waits for a reader.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["msg"] == "Listening on"
                    && let Some(address) = line["address"].as_str().and_then(|address| address.parse().ok())
                {
                    // The test may have failed already.
                    found.send(address).unwrap_or_default();
                }
            }
        });
        let mut prometheus = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), _dir: dir };
        prometheus.address = address.recv_timeout(PATIENCE).expect("Prometheus logs its address");
        eventually("a first scrape", || (prometheus.value("up") == Some(1.0)).then_some(()));
        prometheus
    }

    /// The series that an expression has now.
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        self.ask("/api/v1/query", &[("query", expression)])
    }

    /// The number that an expression has now, when it has exactly one.
    pub(crate) fn value(&self, expression: &str) -> Option<f64> {
        match &*self.query(expression) {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }

    /// The series that an expression had at some second from `start` to `end`, both Unix seconds.
    pub(crate) fn query_range(&self, expression: &str, start: f64, end: f64) -> Vec<Value> {
        let (start, end) = (start.to_string(), end.to_string());
        self.ask("/api/v1/query_range", &[("query", expression), ("start", &start), ("end", &end), ("step", "1")])
    }

    fn ask(&self, route: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let Ok(answer) = http::request(self.address, "POST", route, &headers, form.join("&").as_bytes()) else {
            return Vec::new();
        };
        // It answers 503 until it has read its store.
        if answer.status == 503 {
            return Vec::new();
        }
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"]["result"].as_array().cloned().expect("a list of series")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Fails if `promtool` finds a problem in a page, except for names of senders' metrics.
pub(crate) fn reads(page: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    promtool.stdin.take().expect("its input").write_all(page.as_bytes()).expect("a page to check");
    let output = promtool.wait_with_output().expect("its end");
    let output = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Names of senders' metrics are kept, also where promtool recommends another unit or word.
    let senders_choice = [
        "abbreviated units",
        "instead of \"milliseconds\"",
        "should not have \"_count\" suffix",
        "should not have \"_total\" suffix",
    ];
    let ours: Vec<&str> =
        output.lines().filter(|line| !senders_choice.iter().any(|choice| line.contains(choice))).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}

/// Text as a form's value.
fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
