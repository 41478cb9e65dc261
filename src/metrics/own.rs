//! The sidecar's own metrics: how much comes in, how fast it is judged, what of it is told.
//!
//! Owns the counters and their label sets; closed sets start at 0, and a receiver's series live as long as
//! the receiver. Refuses labels that outsiders choose.

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

use super::format::Format;
use super::series::Writer;
use crate::model::{InputKind, RejectReason, SendReason, Time};

/// The queues: three of the engine, and the exports that wait.
const QUEUES: [&str; 4] = ["bulk", "control", "hooks", "otlp"];

/// Why rows of history are not kept.
const HISTORY_DROPPED: [&str; 3] = ["disk", "rate", "size"];

/// Why a connection is closed that did nothing wrong.
const CONNECTIONS_CLOSED: [&str; 2] = ["evicted", "no_place"];

/// Bounds of `lookout_evaluation_duration_seconds`: from one agent to a storm.
const EVALUATION_BOUNDS: [f64; 12] = [5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 0.025, 0.1, 0.5];

/// Bounds of `lookout_notification_latency_seconds`: 1 ms to 1 h.
const LATENCY_BOUNDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 900.0, 3600.0];

type Labels<const N: usize> = [(&'static str, String); N];
type FloatGauge = Gauge<f64, AtomicU64>;

/// Makes the histogram of a receiver that is new.
#[derive(Clone, Copy, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new(LATENCY_BOUNDS)
    }
}

/// The sidecar's own metrics. All methods take `&self`; the ones on the way of state touch one atomic.
#[derive(Debug)]
pub struct Own {
    registry: Registry,
    /// By [`InputKind`], found without a lock.
    ingested: [Counter; InputKind::ALL.len()],
    rejected: Family<Labels<2>, Counter>,
    evaluation_duration: Histogram,
    notifications: Family<Labels<1>, Counter>,
    notifications_failed: Family<Labels<2>, Counter>,
    notification_latency: Family<Labels<1>, Histogram, Latency>,
    outbox_pending: Family<Labels<1>, Gauge>,
    outbox_oldest_age: Family<Labels<1>, FloatGauge>,
    suppressed: Family<Labels<1>, Counter>,
    engine_lag: FloatGauge,
    queues: Family<Labels<1>, Gauge>,
    store_errors: Counter,
    store_size: Family<Labels<1>, Gauge>,
    history_dropped: Family<Labels<1>, Counter>,
    record_dropped: Counter,
    stops: Family<Labels<1>, Counter>,
    connections_closed: Family<Labels<1>, Counter>,
    reload_successful: Gauge,
    reload_success: FloatGauge,
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}

impl Own {
    /// Counts what was taken in of `input`.
    pub fn ingested(&self, input: InputKind, count: u64) {
        if let Some(counter) = self.ingested.get(input as usize) {
            counter.inc_by(count);
        }
    }

    /// Counts what was not taken in of `input`, and why.
    pub fn rejected(&self, input: InputKind, reason: RejectReason, count: u64) {
        self.rejected.get_or_create_owned(&register::rejected(input, reason)).inc_by(count);
    }

    /// Notes how long one event took to be judged.
    pub fn evaluated(&self, took: Duration) {
        self.evaluation_duration.observe(took.as_secs_f64());
    }

    /// Counts a notice that `receiver` took, `latency` after its cause. Of a receiver that is gone nothing is noted.
    pub fn delivered(&self, receiver: &str, latency: Duration) {
        let receiver = register::receiver(receiver);
        if let Some(counter) = self.notifications.get(&receiver) {
            counter.inc();
        }
        if let Some(histogram) = self.notification_latency.get(&receiver) {
            histogram.observe(latency.as_secs_f64());
        }
    }

    /// Counts a send that failed, whether it is tried again or not; `reason` is a [`SendReason`]'s word.
    pub fn failed(&self, receiver: &str, reason: &'static str) {
        if let Some(counter) = self.notifications_failed.get(&register::failed(receiver, reason)) {
            counter.inc();
        }
    }

