//! What is known of tools: their telemetry in, what it says of agents out. Pure but for what it remembers.
//!
//! Each tool is a table of names in a file of its own. Only numbers, models and names of agents leave; prompts, arguments,
//! outputs and account ids are never read. Refuses to count twice: neither what several signals say, nor what is sent again.

mod attributes;
mod autogen;
mod claude_code;
mod codex;
mod gemini_cli;
mod gen_ai;
pub(in crate::sources) mod identity;
mod item;
mod langflow;
mod limits;
mod litellm;
mod meter;
mod points;
mod reception;
mod table;
#[cfg(test)]
mod tests;
mod touched;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use attributes::{number, outcome, text};
use item::{Item, count, is_meant, model, put, tell};
use meter::{Amounts, Memory, Meters};
use table::{COLUMNS, Column, EventRow, Profile, Request};
use touched::Touched;

pub(in crate::sources) use litellm::callback;

use crate::model::project::REQUEST_DURATION_BOUNDS;
use crate::model::{AgentTelemetry, Channel, Counting, EndedTask, Reception, Time};
use crate::sources::otlp::Request as Export;
use crate::sources::otlp::config::OtlpConfig;
use crate::sources::otlp::wire::{KeyValue, LogRecord, LogsRequest, Resource, Scope, Span};

/// The tools, the general one last.
const PROFILES: [&Profile; 7] = [
    &claude_code::PROFILE,
    &codex::PROFILE,
    &gemini_cli::PROFILE,
    &litellm::PROFILE,
    &autogen::PROFILE,
    &langflow::PROFILE,
    &gen_ai::PROFILE,
];
/// Sums by which an answer is known beside its id, since some servers draw ids from a few hundred.
const ANSWERED: [&str; 2] = ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"];

/// Turns telemetry into what it says of agents.
#[derive(Debug)]
pub struct Profiles {
    /// The same after a restart, so that what was remembered is found again.
    hash: BuildHasherDefault<DefaultHasher>,
    config: OtlpConfig,
    meters: Meters,
    memory: Memory,
    receptions: reception::Book,
    /// When what is read now arrived.
    now: Time,
}

/// Where an item comes from.
struct Origin<'a> {
    channel: Channel,
    profile: &'static Profile,
    resource: &'a [KeyValue],
    scope: &'a str,
    producer: u64,
}

impl Profiles {
    /// Listens from `now` on: what cumulative streams had counted before is left out.
    pub fn new(now: Time, config: &OtlpConfig) -> Self {
        Self {
            hash: BuildHasherDefault::default(),
            config: config.clone(),
            meters: Meters::default(),
            memory: Memory::new(nanos(now)),
            receptions: reception::Book::default(),
            now,
        }
    }

    /// Takes over what was remembered before a restart.
    pub fn restore(&mut self, mut saved: Counting) {
        if saved.scheme != self.scheme() {
            return;
        }
        self.meters.restore(std::mem::take(&mut saved.groups));
        self.memory.restore(saved);
    }

    /// What was remembered anew since the last call, to be saved with what was said since then.
    pub fn take_counting(&mut self) -> Counting {
        Counting { scheme: self.scheme(), groups: self.meters.take_changed(), ..self.memory.take_fresh() }
    }

    /// What tells the way in which digests are made now from others, such as that of another standard library.
    fn scheme(&self) -> u64 {
        self.hash.hash_one(("scheme", 1_u64, Some("text"), [2_u8; 3]))
    }

    /// Takes over other rules and prices.
    pub fn configure(&mut self, config: &OtlpConfig) {
        self.config = config.clone();
    }

    /// Which signals arrived, by project and agent.
    pub fn receptions(&self) -> Vec<Reception> {
        self.receptions.all()
    }

    /// What an export says of agents; nothing that was said before.
    pub fn distil(&mut self, now: Time, export: &Export) -> Vec<AgentTelemetry> {
        self.now = now;
        let mut touched = Touched::default();
        match export {
            Export::Metrics(request) => {
                for producer in &request.resource_metrics {
                    for library in &producer.scope_metrics {
                        let origin = self.origin(Channel::Metrics, producer.resource.as_ref(), library.scope.as_ref());
                        library.metrics.iter().for_each(|metric| self.metric(&origin, metric, &mut touched));
                    }
                }
            }
            Export::Logs(request) => self.logs(Channel::Logs, request, &mut touched),
            Export::Traces(request) => {
                for producer in &request.resource_spans {
                    for library in &producer.scope_spans {
                        let origin = self.origin(Channel::Traces, producer.resource.as_ref(), library.scope.as_ref());
                        library.spans.iter().for_each(|span| self.span(&origin, span, &mut touched));
                    }
                }
            }
        }
        touched.settle(&mut self.meters, &self.config.prices)
    }

    /// What the calls of a callback say of agents; they are written as log records.
    pub(in crate::sources) fn distil_callback(&mut self, now: Time, calls: &LogsRequest) -> Vec<AgentTelemetry> {
        self.now = now;
        let mut touched = Touched::default();
        self.logs(Channel::Callback, calls, &mut touched);
        touched.settle(&mut self.meters, &self.config.prices)
    }

