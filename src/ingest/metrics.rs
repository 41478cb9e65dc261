//! Decodes custom metrics: the body of `POST /api/metrics`, and the `metrics` of components.
//!
//! A body is one metric, a list of them, or an object with the list, or object, `metrics` and what all of them share. Names
//! become Prometheus names here, so that those of one metric are equal from here on.

use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};
use serde_json::{Map, Value, json};

use super::draft::{ItemError, ItemLocation, reject, skip, ttl};
use super::{MAX_AGENTS, MAX_TEXT, PushDecodeError};
use crate::decode::read::{JsonVisitor, Scalar, UnexpectedValue, VisitorSeed, shown};
use crate::decode::words;
use crate::model::custom_metric::{family_name, is_reserved};
use crate::model::{CustomKind, CustomLabels, CustomUpdate, RejectReason, Rejected, duration};
use crate::text;
use crate::text::series_names::{MAX_SERIES_NAME, label_name};

/// Most labels of a metric.
const MAX_LABELS: usize = 8;
/// Longest value of a label, in bytes.
const MAX_LABEL_VALUE: usize = 128;
/// Labels of ours, of Prometheus, and of histograms.
const RESERVED_LABELS: [&str; 7] = ["project", "agent_name", "component", "job", "instance", "le", "quantile"];

/// The custom metrics of one body.
#[derive(Clone, Debug, Default)]
pub struct CustomBatch {
    /// The metrics.
    pub metrics: Vec<CustomUpdate>,
    /// The rejected ones.
    pub rejected: Vec<Rejected>,
}

/// Decodes the body of `POST /api/metrics`.
pub fn decode_metrics(body: &str) -> Result<CustomBatch, PushDecodeError> {
    let mut reader = MetricsBody::default();
    let mut input = serde_json::Deserializer::from_str(body);
    VisitorSeed(&mut reader).deserialize(&mut input).map_err(|error| PushDecodeError::new(&error))?;
    input.end().map_err(|error| PushDecodeError::new(&error))?;
    Ok(reader.finish())
}

#[derive(Default)]
struct MetricsBody {
    /// What the metrics share, or the one metric.
    fields: Map<String, Value>,
    drafts: Vec<CustomDraft>,
    listed: bool,
    rejected: Vec<Rejected>,
}

const USAGE: &str = "send {\"name\": …, \"value\": …}, a list of those, or {\"metrics\": […]}";

impl<'de> JsonVisitor<'de> for MetricsBody {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "metrics" {
                self.listed = true;
                map.next_value_seed(VisitorSeed(&mut MetricsList(self)))?;
            } else {
                let value = map.next_value()?;
                self.fields.insert(key, value);
            }
        }
        if self.listed {
            return Ok(());
        }
        if !["name", "metric", "value"].iter().any(|key| self.fields.contains_key(*key)) {
            return Err(A::Error::custom(format_args!("no metrics; {USAGE}")));
        }
        let one = Value::Object(std::mem::take(&mut self.fields));
        self.add(0, CustomDraft::of_item(&one));
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, list: A) -> Result<(), A::Error> {
        MetricsList(self).list(list)
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("the body is {}; {USAGE}", value.shown())))
    }
}

impl MetricsBody {
    fn add(&mut self, index: usize, read: (String, Result<CustomDraft, ItemError>, Vec<ItemError>)) {
        let place = ItemLocation { list: "metrics", index: Some(index) };
        let (name, draft, errors) = read;
        for error in errors {
            reject(&mut self.rejected, place, &name, error);
        }
        match draft {
            Ok(draft) => self.drafts.push(CustomDraft { index, ..draft }),
            Err(error) => reject(&mut self.rejected, place, &name, error),
        }
    }

    /// Adds what the metrics share to those that do not give it themselves.
    fn finish(self) -> CustomBatch {
        let Self { fields, drafts, mut rejected, .. } = self;
        let (mut shared, mut errors) = (CustomDraft::default(), Vec::new());
        let read = shared.read_place(&fields).and_then(|()| shared.read_labels(&fields));
        shared.read_ttl(&fields, &mut errors);
        for error in errors {
            reject(&mut rejected, ItemLocation::BODY, "", error);
        }
        if let Err(error) = read {
            // Without it, the metrics would be of something else.
            reject(&mut rejected, ItemLocation::BODY, "", error);
            return CustomBatch { metrics: Vec::new(), rejected };
        }
        let mut metrics = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let place = ItemLocation { list: "metrics", index: Some(draft.index) };
            let name = draft.name.clone();
            match draft.with(&shared) {
                Ok(update) => metrics.push(update),
                Err(error) => reject(&mut rejected, place, &name, error),
            }
        }
        CustomBatch { metrics, rejected }
    }
}

