//! Rules in, Prometheus rules out.

use super::*;
use crate::rules::compile::RuleSettings;

/// The expressions of one rule of a user's own, with how long each must hold; and what is remarked.
fn said(rule: &str) -> (Vec<String>, String) {
    let config = Config::default();
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    let text = format!("rules:\n  - {{name: Mine, {rule}}}\n");
    let set = RuleSet::load(&[("team.yaml".to_owned(), text)], settings).unwrap_or_else(|error| panic!("{error:?}"));
    let rule = set.descriptions().find(|rule| rule.name == "Mine").expect("the rule");
    let said = promql::say(&rule, config.agents.timeout);
    let remarks = promql::remarks(&rule, &said).join("; ");
    let lines = said.unwrap_or_default().into_iter().map(|(level, said)| {
        let held = if said.held.is_zero() { String::new() } else { format!(" for {}", duration::exact(said.held)) };
        format!("{level}: {}{held}", said.expr)
    });
    (lines.collect(), remarks)
}

#[track_caller]
fn check(rule: &str, expected: &[&str]) {
    assert_eq!(said(rule), (expected.iter().map(|line| (*line).to_owned()).collect(), String::new()), "{rule}");
}

#[track_caller]
fn verdict(rule: &str, reason: &str) {
    let (lines, remarks) = said(rule);
    assert!(lines.is_empty() && remarks.contains(reason), "{rule}: {lines:?}, {remarks}");
}

#[test]
fn what_we_ship_is_what_is_exported() {
    let config = Config::default();
    let written = rules(&config, &config.rule_set().expect("built-in rules"));
    let shipped = include_str!("../../../prometheus/alerting.rules.yml");
    assert_eq!(written, shipped, "write it anew with `lookout export prometheus-rules`");
}

#[test]
fn levels_end_where_the_next_begin() {
    check(
        "for_each: agent, signal: {increase_of: retries, over: 90s}, when: at_least, levels: {info: 1, error: 5}, for: 2m",
        &[
            "info: increase(orchestrator_agent_retries_total[1m30s]) >= 1 for 2m",
            "error: increase(orchestrator_agent_retries_total[1m30s]) >= 5 for 2m",
        ],
    );
    check(
        "for_each: agent, signal: progress, when: at_most, levels: {warning: 0.5, critical: 0.1}",
        &[
            "warning: orchestrator_agent_progress_ratio <= 0.5 > 0.1",
            "critical: orchestrator_agent_progress_ratio <= 0.1",
        ],
    );
    check(
        "for_each: agent, signal: requests, when: equals, levels: {info: 100}",
        &["info: orchestrator_agent_requests_total == 100"],
    );
    check(
        "for_each: agent, signal: {rate_of: tokens, over: 5m}, when: at_least, levels: {warning: 100}",
        &["warning: sum by (job, instance, project, agent_name) (rate(orchestrator_agent_tokens_total[5m])) >= 100"],
    );
    check(
        "for_each: agent, signal: {changes_of: status, over: 1m}, when: at_least, levels: {warning: 4}",
        &["warning: sum by (job, instance, project, agent_name) (changes(orchestrator_agent_status[1m])) / 2 >= 4"],
    );
    check(
        "for_each: agent, signal: {average_of: day_cost_ratio, over: 10m}, when: at_least, levels: {warning: 50%}",
        &[
            "warning: avg_over_time((orchestrator_agent_budget_used_usd{scope=\"day\"} / (orchestrator_agent_budget_usd{scope=\"day\"} > 0))[10m:]) >= 0.5",
        ],
    );
    check(
        "for_each: agent, signal: {ratio_of: [retries, requests], over: 5m, min_samples: 10}, when: at_least, levels: {warning: 20%}",
        &[
            "warning: increase(orchestrator_agent_retries_total[5m]) / increase(orchestrator_agent_requests_total[5m]) >= 0.2\nand increase(orchestrator_agent_requests_total[5m]) >= 10",
        ],
    );
}

