//! The list at exact times.

use proptest::prelude::*;

use super::super::samples::{at, firing, resolved};
use super::*;

/// Room for all of them.
fn all(notices: &[&Notice]) -> usize {
    notices.len()
}

fn queue() -> Queue {
    Queue::new(Arc::from("ops"), Pace::default())
}

fn push(queue: &mut Queue, seconds: f64, notice: Notice) {
    queue.push(at(seconds), Arc::new(notice));
}

/// The agents of the message that leaves at `seconds`, which must be the moment it may.
fn leaves(queue: &mut Queue, seconds: f64) -> Vec<String> {
    let due = queue.next_send_at().expect("something is due");
    assert!(due <= at(seconds), "due at {due}, not by {}", at(seconds));
    queue.take_batch(at(seconds), all).iter().map(|notice| notice.subject.name().to_string()).collect()
}

fn failed(reason: SendReason, retry: Retry, retry_after: Option<u64>) -> Result<DeliveryReceipt, SendError> {
    let retry_after = retry_after.map(Duration::from_secs);
    Err(SendError { reason, retry, retry_after, message: reason.as_str().to_owned() })
}

/// Each report as `what: agents`.
fn outcomes(queue: &mut Queue) -> Vec<String> {
    let agents = |outcome: &DeliveryOutcome| {
        let names: Vec<_> = outcome.notices.iter().map(|notice| notice.subject.name().to_string()).collect();
        names.join(" ")
    };
    queue
        .take_reports()
        .iter()
        .map(|report| match report {
            DeliveryReport::Delivered(outcome, _) => format!("delivered: {}", agents(outcome)),
            DeliveryReport::Superseded(outcome) => format!("superseded: {}", agents(outcome)),
            DeliveryReport::Deferred(outcome) => format!("deferred: {}", agents(outcome)),
            DeliveryReport::DeadLettered(outcome, error) => format!("gave up ({error}): {}", agents(outcome)),
            DeliveryReport::Failed { error, .. } => format!("failed: {error}"),
        })
        .collect()
}

#[test]
fn the_first_message_leaves_at_once_and_what_follows_within_a_second_is_gathered() {
    let mut queue = queue();
    assert_eq!(queue.next_send_at(), None);
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    assert_eq!(leaves(&mut queue, 0.0), ["a"]);
    push(&mut queue, 0.1, firing("b", Level::Warning, 0.1));
    assert_eq!(queue.next_send_at(), None, "one message at a time");
    queue.on_result(at(0.2), 0.0, Ok(DeliveryReceipt::default()));
    push(&mut queue, 0.9, firing("c", Level::Critical, 0.9));
    assert_eq!(queue.next_send_at(), Some(at(1.0)));
    assert_eq!(leaves(&mut queue, 1.0), ["c", "b"], "the worst first");
    queue.on_result(at(1.1), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!(outcomes(&mut queue), ["delivered: a", "delivered: c b"]);
    push(&mut queue, 9.0, firing("d", Level::Info, 9.0));
    assert_eq!(leaves(&mut queue, 9.0), ["d"], "after quiet it leaves at once again");
}

#[test]
fn a_newer_notice_replaces_an_older_one_that_waits() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    push(&mut queue, 0.5, firing("a", Level::Error, 0.5));
    assert_eq!(outcomes(&mut queue), ["superseded: a"]);
    push(&mut queue, 0.6, resolved("a", 0.6));
    assert_eq!(outcomes(&mut queue), ["superseded: a"]);
    assert_eq!((queue.len(), queue.oldest()), (1, Some(at(0.0))));
    let batch = queue.take_batch(at(1.0), all);
    assert_eq!(batch.iter().map(|notice| notice.kind).collect::<Vec<_>>(), [NoticeKind::Resolved], "it is still sent");
}

#[test]
fn an_older_notice_that_comes_late_does_not_replace_a_newer_one() {
    let mut queue = queue();
    push(&mut queue, 0.0, resolved("a", 5.0));
    push(&mut queue, 0.1, firing("a", Level::Warning, 1.0));
    assert_eq!(outcomes(&mut queue), ["superseded: a"]);
    assert_eq!(queue.take_batch(at(1.0), all).first().map(|notice| notice.kind), Some(NoticeKind::Resolved));
}

