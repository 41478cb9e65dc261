//! Decodes the body of `POST /api/state`: agents and components of one project, in one pass into borrowed fields. This is
//! the hottest path of the program, so that it builds no trees and copies no text.
//!
//! An invalid value is rejected alone, an invalid name with its agent; each rejection has its position, field, reason and
//! remedy. Only a body that is no batch is rejected as a whole.

mod component;
mod encode;
mod ordinal;

use std::borrow::Cow;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use self::component::ComponentList;
pub use self::encode::encode_state;
use self::ordinal::OrdinalDraft;
use super::draft::{AgentDraft, ItemError, ItemLocation, MAX_RATE_LIMITS, reject, skip, ttl};
use super::fields::{CounterGroup, KeyMeaning};
use super::{MAX_AGENTS, MAX_TEXT, PushDecodeError};
use crate::decode::read::{JsonVisitor, KeySeed, Scalar, UnexpectedValue, VisitorSeed};
use crate::decode::words;
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentUpdate, Batch, DEFAULT_PROJECT, RejectReason, Time};
use crate::text;
use crate::text::names;

/// The size of a typical agent in JSON, in bytes, to estimate how many there are.
const TYPICAL_AGENT: usize = 256;

/// Decodes the body of `POST /api/state`.
///
/// Fields are accepted in snake_case and camelCase, and under the names of earlier systems. Times are RFC 3339, Unix seconds
/// or milliseconds; a time in the future is accepted, since the sender's clock is not known here. `now` is the time of the
/// wall clock. Null clears fields that can be cleared. A single number for `tokens` or `tokensUsed` counts as input unless
/// tokens are given by type; `retryAfter` (seconds, or a time) becomes a limit on requests of the provider `unknown`. `ttl`
/// is seconds or a duration such as `5m`.
///
/// A batch is not `complete` when an agent of it was rejected, since that one must not be removed. `complete` without the
/// list `agents` is rejected for the same reason.
pub fn decode_state(body: &str, now: Time) -> Result<Batch<'_>, PushDecodeError> {
    let Decoded { project, mut batch, whole } = decode(body, now)?;
    batch.project = project.unwrap_or(Cow::Borrowed(DEFAULT_PROJECT));
    batch.complete &= whole;
    Ok(batch)
}

/// Decodes bodies of `POST /api/state` into owned batches, such as those that a poll was recorded as.
pub fn decode_states(bodies: &[String], now: Time) -> Result<Vec<Batch<'static>>, PushDecodeError> {
    bodies.iter().map(|body| decode_state(body, now).map(super::owned::batch)).collect()
}

/// A decoded batch.
pub(super) struct Decoded<'a> {
    /// The project; `None` when the body has none.
    pub(super) project: Option<Cow<'a, str>>,
    /// The batch, without its project.
    pub(super) batch: Batch<'a>,
    /// Whether there is a list of agents and none was rejected.
    pub(super) whole: bool,
}

/// [`decode_state`] for callers with another default project or rule for completeness.
pub(super) fn decode(body: &str, now: Time) -> Result<Decoded<'_>, PushDecodeError> {
    let mut reader = StateBodyReader {
        now,
        project: None,
        batch: Batch::default(),
        guess: body.len() / TYPICAL_AGENT,
        whole: false,
    };
    let mut input = serde_json::Deserializer::from_str(body);
    VisitorSeed(&mut reader).deserialize(&mut input).map_err(|error| PushDecodeError::new(&error))?;
    input.end().map_err(|error| PushDecodeError::new(&error))?;
    let StateBodyReader { project, batch, whole, .. } = reader;
    Ok(Decoded { project, batch, whole })
}

struct StateBodyReader<'a> {
    now: Time,
    project: Option<Cow<'a, str>>,
    batch: Batch<'a>,
    guess: usize,
    /// As in [`Decoded`].
    whole: bool,
}

enum StateKey {
    Project,
    Complete,
    Ttl,
    Ordinal,
    Agents,
    Components,
    Unknown,
}

fn state_key(key: &str) -> StateKey {
    match key {
        "project" | "projectId" | "project_id" => StateKey::Project,
        "complete" => StateKey::Complete,
        "ttl" => StateKey::Ttl,
        "ordinal" => StateKey::Ordinal,
        "agents" => StateKey::Agents,
        "components" => StateKey::Components,
        _ => StateKey::Unknown,
    }
}

