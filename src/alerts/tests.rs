//! The life of alerts on a virtual clock: exact times, exact tells, and invariants over random histories.

mod flapping;
mod incidents;
mod quiet;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Alerts, Effects};
use crate::model::{
    AlertState, Class, Ending, Finding, Flap, Level, NoticeKind, ReceiverPolicy, RuleId, RulePolicy, Subject, Time,
};

const RULE: RuleId = RuleId(0);

fn at(seconds: i64) -> Time {
    Time::from_millis(1_000_000_000_000 + seconds * 1000)
}

fn policy() -> RulePolicy {
    RulePolicy::new("Rule", Class::Other)
}

fn receiver(name: &str, min_level: Level) -> ReceiverPolicy {
    ReceiverPolicy::new(name, min_level)
}

fn agent(name: &str) -> Subject {
    Subject::Agent { project: "shop".into(), name: name.into() }
}

fn finding(rule: u16, subject: Subject, level: Option<Level>, value: f64, now: Time) -> Finding {
    Finding {
        rule: RuleId(rule),
        subject,
        source: Some("push".into()),
        agent_type: None,
        level,
        cleared: level.is_none(),
        value: Some(value),
        threshold: level.map(|_| 1.0),
        since: now,
        ending: None,
    }
}

/// Alerts of one rule about one agent, told to one receiver from warning on.
struct Story {
    alerts: Alerts,
    told: Vec<(i64, NoticeKind, Level)>,
}

impl Story {
    fn new(policy: RulePolicy) -> Self {
        Self { alerts: Alerts::new(vec![policy], vec![receiver("ops", Level::Warning)]), told: Vec::new() }
    }

    /// Runs the timers up to `seconds`, then takes in a level.
    fn level(&mut self, seconds: i64, level: Option<Level>) -> &mut Self {
        self.until(seconds);
        let effects = self.alerts.step(at(seconds), vec![finding(RULE.0, agent("a"), level, 2.0, at(seconds))]);
        self.note(seconds, &effects);
        self
    }

    fn until(&mut self, seconds: i64) -> &mut Self {
        while let Some(due) = self.alerts.next_deadline().filter(|due| *due <= at(seconds)) {
            let due = due.max(at(0));
            let effects = self.alerts.tick(due);
            self.note((due.as_millis() - at(0).as_millis()) / 1000, &effects);
        }
        self
    }

    fn note(&mut self, seconds: i64, effects: &Effects) {
        self.told.extend(effects.notices.iter().map(|notice| (seconds, notice.kind, notice.level)));
    }

    fn told(&mut self, expected: &[(i64, NoticeKind, Level)]) {
        assert_eq!(self.told, expected);
    }
}

use Level::{Critical, Error, Info, Warning};
use NoticeKind::{Firing, Lowered, Raised, Repeat, Resolved};

#[test]
fn a_problem_is_told_once_and_once_more_when_it_is_over() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, Some(Warning)).level(20, Some(Warning)).level(30, None).until(9_000);
    story.told(&[(0, Firing, Warning), (30, Resolved, Warning)]);
}

#[test]
fn a_raise_passes_the_cooldown_and_a_fall_waits_for_it() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(5, Some(Critical)).level(20, Some(Error)).until(79);
    story.told(&[(0, Firing, Warning), (5, Raised, Critical)]);
    story.until(80).told(&[(0, Firing, Warning), (5, Raised, Critical), (80, Lowered, Error)]);
}

#[test]
fn a_fall_that_does_not_last_is_not_told() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error)).level(20, Some(Warning)).level(50, Some(Error)).until(500);
    story.told(&[(0, Firing, Error)]);
}

#[test]
fn a_fire_again_within_the_cooldown_is_told_when_it_ends() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).until(59);
    story.told(&[(0, Firing, Warning), (10, Resolved, Warning)]);
    story.until(60).told(&[(0, Firing, Warning), (10, Resolved, Warning), (60, Firing, Warning)]);
}

#[test]
fn a_fire_again_within_the_cooldown_that_is_over_by_then_is_not_told() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).level(30, None).until(500);
    story.told(&[(0, Firing, Warning), (10, Resolved, Warning)]);
}

#[test]
fn it_is_said_again_while_it_lasts() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).until(8 * 3600);
    story.told(&[(0, Firing, Warning), (4 * 3600, Repeat, Warning), (8 * 3600, Repeat, Warning)]);
}

