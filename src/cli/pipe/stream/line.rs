//! One JSON line of any tool, parsed in one pass: known fields are kept, others are skipped without being stored.
//!
//! Values of unexpected types are skipped as well; only a line that is not JSON is an error.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use super::meter::Tokens;
use crate::decode::read::{JsonVisitor, KeySeed, Scalar, VisitorSeed};

/// The fields of a line; absent ones are empty.
#[derive(Debug, Default)]
pub(super) struct StreamLine<'a> {
    /// Its `type`.
    pub(super) kind: Cow<'a, str>,
    pub(super) subtype: Cow<'a, str>,
    /// The session or thread.
    pub(super) session: Cow<'a, str>,
    /// The tool call that a subagent's line belongs to.
    pub(super) parent: Cow<'a, str>,
    /// The status that Claude Code reports.
    pub(super) status: Cow<'a, str>,
    /// The word or text of an error.
    pub(super) error: Cow<'a, str>,
    /// Whether the run ended with an error, if that is given.
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
    /// The tool that is called, or that needs permission.
    pub(super) tool: Cow<'a, str>,
    /// The server that offers the tool.
    pub(super) server: Cow<'a, str>,
    /// The `type` of an event inside, or of an item.
    pub(super) inner: Cow<'a, str>,
    /// The kind of a request from the agent.
    pub(super) request: Cow<'a, str>,
    pub(super) usage: Option<LineUsage>,
    /// The usage of all models together.
    pub(super) model_usage: Option<LineUsage>,
    /// The status of a rate limit.
    pub(super) limit_status: Cow<'a, str>,
    /// When it ends, in Unix seconds.
    pub(super) resets_at: Option<f64>,
    /// Claude Code's name of an account's limit.
    pub(super) limit_error: Cow<'a, str>,
    /// Why Claude Code ended a run.
    pub(super) terminal_reason: Cow<'a, str>,
    /// The final text of a run: an answer or an error.
    pub(super) result: Cow<'a, str>,
    /// How long the turn took, in milliseconds.
    pub(super) duration_ms: Option<f64>,
    /// Calls of tools in a message, and their results.
    pub(super) blocks: Vec<ToolBlock<'a>>,
    /// The id of the tool's call, or of the item that is one.
    pub(super) call_id: Cow<'a, str>,
    /// How the tool's call ended.
    pub(super) call_status: Cow<'a, str>,
    /// Whether it has Gemini CLI's `response`.
    pub(super) has_response: bool,
    /// Whether its error has a code, as Gemini CLI's has.
    pub(super) has_error_code: bool,
}

/// A part of a message: a call of a tool, or its result.
#[derive(Debug, Default)]
pub(super) struct ToolBlock<'a> {
    /// Its `type`.
    pub(super) kind: Cow<'a, str>,
    /// The id of the call.
    pub(super) id: Cow<'a, str>,
    /// The tool that is called.
    pub(super) name: Cow<'a, str>,
    /// Whether the result is an error.
    pub(super) is_error: Option<bool>,
}

/// Token counts by the names of all providers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineUsage {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_creation: u64,
    cached_of_input: u64,
    written_of_input: u64,
    reasoning_of_output: u64,
}

impl LineUsage {
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

impl<'a> StreamLine<'a> {
    /// Parses `text`; `None` if it is not a JSON object.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut line = Self::default();
        let mut input = serde_json::Deserializer::from_str(text);
        VisitorSeed(&mut LineVisitor { at: LinePlace::Line, line: &mut line }).deserialize(&mut input).ok()?;
        input.end().ok()?;
        Some(line)
    }
}

