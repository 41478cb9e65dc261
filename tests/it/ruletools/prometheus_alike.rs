//! Prometheus with the exported rules, and lookout, on the same data: the same alerts must fire at the same time.
//!
//! A rule test is run; the values of `/metrics` at each step become the input of a unit test for
//! promtool, and what lookout found becomes its expectation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lookout::cli::test_rules;
use lookout::machine::Simulation;
use lookout::metrics::{ExpositionFormat, write_fleet};
use lookout::model::{AlertState, duration};
use serde_json::Value;

use crate::counterparts::{self, Need};
use crate::program::Setup;
use crate::{Case, tidy, trial};

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial(
            "export: exported rules fire as lookout's own do on the same data",
            &[Need::Promtool],
            both_find_the_same,
        ),
        trial("export: promtool accepts the export of a user's configuration", &[Need::Promtool], promtool_takes_it),
    ]
}

/// The labels that identify an alert.
type Labels = BTreeMap<String, String>;

/// The values and alerts at the steps of a test.
#[derive(Default)]
struct Seen {
    steps: usize,
    /// The values of each series at the steps at which it exists.
    series: BTreeMap<String, BTreeMap<usize, String>>,
    /// The firing alerts at each step.
    firing: Vec<BTreeSet<Labels>>,
}

impl Seen {
    fn look(&mut self, simulation: &Simulation) {
        let mut fleet = simulation.fleet().state().clone();
        fleet.at = simulation.now();
        let mut page = Vec::new();
        assert!(write_fleet(&fleet, simulation.counts(), ExpositionFormat::Text, &mut page, &mut |_: &mut Vec<u8>| {
            true
        }));
        let page = String::from_utf8(page).unwrap();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            self.series.entry(series.to_owned()).or_default().insert(self.steps, value.to_owned());
        }
        let firing = simulation.open().into_iter().filter(|alert| alert.state == AlertState::Firing).map(|alert| {
            let mut labels = Labels::new();
            labels.insert("alertname".to_owned(), alert.rule.to_string());
            labels.insert("severity".to_owned(), alert.level.as_str().to_owned());
            for (label, value) in [
                ("project", &alert.project),
                ("agent_name", &alert.agent_name),
                ("component", &alert.component),
                ("source", &alert.source),
            ] {
                labels.extend(value.as_ref().map(|value| (label.to_owned(), value.to_string())));
            }
            labels
        });
        self.firing.push(firing.collect());
        self.steps += 1;
    }
}

/// The values of a series in promtool's notation; what goes away is marked stale, as a scrape does.
fn values(steps: usize, at: &BTreeMap<usize, String>) -> String {
    let mut text = String::new();
    let mut there = false;
    for step in 0..steps {
        let value = at.get(&step).map_or(if there { "stale" } else { "_" }, String::as_str);
        there = at.contains_key(&step);
        write!(text, "{value} ").unwrap();
    }
    text
}

/// What lookout found as Prometheus counts it: its verdicts know no agent, and what counts time with `for` keeps its
/// milder levels.
fn as_prometheus(found: &BTreeSet<Labels>, rules: &[Value]) -> BTreeSet<Labels> {
    let mut expected = BTreeSet::new();
    for labels in found {
        let of_rule = || rules.iter().filter(|rule| rule["alert"] == labels["alertname"].as_str());
        let own = of_rule().find(|rule| rule["labels"]["severity"] == labels["severity"].as_str());
        let own = own.unwrap_or_else(|| panic!("{labels:?} was not exported"));
        let expression = own["expr"].as_str().unwrap();
        let mut labels = labels.clone();
        if expression.starts_with("orchestrator_alerts_active") {
            labels.remove("agent_name");
        }
        for milder in of_rule()
            .take_while(|rule| *rule != own)
            .filter(|_| own.get("for").or(own.get("keep_firing_for")).is_some())
        {
            let severity = milder["labels"]["severity"].as_str().unwrap();
            let mut labels = labels.clone();
            labels.insert("severity".to_owned(), severity.to_owned());
            expected.insert(labels);
        }
        expected.insert(labels);
    }
    expected
}

