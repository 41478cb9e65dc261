//! The built-in rules in `alerts/`, and their Prometheus counterparts in `prometheus/`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lookout::model::{Level, duration};
use lookout::rules::Indicator;
use serde_json::Value;

use super::{document, list, promql, word};
use crate::counterparts::{self, Need};
use crate::{Case, tidy, trial};

const RECORDING: &str = "prometheus/recording.rules.yml";
const ALERTING: &str = "prometheus/alerting.rules.yml";

pub(crate) fn trials() -> Vec<Case> {
    vec![
        trial("alerts: built-in rules have existing signals, a summary and an action", &[], built_in_rules_are_whole),
        trial("prometheus: every name in a rule exists", &[], names_exist),
        trial("prometheus: alerting rules have the thresholds of the built-in rules", &[], both_say_the_same),
        trial("prometheus: every rule has a unit test", &[], every_rule_is_tested),
        trial("prometheus: alerting rules are not loaded by default", &[], alerting_rules_are_not_loaded),
        trial("prometheus: promtool accepts rules and configuration", &[Need::Promtool], promtool_takes_all),
        trial("prometheus: unit tests of rules pass", &[Need::Promtool], unit_tests_pass),
        trial("deploy: the compose file pins images and mounts what exists", &[], compose_is_whole),
    ]
}

/// The rules of a Prometheus rule file.
fn rules_of(path: &str) -> Vec<Value> {
    list(&document(path), "groups").iter().flat_map(|group| list(group, "rules")).cloned().collect()
}

/// The built-in rules, by name.
fn built_in() -> BTreeMap<String, Value> {
    let mut rules = BTreeMap::new();
    for path in tidy::files("alerts") {
        for rule in list(&document(&path.display().to_string()), "rules") {
            let before = rules.insert(word(rule, "name").to_owned(), rule.clone());
            assert!(before.is_none(), "{} is named twice", word(rule, "name"));
        }
    }
    rules
}

/// The signals that a rule looks at.
fn signals(rule: &Value) -> Vec<String> {
    match &rule["signal"] {
        Value::String(name) => vec![name.clone()],
        taken => ["increase_of", "rate_of", "average_of", "changes_of", "ratio_of"]
            .iter()
            .filter_map(|how| taken.get(how))
            .flat_map(|of| of.as_array().cloned().unwrap_or_else(|| vec![of.clone()]))
            .map(|name| name.as_str().expect("a signal's name").to_owned())
            .collect(),
    }
}

/// A threshold as a number that an expression shows: seconds for times, defaults for settings; `None` for a word.
fn number(threshold: &Value) -> Option<f64> {
    let Value::String(text) = threshold else { return threshold.as_f64() };
    if let Some((factor, setting)) = text.split_once(" * ") {
        let agents = lookout::fleet::config::AgentsConfig::default();
        let seconds = match setting {
            "agents.max_idle" => agents.max_idle,
            "agents.timeout" => agents.timeout,
            "p95" | "median" => return None,
            other => panic!("there is no setting `{other}`"),
        };
        return Some(factor.parse::<f64>().expect("a factor") * seconds.as_secs_f64());
    }
    duration::parse(text).ok().map(|duration| duration.as_secs_f64())
}

