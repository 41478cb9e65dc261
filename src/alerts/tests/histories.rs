//! Invariants over random histories: every firing notification is resolved, none repeats within the cooldown, silences
//! suppress, and the same history gives the same notices.

use proptest::prelude::*;

use super::*;
use crate::model::Flap;

#[derive(Clone, Debug)]
enum AlertInput {
    Level(u8, Option<Level>),
    Hold(u8),
    Unknown(u8),
    Wait(u16),
    End(u8),
    Silence(u8, u16),
    Acknowledge(u8),
    Flips(u8, u8),
}

fn events() -> impl Strategy<Value = Vec<AlertInput>> {
    let level = prop_oneof![Just(None), Just(Some(Info)), Just(Some(Warning)), Just(Some(Error)), Just(Some(Critical))];
    let event = prop_oneof![
        4 => (0..3u8, level).prop_map(|(agent, level)| AlertInput::Level(agent, level)),
        1 => (0..3u8).prop_map(AlertInput::Hold),
        1 => (0..3u8).prop_map(AlertInput::Unknown),
        3 => (0..400u16).prop_map(AlertInput::Wait),
        1 => (0..3u8).prop_map(AlertInput::End),
        1 => (0..3u8, 1..400u16).prop_map(|(agent, seconds)| AlertInput::Silence(agent, seconds)),
        1 => (0..3u8).prop_map(AlertInput::Acknowledge),
        1 => (0..3u8, 1..12u8).prop_map(|(agent, flips)| AlertInput::Flips(agent, flips)),
    ];
    proptest::collection::vec(event, 1..60)
}

/// Notices with their time in seconds.
type Notices = Vec<(i64, crate::model::Notice)>;
/// The silences: agent, start and end in seconds.
type Silenced = Vec<(String, i64, i64)>;

