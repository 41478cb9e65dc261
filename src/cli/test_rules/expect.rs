//! Comparison of expected and actual alerts and notifications, with the differences as text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::file::{AlertsAt, ExpectedAlert, ExpectedNotification, RuleTest};
use super::play::TestRun;
use crate::engine::AlertView;
use crate::model::{Notice, Time, duration};
use crate::notify::Sent;

/// Most cells of the table for aligning two lists of notifications; longer lists are compared position by position.
const MAX_COMPARED: usize = 4_000_000;
/// Most lines of one difference.
const MAX_LINES: usize = 200;

/// The failures of `test`, each a text of several lines. `folder` is that of the test's file.
pub(super) fn failures(test: &RuleTest, run: &TestRun, start: Time, folder: &Path) -> Vec<String> {
    let mut failures = Vec::new();
    for (check, seen) in test.alert_rule_test.iter().zip(&run.alerts) {
        failures.extend(alerts(check, seen));
    }
    if let Some(expected) = &test.notifications {
        failures.extend(notifications(expected, run, start, folder));
    }
    failures
}

fn alerts(check: &AlertsAt, seen: &[AlertView]) -> Option<String> {
    let seen: Vec<&AlertView> =
        seen.iter().filter(|alert| check.rule.as_ref().is_none_or(|rule| *alert.rule == **rule)).collect();
    let mut taken = vec![false; seen.len()];
    // Expectations that match fewer alerts are assigned first, so that an unspecific one does not take the only match
    // of another.
    let mut order: Vec<usize> = (0..check.alerts.len()).collect();
    let fits = |place: &usize| {
        check.alerts.get(*place).map_or(0, |one| seen.iter().filter(|alert| matches_alert(one, alert)).count())
    };
    order.sort_by_key(fits);
    let mut missing = Vec::new();
    for place in order {
        let Some(one) = check.alerts.get(place) else { continue };
        let found = seen.iter().zip(&taken).position(|(alert, taken)| !taken && matches_alert(one, alert));
        match found.and_then(|found| taken.get_mut(found)) {
            Some(taken) => *taken = true,
            None => missing.push((place, format!("  - expected {}", shown_expected(one)))),
        }
    }
    missing.sort_unstable();
    let mut lines: Vec<String> = missing.into_iter().map(|(_, line)| line).collect();
    let extra = seen
        .iter()
        .zip(&taken)
        .filter(|(_, taken)| !**taken)
        .map(|(alert, _)| format!("  + got      {}", shown(alert)));
    lines.extend(extra);
    let of = check.rule.as_ref().map(|rule| format!(" of {rule}")).unwrap_or_default();
    (!lines.is_empty()).then(|| section(format!("alerts{of} at {}:", duration::exact(check.at)), lines))
}

fn section(head: String, mut lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(MAX_LINES);
    lines.truncate(MAX_LINES);
    if more > 0 {
        lines.push(format!("  … and {more} more lines"));
    }
    format!("{head}\n{}", lines.join("\n"))
}

/// Whether `alert` has all values that `one` expects.
fn matches_alert(one: &ExpectedAlert, alert: &AlertView) -> bool {
    // The default of `state` is firing.
    let state = one.state.unwrap_or(crate::model::AlertState::Firing);
    state == alert.state
        && one.level.is_none_or(|level| level == alert.level)
        && one.no_data.is_none_or(|no_data| no_data == alert.no_data)
        && same(one.rule.as_ref(), Some(&alert.rule))
        && same(one.project.as_ref(), alert.project.as_deref())
        && same(one.agent_name.as_ref(), alert.agent_name.as_deref())
        && same(one.component.as_ref(), alert.component.as_deref())
        && same(one.source.as_ref(), alert.source.as_deref())
        && same(one.inhibited_by.as_ref(), alert.inhibited_by.as_deref())
        && same(one.silenced_by.as_ref(), alert.silenced_by.as_deref())
        && same(one.acked_by.as_ref(), alert.acked_by.as_deref())
        && same(one.message.as_ref(), Some(&alert.message))
        && same(one.action.as_ref(), Some(&alert.action))
        && close(one.value, alert.value)
        && close(one.threshold, alert.threshold)
}

