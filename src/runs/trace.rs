//! An open trace: its spans in a compact form, which runs they belong to, and what they add to each.
//!
//! Spans arrive in any order, children often before their parents. What a span adds depends on what is above it: it
//! belongs to the run of the nearest root above it, and a call within a call is the same call, reported by two
//! instrumentations.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::model::run::{add_cost, add_tokens, cost_nanos};
use crate::model::run_stats::hour_of;
use crate::model::{
    AgentIdentity, CallGroup, RunFacts, RunGroups, RunSource, Sketch, Span, SpanField, SpanId, SpanKind, SpanStatus,
    Time, TokenCounts, ToolGroup, TraceId,
};

/// Depth up to which ancestors are searched, so that a circle of parents ends.
const MAX_DEPTH: usize = 1_000;

/// A span in a compact form.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) parent: Option<SpanId>,
    pub(super) kind: SpanKind,
    pub(super) is_error: bool,
    pub(super) source: RunSource,
    pub(super) begins_run: bool,
    /// The id that its server gave the run that begins with it.
    pub(super) run: Option<TraceId>,
    pub(super) name: Arc<str>,
    /// Nanoseconds since 1970.
    pub(super) started_at: u64,
    /// Nanoseconds; `None` while it runs.
    pub(super) duration: Option<u64>,
    pub(super) agent: Option<Arc<AgentIdentity>>,
    pub(super) fields: NodeFields,
    pub(super) tokens: Option<TokenCounts>,
    pub(super) cost_nanos: Option<i64>,
}

/// Texts of a span that matter to its run.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeFields {
    pub(super) model: Option<Arc<str>>,
    pub(super) provider: Option<Arc<str>>,
    pub(super) tool: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
    pub(super) task: Option<Arc<str>>,
    pub(super) platform: Option<Arc<str>>,
    pub(super) error: Option<Arc<str>>,
    /// The hash of the id of the response.
    pub(super) response: Option<u64>,
    /// What it reports besides of the run that begins with it.
    pub(super) facts: Option<Box<RunFacts>>,
}

/// Names of models, tools and the like, each kept once.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

/// Beyond this, names are no longer shared.
const MAX_NAMES: usize = 65_536;

impl Names {
    pub(super) fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        if self.0.len() < MAX_NAMES {
            self.0.insert(Arc::clone(&name));
        }
        name
    }
}

impl Node {
    pub(super) fn new(
        span: &Span<'_>,
        agent: Option<&Arc<AgentIdentity>>,
        response: Option<u64>,
        names: &mut Names,
    ) -> Self {
        let mut fields = NodeFields { response, ..NodeFields::default() };
        for (field, value) in &span.fields {
            let place = match field {
                SpanField::Model => &mut fields.model,
                SpanField::Provider => &mut fields.provider,
                SpanField::Tool => &mut fields.tool,
                SpanField::Session => &mut fields.session,
                SpanField::Task => &mut fields.task,
                SpanField::Platform => &mut fields.platform,
                SpanField::Error => &mut fields.error,
                SpanField::Agent | SpanField::Project | SpanField::AgentType => continue,
            };
            *place = Some(names.get(value));
        }
        Self {
            parent: span.parent,
            kind: span.kind,
            is_error: span.status == SpanStatus::Error,
            source: span.source,
            begins_run: span.begins_run,
            run: None,
            name: names.get(&span.name),
            started_at: span.started_at,
            duration: span.duration,
            agent: agent.map(Arc::clone),
            fields,
            tokens: span.tokens,
            cost_nanos: span.cost_usd.and_then(cost_nanos),
        }
    }

    pub(super) fn started(&self) -> Time {
        time_of(self.started_at)
    }

    pub(super) fn ended(&self) -> Option<Time> {
        self.duration.map(|duration| time_of(self.started_at.saturating_add(duration)))
    }

    fn duration_ms(&self) -> f64 {
        self.duration.unwrap_or(0) as f64 / 1e6
    }
}

/// The time of nanoseconds since 1970.
pub(super) fn time_of(nanos: u64) -> Time {
    Time::from_millis((nanos / 1_000_000).cast_signed())
}

