//! ClickHouse over HTTP: statements and inserts, and what its errors mean. User and password are in headers alone.

use std::fmt;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::super::common;
use super::super::compress::gzip;
use super::config::ClickHouseConfig;
use crate::http_client::{self, BodyError, ClientError};
use crate::secret::{SecretSource, SecretUrl};
use crate::text::clean;

/// Most of an answer to an insert that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;
/// The numbers of the errors that the table is unknown, and the database is.
const UNKNOWN_TABLE: u32 = 60;
pub(super) const UNKNOWN_DATABASE: u32 = 81;
/// The number of the error that there is nothing to insert.
const NO_DATA: u32 = 108;
/// Longest message that is repeated, in bytes.
const MAX_MESSAGE: usize = 200;

/// What an error means for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// It may pass.
    Retry,
    /// The user, its password or its grants are wrong, or the address is.
    Access,
    /// The table is another than expected.
    Schema,
    /// What was sent is more than it takes at a time.
    TooLarge,
    /// What was sent is refused for good.
    Refused,
}

/// A failed request. Shown without its address, but for the host, and without a secret.
#[derive(Clone, Debug)]
pub struct ClickHouseError {
    /// What it means.
    pub class: ErrorClass,
    /// ClickHouse's own number.
    pub code: Option<u32>,
    /// The pause that it asks for.
    pub after: Option<Duration>,
    message: String,
}

impl fmt::Display for ClickHouseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for ClickHouseError {}

impl ClickHouseError {
    pub(super) fn refused(message: String) -> Self {
        Self { class: ErrorClass::Refused, code: None, after: None, message }
    }

    pub(super) fn schema(message: String) -> Self {
        Self { class: ErrorClass::Schema, code: None, after: None, message }
    }

    /// Whether the table or its database is missing.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self.code, Some(UNKNOWN_TABLE | UNKNOWN_DATABASE))
    }

    fn retry(message: String) -> Self {
        Self { class: ErrorClass::Retry, code: None, after: None, message }
    }
}

/// A server and a user of it.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    client: reqwest::Client,
    url: SecretUrl,
    user: String,
    password: Option<SecretSource>,
    database: String,
}

impl ClickHouse {
    /// By the configuration. Reads `ca_file` from disk.
    pub fn new(config: &ClickHouseConfig) -> Result<Self, ClientError> {
        Ok(Self {
            client: http_client::build(config.timeout, config.ca_file.as_deref())?,
            url: config.url.clone(),
            user: config.user.clone(),
            // A wrong pair is a problem of the configuration.
            password: config.password_source().ok().flatten(),
            database: config.database.clone(),
        })
    }

    /// Runs a statement; returns at most `limit` bytes. `parameters` are those of `{name:Type}` in it.
    pub async fn query(
        &self,
        statement: &str,
        parameters: &[(String, String)],
        settings: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<u8>, ClickHouseError> {
        let named = parameters.iter().map(|(name, value)| (format!("param_{name}"), escaped(value)));
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let url: Vec<(String, String)> = settings.chain(named).collect();
        self.send(&url, HeaderMap::new(), statement.as_bytes().to_vec(), limit).await
    }

    /// Inserts rows, which are compressed by gzip.
    pub(super) async fn insert(
        &self,
        statement: &str,
        settings: &[(&str, String)],
        rows: Vec<u8>,
    ) -> Result<(), ClickHouseError> {
        let mut url = vec![("query".to_owned(), statement.to_owned())];
        url.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        self.send(&url, headers, rows, MAX_ANSWER).await.map(drop)
    }

    async fn send(
        &self,
        parameters: &[(String, String)],
        mut headers: HeaderMap,
        body: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<u8>, ClickHouseError> {
        let mut url = reqwest::Url::parse(&self.url)
            .map_err(|_| ClickHouseError::refused("export.clickhouse.url is not a URL".to_owned()))?;
        url.query_pairs_mut().extend_pairs(parameters);
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut add = |name: &'static str, value: &str| {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                ClickHouseError::refused(format!("the header {name} can't be sent; remove line ends from its value"))
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok::<_, ClickHouseError>(())
        };
        add("x-clickhouse-user", &self.user)?;
        if let Some(password) = &self.password {
            let password = password.read().await.map_err(|error| ClickHouseError::retry(error.in_full()))?;
            add("x-clickhouse-key", password.expose())?;
        }
        // A database that is missing is created by a statement that names it.
        if !parameters.iter().any(|(name, _)| name == "database") {
            url.query_pairs_mut().append_pair("database", "default");
        }
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        let response = sent.map_err(|error| unreachable(&host, error))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let code = header("x-clickhouse-exception-code").and_then(|code| code.parse().ok());
        let after = http_client::retry_after(response.headers(), Default::default());
        let body = match http_client::read_body(response, limit).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => {
                return Err(ClickHouseError::refused(format!("{host} answered more than {limit} bytes")));
            }
            Err(BodyError::Http(error)) => return Err(unreachable(&host, error)),
        };
        match failure(&host, status, code, &body) {
            Some(error) => Err(ClickHouseError { after, ..error }),
            None => Ok(body),
        }
    }

    /// Inserts nothing, which fails as an insert would that is not allowed.
    pub(super) async fn insert_nothing(&self, statement: &str) -> Result<(), ClickHouseError> {
        match self.insert(statement, &[], gzip(b"")).await {
            Err(error) if error.code == Some(NO_DATA) => Ok(()),
            done => done,
        }
    }

    /// The database of the configuration.
    pub fn database(&self) -> &str {
        &self.database
    }
}

