//! The configuration section `export`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clickhouse::config::ClickHouseConfig;
use super::common::{ContentMode, address, header, headers_of_file, limits};
use crate::model::Problem;
use crate::otlp::Signal;
use crate::secret::{Secret, SecretSource, SecretUrl};

/// Most headers.
const MOST_HEADERS: usize = 20;

/// The section `export`: systems that telemetry goes on to, each with a section of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// An OpenTelemetry collector, or what speaks OTLP as one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpExportConfig>,
    /// ClickHouse, in the schema of the OpenTelemetry collector's exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clickhouse: Option<ClickHouseConfig>,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum OtlpProtocol {
    /// Protobuf in HTTP requests.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// By gzip.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// A signal by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportSignal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl ExportSignal {
    /// The signal.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Traces => Signal::Traces,
            Self::Metrics => Signal::Metrics,
            Self::Logs => Signal::Logs,
        }
    }
}

/// A target that speaks OTLP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpExportConfig {
    /// Its address, such as `http://collector:4318`; over HTTP `/v1/traces` and the like are appended.
    pub endpoint: SecretUrl,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Headers of each request; their values are secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// A file with more headers, a line each: `Authorization: Bearer …`. Read at each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// What it gets.
    pub signals: Vec<ExportSignal>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// What becomes of prompts, answers, arguments and outputs.
    pub content: ContentMode,
    /// More root certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take.
    #[serde(with = "crate::model::duration")]
    pub timeout: Duration,
    /// Most bytes that wait for it; beyond it the oldest are dropped.
    pub max_spool: u64,
    /// What waits longer is dropped.
    #[serde(with = "crate::model::duration")]
    pub max_age: Duration,
}

impl Default for OtlpExportConfig {
    fn default() -> Self {
        Self {
            endpoint: SecretUrl::default(),
            protocol: OtlpProtocol::default(),
            headers: BTreeMap::new(),
            headers_file: None,
            signals: vec![ExportSignal::Traces, ExportSignal::Metrics, ExportSignal::Logs],
            compression: Compression::default(),
            content: ContentMode::default(),
            ca_file: None,
            timeout: Duration::from_secs(30),
            max_spool: 512 << 20,
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl ExportConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(otlp) = &self.otlp {
            otlp.validate(&mut problems);
        }
        if let Some(clickhouse) = &self.clickhouse {
            clickhouse.validate(&mut problems);
        }
        problems
    }

    /// What is wrong in the files of headers. Blocks on disk I/O; that a file can't be read is reported elsewhere.
    pub fn file_problems(&self) -> Vec<Problem> {
        let Some(path) = self.otlp.as_ref().and_then(|otlp| otlp.headers_file.as_ref()) else { return Vec::new() };
        let Ok(text) = SecretSource::File(path.clone()).read_blocking() else { return Vec::new() };
        let wrong = headers_of_file(path, &text).err();
        wrong.into_iter().map(|message| Problem::new("export.otlp.headers_file", message)).collect()
    }

    /// What is valid and yet likely a mistake, by key.
    pub fn notes(&self) -> Vec<Problem> {
        let mut notes = Vec::new();
        let mut note = |key: &str, message: &str| notes.push(Problem::new(format!("export.{key}"), message));
        if let Some(otlp) = &self.otlp {
            let port = address(&otlp.endpoint).ok().and_then(|url| url.port_or_known_default());
            match (otlp.protocol, port) {
                (OtlpProtocol::HttpProtobuf, Some(4317)) => {
                    note("otlp.endpoint", "port 4317 is usually gRPC's; set `protocol: grpc`, or use port 4318");
                }
                (OtlpProtocol::Grpc, Some(4318)) => {
                    note(
                        "otlp.endpoint",
                        "port 4318 is usually HTTP's; set `protocol: http/protobuf`, or use port 4317",
                    );
                }
                _ => {}
            }
            if is_open(&otlp.endpoint) && (!otlp.headers.is_empty() || otlp.headers_file.is_some()) {
                note(
                    "otlp.endpoint",
                    "headers go to another machine without encryption; use https:// if they have secrets",
                );
            }
        }
        if let Some(clickhouse) = &self.clickhouse
            && is_open(&clickhouse.url)
            && (clickhouse.password.is_some() || clickhouse.password_file.is_some())
        {
            note("clickhouse.url", "the password goes to another machine without encryption; use https:// (port 8443)");
        }
        notes
    }

    /// The port of this machine that telemetry goes to by OTLP, if it goes to this machine.
    pub fn local_port(&self) -> Option<u16> {
        let url = address(&self.otlp.as_ref()?.endpoint).ok()?;
        url.port_or_known_default().filter(|_| is_local(&url))
    }
}

fn is_local(url: &reqwest::Url) -> bool {
    match url.host_str().unwrap_or_default().trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified()),
    }
}

/// Whether what is sent to an address can be read on the way.
fn is_open(address: &str) -> bool {
    self::address(address).is_ok_and(|url| url.scheme() == "http" && !is_local(&url))
}

