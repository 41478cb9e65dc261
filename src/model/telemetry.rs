//! Metrics received over OTLP, in the form in which `/metrics` exposes them: families of accumulated series.
//!
//! Names, labels and help texts are already in Prometheus' form; only the escaping of help differs between formats.

mod exponential;

use std::sync::Arc;

pub use exponential::{ExponentialBuckets, ExponentialHistogram};

use super::{Slab, Time};

/// All received metrics at one point in time. A clone of a family costs as much as changed since the last clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Incremented with each change: values of one generation are equal.
    pub generation: u64,
    /// The families by name.
    pub families: Vec<Arc<MetricFamily>>,
    /// Gauges last updated before this time are stale and not exposed.
    pub gauges_since: Time,
}

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A counter; the name of its series ends in `_total`.
    Counter,
    /// A gauge.
    Gauge,
    /// A histogram.
    Histogram,
    /// A summary: quantiles computed by the sender.
    Summary,
}

/// One metric family.
#[derive(Clone, Debug)]
pub struct MetricFamily {
    /// The name of its series; a counter's ends in `_total`, a histogram's get `_bucket`, `_count` and `_sum` on top.
    pub name: Arc<str>,
    /// Its type.
    pub kind: MetricKind,
    /// Its help text, without line breaks; never empty.
    pub help: Arc<str>,
    /// The series by slot.
    pub series: Slab<MetricSeries>,
    /// The slots, ordered by labels.
    pub order: Arc<[u32]>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct MetricSeries {
    /// `name="value"` pairs by name, escaped; may be empty.
    pub labels: Arc<str>,
    /// Its value.
    pub value: MetricValue,
    /// When it was last updated.
    pub seen: Time,
}

/// The value of a series.
#[derive(Clone, Debug)]
pub enum MetricValue {
    /// A number.
    Number(f64),
    /// A histogram with explicit buckets.
    Histogram(Box<Buckets>),
    /// A histogram with exponential buckets.
    Exponential(Box<ExponentialHistogram>),
    /// A summary.
    Summary(Box<Quantiles>),
}

/// A histogram with explicit buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds of all buckets except the last, ascending and finite.
    pub bounds: Arc<[f64]>,
    /// Observations per bucket, not cumulative; one more than there are bounds.
    pub counts: Box<[u64]>,
    /// The sum of the observations.
    pub sum: f64,
}

impl Buckets {
    /// The cumulative buckets: upper bounds with the number of observations at or below each; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0_u64, |total, (bound, count)| {
            *total = total.saturating_add(*count);
            Some((bound, *total))
        })
    }
}

/// Quantiles computed by the sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles {
    /// Pairs of quantile and value, ascending.
    pub values: Box<[(f64, f64)]>,
    /// The number of observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}