/// A value of a parameter, in which ClickHouse takes tabs, line ends and backslashes for escapes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// A failed exchange, without the URL.
fn unreachable(host: &str, error: reqwest::Error) -> ClickHouseError {
    ClickHouseError::retry(common::unreachable(&format!("ClickHouse at {host}"), "url", error))
}

/// What an answer means; `None` if it is none of an error. One of an error may have the status 200, once results were sent.
fn failure(host: &str, status: u16, code: Option<u32>, body: &[u8]) -> Option<ClickHouseError> {
    let is_good = (200..300).contains(&status);
    let tail = body.get(body.len().saturating_sub(4096)..).unwrap_or_default();
    if is_good && code.is_none() && !(contains(tail, b"DB::Exception") && contains(tail, b"Code: ")) {
        return None;
    }
    let text = String::from_utf8_lossy(if is_good { tail } else { body });
    let text = text.find("Code: ").and_then(|at| text.get(at..)).unwrap_or(&text);
    let code = code.or_else(|| text.strip_prefix("Code: ")?.split('.').next()?.trim().parse().ok());
    let class = match code {
        Some(code) => class_of(code),
        None => match status {
            408 | 425 | 429 | 500..=599 => ErrorClass::Retry,
            300..=399 | 401 | 403 | 404 | 407 => ErrorClass::Access,
            // Of a proxy, or of `http_max_request_size`.
            413 => ErrorClass::TooLarge,
            _ => ErrorClass::Refused,
        },
    };
    // Messages about rows repeat them, so only others are shown.
    let reason = text.split_once("DB::Exception: ").map_or("", |(_, reason)| reason);
    let reason = reason.split(" (version ").next().unwrap_or_default().trim();
    let name = reason.rsplit_once('(').map(|(_, name)| name.trim_end_matches(['.', ')', ' ']));
    let name = name.filter(|name| name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'));
    let what = match (class, code) {
        (ErrorClass::Refused | ErrorClass::TooLarge, Some(code)) => {
            format!("error {code} {}", name.unwrap_or_default())
        }
        (_, Some(code)) => format!("error {code}: {reason}"),
        (_, None) => format!("status {status}"),
    };
    let remedy = match class {
        ErrorClass::Retry | ErrorClass::TooLarge | ErrorClass::Refused => "",
        ErrorClass::Access => "; check url, user, password and the user's grants",
        ErrorClass::Schema => "; check database and table, or set create_tables",
    };
    let message = format!("ClickHouse at {host} answered {}{remedy}", clean(what.trim(), MAX_MESSAGE));
    Some(ClickHouseError { class, code, after: None, message })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Errors by number: what may pass, what a person has to correct, and what is refused for good.
const fn class_of(code: u32) -> ErrorClass {
    match code {
        // Timeouts, too much at once, memory, a read-only replica, too many parts, the network, an unknown outcome, Keeper.
        159 | 202 | 203 | 209 | 210 | 236 | 241 | 242 | 243 | 252 | 286 | 319 | 394 | 425 | 999 => ErrorClass::Retry,
        // Passwords, grants, settings of a read-only user.
        164 | 192 | 193 | 194 | 497 | 516 => ErrorClass::Access,
        // A text, rows and bytes over a limit.
        131 | 158 | 307 | 396 => ErrorClass::TooLarge,
        // Columns, tables, databases.
        16 | 47 | 60 | 81 | 218 => ErrorClass::Schema,
        _ => ErrorClass::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: Option<u32>, body: &str) -> Option<ErrorClass> {
        failure("h", status, code, body.as_bytes()).map(|error| error.class)
    }

    #[test]
    fn errors_are_retried_or_refused_by_their_number() {
        for code in [159, 202, 209, 210, 241, 242, 252, 319, 999] {
            assert_eq!(class(500, Some(code), ""), Some(ErrorClass::Retry), "{code}");
        }
        for code in [62, 72, 190, 407, 27] {
            assert_eq!(class(400, Some(code), ""), Some(ErrorClass::Refused), "{code}");
        }
        assert_eq!(class(404, Some(60), ""), Some(ErrorClass::Schema));
        assert_eq!(class(403, Some(516), ""), Some(ErrorClass::Access));
        assert_eq!(class(503, None, "busy"), Some(ErrorClass::Retry));
        assert_eq!(class(413, None, ""), Some(ErrorClass::TooLarge));
        assert_eq!(class(200, None, "{\"a\": 1}"), None);
        let late = "{\"a\": 1}\nCode: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)";
        assert_eq!(class(200, None, late), Some(ErrorClass::Retry));
    }

    #[test]
    fn a_message_about_a_row_does_not_repeat_it() {
        let body =
            "Code: 72. DB::Exception: Cannot parse 'S3CRET': while reading row. (CANNOT_PARSE_NUMBER) (version 26.9)";
        let error = failure("h", 400, None, body.as_bytes()).expect("an error");
        assert_eq!(error.to_string(), "ClickHouse at h answered error 72 CANNOT_PARSE_NUMBER");
        let body = "Code: 60. DB::Exception: Table default.otel_traces does not exist. (UNKNOWN_TABLE) (version 26.9)";
        let error = failure("h", 404, None, body.as_bytes()).expect("an error").to_string();
        assert!(error.contains("error 60: Table default.otel_traces does not exist"), "{error}");
    }

    #[test]
    fn parameters_are_escaped() {
        assert_eq!(escaped("a\\b\tc\nd"), "a\\\\b\\tc\\nd");
    }
}
