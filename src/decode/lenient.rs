//! Lenient JSON: an invalid value is rewritten, so that it does not make the whole body unreadable.
//!
//! Unpaired surrogates and invalid UTF-8 become U+FFFD, a byte order mark is removed, raw control characters in strings are
//! escaped, and numbers that JSON does not have (`NaN`, `-Infinity`, `1e999`, `007`) and values nested too deep become
//! strings. Invalid structure stays an error. A valid body is not copied.

use std::borrow::Cow;
use std::cell::OnceCell;

/// Maximum nesting depth; deeper values, which serde_json would reject, become strings.
const MAX_DEPTH: usize = 100;
/// The replacement of values nested deeper.
const TOO_DEEP: &str = "\"nested too deep\"";
/// The UTF-8 byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A body that is parsed strictly first, and rewritten if that fails.
#[derive(Debug)]
pub struct LenientBody<'b> {
    bytes: &'b [u8],
    rewritten: OnceCell<Option<String>>,
}

impl<'b> LenientBody<'b> {
    /// A body of `bytes`, which are not parsed yet.
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, rewritten: OnceCell::new() }
    }

    /// Parses it with `read`. The error is that of the strict attempt if the bytes are UTF-8.
    pub fn read<'s, T, E>(&'s self, read: impl Fn(&'s str) -> Result<T, E>) -> Result<T, E> {
        let strict = std::str::from_utf8(self.bytes).ok().map(&read);
        let Some(Err(error)) = strict else {
            return strict.unwrap_or_else(|| read(self.rewritten().unwrap_or_default()));
        };
        match self.rewritten().map(read) {
            Some(Ok(lenient)) => Ok(lenient),
            _ => Err(error),
        }
    }

    /// The rewritten text, if it was rewritten.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.get_or_init(|| rewrite(self.bytes)).as_deref()
    }

    /// Whether it was parsed without rewriting.
    pub fn is_strict(&self) -> bool {
        self.rewritten.get().is_none_or(Option::is_none)
    }
}

/// `bytes` rewritten as valid JSON, as far as possible; `None` when there is nothing to rewrite.
pub fn rewrite(bytes: &[u8]) -> Option<String> {
    let body = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let text = String::from_utf8_lossy(body);
    let mut rewriter = Rewriter { text: &text, at: 0, out: String::new(), kept: 0 };
    rewriter.run();
    if rewriter.kept > 0 {
        rewriter.keep(text.len(), text.len());
        return Some(rewriter.out);
    }
    match text {
        Cow::Borrowed(_) if body.len() == bytes.len() => None,
        text => Some(text.into_owned()),
    }
}

struct Rewriter<'t> {
    text: &'t str,
    at: usize,
    out: String,
    /// How much of the text is in `out`; 0 while nothing was rewritten.
    kept: usize,
}

impl Rewriter<'_> {
    /// Copies the text up to `end` and continues at `next`.
    fn keep(&mut self, end: usize, next: usize) {
        self.out.push_str(self.text.get(self.kept..end).unwrap_or_default());
        self.kept = next;
    }

    /// Writes `instead` in place of the text from `start` to `end`.
    fn replace(&mut self, start: usize, end: usize, instead: &str) {
        self.keep(start, end);
        self.out.push_str(instead);
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn run(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => self.string(),
                b'{' | b'[' if depth == MAX_DEPTH => self.deep(),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                _ => self.bare(),
            }
        }
    }

    /// Scans a string from its opening quote.
    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => self.escape(),
                0..0x20 => {
                    self.replace(self.at, self.at + 1, &format!("\\u{byte:04x}"));
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Scans an escape from its `\`.
    fn escape(&mut self) {
        let start = self.at;
        let next = self.text.as_bytes().get(start + 1).copied();
        match (next, self.unit(start)) {
            (Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'), _) => self.at += 2,
            (_, Some(0xd800..=0xdbff)) if matches!(self.unit(start + 6), Some(0xdc00..=0xdfff)) => self.at += 12,
            (_, Some(0xd800..=0xdfff)) => {
                self.replace(start, start + 6, "\\ufffd");
                self.at += 6;
            }
            (_, Some(_)) => self.at += 6,
            // Not an escape: a literal backslash, as in `C:\Users`.
            (Some(_), None) => {
                self.replace(start, start + 1, "\\\\");
                self.at += 1;
            }
            (None, None) => self.at += 1,
        }
    }

    /// The UTF-16 code unit of `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    }

    /// Scans a literal or number, and quotes a number that is not valid JSON.
    fn bare(&mut self) {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let is_end =
            |letter: char| matches!(letter, '"' | '{' | '}' | '[' | ']' | ',' | ':') || letter.is_ascii_whitespace();
        let word = rest.find(is_end).and_then(|end| rest.get(..end)).unwrap_or(rest);
        // White space that JSON does not have, such as a form feed.
        self.at += word.len().max(1);
        if is_foreign_number(word) {
            let quoted = serde_json::Value::from(word).to_string();
            self.replace(start, self.at, &quoted);
        }
    }

    /// Skips a list or object that is nested too deep.
    fn deep(&mut self) {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.byte() {
            self.at += 1;
            match byte {
                b'"' => self.pass_string(),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return self.replace(start, self.at, TOO_DEEP);
                    }
                }
                _ => {}
            }
        }
    }

    /// Skips a string after its opening quote.
    fn pass_string(&mut self) {
        while let Some(byte) = self.byte() {
            self.at += 1 + usize::from(byte == b'\\');
            if byte == b'"' {
                return;
            }
        }
    }
}