    fn logs(&mut self, channel: Channel, request: &LogsRequest, touched: &mut Touched) {
        for producer in &request.resource_logs {
            for library in &producer.scope_logs {
                let origin = self.origin(channel, producer.resource.as_ref(), library.scope.as_ref());
                library.log_records.iter().for_each(|record| self.log(&origin, record, touched));
            }
        }
    }

    fn origin<'a>(&self, channel: Channel, resource: Option<&'a Resource>, scope: Option<&'a Scope>) -> Origin<'a> {
        let resource = resource.map_or(&[][..], |it| &it.attributes);
        let scope = scope.map_or("", |it| &it.name);
        let service = text(resource, "service.name").unwrap_or_default();
        let by = |name: &str| PROFILES.iter().find(|it| it.prefixes.iter().any(|prefix| name.starts_with(prefix)));
        let profile = by(scope).or_else(|| by(&service)).copied().unwrap_or(&gen_ai::PROFILE);
        let host = text(resource, "host.name").filter(|_| profile.names_host);
        let parts = [Some(service), text(resource, "service.instance.id"), host];
        Origin { channel, profile, resource, scope, producer: self.hash.hash_one(parts) }
    }

    fn log(&mut self, origin: &Origin<'_>, record: &LogRecord, touched: &mut Touched) {
        let attributes = &record.attributes;
        let bare = text(attributes, "event.name").unwrap_or(std::borrow::Cow::Borrowed(&*record.event_name));
        let row = origin.profile.logs.iter().find(|row| is_meant(&row.when, &bare, attributes));
        let Some(row) = row else { return };
        let time = record.time_unix_nano.max(record.observed_time_unix_nano);
        let digest = self.digest(origin, &bare, attributes);
        if self.memory.is_new(self.hash.hash_one(("log", digest, time))) {
            let item = Item { attributes, at: self.at(time), took: None, words: &[], failed: false };
            let touched = self.is_first(origin, attributes).then_some(touched);
            self.event(origin, row, &item, touched);
        }
    }

    fn span(&mut self, origin: &Origin<'_>, span: &Span, touched: &mut Touched) {
        if !self.memory.is_new(self.hash.hash_one(("span", &span.trace_id, &span.span_id))) {
            return;
        }
        let attributes = &span.attributes;
        let row = origin.profile.spans.iter().find(|row| is_meant(&row.when, &span.name, attributes));
        match row {
            Some(row) => {
                let failed = span.status.as_ref().filter(|status| status.code == 2);
                let errors = span.events.iter().filter(|event| event.name == "exception");
                let errors: Vec<_> = errors.filter_map(|event| text(&event.attributes, "exception.message")).collect();
                let words: Vec<&str> =
                    failed.map(|status| &*status.message).into_iter().chain(errors.iter().map(|it| &**it)).collect();
                let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
                let item = Item {
                    attributes,
                    at: self.at(span.end_time_unix_nano),
                    took: (took > 0).then_some(Duration::from_nanos(took)),
                    words: &words,
                    failed: failed.is_some(),
                };
                let touched = self.is_first(origin, attributes).then_some(touched);
                self.event(origin, row, &item, touched);
            }
            // It names an agent, of whom no number is known yet.
            None if text(attributes, "gen_ai.agent.name").is_some() && origin.profile.items_name_agents => {
                let at = self.now;
                let item = Item { attributes, at, took: None, words: &[], failed: false };
                self.add(origin, &item, true, &[0.0; COLUMNS], Some(touched));
            }
            None => {}
        }
    }

    /// Whether nothing has told of this call before: two libraries may have a span each for it, LiteLLM's callback says
    /// what its spans say, and an answer out of a cache costs nothing.
    fn is_first(&mut self, origin: &Origin<'_>, attributes: &[KeyValue]) -> bool {
        let call = text(attributes, litellm::CALL_ID);
        // A call without an answer has its own id in place of the answer's.
        let answer = text(attributes, "gen_ai.response.id").filter(|answer| Some(answer) != call.as_ref());
        if let Some(call) = &call
            && !self.memory.is_new(self.hash.hash_one(("call", call, &answer)))
        {
            return false;
        }
        let Some(answer) = answer else { return true };
        let answered = ANSWERED.map(|key| number(attributes, key).map(f64::to_bits));
        let whose = if call.is_some() { 0 } else { origin.producer };
        self.memory.is_new(self.hash.hash_one(("answer", whose, answer, answered)))
    }