    /// Sets how many notices wait for a receiver, and the age of the oldest.
    pub fn outbox(&self, receiver: &str, pending: usize, oldest_age_seconds: f64) {
        let receiver = register::receiver(receiver);
        if let Some(gauge) = self.outbox_pending.get(&receiver) {
            gauge.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
        if let Some(gauge) = self.outbox_oldest_age.get(&receiver) {
            gauge.set(oldest_age_seconds);
        }
    }

    /// Counts what was suppressed or put off; `reason` comes from a closed set.
    pub fn suppressed(&self, reason: &'static str, count: u64) {
        self.suppressed.get_or_create_owned(&register::suppressed_for(reason)).inc_by(count);
    }

    /// Sets how late the oldest unserved deadline is.
    pub fn lag(&self, seconds: f64) {
        self.engine_lag.set(seconds);
    }

    /// Sets what waits in `queue`, whose name comes from a closed set.
    pub fn queue(&self, queue: &'static str, length: usize) {
        self.queues.get_or_create_owned(&register::queue(queue)).set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Counts a write to the store that failed.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// Sets the size of a file of the store, `ledger` or `history`.
    pub fn store_size(&self, file: &'static str, bytes: u64) {
        self.store_size.get_or_create_owned(&register::file(file)).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts rows that history did not keep; the reason is one of a closed set.
    pub fn history_dropped(&self, reason: &'static str, count: u64) {
        self.history_dropped.get_or_create_owned(&register::history_dropped(reason)).inc_by(count);
    }

    /// Counts what the recording left out.
    pub fn record_dropped(&self, count: u64) {
        self.record_dropped.inc_by(count);
    }

    /// Counts a hook that was answered by a stop; `budget` is a [`Budget`](crate::model::Budget)'s word.
    pub fn stopped(&self, budget: &'static str) {
        self.stops.get_or_create_owned(&register::stops_of(budget)).inc();
    }

    /// Counts a connection that was closed for want of room: `evicted`, or with `no_place` from the start.
    pub fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create_owned(&register::connection_closed(reason)).inc();
    }

    /// Notes that the configuration was read at `now`, at start or on a reload, and whether it is in force.
    pub fn reloaded(&self, now: Time, successful: bool) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_success.set(now.as_secs_f64());
        }
    }

    /// Ends the series of receivers that were there `before` and are not `now`, and starts those of new ones
    /// at 0; the others keep their counts.
    pub fn set_receivers(&self, before: &[Arc<str>], now: &[Arc<str>]) {
        for gone in before.iter().filter(|name| !now.contains(name)) {
            let receiver = register::receiver(gone);
            self.notifications.remove(&receiver);
            self.notification_latency.remove(&receiver);
            self.outbox_pending.remove(&receiver);
            self.outbox_oldest_age.remove(&receiver);
            for reason in SendReason::ALL {
                self.notifications_failed.remove(&register::failed(gone, reason.as_str()));
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

    /// The families of this page part in `format`, without an end mark. Reads a few files of `/proc` for the
    /// families `process_*`; where there is none, they are absent.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a string does not fail.
        let mut out = match encode_registry(&mut text, &self.registry) {
            Ok(()) => in_format(&text, format),
            Err(_) => String::new(),
        }
        .into_bytes();
        let mut whole = |_: &mut Vec<u8>| true;
        process::write(&mut Writer::new(format, &mut out, &mut whole));
        String::from_utf8(out).unwrap_or_default()
    }
}

/// `text` as OpenMetrics has it, in `format`: 0.0.4 declares a counter under its whole name and knows no units.
fn in_format(text: &str, format: Format) -> String {
    if format == Format::OpenMetrics {
        return text.to_owned();
    }
    // The help comes first, and which type it is for stands on the next line.
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
