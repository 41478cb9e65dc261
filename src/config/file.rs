//! Reads the configuration file, TOML if its name ends in `.toml`, otherwise YAML; and the rule files, which are compiled
//! with the built-in rules.
//!
//! A syntax error has line and column but never quotes the line, which may contain a secret.

use std::path::Path;

use figment::value::{Dict, Tag, Value};

use super::{Config, ConfigError};
use crate::files;
use crate::model::Problem;
use crate::rules::compile::{RuleSet, RuleSettings};
use crate::written::document::Document;
use crate::written::{toml, yaml};

/// Maximum size of a file in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The document in the file at `path`. The error does not contain the path.
pub(super) fn document(path: &Path) -> Result<Document, String> {
    let text = read(path)?;
    let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let mut document = if is_toml { toml::parse(&text)? } else { yaml::parse(&text)? };
    match document.value {
        Value::Dict(..) => {}
        Value::Empty(..) => document.value = Value::Dict(Tag::Default, Dict::new()),
        _ => return Err("expected keys and values at the top level, such as `listen: 127.0.0.1:9797`".to_owned()),
    }
    Ok(document)
}

/// The text of the file at `path`. The error does not contain the path.
pub(super) fn read(path: &Path) -> Result<String, String> {
    // A descriptor passed by the shell or a service manager, such as `<(…)`, may block. That is fine at startup; a reload of
    // such a file is an error.
    let is_descriptor = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/"].iter().any(|held| path.starts_with(held));
    let bytes = if is_descriptor {
        std::fs::File::open(path).and_then(|file| files::read_all(file, MAX_FILE))
    } else {
        files::read_blocking(path, MAX_FILE)
    };
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        std::io::ErrorKind::FileTooLarge => "larger than 1 MiB; split it or check the path".to_owned(),
        _ => format!("cannot read the file: {error}"),
    })?;
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: invalid byte at offset {}", error.utf8_error().valid_up_to() + 1))
}

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
            match read(path) {
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
