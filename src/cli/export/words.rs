//! Translates a rule's texts from Jinja templates to annotations with Go templates: a text is rendered with Go's
//! variables in place of values, so conditions and loops must not depend on them.

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};

use super::promql::{ExprValue, PromQlAlert};
use crate::model::notice::about;
use crate::model::{Level, Unit};
use crate::rules::ForEach;
use crate::rules::{Description, as_count, as_dollars, as_duration, as_percent, as_short};

/// The value, as Go's templates name it.
const VALUE: &str = "{{ $value }}";

/// Summary and description of `rule` at `level`.
pub(super) fn of(rule: &Description<'_>, level: Level, alert: &PromQlAlert) -> (String, String) {
    let action = render(rule, level, alert, &rule.action).unwrap_or_default();
    if alert.value == ExprValue::Alerts {
        let has_project = matches!(rule.for_each, ForEach::Agent | ForEach::Component | ForEach::Cluster);
        let place = if has_project { "{{ $labels.project }}" } else { "lookout" };
        return (format!("{place}: {} fires (alerts: {VALUE})", rule.name), action);
    }
    let name = subject(rule, alert.value);
    let summary = render(rule, level, alert, &rule.summary).map(|text| about(&who(rule, &name), &name, &text));
    (summary.unwrap_or_else(|| format!("{} on {name}", rule.name)), action)
}

/// The name of the rule's subject; in words where `orchestrator_alerts_active` has no label for it.
fn subject(rule: &Description<'_>, shown: ExprValue) -> String {
    let label = match rule.for_each {
        ForEach::Sidecar => return "lookout".to_owned(),
        ForEach::Agent if shown == ExprValue::Alerts => return "the agent".to_owned(),
        ForEach::Component if shown == ExprValue::Alerts => return "the component".to_owned(),
        ForEach::Source if shown == ExprValue::Alerts => return "the source".to_owned(),
        ForEach::Receiver if shown == ExprValue::Alerts => return "RECEIVER".to_owned(),
        ForEach::Agent => "agent_name",
        ForEach::Component => "component",
        ForEach::Source => "source",
        ForEach::Receiver => "receiver",
        ForEach::Cluster => "project",
    };
    format!("{{{{ $labels.{label} }}}}")
}

/// How messages name what the rule is about, of which `name` is the name.
fn who(rule: &Description<'_>, name: &str) -> String {
    match rule.for_each {
        ForEach::Agent | ForEach::Component => format!("{{{{ $labels.project }}}}/{name}"),
        ForEach::Source => format!("Source {name}"),
        ForEach::Receiver => format!("Receiver {name}"),
        ForEach::Cluster | ForEach::Sidecar => name.to_owned(),
    }
}

/// A percentage as Prometheus writes it.
fn without_space(text: &str) -> String {
    text.replace(" %", "%")
}

/// The value against its limit, with units; where only the limit is known, that.
fn measure(rule: &Description<'_>, threshold: Option<f64>, alert: &PromQlAlert) -> String {
    let limit = threshold.and_then(|threshold| match rule.usual {
        Some(usual) => Some(format!("{threshold} × {usual}")),
        None => rule.unit.show(threshold).map(|limit| without_space(&limit)),
    });
    let function = match rule.unit {
        Unit::Count => "humanize",
        Unit::Seconds => "humanizeDuration",
        Unit::Ratio => "humanizePercentage",
        Unit::Dollars => "printf \"$%.2f\"",
        Unit::Word => {
            let word = threshold.and_then(|place| rule.words.get(place as usize));
            return word.copied().unwrap_or_default().to_owned();
        }
    };
    if alert.value == ExprValue::Threshold {
        return limit.unwrap_or_default();
    }
    let limit = limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
    format!("{{{{ $value | {function} }}}}{limit}")
}

fn render(rule: &Description<'_>, level: Level, alert: &PromQlAlert, text: &str) -> Option<String> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    filter(&mut environment, "duration", "humanizeDuration", as_duration);
    filter(&mut environment, "percent", "humanizePercentage", |ratio| without_space(&as_percent(ratio)));
    filter(&mut environment, "count", "printf \"%.0f\"", as_count);
    filter(&mut environment, "short", "humanize", as_short);
    filter(&mut environment, "dollars", "printf \"$%.2f\"", as_dollars);
    environment.add_test("none", |value: Value| value.is_none());
    environment.add_filter("join", |items: Vec<String>, separator: Option<String>| {
        items.join(separator.as_deref().unwrap_or(", "))
    });
    let threshold = rule.levels.iter().find(|(one, _)| *one == level).map(|(_, threshold)| *threshold);
    let value = match alert.value {
        ExprValue::Measured | ExprValue::Alerts => Value::from(VALUE),
        ExprValue::Threshold => Value::from(threshold),
    };
    let name = &*subject(rule, alert.value);
    let variables = context! {
        rule => rule.name,
        subject => name,
        agent => name,
        component => name,
        source => name,
        receiver => name,
        project => "{{ $labels.project }}",
        level => level.as_str(),
        value => value,
        threshold => threshold,
        limit => threshold.filter(|_| alert.value != ExprValue::Threshold && rule.usual.is_none()),
        measure => measure(rule, threshold, alert),
        status => "",
        reason => "",
        down => false,
        task => "",
        progress => Value::from(()),
        used => Value::from(()),
        budget => Value::from(()),
        stop => "",
        total => Value::from(()),
        up => Value::from(()),
        expected => Value::from(()),
        agents => Vec::<String>::new(),
        components => Vec::<String>::new(),
        until => "",
        provider => "",
        run => "",
        run_id => "",
        run_is_running => false,
        run_error => "",
        usual => Value::from(()),
    };
    environment.render_str(text, variables).ok().map(|text| text.trim().to_owned())
}

/// A filter that applies Go's `function` to the value, and our own formatting to numbers.
fn filter(
    environment: &mut Environment<'_>,
    name: &'static str,
    function: &'static str,
    format: fn(Option<f64>) -> String,
) {
    environment.add_filter(name, move |value: Value| match value.as_str() {
        Some(VALUE) => format!("{{{{ $value | {function} }}}}"),
        _ => format(f64::try_from(value).ok()),
    });
}
