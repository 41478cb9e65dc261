//! Standard output as a receiver: what `lookout demo` prints when nobody else is to be told. Nothing configures it.

use std::io::Write as _;
use std::sync::Arc;

use super::{Sending, Transport};
use crate::model::{DeliveryReceipt, Notice, SendError, SendReason, Time};
use crate::notify::message::{Body, Entry, compose};

/// Standard output.
#[derive(Debug)]
pub(in crate::notify) struct Console;

/// A line for each alert, and one for an incident.
fn lines(now: Time, notices: &[Arc<Notice>]) -> String {
    let lines: Vec<String> = match compose(now, notices).body {
        Body::One(_) => notices.iter().map(|notice| Entry::Alert(notice).line(now)).collect(),
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line(now)).collect(),
    };
    lines.iter().map(|line| format!("  ► {line}\n")).collect()
}

impl Transport for Console {
    fn render(&self, now: Time, notices: &[Arc<Notice>]) -> Result<Vec<u8>, String> {
        Ok(lines(now, notices).into_bytes())
    }

    fn send<'a>(&'a self, now: Time, notices: &'a [Arc<Notice>]) -> Sending<'a> {
        Box::pin(async move {
            let mut out = std::io::stdout().lock();
            let printed = out.write_all(lines(now, notices).as_bytes()).and_then(|()| out.flush());
            let failed = |error: std::io::Error| SendError::permanent(SendReason::Network, error.to_string());
            printed.map(|()| DeliveryReceipt::default()).map_err(failed)
        })
    }
}
