//! Translates the condition of a rule to PromQL over lookout's metric families.

use std::time::Duration;

use crate::metrics::names;
use crate::model::{CustomKind, Level, duration};
use crate::rules::file::Where;
use crate::rules::{Comparison, Description, ForEach, Indicator, Measure, MetricSelector, PromQl, RuleInput};

/// The labels that identify an agent among all scrape targets.
const ON_AGENT: &str = "on (job, instance, project, agent_name)";
const BY_AGENT: &str = "by (job, instance, project, agent_name)";

/// One level of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PromQlAlert {
    /// The expression, which may have several lines.
    pub(super) expr: String,
    /// How long it must hold.
    pub(super) held: Duration,
    /// The meaning of its value.
    pub(super) value: ExprValue,
}

/// The meaning of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExprValue {
    /// The value that the rule compares.
    Measured,
    /// Of no use; texts show the rule's threshold instead.
    Threshold,
    /// The number of active alerts.
    Alerts,
}

/// The expression of each level; the error is why PromQL can't express the rule.
pub(super) fn translate(rule: &Description<'_>, timeout: Duration) -> Result<Vec<(Level, PromQlAlert)>, String> {
    if rule.when == Comparison::Absent {
        return Err("PromQL can't distinguish a value that disappeared from one that never existed".to_owned());
    }
    let Measure::Now(RuleInput { indicator, metric }) = &rule.value else {
        let (expr, condition) = measured(rule, &rule.value)?;
        return Ok(compared(rule, &expr, &condition));
    };
    if let Some(metric) = metric {
        return Ok(compared(rule, &custom(rule, metric), ""));
    }
    let indicator = *indicator;
    match (indicator.promql(), rule.for_each) {
        (PromQl::Unavailable(reason), _) => Err(reason.to_owned()),
        (PromQl::SourceDown(family), _) => by_time(rule, selected(family, &[]) + " == 0", Duration::ZERO),
        (PromQl::SilentSince(family), _) => {
            by_time(rule, format!("{} == 0", of_agent(rule, family, &[])) + &unless_done(), timeout)
        }
        (PromQl::OfSidecar(family), _) => Ok(compared(rule, family, "")),
        (PromQl::Words(family, label), _) => words(rule, (family, label), &indicator.words()),
        (PromQl::UnlessDone(family), _) => Ok(compared(rule, &of_agent(rule, family, &[]), &unless_done())),
        (PromQl::Below(family, expected), for_each) => {
            let below = format!("{} < {}", of_agent(rule, family, &[]), of_agent(rule, expected, &[]));
            if for_each == ForEach::Cluster { counted(rule, "down", &below) } else { one_below(rule, &below) }
        }
        (PromQl::Flag(family), ForEach::Cluster) => {
            counted(rule, "limited", &format!("{} == 1", of_agent(rule, family, &[])))
        }
        (PromQl::Flag(family), _) => Ok(compared(rule, &of_agent(rule, family, &[]), "")),
        (
            PromQl::NoMetric
            | PromQl::Custom
            | PromQl::Family(_)
            | PromQl::ByType(_)
            | PromQl::Share { .. }
            | PromQl::Except(..)
            | PromQl::Usual(..),
            _,
        ) => Ok(compared(rule, &gauge(rule, indicator)?, "")),
    }
}

/// The only level that a single agent can reach, with `condition`.
fn one_below(rule: &Description<'_>, condition: &str) -> Result<Vec<(Level, PromQlAlert)>, String> {
    let reached = rule.levels.iter().rev().find(|(_, threshold)| match rule.when {
        Comparison::AtLeast => 0.0 < *threshold && *threshold <= 1.0,
        _ => *threshold == 1.0,
    });
    let (level, _) = reached.ok_or("an agent is either down or not; use `at_least` with 1")?;
    let alert =
        PromQlAlert { expr: condition.to_owned() + &narrowed(rule), held: rule.hold, value: ExprValue::Measured };
    Ok(vec![(*level, alert)])
}

/// The number of agents of a project for which `condition` holds; `what` names them in the error.
fn counted(rule: &Description<'_>, what: &str, condition: &str) -> Result<Vec<(Level, PromQlAlert)>, String> {
    if rule.when != Comparison::AtLeast || rule.levels.first().is_some_and(|(_, lowest)| *lowest <= 0.0) {
        return Err(format!("PromQL has no count of 0 when no agent is {what}"));
    }
    Ok(compared(rule, &format!("count by (job, instance, project) ({condition})"), ""))
}

