//! The life of alerts on a virtual clock: exact times, exact tells, and invariants over random histories.

mod flapping;
mod histories;
mod incidents;
mod quiet;
mod redeliver;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Alerts, Effects};
use crate::model::{
    AlertState, Class, Ending, Finding, Level, Matchers, NoticeKind, ReceiverPolicy, RuleId, RulePolicy, Subject, Time,
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
use NoticeKind::{Deescalated, Escalated, Firing, Repeat, Resolved};

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
    story.told(&[(0, Firing, Warning), (5, Escalated, Critical)]);
    story.until(80).told(&[(0, Firing, Warning), (5, Escalated, Critical), (80, Deescalated, Error)]);
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
fn what_is_broken_twice_within_a_millisecond_is_told_by_other_keys() {
    // Nothing but the millisecond has it remembered.
    let mut story = Story::new(RulePolicy { cooldown: Duration::ZERO, flap: None, ..policy() });
    let mut keys = std::collections::BTreeSet::new();
    for level in [Some(Warning), None, Some(Warning), None, Some(Warning), None] {
        let effects = story.alerts.step(at(0), vec![finding(RULE.0, agent("a"), level, 2.0, at(0))]);
        assert_eq!(effects.notices.len(), 1, "no cooldown keeps it back");
        assert!(keys.insert(effects.notices[0].key.clone()), "{keys:?} and again {}", effects.notices[0].key);
    }
    assert_eq!(story.until(86_400).alerts.by_fingerprint.len(), 0, "it is forgotten in the end");
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
fn what_gathers_inhibits_only_while_its_level_concerns_the_receiver() {
    let classes = [("AgentsLimited", Class::AgentsLimited), ("RateLimited", Class::AgentLimited)];
    let mut policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    policies[0].hold = Duration::from_secs(3);
    let mut alerts = Alerts::new(policies.to_vec(), vec![receiver("ops", Warning)]);
    let many = |second, level| finding(0, cluster(), Some(level), 2.0, at(second));
    alerts.step(at(0), vec![many(0, Warning)]);
    let effects = alerts.step(at(1), vec![finding(1, agent("a"), Some(Warning), 1.0, at(1))]);
    assert_eq!(told(&effects), [""; 0], "the pending AgentsLimited will name it");
    let effects = alerts.step(at(2), vec![many(2, Info)]);
    assert_eq!(told(&effects), ["RateLimited Firing a"], "ops is not notified of AgentsLimited at info");
}

#[test]
fn an_alert_that_goes_to_another_receiver_by_a_new_label_inhibits_there() {
    let team = |agent_type: &str| Matchers::parse([("type", agent_type)]).unwrap();
    let classes = [("AgentDown", Class::AgentDown), ("AgentStale", Class::AgentStale)];
    let policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    let ops = ReceiverPolicy { only: vec![team("coder")].into(), ..receiver("ops", Warning) };
    let mut alerts = Alerts::new(policies.to_vec(), vec![ops]);
    let down = |second, agent_type: &str| Finding {
        agent_type: Some(agent_type.into()),
        ..finding(0, agent("a"), Some(Error), 1.0, at(second))
    };
    let stale =
        |second| Finding { agent_type: Some("coder".into()), ..finding(1, agent("a"), Some(Warning), 1.0, at(second)) };
    assert_eq!(told(&alerts.step(at(0), vec![down(0, "coder")])), ["AgentDown Firing a"]);
    assert_eq!(told(&alerts.step(at(1), vec![stale(1)])), [""; 0]);
    assert_eq!(told(&alerts.step(at(2), vec![down(2, "reviewer")])), ["AgentStale Firing a"]);
}

#[test]
fn agents_held_up_are_told_as_one_once_they_are_gathered() {
    let classes = [("AgentsLimited", Class::AgentsLimited), ("RateLimited", Class::AgentLimited)];
    let mut policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    (policies[0].hold, policies[0].clear_after) = (Duration::from_secs(3), Duration::from_secs(600));
    let mut alerts = Alerts::new(policies.to_vec(), vec![receiver("ops", Warning)]);
    let refused = |second| finding(1, agent(&format!("a{second}")), Some(Warning), 1.0, at(second));
    let effects = alerts.step(at(0), vec![refused(0)]);
    assert_eq!(told(&effects), ["RateLimited Firing a0"], "one by itself");
    let effects = alerts.step(at(1), vec![refused(1), finding(0, cluster(), Some(Warning), 2.0, at(1))]);
    assert_eq!(told(&effects), [""; 0], "there may be more of them");
    let effects = alerts.step(at(2), vec![refused(2), finding(0, cluster(), Some(Warning), 3.0, at(2))]);
    assert_eq!(told(&effects), [""; 0]);
    assert_eq!(told(&alerts.tick(at(4))), ["AgentsLimited Firing shop"]);
    let effects = alerts.step(at(60), vec![finding(0, cluster(), None, 0.0, at(60))]);
    assert_eq!(told(&effects), [""; 0], "what it stands for is not over");
    let over = (0..3).map(|second| finding(1, agent(&format!("a{second}")), None, 0.0, at(602)));
    assert_eq!(told(&alerts.step(at(602), over.collect())), ["RateLimited Resolved a0"]);
    assert_eq!(told(&alerts.tick(at(660))), ["AgentsLimited Resolved shop"]);

    // Gathered and gone: whoever was kept back for it is told.
    let effects = alerts.step(at(2_000), vec![refused(2_000), finding(0, cluster(), Some(Warning), 2.0, at(2_000))]);
    assert_eq!(told(&effects), [""; 0]);
    let effects = alerts.step(at(2_001), vec![finding(0, cluster(), None, 1.0, at(2_001))]);
    assert_eq!(told(&effects), ["RateLimited Firing a2000"]);
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
    assert_eq!(effects.suppressed, [("inhibited", 4)]);
    let effects = alerts.step(at(60), vec![finding(0, source, None, 0.0, at(60))]);
    assert_eq!(
        told(&effects),
        ["SourceDown Resolved push", "AgentDown Firing a"],
        "what it no longer explains is told"
    );
}

#[test]
fn what_explains_it_to_one_receiver_explains_nothing_to_one_that_is_not_told_of_it() {
    let mut alerts = family();
    let policies = alerts.policies.iter().map(|policy| (**policy).clone()).collect();
    let lab = crate::model::Matchers::parse([("project", "shop")]).expect("a matcher");
    let routed = ReceiverPolicy { only: [lab].into(), ..receiver("shop", Warning) };
    alerts.configure(at(0), policies, vec![receiver("ops", Warning), receiver("oncall", Error), routed]);
    let source = Subject::Source { name: "push".into() };
    let told_to = |effects: &Effects| -> Vec<String> {
        let told = effects.notices.iter();
        told.map(|notice| format!("{}: {} {:?}", notice.receiver, notice.rule, notice.kind)).collect()
    };
    alerts.step(at(0), vec![finding(0, source.clone(), Some(Warning), 30.0, at(0))]);
    let effects = alerts.step(at(1), vec![finding(2, agent("a"), Some(Error), 1.0, at(1))]);
    assert_eq!(told_to(&effects), ["oncall: AgentDown Firing", "shop: AgentDown Firing"]);
    // It is worse now, and so explains it to the second as well: what it was told stays until it is over.
    let effects = alerts.step(at(100), vec![finding(0, source.clone(), Some(Error), 300.0, at(100))]);
    assert_eq!(told_to(&effects), ["ops: SourceDown Escalated", "oncall: SourceDown Firing"]);
    let effects = alerts.step(at(101), vec![finding(2, agent("b"), Some(Error), 1.0, at(101))]);
    assert_eq!(told_to(&effects), ["shop: AgentDown Firing"]);
    // It is milder again, after which it explains nothing to the second.
    let effects = alerts.step(at(200), vec![finding(0, source, Some(Warning), 30.0, at(200))]);
    assert_eq!(told_to(&effects), ["oncall: AgentDown Firing"]);
    let effects = alerts.tick(at(300));
    assert_eq!(told_to(&effects), ["ops: SourceDown Deescalated", "oncall: SourceDown Resolved"]);
    let downs = vec![finding(2, agent("a"), None, 0.0, at(400)), finding(2, agent("b"), None, 0.0, at(400))];
    let mut told = told_to(&alerts.step(at(400), downs));
    told.sort();
    let twice = |told: &str| [told.to_owned(), told.to_owned()];
    assert_eq!(told, [twice("oncall: AgentDown Resolved"), twice("shop: AgentDown Resolved")].concat());
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
