//! What LiteLLM's generic API callback posts: its calls as JSON objects, in an array, a line each, or one by itself. Each
//! becomes a log record with the names of LiteLLM's spans, so that whichever of both comes first counts.
//!
//! Of a call only ids, names, numbers and the kind of an error are read; messages, answers, keys and addresses are skipped
//! while the body is read, and an error says where it found one, never what stood there. A call that was answered from
//! LiteLLM's cache says nothing, since no model was asked. The names are those of LiteLLM 1.106.2.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{CALL_ID, HIDDEN_PARAMS, KEY_ALIAS, PROFILE, PROVIDER_MODEL};
use crate::decode::lenient;
use crate::otlp::wire::{
    ExportLogsServiceRequest, KeyValue, LogRecord, Resource, ResourceLogs, ScopeLogs, Value, attribute, word,
};

/// The event that a call becomes.
pub(super) const EVENT: &str = "litellm.callback";
/// Most calls of one body; LiteLLM gathers 512 by default.
const MAX_CALLS: usize = 10_000;
/// Longest id or name that is looked at, in bytes.
const MAX_WORD: usize = 1_024;
/// The headers of an answer that are looked at, in bytes.
const MAX_HEADERS: usize = 64 * 1_024;

/// The calls of a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Calls {
    /// As log records, without those that a cache answered.
    pub(crate) request: ExportLogsServiceRequest,
    /// How many were read.
    pub(crate) read: u64,
    /// How many could not be.
    pub(crate) unread: usize,
}

/// Why nothing of a body was read; it quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackError {
    /// It is no JSON.
    #[error(
        "the body is not what LiteLLM's generic API callback posts, JSON objects in an array or a line each, at line {line} column {column}"
    )]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The column.
        column: usize,
    },
}

impl From<serde_json::Error> for CallbackError {
    fn from(error: serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}

/// Reads the calls of a body, which `producer` posts.
pub(crate) fn decode(producer: &[KeyValue], body: &[u8]) -> Result<Calls, CallbackError> {
    lenient::Body::new(body).read(|text| decode_text(producer, text))
}

fn decode_text(producer: &[KeyValue], body: &str) -> Result<Calls, CallbackError> {
    let is_array = body.trim_start().starts_with('[');
    let mut found = Found::default();
    if is_array {
        found = serde_json::from_str(body)?;
    } else {
        for call in serde_json::Deserializer::from_str(body).into_iter::<&RawValue>() {
            found.add(call?);
        }
    }
    let mut calls = Calls { request: ExportLogsServiceRequest::default(), read: 0, unread: found.over };
    let mut log_records = Vec::new();
    for call in found.calls {
        match serde_json::from_str::<Call<'_>>(call.get()).ok().and_then(|call| call.record()) {
            Some(Told::Record(record)) => log_records.push(record),
            Some(Told::Cached) => {}
            None => {
                calls.unread += 1;
                continue;
            }
        }
        calls.read += 1;
    }
    let mut attributes = producer.to_vec();
    attributes.push(word("service.name", PROFILE.name));
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    calls.request.resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    Ok(calls)
}

/// The calls of a body, unread, and how many more there are.
#[derive(Default)]
struct Found<'a> {
    calls: Vec<&'a RawValue>,
    over: usize,
}

impl<'a> Found<'a> {
    fn add(&mut self, call: &'a RawValue) {
        if self.calls.len() < MAX_CALLS {
            self.calls.push(call);
        } else {
            self.over += 1;
        }
    }
}

impl<'de> Deserialize<'de> for Found<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Found<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of calls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut found = Found::default();
                while let Some(call) = elements.next_element()? {
                    found.add(call);
                }
                Ok(found)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// What a call that was read says.
enum Told {
    Record(LogRecord),
    /// Nothing: no model was asked.
    Cached,
}

/// A call: the fields that are read; every other one is skipped unread.
#[derive(Deserialize)]
struct Call<'a> {
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
struct Metadata<'a> {
    #[serde(borrow)]
    user_api_key_alias: Option<&'a RawValue>,
    user_api_key_team_alias: Option<&'a RawValue>,
    requester_metadata: Option<&'a RawValue>,
    requester_custom_headers: Option<&'a RawValue>,
    usage_object: Option<&'a RawValue>,
}

/// What a caller says of itself, or the headers that it sent.
#[derive(Default, Deserialize)]
struct Requester<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

