//! Data points: what one adds to what was measured before, and what that means.

use super::attributes::{is_amount, outcome, text};
use super::item::{Item, count, put, tell};
use super::table::{COLUMNS, Column, MetricRow, Points};
use super::{Origin, Profiles, Touched};
use crate::otlp::measured_at;
use crate::otlp::wire::{Data, KeyValue, Metric, Temporality, number};

/// What the points of all kinds have in common.
struct Sent<'a> {
    attributes: &'a [KeyValue],
    temporality: Temporality,
    /// When its counting began and when it was measured, in nanoseconds.
    times: (u64, u64),
    /// Bit 0: there is no value any more.
    flags: u32,
    value: f64,
}

macro_rules! sent {
    ($point:expr, $temporality:expr, $value:expr) => {
        Sent {
            attributes: &$point.attributes,
            temporality: $temporality,
            times: ($point.start_time_unix_nano, $point.time_unix_nano),
            flags: $point.flags,
            value: $value,
        }
    };
}

impl Profiles {
    /// Takes in the points of a metric.
    pub(super) fn metric(&mut self, origin: &Origin<'_>, metric: &Metric, touched: &mut Touched) {
        let Some(row) = origin.profile.metrics.iter().find(|row| row.name == metric.name) else { return };
        // A histogram has the number of requests as its count, and tokens as its sum.
        let of = |count: u64, sum: f64| if matches!(row.meaning, Points::Requests(_)) { count as f64 } else { sum };
        match &metric.data {
            Some(Data::Sum(sum)) => {
                let Some(temporality) = Temporality::of(sum.aggregation_temporality) else { return };
                for point in &sum.data_points {
                    let value = point.value.map(number).unwrap_or_default();
                    self.point(origin, row, &sent!(point, temporality, value), touched);
                }
            }
            Some(Data::Histogram(histogram)) => {
                let Some(temporality) = Temporality::of(histogram.aggregation_temporality) else { return };
                for point in &histogram.data_points {
                    let value = of(point.count, point.sum.unwrap_or_default());
                    self.point(origin, row, &sent!(point, temporality, value), touched);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let Some(temporality) = Temporality::of(histogram.aggregation_temporality) else { return };
                for point in &histogram.data_points {
                    let value = of(point.count, point.sum.unwrap_or_default());
                    self.point(origin, row, &sent!(point, temporality, value), touched);
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    let value = of(point.count, point.sum);
                    self.point(origin, row, &sent!(point, Temporality::Cumulative, value), touched);
                }
            }
            Some(Data::Gauge(_)) | None => {}
        }
    }

    fn point(&mut self, origin: &Origin<'_>, row: &MetricRow, sent: &Sent<'_>, touched: &mut Touched) {
        let attributes = sent.attributes;
        if sent.flags & 1 != 0 || !is_amount(sent.value) || !row.concerns(attributes) {
            return;
        }
        let (start, time) = sent.times;
        let Ok(time) = measured_at(self.now, time) else { return };
        let stream = self.digest(origin, row.name, attributes);
        let step = self.memory.step(stream, sent.temporality, (start, time), sent.value);
        let mut amounts = [0.0; COLUMNS];
        let is_request = match &row.meaning {
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
            Points::Streams => {
                if outcome(attributes).0 {
                    put(&mut amounts, &[Column::Errors], step);
                }
                true
            }
        };
        let item = Item { attributes, at: self.at(time), took: None, words: &[], failed: false, tries: 0 };
        let told = self.add(origin, row.set, &item, is_request, &amounts, Some(touched));
        let is_answer = matches!(row.meaning, Points::Requests(_));
        if let (Some(said), true) = (told, is_answer && step > 0.0) {
            let (failed, limited) = outcome(attributes);
            tell(said, origin.profile, &item, failed, limited);
        }
    }
}
