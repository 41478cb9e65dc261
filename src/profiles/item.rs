//! A data point, log record or span in a common form, and what it reports about a request.

use std::sync::Arc;
use std::time::Duration;

use super::attributes::{Attributes, number, outcome, text};
use super::limits;
use super::litellm;
use super::profile::{Columns, EventMatch, Profile, RequestKind, UsageColumn};
use super::signal_totals::Amounts;
use crate::model::{AgentTelemetry, RateLimit, RateLimitHit, Time};
use crate::text::clean;
use crate::text::names;

/// Longest name of a model, in bytes.
const MAX_MODEL: usize = 128;
/// Attributes that name a model, the preferred one first.
const MODEL: [&str; 3] = ["gen_ai.request.model", "model", "gen_ai.response.model"];
/// Most attempts at one request that are counted.
const MAX_ATTEMPTS: f64 = 100.0;
/// Most rate limits of one agent that one export reports: each item may name another provider.
const MAX_LIMITS: usize = 32;
/// The used part of a context window; the tokens in it; how many fit. The semantic conventions have no attributes for
/// this, and no tool that was recorded reports it, so that these names are our own.
const CONTEXT_WINDOW: [&str; 3] =
    ["gen_ai.context_window.ratio", "gen_ai.context_window.used", "gen_ai.context_window.size"];

/// One item of telemetry.
#[derive(Clone, Copy)]
pub(super) struct TelemetryItem<'a> {
    pub(super) attributes: Attributes<'a>,
    /// When it happened, by the wall clock.
    pub(super) at: Time,
    /// How long it took, where that is not an attribute.
    pub(super) took: Option<Duration>,
    /// Error messages that are not attributes.
    pub(super) errors: &'a [&'a str],
    /// Whether its status is an error.
    pub(super) failed: bool,
    /// How many attempts it lists one by one.
    pub(super) attempts: usize,
}

/// Adds `value` to each of the columns.
pub(super) fn add_to(amounts: &mut Amounts, columns: Columns, value: f64) {
    for column in columns {
        if let Some(amount) = amounts.get_mut(*column as usize) {
            *amount += value;
        }
    }
}

/// The attempts at a request before the last one.
#[derive(Clone, Copy)]
pub(super) struct Attempts {
    /// Failed attempts that have no item of their own.
    pub(super) failed_before: f64,
    /// How often the request was sent again.
    pub(super) retries: f64,
}

/// The attempts that an item reports.
pub(super) fn attempts(request: RequestKind, item: &TelemetryItem<'_>) -> Attempts {
    let numbered = number(item.attributes, "attempt");
    match request {
        RequestKind::Attempt => Attempts { failed_before: 0.0, retries: numbered.unwrap_or_default().min(1.0) },
        _ => {
            let attempt = numbered.or_else(|| litellm::attempt(item.attributes)).unwrap_or_default();
            let before = (attempt.max(item.attempts as f64) - 1.0).clamp(0.0, MAX_ATTEMPTS);
            Attempts { failed_before: before, retries: before }
        }
    }
}

/// Counts requests with the same outcome.
pub(super) fn count(amounts: &mut Amounts, requests: f64, failed: bool, rate_limited: bool) {
    add_to(amounts, &[UsageColumn::Requests], requests);
    if failed {
        add_to(amounts, &[UsageColumn::Errors], requests);
    }
    if rate_limited {
        add_to(amounts, &[UsageColumn::RateLimited], requests);
    }
}

/// Whether a row describes the event `name`. Names may come without the prefix of their tool.
pub(super) fn matches(matching: &EventMatch, name: &str, attributes: Attributes<'_>) -> bool {
    let named = |full: &str| name == full || full.split_once('.').is_some_and(|(_, bare)| name == bare);
    match matching {
        EventMatch::Named(full) => named(full),
        EventMatch::NamedFailed(full) => named(full) && outcome(attributes).0,
        EventMatch::NamedWith(full, key, value) => named(full) && text(attributes, key).as_deref() == Some(value),
        EventMatch::Any(keys, values) => {
            keys.iter().any(|key| text(attributes, key).is_some_and(|value| values.contains(&&*value)))
        }
    }
}

/// The model of a request.
pub(super) fn model(attributes: Attributes<'_>) -> Option<Arc<str>> {
    let named = || MODEL.iter().find_map(|key| text(attributes, key));
    let full = text(attributes, litellm::PROVIDER_MODEL).or_else(named)?;
    let model = names::model(&full);
    (!model.is_empty()).then(|| Arc::from(&*clean(&model, MAX_MODEL)))
}

/// The used part of the model's context window.
fn context_window_ratio(attributes: Attributes<'_>) -> Option<f64> {
    let [ratio, used, size] = CONTEXT_WINDOW.map(|key| number(attributes, key));
    let ratio = ratio.or_else(|| Some(used? / size?))?;
    (0.0..=1.0).contains(&ratio).then_some(ratio)
}

/// Records the outcome of a request, the context window after it, and the rate limits that its response reports.
pub(super) fn record_outcome(
    telemetry: &mut AgentTelemetry,
    profile: &Profile,
    item: &TelemetryItem<'_>,
    failed: bool,
    rate_limited: bool,
) {
    let provider = limits::provider(item.attributes, profile.provider);
    if rate_limited {
        let until = limits::retry_at(item.attributes, item.errors.iter().copied(), item.at);
        if telemetry.rate_limited.as_ref().is_none_or(|(at, _)| *at <= item.at) {
            telemetry.rate_limited = Some((item.at, RateLimitHit { provider: provider.clone(), until }));
        }
    } else if !failed {
        telemetry.answered = telemetry.answered.max(Some(item.at));
    }
    telemetry.context_window_ratio = context_window_ratio(item.attributes).or(telemetry.context_window_ratio);
    for limit in limits::limits(item.attributes, provider.as_ref(), item.at) {
        let same = |known: &RateLimit| (&known.provider, &known.limit_type) == (&limit.provider, &limit.limit_type);
        if let Some(known) = telemetry.rate_limits.iter_mut().find(|known| same(known)) {
            *known = limit;
        } else if telemetry.rate_limits.len() < MAX_LIMITS {
            telemetry.rate_limits.push(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::{KeyValue, Value, attribute};

    #[test]
    fn a_context_window_is_a_ratio_or_used_and_size_in_tokens() {
        let check = |attributes: &[(&str, f64)], expected: Option<f64>| {
            let numbers = attributes.iter().map(|(key, number)| attribute(key, Value::DoubleValue(*number)));
            let attributes: Vec<KeyValue> = numbers.collect();
            assert_eq!(context_window_ratio(Attributes::new(&attributes)), expected, "{attributes:?}");
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
