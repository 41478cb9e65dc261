//! From what a rule compares to an expression over our metric families.

use std::time::Duration;

use crate::metrics::names::{self, Family};
use crate::model::{AgentStatus, ComponentStatus, Health, Level, Signal, duration};
use crate::rules::file::{ForEach, Where};
use crate::rules::{Description, Measure, When};

/// What tells the agents of all targets apart.
const ON_AGENT: &str = "on (job, instance, project, agent_name)";
const BY_AGENT: &str = "by (job, instance, project, agent_name)";

/// One level of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    /// The expression, in lines.
    pub(super) expr: String,
    /// How long it must hold.
    pub(super) held: Duration,
    /// What its value is.
    pub(super) value: Shown,
}

/// What the value of an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// What the rule compares.
    Measured,
    /// Nothing to show; the rule's threshold stands for it.
    Threshold,
    /// How many alerts there are.
    Alerts,
}

/// Each level as Prometheus says it, or why it can't.
pub(super) fn say(rule: &Description<'_>, timeout: Duration) -> Result<Vec<(Level, Said)>, String> {
    if rule.when == When::Absent {
        return Err("PromQL can't tell what was once known from what never was".to_owned());
    }
    match (rule.for_each, rule.value) {
        (ForEach::Source, _) => by_time(rule, selected(&names::SOURCE_UP, &[]) + " == 0", Duration::ZERO),
        (_, Measure::Now(Signal::StaleSeconds)) => {
            let silent = format!("{} == 0", of_agent(rule, &names::AGENT_UP, &[]));
            by_time(rule, silent + &unless_done(), timeout)
        }
        (_, Measure::Now(Signal::TaskSeconds)) => Err("no metric says when a task began".to_owned()),
        (_, Measure::Now(Signal::AgentsMissing)) => Err("no metric says who is expected and was never seen".to_owned()),
        (_, Measure::Now(Signal::ReceiverFailingSeconds)) => {
            Err("no metric says since when a receiver fails".to_owned())
        }
        (_, Measure::Now(Signal::GivenUp)) => {
            Err("no metric says what was given up since a receiver last took one".to_owned())
        }
        (_, Measure::Now(Signal::StoreFailingSeconds)) => Err("no metric says since when the store fails".to_owned()),
        (_, Measure::Now(Signal::UndeliveredSeconds)) => Ok(compared(rule, names::OUTBOX_OLDEST_AGE.name, "")),
        (_, Measure::Now(Signal::LagSeconds)) => Ok(compared(rule, names::ENGINE_LAG.name, "")),
        (_, Measure::Now(Signal::Status)) => words(rule, &names::AGENT_STATUS, |code| {
            AgentStatus::ALL.into_iter().find(|it| f64::from(*it as u8) == code).map(AgentStatus::as_str)
        }),
        (_, Measure::Now(Signal::ComponentStatus)) => words(rule, &names::COMPONENT_STATUS, |code| {
            ComponentStatus::ALL.into_iter().find(|it| f64::from(*it as u8) == code).map(ComponentStatus::as_str)
        }),
        (_, Measure::Now(Signal::ClusterHealth)) => words(rule, &names::CLUSTER_HEALTH, |code| {
            Health::ALL.into_iter().find(|it| f64::from(*it as u8) == code).map(Health::as_str)
        }),
        (ForEach::Agent, Measure::Now(Signal::AgentsDown)) => {
            let reached = rule.levels.iter().rev().find(|(_, threshold)| match rule.when {
                When::AtLeast => 0.0 < *threshold && *threshold <= 1.0,
                _ => *threshold == 1.0,
            });
            let (level, _) = reached.ok_or("one agent is down or not; write `at_least` with 1")?;
            let said = Said { expr: down(rule) + &narrowed(rule), held: rule.hold, value: Shown::Measured };
            Ok(vec![(*level, said)])
        }
        (_, Measure::Now(Signal::AgentsDown)) => {
            if rule.when != When::AtLeast || rule.levels.first().is_some_and(|(_, lowest)| *lowest <= 0.0) {
                return Err("where no agent is down, PromQL counts nothing".to_owned());
            }
            Ok(compared(rule, &format!("count by (job, instance, project) ({})", down(rule)), ""))
        }
        (ForEach::Cluster, Measure::Now(Signal::AgentsLimited)) => {
            if rule.when != When::AtLeast || rule.levels.first().is_some_and(|(_, lowest)| *lowest <= 0.0) {
                return Err("where no agent is limited, PromQL counts nothing".to_owned());
            }
            let limited = of_agent(rule, &names::AGENT_LIMITED, &[]);
            Ok(compared(rule, &format!("count by (job, instance, project) ({limited} == 1)"), ""))
        }
        (_, Measure::Now(Signal::AgentsLimited)) => Ok(compared(rule, &of_agent(rule, &names::AGENT_LIMITED, &[]), "")),
        (_, Measure::Now(Signal::IdleSeconds)) => {
            Ok(compared(rule, &of_agent(rule, &names::AGENT_IDLE_TIME, &[]), &unless_done()))
        }
        (_, value) => {
            let (expr, condition) = measured(rule, value)?;
            Ok(compared(rule, &expr, &condition))
        }
    }
}

