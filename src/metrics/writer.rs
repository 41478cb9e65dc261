//! Lines of the two text formats, written in pieces so that a page never has to exist as a whole.

use super::names::{Family, Kind};
use super::page::Format;

/// Bytes gathered before they are handed on.
const PIECE: usize = 64 * 1024;

/// Writes one page.
pub(super) struct Writer<'a> {
    out: Vec<u8>,
    format: Format,
    sink: &'a mut dyn FnMut(&[u8]) -> bool,
    /// Whether the reader has gone away.
    gone: bool,
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(format: Format, sink: &'a mut dyn FnMut(&[u8]) -> bool) -> Self {
        Self { out: Vec::with_capacity(PIECE + 16 * 1024), format, sink, gone: false }
    }

    /// Whether nobody reads on.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    /// HELP and TYPE. In OpenMetrics a counter's name has no `_total` there.
    pub(super) fn head(&mut self, family: &Family) {
        let name = match (self.format, family.kind) {
            (Format::OpenMetrics, Kind::Counter) => family.name.strip_suffix("_total").unwrap_or(family.name),
            _ => family.name,
        };
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        for part in ["# HELP ", name, " ", family.help, "\n# TYPE ", name, " ", kind, "\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
    }

    /// One line: name, label set as it stands between the braces in two parts, value.
    pub(super) fn sample(&mut self, name: &str, labels: &str, more: &str, value: Value) {
        self.out.reserve(name.len() + labels.len() + more.len() + 40);
        self.out.extend_from_slice(name.as_bytes());
        if !labels.is_empty() || !more.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels.as_bytes());
            if !labels.is_empty() && !more.is_empty() {
                self.out.push(b',');
            }
            self.out.extend_from_slice(more.as_bytes());
            self.out.push(b'}');
        }
        self.out.push(b' ');
        self.value(value);
    }

    /// One line of a set of states: `tail` is the state's label, the closing brace and the value.
    pub(super) fn state(&mut self, name: &str, labels: &str, tail: &str) {
        self.out.reserve(name.len() + labels.len() + tail.len() + 2);
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'{');
        self.out.extend_from_slice(labels.as_bytes());
        self.out.extend_from_slice(tail.as_bytes());
    }

    fn value(&mut self, value: Value) {
        match value {
            Value::Whole(value) => self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
            // Whole amounts are written without a fraction, as most readers print them.
            Value::Real(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                self.out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
            }
            Value::Real(value) if value.is_finite() => {
                self.out.extend_from_slice(zmij::Buffer::new().format(value).as_bytes());
            }
            Value::Real(value) if value.is_nan() => self.out.extend_from_slice(b"NaN"),
            Value::Real(value) => self.out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" }),
        }
        self.out.push(b'\n');
    }

    /// Text that is in the right format already.
    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.pass();
    }

    /// Hands on what was gathered, once it is enough.
    pub(super) fn pass(&mut self) {
        if self.out.len() >= PIECE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.gone && !self.out.is_empty() {
            self.gone = !(self.sink)(&self.out);
        }
        self.out.clear();
    }

    /// Ends the page.
    pub(super) fn finish(mut self) {
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        self.flush();
    }
}
