//! What the spans of known tools mean for runs: their kind, model, tokens and agent, whatever convention names them.
//!
//! Prompts, answers, arguments and outputs are left out unless the configuration asks for them, see `content`.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::HashMap;
use rustc_hash::FxBuildHasher;

use super::attributes::{Attributes, number, outcome, text};
use super::content::{self, ContentFilter, MAX_KEY};
use super::item::{add_to, matches, model};
use super::profile::{
    CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, CALLS, COLUMNS, COST, Columns, INPUT, OPERATION, OUTPUT, Profile,
    REASONING_OF_OUTPUT, UsageColumn,
};
use super::registered::{NameFeed, RegisteredName, RegisteredNames};
use super::scope::{ResourceIdentity, ScopeIdentity};
use super::{gen_ai, identity, litellm};
use crate::model::{
    AgentIdentity, Capture, RunFacts, RunSource, Span, SpanField, SpanId, SpanKind, SpanReport, SpanStatus, SpanValue,
    TelemetryChannel, TokenCounts, TokenType, TraceId,
};
use crate::otlp::config::{OtlpConfig, price_of};
use crate::otlp::wire::{self, AnyValue, ExportTraceServiceRequest, KeyValue, Value};
use crate::text::{clean, keys, names};

/// Longest name of a span and longest error, in bytes.
const MAX_NAME: usize = 200;
/// Longest text of an attribute: by default, and where content is captured.
const MAX_TEXT: [usize; 2] = [content::MAX_TEXT, 8 << 10];
/// Most attributes of a span; more are left out.
const MAX_ATTRIBUTES: usize = 64;
/// Fields that most spans have room for without growing.
const USUAL_FIELDS: usize = 7;
/// Agents that are remembered.
const MAX_AGENTS: usize = 4_096;

/// Reads spans out of exports.
#[derive(Debug)]
pub struct SpanReader {
    config: OtlpConfig,
    capture: Capture,
    content: ContentFilter,
    /// Agents by project, name and type, so that spans share them.
    agents: HashMap<(Arc<str>, Arc<str>), Arc<AgentIdentity>>,
    registered: RegisteredNames,
}

/// What kind of span it is, and whether an agent's execution begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    kind: SpanKind,
    begins_run: bool,
}

const OTHER: Meaning = meaning(SpanKind::Other);
const AGENT: Meaning = Meaning { kind: SpanKind::Agent, begins_run: true };

const fn meaning(kind: SpanKind) -> Meaning {
    Meaning { kind, begins_run: false }
}

/// Spans of known tools whose kind is in no attribute of a convention.
const NAMED: &[(&str, Meaning)] = &[
    ("claude_code.interaction", AGENT),
    ("claude_code.llm_request", meaning(SpanKind::Llm)),
    ("claude_code.tool", meaning(SpanKind::Tool)),
    ("claude_code.tool.blocked_on_user", meaning(SpanKind::Wait)),
    ("claude_code.tool.execution", OTHER),
    ("flow.execute", AGENT),
    ("litellm_request", meaning(SpanKind::Llm)),
    ("raw_gen_ai_request", OTHER),
    ("session_task.turn", AGENT),
    ("model_client.stream_responses_api", meaning(SpanKind::Llm)),
    ("agent.send_message", AGENT),
    ("agent.tool.execute", meaning(SpanKind::Tool)),
    ("llm.request", meaning(SpanKind::Llm)),
    ("llm.stream", meaning(SpanKind::Llm)),
];

/// Operations of the GenAI conventions, and those that tools made up.
const OPERATIONS: &[(&str, Meaning)] = &[
    ("invoke_agent", AGENT),
    ("invoke_workflow", AGENT),
    ("agent_call", AGENT),
    ("execute_tool", meaning(SpanKind::Tool)),
    ("tool_call", meaning(SpanKind::Tool)),
    ("llm_call", meaning(SpanKind::Llm)),
    ("retrieval", meaning(SpanKind::Retrieval)),
];

