//! The texts of messages.

use super::super::samples::{at, firing, resolved};
use super::*;

fn title(notices: &[Notice]) -> String {
    let notices: Vec<_> = notices.iter().cloned().map(Arc::new).collect();
    compose(at(0.0), &notices).title
}

/// The message of one notice as text: title, colour, action, facts.
fn shown(now: f64, notice: Notice) -> String {
    let notices = [Arc::new(notice)];
    let message = compose(at(now), &notices);
    let Body::One(details) = message.body else { panic!("one notice is shown in full") };
    assert_eq!(details.text_below(&message.title, false), None, "the title holds the sentence");
    let mut lines = vec![message.title, message.tone.colour().to_owned()];
    lines.extend(details.action);
    lines.extend(details.facts.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.join("\n")
}

#[test]
fn one_alert_is_shown_in_full() {
    insta::assert_snapshot!("firing", shown(20.0, firing("worker-1", Level::Error, 0.0)));
    let of_kind = |kind, previous| title(&[Notice { kind, previous, ..firing("w", Level::Error, 0.0) }]);
    let base = "[ERROR] shop/w: no activity for 6m40s (limit 5m), task-1-0";
    for (kind, previous, state) in [
        (NoticeKind::Firing, None, ""),
        (NoticeKind::Escalated, Some(Level::Warning), ", escalated from warning"),
        (NoticeKind::Deescalated, Some(Level::Critical), ", de-escalated from critical"),
        (NoticeKind::Repeat, Some(Level::Error), ", still firing"),
        (NoticeKind::Flapping, None, ", flapping"),
        (NoticeKind::FlappingEnded, None, ", no longer flapping, still firing"),
    ] {
        assert_eq!(of_kind(kind, previous), format!("{base}{state}"));
    }
    let two = Notice {
        kind: NoticeKind::Repeat,
        message: "w failed: exit 1. t1 is open".into(),
        ..firing("w", Level::Error, 0.0)
    };
    assert_eq!(title(&[two]), "[ERROR] shop/w failed: exit 1. t1 is open. Still firing");
}

#[test]
fn a_value_that_the_sentence_lacks_is_a_fact() {
    let custom = Notice { message: "too quiet".into(), ..firing("w", Level::Error, 0.0) };
    assert!(shown(0.0, custom).contains("\nValue: 6m40s (limit 5m)\n"));
}

#[test]
fn a_resolve_says_what_is_well_again_the_peak_and_how_long_it_fired() {
    insta::assert_snapshot!("resolved", shown(900.0, resolved("worker-1", 754.3)));
    let short = Notice { message: "is up again".into(), ..resolved("w", 28.0) };
    assert_eq!(title(&[short]), "[RESOLVED] shop/w is up again. Fired for 28s");
}

#[test]
fn a_test_says_that_it_is_one() {
    let test = Notice {
        kind: NoticeKind::Test,
        message: "lookout on h07: this is a test".into(),
        ..firing("h07", Level::Info, 0.0)
    };
    assert_eq!(title(std::slice::from_ref(&test)), "[TEST] lookout on h07: this is a test");
}

#[test]
fn a_summary_names_the_worst_first_and_counts_all() {
    let notices = [
        resolved("r", 9.0),
        firing("w", Level::Warning, 1.0),
        firing("c2", Level::Critical, 1.0),
        firing("c1", Level::Critical, 1.0),
    ];
    assert_eq!(title(&notices), "[CRITICAL] shop: 3 alerts, 1 resolved (c1, c2, w, …)");
    assert_eq!(title(&[resolved("a", 1.0), resolved("b", 1.0)]), "[RESOLVED] shop: 2 alerts resolved (a, b)");
    assert_eq!(
        title(&[resolved("a", 1.0), firing("a", Level::Info, 1.0)]),
        "[INFO] shop/a: 1 alert, 1 resolved (AgentIdle)"
    );
    let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
    let message = compose(at(10.0), &notices);
    let Body::Many(summary) = message.body else { panic!("several notices are a summary") };
    let mut lines = vec![summary.overview];
    lines.extend(summary.entries.iter().map(|entry| entry.line()));
    insta::assert_snapshot!("summary", lines.join("\n"));
}

#[test]
fn no_notice_at_all_is_no_panic() {
    assert_eq!(title(&[]), "[TEST] 0 alerts resolved ()");
}

#[test]
fn names_cannot_break_out_of_a_line() {
    let sly = firing("a\r\nBcc: x@example.com\u{202e}\u{1b}[31m", Level::Error, 0.0);
    assert_eq!(title(&[sly]), "[ERROR] shop/a  Bcc: x@example.com: no activity for 6m40s (limit 5m), task-1-0");
    let long = firing(&"ä".repeat(10_000), Level::Error, 0.0);
    assert!(title(&[long]).len() <= "[ERROR] ".len() + SENTENCE_LIMIT);
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
            details.action.into_iter().chain(facts).collect()
        }
        Body::Many(summary) => summary.entries.iter().map(|entry| entry.line()).collect::<Vec<_>>(),
    };
    format!("{}\n{}", message.title, lines.join("\n"))
}

#[test]
fn an_incident_is_one_entry() {
    insta::assert_snapshot!(read(parts(&[(Level::Error, 3), (Level::Warning, 9_997)], 10_000, NoticeKind::Firing)), @r"
    [ERROR] shop: AgentIdle fires for 10000 of 10000 agents (3 error, 9997 warning), 6m40s to 2h53m (limit 5m)
    Check whether its terminal waits for input.
    Agents: error-0000, error-0001, error-0002, warning-0000, warning-0001 and 9995 more
    Since: 01:53 UTC
    ");
    insta::assert_snapshot!(read(parts(&[(Level::Warning, 3_000)], 7_000, NoticeKind::Resolved)), @r"
    [RESOLVED] shop: 3000 agents recovered from AgentIdle, 7000 of 10000 still firing
    Agents: warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 2995 more
    ");
    insta::assert_snapshot!(read(parts(&[(Level::Warning, 1)], 401, NoticeKind::Firing)), @r"
    [WARNING] shop/warning-0000: no activity for 6m40s (limit 5m), task-1-0
    Check whether its terminal waits for input.
    Rule: AgentIdle
    Incident: 401 of 10000 agents
    Since: 01:53 UTC
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
        message: Arc::from("ann acknowledged AgentIdle on shop/boss"),
        ..firing("boss", Level::Info, 0.0)
    });
    insta::assert_snapshot!(read(notices), @r"
    [CRITICAL] shop: 302 alerts, 20 resolved (boss, clerk, warning-0000, …)
    [CRITICAL] shop/boss: no activity for 6m40s (limit 5m), task-1-0 · AgentDown
    [ERROR] shop/clerk: no activity for 6m40s (limit 5m), task-1-0, flapping · AgentIdle
    [WARNING] shop: AgentIdle fires for 300 of 10000 agents (300 warning), 6m40s to 11m39s (limit 5m): warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 295 more
    [RESOLVED] shop: 20 agents recovered from AgentIdle, 300 of 10000 still firing: warning-0000, warning-0001, warning-0002, warning-0003, warning-0004 and 15 more
    [NOTE] ann acknowledged AgentIdle on shop/boss
    ");
}

#[test]
fn what_was_told_before_there_was_an_incident_is_counted_in_it() {
    let mut notices = parts(&[(Level::Warning, 300)], 301, NoticeKind::Firing);
    notices.push(firing("early", Level::Warning, 0.0));
    assert!(title(&notices).starts_with("[WARNING] shop: AgentIdle fires for 301 of 10000 agents (301 warning)"));
}
