//! What the sections of all targets have in common.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
