//! Alerts on a virtual clock: exact notifications at exact times.

mod flapping;
mod histories;
mod incidents;
mod redeliver;
mod restarts;
mod silences;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{AlertChanges, Alerts};
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
        grows: false,
        threshold: level.map(|_| 1.0),
        since: now,
        ending: None,
    }
}

/// Alerts of one rule about one agent, with one receiver from warning on.
struct Story {
    alerts: Alerts,
    notified: Vec<(i64, NoticeKind, Level)>,
}

impl Story {
    fn new(policy: RulePolicy) -> Self {
        Self { alerts: Alerts::new(vec![policy], vec![receiver("ops", Level::Warning)]), notified: Vec::new() }
    }

    /// Serves deadlines up to `seconds`, then applies a finding at this level.
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

    fn note(&mut self, seconds: i64, effects: &AlertChanges) {
        self.notified.extend(effects.notices.iter().map(|notice| (seconds, notice.kind, notice.level)));
    }

    fn notified(&mut self, expected: &[(i64, NoticeKind, Level)]) {
        assert_eq!(self.notified, expected);
    }
}

use Level::{Critical, Error, Info, Warning};
use NoticeKind::{Deescalated, Escalated, Firing, Repeat, Resolved};

#[test]
fn an_alert_is_notified_once_and_its_resolve_once() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, Some(Warning)).level(20, Some(Warning)).level(30, None).until(9_000);
    story.notified(&[(0, Firing, Warning), (30, Resolved, Warning)]);
}

#[test]
fn an_escalation_ignores_the_cooldown_and_a_deescalation_waits_for_it() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(5, Some(Critical)).level(20, Some(Error)).until(79);
    story.notified(&[(0, Firing, Warning), (5, Escalated, Critical)]);
    story.until(80).notified(&[(0, Firing, Warning), (5, Escalated, Critical), (80, Deescalated, Error)]);
}

#[test]
fn a_deescalation_shorter_than_the_cooldown_is_not_notified() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error)).level(20, Some(Warning)).level(50, Some(Error)).until(500);
    story.notified(&[(0, Firing, Error)]);
}

#[test]
fn firing_again_within_the_cooldown_is_notified_when_it_ends() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).until(59);
    story.notified(&[(0, Firing, Warning), (10, Resolved, Warning)]);
    story.until(60).notified(&[(0, Firing, Warning), (10, Resolved, Warning), (60, Firing, Warning)]);
}

#[test]
fn firing_again_and_resolving_within_the_cooldown_is_not_notified() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).level(30, None).until(500);
    story.notified(&[(0, Firing, Warning), (10, Resolved, Warning)]);
}

#[test]
fn firing_twice_within_a_millisecond_is_notified_with_different_keys() {
    // Without cooldown and flapping only the millisecond keeps the resolved alert.
    let mut story = Story::new(RulePolicy { cooldown: Duration::ZERO, flap: None, ..policy() });
    let mut keys = std::collections::BTreeSet::new();
    for level in [Some(Warning), None, Some(Warning), None, Some(Warning), None] {
        let effects = story.alerts.step(at(0), vec![finding(RULE.0, agent("a"), level, 2.0, at(0))]);
        assert_eq!(effects.notices.len(), 1, "there is no cooldown");
        assert!(keys.insert(effects.notices[0].key.clone()), "{keys:?} and again {}", effects.notices[0].key);
    }
    assert_eq!(story.until(86_400).alerts.by_fingerprint.len(), 0, "it is dropped in the end");
}

#[test]
fn a_firing_alert_is_repeated() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning)).until(8 * 3600);
    story.notified(&[(0, Firing, Warning), (4 * 3600, Repeat, Warning), (8 * 3600, Repeat, Warning)]);
}

#[test]
fn info_is_never_repeated() {
    let mut story = Story::new(policy());
    story.alerts.receivers = vec![receiver("ops", Info)];
    story.level(0, Some(Info)).until(100 * 3600);
    story.notified(&[(0, Firing, Info)]);
}

#[test]
fn an_alert_fires_once_for_has_passed_and_not_before() {
    let mut story = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    story.level(0, Some(Warning)).level(200, None).level(210, Some(Warning)).until(509).notified(&[]);
    story.until(510).notified(&[(510, Firing, Warning)]);
}

