//! From a rule's texts, written for Jinja, to annotations, written for Go's templates.
//!
//! Refuses to translate the language: a text is rendered, with Go's variables standing where values go.

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};

use super::promql::{Said, Shown};
use crate::model::Level;
use crate::rules::file::ForEach;
use crate::rules::{Description, as_count, as_duration, as_percent};

/// The value, as Go's templates name it.
const VALUE: &str = "{{ $value }}";

/// Summary and description of `rule` at `level`.
pub(super) fn of(rule: &Description<'_>, level: Level, said: &Said) -> (String, String) {
    let action = render(rule, level, said, &rule.action).unwrap_or_default();
    if said.value == Shown::Alerts {
        let place = if rule.for_each == ForEach::Source { "" } else { " in {{ $labels.project }}" };
        return (format!("alerts of {}{place}: {VALUE}", rule.name), action);
    }
    let summary = render(rule, level, said, &rule.summary);
    (summary.unwrap_or_else(|| format!("{} on {}", rule.name, subject(rule))), action)
}

/// The name of what the rule is about.
fn subject(rule: &Description<'_>) -> String {
    let label = match rule.for_each {
        ForEach::Agent => "agent_name",
        ForEach::Component => "component",
        ForEach::Source => "source",
        ForEach::Cluster => "project",
    };
    format!("{{{{ $labels.{label} }}}}")
}

fn render(rule: &Description<'_>, level: Level, said: &Said, text: &str) -> Option<String> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    filter(&mut environment, "duration", "humanizeDuration", as_duration);
    filter(&mut environment, "percent", "humanizePercentage", as_percent);
    filter(&mut environment, "count", "printf \"%.0f\"", as_count);
    environment.add_filter("join", |items: Vec<String>, separator: Option<String>| {
        items.join(separator.as_deref().unwrap_or(", "))
    });
    let threshold = rule.levels.iter().find(|(one, _)| *one == level).map(|(_, threshold)| *threshold);
    let value = match said.value {
        Shown::Measured | Shown::Alerts => Value::from(VALUE),
        Shown::Threshold => Value::from(threshold),
    };
    // An alert that is lookout's own verdict knows its project and no agent.
    let name = if said.value == Shown::Alerts { "the agent" } else { &*subject(rule) };
    let variables = context! {
        rule => rule.name,
        subject => name,
        agent => name,
        component => name,
        source => name,
        project => "{{ $labels.project }}",
        level => level.as_str(),
        value => value,
        threshold => threshold,
        reason => "",
        agents => Vec::<String>::new(),
    };
    environment.render_str(text, variables).ok().map(|text| text.trim().to_owned())
}

/// A filter that puts Go's `function` behind the value, and words numbers as ours does.
fn filter(
    environment: &mut Environment<'_>,
    name: &'static str,
    function: &'static str,
    word: fn(Option<f64>) -> String,
) {
    environment.add_filter(name, move |value: Value| match value.as_str() {
        Some(VALUE) => format!("{{{{ $value | {function} }}}}"),
        _ => word(f64::try_from(value).ok()),
    });
}
