//! All streams and the series that they accumulate: points in, what the page shows out. Pure; `now` is an argument.
//!
//! A stream is what its sender tells apart: producer, library, metric and all attributes. A series is what the page
//! tells apart. Several streams may accumulate one series, whose value is then what they have counted together. Refuses what
//! would pass the caps, and what would make a series count a thing twice.

mod accumulate;
mod family;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::config::{DropPatterns, OtlpConfig};
use super::identity::{LabelRules, LabelSource, StreamHasher};
use super::outcome::ExportOutcome;
use super::point::{OtlpPoint, point_time};
use super::wire::{self, Data, ExportMetricsServiceRequest, InstrumentationScope, Metric, Resource, Temporality};
use crate::model::telemetry::{MetricValue, Telemetry};
use crate::model::{RejectReason, Time};
use accumulate::{OtlpMetricType, StreamEntry, StreamState, accumulate};
use family::{FamilyTable, series_count};

/// Gauges that nobody has sent for so long are not shown: two of the longest usual export intervals.
const GAUGE_STALE_AFTER: Duration = Duration::from_secs(10 * 60);

/// Streams by identity, whose hash is the identity itself.
type Streams = HashMap<u64, StreamEntry, BuildHasherDefault<IdentityHasher>>;

/// All streams and series.
#[derive(Debug)]
pub struct StreamTable {
    hash: StreamHasher,
    rules: LabelRules,
    config: OtlpConfig,
    streams: Streams,
    /// Numbers series_used for streams, as far as they count towards the cap.
    series_used: usize,
    families: FamilyTable,
    generation: u64,
}

/// What the metrics of one producer and library have in common.
struct ScopeContext<'a> {
    resource: &'a Resource,
    scope: &'a InstrumentationScope,
    identity: u64,
    /// The same of the one process that exports.
    instance: u64,
    /// Made when the first stream of it is new.
    labels: OnceCell<Vec<LabelSource>>,
}

/// What the points of one metric have in common.
struct MetricContext<'a> {
    scope: &'a ScopeContext<'a>,
    metric: &'a Metric,
    metric_type: OtlpMetricType,
    temporality: Temporality,
    identity: u64,
}

impl StreamTable {
    /// An empty table; `key` is random, so that nobody can choose identities.
    pub fn new(key: u64, config: &OtlpConfig) -> Self {
        Self {
            hash: StreamHasher::new(key),
            rules: rules(config),
            config: config.clone(),
            streams: Streams::default(),
            series_used: 0,
            families: FamilyTable::default(),
            generation: 0,
        }
    }

    /// Takes over other settings. With other labels, everything begins anew: what must not be shown is gone at once.
    pub fn configure(&mut self, config: &OtlpConfig) {
        let labels = |config: &OtlpConfig| (config.drop_attributes.clone(), config.max_labels, config.max_label_length);
        if labels(&self.config) != labels(config) {
            self.rules = rules(config);
            (self.streams, self.series_used, self.families) = Default::default();
            self.generation += 1;
        }
        self.config = config.clone();
    }

    /// Takes in an export.
    pub fn apply(&mut self, now: Time, request: &ExportMetricsServiceRequest) -> ExportOutcome {
        let mut outcome = ExportOutcome::default();
        let (no_resource, no_scope) = (Resource::default(), InstrumentationScope::default());
        for producer in &request.resource_metrics {
            let resource = producer.resource.as_ref().unwrap_or(&no_resource);
            let identity = self.hash.attributes(&resource.attributes);
            let instance = self.hash.instance(&resource.attributes).unwrap_or(identity);
            self.target(now, resource, identity);
            for library in &producer.scope_metrics {
                let scope = library.scope.as_ref().unwrap_or(&no_scope);
                let attributes = self.hash.attributes(&scope.attributes);
                let within = |producer| self.hash.of(&[&scope.name, &scope.version], &[producer, attributes]);
                let (identity, instance) = (within(identity), within(instance));
                let scope = ScopeContext { resource, scope, identity, instance, labels: OnceCell::new() };
                for metric in &library.metrics {
                    self.metric(now, &scope, metric, &mut outcome);
                }
            }
        }
        self.generation += 1;
        outcome
    }

    fn metric(&mut self, now: Time, scope: &ScopeContext<'_>, metric: &Metric, outcome: &mut ExportOutcome) {
        let (metric_type, temporality) = match &metric.data {
            None => return,
            Some(Data::Gauge(_)) => (OtlpMetricType::Gauge, Some(Temporality::Cumulative)),
            Some(Data::Sum(sum)) => {
                let metric_type = if sum.is_monotonic { OtlpMetricType::Counter } else { OtlpMetricType::UpDown };
                (metric_type, Temporality::of(sum.aggregation_temporality))
            }
            Some(Data::Histogram(it)) => (OtlpMetricType::Histogram, Temporality::of(it.aggregation_temporality)),
            Some(Data::ExponentialHistogram(it)) => {
                (OtlpMetricType::Exponential, Temporality::of(it.aggregation_temporality))
            }
            Some(Data::Summary(_)) => (OtlpMetricType::Summary, Some(Temporality::Cumulative)),
        };
        let Some(temporality) = temporality else {
            return outcome.reject(RejectReason::Temporality, wire::point_count(metric));
        };
        // What a process has counted stays counted when another takes its place; what it held is held no more.
        let producer = if metric_type == OtlpMetricType::UpDown { scope.instance } else { scope.identity };
        let numbers = [producer, metric_type as u64, temporality as u64];
        let identity = self.hash.of(&[&metric.name, &metric.unit], &numbers);
        let context = MetricContext { scope, metric, metric_type, temporality, identity };
        match &metric.data {
            None => {}
            Some(Data::Gauge(gauge)) => self.points(now, &context, &gauge.data_points, outcome),
            Some(Data::Sum(sum)) => self.points(now, &context, &sum.data_points, outcome),
            Some(Data::Histogram(histogram)) => self.points(now, &context, &histogram.data_points, outcome),
            Some(Data::ExponentialHistogram(histogram)) => self.points(now, &context, &histogram.data_points, outcome),
            Some(Data::Summary(summary)) => self.points(now, &context, &summary.data_points, outcome),
        }
    }

