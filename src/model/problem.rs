//! An error in a configuration, a rule file or a rule test: its position, its key, and how to fix it.
//!
//! Every module reports such errors in this type, and one place prints them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::clean;

/// Longest printed part of a problem, in bytes.
const MAX_LINE: usize = 2_000;

/// Where a setting comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File(PathBuf),
    /// In an environment variable of this name.
    Variable(String),
    /// A default, or a combination of several settings.
    #[default]
    Unknown,
}

/// A position in a file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The character in the line.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}", self.line, self.column)
    }
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the setting comes from. The module that validates a section does not know; the one that read it fills this in.
    pub origin: Origin,
    /// The position of the key in the file, if known.
    pub place: Option<Position>,
    /// The path of the key, like `sources[0].timeout`; empty if the error concerns the file as a whole.
    pub path: String,
    /// What is wrong with the value, and what to write instead. It contains no secret.
    pub message: String,
}

impl Problem {
    /// A problem with the value at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: Origin::Unknown, place: None, path: path.into(), message: message.into() }
    }

    /// A problem with the file at `file`, or with what `path` names in it.
    pub fn in_file(file: impl AsRef<Path>, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: Origin::File(file.as_ref().to_owned()), ..Self::new(path, message) }
    }

    /// A problem with the value of an environment variable.
    pub fn in_variable(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: Origin::Variable(name.into()), ..Self::new("", message) }
    }

    /// The same problem with its path prefixed by `section`.
    #[must_use]
    pub fn under(self, section: &str) -> Self {
        let path = match self.path.as_str() {
            "" => section.to_owned(),
            place if place.starts_with('[') => format!("{section}{place}"),
            key => format!("{section}.{key}"),
        };
        Self { path, ..self }
    }
}

/// `lookout.yaml: line 3, column 5: agents.timeout: …`, on one line and without control characters.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Variable(name) => name.clone(),
            Origin::Unknown => String::new(),
        };
        // Cleaned separately: masking would take a message that follows a key like `token` for the secret.
        let place = self.place.map(|place| place.to_string()).unwrap_or_default();
        for part in [&origin, &place, &self.path].into_iter().filter(|part| !part.is_empty()) {
            write!(out, "{}: ", clean(part, MAX_LINE))?;
        }
        out.write_str(&clean(&self.message, MAX_LINE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_prefixed_by_its_section() {
        for (path, expected) in [("", "sources"), ("url", "sources.url"), ("[0].url", "sources[0].url")] {
            assert_eq!(Problem::new(path, "is bad").under("sources").path, expected);
        }
    }

    #[test]
    fn a_problem_is_printed_as_origin_position_key_and_message() {
        let wrong = Problem::new("agents.timeout", "is 0s; it must be longer");
        assert_eq!(wrong.to_string(), "agents.timeout: is 0s; it must be longer");
        let wrong = Problem { origin: Origin::File("lookout.yaml".into()), ..wrong };
        assert_eq!(wrong.to_string(), "lookout.yaml: agents.timeout: is 0s; it must be longer");
        let wrong = Problem { place: Some(Position { line: 3, column: 5 }), ..wrong };
        assert_eq!(wrong.to_string(), "lookout.yaml: line 3, column 5: agents.timeout: is 0s; it must be longer");
        let wrong = Problem::in_variable("SMTP_PORT", "`x\n` is not a port");
        assert_eq!(wrong.to_string().lines().count(), 1, "{wrong}");
        assert!(wrong.to_string().starts_with("SMTP_PORT: `x"), "{wrong}");
    }
}