/// The list `metrics`, or an object of numbers, or of objects, by name.
struct MetricsList<'x>(&'x mut MetricsBody);

impl<'de> JsonVisitor<'de> for MetricsList<'_> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(name) = map.next_key::<String>()? {
            if index >= MAX_AGENTS {
                map.next_value::<IgnoredAny>()?;
            } else {
                let value: Value = map.next_value()?;
                self.0.add(index, CustomDraft::of_named(&name, &value));
            }
            index += 1;
        }
        self.too_many(index.saturating_sub(MAX_AGENTS));
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        for index in 0..MAX_AGENTS {
            let Some(item) = list.next_element::<Value>()? else { return Ok(()) };
            self.0.add(index, CustomDraft::of_item(&item));
        }
        let more = skip(&mut list)?;
        self.too_many(more);
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("`metrics` is {}; it must be a list", value.shown())))
    }
}

impl MetricsList<'_> {
    fn too_many(&mut self, more: usize) {
        if more > 0 {
            let error = ItemError::too_many_items("metrics", more, MAX_AGENTS);
            reject(&mut self.0.rejected, ItemLocation::BODY, "", error);
        }
    }
}

/// A metric while it is read.
#[derive(Clone, Debug, Default)]
struct CustomDraft {
    index: usize,
    /// The name as sent, for errors.
    name: String,
    family: Arc<str>,
    kind: Option<CustomKind>,
    labels: Vec<(Arc<str>, Arc<str>)>,
    value: f64,
    project: Option<Arc<str>>,
    agent: Option<Arc<str>>,
    component: Option<Arc<str>>,
    ttl: Option<Duration>,
}

/// The value of the first of these keys that there is.
fn field<'v>(fields: &'v Map<String, Value>, keys: &[&str]) -> Scalar<'v> {
    keys.iter().find_map(|key| fields.get(*key)).map_or(Scalar::Null, Scalar::from)
}

fn conflict(error: String) -> ItemError {
    ItemError { field: "labels", reason: RejectReason::Labels, error }
}

impl CustomDraft {
    /// The draft of an item of a list, with its name for errors, and the errors of values that it is left without.
    fn of_item(item: &Value) -> (String, Result<Self, ItemError>, Vec<ItemError>) {
        let Value::Object(fields) = item else {
            let error = format!("a metric is {}; it must be an object", Scalar::from(item).shown());
            return (String::new(), Err(ItemError::of_item(RejectReason::Value, error)), Vec::new());
        };
        Self::of_fields(field(fields, &["name", "metric"]), fields)
    }

    /// The draft of a metric that is the value of its name: a number, or an object.
    fn of_named(name: &str, value: &Value) -> (String, Result<Self, ItemError>, Vec<ItemError>) {
        let named = Scalar::Text(name.into());
        match value {
            Value::Object(fields) => Self::of_fields(named, fields),
            value => Self::of_fields(named, &Map::from_iter([("value".to_owned(), value.clone())])),
        }
    }

    fn of_fields(name: Scalar<'_>, fields: &Map<String, Value>) -> (String, Result<Self, ItemError>, Vec<ItemError>) {
        let word = match &name {
            Scalar::Text(text) => text.clone().into_owned(),
            _ => String::new(),
        };
        let (mut draft, mut errors) = (Self { name: word.clone(), ..Self::default() }, Vec::new());
        let read = draft
            .read_kind(fields)
            .and_then(|()| draft.read_name(&name))
            .and_then(|()| draft.read_value(fields))
            .and_then(|()| draft.read_place(fields))
            .and_then(|()| draft.read_labels(fields));
        draft.read_ttl(fields, &mut errors);
        (word, read.map(|()| draft), errors)
    }

