//! Data points: what one adds to what was measured before, and what that means.

use std::hash::BuildHasher as _;

use super::attributes::{is_amount, outcome, text};
use super::item::{Item, count, put, tell};
use super::table::{COLUMNS, Points};
use super::{Origin, Profiles, Touched, nanos};
use crate::model::StreamCount;
use crate::sources::otlp::wire::{KeyValue, Metric, Temporality};

impl Profiles {
    /// Takes in the points of a metric.
    pub(super) fn metric(&mut self, origin: &Origin<'_>, metric: &Metric, touched: &mut Touched) {
        let Some(row) = origin.profile.metrics.iter().find(|row| row.name == metric.name) else { return };
        let counts = matches!(row.meaning, Points::Requests(_));
        if let Some(sum) = &metric.sum
            && let Some(temporality) = Temporality::of(sum.aggregation_temporality)
        {
            for point in &sum.data_points {
                let value = point.as_double.or(point.as_int.map(|it| it as f64)).unwrap_or_default();
                let times = (point.start_time_unix_nano, point.time_unix_nano);
                self.point(origin, (&row.meaning, row.name), &point.attributes, temporality, times, value, touched);
            }
        }
        if let Some(histogram) = &metric.histogram
            && let Some(temporality) = Temporality::of(histogram.aggregation_temporality)
        {
            for point in &histogram.data_points {
                let value = if counts { point.count as f64 } else { point.sum.unwrap_or_default() };
                let times = (point.start_time_unix_nano, point.time_unix_nano);
                self.point(origin, (&row.meaning, row.name), &point.attributes, temporality, times, value, touched);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what the two kinds of points have in common")]
    fn point(
        &mut self,
        origin: &Origin<'_>,
        (meaning, name): (&Points, &str),
        attributes: &[KeyValue],
        temporality: Temporality,
        (start, time): (u64, u64),
        value: f64,
        touched: &mut Touched,
    ) {
        if !is_amount(value) {
            return;
        }
        let stream = self.digest(origin, name, attributes);
        let step = match temporality {
            Temporality::Delta if self.memory.is_new(self.hash.hash_one((stream, start, time))) => value,
            Temporality::Delta => return,
            Temporality::Cumulative => {
                let time = if time == 0 { nanos(self.now) } else { time };
                self.memory.grown(stream, StreamCount { start, time, value })
            }
        };
        let mut amounts = [0.0; COLUMNS];
        let is_request = match meaning {
            Points::Number(adds) => {
                put(&mut amounts, adds, step);
                false
            }
            Points::By(key, kinds) => {
                let kind = text(attributes, key).unwrap_or_default();
                if let Some((_, adds)) = kinds.iter().find(|(word, _)| *word == kind) {
                    put(&mut amounts, adds, step);
                }
                false
            }
            Points::Requests(repeats) => {
                if !repeats.is_some_and(|key| text(attributes, key).is_some()) {
                    let (failed, limited) = outcome(attributes);
                    count(&mut amounts, step, failed, limited);
                }
                true
            }
        };
        let item = Item { attributes, at: self.at(time), took: None, words: &[], failed: false };
        let told = self.add(origin, &item, is_request, &amounts, Some(touched));
        if let (Some(said), true) = (told, is_request && step > 0.0) {
            let (failed, limited) = outcome(attributes);
            tell(said, origin.profile, &item, failed, limited);
        }
    }
}