impl OtlpExportConfig {
    fn validate(&self, problems: &mut Vec<Problem>) {
        let mut report = |key: &str, message: String| {
            problems.push(Problem::new(format!("export.otlp.{key}"), message));
        };
        if self.endpoint.is_empty() {
            report("endpoint", "missing; set it to an address such as http://collector:4318".to_owned());
        } else if let Err(message) = address(&self.endpoint) {
            report("endpoint", message.to_owned());
        } else if let Some(path) = self.appended_twice() {
            let remedy = format!("ends with {path}, which is appended to it; leave that out");
            report("endpoint", remedy);
        }
        if self.headers.len() > MOST_HEADERS {
            report("headers", format!("there are {}; give at most {MOST_HEADERS}", self.headers.len()));
        }
        for (name, value) in &self.headers {
            if let Err(message) = header(name, value.expose()) {
                report("headers", message);
            }
        }
        if self.headers_file.as_deref().is_some_and(|path| path == Path::new("")) {
            report("headers_file", "is empty; set a path or remove the key".to_owned());
        }
        if self.signals.is_empty() {
            report("signals", "is empty; list some of traces, metrics and logs, or remove the section".to_owned());
        }
        if self.timeout.is_zero() {
            report("timeout", "must not be 0s; 30s is usual".to_owned());
        }
        for (key, message) in limits(self.max_spool, self.max_age) {
            report(key, message);
        }
    }
}

impl OtlpExportConfig {
    /// The path of a signal at the end of the endpoint, as other programs want it.
    fn appended_twice(&self) -> Option<&'static str> {
        let url = address(&self.endpoint).ok()?;
        ["/v1/traces", "/v1/metrics", "/v1/logs"]
            .into_iter()
            .find(|end| url.path().trim_end_matches('/').ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_found_and_no_secret_is_shown() {
        for (config, expected) in [
            (r#"{}"#, &[][..]),
            (r#"{"otlp": {"endpoint": "http://collector:4318"}}"#, &[]),
            (r#"{"otlp": {"endpoint": "https://u:S3CRET@collector/otlp", "protocol": "grpc"}}"#, &[]),
            (r#"{"otlp": {}}"#, &["export.otlp.endpoint: missing"]),
            (
                r#"{"otlp": {"endpoint": "http://", "signals": [], "timeout": "0s", "max_age": "0s", "max_spool": 5,
                    "headers": {"a b": "S3CRET", "x": "S3CRET\n"}}}"#,
                &[
                    "endpoint: ",
                    "headers: `a b`",
                    "headers: the value of `x`",
                    "signals: ",
                    "timeout: ",
                    "max_spool: 5 bytes",
                    "max_age: ",
                ],
            ),
            (r#"{"otlp": {"endpoint": "grpc://h:4317"}}"#, &["does not begin with http"]),
            (r#"{"otlp": {"endpoint": "http://h:4318/v1/traces/"}}"#, &["ends with /v1/traces"]),
        ] {
            let config: ExportConfig = serde_json::from_str(config).expect("a section");
            let problems: Vec<String> =
                config.validate().iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, expected) in problems.iter().zip(expected) {
                assert!(problem.contains(expected), "{problem}");
            }
            let shown = format!("{problems:?} {config:?} {}", serde_json::to_string(&config).expect("text"));
            assert!(!shown.contains("S3CRET"), "{shown}");
        }
    }

    #[test]
    fn likely_mistakes_are_noted() {
        for (config, expected) in [
            (r#"{"otlp": {"endpoint": "http://collector:4318"}}"#, &[][..]),
            (r#"{"otlp": {"endpoint": "http://collector:4317"}}"#, &["set `protocol: grpc`"]),
            (r#"{"otlp": {"endpoint": "https://h:4318", "protocol": "grpc", "headers": {"a": "b"}}}"#, &["port 4317"]),
            (r#"{"otlp": {"endpoint": "http://h", "headers": {"a": "S3CRET"}}}"#, &["without encryption"]),
            (r#"{"otlp": {"endpoint": "http://[::1]:4318", "headers": {"a": "b"}}}"#, &[]),
            (r#"{"clickhouse": {"url": "http://h:8123", "password": "S3CRET"}}"#, &["without encryption"]),
        ] {
            let config: ExportConfig = serde_json::from_str(config).expect("a section");
            let notes: Vec<String> = config.notes().iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
            assert_eq!(notes.len(), expected.len(), "{notes:?}");
            assert!(notes.iter().zip(expected).all(|(note, expected)| note.contains(expected)), "{notes:?}");
        }
        let of = |endpoint: &str| {
            let config = format!(r#"{{"otlp": {{"endpoint": "{endpoint}"}}}}"#);
            serde_json::from_str::<ExportConfig>(&config).expect("a section").local_port()
        };
        assert_eq!(
            (of("http://localhost:9797"), of("http://127.0.0.9:1"), of("http://[::1]")),
            (Some(9797), Some(1), Some(80))
        );
        assert_eq!(of("http://collector:9797"), None);
    }
}
