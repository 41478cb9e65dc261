//! LiteLLM's proxy: its spans alone. Its metrics can't name the agent of a call and say the same; an agent is named by
//! the caller's metadata or headers, which come as the text of a Python or JSON object.

use super::gen_ai;
use super::table::{Adds, CACHE_READ_OF_INPUT, EventRow, Profile, REASONING_OF_OUTPUT, Request, When};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "litellm",
    prefixes: &["litellm"],
    provider: None,
    session: None,
    names_host: true,
    tells_cost: false,
    items_name_agents: true,
    metrics: &[],
    logs: &[],
    spans: &[
        EventRow { when: When::Named("litellm_request"), fields: gen_ai::FIELDS, request: Request::Ended },
        EventRow {
            when: When::Any(&["gen_ai.operation.name"], &["chat", "text_completion", "embeddings", "responses"]),
            fields: gen_ai::FIELDS,
            request: Request::Ended,
        },
    ],
};

/// Attributes that hold an object as text, and the key within that names the agent.
pub(super) const AGENT_IN: [(&str, &str); 2] =
    [("metadata.requester_metadata", "agent_id"), ("metadata.requester_custom_headers", "x-litellm-agent-id")];

/// The attribute that holds the provider's own count as text, and what in it is told nowhere else.
pub(super) const USAGE_IN: &str = "metadata.usage_object";
pub(super) const USAGE: [(&str, Adds); 2] =
    [("cached_tokens", CACHE_READ_OF_INPUT), ("reasoning_tokens", REASONING_OF_OUTPUT)];

/// The whole number at `key` of such an object.
pub(super) fn inner_number(object: &str, key: &str) -> Option<f64> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let (_, rest) = object.split_once(&format!("{quote}{key}{quote}:"))?;
        let rest = rest.trim_start();
        let digits = rest.split_once(|letter: char| !letter.is_ascii_digit()).map_or(rest, |(digits, _)| digits);
        digits.parse::<u32>().ok().map(f64::from)
    })
}

/// The text at `key` of an object that was written by Python's `str` or as JSON.
pub(super) fn inner<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    ['\'', '"'].into_iter().find_map(|quote| {
        let (_, rest) = object.split_once(&format!("{quote}{key}{quote}:"))?;
        let rest = rest.trim_start();
        let open = rest.chars().next().filter(|open| matches!(open, '\'' | '"'))?;
        rest.strip_prefix(open)?.split_once(open).map(|(text, _)| text)
    })
}