impl<'a> Requester<'a> {
    /// The value of that name in any letter case, as headers have it.
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The provider's own count, of which the sums are in the call itself.
#[derive(Default, Deserialize)]
struct Used<'a> {
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    completion_tokens_details: Option<&'a RawValue>,
    cache_creation_input_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    cache_creation_tokens: Option<&'a RawValue>,
    reasoning_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Fault<'a> {
    #[serde(borrow)]
    error_code: Option<&'a RawValue>,
    error_class: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Hidden<'a> {
    #[serde(borrow)]
    additional_headers: Option<&'a RawValue>,
}

impl Call<'_> {
    /// What it says; nothing when it does not say how it ended.
    fn record(&self) -> Option<Told> {
        let is_failed = match &*text(self.status)? {
            "success" => false,
            "failure" => true,
            _ => return None,
        };
        if self.cache_hit.is_some_and(|hit| hit.get() == "true") {
            return Some(Told::Cached);
        }
        let metadata: Metadata<'_> = inner(self.metadata);
        let caller: Requester<'_> = inner(metadata.requester_metadata);
        let headers: Requester<'_> = inner(metadata.requester_custom_headers);
        let session = headers.get("x-claude-code-session-id");
        let session = session.or(caller.get("session_id")).or(headers.get("x-litellm-session-id"));
        let used: Used<'_> = inner(metadata.usage_object);
        let (asked, answered): (Details<'_>, Details<'_>) =
            (inner(used.prompt_tokens_details), inner(used.completion_tokens_details));
        let hidden: Hidden<'_> = inner(self.hidden_params);
        let created = asked.cache_creation_tokens.filter(|it| it.get() != "null");
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
            ("session.id", session),
            (KEY_ALIAS, metadata.user_api_key_alias),
            ("metadata.user_api_key_team_alias", metadata.user_api_key_team_alias),
            ("gen_ai.usage.input_tokens", self.prompt_tokens),
            ("gen_ai.usage.output_tokens", self.completion_tokens),
            ("gen_ai.usage.cache_read.input_tokens", asked.cached_tokens),
            ("gen_ai.usage.cache_creation.input_tokens", created.or(used.cache_creation_input_tokens)),
            ("gen_ai.usage.reasoning.output_tokens", answered.reasoning_tokens),
            ("gen_ai.cost.total_cost", self.response_cost),
        ] {
            attributes.extend(scalar(value).map(|value| attribute(key, value)));
        }
        if is_failed {
            let fault: Fault<'_> = inner(self.error_information);
            attributes.extend(scalar(fault.error_code).map(|code| attribute("error.code", code)));
            let class = scalar(fault.error_class).unwrap_or_else(|| Value::StringValue("failure".to_owned()));
            attributes.push(attribute("error.type", class));
        }
        // They say how often it was sent again, and how far the provider's limits are used up.
        if let Some(headers) = hidden.additional_headers.filter(|headers| headers.get().len() <= MAX_HEADERS) {
            let only = format!("{{\"additional_headers\": {}}}", headers.get());
            attributes.push(attribute(HIDDEN_PARAMS, Value::StringValue(only)));
        }
        let seconds = |value| text(value).and_then(|it| it.parse::<f64>().ok());
        let (began, ended) = (seconds(self.start_time), seconds(self.end_time));
        if let (Some(began), Some(ended)) = (began, ended) {
            attributes.push(attribute("duration_ms", Value::DoubleValue((ended - began) * 1e3)));
        }
        Some(Told::Record(LogRecord {
            time_unix_nano: (ended.unwrap_or_default() * 1e9) as u64,
            event_name: EVENT.to_owned(),
            attributes,
            ..LogRecord::default()
        }))
    }
}

/// The fields of an object; none of what is no object.
fn inner<'a, T: Default + Deserialize<'a>>(value: Option<&'a RawValue>) -> T {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A text or a number as text; not empty.
fn text(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    match scalar(value)? {
        Value::StringValue(text) => Some(Cow::Owned(text)),
        Value::DoubleValue(_) => Some(Cow::Borrowed(value?.get())),
        _ => None,
    }
}

/// A text or a number.
fn scalar(value: Option<&RawValue>) -> Option<Value> {
    let value = value?.get();
    if value.len() > MAX_WORD {
        return None;
    }
    match value.bytes().next()? {
        b'"' => {
            // Half a surrogate pair passes where it is not looked at.
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