fn built_in_rules_are_whole() {
    const KEYS: [&str; 18] = [
        "name",
        "enabled",
        "for_each",
        "signal",
        "when",
        "levels",
        "for",
        "clear_below",
        "clear_above",
        "clear_after",
        "cooldown",
        "repeat",
        "where",
        "flap",
        "summary",
        "action",
        "resolved",
        "peak",
    ];
    let rules = built_in();
    let expected = "AgentDown AgentErrorRate AgentIdle AgentMissing AgentRestarting AgentStale AgentStatusChanged AgentsDown \
                    AgentsLimited AlertsDeadLettered AlertsUndelivered ClusterHealth ComponentStatus ContextNearlyFull DayCostBudget \
                    DayCostForecast DayTokenBudget DayTokenForecast ErrorRate ErrorRepeating EvaluationLate \
                    ExportLagging FleetTooSmall IdleButSpending RateLimited ReceiverFailing RunCostly RunSlow SourceDown StoreFailing \
                    TaskLooping TaskRunningLong TaskTokenBudget TokenVelocity";
    assert!(rules.keys().map(String::as_str).eq(expected.split_whitespace()), "{:?}", rules.keys());
    for (name, rule) in &rules {
        let keys = rule.as_object().expect("a rule is a table");
        assert!(keys.keys().all(|key| KEYS.contains(&key.as_str())), "{name}: {:?}", keys.keys());
        for signal in signals(rule) {
            let known = Indicator::parse(&signal).is_some();
            assert!(known, "{name}: there is no signal `{signal}`");
        }
        assert!(!signals(rule).is_empty(), "{name}: no signal");
        assert!(
            ["agent", "component", "source", "cluster", "receiver", "sidecar"].contains(&word(rule, "for_each")),
            "{name}"
        );
        assert!(["at_least", "at_most", "equals", "absent"].contains(&word(rule, "when")), "{name}");

        let levels = rule["levels"].as_object().expect("levels");
        assert!(!levels.is_empty() && levels.keys().all(|level| Level::parse(level).is_some()), "{name}: {levels:?}");
        // What is usual differs between agents; its factors rise.
        let factor = |threshold: &Value| threshold.as_str()?.split_once(" * ")?.0.parse::<f64>().ok();
        let rising = Level::ALL.iter().filter_map(|level| levels.get(level.as_str()));
        let rising: Vec<f64> = rising.filter_map(|threshold| number(threshold).or_else(|| factor(threshold))).collect();
        assert!(
            (if word(rule, "when") == "at_most" { rising.iter().rev().is_sorted() } else { rising.is_sorted() })
                && (word(rule, "when") == "equals" || rising.len() == levels.len()),
            "{name}: {levels:?}"
        );

        assert!(
            word(rule, "action").ends_with('.') && !word(rule, "summary").ends_with('.'),
            "{name}: a summary and an action"
        );
        for part in word(rule, "summary").split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
            let (variable, filter) = part.0.split_once('|').unwrap_or((part.0, ""));
            let known = [
                "agent",
                "component",
                "source",
                "receiver",
                "project",
                "subject",
                "value",
                "threshold",
                "limit",
                "measure",
                "task",
                "progress",
                "status",
                "used",
                "budget",
                "total",
                "up",
                "expected",
                "components",
                "level",
                "reason",
                "agents",
                "provider",
                "until",
                "run",
                "run_id",
                "run_error",
                "usual",
            ];
            assert!(known.contains(&variable.trim()), "{name}: there is no `{variable}`");
            assert!(
                ["", "duration", "percent", "count", "short", "dollars", "clock_time", "join(', ')"]
                    .contains(&filter.trim()),
                "{name}: there is no filter `{filter}`"
            );
        }
    }
}