#[test]
fn info_is_never_said_again() {
    let mut story = Story::new(policy());
    story.alerts.receivers = vec![receiver("ops", Info)];
    story.level(0, Some(Info)).until(100 * 3600);
    story.told(&[(0, Firing, Info)]);
}

#[test]
fn what_must_hold_for_a_while_fires_after_it_and_not_before() {
    let mut story = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    story.level(0, Some(Warning)).level(200, None).level(210, Some(Warning)).until(509).told(&[]);
    story.until(510).told(&[(510, Firing, Warning)]);
}

#[test]
fn what_must_be_fine_for_a_while_resolves_after_it() {
    let mut story = Story::new(RulePolicy { clear_after: Duration::from_secs(30), ..policy() });
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).level(50, None).until(79);
    story.told(&[(0, Firing, Warning)]);
    story.until(80).told(&[(0, Firing, Warning), (80, Resolved, Warning)]);
}

#[test]
fn between_threshold_and_hysteresis_it_goes_on_at_its_mildest() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error));
    let mut held = finding(0, agent("a"), None, 1.0, at(10));
    held.cleared = false;
    let effects = story.alerts.step(at(10), vec![held]);
    assert!(effects.notices.is_empty());
    assert_eq!(
        story.alerts.open().map(|alert| (alert.state, alert.level)).collect::<Vec<_>>(),
        [(AlertState::Firing, Warning)]
    );
    story.level(20, None).told(&[(0, Firing, Error), (20, Resolved, Warning)]);
}

#[test]
fn unknown_holds_and_is_marked() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error));
    let mut unknown = finding(0, agent("a"), None, 0.0, at(10));
    (unknown.value, unknown.cleared) = (None, false);
    story.alerts.step(at(10), vec![unknown]);
    assert!(story.alerts.open().all(|alert| alert.no_data && alert.level == Error));
    story.until(500).told(&[(0, Firing, Error)]);
}

#[test]
fn falling_below_what_a_receiver_wants_is_told_as_over() {
    let mut story = Story::new(policy());
    story.alerts.receivers = vec![receiver("ops", Error)];
    story.level(0, Some(Error)).level(100, Some(Warning)).until(159).told(&[(0, Firing, Error)]);
    story.until(160);
    story.told(&[(0, Firing, Error), (160, Resolved, Error)]);
    story.level(200, None).until(500).told(&[(0, Firing, Error), (160, Resolved, Error)]);
}

#[test]
fn an_alert_of_a_rule_that_is_gone_is_told_as_over() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error));
    let effects = story.alerts.configure(at(10), vec![], vec![receiver("ops", Warning)]);
    let notice = effects.notices.first().expect("a resolve is owed");
    assert_eq!((notice.kind, notice.ending), (Resolved, Some(Ending::RuleGone)));
}

#[test]
fn a_restart_tells_nothing_again_and_counts_no_downtime() {
    let mut story = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    let first = story.alerts.step(at(0), vec![finding(0, agent("a"), Some(Warning), 2.0, at(0))]);
    story.until(300);
    let second = story.alerts.step(at(400), vec![finding(0, agent("b"), Some(Warning), 2.0, at(400))]);
    let mut ledger: BTreeMap<_, _> = first.changed.into_iter().map(|alert| (alert.fingerprint, alert)).collect();
    ledger.extend(story.alerts.open().map(|alert| (alert.fingerprint, alert.clone())));
    assert_eq!((ledger.len(), second.changed.len()), (2, 1));

    // Down from 500 to 4100: one hour.
    let mut again = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    again.alerts.restore(at(4_100), ledger.into_values().collect(), [0; 4], 1, Duration::from_secs(3_600));
    again.until(4_100 + 199).told(&[]);
    again.until(4_100 + 200).told(&[(4_300, Firing, Warning)]);
}

/// Rules: 0 the source, 1 agents down, 2 agent down, 3 stale, 4 idle, 5 component, 6 health.
fn family() -> Alerts {
    let classes = [
        ("SourceDown", Class::SourceFailing),
        ("AgentsDown", Class::AgentsDown),
        ("AgentDown", Class::AgentDown),
        ("AgentStale", Class::AgentStale),
        ("AgentIdle", Class::Agent),
        ("ComponentStatus", Class::Component),
        ("ClusterHealth", Class::ClusterHealth),
    ];
    let policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    Alerts::new(policies.to_vec(), vec![receiver("ops", Warning)])
}

