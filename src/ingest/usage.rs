//! Decodes the body of `POST /api/usage`: increments of tokens and cost, by agent or by task.

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use super::draft::{AgentDraft, DraftResult, ItemError, ItemLocation, numbered, reject, skip};
use super::fields::{AgentField, CounterGroup, KeyMeaning};
use super::state::{CounterReader, project};
use super::{MAX_AGENTS, PushDecodeError};
use crate::decode::read::{JsonVisitor, KeySeed, Scalar, UnexpectedValue, VisitorSeed};
use crate::model::{DEFAULT_PROJECT, Patch, RejectReason, Rejected, Time, UsageUpdate};

/// Longest id of an increment, in bytes; only a hash of it is kept.
const MAX_ID: usize = 1_024;

/// The increments of one body, all of one project.
#[derive(Clone, Debug, Default)]
pub struct UsageBatch<'a> {
    /// The project, valid by [`crate::text::is_name`].
    pub project: Cow<'a, str>,
    /// The increments; each has an agent or a task, and tokens or cost.
    pub usage: Vec<UsageUpdate<'a>>,
    /// The rejected increments, by agent or task.
    pub rejected: Vec<Rejected>,
}

/// Decodes the body of `POST /api/usage`: `{"project", "usage": [{…}]}`, or a single object in place of the list.
///
/// AgentField names are those of states; a single number for all tokens counts as input unless tokens are given by type.
pub fn decode_usage(body: &str) -> Result<UsageBatch<'_>, PushDecodeError> {
    let mut reader = UsageBodyReader { project: None, batch: UsageBatch::default(), listed: false };
    let mut input = serde_json::Deserializer::from_str(body);
    VisitorSeed(&mut reader).deserialize(&mut input).map_err(|error| PushDecodeError::new(&error))?;
    input.end().map_err(|error| PushDecodeError::new(&error))?;
    let UsageBodyReader { project, mut batch, .. } = reader;
    batch.project = project.unwrap_or(Cow::Borrowed(DEFAULT_PROJECT));
    Ok(batch)
}

struct UsageBodyReader<'a> {
    project: Option<Cow<'a, str>>,
    batch: UsageBatch<'a>,
    listed: bool,
}

enum UsageKey {
    Project,
    Usage,
    Unknown,
}

fn usage_key(key: &str) -> UsageKey {
    match key {
        "project" | "projectId" | "project_id" => UsageKey::Project,
        "usage" => UsageKey::Usage,
        _ => UsageKey::Unknown,
    }
}

impl<'de> JsonVisitor<'de> for UsageBodyReader<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(KeySeed(usage_key))? {
            match part {
                UsageKey::Project => self.project = project(map.next_value()?)?,
                UsageKey::Usage => map.next_value_seed(VisitorSeed(&mut UsageList(self)))?,
                UsageKey::Unknown => _ = map.next_value::<IgnoredAny>()?,
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

struct UsageList<'x, 'a>(&'x mut UsageBodyReader<'a>);

impl<'de> JsonVisitor<'de> for UsageList<'_, 'de> {
    fn map<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.0.listed = true;
        let mut item = UsageDraft::new();
        item.map(map)?;
        self.add(0, item);
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        self.0.listed = true;
        for index in 0..MAX_AGENTS {
            let mut item = UsageDraft::new();
            if list.next_element_seed(VisitorSeed(&mut item))?.is_none() {
                return Ok(());
            }
            self.add(index, item);
        }
        let more = skip(&mut list)?;
        if more > 0 {
            let item_error = ItemError::too_many_items("usage", more, MAX_AGENTS);
            reject(&mut self.0.batch.rejected, ItemLocation::BODY, "", item_error);
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("`usage` is {}; it must be a list", value.shown())))
    }
}

impl<'a> UsageList<'_, 'a> {
    fn add(&mut self, index: usize, item: UsageDraft<'a>) {
        let place = ItemLocation { list: "usage", index: Some(index) };
        if let Some(update) = item.finish().report(place, &mut self.0.batch.rejected) {
            self.0.batch.usage.push(UsageUpdate { index, ..update });
        }
    }
}

/// An increment while it is read, as a draft of a state: fields, names and limits are the same.
struct UsageDraft<'a> {
    draft: AgentDraft<'a>,
    id: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy)]
enum UsageItemKey {
    Id,
    Field(AgentField),
    Tokens,
    Unknown,
}

fn usage_item_key(key: &str) -> UsageItemKey {
    if matches!(key, "id" | "request_id" | "requestId") {
        return UsageItemKey::Id;
    }
    match KeyMeaning::of(key) {
        KeyMeaning::Field(field @ (AgentField::Name | AgentField::TaskId | AgentField::Model)) => {
            UsageItemKey::Field(field)
        }
        KeyMeaning::Group(CounterGroup::Tokens) => UsageItemKey::Tokens,
        _ => CounterGroup::Tokens.field(key).map_or(UsageItemKey::Unknown, UsageItemKey::Field),
    }
}

impl<'de> JsonVisitor<'de> for UsageDraft<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(KeySeed(usage_item_key))? {
            match part {
                UsageItemKey::Id => self.set_id(map.next_value()?),
                UsageItemKey::Field(field) => {
                    let value: Scalar<'de> = map.next_value()?;
                    // An increment may have no agent: its task determines the agent.
                    if field != AgentField::Name || value != Scalar::Null {
                        self.draft.set(field, value);
                    }
                }
                UsageItemKey::Tokens => {
                    map.next_value_seed(VisitorSeed(&mut CounterReader {
                        draft: &mut self.draft,
                        group: CounterGroup::Tokens,
                    }))?;
                }
                UsageItemKey::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        let error = format!("an increment is {}; it must be an object", value.shown());
        self.draft.fail(ItemError::of_item(RejectReason::Value, error));
        Ok(())
    }
}

impl<'a> UsageDraft<'a> {
    fn new() -> Self {
        Self { draft: AgentDraft::new(Time::default()), id: None }
    }

    fn set_id(&mut self, value: Scalar<'a>) {
        match numbered(value) {
            Scalar::Null => self.id = None,
            // The id is not cut or sanitised: two could become equal, and one increment would be lost.
            Scalar::Text(id) if !id.is_empty() && id.len() <= MAX_ID => self.id = Some(id),
            // Without its id the increment could be counted twice.
            other => self.draft.fail(ItemError::invalid_value(
                "id",
                &other.shown(),
                UnexpectedValue("1 to 1024 bytes of text"),
            )),
        }
    }

    fn finish(mut self) -> DraftResult<'a, UsageUpdate<'a>> {
        let task = self.draft.task_id();
        let nameless = self.draft.name().is_empty();
        if nameless {
            match task.clone() {
                // The draft needs a name: the task's, which is removed below.
                Some(task) => self.draft.set(AgentField::Name, Scalar::Text(task)),
                None => {
                    let error = "neither `agent` nor `task_id`; name one of them".to_owned();
                    self.draft.fail(ItemError::of_item(RejectReason::Name, error));
                }
            }
        }
        let DraftResult { name, item, mut errors } = self.draft.finish();
        let Some(update) = item else { return DraftResult { name, item: None, errors } };
        if update.tokens.iter().all(Option::is_none) && update.cost_usd.is_none() {
            if errors.is_empty() {
                let error = "neither tokens nor cost; give `input` and `output`, or `cost_usd`".to_owned();
                errors.push(ItemError::of_item(RejectReason::Value, error));
            }
            return DraftResult { name: update.name, item: None, errors };
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
        DraftResult { name, item: Some(update), errors }
    }
}

#[cfg(test)]
mod tests;
