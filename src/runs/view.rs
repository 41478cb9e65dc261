//! Runs as the API and the command line show them: as JSON, and with their spans as a tree.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use crate::model::run::{add_tokens, cost_dollars};
use crate::model::{
    RegisteredAgent, Run, RunFact, RunSource, Span, SpanId, SpanKind, SpanStatus, StatCell, StatGroup, StatRow, Time,
    TokenCounts, TokenType, TraceId,
};

/// Depth below which spans are shown as siblings, so that a circle of parents ends.
const MAX_DEPTH: usize = 200;

/// Tokens by type, without those that are zero, and their sum.
pub fn tokens(counts: TokenCounts) -> Value {
    let by_type = TokenType::ALL.iter().zip(counts).filter(|(_, count)| *count > 0);
    let mut shown: Map<String, Value> = by_type.map(|(kind, count)| (kind.as_str().to_owned(), json!(count))).collect();
    shown.insert("total".to_owned(), json!(counts.iter().sum::<u64>()));
    Value::Object(shown)
}

/// A run in lists.
pub fn run(run: &Run) -> Value {
    let traces: BTreeSet<TraceId> = run.parts.iter().map(|part| part.trace).collect();
    let totals = &run.totals;
    json!({
        "run_id": run.id,
        "trace_ids": traces,
        "project": run.project,
        "agent_name": run.agent,
        "agent_type": run.agent_type,
        "name": run.name,
        "status": run.status,
        "source": run.source,
        "parent_run_id": run.parent,
        "started_at": run.started_at.to_string(),
        "ended_at": run.ended_at.map(|ended| ended.to_string()),
        "duration_ms": run.ended_at.map(|ended| ended.as_millis() - run.started_at.as_millis()),
        "task_id": run.task,
        "session_id": run.session,
        "platform": run.platform,
        "model": run.model,
        "provider": run.provider,
        "error": run.error,
        "spans": totals.spans,
        "calls": totals.calls,
        "failed_calls": totals.failed_calls,
        "tools": totals.tools,
        "fallbacks": totals.fallbacks,
        "waited_ms": totals.waited_ms,
        "tokens": totals.tokens.map(tokens),
        "cost_usd": totals.cost_usd,
        "spans_kept": !run.is_sampled_out,
    })
}

/// A run with its spans as a tree, those of its child runs included; `None` if `runs` has none that `id` names.
pub fn run_with_spans(id: TraceId, runs: &[Run], spans: &[Span<'_>]) -> Option<Value> {
    let shown = find(id, runs)?;
    let spans = best_reports(shown, spans);
    let spans = &spans[..];
    let children: BTreeSet<TraceId> = descendants(shown.id, runs);
    let mut roots_of_others: BTreeMap<(TraceId, SpanId), TraceId> = BTreeMap::new();
    for other in runs.iter().filter(|run| run.id != shown.id) {
        for part in &other.parts {
            if let Some(root) = part.root {
                roots_of_others.insert((part.trace, root), other.id);
            }
        }
    }
    let all: Vec<&Run> = runs.iter().filter(|run| run.id == shown.id || children.contains(&run.id)).collect();
    let tree = Tree::new(spans, &roots_of_others);
    let mut tops: Vec<usize> = Vec::new();
    for run in &all {
        for part in &run.parts {
            tops.extend(tree.tops(part.trace, part.root, runs));
        }
    }
    tops.sort_by_key(|place| (spans[*place].started_at, *place));
    tops.dedup();
    // A child run's root that hangs beneath a span of its parent is shown there.
    let included: BTreeSet<usize> = tops.iter().flat_map(|top| tree.below(*top)).collect();
    tops.retain(|top| !included.contains(top));
    // What has no parent in the tree is the root's: calls of a proxy in a trace of their own.
    let root = shown.parts.iter().find_map(|part| tree.place(part.trace, part.root?));
    let mut answer = self::run(shown);
    let shown_spans: Vec<Value> = match root.filter(|root| tops.contains(root)) {
        Some(root) => {
            let others: Vec<usize> = tops.into_iter().filter(|top| *top != root).collect();
            vec![tree.show(root, &others, 0)]
        }
        None => tops.into_iter().map(|top| tree.show(top, &[], 0)).collect(),
    };
    let fields = answer.as_object_mut()?;
    fields.insert("tree".to_owned(), Value::Array(shown_spans));
    let child_runs: Vec<Value> = all.iter().filter(|run| run.id != shown.id).map(|child| self::run(child)).collect();
    fields.insert("child_runs".to_owned(), Value::Array(child_runs));
    Some(answer)
}

/// The spans without those that another source reports better: hooks and `lookout pipe` report tools, calls and waits that
/// the agent's own spans may report as well.
fn best_reports<'s>(shown: &Run, spans: &[Span<'s>]) -> Vec<Span<'s>> {
    let has = |source: RunSource, kind: SpanKind| spans.iter().any(|span| span.source == source && span.kind == kind);
    let has_own_tools = has(RunSource::Otlp, SpanKind::Tool);
    let is_repeated = |span: &Span<'_>| match span.source {
        _ if span.begins_run => false,
        RunSource::Hook => has_own_tools || has(RunSource::Pipe, span.kind),
        RunSource::Pipe => has(RunSource::Otlp, span.kind),
        _ => false,
    };
    let mut kept: Vec<Span<'s>> = spans.iter().filter(|span| !is_repeated(span)).cloned().collect();
    // Of a report whose spans are all reported better, the topmost one says nothing.
    let own = shown.parts.iter().find_map(|part| Some((part.trace, part.root?)));
    let has_parts: BTreeSet<(TraceId, SpanId)> =
        kept.iter().filter_map(|span| Some((span.trace, span.parent?))).collect();
    kept.retain(|span| {
        let is_report = span.begins_run && matches!(span.source, RunSource::Hook | RunSource::Pipe);
        !is_report || own == Some((span.trace, span.id)) || has_parts.contains(&(span.trace, span.id))
    });
    kept
}

