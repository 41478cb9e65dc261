//! Codex's `exec --json`, as printed by version 0.169.
//!
//! `turn.completed` says the totals of the thread, with those of earlier runs when the thread was resumed. Single
//! requests are not told of, so that their number stays unknown.

use super::failure::Failure;
use super::line::Line;
use super::meter::Meter;
use super::name;
use super::state::{ERRORS, RATE_LIMITED, RETRIES, State};
use crate::decode::retry::retry_at;
use crate::model::{AgentStatus, Time};

/// How Codex begins the text of an error that it tries to get over.
const TRIES_AGAIN: &str = "Reconnecting";

/// What it has understood so far.
#[derive(Debug, Default)]
pub(super) struct Codex {
    meter: Meter,
    thread: String,
}

impl Codex {
    /// Whether this is one of its lines.
    pub(super) fn knows(line: &Line<'_>) -> bool {
        ["thread.", "turn.", "item."].iter().any(|start| line.kind.starts_with(start))
    }

    /// Takes in one line.
    pub(super) fn take(&mut self, now: Time, line: &Line<'_>, state: &mut State) {
        state.begin([ERRORS, RATE_LIMITED, RETRIES]);
        match &*line.kind {
            "thread.started" => {
                if !self.thread.is_empty() && self.thread != line.session {
                    self.meter.begin_anew();
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
                let failure = Failure::of(None, &line.error);
                fail(now, failure, line, state);
                state.is(AgentStatus::Failed, Some(failure.words()));
            }
            "error" if line.error.starts_with(TRIES_AGAIN) => {
                let failure = Failure::of(None, &line.error);
                fail(now, failure, line, state);
                state.count(RETRIES);
                state.is(AgentStatus::Running, Some(format!("tries again after {}", failure.words())));
            }
            "item.started" => {
                let does = match &*line.inner {
                    "command_execution" => Some("runs a command".to_owned()),
                    "file_change" => Some("changes files".to_owned()),
                    "web_search" => Some("searches the web".to_owned()),
                    "mcp_tool_call" => Some(format!("runs {}.{}", name(&line.server), name(&line.tool))),
                    _ => None,
                };
                state.is(AgentStatus::Running, does);
            }
            // Warnings come as items as well, some before the first turn.
            "item.completed" if line.inner != "error" => {
                state.served();
                state.is(AgentStatus::Running, None);
            }
            _ => {}
        }
        state.used(&self.meter.tokens(), 5, None);
    }
}

/// Whether a line that begins so may be passed over by who is behind: items say neither totals nor failures.
pub(super) fn is_minor(line: &[u8]) -> bool {
    line.starts_with(b"{\"type\":\"item.")
}

/// A request that ended badly.
fn fail(now: Time, failure: Failure, line: &Line<'_>, state: &mut State) {
    state.count(ERRORS);
    if failure.is_limit() {
        state.count(RATE_LIMITED);
        state.refused("openai", retry_at(&line.error, now));
    }
}