/// What a span counts as in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// All of it.
    Whole,
    /// Only its tokens and cost: it is the inner report of a call whose outer report has none.
    Usage,
    /// Nothing: another span reports the same call.
    Nothing,
}

/// An open trace.
#[derive(Debug, Default)]
pub(super) struct OpenTrace {
    pub(super) nodes: HashMap<SpanId, Node>,
    /// Parents that have not arrived.
    missing: HashSet<SpanId>,
    /// Spans that begin a run, and the run.
    pub(super) roots: BTreeMap<SpanId, TraceId>,
    /// The run of spans with no root above them.
    pub(super) rest: Option<TraceId>,
    /// What the spans of each run add to it.
    pub(super) shares: HashMap<TraceId, Share>,
    responses: HashMap<u64, SpanId>,
    /// Whether any span names a session.
    has_session: bool,
    /// When a span last arrived.
    pub(super) last_at: Time,
}

/// What the spans of one trace add to a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Share {
    pub(super) spans: u64,
    /// The first start and the last end, in nanoseconds since 1970.
    pub(super) bounds: Option<(u64, u64)>,
    /// Nanoseconds of waiting, by source: two sources may report the same wait.
    pub(super) waited_ns: [u64; RunSource::ALL.len()],
    pub(super) groups: RunGroups,
    /// Calls in the order of their starts.
    pub(super) calls: Vec<CallEvent>,
    /// The earliest span.
    pub(super) first: Option<Topmost>,
}

/// A call, as far as its order matters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CallEvent {
    pub(super) started_at: u64,
    pub(super) is_error: bool,
    pub(super) source: RunSource,
    pub(super) model: Option<Arc<str>>,
    pub(super) provider: Option<Arc<str>>,
    pub(super) error: Option<Arc<str>>,
}

/// The earliest span of a run that no span marks the beginning of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Topmost {
    pub(super) started_at: u64,
    pub(super) name: Arc<str>,
    /// The agent that most spans agree on: a chosen name before any other.
    pub(super) agent: Option<Arc<AgentIdentity>>,
    pub(super) session: Option<Arc<str>>,
    pub(super) task: Option<Arc<str>>,
    pub(super) platform: Option<Arc<str>>,
}

/// Calls whose order is kept per trace and run; fallbacks are found among these.
const MAX_CALL_EVENTS: usize = 10_000;

/// Spans that begin a run, with what is above them.
pub(super) struct RootPlace {
    pub(super) span: SpanId,
    /// The nearest root above it.
    pub(super) above: Option<SpanId>,
}

impl OpenTrace {
    /// Adds a span. Returns whether the runs of the trace must be found again, see [`OpenTrace::places`].
    pub(super) fn insert(&mut self, id: SpanId, node: Node) -> bool {
        let is_awaited = self.missing.remove(&id);
        if let Some(parent) = node.parent.filter(|parent| !self.nodes.contains_key(parent)) {
            self.missing.insert(parent);
        }
        self.has_session |= node.fields.session.is_some();
        let changes_others = node.begins_run || is_awaited;
        if let Some(response) = node.fields.response {
            self.responses.entry(response).or_insert(id);
        }
        self.nodes.insert(id, node);
        changes_others
    }

    /// The ancestors of a span that have arrived, from its parent upwards.
    fn ancestors(&self, id: SpanId) -> impl Iterator<Item = (SpanId, &Node)> {
        let mut next = self.nodes.get(&id).and_then(|node| node.parent);
        std::iter::from_fn(move || {
            let id = next?;
            let node = self.nodes.get(&id)?;
            next = node.parent;
            Some((id, node))
        })
        .take(MAX_DEPTH)
    }

    /// The run that a span belongs to.
    pub(super) fn owner(&self, id: SpanId) -> Option<TraceId> {
        let own = self.roots.get(&id);
        let above = || self.ancestors(id).find_map(|(id, _)| self.roots.get(&id));
        own.or_else(above).copied().or(self.rest)
    }

