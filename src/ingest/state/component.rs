//! The components of a batch: how the parts of an orchestrator say they are.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess};

use crate::decode::read::{Key, Read, Scalar, Seed, Unfit};
use crate::ingest::draft::{Fault, Place, reject};
use crate::ingest::{MAX_REASON, MAX_TEXT};
use crate::model::{ComponentStatus, ComponentUpdate, RejectReason, Rejected};
use crate::text;

/// Most components in one batch.
const MAX_COMPONENTS: usize = 1_000;
/// Most metrics of one component.
const MAX_METRICS: usize = 32;
/// The words for how a component is.
const STATUSES: [&str; 4] = ["OK", "WARNING", "ERROR", "LIMITED"];

/// The list `components`.
pub(super) struct Components<'x, 'a> {
    pub(super) components: &'x mut Vec<ComponentUpdate<'a>>,
    pub(super) rejected: &'x mut Vec<Rejected>,
    /// Set when the list was there.
    pub(super) listed: &'x mut bool,
}

impl<'de> Read<'de> for Components<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        *self.listed = true;
        for index in 0..MAX_COMPONENTS {
            let mut item = Component::default();
            if list.next_element_seed(Seed(&mut item))?.is_none() {
                return Ok(());
            }
            self.take(index, item);
        }
        let more = super::skip(&mut list)?;
        if more > 0 {
            reject(self.rejected, Place::BODY, "", Fault::surplus("components", more, MAX_COMPONENTS));
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            let fault = Fault::unfit("components", &value.shown(), Unfit("a list"));
            reject(self.rejected, Place::BODY, "", fault);
        }
        Ok(())
    }
}

impl<'a> Components<'_, 'a> {
    /// Takes a component without the values that can't be read; one whose name or status can't be is none.
    fn take(&mut self, index: usize, item: Component<'a>) {
        let Component { name, status, details, metrics, surplus, mut faults } = item;
        let missing = |field, reason, error: &str| Fault { field, reason, error: error.to_owned() };
        if faults.iter().all(|fault| !fault.field.is_empty()) {
            let has = |field| faults.iter().any(|fault| fault.field == field);
            if name.is_none() && !has("name") {
                faults.push(missing("name", RejectReason::Name, "a component without `name`; give each one its name"));
            } else if status.is_none() && !has("status") {
                let error = "a component without `status`; use one of OK, WARNING, ERROR, LIMITED";
                faults.push(missing("status", RejectReason::Value, error));
            }
        }
        if surplus {
            faults.push(Fault::limit("metrics", "metrics of one component", MAX_METRICS));
        }
        let place = Place { list: "components", index: Some(index) };
        for fault in faults {
            reject(self.rejected, place, name.as_deref().unwrap_or_default(), fault);
        }
        if let (Some(name), Some(status)) = (name, status) {
            self.components.push(ComponentUpdate { name, index, status, details, metrics });
        }
    }
}

#[derive(Default)]
struct Component<'a> {
    name: Option<Cow<'a, str>>,
    status: Option<ComponentStatus>,
    details: Option<Cow<'a, str>>,
    metrics: Vec<(Cow<'a, str>, f64)>,
    /// Whether there were more metrics than are kept.
    surplus: bool,
    /// Values that can't be read, one for each field.
    faults: Vec<Fault>,
}

#[derive(Clone, Copy)]
enum Part {
    Name,
    Status,
    Details,
    Metrics,
    Unknown,
}

fn part(key: &str) -> Part {
    match key {
        "name" | "component" => Part::Name,
        "status" => Part::Status,
        "details" | "message" => Part::Details,
        "metrics" => Part::Metrics,
        _ => Part::Unknown,
    }
}

impl<'de> Read<'de> for Component<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Key(part))? {
            match part {
                Part::Name | Part::Status | Part::Details => {
                    let value = map.next_value()?;
                    if let Err(fault) = self.set(part, value) {
                        self.fault(fault);
                    }
                }
                Part::Metrics => map.next_value_seed(Seed(&mut Metrics(self)))?,
                Part::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        let error = format!("a component is {}; it must be an object", value.shown());
        self.fault(Fault::item(RejectReason::Value, error));
        Ok(())
    }
}

impl<'a> Component<'a> {
    fn fault(&mut self, fault: Fault) {
        if self.faults.iter().all(|known| known.field != fault.field) {
            self.faults.push(fault);
        }
    }

    fn set(&mut self, part: Part, value: Scalar<'a>) -> Result<(), Fault> {
        match (part, value) {
            (Part::Name, Scalar::Text(name)) if text::is_name(&name, MAX_TEXT) => self.name = Some(name),
            (Part::Name, other) => return Err(Fault::name(&other)),
            (Part::Status, Scalar::Text(word)) => match ComponentStatus::parse(&word) {
                Some(status) => self.status = Some(status),
                None => return Err(Fault::status(&word, &STATUSES)),
            },
            (Part::Status, other) => {
                return Err(Fault::unfit("status", &other.shown(), Unfit("OK, WARNING, ERROR or LIMITED")));
            }
            (_, value @ (Scalar::Null | Scalar::Text(_))) => self.details = value.text(MAX_REASON).unwrap_or_default(),
            (_, other) => return Err(Fault::unfit("details", &other.shown(), Unfit("text"))),
        }
        Ok(())
    }
}

struct Metrics<'x, 'a>(&'x mut Component<'a>);

impl<'de> Read<'de> for Metrics<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Scalar<'de>>()? {
            let value: Scalar<'de> = map.next_value()?;
            let (Ok(Some(name)), Ok(Some(number))) =
                (name.text(MAX_TEXT), value.number(f64::MIN..=f64::MAX, Unfit("a number")))
            else {
                // What is no number is no metric; components send words and lists along as well.
                continue;
            };
            if self.0.metrics.len() < MAX_METRICS {
                self.0.metrics.push((name, number));
            } else {
                self.0.surplus = true;
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            let fault = Fault::unfit("metrics", &value.shown(), Unfit("an object of numbers"));
            self.0.fault(fault);
        }
        Ok(())
    }
}
