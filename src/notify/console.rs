//! Standard output as a receiver: what `lookout demo` prints when nobody else is to be told.

use std::io::Write as _;
use std::sync::Arc;

use super::message::{Body, Entry, compose};
use crate::model::{Notice, SendError, SendReason, Time};

/// Prints each notice as a line.
pub(super) fn send(now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
    let message = compose(now, notices);
    let lines: Vec<String> = match message.body {
        Body::One(_) => notices.iter().map(|notice| Entry::Alert(notice).line(now)).collect(),
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line(now)).collect(),
    };
    let mut out = std::io::stdout().lock();
    let printed = lines.iter().try_for_each(|line| writeln!(out, "  ► {line}"));
    printed.and_then(|()| out.flush()).map_err(|error| SendError {
        reason: SendReason::Network,
        retryable: false,
        retry_after: None,
        message: error.to_string(),
    })
}