    /// Adds what an event says; without `touched` it was said before, and only that it arrived is noted.
    fn event(&mut self, origin: &Origin<'_>, row: &EventRow, item: &Item<'_>, mut touched: Option<&mut Touched>) {
        let attributes = item.attributes;
        let mut amounts = [0.0; COLUMNS];
        for (keys, adds) in row.fields {
            if let Some(value) = keys.iter().find_map(|key| number(attributes, key)) {
                put(&mut amounts, adds, value);
            }
        }
        if let Some(object) = text(attributes, litellm::USAGE_IN) {
            for (key, adds) in litellm::USAGE {
                let is_known = adds.iter().any(|column| amounts.get(*column as usize).is_some_and(|it| *it > 0.0));
                if let Some(value) = litellm::inner_number(&object, key).filter(|_| !is_known) {
                    put(&mut amounts, adds, value);
                }
            }
        }
        let said = self.add(origin, item, false, &amounts, touched.as_deref_mut());
        let (told, limited) = outcome(attributes);
        let failed = item.failed || told || row.request == Request::Failed;
        match row.request {
            Request::No => return,
            Request::Run => {
                if let Some(said) = said {
                    said.tasks.push(EndedTask { is_done: !failed, took: item.took });
                    said.active = said.active.max(Some(item.at));
                }
                return;
            }
            Request::Ended | Request::Failed | Request::Attempt => {}
        }
        let mut amounts = [0.0; COLUMNS];
        count(&mut amounts, 1.0, failed, limited);
        let attempt = number(attributes, "attempt").or_else(|| litellm::attempt(attributes)).unwrap_or_default();
        let retries = match row.request {
            Request::Attempt => attempt.min(1.0),
            _ => (attempt - 1.0).clamp(0.0, 100.0),
        };
        put(&mut amounts, &[Column::Retries], retries);
        let took = item.took.or_else(|| Duration::try_from_secs_f64(number(attributes, "duration_ms")? / 1000.0).ok());
        if let Some(said) = self.add(origin, item, true, &amounts, touched) {
            tell(said, origin.profile, item, failed, limited);
            if let Some(took) = took.filter(|_| self.times(origin, attributes)) {
                said.durations.observe(&REQUEST_DURATION_BOUNDS, took);
            }
        }
    }

    /// Adds amounts to what the signal says, and returns what is said of the agent. Requests are one sum for all models,
    /// since not all signals name one.
    fn add<'t>(
        &mut self,
        origin: &Origin<'_>,
        item: &Item<'_>,
        is_request: bool,
        amounts: &Amounts,
        touched: Option<&'t mut Touched>,
    ) -> Option<&'t mut AgentTelemetry> {
        let attributes = item.attributes;
        let profile = origin.profile;
        let (project, agent, is_named) = identity::identify(profile, &self.config.agents, origin.resource, attributes)?;
        let digest = self.hash.hash_one((&project, &agent, profile.name));
        self.receptions.note(digest, self.now, origin.channel, amounts, || Reception {
            project: Arc::clone(&project),
            agent: Arc::clone(&agent),
            agent_type: profile.name,
            is_named,
            channels: [None; Channel::ALL.len()],
        });
        let touched = touched?;
        let model = if is_request { None } else { model(attributes) };
        let group = self.group(origin, attributes, model.as_ref(), is_request);
        let telemetry = AgentTelemetry { project, agent, agent_type: profile.name, model, ..AgentTelemetry::default() };
        let meter = self.meter(origin);
        let said = touched.note((group, meter), amounts, telemetry, profile.tells_cost)?;
        if amounts.iter().any(|amount| *amount > 0.0) {
            said.active = said.active.max(Some(item.at));
        }
        Some(said)
    }

    /// What the numbers of one process and model are summed under.
    fn group(&self, origin: &Origin<'_>, attributes: &[KeyValue], model: Option<&Arc<str>>, is_request: bool) -> u64 {
        let profile = origin.profile;
        let session = profile.session.and_then(|key| text(attributes, key).or_else(|| text(origin.resource, key)));
        self.hash.hash_one((origin.producer, session, model, profile.name, is_request))
    }

    /// Which signal of which library says it.
    fn meter(&self, origin: &Origin<'_>) -> u64 {
        // Where each call is known by its id, all signals together say everything once.
        let said_by = (!origin.profile.tells_calls).then_some((origin.channel.as_str(), origin.scope));
        self.hash.hash_one(said_by)
    }

    /// Whether the signal of an item is the one by which the requests of its process are timed: the first that came, so
    /// that what several signals say counts once.
    fn times(&mut self, origin: &Origin<'_>, attributes: &[KeyValue]) -> bool {
        let group = self.group(origin, attributes, None, true);
        let meter = self.meter(origin);
        self.meters.times(group, meter)
    }

    /// When something was that happened at `nanos`, or now.
    fn at(&self, nanos: u64) -> Time {
        let at = i64::try_from(nanos / 1_000_000).map(Time::from_millis);
        at.ok().filter(|at| nanos > 0 && *at <= self.now).unwrap_or(self.now)
    }

    /// What tells an item from all others but for its time.
    fn digest(&self, origin: &Origin<'_>, name: &str, attributes: &[KeyValue]) -> u64 {
        let of = |attributes: &[KeyValue]| {
            attributes.iter().fold(0_u64, |sum, it| sum.wrapping_add(self.hash.hash_one((&it.key, Written(it)))))
        };
        self.hash.hash_one((of(origin.resource), origin.scope, name, of(attributes)))
    }
}

/// An attribute as its bytes on the wire, which are the same each time that it is sent.
struct Written<'a>(&'a KeyValue);

impl Hash for Written<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        prost::Message::encode_to_vec(self.0).hash(state);
    }
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000)
}
