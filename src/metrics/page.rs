//! The whole page: the sidecar's own metrics, the fleet's, then those that others measured, in chunks or as one gzip body.
//!
//! Refuses to hold the plain page: a third of a million series would be tens of megabytes.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::fleet::write_fleet;
pub use super::format::{Format, accepts_gzip};
use super::own::Own;
use super::series::{CHUNK, SLACK, Writer};
use super::telemetry;
use crate::model::Snapshot;
use crate::model::alert::AlertCounts;
use crate::model::telemetry::Telemetry;

/// What OpenMetrics ends with, so that a cut page is noticed.
const EOF: &[u8] = b"# EOF\n";

/// How hard gzip tries. As `benches/encode.rs` measures: 2 leaves 5.7 % of the page where 1 leaves 8 %, in
/// nearly the same time; 3 takes half as long again for 0.4 % more.
const LEVEL: u32 = 2;

/// How far back gzip looks, as a power of two: as far as the format allows.
const WINDOW_BITS: u8 = 15;

/// What one page says and how.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The fleet.
    pub fleet: &'a Snapshot,
    /// How many alerts there are.
    pub alerts: &'a AlertCounts,
    /// The sidecar itself.
    pub own: &'a Own,
    /// What others measured.
    pub telemetry: &'a Telemetry,
}

impl Page<'_> {
    /// Hands the page to `sink` in chunks of about 60 KiB, in order. Stops once `sink` says false: the reader is gone.
    pub fn render(&self, format: Format, sink: &mut dyn FnMut(Bytes) -> bool) {
        let mut out = Vec::with_capacity(CHUNK + SLACK);
        let complete = self.write(format, &mut out, &mut |full| {
            sink(Bytes::from(std::mem::replace(full, Vec::with_capacity(CHUNK + SLACK))))
        });
        if complete && !out.is_empty() {
            sink(Bytes::from(out));
        }
    }

    /// The page as one gzip body, for all readers of one snapshot. It keeps a processor busy for
    /// milliseconds: not for a thread that others wait for.
    pub fn render_gzip(&self, format: Format) -> Vec<u8> {
        let mut gzip = Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS);
        let mut body = Vec::with_capacity(CHUNK);
        let mut out = Vec::with_capacity(CHUNK + SLACK);
        self.write(format, &mut out, &mut |full| {
            // Starting anew with each chunk costs a few bytes, and saves moving the window and its tables along.
            let packed = pack(&mut gzip, full, FlushCompress::Full, &mut body);
            full.clear();
            packed
        });
        if !pack(&mut gzip, &out, FlushCompress::Finish, &mut body) {
            body.clear();
        }
        body.shrink_to_fit();
        body
    }

    fn write(&self, format: Format, out: &mut Vec<u8>, flush: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        out.extend_from_slice(self.own.text(format).as_bytes());
        let mut complete = write_fleet(self.fleet, self.alerts, format, out, flush);
        if complete {
            let mut writer = Writer::new(format, out, flush);
            telemetry::write(&mut writer, self.telemetry);
            complete = writer.is_read();
        }
        if complete && format == Format::OpenMetrics {
            out.extend_from_slice(EOF);
        }
        complete
    }
}

/// Packs `chunk` and all that `gzip` kept of it into `body`. Packing in memory does not fail.
fn pack(gzip: &mut Compress, mut chunk: &[u8], flush: FlushCompress, body: &mut Vec<u8>) -> bool {
    loop {
        body.reserve(CHUNK);
        let before = gzip.total_in();
        let Ok(status) = gzip.compress_vec(chunk, body, flush) else { return false };
        let taken = usize::try_from(gzip.total_in() - before).unwrap_or(usize::MAX);
        chunk = chunk.get(taken..).unwrap_or_default();
        // Until the end of the stream is written; within it, until there was more room than it took.
        let is_done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => chunk.is_empty() && body.len() < body.capacity(),
        };
        if is_done {
            return true;
        }
    }
}
