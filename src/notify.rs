//! Telling people: receivers, messages, retries.
//!
//! Owns what a message looks like in each medium, and that a notice is sent until its receiver took it or
//! refused it for good. Refuses to decide what is told: notices come in, reports of what came of them go out.

pub mod config;
mod console;
mod dispatcher;
mod email;
mod message;
mod queue;
mod receiver;
mod slack;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use dispatcher::{Dispatcher, Status};
pub use receiver::Receiver;

use crate::model::{Fingerprint, Level, Notice, NoticeKind, Subject, Time};

/// A notice that is marked as a test, for `lookout test notify`.
pub fn test_notice(receiver: &str, now: Time) -> Notice {
    let subject = Subject::Agent { project: "lookout".into(), name: "test".into() };
    let fingerprint = Fingerprint::of("Test", &subject);
    let incident: Arc<str> = Arc::from(format!("{fingerprint}-{:x}", now.as_millis()));
    Notice {
        key: Arc::from(format!("{incident}-1-{receiver}")),
        receiver: Arc::from(receiver),
        fingerprint,
        incident,
        rule: "Test".into(),
        subject,
        kind: NoticeKind::Test,
        level: Level::Info,
        previous: None,
        now_at: None,
        value: None,
        threshold: None,
        message: "this is a test of the delivery path; nothing is wrong".into(),
        action: "Nothing to do.".into(),
        started_at: now,
        fired_at: now,
        resolved_at: None,
        ending: None,
        at: now,
        caused_at: now,
    }
}
