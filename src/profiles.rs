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
pub mod identity;
mod item;
mod langflow;
mod limits;
mod litellm;
mod meter;
mod origin;
mod points;
mod reception;
mod table;
#[cfg(test)]
mod tests;
mod touched;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use attributes::{number, outcome, text};
use item::{Item, Tries, count, is_meant, model, put, tell, tries};
use meter::{Amounts, Memory, Meters};
use origin::{Origin, Producer};
use siphasher::sip::SipHasher13;
use table::{COLUMNS, Column, EventRow, Profile, Request, Set};
use touched::Touched;

pub(crate) use litellm::callback;

use crate::model::project::REQUEST_DURATION_BOUNDS;
use crate::model::{AgentTelemetry, CountingState, DigestKey, EndedTask, TelemetryChannel, TelemetryChannels, Time};
use crate::otlp::OtlpRequest as Export;
use crate::otlp::config::OtlpConfig;
use crate::otlp::wire::{ExportLogsServiceRequest, KeyValue, LogRecord, Span};

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

/// The event of a span that each try at an answer is.
const TRY: &str = "gen_ai.request.attempt";

/// Turns telemetry into what it says of agents.
#[derive(Debug)]
pub struct Profiles {
    hash: Digests,
    config: OtlpConfig,
    meters: Meters,
    memory: Memory,
    receptions: reception::Book,
    /// When what is read now arrived.
    now: Time,
}

/// How digests are made: with a secret, so that nobody can make two things that are one, and with the same after a
/// restart, so that what was remembered is found again.
#[derive(Clone, Copy, Debug)]
struct Digests(DigestKey);

impl Digests {
    fn new() -> Self {
        // Its seeds come from the operating system.
        let random = RandomState::new();
        Self(DigestKey([random.hash_one(0), random.hash_one(1)]))
    }
}

impl BuildHasher for Digests {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let DigestKey([first, second]) = self.0;
        SipHasher13::new_with_keys(first, second)
    }
}

impl Profiles {
    /// Listens from `now` on: what cumulative streams had counted before is left out.
    pub fn new(now: Time, config: &OtlpConfig) -> Self {
        Self {
            hash: Digests::new(),
            config: config.clone(),
            meters: Meters::default(),
            memory: Memory::new(nanos(now)),
            receptions: reception::Book::default(),
            now,
        }
    }

    /// Takes over what was remembered before a restart.
    pub fn restore(&mut self, mut saved: CountingState) {
        let Some(key) = saved.key else { return };
        let hash = Digests(key);
        if saved.scheme != scheme(hash) {
            return;
        }
        self.hash = hash;
        self.meters.restore(std::mem::take(&mut saved.groups));
        self.memory.restore(saved);
    }

    /// What was remembered anew since the last call, to be saved with what was said since then.
    pub fn take_counting(&mut self) -> CountingState {
        CountingState {
            scheme: scheme(self.hash),
            key: Some(self.hash.0),
            groups: self.meters.take_changed(),
            ..self.memory.take_fresh()
        }
    }

    /// Takes over other rules and prices.
    pub fn configure(&mut self, config: &OtlpConfig) {
        self.config = config.clone();
    }

    /// Which signals arrived, by project and agent.
    pub fn receptions(&self) -> Vec<TelemetryChannels> {
        self.receptions.all()
    }

    /// What an export says of agents; nothing that was said before.
    pub fn extract(&mut self, now: Time, export: &Export) -> Vec<AgentTelemetry> {
        self.now = now;
        let mut touched = Touched::default();
        match export {
            Export::Metrics(request) => {
                for producer in &request.resource_metrics {
                    let known = Producer::of(&self.hash, &self.config.agents, producer.resource.as_ref());
                    for library in &producer.scope_metrics {
                        let origin = known.origin(&self.hash, TelemetryChannel::Metrics, library.scope.as_ref());
                        library.metrics.iter().for_each(|metric| self.metric(&origin, metric, &mut touched));
                    }
                }
            }
            Export::Logs(request) => self.logs(TelemetryChannel::Logs, request, &mut touched),
            Export::Traces(request) => {
                for producer in &request.resource_spans {
                    let known = Producer::of(&self.hash, &self.config.agents, producer.resource.as_ref());
                    for library in &producer.scope_spans {
                        let origin = known.origin(&self.hash, TelemetryChannel::Traces, library.scope.as_ref());
                        library.spans.iter().for_each(|span| self.span(&origin, span, &mut touched));
                    }
                }
            }
        }
        touched.settle(&mut self.meters, &self.config.prices)
    }