/// Whether it is a number in other languages that JSON does not have or that overflows.
fn is_foreign_number(word: &str) -> bool {
    let unsigned = word.trim_start_matches(['+', '-']);
    let is_number = unsigned.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.');
    let is_named = ["nan", "inf", "infinity"].iter().any(|known| unsigned.eq_ignore_ascii_case(known));
    is_named || is_number && serde_json::from_str::<f64>(word).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &str) {
        let rewritten = rewrite(text).unwrap_or_else(|| panic!("{} is left as it is", String::from_utf8_lossy(text)));
        assert_eq!(rewritten, expected);
        let read: Result<serde_json::Value, _> = serde_json::from_str(&rewritten);
        assert!(read.is_ok(), "{rewritten}");
        assert_eq!(rewrite(rewritten.as_bytes()), None, "once is enough");
    }

    #[test]
    fn invalid_values_are_rewritten_as_valid_ones() {
        check(br#"{"a": "cut \ud83d", "b": 1}"#, r#"{"a": "cut \ufffd", "b": 1}"#);
        check(br#"["\ude00\ud83d\ude00\ud83d\ud83d"]"#, r#"["\ufffd\ud83d\ude00\ufffd\ufffd"]"#);
        check(br#"{"\ud800": 1}"#, r#"{"\ufffd": 1}"#);
        check(b"[\"a\xff\xfeb\", 1]", "[\"a\u{fffd}\u{fffd}b\", 1]");
        check(b"\xef\xbb\xbf{}", "{}");
        check(b"[NaN, Infinity, -Infinity, 1]", r#"["NaN", "Infinity", "-Infinity", 1]"#);
        check(b"[1e999, 007, +1, .5, 1., 0x1f]", r#"["1e999", "007", "+1", ".5", "1.", "0x1f"]"#);
        check(b"[\"a\nb\tc\"]", "[\"a\\u000ab\\u0009c\"]");
        check(br#"["C:\Users\x", "\u12"]"#, r#"["C:\\Users\\x", "\\u12"]"#);
        check(br#"{"a": NaN}"#, r#"{"a": "NaN"}"#);
        let deep = format!("{{\"x\": {}{}, \"y\": 1}}", "[".repeat(9_000), "]".repeat(9_000));
        check(deep.as_bytes(), &format!("{{\"x\": {}{TOO_DEEP}{}, \"y\": 1}}", "[".repeat(99), "]".repeat(99)));
    }

    #[test]
    fn valid_json_is_not_rewritten() {
        for text in
            [r#"{"a": [1, -2.5e3, true, null, "x\n\"\\\/\u00e9\ud83d\ude00"], "b": {}}"#, "[]", "7", "", "\"grüße\""]
        {
            assert_eq!(rewrite(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_body_is_parsed_strictly_first_and_that_error_is_returned() {
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(|error| error.to_string());
        let body = LenientBody::new(b"{\"a\": 1}");
        assert!(body.read(read).is_ok() && body.is_strict());
        let body = LenientBody::new(b"{\"a\": \"\\ud83d\"}");
        assert!(body.read(read).is_ok() && !body.is_strict());
        let error = LenientBody::new(b"{\"a\": \n x").read(read).expect_err("no JSON");
        assert!(error.contains("line 2"), "{error}");
        assert!(LenientBody::new(b"\"\xff\"").read(read).is_ok_and(|value| value == "\u{fffd}"));
    }

    proptest::proptest! {
        #[test]
        fn rewriting_is_idempotent(bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\",:\\ud8e0 \n\xffN1-".to_vec()), 0..60)) {
            if let Some(once) = rewrite(&bytes) {
                proptest::prop_assert_eq!(rewrite(once.as_bytes()), None);
            }
        }
    }
}
