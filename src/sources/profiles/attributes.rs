//! Attributes by name, and what they say of how a request went. Numbers may be texts, and unset values are nothing.

use std::borrow::Cow;

use crate::sources::otlp::wire::{KeyValue, Value};
use crate::sources::read::MAX_COUNT;

/// The value of `key`, unless it is empty.
pub(super) fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|it| it.key == key)?.value()
}

/// The value of `key` as text.
pub(super) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<Cow<'a, str>> {
    match value(attributes, key)? {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Int(number) => Some(Cow::Owned(number.to_string())),
        Value::Double(number) => Some(Cow::Owned(number.to_string())),
        Value::Array(_) | Value::Kvlist(_) | Value::Bytes(_) => None,
    }
}

/// The value of `key` as a number that is neither negative nor more than anything here could count.
pub(super) fn number(attributes: &[KeyValue], key: &str) -> Option<f64> {
    let number = match value(attributes, key)? {
        Value::Int(number) => *number as f64,
        Value::Double(number) => *number,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    is_amount(number).then_some(number)
}

/// Whether it may be an amount of anything.
pub(super) fn is_amount(number: f64) -> bool {
    (0.0..=MAX_COUNT as f64).contains(&number)
}

/// Whether a request failed, and whether for a rate limit.
pub(super) fn outcome(attributes: &[KeyValue]) -> (bool, bool) {
    const STATUS: [&str; 5] = ["http.response.status_code", "status_code", "http.status_code", "error.code", "status"];
    let status = STATUS.into_iter().find_map(|key| number(attributes, key));
    let kind = text(attributes, "error.type").or_else(|| text(attributes, "error_type"));
    let limited =
        status == Some(429.0) || kind.as_deref().is_some_and(|kind| kind == "429" || kind.contains("RateLimit"));
    let refused = text(attributes, "success").as_deref() == Some("false");
    (limited || refused || kind.is_some() || status.is_some_and(|status| status >= 400.0), limited)
}
