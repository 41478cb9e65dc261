//! Numbers that clients report of a run besides its calls: how the platform answered, and what people thought of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFact {
    /// How many agents a command ran at once.
    ParallelWidth,
    /// Messages in the thread.
    ThreadLength,
    /// Milliseconds until it answered.
    ResponseTime,
    /// Files that it handled.
    Files,
    /// Whether it decided to answer, 0 or 1.
    Answered,
    /// Answers that came from a cache.
    CacheHits,
    /// Calls of its tools by the client.
    ToolCalls,
    /// Whether its work passed a review, 0 or 1, or the part that did.
    ReviewPassed,
    /// How satisfied its user was.
    UserSatisfaction,
}

impl RunFact {
    /// All of them; the position is the number that is stored.
    pub const ALL: [Self; 9] = [
        Self::ParallelWidth,
        Self::ThreadLength,
        Self::ResponseTime,
        Self::Files,
        Self::Answered,
        Self::CacheHits,
        Self::ToolCalls,
        Self::ReviewPassed,
        Self::UserSatisfaction,
    ];

    /// Its name in statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ParallelWidth => "parallel_width",
            Self::ThreadLength => "thread_length",
            Self::ResponseTime => "response_time_ms",
            Self::Files => "files",
            Self::Answered => "answered",
            Self::CacheHits => "cache_hits",
            Self::ToolCalls => "tool_calls",
            Self::ReviewPassed => "review_passed",
            Self::UserSatisfaction => "user_satisfaction",
        }
    }

    /// The keys of metadata that report it, the first that there is counts.
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::ParallelWidth => &["parallel_width", "parallel", "parallelism"],
            Self::ThreadLength => &["thread_length", "thread_messages"],
            Self::ResponseTime => &["response_time_ms", "response_ms"],
            Self::Files => &["files", "files_handled", "file_count"],
            Self::Answered => &["answered", "should_respond", "responded"],
            Self::CacheHits => &["cache_hits", "cache_hit"],
            Self::ToolCalls => &["tool_calls", "mcp_tool_calls"],
            Self::ReviewPassed => &["review_passed", "review_pass_rate"],
            Self::UserSatisfaction => &["user_satisfaction", "satisfaction"],
        }
    }
}

/// Largest amount of a value.
const MAX_VALUE: f64 = 1e9;
const NANOS: f64 = 1e9;

/// The facts of a run, in billionths, so that sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(usize, i64)>", into = "Vec<(usize, i64)>")]
pub struct RunFacts([Option<i64>; RunFact::ALL.len()]);

impl RunFacts {
    /// What `metadata` reports: numbers, `true` and `false`, and of a list how long it is. Everything else is left out.
    pub fn of_metadata(metadata: &Value) -> Self {
        let mut facts = Self::default();
        for (fact, place) in RunFact::ALL.into_iter().zip(&mut facts.0) {
            *place = fact.keys().iter().find_map(|key| number(metadata.get(key)?));
        }
        facts
    }

    /// What attributes of a span report under the keys of metadata, with or without `metadata.` before them; `None` if that is
    /// nothing.
    pub fn of_attributes<'a>(attributes: impl Iterator<Item = (&'a str, f64)>) -> Option<Self> {
        let mut found: Option<Self> = None;
        for (key, value) in attributes {
            let key = key.strip_prefix("metadata.").unwrap_or(key);
            let fact = RunFact::ALL.into_iter().find(|fact| fact.keys().contains(&key));
            if let Some((fact, nanos)) = fact.zip(nanos_of(value)) {
                found.get_or_insert_default().set(fact as usize, nanos);
            }
        }
        found
    }

    /// The facts with their values.
    pub fn values(&self) -> impl Iterator<Item = (RunFact, f64)> + '_ {
        self.iter().map(|(fact, nanos)| (fact, nanos as f64 / NANOS))
    }

    /// The facts with their values in billionths.
    pub fn iter(&self) -> impl Iterator<Item = (RunFact, i64)> + '_ {
        RunFact::ALL.into_iter().zip(self.0).filter_map(|(fact, value)| Some((fact, value?)))
    }

    /// Sets a fact by its stored number; an unknown one is left out.
    pub fn set(&mut self, number: usize, nanos: i64) {
        if let Some(place) = self.0.get_mut(number) {
            *place = Some(nanos);
        }
    }

    /// These facts, where they are unknown those of `other`.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(known, other)| *known = known.or(other));
        self
    }
}

impl From<Vec<(usize, i64)>> for RunFacts {
    fn from(saved: Vec<(usize, i64)>) -> Self {
        let mut facts = Self::default();
        saved.into_iter().for_each(|(number, value)| facts.set(number, value));
        facts
    }
}

impl From<RunFacts> for Vec<(usize, i64)> {
    fn from(facts: RunFacts) -> Self {
        facts.iter().map(|(fact, value)| (fact as usize, value)).collect()
    }
}

/// What the runs of a project on one platform add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlatformTotals {
    /// Ended runs that were ok, failed, and were abandoned.
    pub runs: [u64; 3],
    /// By fact, in the order of [`RunFact::ALL`]: in how many runs it was reported, and its sum.
    pub facts: Vec<(u64, f64)>,
    /// When the last of them ended.
    pub last_at: Option<Time>,
}

impl PlatformTotals {
    /// Most series of one platform.
    pub const SERIES: usize = 3 + 2 * RunFact::ALL.len();

    /// Adds a run that ended with the status of this number in [`PlatformTotals::runs`].
    pub fn add(&mut self, now: Time, status: usize, facts: &RunFacts) {
        self.last_at = Some(now);
        if let Some(count) = self.runs.get_mut(status) {
            *count = count.saturating_add(1);
        }
        self.facts.resize(RunFact::ALL.len(), (0, 0.0));
        for (fact, value) in facts.iter() {
            if let Some((runs, sum)) = self.facts.get_mut(fact as usize) {
                (*runs, *sum) = (runs.saturating_add(1), *sum + value as f64 / NANOS);
            }
        }
    }
}

fn number(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64()?,
        Value::Array(items) => items.len() as f64,
        _ => return None,
    };
    nanos_of(number)
}

fn nanos_of(number: f64) -> Option<i64> {
    (0.0..=MAX_VALUE).contains(&number).then(|| (number * NANOS).round() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_flags_and_lengths_of_lists_are_facts() {
        let facts = RunFacts::of_metadata(&json!({
            "thread_length": 7, "response_ms": 1250.5, "files": ["a.png", "b.png"], "should_respond": false,
            "cache_hits": "many", "user_satisfaction": -1, "review_passed": true, "channel": "C123", "parallel": 1e12,
        }));
        let read: Vec<_> = facts.iter().map(|(fact, nanos)| (fact.as_str(), nanos)).collect();
        assert_eq!(
            read,
            [
                ("thread_length", 7_000_000_000),
                ("response_time_ms", 1_250_500_000_000),
                ("files", 2_000_000_000),
                ("answered", 0),
                ("review_passed", 1_000_000_000),
            ]
        );
        assert_eq!(RunFacts::of_metadata(&json!([1])), RunFacts::default());
        let later = RunFacts::of_metadata(&json!({"thread_length": 9, "cache_hits": 1}));
        assert_eq!(facts.or(later).iter().count(), 6);
        assert_eq!(facts.or(later).iter().next(), Some((RunFact::ThreadLength, 7_000_000_000)), "the first one counts");
    }
}
