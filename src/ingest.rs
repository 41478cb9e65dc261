//! Decodes pushes, hooks and polled pages into updates, and polls sources.
//!
//! Input is limited and text sanitised here, so that updates can be trusted. What an update means for an agent is decided
//! in `fleet`.

pub mod config;
mod draft;
mod fields;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod hooks;
pub mod metrics;
mod owned;
mod page;
pub mod poll;
pub mod state;
pub mod usage;

pub use metrics::{CustomBatch, decode_metrics};
pub use owned::{DecodedPush, decode_pushed_metrics, decode_pushed_state, decode_pushed_usage};
pub use poll::validate;
pub use state::{decode_state, decode_states, encode_state};
pub use usage::{UsageBatch, decode_usage};

use crate::text;

/// Longest name, task id or other text, in bytes.
const MAX_TEXT: usize = 256;
/// Longest reason or component details, in bytes.
const MAX_REASON: usize = 512;
/// Most agents, or usage increments, in one body.
const MAX_AGENTS: usize = 100_000;
/// Rejections that are described in full; of further ones only the reason is kept, so that a hostile body costs little.
const MAX_DETAILED_REJECTIONS: usize = 100;

/// Why a pushed body was rejected as a whole: what was found, where, and what was expected.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PushDecodeError(String);

impl PushDecodeError {
    /// From an error of the JSON parser, which names line and column. The message may quote the body, so that it is
    /// sanitised and cut.
    fn new(error: &serde_json::Error) -> Self {
        Self(text::clean(&error.to_string(), MAX_REASON).into_owned())
    }
}
