//! Decodes what LiteLLM's generic API callback posts: calls as JSON objects, in an array, one per line, or a single one.
//! Each becomes a log record with the attributes of LiteLLM's spans, so that whichever of both arrives first counts.
//!
//! Only ids, names, numbers and the type of an error are read; messages, responses, keys and addresses are skipped while
//! the body is parsed, and an error gives a position without quoting the body. Calls that LiteLLM answered from its cache
//! are left out, since they cost nothing. The field names are those of LiteLLM 1.106.2.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::attributes::{number, text as attribute_text};
use super::{CALL_ID, HIDDEN_PARAMS, KEY_ALIAS, PROFILE, PROVIDER_MODEL};
use crate::decode::lenient::{self, LenientBody};
use crate::otlp::wire::{
    ExportLogsServiceRequest, ExportTraceServiceRequest, KeyValue, LogRecord, Resource, ResourceLogs, ResourceSpans,
    ScopeLogs, ScopeSpans, Span, Value, attribute, string_attribute,
};

/// The event name of the log records.
pub(super) const EVENT: &str = "litellm.callback";
/// Most calls in one body; LiteLLM batches 512 by default.
const MAX_CALLS: usize = 10_000;
/// Longest id, name or number that is read, in bytes.
const MAX_SCALAR: usize = 1_024;
/// Longest headers of a response that are read, in bytes.
const MAX_HEADERS: usize = 64 * 1_024;

/// The calls of a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallbackCalls {
    /// The calls as log records, without those that were answered from a cache.
    pub(crate) request: ExportLogsServiceRequest,
    /// Calls that were accepted, cached ones included.
    pub(crate) accepted: u64,
    /// Calls that were rejected: no objects of a call, or too many for one body.
    pub(crate) malformed: usize,
}

/// Why a body was rejected. Never quotes the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackError {
    /// The body is not JSON.
    #[error(
        "expected JSON objects, in an array or one per line, as LiteLLM's generic API callback posts them, at line {line} column {column}"
    )]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
    },
}

impl From<serde_json::Error> for CallbackError {
    fn from(error: serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}

/// Decodes the calls of a body; `resource` identifies who posted it.
pub(crate) fn decode(resource: &[KeyValue], body: &[u8]) -> Result<CallbackCalls, CallbackError> {
    LenientBody::new(body).read(|text| decode_text(resource, text))
}

fn decode_text(resource: &[KeyValue], body: &str) -> Result<CallbackCalls, CallbackError> {
    let is_array = body.trim_start().starts_with('[');
    let mut found = RawCalls::default();
    if is_array {
        found = serde_json::from_str(body)?;
    } else {
        for call in serde_json::Deserializer::from_str(body).into_iter::<&RawValue>() {
            found.add(call?);
        }
    }
    let mut calls =
        CallbackCalls { request: ExportLogsServiceRequest::default(), accepted: 0, malformed: found.surplus };
    let mut log_records = Vec::new();
    for call in found.calls {
        match serde_json::from_str::<LitellmCall<'_>>(call.get()).ok().and_then(|call| call.record()) {
            Some(ParsedCall::Record(record)) => log_records.push(record),
            Some(ParsedCall::Cached) => {}
            None => {
                calls.malformed += 1;
                continue;
            }
        }
        calls.accepted += 1;
    }
    let mut attributes = resource.to_vec();
    attributes.push(string_attribute("service.name", PROFILE.name));
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    calls.request.resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    Ok(calls)
}

/// The calls of a body before they are parsed.
#[derive(Default)]
struct RawCalls<'a> {
    calls: Vec<&'a RawValue>,
    /// Calls beyond [`MAX_CALLS`].
    surplus: usize,
}

impl<'a> RawCalls<'a> {
    fn add(&mut self, call: &'a RawValue) {
        if self.calls.len() < MAX_CALLS {
            self.calls.push(call);
        } else {
            self.surplus += 1;
        }
    }
}

impl<'de> Deserialize<'de> for RawCalls<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = RawCalls<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of calls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut found = RawCalls::default();
                while let Some(call) = elements.next_element()? {
                    found.add(call);
                }
                Ok(found)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// A call that was parsed.
