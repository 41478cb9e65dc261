//! Alerts after a restart: those restored from the ledger behave as if there had been none.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Alert, Ending, Fingerprint, Notice, ReceiverState};

/// Alerts, and the ledger that they were written to.
struct RestoredAlerts {
    alerts: Alerts,
    ledger: HashMap<Fingerprint, Alert>,
    notified: Vec<(i64, Notice)>,
}

impl RestoredAlerts {
    fn new(policy: &RulePolicy) -> Self {
        Self { alerts: fresh(policy), ledger: HashMap::new(), notified: Vec::new() }
    }

    fn note(&mut self, second: i64, effects: AlertChanges) {
        self.ledger.extend(effects.changed.into_iter().map(|alert| (alert.fingerprint, alert)));
        for fingerprint in effects.dropped {
            self.ledger.remove(&fingerprint);
        }
        self.notified.extend(effects.notices.into_iter().map(|notice| (second, notice)));
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

    /// Restores the alerts from the serialized ledger.
    fn restart(&mut self, second: i64, policy: &RulePolicy) {
        self.until(second);
        let counts = self.alerts.counts().clone();
        let text = serde_json::to_string(&self.ledger.values().collect::<Vec<_>>()).unwrap();
        self.alerts = fresh(policy);
        let rows: Vec<Alert> = serde_json::from_str(&text).unwrap();
        self.alerts.restore(at(second), rows, counts.raised, counts.fired, Duration::ZERO);
        let effects = self.alerts.end_unless(at(second), Ending::Expired, |_| true);
        assert!(effects.notices.is_empty(), "a restart alone notifies nothing");
        self.note(second, effects);
        assert_eq!((self.alerts.counts().raised, self.alerts.counts().fired), (counts.raised, counts.fired));
        assert_eq!(self.alerts.counts().active, counts.active);
    }

    /// The notices in a fixed order within each second, without values: the ledger does not keep those up to date.
    fn sorted(mut self) -> Vec<(i64, Notice)> {
        for (_, notice) in &mut self.notified {
            (notice.value, notice.threshold) = (None, None);
        }
        self.notified.sort_by(|a, b| (a.0, &a.1.key).cmp(&(b.0, &b.1.key)));
        self.notified
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
struct GeneratedFinding {
    wait: u8,
    rule: u16,
    agent: u8,
    level: Option<Level>,
    value: Option<u8>,
    cleared: bool,
    source: bool,
    ends: bool,
}

impl GeneratedFinding {
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

fn history() -> impl Strategy<Value = Vec<GeneratedFinding>> {
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
        .prop_map(|(wait, rule, agent, level, value, cleared, source, ends)| GeneratedFinding {
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

fn run(history: &[GeneratedFinding], policy: &RulePolicy, restarts: impl Fn(usize) -> bool) -> Vec<(i64, Notice)> {
    let mut kept = RestoredAlerts::new(policy);
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
    fn alerts_restored_from_the_ledger_notify_as_if_there_was_no_restart(history in history(), hold in 0..50u64, clear_after in 0..50u64, place in 0..50usize) {
        let (hold, clear_after) = (Duration::from_secs(hold), Duration::from_secs(clear_after));
        let policy = RulePolicy { hold, clear_after, repeat: Some(Duration::from_secs(200)), ..policy() };
        let uninterrupted = run(&history, &policy, |_| false);
        prop_assert_eq!(&uninterrupted, &run(&history, &policy, |at| at == place), "restarted once");
        prop_assert_eq!(&uninterrupted, &run(&history, &policy, |_| true), "restarted before each finding");
    }
}

#[test]
fn restored_alerts_inhibit_as_before() {
    let mut kept = RestoredAlerts::new(&policy());
    kept.step(0, vec![finding(2, agent("a"), Some(Error), 1.0, at(0))]);
    kept.restart(5, &policy());
    kept.step(10, vec![finding(3, agent("a"), Some(Warning), 60.0, at(10))]);
    kept.restart(15, &policy());
    kept.step(20, vec![finding(4, agent("a"), Some(Critical), 60.0, at(20))]);
    let notified: Vec<_> =
        kept.notified.iter().map(|(second, notice)| (*second, &*notice.rule, &*notice.receiver)).collect();
    assert_eq!(notified, [(0, "AgentDown", "ops"), (0, "AgentDown", "oncall")]);
    kept.restart(25, &policy());
    kept.step(30, vec![finding(2, agent("a"), None, 0.0, at(30)), finding(3, agent("a"), None, 0.0, at(30))]);
    let notified: Vec<_> = kept.notified.iter().skip(2).map(|(_, notice)| (&*notice.rule, notice.kind)).collect();
    assert_eq!(notified.iter().filter(|it| **it == ("AgentDown", Resolved)).count(), 2);
    assert_eq!(notified.iter().filter(|it| **it == ("Idle", Firing)).count(), 2, "nothing inhibits it any more");
}

#[test]
fn a_rule_whose_class_changed_inhibits_no_more() {
    let mut kept = RestoredAlerts::new(&policy());
    kept.step(0, vec![finding(3, agent("a"), Some(Warning), 60.0, at(0))]);
    kept.step(1, vec![finding(4, agent("a"), Some(Warning), 60.0, at(1))]);
    assert_eq!(kept.notified.len(), 1, "AgentStale inhibits the other");
    let mut other = policies(&policy());
    other[3].class = Class::Other;
    let effects = kept.alerts.configure(at(2), other, vec![receiver("ops", Warning), receiver("oncall", Error)]);
    assert_eq!(notified(&effects), ["Idle Firing a"]);
}

#[test]
fn an_agent_is_inhibited_by_the_source_that_reports_it_now() {
    let mut kept = RestoredAlerts::new(&policy());
    let down = |source: &str, second| Finding {
        source: Some(source.into()),
        ..finding(2, agent("a"), Some(Error), 1.0, at(second))
    };
    kept.step(0, vec![finding(0, Subject::Source { name: "poll".into() }, Some(Error), 1.0, at(0))]);
    kept.step(1, vec![down("poll", 1)]);
    assert!(kept.notified.iter().all(|(_, notice)| &*notice.rule == "SourceDown"));
    kept.step(2, vec![down("push", 2)]);
    assert_eq!(
        kept.notified.iter().filter(|(_, notice)| &*notice.rule == "AgentDown").count(),
        2,
        "notified when nothing inhibits it"
    );
}

#[test]
fn an_added_receiver_is_notified_and_nothing_is_due_to_a_removed_one() {
    let mut kept = RestoredAlerts::new(&policy());
    kept.step(0, vec![finding(4, agent("a"), Some(Error), 1.0, at(0))]);
    let both = vec![receiver("ops", Warning), receiver("new", Warning)];
    let effects = kept.alerts.configure(at(10), policies(&policy()), both);
    let notified: Vec<_> = effects.notices.iter().map(|notice| (&*notice.receiver, notice.kind)).collect();
    assert_eq!(notified, [("new", Firing)], "the one that stays was notified already");
    kept.note(10, effects);
    kept.notified.clear();
    kept.step(20, vec![finding(4, agent("a"), None, 0.0, at(20))]);
    let mut notified: Vec<_> = kept.notified.iter().map(|(_, notice)| (&*notice.receiver, notice.kind)).collect();
    notified.sort_unstable_by_key(|(receiver, _)| *receiver);
    assert_eq!(notified, [("new", Resolved), ("ops", Resolved)]);
}

#[test]
fn alerts_saved_under_former_names_are_read() {
    let state = ReceiverState {
        level: Some(Level::Error),
        deescalated_since: Some(at(5)),
        in_incident: true,
        ..ReceiverState::default()
    };
    let alert = Alert {
        inhibited_by: Some("AgentDown".into()),
        ending: Some(Ending::Expired),
        receivers: [("ops".into(), state)].into(),
        ..Alert::new("Rule".into(), agent("a"), Level::Warning, at(0), at(0))
    };
    let mut former = serde_json::to_string(&alert).unwrap();
    for (name, former_name) in [
        ("inhibited_by", "explained_by"),
        ("expired", "forgotten"),
        ("receivers", "told"),
        ("deescalated_since", "lowered_since"),
        ("in_incident", "folded"),
    ] {
        let (name, former_name) = (format!("\"{name}\""), format!("\"{former_name}\""));
        assert_eq!(former.matches(&name).count(), 1, "{name}");
        former = former.replace(&name, &former_name);
    }
    assert_eq!(serde_json::from_str::<Alert>(&former).unwrap(), alert);
}
