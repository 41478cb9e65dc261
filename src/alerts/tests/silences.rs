//! Silences, acknowledgements, quiet hours, routes and `after`: what they suppress, and what they never do.

use super::*;
use crate::model::{Audience, Fingerprint, Matchers, QuietHours, Silence, Suppressed, TimelineEvent};

/// A silence of one agent.
pub(super) fn silence(number: usize, name: &str, from: i64, until: i64) -> Silence {
    Silence {
        id: format!("s{number}").into(),
        matchers: Matchers::parse([("agent_name", name)]).unwrap(),
        starts_at: at(from),
        ends_at: at(until),
        created_by: "ann".into(),
        comment: "planned".into(),
    }
}

fn silenced(story: &mut Story, from: i64, until: i64) -> AlertChanges {
    let effects = story.alerts.silence(at(from), silence(0, "a", from, until)).unwrap();
    story.note(from, &effects);
    effects
}

fn acknowledge(story: &mut Story, seconds: i64) -> AlertChanges {
    story.until(seconds);
    let effects = story.alerts.acknowledge(at(seconds), Fingerprint::of("Rule", &agent("a")), "ann", "mine").unwrap();
    story.note(seconds, &effects);
    effects
}

use NoticeKind::Announcement;

#[test]
fn a_silence_suppresses_firing_and_its_end_notifies_what_still_fires() {
    let mut story = Story::new(policy());
    let effects = silenced(&mut story, 0, 600);
    assert_eq!(effects.silences.len(), 1);
    assert_eq!(&*effects.notices[0].message, "ann silenced agent_name=a until 01:56 UTC: \"planned\"");
    story.level(10, Some(Warning)).level(20, Some(Critical)).until(599).notified(&[(0, Announcement, Info)]);
    story.until(600).notified(&[(0, Announcement, Info), (600, Firing, Critical)]);
    assert!(story.alerts.silences().is_empty());
}

#[test]
fn a_resolve_is_sent_through_a_silence() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning));
    silenced(&mut story, 10, 6_000);
    story.level(20, None).level(100, Some(Warning)).level(110, None).until(9_000);
    story.notified(&[(0, Firing, Warning), (10, Announcement, Info), (20, Resolved, Warning)]);
}

#[test]
fn expiring_a_silence_early_notifies_at_once() {
    let mut story = Story::new(policy());
    silenced(&mut story, 0, 6_000);
    story.level(10, Some(Warning));
    let effects = story.alerts.unsilence(at(30), "s0", "bob").unwrap();
    assert_eq!(effects.silences_over, [Arc::from("s0")]);
    story.note(30, &effects);
    story.notified(&[(0, Announcement, Info), (30, Announcement, Info), (30, Firing, Warning)]);
    assert!(story.alerts.unsilence(at(31), "s0", "bob").is_err());
}

#[test]
fn a_future_silence_and_one_for_others_suppress_nothing() {
    let mut story = Story::new(policy());
    story.alerts.silence(at(0), silence(0, "a", 100, 200)).unwrap();
    story.alerts.silence(at(0), silence(1, "b*", 0, 9_000)).unwrap();
    story.level(50, Some(Warning)).level(99, None).level(150, Some(Error)).until(199);
    story.notified(&[(50, Firing, Warning), (99, Resolved, Warning)]);
    story.until(200).notified(&[(50, Firing, Warning), (99, Resolved, Warning), (200, Firing, Error)]);
}

#[test]
fn invalid_silences_are_rejected() {
    let mut story = Story::new(policy());
    for (from, until) in [(100, 100), (0, 10), (50, 400 * 86_400)] {
        assert!(story.alerts.silence(at(50), silence(0, "a", from, until)).is_err(), "{from} {until}");
    }
    for number in 0..super::super::MAX_SILENCES {
        story.alerts.silence(at(50), silence(number, "a", 60, 70)).unwrap();
    }
    assert!(story.alerts.silence(at(50), silence(9_999, "a", 60, 70)).is_err());
    assert!(story.alerts.silence(at(50), silence(7, "a", 60, 80)).is_ok(), "a known one may be changed");
}

#[test]
fn an_acknowledged_alert_is_not_repeated_until_it_escalates_or_resolves() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning));
    let effects = acknowledge(&mut story, 100);
    assert_eq!(&*effects.notices[0].message, "ann acknowledged Rule on shop/a: \"mine\"");
    let notified = [(0, Firing, Warning), (100, Announcement, Info)];
    story.until(40_000).notified(&notified);
    story.level(40_000, Some(Error));
    story.notified(&[notified.as_slice(), &[(40_000, Escalated, Error)]].concat());
    // A higher level than the acknowledged one is notified.
    story.until(40_000 + 4 * 3600).level(60_000, None).level(60_100, Some(Warning));
    assert_eq!(
        story.notified[3..],
        [(54_400, Repeat, Error), (60_000, Resolved, Error), (60_100, Firing, Warning)],
        "an acknowledgement ends with the alert"
    );
    assert!(story.alerts.acknowledge(at(1), Fingerprint(7), "ann", "").is_err());
}