/// OpenInference's kinds. A chain is an agent where nothing is above it.
const OPEN_INFERENCE: &[(&str, Meaning)] = &[
    ("LLM", meaning(SpanKind::Llm)),
    ("EMBEDDING", meaning(SpanKind::Llm)),
    ("TOOL", meaning(SpanKind::Tool)),
    ("AGENT", AGENT),
    ("RETRIEVER", meaning(SpanKind::Retrieval)),
    ("RERANKER", meaning(SpanKind::Retrieval)),
];

/// OpenLLMetry's kinds.
const TRACELOOP: &[(&str, Meaning)] =
    &[("workflow", AGENT), ("agent", AGENT), ("tool", meaning(SpanKind::Tool)), ("task", OTHER)];

/// Attributes with a span's kind, and what their values mean.
const KINDS: &[(&str, &[(&str, Meaning)])] = &[
    (OPERATION, OPERATIONS),
    ("openinference.span.kind", OPEN_INFERENCE),
    ("traceloop.span.kind", TRACELOOP),
    ("mcp.method.name", &[("tools/call", meaning(SpanKind::Tool))]),
];

/// Attributes with what lists and statistics need, the preferred one first.
const FIELDS: &[(SpanField, &[&str])] = &[
    (SpanField::Tool, &["gen_ai.tool.name", "tool_name", "tool.name", "mcp.tool.name", "tool"]),
    (SpanField::Task, &["task_id", "task.id", "litellm.metadata.task_id", "metadata.task_id"]),
    (SpanField::Platform, &["platform", "lookout.platform", "litellm.metadata.platform", "metadata.platform"]),
];
/// Attributes with the session.
const SESSION: &[&str] = &[
    "session.id",
    "session_id",
    "litellm.metadata.session_id",
    "metadata.session_id",
    "gen_ai.conversation.id",
    "conversation.id",
    "conversation_id",
];
/// Attributes with the run that a caller names.
const CALLER: &[&str] = &["litellm.metadata.parent_trace_id", "metadata.parent_trace_id"];
/// Attributes that hold an object as text with the same.
const CALLER_IN: [&str; 2] = ["metadata.requester_metadata", "metadata.spend_logs_metadata"];
/// Attributes with the id of the agent that a caller names.
const AGENT_ID: &[&str] = &["litellm.metadata.agent_id", "metadata.agent_id", "agent_id"];
/// Attributes with the model's provider.
const PROVIDER: &[&str] = &["gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"];
/// Attributes with the id of the model's response.
const RESPONSE: &[&str] = &["gen_ai.response.id", "llm.response.id"];

/// Counts of tokens outside of the GenAI conventions: the whole input and output, with their parts.
const OTHER_TOKENS: &[(&str, Columns)] = &[
    ("llm.token_count.prompt", INPUT),
    ("llm.token_count.completion", OUTPUT),
    ("llm.token_count.prompt_details.cache_read", CACHE_READ_OF_INPUT),
    ("llm.token_count.prompt_details.cache_write", CACHE_CREATION_OF_INPUT),
    ("llm.token_count.completion_details.reasoning", REASONING_OF_OUTPUT),
    ("llm.cost.total", COST),
    // Of a turn of Codex, whose calls report none.
    ("codex.turn.token_usage.input_tokens", INPUT),
    ("codex.turn.token_usage.output_tokens", OUTPUT),
    ("codex.turn.token_usage.cached_input_tokens", CACHE_READ_OF_INPUT),
    ("codex.turn.token_usage.cache_write_input_tokens", CACHE_CREATION_OF_INPUT),
    ("codex.turn.token_usage.reasoning_output_tokens", REASONING_OF_OUTPUT),
];

/// Scopes of instrumentations of servers, clients and databases; of their spans only those that speak of models are kept.
const GENERIC_SCOPE: &str = "opentelemetry.instrumentation.";
/// What keys of attributes begin with that speak of models.
const OF_MODELS: [&str; 5] = ["gen_ai.", "llm.", "openinference.", "traceloop.", "litellm."];

