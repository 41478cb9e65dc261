//! The components of a batch: the health of parts of an orchestrator.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess};
use serde_json::Value;

use crate::decode::read::{JsonVisitor, KeySeed, Scalar, UnexpectedValue, VisitorSeed};
use crate::ingest::draft::{ItemError, ItemLocation, reject, skip};
use crate::ingest::metrics::{ComponentMetric, component_metric};
use crate::ingest::{MAX_REASON, MAX_TEXT};
use crate::model::{ComponentStatus, ComponentUpdate, CustomUpdate, RejectReason, Rejected};
use crate::text;

/// Most components in one batch.
const MAX_COMPONENTS: usize = 1_000;
/// Most metrics of one component.
const MAX_METRICS: usize = 32;
/// The statuses of a component.
const STATUSES: [&str; 4] = ["OK", "WARNING", "ERROR", "LIMITED"];

/// Reads the list `components`.
pub(super) struct ComponentList<'x, 'a> {
    pub(super) components: &'x mut Vec<ComponentUpdate<'a>>,
    pub(super) rejected: &'x mut Vec<Rejected>,
    /// Set when there is a list.
    pub(super) listed: &'x mut bool,
}

impl<'de> JsonVisitor<'de> for ComponentList<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        *self.listed = true;
        for index in 0..MAX_COMPONENTS {
            let mut item = ComponentDraft::default();
            if list.next_element_seed(VisitorSeed(&mut item))?.is_none() {
                return Ok(());
            }
            self.add(index, item);
        }
        let more = skip(&mut list)?;
        if more > 0 {
            reject(
                self.rejected,
                ItemLocation::BODY,
                "",
                ItemError::too_many_items("components", more, MAX_COMPONENTS),
            );
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            let item_error = ItemError::invalid_value("components", &value.shown(), UnexpectedValue("a list"));
            reject(self.rejected, ItemLocation::BODY, "", item_error);
        }
        Ok(())
    }
}

impl<'a> ComponentList<'_, 'a> {
    /// Adds a component without its invalid values; one with an invalid name or status is rejected.
    fn add(&mut self, index: usize, item: ComponentDraft<'a>) {
        let ComponentDraft { name, status, details, metrics, custom, surplus, mut errors } = item;
        let missing = |field, reason, error: &str| ItemError { field, reason, error: error.to_owned() };
        if errors.iter().all(|item_error| !item_error.field.is_empty()) {
            let has = |field| errors.iter().any(|item_error| item_error.field == field);
            if name.is_none() && !has("name") {
                errors.push(missing(
                    "name",
                    RejectReason::Name,
                    "component without `name`; give each component a name",
                ));
            } else if status.is_none() && !has("status") {
                let error = "component without `status`; use one of OK, WARNING, ERROR, LIMITED";
                errors.push(missing("status", RejectReason::Value, error));
            }
        }
        if surplus {
            errors.push(ItemError::too_many("metrics", "metrics of one component", MAX_METRICS));
        }
        let place = ItemLocation { list: "components", index: Some(index) };
        for item_error in errors {
            reject(self.rejected, place, name.as_deref().unwrap_or_default(), item_error);
        }
        if let (Some(name), Some(status)) = (name, status) {
            self.components.push(ComponentUpdate { name, index, status, details, metrics, custom });
        }
    }
}

#[derive(Default)]
struct ComponentDraft<'a> {
    name: Option<Cow<'a, str>>,
    status: Option<ComponentStatus>,
    details: Option<Cow<'a, str>>,
    metrics: Vec<(Cow<'a, str>, f64)>,
    /// Metrics with labels, a type or a `ttl`.
    custom: Vec<CustomUpdate>,
    /// Whether there were more than [`MAX_METRICS`].
    surplus: bool,
    /// Invalid values, one for each field.
    errors: Vec<ItemError>,
}

#[derive(Clone, Copy)]
enum ComponentKey {
    Name,
    Status,
    Details,
    Metrics,
    Unknown,
}

