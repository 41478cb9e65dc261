//! The section `pipe`: patterns by which `lookout pipe` interprets text output.

mod literal;

use std::collections::BTreeMap;

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::decode::words;
use crate::model::{AgentStatus, Problem};
use crate::text;

/// Maximum number of patterns.
pub const MAX_PATTERNS: usize = 64;
/// Maximum length of a pattern, and maximum size of a compiled one, in bytes: `\w{1,64}` takes half of that.
const MAX_PATTERN: usize = 1024;
const MAX_COMPILED: usize = 8 << 20;

/// Patterns of `lookout pipe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipeConfig {
    /// Regular expressions by the meaning of a matching line.
    pub patterns: BTreeMap<String, Vec<String>>,
}

impl PipeConfig {
    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        self.read().1
    }

    /// The valid patterns, and the problems of the others.
    pub fn read(&self) -> (Vec<Pattern>, Vec<Problem>) {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for (key, regexes) in &self.patterns {
            for (index, regex) in regexes.iter().enumerate() {
                match Pattern::new(key, regex) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) => {
                        problems.push(Problem::new(format!("pipe.patterns.{key}[{index}]"), error.to_string()));
                    }
                }
            }
        }
        if patterns.len() > MAX_PATTERNS {
            let message = format!("more than {MAX_PATTERNS} patterns; combine some with `|`");
            problems.push(Problem::new("pipe.patterns", message));
        }
        (patterns, problems)
    }
}

/// Keys in addition to the statuses, and their meaning.
const KEYS: [(&str, PatternMeaning); 15] = [
    ("requests", PatternMeaning::Count(CountedEvent::Requests)),
    ("errors", PatternMeaning::Count(CountedEvent::Errors)),
    ("rate_limited", PatternMeaning::Count(CountedEvent::RateLimited)),
    ("retries", PatternMeaning::Count(CountedEvent::Retries)),
    ("tokens.input", PatternMeaning::Total(0)),
    ("tokens.output", PatternMeaning::Total(1)),
    ("tokens.cache_read", PatternMeaning::Total(2)),
    ("tokens.cache_creation", PatternMeaning::Total(3)),
    ("tokens.reasoning", PatternMeaning::Total(4)),
    // A single total counts as input, as in a pushed state.
    ("tokens.total", PatternMeaning::Total(0)),
    ("cost_usd", PatternMeaning::Cost),
    ("model", PatternMeaning::Model),
    ("task", PatternMeaning::Task),
    ("phase", PatternMeaning::Phase),
    ("progress", PatternMeaning::Progress),
];

/// What a matching line is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedEvent {
    /// A request to a model.
    Requests,
    /// A request that failed.
    Errors,
    /// A request rejected by a rate limit.
    RateLimited,
    /// A retried request.
    Retries,
}

/// The meaning of a line that matches a pattern.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PatternMeaning {
    /// The line sets the status; the first group, if any, is the reason.
    Status(AgentStatus),
    /// The line is counted.
    Count(CountedEvent),
    /// The first group is the number of tokens that the run used so far, of the type at this index of
    /// [`crate::model::TokenType::ALL`].
    Total(usize),
    /// The first group is the cost of the run so far, in US dollars.
    Cost,
    /// The first group is the model.
    Model,
    /// The first group is the task.
    Task,
    /// The first group is the phase.
    Phase,
    /// The first group is the progress.
    Progress,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The meaning of a match.
    pub key: PatternMeaning,
    /// The regular expression.
    pub regex: Regex,
    /// A literal that every matching line contains, if known.
    pub letters: Option<Finder<'static>>,
}

/// Why a pattern is invalid, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// The cause in an error of `regex`, without the quoted pattern.
fn cause(error: &str) -> &str {
    error.rsplit_once("error: ").map_or(error, |(_, cause)| cause)
}

impl Pattern {
    /// The pattern `regex` for `key`: one of the nine statuses, or a key of the table above.
    pub fn new(key: &str, regex: &str) -> Result<Self, PatternError> {
        let status = AgentStatus::parse(key).map(PatternMeaning::Status);
        let known = || KEYS.iter().find(|(name, _)| *name == key).map(|(_, key)| *key);
        let Some(found) = status.or_else(known) else {
            let keys: Vec<&str> = words::STATUSES.into_iter().chain(KEYS.map(|(name, _)| name)).collect();
            let key = text::clean(key, 64);
            return Err(PatternError(format!("unknown key `{key}`; {}", words::instead(&key, &keys))));
        };
        let shown = text::clean(regex, 64);
        if regex.len() > MAX_PATTERN {
            return Err(PatternError(format!("pattern `{shown}…` is longer than {MAX_PATTERN} bytes; shorten it")));
        }
        let read = RegexBuilder::new(regex).size_limit(MAX_COMPILED).build();
        let regex = read.map_err(|error| {
            PatternError(format!(
                "`{shown}` is not a regular expression: {}; escape literal characters with `\\`",
                text::clean(cause(&error.to_string()), 200)
            ))
        })?;
        let takes = matches!(
            found,
            PatternMeaning::Total(_)
                | PatternMeaning::Cost
                | PatternMeaning::Model
                | PatternMeaning::Task
                | PatternMeaning::Phase
                | PatternMeaning::Progress
        );
        if takes && regex.captures_len() < 2 {
            return Err(PatternError(format!(
                "`{shown}` has no group for the value of `{key}`; put it in parentheses: `({shown})`"
            )));
        }
        // U+FFFD stands for invalid bytes.
        let letters = literal::required(regex.as_str()).filter(|letters| !letters.contains('\u{fffd}'));
        let letters = letters.map(|letters| Finder::new(&letters).into_owned());
        Ok(Self { key: found, regex, letters })
    }

    /// The same pattern without the literal, so that it is tried on every line.
    #[cfg(test)]
    pub(crate) fn without_letters(self) -> Self {
        Self { letters: None, ..self }
    }

    /// Parses `KEY=REGEX`.
    pub fn parse(written: &str) -> Result<Self, PatternError> {
        let missing = || {
            PatternError(format!(
                "`{}` is not a pattern; use KEY=REGEX, such as 'waiting_question=Allow .*[?]'",
                text::clean(written, 64)
            ))
        };
        let (key, regex) = written.split_once('=').ok_or_else(missing)?;
        Self::new(key.trim(), regex)
    }
}
