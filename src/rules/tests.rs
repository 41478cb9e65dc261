//! Rule files: what is accepted, and the error for each mistake.

use std::time::Duration;

use super::built_in;
use super::compile::{RuleSet, RuleSettings};
use super::indicators::Indicator;
use crate::model::spending::UsageReport;
use crate::model::{Agent, AgentStatus, Class, Level, Problem, RulePolicy, Snapshot, Time};

fn settings() -> RuleSettings {
    RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) }
}

fn load(text: &str) -> Result<RuleSet, Vec<String>> {
    let files = [("team.yaml".to_owned(), text.to_owned())];
    let without_place = |problem: Problem| Problem { place: None, ..problem }.to_string();
    RuleSet::load(&files, settings()).map_err(|problems| problems.into_iter().map(without_place).collect())
}

/// A rule that differs from a good one by `with`, which overrides a key of the same name.
fn rule(with: &str) -> String {
    let key = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
    let named: Vec<String> = with.lines().map(key).collect();
    let good = ["name: Mine", "for_each: agent", "signal: idle_seconds", "when: at_least", "levels: {warning: 5m}"];
    let kept = good.iter().filter(|line| !named.contains(&key(line))).copied();
    let lines: Vec<&str> = kept.chain(with.lines().map(str::trim)).filter(|line| !line.ends_with("-")).collect();
    format!("rules:\n  - {}\n", lines.join("\n    "))
}

fn problem(with: &str) -> String {
    let mut errors = load(&rule(with)).err().unwrap_or_default();
    assert_eq!(errors.len(), 1, "{with}: {errors:?}");
    errors.remove(0)
}

fn mine(with: &str) -> super::Rule {
    let set = load(&rule(with)).unwrap_or_else(|errors| panic!("{with}: {errors:?}"));
    set.rules.into_iter().find(|rule| rule.name() == "Mine").expect("it is there")
}

fn thresholds(with: &str) -> Vec<f64> {
    mine(with).thresholds.levels.iter().flatten().copied().collect()
}

#[test]
fn built_in_rules_are_those_of_the_documentation() {
    let set = built_in(settings()).expect("they compile");
    let mut names: Vec<&str> = set.rules.iter().map(super::Rule::name).collect();
    names.sort_unstable();
    let expected = [
        "AgentDown",
        "AgentErrorRate",
        "AgentIdle",
        "AgentMissing",
        "AgentRestarting",
        "AgentStale",
        "AgentsDown",
        "AgentsLimited",
        "AlertsDeadLettered",
        "AlertsUndelivered",
        "ClusterHealth",
        "ComponentStatus",
        "ContextNearlyFull",
        "DayCostBudget",
        "DayCostForecast",
        "DayTokenBudget",
        "DayTokenForecast",
        "ErrorRate",
        "ErrorRepeating",
        "EvaluationLate",
        "ExportLagging",
        "FleetTooSmall",
        "IdleButSpending",
        "RateLimited",
        "ReceiverFailing",
        "RunCostly",
        "RunSlow",
        "SourceDown",
        "StoreFailing",
        "TaskLooping",
        "TaskRunningLong",
        "TaskTokenBudget",
        "TokenVelocity",
    ];
    assert_eq!(names, expected, "AgentStatusChanged is off by default");
}

