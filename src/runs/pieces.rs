//! Several reports of one run: what hooks, `lookout pipe` and spans report of one session at one time is one run. The first
//! to report it names it; the others are pieces of it, each a trace of its own.

use std::sync::Arc;

use super::turns::{is_hook_session, session_name};
use super::{
    OpenRun, RunBook, RunEnd, RunStart, SessionKey, UNIQUE_SESSION, is_explicit, overlaps, session_key,
    session_key_of_run,
};
use crate::model::hook::session_hash;
use crate::model::{AgentIdentity, Run, RunSource, RunStatus, Span, SpanField, SpanId, SpanStatus, Time, TraceId};

/// Runs that are remembered of one session.
const MAX_RUNS: usize = 8;

impl RunBook {
    /// The run whose beginning was reported before by the same source.
    pub(super) fn known_start(&self, start: &RunStart) -> Option<TraceId> {
        let run = self.traces.get(&start.trace)?.roots.get(&start.span)?;
        (start.source == RunSource::Pipe && self.runs.contains_key(run)).then_some(*run)
    }

    /// The run that another source reported, of which `start` is another report.
    pub(super) fn reported_by_others(&self, start: &RunStart) -> Option<TraceId> {
        if !matches!(start.source, RunSource::Hook | RunSource::Pipe) {
            return None;
        }
        if start.source == RunSource::Pipe && self.runs.contains_key(&start.id) {
            return Some(start.id);
        }
        let session = start.session.as_ref()?;
        let runs = self.runs_of_session(session, Some(&*start.agent));
        // One that ended before is the turn before.
        let is_over = |run: &Run| run.ended_at.is_some_and(|ended| ended < start.at);
        let is_it = |run: &Run| run.is_rooted && !is_over(run) && overlaps(run, start.at, None);
        let others = runs.filter(|open| is_it(&open.run));
        let mut others = others.filter(|open| !self.has_root_by(open, start.source));
        others.next().map(|open| open.run.id)
    }

