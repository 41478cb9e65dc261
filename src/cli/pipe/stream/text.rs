//! Any text, understood by its user's patterns: which words mean which status, what is counted, where numbers stand.

use std::cell::OnceCell;

use anstream::adapter::strip_str;
use memchr::memchr;
use regex::Captures;

use super::state::{ERRORS, RATE_LIMITED, REQUESTS, RETRIES, State};
use crate::config::pipe::{Counted, Key, MAX_PATTERNS, Pattern};
use crate::decode::read::MAX_COUNT;
use crate::model::AgentStatus;

/// So much of a line is looked at, in bytes.
const LOOKED_AT: usize = 16 * 1024;
/// What colours and other orders to terminals begin with.
const ESCAPE: u8 = 0x1b;

/// Where it stands among the counts of a state.
const fn place(counted: Counted) -> usize {
    match counted {
        Counted::Requests => REQUESTS,
        Counted::Errors => ERRORS,
        Counted::RateLimited => RATE_LIMITED,
        Counted::Retries => RETRIES,
    }
}

/// Reads text.
#[derive(Debug)]
pub(super) struct Text {
    patterns: Vec<Pattern>,
}

impl Text {
    /// A reader by the first of `patterns`.
    pub(super) fn new(mut patterns: Vec<Pattern>) -> Self {
        patterns.truncate(MAX_PATTERNS);
        Self { patterns }
    }

    /// Makes known what there are patterns for: nothing is counted before the first line.
    pub(super) fn begin(&self, state: &mut State) {
        for pattern in &self.patterns {
            match pattern.key {
                Key::Count(counted) => state.begin([place(counted)]),
                Key::Total(place) => state.begin([place]),
                Key::Cost => _ = state.counts.cost_usd.get_or_insert(0.0),
                _ => {}
            }
        }
    }

    /// Whether a line that is not read may be a number that is missed.
    pub(super) fn needs_every_line(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern.key, Key::Total(_) | Key::Cost))
    }

    /// Whether no pattern fits any of `lines`, as far as that can be told at a glance.
    pub(super) fn says_nothing(&self, lines: &[u8]) -> bool {
        let may_fit = |pattern: &Pattern| pattern.letters.as_ref().is_none_or(|letters| letters.find(lines).is_some());
        memchr(ESCAPE, lines).is_none() && !self.patterns.iter().any(may_fit)
    }

    /// Notes that there is output: so what the agent waited for has come.
    pub(super) fn goes_on(state: &mut State) {
        if !state.status.is_over() {
            state.is(AgentStatus::Running, None);
        }
    }

    /// Takes in one line; what a carriage return ends is one, too.
    pub(super) fn line(&self, line: &[u8], state: &mut State) {
        for part in line.split(|byte| *byte == b'\r').filter(|part| !part.trim_ascii().is_empty()) {
            let part = Part::new(part);
            if !self.says_status(&part, state) {
                Self::goes_on(state);
            }
            self.take(&part, state);
        }
    }

    /// Looks at a line that is not over yet; nothing is counted twice by that.
    pub(super) fn open_line(&self, line: &[u8], state: &mut State) {
        let last = line.rsplit(|byte| *byte == b'\r').find(|part| !part.trim_ascii().is_empty());
        if let Some(last) = last {
            self.says_status(&Part::new(last), state);
        }
    }

    /// Whether a pattern says what the agent is doing; the last of those that fit counts.
    fn says_status(&self, part: &Part<'_>, state: &mut State) -> bool {
        let mut says = false;
        for pattern in &self.patterns {
            if let Key::Status(status) = pattern.key
                && let Some(found) = part.fit(pattern)
            {
                state.is(status, group(&found));
                says = true;
            }
        }
        says
    }

    fn take(&self, part: &Part<'_>, state: &mut State) {
        for pattern in self.patterns.iter().filter(|pattern| !matches!(pattern.key, Key::Status(_))) {
            let Some(found) = part.fit(pattern) else { continue };
            let said = || group(&found);
            let number = || said().and_then(|text| number(&text));
            match pattern.key {
                Key::Status(_) => {}
                Key::Count(counted) => state.count(place(counted)),
                // A total never goes down; one that does is of something else.
                Key::Total(place) => {
                    let total = number().filter(|total| *total <= MAX_COUNT as f64).map(|total| total as u64);
                    if let Some(count) = state.counts.whole.get_mut(place) {
                        *count = total.max(*count);
                    }
                }
                Key::Cost => state.used(&[0; 5], 0, number().filter(|cost| *cost <= 1e12)),
                Key::Model => state.model = said().or(state.model.take()),
                Key::Task => state.task = said().or(state.task.take()),
                Key::Phase => state.phase = said().or(state.phase.take()),
                Key::Progress => {
                    let percent = number().filter(|percent| *percent <= 100.0);
                    state.progress = percent.or(state.progress);
                }
            }
        }
    }
}

/// A line, or what a carriage return ends of it.
struct Part<'a> {
    bytes: &'a [u8],
    is_coloured: bool,
    /// The line as patterns see it, once one needs it.
    plain: OnceCell<String>,
}

impl<'a> Part<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_coloured: memchr(ESCAPE, bytes).is_some(), plain: OnceCell::new() }
    }

    /// What of the line fits `pattern`.
    fn fit(&self, pattern: &Pattern) -> Option<Captures<'_>> {
        if let Some(letters) = &pattern.letters
            && !self.is_coloured
            && letters.find(self.bytes).is_none()
        {
            return None;
        }
        pattern.regex.captures(self.plain.get_or_init(|| plain(self.bytes)))
    }
}

/// The first group of a pattern, cleaned; `None` when there is none, or nothing in it.
fn group(found: &Captures<'_>) -> Option<String> {
    let text = crate::text::clean(found.get(1)?.as_str().trim(), 256).into_owned();
    (!text.is_empty()).then_some(text)
}

/// A number as people write it: `12,345`, `$0.42`, `1_000`.
fn number(text: &str) -> Option<f64> {
    let digits: String = text.chars().filter(|letter| !matches!(letter, ',' | '_' | '$' | ' ' | '%')).collect();
    digits.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

/// The start of a line without colours and what else terminals are told.
fn plain(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line.get(..LOOKED_AT).unwrap_or(line));
    if line.contains(ESCAPE as char) { strip_str(&line).to_string() } else { line.into_owned() }
}
