//! The configuration section `export.clickhouse`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::common::{ContentMode, address, limits};
use crate::model::Problem;
use crate::secret::{Secret, SecretPair, SecretSource, SecretUrl};

/// The section `export.clickhouse`: a ClickHouse server that spans are inserted into.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Its address over HTTP, such as `http://clickhouse:8123`.
    pub url: SecretUrl,
    /// The database.
    pub database: String,
    /// The table of spans.
    pub table: String,
    /// The user.
    pub user: String,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The file that holds the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether the database and its tables are created if they are missing.
    pub create_tables: bool,
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

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: SecretUrl::default(),
            database: "default".to_owned(),
            table: "otel_traces".to_owned(),
            user: "default".to_owned(),
            password: None,
            password_file: None,
            create_tables: true,
            content: ContentMode::default(),
            ca_file: None,
            timeout: Duration::from_secs(30),
            max_spool: 512 << 20,
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl ClickHouseConfig {
    pub(super) fn password_source(&self) -> SecretPair {
        SecretSource::from_pair(&self.password, &self.password_file)
    }

    /// Adds the problems of the section.
    pub(in crate::export) fn validate(&self, problems: &mut Vec<Problem>) {
        let mut report = |key: &str, message: String| {
            problems.push(Problem::new(format!("export.clickhouse.{key}"), message));
        };
        if self.url.is_empty() {
            report("url", "missing; set it to an address such as http://clickhouse:8123".to_owned());
        } else {
            match address(&self.url) {
                Ok(url) if !url.username().is_empty() || url.password().is_some() || url.query().is_some() => {
                    report("url", "has a user, a password or parameters; use `user` and `password_file`".to_owned());
                }
                Ok(_) => {}
                Err(_) => report("url", "is not a URL; use one such as http://clickhouse:8123".to_owned()),
            }
        }
        for (key, name) in [("database", &self.database), ("table", &self.table)] {
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if name.is_empty() || name.len() > 100 || !name.chars().all(is_word) {
                report(key, "is not a name of letters, digits and underscores".to_owned());
            }
        }
        if self.user.is_empty() || self.user.chars().any(char::is_control) {
            report("user", "is empty or has control characters; set the name of a user".to_owned());
        }
        if let Err(problem) = self.password_source() {
            report("password", problem.to_owned());
        }
        if self.timeout.is_zero() {
            report("timeout", "must not be 0s; 30s is usual".to_owned());
        }
        for (key, message) in limits(self.max_spool, self.max_age) {
            report(key, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_and_no_secret_is_shown() {
        for (config, expected) in [
            (r#"{"url": "http://clickhouse:8123", "password": "S3CRET"}"#, &[][..]),
            (r#"{"url": "https://default:S3CRET@clickhouse:8443"}"#, &["url: has a user"]),
            (r#"{"url": "http://"}"#, &["url: is not a URL"]),
            (
                r#"{"database": "a; DROP", "table": "", "user": "", "password": "S3CRET", "password_file": "/x"}"#,
                &["url: missing", "database: is not", "table: is not", "user: is empty", "password: set the value"],
            ),
        ] {
            let config: ClickHouseConfig = serde_json::from_str(config).expect("a section");
            let mut problems = Vec::new();
            config.validate(&mut problems);
            let problems: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for (problem, expected) in problems.iter().zip(expected) {
                assert!(problem.contains(expected), "{problem}");
            }
            let shown = format!("{problems:?} {config:?} {}", serde_json::to_string(&config).expect("text"));
            assert!(!shown.contains("S3CRET"), "{shown}");
        }
    }
}