#[test]
fn a_receiver_with_after_is_notified_only_of_alerts_unacknowledged_for_that_long() {
    let oncall = ReceiverPolicy { after: Duration::from_secs(900), ..receiver("oncall", Error) };
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![receiver("ops", Warning), oncall.clone()]);
    story.level(0, Some(Error)).until(899).notified(&[(0, Firing, Error)]);
    story.until(900).notified(&[(0, Firing, Error), (900, Firing, Error)]);
    // It began long before it was noticed: it could not have been acknowledged in time.
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![oncall.clone()]);
    let long_ago = Finding { since: at(0), ..finding(0, agent("a"), Some(Error), 1.0, at(5_000)) };
    let effects = story.alerts.step(at(5_000), vec![long_ago]);
    story.note(5_000, &effects);
    story.until(5_899).notified(&[]);
    story.until(5_900).notified(&[(5_900, Firing, Error)]);
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![oncall]);
    story.level(0, Some(Error));
    acknowledge(&mut story, 300);
    story.until(9_000).notified(&[(300, Announcement, Info)]);
    story.level(9_000, Some(Critical)).notified(&[(300, Announcement, Info), (9_000, Firing, Critical)]);
}

#[test]
fn quiet_hours_suppress_and_their_end_notifies() {
    // The story begins at 01:46:40 UTC.
    let quiet: QuietHours = serde_json::from_str(r#"{"from": "01:00", "to": "02:00"}"#).unwrap();
    let night = ReceiverPolicy { quiet: Arc::from([quiet.clone()]), ..receiver("ops", Warning) };
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![night]);
    story.level(0, Some(Warning)).until(799).notified(&[]);
    story.until(800).notified(&[(800, Firing, Warning)]);
    let mut story = Story::new(RulePolicy { quiet: Arc::from([quiet]), ..policy() });
    story.level(0, Some(Warning)).until(799).notified(&[]);
    story.level(799, Some(Critical)).until(2_000).notified(&[(799, Firing, Critical)]);
}

#[test]
fn a_route_suppresses_other_alerts_but_not_the_resolve_of_earlier_ones() {
    let only = |name: &str| ReceiverPolicy {
        only: Arc::from([Matchers::parse([("agent_name", name), ("level", "warning")]).unwrap()]),
        ..receiver("ops", Warning)
    };
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![only("b")]);
    story.level(0, Some(Warning)).until(5_000).notified(&[]);
    let effects = story.alerts.configure(at(5_000), vec![policy()], vec![only("a")]);
    story.note(5_000, &effects);
    let effects = story.alerts.configure(at(5_100), vec![policy()], vec![only("b")]);
    story.note(5_100, &effects);
    story.level(5_200, None).notified(&[(5_000, Firing, Warning), (5_200, Resolved, Warning)]);
    let except = ReceiverPolicy { except: only("a").only, ..receiver("ops", Warning) };
    let mut story = Story::new(policy());
    story.alerts = Alerts::new(vec![policy()], vec![except]);
    story.level(0, Some(Warning)).level(10, Some(Error)).notified(&[(10, Firing, Error)]);
}

#[test]
fn a_receiver_is_not_notified_of_alerts_about_itself() {
    let mut alerts = Alerts::new(vec![policy()], vec![receiver("ops", Warning), receiver("mail", Warning)]);
    let subject = crate::model::Subject::Receiver { name: "ops".into() };
    let effects = alerts.step(at(0), vec![finding(0, subject, Some(Error), 1.0, at(0))]);
    let notified: Vec<&str> = effects.notices.iter().map(|notice| &*notice.receiver).collect();
    assert_eq!(notified, ["mail"]);
}