fn told(effects: &Effects) -> Vec<String> {
    effects
        .notices
        .iter()
        .map(|notice| format!("{} {:?} {}", notice.rule, notice.kind, notice.subject.name()))
        .collect()
}

fn cluster() -> Subject {
    Subject::Cluster { project: "shop".into() }
}

#[test]
fn one_agent_down_is_told_as_one_and_two_as_a_number() {
    let mut alerts = family();
    let effects = alerts.step(
        at(0),
        vec![finding(2, agent("a"), Some(Error), 1.0, at(0)), finding(1, cluster(), Some(Warning), 1.0, at(0))],
    );
    assert_eq!(told(&effects), ["AgentDown Firing a"]);
    let effects = alerts.step(
        at(5),
        vec![finding(2, agent("b"), Some(Error), 1.0, at(5)), finding(1, cluster(), Some(Error), 2.0, at(5))],
    );
    assert_eq!(told(&effects), ["AgentsDown Firing shop"]);
    let effects = alerts.step(
        at(100),
        vec![finding(2, agent("a"), None, 0.0, at(100)), finding(1, cluster(), Some(Warning), 1.0, at(100))],
    );
    assert_eq!(told(&effects), ["AgentDown Resolved a", "AgentDown Firing b"], "who is still down is told now");
    let effects = alerts
        .step(at(200), vec![finding(2, agent("b"), None, 0.0, at(200)), finding(1, cluster(), None, 0.0, at(200))]);
    let mut told = told(&effects);
    told.sort();
    assert_eq!(told, ["AgentDown Resolved b", "AgentsDown Resolved shop"]);
}

#[test]
fn a_source_that_fails_explains_its_agents_until_it_works_again() {
    let mut alerts = family();
    let source = Subject::Source { name: "push".into() };
    let effects = alerts.step(at(0), vec![finding(0, source.clone(), Some(Warning), 30.0, at(0))]);
    assert_eq!(told(&effects), ["SourceDown Firing push"]);
    let effects = alerts.step(
        at(30),
        vec![
            finding(3, agent("a"), Some(Warning), 60.0, at(30)),
            finding(2, agent("a"), Some(Error), 1.0, at(30)),
            finding(1, cluster(), Some(Warning), 1.0, at(30)),
            finding(6, cluster(), Some(Critical), 3.0, at(30)),
        ],
    );
    assert_eq!(told(&effects), [""; 0]);
    assert_eq!(effects.suppressed, [("explained", 4)]);
    let effects = alerts.step(at(60), vec![finding(0, source, None, 0.0, at(60))]);
    assert_eq!(
        told(&effects),
        ["SourceDown Resolved push", "AgentDown Firing a"],
        "what it no longer explains is told"
    );
}

#[test]
fn health_is_told_only_when_nothing_explains_it() {
    let mut alerts = family();
    let component = Subject::Component { project: "shop".into(), name: "db".into() };
    let effects = alerts.step(
        at(0),
        vec![finding(6, cluster(), Some(Error), 2.0, at(0)), finding(5, component, Some(Error), 3.0, at(0))],
    );
    assert_eq!(told(&effects), ["ComponentStatus Firing db"]);
}

