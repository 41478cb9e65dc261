//! Parses text by the user's patterns for statuses, counters and values.

use std::cell::OnceCell;

use anstream::adapter::strip_str;
use memchr::memchr;
use regex::Captures;

use super::state::{ERRORS, RATE_LIMITED, REQUESTS, RETRIES, RunState};
use crate::config::pipe::{CountedEvent, MAX_PATTERNS, Pattern, PatternMeaning};
use crate::decode::read::MAX_COUNT;
use crate::model::AgentStatus;

/// Bytes of a line that are matched.
const LOOKED_AT: usize = 16 * 1024;
/// The start of terminal escape sequences.
const ESCAPE: u8 = 0x1b;

/// Its index in [`super::RunCounts::whole`].
const fn place(counted: CountedEvent) -> usize {
    match counted {
        CountedEvent::Requests => REQUESTS,
        CountedEvent::Errors => ERRORS,
        CountedEvent::RateLimited => RATE_LIMITED,
        CountedEvent::Retries => RETRIES,
    }
}

/// Parses lines by patterns.
#[derive(Debug)]
pub(super) struct PatternReader {
    patterns: Vec<Pattern>,
}

impl PatternReader {
    /// A parser with the first [`MAX_PATTERNS`] of `patterns`.
    pub(super) fn new(mut patterns: Vec<Pattern>) -> Self {
        patterns.truncate(MAX_PATTERNS);
        Self { patterns }
    }

    /// Sets the counts that have a pattern to 0, before the first line.
    pub(super) fn begin(&self, state: &mut RunState) {
        for pattern in &self.patterns {
            match pattern.key {
                PatternMeaning::Count(counted) => state.begin([place(counted)]),
                PatternMeaning::Total(place) => state.begin([place]),
                PatternMeaning::Cost => _ = state.counts.cost_usd.get_or_insert(0.0),
                _ => {}
            }
        }
    }

    /// Whether skipping a line could lose a value.
    pub(super) fn needs_every_line(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern.key, PatternMeaning::Total(_) | PatternMeaning::Cost))
    }

    /// Whether surely no pattern matches in `lines`, by a fast search for literals.
    pub(super) fn has_no_match(&self, lines: &[u8]) -> bool {
        let may_fit = |pattern: &Pattern| pattern.letters.as_ref().is_none_or(|letters| letters.find(lines).is_some());
        memchr(ESCAPE, lines).is_none() && !self.patterns.iter().any(may_fit)
    }

    /// Sets the status to running, since there is new output.
    pub(super) fn has_output(state: &mut RunState) {
        if !state.status.is_over() {
            state.is(AgentStatus::Running, None);
        }
    }

    /// Parses one line; a carriage return ends a line as well.
    pub(super) fn line(&self, line: &[u8], state: &mut RunState) {
        for part in line.split(|byte| *byte == b'\r').filter(|part| !part.trim_ascii().is_empty()) {
            let part = TextLine::new(part);
            if !self.set_status(&part, state) {
                Self::has_output(state);
            }
            self.take(&part, state);
        }
    }

    /// Parses an unfinished line for its status only, so that nothing is counted twice.
    pub(super) fn open_line(&self, line: &[u8], state: &mut RunState) {
        let last = line.rsplit(|byte| *byte == b'\r').find(|part| !part.trim_ascii().is_empty());
        if let Some(last) = last {
            self.set_status(&TextLine::new(last), state);
        }
    }

    /// Sets the status by the last pattern that matches; whether one did.
    fn set_status(&self, part: &TextLine<'_>, state: &mut RunState) -> bool {
        let mut is_set = false;
        for pattern in &self.patterns {
            if let PatternMeaning::Status(status) = pattern.key
                && let Some(found) = part.fit(pattern)
            {
                state.is(status, group(&found));
                is_set = true;
            }
        }
        is_set
    }

    fn take(&self, part: &TextLine<'_>, state: &mut RunState) {
        for pattern in self.patterns.iter().filter(|pattern| !matches!(pattern.key, PatternMeaning::Status(_))) {
            let Some(found) = part.fit(pattern) else { continue };
            let value = || group(&found);
            let number = || value().and_then(|text| number(&text));
            match pattern.key {
                PatternMeaning::Status(_) => {}
                PatternMeaning::Count(counted) => state.count(place(counted)),
                // Totals never go down.
                PatternMeaning::Total(place) => {
                    let total = number().filter(|total| *total <= MAX_COUNT as f64).map(|total| total as u64);
                    if let Some(count) = state.counts.whole.get_mut(place) {
                        *count = total.max(*count);
                    }
                }
                PatternMeaning::Cost => state.used(&[0; 5], 0, number().filter(|cost| *cost <= 1e12)),
                PatternMeaning::Model => state.model = value().or(state.model.take()),
                PatternMeaning::Task => state.task = value().or(state.task.take()),
                PatternMeaning::Phase => state.phase = value().or(state.phase.take()),
                PatternMeaning::Progress => {
                    let percent = number().filter(|percent| *percent <= 100.0);
                    state.progress = percent.or(state.progress);
                }
            }
        }
    }
}

/// A line, or a part of it that ends with a carriage return.
struct TextLine<'a> {
    bytes: &'a [u8],
    is_coloured: bool,
    /// The text for regular expressions, created when one needs it.
    plain: OnceCell<String>,
}

impl<'a> TextLine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, is_coloured: memchr(ESCAPE, bytes).is_some(), plain: OnceCell::new() }
    }

    /// The match of `pattern`.
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

/// The first group of a match, cleaned; `None` if there is none or it is empty.
fn group(found: &Captures<'_>) -> Option<String> {
    let text = crate::text::clean(found.get(1)?.as_str().trim(), 256).into_owned();
    (!text.is_empty()).then_some(text)
}

/// A number as people write it: `12,345`, `$0.42`, `1_000`.
fn number(text: &str) -> Option<f64> {
    let digits: String = text.chars().filter(|letter| !matches!(letter, ',' | '_' | '$' | ' ' | '%')).collect();
    digits.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

/// The start of a line, without escape sequences.
fn plain(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line.get(..LOOKED_AT).unwrap_or(line));
    if line.contains(ESCAPE as char) { strip_str(&line).to_string() } else { line.into_owned() }
}
