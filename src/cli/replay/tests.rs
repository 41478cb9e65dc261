//! Replays of recordings, and the comparison's text and JSON.

use super::compare::{ComparedNotice, compare};
use super::*;
use crate::model::{Fingerprint, Level, Subject};

fn at(seconds: i64) -> Time {
    Time::from_millis(1_767_225_600_000 + seconds * 1000)
}

/// A recording of an agent that is idle for 15 minutes and then works, with a restart in between.
fn recording() -> String {
    let mut lines = vec![format!(r#"{{"at":{},"start":"0.1.0"}}"#, at(0).as_millis())];
    for minute in 0..=16 {
        let second = minute * 60 + 30;
        if minute == 8 {
            lines.push(format!(r#"{{"at":{},"stop":true}}"#, at(second - 20).as_millis()));
            lines.push(format!(r#"{{"at":{},"start":"0.1.0"}}"#, at(second - 10).as_millis()));
        }
        let idle = if minute == 16 { 0 } else { second };
        lines.push(format!(
            r#"{{"at":{},"state":{{"project":"shop","ttl":"5m","agents":[{{"name":"worker","status":"running","idle_seconds":{idle}}}]}}}}"#,
            at(second).as_millis()
        ));
    }
    lines.push("{\"at\":17672256".to_owned());
    lines.push(format!(r#"{{"at":{},"dropped":2}}"#, at(1_000).as_millis()));
    lines.push(format!(r#"{{"at":{},"poll":{{"source":"gone","error":"timeout"}}}}"#, at(1_001).as_millis()));
    lines.join("\n") + "\n"
}

const NEW_RULES: &str = "rules:\n  - {name: AgentIdle, for_each: agent, signal: idle_seconds, when: at_least, levels: {warning: 4m, critical: 15m}}\n";

fn replayed(rules: &str) -> (ReplaySummary, Vec<ComparedNotice>) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lookout.record");
    std::fs::write(&path, recording()).expect("a recording");
    let file = dir.path().join("new.yaml");
    std::fs::write(&file, rules).expect("rules");
    let config = Config::default();
    let receivers = receivers(&config).expect("a receiver");
    let new = Config { rules: vec![file], ..Config::default() }.rule_set().expect("good rules");
    let old = config.rule_set().expect("built-in rules");
    let mut replays = [RuleReplay::new(&config, new, &receivers), RuleReplay::new(&config, old, &receivers)];
    let played = play(&path, &mut replays).expect("a recording");
    let [new, before] = replays.map(|replay| replay.simulation.expect("a start").into_notices());
    let rows = compare(&before, &new, Duration::from_secs(30));
    (played, rows)
}

#[test]
fn other_thresholds_show_the_notifications_that_differ() {
    let (played, rows) = replayed(NEW_RULES);
    insta::assert_snapshot!(report::text(&played, &rows, true, OutputStyle { width: None, colours: false }), @r"
    16m41s recorded, from 2026-01-01T00:00:00Z to 2026-01-01T00:16:41Z: 18 inputs, 2 starts of the sidecar

    WHEN                  NOTIFIED     RECEIVER  KIND       LEVEL     RULE       SUBJECT      MESSAGE
    2026-01-01T00:04:00Z  only new     any       firing     warning   AgentIdle  shop/worker  AgentIdle at 4m (limit 4m)
    2026-01-01T00:05:00Z  only before  any       firing     warning   AgentIdle  shop/worker  no activity for 5m (limit 5m)
    2026-01-01T00:10:00Z  only before  any       escalated  error     AgentIdle  shop/worker  no activity for 10m (limit 10m)
    2026-01-01T00:15:00Z  both         any       escalated  critical  AgentIdle  shop/worker  AgentIdle at 15m (limit 15m)
    2026-01-01T00:16:30Z  both         any       resolved   critical  AgentIdle  shop/worker  no longer breaks the rule AgentIdle. Peak 16m30s (limit 15m)

    RULE       RECEIVER  BOTH  ONLY NEW  ONLY BEFORE
    AgentIdle  any          2         1            2

    2 notifications in both, 1 only with the new rules, 2 only before
    ");
    let json = report::json(&played, &rows);
    assert_eq!((json["notices"][0]["notified"].as_str(), json["notices"][1]["at"].as_str()), (Some("new"), None));
    assert_eq!(
        json["counts"][0],
        serde_json::json!({"rule": "AgentIdle", "receiver": "any", "both": 2, "new": 1, "before": 2})
    );
    let remarks = remarks(&played, &receivers(&Config::default()).expect("one"), &[]);
    assert_eq!(
        remarks,
        [
            "2 inputs are missing in the recording, whose buffer was full",
            "1 lines could not be parsed and were skipped",
            "polls of gone were skipped, since it is not configured; add it to `sources` in the file of --config",
        ]
    );
}

#[test]
fn the_same_rules_give_the_same_notifications() {
    let (played, rows) = replayed("rules: []");
    assert!(rows.len() == 4 && rows.iter().all(|row| matches!(row, ComparedNotice::Both { .. })), "{rows:?}");
    let text = report::text(&played, &rows, false, OutputStyle { width: None, colours: false });
    assert!(
        !text.contains("WHEN") && text.ends_with("4 notifications in both, 0 only with the new rules, 0 only before\n"),
        "{text}"
    );
    let (played, rows) = replayed("rules: [{name: AgentIdle, enabled: false}]");
    assert!(rows.len() == 4 && rows.iter().all(|row| matches!(row, ComparedNotice::Before(_))), "{rows:?}");
    let none = report::text(&played, &[], false, OutputStyle { width: None, colours: false });
    assert!(none.ends_with("no notifications, neither before nor with the new rules\n"), "{none}");
}

fn notice(name: &str, level: Level, seconds: i64) -> Arc<Notice> {
    let subject = Subject::Agent { project: "shop".into(), name: name.into() };
    let built = Receiver::build(&[ReceiverConfig::nowhere("ops")]).expect("a receiver");
    Arc::new(Notice {
        fingerprint: Fingerprint::of("AgentIdle", &subject),
        subject,
        kind: NoticeKind::Firing,
        level,
        ..crate::notify::test_notice(&built[0], at(seconds), "here")
    })
}

#[test]
fn the_same_notice_matches_only_within_the_allowed_time() {
    let before = [notice("a", Level::Error, 0), notice("a", Level::Error, 1_000), notice("b", Level::Error, 5)];
    let new = [notice("a", Level::Error, 60), notice("a", Level::Warning, 1_000), notice("b", Level::Error, 400)];
    let rows = compare(&before, &new, Duration::from_secs(60));
    let shown: Vec<(i64, &str, &str)> = rows
        .iter()
        .map(|row| {
            ((row.notice().at.as_millis() - at(0).as_millis()) / 1000, row.word(), &**row.notice().subject.name())
        })
        .collect();
    let expected = [
        (5, "only before", "b"),
        (60, "both", "a"),
        (400, "only new", "b"),
        (1_000, "only new", "a"),
        (1_000, "only before", "a"),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_file_without_input_is_not_a_recording() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("empty");
    std::fs::write(&path, "not a recording\n").expect("a file");
    let error = play(&path, &mut []).expect_err("nothing").to_string();
    assert!(error.ends_with("has no recorded input; record with `lookout run --record FILE`"), "{error}");
    assert!(play(&dir.path().join("none"), &mut []).is_err());
}
