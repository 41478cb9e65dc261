//! What the telemetry of known tools means for agents: exports in, usage by agent out. One file per tool.
//!
//! Only numbers, models and names of agents leave this module; prompts, arguments, outputs and account ids are never
//! read. Nothing is counted twice, neither what several signals report nor what is sent again: `signal_totals` and
//! `dedup`. These profiles have nothing to do with OTLP's signal of that name.

mod ag2;
mod attributes;
mod autogen;
mod claude_code;
mod codex;
pub mod content;
mod dedup;
mod export_totals;
mod gemini_cli;
mod gen_ai;
pub mod identity;
mod item;
mod langflow;
mod limits;
mod litellm;
mod points;
mod profile;
mod reception;
pub mod registered;
mod scope;
mod signal_totals;
pub mod spans;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use attributes::{Attributes, number, outcome, text};
use dedup::DedupCache;
use export_totals::ExportTotals;
use item::{Attempts, TelemetryItem, add_to, attempts, count, matches, model, record_outcome};
use profile::{COLUMNS, EventRow, MetricSet, Profile, RequestKind, UsageColumn};
use registered::{NameFeed, RegisteredNames};
use scope::{ResourceIdentity, ScopeIdentity};
use signal_totals::{Amounts, SignalTotals};
use siphasher::sip::SipHasher13;

pub(crate) use litellm::callback;

use crate::model::project::REQUEST_DURATION_BOUNDS;
use crate::model::{AgentTelemetry, CountingState, DigestKey, EndedTask, TelemetryChannel, TelemetryChannels, Time};
use crate::otlp::OtlpRequest as Export;
use crate::otlp::config::OtlpConfig;
use crate::otlp::wire::{ExportLogsServiceRequest, KeyValue, LogRecord, Resource, Span};

/// All profiles. The first one that matches is used; the generic one comes last.
const PROFILES: [&Profile; 7] = [
    &claude_code::PROFILE,
    &codex::PROFILE,
    &gemini_cli::PROFILE,
    &litellm::PROFILE,
    &autogen::PROFILE,
    &langflow::PROFILE,
    &gen_ai::PROFILE,
];
/// Counts that identify a response together with its id: some servers draw ids from a few hundred.
const RESPONSE_USAGE: [&str; 2] = ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"];

/// The span event that Claude Code adds for each attempt at a request.
const ATTEMPT_EVENT: &str = "gen_ai.request.attempt";

/// Turns exports into usage by agent, and remembers what has been counted.
#[derive(Debug)]
pub struct Profiles {
    digests: DigestBuilder,
    config: OtlpConfig,
    signal_totals: SignalTotals,
    dedup: DedupCache,
    receptions: reception::ReceptionLog,
    registered: RegisteredNames,
    /// When the export that is being read arrived.
    now: Time,
}

/// Hashes with a secret key, so that collisions cannot be constructed. The key is saved, so that digests that were saved
/// before a restart are found again.
#[derive(Clone, Copy, Debug)]
struct DigestBuilder(DigestKey);

impl DigestBuilder {
    fn new() -> Self {
        // The seeds of `RandomState` come from the operating system.
        let random = RandomState::new();
        Self(DigestKey([random.hash_one(0), random.hash_one(1)]))
    }
}

impl BuildHasher for DigestBuilder {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        let DigestKey([first, second]) = self.0;
        SipHasher13::new_with_keys(first, second)
    }
}

impl Profiles {
    /// Nothing counted yet; what cumulative streams counted before `now` will not count.
    pub fn new(now: Time, config: &OtlpConfig) -> Self {
        Self {
            digests: DigestBuilder::new(),
            config: config.clone(),
            signal_totals: SignalTotals::default(),
            dedup: DedupCache::new(nanos(now)),
            receptions: reception::ReceptionLog::default(),
            registered: RegisteredNames::default(),
            now,
        }
    }

    /// Restores what was saved before a restart. Digests of another scheme mean nothing here and are ignored.
    pub fn restore(&mut self, mut saved: CountingState) {
        let Some(key) = saved.key else { return };
        let digests = DigestBuilder(key);
        if saved.scheme != scheme(digests) {
            return;
        }
        self.digests = digests;
        self.signal_totals.restore(std::mem::take(&mut saved.groups));
        self.dedup.restore(saved);
    }