    /// The agent of a span: its own, else that of the nearest span above it that names one.
    pub(super) fn agent_above(&self, id: SpanId) -> Option<Arc<AgentIdentity>> {
        self.ancestors(id).find_map(|(_, node)| node.agent.as_ref().filter(|agent| agent.is_named).map(Arc::clone))
    }

    /// Of `places` the session that the first span beneath each names: Codex' turns do not name it themselves.
    pub(super) fn sessions_below(&self, places: &[RootPlace]) -> BTreeMap<SpanId, Arc<str>> {
        if !self.has_session {
            return BTreeMap::new();
        }
        let mut below: BTreeMap<SpanId, Option<&Arc<str>>> = places.iter().map(|place| (place.span, None)).collect();
        let mut named: Vec<(u64, SpanId, &Arc<str>)> = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((node.started_at, *id, node.fields.session.as_ref()?)))
            .collect();
        named.sort_unstable();
        for (_, id, session) in named {
            for (above, _) in self.ancestors(id) {
                if let Some(known) = below.get_mut(&above) {
                    known.get_or_insert(session);
                }
            }
        }
        below.into_iter().filter_map(|(span, session)| Some((span, Arc::clone(session?)))).collect()
    }

    /// The spans that begin a run: those that are marked, and have no root of the same agent above them. Topmost first,
    /// of equals the earliest.
    pub(super) fn places(&self) -> Vec<RootPlace> {
        let mut marked: Vec<(usize, u64, SpanId)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.begins_run)
            .map(|(id, node)| (self.ancestors(*id).count(), node.started_at, *id))
            .collect();
        marked.sort_unstable();
        let mut found: BTreeMap<SpanId, Option<SpanId>> = BTreeMap::new();
        let mut places = Vec::new();
        for (_, _, span) in marked {
            let above = self.ancestors(span).map(|(id, _)| id).find(|id| found.contains_key(id));
            let agent_of = |id: &SpanId| self.nodes.get(id).and_then(|node| node.agent.clone());
            let is_explicit = self.nodes.get(&span).is_some_and(|node| is_explicit(node.source));
            let is_same = match (above.as_ref().and_then(agent_of), agent_of(&span)) {
                (Some(above), Some(own)) => above.is_same_agent(&own),
                _ => true,
            };
            if above.is_none() || !is_same || is_explicit {
                found.insert(span, above);
                places.push(RootPlace { span, above });
            }
        }
        places
    }

    /// Computes all shares again, after [`OpenTrace::roots`] changed.
    pub(super) fn share_out(&mut self) {
        self.shares.clear();
        let mut order: Vec<(u64, SpanId)> = self.nodes.iter().map(|(id, node)| (node.started_at, *id)).collect();
        order.sort_unstable();
        for (_, id) in order {
            self.add_to_share(id);
        }
    }

    /// Adds one span to the share of its run, and returns the run.
    pub(super) fn add_to_share(&mut self, id: SpanId) -> Option<TraceId> {
        let owner = self.owner(id)?;
        let node = self.nodes.get(&id)?;
        let counted = self.counted(id, node);
        self.shares.entry(owner).or_default().add(node, counted);
        Some(owner)
    }

    fn counted(&self, id: SpanId, node: &Node) -> Counted {
        if node.kind != SpanKind::Llm {
            return Counted::Whole;
        }
        // A call within a tool or an agent within a call is another call.
        let above = self.ancestors(id).map(|(_, above)| above).find(|above| above.kind != SpanKind::Other);
        if let Some(outer) = above.filter(|above| above.kind == SpanKind::Llm) {
            return if outer.tokens.is_some() { Counted::Nothing } else { Counted::Usage };
        }
        let is_repeated = |response: u64| self.responses.get(&response).is_some_and(|first| *first != id);
        if node.fields.response.is_some_and(is_repeated) { Counted::Nothing } else { Counted::Whole }
    }
}

/// Whether a run of this source begins and ends by requests rather than by spans.
pub(super) const fn is_explicit(source: RunSource) -> bool {
    matches!(source, RunSource::Api | RunSource::Hook | RunSource::Pipe | RunSource::Poll)
}

