//! The part of a run's row that no query filters by: its parts, totals and groups, as bytes.
//!
//! ```text
//! detail = version  count part*  tokens?  tokens?  cost?  spans waited_ms fallbacks  count call*  count tool*  count fact*
//! part   = trace(16)  0 | 1 root(8)
//! call   = source  hour  model  provider  calls  errors  tokens?  cost?  sketch
//! tool   = source  hour  tool  uses  errors  sketch
//! fact   = number  value     absent as a whole in older rows
//! x?     = 0 | 1 x          the first tokens are those of the run, then follow what its end reported
//! ```

use std::sync::Arc;

use crate::model::varint::{ByteReader, put, put_bytes, put_signed, put_text};
use crate::model::{
    CallGroup, Run, RunGroups, RunPart, RunSource, Sketch, SpanId, TokenCounts, TokenType, ToolGroup, TraceId,
};

/// The layout that is written.
const VERSION: u8 = 1;

/// The bytes of a run's detail.
pub(super) fn encode(run: &Run) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, run.parts.len() as u64);
    for part in &run.parts {
        out.extend_from_slice(part.trace.as_bytes());
        out.push(u8::from(part.root.is_some()));
        out.extend(part.root.iter().flat_map(|root| root.as_bytes()));
    }
    put_tokens(&mut out, run.totals.tokens);
    put_tokens(&mut out, run.reported_tokens);
    out.push(u8::from(run.reported_cost.is_some()));
    out.extend(run.reported_cost.iter().flat_map(|cost| cost.to_le_bytes()));
    for number in [run.totals.spans, run.totals.waited_ms, run.totals.fallbacks] {
        put(&mut out, number);
    }
    put(&mut out, run.groups.calls.len() as u64);
    for group in &run.groups.calls {
        out.push(group.source as u8);
        put(&mut out, u64::from(group.hour));
        put_text(&mut out, &group.model);
        put_text(&mut out, &group.provider);
        put(&mut out, group.calls);
        put(&mut out, group.errors);
        put_tokens(&mut out, group.tokens);
        out.push(u8::from(group.cost_nanos.is_some()));
        if let Some(cost) = group.cost_nanos {
            put_signed(&mut out, cost);
        }
        put_bytes(&mut out, &group.durations.encode());
    }
    put(&mut out, run.groups.tools.len() as u64);
    for group in &run.groups.tools {
        out.push(group.source as u8);
        put(&mut out, u64::from(group.hour));
        put_text(&mut out, &group.tool);
        put(&mut out, group.uses);
        put(&mut out, group.errors);
        put_bytes(&mut out, &group.durations.encode());
    }
    put(&mut out, run.facts.iter().count() as u64);
    for (fact, value) in run.facts.iter() {
        put(&mut out, fact as u64);
        put_signed(&mut out, value);
    }
    out
}

fn put_tokens(out: &mut Vec<u8>, tokens: Option<TokenCounts>) {
    out.push(u8::from(tokens.is_some()));
    for count in tokens.iter().flatten() {
        put(out, *count);
    }
}

/// Fills in what [`encode`] wrote; `None` when it is damaged.
pub(super) fn decode(run: &mut Run, bytes: &[u8]) -> Option<()> {
    let mut reader = ByteReader { rest: bytes };
    if reader.byte()? != VERSION {
        return None;
    }
    for _ in 0..reader.count()? {
        let trace = TraceId::from_slice(reader.bytes(16)?)?;
        let root = if reader.byte()? == 0 { None } else { Some(SpanId::from_slice(reader.bytes(8)?)?) };
        run.parts.push(RunPart { trace, root });
    }
    run.totals.tokens = tokens(&mut reader)?;
    run.reported_tokens = tokens(&mut reader)?;
    run.reported_cost = if reader.byte()? == 0 { None } else { Some(reader.float()?) };
    run.totals.spans = reader.number()?;
    run.totals.waited_ms = reader.number()?;
    run.totals.fallbacks = reader.number()?;
    let mut groups = RunGroups::default();
    for _ in 0..reader.count()? {
        groups.calls.push(CallGroup {
            source: source(&mut reader)?,
            hour: u32::try_from(reader.number()?).ok()?,
            model: Arc::from(reader.text()?),
            provider: Arc::from(reader.text()?),
            calls: reader.number()?,
            errors: reader.number()?,
            tokens: tokens(&mut reader)?,
            cost_nanos: if reader.byte()? == 0 { None } else { Some(reader.signed()?) },
            durations: Sketch::decode(reader.sized_bytes()?),
        });
    }
    for _ in 0..reader.count()? {
        groups.tools.push(ToolGroup {
            source: source(&mut reader)?,
            hour: u32::try_from(reader.number()?).ok()?,
            tool: Arc::from(reader.text()?),
            uses: reader.number()?,
            errors: reader.number()?,
            durations: Sketch::decode(reader.sized_bytes()?),
        });
    }
    // Rows of before there were facts end here.
    if !reader.rest.is_empty() {
        for _ in 0..reader.count()? {
            let (fact, value) = (usize::try_from(reader.number()?).ok()?, reader.signed()?);
            run.facts.set(fact, value);
        }
    }
    run.totals.calls = groups.counted_calls().map(|group| group.calls).sum();
    run.totals.failed_calls = groups.counted_calls().map(|group| group.errors).sum();
    run.totals.tools = groups.counted_tools().map(|group| group.uses).sum();
    run.groups = groups;
    Some(())
}

fn source(reader: &mut ByteReader<'_>) -> Option<RunSource> {
    RunSource::ALL.get(usize::from(reader.byte()?)).copied()
}

fn tokens(reader: &mut ByteReader<'_>) -> Option<Option<TokenCounts>> {
    if reader.byte()? == 0 {
        return Some(None);
    }
    let mut counts = [0; TokenType::ALL.len()];
    for count in &mut counts {
        *count = reader.number()?;
    }
    Some(Some(counts))
}
