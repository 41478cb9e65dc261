//! Custom metrics as what a rule reads: a name, and matchers of labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, de};

use super::indicators::Indicator;
use super::row::Reading;
use super::thresholds::{Comparison, Thresholds};
use crate::model::custom_metric::{CUSTOM_PREFIX, family_name};
use crate::model::{CustomKind, CustomMetrics, CustomSeries};
use crate::text::glob::glob;
use crate::text::series_names::label_name;
use crate::written::mistake;

/// What a rule, or a window of it, reads: an indicator, and of custom metrics which.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleInput {
    /// The indicator; that of all custom metrics is [`Indicator::Metric`].
    pub indicator: Indicator,
    /// The custom metric.
    pub metric: Option<Arc<MetricSelector>>,
}

impl RuleInput {
    /// Its name in errors.
    pub(super) fn name(&self) -> &str {
        self.metric.as_ref().map_or(self.indicator.name(), |metric| &metric.text)
    }
}

impl From<Indicator> for RuleInput {
    fn from(indicator: Indicator) -> Self {
        Self { indicator, metric: None }
    }
}

impl<'de> Deserialize<'de> for RuleInput {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(RuleInputVisitor)
    }
}

struct RuleInputVisitor;

impl<'de> de::Visitor<'de> for RuleInputVisitor {
    type Value = RuleInput;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a signal like restarts, or a custom metric like {metric: pool_size}")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<RuleInput, E> {
        indicator(word).map(RuleInput::from).map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RuleInput, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct MetricFields {
            metric: String,
            #[serde(default)]
            labels: BTreeMap<String, String>,
        }
        let MetricFields { metric, labels } = MetricFields::deserialize(de::value::MapAccessDeserializer::new(map))?;
        MetricSelector::input(&metric, &labels).map_err(de::Error::custom)
    }
}

/// The indicator with this name, which is not that of custom metrics.
pub(super) fn indicator(word: &str) -> Result<Indicator, String> {
    match Indicator::parse(word) {
        Some(Indicator::Metric) => {
            Err("`metric` needs the name of a custom metric; write `signal: {metric: pool_size}`".to_owned())
        }
        Some(indicator) => Ok(indicator),
        None => {
            let words: Vec<&str> = Indicator::ALL.iter().map(|indicator| indicator.name()).collect();
            let instead = mistake::suggestion(word, &words, "there are");
            let custom = if instead.starts_with("did you mean") {
                String::new()
            } else {
                format!("; a custom metric is written {{metric: {word}}}")
            };
            Err(format!("unknown signal `{word}`; {instead}{custom}"))
        }
    }
}

/// Which series of custom metrics a rule reads.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSelector {
    /// The name of the family, as in [`CustomSeries::name`].
    pub name: Arc<str>,
    /// The type, if the name says that it is a counter.
    pub kind: Option<CustomKind>,
    /// Labels with globs of their values.
    pub labels: Vec<(String, String)>,
    /// It as written, by which its windows are saved.
    text: Arc<str>,
}

impl MetricSelector {
    /// What reads the custom metric `name` with these labels.
    pub(super) fn input(name: &str, labels: &BTreeMap<String, String>) -> Result<RuleInput, String> {
        let (family, kind) = family_name(name);
        if family.is_empty() {
            return Err(format!("`{name}` is not the name of a custom metric; write one such as pool_size"));
        }
        let mut matchers = Vec::new();
        for (label, pattern) in labels {
            let label = label_name(label);
            if ["", "project", "agent_name", "component"].contains(&&*label) {
                return Err(format!("labels: `{label}` is no label of a custom metric; use `where` for whose it is"));
            }
            matchers.push((label, pattern.clone()));
        }
        matchers.sort_unstable();
        let suffix = if kind.is_some() { "_total" } else { "" };
        let shown: Vec<String> = matchers.iter().map(|(label, pattern)| format!("{label}={pattern:?}")).collect();
        let braces = if shown.is_empty() { String::new() } else { format!("{{{}}}", shown.join(",")) };
        let text = format!("metric {family}{suffix}{braces}").into();
        let selector = Self { name: family.into(), kind, labels: matchers, text };
        Ok(RuleInput { indicator: Indicator::Metric, metric: Some(Arc::new(selector)) })
    }

    /// It as written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The name of the family on `/metrics`, as a gauge or a counter.
    pub fn family(&self, kind: CustomKind) -> String {
        format!("{CUSTOM_PREFIX}{}", crate::model::custom_metric::full_name(&self.name, kind))
    }

    fn matches(&self, series: &CustomSeries) -> bool {
        let has = |(label, pattern): &(String, String)| {
            series.labels.iter().any(|(name, value)| **name == **label && glob(pattern, value))
        };
        series.name == self.name
            && self.kind.is_none_or(|kind| kind == series.value.kind())
            && self.labels.iter().all(has)
    }

    fn matching<'s>(&'s self, metrics: Option<&'s CustomMetrics>) -> impl Iterator<Item = &'s CustomSeries> {
        metrics.into_iter().flat_map(CustomMetrics::iter).filter(|series| self.matches(series))
    }

    /// Its value under these thresholds. Of several series it is the largest for `at_least`, the smallest for `at_most`, and
    /// for `equals` the one with the highest level. Without a series the rule is clear, or its value is absent.
    pub(super) fn read(&self, metrics: Option<&CustomMetrics>, thresholds: &Thresholds) -> Reading {
        let values = self.matching(metrics).map(|series| series.value.get());
        let value = match thresholds.when {
            Comparison::AtLeast => values.reduce(f64::max),
            Comparison::AtMost => values.reduce(f64::min),
            Comparison::Equals | Comparison::Absent => {
                let level = |value: f64| thresholds.level_of(value).map(|(level, _)| level);
                values.reduce(|one, other| if level(other) > level(one) { other } else { one })
            }
        };
        match value {
            Some(value) => Reading::Value(value),
            None if thresholds.when == Comparison::Absent => Reading::Unknown,
            None => Reading::NotApplicable,
        }
    }

    /// The mean of its series, for an average over time.
    pub(super) fn mean(&self, metrics: Option<&CustomMetrics>) -> Option<f64> {
        let (sum, count) =
            self.matching(metrics).fold((0.0, 0.0), |(sum, count), series| (sum + series.value.get(), count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// What its counters have counted since the first value of each, for an increase over time.
    pub(super) fn counted(&self, metrics: Option<&CustomMetrics>) -> Option<f64> {
        self.matching(metrics).filter_map(|series| series.value.increase()).reduce(|one, other| one + other)
    }
}
