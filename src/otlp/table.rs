//! All streams and the series that they feed: points in, what the page shows out. Pure; `now` is an argument.
//!
//! A stream is what its sender tells apart: producer, library, metric and all attributes. A series is what the page
//! tells apart. Several streams may feed one series, whose value is then what they have counted together. Refuses what
//! would pass the caps, and what would make a series count a thing twice.

mod family;
mod feed;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::config::{Dropped, OtlpConfig};
use super::identity::{Hash, Label, LabelRules};
use super::outcome::ExportOutcome;
use super::point::{Point, measured_at};
use super::wire::{self, Data, ExportMetricsServiceRequest, InstrumentationScope, Metric, Resource, Temporality};
use crate::model::telemetry::{MetricValue, Telemetry};
use crate::model::{RejectReason, Time};
use family::{Families, weight};
use feed::{Counted, Meaning, Stream, feed};

/// Gauges that nobody has sent for so long are not shown: two of the longest usual export intervals.
const GAUGES_LAST: Duration = Duration::from_secs(10 * 60);

/// Streams by identity, whose hash is the identity itself.
type Streams = HashMap<u64, Stream, BuildHasherDefault<Itself>>;

/// All streams and series.
#[derive(Debug)]
pub struct StreamTable {
    hash: Hash,
    rules: LabelRules,
    config: OtlpConfig,
    streams: Streams,
    /// Numbers kept for streams, as far as they count towards the cap.
    kept: usize,
    families: Families,
    generation: u64,
}

/// What the metrics of one producer and library have in common.
struct Origin<'a> {
    resource: &'a Resource,
    scope: &'a InstrumentationScope,
    identity: u64,
    /// The same of the one process that exports.
    instance: u64,
    /// Made when the first stream of it is new.
    labels: OnceCell<Vec<Label>>,
}

/// What the points of one metric have in common.
struct Context<'a> {
    origin: &'a Origin<'a>,
    metric: &'a Metric,
    meaning: Meaning,
    temporality: Temporality,
    identity: u64,
}

impl StreamTable {
    /// An empty table; `key` is random, so that nobody can choose identities.
    pub fn new(key: u64, config: &OtlpConfig) -> Self {
        Self {
            hash: Hash::new(key),
            rules: rules(config),
            config: config.clone(),
            streams: Streams::default(),
            kept: 0,
            families: Families::default(),
            generation: 0,
        }
    }

    /// Takes over other settings. With other labels, everything begins anew: what must not be shown is gone at once.
    pub fn configure(&mut self, config: &OtlpConfig) {
        let labels = |config: &OtlpConfig| (config.drop_attributes.clone(), config.max_labels, config.max_label_length);
        if labels(&self.config) != labels(config) {
            self.rules = rules(config);
            (self.streams, self.kept, self.families) = Default::default();
            self.generation += 1;
        }
        self.config = config.clone();
    }

