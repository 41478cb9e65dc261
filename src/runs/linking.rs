//! Which run a trace and its spans belong to: by roots, by the caller that metadata names, by session and time.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::trace::{Node, OpenTrace, RootPlace, is_explicit};
use super::turns::is_hook_session;
use super::{OpenRun, RunBook, new_run};
use crate::model::run::cost_dollars;
use crate::model::run_stats::{Contribution, difference};
use crate::model::{AgentIdentity, Run, RunPart, RunSource, RunStatus, SpanId, Time, TraceId};

/// Calls of a session belong to its last inferred run if they come within this time.
const SESSION_GAP: Duration = Duration::from_secs(300);

/// How far the clocks of two reporters of one run may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

impl RunBook {
    /// Finds the runs of traces whose roots changed.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some(id) = self.unsettled.pop_first() {
            self.settle_trace(now, id);
        }
    }

    fn settle_trace(&mut self, now: Time, id: TraceId) {
        let Some(mut trace) = self.traces.remove(&id) else { return };
        let before: BTreeSet<TraceId> = trace.roots.values().copied().chain(trace.rest).collect();
        let places = trace.places();
        // A root keeps its run, but the trace's own run belongs to a topmost root.
        let keeps = |place: &&RootPlace| {
            let run = trace.roots.get(&place.span).filter(|run| place.above.is_none() || **run != id);
            run.map(|run| (place.span, *run))
        };
        let sessions = LazyCell::new(|| trace.sessions_below(&places));
        let mut roots: BTreeMap<SpanId, TraceId> = places.iter().filter_map(|place| keeps(&place)).collect();
        for place in &places {
            if !roots.contains_key(&place.span) {
                roots.insert(
                    place.span,
                    self.run_of_root(&trace, id, (place, |span| sessions.get(&span).cloned()), &roots),
                );
            }
        }
        trace.roots = roots;
        let has_rest = trace.nodes.keys().any(|span| trace.owner(*span).is_none());
        if trace.rest.is_none() && (has_rest || trace.roots.is_empty()) && !trace.nodes.is_empty() {
            // Spans without a root above them belong to the first run of the trace, else to one that is inferred.
            let first = places.first().and_then(|place| trace.roots.get(&place.span)).copied();
            trace.rest = Some(first.or_else(|| self.run_of_session(&trace)).unwrap_or(id));
        } else if let Some(first) = places.first().and_then(|place| trace.roots.get(&place.span))
            && trace.rest == Some(id)
            && self.runs.get(&id).is_none_or(|open| !open.run.is_rooted)
        {
            trace.rest = Some(*first);
        }
        trace.share_out();
        let after: BTreeSet<TraceId> = trace.roots.values().copied().chain(trace.rest).collect();
        for run in before.union(&after) {
            if let Some(open) = self.runs.get_mut(run) {
                let is_current = |part: &RunPart| match part.root {
                    Some(root) => trace.roots.get(&root) == Some(run),
                    None => trace.rest == Some(*run),
                };
                open.run.parts.retain(|part| part.trace != id || is_current(part));
            }
        }
        for place in &places {
            let above = place.above.and_then(|above| trace.roots.get(&above)).copied().or(trace.rest);
            if let Some(run) = trace.roots.get(&place.span) {
                self.begin_by_span(now, &trace, RunPart { trace: id, root: Some(place.span) }, *run, above);
            }
        }
        if let Some(rest) = trace.rest {
            self.infer(now, &trace, id, rest);
        }
        self.traces.insert(id, trace);
        for run in before.difference(&after) {
            self.leave(*run);
        }
        for run in &after {
            self.touch(now, *run);
        }
        // Calls that named this trace before it came.
        if let Some(waiting) = self.awaited.remove(&id)
            && let Some(run) = self.resolve(id)
        {
            for inferred in waiting {
                self.adopt(now, inferred, run);
            }
        }
    }

    /// The run that begins with a span: that of a hook of the same session, the trace's own, or a new one.
    fn run_of_root(
        &self,
        trace: &OpenTrace,
        id: TraceId,
        (place, session_below): (&RootPlace, impl Fn(SpanId) -> Option<Arc<str>>),
        taken: &BTreeMap<SpanId, TraceId>,
    ) -> TraceId {
        let span = place.span;
        let is_free = |run: &TraceId| !taken.values().any(|taken| taken == run);
        let node = trace.nodes.get(&span);
        if let Some(named) = node.and_then(|node| node.run) {
            return self.joined(named).unwrap_or(named);
        }
        if let Some(run) = self.joined(id).filter(|run| place.above.is_none() && is_free(run)) {
            return run;
        }
        let of_session = node.and_then(|node| {
            let own = || node.fields.session.clone();
            self.explicit_run_of_session(node, &own().or_else(|| session_below(span))?)
        });
        if let Some(run) = of_session.filter(|run| is_free(run)) {
            return run;
        }
        let is_explicit_elsewhere = self.runs.get(&id).and_then(|open| open.root).is_some_and(|part| {
            part.root
                .is_some_and(|root| root != span && trace.nodes.get(&root).is_some_and(|node| is_explicit(node.source)))
        });
        if place.above.is_none() && is_free(&id) && !is_explicit_elsewhere { id } else { id.of_run(span) }
    }

    /// The run that hooks, requests or `lookout pipe` report of the session of a span, if it was going on when the span
    /// began; of several the one that overlaps the span most.
    fn explicit_run_of_session(&self, node: &Node, session: &Arc<str>) -> Option<TraceId> {
        let agent = node.agent.as_deref();
        let (from, to) = (node.started(), node.ended().unwrap_or_else(|| node.started()));
        let is_it = |open: &&OpenRun| {
            // A server lists runs of one session that follow each other.
            let is_other = node.source != RunSource::Poll || open.run.source != RunSource::Poll;
            is_explicit(open.run.source) && is_other && overlaps(&open.run, from, node.ended())
        };
        let found = self.runs_of_session(session, agent).filter(is_it);
        // Of equals the last to begin, which comes first.
        let best = found.min_by_key(|open| std::cmp::Reverse(overlap(&open.run, from, to)));
        best.map(|open| open.run.id)
    }

    /// The run of the session that spans without a root name.
    fn run_of_session(&self, trace: &OpenTrace) -> Option<TraceId> {
        let first = trace.nodes.values().filter(|node| node.fields.session.is_some());
        let node = first.min_by_key(|node| node.started_at)?;
        let session = node.fields.session.as_ref()?;
        let (from, to) = (node.started(), node.ended().unwrap_or_else(|| node.started()));
        let is_it = |open: &&OpenRun| {
            let run = &open.run;
            let is_near =
                !run.is_rooted && from <= run.last_at.plus(SESSION_GAP) && to >= run.started_at.minus(SESSION_GAP);
            is_near || run.is_rooted && overlaps(run, from, node.ended())
        };
        let found = self.runs_of_session(session, node.agent.as_deref()).filter(is_it);
        let best = found.min_by_key(|open| (!open.run.is_rooted, std::cmp::Reverse(overlap(&open.run, from, to))));
        best.map(|open| open.run.id)
    }

    /// Inferred runs of the session of a run that overlap it.
    pub(super) fn inferred_runs_of_session(&self, id: TraceId) -> Vec<TraceId> {
        let Some(OpenRun { run, .. }) = self.runs.get(&id) else { return Vec::new() };
        let Some(inferred) = run.session.as_ref().and_then(|session| self.inferred.get(session)) else {
            return Vec::new();
        };
        let is_part = |open: &&OpenRun| !open.run.is_rooted && overlaps(run, open.run.started_at, open.run.ended_at);
        let inferred = inferred.iter().filter_map(|id| self.runs.get(id));
        inferred.filter(is_part).map(|open| open.run.id).collect()
    }

    /// Creates or updates a run that begins with a span.
    fn begin_by_span(&mut self, now: Time, trace: &OpenTrace, part: RunPart, id: TraceId, above: Option<TraceId>) {
        let Some((span, node)) = part.root.and_then(|span| Some((span, trace.nodes.get(&span)?))) else { return };
        let agent = node.agent.clone().or_else(|| trace.agent_above(span));
        let open = self.runs.entry(id).or_insert_with(|| open_run(id, node, agent.as_deref()));
        let run = &mut open.run;
        if !run.parts.contains(&part) {
            run.parts.push(part);
        }
        if run.session.as_deref().is_some_and(is_hook_session) && node.fields.session.is_some() {
            run.session.clone_from(&node.fields.session);
        }
        let is_piece = is_explicit(run.source) || matches!(node.source, RunSource::Hook | RunSource::Pipe);
        if is_piece && open.root.is_some_and(|root| root != part) {
            run.parent = run.parent.or(above.filter(|above| *above != id));
            return;
        }
        open.root = Some(part);
        // What a server lists of its runs is more than what their spans report.
        let is_listed = (run.source, node.source) == (RunSource::Poll, RunSource::Poll);
        if !is_explicit(run.source) || is_listed {
            run.is_rooted = true;
            run.name = Arc::clone(&node.name);
            if let Some(agent) = agent {
                run.project = Arc::clone(&agent.project);
                run.agent = Arc::clone(&agent.agent);
                run.agent_type = Arc::clone(&agent.agent_type);
            }
            run.source = node.source;
            run.started_at = node.started();
            run.ended_at = node.ended();
            run.status = match node.ended() {
                None => RunStatus::Running,
                Some(_) if node.is_error => RunStatus::Error,
                Some(_) => RunStatus::Ok,
            };
            run.error.clone_from(&node.fields.error);
            run.reported_tokens = node.tokens.or(run.reported_tokens);
            run.reported_cost = node.cost_nanos.map(cost_dollars).or(run.reported_cost);
            run.awaited = None;
        }
        for (known, own) in [
            (&mut run.session, &node.fields.session),
            (&mut run.task, &node.fields.task),
            (&mut run.platform, &node.fields.platform),
        ] {
            if own.is_some() && (known.is_none() || !is_explicit(run.source)) {
                known.clone_from(own);
            }
        }
        if let Some(facts) = &node.fields.facts {
            run.facts = run.facts.or(**facts);
        }
        run.parent = run.parent.or(above.filter(|above| *above != id));
        let run = run.clone();
        if let Some(parent) = run.parent {
            self.note_child(parent);
        }
        self.note_session(&run);
        self.touch(now, id);
        if run.session.is_some() {
            for inferred in self.inferred_runs_of_session(id) {
                if inferred != id && inferred != part.trace {
                    self.adopt(now, inferred, id);
                }
            }
        }
    }

    fn note_child(&mut self, parent: TraceId) {
        if let Some(open) = self.runs.get_mut(&parent)
            && !open.has_children
        {
            open.has_children = true;
            self.changed.insert(parent);
        }
    }

    /// Creates the run of spans that have no root above them, unless it is one with a root.
    fn infer(&mut self, now: Time, trace: &OpenTrace, id: TraceId, run: TraceId) {
        let part = RunPart { trace: id, root: None };
        let first = trace.nodes.values().min_by_key(|node| node.started_at);
        let Some(first) = first else { return };
        let open = self.runs.entry(run).or_insert_with(|| open_run(run, first, first.agent.as_deref()));
        if !open.run.parts.contains(&part) {
            open.run.parts.push(part);
        }
        if open.run.session.is_none()
            && let Some(session) = trace.nodes.values().find_map(|node| node.fields.session.as_ref())
        {
            open.run.session = Some(Arc::clone(session));
            // Known at once, so that other traces of the session in the same group find it.
            let inferred = open.run.clone();
            self.note_session(&inferred);
        }
        self.touch(now, run);
    }

    /// A run no longer has spans in a trace. An inferred one without any is removed.
    fn leave(&mut self, run: TraceId) {
        match self.runs.get(&run) {
            Some(open) if open.run.parts.is_empty() && !is_explicit(open.run.source) => self.remove_run(run),
            Some(_) => drop(self.changed.insert(run)),
            None => {}
        }
    }

    /// Forgets that a run awaits the one that its caller named.
    pub(super) fn stop_awaiting(&mut self, run: &Run) {
        if let Some(awaited) = run.awaited
            && let Some(waiting) = self.awaited.get_mut(&awaited)
        {
            waiting.remove(&run.id);
            if waiting.is_empty() {
                self.awaited.remove(&awaited);
            }
        }
    }

    fn remove_run(&mut self, id: TraceId) {
        let Some(open) = self.runs.remove(&id) else { return };
        for (key, cell) in difference(&open.counted, &Contribution::new()) {
            self.subtracted.entry(key).or_default().add(&cell, 1);
        }
        self.forget_session(&open.run);
        self.stop_awaiting(&open.run);
        self.changed.remove(&id);
        self.removed.insert(id);
    }

    /// A caller's metadata names the run that a trace belongs to.
    pub(super) fn link_to_caller(&mut self, now: Time, trace: TraceId, caller: TraceId) {
        self.settle(now);
        let own = self.traces.get(&trace).and_then(|trace| trace.rest);
        match self.resolve(caller) {
            Some(run) if own.is_some_and(|own| own != run) => match own.and_then(|own| self.runs.get_mut(&own)) {
                Some(open) if open.run.is_rooted => {
                    open.run.parent = open.run.parent.or(Some(run));
                    let own = open.run.id;
                    self.note_child(run);
                    self.changed.insert(own);
                }
                Some(open) => {
                    let own = open.run.id;
                    self.adopt(now, own, run);
                }
                None => {}
            },
            Some(_) => {}
            None => {
                if let Some(own) = own
                    && let Some(open) = self.runs.get_mut(&own)
                {
                    open.run.awaited = Some(caller);
                    self.awaited.entry(caller).or_default().insert(own);
                    self.changed.insert(own);
                }
            }
        }
    }

    /// The run that reports of a run with this id belong to, if that is another one.
    pub fn joined(&self, id: TraceId) -> Option<TraceId> {
        self.joined.get(&id).copied()
    }

    /// Makes what is reported of the run `other`, before and after, part of `run`: both are the same execution.
    pub fn join(&mut self, now: Time, run: TraceId, other: TraceId) {
        let Some(run) = self.resolve(run).filter(|run| *run != other) else { return };
        self.joined.insert(other, run, ());
        self.settle(now);
        if self.runs.get(&other).is_some_and(|open| matches!(open.run.source, RunSource::Otlp | RunSource::Poll)) {
            self.absorb(now, other, run);
        }
    }

    /// Makes an inferred run part of another one.
    pub(super) fn adopt(&mut self, now: Time, inferred: TraceId, run: TraceId) {
        if inferred == run {
            return;
        }
        if let Some(open) = self.runs.get_mut(&inferred).filter(|open| open.run.is_rooted) {
            // A run that began by itself is a child of its caller's.
            open.run.awaited = None;
            open.run.parent = open.run.parent.or(Some(run));
            self.changed.insert(inferred);
            self.note_child(run);
            return;
        }
        self.absorb(now, inferred, run);
    }

    /// Moves the spans of a run to another one, and removes it.
    fn absorb(&mut self, now: Time, from: TraceId, run: TraceId) {
        let Some(open) = self.runs.get_mut(&from) else { return };
        let parts = std::mem::take(&mut open.run.parts);
        let rested = std::mem::take(&mut open.rested);
        for part in &parts {
            if let Some(trace) = self.traces.get_mut(&part.trace) {
                if trace.rest == Some(from) {
                    trace.rest = Some(run);
                }
                trace.roots.values_mut().filter(|owner| **owner == from).for_each(|owner| *owner = run);
                trace.share_out();
            }
        }
        self.remove_run(from);
        if let Some(open) = self.runs.get_mut(&run) {
            for part in parts {
                if !open.run.parts.contains(&part) {
                    open.run.parts.push(part);
                }
            }
            open.rested.extend(rested);
        }
        self.touch(now, run);
    }
}

