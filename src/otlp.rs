//! OTLP: decodes exports and accumulates their metrics into Prometheus series.
//!
//! Pure: `now` is an argument, and [`crate::engine::telemetry`] is the loop around it. Readers get a snapshot that shares
//! whatever did not change. Private by default: attributes that identify a person, a session or a request, or that hold
//! prompts and outputs, are dropped before anything is stored.

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

/// Whether the decoder reads JSON fields of that name.
#[cfg(fuzzing)]
pub fn is_read(name: &str) -> bool {
    !schema::IGNORED_FIELDS.contains(&name)
}