    /// What changed since the last call. It must be saved together with the usage that was returned since then.
    pub fn take_counting(&mut self) -> CountingState {
        CountingState {
            scheme: scheme(self.digests),
            key: Some(self.digests.0),
            groups: self.signal_totals.take_changed(),
            ..self.dedup.take_unsaved()
        }
    }

    /// Sets where names of registered agents come from.
    pub fn set_registered(&mut self, names: NameFeed) {
        self.registered = RegisteredNames::fed_by(names);
    }

    /// Replaces the rules that name agents, and the prices.
    pub fn configure(&mut self, config: &OtlpConfig) {
        self.config = config.clone();
    }

    /// Which signals arrived of which agents, by project and agent.
    pub fn receptions(&self) -> Vec<TelemetryChannels> {
        self.receptions.all()
    }

    /// The usage by agent that an export adds to what has been counted.
    pub fn extract(&mut self, now: Time, export: &Export) -> Vec<AgentTelemetry> {
        self.now = now;
        self.registered.refresh();
        let mut totals = ExportTotals::default();
        match export {
            Export::Metrics(request) => {
                for resource_metrics in &request.resource_metrics {
                    let resource = self.resource(resource_metrics.resource.as_ref());
                    for scope_metrics in &resource_metrics.scope_metrics {
                        let scope =
                            resource.scope(&self.digests, TelemetryChannel::Metrics, scope_metrics.scope.as_ref());
                        scope_metrics.metrics.iter().for_each(|metric| self.metric(&scope, metric, &mut totals));
                    }
                }
            }
            Export::Logs(request) => self.logs(TelemetryChannel::Logs, request, &mut totals),
            Export::Traces(request) => {
                for resource_spans in &request.resource_spans {
                    let resource = self.resource(resource_spans.resource.as_ref());
                    for scope_spans in &resource_spans.scope_spans {
                        let scope = resource.scope(&self.digests, TelemetryChannel::Traces, scope_spans.scope.as_ref());
                        let name = scope_spans.scope.as_ref().map(|scope| &*scope.name);
                        let by_id = ag2::by_id(name, &scope_spans.spans);
                        for span in &scope_spans.spans {
                            let named = by_id.as_ref().and_then(|by_id| ag2::with_agent_above(span, by_id));
                            self.span(&scope, named.as_ref().unwrap_or(span), &mut totals);
                        }
                    }
                }
            }
        }
        totals.finish(&mut self.signal_totals, &self.config.prices)
    }

    /// The usage by agent that LiteLLM's callback adds; its calls come as log records.
    pub(crate) fn extract_callback(&mut self, now: Time, calls: &ExportLogsServiceRequest) -> Vec<AgentTelemetry> {
        self.now = now;
        self.registered.refresh();
        let mut totals = ExportTotals::default();
        self.logs(TelemetryChannel::Callback, calls, &mut totals);
        totals.finish(&mut self.signal_totals, &self.config.prices)
    }

    fn resource(&self, resource: Option<&Resource>) -> ResourceIdentity {
        ResourceIdentity::new(&self.digests, &self.config.agents, resource)
    }

    fn logs(&mut self, channel: TelemetryChannel, request: &ExportLogsServiceRequest, totals: &mut ExportTotals) {
        for resource_logs in &request.resource_logs {
            let resource = self.resource(resource_logs.resource.as_ref());
            for scope_logs in &resource_logs.scope_logs {
                let scope = resource.scope(&self.digests, channel, scope_logs.scope.as_ref());
                scope_logs.log_records.iter().for_each(|record| self.log(&scope, record, totals));
            }
        }
    }

