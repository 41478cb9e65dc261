//! Alerts after a restart: what the ledger was told is enough to go on as if nothing had happened.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Alert, Fingerprint, Notice};

/// Alerts and the ledger as it was told of them.
struct Kept {
    alerts: Alerts,
    ledger: HashMap<Fingerprint, Alert>,
    told: Vec<(i64, Notice)>,
}

impl Kept {
    fn new(policy: &RulePolicy) -> Self {
        Self { alerts: fresh(policy), ledger: HashMap::new(), told: Vec::new() }
    }

    fn note(&mut self, second: i64, effects: Effects) {
        self.ledger.extend(effects.changed.into_iter().map(|alert| (alert.fingerprint, alert)));
        for fingerprint in effects.forgotten {
            self.ledger.remove(&fingerprint);
        }
        self.told.extend(effects.notices.into_iter().map(|notice| (second, notice)));
    }

    fn until(&mut self, second: i64) {
        while let Some(due) = self.alerts.next_deadline().filter(|due| *due <= at(second)) {
            let now = due.max(at(0));
            let effects = self.alerts.tick(now);
            self.note((now.as_millis() - at(0).as_millis()) / 1000, effects);
        }
    }

    fn step(&mut self, second: i64, findings: Vec<Finding>) {
        self.until(second);
        let effects = self.alerts.step(at(second), findings);
        self.note(second, effects);
    }

    /// Forgets everything but the ledger, as the disk gives it back.
    fn restart(&mut self, second: i64, policy: &RulePolicy) {
        self.until(second);
        let counts = self.alerts.counts().clone();
        let text = serde_json::to_string(&self.ledger.values().collect::<Vec<_>>()).unwrap();
        self.alerts = fresh(policy);
        let rows: Vec<Alert> = serde_json::from_str(&text).unwrap();
        self.alerts.restore(at(second), rows, counts.raised, counts.fired, Duration::ZERO);
        let effects = self.alerts.end_unless(at(second), Ending::Forgotten, |_| true);
        assert!(effects.notices.is_empty(), "a restart tells nothing by itself");
        self.note(second, effects);
        assert_eq!((self.alerts.counts().raised, self.alerts.counts().fired), (counts.raised, counts.fired));
        assert_eq!(self.alerts.counts().active, counts.active);
    }

    /// What was told, whatever the order within a second; values are not kept up to date in the ledger.
    fn sorted(mut self) -> Vec<(i64, Notice)> {
        for (_, notice) in &mut self.told {
            (notice.value, notice.threshold) = (None, None);
        }
        self.told.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        self.told
    }
}

const CLASSES: [(&str, Class); 8] = [
    ("SourceDown", Class::SourceFailing),
    ("AgentsDown", Class::AgentsDown),
    ("AgentDown", Class::AgentDown),
    ("AgentStale", Class::AgentStale),
    ("Idle", Class::Agent),
    ("ClusterHealth", Class::ClusterHealth),
    ("AgentsLimited", Class::AgentsLimited),
    ("RateLimited", Class::AgentLimited),
];

fn policies(policy: &RulePolicy) -> Vec<RulePolicy> {
    CLASSES.map(|(name, class)| RulePolicy { name: name.into(), class, ..policy.clone() }).to_vec()
}

fn fresh(policy: &RulePolicy) -> Alerts {
    Alerts::new(policies(policy), vec![receiver("ops", Warning), receiver("oncall", Error)])
}

#[derive(Clone, Debug)]
struct Found {
    wait: u8,
    rule: u16,
    agent: u8,
    level: Option<Level>,
    value: Option<u8>,
    cleared: bool,
    source: bool,
    ends: bool,
}

impl Found {
    fn finding(&self, now: Time) -> Finding {
        let subject = match self.rule {
            0 => Subject::Source { name: if self.source { "push" } else { "poll" }.into() },
            1 | 5 | 6 => cluster(),
            _ => agent(&self.agent.to_string()),
        };
        let is_agent = matches!(subject, Subject::Agent { .. });
        Finding {
            source: is_agent.then(|| if self.source { "push" } else { "poll" }.into()),
            value: if self.level.is_some() {
                Some(f64::from(self.value.unwrap_or(1)))
            } else {
                self.value.map(f64::from)
            },
            cleared: self.level.is_none() && self.cleared,
            ending: (self.ends && self.level.is_none()).then_some(Ending::Removed),
            ..finding(self.rule, subject, self.level, 0.0, now)
        }
    }
}

fn history() -> impl Strategy<Value = Vec<Found>> {
    let level = prop_oneof![2 => Just(None), 1 => Just(Some(Info)), 2 => Just(Some(Warning)), 2 => Just(Some(Error)), 1 => Just(Some(Critical))];
    let one = (
        0..90u8,
        0..8u16,
        0..3u8,
        level,
        proptest::option::weighted(0.8, 0..4u8),
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(wait, rule, agent, level, value, cleared, source, ends)| Found {
            wait,
            rule,
            agent,
            level,
            value,
            cleared,
            source,
            ends,
        });
    proptest::collection::vec(one, 1..50)
}

