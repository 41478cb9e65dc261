//! Claude Code: metrics, log events and spans, each of which reports all usage.

use super::profile::{
    CACHE_CREATION, CACHE_READ, COST, Columns, EventMatch, EventRow, INPUT, MetricRow, OUTPUT, PointMeaning, Profile,
    RequestKind,
};

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "claude-code",
    prefixes: &["com.anthropic.claude_code", "claude-code"],
    provider: Some("anthropic"),
    session_attribute: Some("session.id"),
    uses_host_name: true,
    spans_lack_cost: true,
    // `agent.name` on a point names a subagent, whose usage belongs to the agent of its session.
    agent_from_items: false,
    default_agent_name: None,
    has_call_ids: false,
    metrics: &[
        MetricRow::new(
            "claude_code.token.usage",
            PointMeaning::By(
                "type",
                &[("input", INPUT), ("output", OUTPUT), ("cacheRead", CACHE_READ), ("cacheCreation", CACHE_CREATION)],
            ),
        ),
        MetricRow::new("claude_code.cost.usage", PointMeaning::Number(COST)),
    ],
    logs: &[
        EventRow {
            matching: EventMatch::Named("claude_code.api_request"),
            fields: FIELDS,
            request: RequestKind::Ended,
        },
        EventRow { matching: EventMatch::Named("claude_code.api_error"), fields: &[], request: RequestKind::Failed },
    ],
    spans: &[EventRow {
        matching: EventMatch::Named("claude_code.llm_request"),
        // Spans have no cost: where nothing but spans arrives, tokens are priced by the configured price list, or not at all.
        fields: &[
            (&["input_tokens"], INPUT),
            (&["output_tokens"], OUTPUT),
            (&["cache_read_tokens"], CACHE_READ),
            (&["cache_creation_tokens"], CACHE_CREATION),
        ],
        request: RequestKind::Ended,
    }],
};

const FIELDS: &[(&[&str], Columns)] = &[
    (&["input_tokens"], INPUT),
    (&["output_tokens"], OUTPUT),
    (&["cache_read_tokens"], CACHE_READ),
    (&["cache_creation_tokens"], CACHE_CREATION),
    (&["cost_usd"], COST),
];
