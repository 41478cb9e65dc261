//! Codex: delta histograms of turns, and log events whose numbers may be texts. Cached input is inside its input, and
//! reasoning inside its output; `tool_token_count` is a total.

use super::table::{
    CACHE_READ_OF_INPUT, EventRow, INPUT, MetricRow, OUTPUT, Points, Profile, REASONING_OF_OUTPUT, Request, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "codex",
    prefixes: &["codex"],
    provider: Some("openai"),
    session: None,
    // Its logs name their host and its metrics do not.
    names_host: false,
    tells_cost: false,
    items_name_agents: true,
    called: None,
    tells_calls: false,
    metrics: &[
        MetricRow {
            name: "codex.turn.token_usage",
            meaning: Points::By(
                "token_type",
                &[
                    ("input", INPUT),
                    ("output", OUTPUT),
                    ("cached_input", CACHE_READ_OF_INPUT),
                    ("reasoning_output", REASONING_OF_OUTPUT),
                ],
            ),
        },
        MetricRow { name: "codex.api_request", meaning: Points::Requests(None) },
    ],
    logs: &[
        EventRow {
            when: When::NamedWith("codex.sse_event", "event.kind", "response.completed"),
            fields: &[
                (&["input_token_count"], INPUT),
                (&["output_token_count"], OUTPUT),
                (&["cached_token_count"], CACHE_READ_OF_INPUT),
                (&["reasoning_token_count"], REASONING_OF_OUTPUT),
            ],
            request: Request::No,
        },
        EventRow { when: When::Named("codex.api_request"), fields: &[], request: Request::Attempt },
    ],
    spans: &[],
};
