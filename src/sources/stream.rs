//! What an agent prints, understood line by line: Claude Code's `stream-json`, Codex's JSON lines, any text by patterns.
//!
//! Owns the cutting into lines ([`skim`]), the formats and what they mean for an agent's state. Private: of what a line
//! says only status words, names of tools and models, ids and numbers are kept; what a pattern captures is kept because
//! its user asked for it. Refuses I/O and clocks, and to remember more than a bounded few of anything.

mod claude_code;
mod codex;
pub mod config;
mod failure;
mod line;
mod literal;
mod meter;
pub mod skim;
mod state;
mod text;

pub use config::PipeConfig;
pub use state::{Counts, State};
pub use text::{Pattern, PatternError};

use claude_code::ClaudeCode;
use codex::Codex;
use line::Line;
use text::Text;

use crate::model::{AgentStatus, Time, text as letters};

/// The longest line that is looked at, in bytes; longer ones pass unread.
pub const MAX_LINE: usize = 1 << 20;

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As its first line of a known kind says; text until then.
    #[default]
    Auto,
    /// Claude Code's `--output-format stream-json`.
    ClaudeCode,
    /// Codex's `exec --json`.
    Codex,
    /// Lines for people, understood by patterns.
    Text,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no more of it.
    Over,
    /// Somebody asked the agent, or us, to stop.
    Interrupted,
    /// Who reads the agent's output went away.
    ReaderGone,
}

/// Understands one stream.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    claude_code: ClaudeCode,
    codex: Codex,
    text: Text,
    state: State,
    /// Whether the task was given from outside, so that a session's id is not taken for it.
    has_task: bool,
    is_empty: bool,
}

impl Reader {
    /// A reader of a stream that has not begun; `task` stands for whatever the stream says.
    pub fn new(format: Format, patterns: Vec<Pattern>, task: Option<&str>) -> Self {
        let mut state = State::default();
        let text = Text::new(patterns);
        if matches!(format, Format::Auto | Format::Text) {
            text.begin(&mut state);
        }
        state.task = task.map(str::to_owned);
        Self {
            format,
            claude_code: ClaudeCode::default(),
            codex: Codex::default(),
            text,
            state,
            has_task: task.is_some(),
            is_empty: true,
        }
    }

    /// What is known of the agent.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The kind of agent, once the stream has shown it.
    pub const fn agent_type(&self) -> Option<&'static str> {
        match self.format {
            Format::ClaudeCode => Some("claude-code"),
            Format::Codex => Some("codex"),
            Format::Auto | Format::Text => None,
        }
    }

    /// Whether the stream has shown how it is written, or that was said.
    pub const fn knows_format(&self) -> bool {
        !matches!(self.format, Format::Auto)
    }

    /// Which lines must be read even when the reading falls behind, so that no token, failure or retry is missed.
    pub fn keep(&self) -> skim::Keep {
        let by_text = self.text.needs_every_line();
        match self.format {
            Format::Auto | Format::Text if by_text => skim::Keep::Everything,
            Format::Text => skim::Keep::Nothing,
            Format::ClaudeCode => skim::Keep::Unless(claude_code::is_minor),
            Format::Codex => skim::Keep::Unless(codex::is_minor),
            Format::Auto => skim::Keep::ObjectsUnless(is_minor),
        }
    }

    /// Takes in whole lines; the last one may lack its end.
    pub fn lines(&mut self, now: Time, lines: &[u8]) {
        let is_text = match self.format {
            Format::Text => true,
            Format::Auto => memchr::memchr(b'{', lines).is_none(),
            Format::ClaudeCode | Format::Codex => false,
        };
        if is_text && self.text.says_nothing(lines) {
            if !lines.trim_ascii().is_empty() {
                self.is_empty = false;
                Text::goes_on(&mut self.state);
            }
            return;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if line.len() <= MAX_LINE {
                self.line(now, line);
            }
        }
    }

    /// Takes in one line.
    fn line(&mut self, now: Time, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.is_empty = false;
        if self.format == Format::Text || line.first() != Some(&b'{') {
            return self.text_line(line);
        }
        // The many small pieces of an answer say nothing but that it goes on.
        if self.format == Format::ClaudeCode && claude_code::is_piece(line) {
            return;
        }
        let lossy = String::from_utf8_lossy(line);
        let Some(said) = Line::read(&lossy) else { return self.text_line(line) };
        if self.format == Format::Auto {
            self.format = if ClaudeCode::knows(&said) {
                Format::ClaudeCode
            } else if Codex::knows(&said) {
                Format::Codex
            } else {
                return self.text_line(line);
            };
        }
        let task = self.state.task.take();
        match self.format {
            Format::ClaudeCode => self.claude_code.take(now, &said, &mut self.state),
            _ => self.codex.take(now, &said, &mut self.state),
        }
        if self.has_task || self.state.task.is_none() {
            self.state.task = task;
        }
    }

    fn text_line(&mut self, line: &[u8]) {
        if matches!(self.format, Format::Auto | Format::Text) {
            self.text.line(line, &mut self.state);
        }
    }

    /// Looks at a line that has begun and pauses before its end: a question is often the last thing that is written
    /// before its answer.
    pub fn open_line(&mut self, line: &[u8]) {
        if matches!(self.format, Format::Auto | Format::Text) {
            self.is_empty = false;
            self.text.open_line(line, &mut self.state);
        }
    }

    /// Settles how it ended: as the stream said, else badly where the format says how a run ends and this one did not.
    pub fn finish(&mut self, ending: Ending) {
        if self.state.status.is_over() {
            return;
        }
        let says_how = matches!(self.format, Format::ClaudeCode | Format::Codex);
        let reason = match ending {
            Ending::Interrupted => "interrupted",
            Ending::ReaderGone => "nobody reads its output any more",
            Ending::Over if says_how => "ended without a result",
            Ending::Over if self.is_empty => "ended without any output",
            Ending::Over => return self.state.is(AgentStatus::Completed, None),
        };
        self.state.is(AgentStatus::Failed, Some(reason.to_owned()));
    }
}

/// Whether a line that begins so is minor in either format.
fn is_minor(line: &[u8]) -> bool {
    claude_code::is_minor(line) || codex::is_minor(line)
}

/// A name that a stream says, such as that of a tool: cleaned and short.
fn name(said: &str) -> String {
    letters::clean(said, 64).into_owned()
}

#[cfg(test)]
mod tests;