#[test]
fn the_same_notice_twice_is_one() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    push(&mut queue, 0.1, firing("a", Level::Warning, 0.0));
    assert_eq!(leaves(&mut queue, 0.1), ["a"]);
    push(&mut queue, 0.2, firing("a", Level::Warning, 0.0));
    queue.on_result(at(0.3), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
    assert_eq!(outcomes(&mut queue), ["failed: server"], "a notice never replaces itself");
    assert_eq!(queue.len(), 1);
}

#[test]
fn retries_double_their_pause_up_to_five_minutes() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    let mut now = 0.0;
    for pause in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0] {
        assert_eq!(leaves(&mut queue, now), ["a"]);
        queue.on_result(at(now), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
        assert_eq!(queue.next_send_at(), Some(at(now + pause)));
        now += pause;
    }
    assert_eq!(leaves(&mut queue, now), ["a"]);
    queue.on_result(at(now), 1.0, failed(SendReason::Server, Retry::Unlimited, None));
    assert_eq!(queue.next_send_at(), Some(at(now + 150.0)), "jitter takes up to a half");
    assert_eq!(queue.last_error().map(String::as_str), Some("server"));
    assert_eq!(leaves(&mut queue, now + 150.0), ["a"]);
    queue.on_result(at(now + 150.0), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!((queue.last_error(), queue.len(), queue.oldest()), (None, 0, None));
}

#[test]
fn what_arrives_during_a_pause_joins_the_batch() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    assert_eq!(leaves(&mut queue, 0.0), ["a"]);
    push(&mut queue, 0.1, firing("b", Level::Warning, 0.1));
    queue.on_result(at(0.2), 0.0, failed(SendReason::Connect, Retry::Unlimited, None));
    push(&mut queue, 0.5, firing("c", Level::Warning, 0.5));
    assert_eq!(queue.next_send_at(), Some(at(1.2)));
    assert_eq!(leaves(&mut queue, 1.2), ["a", "b", "c"]);
}

#[test]
fn a_notice_that_came_back_gives_way_to_a_newer_one() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    assert_eq!(leaves(&mut queue, 0.0), ["a"]);
    push(&mut queue, 0.1, resolved("a", 0.1));
    queue.on_result(at(0.2), 0.0, failed(SendReason::Timeout, Retry::Unlimited, None));
    assert_eq!(outcomes(&mut queue), ["superseded: a", "failed: timeout"]);
    let batch = queue.take_batch(at(1.2), all);
    assert_eq!(batch.iter().map(|notice| notice.kind).collect::<Vec<_>>(), [NoticeKind::Resolved]);
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it_up_to_an_hour() {
    for (asked, pause) in
        [(Some(30), 30.0), (Some(0), 1.0), (None, 1.0), (Some(86_400), 3600.0), (Some(u64::MAX), 3600.0)]
    {
        let mut queue = queue();
        push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
        assert_eq!(leaves(&mut queue, 0.0), ["a"]);
        queue.on_result(at(0.0), 0.0, failed(SendReason::RateLimited, Retry::Unlimited, asked));
        assert_eq!(queue.next_send_at(), Some(at(pause)), "{asked:?}");
    }
}

#[test]
fn a_single_notice_refused_is_given_up() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    assert_eq!(leaves(&mut queue, 0.0), ["a"]);
    queue.on_result(at(0.1), 0.0, failed(SendReason::Refused, Retry::Never, None));
    assert_eq!(outcomes(&mut queue), ["gave up (refused): a"]);
    assert_eq!(queue.next_send_at(), None);
}

#[test]
fn one_poisonous_notice_does_not_take_others_along() {
    let mut queue = queue();
    for agent in ["a", "b", "poison", "d", "e"] {
        push(&mut queue, 0.0, firing(agent, Level::Warning, 0.0));
    }
    let mut messages = 0;
    while let Some(due) = queue.next_send_at() {
        let batch = queue.take_batch(due, all);
        messages += 1;
        assert!(messages < 20, "bounded");
        let bad = batch.iter().any(|notice| &**notice.subject.name() == "poison");
        queue.on_result(
            due,
            0.0,
            if bad { failed(SendReason::Refused, Retry::Never, None) } else { Ok(DeliveryReceipt::default()) },
        );
    }
    let mut reports = outcomes(&mut queue);
    reports.retain(|report| !report.starts_with("failed"));
    reports.sort();
    assert_eq!(reports, ["delivered: a b", "delivered: d e", "gave up (refused): poison"]);
    assert_eq!(messages, 5);
}

