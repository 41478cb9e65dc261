//! Durations as counts in exponential buckets, so that percentiles of any range are a sum away.
//!
//! A bucket is 2^(1/8) wide, so a percentile is off by at most 4.5 %. Sketches of the same durations are the same whatever
//! order they came in, and adding two is exact.

use super::varint::{ByteReader, put, put_signed};

/// Buckets to each power of two.
const PER_OCTAVE: f64 = 8.0;
/// The place of the last bucket: 2^40 ms is 35 years.
const LAST: u16 = 8 * 40;

/// Counts by bucket: those that are not zero, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Vec<(u16, i64)>);

impl Sketch {
    /// Counts a duration of so many milliseconds.
    pub fn add(&mut self, ms: f64) {
        self.count(place(ms), 1);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.add_times(other, 1);
    }

    /// Adds the counts of another, `times` times; -1 subtracts them.
    pub fn add_times(&mut self, other: &Self, times: i64) {
        for (place, count) in &other.0 {
            self.count(*place, count.saturating_mul(times));
        }
    }

    fn count(&mut self, place: u16, count: i64) {
        match self.0.binary_search_by_key(&place, |(known, _)| *known) {
            Ok(at) => {
                self.0[at].1 = self.0[at].1.saturating_add(count);
                if self.0[at].1 == 0 {
                    self.0.remove(at);
                }
            }
            Err(_) if count == 0 => {}
            Err(at) => self.0.insert(at, (place, count)),
        }
    }

    /// Number of durations.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::try_from(*count).unwrap_or(0)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The duration in milliseconds that `share` of all are not longer than; `None` of none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = ((self.len() as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in &self.0 {
            seen += u64::try_from(*count).unwrap_or(0);
            if seen >= rank {
                return Some(middle(*place));
            }
        }
        None
    }

    /// As bytes: the distance to the place before and the count, both variable-length.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        let mut last = 0;
        for (place, count) in &self.0 {
            put(&mut out, u64::from(place - last));
            put_signed(&mut out, *count);
            last = *place;
        }
        out
    }

    /// What [`Sketch::encode`] wrote. Of damaged bytes it is what precedes the damage.
    pub fn decode(bytes: &[u8]) -> Self {
        let (mut sketch, mut last, mut reader) = (Self::default(), 0_u64, ByteReader { rest: bytes });
        while let (Some(distance), Some(count)) = (reader.number(), reader.signed()) {
            last = last.saturating_add(distance);
            let Some(place) = u16::try_from(last).ok().filter(|place| *place <= LAST) else { break };
            sketch.count(place, count);
        }
        sketch
    }
}

/// Bucket 0 holds what is under a millisecond.
fn place(ms: f64) -> u16 {
    if ms < 1.0 || ms.is_nan() {
        return 0;
    }
    let place = (ms.log2() * PER_OCTAVE).floor() + 1.0;
    if place >= f64::from(LAST) { LAST } else { place as u16 }
}

/// The geometric middle of a bucket.
fn middle(place: u16) -> f64 {
    if place == 0 { 0.5 } else { ((f64::from(place) - 0.5) / PER_OCTAVE).exp2() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_percentile_is_within_a_twentieth_of_the_true_one(
            mut ms in proptest::collection::vec(1.0..1e9f64, 1..300),
            share in 0.0..1.0f64,
        ) {
            let mut sketch = Sketch::default();
            ms.iter().for_each(|ms| sketch.add(*ms));
            ms.sort_by(f64::total_cmp);
            let rank = ((ms.len() as f64 * share).ceil() as usize).max(1);
            let (exact, found) = (ms[rank - 1], sketch.quantile(share).expect("durations"));
            prop_assert!((found / exact - 1.0).abs() < 0.05, "{found} for {exact}");
        }

        #[test]
        fn parts_add_up_to_the_whole_and_come_back_from_disk(
            first in proptest::collection::vec(0.0..1e13f64, 0..50),
            second in proptest::collection::vec(0.0..1e13f64, 0..50),
        ) {
            let sketch = |ms: &[f64]| {
                let mut sketch = Sketch::default();
                ms.iter().for_each(|ms| sketch.add(*ms));
                sketch
            };
            let mut sum = sketch(&first);
            sum.merge(&sketch(&second));
            let whole = sketch(&[first, second].concat());
            prop_assert_eq!(&sum, &whole);
            prop_assert_eq!(&Sketch::decode(&whole.encode()), &whole);
            sum.add_times(&whole, -1);
            prop_assert!(sum.is_empty());
        }

        #[test]
        fn damaged_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Sketch::decode(&bytes).quantile(0.5);
        }
    }

    #[test]
    fn what_is_no_duration_counts_as_none_at_all() {
        let mut sketch = Sketch::default();
        assert_eq!(sketch.quantile(0.5), None);
        for odd in [0.0, -1.0, f64::NAN, 0.3] {
            sketch.add(odd);
        }
        sketch.add(f64::INFINITY);
        assert_eq!((sketch.len(), sketch.quantile(0.5)), (5, Some(0.5)));
    }
}
