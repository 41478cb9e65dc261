//! Writes families and series into a buffer that is flushed whenever it is full.
//!
//! Both formats have the same series and differ only in the declaration of a family. NaN values are skipped.

use super::format::ExpositionFormat;
use super::names::{FamilyKind, FamilySpec};
use crate::model::Time;

/// The buffer is flushed at this size: small enough for the CPU cache and for gzip's window of twice 32 KiB.
pub(super) const CHUNK: usize = 60 * 1024;
/// Extra capacity for the line that fills a chunk, so that the buffer seldom grows.
pub(super) const SLACK: usize = 4 * 1024;

/// Takes the content of the buffer and leaves it empty. Returns false when the scraper is gone.
pub(super) type Flush<'a> = dyn FnMut(&mut Vec<u8>) -> bool + 'a;

/// Writes metric families.
pub(super) struct SeriesWriter<'a> {
    out: &'a mut Vec<u8>,
    flush: &'a mut Flush<'a>,
    format: ExpositionFormat,
    /// Number of flushed bytes.
    flushed: usize,
    closed: bool,
}

impl<'a> SeriesWriter<'a> {
    pub(super) fn new(format: ExpositionFormat, out: &'a mut Vec<u8>, flush: &'a mut Flush<'a>) -> Self {
        Self { out, flush, format, flushed: 0, closed: false }
    }

    /// Whether the scraper still reads.
    pub(super) const fn is_open(&self) -> bool {
        !self.closed
    }

    /// The format.
    pub(super) const fn format(&self) -> ExpositionFormat {
        self.format
    }

    /// The buffer, flushed first if it is full.
    #[inline]
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.out.len() >= CHUNK {
            self.flush_buffer();
        }
        self.out
    }

    /// Writes a family: its declaration and the series that `write` writes. Writes nothing when there are none.
    #[inline]
    pub(super) fn family(&mut self, family: &FamilySpec, write: impl FnOnce(&mut FamilySeries<'_, 'a>)) {
        if self.closed {
            return;
        }
        let (begin, flushed) = (self.out.len(), self.flushed);
        self.declare(family);
        let declared = self.out.len();
        let prefix = format!("{}{{", family.name).into_bytes();
        write(&mut FamilySeries { writer: self, name: family.name, prefix });
        if self.flushed == flushed && self.out.len() == declared {
            self.out.truncate(begin);
        }
    }

    fn declare(&mut self, family: &FamilySpec) {
        let name = match self.format {
            ExpositionFormat::Text => family.name,
            ExpositionFormat::OpenMetrics => family.base(),
        };
        let mut write = |parts: &[&str]| parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
        write(&["# HELP ", name, " ", family.help, ".\n# TYPE ", name, " ", family.kind.as_str(), "\n"]);
        if let (ExpositionFormat::OpenMetrics, Some(unit)) = (self.format, family.unit()) {
            write(&["# UNIT ", name, " ", unit, "\n"]);
        }
        debug_assert!(family.kind != FamilyKind::Counter || family.name.ends_with("_total"), "{}", family.name);
    }

    #[cold]
    fn flush_buffer(&mut self) {
        self.flushed += self.out.len();
        if !self.closed {
            self.closed = !(self.flush)(self.out);
        }
        self.out.clear();
    }
}

/// Writes the series of one family.
pub(super) struct FamilySeries<'w, 'a> {
    writer: &'w mut SeriesWriter<'a>,
    name: &'static str,
    /// The metric name and `{`.
    prefix: Vec<u8>,
}