/// Whether a run was going on between two times.
pub(super) fn overlaps(run: &Run, from: Time, to: Option<Time>) -> bool {
    run.started_at.minus(CLOCK_SKEW) <= to.unwrap_or(from)
        && run.ended_at.is_none_or(|ended| from <= ended.plus(CLOCK_SKEW))
}

/// Milliseconds for which a run and a span of it, `from` to `to`, were going on together; below zero if they were not.
fn overlap(run: &Run, from: Time, to: Time) -> i64 {
    let end = run.ended_at.map_or(to, |ended| ended.min(to));
    end.as_millis().saturating_sub(run.started_at.max(from).as_millis())
}

fn open_run(id: TraceId, node: &Node, agent: Option<&AgentIdentity>) -> OpenRun {
    let unknown = || Arc::from("unknown");
    let agent = [
        agent.map_or_else(|| Arc::from(crate::model::DEFAULT_PROJECT), |agent| Arc::clone(&agent.project)),
        agent.map_or_else(unknown, |agent| Arc::clone(&agent.agent)),
        agent.map_or_else(unknown, |agent| Arc::clone(&agent.agent_type)),
    ];
    let mut run = Run::new(id, agent, Arc::clone(&node.name), node.source, node.started());
    run.last_at = node.ended().unwrap_or(run.started_at);
    new_run(run, None)
}
