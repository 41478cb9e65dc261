//! Codex: delta histograms by turn, and log events whose numbers may be strings. Its input count includes cached tokens,
//! and its output count reasoning. `tool_token_count` is a total of all tokens and not read.

use super::profile::{
    CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, EventMatch, EventRow, INPUT, MetricRow, OUTPUT, PointMeaning,
    Profile, REASONING_OF_OUTPUT, RequestKind,
};

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "codex",
    prefixes: &["codex"],
    provider: Some("openai"),
    session_attribute: None,
    // Its logs have `host.name`, its metrics do not.
    uses_host_name: false,
    spans_lack_cost: false,
    agent_from_items: true,
    default_agent_name: None,
    has_call_ids: false,
    metrics: &[
        MetricRow::new(
            "codex.turn.token_usage",
            PointMeaning::By(
                "token_type",
                &[
                    ("input", INPUT),
                    ("output", OUTPUT),
                    ("cached_input", CACHE_READ_OF_INPUT),
                    ("reasoning_output", REASONING_OF_OUTPUT),
                ],
            ),
        ),
        MetricRow::new("codex.api_request", PointMeaning::Requests(None)),
        MetricRow::new("codex.sse_event", PointMeaning::Streams),
    ],
    logs: &[
        EventRow {
            matching: EventMatch::NamedWith("codex.sse_event", "event.kind", "response.completed"),
            fields: &[
                (&["input_token_count"], INPUT),
                (&["output_token_count"], OUTPUT),
                (&["cached_token_count"], CACHE_READ_OF_INPUT),
                (&["cache_write_token_count"], CACHE_CREATION_OF_INPUT),
                (&["reasoning_token_count"], REASONING_OF_OUTPUT),
            ],
            request: RequestKind::None,
        },
        EventRow {
            matching: EventMatch::NamedFailed("codex.sse_event"),
            fields: &[],
            request: RequestKind::StreamFailed,
        },
        EventRow { matching: EventMatch::Named("codex.api_request"), fields: &[], request: RequestKind::Attempt },
    ],
    spans: &[],
};