#[test]
fn an_alert_resolves_once_clear_after_has_passed() {
    let mut story = Story::new(RulePolicy { clear_after: Duration::from_secs(30), ..policy() });
    story.level(0, Some(Warning)).level(10, None).level(20, Some(Warning)).level(50, None).until(79);
    story.notified(&[(0, Firing, Warning)]);
    story.until(80).notified(&[(0, Firing, Warning), (80, Resolved, Warning)]);
}

#[test]
fn between_threshold_and_clear_below_an_alert_keeps_firing_at_its_lowest_level() {
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
    story.level(20, None).notified(&[(0, Firing, Error), (20, Resolved, Warning)]);
}

#[test]
fn an_unknown_value_keeps_an_alert_firing_and_is_marked() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error));
    let mut unknown = finding(0, agent("a"), None, 0.0, at(10));
    (unknown.value, unknown.cleared) = (None, false);
    story.alerts.step(at(10), vec![unknown]);
    assert!(story.alerts.open().all(|alert| alert.no_data && alert.level == Error));
    story.until(500).notified(&[(0, Firing, Error)]);
}

#[test]
fn a_level_below_min_level_is_notified_as_resolved() {
    let mut story = Story::new(policy());
    story.alerts.receivers = vec![receiver("ops", Error)];
    story.level(0, Some(Error)).level(100, Some(Warning)).until(159).notified(&[(0, Firing, Error)]);
    story.until(160);
    story.notified(&[(0, Firing, Error), (160, Resolved, Error)]);
    story.level(200, None).until(500).notified(&[(0, Firing, Error), (160, Resolved, Error)]);
}

#[test]
fn an_alert_of_a_removed_rule_is_notified_as_resolved() {
    let mut story = Story::new(policy());
    story.level(0, Some(Error));
    let effects = story.alerts.configure(at(10), vec![], vec![receiver("ops", Warning)]);
    let notice = effects.notices.first().expect("a resolve is due");
    assert_eq!((notice.kind, notice.ending), (Resolved, Some(Ending::RuleGone)));
}