    /// Takes in an export.
    pub fn apply(&mut self, now: Time, request: &ExportMetricsServiceRequest) -> ExportOutcome {
        let mut taken = ExportOutcome::default();
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
                let origin = Origin { resource, scope, identity, instance, labels: OnceCell::new() };
                for metric in &library.metrics {
                    self.metric(now, &origin, metric, &mut taken);
                }
            }
        }
        self.generation += 1;
        taken
    }

    fn metric(&mut self, now: Time, origin: &Origin<'_>, metric: &Metric, taken: &mut ExportOutcome) {
        let (meaning, temporality) = match &metric.data {
            None => return,
            Some(Data::Gauge(_)) => (Meaning::Gauge, Some(Temporality::Cumulative)),
            Some(Data::Sum(sum)) => {
                let meaning = if sum.is_monotonic { Meaning::Counter } else { Meaning::UpDown };
                (meaning, Temporality::of(sum.aggregation_temporality))
            }
            Some(Data::Histogram(it)) => (Meaning::Histogram, Temporality::of(it.aggregation_temporality)),
            Some(Data::ExponentialHistogram(it)) => (Meaning::Exponential, Temporality::of(it.aggregation_temporality)),
            Some(Data::Summary(_)) => (Meaning::Summary, Some(Temporality::Cumulative)),
        };
        let Some(temporality) = temporality else {
            return taken.reject(RejectReason::Temporality, wire::points(metric));
        };
        // What a process has counted stays counted when another takes its place; what it held is held no more.
        let producer = if meaning == Meaning::UpDown { origin.instance } else { origin.identity };
        let numbers = [producer, meaning as u64, temporality as u64];
        let identity = self.hash.of(&[&metric.name, &metric.unit], &numbers);
        let context = Context { origin, metric, meaning, temporality, identity };
        match &metric.data {
            None => {}
            Some(Data::Gauge(gauge)) => self.points(now, &context, &gauge.data_points, taken),
            Some(Data::Sum(sum)) => self.points(now, &context, &sum.data_points, taken),
            Some(Data::Histogram(histogram)) => self.points(now, &context, &histogram.data_points, taken),
            Some(Data::ExponentialHistogram(histogram)) => self.points(now, &context, &histogram.data_points, taken),
            Some(Data::Summary(summary)) => self.points(now, &context, &summary.data_points, taken),
        }
    }

    fn points<P: Point>(&mut self, now: Time, context: &Context<'_>, points: &[P], taken: &mut ExportOutcome) {
        for point in points {
            taken.add(self.point(now, context, point));
        }
    }

    fn point<P: Point>(&mut self, now: Time, context: &Context<'_>, point: &P) -> Result<(), RejectReason> {
        let identity = context.identity.wrapping_add(self.hash.attributes(point.attributes()));
        if point.flags() & 1 != 0 {
            self.end(identity);
            return Ok(());
        }
        let (start, time) = point.times();
        let time = measured_at(now, time)?;
        let value = point.value()?;
        if let MetricValue::Number(number) = value
            && context.meaning == Meaning::Counter
            && !(number >= 0.0 && number.is_finite())
        {
            return Err(RejectReason::Value);
        }
        let (family, slot) = match self.streams.get(&identity) {
            Some(stream) => (stream.family, stream.slot),
            None => self.admit(now, context, point, identity, &value)?,
        };
        let (Some(stream), Some(series)) = (self.streams.get_mut(&identity), self.families.series_mut(family, slot))
        else {
            return Err(RejectReason::Conflict);
        };
        feed(now, series, stream, context.meaning, (start, time), value)?;
        (series.seen, stream.seen) = (now, now);
        Ok(())
    }

    /// Finds or makes the series of a stream that is new, within the caps.
    #[cold]
    fn admit<P: Point>(
        &mut self,
        now: Time,
        context: &Context<'_>,
        point: &P,
        identity: u64,
        value: &MetricValue,
    ) -> Result<(u32, u32), RejectReason> {
        let weight = weight(value);
        if self.kept + weight > self.config.max_series {
            return Err(RejectReason::SeriesCap);
        }
        let origin = context.origin;
        let common = origin.labels.get_or_init(|| self.rules.origin(origin.resource, origin.scope));
        let labels = self.rules.series(common, point.attributes()).map_err(|_| RejectReason::Labels)?;
        let place = self.families.place(now, context.metric, context.meaning, labels, value, &self.config)?;
        let (family, slot) = place;
        self.kept += weight;
        let counted = Counted::nothing(context.meaning, context.temporality);
        let stream = Stream { family, slot, counted, seen: now, weight: weight as u32 };
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
        if self.kept < self.config.max_series
            && let Ok((family, slot)) = self.families.target(now, labels, &self.config)
        {
            self.kept += 1;
            let counted = Counted::nothing(Meaning::Gauge, Temporality::Cumulative);
            let stream = Stream { family, slot, counted, seen: now, weight: 1 };
            self.streams.insert(identity, stream);
        }
    }

    /// The producer says that the stream is over: a gauge is no longer shown, what was counted stays counted.
    fn end(&mut self, identity: u64) {
        if let Some(stream) = self.streams.get(&identity)
            && let Some(series) = self.families.series_mut(stream.family, stream.slot)
        {
            series.seen = Time::default();
        }
    }

    /// Forgets streams that were not heard of for as long as is configured, and series that nobody feeds any more.
    pub fn expire(&mut self, now: Time) {
        let before = now.minus(self.config.forget_after);
        let (families, kept) = (&mut self.families, &mut self.kept);
        let known = self.streams.len();
        self.streams.retain(|_, stream| {
            if stream.seen >= before {
                return true;
            }
            *kept = kept.saturating_sub(stream.weight as usize);
            families.leave(stream.family, stream.slot, &stream.counted);
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
            gauges_since: now.minus(GAUGES_LAST),
        })
    }
}

fn rules(config: &OtlpConfig) -> LabelRules {
    LabelRules {
        dropped: Dropped::new(&config.drop_attributes),
        most: config.max_labels,
        longest: config.max_label_length,
    }
}

/// A hash that is its input: identities are mixed already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Itself(u64);

impl Hasher for Itself {
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
