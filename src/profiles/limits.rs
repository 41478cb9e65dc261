//! Rate limits in telemetry: what is left of one, and when a rejected request may be retried.
//!
//! Owns the names of the headers that providers report them in. A value that can't be parsed is ignored.

use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

use super::attributes::{Attributes, number, text, value};
use super::litellm::{self, HIDDEN_PARAMS};
use crate::decode::retry;
use crate::model::{RateLimit, Time};
use crate::otlp::wire::{self, Value};
use crate::text::names;

/// The prefix of attributes that hold captured response headers.
const HEADER: &str = "http.response.header.";
/// The types of limit: as headers spell them, and as we do.
const KINDS: [(&str, &str); 4] = [
    ("requests", "requests"),
    ("tokens", "tokens"),
    ("input-tokens", "input_tokens"),
    ("output-tokens", "output_tokens"),
];

/// The part of [`HIDDEN_PARAMS`] that is read.
#[derive(Deserialize)]
struct HiddenParams {
    additional_headers: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The provider that an item names, else the prefix of its model's name, else the default of its tool.
pub(super) fn provider(attributes: Attributes<'_>, default: Option<&'static str>) -> Option<Arc<str>> {
    let named = ["gen_ai.provider.name", "gen_ai.system", "llm.provider"].into_iter();
    let named = named.filter_map(|key| text(attributes, key)).find_map(|name| names::provider(&name).map(Arc::from));
    let by_model = || {
        let model = text(attributes, litellm::PROVIDER_MODEL).or_else(|| text(attributes, "gen_ai.request.model"))?;
        names::provider_of(&model).map(Arc::from)
    };
    named.or_else(by_model).or_else(|| default.map(Arc::from))
}

/// When a request that was rejected at `at` may be retried: by an attribute, a header, or an error message; `errors` are
/// those that are not attributes.
pub(super) fn retry_at<'a>(
    attributes: Attributes<'_>,
    errors: impl IntoIterator<Item = &'a str>,
    at: Time,
) -> Option<Time> {
    let mut seconds = ["retry_after", "retry-after", "gen_ai.retry_after"].into_iter();
    let seconds = seconds.find_map(|key| number(attributes, key)).or_else(|| {
        let millis = ["retry.delay_ms", "retry_delay_ms", "delay_ms"].into_iter();
        millis.map(|key| number(attributes, key)).find_map(|millis| Some(millis? / 1000.0))
    });
    let wait = seconds.and_then(|wait| Duration::try_from_secs_f64(wait).ok()).map(|wait| at.plus(wait));
    let attribute =
        ["retry_after", "retry-after", "gen_ai.retry_after"].into_iter().find_map(|key| text(attributes, key));
    let header = || headers(attributes).into_iter().find(|(name, _)| name == "retry-after").map(|(_, value)| value);
    let written = || attribute.map(std::borrow::Cow::into_owned).or_else(header);
    wait.or_else(|| retry::retry_after(&written()?, at)).or_else(|| {
        let own = ["error.message", "exception.message", "error"].into_iter();
        let own = own.filter_map(|key| text(attributes, key)).find_map(|message| retry::retry_at(&message, at));
        own.or_else(|| errors.into_iter().find_map(|message| retry::retry_at(message, at)))
    })
}

/// The limits of `provider` that a response received at `at` reports.
pub(super) fn limits(attributes: Attributes<'_>, provider: Option<&Arc<str>>, at: Time) -> Vec<RateLimit> {
    let mut limits: Vec<RateLimit> = Vec::new();
    for (name, value) in headers(attributes) {
        let Some((kind, part)) = kind_and_part(&name) else { continue };
        let place = limits.iter().position(|limit| *limit.limit_type == *kind).unwrap_or_else(|| {
            limits.push(RateLimit {
                provider: provider.cloned().unwrap_or_else(|| Arc::from("unknown")),
                limit_type: Arc::from(kind),
                limit: None,
                remaining: None,
                reset_at: None,
            });
            limits.len() - 1
        });
        let Some(limit) = limits.get_mut(place) else { continue };
        let amount = || value.parse::<f64>().ok().filter(|it| (0.0..1e15).contains(it)).map(|it| it as u64);
        match part {
            "limit" => limit.limit = amount().or(limit.limit),
            "remaining" => limit.remaining = amount().or(limit.remaining),
            _ => {
                limit.reset_at = Time::parse(&value).or_else(|| Some(at.plus(retry::wait(&value)?))).or(limit.reset_at)
            }
        }
    }
    limits.retain(|limit| limit.limit.is_some() || limit.remaining.is_some());
    limits
}