/// Lookout's own evaluation of the rule at `level`.
pub(super) fn own_evaluation(rule: &Description<'_>, level: Level) -> PromQlAlert {
    let labels = [("rule", rule.name), ("level", level.as_str())];
    let mut matchers: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect();
    matchers
        .extend(rule.filter.and_then(|filter| filter.project.as_deref()).map(|project| matcher("project", project)));
    let expr = format!("{}{{{}}} > 0", names::ALERTS_ACTIVE.name, matchers.join(", "));
    // The metric counts firing alerts, so `for` is included.
    PromQlAlert { expr, held: Duration::ZERO, value: ExprValue::Alerts }
}

/// Comments on differences between the expression and the rule.
pub(super) fn remarks(rule: &Description<'_>, exprs: &Result<Vec<(Level, PromQlAlert)>, String>) -> Vec<String> {
    let mut remarks = Vec::new();
    match exprs {
        Err(reason) => remarks.push(format!("{reason}, so this uses lookout's own evaluation")),
        Ok(levels) => {
            let is_staleness =
                matches!(&rule.value, Measure::Now(it) if matches!(it.indicator.promql(), PromQl::SilentSince(_)));
            if is_staleness && levels.iter().any(|(_, alert)| !alert.held.is_zero()) {
                remarks.push("time counts from `agents.timeout`, also for agents with a `ttl` of their own".to_owned());
            }
            if let Some(clear) = rule.clear {
                remarks.push(format!(
                    "lookout resolves it only once the value has passed {clear}, which PromQL can't express"
                ));
            }
        }
    }
    remarks
}

/// Levels that differ in how long a condition holds; `known_after` is how long it takes until the metric shows it.
fn by_time(rule: &Description<'_>, expr: String, known_after: Duration) -> Result<Vec<(Level, PromQlAlert)>, String> {
    if rule.when != Comparison::AtLeast {
        return Err("`for` in Prometheus is a minimum duration, so only `at_least` can be expressed".to_owned());
    }
    let held = |seconds: f64| {
        let asked = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        asked.saturating_sub(known_after).saturating_add(rule.hold)
    };
    let alert = |threshold| PromQlAlert {
        expr: expr.clone() + &narrowed(rule),
        held: held(threshold),
        value: ExprValue::Threshold,
    };
    Ok(rule.levels.iter().map(|(level, threshold)| (*level, alert(*threshold))).collect())
}

