//! Classifies the text of an error. The text itself is not shown, since it may contain account and request ids.

use crate::decode::limits::is_about_limit;

/// Texts of rate limits, and their name.
const LIMITS: [(&str, &str); 5] = [
    ("rate limit", "rate limit"),
    ("rate_limit", "rate limit"),
    ("too many requests", "rate limit"),
    ("usage limit", "usage limit"),
    ("quota", "quota used up"),
];

/// Texts of other errors, and their name.
const KINDS: [(&str, &str); 9] = [
    ("overloaded", "overloaded"),
    ("unauthorized", "not authorised"),
    ("authentication", "not authorised"),
    ("context window", "context window full"),
    ("timed out", "timeout"),
    ("timeout", "timeout"),
    ("disconnected", "connection lost"),
    ("connection", "connection failed"),
    ("interrupt", "interrupted"),
];

/// Bytes of a text that are searched.
const LOOKED_AT: usize = 4096;

/// A failed request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestFailure {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u64>,
    /// The kind of failure.
    kind: Option<&'static str>,
    /// Whether it is a rate or usage limit.
    is_limit: bool,
}

impl RequestFailure {
    /// The failure with this status, or described by `text`.
    pub(super) fn of(status: Option<u64>, text: &str) -> Self {
        let start = text.as_bytes().get(..LOOKED_AT).unwrap_or(text.as_bytes());
        let start = String::from_utf8_lossy(start).to_ascii_lowercase();
        let numbers = || start.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let named = || numbers().filter(|word| word.len() == 3).filter_map(|word| word.parse::<u64>().ok());
        let is_about_limit = status.is_none_or(|status| status < 500) && is_about_limit(&start);
        // Other numbers in the text of a limit are amounts.
        let is_status = |status: &u64| if is_about_limit { *status == 429 } else { (400..600).contains(status) };
        let status = status.or_else(|| named().find(is_status));
        let called =
            |kinds: &[(&str, &'static str)]| kinds.iter().find(|(part, _)| start.contains(part)).map(|(_, kind)| *kind);
        let kind = if is_about_limit { called(&LIMITS).or(Some("usage limit")) } else { called(&KINDS) };
        let kind = kind.or(match status {
            Some(429) => Some("rate limit"),
            Some(529) => Some("overloaded"),
            Some(401 | 403) => Some("not authorised"),
            _ => None,
        });
        Self { status, kind, is_limit: status == Some(429) || is_about_limit }
    }

    /// Whether it is a rate or usage limit.
    pub(super) fn is_limit(self) -> bool {
        self.is_limit
    }

    /// A short description.
    pub(super) fn words(self) -> String {
        match (self.status, self.kind) {
            (Some(status), Some(kind)) => format!("{status}, {kind}"),
            (Some(status), None) => status.to_string(),
            (None, Some(kind)) => kind.to_owned(),
            (None, None) => "an error".to_owned(),
        }
    }
}

/// An identifier of a protocol as words: `error_max_turns` is `error max turns`. `None` for other text.
pub(super) fn word(identifier: &str) -> Option<String> {
    let fits = (1..=40).contains(&identifier.len())
        && identifier.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    fits.then(|| identifier.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_described_without_their_text() {
        for (text, words, is_limit) in [
            ("exceeded retry limit, last status: 429 Too Many Requests, request id: req_2694", "429, rate limit", true),
            ("Reconnecting... 1/2 (stream disconnected before completion: secret)", "connection lost", false),
            ("unexpected status 503 Service Unavailable: ada@example.com", "503", false),
            ("You've hit your usage limit for org-1234", "usage limit", true),
            ("it broke at line 1429 of 5230", "an error", false),
            ("Rate limit reached for organization org-abc", "rate limit", true),
            ("Rate limit reached: Limit 500, Used 500, Requested 1", "rate limit", true),
            ("You're out of extra usage · resets 3pm (Europe/Berlin)", "usage limit", true),
            ("insufficient_quota: You exceeded your current quota", "quota used up", true),
            ("RESOURCE_EXHAUSTED", "usage limit", true),
            ("429 RESOURCE_EXHAUSTED", "429, usage limit", true),
            ("tests of the rate limiter failed", "an error", false),
            ("Disk quota exceeded", "an error", false),
            ("Context limit reached", "an error", false),
        ] {
            let failure = RequestFailure::of(None, text);
            assert_eq!((failure.words().as_str(), failure.is_limit()), (words, is_limit), "{text}");
        }
        assert_eq!(RequestFailure::of(Some(529), "").words(), "529, overloaded");
        assert_eq!(word("error_max_turns").as_deref(), Some("error max turns"));
        assert_eq!((word("My name is Ada"), word("")), (None, None));
    }
}
