//! All metric families: name, type, labels and help, in one table.
//!
//! Dashboards and rules depend on names and labels; a snapshot test freezes them. Help texts have no final stop, since both
//! writers add one.

/// The type of a metric family.
///
/// `info` and `stateset` are not used: the text format has neither, and a scrape with an unknown type fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// A counter; its name ends in `_total`.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram.
    Histogram,
}

impl FamilyKind {
    /// The name of the type in the text formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Name suffixes that are units.
const UNITS: [&str; 5] = ["seconds", "bytes", "ratio", "tokens", "usd"];

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct FamilySpec {
    /// The metric name, for histograms without `_bucket`, `_count` and `_sum`.
    pub name: &'static str,
    /// The type.
    pub kind: FamilyKind,
    /// Label names in the order of exposition, without `le`.
    pub labels: &'static [&'static str],
    /// The help text without a final stop.
    pub help: &'static str,
}

impl FamilySpec {
    /// The family name in OpenMetrics: without `_total` for counters.
    pub fn base(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }

    /// The unit, which is the last part of the name.
    pub fn unit(&self) -> Option<&'static str> {
        let (_, last) = self.base().rsplit_once('_')?;
        UNITS.into_iter().find(|unit| *unit == last)
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $labels:tt $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: FamilySpec = FamilySpec { name: $name, kind: FamilyKind::$kind, labels: &$labels, help: $help };
        )*

        /// All families in the order of exposition: fleet, sidecar, process.
        pub const FAMILIES: &[FamilySpec] = &[$($id),*];
    };
}

