//! That a rate limit holds an agent up: since when, and until when as far as anybody said.
//!
//! A request that is answered ends it, and so does time. Refuses to guess an end: where nobody tells one, it is over
//! when no request was refused for as long as the built-in rule RateLimited looks back.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Time;

/// So long after the last refusal a limit counts as over whose end nobody told.
const UNTOLD: Duration = Duration::from_secs(600);
/// No end lies further ahead: limits are of a minute, an hour, a day, a week or a month.
const FURTHEST: Duration = Duration::from_secs(32 * 86_400);

/// A refused request, or what a provider said of a limit that has nothing left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// When requests are taken again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// A limit that holds an agent up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// The provider, such as `anthropic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Since when.
    pub since: Time,
    /// When it ends, as the provider said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// When a request was last refused, or said to be.
    pub refused_at: Time,
    /// Whether it ended the agent's run: then the agent is rate-limited and not down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended_run: bool,
}

impl Limited {
    /// The limit at `now` when `before` held until then and `refusal` is news; `None` when that says it is over.
    pub fn after(before: Option<&Self>, now: Time, refusal: &Refusal) -> Option<Self> {
        let told = refusal.until.map(|until| until.min(now.plus(FURTHEST)));
        if told.is_some_and(|until| until <= now) {
            return None;
        }
        let known = before.and_then(|limited| limited.until).filter(|until| *until > now);
        Some(Self {
            provider: refusal.provider.clone().or_else(|| before?.provider.clone()),
            since: before.map_or(now, |limited| limited.since),
            until: told.or(known),
            refused_at: now,
            ended_run: before.is_some_and(|limited| limited.ended_run),
        })
    }

    /// When it is over, unless something is heard before.
    pub fn ends(&self) -> Time {
        self.until.unwrap_or_else(|| self.refused_at.plus(UNTOLD))
    }

    /// Takes over what was saved by a clock that may have been ahead of ours.
    pub fn restored(&mut self, now: Time) {
        self.since = self.since.min(now);
        self.refused_at = self.refused_at.min(now);
        self.until = self.until.map(|until| until.min(now.plus(FURTHEST)));
    }
}

/// Whether `text` speaks of a limit that ends by itself, as an error or a reason does.
pub fn is_about_limit(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "rate_limit",
        "ratelimit",
        "too many requests",
        "usage limit",
        "usage_limit",
        "limit reached",
        "hit your limit",
        "resource_exhausted",
        "resource exhausted",
    ];
    let text = text.to_ascii_lowercase().replace('-', " ");
    // A rate limiter is a program, and a weekly limit is one that somebody hit.
    let is_rate = text
        .match_indices("rate limit")
        .any(|(at, word)| text.get(at + word.len()..).is_none_or(|rest| !rest.starts_with("er")));
    let is_hit = text.contains("hit your") && text.contains("limit");
    let is_429 = text.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == "429");
    is_rate || is_hit || is_429 || WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_limit_are_known() {
        for text in [
            "rate limit",
            "failed by rate limit",
            "Rate-limited by anthropic",
            "429, rate limit",
            "RateLimitError: Error code: 429",
            "HTTP 429",
            "You've hit your weekly limit · resets Dec 3, 7am (Europe/Zurich)",
            "You've hit your usage limit.",
            "5-hour limit reached ∙ resets 3:30pm",
            "429 RESOURCE_EXHAUSTED",
        ] {
            assert!(is_about_limit(text), "{text}");
        }
        for text in
            ["", "exit code 137", "out of memory", "tests of the rate limiter failed", "line 1429", "time limit"]
        {
            assert!(!is_about_limit(text), "{text}");
        }
    }

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn refusal(until: Option<i64>) -> Refusal {
        Refusal { provider: None, until: until.map(at) }
    }

    #[test]
    fn the_last_word_on_its_end_counts() {
        let first = Limited::after(None, at(100), &refusal(Some(160))).expect("a limit");
        assert_eq!((first.since, first.until, first.ends()), (at(100), Some(at(160)), at(160)));
        let silent = Limited::after(Some(&first), at(110), &refusal(None)).expect("a limit");
        assert_eq!((silent.since, silent.until), (at(100), Some(at(160))), "what was said holds");
        let longer = Limited::after(Some(&silent), at(120), &refusal(Some(900))).expect("a limit");
        assert_eq!((longer.since, longer.until), (at(100), Some(at(900))));
        let sooner = Limited::after(Some(&longer), at(130), &refusal(Some(140))).expect("a limit");
        assert_eq!(sooner.until, Some(at(140)));
        assert_eq!(Limited::after(Some(&sooner), at(131), &refusal(Some(131))), None, "at once is no limit");
    }

    #[test]
    fn an_end_that_nobody_told_is_ten_minutes_after_the_last_refusal() {
        let first = Limited::after(None, at(0), &refusal(None)).expect("a limit");
        assert_eq!((first.until, first.ends()), (None, at(600)));
        let second = Limited::after(Some(&first), at(500), &refusal(None)).expect("a limit");
        assert_eq!((second.since, second.ends()), (at(0), at(1100)));
        let absurd = Limited::after(None, at(0), &refusal(Some(i64::MAX / 2000))).expect("a limit");
        assert_eq!(absurd.ends(), at(32 * 86_400));
    }

    #[test]
    fn who_limits_is_remembered() {
        let by = |name: &str| Refusal { provider: Some(name.into()), until: None };
        let first = Limited::after(None, at(0), &by("anthropic"));
        let second = Limited::after(first.as_ref(), at(1), &refusal(None));
        assert_eq!(second.as_ref().and_then(|limited| limited.provider.as_deref()), Some("anthropic"));
        let other = Limited::after(second.as_ref(), at(2), &by("openai")).expect("a limit");
        assert_eq!(other.provider.as_deref(), Some("openai"));
    }
}
