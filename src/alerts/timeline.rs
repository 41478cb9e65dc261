//! The entries of an alert's timeline as sentences, for `lookout why` and the API.

use crate::model::timeline::{NotifyReason, Suppressed, TimelineEntry, TimelineEvent};
use crate::model::{Level, NoticeKind};
use crate::text::number::shortest;

/// An entry of a timeline as a sentence without a subject, which is the alert, or with the receiver as subject.
pub fn sentence(entry: &TimelineEntry) -> String {
    let value = match (entry.value, entry.threshold) {
        (Some(value), Some(threshold)) => format!(": value {}, threshold {}", number(value), number(threshold)),
        (Some(value), None) => format!(": value {}", number(value)),
        (None, _) => String::new(),
    };
    let level = entry.level;
    match &entry.event {
        TimelineEvent::Pending { until } => format!("pending at {level}{value}; fires at {until} unless it clears"),
        TimelineEvent::Firing => format!("firing at {level}{value}"),
        TimelineEvent::Level { from } if *from < level => format!("escalated from {from} to {level}{value}"),
        TimelineEvent::Level { from } => format!("de-escalated from {from} to {level}{value}"),
        TimelineEvent::NoData => "no data: the value is unknown, and the state is held".to_owned(),
        TimelineEvent::Clearing { until } => format!("cleared; resolves at {until} unless it is breached again"),
        TimelineEvent::NotCleared => format!("breached again at {level}{value}"),
        TimelineEvent::Resolved { ending: Some(ending) } => format!("resolved: {}", ending.as_str()),
        TimelineEvent::Resolved { ending: None } => "resolved".to_owned(),
        TimelineEvent::Acknowledged { by, comment } if comment.is_empty() => format!("acknowledged by {by}"),
        TimelineEvent::Acknowledged { by, comment } => format!("acknowledged by {by}: {comment}"),
        TimelineEvent::Notified { receiver, kind, why, incident, .. } => {
            let incident = incident
                .map_or_else(String::new, |firing| format!(", as part of an incident of {firing} alerts of this rule"));
            format!("notifying {receiver} ({}): {}{incident}", notified(*kind, level), because(*why))
        }
        TimelineEvent::Suppressed { receiver, suppressed: why } => {
            format!("not notifying {receiver}: {}", suppressed(why))
        }
        TimelineEvent::Delivered { receiver, together: 0 | 1 } => format!("delivered to {receiver}"),
        TimelineEvent::Delivered { receiver, together } => {
            format!("delivered to {receiver}, grouped with {} other alerts", together.saturating_sub(1))
        }
        TimelineEvent::Failed { receiver, error } => {
            format!("delivery to {receiver} failed and is retried: {error}")
        }
        TimelineEvent::Superseded { receiver } => {
            format!("notification to {receiver} not sent: a newer one of this alert replaced it")
        }
        TimelineEvent::DeadLettered { receiver, error } => {
            format!("notification to {receiver} dead-lettered: {error}")
        }
    }
}

/// Why a receiver is not notified, as the rest of a sentence.
pub fn suppressed(suppressed: &Suppressed) -> String {
    match suppressed {
        Suppressed::NotRouted => "its routes do not match this alert".to_owned(),
        Suppressed::BelowMinLevel { min_level } => format!("the level is below its min_level, {min_level}"),
        Suppressed::AboutReceiver => "the alert is about this receiver".to_owned(),
        Suppressed::Inhibited { by } => format!("inhibited by {by}"),
        Suppressed::Silenced { silence, by, until } => format!("silenced until {until} by {by} (silence {silence})"),
        Suppressed::QuietHours { until } => format!("quiet hours until {until}"),
        Suppressed::Acknowledged { by } => format!("acknowledged by {by}"),
        Suppressed::After { until } => format!("due at {until} by its `after`, unless acknowledged by then"),
        Suppressed::Cooldown { until } => format!("in cooldown until {until}"),
        Suppressed::DeescalationDelay { until } => {
            format!("a lower level is notified once it has held for the cooldown, at {until}")
        }
        Suppressed::Flapping { until } => format!("flapping, already notified; ends at {until} without another change"),
        Suppressed::AlreadyNotified { repeat_at: Some(at) } => format!("already notified; repeats at {at}"),
        Suppressed::AlreadyNotified { repeat_at: None } => "already notified".to_owned(),
        Suppressed::SendResolved => "its send_resolved is off".to_owned(),
        Suppressed::Undelivered { until } => {
            format!("the last notification was dead-lettered; the next is sent at {until}")
        }
        Suppressed::OutboxFull => "too many notifications are pending for it; sent once there is room".to_owned(),
        Suppressed::Paused => "monitoring is paused".to_owned(),
    }
}

