//! Copies updates out of the text that they borrow from, so that a body can be decoded where it arrives and sent on.

use std::borrow::Cow;

use bytes::Bytes;

use super::{CustomBatch, PushDecodeError, UsageBatch, decode_metrics, decode_state, decode_usage};
use crate::decode::lenient::LenientBody;
use crate::model::update::{Ordinal, RateLimitUpdate};
use crate::model::{AgentUpdate, Batch, ComponentUpdate, Patch, Time, UsageUpdate};

/// A pushed body and the update that it was decoded into.
#[derive(Debug)]
pub struct DecodedPush<T> {
    /// The update.
    pub update: T,
    /// The body as valid JSON: rewritten where a strict parser would reject it.
    pub body: Bytes,
}

/// Decodes the body of `POST /api/state`; `now` is that of the wall clock.
pub fn decode_pushed_state(body: Bytes, now: Time) -> Result<DecodedPush<Batch<'static>>, PushDecodeError> {
    let json = LenientBody::new(&body);
    let update = json.read(|text| decode_state(text, now).map(batch))?;
    let rewritten = rewritten(&json);
    Ok(DecodedPush { update, body: rewritten.unwrap_or(body) })
}

/// Decodes the body of `POST /api/usage`.
pub fn decode_pushed_usage(body: Bytes) -> Result<DecodedPush<UsageBatch<'static>>, PushDecodeError> {
    let json = LenientBody::new(&body);
    let update = json.read(|text| decode_usage(text).map(usage))?;
    let rewritten = rewritten(&json);
    Ok(DecodedPush { update, body: rewritten.unwrap_or(body) })
}

/// Decodes the body of `POST /api/metrics`.
pub fn decode_pushed_metrics(body: Bytes) -> Result<DecodedPush<CustomBatch>, PushDecodeError> {
    let json = LenientBody::new(&body);
    let update = json.read(decode_metrics)?;
    let rewritten = rewritten(&json);
    Ok(DecodedPush { update, body: rewritten.unwrap_or(body) })
}

fn rewritten(json: &LenientBody<'_>) -> Option<Bytes> {
    if json.is_strict() { None } else { json.rewritten().map(|text| Bytes::copy_from_slice(text.as_bytes())) }
}

fn text(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn patch(patch: Patch<Cow<'_, str>>) -> Patch<Cow<'static, str>> {
    match patch {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(value) => Patch::Set(text(value)),
    }
}

/// `update` with all its text copied.
pub(super) fn agent(update: AgentUpdate<'_>) -> AgentUpdate<'static> {
    AgentUpdate {
        name: text(update.name),
        index: update.index,
        agent_type: update.agent_type.map(text),
        status: update.status,
        running: update.running,
        ended: update.ended,
        reason: patch(update.reason),
        task_id: patch(update.task_id),
        task_started_at: update.task_started_at,
        phase: patch(update.phase),
        progress: update.progress,
        context_window_ratio: update.context_window_ratio,
        restart_count: update.restart_count,
        last_activity: update.last_activity,
        is_last_activity_unreadable: update.is_last_activity_unreadable,
        estimated_completion: update.estimated_completion,
        model: update.model.map(text),
        tokens: update.tokens,
        cost_usd: update.cost_usd,
        requests: update.requests,
        request_errors: update.request_errors,
        rate_limit_hits: update.rate_limit_hits,
        retries: update.retries,
        reviews_passed: update.reviews_passed,
        reviews_failed: update.reviews_failed,
        rate_limits: update.rate_limits.map(|limits| limits.into_iter().map(rate_limit).collect()),
        rate_limit_hit: update.rate_limit_hit,
    }
}

fn rate_limit(limit: RateLimitUpdate<'_>) -> RateLimitUpdate<'static> {
    RateLimitUpdate {
        provider: text(limit.provider),
        limit_type: text(limit.limit_type),
        limit: limit.limit,
        remaining: limit.remaining,
        reset_at: limit.reset_at,
    }
}

fn component(update: ComponentUpdate<'_>) -> ComponentUpdate<'static> {
    ComponentUpdate {
        name: text(update.name),
        index: update.index,
        status: update.status,
        details: update.details.map(text),
        metrics: update.metrics.into_iter().map(|(name, value)| (text(name), value)).collect(),
        custom: update.custom,
    }
}

/// `batch` with all its text copied.
pub(super) fn batch(batch: Batch<'_>) -> Batch<'static> {
    Batch {
        project: text(batch.project),
        complete: batch.complete,
        ttl: batch.ttl,
        ordinal: batch.ordinal.map(|ordinal| Ordinal { run: text(ordinal.run), number: ordinal.number }),
        agents: batch.agents.into_iter().map(agent).collect(),
        components: batch.components.into_iter().map(component).collect(),
        rejected: batch.rejected,
    }
}

fn usage(batch: UsageBatch<'_>) -> UsageBatch<'static> {
    let one = |update: UsageUpdate<'_>| UsageUpdate {
        index: update.index,
        agent: update.agent.map(text),
        task_id: update.task_id.map(text),
        model: update.model.map(text),
        tokens: update.tokens,
        cost_usd: update.cost_usd,
        id: update.id.map(text),
    };
    UsageBatch {
        project: text(batch.project),
        usage: batch.usage.into_iter().map(one).collect(),
        rejected: batch.rejected,
    }
}