    /// What the calls of a callback say of agents; they are written as log records.
    pub(crate) fn extract_callback(&mut self, now: Time, calls: &ExportLogsServiceRequest) -> Vec<AgentTelemetry> {
        self.now = now;
        let mut touched = Touched::default();
        self.logs(TelemetryChannel::Callback, calls, &mut touched);
        touched.settle(&mut self.meters, &self.config.prices)
    }

    fn logs(&mut self, channel: TelemetryChannel, request: &ExportLogsServiceRequest, touched: &mut Touched) {
        for producer in &request.resource_logs {
            let known = Producer::of(&self.hash, &self.config.agents, producer.resource.as_ref());
            for library in &producer.scope_logs {
                let origin = known.origin(&self.hash, channel, library.scope.as_ref());
                library.log_records.iter().for_each(|record| self.log(&origin, record, touched));
            }
        }
    }

    fn log(&mut self, origin: &Origin<'_>, record: &LogRecord, touched: &mut Touched) {
        let attributes = &record.attributes;
        let bare = text(attributes, "event.name").unwrap_or(std::borrow::Cow::Borrowed(&*record.event_name));
        let row = origin.profile.logs.iter().find(|row| is_meant(&row.when, &bare, attributes));
        let Some(row) = row else { return };
        let time = record.time_unix_nano.max(record.observed_time_unix_nano);
        let digest = self.digest(origin, &bare, attributes);
        if self.memory.is_new(self.hash.hash_one(("log", digest, time))) {
            let item = Item { attributes, at: self.at(time), took: None, words: &[], failed: false, tries: 0 };
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
                    tries: span.events.iter().filter(|event| event.name == TRY).count(),
                };
                let touched = self.is_first(origin, attributes).then_some(touched);
                self.event(origin, row, &item, touched);
            }
            // It names an agent, of whom no number is known yet.
            None if text(attributes, "gen_ai.agent.name").is_some() && origin.profile.items_name_agents => {
                let at = self.now;
                let item = Item { attributes, at, took: None, words: &[], failed: false, tries: 0 };
                self.add(origin, Set::Only, &item, true, &[0.0; COLUMNS], Some(touched));
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
        let by_proxy = self.hash.hash_one(("answer", 0_u64, &answer, answered));
        let by_caller = self.hash.hash_one(("asked", &answer, answered));
        if call.is_some() {
            return self.memory.is_new(by_proxy) && !self.memory.knows(by_caller);
        }
        // Calls in a session are told apart from those of a proxy by that.
        let through_proxy = origin.profile.session.is_none() && {
            self.memory.is_new(by_caller);
            self.memory.knows(by_proxy)
        };
        self.memory.is_new(self.hash.hash_one(("answer", origin.producer, &answer, answered))) && !through_proxy
    }