fn names_exist() {
    let recorded: BTreeSet<String> = rules_of(RECORDING).iter().map(|rule| word(rule, "record").to_owned()).collect();
    let mut wrong = Vec::new();
    for rule in rules_of(RECORDING).iter().chain(&rules_of(ALERTING)) {
        let expression = word(rule, "expr");
        wrong.extend(promql::faults(expression, &recorded));
        for selector in promql::names(expression).selectors {
            for (label, _, value) in selector.matchers.iter().filter(|(label, ..)| label == "rule") {
                if !built_in().contains_key(value) {
                    wrong.push(format!("`{label}` is never `{value}`\n    in {expression}"));
                }
            }
        }
        if let Some((level, rest)) = word(rule, "record").split_once(':') {
            let parts = rest.split(':').count();
            if parts != 2 || !["agent", "platform", "project", "fleet"].contains(&level) {
                wrong.push(format!("`{}` is not named level:metric:operations", word(rule, "record")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn both_say_the_same() {
    let mut ours = BTreeMap::new();
    for (name, rule) in built_in().iter().filter(|(_, rule)| rule["enabled"] != false) {
        for (level, threshold) in rule["levels"].as_object().expect("levels") {
            ours.insert((name.clone(), level.clone()), threshold.clone());
        }
    }
    let mut theirs = BTreeSet::new();
    for rule in rules_of(ALERTING) {
        let (name, severity) = (word(&rule, "alert").to_owned(), word(&rule["labels"], "severity").to_owned());
        assert!(theirs.insert((name.clone(), severity.clone())), "{name} {severity} stands there twice");
        for key in ["summary", "description", "runbook_url"] {
            assert!(!word(&rule["annotations"], key).is_empty(), "{name} {severity}: no {key}");
        }
        let threshold =
            ours.get(&(name.clone(), severity.clone())).unwrap_or_else(|| panic!("no built-in {name} {severity}"));
        let expression = word(&rule, "expr");
        // Rules by lookout's own evaluation, and AgentDown, which compares two families, have no number.
        if expression.contains("orchestrator_alerts_active") || name == "AgentDown" {
            continue;
        }
        let shown = match number(threshold) {
            None if threshold.as_str().is_some_and(|text| text.contains(" * ")) => {
                let (factor, _) = threshold.as_str().and_then(|text| text.split_once(" * ")).expect("a multiple");
                expression.contains(&format!(">= {factor} * "))
            }
            None => expression.contains(&format!("\"{}\"", threshold.as_str().expect("a word"))),
            Some(seconds) if expression.contains("_gone_seconds") => expression.contains(&format!(" <= {seconds}")),
            Some(seconds) if duration::parse(word(&rule, "for")).is_ok_and(|held| held.as_secs_f64() == seconds) => {
                true
            }
            // By default `up` becomes 0 after agents.timeout without any input.
            Some(_) if name == "AgentStale" => expression.contains("orchestrator_agent_up == 0"),
            Some(number) => {
                expression.replace('\n', " ").contains(&format!(">= {number} "))
                    || expression.ends_with(&format!(">= {number}"))
                    || expression.contains(&format!(">= {number}\n"))
            }
        };
        assert!(shown, "{name} {severity}: {threshold} is not the threshold of {expression}");
    }
    assert!(ours.keys().eq(theirs.iter()), "ours {:?}\ntheirs {theirs:?}", ours.keys());
}

fn every_rule_is_tested() {
    let tests: Vec<Value> = tidy::files("prometheus/tests")
        .iter()
        .flat_map(|path| list(&document(&path.display().to_string()), "tests").to_vec())
        .collect();
    let expressions: BTreeSet<&str> =
        tests.iter().flat_map(|test| list(test, "promql_expr_test")).map(|one| word(one, "expr")).collect();
    for rule in rules_of(RECORDING) {
        assert!(expressions.contains(word(&rule, "record")), "no test asks for {}", word(&rule, "record"));
    }
    let mut fires = BTreeSet::new();
    let mut rests = BTreeSet::new();
    for test in tests.iter().flat_map(|test| list(test, "alert_rule_test")) {
        let name = word(test, "alertname");
        if list(test, "exp_alerts").is_empty() {
            rests.insert(name);
        }
        fires.extend(list(test, "exp_alerts").iter().map(|alert| (name, word(&alert["exp_labels"], "severity"))));
    }
    for rule in rules_of(ALERTING) {
        let (name, severity) = (word(&rule, "alert"), word(&rule["labels"], "severity"));
        assert!(fires.contains(&(name, severity)), "no test sees {name} fire as {severity}");
        assert!(rests.contains(name), "no test sees {name} at rest");
    }
}

fn alerting_rules_are_not_loaded() {
    let config = document("prometheus/prometheus.yml");
    assert_eq!(config["rule_files"], serde_json::json!(["recording.rules.yml"]));
}

fn promtool(arguments: &[&str]) {
    counterparts::run(Command::new("promtool").args(arguments).current_dir(tidy::root()));
}

fn promtool_takes_all() {
    promtool(&["check", "rules", "--lint-fatal", RECORDING, ALERTING]);
    promtool(&["check", "config", "--lint-fatal", "prometheus/prometheus.yml"]);
}

fn unit_tests_pass() {
    let tests: Vec<String> = tidy::files("prometheus/tests").iter().map(|path| path.display().to_string()).collect();
    let mut arguments = vec!["test", "rules"];
    arguments.extend(tests.iter().map(String::as_str));
    promtool(&arguments);
}

fn compose_is_whole() {
    let compose = document("deploy/compose.yaml");
    for (name, service) in compose["services"].as_object().expect("services") {
        let tag = word(service, "image").rsplit_once(':').map(|(_, tag)| tag).unwrap_or_default();
        let pinned = tag.contains('.') && tag != "latest";
        assert!(pinned || service.get("build").is_some(), "{name}: an image without a pinned tag");
        for mount in list(service, "volumes").iter().filter_map(Value::as_str) {
            let from = mount.split(':').next().unwrap_or_default();
            let exists = match from.strip_prefix('.') {
                Some(_) => tidy::root().join("deploy").join(from).exists(),
                None => compose["volumes"].get(from).is_some(),
            };
            assert!(exists, "{name}: there is no {from} to mount");
        }
        for secret in list(service, "secrets").iter().filter_map(Value::as_str) {
            assert!(!word(&compose["secrets"][secret], "file").is_empty(), "{name}: there is no secret {secret}");
        }
    }
}
