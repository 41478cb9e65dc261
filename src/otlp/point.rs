//! Reads a data point of any type: its attributes, times and value.

use std::sync::Arc;
use std::time::Duration;

use super::wire::{
    self, Buckets as SentBuckets, ExponentialHistogramDataPoint, HistogramDataPoint, KeyValue, NumberDataPoint,
    SummaryDataPoint,
};
use crate::model::telemetry::{Buckets, ExponentialBuckets, ExponentialHistogram, MetricValue, Quantiles};
use crate::model::{RejectReason, Time};

/// How far in the future a point may lie: clocks differ, but a point of next year would make all later ones stale.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);
/// Most buckets of a histogram, and quantiles of a summary; some tools have five hundred.
const MAX_BUCKETS: usize = 1_000;

/// The time of a point, in nanoseconds; `now` where it is unset.
pub(crate) fn point_time(now: Time, time: u64) -> Result<u64, RejectReason> {
    let nanos = |time: Time| u64::try_from(time.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
    match time {
        0 => Ok(nanos(now)),
        time if time > nanos(now.plus(MAX_CLOCK_SKEW)) => Err(RejectReason::Time),
        time => Ok(time),
    }
}

/// A data point of any type.
pub(super) trait OtlpPoint {
    /// Its attributes.
    fn attributes(&self) -> &[KeyValue];
    /// Its start time and its time, in nanoseconds; 0 is unknown.
    fn times(&self) -> (u64, u64);
    /// Bit 0: no recorded value.
    fn flags(&self) -> u32;
    /// Its value; the error is why it is invalid.
    fn value(&self) -> Result<MetricValue, RejectReason>;
}

macro_rules! point {
    ($type:ty, $value:expr) => {
        impl OtlpPoint for $type {
            fn attributes(&self) -> &[KeyValue] {
                &self.attributes
            }

            fn times(&self) -> (u64, u64) {
                (self.start_time_unix_nano, self.time_unix_nano)
            }

            fn flags(&self) -> u32 {
                self.flags
            }

            fn value(&self) -> Result<MetricValue, RejectReason> {
                let read: fn(&$type) -> Result<MetricValue, RejectReason> = $value;
                read(self)
            }
        }
    };
}

point!(NumberDataPoint, |point| {
    point.value.map(wire::number).filter(|number| !number.is_nan()).map(MetricValue::Number).ok_or(RejectReason::Value)
});

point!(HistogramDataPoint, |point| {
    let mut bounds: Vec<f64> = point.explicit_bounds.clone();
    let mut counts = point.bucket_counts.clone();
    if bounds.len() > MAX_BUCKETS {
        return Err(RejectReason::Buckets);
    }
    if counts.is_empty() && bounds.is_empty() {
        counts.push(point.count);
    }
    // A last bound of infinity repeats the implicit last bucket.
    if bounds.last() == Some(&f64::INFINITY) && counts.len() == bounds.len() + 1 {
        bounds.pop();
        let last = counts.pop().unwrap_or(0);
        if let Some(count) = counts.last_mut() {
            *count = count.saturating_add(last);
        }
    }
    let rising = bounds.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    if counts.len() != bounds.len() + 1 || !rising || bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(RejectReason::Buckets);
    }
    let buckets = Buckets { bounds: Arc::from(bounds), counts: counts.into_boxed_slice(), sum: sum(point.sum)? };
    Ok(MetricValue::Histogram(Box::new(buckets)))
});

point!(ExponentialHistogramDataPoint, |point| {
    let row = |sent: &Option<SentBuckets>| {
        sent.as_ref()
            .map_or_else(ExponentialBuckets::default, |sent| ExponentialBuckets::new(sent.offset, &sent.bucket_counts))
    };
    let (positive, negative) = (row(&point.positive), row(&point.negative));
    let threshold = if point.zero_threshold.is_finite() { point.zero_threshold } else { 0.0 };
    let (scale, zero, sum) = (point.scale, point.zero_count, sum(point.sum)?);
    let read = ExponentialHistogram { scale, zero, threshold, positive, negative, sum };
    read.reduced().map(|read| MetricValue::Exponential(Box::new(read))).ok_or(RejectReason::Buckets)
});

point!(SummaryDataPoint, |point| {
    if point.quantile_values.len() > MAX_BUCKETS {
        return Err(RejectReason::Buckets);
    }
    let mut values: Vec<(f64, f64)> = point.quantile_values.iter().map(|it| (it.quantile, it.value)).collect();
    values.retain(|(quantile, value)| (0.0..=1.0).contains(quantile) && !value.is_nan());
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    values.dedup_by_key(|(quantile, _)| *quantile);
    let summary = Quantiles { values: values.into_boxed_slice(), count: point.count, sum: sum(Some(point.sum))? };
    Ok(MetricValue::Summary(Box::new(summary)))
});

/// A sum; an absent one is 0.
fn sum(sent: Option<f64>) -> Result<f64, RejectReason> {
    let sum = sent.unwrap_or(0.0);
    if sum.is_finite() { Ok(sum) } else { Err(RejectReason::Value) }
}
