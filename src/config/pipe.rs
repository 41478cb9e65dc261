//! The section `pipe`: patterns by which `lookout pipe` understands text.

mod literal;

use std::collections::BTreeMap;

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::decode::words;
use crate::model::{AgentStatus, Problem};
use crate::text;

/// Most patterns of one stream.
pub const MAX_PATTERNS: usize = 64;
/// The longest pattern, in bytes, and what one may take in memory when it is read: `\w{1,64}` takes half of that.
const MAX_PATTERN: usize = 1024;
const MAX_COMPILED: usize = 8 << 20;

/// What `lookout pipe` reads out of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipeConfig {
    /// Regular expressions by what a line that fits one of them means.
    pub patterns: BTreeMap<String, Vec<String>>,
}

impl PipeConfig {
    /// What is wrong with the section.
    pub fn validate(&self) -> Vec<Problem> {
        self.read().1
    }

    /// The patterns that can be used, and what is wrong with the others.
    pub fn read(&self) -> (Vec<Pattern>, Vec<Problem>) {
        let (mut patterns, mut problems) = (Vec::new(), Vec::new());
        for (key, regexes) in &self.patterns {
            for (place, regex) in regexes.iter().enumerate() {
                match Pattern::new(key, regex) {
                    Ok(pattern) => patterns.push(pattern),
                    Err(error) => {
                        problems.push(Problem::new(format!("pipe.patterns.{key}[{place}]"), error.to_string()));
                    }
                }
            }
        }
        if patterns.len() > MAX_PATTERNS {
            let message = format!("has more than {MAX_PATTERNS} patterns; join some with `|`");
            problems.push(Problem::new("pipe.patterns", message));
        }
        (patterns, problems)
    }
}

/// Keys beside the nine statuses, and what they do.
const KEYS: [(&str, Key); 15] = [
    ("requests", Key::Count(Counted::Requests)),
    ("errors", Key::Count(Counted::Errors)),
    ("rate_limited", Key::Count(Counted::RateLimited)),
    ("retries", Key::Count(Counted::Retries)),
    ("tokens.input", Key::Total(0)),
    ("tokens.output", Key::Total(1)),
    ("tokens.cache_read", Key::Total(2)),
    ("tokens.cache_creation", Key::Total(3)),
    ("tokens.reasoning", Key::Total(4)),
    // One number for all counts as input, as in a pushed state.
    ("tokens.total", Key::Total(0)),
    ("cost_usd", Key::Cost),
    ("model", Key::Model),
    ("task", Key::Task),
    ("phase", Key::Phase),
    ("progress", Key::Progress),
];

/// What a line is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A request to a model.
    Requests,
    /// A request that failed.
    Errors,
    /// A request refused for a rate limit.
    RateLimited,
    /// A request sent again.
    Retries,
}

/// What a line that fits a pattern means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Key {
    /// The line says what the agent is doing; the first group, if there is one, why.
    Status(AgentStatus),
    /// The line is counted.
    Count(Counted),
    /// The first group is how many tokens of a type, by its place in [`crate::model::TokenType::ALL`], the run used so far.
    Total(usize),
    /// The first group is what the run cost so far, in US dollars.
    Cost,
    /// The first group names the model.
    Model,
    /// The first group is the task.
    Task,
    /// The first group is the phase.
    Phase,
    /// The first group is the progress.
    Progress,
}

/// What lines that fit mean.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// What it means.
    pub key: Key,
    /// What fits.
    pub regex: Regex,
    /// What a line must hold to fit, as far as that is known.
    pub letters: Option<Finder<'static>>,
}

/// Why a pattern can't be used. Display names what is wrong and what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

/// What an error of `regex` says is wrong, without the picture of the pattern above it.
fn cause(error: &str) -> &str {
    error.rsplit_once("error: ").map_or(error, |(_, cause)| cause)
}

impl Pattern {
    /// The pattern `regex` for `key`: one of the nine statuses, or a key of the table above.
    pub fn new(key: &str, regex: &str) -> Result<Self, PatternError> {
        let status = AgentStatus::parse(key).map(Key::Status);
        let known = || KEYS.iter().find(|(name, _)| *name == key).map(|(_, key)| *key);
        let Some(found) = status.or_else(known) else {
            let keys: Vec<&str> = words::STATUSES.into_iter().chain(KEYS.map(|(name, _)| name)).collect();
            let key = text::clean(key, 64);
            return Err(PatternError(format!("unknown key `{key}`; {}", words::instead(&key, &keys))));
        };
        let shown = text::clean(regex, 64);
        if regex.len() > MAX_PATTERN {
            return Err(PatternError(format!("`{shown}…` is longer than {MAX_PATTERN} bytes; write a shorter one")));
        }
        let read = RegexBuilder::new(regex).size_limit(MAX_COMPILED).build();
        let regex = read.map_err(|error| {
            PatternError(format!(
                "`{shown}` is not a regular expression: {}; escape what is meant as it stands with `\\`",
                text::clean(cause(&error.to_string()), 200)
            ))
        })?;
        let takes = matches!(found, Key::Total(_) | Key::Cost | Key::Model | Key::Task | Key::Phase | Key::Progress);
        if takes && regex.captures_len() < 2 {
            return Err(PatternError(format!(
                "`{shown}` says not what `{key}` is; put that part in brackets: `({shown})`"
            )));
        }
        // That letter stands for bytes that are none.
        let letters = literal::required(regex.as_str()).filter(|letters| !letters.contains('\u{fffd}'));
        let letters = letters.map(|letters| Finder::new(&letters).into_owned());
        Ok(Self { key: found, regex, letters })
    }

    /// The same pattern, tried on every line.
    #[cfg(test)]
    pub(crate) fn without_letters(self) -> Self {
        Self { letters: None, ..self }
    }

    /// The pattern that `KEY=REGEX` says.
    pub fn parse(written: &str) -> Result<Self, PatternError> {
        let missing = || {
            PatternError(format!(
                "`{}` is no pattern; write KEY=REGEX, such as 'waiting_question=Allow .*[?]'",
                text::clean(written, 64)
            ))
        };
        let (key, regex) = written.split_once('=').ok_or_else(missing)?;
        Self::new(key.trim(), regex)
    }
}
