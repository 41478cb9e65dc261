//! What messages say.

use super::super::samples::{at, firing, resolved};
use super::*;
use crate::model::Ending;

fn title(notices: &[Notice]) -> String {
    let notices: Vec<_> = notices.iter().cloned().map(Arc::new).collect();
    compose(at(0.0), &notices).title
}

/// The message of one notice as text, sentence and action between the facts.
fn shown(now: f64, notice: Notice) -> String {
    let notices = [Arc::new(notice)];
    let message = compose(at(now), &notices);
    let Body::One(details) = message.body else { panic!("one notice is told in full") };
    let mut lines = vec![message.title, message.tone.colour().to_owned(), details.sentence];
    lines.extend(details.facts.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend(details.action);
    lines.join("\n")
}

#[test]
fn one_alert_is_told_in_full() {
    insta::assert_snapshot!("firing", shown(20.0, firing("worker-1", Level::Error, 0.0)));
    let raised = Notice {
        kind: NoticeKind::Raised,
        previous: Some(Level::Warning),
        value: Some(0.912_345),
        threshold: None,
        ..firing("worker-1", Level::Critical, 0.0)
    };
    assert!(shown(0.0, raised.clone()).contains("Level: critical (was warning)\n"));
    assert!(shown(0.0, raised).contains("Value: 0.912\n"));
    let repeat = Notice { kind: NoticeKind::Repeat, ..firing("worker-1", Level::Error, 0.0) };
    assert!(shown(0.0, repeat).contains("Level: error (still firing)\n"));
}

#[test]
fn a_resolve_says_how_long_it_lasted_and_why_it_ended() {
    insta::assert_snapshot!("resolved", shown(900.0, resolved("worker-1", 754.3)));
    let forgotten = Notice { ending: Some(Ending::Forgotten), ..resolved("worker-1", 60.0) };
    assert!(shown(60.0, forgotten).ends_with("\nEnded: no longer watched"));
    let new_day = Notice { ending: Some(Ending::NewDay), ..resolved("worker-1", 60.0) };
    assert!(shown(60.0, new_day).ends_with("\nEnded: new day"));
    let milder = Notice { now_at: Some(Level::Warning), ..resolved("worker-1", 60.0) };
    assert!(shown(60.0, milder).ends_with("\nEnded: now warning"));
}

#[test]
fn a_test_says_that_it_is_one() {
    let test = Notice { kind: NoticeKind::Test, ..firing("host-1", Level::Info, 0.0) };
    assert_eq!(title(std::slice::from_ref(&test)), "[TEST] host-1");
    assert!(shown(0.0, test).contains("Level: info (only a test)"));
}

#[test]
fn a_summary_names_the_worst_first_and_counts_all() {
    let notices = [
        resolved("r", 9.0),
        firing("w", Level::Warning, 1.0),
        firing("c2", Level::Critical, 1.0),
        firing("c1", Level::Critical, 1.0),
    ];
    assert_eq!(title(&notices), "[CRITICAL] 3 alerts, 1 resolved: c1, c2, w, …");
    assert_eq!(title(&[resolved("a", 1.0), resolved("b", 1.0)]), "[RESOLVED] 2 alerts: a, b");
    assert_eq!(title(&[resolved("a", 1.0), firing("a", Level::Info, 1.0)]), "[INFO] 1 alert, 1 resolved: a");
    let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
    let message = compose(at(10.0), &notices);
    let Body::Many(summary) = message.body else { panic!("several notices are a summary") };
    let mut lines = vec![summary.overview];
    lines.extend(summary.notices.iter().map(|notice| line(at(10.0), notice)));
    insta::assert_snapshot!("summary", lines.join("\n"));
}

#[test]
fn no_notice_at_all_is_no_panic() {
    assert_eq!(title(&[]), "[TEST] 0 alerts: ");
}

#[test]
fn names_cannot_break_out_of_a_line() {
    let sly = firing("a\r\nBcc: x@example.com\u{202e}\u{1b}[31m", Level::Error, 0.0);
    assert_eq!(title(&[sly]), "[ERROR] a  Bcc: x@example.com[31m");
    let long = firing(&"ä".repeat(1000), Level::Error, 0.0);
    assert_eq!(title(&[long]).chars().count(), "[ERROR] ".len() + NAME_LIMIT / 2);
}

#[test]
fn numbers_read_as_people_write_them() {
    for (value, text) in [
        (400.0, "400"),
        (0.9, "0.9"),
        (0.123_45, "0.123"),
        (0.0, "0"),
        (-0.0, "0"),
        (-2.5, "-2.5"),
        (0.000_02, "2e-5"),
        (2e20, "2e20"),
        (f64::NAN, "unknown"),
        (f64::INFINITY, "unknown"),
    ] {
        assert_eq!(number(value), text);
    }
}
