//! Who is told of what: a line for each receiver, and the rules that nobody is told of.
//!
//! What depends on more than an alert's rule and level (its project, its agent) is shown and not judged; `lookout test
//! route` answers for a single alert.

use crate::cli::table::{Column, Table};
use crate::cli::terminal::Look;
use crate::model::{Audience, Label, Level, Matchers, ReceiverPolicy, duration};
use crate::notify::Receiver;
use crate::rules::RuleSet;

/// The receivers with what each is told of, and what of `rules` none is told of.
pub(super) fn show(receivers: &[Receiver], rules: &RuleSet, look: Look) -> String {
    if receivers.is_empty() {
        return "there is no receiver: alerts are logged, kept in history and served".to_owned();
    }
    let mut table = Table::new([
        Column::word("RECEIVER"),
        Column::word("KIND"),
        Column::word("LEVELS"),
        Column::text("ALERTS"),
        Column::text("WHEN"),
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
    let unheard = unheard(&policies, rules);
    if unheard.is_empty() { table.render(look) } else { format!("{}nobody is told of: {unheard}", table.render(look)) }
}

fn alerts(policy: &ReceiverPolicy) -> String {
    let any = |matchers: &[Matchers]| matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; or ");
    match (&*policy.only, &*policy.except) {
        ([], []) => "all".to_owned(),
        ([], except) => format!("all but {}", any(except)),
        (only, []) => any(only),
        (only, except) => format!("{}, but not {}", any(only), any(except)),
    }
}

fn when(policy: &ReceiverPolicy) -> String {
    let mut said = vec![match (policy.audience, policy.after) {
        (_, after) if !after.is_zero() => format!("after {} without ack", duration::display(after)),
        (Audience::Program, _) => "at once, each alert by itself".to_owned(),
        (Audience::People, _) => "at once".to_owned(),
    }];
    said.extend(policy.quiet.iter().map(|quiet| format!("quiet {quiet}")));
    if !policy.send_resolved {
        said.push("not when it is over".to_owned());
    }
    said.join("; ")
}

/// Rules, with their levels, of which no receiver can be told.
fn unheard(receivers: &[ReceiverPolicy], rules: &RuleSet) -> String {
    let mut unheard = Vec::new();
    for (rule, levels) in rules.levels() {
        let is_unheard = |level: &&Level| !receivers.iter().any(|receiver| may_be_told(receiver, rule, **level));
        let missed: Vec<&str> = levels.iter().filter(is_unheard).map(|level| level.as_str()).collect();
        if missed.len() == levels.len() {
            unheard.push(rule.to_owned());
        } else if !missed.is_empty() {
            unheard.push(format!("{rule} at {}", missed.join(" and ")));
        }
    }
    unheard.join(", ")
}

fn may_be_told(receiver: &ReceiverPolicy, rule: &str, level: Level) -> bool {
    let known = |label: Label| match label {
        Label::Rule => Some(rule),
        Label::Level => Some(level.as_str()),
        _ => None,
    };
    level >= receiver.min_level
        && (receiver.only.is_empty() || receiver.only.iter().any(|matchers| matchers.may_cover(known)))
        && !receiver.except.iter().any(|matchers| matchers.cover(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn shown(receivers: &str) -> String {
        let config: Vec<crate::notify::config::ReceiverConfig> = serde_json::from_str(receivers).expect("receivers");
        let receivers = Receiver::build(&config).expect("they can be built");
        let rules = Config::default().rule_set().expect("built-in rules");
        show(&receivers, &rules, Look { width: None, colours: false })
    }

    #[test]
    fn each_receiver_says_what_it_is_told_of_and_when() {
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
        RECEIVER  KIND          LEVELS      ALERTS                                           WHEN
        ops       slack         all         all but project=lab; or rule=Agent*, level=info  at once
        oncall    webhook       critical    project=shop*, type=claude-code                  after 15m without ack; quiet sat, sun 22:00 to 07:00 Europe/Berlin up to error; not when it is over
        am        alertmanager  from error  all                                              at once, each alert by itself
        ");
    }

    #[test]
    fn what_nobody_is_told_of_is_named() {
        let shown = shown(
            r#"[{"name": "ops", "slack": {"webhook_url": "https://hooks.example.com/x"}, "min_level": "error"},
                {"name": "idle", "slack": {"webhook_url": "https://hooks.example.com/y"}, "min_level": "info",
                 "only": [{"rule": "Agent*"}], "except": [{"rule": "AgentStale"}]}]"#,
        );
        let unheard = shown.lines().last().and_then(|line| line.strip_prefix("nobody is told of: ")).expect("a line");
        let unheard: Vec<&str> = unheard.split(", ").collect();
        assert!(unheard.contains(&"AgentStale") && unheard.contains(&"TaskTokenBudget at warning"), "{unheard:?}");
        assert!(!unheard.iter().any(|rule| rule.starts_with("AgentIdle")), "{unheard:?}");
    }

    #[test]
    fn no_receiver_is_said() {
        assert!(shown("[]").starts_with("there is no receiver"));
    }
}