#[test]
fn a_part_that_fails_in_passing_is_tried_again_as_a_part_with_the_newest_notice() {
    let mut queue = queue();
    for agent in ["a", "b"] {
        push(&mut queue, 0.0, firing(agent, Level::Warning, 0.0));
    }
    assert_eq!(leaves(&mut queue, 0.0), ["a", "b"]);
    queue.on_result(at(0.0), 0.0, failed(SendReason::Refused, Retry::Never, None));
    assert_eq!(leaves(&mut queue, 0.0), ["a"], "a part is not gathered for");
    push(&mut queue, 0.1, resolved("a", 0.1));
    push(&mut queue, 0.1, firing("c", Level::Critical, 0.1));
    queue.on_result(at(0.2), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
    assert_eq!(queue.next_send_at(), Some(at(1.2)));
    let batch = queue.take_batch(at(1.2), all);
    assert_eq!(batch.iter().map(|notice| notice.kind).collect::<Vec<_>>(), [NoticeKind::Resolved]);
    queue.on_result(at(1.2), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!(leaves(&mut queue, 1.2), ["b"]);
    queue.on_result(at(1.2), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!(leaves(&mut queue, 2.2), ["c"]);
}

#[test]
fn when_everything_is_refused_the_rest_is_given_up() {
    let mut queue = queue();
    for agent in 0..1000 {
        push(&mut queue, 0.0, firing(&format!("a{agent}"), Level::Warning, 0.0));
    }
    let mut messages = 0;
    while let Some(due) = queue.next_send_at() {
        messages += 1;
        queue.take_batch(due, all);
        queue.on_result(due, 0.0, failed(SendReason::Refused, Retry::Never, None));
    }
    assert_eq!(messages, REJECTIONS);
    let given_up: usize = queue
        .take_reports()
        .iter()
        .map(|report| if let DeliveryReport::DeadLettered(outcome, _) = report { outcome.notices.len() } else { 0 })
        .sum();
    assert_eq!(given_up, 1000);
}

#[test]
fn a_refusal_that_is_about_us_is_not_tried_in_parts() {
    let mut queue = queue();
    for agent in ["a", "b"] {
        push(&mut queue, 0.0, firing(agent, Level::Warning, 0.0));
    }
    queue.take_batch(at(0.0), all);
    queue.on_result(at(0.0), 0.0, failed(SendReason::Auth, Retry::Never, None));
    assert_eq!(outcomes(&mut queue), ["gave up (auth): a b"]);
}

#[test]
fn parts_leave_at_the_rate_that_the_receiver_takes() {
    let pace = Pace { bucket: Some((Duration::from_secs(1), 3)), ..Pace::default() };
    let mut queue = Queue::new(Arc::from("ops"), pace);
    for agent in ["a", "b", "c", "d"] {
        push(&mut queue, 0.0, firing(agent, Level::Warning, 0.0));
    }
    let mut times = Vec::new();
    let mut now = at(0.0);
    while let Some(due) = queue.next_send_at() {
        now = now.max(due);
        let batch = queue.take_batch(now, all);
        times.push(now.seconds_since(at(0.0)));
        let result = if batch.len() > 1 {
            failed(SendReason::Refused, Retry::Never, None)
        } else {
            Ok(DeliveryReceipt::default())
        };
        queue.on_result(now, 0.0, result);
    }
    assert_eq!(times, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0], "a burst of three, then one a second");
}

#[test]
fn a_full_list_hands_back_what_matters_least() {
    let mut queue = Queue::new(Arc::from("ops"), Pace { capacity: 3, ..Pace::default() });
    push(&mut queue, 0.0, firing("critical", Level::Critical, 0.0));
    push(&mut queue, 0.0, resolved("owed", 0.0));
    push(&mut queue, 0.0, firing("unheard", Level::Critical, 0.0));
    push(&mut queue, 0.1, resolved("unheard", 0.1));
    assert_eq!(outcomes(&mut queue), ["superseded: unheard"]);
    for (agent, level, deferred) in [
        ("warning", Level::Warning, "unheard"),
        ("info", Level::Info, "info"),
        ("error", Level::Error, "warning"),
        ("worse", Level::Critical, "owed"),
        ("worst", Level::Critical, "error"),
        ("late", Level::Critical, "critical"),
    ] {
        push(&mut queue, 0.2, firing(agent, level, 0.2));
        assert_eq!(outcomes(&mut queue), [format!("deferred: {deferred}")]);
    }
    assert_eq!(queue.len(), 3);
    // What is no alert can't come again.
    push(&mut queue, 0.3, Notice { kind: NoticeKind::Announcement, ..firing("news", Level::Info, 0.3) });
    assert_eq!(outcomes(&mut queue), ["deferred: worse"]);
}

#[test]
fn a_receiver_that_rejects_us_is_tried_for_an_hour() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    let (mut now, mut attempts) = (0.0, 0);
    let reports = loop {
        assert_eq!(leaves(&mut queue, now), ["a"]);
        attempts += 1;
        queue.on_result(at(now), 0.0, failed(SendReason::Auth, Retry::Limited, None));
        let reports = outcomes(&mut queue);
        let Some(due) = queue.next_send_at() else { break reports };
        assert_eq!(reports, ["failed: auth"]);
        now = due.seconds_since(at(0.0));
    };
    assert_eq!(reports, ["gave up (auth): a"]);
    assert!((3_600.0..3_900.0).contains(&now), "after an hour, and not after many: {now}");
    assert!(attempts < 25, "with pauses of up to five minutes: {attempts}");
    // Each alert has its hour, and other settings begin it anew.
    push(&mut queue, now, firing("b", Level::Warning, now));
    let due = queue.next_send_at().expect("due").seconds_since(at(0.0)).max(now);
    assert_eq!(leaves(&mut queue, due), ["b"]);
    queue.on_result(at(due), 0.0, failed(SendReason::Auth, Retry::Limited, None));
    assert_eq!(outcomes(&mut queue), ["failed: auth"]);
    queue.reset(Pace::default());
    assert_eq!(leaves(&mut queue, due + 4_000.0), ["b"]);
    queue.on_result(at(due + 4_000.0), 0.0, failed(SendReason::Refused, Retry::Limited, None));
    assert_eq!(outcomes(&mut queue), ["failed: refused"]);
    assert_eq!(leaves(&mut queue, due + 8_000.0), ["b"]);
    queue.on_result(at(due + 8_000.0), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!(outcomes(&mut queue), ["delivered: b"]);
}

#[test]
fn a_notice_knows_what_its_receiver_was_told_in_fact() {
    let raised = |level, previous, seconds| Notice {
        kind: NoticeKind::Escalated,
        previous: Some(previous),
        ..firing("a", level, seconds)
    };
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    push(&mut queue, 0.1, raised(Level::Error, Level::Warning, 0.1));
    let batch = queue.take_batch(at(1.0), all);
    assert_eq!(batch[0].previous, None, "the first one was never sent");
    push(&mut queue, 1.1, raised(Level::Critical, Level::Error, 1.1));
    queue.on_result(at(1.2), 0.0, failed(SendReason::Refused, Retry::Never, None));
    let batch = queue.take_batch(at(2.2), all);
    assert_eq!(batch[0].previous, None, "nor was the second taken");
    queue.on_result(at(2.3), 0.0, Ok(DeliveryReceipt::default()));
    push(&mut queue, 3.0, Notice { previous: Some(Level::Critical), ..resolved("a", 3.0) });
    assert_eq!(queue.take_batch(at(9.0), all)[0].previous, Some(Level::Critical));
}

#[test]
fn while_monitoring_is_paused_only_announcements_are_sent() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Critical, 0.0));
    assert_eq!(leaves(&mut queue, 0.0), ["a"]);
    queue.on_result(at(0.0), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
    queue.set_paused(at(1.0), true);
    assert_eq!((queue.next_send_at(), queue.last_send_at(at(9.0))), (None, None));
    push(&mut queue, 5.0, firing("b", Level::Critical, 5.0));
    push(&mut queue, 5.0, Notice { kind: NoticeKind::Announcement, ..firing("news", Level::Info, 5.0) });
    assert_eq!(leaves(&mut queue, 6.0), ["news"]);
    queue.on_result(at(6.0), 0.0, Ok(DeliveryReceipt::default()));
    assert_eq!((queue.next_send_at(), queue.len()), (None, 2));
    assert_eq!(queue.oldest(), None, "what is kept back is not late");
    queue.set_paused(at(9.0), false);
    assert_eq!(queue.oldest(), Some(at(9.0)));
    assert_eq!(leaves(&mut queue, 9.0), ["a", "b"]);
}

