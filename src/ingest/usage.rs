//! The body of `POST /api/usage`: increments of tokens and cost, of agents or of tasks.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use super::draft::{Draft, Fault, Finished, Place, numbered, reject};
use super::fields::{Field, Group, Member};
use super::state::{Counters, project, skip};
use super::{MAX_AGENTS, PushDecodeError};
use crate::decode::read::{Key, Read, Scalar, Seed, Unfit};
use crate::model::{DEFAULT_PROJECT, Patch, RejectReason, Rejected, Time, UsageUpdate};

/// Longest id of an increment, in bytes; only a hash of it is kept.
const MAX_ID: usize = 1_024;

/// Increments that arrived together, all of one project.
#[derive(Clone, Debug, Default)]
pub struct UsageBatch<'a> {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Cow<'a, str>,
    /// The increments; each names an agent or a task, and says tokens or cost.
    pub usage: Vec<UsageUpdate<'a>>,
    /// What was not taken, by agent or task.
    pub rejected: Vec<Rejected>,
}

/// Reads the body of `POST /api/usage`: `{"project", "usage": [{…}]}`, with one object in place of the list as well.
///
/// Names are understood as in states; a single number for all tokens counts as input where no split is given.
pub fn decode_usage(body: &str) -> Result<UsageBatch<'_>, PushDecodeError> {
    let mut reader = Body { project: None, batch: UsageBatch::default(), listed: false };
    let mut input = serde_json::Deserializer::from_str(body);
    Seed(&mut reader).deserialize(&mut input).map_err(|error| PushDecodeError::new(&error))?;
    input.end().map_err(|error| PushDecodeError::new(&error))?;
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
        self.take(0, item);
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        self.0.listed = true;
        for index in 0..MAX_AGENTS {
            let mut item = Item::new();
            if list.next_element_seed(Seed(&mut item))?.is_none() {
                return Ok(());
            }
            self.take(index, item);
        }
        let more = skip(&mut list)?;
        if more > 0 {
            let fault = Fault::surplus("usage", more, MAX_AGENTS);
            reject(&mut self.0.batch.rejected, Place::BODY, "", fault);
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("`usage` is {}; it must be a list", value.shown())))
    }
}

impl<'a> Items<'_, 'a> {
    fn take(&mut self, index: usize, item: Item<'a>) {
        let place = Place { list: "usage", index: Some(index) };
        if let Some(update) = item.finish().settle(place, &mut self.0.batch.rejected) {
            self.0.batch.usage.push(UsageUpdate { index, ..update });
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
        self.draft.fail(Fault::item(RejectReason::Value, error));
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
            Scalar::Text(id) if !id.is_empty() && id.len() <= MAX_ID => self.id = Some(id),
            // Without its id it could be counted twice.
            other => self.draft.fail(Fault::unfit("id", &other.shown(), Unfit("1 to 1024 bytes of text"))),
        }
    }

    fn finish(mut self) -> Finished<'a, UsageUpdate<'a>> {
        let task = self.draft.task_id();
        let nameless = self.draft.name().is_empty();
        if nameless {
            match task.clone() {
                // The draft needs a name; the task's stands in, and is taken out below.
                Some(task) => self.draft.set(Field::Name, Scalar::Text(task)),
                None => {
                    let error = "neither `agent` nor `task_id`; name one of them".to_owned();
                    self.draft.fail(Fault::item(RejectReason::Name, error));
                }
            }
        }
        let Finished { name, item, mut faults } = self.draft.finish();
        let Some(update) = item else { return Finished { name, item: None, faults } };
        if update.tokens.iter().all(Option::is_none) && update.cost_usd.is_none() {
            if faults.is_empty() {
                let error = "neither tokens nor cost; give `input` and `output`, or `cost_usd`".to_owned();
                faults.push(Fault::item(RejectReason::Value, error));
            }
            return Finished { name: update.name, item: None, faults };
        }
        let update = UsageUpdate {
            index: 0,
            agent: (!nameless).then_some(update.name),
            task_id: match update.task_id {
                Patch::Set(task) => Some(task),
                Patch::Keep | Patch::Clear => None,
            },
            model: update.model,
            tokens: update.tokens,
            cost_usd: update.cost_usd,
            id: self.id,
        };
        Finished { name, item: Some(update), faults }
    }
}

#[cfg(test)]
mod tests;
