//! AutoGen: its spans name its agents but report no usage. The instrumentation of its model client reports usage, under
//! the names of the GenAI semantic conventions.

use super::gen_ai;
use super::profile::Profile;

/// Its telemetry.
pub(super) const PROFILE: Profile = Profile {
    name: "autogen",
    prefixes: &["autogen"],
    provider: None,
    session_attribute: None,
    uses_host_name: true,
    spans_lack_cost: false,
    agent_from_items: true,
    default_agent_name: None,
    has_call_ids: false,
    metrics: gen_ai::PROFILE.metrics,
    logs: gen_ai::PROFILE.logs,
    spans: gen_ai::PROFILE.spans,
};
