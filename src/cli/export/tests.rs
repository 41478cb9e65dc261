//! Translation of rules to Prometheus rules.

use super::*;
use crate::rules::compile::RuleSettings;

/// The expressions of a user's rule, with `for`; and the remarks.
fn translated(rule: &str) -> (Vec<String>, String) {
    let config = Config::default();
    let settings = RuleSettings { max_idle: config.agents.max_idle, timeout: config.agents.timeout };
    let text = format!("rules:\n  - {{name: Mine, {rule}}}\n");
    let set = RuleSet::load(&[("team.yaml".to_owned(), text)], settings).unwrap_or_else(|error| panic!("{error:?}"));
    let rule = set.descriptions().find(|rule| rule.name == "Mine").expect("the rule");
    let exprs = promql::translate(&rule, config.agents.timeout);
    let remarks = promql::remarks(&rule, &exprs).join("; ");
    let lines = exprs.unwrap_or_default().into_iter().map(|(level, alert)| {
        let held = if alert.held.is_zero() { String::new() } else { format!(" for {}", duration::exact(alert.held)) };
        format!("{level}: {}{held}", alert.expr)
    });
    (lines.collect(), remarks)
}

#[track_caller]
fn check(rule: &str, expected: &[&str]) {
    assert_eq!(translated(rule), (expected.iter().map(|line| (*line).to_owned()).collect(), String::new()), "{rule}");
}

#[track_caller]
fn untranslatable(rule: &str, reason: &str) {
    let (lines, remarks) = translated(rule);
    assert!(lines.is_empty() && remarks.contains(reason), "{rule}: {lines:?}, {remarks}");
}

#[test]
fn the_shipped_rules_are_exported_without_configuration() {
    let config = Config::default();
    let written = rules(&config, &config.rule_set().expect("built-in rules"));
    let shipped = include_str!("../../../prometheus/alerting.rules.yml");
    assert_eq!(written, shipped, "regenerate it with `lookout export prometheus-rules`");
}

#[test]
fn custom_metrics_are_selected_by_name_and_labels() {
    check(
        "for_each: agent, signal: {metric: poolSize, labels: {pool: 'd*'}}, when: at_least, levels: {warning: 5, error: 10}, where: {project: shop}",
        &[
            r#"warning: max by (job, instance, project, agent_name) ({__name__=~"orchestrator_custom_pool_size(_total)?", project="shop", pool=~"d.*", agent_name!=""}) >= 5 < 10"#,
            r#"error: max by (job, instance, project, agent_name) ({__name__=~"orchestrator_custom_pool_size(_total)?", project="shop", pool=~"d.*", agent_name!=""}) >= 10"#,
        ],
    );
    check(
        "for_each: component, signal: {metric: jobs_total}, when: at_most, levels: {info: 0}, for: 5m",
        &[
            r#"info: min by (job, instance, project, component) (orchestrator_custom_jobs_total{component!=""}) <= 0 for 5m"#,
        ],
    );
    check(
        "for_each: cluster, signal: {metric: mode}, when: equals, levels: {info: 3}",
        &[r#"info: {__name__=~"orchestrator_custom_mode(_total)?", agent_name="", component=""} == 3"#],
    );
    check(
        "for_each: agent, signal: {increase_of: {metric: jobs}, over: 10m}, when: at_least, levels: {info: 3}",
        &[
            r#"info: sum by (job, instance, project, agent_name) (increase(orchestrator_custom_jobs_total{agent_name!=""}[10m])) >= 3"#,
        ],
    );
    check(
        "for_each: agent, signal: {average_of: {metric: size}, over: 10m}, when: at_least, levels: {info: 3}",
        &[
            r#"info: avg by (job, instance, project, agent_name) (avg_over_time({__name__=~"orchestrator_custom_size(_total)?", agent_name!=""}[10m])) >= 3"#,
        ],
    );
}

#[test]
fn each_level_ends_where_the_next_one_begins() {
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
fn states_and_durations_are_translated() {
    check(
        "for_each: agent, signal: status, when: equals, levels: {info: paused, error: failed}",
        &[
            "info: orchestrator_agent_status{status=\"paused\"} == 1",
            "error: orchestrator_agent_status{status=\"failed\"} == 1",
        ],
    );
    let stale = "orchestrator_agent_up == 0\nunless on (job, instance, project, agent_name)\n  orchestrator_agent_status{status=~\"completed|failed|paused\"} == 1";
    let (lines, remarks) = translated(
        "for_each: agent, signal: stale_seconds, when: at_least, levels: {warning: 1m, error: 5m}, for: 10s",
    );
    assert_eq!(lines, [format!("warning: {stale} for 10s"), format!("error: {stale} for 4m10s")]);
    assert!(remarks.contains("from `agents.timeout`"), "{remarks}");
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
fn filters_become_matchers_and_conditions() {
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
fn untranslatable_rules_name_the_reason() {
    untranslatable(
        "for_each: agent, signal: task_seconds, when: at_least, levels: {info: 1m}",
        "no metric exposes when a task began",
    );
    untranslatable(
        "for_each: agent, signal: agents_missing, when: at_least, levels: {info: 1m}",
        "expected agents that were never seen",
    );
    untranslatable("for_each: agent, signal: progress, when: absent, levels: {info: true}", "that disappeared");
    untranslatable("for_each: agent, signal: status, when: at_least, levels: {info: failed}", "states have no order");
    untranslatable("for_each: agent, signal: stale_seconds, when: at_most, levels: {info: 1m}", "minimum duration");
    untranslatable("for_each: cluster, signal: agents_down, when: at_most, levels: {info: 1}", "no count of 0");
    let held = "for_each: agent, signal: requests, when: at_least, levels: {info: 10}, clear_below: 5";
    assert!(translated(held).1.contains("once the value has passed 5"));
}

#[test]
fn texts_become_go_templates() {
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
        summary: "{{ $labels.project }}/{{ $labels.agent_name }}: Mine {{ $labels.agent_name }} of {{ $labels.project }}: {{ $value }}, {{ $value | printf \"%.0f\" }}, {{ $value | humanizePercentage }} from 5"
        description: "look at {{ $labels.agent_name }}"
        runbook_url: https://github.com/lookout-agents/lookout/blob/main/docs/rules.md#built-in-rules
    - alert: Mine
      expr: |
        orchestrator_agent_requests_total >= 10
      keep_firing_for: 5m
      labels:
        severity: error
      annotations:
        summary: "{{ $labels.project }}/{{ $labels.agent_name }}: Mine {{ $labels.agent_name }} of {{ $labels.project }}: {{ $value }}, {{ $value | printf \"%.0f\" }}, {{ $value | humanizePercentage }} from 10 at once"
        description: "look at {{ $labels.agent_name }}"
        runbook_url: https://github.com/lookout-agents/lookout/blob/main/docs/rules.md#built-in-rules
    "#);
}
