//! AutoGen: its spans name its agents and have no numbers; whatever instruments its model client has them, under the
//! names of the GenAI conventions.

use super::gen_ai;
use super::table::Profile;

/// The names.
pub(super) const PROFILE: Profile = Profile {
    name: "autogen",
    prefixes: &["autogen"],
    provider: None,
    session: None,
    names_host: true,
    spans_lack_cost: false,
    items_name_agents: true,
    called: None,
    tells_calls: false,
    metrics: gen_ai::PROFILE.metrics,
    logs: gen_ai::PROFILE.logs,
    spans: gen_ai::PROFILE.spans,
};
