//! OTLP: what OpenTelemetry's senders export, decoded, accumulated and published for readers.
//!
//! Decoding and accumulating are pure and take `now`; [`crate::engine::telemetry`] is the loop around them. Readers get a
//! snapshot that costs only what changed. Private by default: attributes that name a person, a session or a request, or that hold what was said, are
//! dropped before anything is kept.

pub mod config;
mod decode;
mod identity;
mod json;
mod memory;
mod naming;
mod outcome;
mod point;
mod response;
mod schema;
pub mod sequence;
mod streams;
mod utf8;
pub mod wire;

pub use config::OtlpConfig;
pub use decode::{Encoding, OtlpDecodeError, OtlpRequest, decode, decode_counted};
pub use outcome::ExportOutcome;
pub(crate) use point::point_time;
pub use response::{error_response, response};
pub use schema::Signal;
pub use streams::StreamTable;

/// Whether anybody here reads the fields of that name in JSON.
#[cfg(fuzzing)]
pub fn is_read(name: &str) -> bool {
    !schema::IGNORED_FIELDS.contains(&name)
}