impl SpanReader {
    /// A reader that names agents by `config`.
    pub fn new(config: &OtlpConfig, capture: Capture) -> Self {
        Self {
            config: config.clone(),
            capture,
            content: ContentFilter::default(),
            agents: HashMap::default(),
            registered: RegisteredNames::default(),
        }
    }

    /// Sets where names of registered agents come from.
    pub fn set_registered(&mut self, names: NameFeed) {
        self.registered = RegisteredNames::fed_by(names);
    }

    /// Takes the names of agents that registered since.
    pub fn refresh(&mut self) {
        self.registered.refresh();
    }

    /// Adds a registered agent; returns whether its name was not known.
    pub fn add_registered(&mut self, name: RegisteredName) -> bool {
        self.registered.add(name)
    }

    /// Replaces the settings.
    pub fn configure(&mut self, config: &OtlpConfig, capture: Capture) {
        self.config = config.clone();
        self.capture = capture;
    }

    /// Calls `each` with every span of an export; returns how many spans were left out because they are of no agent.
    pub fn read<'a>(&mut self, request: &'a ExportTraceServiceRequest, mut each: impl FnMut(SpanReport<'a>)) -> u64 {
        let mut left_out = 0;
        for resource_spans in &request.resource_spans {
            let resource = ResourceIdentity::new(&FxBuildHasher, &self.config.agents, resource_spans.resource.as_ref());
            for scope_spans in &resource_spans.scope_spans {
                let scope = resource.scope(&FxBuildHasher, TelemetryChannel::Traces, scope_spans.scope.as_ref());
                let is_generic = scope_spans.scope.as_ref().is_some_and(|scope| scope.name.starts_with(GENERIC_SCOPE));
                let mut own_agent = None;
                for span in &scope_spans.spans {
                    let of_models = || {
                        let keys = || span.attributes.iter().map(|attribute| &*attribute.key);
                        keys().any(|key| OF_MODELS.iter().any(|prefix| key.starts_with(prefix)))
                    };
                    if is_generic && !of_models() {
                        left_out += 1;
                        continue;
                    }
                    match self.span(&scope, span, &mut own_agent) {
                        Some(report) => each(report),
                        None => left_out += 1,
                    }
                }
            }
        }
        left_out
    }

