//! Gemini CLI: cumulative sums and log events. Cached input is inside its input, thoughts are beside its output. Its
//! `gen_ai.*` metrics and its spans say the same once more and are left alone.

use super::table::{
    CACHE_READ_OF_INPUT, EventRow, INPUT, MetricRow, OUTPUT, Points, Profile, REASONING, Request, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "gemini-cli",
    prefixes: &["gemini-cli"],
    provider: Some("google"),
    session: Some("session.id"),
    names_host: true,
    spans_lack_cost: false,
    // Its spans name the tool itself as the agent, and nothing else does.
    items_name_agents: false,
    called: None,
    tells_calls: false,
    metrics: &[
        MetricRow::new(
            "gemini_cli.token.usage",
            Points::By(
                "type",
                &[("input", INPUT), ("output", OUTPUT), ("cache", CACHE_READ_OF_INPUT), ("thought", REASONING)],
            ),
        ),
        // Each failed request has two points, of which one names the error.
        MetricRow::new("gemini_cli.api.request.count", Points::Requests(Some("error_type"))),
    ],
    logs: &[
        EventRow {
            when: When::Named("gemini_cli.api_response"),
            fields: &[
                (&["input_token_count"], INPUT),
                (&["output_token_count"], OUTPUT),
                (&["cached_content_token_count"], CACHE_READ_OF_INPUT),
                (&["thoughts_token_count"], REASONING),
            ],
            request: Request::Ended,
        },
        EventRow { when: When::Named("gemini_cli.api_error"), fields: &[], request: Request::Failed },
    ],
    spans: &[],
};