enum ParsedCall {
    Record(LogRecord),
    /// It was answered from a cache.
    Cached,
}

/// The fields of a call that are read.
#[derive(Deserialize)]
struct LitellmCall<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    litellm_call_id: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    cache_hit: Option<&'a RawValue>,
    model: Option<&'a RawValue>,
    custom_llm_provider: Option<&'a RawValue>,
    prompt_tokens: Option<&'a RawValue>,
    completion_tokens: Option<&'a RawValue>,
    response_cost: Option<&'a RawValue>,
    #[serde(rename = "startTime")]
    start_time: Option<&'a RawValue>,
    #[serde(rename = "endTime")]
    end_time: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
    error_information: Option<&'a RawValue>,
    hidden_params: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct CallMetadata<'a> {
    #[serde(borrow)]
    user_api_key_alias: Option<&'a RawValue>,
    user_api_key_team_alias: Option<&'a RawValue>,
    requester_metadata: Option<&'a RawValue>,
    requester_custom_headers: Option<&'a RawValue>,
    usage_object: Option<&'a RawValue>,
}

/// The metadata of a caller, or the headers that it sent.
#[derive(Default, Deserialize)]
struct CallerFields<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

impl<'a> CallerFields<'a> {
    /// The value of that name, ignoring letter case as in headers.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The parts of the provider's usage object that the call does not repeat.
#[derive(Default, Deserialize)]
struct UsageObject<'a> {
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    completion_tokens_details: Option<&'a RawValue>,
    cache_creation_input_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct TokenDetails<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    cache_creation_tokens: Option<&'a RawValue>,
    reasoning_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct ErrorInformation<'a> {
    #[serde(borrow)]
    error_code: Option<&'a RawValue>,
    error_class: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct CallbackHiddenParams<'a> {
    #[serde(borrow)]
    additional_headers: Option<&'a RawValue>,
}

impl LitellmCall<'_> {
    /// The log record of the call; `None` when it has no status.
    fn record(&self) -> Option<ParsedCall> {
        let is_failed = match &*text(self.status)? {
            "success" => false,
            "failure" => true,
            _ => return None,
        };
        if self.cache_hit.is_some_and(|hit| hit.get() == "true") {
            return Some(ParsedCall::Cached);
        }
        let metadata: CallMetadata<'_> = inner(self.metadata);
        let caller: CallerFields<'_> = inner(metadata.requester_metadata);
        let headers: CallerFields<'_> = inner(metadata.requester_custom_headers);
        let session = headers.get("x-claude-code-session-id");
        let session = session.or(caller.get("session_id")).or(headers.get("x-litellm-session-id"));
        let usage: UsageObject<'_> = inner(metadata.usage_object);
        let (prompt, completion): (TokenDetails<'_>, TokenDetails<'_>) =
            (inner(usage.prompt_tokens_details), inner(usage.completion_tokens_details));
        let hidden: CallbackHiddenParams<'_> = inner(self.hidden_params);
        let created = prompt.cache_creation_tokens.filter(|it| it.get() != "null");
        let mut attributes = Vec::with_capacity(16);
        for (key, value) in [
            (CALL_ID, self.litellm_call_id),
            ("gen_ai.response.id", self.id),
            (PROVIDER_MODEL, self.model),
            ("gen_ai.provider.name", self.custom_llm_provider),
            ("agent.name", caller.get("agent.name")),
            ("agent_id", caller.get("agent_id")),
            ("agent.id", headers.get("x-litellm-agent-id")),
            ("project", caller.get("project")),
            ("metadata.parent_trace_id", caller.get("parent_trace_id")),
            ("metadata.task_id", caller.get("task_id")),
            ("metadata.platform", caller.get("platform")),
            ("session.id", session),
            (KEY_ALIAS, metadata.user_api_key_alias),
            ("metadata.user_api_key_team_alias", metadata.user_api_key_team_alias),
            ("gen_ai.usage.input_tokens", self.prompt_tokens),
            ("gen_ai.usage.output_tokens", self.completion_tokens),
            ("gen_ai.usage.cache_read.input_tokens", prompt.cached_tokens),
            ("gen_ai.usage.cache_creation.input_tokens", created.or(usage.cache_creation_input_tokens)),
            ("gen_ai.usage.reasoning.output_tokens", completion.reasoning_tokens),
            ("gen_ai.cost.total_cost", self.response_cost),
        ] {
            attributes.extend(scalar(value).map(|value| attribute(key, value)));
        }
        if is_failed {
            let error: ErrorInformation<'_> = inner(self.error_information);
            attributes.extend(scalar(error.error_code).map(|code| attribute("error.code", code)));
            let class = scalar(error.error_class).unwrap_or_else(|| Value::StringValue("failure".to_owned()));
            attributes.push(attribute("error.type", class));
        }
        // They report retries and what is left of the provider's rate limits.
        if let Some(headers) = hidden.additional_headers.filter(|headers| headers.get().len() <= MAX_HEADERS) {
            let only = format!("{{\"additional_headers\": {}}}", headers.get());
            attributes.push(attribute(HIDDEN_PARAMS, Value::StringValue(only)));
        }
        let seconds = |value| text(value).and_then(|it| it.parse::<f64>().ok());
        let (started, ended) = (seconds(self.start_time), seconds(self.end_time));
        if let (Some(started), Some(ended)) = (started, ended) {
            attributes.push(attribute("duration_ms", Value::DoubleValue((ended - started) * 1e3)));
        }
        Some(ParsedCall::Record(LogRecord {
            time_unix_nano: (ended.unwrap_or_default() * 1e9) as u64,
            event_name: EVENT.to_owned(),
            attributes,
            ..LogRecord::default()
        }))
    }
}