/// Runs a history and returns its notices and silences.
fn run(events: &[AlertInput], policy: &RulePolicy) -> (Notices, Silenced) {
    let mut silenced = Vec::new();
    let receivers = vec![receiver("ops", Warning), receiver("oncall", Critical)];
    let mut alerts = Alerts::new(vec![policy.clone()], receivers);
    let (mut seconds, mut notices) = (0, Vec::new());
    let step = |alerts: &mut Alerts, seconds: i64, findings: Vec<Finding>, notices: &mut Vec<_>| {
        while let Some(due) = alerts.next_deadline().filter(|due| *due <= at(seconds)) {
            let second = (due.max(at(0)).as_millis() - at(0).as_millis()) / 1000;
            notices.extend(alerts.tick(due.max(at(0))).notices.into_iter().map(|notice| (second, notice)));
        }
        notices.extend(alerts.step(at(seconds), findings).notices.into_iter().map(|notice| (seconds, notice)));
    };
    for event in events {
        let (name, level, cleared, value, ending) = match event {
            AlertInput::Wait(by) => {
                seconds += i64::from(*by);
                step(&mut alerts, seconds, vec![], &mut notices);
                continue;
            }
            AlertInput::Level(agent, level) => (agent, *level, level.is_none(), Some(2.0), None),
            AlertInput::Hold(agent) => (agent, None, false, Some(1.0), None),
            AlertInput::Unknown(agent) => (agent, None, false, None, None),
            AlertInput::End(agent) => (agent, None, true, None, Some(Ending::Removed)),
            AlertInput::Silence(name, length) => {
                step(&mut alerts, seconds, vec![], &mut notices);
                let until = seconds + i64::from(*length);
                let silence = silences::silence(silenced.len(), &name.to_string(), seconds, until);
                let effects = alerts.silence(at(seconds), silence).expect("a valid silence");
                notices.extend(effects.notices.into_iter().map(|notice| (seconds, notice)));
                silenced.push((name.to_string(), seconds, until));
                continue;
            }
            AlertInput::Acknowledge(name) => {
                step(&mut alerts, seconds, vec![], &mut notices);
                let fingerprint = crate::model::Fingerprint::of("Rule", &agent(&name.to_string()));
                let effects = alerts.acknowledge(at(seconds), fingerprint, "ann", "").unwrap_or_default();
                notices.extend(effects.notices.into_iter().map(|notice| (seconds, notice)));
                continue;
            }
            AlertInput::Flips(name, flips) => {
                for flip in 0..*flips {
                    let level = (flip % 2 == 0).then_some(Error);
                    seconds += 7;
                    let one = finding(0, agent(&name.to_string()), level, 2.0, at(seconds));
                    step(&mut alerts, seconds, vec![one], &mut notices);
                }
                continue;
            }
        };
        let mut one = finding(0, agent(&name.to_string()), level, 0.0, at(seconds));
        (one.cleared, one.value, one.ending) = (cleared, value, ending);
        step(&mut alerts, seconds, vec![one], &mut notices);
    }
    // In the end all alerts resolve, and every deadline passes.
    for name in 0..3u8 {
        step(&mut alerts, seconds, vec![finding(0, agent(&name.to_string()), None, 0.0, at(seconds))], &mut notices);
    }
    step(&mut alerts, seconds + 10_000, vec![], &mut notices);
    assert_eq!(alerts.by_fingerprint.len(), 0, "nothing is kept for ever");
    assert!(alerts.counts().active.is_empty(), "{:?}", alerts.counts().active);
    notices.retain(|(_, notice)| notice.kind.is_of_alert());
    (notices, silenced)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_firing_notification_is_resolved_and_none_repeats_within_the_cooldown(
        events in events(),
        hold in 0..100u64,
        clear_after in 0..100u64,
    ) {
        let flap = Some(Flap { changes: 4, ..Flap::default() });
        let (hold, clear_after) = (Duration::from_secs(hold), Duration::from_secs(clear_after));
        let policy = RulePolicy { hold, clear_after, flap, ..policy() };
        let (notices, silenced) = run(&events, &policy);
        let mut open: BTreeMap<(Arc<str>, String), (i64, Level)> = BTreeMap::new();
        let mut last_firing: BTreeMap<(Arc<str>, String), i64> = BTreeMap::new();
        let mut keys = std::collections::BTreeSet::new();
        for (seconds, notice) in &notices {
            prop_assert!(keys.insert(notice.key.to_string()), "a key is used once: {}", notice.key);
            let who = (Arc::clone(&notice.receiver), notice.subject.name().to_string());
            match notice.kind {
                NoticeKind::Flapping => {
                    let cooled = last_firing.get(&who).is_none_or(|last| seconds - last >= 60);
                    prop_assert!(cooled, "notified of flapping within the cooldown");
                }
                NoticeKind::Firing => {
                    prop_assert!(!open.contains_key(&who), "notified as new of what it was notified of already");
                    let cooled = last_firing.get(&who).is_none_or(|last| seconds - last >= 60);
                    prop_assert!(cooled, "notified again within the cooldown");
                }
                NoticeKind::Escalated => {
                    let (_, level) = open.get(&who).copied().expect("escalated from a notified level");
                    prop_assert!(notice.level > level);
                }
                NoticeKind::Deescalated => {
                    let (notified, level) = open.get(&who).copied().expect("de-escalated from a notified level");
                    prop_assert!(notice.level < level && seconds - notified >= 60);
                }
                NoticeKind::Repeat => prop_assert!(open.contains_key(&who)),
                NoticeKind::FlappingEnded => {
                    let (notified, _) = open.get(&who).copied().expect("flapping was notified");
                    prop_assert!(seconds - notified >= 60);
                }
                NoticeKind::Resolved => prop_assert!(open.remove(&who).is_some(), "resolved without being notified"),
                NoticeKind::Test | NoticeKind::Announcement | NoticeKind::Digest => prop_assert!(false),
            }
            if notice.kind.is_firing() {
                let quiet = |(name, from, until): &(String, i64, i64)| *name == who.1 && from < seconds && seconds < until;
                prop_assert!(!silenced.iter().any(quiet), "notified although it was silenced: {:?}", notice);
                open.insert(who.clone(), (*seconds, notice.level));
                last_firing.insert(who, *seconds);
            }
            if &*notice.receiver == "oncall" && notice.kind.is_firing() {
                prop_assert_eq!(notice.level, Critical);
            }
        }
        prop_assert!(open.is_empty(), "not notified of the resolve: {:?}", open);
        prop_assert_eq!(notices, run(&events, &policy).0, "the same history gives the same notices");
    }
}
