//! The sidecar's own metrics: ingestion, evaluation, notifications, queues, store.
//!
//! Series of closed label sets start at 0; those of a receiver exist as long as the receiver. No label value comes from
//! ingested data.

mod exports;
mod family;
mod process;
mod register;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use exports::ExportFigures;

use super::format::ExpositionFormat;
use super::series::SeriesWriter;
use crate::model::{InputKind, RejectReason, SendReason, Time};

/// The queues: three of the engine, and one for OTLP exports.
const QUEUES: [&str; 4] = ["bulk", "control", "hooks", "otlp"];

/// Reasons to drop history rows.
const HISTORY_DROPPED: [&str; 3] = ["disk", "rate", "size"];

/// Reasons to close a connection when `limits.connections` is reached.
const CONNECTIONS_CLOSED: [&str; 2] = ["evicted", "no_place"];

/// Buckets of `lookout_evaluation_duration_seconds`: from one agent to ten thousand.
const EVALUATION_BOUNDS: [f64; 12] = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5];

/// Buckets of `lookout_notification_latency_seconds`: 1 ms to 1 h.
const LATENCY_BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 900.0, 3600.0];

type Labels<const N: usize> = [(&'static str, String); N];
type FloatGauge = Gauge<f64, AtomicU64>;

/// Creates the latency histogram of a receiver.
#[derive(Clone, Copy, Debug)]
struct LatencyHistogram;

impl MetricConstructor<Histogram> for LatencyHistogram {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BOUNDS)
    }
}

/// The sidecar's own metrics. The methods that are called for each ingested item update one atomic.
#[derive(Debug)]
pub struct SidecarMetrics {
    registry: Registry,
    /// By [`InputKind`], so that no lock is needed.
    ingested: [Counter; InputKind::ALL.len()],
    rejected: Family<Labels<2>, Counter>,
    evaluation_duration: Histogram,
    notifications: Family<Labels<1>, Counter>,
    notifications_failed: Family<Labels<2>, Counter>,
    notification_latency: Family<Labels<1>, Histogram, LatencyHistogram>,
    outbox_pending: Family<Labels<1>, Gauge>,
    outbox_oldest_age: Family<Labels<1>, FloatGauge>,
    suppressed: Family<Labels<1>, Counter>,
    engine_lag: FloatGauge,
    queues: Family<Labels<1>, Gauge>,
    store_errors: Counter,
    store_size: Family<Labels<1>, Gauge>,
    history_dropped: Family<Labels<1>, Counter>,
    run_spans: Family<Labels<1>, Counter>,
    runs_ended: Counter,
    runs_pruned: Counter,
    run_commit: FloatGauge,
    registry_agents: Gauge,
    registry_up: Family<Labels<1>, Gauge>,
    registry_pending: Gauge,
    registry_refused: Gauge,
    registry_errors: Counter,
    exports: exports::ExportMetrics,
    record_dropped: Counter,
    stops: Family<Labels<1>, Counter>,
    connections_closed: Family<Labels<1>, Counter>,
    streams: Gauge,
    stream_events: Counter,
    stream_resyncs: Counter,
    streams_rejected: Counter,
    reload_successful: Gauge,
    reload_success: FloatGauge,
}

impl Default for SidecarMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl SidecarMetrics {
    /// Counts ingested items of `input`.
    pub fn ingested(&self, input: InputKind, count: u64) {
        if let Some(counter) = self.ingested.get(input as usize) {
            counter.inc_by(count);
        }
    }

    /// Counts rejected items of `input`.
    pub fn rejected(&self, input: InputKind, reason: RejectReason, count: u64) {
        self.rejected.get_or_create_owned(&register::rejected(input, reason)).inc_by(count);
    }

    /// Observes how long one event took to be applied and evaluated.
    pub fn evaluated(&self, took: Duration) {
        self.evaluation_duration.observe(took.as_secs_f64());
    }

    /// Counts a notification delivered to `receiver`, `latency` after its cause. Ignored for a removed receiver.
    pub fn delivered(&self, receiver: &str, latency: Duration) {
        let receiver = register::receiver(receiver);
        if let Some(counter) = self.notifications.get(&receiver) {
            counter.inc();
        }
        if let Some(histogram) = self.notification_latency.get(&receiver) {
            histogram.observe(latency.as_secs_f64());
        }
    }

    /// Counts a failed attempt to send, whether it is retried or not; `reason` is the word of a [`SendReason`].
    pub fn failed(&self, receiver: &str, reason: &'static str) {
        if let Some(counter) = self.notifications_failed.get(&register::failed(receiver, reason)) {
            counter.inc();
        }
    }