impl<'a> FamilySeries<'_, 'a> {
    /// Starts the line of a series; `labels` are already escaped and may be empty.
    #[inline]
    pub(super) fn line(&mut self, labels: &str) -> SeriesLine<'_, 'a> {
        self.make_room();
        let out = &mut *self.writer.out;
        let begin = out.len();
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(labels.as_bytes());
        SeriesLine { out: &mut *self.writer, begin }
    }

    /// Starts a line of a histogram with the suffix `_bucket`, `_count` or `_sum`.
    pub(super) fn part(&mut self, suffix: &str, labels: &str) -> SeriesLine<'_, 'a> {
        self.make_room();
        let out = &mut *self.writer.out;
        let begin = out.len();
        for part in [self.name, suffix, "{", labels] {
            out.extend_from_slice(part.as_bytes());
        }
        SeriesLine { out: &mut *self.writer, begin }
    }

    /// Writes the one series of a family without labels.
    pub(super) fn bare(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.writer.out.extend_from_slice(self.name.as_bytes());
        self.writer.out.push(b' ');
        write_number(self.writer.out, value);
        self.writer.out.push(b'\n');
    }

    /// Writes one series per value of a closed set: 1 at `current`, 0 elsewhere. `tails` come from [`tails`].
    #[inline]
    pub(super) fn states(&mut self, labels: &str, tails: &[[Vec<u8>; 2]], current: usize) {
        self.make_room();
        let out = &mut *self.writer.out;
        let begin = out.len();
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(labels.as_bytes());
        let head = begin..out.len();
        for (index, tail) in tails.iter().enumerate() {
            if index > 0 {
                out.extend_from_within(head.clone());
            }
            out.extend_from_slice(&tail[usize::from(index == current)]);
        }
    }

    /// Writes one series per value of a closed set with its count. `tails` come from [`tails`].
    #[inline]
    pub(super) fn counts<const N: usize>(&mut self, labels: &str, tails: &[[Vec<u8>; 2]; N], counts: [u64; N]) {
        self.make_room();
        let out = &mut *self.writer.out;
        let begin = out.len();
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(labels.as_bytes());
        let head = begin..out.len();
        for (index, (tail, count)) in tails.iter().zip(counts).enumerate() {
            if index > 0 {
                out.extend_from_within(head.clone());
            }
            if let ([zero, _], 0) = (tail, count) {
                out.extend_from_slice(zero);
                continue;
            }
            // The tail without the value and the line feed.
            let [zero, _] = tail;
            out.extend_from_slice(zero.strip_suffix(b"0\n").unwrap_or(zero));
            out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            out.push(b'\n');
        }
    }

    #[inline]
    fn make_room(&mut self) {
        self.writer.buffer();
    }
}

/// For each value of a closed label set, the end of its line with the sample 0 and with 1. Other labels must precede it.
pub(super) fn tails<const N: usize>(label: &str, words: [&str; N]) -> [[Vec<u8>; 2]; N] {
    words.map(|word| [0, 1].map(|value| format!(",{label}=\"{word}\"}} {value}\n").into_bytes()))
}

/// The line of a series: labels first, then the value, which completes it.
pub(super) struct SeriesLine<'s, 'a> {
    out: &'s mut SeriesWriter<'a>,
    begin: usize,
}

impl SeriesLine<'_, '_> {
    /// Writes a label with its value escaped.
    #[inline]
    pub(super) fn label(self, name: &str, value: &str) -> Self {
        let out = &mut *self.out.out;
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        write_escaped(out, value);
        out.push(b'"');
        self
    }

    /// Completes the line with 0 or 1.
    #[inline]
    pub(super) fn flag(self, value: bool) {
        self.out.out.extend_from_slice(if value { b"} 1\n" } else { b"} 0\n" });
    }

    /// Completes the line with an integer.
    #[inline]
    pub(super) fn count(self, value: u64) {
        let out = &mut *self.out.out;
        out.extend_from_slice(b"} ");
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        out.push(b'\n');
    }

    /// Completes the line with a number, or removes the line if it is NaN.
    #[inline]
    pub(super) fn number(self, value: f64) {
        let out = &mut *self.out.out;
        if value.is_nan() {
            out.truncate(self.begin);
            return;
        }
        out.extend_from_slice(b"} ");
        write_number(out, value);
        out.push(b'\n');
    }