#[test]
fn every_decision_is_recorded_with_its_reason_and_counted() {
    let mut story = Story::new(policy());
    silenced(&mut story, 0, 600);
    let effects = story.alerts.step(at(10), vec![finding(0, agent("a"), Some(Warning), 7.0, at(10))]);
    assert_eq!(effects.suppressed, [("silenced", 1)]);
    let events: Vec<&TimelineEvent> = effects.timeline.iter().map(|entry| &entry.event).collect();
    let suppressed = Suppressed::Silenced { silence: "s0".into(), by: "ann".into(), until: at(600) };
    assert_eq!(
        events,
        [&TimelineEvent::Firing, &TimelineEvent::Suppressed { receiver: "ops".into(), suppressed: suppressed.clone() }]
    );
    assert_eq!((effects.timeline[1].value, effects.timeline[1].threshold), (Some(7.0), Some(1.0)));
    let (_, statuses) = story.alerts.notification_statuses(at(20), Fingerprint::of("Rule", &agent("a"))).unwrap();
    assert_eq!((statuses[0].notified, statuses[0].suppressed.as_ref()), (None, Some(&suppressed)));
    // The same reason is recorded once.
    let again = story.alerts.step(at(30), vec![finding(0, agent("a"), Some(Error), 7.0, at(30))]);
    let events: Vec<&TimelineEvent> = again.timeline.iter().map(|entry| &entry.event).collect();
    assert_eq!((events, again.suppressed.len()), (vec![&TimelineEvent::Level { from: Warning }], 0));
}

#[test]
fn silences_and_acknowledgements_survive_a_restart() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning));
    let kept = acknowledge(&mut story, 10).changed;
    let text = serde_json::to_string(&kept).unwrap();
    let mut after = Story::new(policy());
    after.alerts.restore_silences(vec![silence(0, "b", 0, 500)]);
    after.alerts.restore(at(20), serde_json::from_str(&text).unwrap(), [0; 4], 0, Duration::ZERO);
    after.until(30_000).notified(&[]);
    let mut after = Story::new(policy());
    after.alerts.restore_silences(vec![silence(0, "a", 0, 500)]);
    after.level(20, Some(Warning)).until(500).notified(&[(500, Firing, Warning)]);
}

#[test]
fn announcements_go_to_programs_where_no_receiver_is_for_people() {
    let program = |name| ReceiverPolicy { audience: Audience::Program, ..receiver(name, Critical) };
    for (receivers, expected) in [
        (vec![program("hook"), program("am")], vec!["hook", "am"]),
        (vec![program("hook"), receiver("ops", Warning)], vec!["ops"]),
        (vec![], vec![]),
    ] {
        let mut alerts = Alerts::new(vec![policy()], receivers);
        let effects = alerts.silence(at(0), silence(0, "a", 0, 600)).unwrap();
        let notified: Vec<&str> = effects.notices.iter().map(|notice| &*notice.receiver).collect();
        assert_eq!(notified, expected);
        assert_eq!(effects.announcements.len(), 1, "it is logged for any receiver");
        let effects = alerts.announce(at(1), "monitoring", "ann paused the monitoring");
        assert_eq!(effects.notices.len(), expected.len());
    }
}

#[test]
fn each_extension_of_a_silence_and_of_an_acknowledgement_is_announced() {
    let mut story = Story::new(policy());
    silenced(&mut story, 0, 600);
    silenced(&mut story, 10, 6_000);
    story.notified(&[(0, Announcement, Info), (10, Announcement, Info)]);
    let mut story = Story::new(policy());
    story.level(0, Some(Warning));
    acknowledge(&mut story, 100);
    acknowledge(&mut story, 200);
    story.notified(&[(0, Firing, Warning), (100, Announcement, Info), (200, Announcement, Info)]);
}

#[test]
fn a_pause_suppresses_all_but_announcements_and_its_end_sends_what_is_due() {
    let mut story = Story::new(policy());
    story.level(0, Some(Warning));
    let effects = story.alerts.set_paused(at(10), true);
    assert!(effects.notices.is_empty());
    // Nothing is sent: no escalation, no resolve, no removal.
    story.level(20, Some(Critical));
    let effects = story.alerts.end_unless(at(30), Ending::Expired, |_| false);
    story.note(30, &effects);
    silenced(&mut story, 40, 50);
    story.until(9_000).notified(&[(0, Firing, Warning), (40, Announcement, Info)]);
    let effects = story.alerts.set_paused(at(9_000), false);
    story.note(9_000, &effects);
    story.notified(&[(0, Firing, Warning), (40, Announcement, Info), (9_000, Resolved, Critical)]);
    let mut story = Story::new(policy());
    story.alerts.set_paused(at(0), true);
    story.level(0, Some(Warning)).until(500).notified(&[]);
    let (_, statuses) = story.alerts.notification_statuses(at(500), Fingerprint::of("Rule", &agent("a"))).unwrap();
    assert_eq!(statuses[0].suppressed, Some(Suppressed::Paused));
    let effects = story.alerts.set_paused(at(500), false);
    story.note(500, &effects);
    story.notified(&[(500, Firing, Warning)]);
}
