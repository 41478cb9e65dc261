//! What is wrong with a configuration: where it was said, which key, the value and the remedy.
//!
//! Refuses to know the words for a mistake: those are [`crate::written`]'s.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::clean;

/// Longest part of a line about a problem, in bytes: where it is, and what it is.
const MAX_LINE: usize = 2_000;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File(PathBuf),
    /// In an environment variable of this name.
    Variable(String),
    /// Nowhere: a default, or what several sources say together.
    Unsaid,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said.
    pub origin: Origin,
    /// The key, like `sources[0].timeout`; empty when it is about the file as a whole.
    pub key: String,
    /// The bad value and the remedy.
    pub message: String,
}

/// `lookout.yaml: agents.timeout: …`, in one line: keys and values may hold anything, and terminals show it.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Variable(name) => name.clone(),
            Origin::Unsaid => String::new(),
        };
        // Apart, since the name of a secret before the message would have the message taken for the secret.
        for part in [&origin, &self.key].into_iter().filter(|part| !part.is_empty()) {
            write!(out, "{}: ", clean(part, MAX_LINE))?;
        }
        out.write_str(&clean(&self.message, MAX_LINE))
    }
}

/// Everything that is wrong, in the order of the file's sections. Display writes one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// The same, naming `file` where nothing else is named: for what is found wrong once the configuration is used.
    pub fn found_in(mut self, file: Option<&Path>) -> Self {
        for problem in self.problems.iter_mut().filter(|problem| problem.origin == Origin::Unsaid) {
            problem.origin = file.map_or(Origin::Unsaid, |file| Origin::File(file.to_owned()));
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            problem.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
