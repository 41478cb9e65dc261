//! `lookout test route`: which receivers an alert with given labels would notify, and why not the others.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::answer::NO_RECEIVERS;
use super::terminal::print;
use crate::alerts::Alerts;
use crate::alerts::timeline;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::model::{Finding, Label, Level, ReceiverPolicy, RuleId, Subject, Time, TimelineEvent};
use crate::notify::Receiver;
use crate::written::mistake::suggestion;

/// Arguments of `lookout test route`.
#[derive(Args, Clone, Debug)]
pub struct TestRouteArgs {
    /// Labels of the alert: rule, level, and project, agent_name, type, component, source or receiver
    #[arg(value_name = "LABEL=VALUE", required = true)]
    pub labels: Vec<String>,
    /// Time at which it fires, in RFC 3339, for quiet hours [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
    /// The configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Answers from the configuration alone: contacts no sidecar and sends nothing.
pub(super) fn run(args: &TestRouteArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let now = match &args.at {
        Some(text) => {
            Time::parse(text).ok_or_else(|| anyhow!("`{text}` is not a time; write it like 2026-11-21T02:00:00Z"))?
        }
        None => Clock::system().now(),
    };
    let receivers = Receiver::build(&config.receivers)
        .map_err(|problems| anyhow!(problems.into_iter().map(|it| it.message).collect::<Vec<_>>().join("; ")))?;
    let policies = receivers.iter().map(Receiver::policy).collect();
    let answers = route(&config, policies, &labels(&args.labels)?, now)?;
    let shown = if args.json {
        let all: Vec<Value> = answers
            .iter()
            .map(|(receiver, is_notified, why)| json!({"receiver": receiver, "notified": is_notified, "text": why}))
            .collect();
        json!({"receivers": all}).to_string()
    } else if answers.is_empty() {
        NO_RECEIVERS.to_owned()
    } else {
        let line = |(receiver, is_notified, why): &(Arc<str>, bool, String)| {
            format!("{receiver}: {}: {why}", if *is_notified { "notified" } else { "not notified" })
        };
        answers.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

fn labels(arguments: &[String]) -> anyhow::Result<BTreeMap<Label, String>> {
    let mut labels = BTreeMap::new();
    for argument in arguments {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let label = Label::parse(name).filter(|_| !value.is_empty()).ok_or_else(|| {
            let known = Label::ALL.map(Label::as_str).join(", ");
            anyhow!("`{argument}` is not LABEL=VALUE with one of the labels {known}")
        })?;
        labels.insert(label, value.to_owned());
    }
    Ok(labels)
}

/// For each receiver: whether an alert with `labels` that starts firing at `now` notifies it, and at which level or why
/// not.
fn route(
    config: &Config,
    receivers: Vec<ReceiverPolicy>,
    labels: &BTreeMap<Label, String>,
    now: Time,
) -> anyhow::Result<Vec<(Arc<str>, bool, String)>> {
    let text = |label: Label| labels.get(&label).map(|value| Arc::<str>::from(value.as_str()));
    let rule =
        text(Label::Rule).ok_or_else(|| anyhow!("label `rule` is missing; add it, for example rule=AgentIdle"))?;
    let level = labels
        .get(&Label::Level)
        .ok_or_else(|| anyhow!("label `level` is missing; add it, for example level=error"))?;
    let level = Level::parse(level)
        .ok_or_else(|| anyhow!("`{level}` is not a level; write info, warning, error or critical"))?;
    let policies = crate::rules::Rules::new(config.rule_set()?).policies();
    let names: Vec<String> = policies.iter().map(|policy| policy.name.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(policy) = policies.into_iter().find(|policy| policy.name == rule) else {
        bail!("there is no active rule `{rule}`; {}", suggestion(&rule, &names, "the rules are"));
    };
    let project = text(Label::Project).unwrap_or_else(|| Arc::from("default"));
    let subject = match (text(Label::AgentName), text(Label::Component), text(Label::Receiver), text(Label::Source)) {
        (Some(name), ..) => Subject::Agent { project, name },
        (_, Some(name), ..) => Subject::Component { project, name },
        (_, _, Some(name), _) => Subject::Receiver { name },
        (.., Some(name)) => Subject::Source { name },
        _ => Subject::Cluster { project },
    };
    let names: Vec<Arc<str>> = receivers.iter().map(|receiver| receiver.name.clone()).collect();
    // Without a pending time, so that the alert fires in the first step.
    let policy = crate::model::RulePolicy { hold: std::time::Duration::ZERO, ..policy };
    let effects = Alerts::new(vec![policy], receivers).step(
        now,
        vec![Finding {
            rule: RuleId(0),
            subject,
            source: text(Label::Source),
            agent_type: text(Label::Type),
            level: Some(level),
            cleared: false,
            grows: false,
            value: Some(1.0),
            threshold: None,
            since: now,
            ending: None,
        }],
    );
    let answer = |name: Arc<str>| {
        let event = effects.timeline.iter().find_map(|entry| match &entry.event {
            TimelineEvent::Notified { receiver, .. } if *receiver == name => Some((true, level.to_string())),
            TimelineEvent::Suppressed { receiver, suppressed } if *receiver == name => {
                Some((false, timeline::suppressed(suppressed)))
            }
            _ => None,
        });
        let (is_notified, why) = event.unwrap_or_else(|| (false, "no notification is needed".to_owned()));
        (name, is_notified, why)
    };
    Ok(names.into_iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Matchers;

    fn routed(labels: &[&str]) -> anyhow::Result<Vec<String>> {
        let arguments: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let only = |name: &str, label: &str, glob: &str| ReceiverPolicy {
            only: Arc::from([Matchers::parse([(label, glob)]).unwrap()]),
            ..ReceiverPolicy::new(name, Level::Warning)
        };
        let receivers = vec![
            ReceiverPolicy::new("ops", Level::Error),
            only("shop", "project", "shop"),
            only("idle", "rule", "AgentIdle"),
            only("claude", "type", "claude*"),
            ReceiverPolicy {
                after: std::time::Duration::from_secs(900),
                ..ReceiverPolicy::new("oncall", Level::Warning)
            },
        ];
        let now = Time::parse("2026-11-21T02:00:00Z").unwrap();
        let answers = route(&Config::default(), receivers, &super::labels(&arguments)?, now)?;
        Ok(answers.into_iter().map(|(name, is_notified, why)| format!("{name} {is_notified} {why}")).collect())
    }

    #[test]
    fn each_receiver_is_notified_or_not_for_a_reason() {
        let answers =
            routed(&["rule=AgentIdle", "severity=warning", "project=shop", "agent_name=w1", "type=claude-code"]);
        assert_eq!(
            answers.unwrap(),
            [
                "ops false the level is below its min_level, error",
                "shop true warning",
                "idle true warning",
                "claude true warning",
                "oncall false due at 2026-11-21T02:15:00Z by its `after`, unless acknowledged by then",
            ]
        );
        let answers = routed(&["rule=ComponentStatus", "level=error", "project=lab", "component=db"]);
        let notified: Vec<bool> = answers.unwrap().iter().map(|answer| answer.contains(" true ")).collect();
        assert_eq!(notified, [true, false, false, false, false]);
    }

    #[test]
    fn missing_and_unknown_labels_are_named() {
        for (labels, message) in [
            (&["level=error"][..], "label `rule` is missing"),
            (&["rule=AgentIdle"], "label `level` is missing"),
            (&["rule=AgentIdle", "level=bad"], "`bad` is not a level"),
            (&["rule=Nothing", "level=error"], "there is no active rule `Nothing`"),
            (&["colour=red"], "one of the labels rule"),
        ] {
            let error = routed(labels).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
