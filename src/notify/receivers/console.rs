//! Standard output as a receiver, for `lookout demo` without receivers. Nothing configures it.

use std::io::Write as _;
use std::sync::Arc;

use super::{Sending, Transport};
use crate::model::{DeliveryReceipt, Notice, SendError, SendReason, Time};
use crate::notify::message::{Body, compose, with_action};

/// Standard output.
#[derive(Debug)]
pub(in crate::notify) struct Console;

/// A line for each alert, and one for an incident.
fn lines(now: Time, notices: &[Arc<Notice>]) -> String {
    let message = compose(now, notices);
    let lines: Vec<String> = match message.body {
        Body::One(details) => vec![with_action(&message.title, details.action.as_deref())],
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line()).collect(),
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
