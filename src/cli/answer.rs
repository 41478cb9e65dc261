//! Lenient reading of the API's answers: a value that is missing or of another type counts as unknown, so that this
//! program can also show the answers of older and newer sidecars.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::model::{Time, duration};
use crate::text::clean;
use crate::text::number::fixed;

/// The answer as JSON, with every text cleaned for a terminal, since another program may answer at that address.
pub(super) fn parse(text: &str) -> anyhow::Result<Value> {
    let mut answer = serde_json::from_str(text)
        .context("the answer is not JSON; check that --url is the address of a lookout sidecar")?;
    clean_texts(&mut answer);
    Ok(answer)
}

/// Cleans every text; recursion is safe, since the parser limits the depth.
fn clean_texts(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(cleaned) = clean(text, usize::MAX) {
                *text = cleaned;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(clean_texts),
        Value::Object(object) => object.values_mut().for_each(clean_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text at `key`; empty when there is none.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number at `key`.
pub(super) fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}

/// The boolean at `key`; a number counts as true unless it is 0.
pub(super) fn flag(value: &Value, key: &str) -> Option<bool> {
    let value = value.get(key)?;
    value.as_bool().or_else(|| Some(value.as_f64()? != 0.0))
}

/// The items of the list at `key`; none when there is no list.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The time at `key`, as RFC 3339 or Unix seconds.
pub(super) fn time(value: &Value, key: &str) -> Option<Time> {
    match value.get(key)? {
        Value::String(text) => Time::parse(text),
        other => Time::from_secs_f64(other.as_f64()?),
    }
}

/// A point in time for tables: `in 5m`, `5m ago`; empty when it is unknown.
pub(super) fn relative(now: Time, time: Option<Time>) -> String {
    match time {
        Some(time) if time > now => format!("in {}", duration::display(whole(time.since(now)))),
        Some(_) => format!("{} ago", ago(now, time)),
        None => String::new(),
    }
}

/// RFC 3339 without fractions of a second.
pub(super) fn to_second(time: Time) -> String {
    Time::from_millis(time.as_millis() - time.as_millis().rem_euclid(1000)).to_string()
}

/// How long ago `time` was: `5m`; empty when it is unknown.
pub(super) fn ago(now: Time, time: Option<Time>) -> String {
    time.map(|time| duration::display(whole(now.since(time)))).unwrap_or_default()
}

/// Seconds as a duration, such as `1m15s`; empty when unknown, negative or too large.
pub(super) fn seconds(seconds: Option<f64>) -> String {
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.map(|duration| duration::display(whole(duration))).unwrap_or_default()
}

/// How far an agent is: `42%` as it reports, `~60 %, about 4m left` as estimated, `–` when unknown.
pub(super) fn progress(agent: &Value) -> String {
    if let Some(percent) = number(agent, "progress").filter(|progress| progress.is_finite()) {
        return format!("{}%", fixed(percent, 0));
    }
    let estimate = agent.get("progress_estimate").unwrap_or(&Value::Null);
    let Some(percent) = number(estimate, "progress").filter(|progress| progress.is_finite()) else {
        return "–".to_owned();
    };
    let left = match number(estimate, "seconds_left") {
        Some(left) if left > 0.0 => format!("about {} left", seconds(Some(left))),
        _ => "longer than usual".to_owned(),
    };
    format!("~{} %, {left}", fixed(percent, 0))
}

/// A number with a unit prefix: `987`, `12.3k`, `4.5M`; empty when unknown.
pub(super) fn short(number: Option<f64>) -> String {
    let Some(number) = number.filter(|number| number.is_finite()) else { return String::new() };
    for (limit, divisor, unit) in
        [(999.5, 1.0, ""), (999_950.0, 1e3, "k"), (999_950_000.0, 1e6, "M"), (f64::INFINITY, 1e9, "G")]
    {
        if number.abs() < limit {
            let digits = usize::from(divisor > 1.0);
            return format!("{}{unit}", fixed(number / divisor, digits));
        }
    }
    String::new()
}

/// An amount of US dollars: `$0.0042`, `$3.10`, `<$0.0001`; empty when unknown.
pub(super) fn dollars(amount: Option<f64>) -> String {
    if amount.is_some_and(|amount| amount > 0.0 && amount < 0.000_05) {
        return "<$0.0001".to_owned();
    }
    let digits = |amount: f64| if amount != 0.0 && amount.abs() < 0.1 { 4 } else { 2 };
    let amount = amount.filter(|amount| amount.is_finite());
    amount.map(|amount| format!("${}", fixed(amount, digits(amount)))).unwrap_or_default()
}

/// What to do when there is no agent yet.
pub(super) const NO_AGENTS: &str =
    "no agents yet; `lookout setup TOOL` prints the settings with which a tool reports its agents";

/// What to do when no receiver is configured.
pub(super) const NO_RECEIVERS: &str = "no receivers: alerts are logged and served, but no notifications are sent; set \
                                       SLACK_WEBHOOK_URL, or add `receivers` to the configuration file";

/// A remark about columns that a table leaves out.
pub(super) fn wider(left_out: &[&str]) -> String {
    if left_out.is_empty() { String::new() } else { format!(" (a wider terminal also shows {})", left_out.join(", ")) }
}

/// An ID as tables show it: as much as is enough to type.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `1 agent`, `2 agents`.
pub(super) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The matchers of a silence: `agent_name=worker-*, rule=AgentIdle`.
pub(super) fn matchers(silence: &Value) -> String {
    let matchers = silence.get("matchers").and_then(Value::as_object).into_iter().flatten();
    let matchers: Vec<String> =
        matchers.map(|(label, glob)| format!("{label}={}", glob.as_str().unwrap_or_default())).collect();
    matchers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_as_reported_else_an_estimate_else_unknown() {
        let estimate = |percent: f64, left: f64| serde_json::json!({"progress": null, "progress_estimate": {"progress": percent, "seconds_left": left}});
        for (agent, shown) in [
            (serde_json::json!({"progress": 42.4, "progress_estimate": null}), "42%"),
            (estimate(60.0, 240.0), "~60 %, about 4m left"),
            (estimate(99.0, 0.0), "~99 %, longer than usual"),
            (serde_json::json!({"progress": null, "progress_estimate": null}), "–"),
            (serde_json::json!({"progress_estimate": {"progress": "much"}}), "–"),
        ] {
            assert_eq!(progress(&agent), shown);
        }
    }

    #[test]
    fn large_numbers_are_abbreviated() {
        for (number, text) in [
            (0.0, "0"),
            (987.0, "987"),
            (999.7, "1.0k"),
            (12_345.0, "12.3k"),
            (999_960.0, "1.0M"),
            (4_500_000.0, "4.5M"),
            (2e9, "2.0G"),
            (-0.0, "0"),
            (-0.4, "0"),
            (-12_345.0, "-12.3k"),
            (f64::NAN, ""),
        ] {
            assert_eq!(short(Some(number)), text);
        }
        for (amount, text) in [
            (0.0, "$0.00"),
            (0.0042, "$0.0042"),
            (0.000_026, "<$0.0001"),
            (3.1, "$3.10"),
            (1234.5, "$1234.50"),
            (-0.0, "$0.00"),
            (-1e-9, "$0.0000"),
        ] {
            assert_eq!(dollars(Some(amount)), text);
        }
        assert_eq!(seconds(Some(-1.0)) + &seconds(None) + &seconds(Some(f64::MAX)), "");
    }

    #[test]
    fn texts_of_answers_are_cleaned() {
        let answer =
            parse(r#"{"timeline": [{"at": "\u001b]0;owned\u0007now", "text": "a\u001b[2Jb\u202ec\nd", "n": 1}]}"#);
        let answer = answer.expect("json");
        assert_eq!(answer, serde_json::json!({"timeline": [{"at": "now", "text": "abc d", "n": 1}]}));
    }

    #[test]
    fn values_of_unexpected_types_are_unknown() {
        let answer = parse(r#"{"a": [], "b": 1, "c": "2026-11-21T02:00:00Z", "d": 1792000000}"#).expect("json");
        assert_eq!(text(&answer, "a"), "");
        assert_eq!((flag(&answer, "b"), flag(&answer, "c"), number(&answer, "c")), (Some(true), None, None));
        assert!(list(&answer, "b").is_empty() && list(&Value::Null, "x").is_empty());
        let now = Time::parse("2026-11-21T02:05:00Z").expect("time");
        assert_eq!(ago(now, time(&answer, "c")), "5m");
        assert!(time(&answer, "d").is_some() && time(&answer, "a").is_none());
        assert!(parse("<html>").is_err());
    }
}