/// Lookout's own verdict at `level`.
pub(super) fn verdict(rule: &Description<'_>, level: Level) -> Said {
    let labels = [("rule", rule.name), ("level", level.as_str())];
    let mut matchers: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect();
    matchers
        .extend(rule.filter.and_then(|filter| filter.project.as_deref()).map(|project| matcher("project", project)));
    let expr = format!("{}{{{}}} > 0", names::ALERTS_ACTIVE.name, matchers.join(", "));
    // It fires when the rule has held for long enough.
    Said { expr, held: Duration::ZERO, value: Shown::Alerts }
}

/// What a reader should know of how the rule is said.
pub(super) fn remarks(rule: &Description<'_>, said: &Result<Vec<(Level, Said)>, String>) -> Vec<String> {
    let mut remarks = Vec::new();
    match said {
        Err(reason) => remarks.push(format!("{reason}, so that this is lookout's own verdict")),
        Ok(levels) => {
            if rule.value == Measure::Now(Signal::StaleSeconds) && levels.iter().any(|(_, said)| !said.held.is_zero()) {
                remarks.push(
                    "the time is counted from `agents.timeout` on, also for who promised another rhythm".to_owned(),
                );
            }
            if let Some(clear) = rule.clear {
                remarks
                    .push(format!("lookout holds it until the value has passed {clear}, for which PromQL has no word"));
            }
        }
    }
    remarks
}

/// Levels that differ in how long a condition holds; `known_after` is how long it takes until the condition shows.
fn by_time(rule: &Description<'_>, expr: String, known_after: Duration) -> Result<Vec<(Level, Said)>, String> {
    if rule.when != When::AtLeast {
        return Err("Prometheus counts how long something has lasted at least, and no other way".to_owned());
    }
    let held = |seconds: f64| {
        let asked = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        asked.saturating_sub(known_after).saturating_add(rule.hold)
    };
    let said =
        |threshold| Said { expr: expr.clone() + &narrowed(rule), held: held(threshold), value: Shown::Threshold };
    Ok(rule.levels.iter().map(|(level, threshold)| (*level, said(*threshold))).collect())
}

/// Levels that are words of a family with a series for each.
fn words(
    rule: &Description<'_>,
    family: &Family,
    word: impl Fn(f64) -> Option<&'static str>,
) -> Result<Vec<(Level, Said)>, String> {
    if rule.when != When::Equals {
        return Err("words have no order in PromQL".to_owned());
    }
    let label = if rule.for_each == ForEach::Cluster { "health" } else { "status" };
    let one = |(level, code): &(Level, f64)| {
        let word = word(*code).ok_or_else(|| format!("{code} is no word of {}", family.name))?;
        let expr = format!("{} == 1{}", of_agent(rule, family, &[(label, word)]), narrowed(rule));
        Ok((*level, Said { expr, held: rule.hold, value: Shown::Threshold }))
    };
    rule.levels.iter().map(one).collect()
}

/// Levels by number: each ends where the next one begins, unless time is counted, which a raise must not begin anew.
fn compared(rule: &Description<'_>, expr: &str, condition: &str) -> Vec<(Level, Said)> {
    let is_timed = !rule.hold.is_zero() || !rule.clear_after.is_zero();
    let next = rule.levels.iter().skip(1).map(|(_, threshold)| Some(*threshold).filter(|_| !is_timed));
    let next = next.chain([None]);
    let one = |((level, threshold), next): (&(Level, f64), Option<f64>)| {
        let (from, until) = match rule.when {
            When::AtMost => (format!("<= {threshold}"), next.map(|next| format!(" > {next}"))),
            When::AtLeast => (format!(">= {threshold}"), next.map(|next| format!(" < {next}"))),
            When::Equals | When::Absent => (format!("== {threshold}"), None),
        };
        let expr = format!("{expr} {from}{}{condition}{}", until.unwrap_or_default(), narrowed(rule));
        (*level, Said { expr, held: rule.hold, value: Shown::Measured })
    };
    rule.levels.iter().zip(next).map(one).collect()
}

/// The expression of a value by number, and a condition beside it.
fn measured(rule: &Description<'_>, value: Measure) -> Result<(String, String), String> {
    let window = |over: Duration| format!("[{}]", prometheus_duration(over));
    let taken = |function: &str, signal: Signal, over: Duration| -> Result<String, String> {
        let (family, by_type) = counter(signal).ok_or_else(|| no_metric(signal))?;
        let expr = format!("{function}({}{})", of_agent(rule, family, &[]), window(over));
        Ok(if by_type { format!("sum {BY_AGENT} ({expr})") } else { expr })
    };
    Ok(match value {
        Measure::Now(signal) => (gauge(rule, signal)?, String::new()),
        Measure::Increase(Signal::Status, over) => {
            // Each change ends one series of the family and begins another.
            let changes = format!("changes({}{})", of_agent(rule, &names::AGENT_STATUS, &[]), window(over));
            (format!("sum {BY_AGENT} ({changes}) / 2"), String::new())
        }
        Measure::Increase(signal, over) => (taken("increase", signal, over)?, String::new()),
        Measure::Rate(signal, over) => (taken("rate", signal, over)?, String::new()),
        Measure::Average(Signal::Progress, over) => {
            (format!("avg_over_time({}{})", gauge(rule, Signal::Progress)?, window(over)), String::new())
        }
        Measure::Average(signal, over) => {
            let every = format!("[{}:]", prometheus_duration(over));
            (format!("avg_over_time(({}){every})", gauge(rule, signal)?), String::new())
        }
        Measure::Ratio(part, whole, over, least) => {
            let whole = taken("increase", whole, over)?;
            (format!("{} / {whole}", taken("increase", part, over)?), format!("\nand {whole} >= {least}"))
        }
    })
}