/// The run with that id, else the one that began first in the trace with that id.
fn find(id: TraceId, runs: &[Run]) -> Option<&Run> {
    let by_trace = || runs.iter().filter(|run| run.parts.iter().any(|part| part.trace == id));
    runs.iter().find(|run| run.id == id).or_else(|| by_trace().min_by_key(|run| (run.parent.is_some(), run.started_at)))
}

fn descendants(id: TraceId, runs: &[Run]) -> BTreeSet<TraceId> {
    let mut found = BTreeSet::new();
    let mut open = vec![id];
    while let Some(parent) = open.pop() {
        for run in runs.iter().filter(|run| run.parent == Some(parent)) {
            if run.id != id && found.insert(run.id) {
                open.push(run.id);
            }
        }
    }
    found
}

struct Tree<'s> {
    spans: &'s [Span<'s>],
    places: HashMap<(TraceId, SpanId), usize>,
    children: HashMap<usize, Vec<usize>>,
    runs: &'s BTreeMap<(TraceId, SpanId), TraceId>,
}

impl<'s> Tree<'s> {
    fn new(spans: &'s [Span<'s>], runs: &'s BTreeMap<(TraceId, SpanId), TraceId>) -> Self {
        let places: HashMap<_, _> = spans.iter().enumerate().map(|(at, span)| ((span.trace, span.id), at)).collect();
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, span) in spans.iter().enumerate() {
            let above = span.parent.and_then(|parent| places.get(&(span.trace, parent)));
            if let Some(above) = above.filter(|above| **above != at) {
                children.entry(*above).or_default().push(at);
            }
        }
        for below in children.values_mut() {
            below.sort_by_key(|at| (spans[*at].started_at, *at));
        }
        Self { spans, places, children, runs }
    }

    fn place(&self, trace: TraceId, span: SpanId) -> Option<usize> {
        self.places.get(&(trace, span)).copied()
    }

    /// The topmost spans of a part of a run.
    fn tops(&self, trace: TraceId, root: Option<SpanId>, runs: &[Run]) -> Vec<usize> {
        if let Some(root) = root {
            return self.place(trace, root).into_iter().collect();
        }
        let is_root = |span: &Span<'_>| {
            runs.iter().flat_map(|run| &run.parts).any(|part| part.trace == trace && part.root == Some(span.id))
        };
        let has_above = |span: &Span<'_>| span.parent.is_some_and(|parent| self.places.contains_key(&(trace, parent)));
        let tops = self.spans.iter().enumerate().filter(|(_, span)| span.trace == trace && !has_above(span));
        tops.filter(|(_, span)| !is_root(span)).map(|(at, _)| at).collect()
    }

    /// All spans beneath one.
    fn below(&self, top: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = self.children.get(&top).cloned().unwrap_or_default();
        while let Some(at) = open.pop() {
            if found.len() > self.spans.len() {
                break;
            }
            found.push(at);
            open.extend(self.children.get(&at).into_iter().flatten());
        }
        found
    }

    fn show(&self, at: usize, more: &[usize], depth: usize) -> Value {
        let span = &self.spans[at];
        let mut below: Vec<usize> = if depth < MAX_DEPTH {
            self.children.get(&at).into_iter().flatten().chain(more).copied().collect()
        } else {
            Vec::new()
        };
        below.sort_by_key(|at| (self.spans[*at].started_at, *at));
        let children: Vec<Value> = below.into_iter().map(|child| self.show(child, &[], depth + 1)).collect();
        let (mut all_tokens, mut all_cost) = (span.tokens, span.cost_usd);
        // A call within a call, and an agent's own sum, repeat what is beneath them.
        let repeats = matches!(span.kind, SpanKind::Llm | SpanKind::Agent) && span.tokens.is_some();
        if !repeats {
            for child in &children {
                all_tokens = add_tokens(all_tokens, read_tokens(&child["total_tokens"]));
                let cost = child["total_cost_usd"].as_f64();
                all_cost = match (all_cost, cost) {
                    (Some(one), Some(other)) => Some(one + other),
                    (known, None) | (None, known) => known,
                };
            }
        }
        let mut attributes: Map<String, Value> = Map::new();
        for (key, value) in &span.attributes {
            attributes.insert(key.to_string(), json!(value));
        }
        let mut shown = json!({
            "span_id": span.id,
            "trace_id": span.trace,
            "parent_span_id": span.parent,
            "name": span.name,
            "kind": span.kind,
            "status": span.status,
            "source": span.source,
            "started_at": time(span.started_at),
            "duration_ms": span.duration.map(|duration| duration as f64 / 1e6),
            "tokens": span.tokens.map(tokens),
            "cost_usd": span.cost_usd,
            "total_tokens": all_tokens.map(tokens),
            "total_cost_usd": all_cost,
            "attributes": attributes,
            "children": children,
        });
        if let Some(fields) = shown.as_object_mut() {
            for (field, value) in &span.fields {
                fields.insert(field.as_str().to_owned(), json!(value));
            }
            if let Some(run) = self.runs.get(&(span.trace, span.id)) {
                fields.insert("run_id".to_owned(), json!(run));
            }
            if span.status == SpanStatus::Error && !fields.contains_key("error") {
                fields.insert("error".to_owned(), json!("failed"));
            }
        }
        shown
    }
}

