//! The GenAI conventions, old names and new. Cached tokens are inside the input, reasoning inside the output.
//!
//! Spans and points of agents and tools carry sums of the calls beneath them; only those of calls are counted. A duration
//! whose operation is not named may be of anything and is no request; tokens are always a model's.

use super::table::{
    Adds, CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, CALLS, COST, EventRow, INPUT, MetricRow, OPERATION, OUTPUT,
    Operations, Points, Profile, REASONING_OF_OUTPUT, Request, Set, When,
};

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "gen-ai",
    prefixes: &[],
    provider: None,
    session: None,
    names_host: true,
    spans_lack_cost: false,
    items_name_agents: true,
    called: None,
    tells_calls: false,
    metrics: &[
        TOKENS,
        inference("gen_ai.client.inference.usage.input_tokens", INPUT, Set::ByDirection),
        inference("gen_ai.client.inference.usage.output_tokens", OUTPUT, Set::ByDirection),
        inference("gen_ai.client.inference.usage.detailed.input_tokens", INPUT, Set::Detailed),
        inference("gen_ai.client.inference.usage.detailed.output_tokens", OUTPUT, Set::Detailed),
        inference("gen_ai.client.inference.usage.detailed.cache_read.input_tokens", CACHE_READ_OF_INPUT, Set::Detailed),
        inference(
            "gen_ai.client.inference.usage.detailed.cache_write.input_tokens",
            CACHE_CREATION_OF_INPUT,
            Set::Detailed,
        ),
        inference("gen_ai.client.inference.usage.detailed.reasoning.output_tokens", REASONING_OF_OUTPUT, Set::Detailed),
        durations(Operations::Calls),
    ],
    logs: &[],
    spans: &[SPANS],
};

/// Tokens by type.
pub(super) const TOKENS: MetricRow = MetricRow {
    of: Operations::NoOthers,
    ..MetricRow::new(
        "gen_ai.client.token.usage",
        Points::By(
            "gen_ai.token.type",
            &[("input", INPUT), ("output", OUTPUT), ("completion", OUTPUT), ("prompt", INPUT)],
        ),
    )
};

/// Requests, as the durations of operations.
pub(super) const fn durations(of: Operations) -> MetricRow {
    let meaning = Points::Requests(None);
    MetricRow { name: "gen_ai.client.operation.duration", meaning, set: Set::Only, of }
}

/// One of the metrics that have taken the place of `gen_ai.client.token.usage`; senders may have both.
const fn inference(name: &'static str, adds: Adds, set: Set) -> MetricRow {
    MetricRow { name, meaning: Points::Number(adds), set, of: Operations::NoOthers }
}

/// Spans of calls.
pub(super) const SPANS: EventRow =
    EventRow { when: When::Any(&[OPERATION, "llm.request.type"], CALLS), fields: FIELDS, request: Request::Ended };

/// Where spans of calls have their numbers.
pub(super) const FIELDS: &[(&[&str], Adds)] = &[
    (&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"], INPUT),
    (&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"], OUTPUT),
    (&["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"], CACHE_READ_OF_INPUT),
    (
        &[
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ],
        CACHE_CREATION_OF_INPUT,
    ),
    (&["gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"], REASONING_OF_OUTPUT),
    (&["gen_ai.cost.total_cost", "litellm.cost.total"], COST),
];
