//! The streams of data points and the series that they feed. Pure; `now` is an argument.
//!
//! A stream is identified by resource, scope, metric and all attributes; a series by the labels on `/metrics`, which leave
//! out dropped attributes. Several streams may feed one series, whose value is then their sum. Points beyond the caps, and
//! points that have been counted, are rejected.

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

/// Gauges without a point for so long are not exposed: two of the longest usual export intervals.
const GAUGE_STALE_AFTER: Duration = Duration::from_secs(10 * 60);

/// Streams by identity, which is a hash already.
type Streams = HashMap<u64, StreamEntry, BuildHasherDefault<IdentityHasher>>;

/// All streams and series.
#[derive(Debug)]
pub struct StreamTable {
    hash: StreamHasher,
    rules: LabelRules,
    config: OtlpConfig,
    streams: Streams,
    /// How many series the streams count as towards `otlp.max_series`.
    series_used: usize,
    families: FamilyTable,
    generation: u64,
}

/// What the metrics of one resource and scope have in common.
struct ScopeContext<'a> {
    resource: &'a Resource,
    scope: &'a InstrumentationScope,
    /// The hash of all attributes of resource and scope.
    identity: u64,
    /// The hash of the service instance and the scope.
    instance: u64,
    /// The labels of its series, made for the first new stream.
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
    /// An empty table. `key` must be random, so that no sender can construct identities that collide.
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

    /// Applies other settings. When they change labels, all series are removed: an attribute that is dropped now must
    /// disappear at once.
    pub fn configure(&mut self, config: &OtlpConfig) {
        let labels = |config: &OtlpConfig| (config.drop_attributes.clone(), config.max_labels, config.max_label_length);
        if labels(&self.config) != labels(config) {
            self.rules = rules(config);
            (self.streams, self.series_used, self.families) = Default::default();
            self.generation += 1;
        }
        self.config = config.clone();
    }

    /// Applies an export.
    pub fn apply(&mut self, now: Time, request: &ExportMetricsServiceRequest) -> ExportOutcome {
        let mut outcome = ExportOutcome::default();
        let (no_resource, no_scope) = (Resource::default(), InstrumentationScope::default());
        for resource_metrics in &request.resource_metrics {
            let resource = resource_metrics.resource.as_ref().unwrap_or(&no_resource);
            let identity = self.hash.attributes(&resource.attributes);
            let instance = self.hash.instance(&resource.attributes).unwrap_or(identity);
            self.target(now, resource, identity);
            for scope_metrics in &resource_metrics.scope_metrics {
                let scope = scope_metrics.scope.as_ref().unwrap_or(&no_scope);
                let attributes = self.hash.attributes(&scope.attributes);
                let within = |resource| self.hash.of(&[&scope.name, &scope.version], &[resource, attributes]);
                let (identity, instance) = (within(identity), within(instance));
                let scope = ScopeContext { resource, scope, identity, instance, labels: OnceCell::new() };
                for metric in &scope_metrics.metrics {
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
        // What a process counted stays counted when another replaces it. The value of an UpDownCounter is that of the running
        // process only.
        let source = if metric_type == OtlpMetricType::UpDown { scope.instance } else { scope.identity };
        let numbers = [source, metric_type as u64, temporality as u64];
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

    /// Adds a stream, and its series unless it exists, within the caps.
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

    /// Adds the resource to `target_info`; beyond the caps it is left out.
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

    /// Handles a point without a recorded value, by which a sender ends a stream: a gauge is no longer exposed, and a
    /// counter keeps its value.
    fn mark_stale(&mut self, identity: u64) {
        if let Some(stream) = self.streams.get(&identity)
            && let Some(series) = self.families.series_mut(stream.family, stream.slot)
        {
            series.seen = Time::default();
        }
    }

    /// Removes streams without a point for `otlp.forget_after`, and series that no stream feeds any more.
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

    /// The number of streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The series as they are exposed.
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

/// Returns the identity as its own hash, since it is one.
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
