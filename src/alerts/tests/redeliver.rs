//! Failed deliveries: notifications are due again at exact times or once there is room, and none is lost.

use super::*;
use crate::model::{Notice, Suppressed};

/// Alerts of agents `a0` to `an`, all of which fire at `level`.
fn firing(alerts: &mut Alerts, seconds: i64, agents: usize, level: Level) -> Vec<Arc<Notice>> {
    let found = (0..agents).map(|n| finding(0, agent(&format!("a{n}")), Some(level), 2.0, at(seconds))).collect();
    notices(&alerts.step(at(seconds), found))
}

fn notices(effects: &AlertChanges) -> Vec<Arc<Notice>> {
    effects.notices.iter().cloned().map(Arc::new).collect()
}

/// Serves deadlines up to `seconds`; each notice with its second.
fn until(alerts: &mut Alerts, seconds: i64) -> Vec<(i64, Arc<Notice>)> {
    let mut notified = Vec::new();
    while let Some(due) = alerts.next_deadline().filter(|due| *due <= at(seconds)) {
        let due = due.max(at(0));
        let second = (due.as_millis() - at(0).as_millis()) / 1000;
        notified.extend(notices(&alerts.tick(due)).into_iter().map(|notice| (second, notice)));
    }
    notified
}

fn ops() -> Alerts {
    Alerts::new(vec![policy()], vec![receiver("ops", Warning)])
}

#[test]
fn a_dead_lettered_alert_that_still_fires_is_notified_again_with_another_key() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    let effects = alerts.dead_lettered(at(4_000), &first, false);
    assert!(effects.notices.is_empty() && !effects.changed.is_empty(), "the ledger records it");
    let standing = &alerts.notification_statuses(at(4_000), first[0].fingerprint).unwrap().1[0];
    assert_eq!((standing.notified, &standing.suppressed), (None, &Some(Suppressed::Undelivered { until: at(4_300) })));
    let notified = until(&mut alerts, 4_300);
    assert_eq!((notified.len(), notified[0].0, notified[0].1.kind), (1, 4_300, Firing));
    assert_ne!(notified[0].1.key, first[0].key);
    // It may be dead-lettered again; once delivered, it is not repeated.
    let again = [Arc::clone(&notified[0].1)];
    alerts.dead_lettered(at(8_000), &again, false);
    let notified = until(&mut alerts, 9_000);
    assert_eq!((notified.len(), notified[0].0), (1, 8_300));
    alerts.delivered(&[Arc::clone(&notified[0].1)]);
    assert!(until(&mut alerts, 20_000).is_empty());
}

#[test]
fn a_rejected_message_is_retried_with_back_off() {
    let mut alerts = ops();
    let mut last = firing(&mut alerts, 0, 1, Warning);
    let mut pauses = Vec::new();
    let mut now = 0;
    for _ in 0..6 {
        alerts.dead_lettered(at(now), &last, true);
        let notified = until(&mut alerts, now + 4_000);
        pauses.push(notified[0].0 - now);
        now = notified[0].0;
        last = vec![Arc::clone(&notified[0].1)];
    }
    assert_eq!(pauses, [300, 600, 1_200, 2_400, 3_600, 3_600]);
}

#[test]
fn after_a_dead_letter_an_escalation_is_sent_at_once_and_a_resolve_never() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    alerts.dead_lettered(at(100), &first, false);
    let worse = firing(&mut alerts, 110, 1, Critical);
    assert_eq!((worse.len(), worse[0].kind, worse[0].level), (1, Firing, Critical), "nothing was delivered yet");
    alerts.dead_lettered(at(120), &worse, false);
    let over = alerts.step(at(130), vec![finding(0, agent("a0"), None, 0.0, at(130))]);
    assert!(over.notices.is_empty(), "it was never notified as firing");
    assert!(until(&mut alerts, 90_000).is_empty());
    assert_eq!(alerts.by_fingerprint.len(), 0, "it is dropped");
}

#[test]
fn a_dead_lettered_resolve_stays_due_for_a_day() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    alerts.delivered(&first);
    let mut last = notices(&alerts.step(at(100), vec![finding(0, agent("a0"), None, 0.0, at(100))]));
    let mut attempts = 0;
    let mut now = 100;
    loop {
        assert_eq!(last[0].kind, Resolved);
        alerts.dead_lettered(at(now), &last, false);
        let notified = until(&mut alerts, now + 301);
        let Some((second, notice)) = notified.first() else { break };
        (now, attempts) = (*second, attempts + 1);
        last = vec![Arc::clone(notice)];
    }
    // The resolve is due again, though the alert itself was dropped ten minutes after it resolved.
    assert!((86_000..87_000).contains(&now) && attempts > 200, "{now} {attempts}");
    until(&mut alerts, 200_000);
    assert_eq!(alerts.by_fingerprint.len(), 0);
}

