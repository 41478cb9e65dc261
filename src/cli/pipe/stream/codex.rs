//! Codex's `exec --json`, as printed by version 0.169.
//!
//! `turn.completed` has the totals of the thread, including earlier runs of a resumed thread. Single requests are not
//! printed, so their number is unknown.

use super::failure::RequestFailure;
use super::line::StreamLine;
use super::meter::Meter;
use super::name;
use super::state::{ERRORS, RATE_LIMITED, RETRIES, RunState};
use super::turns::TurnRecorder;
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, Time};

/// The start of the text of an error after which Codex retries.
const RETRYING: &str = "Reconnecting";

/// The parser's state.
#[derive(Debug, Default)]
pub(super) struct Codex {
    meter: Meter,
    thread: String,
}

impl Codex {
    /// Whether this is one of its lines.
    pub(super) fn knows(line: &StreamLine<'_>) -> bool {
        ["thread.", "turn.", "item."].iter().any(|start| line.kind.starts_with(start))
    }

    /// Parses one line.
    pub(super) fn take(&mut self, now: Time, line: &StreamLine<'_>, state: &mut RunState, turns: &mut TurnRecorder) {
        state.begin([ERRORS, RATE_LIMITED, RETRIES]);
        match &*line.kind {
            "thread.started" => {
                if !self.thread.is_empty() && self.thread != line.session {
                    self.meter.start_process();
                }
                self.thread = name(&line.session);
                state.task = Some(self.thread.clone());
                state.is(AgentStatus::Running, None);
            }
            "turn.started" => state.is(AgentStatus::Running, None),
            "turn.completed" => {
                if let Some(usage) = &line.usage {
                    self.meter.total(&usage.tokens(), None, false);
                }
                state.served();
                state.is(AgentStatus::Completed, None);
            }
            "turn.failed" => {
                let failure = RequestFailure::of(None, &line.error);
                fail(now, failure, line, state);
                state.is(AgentStatus::Failed, Some(failure.words()));
            }
            "error" if line.error.starts_with(RETRYING) => {
                let failure = RequestFailure::of(None, &line.error);
                fail(now, failure, line, state);
                turns.noted_failure(now, failure.words());
                state.count(RETRIES);
                state.is(AgentStatus::Running, Some(format!("retrying after {}", failure.words())));
            }
            "item.started" => {
                if let Some(tool) = tool_of(line) {
                    turns.tool_began(now, "", &line.call_id, &tool);
                }
                let activity = match &*line.inner {
                    "command_execution" => Some("runs a command".to_owned()),
                    "file_change" => Some("changes files".to_owned()),
                    "web_search" => Some("searches the web".to_owned()),
                    "mcp_tool_call" => Some(format!("runs {}.{}", name(&line.server), name(&line.tool))),
                    _ => None,
                };
                state.is(AgentStatus::Running, activity);
            }
            // Warnings are items too, some before the first turn.
            "item.completed" if line.inner != "error" => {
                if let Some(tool) = tool_of(line) {
                    let error = (line.call_status == "failed").then(|| "failed".to_owned());
                    turns.tool_ended(now, "", &line.call_id, Some(&tool), error);
                }
                state.served();
                state.is(AgentStatus::Running, None);
            }
            _ => {}
        }
        state.used(&self.meter.tokens(), 5, None);
    }
}

/// The tool that an item is a call of.
fn tool_of(line: &StreamLine<'_>) -> Option<String> {
    match &*line.inner {
        "command_execution" | "file_change" | "web_search" => Some(line.inner.clone().into_owned()),
        "mcp_tool_call" => Some(format!("{}.{}", name(&line.server), name(&line.tool))),
        _ => None,
    }
}

/// Whether a line with this beginning may be skipped: items have neither totals nor failures.
pub(super) fn is_minor(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"item.")
}

/// Counts a failed request.
fn fail(now: Time, failure: RequestFailure, line: &StreamLine<'_>, state: &mut RunState) {
    state.count(ERRORS);
    if failure.is_limit() {
        state.count(RATE_LIMITED);
        state.rate_limited("openai", retry_at(&line.error, now));
    }
}
