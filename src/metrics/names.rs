//! Every family of the page: name, type, labels and help, in one table.
//!
//! Names and labels are public promises that dashboards and rules depend on; a golden test freezes them.
//! Help texts carry no final stop: both writers add it.

/// The type of a family, as a page declares it.
///
/// There is no `info` and no `stateset`: served as text, one of them takes the whole target down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

impl Kind {
    /// The word for it on the page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Suffixes of names that are units.
const UNITS: [&str; 5] = ["seconds", "bytes", "ratio", "tokens", "usd"];

/// A family of series.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name of its series; a histogram's get `_bucket`, `_count` and `_sum` on top.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels in the order in which they are written; `le` is not named.
    pub labels: &'static [&'static str],
    /// What it says, without a final stop.
    pub help: &'static str,
}

impl Family {
    /// The name as OpenMetrics declares it: a counter's without `_total`.
    pub fn base(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }

    /// The unit, which is the last word of the name.
    pub fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.base().rsplit_once('_')?;
        UNITS.into_iter().find(|unit| *unit == last)
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family { name: $name, kind: Kind::$kind, labels: &$labels, help: $help };
        )*

        /// Every family, in the order of the page: the fleet's, the sidecar's, the process'.
        pub const FAMILIES: &[Family] = &[$($id),*];
    };
}