#[derive(Clone, Debug)]
enum Event {
    Level(u8, Option<Level>),
    Hold(u8),
    Unknown(u8),
    Wait(u16),
    End(u8),
    Silence(u8, u16),
    Acknowledge(u8),
    Flips(u8, u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let level = prop_oneof![Just(None), Just(Some(Info)), Just(Some(Warning)), Just(Some(Error)), Just(Some(Critical))];
    let event = prop_oneof![
        4 => (0..3u8, level).prop_map(|(agent, level)| Event::Level(agent, level)),
        1 => (0..3u8).prop_map(Event::Hold),
        1 => (0..3u8).prop_map(Event::Unknown),
        3 => (0..400u16).prop_map(Event::Wait),
        1 => (0..3u8).prop_map(Event::End),
        1 => (0..3u8, 1..400u16).prop_map(|(agent, seconds)| Event::Silence(agent, seconds)),
        1 => (0..3u8).prop_map(Event::Acknowledge),
        1 => (0..3u8, 1..12u8).prop_map(|(agent, flips)| Event::Flips(agent, flips)),
    ];
    proptest::collection::vec(event, 1..60)
}

/// Runs a history and returns every notice with its time in seconds, and who was silenced from when until when.
fn run(events: &[Event], policy: &RulePolicy) -> (Vec<(i64, crate::model::Notice)>, Vec<(String, i64, i64)>) {
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
            Event::Wait(by) => {
                seconds += i64::from(*by);
                step(&mut alerts, seconds, vec![], &mut notices);
                continue;
            }
            Event::Level(agent, level) => (agent, *level, level.is_none(), Some(2.0), None),
            Event::Hold(agent) => (agent, None, false, Some(1.0), None),
            Event::Unknown(agent) => (agent, None, false, None, None),
            Event::End(agent) => (agent, None, true, None, Some(Ending::Removed)),
            Event::Silence(name, length) => {
                step(&mut alerts, seconds, vec![], &mut notices);
                let until = seconds + i64::from(*length);
                let silence = quiet::silence(silenced.len(), &name.to_string(), seconds, until);
                let effects = alerts.silence(at(seconds), silence).expect("it is taken");
                notices.extend(effects.notices.into_iter().map(|notice| (seconds, notice)));
                silenced.push((name.to_string(), seconds, until));
                continue;
            }
            Event::Acknowledge(name) => {
                step(&mut alerts, seconds, vec![], &mut notices);
                let fingerprint = crate::model::Fingerprint::of("Rule", &agent(&name.to_string()));
                let effects = alerts.acknowledge(at(seconds), fingerprint, "ann", "").unwrap_or_default();
                notices.extend(effects.notices.into_iter().map(|notice| (seconds, notice)));
                continue;
            }
            Event::Flips(name, flips) => {
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
    // In the end all is well, and whatever is owed has had its time.
    for name in 0..3u8 {
        step(&mut alerts, seconds, vec![finding(0, agent(&name.to_string()), None, 0.0, at(seconds))], &mut notices);
    }
    step(&mut alerts, seconds + 10_000, vec![], &mut notices);
    assert_eq!(alerts.by_fingerprint.len(), 0, "nothing is remembered for ever");
    assert!(alerts.counts().active.is_empty(), "{:?}", alerts.counts().active);
    notices.retain(|(_, notice)| notice.kind.is_of_alert());
    (notices, silenced)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_told_is_told_over_and_nothing_twice_within_its_cooldown(
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
                    prop_assert!(cooled, "told that it comes and goes within the cooldown");
                }
                NoticeKind::Firing => {
                    prop_assert!(!open.contains_key(&who), "told as new what it was told already");
                    let cooled = last_firing.get(&who).is_none_or(|last| seconds - last >= 60);
                    prop_assert!(cooled, "told again within the cooldown");
                }
                NoticeKind::Raised => {
                    let (_, level) = open.get(&who).copied().expect("raised from something told");
                    prop_assert!(notice.level > level);
                }
                NoticeKind::Lowered => {
                    let (told, level) = open.get(&who).copied().expect("lowered from something told");
                    prop_assert!(notice.level < level && seconds - told >= 60);
                }
                NoticeKind::Repeat => prop_assert!(open.contains_key(&who)),
                NoticeKind::Settled => {
                    let (told, _) = open.get(&who).copied().expect("settled from something told");
                    prop_assert!(seconds - told >= 60);
                }
                NoticeKind::Resolved => prop_assert!(open.remove(&who).is_some(), "over, and was never told"),
                NoticeKind::Test | NoticeKind::Announcement | NoticeKind::Digest => prop_assert!(false),
            }
            if notice.kind.is_firing() {
                let quiet = |(name, from, until): &(String, i64, i64)| *name == who.1 && from < seconds && seconds < until;
                prop_assert!(!silenced.iter().any(quiet), "told although it was silenced: {:?}", notice);
                open.insert(who.clone(), (*seconds, notice.level));
                last_firing.insert(who, *seconds);
            }
            if &*notice.receiver == "oncall" && notice.kind.is_firing() {
                prop_assert_eq!(notice.level, Critical);
            }
        }
        prop_assert!(open.is_empty(), "owed a resolve: {:?}", open);
        prop_assert_eq!(notices, run(&events, &policy).0, "the same history tells the same");
    }
}
