//! LiteLLM: its spans, and the calls that its generic API callback posts, which are turned into log records with the
//! attributes of its spans. A call is deduplicated by its id, so that both may arrive. Its metrics repeat the same usage
//! without naming the agent, and are not read. The metadata and headers of the caller name the agent; spans hold them as
//! the text of a Python object.

pub(crate) mod callback;

use std::borrow::Cow;

use super::attributes::{Attributes, text};
use super::gen_ai;
use super::profile::{
    CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, CALLS, Columns, EventMatch, EventRow, OPERATION, Profile,
    REASONING_OF_OUTPUT, RequestKind,
};

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "litellm",
    prefixes: &["litellm"],
    provider: None,
    session_attribute: None,
    uses_host_name: true,
    spans_lack_cost: false,
    agent_from_items: true,
    default_agent_name: Some(key_alias),
    has_call_ids: true,
    metrics: &[],
    logs: &[EventRow {
        matching: EventMatch::Named(callback::EVENT),
        fields: gen_ai::FIELDS,
        request: RequestKind::Ended,
    }],
    spans: &[
        EventRow {
            matching: EventMatch::Named("litellm_request"),
            fields: gen_ai::FIELDS,
            request: RequestKind::Ended,
        },
        EventRow {
            matching: EventMatch::Any(&[OPERATION], CALLS),
            fields: gen_ai::FIELDS,
            request: RequestKind::Ended,
        },
    ],
};

/// The attribute with the id of a call; all attempts at it have the same.
pub(super) const CALL_ID: &str = "litellm.call_id";

/// The attribute with the alias of the caller's virtual key.
const KEY_ALIAS: &str = "metadata.user_api_key_alias";

/// Attributes that hold an object as text, and the key in it that names the agent.
pub(super) const AGENT_IN: [(&str, &str); 3] =
    [(REQUESTER, "agent.name"), (REQUESTER, "agent_id"), ("metadata.requester_custom_headers", "x-litellm-agent-id")];
/// The same for the project.
pub(super) const PROJECT_IN: [(&str, &str); 1] = [(REQUESTER, "project")];
/// The caller's own metadata.
const REQUESTER: &str = "metadata.requester_metadata";

/// The attribute that holds the provider's usage object as text.
pub(super) const USAGE_OBJECT: &str = "metadata.usage_object";
/// Keys of the usage object that no other attribute repeats.
pub(super) const USAGE_KEYS: [(&str, Columns); 3] = [
    ("cached_tokens", CACHE_READ_OF_INPUT),
    ("cache_creation_input_tokens", CACHE_CREATION_OF_INPUT),
    ("reasoning_tokens", REASONING_OF_OUTPUT),
];

/// The name of an agent that nothing else names: the alias of its key.
fn key_alias(item: Attributes<'_>) -> Option<(String, bool)> {
    Some((text(item, KEY_ALIAS)?.into_owned(), true))
}

/// The attribute that holds the headers of a response, as the text of a JSON object.
pub(super) const HIDDEN_PARAMS: &str = "hidden_params";
/// The attribute with the provider's model, such as `anthropic/claude-opus`; `gen_ai.request.model` may be the proxy's name
/// for a group of models.
pub(super) const PROVIDER_MODEL: &str = "litellm.provider.model";

/// The session that the caller names, by which its own telemetry and the proxy's are matched. Claude Code always sends it
/// in a header.
pub(super) fn session(attributes: Attributes<'_>) -> Option<Cow<'_, str>> {
    let inner = |(attribute, key): (&str, &str)| {
        let Cow::Borrowed(object) = text(attributes, attribute)? else { return None };
        inner(object, key).filter(|session| !session.is_empty()).map(Cow::Borrowed)
    };
    SESSION_IN.into_iter().find_map(inner).or_else(|| SESSION.into_iter().find_map(|key| text(attributes, key)))
}

/// Attributes that hold an object as text, and the key in it that names the session.
const SESSION_IN: [(&str, &str); 3] = [
    ("metadata.requester_custom_headers", "x-claude-code-session-id"),
    (REQUESTER, "session_id"),
    ("metadata.requester_custom_headers", "x-litellm-session-id"),
];
/// Attributes that name the session.
const SESSION: [&str; 4] =
    ["litellm.metadata.session_id", "metadata.session_id", "session.id", "gen_ai.conversation.id"];

/// Which attempt at a call succeeded, counted from 1.
pub(super) fn attempt(attributes: Attributes<'_>) -> Option<f64> {
    let retries = inner_number(&text(attributes, HIDDEN_PARAMS)?, "x-litellm-attempted-retries")?;
    Some(retries + 1.0)
}

/// The whole number at `key` of an object in the notation of Python's `str` or of JSON.
pub(super) fn inner_number(object: &str, key: &str) -> Option<f64> {
    let rest = after_key(object, key)?;
    let digits = rest.split_once(|letter: char| !letter.is_ascii_digit()).map_or(rest, |(digits, _)| digits);
    digits.parse::<u32>().ok().map(f64::from)
}

/// The string at `key` of such an object.
pub(super) fn inner<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let rest = after_key(object, key)?;
    let open = rest.chars().next().filter(|open| matches!(open, '\'' | '"'))?;
    rest.strip_prefix(open)?.split_once(open).map(|(text, _)| text)
}

/// The text after `key` in such an object. Letter case is ignored, since headers are among the keys.
fn after_key<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let lower = object.to_ascii_lowercase();
    ['\'', '"'].into_iter().find_map(|quote| {
        let quoted = format!("{quote}{}{quote}:", key.to_ascii_lowercase());
        let at = lower.find(&quoted)?;
        object.get(at + quoted.len()..).map(str::trim_start)
    })
}