    fn read_kind(&mut self, fields: &Map<String, Value>) -> Result<(), ItemError> {
        let kinds = [CustomKind::Gauge, CustomKind::Counter];
        self.kind = match field(fields, &["kind", "type"]) {
            Scalar::Null => None,
            Scalar::Text(word) => match kinds.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(&word)) {
                Some(kind) => Some(kind),
                None => {
                    let error = format!(
                        "unknown kind `{}`; {}",
                        shown(&word),
                        words::instead(&word, &kinds.map(CustomKind::as_str))
                    );
                    return Err(ItemError { field: "kind", reason: RejectReason::Value, error });
                }
            },
            other => {
                let expected = UnexpectedValue("gauge or counter");
                return Err(ItemError::invalid_value("kind", &other.shown(), expected));
            }
        };
        Ok(())
    }

    fn read_name(&mut self, name: &Scalar<'_>) -> Result<(), ItemError> {
        let invalid = |error: String| ItemError { field: "name", reason: RejectReason::Name, error };
        let word = match name {
            Scalar::Null => return Err(invalid("metric without `name`; give each metric a name".to_owned())),
            Scalar::Text(word) if text::is_name(word, MAX_SERIES_NAME) => word,
            Scalar::Text(word) => {
                let why = text::name_error(word, MAX_SERIES_NAME).unwrap_or_default();
                return Err(invalid(format!("`name` is {}; {why}", name.shown())));
            }
            other => return Err(ItemError::invalid_name(other)),
        };
        let (family, implied) = family_name(word);
        if family.is_empty() {
            let error = format!("`{}` has no letter or digit of ASCII; use names such as pool_size", shown(word));
            return Err(invalid(error));
        }
        if is_reserved(&family) {
            let error = format!("`{}` ends in `_created`, which is OpenMetrics' own; choose another name", shown(word));
            return Err(invalid(error));
        }
        if implied.is_some() && self.kind == Some(CustomKind::Gauge) {
            let error = format!(
                "`{}` is a gauge, but only counters end in `_total`; choose another name, or send `kind: counter`",
                shown(word)
            );
            return Err(invalid(error));
        }
        self.kind = self.kind.or(implied);
        self.family = family.into();
        Ok(())
    }

    fn read_value(&mut self, fields: &Map<String, Value>) -> Result<(), ItemError> {
        let (range, expected) = match self.kind {
            Some(CustomKind::Counter) => (0.0..=f64::MAX, UnexpectedValue("a number, 0 or more: counters only grow")),
            _ => (f64::MIN..=f64::MAX, UnexpectedValue("a finite number")),
        };
        let value = field(fields, &["value"]);
        match value.number(range, expected) {
            Ok(Some(number)) => self.value = number,
            Ok(None) => return Err(ItemError::invalid_value("value", "null", expected)),
            Err(expected) => return Err(ItemError::invalid_value("value", &value.shown(), expected)),
        }
        Ok(())
    }

    fn read_place(&mut self, fields: &Map<String, Value>) -> Result<(), ItemError> {
        let name = |keys: &[&str], of: &'static str| match field(fields, keys) {
            Scalar::Null => Ok(None),
            Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => Ok(Some(Arc::from(&*name))),
            other => Err(ItemError::invalid_name_in(of, &other)),
        };
        self.project = name(&["project", "project_id", "projectId"], "project")?;
        self.agent = name(&["agent", "agent_name", "agentName"], "agent")?;
        self.component = name(&["component"], "component")?;
        Ok(())
    }

    fn read_labels(&mut self, fields: &Map<String, Value>) -> Result<(), ItemError> {
        let given = match ["labels", "tags"].iter().find_map(|key| fields.get(*key)) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(given)) => given,
            Some(other) => {
                let shown = Scalar::from(other).shown();
                return Err(ItemError::invalid_value("labels", &shown, UnexpectedValue("an object of text")));
            }
        };
        for (name, value) in given {
            let label = label_name(name);
            if label.is_empty() || name.len() > MAX_SERIES_NAME {
                return Err(conflict(format!("label `{}` is no valid name; use names such as pool", shown(name))));
            }
            if RESERVED_LABELS.contains(&&*label) {
                return Err(conflict(format!("label `{}` is set by lookout or Prometheus; rename it", shown(name))));
            }
            let value = match Scalar::from(value) {
                Scalar::Text(value) => text::clean(&value, MAX_LABEL_VALUE).into_owned(),
                Scalar::Whole(number) => number.to_string(),
                Scalar::Number(number) => number.to_string(),
                Scalar::Flag(flag) => flag.to_string(),
                other => {
                    let error = format!("label `{}` is {}; it must be text", shown(name), other.shown());
                    return Err(conflict(error));
                }
            };
            if value.is_empty() {
                return Err(conflict(format!("label `{}` is empty; leave it out, or give it a value", shown(name))));
            }
            if self.labels.iter().any(|(known, _)| **known == *label) {
                return Err(conflict(format!("two labels are named `{label}`; rename one")));
            }
            self.labels.push((label.into(), value.into()));
        }
        Ok(())
    }

    /// Reads `ttl`; an invalid one costs itself only.
    fn read_ttl(&mut self, fields: &Map<String, Value>, errors: &mut Vec<ItemError>) {
        match ttl(&field(fields, &["ttl"])) {
            Ok(ttl) => self.ttl = ttl,
            Err(error) => errors.push(error),
        }
    }

    /// The metric, with what it shares with the others of its body.
    fn with(mut self, shared: &Self) -> Result<CustomUpdate, ItemError> {
        if self.agent.is_some() && self.component.is_some() {
            let error = "it names an agent and a component; name one of them".to_owned();
            return Err(ItemError { field: "component", reason: RejectReason::Value, error });
        }
        if self.agent.is_none() && self.component.is_none() {
            (self.agent, self.component) = (shared.agent.clone(), shared.component.clone());
            if self.agent.is_some() && self.component.is_some() {
                let error = "the body names an agent and a component; name one of them".to_owned();
                return Err(ItemError { field: "component", reason: RejectReason::Value, error });
            }
        }
        for (name, value) in &shared.labels {
            if !self.labels.iter().any(|(known, _)| known == name) {
                self.labels.push((Arc::clone(name), Arc::clone(value)));
            }
        }
        if self.labels.len() > MAX_LABELS {
            return Err(conflict(format!("more than {MAX_LABELS} labels; send at most so many")));
        }
        self.labels.sort_unstable();
        let kind = self.kind.unwrap_or(CustomKind::Gauge);
        // A counter of an agent leaves with the agent, so that one for all metrics of the body is not meant for it.
        let shared_ttl = shared.ttl.filter(|_| self.agent.is_none() || kind == CustomKind::Gauge);
        Ok(CustomUpdate {
            index: self.index,
            name: self.family,
            kind,
            labels: CustomLabels::from(self.labels),
            value: self.value,
            project: self.project.or_else(|| shared.project.clone()),
            agent: self.agent,
            component: self.component,
            ttl: self.ttl.or(shared_ttl),
        })
    }
}