/// Levels that are states of a state-set family, with a series for each state in the label given.
fn words(
    rule: &Description<'_>,
    (family, label): (&str, &str),
    words: &[&'static str],
) -> Result<Vec<(Level, PromQlAlert)>, String> {
    if rule.when != Comparison::Equals {
        return Err("states have no order in PromQL".to_owned());
    }
    let one = |(level, code): &(Level, f64)| {
        let word = words.iter().enumerate().find(|(place, _)| *place as f64 == *code);
        let (_, word) = word.ok_or_else(|| format!("{code} is not a state of {family}"))?;
        let expr = format!("{} == 1{}", of_agent(rule, family, &[(label, word)]), narrowed(rule));
        Ok((*level, PromQlAlert { expr, held: rule.hold, value: ExprValue::Threshold }))
    };
    rule.levels.iter().map(one).collect()
}

/// Levels by number: each ends where the next one begins, unless the rule has `for` or `clear_after`, which an
/// escalation must not restart.
fn compared(rule: &Description<'_>, expr: &str, condition: &str) -> Vec<(Level, PromQlAlert)> {
    let is_timed = !rule.hold.is_zero() || !rule.clear_after.is_zero();
    let next = rule.levels.iter().skip(1).map(|(_, threshold)| Some(*threshold).filter(|_| !is_timed));
    let next = next.chain([None]);
    let limit = |threshold: f64| match usual_family(rule) {
        Some(family) => format!("{threshold} * {}", of_agent(rule, family, &[])),
        None => threshold.to_string(),
    };
    let one = |((level, threshold), next): (&(Level, f64), Option<f64>)| {
        let (threshold, next) = (limit(*threshold), next.map(limit));
        let (from, until) = match rule.when {
            Comparison::AtMost => (format!("<= {threshold}"), next.map(|next| format!(" > {next}"))),
            Comparison::AtLeast => (format!(">= {threshold}"), next.map(|next| format!(" < {next}"))),
            Comparison::Equals | Comparison::Absent => (format!("== {threshold}"), None),
        };
        let expr = format!("{expr} {from}{}{condition}{}", until.unwrap_or_default(), narrowed(rule));
        (*level, PromQlAlert { expr, held: rule.hold, value: ExprValue::Measured })
    };
    rule.levels.iter().zip(next).map(one).collect()
}

/// The family that the thresholds of `rule` are multiples of.
fn usual_family(rule: &Description<'_>) -> Option<&'static str> {
    match &rule.value {
        Measure::Now(input) if rule.usual.is_some() => match input.indicator.promql() {
            PromQl::Usual(_, usual) => Some(usual),
            _ => None,
        },
        _ => None,
    }
}

/// The expression of a measured value, and an additional condition.
fn measured(rule: &Description<'_>, value: &Measure) -> Result<(String, String), String> {
    let window = |over: &Duration| format!("[{}]", prometheus_duration(*over));
    let taken = |function: &str, input: &RuleInput, over: &Duration| -> Result<String, String> {
        if let Some(metric) = &input.metric {
            let series = selected(&metric.family(CustomKind::Counter), &custom_matchers(rule, metric));
            return Ok(format!("sum {BY_AGENT} ({function}({series}{}))", window(over)));
        }
        let of = |family| format!("{function}({}{})", of_agent(rule, family, &[]), window(over));
        match input.indicator.promql() {
            // A change of state changes two series of the family: the old state's and the new one's.
            PromQl::Words(family, _) => {
                let changes = format!("changes({}{})", of_agent(rule, family, &[]), window(over));
                Ok(format!("sum {BY_AGENT} ({changes}) / 2"))
            }
            PromQl::Family(family) => Ok(of(family)),
            PromQl::ByType(family) => Ok(format!("sum {BY_AGENT} ({})", of(family))),
            PromQl::Except(family, label, value) => {
                let series = except(rule, family, label, value);
                Ok(format!("sum {BY_AGENT} ({function}({series}{}))", window(over)))
            }
            _ => Err(no_metric(input.indicator)),
        }
    };
    Ok(match value {
        Measure::Now(input) => (gauge(rule, input.indicator)?, String::new()),
        Measure::Increase(input, over) => (taken("increase", input, over)?, String::new()),
        Measure::Rate(input, over) => (taken("rate", input, over)?, String::new()),
        Measure::Average(RuleInput { metric: Some(metric), .. }, over) => {
            let series = custom_series(rule, metric);
            (format!("avg {BY_AGENT} (avg_over_time({series}{}))", window(over)), String::new())
        }
        Measure::Average(input, over) => match input.indicator.promql() {
            PromQl::Family(family) => {
                (format!("avg_over_time({}{})", of_agent(rule, family, &[]), window(over)), String::new())
            }
            _ => {
                let every = format!("[{}:]", prometheus_duration(*over));
                (format!("avg_over_time(({}){every})", gauge(rule, input.indicator)?), String::new())
            }
        },
        Measure::Ratio(part, whole, over, least) => {
            let whole = taken("increase", whole, over)?;
            (format!("{} / {whole}", taken("increase", part, over)?), format!("\nand {whole} >= {least}"))
        }
    })
}

/// The current value of a custom metric: of several series of one subject, the one that breaks the rule most.
fn custom(rule: &Description<'_>, metric: &MetricSelector) -> String {
    let series = custom_series(rule, metric);
    let by = match rule.for_each {
        ForEach::Component => "by (job, instance, project, component)",
        ForEach::Cluster => "by (job, instance, project)",
        _ => BY_AGENT,
    };
    match rule.when {
        Comparison::AtMost => format!("min {by} ({series})"),
        Comparison::AtLeast => format!("max {by} ({series})"),
        Comparison::Equals | Comparison::Absent => series,
    }
}

/// The series of a custom metric. Unless its name says what it is, it is a gauge or a counter.
fn custom_series(rule: &Description<'_>, metric: &MetricSelector) -> String {
    let mut matchers = custom_matchers(rule, metric);
    if let Some(kind) = metric.kind {
        return selected(&metric.family(kind), &matchers);
    }
    let name = format!("{}(_total)?", metric.family(CustomKind::Gauge));
    matchers.insert(0, format!("__name__=~{}", quoted(&name)));
    selected("", &matchers)
}

/// The matchers of the rule's filter and of the labels of the metric.
fn custom_matchers(rule: &Description<'_>, metric: &MetricSelector) -> Vec<String> {
    let mut matchers = filter_matchers(rule);
    matchers.extend(metric.labels.iter().map(|(label, pattern)| matcher(label, pattern)));
    // Series of agents, of components and of projects differ by their labels only.
    let of: &[&str] = match rule.for_each {
        ForEach::Cluster => &["agent_name=\"\"", "component=\"\""],
        ForEach::Component => &["component!=\"\""],
        _ if matchers.iter().any(|matcher| matcher.starts_with("agent_name")) => &[],
        _ => &["agent_name!=\"\""],
    };
    matchers.extend(of.iter().map(|of| (*of).to_owned()));
    matchers
}

fn no_metric(indicator: Indicator) -> String {
    format!("no metric has {}", indicator.name())
}

/// The current value.
fn gauge(rule: &Description<'_>, indicator: Indicator) -> Result<String, String> {
    Ok(match indicator.promql() {
        PromQl::Family(family) | PromQl::Usual(family, _) => of_agent(rule, family, &[]),
        PromQl::ByType(family) => format!("sum {BY_AGENT} ({})", of_agent(rule, family, &[])),
        PromQl::Except(family, label, value) => format!("sum {BY_AGENT} ({})", except(rule, family, label, value)),
        PromQl::Share { used, budget, scope } => {
            let scope = [("scope", scope)];
            format!("{} / ({} > 0)", of_agent(rule, used, &scope), of_agent(rule, budget, &scope))
        }
        _ => return Err(no_metric(indicator)),
    })
}

/// Excludes agents that ended or are paused.
fn unless_done() -> String {
    let status = names::AGENT_STATUS.name;
    format!("\nunless {ON_AGENT}\n  {status}{{status=~\"completed|failed|paused\"}} == 1")
}

/// The family without its series with that value of the label, selected by the rule's filter.
fn except(rule: &Description<'_>, family: &str, label: &str, value: &str) -> String {
    let mut matchers = filter_matchers(rule);
    matchers.push(format!("{label}!={}", quoted(value)));
    selected(family, &matchers)
}

/// The matchers of the rule's filter on project and name.
fn filter_matchers(rule: &Description<'_>) -> Vec<String> {
    let mut matchers: Vec<String> = Vec::new();
    if let Some(Where { project, agent_name, .. }) = rule.filter {
        matchers.extend(project.as_deref().map(|pattern| matcher("project", pattern)));
        matchers.extend(agent_name.as_deref().map(|pattern| matcher("agent_name", pattern)));
    }
    matchers
}

/// The family, selected by the labels given and by the rule's filter.
fn of_agent(rule: &Description<'_>, family: &str, labels: &[(&str, &str)]) -> String {
    let matchers = filter_matchers(rule);
    selected(
        family,
        &[&matchers[..], &labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect::<Vec<_>>()]
            .concat(),
    )
}

fn selected(family: &str, matchers: &[String]) -> String {
    if matchers.is_empty() { family.to_owned() } else { format!("{family}{{{}}}", matchers.join(", ")) }
}

/// The conditions of the rule's filter on type and status.
fn narrowed(rule: &Description<'_>) -> String {
    let Some(Where { r#type, status, .. }) = rule.filter else { return String::new() };
    let mut conditions = String::new();
    if let Some(pattern) = r#type {
        let info = selected(names::AGENT_INFO.name, &[matcher("agent_type", pattern)]);
        conditions.push_str(&format!("\nand {ON_AGENT}\n  {info}"));
    }
    if let Some(pattern) = status {
        let status = selected(names::AGENT_STATUS.name, &[matcher("status", pattern)]);
        conditions.push_str(&format!("\nand {ON_AGENT}\n  {status} == 1"));
    }
    conditions
}

/// A label matcher for a glob.
fn matcher(label: &str, glob: &str) -> String {
    if !glob.contains(['*', '?']) {
        return format!("{label}={}", quoted(glob));
    }
    let mut regex = String::with_capacity(glob.len() + 8);
    for letter in glob.chars() {
        match letter {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            letter if letter.is_ascii_punctuation() && !matches!(letter, '_' | '-') => regex.extend(['\\', letter]),
            letter => regex.push(letter),
        }
    }
    format!("{label}=~{}", quoted(&regex))
}

/// `text` as a PromQL string, with Go's escapes.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// A duration in PromQL, which has the same notation as ours.
fn prometheus_duration(over: Duration) -> String {
    duration::exact(over)
}
