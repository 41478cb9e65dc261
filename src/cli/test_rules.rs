//! `lookout test rules`: unit tests of rules on a virtual clock.
//!
//! A test lists inputs over time, the alerts expected then, and the notifications expected for each receiver, down to
//! the bytes of the messages. It runs the sidecar's own code; only the clock and the delivery are simulated. Unknown
//! keys, rules and receivers in a test file are errors.

mod expect;
mod file;
mod input;
mod junit;
mod play;
mod series;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

pub use file::RuleTest;

use super::answer::count;
use super::terminal::{Colour, OutputStyle, print};
use super::warn;
use crate::config::ConfigError;
use crate::config::rule_tests::{self, RuleTests};
use crate::machine::Simulation;
use crate::model::Problem;
use crate::text::clean;
use crate::written::mistake::suggestion;

/// The exit code if a file is invalid.
const EXIT_INVALID_FILE: u8 = 2;
/// Longest line of a report, in bytes.
const MAX_LINE: usize = 4_000;

/// Arguments of `lookout test rules`.
#[derive(Args, Clone, Debug)]
pub struct TestRulesArgs {
    /// Test files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also write the results to FILE as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// The results of one test file.
#[derive(Debug)]
struct FileResult {
    path: PathBuf,
    /// For each test its name and failures; the error is why the file is invalid.
    outcome: Result<Vec<(String, Vec<String>)>, ConfigError>,
}

/// Runs all tests. Exit code 0 if all passed, 1 if one failed, 2 if a file is invalid.
pub(super) fn run(args: &TestRulesArgs) -> anyhow::Result<ExitCode> {
    let style = OutputStyle::of_stdout();
    let mut results = Vec::new();
    for path in &args.files {
        let outcome = load(path).map(|tests| {
            let folder = path.parent().unwrap_or(Path::new(""));
            tests.tests.iter().map(|test| (test.name.clone(), outcome(test, &tests, folder))).collect()
        });
        let result = FileResult { path: path.clone(), outcome };
        print_result(&result, style)?;
        results.push(result);
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::xml(&results)).with_context(|| format!("write {}", path.display()))?;
    }
    let outcomes = results.iter().filter_map(|result| result.outcome.as_ref().ok()).flatten();
    let (passed, failed) =
        outcomes.fold(
            (0, 0),
            |(passed, failed), (_, failures)| {
                if failures.is_empty() { (passed + 1, failed) } else { (passed, failed + 1) }
            },
        );
    let invalid = results.iter().filter(|result| result.outcome.is_err()).count();
    let mut summary = format!("{}: {passed} passed, {failed} failed", count(passed + failed, "test"));
    if invalid > 0 {
        summary.push_str(&format!(", {}", count(invalid, "invalid file")));
    }
    print(&summary)?;
    Ok(match (invalid, failed) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::FAILURE,
        _ => ExitCode::from(EXIT_INVALID_FILE),
    })
}

/// Reads a test file; the error lists all its problems.
pub fn load(path: &Path) -> Result<RuleTests<RuleTest>, ConfigError> {
    let mut tests: RuleTests<RuleTest> = rule_tests::load(path)?;
    let problems = resolve_names(&mut tests);
    if problems.is_empty() {
        return Ok(tests);
    }
    Err(ConfigError { problems }.found_in(Some(path)))
}

/// Fills in the receiver where the file has only one; returns a problem for each name that does not exist.
fn resolve_names(tests: &mut RuleTests<RuleTest>) -> Vec<Problem> {
    let rules =
        tests.config.rule_set().map(|set| set.names().map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
    let receivers: Vec<&str> = tests.config.receivers.iter().map(|receiver| receiver.common.name.as_str()).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    let mut known = |key: String, name: &Option<String>, names: &[&str], what: &str| {
        if let Some(name) = name.as_deref().filter(|name| !names.contains(name)) {
            let message = format!("there is no {what} `{name}`; {}", suggestion(name, names, "there are"));
            problems.push(Problem::new(key, message));
        }
    };
    for (place, test) in tests.tests.iter_mut().enumerate() {
        let key = |rest: String| format!("tests[{place}].{rest}");
        for (at, check) in test.alert_rule_test.iter().enumerate() {
            known(key(format!("alert_rule_test[{at}].rule")), &check.rule, &rules, "rule");
            for (one, alert) in check.alerts.iter().enumerate() {
                known(key(format!("alert_rule_test[{at}].alerts[{one}].rule")), &alert.rule, &rules, "rule");
            }
        }
        for (at, one) in test.notifications.iter_mut().flatten().enumerate() {
            known(key(format!("notifications[{at}].rule")), &one.rule, &rules, "rule");
            if let ([only], None) = (receivers.as_slice(), &one.receiver) {
                one.receiver = Some((*only).to_owned());
            }
            known(key(format!("notifications[{at}].receiver")), &one.receiver, &receivers, "receiver");
            if one.receiver.is_none() {
                known(key(format!("notifications[{at}].receiver")), &Some(String::new()), &receivers, "receiver");
            }
        }
    }
    problems
}

/// Runs one test and calls `observe` at each of its intervals. The error is why the test can't run.
pub fn watch(
    test: &RuleTest,
    tests: &RuleTests<RuleTest>,
    observe: &mut dyn FnMut(Duration, &Simulation),
) -> Result<(), Problem> {
    play::play(test, &tests.config, tests.start, observe).map(drop)
}

/// The failures of one test; empty if it passed.
fn outcome(test: &RuleTest, tests: &RuleTests<RuleTest>, folder: &Path) -> Vec<String> {
    match play::play(test, &tests.config, tests.start, &mut |_, _| ()) {
        Ok(played) => expect::failures(test, &played, tests.start, folder),
        Err(Problem { path, message, .. }) => vec![format!("{path}: {message}")],
    }
}

fn print_result(result: &FileResult, style: OutputStyle) -> anyhow::Result<()> {
    let tests = match &result.outcome {
        Ok(tests) => tests,
        Err(error) => {
            warn(&error.to_string());
            return Ok(());
        }
    };
    print(&style.paint(Some(Colour::Bold), &result.path.display().to_string()))?;
    for (name, failures) in tests {
        let (mark, colour) = if failures.is_empty() { ("ok    ", Colour::Good) } else { ("FAILED", Colour::Bad) };
        print(&format!("  {} {}", style.paint(Some(colour), mark), clean(name, MAX_LINE)))?;
        for line in failures.iter().flat_map(|failure| failure.lines()) {
            print(&format!("         {}", clean(line, MAX_LINE)))?;
        }
    }
    Ok(())
}
