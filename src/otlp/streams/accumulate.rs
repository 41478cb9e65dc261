//! One stream: whether a point of it counts, and what the point adds to its series.

use super::super::naming::SuffixRule;
use super::super::sequence::{CumulativeStream, CumulativeValue, DeltaStream, known_start};
use super::super::wire::Temporality;
use crate::model::telemetry::{Buckets, MetricKind, MetricSeries, MetricValue};
use crate::model::{RejectReason, Time};

/// A histogram series without a point for so long may change its buckets.
const BUCKETS_STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// The type of a metric in OTLP. Metrics of one name must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtlpMetricType {
    /// A gauge.
    Gauge,
    /// A monotonic sum.
    Counter,
    /// A sum that is not monotonic: an UpDownCounter.
    UpDown,
    /// A histogram with explicit buckets.
    Histogram,
    /// An exponential histogram.
    Exponential,
    /// A summary.
    Summary,
}

impl OtlpMetricType {
    pub(super) const fn kind(self) -> MetricKind {
        match self {
            Self::Counter => MetricKind::Counter,
            Self::Gauge | Self::UpDown => MetricKind::Gauge,
            Self::Histogram | Self::Exponential => MetricKind::Histogram,
            Self::Summary => MetricKind::Summary,
        }
    }

    pub(super) const fn suffix_rule(self) -> SuffixRule {
        match self {
            Self::Counter => SuffixRule::Counter,
            Self::Gauge => SuffixRule::Gauge,
            _ => SuffixRule::Other,
        }
    }
}

/// A stream, and the series that it feeds.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) family: u32,
    pub(super) slot: u32,
    /// What has been counted of it.
    pub(super) counted: StreamState,
    /// When its last point arrived.
    pub(super) seen: Time,
    /// How many series it counts as towards `otlp.max_series`.
    pub(super) series_count: u32,
}

/// What has been counted of a stream.
#[derive(Debug)]
pub(super) enum StreamState {
    /// The last point: of gauges, summaries and cumulative UpDownCounters.
    Last {
        /// Its start time, in nanoseconds; 0 is unknown.
        start: u64,
        /// Its time, in nanoseconds.
        time: u64,
        /// Its value, if the type is an UpDownCounter.
        value: f64,
    },
    /// The intervals that delta points covered.
    Delta(DeltaStream),
    /// The sequences of cumulative points.
    Cumulative(CumulativeStream<MetricValue>),
}

impl StreamState {
    /// The state of a stream without points.
    pub(super) fn new(metric_type: OtlpMetricType, temporality: Temporality) -> Self {
        match (metric_type, temporality) {
            (OtlpMetricType::Gauge | OtlpMetricType::Summary, _)
            | (OtlpMetricType::UpDown, Temporality::Cumulative) => Self::Last { start: 0, time: 0, value: 0.0 },
            (_, Temporality::Delta) => Self::Delta(DeltaStream::default()),
            (_, Temporality::Cumulative) => Self::Cumulative(CumulativeStream::default()),
        }
    }
}

impl CumulativeValue for MetricValue {
    fn can_follow(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Number(now), Self::Number(earlier)) => now >= earlier,
            (Self::Histogram(now), Self::Histogram(earlier)) => {
                let grew = || earlier.counts.iter().zip(&now.counts).all(|(earlier, now)| earlier <= now);
                let below_zero = now.bounds.first().is_some_and(|bound| *bound < 0.0);
                now.bounds == earlier.bounds
                    && grew()
                    && sums_fit((earlier.sum, now.sum), earlier.counts == now.counts, below_zero)
            }
            (Self::Exponential(now), Self::Exponential(earlier)) => {
                let is_same = earlier.count() == now.count();
                let below_zero = now.has_negative();
                now.since(earlier).is_some() && sums_fit((earlier.sum(), now.sum()), is_same, below_zero)
            }
            _ => false,
        }
    }

    fn magnitude(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Histogram(buckets) => buckets.counts.iter().map(|count| *count as f64).sum(),
            Self::Exponential(buckets) => buckets.count() as f64,
            Self::Summary(summary) => summary.count as f64,
        }
    }
}

/// Whether the sum of a histogram may have changed from `earlier` to `now` within one process: without a new observation
/// it stays the same, and it only falls where observations may be negative.
fn sums_fit((earlier, now): (f64, f64), is_same: bool, below_zero: bool) -> bool {
    let slack = 1e-9 * earlier.abs();
    if is_same { (now - earlier).abs() <= slack } else { below_zero || now >= earlier - slack }
}