fn component_key(key: &str) -> ComponentKey {
    match key {
        "name" | "component" => ComponentKey::Name,
        "status" => ComponentKey::Status,
        "details" | "message" => ComponentKey::Details,
        "metrics" => ComponentKey::Metrics,
        _ => ComponentKey::Unknown,
    }
}

impl<'de> JsonVisitor<'de> for ComponentDraft<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(KeySeed(component_key))? {
            match part {
                ComponentKey::Name | ComponentKey::Status | ComponentKey::Details => {
                    let value = map.next_value()?;
                    if let Err(item_error) = self.set(part, value) {
                        self.add_error(item_error);
                    }
                }
                ComponentKey::Metrics => map.next_value_seed(VisitorSeed(&mut ComponentMetrics(self)))?,
                ComponentKey::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        let error = format!("a component is {}; it must be an object", value.shown());
        self.add_error(ItemError::of_item(RejectReason::Value, error));
        Ok(())
    }
}

impl<'a> ComponentDraft<'a> {
    fn add_error(&mut self, item_error: ItemError) {
        if self.errors.iter().all(|known| known.field != item_error.field) {
            self.errors.push(item_error);
        }
    }

    fn set(&mut self, part: ComponentKey, value: Scalar<'a>) -> Result<(), ItemError> {
        match (part, value) {
            (ComponentKey::Name, Scalar::Text(name)) if text::is_name(&name, MAX_TEXT) => self.name = Some(name),
            (ComponentKey::Name, other) => return Err(ItemError::invalid_name(&other)),
            (ComponentKey::Status, Scalar::Text(word)) => match ComponentStatus::parse(&word) {
                Some(status) => self.status = Some(status),
                None => return Err(ItemError::unknown_status(&word, &STATUSES)),
            },
            (ComponentKey::Status, other) => {
                return Err(ItemError::invalid_value(
                    "status",
                    &other.shown(),
                    UnexpectedValue("OK, WARNING, ERROR or LIMITED"),
                ));
            }
            (_, value @ (Scalar::Null | Scalar::Text(_))) => self.details = value.text(MAX_REASON).unwrap_or_default(),
            (_, other) => return Err(ItemError::invalid_value("details", &other.shown(), UnexpectedValue("text"))),
        }
        Ok(())
    }
}

struct ComponentMetrics<'x, 'a>(&'x mut ComponentDraft<'a>);

impl<'de> JsonVisitor<'de> for ComponentMetrics<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Scalar<'de>>()? {
            let value: Value = map.next_value()?;
            if let (Value::Object(fields), Scalar::Text(name)) = (&value, &name) {
                if fields.contains_key("value") {
                    self.add(Some(name), &value);
                }
                continue;
            }
            let number = Scalar::from(&value).number(f64::MIN..=f64::MAX, UnexpectedValue("a number"));
            // Components send text and lists among their metrics as well, which are ignored.
            if let (Ok(Some(name)), Ok(Some(number))) = (name.text(MAX_TEXT), number)
                && self.has_room()
            {
                self.0.metrics.push((name, number));
            }
        }
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Value>()? {
            self.add(None, &item);
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            let item_error =
                ItemError::invalid_value("metrics", &value.shown(), UnexpectedValue("an object of numbers, or a list"));
            self.0.add_error(item_error);
        }
        Ok(())
    }
}

impl ComponentMetrics<'_, '_> {
    /// Adds a metric that is an object.
    fn add(&mut self, name: Option<&str>, item: &Value) {
        if !self.has_room() {
            return;
        }
        let (metric, errors) = component_metric(name, item);
        self.0.errors.extend(errors);
        match metric {
            Some(ComponentMetric::Plain(name, value)) => self.0.metrics.push((Cow::Owned(name), value)),
            Some(ComponentMetric::Custom(metric)) => self.0.custom.push(*metric),
            None => {}
        }
    }

    /// Whether another metric fits. Rejected ones take room too, so that a hostile component costs little.
    fn has_room(&mut self) -> bool {
        let has_room = self.0.metrics.len() + self.0.custom.len() + self.0.errors.len() < MAX_METRICS;
        self.0.surplus |= !has_room;
        has_room
    }
}