    /// A span as it was stored.
    pub fn stored(&mut self, span: Span<'static>) -> SpanReport<'static> {
        let agent = span.field(SpanField::Agent).zip(span.field(SpanField::Project)).map(|(agent, project)| {
            let agent_type = span.field(SpanField::AgentType).unwrap_or_default();
            Arc::new(AgentIdentity {
                project: Arc::from(project),
                agent: Arc::from(agent),
                agent_type: Arc::from(agent_type),
                is_named: true,
            })
        });
        let value = |keys: &[&str]| {
            let value = span.attributes.iter().find(|(key, _)| keys.contains(&&**key));
            value.and_then(|(_, value)| if let SpanValue::Text(text) = value { Some(hash(text)) } else { None })
        };
        let is_call = span.kind == SpanKind::Llm;
        let (response, call) = (value(RESPONSE).filter(|_| is_call), value(&[litellm::CALL_ID]).filter(|_| is_call));
        SpanReport { span, agent, caller: None, run: None, response, call, facts: None }
    }

    fn span<'a>(
        &mut self,
        scope: &ScopeIdentity<'_>,
        span: &'a wire::Span,
        own_agent: &mut Option<Arc<AgentIdentity>>,
    ) -> Option<SpanReport<'a>> {
        let attributes = Attributes::new(&span.attributes);
        let trace = TraceId::from_slice(&span.trace_id)?;
        let id = SpanId::from_slice(&span.span_id)?;
        let meaning = meaning_of(span, attributes);
        let mut read = Span::new(trace, id, clean(&span.name, MAX_NAME), span.start_time_unix_nano);
        read.fields.reserve_exact(USUAL_FIELDS);
        read.parent = SpanId::from_slice(&span.parent_span_id);
        read.kind = meaning.kind;
        read.begins_run = meaning.begins_run;
        read.source = if scope.profile.has_call_ids { RunSource::Proxy } else { RunSource::Otlp };
        read.duration = Some(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
        read.links = span.links.iter().filter_map(|link| TraceId::from_slice(&link.trace_id)).collect();
        let failed = span.status.as_ref().is_some_and(|status| status.code == 2)
            || meaning.kind == SpanKind::Llm && outcome(attributes).0
            || attribute_is(attributes, "success", "false");
        read.status = match span.status.as_ref().map(|status| status.code) {
            _ if failed => SpanStatus::Error,
            Some(1) => SpanStatus::Ok,
            _ => SpanStatus::Unset,
        };
        if failed && let Some(error) = error_of(span) {
            read.fields.push((SpanField::Error, error));
        }
        self.fields(scope.profile, attributes, &mut read);
        if meaning.kind == SpanKind::Llm || meaning.begins_run {
            self.usage(scope.profile, &span.name, attributes, &mut read);
        }
        let needs_agent = meaning.begins_run || meaning.kind == SpanKind::Llm || read.parent.is_none();
        let agent = if needs_agent {
            self.agent(scope, attributes)
        } else {
            if own_agent.is_none() {
                *own_agent = self.agent(scope, Attributes::new(&[]));
            }
            own_agent.clone()
        };
        if let Some(agent) = agent.as_ref().filter(|_| meaning.begins_run) {
            for (field, value) in [
                (SpanField::Project, &agent.project),
                (SpanField::Agent, &agent.agent),
                (SpanField::AgentType, &agent.agent_type),
            ] {
                read.fields.push((field, Cow::Owned(value.to_string())));
            }
        }
        self.attributes(attributes, &mut read);
        let response = RESPONSE.iter().find_map(|key| text(attributes, key));
        let response = response.filter(|_| meaning.kind == SpanKind::Llm).map(|id| hash(&id));
        let call = text(attributes, litellm::CALL_ID).filter(|_| meaning.kind == SpanKind::Llm).map(|id| hash(&id));
        // AutoGen links the traces of a run, each to the one that caused it.
        let linked =
            || (scope.profile.name == "autogen" && read.parent.is_none()).then(|| read.links.first()).flatten();
        let caller = caller_of(attributes).or_else(|| linked().copied()).filter(|caller| *caller != trace);
        // Langflow's own lists of runs have the same id.
        let run = text(attributes, "run_id").filter(|_| scope.profile.name == "langflow" && meaning.begins_run);
        let run = run.and_then(|id| TraceId::parse(&id));
        let facts = if meaning.begins_run { facts_of(&span.attributes) } else { None };
        Some(SpanReport { span: read, agent, caller, run, response, call, facts })
    }

    fn agent(&mut self, scope: &ScopeIdentity<'_>, item: Attributes<'_>) -> Option<Arc<AgentIdentity>> {
        let (project, agent, is_named) =
            identity::identify(scope.profile, &self.config.agents, &self.registered, scope.resource, item)?;
        if let Some(known) = self.agents.get(&(Arc::clone(&project), Arc::clone(&agent)))
            && (&*known.agent_type, known.is_named) == (scope.profile.name, is_named)
        {
            return Some(Arc::clone(known));
        }
        let key = (Arc::clone(&project), Arc::clone(&agent));
        let identity = Arc::new(AgentIdentity { project, agent, agent_type: Arc::from(scope.profile.name), is_named });
        if self.agents.len() < MAX_AGENTS {
            self.agents.insert(key, Arc::clone(&identity));
        }
        Some(identity)
    }

