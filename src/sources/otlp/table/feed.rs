//! One stream: whether a point is its next, and what the point adds to the series that it feeds.

use super::super::taken::Reason;
use super::super::wire::Temporality;
use super::family::Meaning;
use crate::model::Time;
use crate::model::telemetry::{Buckets, Exponential, MetricSeries, MetricValue};

/// A series whose buckets nobody has used for so long may get other ones.
const BUCKETS_LAST: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// What is known of one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) family: u32,
    pub(super) slot: u32,
    /// When its counting began, in nanoseconds; 0 is unknown.
    pub(super) start: u64,
    /// When its last point was measured, in nanoseconds.
    pub(super) last: u64,
    /// When it was last heard of.
    pub(super) seen: Time,
    /// Its last cumulative value.
    pub(super) kept: Kept,
    /// What it counts towards the cap.
    pub(super) weight: u32,
}

/// A stream's last cumulative value; the next is counted from it.
#[derive(Debug)]
pub(super) enum Kept {
    /// Not needed, or there was none.
    Nothing,
    /// Of a sum.
    Number(f64),
    /// Of a histogram.
    Histogram(Box<Buckets>),
    /// Of an exponential histogram.
    Exponential(Box<Exponential>),
}

impl Stream {
    /// Whether a point of these times comes next.
    pub(super) fn check(&self, from: Temporality, meaning: Meaning, start: u64, time: u64) -> Result<(), Reason> {
        if time == self.last {
            return Err(Reason::Duplicate);
        }
        if time < self.last {
            return Err(Reason::Stale);
        }
        match from {
            // An interval that began before the last one ended is in part counted already.
            Temporality::Delta if start != 0 && start < self.last => Err(Reason::Duplicate),
            Temporality::Cumulative
                if meaning != Meaning::Gauge && start != 0 && self.start != 0 && start < self.start =>
            {
                Err(Reason::Stale)
            }
            _ => Ok(()),
        }
    }
}

/// Adds what `value` says to `series`. `start` tells a stream that began anew from one that goes on.
pub(super) fn feed(
    now: Time,
    series: &mut MetricSeries,
    stream: &mut Stream,
    meaning: Meaning,
    from: Temporality,
    value: MetricValue,
    start: u64,
) -> Result<(), Reason> {
    let cumulative = from == Temporality::Cumulative;
    let anew = start != 0 && stream.start != 0 && start > stream.start;
    match (&mut series.value, value) {
        (MetricValue::Number(shown), MetricValue::Number(value)) => match meaning {
            Meaning::Counter | Meaning::UpDown if cumulative => {
                let last = match stream.kept {
                    // A count that fell began anew as well; what goes up and down merely fell.
                    Kept::Number(last) if meaning == Meaning::UpDown || !anew && value >= last => last,
                    _ => 0.0,
                };
                // A series that shows one stream shows its very number.
                *shown = if *shown == last { value } else { *shown + (value - last) };
                stream.kept = Kept::Number(value);
            }
            Meaning::Counter | Meaning::UpDown => *shown += value,
            _ => *shown = value,
        },
        (MetricValue::Histogram(shown), MetricValue::Histogram(value)) => {
            if shown.bounds != value.bounds {
                if now.since(series.seen) < BUCKETS_LAST {
                    return Err(Reason::Buckets);
                }
                **shown = empty(&value);
            }
            let last = match &stream.kept {
                Kept::Histogram(last) if !anew && grew(last, &value) => Some(last),
                _ => None,
            };
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
            if cumulative {
                stream.kept = Kept::Histogram(value);
            }
        }
        (MetricValue::Exponential(shown), MetricValue::Exponential(value)) => {
            let since = match &stream.kept {
                Kept::Exponential(last) if !anew => value.since(last),
                _ => None,
            };
            shown.add(since.as_ref().unwrap_or(&value));
            if cumulative {
                stream.kept = Kept::Exponential(value);
            }
        }
        (shown @ MetricValue::Summary(_), value @ MetricValue::Summary(_)) => *shown = value,
        _ => return Err(Reason::Conflict),
    }
    Ok(())
}

fn grew(last: &Buckets, value: &Buckets) -> bool {
    last.bounds == value.bounds && last.counts.iter().zip(&value.counts).all(|(last, now)| last <= now)
}

/// Nothing observed, in the same buckets.
pub(super) fn empty(value: &Buckets) -> Buckets {
    let counts = vec![0; value.counts.len()].into_boxed_slice();
    Buckets { bounds: value.bounds.clone(), counts, sum: 0.0 }
}
