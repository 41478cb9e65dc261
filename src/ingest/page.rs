//! Checks that polled pages of all kinds have in common: valid text, JSON within limits, and errors that a page reports.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess};
use serde_json::Value;

use super::{MAX_REASON, MAX_TEXT};
use crate::decode::lenient;
use crate::decode::read::{JsonVisitor, KeySeed, Scalar, VisitorSeed};
use crate::model::{SourceError, SourceErrorReason};
use crate::text;

/// Most values in a page that is parsed into a tree: at up to about 100 bytes each, that takes 100 MB at most.
/// 10,000 agents with thirty fields are 300,000.
const MAX_VALUES: usize = 1_000_000;

/// The error of a poll. The message is sanitised and cut, since it may quote the upstream.
pub(super) fn failed(reason: SourceErrorReason, message: &str) -> SourceError {
    SourceError { reason, message: text::clean(message, MAX_REASON).into_owned() }
}

/// The error of a page that can't be decoded.
pub(super) fn malformed(message: &str) -> SourceError {
    failed(SourceErrorReason::Malformed, message)
}

/// The body as text, rewritten if it is no valid JSON otherwise.
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

/// The page as a tree, with at most 128 levels.
pub(super) fn tree(text: &str) -> Result<Value, SourceError> {
    // All values but the first follow one of these characters. Strings that contain them only raise the estimate.
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > MAX_VALUES {
        let message = format!("the page holds more than {MAX_VALUES} values; poll a smaller page");
        return Err(failed(SourceErrorReason::TooLarge, &message));
    }
    serde_json::from_str(text).map_err(|error| malformed(&format!("the body is not JSON: {error}")))
}

/// The error that the page reports: the text of `error` or `error.message`; `None` without one, or when the page is not a
/// JSON object.
pub(super) fn reported_error(text: &str) -> Option<SourceError> {
    let mut reader = ErrorReader { key: "error", value: Scalar::Null };
    let mut input = serde_json::Deserializer::from_str(text);
    VisitorSeed(&mut reader).deserialize(&mut input).ok()?;
    let message = match reader.value {
        Scalar::Text(text) if !text.trim_ascii().is_empty() => text::clean(&text, MAX_TEXT).into_owned(),
        Scalar::Flag(true) => "true".to_owned(),
        _ => return None,
    };
    Some(failed(SourceErrorReason::Upstream, &format!("the upstream reports an error: {message}")))
}

struct ErrorReader<'a> {
    key: &'static str,
    value: Scalar<'a>,
}

impl<'de> JsonVisitor<'de> for ErrorReader<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let wanted = self.key;
        while let Some(found) = map.next_key_seed(KeySeed(|key: &str| key == wanted))? {
            if !found {
                map.next_value::<IgnoredAny>()?;
            } else if wanted == "error" {
                let mut inner = ErrorReader { key: "message", value: Scalar::Null };
                map.next_value_seed(VisitorSeed(&mut inner))?;
                self.value = inner.value;
            } else {
                self.value = map.next_value()?;
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        // A page that is a scalar reports no error; a scalar below `error` is the message.
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
        let found = reported_error(text).map(|error| error.message);
        let expected = expected.map(|message| format!("the upstream reports an error: {message}"));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn errors_are_found_in_all_forms() {
        check(r#"{"error": "database is locked"}"#, Some("database is locked"));
        check(r#"{"agents": [], "error": {"code": 7, "message": "no\u001b[1m"}}"#, Some("no"));
        check(r#"{"error": true}"#, Some("true"));
        for other in [
            r#"{"error": null}"#,
            r#"{"error": ""}"#,
            r#"{"error": false}"#,
            r#""error""#,
            "[]",
            "{",
            r#"{"error": {"message": {}}}"#,
        ] {
            check(other, None);
        }
        assert!(
            reported_error(&format!(r#"{{"error": "{}"}}"#, "x".repeat(9_999))).expect("an error").message.len() < 600
        );
    }

    #[test]
    fn pages_are_limited_before_they_are_parsed() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert_eq!(tree(&many).expect_err("rejected").reason, SourceErrorReason::TooLarge);
        let deep = format!("{}{}", "[".repeat(9_999), "]".repeat(9_999));
        assert_eq!(tree(&deep).expect_err("rejected").reason, SourceErrorReason::Malformed);
        assert_eq!(text(b" \n").expect_err("rejected").message, "the body is empty");
        assert_eq!(text(b"\xef\xbb\xbf[\"\xff\"]").expect("rewritten"), "[\"\u{fffd}\"]");
    }
}
