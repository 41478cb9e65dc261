//! Exponential histograms: added at the coarser scale of two, and exposed as classic buckets.
//!
//! Bucket `i` reaches from base^i (exclusive) to base^(i+1) (inclusive), where base is 2^(2^-scale). Reducing the scale by
//! one merges pairs of buckets, so every bound of the result was a bound before: a series loses bounds, and none moves.

/// The scale at which counting begins: four buckets per power of two.
const INITIAL_SCALE: i32 = 2;
/// The maximum number of buckets on either side of zero; beyond it the scale is reduced.
const MAX_BUCKETS: i64 = 40;
/// The smallest scale of OTLP: two buckets cover all numbers.
const MIN_SCALE: i32 = -11;
/// The largest scale of OTLP.
const MAX_SCALE: i32 = 20;

/// A histogram with exponential buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialHistogram {
    /// The scale of the buckets' bounds.
    pub scale: i32,
    /// Observations that count as zero.
    pub zero: u64,
    /// Observations up to this absolute value count as zero.
    pub threshold: f64,
    /// The buckets above zero.
    pub positive: ExponentialBuckets,
    /// The buckets below zero.
    pub negative: ExponentialBuckets,
    /// The sum of the observations.
    pub sum: f64,
}

/// Consecutive buckets on one side of zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialBuckets {
    /// The index of the first bucket.
    offset: i64,
    counts: Vec<u64>,
}

impl ExponentialBuckets {
    /// Buckets starting at the index `offset`, without empty ones at both ends.
    pub fn new(offset: i32, counts: &[u64]) -> Self {
        let (Some(first), Some(last)) =
            (counts.iter().position(|count| *count > 0), counts.iter().rposition(|count| *count > 0))
        else {
            return Self::default();
        };
        let offset = i64::from(offset) + first as i64;
        Self { offset, counts: counts.get(first..=last).unwrap_or_default().to_vec() }
    }

    /// One past the index of the last bucket.
    fn end(&self) -> i64 {
        self.offset + self.counts.len() as i64
    }

    fn coarsen(&mut self, by: u32) {
        if by == 0 || self.counts.is_empty() {
            return;
        }
        let offset = self.offset >> by;
        let mut counts = vec![0_u64; usize::try_from(((self.end() - 1) >> by) - offset + 1).unwrap_or(1)];
        for (index, count) in (self.offset..).zip(&self.counts) {
            if let Some(place) = usize::try_from((index >> by) - offset).ok().and_then(|place| counts.get_mut(place)) {
                *place = place.saturating_add(*count);
            }
        }
        *self = Self { offset, counts };
    }

    /// By how much the scale must be reduced for this and `other` to fit together.
    fn excess(&self, other: &Self) -> u32 {
        let rows = [self, other].into_iter().filter(|row| !row.counts.is_empty());
        let (first, last) =
            rows.fold((i64::MAX, i64::MIN), |(first, last), row| (first.min(row.offset), last.max(row.end() - 1)));
        (0..63).find(|by| last < first || (last >> by) - (first >> by) < MAX_BUCKETS).unwrap_or(63)
    }

    fn add(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        let (offset, end) = (self.offset.min(other.offset), self.end().max(other.end()));
        let mut counts = vec![0_u64; usize::try_from(end - offset).unwrap_or(0)];
        for row in [&*self, other] {
            let skipped = usize::try_from(row.offset - offset).unwrap_or(0);
            for (place, count) in counts.iter_mut().skip(skipped).zip(&row.counts) {
                *place = place.saturating_add(*count);
            }
        }
        *self = Self { offset, counts };
    }

    /// The increase since `earlier`; `None` if any bucket decreased.
    fn since(&self, earlier: &Self) -> Option<Self> {
        let at = |row: &Self, index: i64| {
            usize::try_from(index - row.offset).ok().and_then(|place| row.counts.get(place)).copied().unwrap_or(0)
        };
        if (earlier.offset..).zip(&earlier.counts).any(|(index, count)| at(self, index) < *count) {
            return None;
        }
        let counts = (self.offset..).zip(&self.counts).map(|(index, count)| count - at(earlier, index)).collect();
        Some(Self { offset: self.offset, counts })
    }
}

impl ExponentialHistogram {
    /// A histogram as received, reduced to a scale that is kept; `None` for an invalid scale.
    pub fn reduced(mut self) -> Option<Self> {
        if !(MIN_SCALE..=MAX_SCALE).contains(&self.scale) {
            return None;
        }
        self.threshold = self.threshold.max(0.0);
        self.coarsen(u32::try_from(self.scale - INITIAL_SCALE).unwrap_or(0));
        let empty = ExponentialBuckets::default();
        self.coarsen(self.positive.excess(&empty).max(self.negative.excess(&empty)));
        Some(self)
    }

    /// A histogram without observations, at the largest scale that is kept.
    pub fn empty() -> Self {
        Self { scale: INITIAL_SCALE, ..Self::default() }
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        let counts = self.positive.counts.iter().chain(&self.negative.counts);
        counts.fold(self.zero, |total, count| total.saturating_add(*count))
    }

    /// Whether there are observations below zero.
    pub fn has_negative(&self) -> bool {
        !self.negative.counts.is_empty()
    }

    /// The sum of the observations.
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    fn coarsen(&mut self, by: u32) {
        self.scale -= i32::try_from(by).unwrap_or(0);
        self.positive.coarsen(by);
        self.negative.coarsen(by);
    }

    /// Both at the smaller of their scales.
    fn matched(mut self, mut other: Self) -> (Self, Self) {
        let difference = self.scale - other.scale;
        self.coarsen(u32::try_from(difference).unwrap_or(0));
        other.coarsen(u32::try_from(-difference).unwrap_or(0));
        (self, other)
    }

