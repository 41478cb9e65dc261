//! Custom metrics: named numbers that clients report of an agent, a component or a project.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Time;
use crate::text::is_name;
use crate::text::series_names::{MAX_SERIES_NAME, metric_name};

/// What precedes the name of each family on `/metrics`.
pub const CUSTOM_PREFIX: &str = "orchestrator_custom_";

/// The type of a custom metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomKind {
    /// A value that goes up and down.
    Gauge,
    /// A cumulative value; its family ends in `_total`.
    Counter,
}

impl CustomKind {
    /// The name in bodies and in the text formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CustomScope {
    /// An agent.
    Agent,
    /// A component.
    Component,
    /// A project as a whole.
    Project,
}

impl CustomScope {
    /// All scopes.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Component, Self::Project];

    /// The word in errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agents",
            Self::Component => "components",
            Self::Project => "projects",
        }
    }
}

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomValue {
    /// The value last reported.
    Gauge(ExactNumber),
    /// A counter that survives resets of its source, as [`super::Sum`] does, without sums of small steps: as long as its
    /// source is not reset it is exactly what was reported.
    Counter {
        /// What it had counted before the last reset.
        base: ExactNumber,
        /// The value last reported.
        last: ExactNumber,
        /// The first value, which is no increase.
        first: ExactNumber,
    },
}

impl CustomValue {
    /// The first `value` of a series.
    pub const fn new(kind: CustomKind, value: f64) -> Self {
        let value = ExactNumber(value);
        match kind {
            CustomKind::Gauge => Self::Gauge(value),
            CustomKind::Counter => Self::Counter { base: ExactNumber(0.0), last: value, first: value },
        }
    }

    /// The type.
    pub const fn kind(&self) -> CustomKind {
        match self {
            Self::Gauge(_) => CustomKind::Gauge,
            Self::Counter { .. } => CustomKind::Counter,
        }
    }

    /// The value on `/metrics`.
    pub fn get(&self) -> f64 {
        match self {
            Self::Gauge(value) => value.0,
            Self::Counter { base, last, .. } => (base.0 + last.0).min(f64::MAX),
        }
    }

    /// What a counter has counted since its first value; `None` of a gauge.
    pub fn increase(&self) -> Option<f64> {
        match self {
            Self::Gauge(_) => None,
            Self::Counter { first, .. } => Some(self.get() - first.0),
        }
    }

    /// Records `value`, which is finite, and of a counter not negative. A counter that decreases was reset: all of its new
    /// value is an increase. Returns whether anything changed.
    pub fn report(&mut self, value: f64) -> bool {
        match self {
            Self::Gauge(known) => std::mem::replace(&mut known.0, value) != value,
            Self::Counter { base, last, .. } => {
                if value < last.0 {
                    base.0 = (base.0 + last.0).min(f64::MAX);
                }
                std::mem::replace(&mut last.0, value) != value
            }
        }
    }
}

/// A number that is saved as text: serde_json may be off by the last bit, and to Prometheus a counter that is slightly lower
/// after a restart is a counter reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExactNumber(pub f64);

impl Serialize for ExactNumber {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExactNumber {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(input)?;
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self(number)),
            _ => Err(D::Error::custom("a custom metric must be finite")),
        }
    }
}

/// Name and value of a label.
pub type CustomLabel = (Arc<str>, Arc<str>);

/// Names and values of labels, by name.
pub type CustomLabels = Box<[CustomLabel]>;

/// One series of an agent, a component or a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomSeries {
    /// The name of its family, without [`CUSTOM_PREFIX`] and `_total`.
    pub name: Arc<str>,
    /// Its labels besides those of what it is of.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub labels: CustomLabels,
    /// Its value.
    pub value: CustomValue,
    /// When it was last reported.
    pub seen: Time,
    /// How long after that it expires; `None` if it leaves with what it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Whether it came with the state of its component, whose next state replaces it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_of_state: bool,
}

impl CustomSeries {
    /// When it expires, in a program that started at `started_at`: what was reported while it was down is not known.
    pub fn expires_at(&self, started_at: Time) -> Option<Time> {
        Some(self.seen.max(started_at).plus(self.ttl?))
    }

    /// The name of its family on `/metrics` without [`CUSTOM_PREFIX`].
    pub fn full_name(&self) -> String {
        full_name(&self.name, self.value.kind())
    }

    /// The name and labels, as in `pool_size{pool="a"}`.
    pub fn shown(&self) -> String {
        let mut out = self.full_name();
        for (place, (name, value)) in self.labels.iter().enumerate() {
            out.push_str(if place == 0 { "{" } else { "," });
            out.push_str(name);
            out.push_str("=\"");
            super::labels::escape(value, &mut out);
            out.push('"');
        }
        if !self.labels.is_empty() {
            out.push('}');
        }
        out
    }

