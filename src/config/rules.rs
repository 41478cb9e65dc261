//! Loads the configured rule files and compiles them with the built-in rules.

use super::{Config, ConfigError, file};
use crate::model::Problem;
use crate::rules::compile::{RuleSet, RuleSettings};

impl Config {
    /// Name and text of each rule file. The error contains every file that can't be read.
    pub fn rule_files(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let (files, problems) = self.read_rule_files();
        if problems.is_empty() { Ok(files) } else { Err(ConfigError { problems }) }
    }

    /// The readable files, and the problems of the others.
    fn read_rule_files(&self) -> (Vec<(String, String)>, Vec<Problem>) {
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        for path in &self.rules {
            match file::read(path) {
                Ok(text) => files.push((path.display().to_string(), text)),
                Err(message) => problems.push(Problem::in_file(path, "", message)),
            }
        }
        (files, problems)
    }

    /// The effective rules: built-in ones, overridden by the rule files. The error contains all problems.
    pub fn rule_set(&self) -> Result<RuleSet, ConfigError> {
        let settings = RuleSettings { max_idle: self.agents.max_idle, timeout: self.agents.timeout };
        let (files, mut problems) = self.read_rule_files();
        match RuleSet::load(&files, settings) {
            Ok(set) if problems.is_empty() => Ok(set),
            Ok(_) => Err(ConfigError { problems }),
            Err(wrong) => {
                problems.extend(wrong);
                Err(ConfigError { problems })
            }
        }
    }
}
