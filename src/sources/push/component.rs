//! The components of a batch: how the parts of an orchestrator say they are.

use std::borrow::Cow;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess};

use crate::model::{ComponentStatus, ComponentUpdate, Rejected, text};
use crate::sources::draft::{Fault, reject};
use crate::sources::read::{Key, Read, Scalar, Seed, Unfit};
use crate::sources::{MAX_REASON, MAX_TEXT, NAME, VALUE};

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
        let mut seen = 0;
        loop {
            let mut item = Component::default();
            if list.next_element_seed(Seed(&mut item))?.is_none() {
                return Ok(());
            }
            seen += 1;
            if seen > MAX_COMPONENTS {
                let error = format_args!("more than {MAX_COMPONENTS} components in one batch; send several");
                return Err(A::Error::custom(error));
            }
            self.take(item);
        }
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        match value {
            Scalar::Null => Ok(()),
            other => Err(E::custom(format_args!("`components` is {}; it must be a list", other.shown()))),
        }
    }
}

impl<'a> Components<'_, 'a> {
    fn take(&mut self, item: Component<'a>) {
        let Component { name, status, details, metrics, surplus, fault } = item;
        let fault = match (&name, &status, fault) {
            (_, _, Some(fault)) => Some(fault),
            (None, _, _) => {
                Some(Fault { reason: NAME, error: "a component without `name`; give each one its name".to_owned() })
            }
            (_, None, _) => {
                let error = "a component without `status`; use one of OK, WARNING, ERROR, LIMITED".to_owned();
                Some(Fault { reason: VALUE, error })
            }
            _ => None,
        };
        let shown = name.clone().unwrap_or_default();
        if let Some(fault) = fault {
            reject(self.rejected, &shown, fault);
        } else if let (Some(name), Some(status)) = (name, status) {
            self.components.push(ComponentUpdate { name, status, details, metrics });
            if surplus {
                reject(self.rejected, &shown, Fault::limit("metrics of one component", MAX_METRICS));
            }
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
    fault: Option<Fault>,
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
                        self.fault.get_or_insert(fault);
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
        self.fault = Some(Fault { reason: VALUE, error });
        Ok(())
    }
}

impl<'a> Component<'a> {
    fn set(&mut self, part: Part, value: Scalar<'a>) -> Result<(), Fault> {
        match (part, value) {
            (Part::Name, Scalar::Text(name)) if text::is_name(&name, MAX_TEXT) => self.name = Some(name),
            (Part::Name, other) => return Err(Fault::name(&other.shown())),
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
            self.0.fault.get_or_insert(fault);
        }
        Ok(())
    }
}