    fn log(&mut self, scope: &ScopeIdentity<'_>, record: &LogRecord, totals: &mut ExportTotals) {
        let attributes = Attributes::new(&record.attributes);
        let name = text(attributes, "event.name").unwrap_or(Cow::Borrowed(&*record.event_name));
        let row = scope.profile.logs.iter().find(|row| matches(&row.matching, &name, attributes));
        let Some(row) = row else { return };
        let time = record.time_unix_nano.max(record.observed_time_unix_nano);
        let digest = self.digest(scope, &name, attributes.list());
        if self.dedup.insert(self.digests.hash_one(("log", digest, time))) {
            let item =
                TelemetryItem { attributes, at: self.at(time), took: None, errors: &[], failed: false, attempts: 0 };
            let totals = self.is_first_report(scope, attributes).then_some(totals);
            self.event(scope, row, &item, totals);
        }
    }

    fn span(&mut self, scope: &ScopeIdentity<'_>, span: &Span, totals: &mut ExportTotals) {
        if !self.dedup.insert(self.digests.hash_one(("span", &span.trace_id, &span.span_id))) {
            return;
        }
        let attributes = Attributes::new(&span.attributes);
        let row = scope.profile.spans.iter().find(|row| matches(&row.matching, &span.name, attributes));
        match row {
            Some(row) => {
                let failed = span.status.as_ref().filter(|status| status.code == 2);
                let exceptions = span.events.iter().filter(|event| event.name == "exception");
                let exceptions: Vec<_> =
                    exceptions.filter_map(|event| text(&event.attributes, "exception.message")).collect();
                let errors: Vec<&str> = failed
                    .map(|status| &*status.message)
                    .into_iter()
                    .chain(exceptions.iter().map(|it| &**it))
                    .collect();
                let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
                let item = TelemetryItem {
                    attributes,
                    at: self.at(span.end_time_unix_nano),
                    took: (took > 0).then_some(Duration::from_nanos(took)),
                    errors: &errors,
                    failed: failed.is_some(),
                    attempts: span.events.iter().filter(|event| event.name == ATTEMPT_EVENT).count(),
                };
                let totals = self.is_first_report(scope, attributes).then_some(totals);
                self.event(scope, row, &item, totals);
            }
            // A span without usage still names its agent.
            None if text(attributes, "gen_ai.agent.name").is_some() && scope.profile.agent_from_items => {
                let at = self.now;
                let item = TelemetryItem { attributes, at, took: None, errors: &[], failed: false, attempts: 0 };
                self.add(scope, MetricSet::Only, &item, true, &[0.0; COLUMNS], Some(totals));
            }
            None => {}
        }
    }

    /// Whether this is the first report of the call that an item is about.
    ///
    /// Two libraries may each have a span for it, LiteLLM's callback reports what its spans report, and a response out
    /// of a cache costs nothing.
    fn is_first_report(&mut self, scope: &ScopeIdentity<'_>, attributes: Attributes<'_>) -> bool {
        let call = text(attributes, litellm::CALL_ID);
        // A call without a response has its own id in place of the response's.
        let response = text(attributes, "gen_ai.response.id").filter(|response| Some(response) != call.as_ref());
        if let Some(call) = &call
            && !self.dedup.insert(self.digests.hash_one(("call", call, &response)))
        {
            return false;
        }
        let Some(response) = response else { return true };
        let usage = RESPONSE_USAGE.map(|key| number(attributes, key).map(f64::to_bits));
        let by_proxy = self.digests.hash_one(("answer", 0_u64, &response, usage));
        let by_caller = self.digests.hash_one(("asked", &response, usage));
        if call.is_some() {
            return self.dedup.insert(by_proxy) && !self.dedup.contains(by_caller);
        }
        // Where the caller names a session, its calls and the proxy's are matched by that instead.
        let through_proxy = scope.profile.session_attribute.is_none() && {
            self.dedup.insert(by_caller);
            self.dedup.contains(by_proxy)
        };
        self.dedup.insert(self.digests.hash_one(("answer", scope.process_hash, &response, usage))) && !through_proxy
    }

