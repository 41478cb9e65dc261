//! `lookout test route`: who would be told of an alert like this, and who would not, and why.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::terminal::print;
use crate::alerts::Alerts;
use crate::alerts::words;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::model::{Finding, Label, Level, ReceiverPolicy, RuleId, Subject, Time, TimelineEvent};
use crate::notify::Receiver;

/// Arguments of `lookout test route`.
#[derive(Args, Clone, Debug)]
pub struct TestRouteArgs {
    /// The alert, as LABEL=VALUE: rule and level, and project, agent_name, type, component, source or receiver
    #[arg(value_name = "LABEL=VALUE", required = true)]
    pub labels: Vec<String>,
    /// At which time, RFC 3339, for quiet hours; now when not given
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
    /// Which configuration
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Answers from the configuration; no sidecar is asked and nobody is told.
pub(super) fn run(args: &TestRouteArgs, env: &Environment) -> anyhow::Result<ExitCode> {
    let config = args.config.source(env).load()?;
    let now = match &args.at {
        Some(text) => Time::parse(text).ok_or_else(|| anyhow!("`{text}` is not a time; write 2026-11-21T02:00:00Z"))?,
        None => Clock::system().now(),
    };
    let receivers = Receiver::build(&config.receivers)
        .map_err(|problems| anyhow!(problems.into_iter().map(|it| it.message).collect::<Vec<_>>().join("; ")))?;
    let policies = receivers.iter().map(Receiver::policy).collect();
    let answers = route(&config, policies, &labels(&args.labels)?, now)?;
    let shown = if args.json {
        let all: Vec<Value> = answers
            .iter()
            .map(|(receiver, told, why)| json!({"receiver": receiver, "notified": told, "text": why}))
            .collect();
        json!({"receivers": all}).to_string()
    } else if answers.is_empty() {
        "there is no receiver: alerts are logged, kept in history and served".to_owned()
    } else {
        let line = |(receiver, told, why): &(Arc<str>, bool, String)| {
            format!("{receiver}: {}{why}", if *told { "is told " } else { "is not told: " })
        };
        answers.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

fn labels(words: &[String]) -> anyhow::Result<BTreeMap<Label, String>> {
    let mut labels = BTreeMap::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let label = Label::parse(name).filter(|_| !value.is_empty()).ok_or_else(|| {
            let known = Label::ALL.map(Label::as_str).join(", ");
            anyhow!("`{word}` is not LABEL=VALUE; labels are {known}")
        })?;
        labels.insert(label, value.to_owned());
    }
    Ok(labels)
}

/// For each receiver whether it is told of an alert with `labels` that begins to fire at `now`, and the rest of the
/// sentence.
fn route(
    config: &Config,
    receivers: Vec<ReceiverPolicy>,
    labels: &BTreeMap<Label, String>,
    now: Time,
) -> anyhow::Result<Vec<(Arc<str>, bool, String)>> {
    let text = |label: Label| labels.get(&label).map(|value| Arc::<str>::from(value.as_str()));
    let rule = text(Label::Rule).ok_or_else(|| anyhow!("the rule is missing; give rule=AgentIdle, for example"))?;
    let level = labels.get(&Label::Level).ok_or_else(|| anyhow!("the level is missing; give level=error"))?;
    let level = Level::parse(level).ok_or_else(|| anyhow!("`{level}` is none of info, warning, error, critical"))?;
    let policies = crate::rules::Rules::new(config.rule_set()?).policies();
    let Some(policy) = policies.into_iter().find(|policy| policy.name == rule) else {
        bail!("there is no rule `{rule}` in force; `lookout check` counts them");
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
    // How long it must hold is of no matter here.
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
            value: Some(1.0),
            threshold: None,
            since: now,
            ending: None,
        }],
    );
    let answer = |name: Arc<str>| {
        let event = effects.decisions.iter().find_map(|decision| match &decision.event {
            TimelineEvent::Notified { receiver, .. } if *receiver == name => Some((true, level.to_string())),
            TimelineEvent::Suppressed { receiver, suppressed } if *receiver == name => {
                Some((false, words::suppressed(suppressed)))
            }
            _ => None,
        });
        let (told, why) = event.unwrap_or_else(|| (false, "nothing is to be told".to_owned()));
        (name, told, why)
    };
    Ok(names.into_iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Matchers;

    fn asked(words: &[&str]) -> anyhow::Result<Vec<String>> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
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
        let answers = route(&Config::default(), receivers, &labels(&words)?, now)?;
        Ok(answers.into_iter().map(|(name, told, why)| format!("{name} {told} {why}")).collect())
    }

    #[test]
    fn each_receiver_is_told_or_not_for_a_reason() {
        let answers =
            asked(&["rule=AgentIdle", "severity=warning", "project=shop", "agent_name=w1", "type=claude-code"]);
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
        let answers = asked(&["rule=ComponentStatus", "level=error", "project=lab", "component=db"]);
        let told: Vec<bool> = answers.unwrap().iter().map(|answer| answer.contains(" true ")).collect();
        assert_eq!(told, [true, false, false, false, false]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (words, message) in [
            (&["level=error"][..], "the rule is missing"),
            (&["rule=AgentIdle"], "the level is missing"),
            (&["rule=AgentIdle", "level=bad"], "`bad` is none of"),
            (&["rule=Nothing", "level=error"], "there is no rule `Nothing`"),
            (&["colour=red"], "labels are rule"),
        ] {
            let error = asked(words).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
