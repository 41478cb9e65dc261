//! Converts JSON that is not one object per line to lines: arrays, objects that span lines, and objects longer than the
//! longest line that is parsed.
//!
//! Scans from the first byte of a document to its last without parsing it. Long strings are cut, since nothing that is
//! needed is in them. Input that turns out not to be JSON is returned unchanged.

use super::MAX_LINE;

/// Bytes of a string that are kept.
const MAX_STRING: usize = 4096;
/// The UTF-8 byte order mark, which some editors and shells write.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where the first document in `bytes` starts that is not a single line; `at_line`: a line starts at 0.
///
/// Searches no further than that, so that consecutive documents are found in one pass.
pub(super) fn start(bytes: &[u8], at_line: bool) -> Option<usize> {
    const STARTS: [&[u8]; 4] = [b"{\n", b"{\r\n", b"[{", b"[\n"];
    if at_line && begins(bytes) {
        return Some(0);
    }
    memchr::memchr_iter(b'\n', bytes).map(|end| end + 1).find(|at| {
        let line = bytes.get(*at..).unwrap_or_default();
        STARTS.iter().any(|start| line.starts_with(start))
    })
}

/// Whether `bytes` start with an array of objects, or with an object whose keys are on separate lines.
fn begins(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes).trim_ascii_start();
    let Some((first, rest)) = bytes.split_first() else { return false };
    let next = rest.trim_ascii_start();
    let breaks = rest.len() > next.len() && rest.get(..rest.len() - next.len()).is_some_and(|gap| gap.contains(&b'\n'));
    match first {
        b'[' => next.first() == Some(&b'{') || next.is_empty() && breaks,
        b'{' => breaks && next.first().is_none_or(|byte| *byte == b'"'),
        _ => false,
    }
}

/// A document that is being read.
#[derive(Debug, Default)]
pub(super) struct JsonDocument {
    /// Whether it must end before the next newline.
    is_line: bool,
    is_array: bool,
    depth: usize,
    /// The current object.
    object: Vec<u8>,
    /// Whether the current object is too long even with its strings cut.
    overlong: bool,
    text: Option<JsonString>,
    is_over: bool,
    /// Whether it is certainly JSON, since a complete object was read.
    is_sure: bool,
    /// The input until then, to be treated as lines if it is not JSON.
    raw: Vec<u8>,
}

/// The current string of a document.
#[derive(Clone, Copy, Debug, Default)]
struct JsonString {
    length: usize,
    is_escaped: bool,
    /// Remaining hex digits of an escape.
    digits: u8,
    /// Whether the rest is left out.
    is_cut: bool,
}

impl JsonDocument {
    /// An object on one line that is too long for a line.
    pub(super) fn line() -> Self {
        Self { is_line: true, is_sure: true, ..Self::default() }
    }

    /// Whether it ended, or is not JSON.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads `bytes`, adds each complete object to `lines` as a line, and returns how many bytes belong to the
    /// document.
    pub(super) fn read(&mut self, bytes: &[u8], lines: &mut Vec<u8>) -> usize {
        let read = self.read_on(bytes, lines);
        self.is_sure |= !lines.is_empty() || self.raw.len() > MAX_LINE;
        if self.is_sure {
            self.raw = Vec::new();
        } else {
            self.raw.extend_from_slice(bytes.get(..read).unwrap_or_default());
        }
        read
    }

    /// The input that turned out not to be JSON.
    pub(super) fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    fn read_on(&mut self, bytes: &[u8], lines: &mut Vec<u8>) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if !self.take(*byte, lines) {
                self.is_over = true;
                return at;
            }
            if self.is_over {
                return at + 1;
            }
        }
        bytes.len()
    }

    /// Reads one byte; false if it can't be part of JSON.
    fn take(&mut self, byte: u8, lines: &mut Vec<u8>) -> bool {
        if let Some(text) = &mut self.text {
            if byte == b'\n' {
                return false;
            }
            let is_end = byte == b'"' && !text.is_escaped;
            if text.take(byte) {
                self.keep(byte);
            }
            if is_end {
                self.text = None;
            }
            return true;
        }
        match byte {
            b'\n' if self.is_line => return false,
            b' ' | b'\t' | b'\r' | b'\n' => return true,
            b'[' if self.depth == 0 && !self.is_array => self.is_array = true,
            b']' if self.depth == 0 => self.is_over = true,
            b',' if self.depth == 0 => {}
            b'{' | b'[' => {
                self.depth += 1;
                self.keep(byte);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.keep(byte);
                if self.depth == 0 {
                    self.end_object(lines);
                }
            }
            _ if self.depth == 0 => return BYTE_ORDER_MARK.contains(&byte) && !self.is_array,
            b'"' => {
                self.text = Some(JsonString::default());
                self.keep(byte);
            }
            // Includes `NaN` and `Infinity`, which some tools write.
            b',' | b':' | b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E' | b'I' | b'N' => self.keep(byte),
            _ => return false,
        }
        true
    }

    fn keep(&mut self, byte: u8) {
        if self.object.len() < MAX_LINE {
            self.object.push(byte);
        } else {
            self.overlong = true;
        }
    }

    fn end_object(&mut self, lines: &mut Vec<u8>) {
        if !self.overlong {
            lines.append(&mut self.object);
            lines.push(b'\n');
        }
        self.object.clear();
        (self.overlong, self.is_over) = (false, !self.is_array);
    }
}

