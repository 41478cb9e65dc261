//! Test files and the exact reports on them.

use std::path::Path;

use super::*;

fn in_folder<T>(files: &[(&str, &str)], then: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    then(dir.path())
}

/// The failures of the only test in `text`, with `files` in its folder.
fn failures(text: &str, files: &[(&str, &str)]) -> String {
    let files = [&[("a.test.yaml", text)], files].concat();
    in_folder(&files, |folder| {
        let tests = load(&folder.join("a.test.yaml")).unwrap_or_else(|error| panic!("{error}"));
        let found: Vec<String> = tests.tests.iter().flat_map(|test| outcome(test, &tests, folder)).collect();
        found.join("\n")
    })
}

#[track_caller]
fn rejected(text: &str, expected: &str) {
    in_folder(&[("a.test.yaml", text)], |folder| {
        let mut error = load(&folder.join("a.test.yaml")).expect_err(text);
        error.problems.iter_mut().for_each(|problem| problem.place = None);
        assert_eq!(error.to_string().replace(&format!("{}/", folder.display()), ""), expected, "{text}");
    });
}

/// A test of an agent that is idle from the start.
fn idle(rest: &str) -> String {
    let rest = rest.replace('\n', "\n    ");
    format!(
        "tests:\n  - name: idle\n    input_state:\n      - {{series: idle_seconds, project: shop, agent: worker, values: 0+60x11}}\n    {rest}\n"
    )
}

