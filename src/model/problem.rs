//! What is wrong with a configuration, a rule or a test of rules: where it was written, under which key, and what would
//! do instead.
//!
//! One shape for all of them, so that every part reports in it and one place prints it. Refuses to know the words for a
//! mistake: those are of the part that finds it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::clean;

/// Longest part of a line about a problem, in bytes: where it is, and what it is.
const MAX_LINE: usize = 2_000;

/// Where something was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File(PathBuf),
    /// In an environment variable of this name.
    Variable(String),
    /// Nowhere: a default, or what several sources say together.
    #[default]
    Unknown,
}

/// A place in a file, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The letter in the line.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}", self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said. Who checks a section does not know; whoever read the section adds it.
    pub origin: Origin,
    /// The place of the key in the file, where that is known.
    pub place: Option<Position>,
    /// The key, from the top of the file on, like `sources[0].timeout`; empty when it is about the file as a whole.
    pub path: String,
    /// What is wrong with its value, and what would do. It shows no secret.
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

    /// The same problem where its path begins below `section`.
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

/// `lookout.yaml: line 3, column 5: agents.timeout: …`, in one line: keys and values may hold anything, and terminals show it.
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Variable(name) => name.clone(),
            Origin::Unknown => String::new(),
        };
        // Apart, since the name of a secret before the message would have the message taken for the secret.
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
    fn a_path_is_put_below_its_section() {
        for (path, expected) in [("", "sources"), ("url", "sources.url"), ("[0].url", "sources[0].url")] {
            assert_eq!(Problem::new(path, "is bad").under("sources").path, expected);
        }
    }

    #[test]
    fn a_line_says_where_which_key_and_what() {
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
