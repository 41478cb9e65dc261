//! `lookout export prometheus-rules`: the rules in force as Prometheus alerting rules over our own metrics.
//!
//! The file `prometheus/alerting.rules.yml` that we ship is what this prints without a configuration. What PromQL
//! can't say is said with a reason, and takes lookout's own verdict. Refuses to change a threshold.

mod promql;
mod words;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;

use super::ConfigArgs;
use super::terminal::print;
use crate::config::{Config, Environment};
use crate::model::{Level, duration};
use crate::rules::ForEach;
use crate::rules::{Description, RuleSet};
use promql::{Said, Shown};

/// Where people read on.
const RUNBOOK: &str = "https://github.com/lookout-agents/lookout/blob/main/README.md#rules";

/// What stands above the rules.
const HEAD: &str = "\
# lookout's rules as Prometheus alerting rules, for those who alert through Prometheus and Alertmanager.
# Written by `lookout export prometheus-rules`, with the thresholds that were in force then.
# An alternative to lookout's own alerts, not an addition to them: load one of the two.
#
# - A level is a `severity`. Each threshold's rule ends where the next one's begins, so that one of them fires at a
#   time; what counts time with `for` keeps its milder level beside the worse one.
# - What only lookout knows is taken from its verdict, `orchestrator_alerts_active`, counted by project.
# - Prometheus sees what it scrapes: `increase` is an estimate that does not count what a counter came with, and no
#   alert explains another.
";

/// Arguments of `lookout export prometheus-rules`.
#[derive(Args, Clone, Debug)]
pub struct ExportRulesArgs {
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Prints the rules.
pub(super) fn run(args: &ExportRulesArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    print(&rules(&config, &config.rule_set()?))?;
    Ok(ExitCode::SUCCESS)
}

/// The group of rules that are judged for the same kind of subject.
const GROUPS: [(ForEach, &str); 6] = [
    (ForEach::Agent, "lookout-agents"),
    (ForEach::Cluster, "lookout-projects"),
    (ForEach::Component, "lookout-components"),
    (ForEach::Source, "lookout-sources"),
    (ForEach::Receiver, "lookout-receivers"),
    (ForEach::Sidecar, "lookout-sidecar"),
];

/// A file of Prometheus rules.
fn rules(config: &Config, set: &RuleSet) -> String {
    let mut out = HEAD.to_owned();
    out.push_str(if set.is_empty() { "groups: []\n" } else { "groups:\n" });
    for (for_each, group) in GROUPS {
        let mut members = set.descriptions().filter(|rule| rule.for_each == for_each).peekable();
        if members.peek().is_none() {
            continue;
        }
        out.push_str(&format!("  - name: {group}\n    rules:\n"));
        for rule in members {
            write_rule(&rule, config, &mut out);
        }
    }
    out
}

fn write_rule(rule: &Description<'_>, config: &Config, out: &mut String) {
    let said = promql::say(rule, config.agents.timeout);
    for remark in promql::remarks(rule, &said) {
        out.push_str(&format!("      # {}: {remark}.\n", rule.name));
    }
    match said {
        Ok(levels) => levels.iter().for_each(|(level, said)| write_level(rule, *level, said, out)),
        Err(_) => {
            for (level, _) in &rule.levels {
                write_level(rule, *level, &promql::verdict(rule, *level), out);
            }
        }
    }
}

fn write_level(rule: &Description<'_>, level: Level, said: &Said, out: &mut String) {
    out.push_str(&format!("      - alert: {}\n        expr: |\n", rule.name));
    said.expr.lines().for_each(|line| out.push_str(&format!("          {line}\n")));
    if !said.held.is_zero() {
        out.push_str(&format!("        for: {}\n", duration::exact(said.held)));
    }
    // Lookout's verdict holds for that long by itself.
    if !rule.clear_after.is_zero() && said.value != Shown::Alerts {
        out.push_str(&format!("        keep_firing_for: {}\n", duration::exact(rule.clear_after)));
    }
    let (summary, description) = words::of(rule, level, said);
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    out.push_str(&format!("        labels:\n          severity: {level}\n        annotations:\n"));
    out.push_str(&format!("          summary: {}\n", quoted(&summary)));
    if !description.is_empty() {
        out.push_str(&format!("          description: {}\n", quoted(&description)));
    }
    out.push_str(&format!("          runbook_url: {RUNBOOK}\n"));
}
