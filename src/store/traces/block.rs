//! Spans of one trace as bytes, a few dozen to a block.
//!
//! ```text
//! block  = version  raw length  payload, deflated with DICTIONARY
//! raw    = count  span*
//! span   = head  flags  id(8)  parent(8)?  start  duration?  name  tokens(5)?  cost(8)?
//!          count (field text)*  count trace(16)*  count (key value)*
//! start  = nanoseconds after the span before
//! key    = place in KEYS, from 1, or 0 and a text
//! value  = 0 text | 1 integer | 2 float(8) | 3 | 4            3 and 4 are false and true
//! text   = length  bytes
//! ```
//!
//! Numbers are variable-length; signed ones zigzag. The trace is the block's key and not part of it. Blocks of one trace can
//! be joined by decoding and encoding them again. A block that is damaged is an error, never a panic, and costs only itself.

use std::borrow::Cow;
use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use rustc_hash::FxHashMap;

use crate::model::varint::{ByteReader, put, put_signed, put_text};
use crate::model::{RunSource, Span, SpanField, SpanId, SpanKind, SpanStatus, SpanValue, TokenType, TraceId};

/// Bits of a block's key that number it in its trace.
pub(super) const BLOCK_BITS: u32 = 20;

/// The layout that is written. Older ones stay readable.
const VERSION: u8 = 1;

/// What a block may have at most when it is inflated: nothing larger is ever written.
pub(super) const MAX_RAW: usize = 4 << 20;

/// Speed matters more than the last byte: with the dictionary level 1 leaves a tenth more than level 6, at a third of the
/// time.
const LEVEL: u32 = 1;

/// Keys of attributes by their number. Append only: the place is stored.
const KEYS: [&str; 56] = [
    "gen_ai.operation.name",
    "gen_ai.system",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.id",
    "gen_ai.response.finish_reasons",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.max_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.total_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.agent.name",
    "gen_ai.agent.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.tool.call.id",
    "gen_ai.conversation.id",
    "gen_ai.workflow.name",
    "openinference.span.kind",
    "llm.model_name",
    "llm.provider",
    "llm.token_count.prompt",
    "llm.token_count.completion",
    "llm.token_count.total",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "server.address",
    "server.port",
    "url.full",
    "session.id",
    "agent_id",
    "parent_agent_id",
    "query_source",
    "duration_ms",
    "ttft_ms",
    "attempt",
    "success",
    "tool_name",
    "decision",
    "source",
    "speed",
    "code.namespace",
    "code.filepath",
    "code.lineno",
    "thread.id",
    "thread.name",
    "target",
    "busy_ns",
    "idle_ns",
    "litellm.call_id",
];

/// Places in [`KEYS`], from 1.
static KEY_PLACES: LazyLock<FxHashMap<&str, u64>> = LazyLock::new(|| KEYS.into_iter().zip(1..).collect());

/// What texts are likely to repeat, the likeliest last, where references to it are shortest. Never change it: blocks can't
/// be read without the one that they were written with.
const DICTIONARY: &[u8] = b"embeddings text_completion generate_content create_agent invoke_workflow retrieval \
rerank guardrail evaluator completion responses anthropic_messages http/1.1 POST GET INTERNAL SERVER CLIENT \
application/json https://api.openai.com/v1/chat/completions https://api.anthropic.com/v1/messages \
generativelanguage.googleapis.com google gemini-2.5-flash gemini-2.5-pro mistral bedrock vertex_ai azure ollama \
rate_limit_exceeded RateLimitError overloaded_error TimeoutError invalid_request_error tool_use end_turn max_tokens \
content_filter tool_calls function read_file write_file list_directory run_shell_command web_search fetch Bash Read Edit \
Write Grep Glob Task WebFetch TodoWrite exec_command apply_patch update_plan gpt-4o-mini gpt-4o gpt-5-codex gpt-5 \
claude-haiku-4-5 claude-opus-4-5 claude-sonnet-4-5 claude-sonnet-4-6 anthropic openai msg_01 toolu_01 req_011 chatcmpl- \
resp_0 call_ session default shop claude_code.tool.execution claude_code.tool.blocked_on_user claude_code.interaction \
claude_code.llm_request claude_code.tool execute_tool invoke_agent chat stop";