impl<'de> JsonVisitor<'de> for StateBodyReader<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let (mut agents, mut components) = (false, false);
        while let Some(part) = map.next_key_seed(KeySeed(state_key))? {
            match part {
                StateKey::Project => self.project = project(map.next_value()?)?,
                StateKey::Complete => {
                    let read = complete(&map.next_value()?);
                    self.batch.complete = self.valid(read).unwrap_or_default();
                }
                StateKey::Ttl => {
                    let read = ttl(&map.next_value()?);
                    self.batch.ttl = self.valid(read).flatten();
                }
                StateKey::Ordinal => {
                    let mut ordinal = OrdinalDraft::default();
                    map.next_value_seed(VisitorSeed(&mut ordinal))?;
                    let read = ordinal.finish();
                    self.batch.ordinal = self.valid(read).flatten();
                }
                StateKey::Agents => {
                    map.next_value_seed(VisitorSeed(&mut AgentList { body: self, listed: &mut agents }))?
                }
                StateKey::Components => {
                    let batch = &mut self.batch;
                    let listed = &mut components;
                    let into = (&mut batch.components, &mut batch.rejected);
                    map.next_value_seed(VisitorSeed(&mut ComponentList {
                        components: into.0,
                        rejected: into.1,
                        listed,
                    }))?;
                }
                StateKey::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        if !agents && !components {
            // An error about their values is more specific than that they are missing.
            let found = self.batch.rejected.iter().find(|it| matches!(it.field, "agents" | "components"));
            return Err(A::Error::custom(
                found.map_or("neither `agents` nor `components`; send {\"agents\": [{\"name\": …}]}", |found| {
                    found.error.as_str()
                }),
            ));
        }
        if self.batch.complete && !agents {
            self.batch.complete = false;
            let error = "`complete` without `agents`; list the agents that there are, or `[]` for none".to_owned();
            self.reject(ItemError { field: "complete", reason: RejectReason::Value, error });
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("the body is {}; send {{\"agents\": [{{\"name\": …}}]}}", value.shown())))
    }
}

impl StateBodyReader<'_> {
    fn reject(&mut self, item_error: ItemError) {
        reject(&mut self.batch.rejected, ItemLocation::BODY, "", item_error);
    }

    /// The value of a field of the body; an invalid one is rejected.
    fn valid<T>(&mut self, read: Result<T, ItemError>) -> Option<T> {
        read.map_err(|item_error| self.reject(item_error)).ok()
    }
}

/// The value of `project`; `None` for null. An invalid one rejects the body, since the project of its agents is unknown.
pub(super) fn project<'a, E: Error>(value: Scalar<'a>) -> Result<Option<Cow<'a, str>>, E> {
    match value {
        Scalar::Null => Ok(None),
        Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => Ok(Some(name)),
        other => Err(E::custom(ItemError::invalid_name_in("project", &other).error)),
    }
}

fn complete(value: &Scalar<'_>) -> Result<bool, ItemError> {
    let flag = value.flag().map_err(|expected| ItemError::invalid_value("complete", &value.shown(), expected))?;
    Ok(flag.unwrap_or(false))
}

struct AgentList<'x, 'a> {
    body: &'x mut StateBodyReader<'a>,
    listed: &'x mut bool,
}

impl<'de> JsonVisitor<'de> for AgentList<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        *self.listed = true;
        let StateBodyReader { now, batch, guess, whole, .. } = &mut *self.body;
        *whole = true;
        batch.agents.reserve((*guess).clamp(1, 1024));
        for index in 0..MAX_AGENTS {
            let mut agent = AgentDraft::new(*now);
            if list.next_element_seed(VisitorSeed(&mut agent))?.is_none() {
                return Ok(());
            }
            match agent.finish().report(ItemLocation::agent(index), &mut batch.rejected) {
                Some(agent) => batch.agents.push(AgentUpdate { index, ..agent }),
                None => *whole = false,
            }
        }
        let more = skip(&mut list)?;
        if more > 0 {
            *whole = false;
            self.body.reject(ItemError::too_many_items("agents", more, MAX_AGENTS));
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            self.body.reject(ItemError::invalid_value("agents", &value.shown(), UnexpectedValue("a list")));
        }
        Ok(())
    }
}

impl<'de> JsonVisitor<'de> for AgentDraft<'de> {
    #[inline]
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key_seed(KeySeed(KeyMeaning::of))? {
            match member {
                KeyMeaning::Field(field) => {
                    let value = map.next_value()?;
                    self.set(field, value);
                }
                KeyMeaning::Group(group) => {
                    map.next_value_seed(VisitorSeed(&mut CounterReader { draft: self, group }))?
                }
                KeyMeaning::RateLimits => map.next_value_seed(VisitorSeed(&mut RateLimitList(self)))?,
                KeyMeaning::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        self.fail(ItemError::of_item(
            RejectReason::Value,
            format!("an agent is {}; it must be an object", value.shown()),
        ));
        Ok(())
    }
}

/// Reads a group, such as `tokens` or `requests`: an object of counters, or one number for all.
pub(super) struct CounterReader<'x, 'a> {
    pub(super) draft: &'x mut AgentDraft<'a>,
    pub(super) group: CounterGroup,
}

