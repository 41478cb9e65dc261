//! Notices for the tests of this part.

use std::sync::Arc;

use crate::model::{Fingerprint, Level, Notice, NoticeKind, Subject, Time};

/// 2026-11-21T02:00:00Z, and `seconds` more.
pub(super) fn at(seconds: f64) -> Time {
    Time::from_millis(1_795_226_400_000 + (seconds * 1000.0) as i64)
}

/// AgentIdle of `agent`, first notified at `level`, due at `seconds`, idle for 400 seconds then.
pub(super) fn firing(agent: &str, level: Level, seconds: f64) -> Notice {
    let subject = Subject::Agent { project: Arc::from("shop"), name: Arc::from(agent) };
    let fingerprint = Fingerprint::of("AgentIdle", &subject);
    let incident = format!("{fingerprint}-{:x}", at(0.0).as_millis());
    Notice {
        key: Arc::from(format!("{incident}-{}-ops", (seconds * 1000.0) as i64)),
        receiver: Arc::from("ops"),
        fingerprint,
        incident: Arc::from(incident),
        rule: Arc::from("AgentIdle"),
        subject,
        agent_type: None,
        part_of: None,
        reference: None,
        kind: NoticeKind::Firing,
        level,
        previous: None,
        peak: None,
        now_at: None,
        value: Some(400.0),
        threshold: Some(300.0),
        unit: crate::model::Unit::Seconds,
        message: Arc::from("no activity for 6m40s (limit 5m), task-1-0"),
        action: Arc::from("Check whether its terminal waits for input."),
        started_at: at(seconds - 400.0),
        fired_at: at(seconds),
        resolved_at: None,
        ending: None,
        at: at(seconds),
        caused_at: at(seconds),
    }
}

/// The end, at `seconds`, of an AgentIdle of `agent` that began at 0.
pub(super) fn resolved(agent: &str, seconds: f64) -> Notice {
    Notice {
        kind: NoticeKind::Resolved,
        previous: Some(Level::Warning),
        message: Arc::from("is active again. Idle for up to 10m50s"),
        started_at: at(0.0),
        fired_at: at(0.0),
        resolved_at: Some(at(seconds)),
        ..firing(agent, Level::Warning, seconds)
    }
}