/// The type of limit that a header is about and which part of it, such as `requests` and `remaining` for both
/// `x-ratelimit-remaining-requests` and `anthropic-ratelimit-requests-remaining`.
fn kind_and_part(name: &str) -> Option<(&'static str, &'static str)> {
    let rest = name.strip_prefix("x-ratelimit-").or_else(|| name.strip_prefix("anthropic-ratelimit-"))?;
    ["limit", "remaining", "reset"].into_iter().find_map(|part| {
        let kind = rest.strip_prefix(part).and_then(|kind| kind.strip_prefix('-'));
        let kind = kind.or_else(|| rest.strip_suffix(part).and_then(|kind| kind.strip_suffix('-')))?;
        KINDS.into_iter().find(|(word, _)| *word == kind).map(|(_, kind)| (kind, part))
    })
}

/// The headers of a response, their names in lower case with dashes.
fn headers(attributes: Attributes<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for attribute in attributes.list() {
        if let Some(name) = attribute.key.strip_prefix(HEADER) {
            let first = match wire::value(attribute) {
                Some(Value::ArrayValue(list)) => list.values.first().and_then(|first| match &first.value {
                    Some(Value::StringValue(text)) => Some(text.clone()),
                    _ => None,
                }),
                _ => text(std::slice::from_ref(attribute), &attribute.key).map(std::borrow::Cow::into_owned),
            };
            found.extend(first.map(|value| (header_name(name), value)));
        }
    }
    if let Some(Value::StringValue(hidden)) = value(attributes, HIDDEN_PARAMS)
        && let Ok(HiddenParams { additional_headers: Some(headers) }) = serde_json::from_str(hidden)
    {
        for (name, value) in headers {
            let value = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Number(number) => number.to_string(),
                _ => continue,
            };
            found.push((header_name(name.strip_prefix("llm_provider-").unwrap_or(&name)), value));
        }
    }
    found
}

fn header_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::KeyValue;

    fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
        pairs.iter().map(|(key, text)| wire::string_attribute(key, text)).collect()
    }

    fn noon() -> Time {
        Time::parse("2026-11-21T12:00:00Z").expect("a time")
    }

    /// Type, limit, remaining amount, and seconds from noon to the reset.
    type ParsedLimit = (String, Option<u64>, Option<u64>, Option<f64>);

    fn read(pairs: &[(&str, &str)]) -> Vec<ParsedLimit> {
        let limits = limits(Attributes::new(&attributes(pairs)), Some(&Arc::from("openai")), noon());
        let one = |it: &RateLimit| {
            assert_eq!(&*it.provider, "openai");
            (it.limit_type.to_string(), it.limit, it.remaining, it.reset_at.map(|at| at.seconds_since(noon())))
        };
        limits.iter().map(one).collect()
    }

    #[test]
    fn headers_of_each_provider_are_parsed() {
        let expected = [("requests".to_owned(), Some(50), Some(0), Some(90.0))];
        let captured = [
            ("http.response.header.x-ratelimit-limit-requests", "50"),
            ("http.response.header.x-ratelimit-remaining-requests", "0"),
            ("http.response.header.x-ratelimit-reset-requests", "1m30s"),
        ];
        assert_eq!(read(&captured), expected);
        let hidden = r#"{"model_id": null, "additional_headers": {"x_ratelimit_limit_requests": 50, "x_ratelimit_remaining_requests": 0,
            "llm_provider-date": "…", "llm_provider-anthropic-ratelimit-requests-remaining": "0",
            "llm_provider-anthropic-ratelimit-requests-reset": "2026-11-21T12:01:30Z"}}"#;
        assert_eq!(read(&[("hidden_params", hidden)]), expected);
    }

    #[test]
    fn invalid_values_are_ignored() {
        for odd in ["", "many", "-1", "NaN", "1e300"] {
            assert_eq!(read(&[("http.response.header.x-ratelimit-remaining-tokens", odd)]), []);
        }
        let unknown = [("http.response.header.x-ratelimit-remaining-images", "5"), ("hidden_params", "{"), ("a", "b")];
        assert_eq!(read(&unknown), []);
    }

    #[test]
    fn the_time_to_retry_is_found_in_each_place_that_reports_it() {
        for (pairs, words) in [
            (&[("retry_after", "5")][..], ""),
            (&[("retry.delay_ms", "5000")], ""),
            (&[("http.response.header.retry-after", "5")], ""),
            (&[("http.response.header.retry-after", "Sat, 21 Nov 2026 12:00:05 GMT")], ""),
            (&[("retry_after", "2026-11-21T12:00:05Z")], ""),
            (&[("error.message", "Rate limit reached. Please try again in 5s.")], ""),
            (&[("error.type", "429")], "RateLimitError: … try again in 5s."),
        ] {
            assert_eq!(
                retry_at(Attributes::new(&attributes(pairs)), [words], noon()),
                Some(noon().plus(Duration::from_secs(5))),
                "{pairs:?}"
            );
        }
        assert_eq!(retry_at(Attributes::new(&attributes(&[("error.message", "no")])), [""], noon()), None);
    }
}
