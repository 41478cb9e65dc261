//! What the sections of all targets have in common.

use std::path::Path;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::text;

/// The smallest valid `max_spool`.
pub(super) const MIN_SPOOL: u64 = 1 << 20;

/// What becomes of prompts, answers, arguments and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentMode {
    /// They are dropped before the spool.
    #[default]
    Drop,
    /// They go on as they came.
    Full,
}

/// What is wrong with the limits of a target's spool, by key.
pub(super) fn limits(max_spool: u64, max_age: Duration) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if max_spool < MIN_SPOOL {
        problems.push((
            "max_spool",
            format!("{max_spool} bytes are too few to wait for a target; set at least {MIN_SPOOL}"),
        ));
    }
    if max_age.is_zero() {
        problems.push(("max_age", "must not be 0s; set it to a duration such as 24h".to_owned()));
    }
    problems
}

/// Reads the address of a target; the error is what is wrong with it, without the address.
pub(super) fn address(text: &str) -> Result<reqwest::Url, &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "is not a URL; use one such as http://collector:4318")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("does not begin with http:// or https:// and a host; use one such as http://collector:4318");
    }
    Ok(url)
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

/// The headers in the text of a `headers_file`. The error names the line, and no value.
pub(super) fn headers_of_file(path: &Path, text: &Secret) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (at, line) in text.expose().lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |message: String| format!("{}, line {}: {message}", path.display(), at + 1);
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong("no `:` after the header's name; write `Authorization: Bearer …`".to_owned()))?;
        let (name, value) = header(name.trim(), value.trim()).map_err(wrong)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What a failed exchange with `peer` means and the remedy, without the address, which is the value of `key`.
pub(super) fn unreachable(peer: &str, key: &str, error: reqwest::Error) -> String {
    use std::error::Error as _;
    let error = error.without_url();
    if error.is_timeout() {
        return format!("{peer} did not answer in time; check its load, or raise timeout");
    }
    let (mut root, mut source) = (error.to_string(), error.source());
    let mut all = root.clone();
    while let Some(cause) = source {
        root = cause.to_string();
        all = format!("{all}: {root}");
        source = cause.source();
    }
    format!("{peer} can't be reached: {root}; {}", remedy(&all, key))
}

/// What to check after a failed exchange, by the texts of its causes.
fn remedy(causes: &str, key: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| causes.contains(word));
    if has(&["UnknownIssuer", "invalid peer certificate", "self-signed"]) {
        "set ca_file to the authority that signed its certificate".to_owned()
    } else if has(&[
        "corrupt message",
        "tls handshake",
        "InvalidContentType",
        "received fatal alert",
        "wrong version number",
    ]) {
        format!("it does not speak TLS as we do; check whether {key} begins with http:// or https://")
    } else if has(&[
        "HTTP version",
        "http2 error",
        "invalid HTTP",
        "frame",
        "stream closed",
        "connection closed before message",
    ]) {
        format!(
            "it speaks another protocol on this port; check {key} (usual ports: 4318 HTTP, 4317 gRPC, 8123 ClickHouse)"
        )
    } else if has(&["dns error", "failed to lookup", "resolve"]) {
        format!("check the host name in {key}")
    } else {
        format!("check {key}, and whether it runs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_remedies() {
        for (causes, expected) in [
            ("client error (Connect): tcp connect error: Connection refused (os error 111)", "whether it runs"),
            ("client error (Connect): dns error: failed to lookup address information", "the host name in endpoint"),
            ("client error (Connect): invalid peer certificate: UnknownIssuer", "set ca_file"),
            ("client error (Connect): received corrupt message of type InvalidContentType", "http:// or https://"),
            ("client error (SendRequest): http2 error: connection error received: frame", "another protocol"),
        ] {
            assert!(remedy(causes, "endpoint").contains(expected), "{causes}");
        }
    }
}
