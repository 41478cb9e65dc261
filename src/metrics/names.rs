//! Every family on the page: name, type, help and labels. Names are public promises.

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A family of series.
#[derive(Debug)]
pub struct Family {
    /// Its name, with `_total` for a counter.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it says, without a final stop.
    pub help: &'static str,
    /// Its labels, `le` of a histogram left out.
    pub labels: &'static [&'static str],
}

macro_rules! families {
    ($($id:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Family =
                Family { name: $name, kind: Kind::$kind, help: $help, labels: &[$($label),*] };
        )*
        /// All of them, in the order of the page.
        pub const FAMILIES: &[&Family] = &[$(&$id),*];
    };
}

families! {
    AGENT_UP = "orchestrator_agent_up", Gauge, ["project", "agent_name"], "Whether the agent is alive in whatever state";
    AGENT_INFO = "orchestrator_agent_info", Gauge, ["project", "agent_name", "agent_type", "model"], "Type and model of the agent";
    AGENT_STATUS = "orchestrator_agent_status", Gauge, ["project", "agent_name", "status"], "What the agent is doing; one status is 1";
    AGENT_IDLE = "orchestrator_agent_idle_time_seconds", Gauge, ["project", "agent_name"], "Time since the last activity of a live agent";
    AGENT_LAST_ACTIVITY = "orchestrator_agent_last_activity_timestamp_seconds", Gauge, ["project", "agent_name"], "When the agent last did something";
    AGENT_RESTARTS = "orchestrator_agent_restarts_total", Counter, ["project", "agent_name"], "Restarts of the agent";
    AGENT_PROGRESS = "orchestrator_agent_progress_ratio", Gauge, ["project", "agent_name"], "Progress of the task, 0 to 1";
    AGENT_COMPLETION = "orchestrator_agent_estimated_completion_timestamp_seconds", Gauge, ["project", "agent_name"], "When the agent expects to be done";
    AGENT_TOKENS = "orchestrator_agent_tokens_total", Counter, ["project", "agent_name", "token_type"], "Tokens used; the types are disjoint";
    AGENT_COST = "orchestrator_agent_cost_usd_total", Counter, ["project", "agent_name"], "Cost in US dollars, as far as it is known";
    AGENT_UNPRICED = "orchestrator_agent_unpriced_tokens_total", Counter, ["project", "agent_name"], "Tokens whose price is not known";
    AGENT_EXPECTED = "orchestrator_agent_expected", Gauge, ["project", "agent_name"], "Whether the agent should be up";
    AGENT_BUDGET_TOKENS = "orchestrator_agent_budget_tokens", Gauge, ["project", "agent_name", "scope"], "Tokens that the agent may use for a task or in a day";
    AGENT_BUDGET_USED_TOKENS = "orchestrator_agent_budget_used_tokens", Gauge, ["project", "agent_name", "scope"], "Tokens used that count towards the budget";
    AGENT_BUDGET_USD = "orchestrator_agent_budget_usd", Gauge, ["project", "agent_name", "scope"], "US dollars that the agent may cost in a day";
    AGENT_BUDGET_USED_USD = "orchestrator_agent_budget_used_usd", Gauge, ["project", "agent_name", "scope"], "US dollars that count towards the budget";
    AGENT_REQUESTS = "orchestrator_agent_requests_total", Counter, ["project", "agent_name"], "Requests to a model";
    AGENT_REQUEST_ERRORS = "orchestrator_agent_request_errors_total", Counter, ["project", "agent_name"], "Requests that ended in an error";
    AGENT_RATE_LIMIT_HITS = "orchestrator_agent_rate_limit_hits_total", Counter, ["project", "agent_name"], "Requests refused for a rate limit";
    AGENT_RETRIES = "orchestrator_agent_retries_total", Counter, ["project", "agent_name"], "Requests sent again";
    AGENT_RATE_LIMIT_REMAINING = "orchestrator_agent_rate_limit_remaining", Gauge, ["project", "agent_name", "provider", "limit_type"], "What is left of a provider's limit";
    AGENT_RATE_LIMIT_LIMIT = "orchestrator_agent_rate_limit_limit", Gauge, ["project", "agent_name", "provider", "limit_type"], "A provider's limit";
    AGENT_RATE_LIMIT_RESET = "orchestrator_agent_rate_limit_reset_timestamp_seconds", Gauge, ["project", "agent_name", "provider", "limit_type"], "When a provider's limit is reset";
    AGENT_TASKS = "orchestrator_agent_tasks_total", Counter, ["project", "agent_name", "outcome"], "Tasks ended";
    AGENT_REVIEWS = "orchestrator_agent_reviews_total", Counter, ["project", "agent_name", "result"], "Reviews of the agent's work";
    TASK_DURATION = "orchestrator_task_duration_seconds", Histogram, ["project"], "Time from the start of a task to its end";
    MODEL_TOKENS = "orchestrator_model_tokens_total", Counter, ["project", "model", "token_type"], "Tokens used by model";
    MODEL_COST = "orchestrator_model_cost_usd_total", Counter, ["project", "model"], "Cost in US dollars by model";
    COMPONENT_STATUS = "orchestrator_component_status", Gauge, ["project", "component", "status"], "How the component is; one status is 1";
    CLUSTER_AGENTS = "orchestrator_cluster_agents", Gauge, ["project", "status"], "Agents in each status";
    CLUSTER_HEALTH = "orchestrator_cluster_health", Gauge, ["project", "health"], "How the project is; one health is 1";
    CLUSTER_ALERTS = "orchestrator_cluster_alerts_total", Counter, ["level"], "Alerts raised, once for each level that they reach";
    ALERTS_ACTIVE = "orchestrator_alerts_active", Gauge, ["project", "level", "rule"], "Alerts that fire now";
    SOURCE_UP = "lookout_source_up", Gauge, ["source"], "Whether the last poll of the source succeeded";
    SOURCE_LAST_SUCCESS = "lookout_source_last_success_timestamp_seconds", Gauge, ["source"], "When a poll of the source last succeeded";
    SOURCE_ERRORS = "lookout_source_errors_total", Counter, ["source", "reason"], "Failed polls of the source";
    SERIES_DROPPED = "lookout_series_dropped_total", Counter, [], "Series refused for the series cap";
    BUILD_INFO = "lookout_build_info", Gauge, ["version"], "The version of lookout";
    INGESTED = "lookout_ingested_total", Counter, ["signal"], "Agents, components and increments taken in";
    REJECTED = "lookout_rejected_total", Counter, ["signal", "reason"], "Agents, components, increments and bodies not taken in";
    EVALUATION_DURATION = "lookout_evaluation_duration_seconds", Histogram, [], "Time to judge one update";
    NOTIFICATIONS = "lookout_notifications_total", Counter, ["receiver"], "Notices delivered";
    NOTIFICATIONS_FAILED = "lookout_notifications_failed_total", Counter, ["receiver", "reason"], "Sends that failed, tried again or given up";
    NOTIFICATION_LATENCY = "lookout_notification_latency_seconds", Histogram, ["receiver"], "Time from the arrival of the cause to the receiver's answer";
    OUTBOX_PENDING = "lookout_outbox_pending", Gauge, ["receiver"], "Notices that wait for the receiver";
    OUTBOX_OLDEST = "lookout_outbox_oldest_age_seconds", Gauge, ["receiver"], "Age of the oldest notice that waits for the receiver";
    SUPPRESSED = "lookout_notifications_suppressed_total", Counter, ["reason"], "Notices withheld or put off";
    ENGINE_LAG = "lookout_engine_lag_seconds", Gauge, [], "How late the last deadline was served";
    QUEUE_LENGTH = "lookout_queue_length", Gauge, ["queue"], "Events that wait in a queue";
    STORE_ERRORS = "lookout_store_errors_total", Counter, [], "Writes to the store that failed";
    RELOAD_SUCCESSFUL = "lookout_config_last_reload_successful", Gauge, [], "Whether the last reload of the configuration succeeded";
    RELOAD_TIME = "lookout_config_last_reload_success_timestamp_seconds", Gauge, [], "When the configuration was last loaded";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, [], "CPU time of the process, user and system";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Gauge, [], "Resident memory of the process";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, [], "Virtual memory of the process";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, [], "Open file descriptors of the process";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, [], "Most file descriptors that the process may open";
    PROCESS_START = "process_start_time_seconds", Gauge, [], "When the process started";
}