    /// Adds `more`, at the largest scale at which both fit.
    pub fn add(&mut self, more: &Self) {
        let (mut into, mut more) = std::mem::replace(self, Self::empty()).matched(more.clone());
        let by = into.positive.excess(&more.positive).max(into.negative.excess(&more.negative));
        into.coarsen(by);
        more.coarsen(by);
        into.positive.add(&more.positive);
        into.negative.add(&more.negative);
        into.zero = into.zero.saturating_add(more.zero);
        into.threshold = into.threshold.max(more.threshold);
        into.sum += more.sum;
        *self = into;
    }

    /// The increase since `earlier`; `None` if any count decreased, which is a counter reset.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let (now, earlier) = self.clone().matched(earlier.clone());
        Some(Self {
            scale: now.scale,
            zero: now.zero.checked_sub(earlier.zero)?,
            threshold: now.threshold,
            positive: now.positive.since(&earlier.positive)?,
            negative: now.negative.since(&earlier.negative)?,
            sum: now.sum - earlier.sum,
        })
    }

    /// The cumulative buckets: ascending upper bounds with the number of observations at or below each; the last bound is
    /// infinite.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let bound = |index: i64| (index as f64 * f64::exp2(-f64::from(self.scale))).exp2();
        // On the negative side, the last bucket holds the lowest values.
        let below = self.negative.counts.iter().enumerate().rev();
        let below = below.map(|(place, count)| (-bound(self.negative.offset + place as i64), *count));
        let above = (self.positive.offset..).zip(&self.positive.counts);
        let above = above.map(|(index, count)| (bound(index + 1), *count));
        let zero = [(self.threshold, self.zero)];
        let mut out: Vec<(f64, u64)> = Vec::with_capacity(self.negative.counts.len() + self.positive.counts.len() + 2);
        let mut total = 0_u64;
        for (bound, count) in below.chain(zero).chain(above).chain([(f64::INFINITY, 0)]) {
            total = total.saturating_add(count);
            match out.last_mut() {
                // Bounds that are equal as f64, or infinite, are merged.
                Some(last) if bound <= last.0 => last.1 = total,
                _ => out.push((bound, total)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(scale: i32, zero: u64, positive: (i32, &[u64]), negative: (i32, &[u64]), sum: f64) -> ExponentialHistogram {
        let rows = [positive, negative].map(|(offset, counts)| ExponentialBuckets::new(offset, counts));
        let [positive, negative] = rows;
        ExponentialHistogram { scale, zero, threshold: 0.0, positive, negative, sum }.reduced().expect("a scale")
    }

    #[test]
    fn bounds_are_powers_of_the_base() {
        let histogram = of(0, 1, (0, &[2, 0, 3]), (1, &[4]), 5.0);
        // Below zero the bucket from 2 to 4 ends at -2; above it they end at 2, 4 and 8.
        let expected = [(-2.0, 4), (0.0, 5), (2.0, 7), (4.0, 7), (8.0, 10), (f64::INFINITY, 10)];
        assert_eq!(histogram.cumulative(), expected);
        assert_eq!(histogram.count(), 10);
    }

    #[test]
    fn coarser_buckets_reuse_existing_bounds() {
        let mut histogram = of(2, 0, (0, &[1; 40]), (0, &[]), 0.0);
        let fine: Vec<f64> = histogram.cumulative().iter().map(|(bound, _)| *bound).collect();
        histogram.add(&of(2, 0, (79, &[1]), (0, &[]), 0.0));
        let coarse = histogram.cumulative();
        assert_eq!(coarse.len(), 42, "eighty buckets in forty, with zero and infinity");
        for (bound, count) in coarse.iter().take_while(|(bound, _)| *bound < 1000.0) {
            assert!(fine.contains(bound), "{bound}");
            let within = fine.iter().filter(|fine| *fine <= bound && **fine > 0.0).count() as u64;
            assert_eq!(*count, within, "{bound}");
        }
        assert_eq!(coarse.last(), Some(&(f64::INFINITY, 41)));
    }

    #[test]
    fn an_invalid_scale_is_rejected() {
        for scale in [i32::MIN, -12, 21, i32::MAX] {
            assert_eq!(ExponentialHistogram { scale, ..ExponentialHistogram::default() }.reduced(), None);
        }
    }

    fn any_row() -> impl Strategy<Value = ExponentialBuckets> {
        (any::<i32>(), prop::collection::vec(0..5_u64, 0..50))
            .prop_map(|(offset, counts)| ExponentialBuckets::new(offset, &counts))
    }

    fn any_histogram() -> impl Strategy<Value = ExponentialHistogram> {
        (-11..=20_i32, 0..9_u64, any_row(), any_row(), -1e6..1e6_f64).prop_map(
            |(scale, zero, positive, negative, sum)| {
                ExponentialHistogram { scale, zero, threshold: 0.0, positive, negative, sum }
                    .reduced()
                    .expect("a scale")
            },
        )
    }

    proptest! {
        #[test]
        fn no_observation_is_lost_and_buckets_stay_bounded(histograms in prop::collection::vec(any_histogram(), 1..6)) {
            let mut total = ExponentialHistogram::empty();
            for histogram in &histograms {
                let before = total.clone();
                total.add(histogram);
                let since = total.since(&before).expect("it grew");
                prop_assert_eq!(since.count(), histogram.count());
            }
            prop_assert_eq!(total.count(), histograms.iter().map(ExponentialHistogram::count).sum::<u64>());
            prop_assert!(total.positive.counts.len() as i64 <= MAX_BUCKETS && total.negative.counts.len() as i64 <= MAX_BUCKETS);
            let buckets = total.cumulative();
            prop_assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            prop_assert_eq!(buckets.last(), Some(&(f64::INFINITY, total.count())));
        }
    }
}
