//! The built-in rules: the files in `alerts/`, compiled in.

use super::compile::{RuleSet, RuleSettings};
use crate::model::Problem;

/// Name and text of each built-in file.
pub const BUILT_IN: [(&str, &str); 7] = [
    ("agents.yaml", include_str!("../../alerts/agents.yaml")),
    ("budgets.yaml", include_str!("../../alerts/budgets.yaml")),
    ("fleet.yaml", include_str!("../../alerts/fleet.yaml")),
    ("sidecar.yaml", include_str!("../../alerts/sidecar.yaml")),
    ("sources.yaml", include_str!("../../alerts/sources.yaml")),
    ("spending.yaml", include_str!("../../alerts/spending.yaml")),
    ("tasks.yaml", include_str!("../../alerts/tasks.yaml")),
];

/// The built-in rules alone.
pub fn built_in(settings: RuleSettings) -> Result<RuleSet, Vec<Problem>> {
    RuleSet::load(&[], settings)
}