    fn fields<'a>(&self, profile: &Profile, attributes: Attributes<'a>, read: &mut Span<'a>) {
        let find = |keys: &[&str]| keys.iter().find_map(|key| text(attributes, key));
        if read.kind == SpanKind::Llm {
            let model = model(attributes).map(|model| Cow::Owned(model.to_string()));
            let model =
                model.or_else(|| find(&["llm.model_name"]).map(|it| Cow::Owned(names::model(&it).into_owned())));
            let named = find(PROVIDER).or_else(|| profile.provider.map(Cow::Borrowed));
            let provider = named.and_then(|name| names::provider(&name).map(Cow::into_owned));
            let provider = provider.or_else(|| model.as_deref().and_then(names::provider_of).map(ToOwned::to_owned));
            read.fields.extend(model.map(|model| (SpanField::Model, model)));
            read.fields.extend(provider.map(|provider| (SpanField::Provider, Cow::Owned(provider))));
        }
        for (field, keys) in FIELDS {
            if let Some(value) = find(keys)
                && (*field != SpanField::Tool || read.kind == SpanKind::Tool)
            {
                read.fields.push((*field, cleaned(value, MAX_NAME)));
            }
        }
        let session = match profile.session_attribute {
            Some(key) => text(attributes, key),
            None if profile.has_call_ids => litellm::session(attributes),
            None => None,
        };
        if let Some(session) = session.or_else(|| find(SESSION)) {
            read.fields.push((SpanField::Session, cleaned(session, MAX_NAME)));
        }
    }

    /// The span's own tokens, disjoint by type, and its cost.
    fn usage(&self, profile: &Profile, name: &str, attributes: Attributes<'_>, read: &mut Span<'_>) {
        let row = profile.spans.iter().find(|row| matches(&row.matching, name, attributes));
        let mut amounts = [0.0; COLUMNS];
        let (mut has_tokens, mut has_cost) = (false, false);
        let mut add = |columns: Columns, value: f64| {
            add_to(&mut amounts, columns, value);
            let is_cost = columns.contains(&UsageColumn::Cost);
            (has_tokens, has_cost) = (has_tokens || !is_cost, has_cost || is_cost);
        };
        for (keys, columns) in row.map_or(gen_ai::FIELDS, |row| row.fields) {
            if let Some(value) = keys.iter().find_map(|key| number(attributes, key)) {
                add(columns, value);
            }
        }
        if row.is_none() {
            for (key, columns) in OTHER_TOKENS {
                if let Some(value) = number(attributes, key) {
                    add(columns, value);
                }
            }
        }
        if let Some(object) = text(attributes, litellm::USAGE_OBJECT) {
            for (key, columns) in litellm::USAGE_KEYS {
                if let Some(value) = litellm::inner_number(&object, key) {
                    add(columns, value);
                }
            }
        }
        if has_tokens {
            let whole = |column: UsageColumn| amounts[column as usize] as u64;
            let mut tokens: TokenCounts = std::array::from_fn(|column| amounts[column] as u64);
            // Some tools count cached tokens and reasoning within input and output, others apart.
            if row.is_none_or(|row| row.fields.iter().any(|(keys, _)| keys.contains(&"gen_ai.usage.input_tokens"))) {
                let cached = whole(UsageColumn::CacheRead) + whole(UsageColumn::CacheCreation);
                let input = &mut tokens[TokenType::Input as usize];
                *input = input.saturating_sub(cached);
                let output = &mut tokens[TokenType::Output as usize];
                *output = output.saturating_sub(whole(UsageColumn::Reasoning));
            }
            read.tokens = Some(tokens);
        }
        let cost = has_cost.then(|| amounts[UsageColumn::Cost as usize]);
        let by_price_list = || price_of(&self.config.prices, read.field(SpanField::Model)?, &read.tokens?);
        read.cost_usd = cost.or_else(by_price_list);
    }

    /// The other attributes, as far as they are kept.
    fn attributes<'a>(&mut self, attributes: Attributes<'a>, read: &mut Span<'a>) {
        let is_full = self.capture == Capture::Full;
        let limit = MAX_TEXT[usize::from(is_full)];
        read.attributes.reserve_exact(attributes.list().len().min(MAX_ATTRIBUTES));
        for attribute in attributes.list() {
            if read.attributes.len() >= MAX_ATTRIBUTES {
                break;
            }
            let Some(value) = wire::value(attribute).filter(|_| attribute.key.len() <= MAX_KEY) else { continue };
            let value = match value {
                Value::BoolValue(flag) => SpanValue::Bool(*flag),
                Value::IntValue(number) => SpanValue::Int(*number),
                Value::DoubleValue(number) => SpanValue::Float(*number),
                Value::StringValue(text) if is_full || text.len() <= limit && self.content.may_keep(&attribute.key) => {
                    if read.fields.iter().any(|(_, known)| known == text) {
                        continue;
                    }
                    SpanValue::Text(if is_full { masked(text, limit) } else { clean(text, limit) })
                }
                Value::ArrayValue(_) | Value::KvlistValue(_) if is_full || self.content.may_keep(&attribute.key) => {
                    let text = json_of(value).to_string();
                    if text.len() > limit && !is_full {
                        continue;
                    }
                    SpanValue::Text(Cow::Owned(masked(&text, limit).into_owned()))
                }
                _ => continue,
            };
            let key: Cow<'a, str> = match clean(&attribute.key, MAX_KEY) {
                Cow::Borrowed(_) => Cow::Borrowed(&attribute.key),
                Cow::Owned(key) => Cow::Owned(key),
            };
            read.attributes.push((key, value));
        }
    }
}

