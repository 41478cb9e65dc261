//! Metric families and their series: which family has which name, how many streams feed a series, and what is published
//! to readers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::config::OtlpConfig;
use super::super::naming;
use super::super::wire::Metric;
use super::accumulate::{OtlpMetricType, StreamState, empty_buckets};
use crate::model::telemetry::{ExponentialHistogram, MetricFamily, MetricKind, MetricSeries, MetricValue};
use crate::model::{RejectReason, Time};
use crate::text::clean;

/// Longest help text, in bytes; longer ones are cut.
const MAX_HELP: usize = 512;
/// How many series an exponential histogram counts as: about half of the buckets that it may have.
const EXPONENTIAL_SERIES: usize = 44;

/// How many series a value is on `/metrics`, which is what it counts as towards the caps.
pub(super) fn series_count(value: &MetricValue) -> usize {
    match value {
        MetricValue::Number(_) => 1,
        MetricValue::Histogram(buckets) => buckets.counts.len() + 2,
        MetricValue::Exponential(_) => EXPONENTIAL_SERIES,
        MetricValue::Summary(summary) => summary.values.len() + 2,
    }
}

/// All families.
#[derive(Debug, Default)]
pub(super) struct FamilyTable {
    entries: Vec<Option<FamilyEntry>>,
    free: Vec<u32>,
    /// The position of a family by each name that it may have on `/metrics`.
    names: HashMap<String, u32>,
    /// The number of series of all families.
    series_count: usize,
}

#[derive(Debug)]
struct FamilyEntry {
    family: MetricFamily,
    metric_type: OtlpMetricType,
    by_labels: BTreeMap<Arc<str>, u32>,
    /// By slot: how many streams feed the series, and how many series it counts as.
    slots: Vec<(u32, usize)>,
    series_count: usize,
    /// The family as it was last published; `None` once something changed.
    published: Option<Arc<MetricFamily>>,
    /// Whether series were added or removed since it was last published.
    order_changed: bool,
}

impl FamilyTable {
    /// The series in `slot` of the family at `place`, to be changed.
    pub(super) fn series_mut(&mut self, place: u32, slot: u32) -> Option<&mut MetricSeries> {
        let family = self.entries.get_mut(place as usize)?.as_mut()?;
        family.published = None;
        family.family.series.get_mut(slot)
    }

    /// Adds a stream to the series with `labels` of the metric, which is created if it does not exist.
    pub(super) fn place(
        &mut self,
        now: Time,
        metric: &Metric,
        metric_type: OtlpMetricType,
        labels: String,
        value: &MetricValue,
        config: &OtlpConfig,
    ) -> Result<(u32, u32), RejectReason> {
        let name = naming::metric(&metric.name, &metric.unit, metric_type.suffix_rule());
        if name.is_empty() {
            return Err(RejectReason::Name);
        }
        let help = || match clean(&metric.description, MAX_HELP).trim() {
            "" => format!("OpenTelemetry metric {}", clean(&metric.name, MAX_HELP)),
            described => described.to_owned(),
        };
        self.enter(now, &name, metric_type, help, labels, value, config)
    }

    /// Adds a stream to the series of `target_info` with `labels`.
    pub(super) fn target(
        &mut self,
        now: Time,
        labels: String,
        config: &OtlpConfig,
    ) -> Result<(u32, u32), RejectReason> {
        let help = || "Resource attributes of the target with the same job and instance".to_owned();
        let one = MetricValue::Number(1.0);
        let (place, slot) = self.enter(now, "target_info", OtlpMetricType::Gauge, help, labels, &one, config)?;
        if let Some(series) = self.series_mut(place, slot) {
            series.value = one;
        }
        Ok((place, slot))
    }

    #[expect(clippy::too_many_arguments, reason = "the two callers differ in name and help only")]
    fn enter(
        &mut self,
        now: Time,
        name: &str,
        metric_type: OtlpMetricType,
        help: impl FnOnce() -> String,
        labels: String,
        value: &MetricValue,
        config: &OtlpConfig,
    ) -> Result<(u32, u32), RejectReason> {
        let place = self.family(name, metric_type, help)?;
        let Some(Some(family)) = self.entries.get_mut(place as usize) else { return Err(RejectReason::Conflict) };
        if let Some(slot) = family.by_labels.get(labels.as_str()) {
            if let Some((streams, _)) = family.slots.get_mut(*slot as usize) {
                *streams += 1;
            }
            return Ok((place, *slot));
        }
        let series_count = series_count(value);
        if self.series_count + series_count > config.max_series
            || family.series_count + series_count > config.max_series_per_metric
        {
            if family.by_labels.is_empty() {
                self.remove(place);
            }
            return Err(RejectReason::SeriesCap);
        }
        self.series_count += series_count;
        family.series_count += series_count;
        (family.published, family.order_changed) = (None, true);
        let labels: Arc<str> = Arc::from(labels);
        let series = MetricSeries { labels: Arc::clone(&labels), value: initial_value(value), seen: now };
        let slot = family.family.series.insert_with(|_| series);
        family.by_labels.insert(labels, slot);
        if family.slots.len() <= slot as usize {
            family.slots.resize(slot as usize + 1, (0, 0));
        }
        if let Some(slots) = family.slots.get_mut(slot as usize) {
            *slots = (1, series_count);
        }
        Ok((place, slot))
    }

