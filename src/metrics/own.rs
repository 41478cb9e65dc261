//! The sidecar's own metrics: what it took in, judged, sent and failed at.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::names;
use super::page::Format;
use crate::model::{SendReason, Time};

type Real = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Signal {
    signal: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rejection {
    signal: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Receiver {
    receiver: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failure {
    receiver: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

/// Latency from cause to answer, 1 ms to 1 h.
#[derive(Clone, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0,
        ])
    }
}

/// The sidecar's own metrics.
#[derive(Debug)]
pub struct Own {
    registry: Registry,
    ingested: Family<Signal, Counter>,
    /// The three signals, resolved once.
    ingested_by: [(&'static str, Counter); 3],
    rejected: Family<Rejection, Counter>,
    evaluation: Histogram,
    delivered: Family<Receiver, Counter>,
    failed: Family<Failure, Counter>,
    latency: Family<Receiver, Histogram, Latency>,
    pending: Family<Receiver, Gauge>,
    oldest: Family<Receiver, Real>,
    suppressed: Family<Reason, Counter>,
    lag: Real,
    queues: Family<Queue, Gauge>,
    store_errors: Counter,
    reload_successful: Gauge,
    reload_time: Real,
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}

impl Own {
    /// All of them, closed label sets at 0.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let ingested = Family::<Signal, Counter>::default();
        let ingested_by =
            ["state", "usage", "poll"].map(|signal| (signal, ingested.get_or_create_owned(&Signal { signal })));
        let build = Family::<Version, Gauge>::default();
        build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION") }).set(1);
        let suppressed = Family::<Reason, Counter>::default();
        for reason in ["explained", "cooldown"] {
            suppressed.get_or_create(&Reason { reason }).inc_by(0);
        }
        let rejected = Family::<Rejection, Counter>::default();
        for signal in ["state", "usage"] {
            rejected.get_or_create(&Rejection { signal, reason: "malformed" }).inc_by(0);
        }
        let own = Self {
            ingested_by,
            ingested,
            rejected,
            evaluation: Histogram::new([1e-6, 5e-6, 2.5e-5, 1e-4, 5e-4, 0.0025, 0.01, 0.05, 0.25, 1.0]),
            delivered: Family::default(),
            failed: Family::default(),
            latency: Family::new_with_constructor(Latency),
            pending: Family::default(),
            oldest: Family::default(),
            suppressed,
            lag: Real::default(),
            queues: Family::default(),
            store_errors: Counter::default(),
            reload_successful: Gauge::default(),
            reload_time: Real::default(),
            registry: Registry::default(),
        };
        register(&mut registry, &names::BUILD_INFO, build);
        register(&mut registry, &names::INGESTED, own.ingested.clone());
        register(&mut registry, &names::REJECTED, own.rejected.clone());
        register(&mut registry, &names::EVALUATION_DURATION, own.evaluation.clone());
        register(&mut registry, &names::NOTIFICATIONS, own.delivered.clone());
        register(&mut registry, &names::NOTIFICATIONS_FAILED, own.failed.clone());
        register(&mut registry, &names::NOTIFICATION_LATENCY, own.latency.clone());
        register(&mut registry, &names::OUTBOX_PENDING, own.pending.clone());
        register(&mut registry, &names::OUTBOX_OLDEST, own.oldest.clone());
        register(&mut registry, &names::SUPPRESSED, own.suppressed.clone());
        register(&mut registry, &names::ENGINE_LAG, own.lag.clone());
        register(&mut registry, &names::QUEUE_LENGTH, own.queues.clone());
        register(&mut registry, &names::STORE_ERRORS, own.store_errors.clone());
        register(&mut registry, &names::RELOAD_SUCCESSFUL, own.reload_successful.clone());
        register(&mut registry, &names::RELOAD_TIME, own.reload_time.clone());
        Self { registry, ..own }
    }

    /// Counts what was taken in of `signal`: `state`, `usage` or `poll`.
    pub fn ingested(&self, signal: &'static str, count: u64) {
        if let Some((_, counter)) = self.ingested_by.iter().find(|(known, _)| *known == signal) {
            counter.inc_by(count);
        }
    }

    /// Counts what was not taken in.
    pub fn rejected(&self, signal: &'static str, reason: &'static str, count: u64) {
        self.rejected.get_or_create(&Rejection { signal, reason }).inc_by(count);
    }

    /// Notes how long one update took to judge.
    pub fn evaluated(&self, duration: Duration) {
        self.evaluation.observe(duration.as_secs_f64());
    }

    /// Counts a notice that `receiver` took, `latency` after its cause.
    pub fn delivered(&self, receiver: &str, latency: Duration) {
        let receiver = Receiver { receiver: receiver.to_owned() };
        self.delivered.get_or_create(&receiver).inc();
        self.latency.get_or_create(&receiver).observe(latency.as_secs_f64());
    }

    /// Counts a send that failed.
    pub fn failed(&self, receiver: &str, reason: &'static str) {
        self.failed.get_or_create(&Failure { receiver: receiver.to_owned(), reason }).inc();
    }

    /// Counts notices that were withheld or put off.
    pub fn suppressed(&self, reason: &'static str, count: u64) {
        self.suppressed.get_or_create(&Reason { reason }).inc_by(count);
    }

    /// Notes how late the last deadline was served.
    pub fn lag(&self, seconds: f64) {
        self.lag.set(seconds);
    }

    /// Notes how much waits for `receiver`.
    pub fn outbox(&self, receiver: &str, pending: usize, oldest_seconds: f64) {
        let receiver = Receiver { receiver: receiver.to_owned() };
        self.pending.get_or_create(&receiver).set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.oldest.get_or_create(&receiver).set(oldest_seconds);
    }

    /// Notes how many events wait in `queue`.
    pub fn queue(&self, queue: &'static str, length: usize) {
        self.queues.get_or_create(&Queue { queue }).set(i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Counts a write to the store that failed.
    pub fn store_error(&self) {
        self.store_errors.inc();
    }

    /// Notes that the configuration was loaded at `now`, or that it could not be.
    pub fn reloaded(&self, now: Time, ok: bool) {
        self.reload_successful.set(i64::from(ok));
        if ok {
            self.reload_time.set(now.as_secs_f64());
        }
    }

    /// Ends the series of receivers that were there `before` and are not `now`, and starts those of the new ones.
    pub fn set_receivers(&self, before: &[Arc<str>], now: &[Arc<str>]) {
        let labels = |name: &Arc<str>| Receiver { receiver: name.to_string() };
        let failure =
            |name: &Arc<str>, reason: SendReason| Failure { receiver: name.to_string(), reason: reason.as_str() };
        for name in before.iter().filter(|name| !now.contains(name)) {
            self.delivered.remove(&labels(name));
            self.latency.remove(&labels(name));
            self.pending.remove(&labels(name));
            self.oldest.remove(&labels(name));
            for reason in SendReason::ALL {
                self.failed.remove(&failure(name, reason));
            }
        }
        for name in now.iter().filter(|name| !before.contains(name)) {
            self.delivered.get_or_create(&labels(name)).inc_by(0);
            drop(self.latency.get_or_create(&labels(name)));
            self.outbox(name, 0, 0.0);
            for reason in SendReason::ALL {
                self.failed.get_or_create(&failure(name, reason)).inc_by(0);
            }
        }
    }

    /// The families as text, without the end mark.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(error = %error, "own metrics not encoded");
        }
        let text = text.strip_suffix("# EOF\n").unwrap_or(&text);
        match format {
            Format::OpenMetrics => text.to_owned(),
            Format::Text => without_openmetrics(text),
        }
    }
}

/// The same in the text format 0.0.4, where a counter's HELP and TYPE carry its full name.
fn without_openmetrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT"), ..) => continue,
            (Some("#"), Some(keyword), Some(name), rest) => {
                let full = names::FAMILIES.iter().find(|family| family.name.strip_suffix("_total") == Some(name));
                let name = full.map_or(name, |family| family.name);
                for part in ["# ", keyword, " ", name, " ", rest.unwrap_or_default()] {
                    out.push_str(part);
                }
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// Registers a family under the name and help of the table. The client adds `_total` and a final stop itself.
fn register(registry: &mut Registry, family: &names::Family, metric: impl Metric) {
    let name = family.name.strip_suffix("_total").unwrap_or(family.name);
    registry.register(name, family.help, metric);
}
