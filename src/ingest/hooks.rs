//! Hooks: events that an agent's tool posts by itself, one at a time. One file per tool, and one line in [`TOOLS`].
//!
//! Owns what the events of each tool mean, and the answer that stops its agent. Keeps nothing of a hook but its kind, the
//! name of a tool and the kind of an error: prompts, arguments and outputs are skipped while the body is read, and an
//! error says where it found one, never what stood there.

pub mod claude_code;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::lenient;
use crate::model::hook::{BlockingHook, SessionEvent};
use crate::model::{Hook, StopOrder, Time};

/// Longest name of a tool or of an error that is kept, in bytes.
const MAX_WORD: usize = 64;

/// Every tool whose hooks are understood.
pub const TOOLS: &[&HookTool] = &[&claude_code::TOOL];

/// Whether agents of this type post hooks.
pub fn is_tool(agent_type: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == agent_type)
}

/// A tool that posts hooks.
#[derive(Debug)]
pub struct HookTool {
    /// The type of its agents, and the name of an agent that has no other.
    pub name: &'static str,
    /// The route that its hooks are posted to.
    pub path: &'static str,
    /// Reads one event; the time is that of the wall clock.
    read: fn(&str, Time) -> Result<HookEvent, HookError>,
    /// The answer, as JSON, that stops the agent at a moment; the text is what a person reads.
    pub stop: fn(BlockingHook, &str) -> String,
}

impl HookTool {
    /// Reads the body of one hook that came at `now` by the wall clock.
    pub fn decode(&self, body: &[u8], now: Time) -> Result<HookEvent, HookError> {
        lenient::Body::new(body).read(|text| (self.read)(text, now))
    }
}

/// One event of one session, before it is known whose it is.
#[derive(Clone, Debug)]
pub struct HookEvent {
    /// The session, as a hash: the id itself is kept nowhere.
    pub session: u64,
    /// The subagent that it is about; `None` is the session's own agent.
    pub subagent: Option<u64>,
    /// The folder that the session works in.
    pub cwd: Option<String>,
    /// What happened.
    pub step: SessionEvent,
    /// When a rate limit ends, as the refusal says.
    pub retry_at: Option<Time>,
    /// Where the agent can be stopped by the answer, when it can.
    pub moment: Option<BlockingHook>,
}

impl HookEvent {
    /// The event as one of `agent` in `project`, whose sender was answered with `stop`.
    pub fn into_hook(self, tool: &HookTool, (project, agent): (Arc<str>, Arc<str>), stop: Option<StopOrder>) -> Hook {
        let Self { session, subagent, step, retry_at, .. } = self;
        Hook { project, agent, agent_type: tool.name.into(), session, subagent, event: step, retry_at, stop }
    }
}

/// Why a hook was rejected; it quotes nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// It is no JSON object.
    #[error("the body is no JSON object, at line {line} column {column}")]
    NotAnObject {
        /// The line, counted from 1.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Nothing in it says what happened.
    #[error("the body has no text in `hook_event_name`")]
    NoEvent,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let raw = value?.get();
    let text = match serde_json::from_str::<Text<'_>>(raw) {
        Ok(text) => text.0,
        // Half a surrogate pair passes where it is not looked at.
        Err(_) => Cow::Owned(serde_json::from_str(&lenient::rewrite(raw.as_bytes())?).ok()?),
    };
    (!text.is_empty()).then_some(text)
}

/// A name that a program gave, as opposed to what somebody wrote.
fn word(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let is_word = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
        text.len() <= MAX_WORD && text.bytes().all(fits)
    };
    text(value).filter(|text| is_word(text))
}

/// The same after a restart, so that sessions that were saved are found again.
fn hash(id: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
}