#[test]
fn a_restart_repeats_no_notification_and_counts_no_downtime() {
    let mut story = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    let first = story.alerts.step(at(0), vec![finding(0, agent("a"), Some(Warning), 2.0, at(0))]);
    story.until(300);
    let second = story.alerts.step(at(400), vec![finding(0, agent("b"), Some(Warning), 2.0, at(400))]);
    let mut ledger: BTreeMap<_, _> = first.changed.into_iter().map(|alert| (alert.fingerprint, alert)).collect();
    ledger.extend(story.alerts.open().map(|alert| (alert.fingerprint, alert.clone())));
    assert_eq!((ledger.len(), second.changed.len()), (2, 1));

    // One hour of downtime, from 500 to 4100.
    let mut again = Story::new(RulePolicy { hold: Duration::from_secs(300), ..policy() });
    again.alerts.restore(at(4_100), ledger.into_values().collect(), [0; 4], 1, Duration::from_secs(3_600));
    again.until(4_100 + 199).notified(&[]);
    again.until(4_100 + 200).notified(&[(4_300, Firing, Warning)]);
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

fn notified(effects: &AlertChanges) -> Vec<String> {
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
fn one_agent_down_is_notified_by_its_own_alert_and_two_by_agents_down() {
    let mut alerts = family();
    let effects = alerts.step(
        at(0),
        vec![finding(2, agent("a"), Some(Error), 1.0, at(0)), finding(1, cluster(), Some(Warning), 1.0, at(0))],
    );
    assert_eq!(notified(&effects), ["AgentDown Firing a"]);
    let effects = alerts.step(
        at(5),
        vec![finding(2, agent("b"), Some(Error), 1.0, at(5)), finding(1, cluster(), Some(Error), 2.0, at(5))],
    );
    assert_eq!(notified(&effects), ["AgentsDown Firing shop"]);
    let effects = alerts.step(
        at(100),
        vec![finding(2, agent("a"), None, 0.0, at(100)), finding(1, cluster(), Some(Warning), 1.0, at(100))],
    );
    assert_eq!(
        notified(&effects),
        ["AgentDown Resolved a", "AgentDown Firing b"],
        "the one that is still down is notified now"
    );
    let effects = alerts
        .step(at(200), vec![finding(2, agent("b"), None, 0.0, at(200)), finding(1, cluster(), None, 0.0, at(200))]);
    let mut state = notified(&effects);
    state.sort();
    assert_eq!(state, ["AgentDown Resolved b", "AgentsDown Resolved shop"]);
}

#[test]
fn a_pending_alert_inhibits_only_at_a_level_that_the_receiver_is_notified_of() {
    let classes = [("AgentsLimited", Class::AgentsLimited), ("RateLimited", Class::AgentLimited)];
    let mut policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    policies[0].hold = Duration::from_secs(3);
    let mut alerts = Alerts::new(policies.to_vec(), vec![receiver("ops", Warning)]);
    let many = |second, level| finding(0, cluster(), Some(level), 2.0, at(second));
    alerts.step(at(0), vec![many(0, Warning)]);
    let effects = alerts.step(at(1), vec![finding(1, agent("a"), Some(Warning), 1.0, at(1))]);
    assert_eq!(notified(&effects), [""; 0], "inhibited by the pending AgentsLimited");
    let effects = alerts.step(at(2), vec![many(2, Info)]);
    assert_eq!(notified(&effects), ["RateLimited Firing a"], "ops is not notified of AgentsLimited at info");
}

#[test]
fn an_alert_that_a_new_label_routes_elsewhere_inhibits_there() {
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
    assert_eq!(notified(&alerts.step(at(0), vec![down(0, "coder")])), ["AgentDown Firing a"]);
    assert_eq!(notified(&alerts.step(at(1), vec![stale(1)])), [""; 0]);
    assert_eq!(notified(&alerts.step(at(2), vec![down(2, "reviewer")])), ["AgentStale Firing a"]);
}

#[test]
fn rate_limited_agents_are_notified_as_one_alert() {
    let classes = [("AgentsLimited", Class::AgentsLimited), ("RateLimited", Class::AgentLimited)];
    let mut policies = classes.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy() });
    (policies[0].hold, policies[0].clear_after) = (Duration::from_secs(3), Duration::from_secs(600));
    let mut alerts = Alerts::new(policies.to_vec(), vec![receiver("ops", Warning)]);
    let refused = |second| finding(1, agent(&format!("a{second}")), Some(Warning), 1.0, at(second));
    let effects = alerts.step(at(0), vec![refused(0)]);
    assert_eq!(notified(&effects), ["RateLimited Firing a0"], "a single one is notified by itself");
    let effects = alerts.step(at(1), vec![refused(1), finding(0, cluster(), Some(Warning), 2.0, at(1))]);
    assert_eq!(notified(&effects), [""; 0], "AgentsLimited is pending");
    let effects = alerts.step(at(2), vec![refused(2), finding(0, cluster(), Some(Warning), 3.0, at(2))]);
    assert_eq!(notified(&effects), [""; 0]);
    assert_eq!(notified(&alerts.tick(at(4))), ["AgentsLimited Firing shop"]);
    let effects = alerts.step(at(60), vec![finding(0, cluster(), None, 0.0, at(60))]);
    assert_eq!(notified(&effects), [""; 0], "the others are still rate-limited");
    let over = (0..3).map(|second| finding(1, agent(&format!("a{second}")), None, 0.0, at(602)));
    assert_eq!(notified(&alerts.step(at(602), over.collect())), ["RateLimited Resolved a0"]);
    assert_eq!(notified(&alerts.tick(at(660))), ["AgentsLimited Resolved shop"]);

    // AgentsLimited resolves while pending: the agent that it inhibited is notified.
    let effects = alerts.step(at(2_000), vec![refused(2_000), finding(0, cluster(), Some(Warning), 2.0, at(2_000))]);
    assert_eq!(notified(&effects), [""; 0]);
    let effects = alerts.step(at(2_001), vec![finding(0, cluster(), None, 1.0, at(2_001))]);
    assert_eq!(notified(&effects), ["RateLimited Firing a2000"]);
}

