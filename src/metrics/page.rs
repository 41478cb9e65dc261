//! The whole exposition: the sidecar's own metrics, the fleet's, then those received by OTLP, in chunks or as one gzip body.
//!
//! The plain text is never held as a whole: a third of a million series are tens of megabytes.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::fleet::write_fleet;
pub use super::format::{ExpositionFormat, accepts_gzip};
use super::own::SidecarMetrics;
use super::series::{CHUNK, SLACK, SeriesWriter};
use super::telemetry;
use crate::model::Snapshot;
use crate::model::alert::AlertCounts;
use crate::model::telemetry::Telemetry;

/// The end of an OpenMetrics exposition, by which a truncated one is detected.
const EOF: &[u8] = b"# EOF\n";

/// The compression level. Measured by `benches/encode.rs`: level 2 compresses to 5.7 % of the size where level 1 leaves
/// 8 %, in nearly the same time; level 3 takes half as long again to save another 0.4 %.
const GZIP_LEVEL: u32 = 2;

/// The window size as a power of two: the maximum of the format.
const WINDOW_BITS: u8 = 15;

/// The content of one exposition.
#[derive(Clone, Copy, Debug)]
pub struct ExpositionPage<'a> {
    /// The snapshot of the fleet.
    pub fleet: &'a Snapshot,
    /// The counts of alerts.
    pub alerts: &'a AlertCounts,
    /// The sidecar's own metrics.
    pub own: &'a SidecarMetrics,
    /// The metrics received by OTLP.
    pub telemetry: &'a Telemetry,
}

impl ExpositionPage<'_> {
    /// Passes the page to `sink` in chunks of about 60 KiB. Stops once `sink` returns false: the scraper is gone.
    pub fn render(&self, format: ExpositionFormat, sink: &mut dyn FnMut(Bytes) -> bool) {
        let mut out = Vec::with_capacity(CHUNK + SLACK);
        let complete = self.write(format, &mut out, &mut |full| {
            sink(Bytes::from(std::mem::replace(full, Vec::with_capacity(CHUNK + SLACK))))
        });
        if complete && !out.is_empty() {
            sink(Bytes::from(out));
        }
    }

    /// The page as one gzip body. Takes milliseconds of CPU time; must not run on a runtime thread.
    pub fn render_gzip(&self, format: ExpositionFormat) -> Vec<u8> {
        let mut gzip = Compress::new_gzip(Compression::new(GZIP_LEVEL), WINDOW_BITS);
        let mut body = Vec::with_capacity(CHUNK);
        let mut out = Vec::with_capacity(CHUNK + SLACK);
        self.write(format, &mut out, &mut |full| {
            // A full flush per chunk costs a few bytes and saves moving the window.
            let compressed = compress_chunk(&mut gzip, full, FlushCompress::Full, &mut body);
            full.clear();
            compressed
        });
        if !compress_chunk(&mut gzip, &out, FlushCompress::Finish, &mut body) {
            body.clear();
        }
        body.shrink_to_fit();
        body
    }

    fn write(&self, format: ExpositionFormat, out: &mut Vec<u8>, flush: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> bool {
        out.extend_from_slice(self.own.text(format).as_bytes());
        let mut complete = write_fleet(self.fleet, self.alerts, format, out, flush);
        if complete {
            let mut writer = SeriesWriter::new(format, out, flush);
            telemetry::write(&mut writer, self.telemetry);
            complete = writer.is_open();
        }
        if complete && format == ExpositionFormat::OpenMetrics {
            out.extend_from_slice(EOF);
        }
        complete
    }
}

/// Compresses `chunk`, and what `gzip` has buffered, into `body`. Compressing in memory does not fail.
fn compress_chunk(gzip: &mut Compress, mut chunk: &[u8], flush: FlushCompress, body: &mut Vec<u8>) -> bool {
    loop {
        body.reserve(CHUNK);
        let before = gzip.total_in();
        let Ok(status) = gzip.compress_vec(chunk, body, flush) else { return false };
        let taken = usize::try_from(gzip.total_in() - before).unwrap_or(usize::MAX);
        chunk = chunk.get(taken..).unwrap_or_default();
        // At the end until the stream is complete; before, until the output fits with room to spare.
        let is_done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => chunk.is_empty() && body.len() < body.capacity(),
        };
        if is_done {
            return true;
        }
    }
}
