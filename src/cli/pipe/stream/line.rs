//! One JSON line of either tool, read in one pass: what is known by its place is kept, the rest is passed over unseen.
//!
//! Values of unexpected types are passed over, too; only a line that is not JSON is none.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use super::meter::Tokens;
use crate::decode::read::{Key, Read, Scalar, Seed};

/// What a line says; what it does not say is empty.
#[derive(Debug, Default)]
pub(super) struct Line<'a> {
    /// Its `type`.
    pub(super) kind: Cow<'a, str>,
    pub(super) subtype: Cow<'a, str>,
    /// The session or thread.
    pub(super) session: Cow<'a, str>,
    /// The tool call that a subagent's line belongs to.
    pub(super) parent: Cow<'a, str>,
    /// What Claude Code says that it is doing.
    pub(super) status: Cow<'a, str>,
    /// The word or text of an error.
    pub(super) error: Cow<'a, str>,
    /// Whether the run ended with an error; `None` where that is not said.
    pub(super) is_error: Option<bool>,
    /// The HTTP status of an error.
    pub(super) error_status: Option<u64>,
    pub(super) attempt: Option<u64>,
    pub(super) max_retries: Option<u64>,
    pub(super) retry_delay_ms: Option<f64>,
    pub(super) result_index: Option<u64>,
    pub(super) cost_usd: Option<f64>,
    pub(super) model: Cow<'a, str>,
    /// The id of the model's answer.
    pub(super) message_id: Cow<'a, str>,
    /// The tool that is called, or that leave is asked for.
    pub(super) tool: Cow<'a, str>,
    /// The server that offers the tool.
    pub(super) server: Cow<'a, str>,
    /// The `type` of an event inside, or of an item.
    pub(super) inner: Cow<'a, str>,
    /// What a request from the agent asks for.
    pub(super) request: Cow<'a, str>,
    pub(super) usage: Option<Usage>,
    /// The usage of all models together.
    pub(super) model_usage: Option<Usage>,
    /// Whether a limit holds.
    pub(super) limit_status: Cow<'a, str>,
    /// When it ends, in Unix seconds.
    pub(super) resets_at: Option<f64>,
    /// Claude Code's word for an account's limit.
    pub(super) limit_error: Cow<'a, str>,
    /// Why Claude Code ended a run.
    pub(super) terminal_reason: Cow<'a, str>,
    /// What a run printed at its end: an answer, or the words of an error.
    pub(super) result: Cow<'a, str>,
    /// Whether there is an answer of Gemini CLI.
    pub(super) has_response: bool,
    /// Whether an error has a code, as Gemini CLI's has.
    pub(super) has_error_code: bool,
}

/// Tokens under the names of either provider.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_creation: u64,
    cached_of_input: u64,
    written_of_input: u64,
    reasoning_of_output: u64,
}

impl Usage {
    /// Disjoint tokens by type, in the order of [`crate::model::TokenType::ALL`].
    pub(super) fn tokens(&self) -> Tokens {
        let cached = self.cached_of_input.saturating_add(self.written_of_input);
        [
            self.input.saturating_sub(cached),
            self.output.saturating_sub(self.reasoning_of_output),
            self.cache_read.saturating_add(self.cached_of_input),
            self.cache_creation.saturating_add(self.written_of_input),
            self.reasoning_of_output,
        ]
    }

    fn field(&mut self, key: &str) -> Option<&mut u64> {
        Some(match key {
            "input_tokens" | "inputTokens" => &mut self.input,
            "output_tokens" | "outputTokens" => &mut self.output,
            "cache_read_input_tokens" | "cacheReadInputTokens" => &mut self.cache_read,
            "cache_creation_input_tokens" | "cacheCreationInputTokens" => &mut self.cache_creation,
            "cached_input_tokens" => &mut self.cached_of_input,
            "cache_write_input_tokens" => &mut self.written_of_input,
            "reasoning_output_tokens" => &mut self.reasoning_of_output,
            _ => return None,
        })
    }
}

impl<'a> Line<'a> {
    /// What `text` says; `None` when it is not one JSON object.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut line = Self::default();
        let mut input = serde_json::Deserializer::from_str(text);
        Seed(&mut Place { at: At::Line, line: &mut line }).deserialize(&mut input).ok()?;
        input.end().ok()?;
        Some(line)
    }
}

/// Where in the line a value stands.
#[derive(Clone, Copy)]
enum At {
    Line,
    Message,
    Content,
    Block,
    Error,
    Event,
    Request,
    Item,
    LimitInfo,
    Usage,
    Models,
    ModelUsage,
}