    /// Sets the number of notifications pending for a receiver, and the age of the oldest.
    pub fn outbox(&self, receiver: &str, pending: usize, oldest_age_seconds: f64) {
        let receiver = register::receiver(receiver);
        if let Some(gauge) = self.outbox_pending.get(&receiver) {
            gauge.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
        if let Some(gauge) = self.outbox_oldest_age.get(&receiver) {
            gauge.set(oldest_age_seconds);
        }
    }

    /// Counts suppressed or delayed notifications; `reason` is from a closed set.
    pub fn suppressed(&self, reason: &'static str, count: u64) {
        self.suppressed.get_or_create_owned(&register::suppressed_for(reason)).inc_by(count);
    }

    /// Sets the delay of the oldest overdue timer.
    pub fn lag(&self, seconds: f64) {
        self.engine_lag.set(seconds);
    }

    /// Sets the length of `queue`, whose name is from a closed set.
    pub fn queue(&self, queue: &'static str, length: usize) {
        self.queues.get_or_create_owned(&register::queue(queue)).set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Counts a failed write to the store.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// Sets the size of a file of the store: `ledger`, `history`, `traces` or `export`.
    pub fn store_size(&self, file: &'static str, bytes: u64) {
        self.store_size.get_or_create_owned(&register::file(file)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts dropped history rows; the reason is from a closed set.
    pub fn history_dropped(&self, reason: &'static str, count: u64) {
        self.history_dropped.get_or_create_owned(&register::history_dropped(reason)).inc_by(count);
    }

    /// Counts received spans; the outcome is from a closed set.
    pub fn run_spans(&self, outcome: &'static str, count: u64) {
        self.run_spans.get_or_create_owned(&register::run_spans(outcome)).inc_by(count);
    }

    /// Counts runs that ended and runs that were deleted for size, and sets how long the last commit of spans took.
    pub fn runs(&self, ended: u64, pruned: u64, commit_seconds: f64) {
        self.runs_ended.inc_by(ended);
        self.runs_pruned.inc_by(pruned);
        self.run_commit.set(commit_seconds);
    }

    /// Sets the number of agents in the registry.
    pub fn registry_agents(&self, agents: u64) {
        self.registry_agents.set(i64::try_from(agents).unwrap_or(i64::MAX));
    }

    /// Sets whether the shared registry can be used.
    pub fn registry_up(&self, is_up: bool) {
        self.registry_up.get_or_create_owned(&register::database("mysql")).set(i64::from(is_up));
    }

    /// Sets the number of agents of which the shared registry lacks something, and of those that it does not take.
    pub fn registry_pending(&self, pending: usize, refused: usize) {
        self.registry_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.registry_refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
    }

    /// Counts a failed exchange with the shared registry.
    pub fn registry_failed(&self) {
        self.registry_errors.inc();
    }

    /// Counts inputs missing in the recording.
    pub fn record_dropped(&self, count: u64) {
        self.record_dropped.inc_by(count);
    }

    /// Counts a hook that was answered with a stop order; `budget` is the word of a [`Budget`](crate::model::Budget).
    pub fn stopped(&self, budget: &'static str) {
        self.stops.get_or_create_owned(&register::stop_labels(budget)).inc();
    }

    /// Counts a connection closed because of the limit: `evicted`, or rejected with `no_place`.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create_owned(&register::connection_closed(reason)).inc();
    }

    /// Counts an open stream of events.
    pub fn stream_opened(&self) {
        self.streams.inc();
    }

    /// Counts a stream of events that ended.
    pub fn stream_closed(&self) {
        self.streams.dec();
    }

    /// Counts events sent to a stream.
    pub fn stream_events(&self, count: u64) {
        self.stream_events.inc_by(count);
    }

    /// Counts a stream whose client has to fetch everything again.
    pub fn stream_resynced(&self) {
        self.stream_resyncs.inc();
    }

    /// Counts a stream refused because of the limit.
    pub fn stream_refused(&self) {
        self.streams_rejected.inc();
    }

    /// Records a load of the configuration at `now`, at startup or on a reload, and whether it succeeded.
    pub fn reloaded(&self, now: Time, successful: bool) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_success.set(now.as_secs_f64());
        }
    }

    /// Removes the series of receivers that are in `before` and not in `now`, and starts those of new ones at 0; the others
    /// keep their counts.
    pub fn set_receivers(&self, before: &[Arc<str>], now: &[Arc<str>]) {
        for removed in before.iter().filter(|name| !now.contains(name)) {
            let receiver = register::receiver(removed);
            self.notifications.remove(&receiver);
            self.notification_latency.remove(&receiver);
            self.outbox_pending.remove(&receiver);
            self.outbox_oldest_age.remove(&receiver);
            for reason in SendReason::ALL {
                self.notifications_failed.remove(&register::failed(removed, reason.as_str()));
            }
        }
        for name in now {
            let receiver = register::receiver(name);
            self.notifications.get_or_create_owned(&receiver);
            self.notification_latency.get_or_create_owned(&receiver);
            self.outbox_pending.get_or_create_owned(&receiver);
            self.outbox_oldest_age.get_or_create_owned(&receiver);
            for reason in SendReason::ALL {
                self.notifications_failed.get_or_create_owned(&register::failed(name, reason.as_str()));
            }
        }
    }

    /// These families in `format`, without `# EOF`. Reads `/proc` for the families `process_*`, which are absent without it.
    pub fn text(&self, format: ExpositionFormat) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a string does not fail.
        let mut out = match encode_registry(&mut text, &self.registry) {
            Ok(()) => in_format(&text, format),
            Err(_) => String::new(),
        }
        .into_bytes();
        let mut keep_buffer = |_: &mut Vec<u8>| true;
        process::write(&mut SeriesWriter::new(format, &mut out, &mut keep_buffer));
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Converts OpenMetrics `text` to `format`: 0.0.4 declares counters with `_total` and has no units.
fn in_format(text: &str, format: ExpositionFormat) -> String {
    if format == ExpositionFormat::OpenMetrics {
        return text.to_owned();
    }
    // `# HELP` comes before `# TYPE`, so the type is on the next line.
    let mut out = String::with_capacity(text.len() + 256);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") {
            continue;
        }
        let declared = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        if let Some((mark, (name, rest))) = declared.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            let kind =
                if mark == "# TYPE " { Some(rest) } else { lines.peek().and_then(|next| next.split(' ').nth(3)) };
            let suffix = if kind == Some("counter") { "_total" } else { "" };
            out.extend([mark, name, suffix, " ", rest, "\n"]);
        } else {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests;