#[test]
fn a_removed_receivers_notices_are_given_up() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    queue.take_batch(at(0.0), all);
    push(&mut queue, 0.0, firing("b", Level::Warning, 0.0));
    queue.close(at(0.1));
    assert_eq!(outcomes(&mut queue), ["gave up (receiver removed): b"]);
    queue.on_result(at(0.2), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
    assert_eq!(outcomes(&mut queue), ["gave up (receiver removed): a"]);
    push(&mut queue, 0.3, firing("c", Level::Warning, 0.3));
    assert_eq!(outcomes(&mut queue), ["gave up (receiver removed): c"]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn at_the_end_nothing_is_gathered_and_no_retry_is_waited_for() {
    let mut queue = queue();
    push(&mut queue, 0.0, firing("a", Level::Warning, 0.0));
    queue.take_batch(at(0.0), all);
    queue.on_result(at(0.0), 0.0, Ok(DeliveryReceipt::default()));
    push(&mut queue, 0.1, firing("b", Level::Warning, 0.1));
    assert!(queue.last_send_at(at(0.1)).is_some_and(|due| due <= at(0.1)));
    queue.take_batch(at(0.1), all);
    queue.on_result(at(0.1), 0.0, failed(SendReason::Server, Retry::Unlimited, None));
    assert_eq!(queue.last_send_at(at(0.2)), None);
    assert!(queue.last_send_at(at(1.1)).is_some());
    queue.reset(Pace::default());
    assert!(queue.next_send_at().is_some_and(|due| due <= at(1.1)), "new settings are tried at once");
}

proptest! {
    /// Whatever happens, each notice is reported as delivered, superseded or given up exactly once, or still waits.
    #[test]
    fn no_notice_is_lost_or_told_of_twice(steps in proptest::collection::vec((0_u8..6, 0_usize..5, 0_u8..4), 1..60)) {
        let mut queue = Queue::new(Arc::from("ops"), Pace { capacity: 4, ..Pace::default() });
        let mut pushed = 0;
        let mut settled: Vec<Arc<str>> = Vec::new();
        let mut under_way = false;
        for (index, (action, agent, answer)) in steps.into_iter().enumerate() {
            let now = index as f64;
            if action < 4 {
                let notice = if answer == 0 { resolved(&format!("a{agent}"), now) } else { firing(&format!("a{agent}"), Level::Error, now) };
                queue.push(at(now), Arc::new(notice));
                pushed += 1;
            } else if under_way {
                under_way = false;
                let result = match answer {
                    0 => Ok(DeliveryReceipt::default()),
                    1 => failed(SendReason::Server, Retry::Unlimited, None),
                    2 => failed(SendReason::Refused, if agent == 0 { Retry::Limited } else { Retry::Never }, None),
                    _ => failed(SendReason::Auth, Retry::Never, None),
                };
                queue.on_result(at(now), 0.5, result);
            } else if queue.next_send_at().is_some() {
                prop_assert!(!queue.take_batch(at(now), all).is_empty());
                under_way = true;
            }
            for report in queue.take_reports() {
                if let DeliveryReport::Delivered(outcome, _) | DeliveryReport::Superseded(outcome) | DeliveryReport::Deferred(outcome) | DeliveryReport::DeadLettered(outcome, _) = report {
                    settled.extend(outcome.notices.iter().map(|notice| Arc::clone(&notice.key)));
                }
            }
            prop_assert_eq!(settled.len() + queue.len(), pushed);
            prop_assert_eq!(queue.order.len(), queue.waiting.len());
        }
        let count = settled.len();
        settled.sort();
        settled.dedup();
        prop_assert_eq!(settled.len(), count);
    }
}

fn part(agent: &str, level: Level, seconds: f64) -> Notice {
    let part_of = Some(crate::model::Incident { firing: 40, agents: 100 });
    Notice { part_of, ..firing(agent, level, seconds) }
}

#[test]
fn much_at_once_is_gathered_for_a_second_from_the_first_on() {
    let mut queue = queue();
    for n in 0..10 {
        push(&mut queue, 0.0, firing(&format!("a{n}"), Level::Warning, 0.0));
    }
    assert_eq!(queue.next_send_at(), Some(at(1.0)), "more is coming");
    push(&mut queue, 0.9, firing("late", Level::Critical, 0.9));
    assert_eq!(queue.next_send_at(), Some(at(1.0)), "and is not waited for any longer");
    assert_eq!(leaves(&mut queue, 1.0).len(), 11);
    queue.on_result(at(1.1), 0.0, Ok(DeliveryReceipt::default()));
    push(&mut queue, 9.0, part("p", Level::Warning, 9.0));
    assert_eq!(queue.next_send_at(), Some(at(10.0)), "a part of an incident is never alone");
}

#[test]
fn what_one_message_has_no_room_for_goes_into_the_next_the_worst_first() {
    let mut queue = queue();
    for n in 0..7 {
        push(&mut queue, 0.0, firing(&format!("w{n}"), Level::Warning, 0.0));
    }
    push(&mut queue, 0.0, firing("c", Level::Critical, 0.0));
    let three = |notices: &[&Notice]| notices.len().min(3);
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        assert!(queue.next_send_at().is_some_and(|due| due <= at(0.0)), "what is left over waits for nothing");
        let batch = queue.take_batch(at(0.0), three);
        outcomes.push(batch.iter().map(|notice| notice.subject.name().to_string()).collect::<Vec<_>>());
        queue.on_result(at(0.0), 0.0, Ok(DeliveryReceipt::default()));
    }
    assert_eq!((outcomes[0][0].as_str(), outcomes.iter().map(Vec::len).collect::<Vec<_>>()), ("c", vec![3, 3, 2]));
    assert_eq!(queue.next_send_at(), None);
    // What would be a flood of messages is one that counts.
    for n in 0..100 {
        push(&mut queue, 2.0, firing(&format!("w{n}"), Level::Warning, 2.0));
    }
    assert_eq!(queue.take_batch(at(3.0), three).len(), 100);
    // A program gets each of them, in requests that it can take.
    let mut queue = Queue::new(Arc::from("hook"), Pace { keeps_batches: true, ..Pace::default() });
    for n in 0..100 {
        push(&mut queue, 0.0, firing(&format!("w{n}"), Level::Warning, 0.0));
    }
    assert_eq!(queue.take_batch(at(1.0), three).len(), 3);
}

#[test]
fn groups_have_messages_of_their_own_while_the_rate_allows_it() {
    let pace = Pace { bucket: Some((Duration::from_secs(1), 3)), group_by: GroupBy::Rule, ..Pace::default() };
    let mut queue = Queue::new(Arc::from("ops"), pace);
    for (n, rule) in ["A", "B", "C", "D", "A"].into_iter().enumerate() {
        push(&mut queue, 0.0, Notice { rule: Arc::from(rule), ..firing(&format!("a{n}"), Level::Warning, 0.0) });
    }
    let mut outcomes = Vec::new();
    while let Some(due) = queue.next_send_at() {
        let now = due.max(at(0.0));
        let batch = queue.take_batch(now, all);
        outcomes.push(batch.iter().map(|notice| notice.rule.to_string()).collect::<String>());
        queue.on_result(now, 0.0, Ok(DeliveryReceipt::default()));
    }
    assert_eq!(outcomes, ["AA", "B", "CD"], "the last message that may leave carries the rest");
}