#[test]
fn words_and_time_have_their_own_way() {
    check(
        "for_each: agent, signal: status, when: equals, levels: {info: paused, error: failed}",
        &[
            "info: orchestrator_agent_status{status=\"paused\"} == 1",
            "error: orchestrator_agent_status{status=\"failed\"} == 1",
        ],
    );
    let stale = "orchestrator_agent_up == 0\nunless on (job, instance, project, agent_name)\n  orchestrator_agent_status{status=~\"completed|failed|paused\"} == 1";
    let (lines, remarks) =
        said("for_each: agent, signal: stale_seconds, when: at_least, levels: {warning: 1m, error: 5m}, for: 10s");
    assert_eq!(lines, [format!("warning: {stale} for 10s"), format!("error: {stale} for 4m10s")]);
    assert!(remarks.contains("from `agents.timeout` on"), "{remarks}");
    check(
        "for_each: source, signal: source_failing_seconds, when: at_least, levels: {critical: 10m}",
        &["critical: lookout_source_up == 0 for 10m"],
    );
    check(
        "for_each: agent, signal: agents_down, when: at_least, levels: {warning: 1, critical: 2}",
        &["warning: orchestrator_agent_up < orchestrator_agent_expected"],
    );
}

#[test]
fn filters_become_labels_and_conditions() {
    let down = "on (job, instance, project, agent_name)";
    check(
        "for_each: agent, signal: requests, when: at_least, levels: {info: 1}, where: {project: \"a\\\"b\", agent_name: \"w.rk-*?\", type: \"c*\", status: running}",
        &[&format!(
            "info: orchestrator_agent_requests_total{{project=\"a\\\"b\", agent_name=~\"w\\\\.rk-.*.\"}} >= 1\nand {down}\n  orchestrator_agent_info{{agent_type=~\"c.*\"}}\nand {down}\n  orchestrator_agent_status{{status=\"running\"}} == 1"
        )],
    );
    check(
        "for_each: cluster, signal: agents_down, when: at_least, levels: {error: 2}, where: {project: shop}",
        &[
            "error: count by (job, instance, project) (orchestrator_agent_up{project=\"shop\"} < orchestrator_agent_expected{project=\"shop\"}) >= 2",
        ],
    );
}

#[test]
fn what_cannot_be_said_is_named_with_the_reason() {
    verdict(
        "for_each: agent, signal: task_seconds, when: at_least, levels: {info: 1m}",
        "no metric says when a task began",
    );
    verdict("for_each: agent, signal: agents_missing, when: at_least, levels: {info: 1m}", "who is expected");
    verdict("for_each: agent, signal: progress, when: absent, levels: {info: true}", "once known");
    verdict("for_each: agent, signal: status, when: at_least, levels: {info: failed}", "words have no order");
    verdict("for_each: agent, signal: stale_seconds, when: at_most, levels: {info: 1m}", "at least");
    verdict("for_each: cluster, signal: agents_down, when: at_most, levels: {info: 1}", "counts nothing");
    let held = "for_each: agent, signal: requests, when: at_least, levels: {info: 10}, clear_below: 5";
    assert!(said(held).1.contains("until the value has passed 5"));
}

#[test]
fn texts_are_worded_for_go() {
    let config = Config::default();
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    let text = r#"
rules:
  - name: Mine
    for_each: agent
    signal: requests
    when: at_least
    levels: {warning: 5, error: 10}
    clear_after: 5m
    summary: "{{ rule }} {{ agent }} of {{ project }}: {{ value }}, {{ value | count }}, {{ value | percent }} from {{ threshold | count }}{% if level == 'error' %} at once{% endif %}"
    action: "look at {{ subject }}{% if agents %}: {{ agents | join(', ') }}{% endif %}"
"#;
    let set = RuleSet::load(&[("team.yaml".to_owned(), text.to_owned())], settings).expect("good rules");
    let written = rules(&config, &set);
    let (_, mine) = written.split_once("      - alert: Mine\n").expect("the rule");
    let mine: Vec<&str> = mine.lines().take_while(|line| !line.starts_with("  - name")).collect();
    insta::assert_snapshot!(mine.join("\n"), @r#"
            expr: |
              orchestrator_agent_requests_total >= 5
            keep_firing_for: 5m
            labels:
              severity: warning
            annotations:
              summary: "Mine {{ $labels.agent_name }} of {{ $labels.project }}: {{ $value }}, {{ $value | printf \"%.0f\" }}, {{ $value | humanizePercentage }} from 5"
              description: "look at {{ $labels.agent_name }}"
              runbook_url: https://github.com/lookout-agents/lookout/blob/main/README.md#rules
          - alert: Mine
            expr: |
              orchestrator_agent_requests_total >= 10
            keep_firing_for: 5m
            labels:
              severity: error
            annotations:
              summary: "Mine {{ $labels.agent_name }} of {{ $labels.project }}: {{ $value }}, {{ $value | printf \"%.0f\" }}, {{ $value | humanizePercentage }} from 10 at once"
              description: "look at {{ $labels.agent_name }}"
              runbook_url: https://github.com/lookout-agents/lookout/blob/main/README.md#rules
    "#);
}
