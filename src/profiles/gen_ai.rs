//! The GenAI semantic conventions, their present names and former ones. Input includes cached tokens, output reasoning.
//!
//! Spans and points of agents and tools report sums of the calls beneath them, so that only those of calls count. A
//! duration without an operation may be of anything and is not counted as a request; tokens are always a model's.

use super::profile::{
    CACHE_CREATION_OF_INPUT, CACHE_READ_OF_INPUT, CALLS, COST, Columns, EventMatch, EventRow, INPUT, MetricRow,
    MetricSet, OPERATION, OUTPUT, OperationFilter, PointMeaning, Profile, REASONING_OF_OUTPUT, RequestKind,
};

/// Telemetry of any library that follows the conventions.
pub(super) const PROFILE: Profile = Profile {
    name: "gen-ai",
    prefixes: &[],
    provider: None,
    session_attribute: None,
    uses_host_name: true,
    spans_lack_cost: false,
    agent_from_items: true,
    default_agent_name: None,
    has_call_ids: false,
    metrics: &[
        TOKENS,
        inference("gen_ai.client.inference.usage.input_tokens", INPUT, MetricSet::ByDirection),
        inference("gen_ai.client.inference.usage.output_tokens", OUTPUT, MetricSet::ByDirection),
        inference("gen_ai.client.inference.usage.detailed.input_tokens", INPUT, MetricSet::Detailed),
        inference("gen_ai.client.inference.usage.detailed.output_tokens", OUTPUT, MetricSet::Detailed),
        inference(
            "gen_ai.client.inference.usage.detailed.cache_read.input_tokens",
            CACHE_READ_OF_INPUT,
            MetricSet::Detailed,
        ),
        inference(
            "gen_ai.client.inference.usage.detailed.cache_write.input_tokens",
            CACHE_CREATION_OF_INPUT,
            MetricSet::Detailed,
        ),
        inference(
            "gen_ai.client.inference.usage.detailed.reasoning.output_tokens",
            REASONING_OF_OUTPUT,
            MetricSet::Detailed,
        ),
        durations(OperationFilter::Calls),
    ],
    logs: &[],
    spans: &[SPANS],
};

/// Tokens by type: the former metric.
pub(super) const TOKENS: MetricRow = MetricRow {
    operations: OperationFilter::CallsOrUnnamed,
    ..MetricRow::new(
        "gen_ai.client.token.usage",
        PointMeaning::By(
            "gen_ai.token.type",
            &[("input", INPUT), ("output", OUTPUT), ("completion", OUTPUT), ("prompt", INPUT)],
        ),
    )
};

/// Requests, by the durations of operations.
pub(super) const fn durations(operations: OperationFilter) -> MetricRow {
    let meaning = PointMeaning::Requests(None);
    MetricRow { name: "gen_ai.client.operation.duration", meaning, set: MetricSet::Only, operations }
}

/// One of the metrics that replace `gen_ai.client.token.usage`; senders may export both.
const fn inference(name: &'static str, adds: Columns, set: MetricSet) -> MetricRow {
    MetricRow { name, meaning: PointMeaning::Number(adds), set, operations: OperationFilter::CallsOrUnnamed }
}

/// Spans of calls.
pub(super) const SPANS: EventRow = EventRow {
    matching: EventMatch::Any(&[OPERATION, "llm.request.type"], CALLS),
    fields: FIELDS,
    request: RequestKind::Ended,
};

/// The attributes of spans of calls that report usage.
pub(super) const FIELDS: &[(&[&str], Columns)] = &[
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
