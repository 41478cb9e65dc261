//! Which alerts each receiver gets, and which rules no receiver gets.
//!
//! Matchers on other labels than rule and level are shown but not evaluated; `lookout test route` does that for a
//! single alert.

use crate::cli::answer::NO_RECEIVERS;
use crate::cli::table::{Table, TableColumn};
use crate::cli::terminal::OutputStyle;
use crate::model::{Audience, Label, Level, Matchers, ReceiverPolicy, duration};
use crate::notify::Receiver;
use crate::rules::RuleSet;

/// A table of the receivers, and those of `rules` that none of them gets.
pub(super) fn show(receivers: &[Receiver], rules: &RuleSet, style: OutputStyle) -> String {
    if receivers.is_empty() {
        return NO_RECEIVERS.to_owned();
    }
    let mut table = Table::new([
        TableColumn::word("RECEIVER"),
        TableColumn::word("KIND"),
        TableColumn::word("LEVELS"),
        TableColumn::text("ALERTS"),
        TableColumn::text("NOTIFIED"),
    ]);
    for receiver in receivers {
        let policy = receiver.policy();
        let levels = match policy.min_level {
            Level::Critical => "critical".to_owned(),
            Level::Info => "all".to_owned(),
            level => format!("from {level}"),
        };
        table.push([
            (&*policy.name).into(),
            receiver.kind().into(),
            levels.as_str().into(),
            alerts(&policy).as_str().into(),
            when(&policy).as_str().into(),
        ]);
    }
    let policies: Vec<ReceiverPolicy> = receivers.iter().map(Receiver::policy).collect();
    let unrouted = unrouted(&policies, rules);
    if unrouted.is_empty() {
        table.render(style)
    } else {
        format!("{}\nno receiver gets: {unrouted}", table.render(style))
    }
}

fn alerts(policy: &ReceiverPolicy) -> String {
    let any = |matchers: &[Matchers]| matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; or ");
    match (&*policy.only, &*policy.except) {
        ([], []) => "all".to_owned(),
        ([], except) => format!("all except {}", any(except)),
        (only, []) => any(only),
        (only, except) => format!("{}, except {}", any(only), any(except)),
    }
}

fn when(policy: &ReceiverPolicy) -> String {
    let mut parts = vec![match (policy.audience, policy.after) {
        (_, after) if !after.is_zero() => format!("after {} unless acknowledged", duration::display(after)),
        (Audience::Program, _) => "immediately, ungrouped".to_owned(),
        (Audience::People, _) => "immediately".to_owned(),
    }];
    parts.extend(policy.quiet.iter().map(|quiet| format!("quiet hours {quiet}")));
    if !policy.send_resolved {
        parts.push("no resolves".to_owned());
    }
    parts.join("; ")
}

/// Rules that no receiver gets, with the levels if it gets others.
fn unrouted(receivers: &[ReceiverPolicy], rules: &RuleSet) -> String {
    let mut unrouted = Vec::new();
    for (rule, levels) in rules.levels() {
        let is_unrouted = |level: &&Level| !receivers.iter().any(|receiver| may_get(receiver, rule, **level));
        let missed: Vec<&str> = levels.iter().filter(is_unrouted).map(|level| level.as_str()).collect();
        if missed.len() == levels.len() {
            unrouted.push(rule.to_owned());
        } else if !missed.is_empty() {
            unrouted.push(format!("{rule} at {}", missed.join(" and ")));
        }
    }
    unrouted.join(", ")
}

/// Whether the receiver gets some alerts of `rule` at `level`.
fn may_get(receiver: &ReceiverPolicy, rule: &str, level: Level) -> bool {
    let known = |label: Label| match label {
        Label::Rule => Some(rule),
        Label::Level => Some(level.as_str()),
        _ => None,
    };
    level >= receiver.min_level
        && (receiver.only.is_empty() || receiver.only.iter().any(|matchers| matchers.may_match(known)))
        && !receiver.except.iter().any(|matchers| matchers.matches(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn shown(receivers: &str) -> String {
        let config: Vec<crate::notify::config::ReceiverConfig> = serde_json::from_str(receivers).expect("receivers");
        let receivers = Receiver::build(&config).expect("they can be built");
        let rules = Config::default().rule_set().expect("built-in rules");
        show(&receivers, &rules, OutputStyle { width: None, colours: false })
    }

    #[test]
    fn each_receiver_is_listed_with_its_alerts() {
        let shown = shown(
            r#"[
            {"name": "ops", "slack": {"webhook_url": "https://hooks.example.com/x"}, "min_level": "info",
             "except": [{"project": "lab"}, {"rule": "Agent*", "level": "info"}]},
            {"name": "oncall", "webhook": {"url": "https://example.com/hook"}, "min_level": "critical", "after": "15m",
             "only": [{"project": "shop*", "type": "claude-code"}], "send_resolved": false,
             "quiet_hours": [{"days": ["sat", "sun"], "from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}]},
            {"name": "am", "alertmanager": {"urls": ["http://127.0.0.1:9093"]}, "min_level": "error"}
            ]"#,
        );
        insta::assert_snapshot!(shown, @"
        RECEIVER  KIND          LEVELS      ALERTS                                              NOTIFIED
        ops       slack         all         all except project=lab; or rule=Agent*, level=info  immediately
        oncall    webhook       critical    project=shop*, type=claude-code                     after 15m unless acknowledged; quiet hours sat, sun 22:00 to 07:00 Europe/Berlin up to error; no resolves
        am        alertmanager  from error  all                                                 immediately, ungrouped
        ");
    }

    #[test]
    fn rules_that_no_receiver_gets_are_named() {
        let shown = shown(
            r#"[{"name": "ops", "slack": {"webhook_url": "https://hooks.example.com/x"}, "min_level": "error"},
                {"name": "idle", "slack": {"webhook_url": "https://hooks.example.com/y"}, "min_level": "info",
                 "only": [{"rule": "Agent*"}], "except": [{"rule": "AgentStale"}]}]"#,
        );
        let unrouted = shown.lines().last().and_then(|line| line.strip_prefix("no receiver gets: ")).expect("a line");
        let unrouted: Vec<&str> = unrouted.split(", ").collect();
        assert!(unrouted.contains(&"AgentStale") && unrouted.contains(&"TaskTokenBudget at warning"), "{unrouted:?}");
        assert!(!unrouted.iter().any(|rule| rule.starts_with("AgentIdle")), "{unrouted:?}");
    }

    #[test]
    fn without_receivers_the_next_step_is_shown() {
        assert!(shown("[]").starts_with("no receivers: "));
    }
}
