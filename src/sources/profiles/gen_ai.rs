//! The GenAI conventions, old names and new. Cached tokens are inside the input, reasoning inside the output.
//!
//! Spans of agents and tools carry sums of the calls beneath them; only spans of calls are counted.

use super::table::{
    Adds, CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, COST, EventRow, INPUT, MetricRow, OUTPUT, Points, Profile,
    REASONING_OF_OUTPUT, Request, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "gen-ai",
    prefixes: &[],
    provider: None,
    session: None,
    names_host: true,
    tells_cost: false,
    items_name_agents: true,
    called: None,
    tells_calls: false,
    metrics: &[
        MetricRow {
            name: "gen_ai.client.token.usage",
            meaning: Points::By(
                "gen_ai.token.type",
                &[("input", INPUT), ("output", OUTPUT), ("completion", OUTPUT), ("prompt", INPUT)],
            ),
        },
        MetricRow { name: "gen_ai.client.operation.duration", meaning: Points::Requests(None) },
    ],
    logs: &[],
    spans: &[CALLS],
};

/// Spans of calls.
pub(super) const CALLS: EventRow = EventRow {
    when: When::Any(
        &["gen_ai.operation.name", "llm.request.type"],
        &["chat", "text_completion", "completion", "generate_content", "embeddings", "anthropic_messages"],
    ),
    fields: FIELDS,
    request: Request::Ended,
};

/// Where spans of calls have their numbers.
pub(super) const FIELDS: &[(&[&str], Adds)] = &[
    (&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"], INPUT),
    (&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"], OUTPUT),
    (&["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"], CACHE_READ_OF_INPUT),
    (
        &["gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"],
        CACHE_CREATION_OF_INPUT,
    ),
    (&["gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"], REASONING_OF_OUTPUT),
    (&["gen_ai.cost.total_cost", "litellm.cost.total"], COST),
];
