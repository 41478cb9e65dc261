//! What senders push, hooks, and pages that are polled: decoded at the edge into updates.
//!
//! Owns the reading of foreign JSON, under every name that senders use, and the poll loop. Every input is
//! bounded here, and text is cleaned here, so that what leaves this part can be trusted in shape and size.
//! Refuses to know what an update means for an agent: that is the fleet's.

pub mod config;
mod draft;
mod fields;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod hooks;
mod owned;
mod page;
pub mod poll;
pub mod state;
pub mod usage;

pub use owned::{DecodedPush, decode_pushed_state, decode_pushed_usage};
pub use poll::validate;
pub use state::{decode_state, decode_states, encode_state};
pub use usage::{UsageBatch, decode_usage};

use crate::text;

/// Longest name, task id and other text, in bytes.
const MAX_TEXT: usize = 256;
/// Longest reason and component details, in bytes.
const MAX_REASON: usize = 512;
/// Most agents, or usage increments, in one body.
const MAX_AGENTS: usize = 100_000;
/// Rejections that are spelt out; of the others only the reason is kept, so that a hostile body costs little.
const MAX_SPELT_OUT: usize = 100;

/// A body that is not what the route takes: nothing of it was used. Display says what, where and what would do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PushDecodeError(String);

impl PushDecodeError {
    /// The error of the JSON reader, which names line and column, cut to a readable length: it may quote the body.
    fn new(error: &serde_json::Error) -> Self {
        Self(text::clean(&error.to_string(), MAX_REASON).into_owned())
    }
}
