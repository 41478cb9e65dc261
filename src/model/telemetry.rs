//! Metrics that others measured, as the page shows them: families of series, accumulated since they were first heard of.
//!
//! Names, labels and help texts are already what Prometheus takes; only escaping of help differs between formats.

mod exponential;

use std::sync::Arc;

pub use exponential::{ExponentialBuckets, ExponentialHistogram};

use super::{Slab, Time};

/// Everything that was received, at one moment. Cloning a family costs what changed since the last clone.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Counts changes; two of one generation hold the same.
    pub generation: u64,
    /// The families by name.
    pub families: Vec<Arc<MetricFamily>>,
    /// Gauges that were last heard before this are not shown: nobody says any more that they hold.
    pub gauges_since: Time,
}

/// How a family is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; the name of its series ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
    /// Quantiles that somebody else computed.
    Summary,
}

/// Series of one name.
#[derive(Clone, Debug)]
pub struct MetricFamily {
    /// The name of its series; a counter's ends in `_total`, a histogram's get `_bucket`, `_count` and `_sum` on top.
    pub name: Arc<str>,
    /// How it is declared.
    pub kind: MetricKind,
    /// What it says, without line breaks; never empty.
    pub help: Arc<str>,
    /// The series by slot.
    pub series: Slab<MetricSeries>,
    /// The slots in the order of the labels.
    pub order: Arc<[u32]>,
}

/// One series.
#[derive(Clone, Debug)]
pub struct MetricSeries {
    /// `name="value"` pairs by name, escaped; may be empty.
    pub labels: Arc<str>,
    /// What it shows.
    pub value: MetricValue,
    /// When it was last heard of.
    pub seen: Time,
}

/// What a series shows.
#[derive(Clone, Debug)]
pub enum MetricValue {
    /// A number.
    Number(f64),
    /// Counts by explicit bucket.
    Histogram(Box<Buckets>),
    /// Counts by exponential bucket.
    Exponential(Box<ExponentialHistogram>),
    /// Quantiles.
    Summary(Box<Quantiles>),
}

/// Counts by explicit bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds of all buckets but the last, rising and finite.
    pub bounds: Arc<[f64]>,
    /// Observations by bucket, not cumulated; one more than bounds.
    pub counts: Box<[u64]>,
    /// The sum of the observations.
    pub sum: f64,
}

impl Buckets {
    /// Upper bounds and how many observations are at or below each; the last bound is infinite.
    pub fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0_u64, |total, (bound, count)| {
            *total = total.saturating_add(*count);
            Some((bound, *total))
        })
    }
}

/// Quantiles that somebody else computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles {
    /// Which and its value, by quantile.
    pub values: Box<[(f64, f64)]>,
    /// How many observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}