    /// The position of the family `name`, which is created if it does not exist.
    fn family(
        &mut self,
        name: &str,
        metric_type: OtlpMetricType,
        help: impl FnOnce() -> String,
    ) -> Result<u32, RejectReason> {
        if let Some(place) = self.names.get(name) {
            let known = self.entries.get(*place as usize).and_then(Option::as_ref);
            let same = known.is_some_and(|known| known.metric_type == metric_type && &*known.family.name == name);
            return if same { Ok(*place) } else { Err(RejectReason::Conflict) };
        }
        let names = reserved_names(name, metric_type.kind());
        if names.iter().any(|name| self.names.contains_key(name)) {
            return Err(RejectReason::Conflict);
        }
        let family = MetricFamily {
            name: Arc::from(name),
            kind: metric_type.kind(),
            help: Arc::from(help()),
            series: Default::default(),
            order: Arc::from([]),
        };
        let family = FamilyEntry {
            family,
            metric_type,
            by_labels: BTreeMap::new(),
            slots: Vec::new(),
            series_count: 0,
            published: None,
            order_changed: true,
        };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        if let Some(free) = self.entries.get_mut(place as usize) {
            *free = Some(family);
        }
        self.names.extend(names.into_iter().map(|name| (name, place)));
        Ok(place)
    }

    /// Removes a stream from the series in `slot`, and the series with its last stream.
    pub(super) fn release(&mut self, place: u32, slot: u32, counted: &StreamState) {
        let Some(Some(family)) = self.entries.get_mut(place as usize) else { return };
        let Some((streams, series_count)) = family.slots.get_mut(slot as usize) else { return };
        *streams = streams.saturating_sub(1);
        family.published = None;
        if *streams > 0 {
            // The value of an UpDownCounter is that of the remaining processes.
            if let (OtlpMetricType::UpDown, StreamState::Last { value: last, .. }) = (family.metric_type, counted)
                && let Some(MetricSeries { value: MetricValue::Number(shown), .. }) = family.family.series.get_mut(slot)
            {
                *shown -= last;
            }
            return;
        }
        self.series_count = self.series_count.saturating_sub(*series_count);
        family.series_count = family.series_count.saturating_sub(*series_count);
        family.order_changed = true;
        if let Some(series) = family.family.series.remove(slot) {
            family.family.series.release(slot);
            family.by_labels.remove(&series.labels);
        }
        if family.by_labels.is_empty() {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: u32) {
        if let Some(Some(family)) = self.entries.get_mut(place as usize).map(Option::take) {
            for name in reserved_names(&family.family.name, family.family.kind) {
                self.names.remove(&name);
            }
            self.free.push(place);
        }
    }

    /// All families by name. Those that did not change are shared with the last snapshot.
    pub(super) fn publish(&mut self) -> Vec<Arc<MetricFamily>> {
        let mut all: Vec<Arc<MetricFamily>> = self.entries.iter_mut().flatten().map(FamilyEntry::publish).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl FamilyEntry {
    fn publish(&mut self) -> Arc<MetricFamily> {
        if std::mem::take(&mut self.order_changed) {
            self.family.order = self.by_labels.values().copied().collect();
        }
        let Self { published, family, .. } = self;
        Arc::clone(published.get_or_insert_with(|| Arc::new(family.clone())))
    }
}

/// All names that a family may have in the text format or in OpenMetrics, so that no two families share one.
fn reserved_names(name: &str, kind: MetricKind) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        MetricKind::Counter => &["", "_total", "_created"],
        MetricKind::Gauge => &[""],
        MetricKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        MetricKind::Summary => &["", "_count", "_sum", "_created"],
    };
    let base = if kind == MetricKind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
    suffixes.iter().map(|suffix| format!("{base}{suffix}")).collect()
}

/// The value of a series of the same type without points.
fn initial_value(value: &MetricValue) -> MetricValue {
    match value {
        MetricValue::Number(_) => MetricValue::Number(0.0),
        MetricValue::Histogram(buckets) => MetricValue::Histogram(Box::new(empty_buckets(buckets))),
        MetricValue::Exponential(_) => MetricValue::Exponential(Box::new(ExponentialHistogram::empty())),
        MetricValue::Summary(summary) => MetricValue::Summary(summary.clone()),
    }
}