fn same(expected: Option<&String>, got: Option<&str>) -> bool {
    expected.is_none_or(|expected| got.is_some_and(|got| got == expected))
}

/// Whether the numbers are equal up to rounding errors.
fn close(expected: Option<f64>, got: Option<f64>) -> bool {
    let Some(expected) = expected else { return true };
    got.is_some_and(|got| (got - expected).abs() <= 1e-9 * expected.abs().max(1.0))
}

/// `{name: value, …}` of the values that are known.
fn pairs<const N: usize>(fields: [(&str, Option<String>); N]) -> String {
    let known = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
    format!("{{{}}}", known.collect::<Vec<_>>().join(", "))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn word<T: serde::Serialize>(value: Option<T>) -> Option<String> {
    serde_json::to_value(value?).ok()?.as_str().map(str::to_owned)
}

fn number(value: Option<f64>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn shown_expected(one: &ExpectedAlert) -> String {
    pairs([
        ("rule", one.rule.clone()),
        ("level", word(one.level)),
        ("state", word(one.state)),
        ("project", one.project.clone()),
        ("agent_name", one.agent_name.clone()),
        ("component", one.component.clone()),
        ("source", one.source.clone()),
        ("value", number(one.value)),
        ("threshold", number(one.threshold)),
        ("no_data", one.no_data.map(|it| it.to_string())),
        ("inhibited_by", one.inhibited_by.clone()),
        ("silenced_by", one.silenced_by.clone()),
        ("acked_by", one.acked_by.clone()),
        ("message", one.message.as_deref().map(quoted)),
        ("action", one.action.as_deref().map(quoted)),
    ])
}

fn shown(alert: &AlertView) -> String {
    let text = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
    pairs([
        ("rule", Some(alert.rule.to_string())),
        ("level", word(Some(alert.level))),
        ("state", word(Some(alert.state))),
        ("project", text(&alert.project)),
        ("agent_name", text(&alert.agent_name)),
        ("component", text(&alert.component)),
        ("source", text(&alert.source)),
        ("value", number(alert.value)),
        ("threshold", number(alert.threshold)),
        ("no_data", alert.no_data.then(|| "true".to_owned())),
        ("inhibited_by", text(&alert.inhibited_by)),
        ("silenced_by", alert.silenced_by.clone()),
        ("acked_by", alert.acked_by.clone()),
        ("message", Some(quoted(&alert.message))),
    ])
}

/// The expected and the actual notifications of one receiver.
type ExpectedAndActual<'a> = (Vec<&'a ExpectedNotification>, Vec<&'a Arc<Notice>>);

fn notifications(expected: &[ExpectedNotification], run: &TestRun, start: Time, folder: &Path) -> Vec<String> {
    let mut by_receiver: BTreeMap<Arc<str>, ExpectedAndActual<'_>> = BTreeMap::new();
    for notice in &run.notices {
        by_receiver.entry(Arc::clone(&notice.receiver)).or_default().1.push(notice);
    }
    for one in expected {
        let receiver = one.receiver.as_deref().unwrap_or_default();
        by_receiver.entry(Arc::from(receiver)).or_default().0.push(one);
    }
    let mut failures = Vec::new();
    for (receiver, (expected, actual)) in by_receiver {
        let is_equal = |one: &ExpectedNotification, notice: &Notice| matches_notice(one, notice, start);
        let steps = align(&expected, &actual, &is_equal);
        let same = steps.iter().all(|step| matches!(step, DiffStep::Both(..)));
        if !same {
            let mut lines = Vec::new();
            for step in &steps {
                lines.push(match step {
                    DiffStep::Both(_, notice) => format!("    {}", shown_notice(notice, start)),
                    DiffStep::Missing(one) => format!("  - expected {}", shown_notification(one)),
                    DiffStep::Extra(notice) => format!("  + got      {}", shown_notice(notice, start)),
                });
            }
            failures.push(section(format!("notifications to {receiver}:"), lines));
        }
        for step in &steps {
            if let DiffStep::Both(ExpectedNotification { sent: Some(wanted), .. }, notice) = step {
                failures.extend(message(wanted, notice, &run.sent, start, folder));
            }
        }
    }
    failures
}

/// Whether `notice` has all values that `one` expects.
fn matches_notice(one: &ExpectedNotification, notice: &Notice, start: Time) -> bool {
    let at = notice.at.since(start);
    let name = |label: &str| (notice.subject.label() == label).then(|| &**notice.subject.name());
    one.at.is_none_or(|expected| expected == at)
        && one.between.is_none_or(|(from, until)| (from.0..=until.0).contains(&at))
        && one.kind.is_none_or(|kind| kind == notice.kind)
        && one.level.is_none_or(|level| level == notice.level)
        && one.previous.is_none_or(|level| Some(level) == notice.previous)
        && one.ending.is_none_or(|ending| Some(ending) == notice.ending)
        && same(one.rule.as_ref(), Some(&notice.rule))
        && same(one.project.as_ref(), notice.subject.project().map(|it| &**it))
        && same(one.agent_name.as_ref(), name("agent_name"))
        && same(one.component.as_ref(), name("component"))
        && same(one.source.as_ref(), name("source"))
        && same(one.message.as_ref(), Some(&notice.message))
        && same(one.action.as_ref(), Some(&notice.action))
        && close(one.value, notice.value)
}

fn shown_notification(one: &ExpectedNotification) -> String {
    let at = match (one.at, one.between) {
        (Some(at), _) => format!("{} ", duration::exact(at)),
        (None, Some((from, until))) => format!("{} to {} ", duration::exact(from.0), duration::exact(until.0)),
        (None, None) => String::new(),
    };
    let fields = pairs([
        ("kind", word(one.kind)),
        ("rule", one.rule.clone()),
        ("level", word(one.level)),
        ("previous", word(one.previous)),
        ("project", one.project.clone()),
        ("agent_name", one.agent_name.clone()),
        ("component", one.component.clone()),
        ("source", one.source.clone()),
        ("value", number(one.value)),
        ("ending", word(one.ending)),
        ("message", one.message.as_deref().map(quoted)),
        ("action", one.action.as_deref().map(quoted)),
    ]);
    format!("{at}{fields}")
}

fn shown_notice(notice: &Notice, start: Time) -> String {
    let of = |kind: &str| (notice.subject.label() == kind).then(|| notice.subject.name().to_string());
    let fields = pairs([
        ("kind", word(Some(notice.kind))),
        ("rule", Some(notice.rule.to_string())),
        ("level", word(Some(notice.level))),
        ("previous", word(notice.previous)),
        ("project", notice.subject.project().map(ToString::to_string)),
        ("agent_name", of("agent_name")),
        ("component", of("component")),
        ("source", of("source")),
        ("value", number(notice.value)),
        ("ending", word(notice.ending)),
        ("message", Some(quoted(&notice.message))),
    ]);
    format!("{} {fields}", duration::exact(notice.at.since(start)))
}

/// An entry of the aligned lists.
enum DiffStep<'a> {
    Both(&'a ExpectedNotification, &'a Notice),
    Missing(&'a ExpectedNotification),
    Extra(&'a Notice),
}

/// Aligns both lists by their longest common subsequence.
fn align<'a>(
    expected: &[&'a ExpectedNotification],
    actual: &[&'a Arc<Notice>],
    is_equal: &dyn Fn(&ExpectedNotification, &Notice) -> bool,
) -> Vec<DiffStep<'a>> {
    let width = actual.len() + 1;
    // Lengths of the longest common subsequences of all tails; none if the lists are too long.
    let table = (expected.len().saturating_mul(width) <= MAX_COMPARED).then(|| {
        let mut table = vec![0_u32; (expected.len() + 1) * width];
        for (row, one) in expected.iter().enumerate().rev() {
            for (column, notice) in actual.iter().enumerate().rev() {
                let at = |row: usize, column: usize| table.get(row * width + column).copied().unwrap_or_default();
                let longest = if is_equal(one, notice) {
                    at(row + 1, column + 1) + 1
                } else {
                    at(row + 1, column).max(at(row, column + 1))
                };
                if let Some(cell) = table.get_mut(row * width + column) {
                    *cell = longest;
                }
            }
        }
        table
    });
    let tail = |row: usize, column: usize| {
        table.as_ref().and_then(|table| table.get(row * width + column)).copied().unwrap_or_default()
    };
    let mut steps = Vec::new();
    let (mut row, mut column) = (0, 0);
    loop {
        match (expected.get(row), actual.get(column)) {
            (Some(one), Some(notice)) if is_equal(one, notice) => {
                steps.push(DiffStep::Both(one, notice));
                (row, column) = (row + 1, column + 1);
            }
            (Some(one), other) if other.is_none() || tail(row + 1, column) >= tail(row, column + 1) => {
                steps.push(DiffStep::Missing(one));
                row += 1;
                if let (None, Some(notice)) = (&table, other) {
                    steps.push(DiffStep::Extra(notice));
                    column += 1;
                }
            }
            (_, Some(notice)) => {
                steps.push(DiffStep::Extra(notice));
                column += 1;
            }
            _ => return steps,
        }
    }
}

/// Compares the message that contains `notice` with the expected one.
fn message(wanted: &Value, notice: &Notice, sent: &[Sent], start: Time, folder: &Path) -> Option<String> {
    let at = duration::exact(notice.at.since(start));
    let head = format!("the message to {} about {} at {at}:", notice.receiver, notice.subject.name());
    let contains = |message: &&Sent| message.notices.iter().any(|carried| carried.key == notice.key);
    let Some(message) = sent.iter().find(contains) else {
        return Some(format!("{head}\n  was not sent: a newer notice replaced this one"));
    };
    let body = match &message.body {
        Ok(body) => String::from_utf8_lossy(body),
        Err(error) => return Some(format!("{head}\n  could not be built: {error}")),
    };
    let (wanted, got) = match wanted {
        Value::String(file) => match crate::config::rule_tests::read_relative(folder, file) {
            // Line endings of the file and newlines at its end do not matter.
            Ok(text) => (plain(&text), plain(&body)),
            Err(error) => return Some(format!("{head}\n  {file}: {error}")),
        },
        json => match serde_json::from_str::<Value>(&body) {
            Ok(got) if got == *json => return None,
            Ok(got) => (pretty(json), pretty(&got)),
            Err(_) => (pretty(json), body.into_owned()),
        },
    };
    (wanted != got).then(|| section(head, line_diff(&wanted, &got)))
}

fn plain(text: &str) -> String {
    text.replace("\r\n", "\n").trim_end_matches('\n').to_owned()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The lines that differ, without the common ones before and after.
fn line_diff(wanted: &str, got: &str) -> Vec<String> {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), got.lines().collect());
    let head = wanted.iter().zip(&got).take_while(|(one, other)| one == other).count();
    let most = wanted.len().min(got.len()) - head;
    let tail = wanted.iter().rev().zip(got.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
    let shown = |mark: &str, lines: &[&str]| -> Vec<String> {
        let middle = lines.get(head..lines.len() - tail).unwrap_or_default();
        middle.iter().map(|line| format!("  {mark}{}", crate::text::clean(line, 2_000))).collect()
    };
    [vec![format!("  from line {}:", head + 1)], shown("- ", &wanted), shown("+ ", &got)].concat()
}