#[test]
fn a_failure_shows_expected_and_actual_values() {
    let text = idle(
        "alert_rule_test:\n  - {at: 10m, rule: AgentIdle, alerts: [{level: warning, agent_name: worker}, {agent_name: other}]}\nnotifications:\n  - {at: 5m, kind: firing, level: warning}\n  - {at: 6m, kind: repeat}\n",
    );
    insta::assert_snapshot!(failures(&text, &[]), @r#"
    alerts of AgentIdle at 10m:
      - expected {level: warning, agent_name: worker}
      - expected {agent_name: other}
      + got      {rule: AgentIdle, level: error, state: firing, project: shop, agent_name: worker, value: 600, threshold: 600, message: "no activity for 10m (limit 10m)"}
    notifications to test:
        5m {kind: firing, rule: AgentIdle, level: warning, project: shop, agent_name: worker, value: 300, message: "no activity for 5m (limit 5m)"}
      - expected 6m {kind: repeat}
      + got      10m {kind: escalated, rule: AgentIdle, level: error, previous: warning, project: shop, agent_name: worker, value: 600, message: "no activity for 10m (limit 10m)"}
    "#);
}

#[test]
fn unexpected_notifications_and_wrong_order_are_failures() {
    let check = |list: &str| failures(&idle(&format!("notifications: {list}\n")), &[]);
    assert_eq!(check("[{kind: firing}, {kind: escalated}]"), "");
    assert_eq!(check("[{between: [4m, 5m]}, {between: [10m, 11m], message: no activity for 10m (limit 10m)}]"), "");
    assert!(check("[]").contains("+ got      5m"));
    assert!(check("[{kind: firing}]").contains("+ got      10m"));
    assert!(check("[{kind: escalated}, {kind: firing}]").contains("- expected"));
    assert!(check("[{at: 5m}, {at: 10m}, {between: [10m, 11m]}]").contains("- expected 10m to 11m {}"));
}

#[test]
fn an_unspecific_expectation_leaves_alerts_for_specific_ones() {
    let text = "tests:\n  - name: two\n    input_state:\n      - {at: 0s, state: {agents: [{name: a, status: failed}, {name: b, status: failed}]}}\n    alert_rule_test:\n      - {at: 0s, rule: AgentDown, alerts: [{}, {agent_name: a}]}\n";
    assert_eq!(failures(text, &[]), "");
    assert!(failures(&text.replace("[{}, ", "["), &[]).contains("agent_name: b"));
}

#[test]
fn messages_are_compared_byte_for_byte() {
    let text = |sent: &str| idle(&format!("notifications:\n  - {{at: 5m, sent: {sent}}}\n  - {{at: 10m}}\n"));
    let wrong = failures(&text("{attachments: []}"), &[]);
    assert!(wrong.starts_with("the message to test about worker at 5m:\n  from line 2:\n  - "), "{wrong}");
    let got: String = wrong.lines().filter_map(|line| line.strip_prefix("  + ")).collect::<Vec<_>>().join("\n");
    let json = format!("{{{got}}}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("what is shown is the message");
    assert_eq!(json["attachments"][0]["color"], "#ff9900");
    // The same message, as JSON and as bytes of a file.
    assert_eq!(failures(&text(&json.to_string()), &[]), "");
    assert_eq!(failures(&text("ops.json"), &[("ops.json", &format!("{json}\n"))]), "");
    let other = json.to_string().replace("5m", "6m");
    assert!(failures(&text("ops.json"), &[("ops.json", &other)]).contains("no activity for 6m"));
    assert!(failures(&text("none.json"), &[]).contains("none.json: no such file"));
}

#[test]
fn mails_are_compared_byte_for_byte() {
    let receiver =
        "receivers: [{name: mail, email: {to: [a@b.example], from: l@b.example, smtp: {host: smtp.invalid}}}]\n";
    let text = format!("{receiver}{}", idle("notifications:\n  - {at: 5m, sent: mail.txt}\n  - {at: 10m}\n"));
    let wrong = failures(&text, &[("mail.txt", "x")]);
    let mail: Vec<&str> = wrong.lines().filter_map(|line| line.strip_prefix("  + ")).collect();
    assert!(mail.contains(&"Subject: [WARNING] shop/worker: no activity for 5m (limit 5m)"), "{wrong}");
    assert_eq!(failures(&text, &[("mail.txt", &mail.join("\r\n"))]), "");
}

#[test]
fn a_test_file_can_have_settings_and_rules() {
    let rules = "rules:\n  - {name: Slow, for_each: agent, signal: task_seconds, when: at_least, levels: {error: 2m}, for: 30s, summary: \"{{ agent }} is slow\"}\n  - {name: AgentStale, enabled: false}\n";
    let text = "rule_files: [team.yaml]\nagents: {timeout: 10m, max_idle: 1m}\nbudgets: {tokens_per_task: 100}\nexpected: [{project: shop, agents: [boss]}]\nsources: [{name: orch, kind: orchestrator-cc, url: 'http://localhost:1', interval: 5s}]\n\
        tests:\n  - name: all\n    input_state:\n      - {at: 0s, state: {project: shop, agents: [{name: w, status: running, task_id: t, task_started_at: '@-30s', last_activity: '@0s'}]}}\n      - {at: 1s, usage: {project: shop, usage: [{agent: w, input: 95}]}}\n      - {at: 10s, poll: {source: orch, error: timeout}}\n      - {at: 1m, poll: {source: orch, states: [{project: shop, agents: [{name: boss, status: running}]}]}}\n    until: 3m\n    alert_rule_test:\n      - {at: 59s, rule: AgentMissing, alerts: [{level: warning, agent_name: boss, value: 59}]}\n      - {at: 59s, rule: SourceDown, alerts: [{source: orch}]}\n      - {at: 1m, rule: SourceDown, alerts: []}\n      - {at: 1m, rule: AgentMissing, alerts: []}\n      - {at: 1m, rule: AgentIdle, alerts: [{level: warning}]}\n      - {at: 1m, rule: TaskTokenBudget, alerts: [{level: warning, value: 0.95}]}\n      - {at: 1m30s, rule: Slow, alerts: [{state: pending}]}\n      - {at: 2m, rule: Slow, alerts: [{level: error, message: w is slow}]}\n";
    assert_eq!(failures(text, &[("team.yaml", rules)]), "");
}

#[test]
fn a_pause_in_a_series_makes_the_agent_stale() {
    let text = "tests:\n  - name: silence\n    interval: 30s\n    input_state:\n      - {series: status, agent: a, values: runningx2 _x9 running}\n      - {series: status, component: db, values: OKx2 ERRORx9}\n    alert_rule_test:\n      - {at: 2m29s, rule: AgentStale, alerts: []}\n      - {at: 2m30s, rule: AgentStale, alerts: [{agent_name: a, project: default}]}\n      - {at: 6m, rule: AgentStale, alerts: []}\n      - {at: 2m, rule: ComponentStatus, alerts: [{component: db, level: error}]}\n";
    assert_eq!(failures(text, &[]), "");
}

#[test]
fn silences_and_acknowledgements_can_be_tested() {
    let text = "tests:\n  - name: quiet\n    input_state:\n      - {at: 0s, silence: {matchers: {rule: AgentDown, agent_name: 'n*'}, duration: 10m, created_by: ann}}\n      - {at: 1m, state: {project: shop, ttl: 30d, agents: [{name: night, status: failed}]}}\n      - {at: 11m, ack: {rule: AgentDown, project: shop, agent_name: night, by: bob}}\n    until: 12h\n    alert_rule_test:\n      - {at: 5m, rule: AgentDown, alerts: [{agent_name: night, silenced_by: silence}]}\n      - {at: 10m, rule: AgentDown, alerts: [{agent_name: night}]}\n    notifications:\n      - {at: 0s, kind: announcement}\n      - {at: 10m, kind: firing, agent_name: night}\n      - {at: 11m, kind: announcement}\n";
    let text = format!("agents: {{forget_after: 2d}}\n{text}");
    assert_eq!(failures(&text, &[]), "");
    let loud = failures(&text.replace("      - {at: 11m, ack", "      #"), &[]);
    assert!(loud.contains("kind: repeat"), "{loud}");
    let wrong = failures(&text.replace("rule: AgentDown, project", "rule: AgentIdle, project"), &[]);
    assert!(wrong.starts_with("input_state[2]: there is no firing alert"), "{wrong}");
}

#[test]
fn input_that_the_sidecar_would_reject_fails_the_test() {
    let once =
        |input: &str| failures(&format!("tests:\n  - name: t\n    input_state:\n      - {{at: 1m, {input}}}\n"), &[]);
    for (input, expected) in [
        ("state: {agents: [{name: a, status: lazy}]}", "input_state[0]: a: "),
        ("state: {}", "input_state[0]: neither `agents` nor `components`"),
        ("usage: {usage: [{input: 5}]}", "input_state[0]: "),
        ("poll: {source: orch}", "input_state[0]: there is no source `orch`; add it to `sources` of this file"),
        (
            "state: {agents: []}, restart: 5s",
            "input_state[0]: give exactly one of state, usage, metrics, poll, run, silence, unsilence, ack, restart, series",
        ),
        ("state: {agents: []}, values: 1x2", "input_state[0]: `project`, `agent`, `component` and `values` are for"),
        ("series: status, agent: a, values: idle", "input_state[0].at: a series starts with the test"),
    ] {
        assert!(once(input).starts_with(expected), "{input}: {}", once(input));
    }
    let series = |input: &str| failures(&format!("tests:\n  - name: t\n    input_state:\n      - {{{input}}}\n"), &[]);
    assert!(series("series: status, agent: a").starts_with("input_state[0].values: is missing"));
    assert!(series("series: status, values: idle").contains("give `agent` or `component`"));
    assert!(series("series: status, agent: a, values: 1..").contains("is not a value"));
    let twice = "tests:\n  - name: t\n    input_state:\n      - {series: tokens.input, agent: a, values: '1'}\n      - {series: tokens.input, agent: a, values: '1'}\n";
    assert_eq!(
        failures(twice, &[]),
        "input_state[1].series: duplicate series of `tokens.input` for the same agent: merge the two entries"
    );
    let long = "tests:\n  - name: t\n    until: 400d\n    interval: 1d\n";
    assert_eq!(failures(long, &[]), "until: the test is longer than 366d");
    let fine = "tests:\n  - name: t\n    until: 300d\n    interval: 1s\n";
    assert!(failures(fine, &[]).contains("more than 100000"));
}

#[test]
fn mistakes_in_a_file_are_named_with_a_suggestion() {
    for (text, problem) in [
        ("tests: []", "a.test.yaml: tests: is missing or empty; a file of tests has at least one"),
        ("tests: [{name: a}]\nrulefiles: [a]", "a.test.yaml: rulefiles: unknown key; did you mean `rule_files`?"),
        ("tests: [{name: a, intervall: 1m}]", "a.test.yaml: tests[0].intervall: unknown key; did you mean `interval`?"),
        (
            "tests: [{name: a, alert_rule_test: [{at: 1m, alerts: [{levl: error}]}]}]",
            "a.test.yaml: tests[0].alert_rule_test[0].alerts[0].levl: unknown key; did you mean `level`?",
        ),
        (
            "tests: [{name: a, alert_rule_test: [{at: 1m, rule: AgentIdel, alerts: []}]}]",
            "a.test.yaml: tests[0].alert_rule_test[0].rule: there is no rule `AgentIdel`; did you mean `AgentIdle`?",
        ),
        (
            "tests: [{name: a, notifications: [{receiver: tset}]}]",
            "a.test.yaml: tests[0].notifications[0].receiver: there is no receiver `tset`; did you mean `test`?",
        ),
        (
            "receivers: [{name: a}, {name: b}]\ntests: [{name: a, notifications: [{at: 1m}]}]",
            "a.test.yaml: tests[0].notifications[0].receiver: there is no receiver ``; there are `a`, `b`",
        ),
        (
            "tests: [{name: a}]\nstart: now",
            "a.test.yaml: start: `now` is not a time; write it like 2026-01-01T00:00:00Z",
        ),
        ("tests: [{name: a}]\nagents: {timeout: 0s}", "a.test.yaml: agents.timeout: is 0s; it must be longer"),
        ("tests: [{name: a}]\nrule_files: [none.yaml]", "none.yaml: no such file; check the path"),
        (
            "tests: [{name: a, alert_rule_test: [{at: 60, alerts: []}]}]",
            "a.test.yaml: tests[0].alert_rule_test[0].at: found 60, expected a duration like 30s, 5m, 1h30m or 30d",
        ),
    ] {
        rejected(text, problem);
    }
}

#[test]
fn results_are_written_as_junit_xml() {
    let error = ConfigError { problems: vec![Problem::new("tests", "is <bad>")] };
    let results = [
        FileResult {
            path: "a & b.yaml".into(),
            outcome: Ok(vec![
                ("good".to_owned(), vec![]),
                (
                    "bad \u{1b}[31m".to_owned(),
                    vec!["alerts at 5m:\n  - expected {\"x\"}".to_owned(), "more".to_owned()],
                ),
            ]),
        },
        FileResult { path: "c.yaml".into(), outcome: Err(error) },
    ];
    insta::assert_snapshot!(junit::xml(&results), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="lookout test rules" tests="3" failures="1" errors="1">
      <testsuite name="a &amp; b.yaml" tests="2" failures="1" errors="0">
        <testcase classname="a &amp; b.yaml" name="good"/>
        <testcase classname="a &amp; b.yaml" name="bad [31m">
          <failure message="alerts at 5m:">alerts at 5m:
      - expected {&quot;x&quot;}
    more</failure>
        </testcase>
      </testsuite>
      <testsuite name="c.yaml" tests="1" failures="0" errors="1">
        <testcase classname="c.yaml" name="the file">
          <error message="invalid test file">tests: is &lt;bad&gt;</error>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}
