//! Incidents: many alerts of one rule are notified as one, and one by one when few are left.

use super::*;
use crate::model::{Audience, Incident};

fn fleet(agents: usize, receivers: Vec<ReceiverPolicy>) -> Alerts {
    let mut alerts = Alerts::new(vec![policy()], receivers);
    alerts.set_agents(agents);
    alerts
}

fn all(range: std::ops::Range<usize>, level: Option<Level>, seconds: i64) -> Vec<Finding> {
    range.map(|n| finding(0, agent(&format!("a{n}")), level, 2.0, at(seconds))).collect()
}

fn parts(effects: &AlertChanges) -> Vec<Option<Incident>> {
    let mut parts: Vec<_> = effects.notices.iter().map(|notice| notice.part_of).collect();
    parts.dedup();
    parts
}

#[test]
fn a_share_of_the_fleet_of_at_least_ten_is_an_incident() {
    for (agents, firing, is_incident) in
        [(20, 9, false), (20, 10, true), (100, 29, false), (100, 30, true), (10_000, 250, false), (10_000, 251, true)]
    {
        let mut alerts = fleet(agents, vec![receiver("ops", Warning)]);
        let effects = alerts.step(at(0), all(0..firing, Some(Warning), 0));
        let part = Incident { firing: firing as u32, agents: agents as u32 };
        assert_eq!(effects.notices.len(), firing);
        assert_eq!(parts(&effects), [is_incident.then_some(part)], "{firing} of {agents}");
    }
}

#[test]
fn after_an_incident_each_firing_alert_is_notified_once_its_cooldown_has_passed() {
    let mut alerts = fleet(1_000, vec![receiver("ops", Warning)]);
    alerts.step(at(0), all(0..400, Some(Warning), 0));
    let recovering = alerts.step(at(30), all(0..200, None, 30));
    assert_eq!(parts(&recovering), [Some(Incident { firing: 200, agents: 1_000 })]);
    let broken_up = alerts.step(at(40), all(200..395, None, 40));
    let rest = Some(Incident { firing: 5, agents: 1_000 });
    assert_eq!(
        (broken_up.notices.len(), parts(&broken_up)),
        (195, vec![rest]),
        "what was notified as part of the incident resolves as part of it"
    );
    assert!(broken_up.notices.iter().all(|notice| notice.kind == Resolved));
    let left = alerts.tick(at(60));
    let mut names: Vec<&str> = left.notices.iter().map(|notice| &**notice.subject.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a395", "a396", "a397", "a398", "a399"]);
    assert!(left.notices.iter().all(|notice| notice.kind == Repeat && notice.part_of.is_none()));
    assert!(alerts.tick(at(70)).notices.is_empty(), "once");
}

#[test]
fn programs_get_each_alert_and_no_incident() {
    let program = ReceiverPolicy { audience: Audience::Program, ..receiver("hook", Warning) };
    let mut alerts = fleet(100, vec![program]);
    let effects = alerts.step(at(0), all(0..100, Some(Warning), 0));
    assert_eq!((effects.notices.len(), parts(&effects)), (100, vec![None]));
    let effects = alerts.step(at(70), all(0..95, None, 70));
    assert!(effects.notices.iter().all(|notice| notice.kind == Resolved));
    assert_eq!(
        alerts.announce(at(80), "stop", "ann stopped the monitoring").notices.len(),
        1,
        "there is no other receiver"
    );
}

#[test]
fn the_size_of_an_incident_is_configurable() {
    let mut alerts = fleet(100, vec![receiver("ops", Warning)]);
    alerts.set_incidents(crate::alerts::IncidentPolicy { share: 0.05, least: 3, most: 250 });
    let effects = alerts.step(at(0), all(0..5, Some(Warning), 0));
    assert_eq!(parts(&effects), [Some(Incident { firing: 5, agents: 100 })]);
}
