//! What the thread of runs hands over to the exports: requests that came in, once their spans were committed, and spans of
//! runs that no telemetry reported. Each with what is known of its run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Registration, Registry, new_agent_id};
use crate::export::{ExportHandle, SpanNote, TraceExport, spans};
use crate::model::{Run, Span, SpanId, Time, TraceId};
use crate::otlp::Signal;
use crate::otlp::wire::ExportTraceServiceRequest;
use crate::profiles::spans::ids_of_caller;
use crate::runs::RunBook;

/// Own spans that wait while the store can't be written; more are not exported.
const MAX_OWN: usize = 10_000;

/// Spans, each with what is known of its run.
type NotedSpans = Vec<(Span<'static>, SpanNote)>;

/// Collects what is exported after the next commit.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    exports: ExportHandle,
    requests: Vec<ExportTraceServiceRequest>,
    own: Vec<Span<'static>>,
    /// What is known of runs, for one commit.
    notes: HashMap<TraceId, SpanNote>,
    ready: Vec<TraceExport>,
    ready_own: Vec<TraceExport>,
}

impl Outgoing {
    pub(super) fn new(exports: ExportHandle) -> Self {
        Self { exports, ..Self::default() }
    }

    /// Whether spans go anywhere.
    pub(super) fn is_on(&self) -> bool {
        self.exports.takes(Signal::Traces)
    }

    /// Adds a request whose spans are in the next commit. `only` names the spans that go on, if not all do.
    pub(super) fn request(
        &mut self,
        mut request: ExportTraceServiceRequest,
        only: Option<&HashSet<(TraceId, SpanId)>>,
    ) {
        if !self.is_on() {
            return;
        }
        if let Some(only) = only {
            for scope in request.resource_spans.iter_mut().flat_map(|it| &mut it.scope_spans) {
                let place = |trace: &[u8], span: &[u8]| TraceId::from_slice(trace).zip(SpanId::from_slice(span));
                scope.spans.retain(|it| place(&it.trace_id, &it.span_id).is_some_and(|place| only.contains(&place)));
            }
        }
        self.requests.push(request);
    }

    /// Adds a span of a run that no telemetry reported, if it has ended.
    pub(super) fn span(&mut self, span: &Span<'static>) {
        if self.is_on() && span.duration.is_some() && spans::is_own(span.source) && self.own.len() < MAX_OWN {
            self.own.push(span.clone());
        }
    }

    /// Notes what is known of the runs, among them those that `ended`. To be called when all spans of the commit have their
    /// run.
    pub(super) fn prepare(&mut self, now: Time, book: &RunBook, registry: &mut Registry, ended: &[TraceId]) {
        if !self.is_on() {
            return;
        }
        for run in ended.iter().filter_map(|id| book.run(*id)).filter(|run| spans::is_own(run.source)) {
            if let Some(root) = book.root_span(run.id) {
                self.span(&root);
            }
        }
        for request in std::mem::take(&mut self.requests) {
            let mut notes = Vec::new();
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            for span in scopes.flat_map(|scope| &scope.spans) {
                let place = TraceId::from_slice(&span.trace_id).zip(SpanId::from_slice(&span.span_id));
                let run = place.and_then(|(trace, span)| book.run(book.owner(trace, span)?));
                let mut note = run.map(|run| self.note(now, run, registry)).unwrap_or_default();
                let [agent_id, parent] = ids_of_caller(&span.attributes).map(|id| id.map(Arc::from));
                note.agent_id = agent_id.or(note.agent_id);
                note.parent_trace_id = parent.or(note.parent_trace_id);
                notes.push(note);
            }
            self.ready.push(TraceExport { request, notes });
        }
        let mut agents: BTreeMap<(Arc<str>, Arc<str>), NotedSpans> = BTreeMap::new();
        for span in std::mem::take(&mut self.own) {
            let Some(run) = book.owner(span.trace, span.id).and_then(|id| book.run(id)) else { continue };
            let note = self.note(now, run, registry);
            agents.entry((Arc::clone(&run.project), Arc::clone(&run.agent))).or_default().push((span, note));
        }
        if !agents.is_empty() {
            let mut export = TraceExport::default();
            for ((project, agent), spans) in agents {
                let of_agent = spans::resource_spans([&project, &agent], spans.iter().map(|(span, _)| span));
                export.request.resource_spans.push(of_agent);
                export.notes.extend(spans.into_iter().map(|(_, note)| note));
            }
            self.ready_own.push(export);
        }
        self.notes.clear();
    }

    /// What is known of a run. Its agent is registered if it is not.
    fn note(&mut self, now: Time, run: &Run, registry: &mut Registry) -> SpanNote {
        if let Some(note) = self.notes.get(&run.id) {
            return note.clone();
        }
        if registry.named(&run.project, &run.agent).is_none() && (run.is_rooted || run.totals.calls > 0) {
            let seen = Registration {
                project: Arc::clone(&run.project),
                name: Arc::clone(&run.agent),
                agent_type: Arc::clone(&run.agent_type),
                external_id: None,
                config: None,
                monitoring_enabled: None,
                created_by: Arc::from(run.source.as_str()),
                new_id: Arc::from(""),
            };
            // A full registry shows in `lookout_registry_agents`.
            registry.saw(now, seen, new_agent_id).ok();
        }
        let agent = registry.named(&run.project, &run.agent);
        let note = SpanNote {
            agent_id: agent.map(|agent| Arc::clone(&agent.id)),
            parent_trace_id: agent.map(|_| Arc::from(run.id.to_string())),
        };
        self.notes.insert(run.id, note.clone());
        note
    }

    /// After the commit: hands over what is in it, and calls `then` once that is in the spool. After a failed one, senders
    /// send their requests again.
    pub(super) fn committed(&mut self, is_ok: bool, then: impl FnOnce() + Send + 'static) {
        let requests = std::mem::take(&mut self.ready);
        if is_ok && !(requests.is_empty() && self.ready_own.is_empty()) {
            let own = std::mem::take(&mut self.ready_own);
            own.into_iter().chain(requests).for_each(|export| self.exports.traces(export));
            self.exports.after_spooled(Box::new(then));
            return;
        }
        if self.ready_own.len() > MAX_OWN {
            self.ready_own.clear();
        }
        then();
    }
}
