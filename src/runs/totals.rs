//! What a run adds up to, from what each of its traces adds.

use std::sync::Arc;

use super::trace::{CallEvent, Share, time_of};
use crate::model::run::{add_cost, add_tokens, cost_dollars};
use crate::model::{Run, RunGroups, RunSource, RunStatus, RunTotals};

/// Sets the totals of a run.
pub(super) fn add_up(run: &mut Run, shares: &[&Share]) {
    let mut groups = RunGroups::default();
    let mut totals = RunTotals::default();
    let mut waited_ns = [0_u64; RunSource::ALL.len()];
    for share in shares {
        groups.merge(&share.groups);
        totals.spans += share.spans;
        for (sum, waited) in waited_ns.iter_mut().zip(share.waited_ns) {
            *sum = sum.saturating_add(waited);
        }
        if let Some((_, last)) = share.bounds {
            run.last_at = run.last_at.max(time_of(last));
        }
        if let Some(first) = &share.first {
            for (known, own) in
                [(&mut run.session, &first.session), (&mut run.task, &first.task), (&mut run.platform, &first.platform)]
            {
                if known.is_none() {
                    known.clone_from(own);
                }
            }
        }
    }
    totals.waited_ms = waited_ns.iter().max().copied().unwrap_or(0) / 1_000_000;
    let mut cost = None;
    for group in groups.counted_calls() {
        totals.calls += group.calls;
        totals.failed_calls += group.errors;
        totals.tokens = add_tokens(totals.tokens, group.tokens);
        cost = add_cost(cost, group.cost_nanos);
    }
    totals.tools = groups.counted_tools().map(|group| group.uses).sum();
    totals.tokens = totals.tokens.or(run.reported_tokens);
    totals.cost_usd = cost.map(cost_dollars).or(run.reported_cost);
    let counted = groups.counted_calls().next().map(|group| group.source);
    let mut calls: Vec<_> =
        shares.iter().flat_map(|share| &share.calls).filter(|call| Some(call.source) == counted).collect();
    calls.sort_by_key(|call| call.started_at);
    let fell_back = |pair: &&[&CallEvent]| {
        pair[0].is_error && (&pair[0].model, &pair[0].provider) != (&pair[1].model, &pair[1].provider)
    };
    totals.fallbacks = calls.windows(2).filter(fell_back).count() as u64;
    if let Some(last) = calls.last() {
        run.model.clone_from(&last.model);
        run.provider.clone_from(&last.provider);
    }
    (run.totals, run.groups) = (totals, groups);
}

/// Sets what a root would give, of an inferred run.
pub(super) fn infer_from_calls(run: &mut Run, shares: &[&Share], is_over: bool) {
    if let Some(first) = shares.iter().filter_map(|share| share.first.as_ref()).min_by_key(|first| first.started_at) {
        run.name = Arc::clone(&first.name);
        run.started_at = time_of(first.started_at);
    }
    let agents = shares.iter().filter_map(|share| share.first.as_ref()?.agent.as_ref());
    if let Some(agent) = agents.max_by_key(|agent| agent.is_named) {
        run.project = Arc::clone(&agent.project);
        run.agent = Arc::clone(&agent.agent);
        run.agent_type = Arc::clone(&agent.agent_type);
    }
    let last = shares.iter().flat_map(|share| &share.calls).max_by_key(|call| call.started_at);
    run.status = match last {
        _ if !is_over => RunStatus::Running,
        Some(call) if call.is_error => RunStatus::Error,
        _ => RunStatus::Ok,
    };
    run.ended_at = is_over.then_some(run.last_at);
    run.error = last.filter(|call| call.is_error && is_over).and_then(|call| call.error.clone());
}