/// The same in every process: what is stored is compared with what arrives.
fn hash(text: &str) -> u64 {
    FxBuildHasher.hash_one(text)
}

fn cleaned(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => clean(text, limit),
        Cow::Owned(text) => Cow::Owned(clean(&text, limit).into_owned()),
    }
}

/// With keys and passwords masked, cut at a character's boundary.
fn masked(text: &str, limit: usize) -> Cow<'_, str> {
    let cut = |text: &str| {
        let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.get(..end).unwrap_or_default().len()
    };
    match keys::mask(text) {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..cut(text)).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text));
            Cow::Owned(text)
        }
    }
}

fn json_of(value: &Value) -> serde_json::Value {
    let inner = |value: &Option<AnyValue>| {
        value.as_ref().and_then(|value| value.value.as_ref()).map_or(serde_json::Value::Null, json_of)
    };
    match value {
        Value::StringValue(text) => text.clone().into(),
        Value::BoolValue(flag) => (*flag).into(),
        Value::IntValue(number) => (*number).into(),
        Value::DoubleValue(number) => (*number).into(),
        Value::ArrayValue(list) => {
            list.values.iter().map(|value| value.value.as_ref().map_or(serde_json::Value::Null, json_of)).collect()
        }
        Value::KvlistValue(map) => {
            let pairs = map.values.iter().map(|pair| (pair.key.clone(), inner(&pair.value)));
            serde_json::Value::Object(pairs.collect())
        }
        Value::BytesValue(_) | Value::StringValueStrindex(_) => serde_json::Value::Null,
    }
}

fn attribute_is(attributes: Attributes<'_>, key: &str, word: &str) -> bool {
    text(attributes, key).is_some_and(|value| value.eq_ignore_ascii_case(word))
}

fn meaning_of(span: &wire::Span, attributes: Attributes<'_>) -> Meaning {
    if let Some((_, meaning)) = NAMED.iter().find(|(name, _)| *name == span.name) {
        return *meaning;
    }
    for (key, values) in KINDS {
        let Some(value) = text(attributes, key) else { continue };
        if let Some((_, meaning)) = values.iter().find(|(known, _)| *known == value) {
            return *meaning;
        }
        if *key == OPERATION && CALLS.contains(&&*value) {
            return meaning(SpanKind::Llm);
        }
        // A chain, a guardrail and the like: an agent where nothing is above it.
        if *key == "openinference.span.kind" && span.parent_span_id.is_empty() {
            return AGENT;
        }
    }
    if text(attributes, "llm.request.type").is_some_and(|kind| CALLS.contains(&&*kind)) {
        return meaning(SpanKind::Llm);
    }
    OTHER
}

