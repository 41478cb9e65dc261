//! Reads the metrics, labels and windows that a PromQL expression names.
//!
//! It does not check syntax, which promtool does.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use super::families;
use crate::counterparts;
use crate::{Case, trial};

/// A metric as an expression names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    /// The metric's name.
    pub(super) name: String,
    /// Label, operator, value.
    pub(super) matchers: Vec<(String, String, String)>,
    /// The text in the brackets after it.
    pub(super) window: Option<String>,
    /// The function around it; empty when there is none.
    pub(super) function: String,
}

/// All names in an expression.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) selectors: Vec<Selector>,
    /// Labels that it groups or joins by.
    pub(super) grouping: BTreeSet<String>,
}

const OPERATORS: [&str; 11] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end", "Inf", "NaN"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

pub(crate) fn trials() -> Vec<Case> {
    vec![trial("bundles: names in a PromQL expression are found", &[], names_are_read)]
}

/// Cuts an expression into words, strings, brackets with their content, and signs.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '$');
        let end = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            '=' | '!' | '<' | '>' => rest.find(|c| !matches!(c, '=' | '!' | '<' | '>' | '~')).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(end);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// The names in `expression`.
pub(super) fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut functions: Vec<String> = Vec::new();
    let mut aggregation = String::new();
    let mut tokens = tokens(expression).into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = tokens.peek().copied().unwrap_or_default();
        match token {
            "(" => functions.push(std::mem::take(&mut aggregation)),
            ")" => drop(functions.pop()),
            _ if GROUPINGS.contains(&token) => {
                if next == "(" {
                    let labels = tokens.by_ref().skip(1).take_while(|token| *token != ")");
                    names.grouping.extend(labels.filter(|token| *token != ",").map(str::to_owned));
                }
            }
            _ if OPERATORS.contains(&token) || !token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {}
            _ if next == "(" || GROUPINGS.contains(&next) => aggregation = token.to_owned(),
            _ => {
                let mut selector = Selector { name: token.to_owned(), ..Selector::default() };
                selector.function = functions.last().cloned().unwrap_or_default();
                if next == "{" {
                    let inside: Vec<&str> = tokens.by_ref().skip(1).take_while(|token| *token != "}").collect();
                    for matcher in inside.split(|token| *token == ",").filter(|matcher| !matcher.is_empty()) {
                        let [label, operator, value] = matcher else { panic!("{matcher:?} in {expression}") };
                        let value = value.trim_matches('"').to_owned();
                        selector.matchers.push(((*label).to_owned(), (*operator).to_owned(), value));
                    }
                }
                if let Some(window) = tokens.next_if(|token| token.starts_with('[')) {
                    selector.window = Some(window.trim_matches(['[', ']']).to_owned());
                }
                names.selectors.push(selector);
            }
        }
    }
    names
}

/// The errors in the names of `expression`; `recorded` are the names that rules add.
pub(super) fn faults(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |text: String| faults.push(format!("{text}\n    in {expression}"));
    let names = names(expression);
    let mut known: BTreeSet<&str> = families::TARGET_LABELS.into();
    let mut any_recorded = false;
    if names.selectors.is_empty() {
        fault("it names no metric".to_owned());
    }
    for selector in &names.selectors {
        let name = &selector.name;
        if recorded.contains(name) {
            any_recorded = true;
            continue;
        }
        let Some(labels) = families::labels_of(name) else {
            fault(format!("there is no metric `{name}`"));
            continue;
        };
        known.extend(&labels);
        for (label, operator, value) in &selector.matchers {
            if !labels.contains(&label.as_str()) && !families::TARGET_LABELS.contains(&label.as_str()) {
                fault(format!("`{name}` has no label `{label}`"));
            }
            if let Some(values) = families::values_of(name, label).filter(|_| !value.contains('$')) {
                let named: Vec<&str> = if operator.contains('~') { value.split('|').collect() } else { vec![value] };
                for value in named.iter().filter(|value| !values.contains(value)) {
                    fault(format!("`{label}` of `{name}` is never `{value}`"));
                }
            }
        }
        let counted = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        let in_time = selector.window.is_some() && ["rate", "irate", "increase"].contains(&selector.function.as_str());
        if counted != in_time {
            fault(format!("`{name}` must {}stand in rate, irate or increase", if counted { "" } else { "not " }));
        }
    }
    for label in names.grouping.iter().filter(|label| !any_recorded && !known.contains(label.as_str())) {
        fault(format!("nothing here has the label `{label}`"));
    }
    faults
}

/// Fails when promtool can't read one of the expressions.
pub(super) fn must_parse<'a>(expressions: impl Iterator<Item = &'a str>) {
    let mut rules = "groups:\n  - name: all\n    rules:\n".to_owned();
    let mut count = 0;
    for expression in expressions {
        count += 1;
        let quoted = serde_json::Value::from(expression);
        write!(rules, "      - record: expression{count}\n        expr: {quoted}\n").unwrap();
    }
    assert!(count > 0, "there are no expressions");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yml");
    std::fs::write(&file, rules).unwrap();
    counterparts::run(Command::new("promtool").args(["check", "rules"]).arg(&file));
}

fn names_are_read() {
    let read = names(
        "sum by (project, le) (rate(a_bucket{job=~\"$job\", x!=\"a,b}\"}[$__rate_interval])) * 60\n\
         / on (job) group_left () (b{} > 0) or vector(0) and topk(5, c) unless time() - max(d)",
    );
    let found: Vec<(&str, &str)> =
        read.selectors.iter().map(|one| (one.name.as_str(), one.function.as_str())).collect();
    assert_eq!(found, [("a_bucket", "rate"), ("b", ""), ("c", "topk"), ("d", "max")]);
    let first = &read.selectors[0];
    assert_eq!(first.window.as_deref(), Some("$__rate_interval"));
    assert_eq!(first.matchers[1], ("x".to_owned(), "!=".to_owned(), "a,b}".to_owned()));
    assert_eq!(Vec::from_iter(&read.grouping), ["job", "le", "project"]);

    let none = BTreeSet::new();
    let up = "orchestrator_agent_up";
    for (wrong, why) in [
        ("orchestrator_agents_up", "there is no metric"),
        (&*format!("{up}{{agent=\"x\"}}"), "has no label `agent`"),
        ("orchestrator_agent_status{status=~\"idle|lazy\"}", "is never `lazy`"),
        ("sum(orchestrator_agent_cost_usd_total)", "must stand in rate"),
        (&*format!("rate({up}[5m])"), "must not stand in rate"),
        (&*format!("sum by (source) ({up})"), "nothing here has the label `source`"),
        ("vector(0)", "names no metric"),
        ("rate(lookout_engine_lag_seconds_bucket[5m])", "there is no metric"),
    ] {
        let faults = faults(wrong, &none);
        assert!(faults.len() == 1 && faults[0].contains(why), "{wrong}: {faults:?}");
    }
    assert_eq!(faults(&format!("sum by (project) ({up} < orchestrator_agent_expected)"), &none), [""; 0]);
}