/// Why a block can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockError {
    /// Written by a newer program.
    #[error("it has layout {0}; this program reads up to {VERSION}")]
    Version(u8),
    /// It does not inflate to what it says, or ends within a span.
    #[error("it is damaged")]
    Damaged,
}

/// Encodes spans into blocks. Reused, as the compressor's tables are large.
pub(super) struct BlockWriter {
    compress: Compress,
    raw: Vec<u8>,
    spans: u64,
    last_start: u64,
}

impl std::fmt::Debug for BlockWriter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("BlockWriter").field("spans", &self.spans).finish_non_exhaustive()
    }
}

impl BlockWriter {
    pub(super) fn new() -> Self {
        let compress = Compress::new(Compression::new(LEVEL), false);
        Self { compress, raw: Vec::new(), spans: 0, last_start: 0 }
    }

    /// Bytes of the spans so far, before they are deflated.
    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Adds a span to the block that is being written.
    pub(super) fn push(&mut self, span: &Span<'_>) {
        let raw = &mut self.raw;
        let head = span.kind as u8
            | (span.status as u8) << 3
            | u8::from(span.parent.is_some()) << 5
            | u8::from(span.duration.is_some()) << 6
            | u8::from(span.tokens.is_some()) << 7;
        raw.push(head);
        raw.push(u8::from(span.cost_usd.is_some()) | u8::from(span.begins_run) << 1 | (span.source as u8) << 2);
        raw.extend_from_slice(span.id.as_bytes());
        if let Some(parent) = &span.parent {
            raw.extend_from_slice(parent.as_bytes());
        }
        put_signed(raw, span.started_at.wrapping_sub(self.last_start).cast_signed());
        self.last_start = span.started_at;
        if let Some(duration) = span.duration {
            put(raw, duration);
        }
        put_text(raw, &span.name);
        for count in span.tokens.iter().flatten() {
            put(raw, *count);
        }
        if let Some(cost) = span.cost_usd {
            raw.extend_from_slice(&cost.to_le_bytes());
        }
        put(raw, span.fields.len() as u64);
        for (field, value) in &span.fields {
            raw.push(*field as u8);
            put_text(raw, value);
        }
        put(raw, span.links.len() as u64);
        for trace in &span.links {
            raw.extend_from_slice(trace.as_bytes());
        }
        put(raw, span.attributes.len() as u64);
        for (key, value) in &span.attributes {
            put_attribute(raw, key, value);
        }
        self.spans += 1;
    }

    /// The block of all spans since the last one.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let mut counted = Vec::with_capacity(self.raw.len() + 9);
        put(&mut counted, self.spans);
        counted.extend_from_slice(&self.raw);
        let mut block = vec![VERSION];
        put(&mut block, counted.len() as u64);
        self.deflate(&counted, &mut block);
        self.raw.clear();
        (self.spans, self.last_start) = (0, 0);
        block
    }

    fn deflate(&mut self, raw: &[u8], block: &mut Vec<u8>) {
        self.compress.reset();
        // It only fails once a stream has begun.
        self.compress.set_dictionary(DICTIONARY).ok();
        let mut read = 0;
        loop {
            block.reserve(raw.len() / 2 + 64);
            let before = self.compress.total_in();
            let status = self.compress.compress_vec(&raw[read..], block, FlushCompress::Finish);
            read += usize::try_from(self.compress.total_in() - before).unwrap_or(0);
            match status {
                Ok(Status::StreamEnd) | Err(_) => return,
                Ok(Status::Ok | Status::BufError) => {}
            }
        }
    }
}

fn put_attribute(out: &mut Vec<u8>, key: &str, value: &SpanValue<'_>) {
    match KEY_PLACES.get(key) {
        Some(place) => put(out, *place),
        None => {
            out.push(0);
            put_text(out, key);
        }
    }
    match value {
        SpanValue::Text(text) => {
            out.push(0);
            put_text(out, text);
        }
        SpanValue::Int(number) => {
            out.push(1);
            put_signed(out, *number);
        }
        SpanValue::Float(number) => {
            out.push(2);
            out.extend_from_slice(&number.to_le_bytes());
        }
        SpanValue::Bool(flag) => out.push(3 + u8::from(*flag)),
    }
}

