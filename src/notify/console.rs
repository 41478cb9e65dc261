//! Standard output as a receiver: what `lookout demo` prints when nobody else is to be told.

use std::io::Write as _;
use std::sync::Arc;

use super::message;
use crate::model::{Notice, SendError, SendReason};

/// Prints each notice as a line.
pub(super) fn send(notices: &[Arc<Notice>]) -> Result<(), SendError> {
    let mut out = std::io::stdout().lock();
    let lines =
        message::in_order(notices).into_iter().try_for_each(|notice| writeln!(out, "  ► {}", message::line(notice)));
    lines.and_then(|()| out.flush()).map_err(|error| SendError {
        reason: SendReason::Network,
        retryable: false,
        retry_after: None,
        message: error.to_string(),
    })
}
