//! Attributes by name, and the outcome of a request by its attributes. Senders write numbers as strings too, and empty
//! strings for absent values.

use std::borrow::Cow;

use crate::decode::read::MAX_COUNT;
use crate::otlp::wire::{self, KeyValue, Value};

/// Attributes of a resource, a span, a data point or a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a> {
    list: &'a [KeyValue],
    /// A bit for each key that is there: of the dozens of names that each span is asked for, most are not.
    bits: u64,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(list: &'a [KeyValue]) -> Self {
        Self { list, bits: list.iter().fold(0, |bits, it| bits | bit(&it.key)) }
    }

    /// All of them.
    pub(super) const fn list(self) -> &'a [KeyValue] {
        self.list
    }
}

impl<'a> From<&'a [KeyValue]> for Attributes<'a> {
    fn from(list: &'a [KeyValue]) -> Self {
        Self::new(list)
    }
}

impl<'a> From<&'a Vec<KeyValue>> for Attributes<'a> {
    fn from(list: &'a Vec<KeyValue>) -> Self {
        Self::new(list)
    }
}

/// The bit of a key: by its length and two of its letters, which differ between most names.
fn bit(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let letter = |place: usize| usize::from(bytes.get(place).copied().unwrap_or_default());
    let (last, middle) = (letter(bytes.len().wrapping_sub(1)), letter(bytes.len() / 2));
    1 << ((bytes.len() * 7 + last * 5 + middle * 3) % 64)
}

/// The value of `key`, unless it is empty.
pub(super) fn value<'a>(attributes: impl Into<Attributes<'a>>, key: &str) -> Option<&'a Value> {
    let attributes = attributes.into();
    if attributes.bits & bit(key) == 0 {
        return None;
    }
    wire::value(attributes.list.iter().find(|it| it.key == key)?)
}

/// The value of `key` as text.
pub(super) fn text<'a>(attributes: impl Into<Attributes<'a>>, key: &str) -> Option<Cow<'a, str>> {
    match value(attributes, key)? {
        Value::StringValue(text) if text.is_empty() => None,
        Value::StringValue(text) => Some(Cow::Borrowed(text)),
        Value::BoolValue(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::IntValue(number) => Some(Cow::Owned(number.to_string())),
        Value::DoubleValue(number) => Some(Cow::Owned(number.to_string())),
        Value::ArrayValue(_) | Value::KvlistValue(_) | Value::BytesValue(_) | Value::StringValueStrindex(_) => None,
    }
}

/// The value of `key` as a number from 0 to [`MAX_COUNT`].
pub(super) fn number<'a>(attributes: impl Into<Attributes<'a>>, key: &str) -> Option<f64> {
    let number = match value(attributes, key)? {
        Value::IntValue(number) => *number as f64,
        Value::DoubleValue(number) => *number,
        Value::StringValue(text) => text.parse().ok()?,
        _ => return None,
    };
    is_amount(number).then_some(number)
}

/// Whether `number` is in the range of a count.
pub(super) fn is_amount(number: f64) -> bool {
    (0.0..=MAX_COUNT as f64).contains(&number)
}

/// Values that stand for no error; some senders set them in place of leaving the attribute out.
const NO_ERROR: [&str; 6] = ["none", "null", "false", "0", "ok", "unset"];

/// Whether a request failed, and whether it was rate-limited. One without a response has no status, only an error.
pub(super) fn outcome(attributes: Attributes<'_>) -> (bool, bool) {
    const STATUS: [&str; 5] = ["http.response.status_code", "status_code", "http.status_code", "error.code", "status"];
    const KIND: [&str; 5] = ["error.type", "error_type", "exception.type", "error_class", "error.code"];
    const MESSAGE: [&str; 4] = ["error.message", "error_message", "exception.message", "error"];
    const OUTCOME: [&str; 3] = ["status", "otel.status_code", "outcome"];
    let error = |key: &str| text(attributes, key).filter(|it| !NO_ERROR.iter().any(|no| it.eq_ignore_ascii_case(no)));
    let status = STATUS.into_iter().find_map(|key| number(attributes, key));
    let kind = KIND.into_iter().find_map(error);
    let limited = status == Some(429.0) || kind.as_deref().is_some_and(is_rate_limit);
    let failed = OUTCOME.into_iter().filter_map(|key| text(attributes, key)).any(|it| is_failure(&it));
    let unsuccessful = text(attributes, "success").is_some_and(|it| it.eq_ignore_ascii_case("false"));
    let by_status = status.is_some_and(|status| status == 0.0 || status >= 400.0);
    let has_message = MESSAGE.into_iter().find_map(error).is_some();
    (
        limited
            || failed
            || unsuccessful
            || by_status
            || kind.is_some()
            || has_message
            || finished_with_error(attributes),
        limited,
    )
}

/// Whether an error type is that of a rate limit: `RateLimitError`, `rate_limit_exceeded`, `RESOURCE_EXHAUSTED`.
fn is_rate_limit(kind: &str) -> bool {
    let bare: String = kind.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect();
    bare == "429" || ["ratelimit", "toomanyrequests", "resourceexhausted", "throttl"].iter().any(|it| bare.contains(it))
}

fn is_failure(word: &str) -> bool {
    ["error", "failed", "failure", "timeout"].iter().any(|it| word.eq_ignore_ascii_case(it))
}

/// Whether a response ended with an error: the semantic conventions have a finish reason for that.
fn finished_with_error(attributes: Attributes<'_>) -> bool {
    match value(attributes, "gen_ai.response.finish_reasons") {
        Some(Value::ArrayValue(reasons)) => {
            reasons.values.iter().any(|it| matches!(&it.value, Some(Value::StringValue(reason)) if reason == "error"))
        }
        Some(Value::StringValue(reason)) => reason == "error",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_recognised_by_status_type_message_and_outcome() {
        let outcome_of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<KeyValue> = pairs.iter().map(|(key, text)| wire::string_attribute(key, text)).collect();
            outcome(Attributes::new(&pairs))
        };
        for good in [
            &[("http.response.status_code", "200")][..],
            &[("success", "true"), ("error", "false"), ("status", "ok"), ("error.type", "none")],
            &[("gen_ai.response.finish_reasons", "stop")],
            &[],
        ] {
            assert_eq!(outcome_of(good), (false, false), "{good:?}");
        }
        for bad in [
            &[("error.message", "error sending request")][..],
            &[("error", "connection refused")],
            &[("success", "False")],
            &[("http.response.status_code", "0")],
            &[("exception.type", "httpx.ReadTimeout")],
            &[("status", "error")],
            &[("gen_ai.response.finish_reasons", "error")],
        ] {
            assert_eq!(outcome_of(bad), (true, false), "{bad:?}");
        }
        for limited in [
            &[("error.type", "rate_limit_error")][..],
            &[("error_type", "RESOURCE_EXHAUSTED")],
            &[("error.code", "429")],
            &[("error_class", "litellm.RateLimitError")],
            &[("exception.type", "TooManyRequests")],
        ] {
            assert_eq!(outcome_of(limited), (true, true), "{limited:?}");
        }
    }
}