/// The spans of a block of `trace`.
pub(super) fn decode(trace: TraceId, block: &[u8]) -> Result<Vec<Span<'static>>, BlockError> {
    let raw = inflate(block)?;
    let mut reader = ByteReader { rest: &raw };
    let count = reader.count().ok_or(BlockError::Damaged)?;
    let mut spans = Vec::with_capacity(count.min(1_024));
    let mut last_start = 0;
    for _ in 0..count {
        let span = reader.span(trace, last_start).ok_or(BlockError::Damaged)?;
        last_start = span.started_at;
        spans.push(span);
    }
    if reader.rest.is_empty() { Ok(spans) } else { Err(BlockError::Damaged) }
}

fn inflate(block: &[u8]) -> Result<Vec<u8>, BlockError> {
    let (version, rest) = block.split_first().ok_or(BlockError::Damaged)?;
    if *version != VERSION {
        return Err(BlockError::Version(*version));
    }
    let mut reader = ByteReader { rest };
    let length = reader.number().and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length <= MAX_RAW + 9).ok_or(BlockError::Damaged)?;
    let mut decompress = Decompress::new(false);
    decompress.set_dictionary(DICTIONARY).map_err(|_| BlockError::Damaged)?;
    // A byte more than is expected, so that a stream that goes on is noticed.
    let mut raw = Vec::with_capacity(length + 1);
    match decompress.decompress_vec(reader.rest, &mut raw, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if raw.len() == length => Ok(raw),
        _ => Err(BlockError::Damaged),
    }
}

/// Reads what [`BlockWriter`] wrote; `None` where that ends too early or means nothing.
trait ReadSpan {
    fn owned_text(&mut self) -> Option<Cow<'static, str>>;
    fn span(&mut self, trace: TraceId, last_start: u64) -> Option<Span<'static>>;
    fn attribute(&mut self) -> Option<(Cow<'static, str>, SpanValue<'static>)>;
}

