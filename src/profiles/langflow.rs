//! Langflow: a flow is an agent, and each run of it a task. Its spans name flows by id, and its metrics name none, so that
//! requests belong to the service. Tokens are reported by the instrumentation of the model clients in it.

use super::attributes::{Attributes, text};
use super::gen_ai;
use super::profile::{EventMatch, EventRow, OperationFilter, Profile, RequestKind};

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "langflow",
    prefixes: &["langflow"],
    provider: None,
    session_attribute: None,
    uses_host_name: true,
    spans_lack_cost: false,
    agent_from_items: true,
    default_agent_name: Some(flow_name),
    has_call_ids: false,
    // Its durations are those of calls, without an operation.
    metrics: &[gen_ai::TOKENS, gen_ai::durations(OperationFilter::CallsOrUnnamed)],
    logs: &[],
    spans: &[
        // The attribute `status` is `ok` or `error`, like the status of the span.
        EventRow { matching: EventMatch::Named("flow.execute"), fields: &[], request: RequestKind::TaskRun },
        gen_ai::SPANS,
    ],
};

/// Characters of a flow's id in its name.
const ID_LENGTH: usize = 8;

/// The name of a flow that no rule names: the beginning of its id.
fn flow_name(item: Attributes<'_>) -> Option<(String, bool)> {
    let id = text(item, "flow_id")?;
    Some((format!("flow-{}", id.chars().take(ID_LENGTH).collect::<String>()), false))
}
