//! Decodes the body of an export: gzip up to a limit, then protobuf or JSON.

use prost::Message as _;

use super::json::{self, JsonError};
use super::schema::{self, SchemaMessage, Signal};
use super::wire::{ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest};
use super::{memory, utf8};
use crate::decode::inflate::{Coding, InflateError};
use crate::decode::lenient;
use crate::text::clean;

/// Longest message of a decoder that is passed on, in bytes; it may quote the body.
const MAX_ERROR: usize = 200;

/// How much larger than the limit of a body its decoded messages may be in memory, and what they may take at least, in
/// bytes.
const MEMORY_FACTOR: usize = 8;
const MIN_MEMORY: usize = 64 * 1024;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// The request of an export.
#[derive(Clone, Debug, PartialEq)]
pub enum OtlpRequest {
    /// Data points.
    Metrics(ExportMetricsServiceRequest),
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Log records and events.
    Logs(ExportLogsServiceRequest),
}

/// Why a body was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtlpDecodeError {
    /// It is larger than this many bytes after decompression.
    #[error("the body is larger than limits.body, {0} bytes; export smaller batches")]
    TooLarge(usize),
    /// Its messages would take more than this many bytes in memory.
    #[error("the body's messages take more than {0} bytes in memory; export smaller batches")]
    TooLargeInMemory(usize),
    /// It is not OTLP in the encoding of its content type.
    #[error("{0}")]
    Malformed(String),
}

/// Decodes a body of at most `limit` bytes after decompression.
pub fn decode(
    signal: Signal,
    encoding: Encoding,
    is_gzip: bool,
    body: &[u8],
    limit: usize,
) -> Result<OtlpRequest, OtlpDecodeError> {
    decode_counted(signal, encoding, is_gzip, body, limit).map(|(request, _)| request)
}

/// The same, and the number of values that were dropped as undecodable, or whose invalid UTF-8 was replaced.
pub fn decode_counted(
    signal: Signal,
    encoding: Encoding,
    is_gzip: bool,
    body: &[u8],
    limit: usize,
) -> Result<(OtlpRequest, usize), OtlpDecodeError> {
    let inflated;
    let body = if is_gzip {
        inflated = inflate(body, limit)?;
        &inflated
    } else {
        body
    };
    if body.len() > limit {
        return Err(OtlpDecodeError::TooLarge(limit));
    }
    let memory_limit = limit.saturating_mul(MEMORY_FACTOR).max(MIN_MEMORY);
    let message = schema::request(signal);
    let rewritten;
    let (body, undecodable) = match encoding {
        Encoding::Protobuf => (body, 0),
        Encoding::Json => {
            let undecodable;
            (rewritten, undecodable) = from_json(body, message, memory_limit)?;
            (&*rewritten, undecodable)
        }
    };
    if !memory::fits(message, body, memory_limit) {
        return Err(OtlpDecodeError::TooLargeInMemory(memory_limit));
    }
    match read(signal, body) {
        Ok(request) => Ok((request, undecodable)),
        Err(_) => {
            let (repaired, undecodable) = utf8::replace_invalid(message, body);
            read(signal, &repaired).map(|request| (request, undecodable))
        }
    }
}

fn from_json(
    body: &[u8],
    message: &'static SchemaMessage,
    memory_limit: usize,
) -> Result<(Vec<u8>, usize), OtlpDecodeError> {
    json::to_protobuf(body, message, memory_limit).or_else(|error| match (error, lenient::rewrite(body)) {
        (JsonError::TooLarge, _) => Err(OtlpDecodeError::TooLargeInMemory(memory_limit)),
        (JsonError::Malformed(why), None) => Err(malformed("JSON", &why)),
        (JsonError::Malformed(why), Some(rewritten)) => json::to_protobuf(rewritten.as_bytes(), message, memory_limit)
            .map_err(|error| match error {
                JsonError::TooLarge => OtlpDecodeError::TooLargeInMemory(memory_limit),
                JsonError::Malformed(_) => malformed("JSON", &why),
            }),
    })
}

fn read(signal: Signal, body: &[u8]) -> Result<OtlpRequest, OtlpDecodeError> {
    let read = match signal {
        Signal::Metrics => ExportMetricsServiceRequest::decode(body).map(OtlpRequest::Metrics),
        Signal::Traces => ExportTraceServiceRequest::decode(body).map(OtlpRequest::Traces),
        Signal::Logs => ExportLogsServiceRequest::decode(body).map(OtlpRequest::Logs),
    };
    read.map_err(|error| malformed("protobuf", &error.to_string()))
}

fn malformed(what: &str, why: &str) -> OtlpDecodeError {
    OtlpDecodeError::Malformed(format!("the body is not OTLP in {what}: {}", clean(why, MAX_ERROR)))
}

fn inflate(body: &[u8], limit: usize) -> Result<Vec<u8>, OtlpDecodeError> {
    Coding::Gzip.inflate(body, limit).map_err(|error| match error {
        InflateError::TooLarge(limit) => OtlpDecodeError::TooLarge(limit),
        error => OtlpDecodeError::Malformed(format!("the body is not gzip: {error}")),
    })
}

