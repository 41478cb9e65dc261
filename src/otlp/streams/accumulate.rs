//! One stream: whether a point of it counts, and what the point adds to the series that it feeds.

use super::super::naming::SuffixRule;
use super::super::sequence::{CumulativeStream, CumulativeValue, DeltaStream, known_start};
use super::super::wire::Temporality;
use crate::model::telemetry::{Buckets, MetricKind, MetricSeries, MetricValue};
use crate::model::{RejectReason, Time};

/// A series whose buckets nobody has used for so long may get other ones.
const BUCKETS_STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// What the numbers of a family mean. FamilyTable of one name must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtlpMetricType {
    /// Stands for itself; the last one holds.
    Gauge,
    /// Only grows.
    Counter,
    /// Adds up and may fall.
    UpDown,
    /// Counts by explicit bucket.
    Histogram,
    /// Counts by exponential bucket.
    Exponential,
    /// Quantiles.
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

/// What is known of one stream.
#[derive(Debug)]
pub(super) struct StreamEntry {
    pub(super) family: u32,
    pub(super) slot: u32,
    /// What of it was counted.
    pub(super) counted: StreamState,
    /// When it was last heard of.
    pub(super) seen: Time,
    /// What it counts towards the cap.
    pub(super) series_count: u32,
}

/// What of a stream was counted; the next point is counted from it.
#[derive(Debug)]
pub(super) enum StreamState {
    /// Of what stands for itself, and of what goes up and down: the last point.
    Last {
        /// When its counting began, in nanoseconds; 0 is unknown.
        start: u64,
        /// When it was measured.
        time: u64,
        /// Its value, where the next is counted from it.
        value: f64,
    },
    /// Of deltas: their time.
    Delta(DeltaStream),
    /// Of what grows from a start.
    Cumulative(CumulativeStream<MetricValue>),
}

impl StreamState {
    /// Nothing yet.
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

/// Whether the sum of one process may have gone from `earlier` to `now`: without an observation it stays, and it falls by
/// none that is not below zero.
fn sums_fit((earlier, now): (f64, f64), is_same: bool, below_zero: bool) -> bool {
    let slack = 1e-9 * earlier.abs();
    if is_same { (now - earlier).abs() <= slack } else { below_zero || now >= earlier - slack }
}

/// Takes in a point of `stream` that was measured at `time` and counts from `start`, and adds what is new of it to
/// `series`.
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
        StreamState::Last { start: since, time: last, value: held } => {
            if time <= *last {
                return Err(if time == *last { RejectReason::Duplicate } else { RejectReason::Stale });
            }
            let start = known_start(start, time);
            if metric_type == OtlpMetricType::UpDown && start != 0 && start < *since {
                return Err(RejectReason::Stale);
            }
            match (&mut series.value, value) {
                (MetricValue::Number(shown), MetricValue::Number(number)) if metric_type == OtlpMetricType::UpDown => {
                    *shown = advanced(*shown, *held, number);
                    *held = number;
                }
                (shown @ MetricValue::Number(_), value @ MetricValue::Number(_))
                | (shown @ MetricValue::Summary(_), value @ MetricValue::Summary(_)) => *shown = value,
                _ => return Err(RejectReason::Conflict),
            }
            (*since, *last) = (start.max(*since), time);
        }
        StreamState::Delta(intervals) => {
            intervals.insert(start, time)?;
            add(&mut series.value, &value, None, has_other_buckets)?;
        }
        StreamState::Cumulative(sequences) => {
            let place = sequences.classify(start, time, &value)?;
            add(&mut series.value, &value, sequences.value(place), has_other_buckets)?;
            sequences.record(place, start, time, value);
        }
    }
    Ok(())
}

/// Whether a histogram has other buckets than its series.
fn other_buckets(shown: &MetricValue, value: &MetricValue) -> bool {
    matches!((shown, value), (MetricValue::Histogram(shown), MetricValue::Histogram(value)) if shown.bounds != value.bounds)
}

/// Adds to `shown` what `value` is more than `last`.
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

/// What is shown once a stream went from `last` to `value`; a series that shows one stream shows its very number.
fn advanced(shown: f64, last: f64, value: f64) -> f64 {
    if shown == last { value } else { shown + (value - last) }
}

fn add_buckets(shown: &mut Buckets, value: &Buckets, last: Option<&Buckets>) {
    for (place, count) in shown.counts.iter_mut().zip(&value.counts) {
        *place = place.saturating_add(*count);
    }
    shown.sum += value.sum;
    if let Some(last) = last {
        for (place, count) in shown.counts.iter_mut().zip(&last.counts) {
            *place = place.saturating_sub(*count);
        }
        shown.sum -= last.sum;
        // A series that shows one stream shows its very sum.
        if shown.counts == value.counts {
            shown.sum = value.sum;
        }
    }
}

/// Nothing observed, in the same buckets.
pub(super) fn empty_buckets(value: &Buckets) -> Buckets {
    let counts = vec![0; value.counts.len()].into_boxed_slice();
    Buckets { bounds: value.bounds.clone(), counts, sum: 0.0 }
}