    /// The attempts at a request before its last one, and how many requests the last one counts as (0 or 1); without
    /// attempts that other items reported.
    fn attempts(&mut self, row: &EventRow, item: &TelemetryItem<'_>, failed: bool) -> (Attempts, f64) {
        let mut attempts = attempts(row.request, item);
        let Some(call) = text(item.attributes, litellm::CALL_ID) else { return (attempts, 1.0) };
        // LiteLLM reports the first failure of a call in an item of its own, and then the number of all attempts.
        let succeeded = self.digests.hash_one(("succeeded", &call));
        if failed {
            return (attempts, if self.dedup.contains(succeeded) { 0.0 } else { 1.0 });
        }
        if attempts.failed_before > 0.0 {
            self.dedup.insert(succeeded);
            let failure = self.digests.hash_one(("call", &call, None::<Cow<'_, str>>));
            attempts.failed_before -= if self.dedup.contains(failure) { 1.0 } else { 0.0 };
        }
        (attempts, 1.0)
    }

    /// Adds what an event reports. Without `totals` it has been reported before, and only its reception is recorded.
    fn event(
        &mut self,
        scope: &ScopeIdentity<'_>,
        row: &EventRow,
        item: &TelemetryItem<'_>,
        mut totals: Option<&mut ExportTotals>,
    ) {
        let attributes = item.attributes;
        let mut amounts = [0.0; COLUMNS];
        for (keys, columns) in row.fields {
            if let Some(value) = keys.iter().find_map(|key| number(attributes, key)) {
                add_to(&mut amounts, columns, value);
            }
        }
        if let Some(object) = text(attributes, litellm::USAGE_OBJECT) {
            for (key, columns) in litellm::USAGE_KEYS {
                let is_known = columns.iter().any(|column| amounts.get(*column as usize).is_some_and(|it| *it > 0.0));
                if let Some(value) = litellm::inner_number(&object, key).filter(|_| !is_known) {
                    add_to(&mut amounts, columns, value);
                }
            }
        }
        let telemetry = self.add(scope, MetricSet::Only, item, false, &amounts, totals.as_deref_mut());
        let (reported_failure, rate_limited) = outcome(attributes);
        let failed = item.failed || reported_failure || row.request == RequestKind::Failed;
        match row.request {
            RequestKind::None => return,
            RequestKind::TaskRun => {
                if let Some(telemetry) = telemetry {
                    telemetry.tasks.push(EndedTask { is_done: !failed, took: item.took });
                    telemetry.active = telemetry.active.max(Some(item.at));
                }
                return;
            }
            RequestKind::StreamFailed => {
                let mut amounts = [0.0; COLUMNS];
                add_to(&mut amounts, &[UsageColumn::Errors], 1.0);
                self.add(scope, MetricSet::Only, item, true, &amounts, totals);
                return;
            }
            RequestKind::Ended | RequestKind::Failed | RequestKind::Attempt => {}
        }
        let mut amounts = [0.0; COLUMNS];
        let (attempts, last) = self.attempts(row, item, failed);
        count(&mut amounts, attempts.failed_before, true, false);
        count(&mut amounts, last, failed, false);
        add_to(&mut amounts, &[UsageColumn::RateLimited], if rate_limited { 1.0 } else { 0.0 });
        add_to(&mut amounts, &[UsageColumn::Retries], attempts.retries);
        let took = item.took.or_else(|| Duration::try_from_secs_f64(number(attributes, "duration_ms")? / 1000.0).ok());
        if let Some(telemetry) = self.add(scope, MetricSet::Only, item, true, &amounts, totals) {
            record_outcome(telemetry, scope.profile, item, failed, rate_limited);
            if let Some(took) = took.filter(|_| self.is_duration_source(scope, attributes)) {
                telemetry.durations.observe(&REQUEST_DURATION_BOUNDS, took);
            }
        }
    }

    /// Adds amounts to the sums of a signal, and returns the telemetry of the agent for whatever else an item reports.
    ///
    /// Requests are one sum for all models, since not all signals name the model of a request.
    fn add<'t>(
        &mut self,
        scope: &ScopeIdentity<'_>,
        set: MetricSet,
        item: &TelemetryItem<'_>,
        is_request: bool,
        amounts: &Amounts,
        totals: Option<&'t mut ExportTotals>,
    ) -> Option<&'t mut AgentTelemetry> {
        let attributes = item.attributes;
        let profile = scope.profile;
        let (project, agent, is_named) =
            identity::identify(profile, &self.config.agents, &self.registered, scope.resource, attributes)?;
        let digest = self.digests.hash_one((&project, &agent, profile.name));
        self.receptions.record(digest, self.now, scope.channel, amounts, || TelemetryChannels {
            project: Arc::clone(&project),
            agent: Arc::clone(&agent),
            agent_type: profile.name,
            is_named,
            lacks_session: false,
            channels: [None; TelemetryChannel::ALL.len()],
        });
        if amounts.iter().take(UsageColumn::Cost as usize).any(|amount| *amount > 0.0)
            && self.session(scope, attributes).is_none()
        {
            self.receptions.record_missing_session(digest);
        }
        let totals = totals?;
        let model = if is_request { None } else { model(attributes) };
        let group = self.group(scope, attributes, model.as_ref(), is_request);
        let telemetry = AgentTelemetry { project, agent, agent_type: profile.name, model, ..AgentTelemetry::default() };
        let signal = self.signal(scope, set);
        let price_follows = profile.spans_lack_cost
            && scope.channel == TelemetryChannel::Traces
            && self.receptions.has_more_than_spans(digest, self.now);
        let telemetry = totals.add((group, signal), amounts, telemetry, price_follows)?;
        if amounts.iter().any(|amount| *amount > 0.0) {
            telemetry.active = telemetry.active.max(Some(item.at));
        }
        Some(telemetry)
    }

