//! Gemini CLI: cumulative sums and log events. Its input count includes cached tokens; its output count does not include
//! thoughts. Its `gen_ai.*` metrics and its spans repeat the same usage and are not read.

use super::profile::{
    CACHE_READ_OF_INPUT, EventMatch, EventRow, INPUT, MetricRow, OUTPUT, PointMeaning, Profile, REASONING, RequestKind,
};

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "gemini-cli",
    prefixes: &["gemini-cli"],
    provider: Some("google"),
    session_attribute: Some("session.id"),
    uses_host_name: true,
    spans_lack_cost: false,
    // Only its spans name an agent, and that is the tool itself.
    agent_from_items: false,
    default_agent_name: None,
    has_call_ids: false,
    metrics: &[
        MetricRow::new(
            "gemini_cli.token.usage",
            PointMeaning::By(
                "type",
                &[("input", INPUT), ("output", OUTPUT), ("cache", CACHE_READ_OF_INPUT), ("thought", REASONING)],
            ),
        ),
        // A failed request has two points; the one with the error type is the repetition.
        MetricRow::new("gemini_cli.api.request.count", PointMeaning::Requests(Some("error_type"))),
    ],
    logs: &[
        EventRow {
            matching: EventMatch::Named("gemini_cli.api_response"),
            fields: &[
                (&["input_token_count"], INPUT),
                (&["output_token_count"], OUTPUT),
                (&["cached_content_token_count"], CACHE_READ_OF_INPUT),
                (&["thoughts_token_count"], REASONING),
            ],
            request: RequestKind::Ended,
        },
        EventRow { matching: EventMatch::Named("gemini_cli.api_error"), fields: &[], request: RequestKind::Failed },
    ],
    spans: &[],
};