    fn points<P: OtlpPoint>(
        &mut self,
        now: Time,
        context: &MetricContext<'_>,
        points: &[P],
        outcome: &mut ExportOutcome,
    ) {
        for point in points {
            outcome.add(self.point(now, context, point));
        }
    }

    fn point<P: OtlpPoint>(&mut self, now: Time, context: &MetricContext<'_>, point: &P) -> Result<(), RejectReason> {
        let identity = context.identity.wrapping_add(self.hash.attributes(point.attributes()));
        if point.flags() & 1 != 0 {
            self.mark_stale(identity);
            return Ok(());
        }
        let (start, time) = point.times();
        let time = point_time(now, time)?;
        let value = point.value()?;
        if let MetricValue::Number(number) = value
            && context.metric_type == OtlpMetricType::Counter
            && !(number >= 0.0 && number.is_finite())
        {
            return Err(RejectReason::Value);
        }
        let (family, slot) = match self.streams.get(&identity) {
            Some(stream) => (stream.family, stream.slot),
            None => self.create_stream(now, context, point, identity, &value)?,
        };
        let (Some(stream), Some(series)) = (self.streams.get_mut(&identity), self.families.series_mut(family, slot))
        else {
            return Err(RejectReason::Conflict);
        };
        accumulate(now, series, stream, context.metric_type, (start, time), value)?;
        (series.seen, stream.seen) = (now, now);
        Ok(())
    }

    /// Finds or makes the series of a stream that is new, within the caps.
    #[cold]
    fn create_stream<P: OtlpPoint>(
        &mut self,
        now: Time,
        context: &MetricContext<'_>,
        point: &P,
        identity: u64,
        value: &MetricValue,
    ) -> Result<(u32, u32), RejectReason> {
        let series_count = series_count(value);
        if self.series_used + series_count > self.config.max_series {
            return Err(RejectReason::SeriesCap);
        }
        let scope = context.scope;
        let common = scope.labels.get_or_init(|| self.rules.scope_labels(scope.resource, scope.scope));
        let labels = self.rules.series(common, point.attributes()).map_err(|_| RejectReason::Labels)?;
        let place = self.families.place(now, context.metric, context.metric_type, labels, value, &self.config)?;
        let (family, slot) = place;
        self.series_used += series_count;
        let counted = StreamState::new(context.metric_type, context.temporality);
        let stream = StreamEntry { family, slot, counted, seen: now, series_count: series_count as u32 };
        self.streams.insert(identity, stream);
        Ok(place)
    }

    /// Notes who sends; what is over the caps is merely not shown.
    fn target(&mut self, now: Time, resource: &Resource, identity: u64) {
        let identity = self.hash.of(&["target_info"], &[identity]);
        if let Some(stream) = self.streams.get_mut(&identity) {
            stream.seen = now;
            if let Some(series) = self.families.series_mut(stream.family, stream.slot) {
                series.seen = now;
            }
            return;
        }
        let Ok(Some(labels)) = self.rules.target(resource) else { return };
        if self.series_used < self.config.max_series
            && let Ok((family, slot)) = self.families.target(now, labels, &self.config)
        {
            self.series_used += 1;
            let counted = StreamState::new(OtlpMetricType::Gauge, Temporality::Cumulative);
            let stream = StreamEntry { family, slot, counted, seen: now, series_count: 1 };
            self.streams.insert(identity, stream);
        }
    }

    /// The producer says that the stream is over: a gauge is no longer shown, what was counted stays counted.
    fn mark_stale(&mut self, identity: u64) {
        if let Some(stream) = self.streams.get(&identity)
            && let Some(series) = self.families.series_mut(stream.family, stream.slot)
        {
            series.seen = Time::default();
        }
    }

    /// Forgets streams that were not heard of for as long as is configured, and series that nobody feeds any more.
    pub fn expire(&mut self, now: Time) {
        let before = now.minus(self.config.forget_after);
        let (families, series_used) = (&mut self.families, &mut self.series_used);
        let known = self.streams.len();
        self.streams.retain(|_, stream| {
            if stream.seen >= before {
                return true;
            }
            *series_used = series_used.saturating_sub(stream.series_count as usize);
            families.release(stream.family, stream.slot, &stream.counted);
            false
        });
        if self.streams.len() < known {
            self.generation += 1;
        }
    }

    /// How many streams are known.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// What the page shows of it.
    pub fn snapshot(&mut self, now: Time) -> Arc<Telemetry> {
        Arc::new(Telemetry {
            generation: self.generation,
            families: self.families.publish(),
            gauges_since: now.minus(GAUGE_STALE_AFTER),
        })
    }
}

fn rules(config: &OtlpConfig) -> LabelRules {
    LabelRules {
        dropped: DropPatterns::new(&config.drop_attributes),
        max_labels: config.max_labels,
        max_length: config.max_label_length,
    }
}

/// A hash that is its input: identities are mixed already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