    fn key(&self) -> (&str, &[CustomLabel]) {
        (&self.name, &self.labels)
    }
}

/// The name of a family on `/metrics` without [`CUSTOM_PREFIX`].
pub fn full_name(name: &str, kind: CustomKind) -> String {
    match kind {
        CustomKind::Gauge => name.to_owned(),
        CustomKind::Counter => format!("{name}_total"),
    }
}

/// All series of an agent, a component or a project, by name and labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CustomMetrics {
    series: Vec<CustomSeries>,
    /// A number that differs after each change of a value or of what there is.
    #[serde(skip)]
    pub revision: u64,
}

impl CustomMetrics {
    /// The series in order.
    pub fn iter(&self) -> std::slice::Iter<'_, CustomSeries> {
        self.series.iter()
    }

    /// The number of series.
    pub const fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The series with this name and these labels.
    pub fn get_mut(&mut self, name: &str, labels: &[CustomLabel]) -> Option<&mut CustomSeries> {
        let place = self.series.binary_search_by(|series| series.key().cmp(&(name, labels))).ok()?;
        self.series.get_mut(place)
    }

    /// Whether there is a series with this name and these labels.
    pub fn contains(&self, name: &str, labels: &[CustomLabel]) -> bool {
        self.series.binary_search_by(|series| series.key().cmp(&(name, labels))).is_ok()
    }

    /// Adds a series that is not there yet.
    pub fn insert(&mut self, series: CustomSeries) {
        if let Err(place) = self.series.binary_search_by(|known| known.key().cmp(&series.key())) {
            self.series.insert(place, series);
        }
    }

    /// Removes and returns the series for which `is_gone`.
    pub fn extract(&mut self, is_gone: impl Fn(&CustomSeries) -> bool) -> Vec<CustomSeries> {
        if !self.series.iter().any(&is_gone) {
            return Vec::new();
        }
        let (gone, kept) = std::mem::take(&mut self.series).into_iter().partition(is_gone);
        self.series = kept;
        gone
    }
}

/// What all series of one name have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomFamily {
    /// Their type.
    pub kind: CustomKind,
    /// What they are of.
    pub scope: CustomScope,
    /// The names of their labels, in order.
    pub label_names: Box<[Arc<str>]>,
    /// How many there are.
    pub series: usize,
}

impl CustomFamily {
    /// Whether a series of this type, scope and labels belongs to it; the error says what it has.
    pub fn accepts(&self, kind: CustomKind, scope: CustomScope, labels: &[CustomLabel]) -> Result<(), String> {
        if self.kind != kind {
            return Err(format!("is a {}", self.kind.as_str()));
        }
        if self.scope != scope {
            return Err(format!("is a metric of {}", self.scope.as_str()));
        }
        if !self.label_names.iter().eq(labels.iter().map(|(name, _)| name)) {
            let names: Vec<&str> = self.label_names.iter().map(|name| &**name).collect();
            return Err(match names.as_slice() {
                [] => "has no labels".to_owned(),
                [one] => format!("has the label {one}"),
                several => format!("has the labels {}", several.join(", ")),
            });
        }
        Ok(())
    }
}

/// All families, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomFamilies {
    families: BTreeMap<Arc<str>, CustomFamily>,
    series: usize,
}

impl CustomFamilies {
    /// The number of series of all families.
    pub const fn series(&self) -> usize {
        self.series
    }

    /// The number of families.
    pub fn len(&self) -> usize {
        self.families.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// The family `name`.
    pub fn get(&self, name: &str) -> Option<&CustomFamily> {
        self.families.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &CustomFamily)> {
        self.families.iter()
    }

    /// Counts a new series, which its family accepts.
    pub fn add(&mut self, scope: CustomScope, series: &CustomSeries) {
        let family = self.families.entry(Arc::clone(&series.name)).or_insert_with(|| CustomFamily {
            kind: series.value.kind(),
            scope,
            label_names: series.labels.iter().map(|(name, _)| Arc::clone(name)).collect(),
            series: 0,
        });
        family.series += 1;
        self.series += 1;
    }

    /// Counts a series that is gone; the last one takes its family with it.
    pub fn remove(&mut self, series: &CustomSeries) {
        let Some(family) = self.families.get_mut(&series.name) else { return };
        family.series -= 1;
        self.series -= 1;
        if family.series == 0 {
            self.families.remove(&series.name);
        }
    }
}

/// A reported number.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomUpdate {
    /// Its index in the reported list, from 0.
    pub index: usize,
    /// The name of its family, as in [`CustomSeries::name`].
    pub name: Arc<str>,
    /// Its type.
    pub kind: CustomKind,
    /// Its labels.
    pub labels: CustomLabels,
    /// Its value: finite, and of a counter not negative.
    pub value: f64,
    /// The project; `None` for the default one.
    pub project: Option<Arc<str>>,
    /// The agent that it is of.
    pub agent: Option<Arc<str>>,
    /// The component that it is of.
    pub component: Option<Arc<str>>,
    /// How long after the report it expires.
    pub ttl: Option<Duration>,
}

