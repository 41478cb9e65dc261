//! The configuration section `registry`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Problem;
use crate::secret::{Secret, SecretSource};

/// The section `registry`: where the registry of agents is shared with others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// The database. Without one the registry is in the store alone.
    pub mysql: Option<MySqlConfig>,
}

/// The section `registry.mysql`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MySqlConfig {
    /// Its URL, a secret, as it has a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The file that holds the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Whether the connection is encrypted. Unset: `verify` with a `ca_file`, else `prefer`.
    pub tls: Option<MySqlTls>,
    /// Certificate authorities in PEM, in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// How often the table is read, and the time of the last use of agents written.
    #[serde(with = "crate::model::duration")]
    pub interval: Duration,
}

impl Default for MySqlConfig {
    fn default() -> Self {
        Self { url: None, url_file: None, tls: None, ca_file: None, interval: Duration::from_secs(30) }
    }
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MySqlTls {
    /// Never.
    Off,
    /// If the server offers it; its certificate is not verified.
    Prefer,
    /// Always; its certificate is not verified.
    Require,
    /// Always, with a certificate for its name from a known authority.
    Verify,
}

impl RegistryConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let Some(mysql) = &self.mysql else { return Vec::new() };
        let mut problems = Vec::new();
        match mysql.source() {
            Ok(SecretSource::Value(url)) => {
                if let Err(problem) = database_url(url.expose()) {
                    problems.push(Problem::new("registry.mysql.url", format!("it {problem}")));
                }
            }
            Ok(SecretSource::File(_)) => {}
            Err(problem) => problems.push(Problem::new("registry.mysql.url", problem.to_owned())),
        }
        if mysql.interval < Duration::from_secs(1) {
            let message = "is shorter than 1s; 30s is usual";
            problems.push(Problem::new("registry.mysql.interval", message.to_owned()));
        }
        if mysql.ca_file.is_some() && matches!(mysql.tls, Some(MySqlTls::Off | MySqlTls::Prefer | MySqlTls::Require)) {
            let message = "is not used unless `tls` is `verify`; remove `tls`, or the file";
            problems.push(Problem::new("registry.mysql.ca_file", message.to_owned()));
        }
        problems
    }
}

impl RegistryConfig {
    /// What is wrong with the URL in a file. Blocks on disk I/O; that the file can't be read is reported elsewhere.
    pub fn file_problems(&self) -> Vec<Problem> {
        let Some(Ok(source @ SecretSource::File(_))) = self.mysql.as_ref().map(MySqlConfig::source) else {
            return Vec::new();
        };
        let wrong = source.read_blocking().ok().and_then(|url| database_url(url.expose()).err());
        wrong
            .into_iter()
            .map(|problem| Problem::new("registry.mysql.url_file", format!("its text {problem}")))
            .collect()
    }
}

impl MySqlConfig {
    pub(super) fn source(&self) -> Result<SecretSource, &'static str> {
        SecretSource::from_required_pair(&self.url, &self.url_file)
    }
}

/// The URL with the scheme that the client knows. Those of other clients, such as `mysql+pymysql`, are accepted; their
/// parameters are not.
pub(super) fn database_url(text: &str) -> Result<String, &'static str> {
    let example = "is not the URL of a database; use mysql://USER:PASSWORD@HOST:3306/DATABASE";
    let (scheme, rest) = text.trim().split_once("://").ok_or(example)?;
    let scheme = scheme.split('+').next().unwrap_or_default();
    if !matches!(scheme, "mysql" | "mariadb") {
        return Err(example);
    }
    let mut url = reqwest::Url::parse(&format!("mysql://{rest}")).map_err(|_| example)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(example);
    }
    if url.path().trim_matches('/').is_empty() {
        return Err("names no database; use mysql://USER:PASSWORD@HOST:3306/DATABASE");
    }
    const KNOWN: [&str; 6] = ["ssl-mode", "sslmode", "ssl-cert", "ssl-key", "socket", "ssl-ca"];
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| KNOWN.contains(&&**key))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_checked_and_never_shown() {
        for (config, message) in [
            (r#"{}"#, None),
            (r#"{"mysql": {"url": "mysql://lookout:S3CRET@db:3306/platform"}}"#, None),
            (r#"{"mysql": {"url": "mysql+pymysql://lookout:S3CRET@db/platform?charset=utf8mb4"}}"#, None),
            (r#"{"mysql": {"url": "postgres://lookout:S3CRET@db/platform"}}"#, Some("mysql://USER")),
            (r#"{"mysql": {"url": "mysql://lookout:S3CRET@db"}}"#, Some("names no database")),
            (r#"{"mysql": {"url": "mysql://lookout:S3CRET@db/x", "url_file": "/x"}}"#, Some("not both")),
            (r#"{"mysql": {}}"#, Some("missing")),
            (
                r#"{"mysql": {"url": "mysql://a:S3CRET@db/x", "tls": "off", "ca_file": "/ca.pem"}}"#,
                Some("not used unless"),
            ),
        ] {
            let config: RegistryConfig = serde_json::from_str(config).unwrap();
            let problems = config.validate();
            assert_eq!(problems.len(), usize::from(message.is_some()), "{problems:?}");
            assert!(problems.iter().all(|it| it.message.contains(message.unwrap()) && !it.message.contains("S3CRET")));
            assert!(!serde_json::to_string(&config).unwrap().contains("S3CRET"));
        }
    }

    #[test]
    fn parameters_of_other_clients_are_left_out() {
        let url = database_url("mariadb+aiomysql://a:b%40c@db:3307/x?charset=latin1&ssl-mode=REQUIRED").expect("a URL");
        assert_eq!(url, "mysql://a:b%40c@db:3307/x?ssl-mode=REQUIRED");
    }
}