fn read_tokens(shown: &Value) -> Option<TokenCounts> {
    shown.as_object()?;
    Some(TokenType::ALL.map(|kind| shown[kind.as_str()].as_u64().unwrap_or(0)))
}

fn time(nanos: u64) -> Value {
    json!(Time::from_millis((nanos / 1_000_000).cast_signed()).to_string())
}

/// An agent of the registry.
pub fn agent(agent: &RegisteredAgent) -> Value {
    json!({
        "id": agent.id,
        "name": agent.name,
        "project": agent.project,
        "project_id": agent.project_id(),
        "type": agent.agent_type,
        "external_id": agent.external_id,
        "config": agent.config,
        "monitoring_enabled": agent.monitoring_enabled,
        "status": agent.status,
        "created_by": agent.created_by,
        "created_at": agent.created_at.to_string(),
        "last_used_at": agent.last_used_at.map(|used| used.to_string()),
        "shared": agent.sharing.is_shared,
        "sharing_error": agent.sharing.error,
    })
}

/// A sum of statistics.
pub fn stat(cell: &StatCell) -> Value {
    let counts = cell.tokens.map(|count| u64::try_from(count).unwrap_or(0));
    let ratio = |part: i64, whole: i64| (whole > 0).then(|| part as f64 / whole as f64);
    let written = counts[TokenType::Output as usize].saturating_add(counts[TokenType::Reasoning as usize]);
    let quantiles = |sketch: &crate::model::Sketch| {
        let at = |share: f64| sketch.quantile(share).map(|ms| (ms * 10.0).round() / 10.0);
        json!({"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)})
    };
    json!({
        "runs": cell.runs,
        "failed_runs": cell.failed_runs,
        "error_rate": ratio(cell.failed_runs, cell.runs),
        "completion_rate": ratio(cell.runs - cell.failed_runs, cell.runs),
        "run_duration_ms": quantiles(&cell.run_durations),
        "calls": cell.calls,
        "failed_calls": cell.failed_calls,
        "call_error_rate": ratio(cell.failed_calls, cell.calls),
        "call_duration_ms": quantiles(&cell.call_durations),
        "tools": cell.tools,
        "tokens": tokens(counts),
        "tokens_per_call": ratio(counts.iter().sum::<u64>().cast_signed(), cell.calls),
        "token_efficiency": ratio(written.cast_signed(), counts.iter().sum::<u64>().cast_signed()),
        "cost_usd": cost_dollars(cell.cost_nanos),
        "fallbacks": cell.fallbacks,
        "waited_ms": cell.waited_ms,
    })
}

/// What runs reported besides their calls: by name in how many runs, their sum and mean; of one platform, or of all.
fn reported<'r>(facts: impl Iterator<Item = &'r StatRow>, platform: Option<&str>) -> Value {
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for row in facts {
        let Some((of, fact)) = row.name.rsplit_once('/') else { continue };
        if platform.is_none_or(|platform| platform == of) {
            let (runs, sum) = sums.entry(fact).or_default();
            (*runs, *sum) = (runs.saturating_add(row.cell.runs), sum.saturating_add(row.cell.cost_nanos));
        }
    }
    let known = sums.into_iter().filter(|(_, (runs, _))| *runs > 0).map(|(fact, (runs, nanos))| {
        let sum = nanos as f64 / 1e9;
        (fact.to_owned(), json!({"runs": runs, "sum": sum, "mean": sum / runs as f64}))
    });
    Value::Object(known.collect())
}

/// Statistics of agents (project, name): points by `step` hours, or one over all, by what they are grouped by.
pub fn stats(
    agents: &[(String, String)],
    rows: &[StatRow],
    facts: &[StatRow],
    hours: &std::ops::Range<u32>,
    group: StatGroup,
    step: Option<u32>,
) -> Value {
    let start = |hour: u32| Time::from_millis(i64::from(hour) * 3_600_000).to_string();
    let shown = agents.iter().map(|(project, agent)| {
        let is_of_agent = |row: &StatRow| (&*row.project, &*row.agent) == (&**project, &**agent);
        let own = rows.iter().filter(|row| is_of_agent(row));
        let mut total = StatCell::default();
        let mut points: BTreeMap<(u32, &str), StatCell> = BTreeMap::new();
        for row in own {
            total.add(&row.cell, 1);
            let hour = step.map_or(0, |step| row.hour / step * step);
            points.entry((hour, &row.name)).or_default().add(&row.cell, 1);
        }
        let points = points.iter().map(|((hour, name), cell)| {
            let mut point = stat(cell);
            if let Some(fields) = point.as_object_mut() {
                if step.is_some() {
                    fields.insert("from".to_owned(), json!(start(*hour)));
                }
                if group != StatGroup::Total {
                    fields.insert(group.as_str().to_owned(), json!(name));
                }
            }
            if group == StatGroup::Platform {
                let is_own =
                    |row: &&StatRow| is_of_agent(row) && step.is_none_or(|step| row.hour / step * step == *hour);
                point["reported"] = reported(facts.iter().filter(is_own), Some(name));
            }
            point
        });
        let total_runs = total.runs;
        let mut shown = json!({"project": project, "agent_name": agent, "points": points.collect::<Vec<_>>()});
        if group == StatGroup::Total
            && let (Some(shown), Value::Object(total)) = (shown.as_object_mut(), stat(&total))
        {
            let runs_per_hour = total_runs as f64 / f64::from((hours.end - hours.start).max(1));
            shown.extend(total);
            shown.insert("runs_per_hour".to_owned(), json!(runs_per_hour));
            let reported = reported(facts.iter().filter(|row| is_of_agent(row)), None);
            for (key, fact) in
                [("review_pass_rate", RunFact::ReviewPassed), ("user_satisfaction", RunFact::UserSatisfaction)]
            {
                shown.insert(key.to_owned(), reported[fact.as_str()]["mean"].clone());
            }
            shown.insert("reported".to_owned(), reported);
        }
        shown
    });
    json!({"from": start(hours.start), "until": start(hours.end), "agents": shown.collect::<Vec<_>>()})
}
