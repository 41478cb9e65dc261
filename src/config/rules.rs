//! The rule files that the configuration names, read and compiled over the built-in rules.

use super::{Config, ConfigError, file};
use crate::model::Problem;
use crate::rules::compile::{RuleSet, RuleSettings};

impl Config {
    /// Origin and text of each rule file. The error names every one that can't be read.
    pub fn rule_files(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let (files, problems) = self.read_rule_files();
        if problems.is_empty() { Ok(files) } else { Err(ConfigError { problems }) }
    }

    /// The files that can be read, and what is wrong with the others.
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

    /// The rules in force: the built-in ones with those of the rule files over them. The error names every mistake.
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