#[test]
fn omitted_keys_have_defaults() {
    let RulePolicy { name, class, lowest, hold, clear_after, cooldown, repeat, flap, quiet, version } = mine("").policy;
    assert_eq!((&*name, class, lowest), ("Mine", Class::Agent, Level::Warning));
    assert_eq!((hold, clear_after, cooldown), (Duration::ZERO, Duration::ZERO, Duration::from_secs(60)));
    assert_eq!(repeat, Some(Duration::from_secs(4 * 3600)));
    assert_eq!((flap, quiet.len(), version.len()), (Some(crate::model::Flap::default()), 0, 8));
    assert_eq!(mine("flap: null").policy.flap, None);
    let flap = mine("flap: {changes: 4}").policy.flap.expect("it is on");
    assert_eq!((flap.changes, flap.within.as_secs(), flap.settle.as_secs()), (4, 600, 300));
    assert_ne!(version, mine("flap: null").policy.version);
    assert_eq!(&*version, "b3068b79", "the same in every build, as timelines are kept longer than a program");
    let moved = "# Ours.\n\nrules:\n  - when: at_least  # seconds\n    for_each: agent\n    signal: idle_seconds\n    \
        levels: {warning: 5m}\n    name: Mine\n";
    let moved = load(moved).expect("a rule").rules.into_iter().find(|rule| rule.name() == "Mine").expect("it is there");
    assert_eq!(moved.policy.version, version, "its place, comments and order of keys are no change");
    assert_eq!(mine("repeat: null").policy.repeat, None);
    let given = mine("for: 10s\nclear_after: 1m\ncooldown: 0s\nrepeat: 1h").policy;
    assert_eq!((given.hold.as_secs(), given.clear_after.as_secs(), given.cooldown.as_secs()), (10, 60, 0));
    assert_eq!(given.repeat, Some(Duration::from_secs(3600)));
}

#[test]
fn thresholds_are_numbers_durations_statuses_percentages_or_multiples() {
    assert_eq!(
        thresholds("levels: {info: 30, warning: 5m, error: 2 * agents.max_idle, critical: 20 * agents.timeout}"),
        [30.0, 300.0, 600.0, 1200.0]
    );
    assert_eq!(thresholds("signal: task_budget_ratio\nlevels: {warning: 90%, error: 1.0}"), [0.9, 1.0]);
    assert_eq!(thresholds("signal: status\nwhen: equals\nlevels: {info: idle, error: failed}"), [0.0, 8.0]);
    assert_eq!(
        thresholds("for_each: component\nsignal: component_status\nwhen: equals\nlevels: {error: ERROR}"),
        [3.0]
    );
    assert_eq!(
        thresholds("for_each: cluster\nsignal: cluster_health\nwhen: at_least\nlevels: {error: CRITICAL}"),
        [3.0]
    );
    assert_eq!(thresholds("signal: progress\nwhen: at_most\nlevels: {warning: 50%, error: 10%}"), [0.5, 0.1]);
    assert_eq!(mine("clear_below: 0.8 * agents.max_idle").thresholds.clear, Some(240.0));
}

#[test]
fn a_rule_replaces_or_disables_the_built_in_one() {
    let set = load(&rule("name: AgentIdle\nlevels: {critical: 1m}")).expect("it compiles");
    let idle: Vec<_> = set.rules.iter().filter(|rule| rule.name() == "AgentIdle").collect();
    assert_eq!((idle.len(), idle[0].policy.lowest), (1, Level::Critical));
    let off = load("rules: [{name: AgentIdle, enabled: false}]").expect("it compiles");
    assert!(off.rules.iter().all(|rule| rule.name() != "AgentIdle"));
    assert_eq!(off.len() + 1, set.len());
    let later = [("a.yaml", rule("levels: {warning: 1}")), ("b.yaml", rule("levels: {warning: 2}"))];
    let files: Vec<(String, String)> = later.map(|(name, text)| (name.to_owned(), text)).into();
    let set = RuleSet::load(&files, settings()).expect("they compile");
    let mine: Vec<_> = set.rules.iter().filter(|rule| rule.name() == "Mine").collect();
    assert_eq!((mine.len(), mine[0].thresholds.levels[1]), (1, Some(2.0)), "the last file wins");
}

