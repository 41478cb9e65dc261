//! Decisions as sentences, for people.

use crate::model::decision::{Decision, Event, Why, Withheld};
use crate::model::{Level, NoticeKind};
use crate::text::number::shortest;

/// An entry of a timeline as a sentence.
pub fn sentence(decision: &Decision) -> String {
    let value = match (decision.value, decision.threshold) {
        (Some(value), Some(threshold)) => format!(": {} against the threshold {}", number(value), number(threshold)),
        (Some(value), None) => format!(": {}", number(value)),
        (None, _) => String::new(),
    };
    let level = decision.level;
    match &decision.event {
        Event::Pending { until } => format!("the rule is broken at {level}{value}; it fires at {until} if that lasts"),
        Event::Firing => format!("fires at {level}{value}"),
        Event::Level { from } if *from < level => format!("rose from {from} to {level}{value}"),
        Event::Level { from } => format!("fell from {from} to {level}{value}"),
        Event::NoData => "its value is not known any more; it is held as it was".to_owned(),
        Event::Clearing { until } => format!("is fine; it is over at {until} if that lasts"),
        Event::NotCleared => format!("is broken again at {level}{value}"),
        Event::Resolved { ending: Some(ending) } => format!("ended: {}", ending.as_str()),
        Event::Resolved { ending: None } => "is over".to_owned(),
        Event::Acknowledged { by, comment } if comment.is_empty() => format!("{by} looks after it"),
        Event::Acknowledged { by, comment } => format!("{by} looks after it: {comment}"),
        Event::Tell { receiver, kind, why, incident, .. } => {
            let incident = incident
                .map_or_else(String::new, |firing| format!(", as part of an incident of {firing} alerts of this rule"));
            format!("{receiver} is told {}, as {}{incident}", told(*kind, level), because(*why))
        }
        Event::Withhold { receiver, withheld: why } => format!("{receiver} is not told: {}", withheld(why)),
        Event::Delivered { receiver, together: 0 | 1 } => format!("{receiver} took the message"),
        Event::Delivered { receiver, together } => {
            format!("{receiver} took the message, which told of {together} alerts together")
        }
        Event::Failed { receiver, error } => {
            format!("{receiver} did not take the message, which is tried again: {error}")
        }
        Event::Superseded { receiver } => format!("the message to {receiver} was not sent, as a newer one said it all"),
        Event::GaveUp { receiver, error } => format!("the message to {receiver} was given up: {error}"),
    }
}

/// Why a receiver is not told, as the rest of a sentence.
pub fn withheld(withheld: &Withheld) -> String {
    match withheld {
        Withheld::NotRouted => "alerts like this are not for it".to_owned(),
        Withheld::BelowMinLevel { min_level } => format!("the level is below its min_level, {min_level}"),
        Withheld::OwnTrouble => "the trouble is its own".to_owned(),
        Withheld::Explained { by } => format!("the alert {by} explains it"),
        Withheld::Silenced { silence, by, until } => format!("the silence {silence} of {by} covers it until {until}"),
        Withheld::QuietHours { until } => format!("it is quiet hours until {until}"),
        Withheld::Acknowledged { by } => format!("{by} looks after it"),
        Withheld::NotYetEscalated { until } => format!("it is told at {until}, if nobody looks after it by then"),
        Withheld::Cooldown { until } => format!("it was told lately; it may be told again at {until}"),
        Withheld::FallNotHeld { until } => format!("a lower level is told once it has held, at {until}"),
        Withheld::Flapping { until } => {
            format!("it comes and goes, which was told; it has settled at {until} if nothing more happens")
        }
        Withheld::Told { repeat_at: Some(at) } => format!("everything was told; it is said again at {at}"),
        Withheld::Told { repeat_at: None } => "everything was told".to_owned(),
        Withheld::ResolvedNotWanted => "it does not want to hear that things are over".to_owned(),
        Withheld::Undelivered { until } => {
            format!("the last message was dead-lettered; the next one is sent at {until}")
        }
        Withheld::NoRoom => "too many alerts wait for it already; it is sent once there is room".to_owned(),
        Withheld::Paused => "monitoring is paused".to_owned(),
    }
}

fn told(kind: NoticeKind, level: Level) -> String {
    match kind {
        NoticeKind::Resolved => "that it is over".to_owned(),
        NoticeKind::Flapping => format!("{level}, and that it comes and goes"),
        NoticeKind::Settled => format!("{level}, and that it has settled"),
        NoticeKind::Repeat => format!("{level} again"),
        _ => level.to_string(),
    }
}

const fn because(why: Why) -> &'static str {
    match why {
        Why::Resolved => "it was told that it fires and it is over",
        Why::BelowMinLevel => "the level fell below what it wants to hear of",
        Why::NewFiring => "it knows of no such alert",
        Why::Raised => "it is worse than it was told",
        Why::Lowered => "it has been milder than it was told for the cooldown",
        Why::RepeatElapsed => "it still lasts and the time to repeat it has come",
        Why::Flapping => "it comes and goes too often to be told each time",
        Why::Settled => "it no longer comes and goes",
        Why::IncidentOpened => "the incident it was told in broke up",
    }
}

/// A number without decimals that tell nothing.
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
        let decision = |event| Decision {
            fingerprint: Fingerprint(1),
            at,
            level: Level::Warning,
            value: Some(400.0),
            threshold: Some(300.0),
            rule_version: "1".into(),
            event,
        };
        let tell = Event::Tell {
            receiver: "ops".into(),
            kind: NoticeKind::Firing,
            why: Why::NewFiring,
            key: "k".into(),
            incident: Some(40),
        };
        let silenced = Withheld::Silenced { silence: "s1".into(), by: "ann".into(), until: at };
        for (event, expected) in [
            (Event::Firing, "fires at warning: 400 against the threshold 300"),
            (Event::Level { from: Level::Info }, "rose from info to warning: 400 against the threshold 300"),
            (
                tell,
                "ops is told warning, as it knows of no such alert, as part of an incident of 40 alerts of this rule",
            ),
            (
                Event::Withhold { receiver: "ops".into(), withheld: silenced },
                "ops is not told: the silence s1 of ann covers it until 2001-09-09T01:46:40Z",
            ),
            (
                Event::Delivered { receiver: "ops".into(), together: 3 },
                "ops took the message, which told of 3 alerts together",
            ),
        ] {
            assert_eq!(sentence(&decision(event)), expected);
        }
    }

    #[test]
    fn entries_come_back_from_disk_as_they_were() {
        let decision = Decision {
            fingerprint: Fingerprint(7),
            at: Time::from_millis(5),
            level: Level::Error,
            value: None,
            threshold: Some(0.5),
            rule_version: "0badcafe".into(),
            event: Event::Withhold {
                receiver: "ops".into(),
                withheld: Withheld::Silenced { silence: "s".into(), by: "ann".into(), until: Time::from_millis(9) },
            },
        };
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision, "{text}");
    }
}