#[test]
fn a_newer_pending_notice_is_not_undone() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    let second = firing(&mut alerts, 10, 1, Critical);
    assert_eq!(second[0].kind, Escalated);
    assert!(alerts.dead_lettered(at(20), &first, false).is_empty());
    assert!(until(&mut alerts, 4_000).is_empty());
}

#[test]
fn deferred_alerts_are_sent_highest_level_first_once_there_is_room() {
    let mut alerts = ops();
    let warnings = firing(&mut alerts, 0, 10, Warning);
    let worst = alerts.step(at(1), vec![finding(0, agent("b"), Some(Critical), 2.0, at(1))]);
    alerts.defer(at(2), &warnings);
    alerts.defer(at(2), &notices(&worst));
    assert_eq!(alerts.deferred().map(|(_, count)| count).sum::<usize>(), 11);
    assert!(until(&mut alerts, 10_000).is_empty(), "it is deferred until there is room");
    // What resolved meanwhile is not notified.
    alerts.step(at(10_000), vec![finding(0, agent("a0"), None, 0.0, at(10_000))]);
    let released = alerts.make_room(at(10_001), "ops", 3);
    assert_eq!(released.notices.len(), 3);
    assert_eq!(released.notices.iter().filter(|notice| notice.level == Critical).count(), 1, "the highest level first");
    let rest = alerts.make_room(at(10_002), "ops", 100);
    assert!((6..=7).contains(&rest.notices.len()), "{}", rest.notices.len());
    assert_eq!(alerts.deferred().count(), 0);
    assert!(alerts.make_room(at(10_003), "ops", 100).is_empty());
}

#[test]
fn deferred_alerts_are_due_after_a_restart_and_dead_lettered_ones_after_a_reload() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    let kept = serde_json::to_string(&alerts.defer(at(1), &first).changed).unwrap();
    let mut after = ops();
    after.restore(at(100), serde_json::from_str(&kept).unwrap(), [0; 4], 1, Duration::ZERO);
    assert_eq!(until(&mut after, 100).len(), 1);
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 1, Warning);
    alerts.dead_lettered(at(100), &first, true);
    let effects = alerts.configure(at(101), vec![policy()], vec![receiver("ops", Warning)]);
    assert_eq!(effects.notices.len(), 1, "the receiver may have been fixed");
}

#[test]
fn an_unreadable_notice_is_due_again() {
    let mut alerts = ops();
    let first = firing(&mut alerts, 0, 2, Warning);
    alerts.lost("ops", first[0].fingerprint, &first[0].key);
    alerts.lost("ops", first[1].fingerprint, "of another alert");
    let notified = until(&mut alerts, 100);
    assert_eq!((notified.len(), notified[0].1.fingerprint), (1, first[0].fingerprint));
    let over = alerts.step(at(200), vec![finding(0, agent("a0"), None, 0.0, at(200))]);
    alerts.lost("ops", over.notices[0].fingerprint, &over.notices[0].key);
    let notified = until(&mut alerts, 300);
    assert_eq!((notified.len(), notified[0].1.kind), (1, Resolved));
}

#[test]
fn a_resolve_carries_the_peak() {
    let mut alerts = ops();
    let mut notified = Vec::new();
    for (second, level, value, threshold) in [
        (0, Warning, 3.0, 3.0),
        (100, Critical, 10.0, 10.0),
        (110, Critical, 12.0, 10.0),
        (200, Error, 7.0, 5.0),
        (300, Warning, 4.0, 3.0),
    ] {
        let found = Finding {
            value: Some(value),
            threshold: Some(threshold),
            ..finding(0, agent("a"), Some(level), value, at(second))
        };
        notified.extend(alerts.step(at(second), vec![found]).notices);
    }
    let over = alerts.step(at(400), vec![finding(0, agent("a"), None, 1.0, at(400))]).notices;
    assert_eq!(
        (over[0].kind, over[0].peak, over[0].value, over[0].threshold),
        (Resolved, Some(Critical), Some(12.0), Some(10.0))
    );
    // For a lower bound the lowest value is the peak; and the next alert has a peak of its own.
    for (second, value) in [(1_000, 0.2), (1_100, 0.4)] {
        let found = Finding {
            value: Some(value),
            threshold: Some(0.5),
            ..finding(0, agent("a"), Some(Warning), value, at(second))
        };
        alerts.step(at(second), vec![found]);
    }
    let over = alerts.step(at(1_200), vec![finding(0, agent("a"), None, 1.0, at(1_200))]).notices;
    assert_eq!((over[0].peak, over[0].value), (Some(Warning), Some(0.2)));
}