impl<'de> JsonVisitor<'de> for CounterReader<'_, 'de> {
    #[inline]
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(KeySeed(|key: &str| self.group.field(key)))? {
            match field {
                Some(field) => {
                    let value = map.next_value()?;
                    self.draft.set(field, value);
                }
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        match (value, self.group.total()) {
            (Scalar::Null, _) => {}
            (value @ (Scalar::Whole(_) | Scalar::Number(_)), Some(field)) => self.draft.set(field, value),
            (value, _) => {
                self.draft.add_error(ItemError::invalid_value(
                    self.group.as_str(),
                    &value.shown(),
                    UnexpectedValue("an object of counters"),
                ));
            }
        }
        Ok(())
    }
}

struct RateLimitList<'x, 'a>(&'x mut AgentDraft<'a>);

impl<'de> JsonVisitor<'de> for RateLimitList<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        let mut limits = Vec::with_capacity(1);
        loop {
            let mut item = RateLimitDraft { limit: RateLimitUpdate::default(), unknown: false, errors: Vec::new() };
            if list.next_element_seed(VisitorSeed(&mut item))?.is_none() {
                self.0.set_rate_limits(limits);
                return Ok(());
            }
            item.errors.into_iter().for_each(|item_error| self.0.add_error(item_error));
            if item.unknown {
                continue;
            }
            if limits.len() == MAX_RATE_LIMITS {
                self.0.add_error(ItemError::too_many("rate_limits", "rate limits of one agent", MAX_RATE_LIMITS));
                skip(&mut list)?;
            } else {
                limits.push(item.limit);
            }
        }
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        match value {
            Scalar::Null => self.0.set_rate_limits(Vec::new()),
            other => {
                self.0.add_error(ItemError::invalid_value("rate_limits", &other.shown(), UnexpectedValue("a list")))
            }
        }
        Ok(())
    }
}

struct RateLimitDraft<'a> {
    limit: RateLimitUpdate<'a>,
    /// Whether provider or type is invalid, so that the limit can't be identified.
    unknown: bool,
    errors: Vec<ItemError>,
}

#[derive(Clone, Copy)]
enum LimitKey {
    Provider,
    LimitType,
    Limit,
    Remaining,
    ResetAt,
    Unknown,
}

/// The values of `limit_type`.
const LIMIT_TYPES: [&str; 4] = ["requests", "tokens", "input_tokens", "output_tokens"];

fn limit_key(key: &str) -> LimitKey {
    match key {
        "provider" => LimitKey::Provider,
        "limit_type" | "limitType" | "type" => LimitKey::LimitType,
        "limit" => LimitKey::Limit,
        "remaining" => LimitKey::Remaining,
        "reset_at" | "resetAt" | "resets_at" | "resetsAt" => LimitKey::ResetAt,
        _ => LimitKey::Unknown,
    }
}

impl<'de> JsonVisitor<'de> for RateLimitDraft<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(KeySeed(limit_key))? {
            if let LimitKey::Unknown = part {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Scalar<'de> = map.next_value()?;
            self.set(part, value);
        }
        // Defaults for the identity of the limit.
        if self.limit.provider.is_empty() {
            self.limit.provider = Cow::Borrowed("unknown");
        }
        if self.limit.limit_type.is_empty() {
            self.limit.limit_type = Cow::Borrowed("requests");
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        self.unknown = true;
        self.errors.push(ItemError::invalid_value("rate_limits", &value.shown(), UnexpectedValue("a list of objects")));
        Ok(())
    }
}

impl<'a> RateLimitDraft<'a> {
    fn set(&mut self, part: LimitKey, value: Scalar<'a>) {
        let limit = &mut self.limit;
        let (key, done) = match part {
            LimitKey::Provider => {
                let kept = value.clone().text(MAX_TEXT);
                let one = |name: Cow<'_, str>| names::provider(&name).map(|name| Cow::Owned(name.into_owned()));
                ("rate_limits.provider", kept.map(|name| limit.provider = name.and_then(one).unwrap_or_default()))
            }
            LimitKey::LimitType => {
                ("rate_limits.limit_type", limit_type(&value).map(|known| limit.limit_type = Cow::Borrowed(known)))
            }
            LimitKey::Limit => ("rate_limits.limit", value.count().map(|count| limit.limit = count)),
            LimitKey::Remaining => ("rate_limits.remaining", value.count().map(|count| limit.remaining = count)),
            LimitKey::ResetAt | LimitKey::Unknown => {
                ("rate_limits.reset_at", value.time().map(|time| limit.reset_at = time))
            }
        };
        if let Err(expected) = done {
            self.unknown |= matches!(part, LimitKey::Provider | LimitKey::LimitType);
            // A repeated key is reported once.
            if self.errors.iter().all(|item_error| item_error.field != key) {
                self.errors.push(ItemError::invalid_value(key, &value.shown(), expected));
            }
        }
    }
}

fn limit_type(value: &Scalar<'_>) -> Result<&'static str, UnexpectedValue> {
    const UNFIT: UnexpectedValue = UnexpectedValue("requests, tokens, input_tokens or output_tokens");
    let Scalar::Text(word) = value else {
        return if *value == Scalar::Null { Ok("") } else { Err(UNFIT) };
    };
    if let Some(known) = LIMIT_TYPES.into_iter().find(|known| known == word) {
        return Ok(known);
    }
    let (mut buffer, mut folded) = ([0; 48], [0; 48]);
    let given = words::folded(word, &mut buffer).ok_or(UNFIT)?;
    LIMIT_TYPES.into_iter().find(|known| words::folded(known, &mut folded) == Some(given)).ok_or(UNFIT)
}

#[cfg(test)]
mod tests;
