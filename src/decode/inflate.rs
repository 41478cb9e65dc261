//! Decompresses bodies up to a limit.

use std::io::{self, BufRead, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`: zlib as in the standard, or raw deflate as some clients send it.
    Deflate,
}

/// Why a body could not be decompressed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// It exceeds the limit.
    #[error("the decompressed body exceeds {0} bytes")]
    TooLarge(usize),
    /// It is not valid in its encoding.
    #[error("decompressing the body failed: {0}")]
    Malformed(String),
    /// Its encoding is not supported.
    #[error("unsupported content encoding; use none or `content-encoding: gzip`")]
    Unknown,
}

impl Coding {
    /// The coding of a `content-encoding`; `None` for plain bodies.
    pub fn of(header: Option<&[u8]>) -> Result<Option<Self>, InflateError> {
        let coding = header.unwrap_or_default().trim_ascii().to_ascii_lowercase();
        match coding.as_slice() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip)),
            b"deflate" => Ok(Some(Self::Deflate)),
            _ => Err(InflateError::Unknown),
        }
    }

    /// The coding of `body` with this header; `None` when it is plain. gzip is also detected by its first bytes, since some
    /// servers compress without the header.
    pub fn of_body(header: Option<&[u8]>, body: &[u8]) -> Result<Option<Self>, InflateError> {
        Ok(Self::of(header)?.or_else(|| body.starts_with(&[0x1f, 0x8b]).then_some(Self::Gzip)))
    }

    /// A reader of the decompressed `body`, which is not limited.
    pub fn reader<'a>(self, mut body: impl BufRead + Send + 'a) -> Box<dyn Read + Send + 'a> {
        // RFC 1950: the method is 8, and the first two bytes are a multiple of 31.
        let is_zlib = |head: &[u8]| matches!(head, [first, second, ..] if first & 15 == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0);
        match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(body)),
            Self::Deflate if body.fill_buf().is_ok_and(is_zlib) => Box::new(ZlibDecoder::new(body)),
            Self::Deflate => Box::new(DeflateDecoder::new(body)),
        }
    }

    /// Decompresses `body` to at most `limit` bytes.
    pub fn inflate(self, body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
        let mut plain = Vec::with_capacity(body.len().saturating_mul(4).min(limit));
        let bounded = self.reader(body).take((limit as u64).saturating_add(1)).read_to_end(&mut plain);
        bounded.map_err(InflateError::malformed)?;
        if plain.len() > limit { Err(InflateError::TooLarge(limit)) } else { Ok(plain) }
    }
}

impl InflateError {
    /// The error of a failed [`Coding::reader`].
    pub fn malformed(error: io::Error) -> Self {
        Self::Malformed(crate::text::clean(&error.to_string(), 200).into_owned())
    }
}

/// Decompresses a body with this header to at most `limit` bytes; `None` when it is plain.
pub fn plain(header: Option<&[u8]>, body: &[u8], limit: usize) -> Result<Option<Vec<u8>>, InflateError> {
    Coding::of_body(header, body)?.map(|coding| coding.inflate(body, limit)).transpose()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"{\"agents\": []}";

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    fn deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn all_codings_are_decompressed() {
        for (header, body) in [
            (Some(&b"gzip"[..]), gzip(TEXT)),
            (Some(b" X-GZIP "), gzip(TEXT)),
            (None, gzip(TEXT)),
            (Some(b"identity"), gzip(TEXT)),
            (Some(b"deflate"), zlib(TEXT)),
            (Some(b"deflate"), deflate(TEXT)),
        ] {
            assert_eq!(plain(header, &body, 100), Ok(Some(TEXT.to_vec())), "{header:?}");
        }
        assert_eq!(plain(None, TEXT, 100), Ok(None));
        assert_eq!(plain(Some(b"br"), TEXT, 100), Err(InflateError::Unknown));
        assert!(matches!(plain(Some(b"gzip"), TEXT, 100), Err(InflateError::Malformed(_))));
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 1_000_000]);
        assert!(bomb.len() < 2_000);
        assert_eq!(plain(None, &bomb, 999_999), Err(InflateError::TooLarge(999_999)));
        assert_eq!(plain(None, &bomb, 1_000_000).map(|body| body.map(|body| body.len())), Ok(Some(1_000_000)));
    }
}
