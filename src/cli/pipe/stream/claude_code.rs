//! Claude Code's `--output-format stream-json` and `json`, as printed by versions 2.1.197 to 2.1.332. Qwen Code and
//! Cursor print much the same.
//!
//! A `result` has the totals of its process. The messages before it are an early estimate: they have all input and
//! cached tokens, but only a part of the output tokens.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use super::failure::{self, RequestFailure};
use super::line::{LineUsage, StreamLine};
use super::meter::{Meter, Tokens};
use super::name;
use super::state::{ERRORS, RATE_LIMITED, REQUESTS, RETRIES, RunState};
use super::turns::TurnRecorder;
use crate::decode::limits::is_about_limit;
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, BoundedMap, Time};

/// Answers kept for deduplication: one answer is printed in several lines, with subagents' lines in between.
const MAX_ANSWERS: usize = 64;

/// The model name of messages that Claude Code writes itself in place of a failed answer.
const SYNTHETIC: &str = "<synthetic>";

/// The parser's state.
#[derive(Debug)]
pub(super) struct ClaudeCode {
    meter: Meter,
    session: String,
    /// The tokens of recent answers, by the hash of their id.
    answers: BoundedMap<u64, Tokens>,
    /// The answers being streamed: the hashes of the subagent's call and of the answer's id.
    printing: VecDeque<(u64, u64)>,
    is_cursor: bool,
}

impl Default for ClaudeCode {
    fn default() -> Self {
        Self {
            meter: Meter::default(),
            session: String::new(),
            answers: BoundedMap::new(MAX_ANSWERS),
            printing: VecDeque::new(),
            is_cursor: false,
        }
    }
}

impl ClaudeCode {
    /// Whether this is one of its lines.
    pub(super) fn knows(line: &StreamLine<'_>) -> bool {
        let kinds = [
            "system",
            "assistant",
            "user",
            "result",
            "stream_event",
            "control_request",
            "rate_limit_event",
            "tool_call",
        ];
        kinds.contains(&&*line.kind) && (!line.session.is_empty() || !line.request.is_empty())
    }

