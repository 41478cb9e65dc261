//! What an agent prints, understood line by line: the JSON of Claude Code, Codex and Gemini CLI, any text by patterns.
//!
//! Owns the cutting into lines ([`skim`], and `document` for JSON that has none), the formats and what they mean for an agent's state. Private: of what a line
//! says only status words, names of tools and models, ids and numbers are kept; what a pattern captures is kept because
//! its user asked for it. Refuses I/O and clocks, and to remember more than a bounded few of anything.

mod claude_code;
mod codex;
mod document;
mod failure;
mod gemini_cli;
mod line;
mod meter;
pub mod skim;
mod state;
mod text;

pub use state::{Counts, State};

use claude_code::ClaudeCode;
use codex::Codex;
use failure::Failure;
use gemini_cli::GeminiCli;
use line::Line;
use text::Text;

use state::Limit;

use crate::config::pipe::Pattern;
use crate::decode::lenient::Body;
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, Time};
use crate::text as letters;

/// The longest line that is looked at, in bytes; longer ones pass unread, but for JSON, whose long texts are left out.
pub const MAX_LINE: usize = 1 << 20;

/// So much of the last line is kept, in bytes.
const LAST: usize = 1024;

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As its first line of a known kind says; text until then.
    #[default]
    Auto,
    /// Claude Code's `--output-format stream-json` or `json`, which other tools print as well.
    ClaudeCode,
    /// Codex's `exec --json`.
    Codex,
    /// Gemini CLI's `--output-format stream-json` or `json`.
    GeminiCli,
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
    gemini_cli: GeminiCli,
    text: Text,
    state: State,
    /// The last line of text, or its beginning: where a run ends for a limit, it says so there.
    last: Vec<u8>,
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
            gemini_cli: GeminiCli::default(),
            text,
            state,
            last: Vec::new(),
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
            Format::ClaudeCode => Some(self.claude_code.agent_type()),
            Format::Codex => Some("codex"),
            Format::GeminiCli => Some("gemini-cli"),
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
            Format::GeminiCli => skim::Keep::Unless(gemini_cli::is_minor),
            Format::Auto => skim::Keep::ObjectsUnless(is_minor),
        }
    }

    /// Whether JSON may be written otherwise than line by line.
    pub const fn reads_documents(&self) -> bool {
        !matches!(self.format, Format::Text)
    }

    /// Takes in whole lines; the last one may lack its end.
    pub fn lines(&mut self, now: Time, lines: &[u8]) {
        let is_text = match self.format {
            Format::Text => true,
            Format::Auto => memchr::memchr(b'{', lines).is_none(),
            Format::ClaudeCode | Format::Codex | Format::GeminiCli => false,
        };
        if is_text && self.text.says_nothing(lines) {
            if !lines.trim_ascii().is_empty() {
                self.is_empty = false;
                self.note_last(lines);
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
        let line = line.strip_prefix(document::BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
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
        let body = Body::new(line);
        let read = body.read(|text| Line::read(text).map(|said| (said, text)).ok_or(()));
        let Ok((said, text)) = read else { return self.text_line(line) };
        if self.format == Format::Auto {
            self.format = if ClaudeCode::knows(&said) {
                Format::ClaudeCode
            } else if Codex::knows(&said) {
                Format::Codex
            } else if GeminiCli::knows(&said) {
                Format::GeminiCli
            } else {
                return self.text_line(line);
            };
        }
        let task = self.state.task.take();
        match self.format {
            Format::ClaudeCode => self.claude_code.take(now, &said, text, &mut self.state),
            Format::GeminiCli => self.gemini_cli.take(now, &said, text, &mut self.state),
            _ => self.codex.take(now, &said, &mut self.state),
        }
        if self.has_task || self.state.task.is_none() {
            self.state.task = task;
        }
    }

    fn text_line(&mut self, line: &[u8]) {
        if matches!(self.format, Format::Auto | Format::Text) {
            self.note_last(line);
            self.text.line(line, &mut self.state);
        }
    }

    fn note_last(&mut self, lines: &[u8]) {
        let lines = lines.trim_ascii();
        let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        let line = lines.get(start..).unwrap_or_default();
        self.last.clear();
        self.last.extend_from_slice(line.get(..LAST).unwrap_or(line));
    }

    /// Looks at a line that has begun and pauses before its end: a question is often the last thing that is written
    /// before its answer.
    pub fn open_line(&mut self, line: &[u8]) {
        if matches!(self.format, Format::Auto | Format::Text) {
            self.is_empty = false;
            self.text.open_line(line, &mut self.state);
        }
    }

    /// Settles how it ended, at `now`: as the stream said, else badly where the format says how a run ends and this one
    /// did not. Text that does not say it leaves it unknown, unless its last words are those of a limit.
    pub fn finish(&mut self, now: Time, ending: Ending) {
        if self.state.ended || self.state.status.is_over() {
            return;
        }
        let says_how = matches!(self.format, Format::ClaudeCode | Format::Codex | Format::GeminiCli);
        let last = String::from_utf8_lossy(&self.last).into_owned();
        let failure = Failure::of(None, &last);
        if ending == Ending::Over && !says_how && failure.is_limit() {
            self.state.limit = Limit::Until("unknown", retry_at(&last, now));
            return self.state.is(AgentStatus::Failed, Some(failure.words()));
        }
        let reason = match ending {
            Ending::Interrupted => "interrupted",
            Ending::ReaderGone => "nobody reads its output any more",
            Ending::Over if says_how => "ended without a result",
            Ending::Over if self.is_empty => "ended without any output",
            Ending::Over => {
                return self.state.ends_somehow();
            }
        };
        self.state.is(AgentStatus::Failed, Some(reason.to_owned()));
    }
}

/// Whether a line that begins so is minor in any format.
fn is_minor(line: &[u8]) -> bool {
    claude_code::is_minor(line) || codex::is_minor(line) || gemini_cli::is_minor(line)
}

/// A name that a stream says, such as that of a tool: cleaned and short.
fn name(said: &str) -> String {
    letters::clean(said, 64).into_owned()
}

#[cfg(test)]
mod tests;