/// Why a span failed: its status, else its exception, else an attribute.
fn error_of(span: &wire::Span) -> Option<Cow<'_, str>> {
    let status = span.status.as_ref().map(|status| Cow::Borrowed(&*status.message)).filter(|it| !it.is_empty());
    let exception = || {
        let event = span.events.iter().find(|event| event.name == "exception")?;
        text(&event.attributes, "exception.message").or_else(|| text(&event.attributes, "exception.type"))
    };
    let attribute = || {
        ["error.message", "error", "error.type", "exception.type"].iter().find_map(|key| text(&span.attributes, key))
    };
    let error = status.or_else(exception).or_else(attribute)?;
    Some(cleaned(message_in(&error).map_or(error, Cow::Owned), MAX_NAME))
}

/// The message in the body of a provider's answer, which some tools give as the error, with its status: `{"error": {…}}`.
fn message_in(error: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(error.trim()).ok().filter(serde_json::Value::is_object)?;
    let inner = body.get("error").filter(|inner| inner.is_object()).unwrap_or(&body);
    let message = inner.get("message")?.as_str()?;
    let part = |key: &str| match inner.get(key)? {
        serde_json::Value::String(word) => Some(word.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let status: Vec<String> = [part("code"), part("status").or_else(|| part("type"))].into_iter().flatten().collect();
    Some(if status.is_empty() { message.to_owned() } else { format!("{}: {message}", status.join(" ")) })
}

/// What a span reports of its run besides: numbers, flags, and of lists how long they are. Some exporters write all as text.
fn facts_of(attributes: &[KeyValue]) -> Option<Box<RunFacts>> {
    let number = |value: &Value| {
        Some(match value {
            Value::IntValue(number) => *number as f64,
            Value::DoubleValue(number) => *number,
            Value::BoolValue(flag) => f64::from(u8::from(*flag)),
            Value::ArrayValue(list) => list.values.len() as f64,
            Value::StringValue(text) => match &**text {
                "true" => 1.0,
                "false" => 0.0,
                number => number.parse().ok()?,
            },
            _ => return None,
        })
    };
    let values = attributes.iter().filter_map(|attribute| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        Some((&*attribute.key, number(value)?))
    });
    RunFacts::of_attributes(values).map(Box::new)
}

/// The run that a caller's metadata names.
fn caller_of(attributes: Attributes<'_>) -> Option<TraceId> {
    let direct = CALLER.iter().find_map(|key| text(attributes, key)).and_then(|id| TraceId::parse(&id));
    direct.or_else(|| {
        CALLER_IN.iter().find_map(|key| {
            let object = text(attributes, key)?;
            TraceId::parse(litellm::inner(&object, "parent_trace_id")?)
        })
    })
}

/// The ids of its agent and of its run that the caller of a call gave in metadata, as they were written.
pub fn ids_of_caller(attributes: &[KeyValue]) -> [Option<Cow<'_, str>>; 2] {
    let attributes = Attributes::new(attributes);
    let given = |keys: &[&str], inner: &str| {
        let direct = || keys.iter().find_map(|key| text(attributes, key));
        let within = || {
            CALLER_IN.iter().find_map(|key| {
                let object = text(attributes, key)?;
                litellm::inner(&object, inner).map(|id| Cow::Owned(id.to_owned()))
            })
        };
        direct().or_else(within).map(|id| cleaned(id, MAX_NAME)).filter(|id| !id.is_empty())
    };
    [given(AGENT_ID, "agent_id"), given(CALLER, "parent_trace_id")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_the_body_of_an_answer_is_its_message() {
        for (error, message) in [
            (
                r#"{"error":{"code":429,"message":"Used up","status":"RESOURCE_EXHAUSTED"}}"#,
                Some("429 RESOURCE_EXHAUSTED: Used up"),
            ),
            (r#" {"error":{"type":"overloaded_error","message":"Overloaded"}}"#, Some("overloaded_error: Overloaded")),
            (r#"{"message":"no such tool"}"#, Some("no such tool")),
            (r#"{"error":"refused"}"#, None),
            ("Shell command failed", None),
            ("[1]", None),
        ] {
            assert_eq!(message_in(error).as_deref(), message, "{error}");
        }
    }
}
