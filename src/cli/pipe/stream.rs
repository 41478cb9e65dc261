//! Parses an agent's output: the JSON of Claude Code, Codex and Gemini CLI, and any text by patterns.
//!
//! Splits it into lines ([`skim`], and `document` for JSON without lines) and derives the agent's state. No prompts or
//! answers are kept: only statuses, names of tools and models, ids, numbers, and what a user's pattern captures. No
//! I/O, no clock, bounded memory.

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
pub mod turns;

pub use state::{RunCounts, RunState};

use claude_code::ClaudeCode;
use codex::Codex;
use failure::RequestFailure;
use gemini_cli::GeminiCli;
use line::StreamLine;
use text::PatternReader;
use turns::{TurnRecorder, TurnReport};

use state::LimitState;

use crate::config::pipe::Pattern;
use crate::decode::lenient::LenientBody;
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, Time};
use crate::text as letters;

/// The longest line that is parsed, in bytes. Longer lines are skipped; of longer JSON, only long strings are.
pub const MAX_LINE: usize = 1 << 20;

/// Bytes of the last line that are kept.
const LAST: usize = 1024;

/// The format of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFormat {
    /// Detected from the first line of a known format; text until then.
    #[default]
    Auto,
    /// Claude Code's `--output-format stream-json` or `json`, also used by other tools.
    ClaudeCode,
    /// Codex's `exec --json`.
    Codex,
    /// Gemini CLI's `--output-format stream-json` or `json`.
    GeminiCli,
    /// Text, parsed by patterns.
    Text,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnding {
    /// The input ended.
    Over,
    /// A signal stopped the agent, or this program.
    Interrupted,
    /// The reader of the output closed it.
    ReaderGone,
}

/// Parses one stream.
#[derive(Debug)]
pub struct StreamReader {
    format: StreamFormat,
    claude_code: ClaudeCode,
    codex: Codex,
    gemini_cli: GeminiCli,
    text: PatternReader,
    state: RunState,
    turns: TurnRecorder,
    /// The beginning of the last line, which names a usage limit that ended the run.
    last: Vec<u8>,
    /// Whether the task was given, so that the session id is not used for it.
    has_task: bool,
    is_empty: bool,
}

impl StreamReader {
    /// A parser at the start of a stream; `task` overrides what the stream names.
    pub fn new(format: StreamFormat, patterns: Vec<Pattern>, task: Option<&str>) -> Self {
        let mut state = RunState::default();
        let text = PatternReader::new(patterns);
        if matches!(format, StreamFormat::Auto | StreamFormat::Text) {
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
            turns: TurnRecorder::default(),
            last: Vec::new(),
            has_task: task.is_some(),
            is_empty: true,
        }
    }

    /// The state of the agent.
    pub const fn state(&self) -> &RunState {
        &self.state
    }

    /// Sets when the stream began.
    pub fn start(&mut self, now: Time) {
        self.turns.start(now);
    }

    /// What is new of its turns since the last call.
    pub fn take_turns(&mut self) -> Vec<TurnReport> {
        self.turns.take()
    }

