//! The configuration section `export`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clickhouse::config::ClickHouseConfig;
use super::common::{ContentMode, address, limits};
use crate::model::Problem;
use crate::otlp::Signal;
use crate::secret::{Secret, SecretUrl};
use crate::text;

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

/// Checks a header; the error does not contain its value.
pub(super) fn header(
    name: &str,
    value: &str,
) -> Result<(reqwest::header::HeaderName, reqwest::header::HeaderValue), String> {
    let Ok(known) = reqwest::header::HeaderName::from_bytes(name.as_bytes()) else {
        return Err(format!("`{}` is not the name of a header", text::clean(name, 50)));
    };
    let Ok(mut value) = reqwest::header::HeaderValue::from_str(value) else {
        return Err(format!("the value of `{known}` can't be sent; remove line ends from it"));
    };
    value.set_sensitive(true);
    Ok((known, value))
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
}