    /// Which tool it is.
    pub(super) const fn agent_type(&self) -> &'static str {
        if self.is_cursor { "cursor" } else { "claude-code" }
    }

    /// Parses one line, which is `text`.
    pub(super) fn take(
        &mut self,
        now: Time,
        line: &StreamLine<'_>,
        text: &str,
        state: &mut RunState,
        turns: &mut TurnRecorder,
    ) {
        match &*line.kind {
            "tool_call" | "thinking" => {
                self.is_cursor = true;
                return state.is(AgentStatus::Running, None);
            }
            // Cursor prints its result, but no usage.
            "result" if self.is_cursor => return end(line, state),
            _ => {}
        }
        state.begin([REQUESTS, ERRORS, RATE_LIMITED, RETRIES]);
        match &*line.kind {
            "system" => self.system(now, line, state, turns),
            "assistant" if line.model == SYNTHETIC && line.error == "rate_limit" => {
                state.rate_limited("anthropic", retry_at(text, now));
            }
            "assistant" => self.assistant(now, line, state, turns),
            "user" => {
                for block in &line.blocks {
                    let error = (block.is_error == Some(true)).then(|| "failed".to_owned());
                    turns.tool_ended(now, &line.parent, &block.id, None, error);
                }
                state.is(AgentStatus::Running, None);
            }
            "stream_event" => self.piece(now, line, state, turns),
            "control_request" if line.request == "can_use_tool" => {
                turns.asked(now);
                ask(&line.tool, true, state);
            }
            "control_cancel_request" => {
                turns.is_answered(now);
                state.is(AgentStatus::Running, None);
            }
            "rate_limit_event" if line.limit_status == "rejected" => {
                state.rate_limited("anthropic", line.resets_at.and_then(Time::from_secs_f64));
            }
            "rate_limit_event" => state.served(),
            "result" => self.result(now, line, text, state),
            _ => {}
        }
        // Results have the cost, which is 0 before: tokens without a cost would count as unpriced.
        state.used(&self.meter.tokens(), 4, Some(self.meter.cost()));
    }

    fn system(&mut self, now: Time, line: &StreamLine<'_>, state: &mut RunState, turns: &mut TurnRecorder) {
        match &*line.subtype {
            "init" => {
                if !self.session.is_empty() && self.session != line.session {
                    self.meter.start_process();
                }
                self.session = name(&line.session);
                state.task = Some(self.session.clone());
                if !line.model.is_empty() {
                    state.model = Some(name(&line.model));
                }
                state.is(AgentStatus::Running, None);
            }
            "api_retry" => {
                let failure = RequestFailure::of(line.error_status, &line.error);
                fail(failure, state);
                state.count(RETRIES);
                let delay = line.retry_delay_ms.and_then(|delay| Duration::try_from_secs_f64(delay / 1e3).ok());
                let retry_at = delay.map(|delay| now.plus(delay));
                if failure.is_limit() {
                    state.rate_limited("anthropic", retry_at);
                }
                turns.failed(now, state.model.as_deref(), failure.words(), failure.is_limit(), retry_at);
                let mut reason = format!("retrying after {}", failure.words());
                if let (Some(attempt), Some(most)) = (line.attempt, line.max_retries) {
                    reason += &format!(", {attempt} of {most}");
                }
                state.is(AgentStatus::Running, Some(reason));
            }
            "status" if line.status == "compacting" => {
                state.is(AgentStatus::Running, Some("compacting its context".to_owned()));
            }
            _ => {}
        }
    }

    fn assistant(&mut self, now: Time, line: &StreamLine<'_>, state: &mut RunState, turns: &mut TurnRecorder) {
        if line.model == SYNTHETIC {
            return;
        }
        turns.answered(now, &line.parent, &line.message_id, &line.model);
        for block in line.blocks.iter().filter(|block| !block.name.is_empty()) {
            turns.tool_began(now, &line.parent, &block.id, &block.name);
        }
        if let Some(usage) = &line.usage {
            self.used(hash(&line.message_id), usage, state);
        }
        if !line.model.is_empty() && line.parent.is_empty() {
            state.model = Some(name(&line.model));
        }
        ask(&line.tool, false, state);
    }

    /// A delta of an answer: the first has its id, the last its usage.
    fn piece(&mut self, now: Time, line: &StreamLine<'_>, state: &mut RunState, turns: &mut TurnRecorder) {
        let whose = hash(&line.parent);
        let Some(usage) = &line.usage else { return };
        if line.inner == "message_start" {
            turns.answered(now, &line.parent, &line.message_id, &line.model);
            self.printing.retain(|(other, _)| *other != whose);
            self.printing.push_back((whose, hash(&line.message_id)));
            if self.printing.len() > MAX_ANSWERS {
                self.printing.pop_front();
            }
        }
        if let Some((_, answer)) = self.printing.iter().find(|(other, _)| *other == whose).copied() {
            self.used(answer, usage, state);
        }
        if state.ended || state.status != AgentStatus::WaitingQuestion {
            (state.status, state.ended) = (AgentStatus::Running, false);
        }
    }

    /// RunCounts what an answer used beyond what was counted of it.
    fn used(&mut self, answer: u64, usage: &LineUsage, state: &mut RunState) {
        state.served();
        let tokens = usage.tokens();
        if let Some(known) = self.answers.get_mut(&answer) {
            let mut more = Tokens::default();
            for ((more, known), now) in more.iter_mut().zip(known.iter_mut()).zip(tokens) {
                *more = now.saturating_sub(*known);
                *known = now.max(*known);
            }
            return self.meter.add(&more);
        }
        state.count(REQUESTS);
        self.answers.insert(answer, tokens, ());
        self.meter.add(&tokens);
    }

    fn result(&mut self, now: Time, line: &StreamLine<'_>, text: &str, state: &mut RunState) {
        let usage = line.model_usage.or(line.usage).map(|usage| usage.tokens());
        if usage.is_some() || line.cost_usd.is_some() {
            let is_first = line.result_index == Some(0) || self.session != name(&line.session);
            self.session = name(&line.session);
            self.meter.total(&usage.unwrap_or_default(), line.cost_usd, is_first);
        }
        if is_good(line) == Some(true) {
            return end(line, state);
        }
        // With `success` and without a status, the text is the provider's message.
        let says_limit = line.limit_error == "usage_limit_reached"
            || line.terminal_reason == "blocking_limit"
            || line.error_status.is_none() && line.subtype == "success" && is_about_limit(&line.result);
        let failure = match line.error_status {
            Some(status) => RequestFailure::of(Some(status), ""),
            None if says_limit => RequestFailure::of(None, "usage limit"),
            None => return end(line, state),
        };
        fail(failure, state);
        if failure.is_limit() {
            state.rate_limited("anthropic", retry_at(&line.result, now).or_else(|| retry_at(text, now)));
        }
        state.is(AgentStatus::Failed, Some(failure.words()));
    }
}

