//! Metrics.

use super::{KeyValue, Resource, Scope};

/// The body of an export of metrics.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricsRequest {
    /// By producer.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// The metrics of one producer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceMetrics {
    /// The producer.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// By library.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// The metrics of one library.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeMetrics {
    /// The library.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// Its metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// A metric; at most one kind of data is given.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metric {
    /// Its name, such as `http.server.request.duration`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it says.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Its unit in UCUM's words.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Values that stand for themselves.
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Gauge>,
    /// Values that add up.
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Sum>,
    /// Counts by explicit bucket.
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histogram>,
    /// Counts by buckets that grow exponentially.
    #[prost(message, optional, tag = "10")]
    pub exponential_histogram: Option<ExponentialHistogram>,
    /// Quantiles that somebody else computed.
    #[prost(message, optional, tag = "11")]
    pub summary: Option<Summary>,
}

impl Metric {
    /// How many points it has.
    pub fn points(&self) -> usize {
        self.gauge.as_ref().map_or(0, |it| it.data_points.len())
            + self.sum.as_ref().map_or(0, |it| it.data_points.len())
            + self.histogram.as_ref().map_or(0, |it| it.data_points.len())
            + self.exponential_histogram.as_ref().map_or(0, |it| it.data_points.len())
            + self.summary.as_ref().map_or(0, |it| it.data_points.len())
    }
}

/// Values that stand for themselves.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Gauge {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberPoint>,
}

/// Values that add up.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sum {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<NumberPoint>,
    /// What the points count from; see [`Temporality`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
    /// Whether it only grows.
    #[prost(bool, tag = "3")]
    pub is_monotonic: bool,
}

/// Counts by explicit bucket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Histogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramPoint>,
    /// What the points count from; see [`Temporality`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// Counts by buckets that grow exponentially.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExponentialHistogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<ExponentialHistogramPoint>,
    /// What the points count from; see [`Temporality`].
    #[prost(int32, tag = "2")]
    pub aggregation_temporality: i32,
}

/// Quantiles that somebody else computed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<SummaryPoint>,
}

/// A number at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NumberPoint {
    /// What it is measured for.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// When its counting began, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was measured, in nanoseconds.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// The value; this or the next.
    #[prost(double, optional, tag = "4")]
    pub as_double: Option<f64>,
    /// The value as a whole number.
    #[prost(sfixed64, optional, tag = "6")]
    pub as_int: Option<i64>,
    /// Bit 0: there is no value any more.
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// A histogram at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistogramPoint {
    /// What it is measured for.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// When its counting began, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was measured, in nanoseconds.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many observations.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// Observations by bucket: one more than bounds, or none at all.
    #[prost(fixed64, repeated, tag = "6")]
    pub bucket_counts: Vec<u64>,
    /// Upper bounds of all buckets but the last.
    #[prost(double, repeated, tag = "7")]
    pub explicit_bounds: Vec<f64>,
    /// Bit 0: there is no value any more.
    #[prost(uint32, tag = "10")]
    pub flags: u32,
}

/// An exponential histogram at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExponentialHistogramPoint {
    /// What it is measured for.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// When its counting began, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was measured, in nanoseconds.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many observations.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, optional, tag = "5")]
    pub sum: Option<f64>,
    /// The base of the buckets is 2^(2^-scale).
    #[prost(sint32, tag = "6")]
    pub scale: i32,
    /// Observations that count as zero.
    #[prost(fixed64, tag = "7")]
    pub zero_count: u64,
    /// Observations above zero.
    #[prost(message, optional, tag = "8")]
    pub positive: Option<Buckets>,
    /// Observations below zero.
    #[prost(message, optional, tag = "9")]
    pub negative: Option<Buckets>,
    /// Bit 0: there is no value any more.
    #[prost(uint32, tag = "10")]
    pub flags: u32,
    /// Up to here an observation counts as zero.
    #[prost(double, tag = "14")]
    pub zero_threshold: f64,
}

/// Buckets in a row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Buckets {
    /// The index of the first: bucket i reaches from base^i to base^(i+1).
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Observations by bucket.
    #[prost(uint64, repeated, tag = "2")]
    pub bucket_counts: Vec<u64>,
}

/// A summary at a time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryPoint {
    /// What it is measured for.
    #[prost(message, repeated, tag = "7")]
    pub attributes: Vec<KeyValue>,
    /// When its counting began, in nanoseconds; 0 is unknown.
    #[prost(fixed64, tag = "2")]
    pub start_time_unix_nano: u64,
    /// When it was measured, in nanoseconds.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// How many observations.
    #[prost(fixed64, tag = "4")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "5")]
    pub sum: f64,
    /// The quantiles.
    #[prost(message, repeated, tag = "6")]
    pub quantile_values: Vec<Quantile>,
    /// Bit 0: there is no value any more.
    #[prost(uint32, tag = "8")]
    pub flags: u32,
}

/// A quantile.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Quantile {
    /// Which, 0 to 1.
    #[prost(double, tag = "1")]
    pub quantile: f64,
    /// Its value.
    #[prost(double, tag = "2")]
    pub value: f64,
}

/// What the points of a sum or histogram count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// From the point before.
    Delta,
    /// From the start.
    Cumulative,
}

impl Temporality {
    /// What `number` stands for; `None` for what is unspecified.
    pub const fn of(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Delta),
            2 => Some(Self::Cumulative),
            _ => None,
        }
    }
}
