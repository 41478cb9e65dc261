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
        kind: NoticeKind::Escalated,
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
    let forgotten = Notice { ending: Some(Ending::Expired), ..resolved("worker-1", 60.0) };
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
    lines.extend(summary.entries.iter().map(|entry| entry.line(at(10.0))));
    insta::assert_snapshot!("summary", lines.join("\n"));
}

#[test]
fn no_notice_at_all_is_no_panic() {
    assert_eq!(title(&[]), "[TEST] 0 alerts: ");
}

#[test]
fn names_cannot_break_out_of_a_line() {
    let sly = firing("a\r\nBcc: x@example.com\u{202e}\u{1b}[31m", Level::Error, 0.0);
    assert_eq!(title(&[sly]), "[ERROR] a  Bcc: x@example.com");
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

fn parts(levels: &[(Level, usize)], firing_now: u32, kind: NoticeKind) -> Vec<Notice> {
    let part_of = Some(crate::model::Incident { firing: firing_now, agents: 10_000 });
    let mut notices = Vec::new();
    for (level, count) in levels {
        for n in 0..*count {
            let name = format!("{level}-{n:04}");
            notices.push(Notice { kind, part_of, value: Some(400.0 + n as f64), ..firing(&name, *level, 0.0) });
        }
    }
    notices
}

/// The title and the first line of a message.
fn read(notices: Vec<Notice>) -> String {
    let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
    let message = compose(at(0.0), &notices);
    let lines = match message.body {
        Body::One(details) => {
            let facts = details.facts.iter().map(|(name, value)| format!("{name}: {value}"));
            std::iter::once(details.sentence).chain(facts).chain(details.action).collect()
        }
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line(at(0.0))).collect::<Vec<_>>(),
    };
    format!("{}\n{}", message.title, lines.join("\n"))
}

#[test]
fn an_incident_is_told_as_one() {
    insta::assert_snapshot!(read(parts(&[(Level::Error, 3), (Level::Warning, 9_997)], 10_000, NoticeKind::Firing)), @r"
    [ERROR] AgentIdle: 10000 agents
    AgentIdle: 10000 agents (3 error, 9997 warning); 10000 of 10000 agents break the rule now; error-0000, error-0001, error-0002, warning-0000, warning-0001 and 9995 more
    Levels: 3 error, 9997 warning
    Agents: error-0000, error-0001, error-0002, warning-0000, warning-0001 and 9995 more
    Breaking the rule now: 10000 of 10000
    Values: 400 to 10396
    ");
    insta::assert_snapshot!(read(parts(&[(Level::Warning, 3_000)], 7_000, NoticeKind::Resolved)), @r"
    [RESOLVED] AgentIdle: 3000 agents
    AgentIdle: 3000 agents recovered, 7000 of 10000 agents still break the rule; warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 2995 more
    Agents: warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 2995 more
    Breaking the rule now: 7000 of 10000
    ");
    insta::assert_snapshot!(read(parts(&[(Level::Warning, 1)], 401, NoticeKind::Firing)), @r"
    [WARNING] warning-0000
    warning-0000 has been idle for 6m40s
    Level: warning
    Project: shop
    Agent: warning-0000
    Rule: AgentIdle
    Incident: 401 of 10000 agents break the rule now
    Value: 400 (threshold 300)
    Since: 2026-11-21T01:53:20Z (6m40s ago)
    Look at its terminal, or stop it.
    ");
}

#[test]
fn an_incident_has_one_line_beside_what_has_its_own() {
    let mut notices = parts(&[(Level::Warning, 300)], 300, NoticeKind::Firing);
    notices.extend(parts(&[(Level::Warning, 20)], 300, NoticeKind::Resolved));
    notices.push(Notice { rule: Arc::from("AgentDown"), ..firing("boss", Level::Critical, 0.0) });
    notices.push(Notice { kind: NoticeKind::Flapping, ..firing("clerk", Level::Error, 0.0) });
    notices.push(Notice {
        kind: NoticeKind::Announcement,
        message: Arc::from("ann looks after AgentIdle of boss"),
        ..firing("boss", Level::Info, 0.0)
    });
    insta::assert_snapshot!(read(notices), @r"
    [CRITICAL] 302 alerts, 20 resolved: boss, clerk, warning-0000, …
    [CRITICAL] boss · AgentDown: boss has been idle for 6m40s (for 6m40s)
    [ERROR] clerk · AgentIdle: clerk has been idle for 6m40s (for 6m40s, comes and goes)
    [WARNING] AgentIdle: 300 agents (300 warning); 300 of 10000 agents break the rule now; warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 295 more
    [RESOLVED] AgentIdle: 20 agents recovered, 300 of 10000 agents still break the rule; warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 15 more
    [NOTE] ann looks after AgentIdle of boss
    ");
}

#[test]
fn what_was_told_before_there_was_an_incident_is_counted_in_it() {
    let mut notices = parts(&[(Level::Warning, 300)], 301, NoticeKind::Firing);
    notices.push(firing("early", Level::Warning, 0.0));
    assert_eq!(title(&notices), "[WARNING] AgentIdle: 301 agents");
}
