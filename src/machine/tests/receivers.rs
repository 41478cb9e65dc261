//! Alerts about receivers, and alerts whose rules move in the list, continue over restarts and reloads.

use super::*;
use crate::model::{DeliveryOutcome, DeliveryReceipt, DeliveryReport, NoticeKind, SendError, SendReason};

/// A simulation with two receivers, and these rules on top of the built-in ones.
fn two_receivers(text: &str) -> Simulation {
    let receivers = ["slack", "mail"].map(|name| ReceiverPolicy::new(name, Level::Info)).to_vec();
    let settings = Lasting { fleet: settings(), receivers, incidents: IncidentPolicy::default() };
    Simulation::new(at(0), Setup { rules: rule_set(text), settings })
}

/// Kind, rule and receiver of each notice so far.
fn sent(simulation: &Simulation) -> Vec<String> {
    let line = |notice: &std::sync::Arc<crate::model::Notice>| {
        let what = if notice.kind == NoticeKind::Resolved { "over" } else { notice.level.as_str() };
        format!("{what} {} {}", notice.rule, notice.receiver)
    };
    simulation.notices().iter().map(line).collect()
}

#[test]
fn a_receiver_that_still_fails_after_a_restart_is_the_same_alert() {
    let mut simulation = two_receivers("rules: []");
    let error = SendError::transient(SendReason::Connect, "refused".to_owned());
    let failed = DeliveryReport::Failed { receiver: "slack".into(), error, notices: Vec::new(), at: at(0) };
    simulation.take(MachineEvent::Delivery(&failed));
    simulation.take(MachineEvent::Observed(SidecarObservation::default()));
    simulation.advance(at(400)).expect("no limit");
    let before = sent(&simulation);
    assert!(!before.is_empty() && before.iter().all(|line| line.ends_with("ReceiverFailing mail")), "{before:?}");
    simulation.restart(at(500));
    simulation.advance(at(501)).expect("no limit");
    assert_eq!(sent(&simulation), before, "the same alert continues");
    assert_eq!(simulation.open().len(), 1);
    let outcome = DeliveryOutcome { receiver: "slack".into(), notices: Vec::new(), at: at(510) };
    simulation.take(MachineEvent::Delivery(&DeliveryReport::Delivered(outcome, DeliveryReceipt::default())));
    simulation.take(MachineEvent::Observed(SidecarObservation::default()));
    simulation.advance(at(511)).expect("no limit");
    assert_eq!(
        (sent(&simulation).last().map(String::as_str), simulation.open().len()),
        (Some("over ReceiverFailing mail"), 0)
    );
}

#[test]
fn changes_by_a_reload_are_notified_under_their_own_rule() {
    let mut simulation = two_receivers("rules: []");
    let expected = vec![ExpectedConfig { project: "shop".into(), agents: vec!["boss".into()], count: None }];
    let mut settings = simulation.settings.clone();
    settings.fleet.expected = expected;
    simulation.settings = settings;
    // Rules that come first move all others.
    let first: String = (0..3)
        .map(|n| format!("  - {{name: A{n}, for_each: agent, signal: restarts, when: at_least, levels: {{error: {}}}, summary: s}}\n", n + 1))
        .collect();
    simulation.reload(rule_set(&format!("rules:\n{first}")));
    simulation.advance(at(60)).expect("no limit");
    let lines = sent(&simulation);
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(" AgentMissing ")), "{lines:?}");
}
