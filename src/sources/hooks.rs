//! Events that agents post by themselves, one at a time: hooks.
//!
//! Owns whom a hook is about, what its events say, and the answer that stops an agent. Refuses to decide who is stopped. Refuses to keep anything of a hook but its kind, the name of a
//! tool and the kind of an error: prompts, arguments and outputs are skipped while the body is read, and an error says
//! where it found one, never what stood there.

mod claude_code;
#[cfg(test)]
mod tests;

use super::otlp::config::AgentRule;
use super::otlp::wire::{KeyValue, Value};
use super::{MAX_TEXT, lenient, profiles};
use crate::model::text::is_name;
use crate::model::{Hook, Time};

/// The type of agents that post Claude Code's hooks.
pub const CLAUDE_CODE: &str = claude_code::NAME;
/// Parameters of a hook's address that are read; more say nothing.
const MAX_PARAMETERS: usize = 16;

/// What the sender of a hook says of itself, in the address that it posts to and in headers, under OpenTelemetry's names.
#[derive(Clone, Debug, Default)]
pub struct Target {
    said: Vec<KeyValue>,
}

/// What an agent is about to do that waits for the answer to its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// To take up what a person told it.
    Prompted,
    /// To take up what it was told by something that it had left running.
    Resumed,
    /// To use a tool.
    BeforeTool,
    /// To ask its model what comes next, having used a tool.
    AfterTool,
}

impl Moment {
    /// The answer, as JSON, that stops Claude Code here; `why` is what a person reads.
    pub fn stop(self, why: &str) -> String {
        claude_code::stop(self, why)
    }
}

/// Why a hook was not taken; it quotes nothing of the body.
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

impl Target {
    /// Of the parameters of an address, then of what headers say. `agent` and `project` may be given by these names; what
    /// could be no name is passed over.
    pub fn new<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let said = said.into_iter().filter(|(_, value)| is_name(value, MAX_TEXT)).take(MAX_PARAMETERS);
        Self {
            said: said.map(|(key, value)| attribute(if key == "agent" { "agent.name" } else { key }, value)).collect(),
        }
    }

    /// It as attributes of a producer.
    pub(in crate::sources) fn attributes(&self) -> &[KeyValue] {
        &self.said
    }
}

/// Reads the body of one hook of Claude Code. It is about whom `target` names, else about whom the first fitting of
/// `rules` names, else about the folder that it works in. `now` is that of the wall clock.
pub fn claude_code(target: &Target, rules: &[AgentRule], body: &[u8], now: Time) -> Result<Hook, HookError> {
    claude_code_that_waits(target, rules, body, now).map(|(hook, _)| hook)
}

/// As [`claude_code`], with what the agent is about to do, when the answer can stop it there.
pub fn claude_code_that_waits(
    target: &Target,
    rules: &[AgentRule],
    body: &[u8],
    now: Time,
) -> Result<(Hook, Option<Moment>), HookError> {
    let body = lenient::Body::new(body);
    let event = body.read(|text| claude_code::Event::decode(text, now))?;
    let service = [attribute("service.name", claude_code::NAME)];
    let place: Vec<KeyValue> = event.cwd.iter().map(|cwd| attribute("cwd", cwd)).collect();
    let folder = event.cwd.as_deref().and_then(|cwd| cwd.rsplit(['/', '\\']).find(|part| !part.is_empty()));
    let (project, agent) = profiles::identity::of_hook(rules, &target.said, &[&service[..], &place].concat(), folder)
        .unwrap_or_else(|| (super::push::DEFAULT_PROJECT.into(), claude_code::NAME.into()));
    let agent_type = claude_code::NAME.into();
    let claude_code::Event { session, subagent, step, retry_at, moment, .. } = event;
    Ok((Hook { project, agent, agent_type, session, subagent, step, retry_at, stop: None }, moment))
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue::new(key, Value::String(value.to_owned()))
}
