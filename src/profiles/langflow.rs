//! Langflow: a flow is an agent and each run of it a task. Its spans name flows by ids alone, and its metrics no flow at
//! all: requests to models belong to its service, and tokens are told by whatever instruments a client in it.

use super::attributes::text;
use super::gen_ai;
use super::table::{EventRow, Operations, Profile, Request, When};
use crate::otlp::wire::KeyValue;

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "langflow",
    prefixes: &["langflow"],
    provider: None,
    session: None,
    names_host: true,
    spans_lack_cost: false,
    items_name_agents: true,
    called: Some(flow),
    tells_calls: false,
    // Its own durations are of calls alone, and do not name them.
    metrics: &[gen_ai::TOKENS, gen_ai::durations(Operations::NoOthers)],
    logs: &[],
    spans: &[
        // `status` is `ok` or `error`, as its span's.
        EventRow { when: When::Named("flow.execute"), fields: &[], request: Request::Run },
        gen_ai::SPANS,
    ],
};

/// How much of a flow's id tells it from the others, in letters.
const SHORT: usize = 8;

/// What a flow is called that no rule names: the beginning of its id.
fn flow(item: &[KeyValue]) -> Option<(String, bool)> {
    let id = text(item, "flow_id")?;
    Some((format!("flow-{}", id.chars().take(SHORT).collect::<String>()), false))
}