/// A metric of a component.
#[derive(Debug)]
pub(super) enum ComponentMetric {
    /// A number and its name, and nothing else.
    Plain(String, f64),
    /// One with labels, a type or a `ttl`.
    Custom(Box<CustomUpdate>),
}

/// Reads a metric of a component in a list, or with the `name` of a member of an object. The errors are those of values that
/// it is left without, and that of the metric itself.
pub(super) fn component_metric(name: Option<&str>, item: &Value) -> (Option<ComponentMetric>, Vec<ItemError>) {
    let (name, draft, mut errors) = match name {
        Some(name) => CustomDraft::of_named(name, item),
        None => CustomDraft::of_item(item),
    };
    let has = |keys: &[&str]| keys.iter().any(|key| item.get(key).is_some());
    let is_plain = !has(&["labels", "tags", "kind", "type", "ttl"]);
    let read = draft.and_then(|draft| {
        if is_plain {
            return Ok(ComponentMetric::Plain(draft.name, draft.value));
        }
        let draft = CustomDraft { project: None, agent: None, component: None, ..draft };
        draft.with(&CustomDraft::default()).map(|update| ComponentMetric::Custom(Box::new(update)))
    });
    let read = read.map_err(|error| errors.push(error)).ok();
    for error in &mut errors {
        error.field = "metrics";
        if !name.is_empty() {
            error.error = format!("metric `{}`: {}", shown(&name), error.error);
        }
    }
    (read, errors)
}

/// The item of a list that decodes into `update`.
pub(super) fn encode_metric(update: &CustomUpdate) -> Value {
    let labels: Map<String, Value> =
        update.labels.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    let mut item = json!({"name": update.name, "kind": update.kind.as_str(), "value": update.value});
    if let Some(fields) = item.as_object_mut() {
        if !labels.is_empty() {
            fields.insert("labels".to_owned(), Value::Object(labels));
        }
        if let Some(ttl) = update.ttl {
            fields.insert("ttl".to_owned(), json!(duration::exact(ttl)));
        }
    }
    item
}

#[cfg(test)]
mod tests;
