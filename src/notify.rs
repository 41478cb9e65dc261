//! Delivery of notifications: the text of messages, when they are sent, and what became of them.
//!
//! Owns the receivers, their queues and their transports. Which receiver is notified of what is decided in `alerts`, and
//! the outbox that survives a restart is in `store`: notices come in, and for each of them a
//! [`crate::model::DeliveryReport`] reports that it was delivered, superseded or dead-lettered.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::model::{Level, Notice, NoticeKind, Subject, Time, Unit};

mod answer;
pub mod config;
pub mod dispatcher;
pub mod heartbeat;
mod http;
mod message;
mod queue;
pub mod receiver;
mod receivers;
pub mod rehearsal;
#[cfg(test)]
mod samples;
mod settings;
#[cfg(test)]
mod transport_tests;
mod words;

pub use dispatcher::{Dispatcher, ReceiverStatus};
pub use receiver::Receiver;
pub use rehearsal::{Rehearsal, Sent};

/// After a message has left, how long what follows for the same receiver is grouped into the next.
pub const GROUP_WAIT: Duration = Duration::from_secs(1);
/// Most alerts that wait for one receiver. Beyond it one is deferred for each that comes, until there is room again: first
/// resolves of alerts that the receiver was never notified of, then what fires at info, at warning, other resolves, then
/// the rest; the oldest first. Announcements are dropped.
pub const CAPACITY: usize = 20_000;

/// A notice that is clearly a test, for [`Receiver::send`]; `host` is the machine that it comes from.
pub fn test_notice(receiver: &Receiver, now: Time, host: &str) -> Notice {
    let subject = Subject::Source { name: Arc::from(host) };
    Notice {
        message: Arc::from(format!("lookout on {host}: this is a test message, nothing is wrong")),
        action: Arc::from("Nothing to do: alerts will reach you here."),
        ..Notice::new(&receiver.name, NoticeKind::Test, Level::Info, Arc::from("Test"), subject, now)
    }
}

/// Sends a test message from `host` to one receiver by the same code as real ones. Returns a warning if it was delivered
/// only in part; the error is the receiver's answer, or why it could not be reached.
pub async fn deliver_test(receiver: &config::ReceiverConfig, host: &str) -> Result<Option<String>, String> {
    let built = Receiver::build(std::slice::from_ref(receiver))
        .map_err(|problems| problems.into_iter().map(|it| it.message).collect::<Vec<_>>().join("; "))?;
    let now = Clock::system().now();
    let mut warning = None;
    for receiver in built {
        let notice = Arc::new(test_notice(&receiver, now, host));
        let receipt =
            receiver.send(now, &[notice]).await.map_err(|error| format!("{} ({error})", error.reason.as_str()))?;
        warning = receipt.partial_failure.map(|error| error.message);
    }
    Ok(warning)
}

/// An alert that never was, to try templates with.
fn samples_for_trial() -> Notice {
    let subject = Subject::Agent { project: Arc::from("project"), name: Arc::from("agent") };
    let receiver = Arc::from("receiver");
    Notice {
        value: Some(2.0),
        threshold: Some(1.0),
        unit: Unit::Seconds,
        message: Arc::from("no activity for 2s (limit 1s)"),
        action: Arc::from("Check its terminal."),
        ..Notice::new(&receiver, NoticeKind::Firing, Level::Warning, Arc::from("AgentIdle"), subject, Time::default())
    }
}
