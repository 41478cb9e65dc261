//! The metrics that a dashboard or a rule may name, with their labels and the values that closed labels take.

use lookout::model::{AgentStatus, ComponentStatus, Health, Level, TokenType};

/// What kind of samples a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
}

/// Labels that every series gets from the scrape.
pub(super) const TARGET_LABELS: [&str; 2] = ["job", "instance"];

/// What Prometheus itself adds for each target.
const SCRAPE: [&str; 3] = ["up", "scrape_duration_seconds", "scrape_samples_scraped"];

const AGENT: &[&str] = &["project", "agent_name"];

/// Every family of `/metrics`.
pub(super) fn known_families() -> Vec<Family> {
    let table: [(&str, Kind, &[&str]); 61] = [
        ("orchestrator_agent_up", Gauge, AGENT),
        ("orchestrator_agent_info", Gauge, &["project", "agent_name", "agent_type", "model"]),
        ("orchestrator_agent_status", Gauge, &["project", "agent_name", "status"]),
        ("orchestrator_agent_idle_time_seconds", Gauge, AGENT),
        ("orchestrator_agent_last_activity_timestamp_seconds", Gauge, AGENT),
        ("orchestrator_agent_restarts_total", Counter, AGENT),
        ("orchestrator_agent_progress_ratio", Gauge, AGENT),
        ("orchestrator_agent_estimated_completion_timestamp_seconds", Gauge, AGENT),
        ("orchestrator_agent_tokens_total", Counter, &["project", "agent_name", "token_type"]),
        ("orchestrator_agent_cost_usd_total", Counter, AGENT),
        ("orchestrator_agent_unpriced_tokens_total", Counter, AGENT),
        ("orchestrator_agent_expected", Gauge, AGENT),
        ("orchestrator_agent_budget_tokens", Gauge, &["project", "agent_name", "scope"]),
        ("orchestrator_agent_budget_used_tokens", Gauge, &["project", "agent_name", "scope"]),
        ("orchestrator_agent_budget_usd", Gauge, &["project", "agent_name", "scope"]),
        ("orchestrator_agent_budget_used_usd", Gauge, &["project", "agent_name", "scope"]),
        ("orchestrator_agent_requests_total", Counter, AGENT),
        ("orchestrator_agent_request_errors_total", Counter, AGENT),
        ("orchestrator_agent_rate_limit_hits_total", Counter, AGENT),
        ("orchestrator_agent_retries_total", Counter, AGENT),
        ("orchestrator_agent_rate_limit_remaining", Gauge, &["project", "agent_name", "provider", "limit_type"]),
        ("orchestrator_agent_rate_limit_limit", Gauge, &["project", "agent_name", "provider", "limit_type"]),
        (
            "orchestrator_agent_rate_limit_reset_timestamp_seconds",
            Gauge,
            &["project", "agent_name", "provider", "limit_type"],
        ),
        ("orchestrator_agent_tasks_total", Counter, &["project", "agent_name", "outcome"]),
        ("orchestrator_request_duration_seconds", Histogram, &["project"]),
        ("orchestrator_task_duration_seconds", Histogram, &["project"]),
        ("orchestrator_model_tokens_total", Counter, &["project", "model", "token_type"]),
        ("orchestrator_model_cost_usd_total", Counter, &["project", "model"]),
        ("orchestrator_agent_reviews_total", Counter, &["project", "agent_name", "result"]),
        ("orchestrator_component_status", Gauge, &["project", "component", "status"]),
        ("orchestrator_cluster_agents", Gauge, &["project", "status"]),
        ("orchestrator_cluster_health", Gauge, &["project", "health"]),
        ("orchestrator_cluster_alerts_total", Counter, &["level"]),
        ("orchestrator_alerts_active", Gauge, &["project", "level", "rule"]),
        ("lookout_build_info", Gauge, &["version"]),
        ("lookout_source_up", Gauge, &["source"]),
        ("lookout_source_last_success_timestamp_seconds", Gauge, &["source"]),
        ("lookout_source_errors_total", Counter, &["source", "reason"]),
        ("lookout_ingested_total", Counter, &["signal"]),
        ("lookout_rejected_total", Counter, &["signal", "reason"]),
        ("lookout_series_dropped_total", Counter, &[]),
        ("lookout_evaluation_duration_seconds", Histogram, &[]),
        ("lookout_notifications_total", Counter, &["receiver"]),
        ("lookout_notifications_failed_total", Counter, &["receiver", "reason"]),
        ("lookout_notification_latency_seconds", Histogram, &["receiver"]),
        ("lookout_outbox_pending", Gauge, &["receiver"]),
        ("lookout_outbox_oldest_age_seconds", Gauge, &["receiver"]),
        ("lookout_notifications_suppressed_total", Counter, &["reason"]),
        ("lookout_engine_lag_seconds", Gauge, &[]),
        ("lookout_queue_length", Gauge, &["queue"]),
        ("lookout_store_errors_total", Counter, &[]),
        ("lookout_config_last_reload_successful", Gauge, &[]),
        ("lookout_config_last_reload_success_timestamp_seconds", Gauge, &[]),
        ("process_cpu_seconds_total", Counter, &[]),
        ("process_resident_memory_bytes", Gauge, &[]),
        ("process_virtual_memory_bytes", Gauge, &[]),
        ("process_open_fds", Gauge, &[]),
        ("process_max_fds", Gauge, &[]),
        ("process_start_time_seconds", Gauge, &[]),
        ("process_threads", Gauge, &[]),
        ("process_virtual_memory_max_bytes", Gauge, &[]),
    ];
    table.into_iter().map(|(name, kind, labels)| Family { name, kind, labels }).collect()
}

/// The labels that the series called `name` have beside those of the target; `None` when there is no such series.
pub(super) fn labels_of(name: &str) -> Option<Vec<&'static str>> {
    if SCRAPE.contains(&name) {
        return Some(Vec::new());
    }
    known_families().into_iter().find_map(|Family { name: family, kind, labels }| match kind {
        Histogram => match name.strip_prefix(family)? {
            "_bucket" => Some([labels, &["le"]].concat()),
            "_sum" | "_count" => Some(labels.to_vec()),
            _ => None,
        },
        Gauge | Counter => (name == family).then(|| labels.to_vec()),
    })
}

/// The values that `label` of `metric` can take; `None` when anybody can name new ones.
pub(super) fn values_of(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    Some(match (label, metric) {
        ("status", "orchestrator_component_status") => ComponentStatus::ALL.map(ComponentStatus::as_str).to_vec(),
        ("status", _) => AgentStatus::ALL.map(AgentStatus::as_str).to_vec(),
        ("health", _) => Health::ALL.map(Health::as_str).to_vec(),
        ("level", _) => Level::ALL.map(Level::as_str).to_vec(),
        ("token_type", _) => TokenType::ALL.map(TokenType::as_str).to_vec(),
        ("scope", _) => vec!["task", "day"],
        ("outcome", _) => vec!["completed", "failed"],
        ("result", _) => vec!["passed", "failed"],
        ("limit_type", _) => vec!["requests", "tokens", "input_tokens", "output_tokens"],
        _ => return None,
    })
}