    /// Completes the line with a Unix timestamp in seconds.
    #[inline]
    pub(super) fn time(self, time: Time) {
        let out = &mut *self.out.out;
        out.extend_from_slice(b"} ");
        write_seconds(out, time.as_millis());
        out.push(b'\n');
    }
}

/// Writes an escaped label value; both formats escape alike.
#[inline]
pub(super) fn write_escaped(out: &mut Vec<u8>, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    let mut escaped = String::with_capacity(value.len() + 8);
    crate::model::labels::escape(value, &mut escaped);
    out.extend_from_slice(escaped.as_bytes());
}

/// Writes a number that is not NaN: integers without a fraction, others in the shortest form that parses to the same value.
#[inline]
pub(super) fn write_number(out: &mut Vec<u8>, value: f64) {
    // Integers are exact as floats up to 2^53.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = value as i64;
    if value.abs() <= EXACT && whole as f64 == value {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

/// Writes milliseconds as seconds.
#[inline]
fn write_seconds(out: &mut Vec<u8>, millis: i64) {
    if millis < 0 {
        out.push(b'-');
    }
    let millis = millis.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(millis / 1000).as_bytes());
    let rest = (millis % 1000) as u16;
    if rest != 0 {
        let digit = |value: u16| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(value: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, value);
        String::from_utf8(out).expect("text")
    }

    fn seconds(millis: i64) -> String {
        let mut out = Vec::new();
        write_seconds(&mut out, millis);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn numbers_are_written_in_their_shortest_form() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (42.0, "42"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (400.25, "400.25"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (millis, expected) in [
            (0, "0"),
            (1_500, "1.5"),
            (1_795_226_400_000, "1795226400"),
            (1_795_226_400_050, "1795226400.05"),
            (10, "0.01"),
            (-1_001, "-1.001"),
        ] {
            assert_eq!(seconds(millis), expected);
        }
    }

    proptest! {
        #[test]
        fn every_number_parses_to_the_same_value(value in any::<f64>().prop_filter("a number", |value| !value.is_nan())) {
            let text = number(value);
            prop_assert_eq!(text.parse::<f64>().expect("a number"), value);
            prop_assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'I' | b'n' | b'f')));
        }

        #[test]
        fn every_timestamp_parses_to_the_same_value(millis in -1_000_000_000_000_000i64..1_000_000_000_000_000) {
            prop_assert_eq!(seconds(millis).parse::<f64>().expect("a number"), millis as f64 / 1000.0);
        }
    }

    #[test]
    fn a_family_without_series_is_not_declared() {
        use crate::metrics::names;
        let mut out = Vec::new();
        let mut never = |_: &mut Vec<u8>| true;
        let mut writer = SeriesWriter::new(ExpositionFormat::Text, &mut out, &mut never);
        writer.family(&names::AGENT_UP, |_| {});
        writer.family(&names::AGENT_PROGRESS, |series| series.line("a=\"b\"").number(f64::NAN));
        writer.family(&names::ENGINE_LAG, |series| series.bare(f64::NAN));
        assert_eq!(out, b"");
    }

    #[test]
    fn nothing_is_written_once_the_scraper_is_gone() {
        use crate::metrics::names;
        let mut out = Vec::new();
        let mut flushes = 0;
        let mut gone = |_: &mut Vec<u8>| {
            flushes += 1;
            false
        };
        let mut writer = SeriesWriter::new(ExpositionFormat::Text, &mut out, &mut gone);
        for _ in 0..3 {
            writer.family(&names::AGENT_UP, |series| {
                for _ in 0..10 * CHUNK / 40 {
                    series.line("project=\"p\",agent_name=\"a\"").flag(true);
                }
            });
        }
        assert!(!writer.is_open());
        assert!(out.len() < CHUNK + SLACK);
        assert_eq!(flushes, 1);
    }
}