    /// The type of the agent, once the format is known.
    pub const fn agent_type(&self) -> Option<&'static str> {
        match self.format {
            StreamFormat::ClaudeCode => Some(self.claude_code.agent_type()),
            StreamFormat::Codex => Some("codex"),
            StreamFormat::GeminiCli => Some("gemini-cli"),
            StreamFormat::Auto | StreamFormat::Text => None,
        }
    }

    /// Whether the format is known.
    pub const fn knows_format(&self) -> bool {
        !matches!(self.format, StreamFormat::Auto)
    }

    /// Which lines must be parsed even when parsing falls behind, so that no token, failure or retry is missed.
    pub fn keep(&self) -> skim::Keep {
        let by_text = self.text.needs_every_line();
        match self.format {
            StreamFormat::Auto | StreamFormat::Text if by_text => skim::Keep::Everything,
            StreamFormat::Text => skim::Keep::Nothing,
            StreamFormat::ClaudeCode => skim::Keep::Unless(claude_code::is_minor),
            StreamFormat::Codex => skim::Keep::Unless(codex::is_minor),
            StreamFormat::GeminiCli => skim::Keep::Unless(gemini_cli::is_minor),
            StreamFormat::Auto => skim::Keep::ObjectsUnless(is_minor),
        }
    }

    /// Whether the stream may have JSON that spans lines.
    pub const fn reads_documents(&self) -> bool {
        !matches!(self.format, StreamFormat::Text)
    }

    /// Parses whole lines; the last one may lack its newline.
    pub fn lines(&mut self, now: Time, lines: &[u8]) {
        let is_text = match self.format {
            StreamFormat::Text => true,
            StreamFormat::Auto => memchr::memchr(b'{', lines).is_none(),
            StreamFormat::ClaudeCode | StreamFormat::Codex | StreamFormat::GeminiCli => false,
        };
        if is_text && self.text.has_no_match(lines) {
            if !lines.trim_ascii().is_empty() {
                self.is_empty = false;
                self.note_last(lines);
                let was_over = self.is_over();
                PatternReader::has_output(&mut self.state);
                self.turns.note(now, was_over, None, true, &self.state);
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

    /// Parses one line.
    fn line(&mut self, now: Time, line: &[u8]) {
        let line = line.strip_prefix(document::BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
        if line.is_empty() {
            return;
        }
        self.is_empty = false;
        if self.format == StreamFormat::Text || line.first() != Some(&b'{') {
            return self.text_line(now, line);
        }
        // The many deltas of an answer have nothing that is counted.
        if self.format == StreamFormat::ClaudeCode && claude_code::is_piece(line) {
            return;
        }
        let body = LenientBody::new(line);
        let read = body.read(|text| StreamLine::read(text).map(|parsed| (parsed, text)).ok_or(()));
        let Ok((parsed, text)) = read else { return self.text_line(now, line) };
        if self.format == StreamFormat::Auto {
            self.format = if ClaudeCode::knows(&parsed) {
                StreamFormat::ClaudeCode
            } else if Codex::knows(&parsed) {
                StreamFormat::Codex
            } else if GeminiCli::knows(&parsed) {
                StreamFormat::GeminiCli
            } else {
                return self.text_line(now, line);
            };
        }
        let (task, was_over) = (self.state.task.take(), self.is_over());
        self.turns.set_session(&name(&parsed.session));
        let (state, turns) = (&mut self.state, &mut self.turns);
        match self.format {
            StreamFormat::ClaudeCode => self.claude_code.take(now, &parsed, text, state, turns),
            StreamFormat::GeminiCli => self.gemini_cli.take(now, &parsed, text, state, turns),
            _ => self.codex.take(now, &parsed, state, turns),
        }
        self.turns.note(now, was_over, parsed.duration_ms, false, &self.state);
        if self.has_task || self.state.task.is_none() {
            self.state.task = task;
        }
    }

    fn text_line(&mut self, now: Time, line: &[u8]) {
        if matches!(self.format, StreamFormat::Auto | StreamFormat::Text) {
            let was_over = self.is_over();
            self.note_last(line);
            self.text.line(line, &mut self.state);
            self.turns.note(now, was_over, None, true, &self.state);
        }
    }

    fn is_over(&self) -> bool {
        self.state.ended || self.state.status.is_over()
    }

    fn note_last(&mut self, lines: &[u8]) {
        let lines = lines.trim_ascii();
        let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        let line = lines.get(start..).unwrap_or_default();
        self.last.clear();
        self.last.extend_from_slice(line.get(..LAST).unwrap_or(line));
    }

    /// Parses an unfinished line after a pause: a question to the user often has no newline.
    pub fn open_line(&mut self, line: &[u8]) {
        if matches!(self.format, StreamFormat::Auto | StreamFormat::Text) {
            self.is_empty = false;
            self.text.open_line(line, &mut self.state);
        }
    }

    /// Sets the final state at `now`. A JSON stream without a result has failed; the result of text is unknown, unless
    /// its last line names a usage limit.
    pub fn finish(&mut self, now: Time, ending: StreamEnding) {
        if !self.is_over() {
            self.end(now, ending);
            self.turns.note(now, false, None, true, &self.state);
        }
    }

    fn end(&mut self, now: Time, ending: StreamEnding) {
        let says_how = matches!(self.format, StreamFormat::ClaudeCode | StreamFormat::Codex | StreamFormat::GeminiCli);
        let last = String::from_utf8_lossy(&self.last).into_owned();
        let failure = RequestFailure::of(None, &last);
        if ending == StreamEnding::Over && !says_how && failure.is_limit() {
            self.state.limit = LimitState::Until("unknown", retry_at(&last, now));
            return self.state.is(AgentStatus::Failed, Some(failure.words()));
        }
        let reason = match ending {
            StreamEnding::Interrupted => "interrupted",
            StreamEnding::ReaderGone => "the reader of its output closed the pipe",
            StreamEnding::Over if says_how => "ended without a result",
            StreamEnding::Over if self.is_empty => "ended without any output",
            StreamEnding::Over => {
                return self.state.ends_somehow();
            }
        };
        self.state.is(AgentStatus::Failed, Some(reason.to_owned()));
    }
}

/// Whether a line with this beginning is minor in any format.
fn is_minor(line: &[u8]) -> bool {
    claude_code::is_minor(line) || codex::is_minor(line) || gemini_cli::is_minor(line)
}

/// A name in a stream, such as that of a tool: cleaned and cut.
fn name(name: &str) -> String {
    letters::clean(name, 64).into_owned()
}

#[cfg(test)]
mod tests;