impl OtlpRequest {
    /// The number of data points, spans or log records.
    pub fn items(&self) -> u64 {
        let count: usize = match self {
            Self::Metrics(request) => {
                let metrics =
                    request.resource_metrics.iter().flat_map(|it| &it.scope_metrics).flat_map(|it| &it.metrics);
                metrics.map(super::wire::point_count).sum()
            }
            Self::Traces(request) => {
                request.resource_spans.iter().flat_map(|it| &it.scope_spans).map(|it| it.spans.len()).sum()
            }
            Self::Logs(request) => {
                request.resource_logs.iter().flat_map(|it| &it.scope_logs).map(|it| it.log_records.len()).sum()
            }
        };
        count as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use prost::Message as _;

    use super::super::wire::{LogRecord, ResourceLogs, ScopeLogs};
    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn the_limit_holds_after_inflating() {
        let bomb = gzip(&vec![0; 1_000_000]);
        assert!(bomb.len() < 2_000);
        let read = |body: &[u8], limit| decode(Signal::Logs, Encoding::Json, true, body, limit);
        assert_eq!(read(&bomb, 999_999), Err(OtlpDecodeError::TooLarge(999_999)));
        let small = gzip(b"{}");
        assert_eq!(read(&small, 2), Ok(OtlpRequest::Logs(ExportLogsServiceRequest::default())));
        assert_eq!(read(&small, 1), Err(OtlpDecodeError::TooLarge(1)));
        assert_eq!(read(&small, usize::MAX), Ok(OtlpRequest::Logs(ExportLogsServiceRequest::default())));
        assert!(matches!(read(b"{}", 10), Err(OtlpDecodeError::Malformed(_))));
        assert_eq!(decode(Signal::Logs, Encoding::Json, false, b"{}", 1), Err(OtlpDecodeError::TooLarge(1)));
    }

    #[test]
    fn messages_that_would_fill_memory_are_rejected() {
        // Empty resources: `0a 00`.
        let body = [0x0a, 0x00].repeat(5_000);
        for signal in Signal::ALL {
            let read = decode(signal, Encoding::Protobuf, false, &body, body.len());
            assert_eq!(read, Err(OtlpDecodeError::TooLargeInMemory(MEMORY_FACTOR * body.len())), "{signal:?}");
            let few = decode(signal, Encoding::Protobuf, false, &body[..20], body.len());
            assert!(few.is_ok_and(|request| request.items() == 0), "{signal:?}");
        }
        let body = format!("{{\"resourceLogs\": [{}{{}}]}}", "{},".repeat(5_000));
        let read = decode(Signal::Logs, Encoding::Json, false, body.as_bytes(), body.len());
        assert_eq!(read, Err(OtlpDecodeError::TooLargeInMemory(MEMORY_FACTOR * body.len())));
        let read = decode(Signal::Logs, Encoding::Protobuf, false, &[0x0a, 0x00].repeat(2_000), 4_000);
        assert_eq!(read, Err(OtlpDecodeError::TooLargeInMemory(MIN_MEMORY)));
    }

    #[test]
    fn json_that_is_not_an_object_is_rejected() {
        for body in ["[]", "3", "", "null"] {
            let read = decode(Signal::Metrics, Encoding::Json, false, body.as_bytes(), 99);
            assert!(matches!(read, Err(OtlpDecodeError::Malformed(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn random_bodies_are_rejected_or_hold_no_more_items_than_bytes(
            body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x0a), Just(0x12), 0..8_u8], 0..300),
            signal in 0..3_usize,
            json in any::<bool>(),
            is_packed in any::<bool>(),
        ) {
            let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
            let sent = if is_packed { gzip(&body) } else { body.clone() };
            match decode(Signal::ALL[signal], encoding, is_packed, &sent, 10_000) {
                // An item takes a tag and a length, or two brackets.
                Ok(request) => prop_assert!(request.items() as usize * 2 <= body.len(), "{request:?}"),
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(message.len() <= 2 * MAX_ERROR && !message.contains(char::is_control), "{message:?}");
                }
            }
            // A body that is not gzip is rejected as such.
            if !body.starts_with(&[0x1f, 0x8b]) && !body.is_empty() {
                prop_assert!(decode(Signal::ALL[signal], encoding, true, &body, 10_000).is_err());
            }
        }

        #[test]
        fn every_item_is_decoded_in_any_encoding_and_a_cut_body_is_rejected(
            records in 0..200_u64, json in any::<bool>(), is_packed in any::<bool>(), cut in 1..20_usize,
        ) {
            let (encoding, body) = if json {
                let list = vec!["{}"; records as usize].join(",");
                (Encoding::Json, format!("{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{list}]}}]}}]}}").into_bytes())
            } else {
                let log_records = vec![LogRecord::default(); records as usize];
                let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
                let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
                (Encoding::Protobuf, ExportLogsServiceRequest { resource_logs }.encode_to_vec())
            };
            let sent = if is_packed { gzip(&body) } else { body };
            let read = |body: &[u8]| decode(Signal::Logs, encoding, is_packed, body, 100_000).map(|it| it.items());
            prop_assert_eq!(read(&sent), Ok(records));
            let half = &sent[..sent.len() - cut.min(sent.len() - 1)];
            prop_assert!(read(half).is_err(), "{half:?}");
        }
    }
}
