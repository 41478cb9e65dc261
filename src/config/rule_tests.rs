//! Test files of rules: the configuration sections that rules and alerts depend on, and the tests.
//!
//! Rules are read and checked by the same code as in the program. Sections that no rule depends on are rejected, and the
//! tests themselves are left to their reader.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::reader::ConfigReader;
use super::{Config, ConfigError, Environment, file, unreadable, validate};
use crate::model::{Level, Time};
use crate::notify::config::ReceiverConfig;

/// The default start time of tests: midnight in UTC, so that a day ends after 24 hours.
const START: Time = Time::from_millis(1_767_225_600_000);
/// The receiver of tests that name none.
const RECEIVER: &str = "test";

/// A file of tests as it is read; `T` is a test.
#[derive(Clone, Debug)]
pub struct RuleTests<T> {
    /// The settings, with defaults for missing keys.
    pub config: Config,
    /// When each test begins.
    pub start: Time,
    /// The tests.
    pub tests: Vec<T>,
}

/// The time at which tests begin, as RFC 3339.
struct Start(Time);

impl Default for Start {
    fn default() -> Self {
        Self(START)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let time = Time::parse(&text).filter(|at| at.as_millis() >= 0);
        time.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a time; write it like 2026-01-01T00:00:00Z"))
        })
    }
}

/// Reads the file at `path`; the error names all that is wrong with it, and with the rules that it names.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<RuleTests<T>, ConfigError> {
    let document = file::document(path).map_err(|message| unreadable(path, message))?;
    // Environment variables must not affect the result of tests.
    let env = Environment::default();
    let mut reader = ConfigReader::new(Some((path, document)), &env);
    let start: Start = reader.section("start");
    let mut config = Config {
        sources: reader.list("sources"),
        agents: reader.section("agents"),
        expected: reader.list("expected"),
        budgets: reader.section("budgets"),
        limits: reader.section("limits"),
        rules: reader.list("rule_files"),
        incidents: reader.section("incidents"),
        receivers: reader.list("receivers"),
        ..Config::default()
    };
    let tests = reader.list("tests");
    let has_tests = reader.has_items("tests");
    let any_receiver = reader.has_items("receivers");
    let mut found = reader.finish();
    if !has_tests {
        found.report("tests", "is missing or empty; a file of tests has at least one");
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    config.rules.iter_mut().for_each(|rules: &mut PathBuf| *rules = folder.join(&*rules));
    config.receivers = config.receivers.into_iter().map(ReceiverConfig::or_nowhere).collect();
    if !any_receiver {
        let mut test = ReceiverConfig::nowhere(RECEIVER);
        test.common.min_level = Level::Info;
        config.receivers = vec![test];
    }
    validate::check(&config, &mut found);
    let problems = found.into_problems();
    if problems.is_empty() { Ok(RuleTests { config, start: start.0, tests }) } else { Err(ConfigError { problems }) }
}

/// The text of the file `name` in the directory of a test file.
pub fn read_relative(folder: &Path, name: &str) -> Result<String, String> {
    file::read(&folder.join(name))
}