#[test]
fn each_error_names_its_fix() {
    for (with, expected) in [
        (
            "name: Mine!",
            "invalid rule name: it becomes a label value, so use ASCII letters, digits and underscores only, as in AgentIdle",
        ),
        ("for_each: -", "`for_each` is missing; a rule needs for_each, signal, when and levels"),
        ("signal: -", "`signal` is missing; a rule needs for_each, signal, when and levels"),
        ("when: -", "`when` is missing; a rule needs for_each, signal, when and levels"),
        ("levels: -", "`levels` is missing; a rule needs for_each, signal, when and levels"),
        (
            "for_each: cluster\nsignal: agents_down\nlevels: {warning: 1}\nwhere: {status: idle}",
            "`where` takes agent_name, type and status only with `for_each: agent`",
        ),
        ("repeat: 9s", "`repeat` is shorter than 10s; write at least 10s, or null for never"),
        (
            "for_each: cluster\nsignal: {increase_of: restarts, over: 1h}",
            "a signal over time is evaluated for agents only; write `for_each: agent`",
        ),
        (
            "signal: {increase_of: restarts, over: 1h}\nwhen: absent",
            "`when: absent` takes a plain signal, not one over time",
        ),
        ("signal: {increase_of: restarts}", "`over` is missing; write the length of the window, like `over: 10m`"),
        ("signal: {increase_of: restarts, over: 8d}", "`over` must be from 1s to 7d"),
        ("signal: {increase_of: restarts, over: 1ms}", "`over` must be from 1s to 7d"),
        (
            "signal: {increase_of: progress, over: 1h}",
            "`progress` is not a counter; use one of restarts, tokens, cost_usd, requests, request_errors, rate_limit_hits, retries, runs, run_errors, fallbacks",
        ),
        (
            "signal: {average_of: restarts, over: 1h}",
            "`average_of: restarts` has no meaning; it takes progress, context_window_ratio, task_budget_ratio, day_budget_ratio, day_cost_ratio",
        ),
        ("signal: {changes_of: progress, over: 1h}", "`changes_of` takes status"),
        ("signal: {over: 1h}", "give exactly one of increase_of, rate_of, average_of, changes_of, ratio_of"),
        (
            "signal: {increase_of: restarts, rate_of: restarts, over: 1h}",
            "give exactly one of increase_of, rate_of, average_of, changes_of, ratio_of",
        ),
        ("for_each: component", "`idle_seconds` is available with `for_each: agent`"),
        ("signal: cluster_health", "`cluster_health` is available with `for_each: cluster`"),
        ("for_each: source\nsignal: agents_down", "`agents_down` is available with `for_each: agent` or `cluster`"),
        ("when: absent", "with `when: absent` write `levels: {warning: true}`"),
        ("when: absent\nlevels: {warning: true, error: true}", "`when: absent` has one level"),
        ("levels: {warning: 5m, error: 5m}", "thresholds must increase with severity for `when: at_least`"),
        (
            "when: at_most\nlevels: {warning: 5m, error: 6m}",
            "thresholds must decrease with severity for `when: at_most`",
        ),
        ("when: equals\nlevels: {warning: 5m, error: 5m}", "two levels have the same threshold"),
        ("clear_below: 6m", "`clear_below` is above the lowest threshold; set it to that or less"),
        ("when: at_most\nclear_above: 4m", "`clear_above` is below the highest threshold; set it to that or more"),
        ("clear_above: 6m", "`clear_below` goes with `at_least`, `clear_above` with `at_most`"),
        (
            "clear_below: soon",
            "clear_below: `soon` is neither a number, a duration like 5m, a percentage nor a value of idle_seconds",
        ),
        ("levels: {warning: true}", "levels.warning: `true` is not a threshold; write a number"),
        ("levels: {warning: inf * agents.max_idle}", "levels.warning: inf is not a finite number"),
        ("levels: {warning: nan%}", "levels.warning: NaN is not a finite number"),
        (
            "levels: {warning: 2 * agents.idle}",
            "levels.warning: unknown setting `agents.idle`; use agents.max_idle or agents.timeout",
        ),
        ("levels: {warning: two * agents.max_idle}", "levels.warning: `two` is not a number"),
        ("levels: {warning: many%}", "levels.warning: `many%` is not a percentage"),
        (
            "signal: status\nwhen: equals\nlevels: {error: dead}",
            "levels.error: `dead` is neither a number, a duration like 5m, a percentage nor a value of status",
        ),
    ] {
        let name = if with.starts_with("name") { "Mine!" } else { "Mine" };
        assert_eq!(problem(with), format!("team.yaml: rule {name}: {expected}"), "{with}");
    }
}