impl JsonString {
    /// Reads one byte; whether it is kept. Strings are cut between characters, so that they stay valid.
    fn take(&mut self, byte: u8) -> bool {
        let is_letter = !self.is_escaped && self.digits == 0 && byte != b'\\' && byte & 0xc0 != 0x80;
        self.is_cut |= self.length >= MAX_STRING && is_letter;
        self.length += 1;
        self.digits = match (self.is_escaped, byte) {
            (true, b'u') => 4,
            _ => self.digits.saturating_sub(1),
        };
        let is_end = byte == b'"' && !self.is_escaped;
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        !self.is_cut || is_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a document, the same for all chunk sizes, and the rest of `bytes`.
    fn lines(bytes: &[u8]) -> (String, &[u8]) {
        let read = |size: usize| {
            let (mut document, mut lines, mut at) = (JsonDocument::default(), Vec::new(), 0);
            for piece in bytes.chunks(size) {
                if !document.is_over() {
                    at += document.read(piece, &mut lines);
                }
            }
            (String::from_utf8(lines).expect("text"), bytes.get(at..).expect("a rest"))
        };
        assert_eq!(read(1), read(bytes.len().max(1)));
        read(7)
    }

    #[test]
    fn each_object_becomes_a_line() {
        for (document, expected, rest) in [
            ("[{\"a\":1},{\"b\":[{}, 2]}]\nmore", "{\"a\":1}\n{\"b\":[{},2]}\n", "\nmore"),
            ("\u{feff}[\n  {\n    \"a\": \"x y\"\n  },\n  {}\n]", "{\"a\":\"x y\"}\n{}\n", ""),
            ("{\n  \"a\": \"}]\\\"\",\n  \"b\": null\n}\n", "{\"a\":\"}]\\\"\",\"b\":null}\n", "\n"),
            ("{\"a\": \"two\nlines\"}", "", "\nlines\"}"),
            ("[info] hello", "", "info] hello"),
            ("{\n  int x;\n}", "", ";\n}"),
            ("[{\"a\": 1}, ", "{\"a\":1}\n", ""),
        ] {
            assert_eq!(lines(document.as_bytes()), (expected.to_owned(), rest.as_bytes()), "{document}");
        }
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        for letter in ["a", "é", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\\"", "🤖"] {
            let document = format!("{{\"long\":\"x{}\",\"type\":\"result\"}}", letter.repeat(3 * MAX_STRING) + "yz");
            let (line, _) = lines(document.as_bytes());
            assert!(line.len() < document.len(), "{letter}");
            let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(read["type"], "result");
        }
        let endless = format!("[{{\"a\":[{}0]}},{{\"b\":1}}]", "0,".repeat(MAX_LINE));
        assert_eq!(lines(endless.as_bytes()).0, "{\"b\":1}\n", "an object that is still too long is skipped");
    }

    #[test]
    fn documents_start_at_the_beginning_of_a_line() {
        for (text, expected) in [
            ("[{\"a\":1}]", Some(0)),
            ("\u{feff}{\n  \"a\": 1\n}", Some(0)),
            ("loaded\n{\n  \"a\": 1}", Some(7)),
            ("loaded\n[{\"a\": 1}]", Some(7)),
            ("[\n", Some(0)),
            ("{\"a\":1}\n{\"b\":2}\n", None),
            ("[info] x\n[ok] y\n", None),
            ("{", None),
            ("{\nint x", None),
            ("", None),
        ] {
            assert_eq!(start(text.as_bytes(), true), expected, "{text}");
        }
        assert_eq!(start(b"[{", false), None, "the rest of a line");
    }
}
