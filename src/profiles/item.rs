//! One point, log record or span: what is known of it whatever brought it, and what it says of a request.

use std::sync::Arc;
use std::time::Duration;

use super::attributes::{number, outcome, text};
use super::limits;
use super::litellm;
use super::meter::Amounts;
use super::table::{Adds, Column, Profile, Request, When};
use crate::model::{AgentTelemetry, RateLimit, RateLimitHit, Time};
use crate::otlp::wire::KeyValue;
use crate::text::clean;
use crate::text::names;

/// Longest name of a model, in bytes.
const MAX_MODEL: usize = 128;
/// What names a model, the likeliest first.
const MODEL: [&str; 3] = ["gen_ai.request.model", "model", "gen_ai.response.model"];
/// Most tries at one answer that are counted.
const MAX_TRIES: f64 = 100.0;
/// Most rate limits that one export says of an agent; each item may name a provider of its own.
const MAX_LIMITS: usize = 32;
/// Used part of a context window, tokens in it, and how many fit.
const CONTEXT_WINDOW: [&str; 3] =
    ["gen_ai.context_window.ratio", "gen_ai.context_window.used", "gen_ai.context_window.size"];

/// What is known of an item.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) attributes: &'a [KeyValue],
    /// When it was, by the wall clock.
    pub(super) at: Time,
    /// How long it took, where it says so beside its attributes.
    pub(super) took: Option<Duration>,
    /// What it says of an error beside its attributes.
    pub(super) words: &'a [&'a str],
    /// Whether it says beside its attributes that it failed.
    pub(super) failed: bool,
    /// How many tries it names one by one.
    pub(super) tries: usize,
}

/// Adds `value` to each column.
pub(super) fn put(amounts: &mut Amounts, adds: Adds, value: f64) {
    for column in adds {
        if let Some(amount) = amounts.get_mut(*column as usize) {
            *amount += value;
        }
    }
}

/// How an item tells that its request was tried.
pub(super) fn tries(request: Request, item: &Item<'_>) -> Tries {
    let numbered = number(item.attributes, "attempt");
    match request {
        Request::Attempt => Tries { failed_before: 0.0, retries: numbered.unwrap_or_default().min(1.0) },
        _ => {
            let tried = numbered.or_else(|| litellm::attempt(item.attributes)).unwrap_or_default();
            let before = (tried.max(item.tries as f64) - 1.0).clamp(0.0, MAX_TRIES);
            Tries { failed_before: before, retries: before }
        }
    }
}

/// What came before the last try at an answer.
#[derive(Clone, Copy)]
pub(super) struct Tries {
    /// How many failed that no item of their own tells of.
    pub(super) failed_before: f64,
    /// How many were sent again.
    pub(super) retries: f64,
}

/// Counts requests that went in one way.
pub(super) fn count(amounts: &mut Amounts, requests: f64, failed: bool, limited: bool) {
    put(amounts, &[Column::Requests], requests);
    if failed {
        put(amounts, &[Column::Errors], requests);
    }
    if limited {
        put(amounts, &[Column::RateLimited], requests);
    }
}

/// Whether an event is meant; names come bare or behind their tool's.
pub(super) fn is_meant(when: &When, name: &str, attributes: &[KeyValue]) -> bool {
    let named = |full: &str| name == full || full.split_once('.').is_some_and(|(_, bare)| name == bare);
    match when {
        When::Named(full) => named(full),
        When::NamedFailed(full) => named(full) && outcome(attributes).0,
        When::NamedWith(full, key, value) => named(full) && text(attributes, key).as_deref() == Some(value),
        When::Any(keys, values) => {
            keys.iter().any(|key| text(attributes, key).is_some_and(|value| values.contains(&&*value)))
        }
    }
}

/// The model that was asked.
pub(super) fn model(attributes: &[KeyValue]) -> Option<Arc<str>> {
    let named = || MODEL.iter().find_map(|key| text(attributes, key));
    let full = text(attributes, litellm::PROVIDER_MODEL).or_else(named)?;
    let model = names::model(&full);
    (!model.is_empty()).then(|| Arc::from(&*clean(&model, MAX_MODEL)))
}

/// Used part of the model's context window. No tool that was recorded tells it, and the conventions have no name for it,
/// so that these are ours: a ratio, or tokens in it and how many fit.
fn context_window_ratio(attributes: &[KeyValue]) -> Option<f64> {
    let [ratio, used, size] = CONTEXT_WINDOW.map(|key| number(attributes, key));
    let ratio = ratio.or_else(|| Some(used? / size?))?;
    (0.0..=1.0).contains(&ratio).then_some(ratio)
}

/// Notes how a request went, what it left of its context window, and what its provider said of its limits.
pub(super) fn tell(said: &mut AgentTelemetry, profile: &Profile, item: &Item<'_>, failed: bool, limited: bool) {
    let provider = limits::provider(item.attributes, profile.provider);
    if limited {
        let until = limits::retry_at(item.attributes, item.words.iter().copied(), item.at);
        if said.rate_limited.as_ref().is_none_or(|(at, _)| *at <= item.at) {
            said.rate_limited = Some((item.at, RateLimitHit { provider: provider.clone(), until }));
        }
    } else if !failed {
        said.answered = said.answered.max(Some(item.at));
    }
    said.context_window_ratio = context_window_ratio(item.attributes).or(said.context_window_ratio);
    for limit in limits::limits(item.attributes, provider.as_ref(), item.at) {
        let same = |known: &RateLimit| (&known.provider, &known.limit_type) == (&limit.provider, &limit.limit_type);
        if let Some(known) = said.rate_limits.iter_mut().find(|known| same(known)) {
            *known = limit;
        } else if said.rate_limits.len() < MAX_LIMITS {
            said.rate_limits.push(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{Value, attribute};

    #[test]
    fn a_context_window_is_a_ratio_or_tokens_of_so_many() {
        let check = |attributes: &[(&str, f64)], expected: Option<f64>| {
            let numbers = attributes.iter().map(|(key, number)| attribute(key, Value::DoubleValue(*number)));
            let attributes: Vec<KeyValue> = numbers.collect();
            assert_eq!(context_window_ratio(&attributes), expected, "{attributes:?}");
        };
        let [ratio, used, size] = CONTEXT_WINDOW;
        check(&[], None);
        check(&[(ratio, 0.25)], Some(0.25));
        check(&[(used, 150_000.0), (size, 200_000.0)], Some(0.75));
        check(&[(used, 150_000.0)], None);
        for wrong in [&[(ratio, 1.5)][..], &[(used, 2.0), (size, 1.0)], &[(used, 0.0), (size, 0.0)]] {
            check(wrong, None);
        }
    }
}