impl Share {
    fn add(&mut self, node: &Node, counted: Counted) {
        self.spans += 1;
        let end = node.started_at.saturating_add(node.duration.unwrap_or(0));
        let (first, last) = self.bounds.unwrap_or((u64::MAX, 0));
        self.bounds = Some((first.min(node.started_at), last.max(end)));
        self.note_topmost(node);
        match node.kind {
            SpanKind::Llm => self.add_call(node, counted),
            SpanKind::Tool => self.add_tool(node),
            SpanKind::Wait => {
                let waited = &mut self.waited_ns[node.source as usize];
                *waited = waited.saturating_add(node.duration.unwrap_or(0));
            }
            SpanKind::Agent | SpanKind::Retrieval | SpanKind::Other => {}
        }
    }

    fn note_topmost(&mut self, node: &Node) {
        let first = self.first.get_or_insert_with(|| Topmost {
            started_at: node.started_at,
            name: Arc::clone(&node.name),
            agent: None,
            session: None,
            task: None,
            platform: None,
        });
        if node.started_at < first.started_at {
            (first.started_at, first.name) = (node.started_at, Arc::clone(&node.name));
        }
        if let Some(agent) = &node.agent
            && first.agent.as_ref().is_none_or(|known| agent.is_named && !known.is_named)
        {
            first.agent = Some(Arc::clone(agent));
        }
        for (known, own) in [
            (&mut first.session, &node.fields.session),
            (&mut first.task, &node.fields.task),
            (&mut first.platform, &node.fields.platform),
        ] {
            if known.is_none() {
                known.clone_from(own);
            }
        }
    }

    fn add_call(&mut self, node: &Node, counted: Counted) {
        if counted == Counted::Nothing {
            return;
        }
        let (model, provider) = (&node.fields.model, &node.fields.provider);
        let unknown = || Arc::from("");
        let hour = hour_of(node.started().as_millis());
        let key = (node.source, hour, model.clone().unwrap_or_else(unknown), provider.clone().unwrap_or_else(unknown));
        let calls = &mut self.groups.calls;
        let same = |it: &CallGroup| (it.source, it.hour) == (key.0, key.1) && it.model == key.2 && it.provider == key.3;
        let place = calls.iter().position(same).unwrap_or_else(|| {
            calls.push(CallGroup {
                source: key.0,
                hour,
                model: key.2,
                provider: key.3,
                calls: 0,
                errors: 0,
                tokens: None,
                cost_nanos: None,
                durations: Sketch::default(),
            });
            calls.len() - 1
        });
        let group = &mut calls[place];
        group.tokens = add_tokens(group.tokens, node.tokens);
        group.cost_nanos = add_cost(group.cost_nanos, node.cost_nanos);
        if counted == Counted::Usage {
            return;
        }
        group.calls += 1;
        group.errors += u64::from(node.is_error);
        group.durations.add(node.duration_ms());
        if self.calls.len() < MAX_CALL_EVENTS {
            let at = self.calls.partition_point(|call| call.started_at <= node.started_at);
            self.calls.insert(
                at,
                CallEvent {
                    started_at: node.started_at,
                    is_error: node.is_error,
                    source: node.source,
                    model: model.clone(),
                    provider: provider.clone(),
                    error: node.fields.error.clone(),
                },
            );
        }
    }

    fn add_tool(&mut self, node: &Node) {
        let tool = node.fields.tool.clone().unwrap_or_else(|| Arc::clone(&node.name));
        let hour = hour_of(node.started().as_millis());
        let tools = &mut self.groups.tools;
        let same = |it: &ToolGroup| (it.source, it.hour) == (node.source, hour) && it.tool == tool;
        let place = tools.iter().position(same).unwrap_or_else(|| {
            tools.push(ToolGroup { source: node.source, hour, tool, uses: 0, errors: 0, durations: Sketch::default() });
            tools.len() - 1
        });
        let group = &mut tools[place];
        group.uses += 1;
        group.errors += u64::from(node.is_error);
        group.durations.add(node.duration_ms());
    }
}
