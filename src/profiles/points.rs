//! Data points of a tool's metrics: how much each adds to its stream, and what that counts as.

use super::attributes::{Attributes, is_amount, outcome, text};
use super::item::{TelemetryItem, add_to, count, record_outcome};
use super::profile::{COLUMNS, MetricRow, PointMeaning, UsageColumn};
use super::{ExportTotals, Profiles, ScopeIdentity};
use crate::otlp::point_time;
use crate::otlp::wire::{Data, Metric, Temporality, number};

/// The fields that data points of all types have.
struct PointFields<'a> {
    attributes: Attributes<'a>,
    temporality: Temporality,
    /// The start time and the time, in nanoseconds.
    times: (u64, u64),
    /// Bit 0: no recorded value.
    flags: u32,
    value: f64,
}

macro_rules! point_fields {
    ($point:expr, $temporality:expr, $value:expr) => {
        PointFields {
            attributes: Attributes::new(&$point.attributes),
            temporality: $temporality,
            times: ($point.start_time_unix_nano, $point.time_unix_nano),
            flags: $point.flags,
            value: $value,
        }
    };
}

impl Profiles {
    /// Counts the points of a metric.
    pub(super) fn metric(&mut self, scope: &ScopeIdentity<'_>, metric: &Metric, totals: &mut ExportTotals) {
        let Some(row) = scope.profile.metrics.iter().find(|row| row.name == metric.name) else { return };
        // The count of a histogram is a number of requests, its sum a number of tokens.
        let of =
            |count: u64, sum: f64| if matches!(row.meaning, PointMeaning::Requests(_)) { count as f64 } else { sum };
        match &metric.data {
            Some(Data::Sum(sum)) => {
                let Some(temporality) = Temporality::of(sum.aggregation_temporality) else { return };
                for point in &sum.data_points {
                    let value = point.value.map(number).unwrap_or_default();
                    self.point(scope, row, &point_fields!(point, temporality, value), totals);
                }
            }
            Some(Data::Histogram(histogram)) => {
                let Some(temporality) = Temporality::of(histogram.aggregation_temporality) else { return };
                for point in &histogram.data_points {
                    let value = of(point.count, point.sum.unwrap_or_default());
                    self.point(scope, row, &point_fields!(point, temporality, value), totals);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let Some(temporality) = Temporality::of(histogram.aggregation_temporality) else { return };
                for point in &histogram.data_points {
                    let value = of(point.count, point.sum.unwrap_or_default());
                    self.point(scope, row, &point_fields!(point, temporality, value), totals);
                }
            }
            Some(Data::Summary(summary)) => {
                for point in &summary.data_points {
                    let value = of(point.count, point.sum);
                    self.point(scope, row, &point_fields!(point, Temporality::Cumulative, value), totals);
                }
            }
            Some(Data::Gauge(_)) | None => {}
        }
    }

    fn point(
        &mut self,
        scope: &ScopeIdentity<'_>,
        row: &MetricRow,
        fields: &PointFields<'_>,
        totals: &mut ExportTotals,
    ) {
        let attributes = fields.attributes;
        if fields.flags & 1 != 0 || !is_amount(fields.value) || !row.accepts(attributes) {
            return;
        }
        let (start, time) = fields.times;
        let Ok(time) = point_time(self.now, time) else { return };
        let stream = self.digest(scope, row.name, attributes.list());
        let step = self.dedup.step(stream, fields.temporality, (start, time), fields.value);
        let mut amounts = [0.0; COLUMNS];
        let is_request = match &row.meaning {
            PointMeaning::Number(adds) => {
                add_to(&mut amounts, adds, step);
                false
            }
            PointMeaning::By(key, kinds) => {
                let kind = text(attributes, key).unwrap_or_default();
                if let Some((_, adds)) = kinds.iter().find(|(word, _)| *word == kind) {
                    add_to(&mut amounts, adds, step);
                }
                false
            }
            PointMeaning::Requests(repeats) => {
                if !repeats.is_some_and(|key| text(attributes, key).is_some()) {
                    let (failed, rate_limited) = outcome(attributes);
                    count(&mut amounts, step, failed, rate_limited);
                }
                true
            }
            PointMeaning::Streams => {
                if outcome(attributes).0 {
                    add_to(&mut amounts, &[UsageColumn::Errors], step);
                }
                true
            }
        };
        let item = TelemetryItem { attributes, at: self.at(time), took: None, errors: &[], failed: false, attempts: 0 };
        let telemetry = self.add(scope, row.set, &item, is_request, &amounts, Some(totals));
        let counts_requests = matches!(row.meaning, PointMeaning::Requests(_));
        if let (Some(telemetry), true) = (telemetry, counts_requests && step > 0.0) {
            let (failed, rate_limited) = outcome(attributes);
            record_outcome(telemetry, scope.profile, &item, failed, rate_limited);
        }
    }
}