/// The calls as spans, each in a trace of its own, whose ids follow from the call's, so that a call that is sent again is
/// the same span.
pub(crate) fn spans(calls: &ExportLogsServiceRequest) -> ExportTraceServiceRequest {
    let span = |record: &LogRecord| -> Option<Span> {
        let attributes = &record.attributes;
        let call = attribute_text(attributes, CALL_ID).or_else(|| attribute_text(attributes, "gen_ai.response.id"))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, call.as_bytes());
        let (trace_id, rest) = digest.as_ref().split_at_checked(16)?;
        let took = number(attributes, "duration_ms").map_or(0, |ms| (ms * 1e6) as u64);
        Some(Span {
            trace_id: trace_id.to_vec(),
            span_id: rest.get(..8)?.to_vec(),
            name: "litellm_request".to_owned(),
            start_time_unix_nano: record.time_unix_nano.saturating_sub(took),
            end_time_unix_nano: record.time_unix_nano,
            attributes: attributes.clone(),
            ..Span::default()
        })
    };
    let resource_spans = calls.resource_logs.iter().map(|logs| ResourceSpans {
        resource: logs.resource.clone(),
        scope_spans: logs
            .scope_logs
            .iter()
            .map(|scope| ScopeSpans {
                scope: scope.scope.clone(),
                spans: scope.log_records.iter().filter_map(span).collect(),
                ..ScopeSpans::default()
            })
            .collect(),
        ..ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// The fields of an object; the default for anything else.
fn inner<'a, T: Default + Deserialize<'a>>(value: Option<&'a RawValue>) -> T {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A string that is not empty, or a number as text.
fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    match scalar(value)? {
        Value::StringValue(text) => Some(Cow::Owned(text)),
        Value::DoubleValue(_) => Some(Cow::Borrowed(value?.get())),
        _ => None,
    }
}

/// A string that is not empty, or a number.
fn scalar(value: Option<&RawValue>) -> Option<Value> {
    let value = value?.get();
    if value.len() > MAX_SCALAR {
        return None;
    }
    match value.bytes().next()? {
        b'"' => {
            // Unpaired surrogates are accepted by the parser of the body, and rejected by this one.
            let read = serde_json::from_str(value).ok();
            let read = read.or_else(|| serde_json::from_str(&lenient::rewrite(value.as_bytes())?).ok());
            read.filter(|text: &String| !text.is_empty()).map(Value::StringValue)
        }
        b'-' | b'0'..=b'9' => value.parse().ok().map(Value::DoubleValue),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
