//! The body of `POST /api/usage`: increments of tokens and cost, of agents or of tasks.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use super::draft::{Draft, Fault, numbered, reject};
use super::fields::{Field, Group, Member};
use super::push::{Counters, DEFAULT_PROJECT, project};
use super::read::{Key, Read, Scalar, Seed, Unfit};
use super::{DecodeError, MAX_AGENTS, MAX_TEXT, NAME, VALUE};
use crate::model::{Patch, Rejected, Time, UsageUpdate, text};

/// Increments that arrived together, all of one project.
#[derive(Clone, Debug, Default)]
pub struct UsageBatch<'a> {
    /// The project, valid by [`text::is_name`].
    pub project: Cow<'a, str>,
    /// The increments; each names an agent or a task, and says tokens or cost.
    pub usage: Vec<UsageUpdate<'a>>,
    /// What was not taken, by agent or task.
    pub rejected: Vec<Rejected>,
}

/// Reads the body of `POST /api/usage`: `{"project", "usage": [{…}]}`, with one object in place of the list as well.
///
/// Names are understood as in states; a single number for all tokens counts as input where no split is given.
pub fn decode_usage(body: &str) -> Result<UsageBatch<'_>, DecodeError> {
    let mut reader = Body { project: None, batch: UsageBatch::default(), listed: false };
    let mut input = serde_json::Deserializer::from_str(body);
    Seed(&mut reader).deserialize(&mut input).map_err(|error| DecodeError::new(&error))?;
    input.end().map_err(|error| DecodeError::new(&error))?;
    let Body { project, mut batch, .. } = reader;
    batch.project = project.unwrap_or(Cow::Borrowed(DEFAULT_PROJECT));
    Ok(batch)
}

struct Body<'a> {
    project: Option<Cow<'a, str>>,
    batch: UsageBatch<'a>,
    listed: bool,
}

enum Part {
    Project,
    Usage,
    Unknown,
}

fn part(key: &str) -> Part {
    match key {
        "project" | "projectId" | "project_id" => Part::Project,
        "usage" => Part::Usage,
        _ => Part::Unknown,
    }
}

impl<'de> Read<'de> for Body<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Key(part))? {
            match part {
                Part::Project => self.project = project(map.next_value()?)?,
                Part::Usage => map.next_value_seed(Seed(&mut Items(self)))?,
                Part::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        if self.listed {
            return Ok(());
        }
        Err(A::Error::custom("no `usage`; send {\"usage\": [{\"agent\": …, \"input\": …, \"output\": …}]}"))
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("the body is {}; send {{\"usage\": [{{\"agent\": …}}]}}", value.shown())))
    }
}

struct Items<'x, 'a>(&'x mut Body<'a>);

impl<'de> Read<'de> for Items<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.0.listed = true;
        let mut item = Item::new();
        item.map(map)?;
        self.take(item);
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        self.0.listed = true;
        loop {
            let mut item = Item::new();
            if list.next_element_seed(Seed(&mut item))?.is_none() {
                return Ok(());
            }
            if self.0.batch.usage.len() + self.0.batch.rejected.len() >= MAX_AGENTS {
                return Err(A::Error::custom(format_args!(
                    "more than {MAX_AGENTS} increments in one body; send several"
                )));
            }
            self.take(item);
        }
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("`usage` is {}; it must be a list", value.shown())))
    }
}

impl<'a> Items<'_, 'a> {
    fn take(&mut self, item: Item<'a>) {
        match item.finish() {
            Ok(update) => self.0.batch.usage.push(update),
            Err((name, fault)) => reject(&mut self.0.batch.rejected, &name, fault),
        }
    }
}

/// An increment while it is read. Its fields are those of a state, and so are their names and bounds.
struct Item<'a> {
    draft: Draft<'a>,
    id: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy)]
enum ItemPart {
    Id,
    Field(Field),
    Tokens,
    Unknown,
}

fn item_part(key: &str) -> ItemPart {
    if matches!(key, "id" | "request_id" | "requestId") {
        return ItemPart::Id;
    }
    match Member::of(key) {
        Member::Field(field @ (Field::Name | Field::TaskId | Field::Model)) => ItemPart::Field(field),
        Member::Group(Group::Tokens) => ItemPart::Tokens,
        _ => Group::Tokens.field(key).map_or(ItemPart::Unknown, ItemPart::Field),
    }
}

impl<'de> Read<'de> for Item<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Key(item_part))? {
            match part {
                ItemPart::Id => self.set_id(map.next_value()?),
                ItemPart::Field(field) => {
                    let value: Scalar<'de> = map.next_value()?;
                    // No agent is allowed here: the task tells whose it is.
                    if field != Field::Name || value != Scalar::Null {
                        self.draft.set(field, value);
                    }
                }
                ItemPart::Tokens => {
                    map.next_value_seed(Seed(&mut Counters { draft: &mut self.draft, group: Group::Tokens }))?;
                }
                ItemPart::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        let error = format!("an increment is {}; it must be an object", value.shown());
        self.draft.fail(Fault { reason: VALUE, error });
        Ok(())
    }
}

impl<'a> Item<'a> {
    fn new() -> Self {
        Self { draft: Draft::new(Time::default()), id: None }
    }

    fn set_id(&mut self, value: Scalar<'a>) {
        match numbered(value) {
            Scalar::Null => self.id = None,
            // Cut or cleaned, two ids could become one, and the second increment would be lost.
            Scalar::Text(id) if text::is_name(&id, MAX_TEXT) => self.id = Some(id),
            other => {
                let unfit = Unfit("1 to 256 bytes of text without control characters");
                self.draft.fail(Fault::unfit("id", &other.shown(), unfit));
            }
        }
    }

    fn finish(mut self) -> Result<UsageUpdate<'a>, (Cow<'a, str>, Fault)> {
        let task = self.draft.task_id();
        let nameless = self.draft.name().is_empty();
        if nameless {
            match task.clone() {
                // The draft needs a name; the task's stands in, and is taken out below.
                Some(task) => self.draft.set(Field::Name, Scalar::Text(task)),
                None => {
                    let error = "neither `agent` nor `task_id`; name one of them".to_owned();
                    self.draft.fail(Fault { reason: NAME, error });
                }
            }
        }
        let update = self.draft.finish()?;
        if update.tokens.iter().all(Option::is_none) && update.cost_usd.is_none() {
            let error = "neither tokens nor cost; give `input` and `output`, or `cost_usd`".to_owned();
            return Err((update.name, Fault { reason: VALUE, error }));
        }
        Ok(UsageUpdate {
            agent: (!nameless).then_some(update.name),
            task_id: match update.task_id {
                Patch::Set(task) => Some(task),
                Patch::Keep | Patch::Clear => None,
            },
            model: update.model,
            tokens: update.tokens,
            cost_usd: update.cost_usd,
            id: self.id,
        })
    }
}

#[cfg(test)]
mod tests;