    /// The runs of a session in memory, the last to begin first.
    pub(super) fn runs_of_session<'s>(
        &'s self,
        session: &Arc<str>,
        agent: Option<&AgentIdentity>,
    ) -> impl Iterator<Item = &'s OpenRun> {
        let key = session_key(session, agent);
        // Hooks give a session by the hash of its id.
        let by_hook = (!is_hook_session(session)).then(|| hook_key(session));
        let mut found: Vec<&OpenRun> = [Some(key), by_hook]
            .into_iter()
            .flatten()
            .filter_map(|key| self.sessions.get(&key))
            .flatten()
            .filter_map(|run| self.runs.get(run))
            .collect();
        found.sort_by_key(|open| (std::cmp::Reverse(open.run.started_at), open.run.id));
        found.dedup_by_key(|open| open.run.id);
        // People number sessions 1, 2, 3: a short one is the same for the same agent alone. Hooks may name it otherwise.
        let is_short = |session: &str| session.len() < UNIQUE_SESSION;
        found.retain(|open| {
            let needs_agent = is_short(session) || open.run.session.as_deref().is_some_and(is_short);
            let is_same =
                |agent: &AgentIdentity| (&*agent.project, &*agent.agent) == (&*open.run.project, &*open.run.agent);
            !needs_agent || open.run.source == RunSource::Hook || agent.is_none_or(is_same)
        });
        found.into_iter()
    }

    /// Whether a topmost span of the run is of this source.
    fn has_root_by(&self, open: &OpenRun, source: RunSource) -> bool {
        open.run.source == source
            || open.run.parts.iter().any(|part| {
                let node = part.root.and_then(|root| self.traces.get(&part.trace)?.nodes.get(&root));
                node.is_some_and(|node| node.source == source)
            })
    }

    /// Adds another report of a run, with a topmost span of its own.
    pub(super) fn add_piece(&mut self, now: Time, run: TraceId, start: &RunStart, own: &Run) {
        self.joined.insert(start.id, run, ());
        self.insert_explicit_root(start.trace, start.span, start.above, own);
        let trace = self.traces.entry(start.trace).or_default();
        trace.roots.insert(start.span, run);
        trace.last_at = now;
        self.resting.insert((now, start.trace));
        self.unsettled.insert(start.trace);
        self.add_report(now, run, own);
        self.settle(now);
        self.touch(now, run);
    }

    /// Adds what another report says of a run where it is not known yet.
    pub(super) fn add_report(&mut self, now: Time, run: TraceId, report: &Run) {
        let Some(open) = self.runs.get_mut(&run) else { return };
        let known = &mut open.run;
        let before = (known.task.clone(), known.platform.clone(), known.facts);
        known.task = known.task.take().or_else(|| report.task.clone());
        known.platform = known.platform.take().or_else(|| report.platform.clone());
        known.facts = known.facts.or(report.facts);
        let is_changed = before != (known.task.clone(), known.platform.clone(), known.facts);
        let has_session = known.session.as_deref().is_some_and(|session| !is_hook_session(session));
        let session =
            report.session.as_ref().filter(|session| !has_session && known.session.as_ref() != Some(*session));
        if let Some(session) = session {
            let of_hook = known.clone();
            known.session = Some(Arc::clone(session));
            let named = known.clone();
            self.forget_session(&of_hook);
            self.note_session(&named);
            for inferred in self.inferred_runs_of_session(run) {
                self.adopt(now, inferred, run);
            }
        }
        if is_changed || session.is_some() {
            self.touch(now, run);
        }
    }

    /// Takes what the end of a report adds to a run that another report ended, or that its spans ended.
    pub(super) fn end_piece(&mut self, now: Time, id: TraceId, run: TraceId, end: &RunEnd) {
        if id != run
            && let Some(trace) = self.traces.get_mut(&id)
        {
            let roots: Vec<SpanId> =
                trace.roots.iter().filter(|(_, owner)| **owner == run).map(|(root, _)| *root).collect();
            for root in roots {
                if let Some(node) = trace.nodes.get_mut(&root).filter(|node| is_explicit(node.source)) {
                    let ended = u64::try_from(end.at.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
                    node.duration = node.duration.or(Some(ended.saturating_sub(node.started_at)));
                    node.is_error = end.status == RunStatus::Error;
                }
            }
        }
        if let Some(open) = self.runs.get_mut(&run)
            && (id != run || open.run.source == RunSource::Pipe)
        {
            let known = &mut open.run;
            known.reported_tokens = known.reported_tokens.or(end.tokens);
            known.reported_cost = known.reported_cost.or(end.cost_usd);
            known.facts = known.facts.or(end.facts);
            if known.status == RunStatus::Error {
                known.error = known.error.take().or_else(|| end.error.clone());
            }
            self.touch(now, run);
        }
    }

    /// Whether `lookout pipe`, which sees how its agent ends, will report the end of a run.
    pub(super) fn end_is_awaited(&self, run: TraceId) -> bool {
        let Some(open) = self.runs.get(&run) else { return false };
        open.run.parts.iter().any(|part| {
            let node = part.root.and_then(|root| self.traces.get(&part.trace)?.nodes.get(&root));
            node.is_some_and(|node| node.source == RunSource::Pipe && node.duration.is_none())
        })
    }

    /// The topmost span of a report that is a piece of another run, as it is now.
    pub(super) fn root_span_of_piece(&self, id: TraceId) -> Option<Span<'static>> {
        let run = self.joined(id)?;
        let trace = self.traces.get(&id)?;
        let root = trace.roots.iter().find(|(_, owner)| **owner == run).map(|(root, _)| *root)?;
        let node = trace.nodes.get(&root).filter(|node| is_explicit(node.source))?;
        let mut span = Span::new(id, root, node.name.to_string().into(), node.started_at);
        span.parent = node.parent;
        span.kind = node.kind;
        span.source = node.source;
        span.begins_run = true;
        span.duration = node.duration;
        span.status = match node.duration {
            None => SpanStatus::Unset,
            Some(_) if node.is_error => SpanStatus::Error,
            Some(_) => SpanStatus::Ok,
        };
        if let Some(agent) = &node.agent {
            for (field, value) in [
                (SpanField::Project, &agent.project),
                (SpanField::Agent, &agent.agent),
                (SpanField::AgentType, &agent.agent_type),
            ] {
                span.fields.push((field, value.to_string().into()));
            }
        }
        Some(span)
    }

    /// Remembers a run as one of its session.
    pub(super) fn note_session(&mut self, run: &Run) {
        let Some(session) = &run.session else { return };
        if !run.is_rooted {
            self.inferred.entry(Arc::clone(session)).or_default().insert(run.id);
        }
        for key in keys_of_run(session, run) {
            let runs = self.sessions.entry(key).or_default();
            if runs.contains(&run.id) {
                continue;
            }
            if runs.len() >= MAX_RUNS {
                runs.remove(0);
            }
            runs.push(run.id);
        }
    }

    /// Forgets a run of its session.
    pub(super) fn forget_session(&mut self, run: &Run) {
        let Some(session) = &run.session else { return };
        for key in keys_of_run(session, run) {
            if let Some(runs) = self.sessions.get_mut(&key) {
                runs.retain(|known| *known != run.id);
                if runs.is_empty() {
                    self.sessions.remove(&key);
                }
            }
        }
        if let Some(inferred) = self.inferred.get_mut(session) {
            inferred.remove(&run.id);
            if inferred.is_empty() {
                self.inferred.remove(session);
            }
        }
    }
}

fn hook_key(session: &str) -> SessionKey {
    (session_name(session_hash(session)), None)
}

/// What a run of a session is found by. Runs that hooks may report as well, by the hash of the session too.
fn keys_of_run(session: &Arc<str>, run: &Run) -> impl Iterator<Item = SessionKey> {
    let may_be_hooks = run.is_rooted && !is_hook_session(session);
    [Some(session_key_of_run(session, run)), may_be_hooks.then(|| hook_key(session))].into_iter().flatten()
}
