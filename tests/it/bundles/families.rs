//! The metrics that a dashboard or a rule may name, with their labels and the values that closed labels take.

use lookout::metrics::names::{FAMILIES, FamilyKind};
use lookout::model::{AgentRuns, AgentStatus, ComponentStatus, Health, Level, RunFact, RunStatus, TokenType};

/// Labels that every series gets from the scrape.
pub(super) const TARGET_LABELS: [&str; 2] = ["job", "instance"];

/// What Prometheus itself adds for each target.
const SCRAPE: [&str; 3] = ["up", "scrape_duration_seconds", "scrape_samples_scraped"];

/// The labels of the series `name`, without those of the target; `None` if there is no such series.
pub(super) fn labels_of(name: &str) -> Option<Vec<&'static str>> {
    if SCRAPE.contains(&name) {
        return Some(Vec::new());
    }
    FAMILIES.iter().find_map(|family| match family.kind {
        FamilyKind::Histogram => match name.strip_prefix(family.name)? {
            "_bucket" => Some([family.labels, &["le"]].concat()),
            "_sum" | "_count" => Some(family.labels.to_vec()),
            _ => None,
        },
        FamilyKind::Gauge | FamilyKind::Counter => (name == family.name).then(|| family.labels.to_vec()),
    })
}

/// The possible values of `label` of `metric`; `None` if they are not a closed set.
pub(super) fn values_of(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    Some(match (label, metric) {
        ("status", "orchestrator_component_status") => ComponentStatus::ALL.map(ComponentStatus::as_str).to_vec(),
        ("status", "orchestrator_agent_runs_total" | "orchestrator_platform_runs_total") => {
            AgentRuns::STATUSES.map(RunStatus::as_str).to_vec()
        }
        ("status", _) => AgentStatus::ALL.map(AgentStatus::as_str).to_vec(),
        ("health", _) => Health::ALL.map(Health::as_str).to_vec(),
        ("level", _) => Level::ALL.map(Level::as_str).to_vec(),
        ("token_type", _) => TokenType::ALL.map(TokenType::as_str).to_vec(),
        ("scope", _) => vec!["task", "day"],
        ("outcome", _) => vec!["completed", "failed"],
        ("fact", _) => RunFact::ALL.map(RunFact::as_str).to_vec(),
        ("result", _) => vec!["passed", "failed"],
        ("limit_type", _) => vec!["requests", "tokens", "input_tokens", "output_tokens"],
        _ => return None,
    })
}
