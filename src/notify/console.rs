//! Standard output as a receiver: what `lookout demo` prints when nobody else is to be told.

use std::io::Write as _;
use std::sync::Arc;

use super::message::{Body, Entry, compose};
use crate::model::{Notice, SendError, SendReason, Time};

/// A line for each alert, and one for an incident.
pub(super) fn render(now: Time, notices: &[Arc<Notice>]) -> String {
    let lines: Vec<String> = match compose(now, notices).body {
        Body::One(_) => notices.iter().map(|notice| Entry::Alert(notice).line(now)).collect(),
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line(now)).collect(),
    };
    lines.iter().map(|line| format!("  ► {line}\n")).collect()
}

/// Prints each notice as a line.
pub(super) fn send(now: Time, notices: &[Arc<Notice>]) -> Result<(), SendError> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(render(now, notices).as_bytes());
    printed.and_then(|()| out.flush()).map_err(|error| SendError::permanent(SendReason::Network, error.to_string()))
}