impl<'a> StreamLine<'a> {
    /// Changes the part of the message that is being read.
    fn block(&mut self, change: impl FnOnce(&mut ToolBlock<'a>)) {
        if let Some(block) = self.blocks.last_mut() {
            change(block);
        }
    }
}

/// The place of a value in the line.
#[derive(Clone, Copy)]
enum LinePlace {
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

/// What to do with the value of a key.
enum FieldAction {
    /// Parse its fields.
    Into(LinePlace),
    /// Keep it.
    Keep(for<'a> fn(&mut StreamLine<'a>, Scalar<'a>)),
    Skip,
}

fn step(at: LinePlace, key: &str) -> FieldAction {
    use FieldAction::{Into, Keep, Skip};
    match (at, key) {
        (LinePlace::Line, "type") => Keep(|line, value| text(&mut line.kind, value)),
        (LinePlace::Line, "subtype") => Keep(|line, value| text(&mut line.subtype, value)),
        (LinePlace::Line, "session_id" | "thread_id") => Keep(|line, value| text(&mut line.session, value)),
        (LinePlace::Line, "parent_tool_use_id") => Keep(|line, value| text(&mut line.parent, value)),
        (LinePlace::Line, "status") => Keep(|line, value| text(&mut line.status, value)),
        (LinePlace::Line, "is_error") => Keep(|line, value| line.is_error = flag(&value)),
        (LinePlace::Line, "error_status" | "api_error_status") => Keep(|line, value| line.error_status = count(&value)),
        (LinePlace::Line, "api_error") => Keep(|line, value| text(&mut line.limit_error, value)),
        (LinePlace::Line, "terminal_reason") => Keep(|line, value| text(&mut line.terminal_reason, value)),
        (LinePlace::Line, "result") => Keep(|line, value| text(&mut line.result, value)),
        (LinePlace::Line, "response") => Keep(|line, _| line.has_response = true),
        (LinePlace::Line, "tool_name") => Keep(|line, value| text(&mut line.tool, value)),
        (LinePlace::Line, "duration_ms") => Keep(|line, value| line.duration_ms = amount(&value)),
        (LinePlace::Line, "tool_id") | (LinePlace::Item, "id") => Keep(|line, value| text(&mut line.call_id, value)),
        (LinePlace::Item, "status") => Keep(|line, value| text(&mut line.call_status, value)),
        (LinePlace::Line, "attempt") => Keep(|line, value| line.attempt = count(&value)),
        (LinePlace::Line, "max_retries") => Keep(|line, value| line.max_retries = count(&value)),
        (LinePlace::Line, "retry_delay_ms") => Keep(|line, value| line.retry_delay_ms = amount(&value)),
        (LinePlace::Line, "result_index") => Keep(|line, value| line.result_index = count(&value)),
        (LinePlace::Line, "total_cost_usd") => Keep(|line, value| line.cost_usd = amount(&value)),
        (LinePlace::Line | LinePlace::Message, "model") => Keep(|line, value| text(&mut line.model, value)),
        (LinePlace::Line | LinePlace::Event, "message") => Into(LinePlace::Message),
        (LinePlace::Line | LinePlace::Message | LinePlace::Event, "usage") => Into(LinePlace::Usage),
        (LinePlace::Line, "modelUsage") => Into(LinePlace::Models),
        (LinePlace::Line, "error") => Into(LinePlace::Error),
        (LinePlace::Line, "event") => Into(LinePlace::Event),
        (LinePlace::Line, "request") => Into(LinePlace::Request),
        (LinePlace::Line, "item") => Into(LinePlace::Item),
        (LinePlace::Line, "rate_limit_info") => Into(LinePlace::LimitInfo),
        (LinePlace::Message, "id") => Keep(|line, value| text(&mut line.message_id, value)),
        (LinePlace::Message, "content") => Into(LinePlace::Content),
        (LinePlace::Error, "message") => Keep(|line, value| text(&mut line.error, value)),
        (LinePlace::Error, "code") => Keep(|line, value| line.has_error_code = value != Scalar::Null),
        (LinePlace::Block, "name") => Keep(|line, value| {
            text(&mut line.tool, value);
            let name = line.tool.clone();
            line.block(|block| block.name = name);
        }),
        (LinePlace::Block, "type") => Keep(|line, value| line.block(|block| text(&mut block.kind, value))),
        (LinePlace::Block, "id" | "tool_use_id") => Keep(|line, value| line.block(|block| text(&mut block.id, value))),
        (LinePlace::Block, "is_error") => Keep(|line, value| line.block(|block| block.is_error = flag(&value))),
        (LinePlace::Event | LinePlace::Item, "type") => Keep(|line, value| text(&mut line.inner, value)),
        (LinePlace::Request, "subtype") => Keep(|line, value| text(&mut line.request, value)),
        (LinePlace::Request, "tool_name") | (LinePlace::Item, "tool") => {
            Keep(|line, value| text(&mut line.tool, value))
        }
        (LinePlace::Item, "server") => Keep(|line, value| text(&mut line.server, value)),
        (LinePlace::LimitInfo, "status") => Keep(|line, value| text(&mut line.limit_status, value)),
        (LinePlace::LimitInfo, "resetsAt") => Keep(|line, value| line.resets_at = amount(&value)),
        (LinePlace::Models, _) => Into(LinePlace::ModelUsage),
        _ => Skip,
    }
}

fn text<'a>(to: &mut Cow<'a, str>, value: Scalar<'a>) {
    if let Scalar::Text(text) = value {
        *to = text;
    }
}

/// A boolean, also as a string.
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

struct LineVisitor<'x, 'a> {
    at: LinePlace,
    line: &'x mut StreamLine<'a>,
}

impl<'de> JsonVisitor<'de> for LineVisitor<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        match self.at {
            LinePlace::Usage | LinePlace::ModelUsage => {
                let all =
                    if let LinePlace::Usage = self.at { &mut self.line.usage } else { &mut self.line.model_usage };
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
                while let Some(step) = map.next_key_seed(KeySeed(|key: &str| step(at, key)))? {
                    match step {
                        FieldAction::Into(at) => {
                            map.next_value_seed(VisitorSeed(&mut LineVisitor { at, line: self.line }))?
                        }
                        FieldAction::Keep(set) => set(self.line, map.next_value()?),
                        FieldAction::Skip => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
            }
        }
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        if let LinePlace::Content = self.at {
            loop {
                self.line.blocks.push(ToolBlock::default());
                let seed = VisitorSeed(&mut LineVisitor { at: LinePlace::Block, line: self.line });
                let has_more = list.next_element_seed(seed)?.is_some();
                if !self.line.blocks.last().is_some_and(|block| block.kind.starts_with("tool_")) {
                    self.line.blocks.pop();
                }
                if !has_more {
                    break;
                }
            }
        } else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        // Codex's `message` and Claude Code's `error` are strings where the other tool has objects.
        if let LinePlace::Error | LinePlace::Message = self.at {
            text(&mut self.line.error, value);
        }
        Ok(())
    }
}