    /// How a request was tried, without those tries that other items told of.
    fn tries(&mut self, row: &EventRow, item: &Item<'_>, failed: bool) -> (Tries, f64) {
        let mut tries = tries(row.request, item);
        let Some(call) = text(item.attributes, litellm::CALL_ID) else { return (tries, 1.0) };
        // LiteLLM tells of the first of a call's failures by itself, and then how often it tried in all.
        let cured = self.hash.hash_one(("cured", &call));
        if failed {
            return (tries, if self.memory.knows(cured) { 0.0 } else { 1.0 });
        }
        if tries.failed_before > 0.0 {
            self.memory.is_new(cured);
            let refused = self.hash.hash_one(("call", &call, None::<std::borrow::Cow<'_, str>>));
            tries.failed_before -= if self.memory.knows(refused) { 1.0 } else { 0.0 };
        }
        (tries, 1.0)
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
        let said = self.add(origin, Set::Only, item, false, &amounts, touched.as_deref_mut());
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
            Request::Broken => {
                let mut amounts = [0.0; COLUMNS];
                put(&mut amounts, &[Column::Errors], 1.0);
                self.add(origin, Set::Only, item, true, &amounts, touched);
                return;
            }
            Request::Ended | Request::Failed | Request::Attempt => {}
        }
        let mut amounts = [0.0; COLUMNS];
        let (tries, last) = self.tries(row, item, failed);
        count(&mut amounts, tries.failed_before, true, false);
        count(&mut amounts, last, failed, false);
        put(&mut amounts, &[Column::RateLimited], if limited { 1.0 } else { 0.0 });
        put(&mut amounts, &[Column::Retries], tries.retries);
        let took = item.took.or_else(|| Duration::try_from_secs_f64(number(attributes, "duration_ms")? / 1000.0).ok());
        if let Some(said) = self.add(origin, Set::Only, item, true, &amounts, touched) {
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
        set: Set,
        item: &Item<'_>,
        is_request: bool,
        amounts: &Amounts,
        touched: Option<&'t mut Touched>,
    ) -> Option<&'t mut AgentTelemetry> {
        let attributes = item.attributes;
        let profile = origin.profile;
        let (project, agent, is_named) = identity::identify(profile, &self.config.agents, origin.resource, attributes)?;
        let digest = self.hash.hash_one((&project, &agent, profile.name));
        self.receptions.note(digest, self.now, origin.channel, amounts, || TelemetryChannels {
            project: Arc::clone(&project),
            agent: Arc::clone(&agent),
            agent_type: profile.name,
            is_named,
            lacks_session: false,
            channels: [None; TelemetryChannel::ALL.len()],
        });
        if amounts.iter().take(Column::Cost as usize).any(|amount| *amount > 0.0)
            && self.session(origin, attributes).is_none()
        {
            self.receptions.lacks_session(digest);
        }
        let touched = touched?;
        let model = if is_request { None } else { model(attributes) };
        let group = self.group(origin, attributes, model.as_ref(), is_request);
        let telemetry = AgentTelemetry { project, agent, agent_type: profile.name, model, ..AgentTelemetry::default() };
        let meter = self.meter(origin, set);
        let price_follows = profile.spans_lack_cost
            && origin.channel == TelemetryChannel::Traces
            && self.receptions.has_more_than_spans(digest, self.now);
        let said = touched.note((group, meter), amounts, telemetry, price_follows)?;
        if amounts.iter().any(|amount| *amount > 0.0) {
            said.active = said.active.max(Some(item.at));
        }
        Some(said)
    }

    /// What the numbers of one process and model are summed under. In a session, whoever tells of its calls, be it the
    /// tool or a proxy that it asks, tells of the same ones.
    fn group(&self, origin: &Origin<'_>, attributes: &[KeyValue], model: Option<&Arc<str>>, is_request: bool) -> u64 {
        let profile = origin.profile;
        match self.session(origin, attributes) {
            Some(session) => self.hash.hash_one(("session", session, model, is_request)),
            None => self.hash.hash_one((origin.producer, model, profile.name, is_request)),
        }
    }

    /// The session that an item belongs to, where its tool and a proxy that it asks name the same.
    fn session<'a>(&self, origin: &Origin<'a>, attributes: &'a [KeyValue]) -> Option<std::borrow::Cow<'a, str>> {
        match origin.profile.session {
            Some(key) => text(attributes, key).or_else(|| text(origin.resource, key)),
            None if origin.profile.tells_calls => litellm::session(attributes),
            None => None,
        }
    }

    /// Which signal of which library says it.
    fn meter(&self, origin: &Origin<'_>, set: Set) -> u64 {
        // Where each call is known by its id, all signals together say everything once.
        let profile = origin.profile;
        let said_by = (!profile.tells_calls).then_some((origin.channel.as_str(), origin.scope, set));
        self.hash.hash_one((profile.name, said_by))
    }

    /// Whether the signal of an item is the one by which the requests of its process are timed: the first that came, so
    /// that what several signals say counts once.
    fn times(&mut self, origin: &Origin<'_>, attributes: &[KeyValue]) -> bool {
        let group = self.group(origin, attributes, None, true);
        let meter = self.meter(origin, Set::Only);
        self.meters.times(group, meter)
    }

    /// When something was that happened at `nanos`, or now.
    fn at(&self, nanos: u64) -> Time {
        let at = i64::try_from(nanos / 1_000_000).map(Time::from_millis);
        at.ok().filter(|at| nanos > 0 && *at <= self.now).unwrap_or(self.now)
    }

    /// What tells an item from all others but for its time.
    fn digest(&self, origin: &Origin<'_>, name: &str, attributes: &[KeyValue]) -> u64 {
        self.hash.hash_one((origin.all, name, origin::sum(&self.hash, attributes)))
    }
}

/// What tells the way in which digests are made now from others, such as that of another standard library.
fn scheme(hash: Digests) -> u64 {
    hash.hash_one(("scheme", 2_u64, Some("text"), [2_u8; 3]))
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000)
}