impl CustomUpdate {
    /// A plain number of a component; `None` if it can't be on `/metrics` under that name.
    pub fn plain(name: &str, value: f64) -> Option<Self> {
        let (family, kind) = family_name(name);
        let kind = kind.unwrap_or(CustomKind::Gauge);
        let is_valid = !family.is_empty()
            && !is_reserved(&family)
            && is_name(name, MAX_SERIES_NAME)
            && value.is_finite()
            && (kind == CustomKind::Gauge || value >= 0.0);
        is_valid.then(|| Self {
            index: 0,
            name: family.into(),
            kind,
            labels: CustomLabels::default(),
            value,
            project: None,
            agent: None,
            component: None,
            ttl: None,
        })
    }
}

/// The name of the family of a metric that is sent, or read by a rule, under `name`; and its type if the name says that it
/// is a counter. The name is empty if nothing of it is valid.
pub fn family_name(name: &str) -> (String, Option<CustomKind>) {
    let name = metric_name(name, CUSTOM_PREFIX);
    // All of them: `jobs_total_total` would be a family named as the samples of `jobs` are.
    match name.trim_end_matches("_total") {
        base if base.len() < name.len() => (base.to_owned(), Some(CustomKind::Counter)),
        _ => (name, None),
    }
}

/// Whether the name of a family ends as only OpenMetrics' own series do.
pub fn is_reserved(family: &str) -> bool {
    family == "created" || family.ends_with("_created")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(value: CustomValue) -> CustomValue {
        serde_json::from_str(&serde_json::to_string(&value).expect("JSON")).expect("a value")
    }

    #[test]
    fn a_counter_is_exactly_what_was_reported_until_it_is_reset() {
        let mut counter = CustomValue::new(CustomKind::Counter, 0.1);
        for (value, total, increase) in [(0.3, 0.3, 0.2), (0.7, 0.7, 0.6), (0.2, 0.9, 0.8), (0.2, 0.9, 0.8)] {
            counter.report(value);
            assert!((counter.get() - total).abs() < 1e-12, "{counter:?}");
            assert!((counter.increase().expect("a counter") - increase).abs() < 1e-12);
        }
        let mut exact = CustomValue::new(CustomKind::Counter, 0.1);
        exact.report(0.30000000000000004);
        assert_eq!(exact.get(), 0.30000000000000004);
    }

    #[test]
    fn no_family_is_named_as_the_samples_of_another() {
        for name in ["jobs", "jobs_total", "jobs_total_total"] {
            assert_eq!(family_name(name).0, "jobs");
        }
    }

    #[test]
    fn a_family_leaves_with_its_last_series() {
        let series = |name: &str, label: &str| CustomSeries {
            name: name.into(),
            labels: [("pool".into(), label.into())].into(),
            value: CustomValue::new(CustomKind::Gauge, 1.0),
            seen: Time::default(),
            ttl: None,
            is_of_state: false,
        };
        let mut families = CustomFamilies::default();
        families.add(CustomScope::Agent, &series("a", "1"));
        families.add(CustomScope::Agent, &series("a", "2"));
        assert_eq!((families.len(), families.series()), (1, 2));
        families.remove(&series("a", "1"));
        assert!(families.get("a").is_some());
        families.remove(&series("a", "2"));
        assert_eq!(families, CustomFamilies::default());
    }

    proptest! {
        #[test]
        fn a_counter_never_decreases_and_is_restored_exactly(values in proptest::collection::vec(0.0..1e300_f64, 1..20)) {
            let mut counter = CustomValue::new(CustomKind::Counter, values[0]);
            for value in values {
                let before = counter.get();
                counter.report(value);
                prop_assert!(counter.get() >= before && counter.get().is_finite());
                prop_assert_eq!(saved(counter), counter);
            }
        }

        #[test]
        fn a_gauge_is_the_last_value(values in proptest::collection::vec(proptest::num::f64::NORMAL, 1..9)) {
            let mut gauge = CustomValue::new(CustomKind::Gauge, 0.0);
            for value in values {
                gauge.report(value);
                prop_assert_eq!(gauge.get(), value);
                prop_assert_eq!(saved(gauge), gauge);
            }
        }
    }
}