families! {
    AGENT_UP = Gauge "orchestrator_agent_up" ["project", "agent_name"]
        "Whether the agent is up (1), or failed, ended or stale (0)";
    AGENT_EXPECTED = Gauge "orchestrator_agent_expected" ["project", "agent_name"]
        "Whether the agent is expected to be up; 0 while it is completed or paused";
    AGENT_INFO = Gauge "orchestrator_agent_info" ["project", "agent_name", "agent_type", "model"]
        "A metric with a constant value of 1, labeled by the type of the agent and its last model";
    AGENT_STATUS = Gauge "orchestrator_agent_status" ["project", "agent_name", "status"]
        "Status of the agent; 1 for the current status, 0 for all others";
    AGENT_WAITING = Gauge "orchestrator_agent_waiting_info" ["project", "agent_name", "status", "reason"]
        "A metric with a constant value of 1 for each waiting agent, labeled by status and reason";
    AGENT_IDLE_TIME = Gauge "orchestrator_agent_idle_time_seconds" ["project", "agent_name"]
        "Seconds since the last activity of the agent, while it is up and not paused";
    AGENT_LAST_ACTIVITY = Gauge "orchestrator_agent_last_activity_timestamp_seconds" ["project", "agent_name"]
        "Unix timestamp of the last activity of the agent";
    AGENT_RESTARTS = Counter "orchestrator_agent_restarts_total" ["project", "agent_name"]
        "Total number of restarts of the agent";
    AGENT_PROGRESS = Gauge "orchestrator_agent_progress_ratio" ["project", "agent_name"]
        "Progress of the current task of the agent, from 0 to 1";
    AGENT_CONTEXT_WINDOW = Gauge "orchestrator_agent_context_window_ratio" ["project", "agent_name"]
        "Used fraction of the model's context window, from 0 to 1";
    AGENT_ESTIMATED_COMPLETION =
        Gauge "orchestrator_agent_estimated_completion_timestamp_seconds" ["project", "agent_name"]
        "Unix timestamp at which the agent expects to complete its task";
    AGENT_TOKENS = Counter "orchestrator_agent_tokens_total" ["project", "agent_name", "token_type"]
        "Total number of tokens used by the agent; token types are disjoint and add up to the provider's total";
    AGENT_COST = Counter "orchestrator_agent_cost_usd_total" ["project", "agent_name"]
        "Total cost of the tokens used by the agent, in US dollars";
    AGENT_UNPRICED_TOKENS = Counter "orchestrator_agent_unpriced_tokens_total" ["project", "agent_name"]
        "Total number of tokens used by the agent without a known price";
    AGENT_BUDGET_TOKENS = Gauge "orchestrator_agent_budget_tokens" ["project", "agent_name", "scope"]
        "Token budget of the agent per task or per day";
    AGENT_BUDGET_USED_TOKENS = Gauge "orchestrator_agent_budget_used_tokens" ["project", "agent_name", "scope"]
        "Tokens of the budget that the agent used for its current task or today";
    AGENT_BUDGET_USD = Gauge "orchestrator_agent_budget_usd" ["project", "agent_name", "scope"]
        "Cost budget of the agent per day, in US dollars";
    AGENT_BUDGET_USED_USD = Gauge "orchestrator_agent_budget_used_usd" ["project", "agent_name", "scope"]
        "Cost of the agent today, in US dollars";
    AGENT_REQUESTS = Counter "orchestrator_agent_requests_total" ["project", "agent_name"]
        "Total number of requests of the agent to a model";
    AGENT_REQUEST_ERRORS = Counter "orchestrator_agent_request_errors_total" ["project", "agent_name"]
        "Total number of requests of the agent to a model that failed";
    AGENT_RATE_LIMIT_HITS = Counter "orchestrator_agent_rate_limit_hits_total" ["project", "agent_name"]
        "Total number of requests of the agent that were rejected by a rate limit";
    AGENT_RETRIES = Counter "orchestrator_agent_retries_total" ["project", "agent_name"]
        "Total number of requests that the agent retried";
    AGENT_RATE_LIMIT_LIMIT =
        Gauge "orchestrator_agent_rate_limit_limit" ["project", "agent_name", "provider", "limit_type"]
        "Limit of the provider per period, in the unit of limit_type";
    AGENT_RATE_LIMIT_REMAINING =
        Gauge "orchestrator_agent_rate_limit_remaining" ["project", "agent_name", "provider", "limit_type"]
        "Remaining part of the provider's limit in the current period, in the unit of limit_type";
    AGENT_RATE_LIMIT_RESET =
        Gauge "orchestrator_agent_rate_limit_reset_timestamp_seconds" ["project", "agent_name", "provider", "limit_type"]
        "Unix timestamp at which the provider's limit resets";
    AGENT_LIMITED = Gauge "orchestrator_agent_limited" ["project", "agent_name"]
        "Whether the agent is rate-limited";
    AGENT_LIMITED_UNTIL = Gauge "orchestrator_agent_limited_until_timestamp_seconds" ["project", "agent_name"]
        "Unix timestamp until which the agent is rate-limited";
    AGENT_TASKS = Counter "orchestrator_agent_tasks_total" ["project", "agent_name", "outcome"]
        "Total number of ended tasks of the agent, by outcome";
    AGENT_REVIEWS = Counter "orchestrator_agent_reviews_total" ["project", "agent_name", "result"]
        "Total number of reviews of the agent's work, by result";
    AGENT_RUNS = Counter "orchestrator_agent_runs_total" ["project", "agent_name", "status"]
        "Total number of ended runs of the agent, by status: ok, error, abandoned";
    AGENT_RUNS_ACTIVE = Gauge "orchestrator_agent_runs_active" ["project", "agent_name"]
        "Number of runs of the agent in progress, at most 64";
    AGENT_RUN_DURATION = Counter "orchestrator_agent_run_duration_seconds_total" ["project", "agent_name"]
        "Total duration of ended runs of the agent, in seconds";
    AGENT_RUN_COST = Counter "orchestrator_agent_run_cost_usd_total" ["project", "agent_name"]
        "Total cost of ended runs of the agent, in US dollars";
    AGENT_FALLBACKS = Counter "orchestrator_agent_fallbacks_total" ["project", "agent_name"]
        "Total number of calls of another model or provider right after a failed one, in ended runs of the agent";
    AGENT_RUN_LONGEST = Gauge "orchestrator_agent_run_longest_seconds" ["project", "agent_name"]
        "Seconds of the longest run in progress, or of the last one that ended within an hour if that took longer";
    AGENT_RUN_P95 = Gauge "orchestrator_agent_run_p95_seconds" ["project", "agent_name"]
        "Seconds that 95 % of the last 64 ended runs of the agent took at most, of at least 20";
    AGENT_RUN_LAST_COST = Gauge "orchestrator_agent_run_last_cost_usd" ["project", "agent_name"]
        "Cost of the last run of the agent that ended within an hour, in US dollars";
    AGENT_RUN_MEDIAN_COST = Gauge "orchestrator_agent_run_median_cost_usd" ["project", "agent_name"]
        "Median cost of the last 64 ended runs of the agent, of at least 20, in US dollars";
    REQUEST_DURATION = Histogram "orchestrator_request_duration_seconds" ["project"]
        "Duration of requests to a model in seconds, as reported by telemetry";
    TASK_DURATION = Histogram "orchestrator_task_duration_seconds" ["project"]
        "Working time of ended tasks in seconds, without waiting";
    MODEL_TOKENS = Counter "orchestrator_model_tokens_total" ["project", "model", "token_type"]
        "Total number of tokens used by all agents of the project, by model";
    MODEL_COST = Counter "orchestrator_model_cost_usd_total" ["project", "model"]
        "Total cost of all agents of the project in US dollars, by model";
    PLATFORM_RUNS = Counter "orchestrator_platform_runs_total" ["project", "platform", "status"]
        "Total number of ended runs of all agents of the project, by platform and status";
    PLATFORM_REPORTS = Counter "orchestrator_platform_reports_total" ["project", "platform", "fact"]
        "Total number of ended runs that reported the fact, by platform";
    PLATFORM_REPORTED = Counter "orchestrator_platform_reported_total" ["project", "platform", "fact"]
        "Sum of what ended runs reported of the fact, by platform";
    COMPONENT_STATUS = Gauge "orchestrator_component_status" ["project", "component", "status"]
        "Status of the component; 1 for the current status, 0 for all others";
    CLUSTER_AGENTS = Gauge "orchestrator_cluster_agents" ["project", "status"]
        "Number of agents of the project, by status";
    CLUSTER_HEALTH = Gauge "orchestrator_cluster_health" ["project", "health"]
        "Health of the project; 1 for the current state, 0 for all others";
    CLUSTER_ALERTS = Counter "orchestrator_cluster_alerts_total" ["level"]
        "Total number of alerts, counted once per level reached";
    ALERTS_ACTIVE = Gauge "orchestrator_alerts_active" ["project", "level", "rule"]
        "Number of firing alerts";
    SOURCE_UP = Gauge "lookout_source_up" ["source"]
        "Whether the last poll of the source succeeded (1) or failed (0)";
    SOURCE_LAST_SUCCESS = Gauge "lookout_source_last_success_timestamp_seconds" ["source"]
        "Unix timestamp of the last successful poll of the source";
    SOURCE_ERRORS = Counter "lookout_source_errors_total" ["source", "reason"]
        "Total number of failed polls of the source, by reason";
    SERIES_DROPPED = Counter "lookout_series_dropped_total" []
        "Total number of series dropped because limits.series was reached";
    BUILD_INFO = Gauge "lookout_build_info" ["version"]
        "A metric with a constant value of 1, labeled by the version of lookout";
    INGESTED = Counter "lookout_ingested_total" ["signal"]
        "Total number of ingested items: agent states, usage increments, data points, spans, log records and hooks";
    REJECTED = Counter "lookout_rejected_total" ["signal", "reason"]
        "Total number of rejected items or whole request bodies, by reason";
    EVALUATION_DURATION = Histogram "lookout_evaluation_duration_seconds" []
        "Duration of applying an event and evaluating its rules, in seconds";
    NOTIFICATIONS = Counter "lookout_notifications_total" ["receiver"]
        "Total number of notifications delivered";
    NOTIFICATIONS_FAILED = Counter "lookout_notifications_failed_total" ["receiver", "reason"]
        "Total number of failed attempts to send a notification, by reason";
    NOTIFICATION_LATENCY = Histogram "lookout_notification_latency_seconds" ["receiver"]
        "Time from the arrival of the cause of a notification to its delivery, in seconds";
    OUTBOX_PENDING = Gauge "lookout_outbox_pending" ["receiver"]
        "Number of notifications pending delivery";
    OUTBOX_OLDEST_AGE = Gauge "lookout_outbox_oldest_age_seconds" ["receiver"]
        "Age of the oldest notification pending delivery, in seconds";
    NOTIFICATIONS_SUPPRESSED = Counter "lookout_notifications_suppressed_total" ["reason"]
        "Total number of notifications suppressed or delayed, by reason";
    ENGINE_LAG = Gauge "lookout_engine_lag_seconds" []
        "Delay of the oldest overdue timer of the engine, in seconds";
    QUEUE_LENGTH = Gauge "lookout_queue_length" ["queue"]
        "Number of items in the queue";
    STORE_ERRORS = Counter "lookout_store_errors_total" []
        "Total number of failed writes to the store";
    STORE_SIZE = Gauge "lookout_store_size_bytes" ["file"]
        "Size of a store file on disk in bytes, write-ahead log included";
    HISTORY_DROPPED = Counter "lookout_history_dropped_total" ["reason"]
        "Total number of dropped history rows, by reason: size (store.max_size reached), rate (too many rows of one agent or alert), disk (too slow or failing)";
    RUN_SPANS = Counter "lookout_runs_spans_total" ["outcome"]
        "Total number of received spans, by outcome: stored, duplicate, trace_full (too many in one trace), not_of_agents (of other programs), sampled_out (of ended runs that runs.sample left out), busy (of hooks, too much waited)";
    RUNS_ENDED = Counter "lookout_runs_ended_total" []
        "Total number of runs of agents that ended";
    RUNS_PRUNED = Counter "lookout_runs_pruned_total" []
        "Total number of runs deleted before their retention because runs.max_size was reached";
    RUN_COMMIT = Gauge "lookout_runs_commit_seconds" []
        "Time from the arrival of the last group of spans to its commit, in seconds";
    REGISTRY_AGENTS = Gauge "lookout_registry_agents" []
        "Number of agents in the registry, active or not";
    REGISTRY_UP = Gauge "lookout_registry_up" ["database"]
        "Whether the shared registry can be used (1) or not (0); absent without one";
    REGISTRY_PENDING = Gauge "lookout_registry_pending" []
        "Number of agents with changes that the shared registry does not have yet";
    REGISTRY_REFUSED = Gauge "lookout_registry_refused" []
        "Number of agents that the shared registry does not take, which their sharing_error gives the reason for";
    REGISTRY_ERRORS = Counter "lookout_registry_errors_total" []
        "Total number of failed exchanges with the shared registry";
    EXPORT_BATCHES = Counter "lookout_export_batches_total" ["target", "signal"]
        "Total number of batches that the target of an export took";
    EXPORT_ITEMS = Counter "lookout_export_items_total" ["target", "signal"]
        "Total number of spans, data points or log records that the target of an export took";
    EXPORT_REJECTED = Counter "lookout_export_rejected_items_total" ["target", "signal"]
        "Total number of items that the target rejected of batches that it took";
    EXPORT_DROPPED = Counter "lookout_export_dropped_items_total" ["target", "signal", "reason"]
        "Total number of items dropped before the target took them, by reason: busy (too much waited to be encoded), disk (the spool can't be written), size (max_spool reached), age (max_age reached), loop (exported by this sidecar before), refused (by the target, for good), too_large (a single item is larger than the target takes), unauthorized (refused for an hour)";
    EXPORT_ERRORS = Counter "lookout_export_errors_total" ["target", "signal"]
        "Total number of failed attempts to export a batch";
    EXPORT_WAITING_BYTES = Gauge "lookout_export_waiting_bytes" ["target", "signal"]
        "Compressed bytes in the spool that wait for the target";
    EXPORT_WAITING_ITEMS = Gauge "lookout_export_waiting_items" ["target", "signal"]
        "Number of items in the spool that wait for the target";
    EXPORT_OLDEST_AGE = Gauge "lookout_export_oldest_age_seconds" ["target", "signal"]
        "Age of the oldest batch in the spool that waits for the target, in seconds";
    EXPORT_LAST_SUCCESS = Gauge "lookout_export_last_success_timestamp_seconds" ["target", "signal"]
        "Unix timestamp at which the target last took a batch";
    RECORD_DROPPED = Counter "lookout_record_dropped_total" []
        "Total number of inputs missing in the recording because its queue was full or a write failed";
    STOPS = Counter "lookout_stops_total" ["budget"]
        "Total number of hooks answered with a stop order, by exceeded budget";
    CONNECTIONS_CLOSED = Counter "lookout_connections_closed_total" ["reason"]
        "Total number of connections closed because limits.connections was reached: evicted (idle or slow), no_place (rejected)";
    STREAMS = Gauge "lookout_streams" []
        "Number of open streams of events";
    STREAM_EVENTS = Counter "lookout_stream_events_total" []
        "Total number of events sent to all streams";
    STREAM_RESYNCS = Counter "lookout_stream_resyncs_total" []
        "Total number of times that a stream could not send all events, and its client was sent resync";
    STREAMS_REJECTED = Counter "lookout_streams_rejected_total" []
        "Total number of streams rejected because limits.streams was reached";
    CONFIG_RELOAD_SUCCESSFUL = Gauge "lookout_config_last_reload_successful" []
        "Whether the last configuration reload succeeded";
    CONFIG_RELOAD_SUCCESS = Gauge "lookout_config_last_reload_success_timestamp_seconds" []
        "Unix timestamp of the last successful configuration reload";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds";
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory_bytes" []
        "Resident memory size in bytes";
    PROCESS_VIRTUAL_MEMORY = Gauge "process_virtual_memory_bytes" []
        "Virtual memory size in bytes";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Number of open file descriptors";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Maximum number of open file descriptors";
    PROCESS_START_TIME = Gauge "process_start_time_seconds" []
        "Start time of the process since the Unix epoch in seconds";
    PROCESS_THREADS = Gauge "process_threads" []
        "Number of OS threads in the process";
}