#[test]
fn a_failing_source_inhibits_its_agents_until_it_resolves() {
    let mut alerts = family();
    let source = Subject::Source { name: "push".into() };
    let effects = alerts.step(at(0), vec![finding(0, source.clone(), Some(Warning), 30.0, at(0))]);
    assert_eq!(notified(&effects), ["SourceDown Firing push"]);
    let effects = alerts.step(
        at(30),
        vec![
            finding(3, agent("a"), Some(Warning), 60.0, at(30)),
            finding(2, agent("a"), Some(Error), 1.0, at(30)),
            finding(1, cluster(), Some(Warning), 1.0, at(30)),
            finding(6, cluster(), Some(Critical), 3.0, at(30)),
        ],
    );
    assert_eq!(notified(&effects), [""; 0]);
    assert_eq!(effects.suppressed, [("inhibited", 4)]);
    let effects = alerts.step(at(60), vec![finding(0, source, None, 0.0, at(60))]);
    assert_eq!(
        notified(&effects),
        ["SourceDown Resolved push", "AgentDown Firing a"],
        "what it no longer inhibits is notified"
    );
}

#[test]
fn an_alert_inhibits_nothing_for_a_receiver_that_is_not_notified_of_it() {
    let mut alerts = family();
    let policies = alerts.policies.iter().map(|policy| (**policy).clone()).collect();
    let lab = crate::model::Matchers::parse([("project", "shop")]).expect("a matcher");
    let routed = ReceiverPolicy { only: [lab].into(), ..receiver("shop", Warning) };
    alerts.configure(at(0), policies, vec![receiver("ops", Warning), receiver("oncall", Error), routed]);
    let source = Subject::Source { name: "push".into() };
    let notified_by_receiver = |effects: &AlertChanges| -> Vec<String> {
        let state = effects.notices.iter();
        state.map(|notice| format!("{}: {} {:?}", notice.receiver, notice.rule, notice.kind)).collect()
    };
    alerts.step(at(0), vec![finding(0, source.clone(), Some(Warning), 30.0, at(0))]);
    let effects = alerts.step(at(1), vec![finding(2, agent("a"), Some(Error), 1.0, at(1))]);
    assert_eq!(notified_by_receiver(&effects), ["oncall: AgentDown Firing", "shop: AgentDown Firing"]);
    // It escalates, and so inhibits for the second receiver as well; that one's earlier notifications stay firing.
    let effects = alerts.step(at(100), vec![finding(0, source.clone(), Some(Error), 300.0, at(100))]);
    assert_eq!(notified_by_receiver(&effects), ["ops: SourceDown Escalated", "oncall: SourceDown Firing"]);
    let effects = alerts.step(at(101), vec![finding(2, agent("b"), Some(Error), 1.0, at(101))]);
    assert_eq!(notified_by_receiver(&effects), ["shop: AgentDown Firing"]);
    // It de-escalates, and so inhibits nothing for the second receiver.
    let effects = alerts.step(at(200), vec![finding(0, source, Some(Warning), 30.0, at(200))]);
    assert_eq!(notified_by_receiver(&effects), ["oncall: AgentDown Firing"]);
    let effects = alerts.tick(at(300));
    assert_eq!(notified_by_receiver(&effects), ["ops: SourceDown Deescalated", "oncall: SourceDown Resolved"]);
    let downs = vec![finding(2, agent("a"), None, 0.0, at(400)), finding(2, agent("b"), None, 0.0, at(400))];
    let mut state = notified_by_receiver(&alerts.step(at(400), downs));
    state.sort();
    let twice = |state: &str| [state.to_owned(), state.to_owned()];
    assert_eq!(state, [twice("oncall: AgentDown Resolved"), twice("shop: AgentDown Resolved")].concat());
}

#[test]
fn cluster_health_is_notified_only_when_no_alert_inhibits_it() {
    let mut alerts = family();
    let component = Subject::Component { project: "shop".into(), name: "db".into() };
    let effects = alerts.step(
        at(0),
        vec![finding(6, cluster(), Some(Error), 2.0, at(0)), finding(5, component, Some(Error), 3.0, at(0))],
    );
    assert_eq!(notified(&effects), ["ComponentStatus Firing db"]);
}