families! {
    AGENT_UP = Gauge "orchestrator_agent_up" ["project", "agent_name"]
        "Whether the agent is alive in whatever state: 0 once it failed, ended or went silent";
    AGENT_EXPECTED = Gauge "orchestrator_agent_expected" ["project", "agent_name"]
        "Whether the agent should be up: not completed, paused or forgotten";
    AGENT_INFO = Gauge "orchestrator_agent_info" ["project", "agent_name", "agent_type", "model"]
        "What kind of agent it is and the model that it last named; always 1";
    AGENT_STATUS = Gauge "orchestrator_agent_status" ["project", "agent_name", "status"]
        "The status of the agent: 1 for the one that it is in, 0 for the others";
    AGENT_WAITING = Gauge "orchestrator_agent_waiting_info" ["project", "agent_name", "status", "reason"]
        "What the agent waits for; always 1";
    AGENT_IDLE_TIME = Gauge "orchestrator_agent_idle_time_seconds" ["project", "agent_name"]
        "Time since the last activity of the agent, while it is up and not paused";
    AGENT_LAST_ACTIVITY = Gauge "orchestrator_agent_last_activity_timestamp_seconds" ["project", "agent_name"]
        "Unix time of the last activity of the agent";
    AGENT_RESTARTS = Counter "orchestrator_agent_restarts_total" ["project", "agent_name"]
        "Restarts of the agent";
    AGENT_PROGRESS = Gauge "orchestrator_agent_progress_ratio" ["project", "agent_name"]
        "Progress of the work of the agent, 0 to 1";
    AGENT_CONTEXT_WINDOW = Gauge "orchestrator_agent_context_window_ratio" ["project", "agent_name"]
        "Used part of the context window of the model of the agent, 0 to 1";
    AGENT_ESTIMATED_COMPLETION =
        Gauge "orchestrator_agent_estimated_completion_timestamp_seconds" ["project", "agent_name"]
        "Unix time at which the agent expects to be done";
    AGENT_TOKENS = Counter "orchestrator_agent_tokens_total" ["project", "agent_name", "token_type"]
        "Tokens used by the agent; the types are disjoint and add up to the total of the provider";
    AGENT_COST = Counter "orchestrator_agent_cost_usd_total" ["project", "agent_name"]
        "Cost of the tokens used by the agent in US dollars";
    AGENT_UNPRICED_TOKENS = Counter "orchestrator_agent_unpriced_tokens_total" ["project", "agent_name"]
        "Tokens used by the agent whose price is not known";
    AGENT_BUDGET_TOKENS = Gauge "orchestrator_agent_budget_tokens" ["project", "agent_name", "scope"]
        "Tokens that the agent may use for its task or in a day";
    AGENT_BUDGET_USED_TOKENS = Gauge "orchestrator_agent_budget_used_tokens" ["project", "agent_name", "scope"]
        "Tokens that the agent has used for its task or today, as far as they count towards the budget";
    AGENT_BUDGET_USD = Gauge "orchestrator_agent_budget_usd" ["project", "agent_name", "scope"]
        "US dollars that the agent may cost in a day";
    AGENT_BUDGET_USED_USD = Gauge "orchestrator_agent_budget_used_usd" ["project", "agent_name", "scope"]
        "US dollars that the agent has cost today";
    AGENT_REQUESTS = Counter "orchestrator_agent_requests_total" ["project", "agent_name"]
        "Requests of the agent to a model";
    AGENT_REQUEST_ERRORS = Counter "orchestrator_agent_request_errors_total" ["project", "agent_name"]
        "Requests of the agent to a model that ended in an error";
    AGENT_RATE_LIMIT_HITS = Counter "orchestrator_agent_rate_limit_hits_total" ["project", "agent_name"]
        "Requests of the agent that were refused for a rate limit";
    AGENT_RETRIES = Counter "orchestrator_agent_retries_total" ["project", "agent_name"]
        "Requests that the agent sent again";
    AGENT_RATE_LIMIT_LIMIT =
        Gauge "orchestrator_agent_rate_limit_limit" ["project", "agent_name", "provider", "limit_type"]
        "What the provider allows in a period";
    AGENT_RATE_LIMIT_REMAINING =
        Gauge "orchestrator_agent_rate_limit_remaining" ["project", "agent_name", "provider", "limit_type"]
        "What the provider still allows in this period";
    AGENT_RATE_LIMIT_RESET =
        Gauge "orchestrator_agent_rate_limit_reset_timestamp_seconds" ["project", "agent_name", "provider", "limit_type"]
        "Unix time at which the period of the limit ends";
    AGENT_LIMITED = Gauge "orchestrator_agent_limited" ["project", "agent_name"]
        "Whether a rate limit holds the agent up";
    AGENT_LIMITED_UNTIL = Gauge "orchestrator_agent_limited_until_timestamp_seconds" ["project", "agent_name"]
        "Unix time until which a rate limit holds the agent up";
    AGENT_TASKS = Counter "orchestrator_agent_tasks_total" ["project", "agent_name", "outcome"]
        "Tasks of the agent that ended";
    AGENT_REVIEWS = Counter "orchestrator_agent_reviews_total" ["project", "agent_name", "result"]
        "Reviews of the work of the agent";
    REQUEST_DURATION = Histogram "orchestrator_request_duration_seconds" ["project"]
        "Time that requests to a model took, as far as telemetry says so";
    TASK_DURATION = Histogram "orchestrator_task_duration_seconds" ["project"]
        "Time that ended tasks took, waiting left out";
    MODEL_TOKENS = Counter "orchestrator_model_tokens_total" ["project", "model", "token_type"]
        "Tokens used of a model by all agents of the project";
    MODEL_COST = Counter "orchestrator_model_cost_usd_total" ["project", "model"]
        "Cost of a model for all agents of the project in US dollars";
    COMPONENT_STATUS = Gauge "orchestrator_component_status" ["project", "component", "status"]
        "The status of the component: 1 for the one that it is in, 0 for the others";
    CLUSTER_AGENTS = Gauge "orchestrator_cluster_agents" ["project", "status"]
        "Agents of the project by status";
    CLUSTER_HEALTH = Gauge "orchestrator_cluster_health" ["project", "health"]
        "The health of the project: 1 for the one that it is in, 0 for the others";
    CLUSTER_ALERTS = Counter "orchestrator_cluster_alerts_total" ["level"]
        "Alerts raised, once for each level that they reached";
    ALERTS_ACTIVE = Gauge "orchestrator_alerts_active" ["project", "level", "rule"]
        "Alerts that fire";
    SOURCE_UP = Gauge "lookout_source_up" ["source"]
        "Whether the last poll of the source succeeded";
    SOURCE_LAST_SUCCESS = Gauge "lookout_source_last_success_timestamp_seconds" ["source"]
        "Unix time of the last poll of the source that succeeded";
    SOURCE_ERRORS = Counter "lookout_source_errors_total" ["source", "reason"]
        "Polls of the source that failed";
    SERIES_DROPPED = Counter "lookout_series_dropped_total" []
        "Series refused for the cap on series";
    BUILD_INFO = Gauge "lookout_build_info" ["version"]
        "The version of lookout; always 1";
    INGESTED = Counter "lookout_ingested_total" ["signal"]
        "States, increments, points, spans and log records taken in";
    REJECTED = Counter "lookout_rejected_total" ["signal", "reason"]
        "States, increments, points and whole bodies that were not taken in";
    EVALUATION_DURATION = Histogram "lookout_evaluation_duration_seconds" []
        "Time from an event's turn to the decision whom to tell of it";
    NOTIFICATIONS = Counter "lookout_notifications_total" ["receiver"]
        "Notifications delivered";
    NOTIFICATIONS_FAILED = Counter "lookout_notifications_failed_total" ["receiver", "reason"]
        "Sends that failed, tried again or given up";
    NOTIFICATION_LATENCY = Histogram "lookout_notification_latency_seconds" ["receiver"]
        "Time from the arrival of the cause to the answer of the receiver";
    OUTBOX_PENDING = Gauge "lookout_outbox_pending" ["receiver"]
        "Notifications that wait for the receiver";
    OUTBOX_OLDEST_AGE = Gauge "lookout_outbox_oldest_age_seconds" ["receiver"]
        "Age of the oldest notification that waits for the receiver";
    NOTIFICATIONS_SUPPRESSED = Counter "lookout_notifications_suppressed_total" ["reason"]
        "Notifications suppressed or put off";
    ENGINE_LAG = Gauge "lookout_engine_lag_seconds" []
        "How late the oldest unserved deadline is";
    QUEUE_LENGTH = Gauge "lookout_queue_length" ["queue"]
        "What waits in a queue";
    STORE_ERRORS = Counter "lookout_store_errors_total" []
        "Writes to the store that failed";
    STORE_SIZE = Gauge "lookout_store_size_bytes" ["file"]
        "Bytes of a file of the store on disk, with its log";
    HISTORY_DROPPED = Counter "lookout_history_dropped_total" ["reason"]
        "Rows of history that were not kept: size (the oldest, for store.max_size), rate (too many of one agent or alert), disk (it failed or did not keep up)";
    RECORD_DROPPED = Counter "lookout_record_dropped_total" []
        "Arrivals that the recording left out, for want of room or because they could not be written";
    STOPS = Counter "lookout_stops_total" ["budget"]
        "Hooks that were answered by a stop, since the agent had used up the budget";
    CONNECTIONS_CLOSED = Counter "lookout_connections_closed_total" ["reason"]
        "Connections that gave way to others as slow or idle, or found no place";
    CONFIG_RELOAD_SUCCESSFUL = Gauge "lookout_config_last_reload_successful" []
        "Whether the last reload of the configuration succeeded";
    CONFIG_RELOAD_SUCCESS = Gauge "lookout_config_last_reload_success_timestamp_seconds" []
        "Unix time at which the configuration in force was read";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Processor time used, user and system";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory";
    PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" []
        "Virtual memory";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Most file descriptors that may be open";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Unix time at which the process started";
    PROCESS_THREADS = Gauge "process_threads" []
        "Threads of the process";
}
