//! OTLP: what OpenTelemetry's senders export, decoded, accumulated and published for readers.
//!
//! One owner has all streams; exports come to it through a bounded queue, and readers get a snapshot that costs only what
//! changed. Decoding and accumulating are pure and take `now`; [`run`] is the loop around them, on a thread beside the
//! engine's. Private by default: attributes that name a person, a session or a request, or that hold what was said, are
//! dropped before anything is kept.

mod answer;
pub mod config;
mod decode;
mod identity;
mod json;
mod naming;
mod point;
mod schema;
pub mod sequence;
mod table;
mod taken;
mod utf8;
mod weigh;
pub mod wire;

pub use answer::{Code, refusal, response, retry_details};
pub use config::OtlpConfig;
pub use decode::{DecodeError, Encoding, Request, decode, decode_counted};
pub(crate) use point::measured_at;
pub use schema::Signal;
pub use table::Table;
pub use taken::{Reason, Taken};
