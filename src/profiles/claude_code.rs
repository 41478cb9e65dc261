//! Claude Code: delta sums, log events and spans that say the same thing three times.

use super::table::{
    CACHE_CREATION, CACHE_READ, COST, EventRow, INPUT, MetricRow, OUTPUT, Points, Profile, Request, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "claude-code",
    prefixes: &["com.anthropic.claude_code", "claude-code"],
    provider: Some("anthropic"),
    session: Some("session.id"),
    names_host: true,
    spans_lack_cost: true,
    // `agent.name` on a point is a subagent, which belongs to its session's agent.
    items_name_agents: false,
    called: None,
    tells_calls: false,
    metrics: &[
        MetricRow::new(
            "claude_code.token.usage",
            Points::By(
                "type",
                &[("input", INPUT), ("output", OUTPUT), ("cacheRead", CACHE_READ), ("cacheCreation", CACHE_CREATION)],
            ),
        ),
        MetricRow::new("claude_code.cost.usage", Points::Number(COST)),
    ],
    logs: &[
        EventRow { when: When::Named("claude_code.api_request"), fields: FIELDS, request: Request::Ended },
        EventRow { when: When::Named("claude_code.api_error"), fields: &[], request: Request::Failed },
    ],
    spans: &[EventRow {
        when: When::Named("claude_code.llm_request"),
        // No cost here: tokens of spans alone are priced by the table of the configuration, or not at all.
        fields: &[
            (&["input_tokens"], INPUT),
            (&["output_tokens"], OUTPUT),
            (&["cache_read_tokens"], CACHE_READ),
            (&["cache_creation_tokens"], CACHE_CREATION),
        ],
        request: Request::Ended,
    }],
};

const FIELDS: &[(&[&str], super::table::Adds)] = &[
    (&["input_tokens"], INPUT),
    (&["output_tokens"], OUTPUT),
    (&["cache_read_tokens"], CACHE_READ),
    (&["cache_creation_tokens"], CACHE_CREATION),
    (&["cost_usd"], COST),
];