#[test]
fn all_errors_are_reported_at_once_and_duplicate_names_are_errors() {
    let errors = load("rules: [{name: A}, {name: B}, {name: A, enabled: false}]").expect_err("they are wrong");
    let expected = [
        "team.yaml: rule A: duplicate rule name in this file; rename one",
        "team.yaml: rule B: `for_each` is missing; a rule needs for_each, signal, when and levels",
    ];
    assert_eq!(errors, expected);
    let rules: Vec<String> = (0..300)
        .map(|number| {
            format!("{{name: R{number}, for_each: agent, signal: idle_seconds, when: at_least, levels: {{info: 1}}}}")
        })
        .collect();
    let errors = load(&format!("rules: [{}]", rules.join(", "))).expect_err("too many");
    assert_eq!(errors, ["rules: 333 rules exceed the limit of 256; remove or disable some"]);
}

#[test]
fn each_error_has_its_position() {
    let text =
        "rules:\n- name: A\n  for_each: agent\n- name: B\n  when: atleast\n- name: A\n  enabled: false\n- name: C\n";
    let problems = RuleSet::load(&[("team.yaml".to_owned(), text.to_owned())], settings()).expect_err("they are wrong");
    let places: Vec<String> = problems
        .iter()
        .map(|problem| format!("{} {:?}", problem.path, problem.place.map(|place| (place.line, place.column))))
        .collect();
    assert_eq!(places, ["rule B Some((5, 3))", "rule A Some((6, 3))", "rule C Some((8, 3))"]);
}

#[test]
fn unknown_words_are_named_with_a_suggestion() {
    for (with, expected) in [
        ("signal: idle_second", "signal: unknown signal `idle_second`; did you mean `idle_seconds`?"),
        ("signal: metric", "signal: `metric` needs the name of a custom metric; write `signal: {metric: pool_size}`"),
        ("signal: {metrc: pool_size}", "signal.metrc: unknown key; did you mean `metric`?"),
        ("signal: {metric: pool_size, label: {a: b}}", "signal.label: unknown key; did you mean `labels`?"),
        ("signal: {metric: '…'}", "signal: `…` is not the name of a custom metric; write one such as pool_size"),
        (
            "signal: {metric: pool_size, labels: {project: shop}}",
            "signal: labels: `project` is no label of a custom metric; use `where` for whose it is",
        ),
        (
            "signal: {metric: jobs, over: 10m}",
            "signal: a custom metric over time is written {increase_of: {metric: jobs}, over: 10m}",
        ),
        (
            "signal: {increase_of: {metrics: jobs}, over: 10m}",
            "signal.increase_of.metrics: unknown key; did you mean `metric`?",
        ),
        ("signal: {increase_off: restarts, over: 1h}", "signal.increase_off: unknown key; did you mean `increase_of`?"),
        ("level: {warning: 5m}", "level: unknown key; did you mean `levels`?"),
        ("levels: {wrong: 5m}", "levels.wrong: `wrong` is unknown; did you mean `warning`?"),
        (
            "levels: {warning: [5m]}",
            "levels.warning: a threshold is a number, or text like 5m, 90%, failed, 2 * agents.max_idle",
        ),
        ("when: atleast", "when: `atleast` is unknown; did you mean `at_least`?"),
        ("for: 5 parsecs", "for: `5 parsecs` is not a duration; write it like 30s, 5m, 1h30m or 30d"),
        ("enabled: no", "enabled: found `no`, expected true or false"),
    ] {
        assert_eq!(problem(with), format!("team.yaml: rule Mine: {expected}"), "{with}");
    }
    for (text, expected) in [
        ("[1]", "expected a mapping at the top level; write `rules:` with a list of rules"),
        ("rule: []", "rule: unknown key; did you mean `rules`?"),
        ("rules: {a: b}", "rules: expected a list of rules, like `- name: AgentIdle`"),
        ("rules: [{nam: X}]", "rule #1: nam: unknown key; did you mean `name`?"),
        ("rules: [7]", "rule #1: found 7, expected keys and values beneath it"),
        ("rules: [{enabled: false}]", "rule #1: name: is missing; it has no default"),
        ("rules: [\"", "line 1, column 9: unclosed quote"),
        ("rules: []\nrules: []", "line 2, column 1: duplicate key `rules`: keep one"),
    ] {
        let errors = load(text).expect_err("it is wrong");
        assert_eq!(errors, [format!("team.yaml: {expected}")], "{text}");
    }
    for text in ["", "rules:", "# nothing"] {
        load(text).expect("an empty file is valid");
    }
    for text in ["summary: \"{{ agnt }}\"", "action: \"{{ agent\""] {
        assert!(
            problem(text).starts_with("team.yaml: rule Mine: "),
            "a template is test-rendered when it is loaded: {text}"
        );
    }
}