fn run(history: &[Found], policy: &RulePolicy, restarts: impl Fn(usize) -> bool) -> Vec<(i64, Notice)> {
    let mut kept = Kept::new(policy);
    let mut second = 0;
    for (place, found) in history.iter().enumerate() {
        second += i64::from(found.wait);
        if restarts(place) {
            kept.restart(second, policy);
        }
        kept.step(second, vec![found.finding(at(second))]);
    }
    kept.until(second + 1_000);
    kept.sorted()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_is_enough_to_go_on_from(history in history(), hold in 0..50u64, clear_after in 0..50u64, place in 0..50usize) {
        let (hold, clear_after) = (Duration::from_secs(hold), Duration::from_secs(clear_after));
        let policy = RulePolicy { hold, clear_after, repeat: Some(Duration::from_secs(200)), ..policy() };
        let uninterrupted = run(&history, &policy, |_| false);
        prop_assert_eq!(&uninterrupted, &run(&history, &policy, |at| at == place), "restarted once");
        prop_assert_eq!(&uninterrupted, &run(&history, &policy, |_| true), "restarted before each finding");
    }
}

#[test]
fn what_a_restart_brings_back_explains_as_before() {
    let mut kept = Kept::new(&policy());
    kept.step(0, vec![finding(2, agent("a"), Some(Error), 1.0, at(0))]);
    kept.restart(5, &policy());
    kept.step(10, vec![finding(3, agent("a"), Some(Warning), 60.0, at(10))]);
    kept.restart(15, &policy());
    kept.step(20, vec![finding(4, agent("a"), Some(Critical), 60.0, at(20))]);
    let told: Vec<_> = kept.told.iter().map(|(second, notice)| (*second, &*notice.rule, &*notice.receiver)).collect();
    assert_eq!(told, [(0, "AgentDown", "ops"), (0, "AgentDown", "oncall")]);
    kept.restart(25, &policy());
    kept.step(30, vec![finding(2, agent("a"), None, 0.0, at(30)), finding(3, agent("a"), None, 0.0, at(30))]);
    let told: Vec<_> = kept.told.iter().skip(2).map(|(_, notice)| (&*notice.rule, notice.kind)).collect();
    assert_eq!(told.iter().filter(|it| **it == ("AgentDown", Resolved)).count(), 2);
    assert_eq!(told.iter().filter(|it| **it == ("Idle", Firing)).count(), 2, "nothing explains it any more");
}

#[test]
fn a_rule_that_is_about_something_else_now_explains_no_more() {
    let mut kept = Kept::new(&policy());
    kept.step(0, vec![finding(3, agent("a"), Some(Warning), 60.0, at(0))]);
    kept.step(1, vec![finding(4, agent("a"), Some(Warning), 60.0, at(1))]);
    assert_eq!(kept.told.len(), 1, "silence explains the rest");
    let mut other = policies(&policy());
    other[3].class = Class::Other;
    let effects = kept.alerts.configure(at(2), other, vec![receiver("ops", Warning), receiver("oncall", Error)]);
    assert_eq!(told(&effects), ["Idle Firing a"]);
}

#[test]
fn an_agent_that_another_source_took_over_is_explained_by_that_one() {
    let mut kept = Kept::new(&policy());
    let down = |source: &str, second| Finding {
        source: Some(source.into()),
        ..finding(2, agent("a"), Some(Error), 1.0, at(second))
    };
    kept.step(0, vec![finding(0, Subject::Source { name: "poll".into() }, Some(Error), 1.0, at(0))]);
    kept.step(1, vec![down("poll", 1)]);
    assert!(kept.told.iter().all(|(_, notice)| &*notice.rule == "SourceDown"));
    kept.step(2, vec![down("push", 2)]);
    assert_eq!(
        kept.told.iter().filter(|(_, notice)| &*notice.rule == "AgentDown").count(),
        2,
        "told when nothing explains it"
    );
}

#[test]
fn a_receiver_that_comes_is_told_and_one_that_goes_is_owed_nothing() {
    let mut kept = Kept::new(&policy());
    kept.step(0, vec![finding(4, agent("a"), Some(Error), 1.0, at(0))]);
    let both = vec![receiver("ops", Warning), receiver("new", Warning)];
    let effects = kept.alerts.configure(at(10), policies(&policy()), both);
    let told: Vec<_> = effects.notices.iter().map(|notice| (&*notice.receiver, notice.kind)).collect();
    assert_eq!(told, [("new", Firing)], "the one that stays was told already");
    kept.note(10, effects);
    kept.told.clear();
    kept.step(20, vec![finding(4, agent("a"), None, 0.0, at(20))]);
    let mut told: Vec<_> = kept.told.iter().map(|(_, notice)| (&*notice.receiver, notice.kind)).collect();
    told.sort_unstable_by_key(|(receiver, _)| *receiver);
    assert_eq!(told, [("new", Resolved), ("ops", Resolved)]);
}
