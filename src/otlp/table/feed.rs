//! One stream: whether a point of it counts, and what the point adds to the series that it feeds.

use super::super::naming::Shape;
use super::super::sequence::{Intervals, Runs, Total, known_start};
use super::super::wire::Temporality;
use crate::model::telemetry::{Buckets, MetricKind, MetricSeries, MetricValue};
use crate::model::{RejectReason, Time};

/// A series whose buckets nobody has used for so long may get other ones.
const BUCKETS_LAST: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// What the numbers of a family mean. Families of one name must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
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

impl Meaning {
    pub(super) const fn kind(self) -> MetricKind {
        match self {
            Self::Counter => MetricKind::Counter,
            Self::Gauge | Self::UpDown => MetricKind::Gauge,
            Self::Histogram | Self::Exponential => MetricKind::Histogram,
            Self::Summary => MetricKind::Summary,
        }
    }

    pub(super) const fn shape(self) -> Shape {
        match self {
            Self::Counter => Shape::Counter,
            Self::Gauge => Shape::Gauge,
            _ => Shape::Other,
        }
    }
}

/// What is known of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) family: u32,
    pub(super) slot: u32,
    /// What of it was counted.
    pub(super) counted: Counted,
    /// When it was last heard of.
    pub(super) seen: Time,
    /// What it counts towards the cap.
    pub(super) weight: u32,
}

/// What of a stream was counted; the next point is counted from it.
#[derive(Debug)]
pub(super) enum Counted {
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
    Deltas(Intervals),
    /// Of what grows from a start.
    Totals(Runs<MetricValue>),
}

impl Counted {
    /// Nothing yet.
    pub(super) fn nothing(meaning: Meaning, temporality: Temporality) -> Self {
        match (meaning, temporality) {
            (Meaning::Gauge | Meaning::Summary, _) | (Meaning::UpDown, Temporality::Cumulative) => {
                Self::Last { start: 0, time: 0, value: 0.0 }
            }
            (_, Temporality::Delta) => Self::Deltas(Intervals::default()),
            (_, Temporality::Cumulative) => Self::Totals(Runs::default()),
        }
    }
}

impl Total for MetricValue {
    fn covers(&self, earlier: &Self) -> bool {
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

    fn size(&self) -> f64 {
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
pub(super) fn feed(
    now: Time,
    series: &mut MetricSeries,
    stream: &mut Stream,
    meaning: Meaning,
    (start, time): (u64, u64),
    value: MetricValue,
) -> Result<(), RejectReason> {
    let others = other_buckets(&series.value, &value);
    if others && now.since(series.seen) < BUCKETS_LAST {
        return Err(RejectReason::Buckets);
    }
    match &mut stream.counted {
        Counted::Last { start: since, time: last, value: held } => {
            if time <= *last {
                return Err(if time == *last { RejectReason::Duplicate } else { RejectReason::Stale });
            }
            let start = known_start(start, time);
            if meaning == Meaning::UpDown && start != 0 && start < *since {
                return Err(RejectReason::Stale);
            }
            match (&mut series.value, value) {
                (MetricValue::Number(shown), MetricValue::Number(number)) if meaning == Meaning::UpDown => {
                    *shown = moved(*shown, *held, number);
                    *held = number;
                }
                (shown @ MetricValue::Number(_), value @ MetricValue::Number(_))
                | (shown @ MetricValue::Summary(_), value @ MetricValue::Summary(_)) => *shown = value,
                _ => return Err(RejectReason::Conflict),
            }
            (*since, *last) = (start.max(*since), time);
        }
        Counted::Deltas(intervals) => {
            intervals.take(start, time)?;
            add(&mut series.value, &value, None, others)?;
        }
        Counted::Totals(runs) => {
            let place = runs.judge(start, time, &value)?;
            add(&mut series.value, &value, runs.value(place), others)?;
            runs.note(place, start, time, value);
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
    begins_anew: bool,
) -> Result<(), RejectReason> {
    match (shown, value) {
        (MetricValue::Number(shown), MetricValue::Number(value)) => {
            let last = if let Some(MetricValue::Number(last)) = last { *last } else { 0.0 };
            *shown = moved(*shown, last, *value);
        }
        (MetricValue::Histogram(shown), MetricValue::Histogram(value)) => {
            if begins_anew {
                **shown = empty(value);
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
fn moved(shown: f64, last: f64, value: f64) -> f64 {
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
pub(super) fn empty(value: &Buckets) -> Buckets {
    let counts = vec![0; value.counts.len()].into_boxed_slice();
    Buckets { bounds: value.bounds.clone(), counts, sum: 0.0 }
}