    /// The digest under which the usage of one process and model is summed up. In a session it is the session's: a tool
    /// and the proxy that it calls report the same calls.
    fn group(
        &self,
        scope: &ScopeIdentity<'_>,
        attributes: Attributes<'_>,
        model: Option<&Arc<str>>,
        is_request: bool,
    ) -> u64 {
        let profile = scope.profile;
        match self.session(scope, attributes) {
            Some(session) => self.digests.hash_one(("session", session, model, is_request)),
            None => self.digests.hash_one((scope.process_hash, model, profile.name, is_request)),
        }
    }

    /// The session of an item, where the tool and the proxy that it calls name the same one.
    fn session<'a>(&self, scope: &ScopeIdentity<'a>, attributes: Attributes<'a>) -> Option<Cow<'a, str>> {
        match scope.profile.session_attribute {
            Some(key) => text(attributes, key).or_else(|| text(scope.resource, key)),
            None if scope.profile.has_call_ids => litellm::session(attributes),
            None => None,
        }
    }

    /// The digest of the signal, scope and set of metrics that an item comes from.
    fn signal(&self, scope: &ScopeIdentity<'_>, set: MetricSet) -> u64 {
        // Where calls are deduplicated by their ids, all signals add to one sum.
        let profile = scope.profile;
        let source = (!profile.has_call_ids).then_some((scope.channel.as_str(), scope.scope_hash, set));
        self.digests.hash_one((profile.name, source))
    }

    /// Whether request durations are taken from the signal of an item: from the first one that arrived, so that a request
    /// that several signals report is observed once.
    fn is_duration_source(&mut self, scope: &ScopeIdentity<'_>, attributes: Attributes<'_>) -> bool {
        let group = self.group(scope, attributes, None, true);
        let signal = self.signal(scope, MetricSet::Only);
        self.signal_totals.is_duration_source(group, signal)
    }

    /// The time `nanos`, or now if it is unset or in the future.
    fn at(&self, nanos: u64) -> Time {
        let at = i64::try_from(nanos / 1_000_000).map(Time::from_millis);
        at.ok().filter(|at| nanos > 0 && *at <= self.now).unwrap_or(self.now)
    }

    /// The digest of everything that identifies an item except its time.
    fn digest(&self, scope: &ScopeIdentity<'_>, name: &str, attributes: &[KeyValue]) -> u64 {
        self.digests.hash_one((scope.identity_hash, name, scope::attributes_hash(&self.digests, attributes)))
    }
}

/// A digest that differs when digests are made in another way, such as by another version of the standard library.
fn scheme(digests: DigestBuilder) -> u64 {
    digests.hash_one(("scheme", 2_u64, Some("text"), [2_u8; 3]))
}

fn nanos(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000)
}
