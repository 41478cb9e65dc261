//! Compression of what is spooled and sent.

use std::io::Write as _;

use flate2::write::GzEncoder;

/// `body` compressed by gzip, fast.
pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    // Writing to memory does not fail.
    encoder.write_all(body).and_then(|()| encoder.finish()).unwrap_or_default()
}
