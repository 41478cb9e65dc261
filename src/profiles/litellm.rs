//! LiteLLM: its spans, and the calls that its generic callback posts, which are written as log records with the names of
//! its spans. Each call is known by its id, so that both may arrive. Its metrics can't name the agent of a call and say
//! the same; an agent is named by the caller's metadata or headers, which spans have as the text of a Python object.

pub(crate) mod callback;

use std::borrow::Cow;

use super::attributes::text;
use super::gen_ai;
use super::table::{
    Adds, CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, CALLS, EventRow, OPERATION, Profile, REASONING_OF_OUTPUT,
    Request, When,
};
use crate::otlp::wire::KeyValue;

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "litellm",
    prefixes: &["litellm"],
    provider: None,
    session: None,
    names_host: true,
    spans_lack_cost: false,
    items_name_agents: true,
    called: Some(key),
    tells_calls: true,
    metrics: &[],
    logs: &[EventRow { when: When::Named(callback::EVENT), fields: gen_ai::FIELDS, request: Request::Ended }],
    spans: &[
        EventRow { when: When::Named("litellm_request"), fields: gen_ai::FIELDS, request: Request::Ended },
        EventRow { when: When::Any(&[OPERATION], CALLS), fields: gen_ai::FIELDS, request: Request::Ended },
    ],
};

/// The attribute that tells a call, with all that it took to answer it, from all others.
pub(super) const CALL_ID: &str = "litellm.call_id";

/// The name of the virtual key by which a caller is known.
const KEY_ALIAS: &str = "metadata.user_api_key_alias";

/// Attributes that hold an object as text, and the key within that names the agent.
pub(super) const AGENT_IN: [(&str, &str); 3] =
    [(REQUESTER, "agent.name"), (REQUESTER, "agent_id"), ("metadata.requester_custom_headers", "x-litellm-agent-id")];
/// The same for its project.
pub(super) const PROJECT_IN: [(&str, &str); 1] = [(REQUESTER, "project")];
/// What the caller said of itself.
const REQUESTER: &str = "metadata.requester_metadata";

/// The attribute that holds the provider's own count as text, and what in it is told nowhere else.
pub(super) const USAGE_IN: &str = "metadata.usage_object";
pub(super) const USAGE: [(&str, Adds); 3] = [
    ("cached_tokens", CACHE_READ_OF_INPUT),
    ("cache_creation_input_tokens", CACHE_CREATION_OF_INPUT),
    ("reasoning_tokens", REASONING_OF_OUTPUT),
];

/// What an agent is called that nothing else names: by its key.
fn key(item: &[KeyValue]) -> Option<(String, bool)> {
    Some((text(item, KEY_ALIAS)?.into_owned(), true))
}

/// The attribute in which LiteLLM has the headers of an answer, as the text of a JSON object.
pub(super) const HIDDEN_PARAMS: &str = "hidden_params";
/// The model of the provider behind its provider's name; `gen_ai.request.model` may be what the proxy calls a group of them.
pub(super) const PROVIDER_MODEL: &str = "litellm.provider.model";

/// The session that the caller named, by which what it tells of its calls itself is known. Claude Code sends its own in a
/// header, without being asked.
pub(super) fn session(attributes: &[KeyValue]) -> Option<Cow<'_, str>> {
    let inner = |(attribute, key): (&str, &str)| {
        let Cow::Borrowed(object) = text(attributes, attribute)? else { return None };
        inner(object, key).filter(|session| !session.is_empty()).map(Cow::Borrowed)
    };
    SESSION_IN.into_iter().find_map(inner).or_else(|| SESSION.into_iter().find_map(|key| text(attributes, key)))
}

/// Where a session is named within an object, and where by itself.
const SESSION_IN: [(&str, &str); 3] = [
    ("metadata.requester_custom_headers", "x-claude-code-session-id"),
    (REQUESTER, "session_id"),
    ("metadata.requester_custom_headers", "x-litellm-session-id"),
];
const SESSION: [&str; 4] =
    ["litellm.metadata.session_id", "metadata.session_id", "session.id", "gen_ai.conversation.id"];

/// Which attempt at its call succeeded, counted from 1.
pub(super) fn attempt(attributes: &[KeyValue]) -> Option<f64> {
    let retries = inner_number(&text(attributes, HIDDEN_PARAMS)?, "x-litellm-attempted-retries")?;
    Some(retries + 1.0)
}

/// The whole number at `key` of an object that was written by Python's `str` or as JSON.
pub(super) fn inner_number(object: &str, key: &str) -> Option<f64> {
    let rest = after_key(object, key)?;
    let digits = rest.split_once(|letter: char| !letter.is_ascii_digit()).map_or(rest, |(digits, _)| digits);
    digits.parse::<u32>().ok().map(f64::from)
}

/// The text at `key` of such an object.
pub(super) fn inner<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let rest = after_key(object, key)?;
    let open = rest.chars().next().filter(|open| matches!(open, '\'' | '"'))?;
    rest.strip_prefix(open)?.split_once(open).map(|(text, _)| text)
}

/// What follows `key` in such an object, in any letter case, since headers are among the keys.
fn after_key<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let lower = object.to_ascii_lowercase();
    ['\'', '"'].into_iter().find_map(|quote| {
        let quoted = format!("{quote}{}{quote}:", key.to_ascii_lowercase());
        let at = lower.find(&quoted)?;
        object.get(at + quoted.len()..).map(str::trim_start)
    })
}