impl ReadSpan for ByteReader<'_> {
    fn owned_text(&mut self) -> Option<Cow<'static, str>> {
        self.text().map(|text| Cow::Owned(text.to_owned()))
    }

    fn span(&mut self, trace: TraceId, last_start: u64) -> Option<Span<'static>> {
        let (head, more) = (self.byte()?, self.byte()?);
        let id = SpanId::from_slice(self.bytes(8)?)?;
        let parent = if head & 1 << 5 == 0 { None } else { Some(SpanId::from_slice(self.bytes(8)?)?) };
        let started_at = last_start.wrapping_add(self.signed()?.cast_unsigned());
        let duration = if head & 1 << 6 == 0 { None } else { Some(self.number()?) };
        let mut span = Span::new(trace, id, self.owned_text()?, started_at);
        (span.parent, span.duration) = (parent, duration);
        span.kind = *SpanKind::ALL.get(usize::from(head & 7))?;
        span.status = *SpanStatus::ALL.get(usize::from(head >> 3 & 3))?;
        if head & 1 << 7 != 0 {
            let mut tokens = [0; TokenType::ALL.len()];
            for count in &mut tokens {
                *count = self.number()?;
            }
            span.tokens = Some(tokens);
        }
        span.begins_run = more & 1 << 1 != 0;
        span.source = *RunSource::ALL.get(usize::from(more >> 2))?;
        if more & 1 != 0 {
            span.cost_usd = Some(self.float()?);
        }
        for _ in 0..self.count()? {
            let field = *SpanField::ALL.get(usize::from(self.byte()?))?;
            span.fields.push((field, self.owned_text()?));
        }
        for _ in 0..self.count()? {
            span.links.push(TraceId::from_slice(self.bytes(16)?)?);
        }
        for _ in 0..self.count()? {
            span.attributes.push(self.attribute()?);
        }
        Some(span)
    }

    fn attribute(&mut self) -> Option<(Cow<'static, str>, SpanValue<'static>)> {
        let key = match usize::try_from(self.number()?).ok()? {
            0 => self.owned_text()?,
            place => Cow::Borrowed(*KEYS.get(place - 1)?),
        };
        let value = match self.byte()? {
            0 => SpanValue::Text(self.owned_text()?),
            1 => SpanValue::Int(self.signed()?),
            2 => SpanValue::Float(self.float()?),
            3 => SpanValue::Bool(false),
            4 => SpanValue::Bool(true),
            _ => return None,
        };
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace() -> TraceId {
        TraceId::from_slice(&[7; 16]).expect("an id")
    }

    fn text() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof![
            proptest::sample::select(KEYS.to_vec()).prop_map(Cow::Borrowed),
            "\\PC{0,40}".prop_map(Cow::<'static, str>::Owned),
        ]
    }

    fn value() -> impl Strategy<Value = SpanValue<'static>> {
        prop_oneof![
            text().prop_map(SpanValue::Text),
            any::<i64>().prop_map(SpanValue::Int),
            (-1e300..1e300).prop_map(SpanValue::Float),
            any::<bool>().prop_map(SpanValue::Bool),
        ]
    }

    prop_compose! {
        fn span()(
            ids in (1..=u64::MAX, proptest::option::of(1..=u64::MAX)),
            (kind, status) in (proptest::sample::select(SpanKind::ALL.to_vec()), proptest::sample::select(SpanStatus::ALL.to_vec())),
            name in text(),
            (started_at, duration) in (any::<u64>(), any::<Option<u64>>()),
            fields in proptest::collection::vec((proptest::sample::select(SpanField::ALL.to_vec()), text()), 0..4),
            tokens in any::<Option<[u64; 5]>>(),
            cost_usd in proptest::option::of(0.0..1e6),
            (source, begins_run) in (proptest::sample::select(RunSource::ALL.to_vec()), any::<bool>()),
            links in proptest::collection::vec(1..=u128::MAX, 0..3),
            attributes in proptest::collection::vec((text(), value()), 0..12),
        ) -> Span<'static> {
            let id = |number: u64| SpanId::from_slice(&number.to_be_bytes()).expect("an id");
            let links = links.iter().map(|link| TraceId::from_slice(&link.to_be_bytes()).expect("an id")).collect();
            let parent = ids.1.map(id);
            let fresh = Span::new(trace(), id(ids.0), name, started_at);
            Span { parent, kind, status, source, begins_run, duration, fields, tokens, cost_usd, links, attributes, ..fresh }
        }
    }

    proptest! {
        #[test]
        fn spans_come_back_as_they_were(blocks in proptest::collection::vec(proptest::collection::vec(span(), 0..30), 1..4)) {
            let mut writer = BlockWriter::new();
            for spans in blocks {
                spans.iter().for_each(|span| writer.push(span));
                let block = writer.finish();
                prop_assert_eq!(decode(trace(), &block), Ok(spans));
            }
        }

        #[test]
        fn a_damaged_block_is_an_error_or_other_spans_and_never_a_panic(
            spans in proptest::collection::vec(span(), 1..10),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut writer = BlockWriter::new();
            spans.iter().for_each(|span| writer.push(span));
            let block = writer.finish();
            prop_assert!(decode(trace(), &block[..cut.index(block.len())]).is_err());
            let mut damaged = block;
            for (place, byte) in damage {
                let place = place.index(damaged.len());
                damaged[place] = byte;
            }
            decode(trace(), &damaged).ok();
        }
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused_before_it_is_inflated() {
        let mut claim = vec![VERSION];
        put(&mut claim, u64::MAX);
        assert_eq!(decode(trace(), &claim), Err(BlockError::Damaged));
        assert_eq!(decode(trace(), &[]), Err(BlockError::Damaged));
        assert_eq!(decode(trace(), &[VERSION + 1, 0]), Err(BlockError::Version(VERSION + 1)));
    }

    #[test]
    fn known_keys_are_distinct() {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), KEYS.len());
    }
}
