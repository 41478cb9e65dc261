//! A polled page before it is understood: is it text, is it JSON of a bearable size, does it say that it is an error.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess};
use serde_json::Value;

use super::{MAX_REASON, MAX_TEXT};
use crate::decode::lenient;
use crate::decode::read::{Key, Read, Scalar, Seed};
use crate::model::{SourceError, SourceErrorReason};
use crate::text;

/// Most values in a page that is held as a tree: at up to about 100 bytes each, a hundred megabytes at the very worst.
/// 10,000 agents with thirty fields are 300,000.
const MAX_VALUES: usize = 1_000_000;

/// A poll that failed for `reason`, with a message that is cleaned and cut, since parts of it are the upstream's words.
pub(super) fn failed(reason: SourceErrorReason, message: &str) -> SourceError {
    SourceError { reason, message: text::clean(message, MAX_REASON).into_owned() }
}

/// A page that can't be read.
pub(super) fn malformed(message: &str) -> SourceError {
    failed(SourceErrorReason::Malformed, message)
}

/// The body as text, rewritten where only that makes JSON of it.
pub(super) fn text(body: &[u8]) -> Result<Cow<'_, str>, SourceError> {
    let text = match (lenient::rewrite(body), std::str::from_utf8(body)) {
        (Some(rewritten), _) => Cow::Owned(rewritten),
        (None, Ok(text)) => Cow::Borrowed(text),
        (None, Err(_)) => return Err(malformed("the body is not UTF-8 text")),
    };
    if text.trim_ascii().is_empty() {
        return Err(malformed("the body is empty"));
    }
    Ok(text)
}

/// The page as a tree, nested at most 128 deep.
pub(super) fn tree(text: &str) -> Result<Value, SourceError> {
    // Each value but the first comes after one of these; text that holds them only makes the guess higher.
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MAX_VALUES {
        let message = format!("the page holds more than {MAX_VALUES} values; poll a smaller page");
        return Err(failed(SourceErrorReason::TooLarge, &message));
    }
    serde_json::from_str(text).map_err(|error| malformed(&format!("the body is not JSON: {error}")))
}

/// The error that the page speaks of: text under `error`, or under `error.message`; `None` when it does not,
/// or is no JSON object at all.
pub(super) fn said_error(text: &str) -> Option<SourceError> {
    let mut said = Said { key: "error", value: Scalar::Null };
    let mut input = serde_json::Deserializer::from_str(text);
    Seed(&mut said).deserialize(&mut input).ok()?;
    let words = match said.value {
        Scalar::Text(words) if !words.trim_ascii().is_empty() => text::clean(&words, MAX_TEXT).into_owned(),
        Scalar::Flag(true) => "true".to_owned(),
        _ => return None,
    };
    Some(failed(SourceErrorReason::Upstream, &format!("the upstream answers with an error: {words}")))
}

struct Said<'a> {
    key: &'static str,
    value: Scalar<'a>,
}

impl<'de> Read<'de> for Said<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let wanted = self.key;
        while let Some(found) = map.next_key_seed(Key(|key: &str| key == wanted))? {
            if !found {
                map.next_value::<IgnoredAny>()?;
            } else if wanted == "error" {
                let mut inner = Said { key: "message", value: Scalar::Null };
                map.next_value_seed(Seed(&mut inner))?;
                self.value = inner.value;
            } else {
                self.value = map.next_value()?;
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        // A page that is itself a word is not an error of its own making; below `error`, the word is the error.
        if self.key == "message" {
            self.value = value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let said = said_error(text).map(|error| error.message);
        let expected = expected.map(|words| format!("the upstream answers with an error: {words}"));
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn an_error_is_heard_in_each_of_its_forms() {
        check(r#"{"error": "database is locked"}"#, Some("database is locked"));
        check(r#"{"agents": [], "error": {"code": 7, "message": "no\u001b[1m"}}"#, Some("no"));
        check(r#"{"error": true}"#, Some("true"));
        for calm in [
            r#"{"error": null}"#,
            r#"{"error": ""}"#,
            r#"{"error": false}"#,
            r#""error""#,
            "[]",
            "{",
            r#"{"error": {"message": {}}}"#,
        ] {
            check(calm, None);
        }
        assert!(said_error(&format!(r#"{{"error": "{}"}}"#, "x".repeat(9_999))).expect("an error").message.len() < 600);
    }

    #[test]
    fn a_page_is_bounded_before_it_is_a_tree() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(tree(&many).expect_err("refused").reason, SourceErrorReason::TooLarge);
        let deep = format!("{}{}", "[".repeat(9_999), "]".repeat(9_999));
        assert_eq!(tree(&deep).expect_err("refused").reason, SourceErrorReason::Malformed);
        assert_eq!(text(b" \n").expect_err("refused").message, "the body is empty");
        assert_eq!(text(b"\xef\xbb\xbf[\"\xff\"]").expect("rewritten"), "[\"\u{fffd}\"]");
    }
}