fn notified(kind: NoticeKind, level: Level) -> String {
    match kind {
        NoticeKind::Resolved => "resolved".to_owned(),
        NoticeKind::Flapping => format!("{level}, flapping"),
        NoticeKind::FlappingEnded => format!("{level}, no longer flapping"),
        NoticeKind::Repeat => format!("{level}, repeat"),
        _ => level.to_string(),
    }
}

const fn because(why: NotifyReason) -> &'static str {
    match why {
        NotifyReason::Resolved => "resolved after it was notified as firing",
        NotifyReason::BelowMinLevel => "the level fell below its min_level",
        NotifyReason::NewFiring => "new alert",
        NotifyReason::Escalated => "the level is above the one last notified",
        NotifyReason::Deescalated => "the level has been below the one last notified for the cooldown",
        NotifyReason::RepeatElapsed => "still firing, and the repeat interval has passed",
        NotifyReason::Flapping => "it began to flap",
        NotifyReason::FlappingEnded => "it stopped flapping and still fires",
        NotifyReason::IncidentEnded => "the incident that it was notified with ended, and it still fires",
    }
}

/// A number with no more decimals than it needs.
fn number(value: f64) -> String {
    shortest(value, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fingerprint, Time};

    #[test]
    fn entries_read_like_sentences() {
        let at = Time::from_millis(1_000_000_000_000);
        let entry = |event| TimelineEntry {
            fingerprint: Fingerprint(1),
            at,
            level: Level::Warning,
            value: Some(400.0),
            threshold: Some(300.0),
            rule_version: "1".into(),
            event,
        };
        let notified = TimelineEvent::Notified {
            receiver: "ops".into(),
            kind: NoticeKind::Firing,
            why: NotifyReason::NewFiring,
            key: "k".into(),
            incident: Some(40),
        };
        let silenced = Suppressed::Silenced { silence: "s1".into(), by: "ann".into(), until: at };
        for (event, expected) in [
            (TimelineEvent::Firing, "firing at warning: value 400, threshold 300"),
            (TimelineEvent::Level { from: Level::Info }, "escalated from info to warning: value 400, threshold 300"),
            (notified, "notifying ops (warning): new alert, as part of an incident of 40 alerts of this rule"),
            (
                TimelineEvent::Suppressed { receiver: "ops".into(), suppressed: silenced },
                "not notifying ops: silenced until 2001-09-09T01:46:40Z by ann (silence s1)",
            ),
            (
                TimelineEvent::Delivered { receiver: "ops".into(), together: 3 },
                "delivered to ops, grouped with 2 other alerts",
            ),
        ] {
            assert_eq!(sentence(&entry(event)), expected);
        }
    }

    #[test]
    fn entries_round_trip_through_json() {
        let entry = TimelineEntry {
            fingerprint: Fingerprint(7),
            at: Time::from_millis(5),
            level: Level::Error,
            value: None,
            threshold: Some(0.5),
            rule_version: "0badcafe".into(),
            event: TimelineEvent::Suppressed {
                receiver: "ops".into(),
                suppressed: Suppressed::Silenced { silence: "s".into(), by: "ann".into(), until: Time::from_millis(9) },
            },
        };
        let old = r#"{"fingerprint": "0000000000000007", "at": 5, "level": "error", "value": null,
            "threshold": 0.5, "rule_version": "0badcafe", "event": "withhold", "receiver": "ops", "withheld":
            {"reason": "silenced", "silence": "s", "by": "ann", "until": 9}}"#;
        assert_eq!(serde_json::from_str::<TimelineEntry>(old).unwrap(), entry, "an older program's names");
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<TimelineEntry>(&text).unwrap(), entry, "{text}");
    }
}