fn no_metric(signal: Signal) -> String {
    format!("no metric says {}", signal.word())
}

/// A signal as it is.
fn gauge(rule: &Description<'_>, signal: Signal) -> Result<String, String> {
    let ratio = |used: &Family, budget: &Family, scope: &str| {
        let scope = [("scope", scope)];
        format!("{} / ({} > 0)", of_agent(rule, used, &scope), of_agent(rule, budget, &scope))
    };
    let tokens = |scope| ratio(&names::AGENT_BUDGET_USED_TOKENS, &names::AGENT_BUDGET_TOKENS, scope);
    Ok(match signal {
        Signal::Progress => of_agent(rule, &names::AGENT_PROGRESS, &[]),
        Signal::TaskBudgetRatio => tokens("task"),
        Signal::DayBudgetRatio => tokens("day"),
        Signal::DayCostRatio => ratio(&names::AGENT_BUDGET_USED_USD, &names::AGENT_BUDGET_USD, "day"),
        signal => {
            let (family, by_type) = counter(signal).ok_or_else(|| no_metric(signal))?;
            let expr = of_agent(rule, family, &[]);
            if by_type { format!("sum {BY_AGENT} ({expr})") } else { expr }
        }
    })
}

/// The family of a signal that counts, and whether it has a series for each type.
const fn counter(signal: Signal) -> Option<(&'static Family, bool)> {
    Some(match signal {
        Signal::Restarts => (&names::AGENT_RESTARTS, false),
        Signal::Tokens => (&names::AGENT_TOKENS, true),
        Signal::CostUsd => (&names::AGENT_COST, false),
        Signal::Requests => (&names::AGENT_REQUESTS, false),
        Signal::RequestErrors => (&names::AGENT_REQUEST_ERRORS, false),
        Signal::RateLimitHits => (&names::AGENT_RATE_LIMIT_HITS, false),
        Signal::Retries => (&names::AGENT_RETRIES, false),
        _ => return None,
    })
}

fn down(rule: &Description<'_>) -> String {
    format!("{} < {}", of_agent(rule, &names::AGENT_UP, &[]), of_agent(rule, &names::AGENT_EXPECTED, &[]))
}

/// Not those who ended or were stopped on purpose.
fn unless_done() -> String {
    let status = names::AGENT_STATUS.name;
    format!("\nunless {ON_AGENT}\n  {status}{{status=~\"completed|failed|paused\"}} == 1")
}

/// The family with the labels given and those that the rule's filter asks for.
fn of_agent(rule: &Description<'_>, family: &Family, labels: &[(&str, &str)]) -> String {
    let mut matchers: Vec<String> = Vec::new();
    if let Some(Where { project, agent_name, .. }) = rule.filter {
        matchers.extend(project.as_deref().map(|pattern| matcher("project", pattern)));
        matchers.extend(agent_name.as_deref().map(|pattern| matcher("agent_name", pattern)));
    }
    selected(
        family,
        &[&matchers[..], &labels.iter().map(|(label, value)| format!("{label}={}", quoted(value))).collect::<Vec<_>>()]
            .concat(),
    )
}

fn selected(family: &Family, matchers: &[String]) -> String {
    if matchers.is_empty() { family.name.to_owned() } else { format!("{}{{{}}}", family.name, matchers.join(", ")) }
}

/// What a filter asks beyond names, as conditions.
fn narrowed(rule: &Description<'_>) -> String {
    let Some(Where { r#type, status, .. }) = rule.filter else { return String::new() };
    let mut conditions = String::new();
    if let Some(pattern) = r#type {
        let info = selected(&names::AGENT_INFO, &[matcher("agent_type", pattern)]);
        conditions.push_str(&format!("\nand {ON_AGENT}\n  {info}"));
    }
    if let Some(pattern) = status {
        let status = selected(&names::AGENT_STATUS, &[matcher("status", pattern)]);
        conditions.push_str(&format!("\nand {ON_AGENT}\n  {status} == 1"));
    }
    conditions
}

/// A label that a glob covers.
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

/// `text` as a string of PromQL, whose escapes are those of Go.
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

/// A window as Prometheus reads it, which is as we write it.
fn prometheus_duration(over: Duration) -> String {
    duration::exact(over)
}
