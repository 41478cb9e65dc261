//! The commands for rules as code, as users run them: tests of rules, replay, export to Prometheus.

mod prometheus_alike;
mod replays;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use lookout::rules::ForEach;
use lookout::rules::compile::RuleSettings;

use crate::program::Setup;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    let own = vec![
        trial("test rules: the tests of the built-in rules pass", &[], built_in_rules_pass),
        trial("test rules: every built-in rule is tested at each of its levels", &[], every_built_in_rule_is_tested),
        trial("test rules: exit codes and JUnit distinguish failures and invalid files", &[], exit_codes_tell),
    ];
    [own, prometheus_alike::trials(), replays::trials()].into_iter().flatten().collect()
}

/// The output of the program in the project's folder.
fn lookout(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(crate::program::lookout());
    command.args(arguments).current_dir(folder).env_clear().output().expect("the program runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn built_in_rules_pass() {
    let files: Vec<String> = tidy::files("alerts/tests").iter().map(|path| path.display().to_string()).collect();
    assert!(!files.is_empty());
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(String::as_str));
    let output = lookout(tidy::root(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The rules about spending.
pub(crate) const SPENDING: [&str; 6] =
    ["DayCostForecast", "DayTokenForecast", "ErrorRepeating", "IdleButSpending", "TaskLooping", "TokenVelocity"];

fn every_built_in_rule_is_tested() {
    let mut fires = BTreeSet::new();
    let mut rests = BTreeSet::new();
    let files = tidy::files("alerts/tests");
    let tests = files.iter().flat_map(|path| {
        lookout::cli::test_rules::load(&tidy::root().join(path)).unwrap_or_else(|error| panic!("{error}")).tests
    });
    for check in tests.flat_map(|test| test.alert_rule_test) {
        for alert in &check.alerts {
            let rule = check.rule.as_ref().or(alert.rule.as_ref()).expect("an alert of a rule");
            fires.extend(alert.level.map(|level| (rule.clone(), level)));
        }
        rests.extend(check.rule.filter(|_| check.alerts.is_empty()));
    }
    let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    for rule in lookout::rules::built_in(rules).expect("good rules").descriptions() {
        // Lookout itself does not fail on a virtual clock.
        if matches!(rule.for_each, ForEach::Receiver | ForEach::Sidecar) {
            continue;
        }
        // Rules about spending are tested to the second next to the engine.
        if SPENDING.contains(&rule.name) {
            continue;
        }
        for (level, _) in &rule.levels {
            assert!(fires.contains(&(rule.name.to_owned(), *level)), "no test sees {} at {level}", rule.name);
        }
        assert!(rests.contains(rule.name), "no test sees {} at rest", rule.name);
    }
}

fn exit_codes_tell() {
    let setup = Setup::new("");
    let test = "tests:\n  - name: nothing fires\n    input_state:\n      - {at: 0s, state: {agents: [{name: a, status: STATUS}]}}\n    notifications: []\n";
    setup.write("good.yaml", &test.replace("STATUS", "running"));
    setup.write("bad.yaml", &test.replace("STATUS", "failed"));
    setup.write("broken.yaml", "tests: [\n");
    let run = |files: &[&str]| lookout(setup.path(), &[&["test", "rules", "--junit", "out.xml"], files].concat());
    let good = run(&["good.yaml"]);
    assert_eq!(
        (good.status.code(), &*text(&good)),
        (Some(0), "good.yaml\n  ok     nothing fires\n1 test: 1 passed, 0 failed\n")
    );
    let bad = run(&["good.yaml", "bad.yaml"]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    assert!(text(&bad).contains("  FAILED nothing fires\n         notifications to test:\n           + got      0s {kind: firing, rule: AgentDown"), "{}", text(&bad));
    let xml = std::fs::read_to_string(setup.path().join("out.xml")).expect("the results");
    assert!(xml.contains("<testsuites name=\"lookout test rules\" tests=\"2\" failures=\"1\" errors=\"0\">"), "{xml}");
    let broken = run(&["broken.yaml", "bad.yaml"]);
    assert_eq!(broken.status.code(), Some(2), "{}", text(&broken));
    assert!(text(&broken).contains("broken.yaml: line "), "{}", text(&broken));
    assert_eq!(run(&["none.yaml"]).status.code(), Some(2));
    assert_eq!(lookout(setup.path(), &["test", "rules"]).status.code(), Some(2));
}