/// The unit test for promtool that corresponds to one test of rules.
fn unit_test(interval: Duration, seen: &Seen, rules: &[Value]) -> String {
    let interval = duration::exact(interval);
    let mut out = format!("  - interval: {interval}\n    input_series:\n");
    for (series, at) in &seen.series {
        let target = "job=\"lookout\",instance=\"here\"";
        let series = match series.split_once('{') {
            Some((name, labels)) => format!("{name}{{{target},{labels}"),
            None => format!("{series}{{{target}}}"),
        };
        writeln!(
            out,
            "      - series: {}\n        values: {}",
            Value::from(series),
            Value::from(values(seen.steps, at))
        )
        .unwrap();
    }
    let expression =
        "count by (alertname, severity, project, agent_name, component, source) (ALERTS{alertstate=\"firing\"})";
    out.push_str("    promql_expr_test:\n");
    for (step, firing) in seen.firing.iter().enumerate() {
        let at = duration::exact(duration::parse(&interval).unwrap() * u32::try_from(step).unwrap());
        writeln!(out, "      - eval_time: {at}\n        expr: {}\n        exp_samples:", Value::from(expression))
            .unwrap();
        for labels in as_prometheus(firing, rules) {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}={}", Value::from(value.as_str()))).collect();
            writeln!(out, "          - {{labels: {}, value: 1}}", Value::from(format!("{{{}}}", labels.join(", "))))
                .unwrap();
        }
    }
    out
}

/// The exported rules of the configuration that a file of tests describes.
fn exported(folder: &Path, config: &str) -> String {
    std::fs::write(folder.join("lookout.yaml"), config).unwrap();
    let output = super::lookout(folder, &["export", "prometheus-rules", "--config", "lookout.yaml"]);
    assert!(output.status.success(), "{}", super::text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn compare(file: &str) {
    let path = tidy::root().join(file);
    let tests = test_rules::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let setup = Setup::new("");
    let mut config = serde_json::to_value(&tests.config).unwrap();
    // Prometheus does not need the receivers, and their secrets are masked here.
    config["receivers"] = serde_json::json!([]);
    let rules_text = exported(setup.path(), &config.to_string());
    std::fs::write(setup.path().join("rules.yml"), &rules_text).unwrap();
    let rules: Value = serde_saphyr::from_str(&rules_text).unwrap();
    let rules: Vec<Value> = rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .cloned()
        .collect();
    let mut fired = BTreeSet::new();
    for test in &tests.tests {
        let mut seen = Seen::default();
        test_rules::watch(test, &tests, &mut |_, trial| seen.look(trial)).unwrap_or_else(|error| panic!("{error:?}"));
        fired.extend(seen.firing.iter().flatten().map(|labels| labels["alertname"].clone()));
        let interval = duration::exact(test.interval);
        let head = format!("rule_files: [rules.yml]\nevaluation_interval: {interval}\ntests:\n");
        let unit = setup.write("unit.yml", &(head + &unit_test(test.interval, &seen, &rules)));
        counterparts::run(Command::new("promtool").args(["test", "rules"]).arg(&unit).current_dir(setup.path()));
    }
    if file.contains("scenario") {
        let all: BTreeSet<String> = rules.iter().map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect();
        let rest: BTreeSet<&str> = all.difference(&fired).map(String::as_str).collect();
        // The rules about lookout itself need a real one, whose receivers and disk fail; AgentsLimited holds for less
        // than Prometheus' interval.
        let itself = [
            "AlertsDeadLettered",
            "AlertsUndelivered",
            "EvaluationLate",
            "ExportLagging",
            "ReceiverFailing",
            "StoreFailing",
        ];
        let left_out = itself
            .into_iter()
            .chain(["AgentsLimited", "DayTokenBudget", "TaskRunningLong"])
            // Runs come from no event of the scenario.
            .chain(["AgentErrorRate", "RunCostly", "RunSlow"])
            .chain(super::SPENDING)
            .collect();
        assert_eq!(rest, left_out, "what the scenario leaves out");
    }
}

fn both_find_the_same() {
    compare("tests/it/ruletools/scenario.test.yaml");
    // `increase` estimates, so that counters which begin in the middle of a window are left to the scenario.
    for file in ["agents", "fleet", "sources"] {
        compare(&format!("alerts/tests/{file}.test.yaml"));
    }
}

fn promtool_takes_it() {
    let setup = Setup::new("");
    let rules = tidy::text("tests/it/ruletools/scenario.rules.yaml").unwrap();
    let odd = "  - {name: Odd, for_each: agent, signal: {average_of: progress, over: 1d}, when: at_most, levels: {info: 0.001}, where: {project: 'a\"b\\*', agent_name: \"[x].*\"}, summary: \"{{ value | percent }} \\\"of\\\" it\", clear_after: 1m}\n\
               \x20 - {name: Gone, for_each: agent, signal: progress, when: absent, levels: {info: true}}\n";
    setup.write("team.yaml", &(rules + odd));
    let text = exported(setup.path(), "rules: [team.yaml]\nagents: {max_idle: 90s}\n");
    let file = setup.write("rules.yml", &text);
    counterparts::run(Command::new("promtool").args(["check", "rules", "--lint-fatal"]).arg(file));
    assert!(text.contains("orchestrator_agent_idle_time_seconds >= 90 < 180"), "{text}");
    assert!(
        text.contains("# Gone: PromQL can't distinguish a value that disappeared from one that never existed"),
        "{text}"
    );
}
