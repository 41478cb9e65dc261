//! Codex: delta histograms of turns, and log events whose numbers may be texts. Cached input is inside its input, and
//! reasoning inside its output; `tool_token_count` is a total.

use super::table::{
    CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, EventRow, INPUT, MetricRow, OUTPUT, Points, Profile,
    REASONING_OF_OUTPUT, Request, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "codex",
    prefixes: &["codex"],
    provider: Some("openai"),
    session: None,
    // Its logs name their host and its metrics do not.
    names_host: false,
    spans_lack_cost: false,
    items_name_agents: true,
    called: None,
    tells_calls: false,
    metrics: &[
        MetricRow::new(
            "codex.turn.token_usage",
            Points::By(
                "token_type",
                &[
                    ("input", INPUT),
                    ("output", OUTPUT),
                    ("cached_input", CACHE_READ_OF_INPUT),
                    ("reasoning_output", REASONING_OF_OUTPUT),
                ],
            ),
        ),
        MetricRow::new("codex.api_request", Points::Requests(None)),
        MetricRow::new("codex.sse_event", Points::Streams),
    ],
    logs: &[
        EventRow {
            when: When::NamedWith("codex.sse_event", "event.kind", "response.completed"),
            fields: &[
                (&["input_token_count"], INPUT),
                (&["output_token_count"], OUTPUT),
                (&["cached_token_count"], CACHE_READ_OF_INPUT),
                (&["cache_write_token_count"], CACHE_CREATION_OF_INPUT),
                (&["reasoning_token_count"], REASONING_OF_OUTPUT),
            ],
            request: Request::No,
        },
        EventRow { when: When::NamedFailed("codex.sse_event"), fields: &[], request: Request::Broken },
        EventRow { when: When::Named("codex.api_request"), fields: &[], request: Request::Attempt },
    ],
    spans: &[],
};
