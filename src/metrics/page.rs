//! The page as a whole: which format a reader wants, and its pieces one after the other.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::writer::Writer;
use super::{Own, fleet, process};
use crate::model::{AlertCounts, Snapshot};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Format {
    /// The format that an `Accept` header prefers; text when it says nothing of either.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Self::Text, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim()),
                    _ => {}
                }
            }
            let format = match (&*kind, version) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }

    /// Its content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Whether an `Accept-Encoding` header takes gzip.
pub fn accepts_gzip(accept: Option<&str>) -> bool {
    let mut any = None;
    for coding in accept.unwrap_or_default().split(',') {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.trim().parse() == Ok(0.0));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => return !refused,
            "*" => any = Some(!refused),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

/// All that a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The fleet.
    pub fleet: &'a Snapshot,
    /// The alerts.
    pub alerts: &'a AlertCounts,
    /// The sidecar itself.
    pub own: &'a Own,
}

/// Deflate's effort: the fastest level, which brings a page to a fifteenth of its size.
const GZIP_LEVEL: u32 = 1;

impl Page<'_> {
    /// Writes the page piece by piece until `sink` says that nobody reads on.
    pub fn render(&self, format: Format, sink: &mut dyn FnMut(&[u8]) -> bool) {
        let mut out = Writer::new(format, sink);
        fleet::write(&mut out, self.fleet, self.alerts);
        out.raw(&self.own.text(format));
        process::write(&mut out);
        out.finish();
    }

    /// The page, compressed.
    pub fn render_gzip(&self, format: Format) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(256 * 1024), Compression::new(GZIP_LEVEL));
        // A write into memory does not fail.
        self.render(format, &mut |piece| encoder.write_all(piece).is_ok());
        encoder.finish().unwrap_or_default()
    }
}