/// What a key leads to.
enum Step {
    /// A value to look into.
    Into(At),
    /// A value to keep.
    Keep(for<'a> fn(&mut Line<'a>, Scalar<'a>)),
    Skip,
}

fn step(at: At, key: &str) -> Step {
    use Step::{Into, Keep, Skip};
    match (at, key) {
        (At::Line, "type") => Keep(|line, value| text(&mut line.kind, value)),
        (At::Line, "subtype") => Keep(|line, value| text(&mut line.subtype, value)),
        (At::Line, "session_id" | "thread_id") => Keep(|line, value| text(&mut line.session, value)),
        (At::Line, "parent_tool_use_id") => Keep(|line, value| text(&mut line.parent, value)),
        (At::Line, "status") => Keep(|line, value| text(&mut line.status, value)),
        (At::Line, "is_error") => Keep(|line, value| line.is_error = flag(&value)),
        (At::Line, "error_status" | "api_error_status") => Keep(|line, value| line.error_status = count(&value)),
        (At::Line, "api_error") => Keep(|line, value| text(&mut line.limit_error, value)),
        (At::Line, "terminal_reason") => Keep(|line, value| text(&mut line.terminal_reason, value)),
        (At::Line, "result") => Keep(|line, value| text(&mut line.result, value)),
        (At::Line, "response") => Keep(|line, _| line.has_response = true),
        (At::Line, "tool_name") => Keep(|line, value| text(&mut line.tool, value)),
        (At::Line, "attempt") => Keep(|line, value| line.attempt = count(&value)),
        (At::Line, "max_retries") => Keep(|line, value| line.max_retries = count(&value)),
        (At::Line, "retry_delay_ms") => Keep(|line, value| line.retry_delay_ms = amount(&value)),
        (At::Line, "result_index") => Keep(|line, value| line.result_index = count(&value)),
        (At::Line, "total_cost_usd") => Keep(|line, value| line.cost_usd = amount(&value)),
        (At::Line | At::Message, "model") => Keep(|line, value| text(&mut line.model, value)),
        (At::Line | At::Event, "message") => Into(At::Message),
        (At::Line | At::Message | At::Event, "usage") => Into(At::Usage),
        (At::Line, "modelUsage") => Into(At::Models),
        (At::Line, "error") => Into(At::Error),
        (At::Line, "event") => Into(At::Event),
        (At::Line, "request") => Into(At::Request),
        (At::Line, "item") => Into(At::Item),
        (At::Line, "rate_limit_info") => Into(At::LimitInfo),
        (At::Message, "id") => Keep(|line, value| text(&mut line.message_id, value)),
        (At::Message, "content") => Into(At::Content),
        (At::Error, "message") => Keep(|line, value| text(&mut line.error, value)),
        (At::Error, "code") => Keep(|line, value| line.has_error_code = value != Scalar::Null),
        (At::Block, "name") => Keep(|line, value| text(&mut line.tool, value)),
        (At::Event | At::Item, "type") => Keep(|line, value| text(&mut line.inner, value)),
        (At::Request, "subtype") => Keep(|line, value| text(&mut line.request, value)),
        (At::Request, "tool_name") | (At::Item, "tool") => Keep(|line, value| text(&mut line.tool, value)),
        (At::Item, "server") => Keep(|line, value| text(&mut line.server, value)),
        (At::LimitInfo, "status") => Keep(|line, value| text(&mut line.limit_status, value)),
        (At::LimitInfo, "resetsAt") => Keep(|line, value| line.resets_at = amount(&value)),
        (At::Models, _) => Into(At::ModelUsage),
        _ => Skip,
    }
}

fn text<'a>(to: &mut Cow<'a, str>, value: Scalar<'a>) {
    if let Scalar::Text(text) = value {
        *to = text;
    }
}

/// A yes or no, also in quotes.
fn flag(value: &Scalar<'_>) -> Option<bool> {
    match value {
        Scalar::Text(word) if word.trim().eq_ignore_ascii_case("true") => Some(true),
        Scalar::Text(word) if word.trim().eq_ignore_ascii_case("false") => Some(false),
        value => value.flag().ok().flatten(),
    }
}

fn count(value: &Scalar<'_>) -> Option<u64> {
    value.count().ok().flatten()
}

fn amount(value: &Scalar<'_>) -> Option<f64> {
    value.amount().ok().flatten()
}

struct Place<'x, 'a> {
    at: At,
    line: &'x mut Line<'a>,
}

impl<'de> Read<'de> for Place<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        match self.at {
            At::Usage | At::ModelUsage => {
                let all = if let At::Usage = self.at { &mut self.line.usage } else { &mut self.line.model_usage };
                let mut usage = all.unwrap_or_default();
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    let value: Scalar<'_> = map.next_value()?;
                    if let (Some(to), Some(more)) = (usage.field(&key), count(&value)) {
                        *to = to.saturating_add(more);
                    }
                }
                *all = Some(usage);
            }
            at => {
                while let Some(step) = map.next_key_seed(Key(|key: &str| step(at, key)))? {
                    match step {
                        Step::Into(at) => map.next_value_seed(Seed(&mut Place { at, line: self.line }))?,
                        Step::Keep(set) => set(self.line, map.next_value()?),
                        Step::Skip => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
            }
        }
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        if let At::Content = self.at {
            while list.next_element_seed(Seed(&mut Place { at: At::Block, line: self.line }))?.is_some() {}
        } else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        // Codex' message and Claude Code's error are texts where the other's are objects.
        if let At::Error | At::Message = self.at {
            text(&mut self.line.error, value);
        }
        Ok(())
    }
}
