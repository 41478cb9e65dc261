//! Registers the sidecar's own metrics with name, unit and help from the table of names.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::family::add;
use super::{
    CONNECTIONS_CLOSED, EVALUATION_BOUNDS, FloatGauge, HISTORY_DROPPED, Labels, LatencyHistogram, QUEUES,
    SidecarMetrics,
};
use crate::metrics::names;
use crate::model::{Budget, InputKind, RejectReason, Suppressed};

impl SidecarMetrics {
    /// The metrics at startup: closed label sets at 0.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let info: Family<Labels<1>, Gauge> = add(&mut registry, &names::BUILD_INFO, Family::default());
        info.get_or_create_owned(&[(label(&names::BUILD_INFO, 0), env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let ingested: Family<Labels<1>, Counter> = add(&mut registry, &names::INGESTED, Family::default());
        let rejected_items = add(&mut registry, &names::REJECTED, Family::default());
        let evaluation = add(&mut registry, &names::EVALUATION_DURATION, Histogram::new(EVALUATION_BOUNDS));
        let notifications = add(&mut registry, &names::NOTIFICATIONS, Family::default());
        let notifications_failed = add(&mut registry, &names::NOTIFICATIONS_FAILED, Family::default());
        let latency = Family::new_with_constructor(LatencyHistogram);
        let notification_latency = add(&mut registry, &names::NOTIFICATION_LATENCY, latency);
        let outbox_pending = add(&mut registry, &names::OUTBOX_PENDING, Family::default());
        let outbox_oldest_age = add(&mut registry, &names::OUTBOX_OLDEST_AGE, Family::default());
        let suppressed = add(&mut registry, &names::NOTIFICATIONS_SUPPRESSED, Family::default());
        let engine_lag = add(&mut registry, &names::ENGINE_LAG, FloatGauge::default());
        let queues = add(&mut registry, &names::QUEUE_LENGTH, Family::default());
        let store_errors = add(&mut registry, &names::STORE_ERRORS, Counter::default());
        let store_size = add(&mut registry, &names::STORE_SIZE, Family::default());
        let dropped_rows = add(&mut registry, &names::HISTORY_DROPPED, Family::default());
        let span_outcomes = add(&mut registry, &names::RUN_SPANS, Family::default());
        let runs_ended = add(&mut registry, &names::RUNS_ENDED, Counter::default());
        let runs_pruned = add(&mut registry, &names::RUNS_PRUNED, Counter::default());
        let run_commit = add(&mut registry, &names::RUN_COMMIT, FloatGauge::default());
        let registry_agents = add(&mut registry, &names::REGISTRY_AGENTS, Gauge::default());
        let registry_up = add(&mut registry, &names::REGISTRY_UP, Family::default());
        let registry_pending = add(&mut registry, &names::REGISTRY_PENDING, Gauge::default());
        let registry_refused = add(&mut registry, &names::REGISTRY_REFUSED, Gauge::default());
        let registry_errors = add(&mut registry, &names::REGISTRY_ERRORS, Counter::default());
        let exports = super::exports::ExportMetrics::new(&mut registry);
        let record_dropped = add(&mut registry, &names::RECORD_DROPPED, Counter::default());
        let stops = add(&mut registry, &names::STOPS, Family::default());
        let connections_closed = add(&mut registry, &names::CONNECTIONS_CLOSED, Family::default());
        let streams = add(&mut registry, &names::STREAMS, Gauge::default());
        let stream_events = add(&mut registry, &names::STREAM_EVENTS, Counter::default());
        let stream_resyncs = add(&mut registry, &names::STREAM_RESYNCS, Counter::default());
        let streams_rejected = add(&mut registry, &names::STREAMS_REJECTED, Counter::default());
        let reload_successful = add(&mut registry, &names::CONFIG_RELOAD_SUCCESSFUL, Gauge::default());
        let reload_success = add(&mut registry, &names::CONFIG_RELOAD_SUCCESS, FloatGauge::default());
        let own = Self {
            registry,
            ingested: InputKind::ALL
                .map(|input| ingested.get_or_create_owned(&[(label(&names::INGESTED, 0), input.as_str().to_owned())])),
            rejected: rejected_items,
            evaluation_duration: evaluation,
            notifications,
            notifications_failed,
            notification_latency,
            outbox_pending,
            outbox_oldest_age,
            suppressed,
            engine_lag,
            queues,
            store_errors,
            store_size,
            history_dropped: dropped_rows,
            run_spans: span_outcomes,
            runs_ended,
            runs_pruned,
            run_commit,
            registry_agents,
            registry_up,
            registry_pending,
            registry_refused,
            registry_errors,
            exports,
            record_dropped,
            stops,
            connections_closed,
            streams,
            stream_events,
            stream_resyncs,
            streams_rejected,
            reload_successful,
            reload_success,
        };
        for input in InputKind::ALL {
            for reason in input.reasons() {
                own.rejected.get_or_create_owned(&rejected(input, *reason));
            }
        }
        for name in QUEUES {
            own.queues.get_or_create_owned(&queue(name));
        }
        for reason in CONNECTIONS_CLOSED {
            own.connections_closed.get_or_create_owned(&connection_closed(reason));
        }
        for budget in Budget::ALL {
            own.stops.get_or_create_owned(&stop_labels(budget.as_str()));
        }
        for name in ["ledger", "history"] {
            own.store_size.get_or_create_owned(&file(name));
        }
        for reason in HISTORY_DROPPED {
            own.history_dropped.get_or_create_owned(&history_dropped(reason));
        }
        for outcome in ["stored", "duplicate", "trace_full", "not_of_agents", "sampled_out", "busy"] {
            own.run_spans.get_or_create_owned(&run_spans(outcome));
        }
        for reason in Suppressed::REASONS {
            own.suppressed.get_or_create_owned(&suppressed_for(reason));
        }
        own
    }
}

fn label(family: &names::FamilySpec, index: usize) -> &'static str {
    family.labels.get(index).copied().unwrap_or_default()
}

/// The labels of `lookout_rejected_total`.
pub(super) fn rejected(input: InputKind, reason: RejectReason) -> Labels<2> {
    [(label(&names::REJECTED, 0), input.as_str().to_owned()), (label(&names::REJECTED, 1), reason.as_str().to_owned())]
}

/// The labels of all families that have only the label `receiver`.
pub(super) fn receiver(name: &str) -> Labels<1> {
    [(label(&names::NOTIFICATIONS, 0), name.to_owned())]
}

/// The labels of `lookout_notifications_failed_total`.
pub(super) fn failed(receiver: &str, reason: &str) -> Labels<2> {
    [
        (label(&names::NOTIFICATIONS_FAILED, 0), receiver.to_owned()),
        (label(&names::NOTIFICATIONS_FAILED, 1), reason.to_owned()),
    ]
}

/// The labels of `lookout_store_size_bytes`.
pub(super) fn file(file: &str) -> Labels<1> {
    [(label(&names::STORE_SIZE, 0), file.to_owned())]
}

/// The labels of `lookout_history_dropped_total`.
pub(super) fn history_dropped(reason: &str) -> Labels<1> {
    [(label(&names::HISTORY_DROPPED, 0), reason.to_owned())]
}

/// The labels of `lookout_runs_spans_total`.
pub(super) fn run_spans(outcome: &str) -> Labels<1> {
    [(label(&names::RUN_SPANS, 0), outcome.to_owned())]
}

/// The labels of `lookout_registry_up`.
pub(super) fn database(kind: &str) -> Labels<1> {
    [(label(&names::REGISTRY_UP, 0), kind.to_owned())]
}

/// The labels of `lookout_notifications_suppressed_total`.
pub(super) fn suppressed_for(reason: &str) -> Labels<1> {
    [(label(&names::NOTIFICATIONS_SUPPRESSED, 0), reason.to_owned())]
}

/// The labels of `lookout_stops_total`.
pub(super) fn stop_labels(budget: &str) -> Labels<1> {
    [(label(&names::STOPS, 0), budget.to_owned())]
}

/// The labels of `lookout_connections_closed_total`.
pub(super) fn connection_closed(reason: &str) -> Labels<1> {
    [(label(&names::CONNECTIONS_CLOSED, 0), reason.to_owned())]
}

/// The labels of `lookout_queue_length`.
pub(super) fn queue(name: &str) -> Labels<1> {
    [(label(&names::QUEUE_LENGTH, 0), name.to_owned())]
}