/// Adds to `series` what a point adds to `stream`; `start` and `time` are the point's. The error is why the point does not
/// count.
pub(super) fn accumulate(
    now: Time,
    series: &mut MetricSeries,
    stream: &mut StreamEntry,
    metric_type: OtlpMetricType,
    (start, time): (u64, u64),
    value: MetricValue,
) -> Result<(), RejectReason> {
    let has_other_buckets = other_buckets(&series.value, &value);
    if has_other_buckets && now.since(series.seen) < BUCKETS_STALE_AFTER {
        return Err(RejectReason::Buckets);
    }
    match &mut stream.counted {
        StreamState::Last { start: since, time: last, value: counted } => {
            if time <= *last {
                return Err(if time == *last { RejectReason::Duplicate } else { RejectReason::Stale });
            }
            let start = known_start(start, time);
            if metric_type == OtlpMetricType::UpDown && start != 0 && start < *since {
                return Err(RejectReason::Stale);
            }
            match (&mut series.value, value) {
                (MetricValue::Number(shown), MetricValue::Number(number)) if metric_type == OtlpMetricType::UpDown => {
                    *shown = advanced(*shown, *counted, number);
                    *counted = number;
                }
                (shown @ MetricValue::Number(_), value @ MetricValue::Number(_))
                | (shown @ MetricValue::Summary(_), value @ MetricValue::Summary(_)) => *shown = value,
                _ => return Err(RejectReason::Conflict),
            }
            (*since, *last) = (start.max(*since), time);
        }
        StreamState::Delta(stream) => {
            stream.insert(start, time)?;
            add(&mut series.value, &value, None, has_other_buckets)?;
        }
        StreamState::Cumulative(stream) => {
            let found = stream.classify(start, time, &value)?;
            add(&mut series.value, &value, stream.value(found), has_other_buckets)?;
            stream.record(found, start, time, value);
        }
    }
    Ok(())
}

/// Whether a histogram has other buckets than its series.
fn other_buckets(shown: &MetricValue, value: &MetricValue) -> bool {
    matches!((shown, value), (MetricValue::Histogram(shown), MetricValue::Histogram(value)) if shown.bounds != value.bounds)
}

/// Adds the difference of `value` and `last` to `shown`.
fn add(
    shown: &mut MetricValue,
    value: &MetricValue,
    last: Option<&MetricValue>,
    replaces_buckets: bool,
) -> Result<(), RejectReason> {
    match (shown, value) {
        (MetricValue::Number(shown), MetricValue::Number(value)) => {
            let last = if let Some(MetricValue::Number(last)) = last { *last } else { 0.0 };
            *shown = advanced(*shown, last, *value);
        }
        (MetricValue::Histogram(shown), MetricValue::Histogram(value)) => {
            if replaces_buckets {
                **shown = empty_buckets(value);
            }
            let last = if let Some(MetricValue::Histogram(last)) = last { Some(last) } else { None };
            add_buckets(shown, value, last.map(|last| &**last));
        }
        (MetricValue::Exponential(shown), MetricValue::Exponential(value)) => {
            let since = if let Some(MetricValue::Exponential(last)) = last { value.since(last) } else { None };
            shown.add(since.as_ref().unwrap_or(value));
        }
        _ => return Err(RejectReason::Conflict),
    }
    Ok(())
}

/// The value of a series after one of its streams went from `last` to `value`. A series with a single stream has exactly
/// that stream's value, without rounding.
fn advanced(shown: f64, last: f64, value: f64) -> f64 {
    if shown == last { value } else { shown + (value - last) }
}

fn add_buckets(shown: &mut Buckets, value: &Buckets, last: Option<&Buckets>) {
    for (sum, count) in shown.counts.iter_mut().zip(&value.counts) {
        *sum = sum.saturating_add(*count);
    }
    shown.sum += value.sum;
    if let Some(last) = last {
        for (sum, count) in shown.counts.iter_mut().zip(&last.counts) {
            *sum = sum.saturating_sub(*count);
        }
        shown.sum -= last.sum;
        // A series with a single stream has exactly that stream's sum, without rounding.
        if shown.counts == value.counts {
            shown.sum = value.sum;
        }
    }
}

/// The same buckets without observations.
pub(super) fn empty_buckets(value: &Buckets) -> Buckets {
    let counts = vec![0; value.counts.len()].into_boxed_slice();
    Buckets { bounds: value.bounds.clone(), counts, sum: 0.0 }
}