/// Whether the run succeeded, if the line shows it.
fn is_good(line: &StreamLine<'_>) -> Option<bool> {
    match (line.is_error, &*line.subtype) {
        (Some(true), _) => Some(false),
        (_, "success") => Some(true),
        (is_error, "") => is_error.map(|_| true),
        _ => Some(false),
    }
}

/// Sets the result of a run that was not ended by a failed request.
fn end(line: &StreamLine<'_>, state: &mut RunState) {
    match is_good(line) {
        Some(true) => {
            state.served();
            state.is(AgentStatus::Completed, None);
        }
        Some(false) => {
            let reason = match &*line.subtype {
                "success" => None,
                subtype => failure::word(subtype),
            };
            state.is(AgentStatus::Failed, Some(reason.unwrap_or_else(|| "an error".to_owned())));
        }
        None => state.ends_somehow(),
    }
}

/// Counts a failed request.
fn fail(failure: RequestFailure, state: &mut RunState) {
    state.count(REQUESTS);
    state.count(ERRORS);
    if failure.is_limit() {
        state.count(RATE_LIMITED);
    }
}

/// Sets that a tool is called, or that it needs permission.
fn ask(tool: &str, needs_permission: bool, state: &mut RunState) {
    match tool {
        "" => state.is(AgentStatus::Running, None),
        "AskUserQuestion" => state.is(AgentStatus::WaitingQuestion, Some("an answer to its question".to_owned())),
        "ExitPlanMode" => state.is(AgentStatus::WaitingQuestion, Some("approval of its plan".to_owned())),
        tool if needs_permission => {
            state.is(AgentStatus::WaitingQuestion, Some(format!("permission to run {}", name(tool))));
        }
        tool => state.is(AgentStatus::Running, Some(format!("runs {}", name(tool)))),
    }
}

/// Whether the line is a delta of an answer, which has nothing to parse.
pub(super) fn is_piece(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"stream_event\",\"event\":{\"type\":\"content_block_")
}

/// Whether a line with this beginning may be skipped: its usage is part of the result's, and it has no failure or
/// retry. Lines with an unknown beginning are not minor.
pub(super) fn is_minor(line: &[u8]) -> bool {
    let Some(kind) = line.strip_prefix(b"{\"type\":\"") else { return false };
    if let Some(subtype) = kind.strip_prefix(b"system\",\"subtype\":\"") {
        return !subtype.starts_with(b"api_retry\"");
    }
    kind.starts_with(b"stream_event\"") || kind.starts_with(b"assistant\"") || kind.starts_with(b"user\"")
}

fn hash(text: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}
