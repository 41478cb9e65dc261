//! Decodes hooks: events that a tool posts while an agent works. One file per tool, and one line in [`TOOLS`].
//!
//! Nothing of a hook is kept but its type, the name of a tool and the type of an error. Prompts, arguments and outputs are
//! skipped while the body is parsed, and errors give a position without quoting the body.

pub mod claude_code;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::lenient::{self, LenientBody};
use crate::model::hook::{BlockingHook, SessionEvent};
use crate::model::{Hook, StopOrder, Time};

/// Longest name of a tool or an error, in bytes.
const MAX_IDENTIFIER: usize = 64;

/// All tools whose hooks are supported.
pub const TOOLS: &[&HookTool] = &[&claude_code::TOOL];

/// Whether agents of this type post hooks.
pub fn is_tool(agent_type: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == agent_type)
}

/// A tool that posts hooks.
#[derive(Debug)]
pub struct HookTool {
    /// The type of its agents, and the name of an agent without another one.
    pub name: &'static str,
    /// The route that its hooks are posted to.
    pub path: &'static str,
    /// Decodes one event that arrived at a time of the wall clock.
    read: fn(&str, Time) -> Result<HookEvent, HookError>,
    /// The response body that stops the agent at a moment; the text is shown to the user.
    pub stop: fn(BlockingHook, &str) -> String,
}

impl HookTool {
    /// Decodes the body of one hook that arrived at `now` by the wall clock.
    pub fn decode(&self, body: &[u8], now: Time) -> Result<HookEvent, HookError> {
        LenientBody::new(body).read(|text| (self.read)(text, now))
    }
}

/// One event of one session, before its agent is known.
#[derive(Clone, Debug)]
pub struct HookEvent {
    /// The hash of the session's id; the id itself is not kept.
    pub session: u64,
    /// The hash of the subagent's id; `None` for the main agent of the session.
    pub subagent: Option<u64>,
    /// The working directory of the session.
    pub cwd: Option<String>,
    /// What happened.
    pub step: SessionEvent,
    /// When the rate limit ends, if the error message contains a time.
    pub retry_at: Option<Time>,
    /// Set if the response to the hook can stop the agent.
    pub moment: Option<BlockingHook>,
}

impl HookEvent {
    /// The event as a hook of `agent` in `project`, which was answered with `stop`.
    pub fn into_hook(self, tool: &HookTool, (project, agent): (Arc<str>, Arc<str>), stop: Option<StopOrder>) -> Hook {
        let Self { session, subagent, step, retry_at, .. } = self;
        Hook { project, agent, agent_type: tool.name.into(), session, subagent, event: step, retry_at, stop }
    }
}

/// Why a hook was rejected. Never quotes the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The body is not a JSON object.
    #[error("expected a JSON object at line {line} column {column}")]
    NotAnObject {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
    },
    /// The event has no name.
    #[error("expected the name of an event in `hook_event_name`")]
    NoEvent,
}

#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = value?.get();
    let text = match serde_json::from_str::<BorrowedText<'_>>(raw) {
        Ok(text) => text.0,
        // Unpaired surrogates are accepted by the parser of the body, and rejected by this one.
        Err(_) => Cow::Owned(serde_json::from_str(&lenient::rewrite(raw.as_bytes())?).ok()?),
    };
    (!text.is_empty()).then_some(text)
}

/// A string that is an identifier, rather than text that a person may have written.
fn identifier(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let is_identifier = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
        text.len() <= MAX_IDENTIFIER && text.bytes().all(fits)
    };
    text(value).filter(|text| is_identifier(text))
}