#[test]
fn indicators_have_the_same_name_in_code_and_rule_files() {
    for indicator in Indicator::ALL {
        let read: Indicator = serde_json::from_value(indicator.name().into()).expect("a word");
        assert_eq!((read, Indicator::parse(indicator.name())), (*indicator, Some(*indicator)));
        let mut spelt = String::new();
        for letter in format!("{indicator:?}").chars() {
            let gap = if letter.is_uppercase() && !spelt.is_empty() { "_" } else { "" };
            spelt.extend(gap.chars().chain(letter.to_lowercase()));
        }
        assert_eq!(spelt, indicator.name(), "one name in the code and in a rule file");
        assert!(!indicator.for_each().is_empty(), "{spelt} has a kind of subject");
    }
}

#[test]
fn a_basis_changes_with_the_value() {
    let at = |seconds: i64| Time::from_millis(1_800_000_000_000 + seconds * 1_000);
    let fleet = Snapshot { started_at: at(0), ..Snapshot::default() };
    let agent =
        Agent { ttl: Some(Duration::from_secs(60)), ..Agent::new("shop".into(), "a".into(), "push".into(), at(0)) };
    // The names of the indicators that differ between two states of an agent.
    let differ = |before: &Agent, after: &Agent| {
        let is_other = |it: &&Indicator| it.row().basis(before, &fleet) != it.row().basis(after, &fleet);
        Indicator::ALL.iter().filter(is_other).map(|it| it.name()).collect::<Vec<_>>()
    };
    assert_eq!(differ(&agent, &agent), [""; 0]);
    let active = Agent { last_activity: Some(at(5)), ..agent.clone() };
    assert_eq!(differ(&agent, &active), ["idle_seconds"]);
    // A growing value differs if it started a millisecond later.
    let later = Agent { last_activity: Some(Time::from_millis(at(5).as_millis() + 1)), ..agent.clone() };
    assert_eq!(differ(&active, &later), ["idle_seconds"]);
    assert_eq!(differ(&active, &Agent { last_seen: at(9), ..active.clone() }), [""; 0]);
    let silent = Agent { stale: true, ..active.clone() };
    assert_eq!(differ(&active, &silent), ["stale_seconds"]);
    let failed = Agent { status: Some(AgentStatus::Failed), status_changes: 1, ..active.clone() };
    let of_a_failure = [
        "idle_seconds",
        "status",
        "context_window_ratio",
        "tokens_since_progress",
        "idle_spending_tokens",
        "agents_down",
    ];
    assert_eq!(differ(&active, &failed), of_a_failure);
    // A change back is a change, too.
    assert_eq!(differ(&active, &Agent { status_changes: 2, ..active.clone() }), ["status"]);
    // A fading value differs if it fades from another time.
    let mut spends = active.clone();
    let spend = |seconds: i64, agent: &mut Agent| {
        let usage = UsageReport {
            now: at(seconds),
            started_at: at(0),
            is_total: false,
            tokens: 5,
            cost: 0.0,
            idle_since: None,
        };
        agent.spending_mut().record(&usage);
    };
    spend(10, &mut spends);
    let mut spends_again = spends.clone();
    spend(11, &mut spends_again);
    let of_rates = ["day_budget_gone_in_seconds", "day_cost_gone_in_seconds", "token_velocity_ratio"];
    assert_eq!(differ(&spends, &spends_again), of_rates);
    let mut fails = spends.clone();
    fails.spending_mut().record_failure(at(12), "no space", true);
    assert_eq!(differ(&spends, &fails), ["same_error_count"]);
}
