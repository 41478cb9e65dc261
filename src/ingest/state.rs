//! The body of `POST /api/state`: agents and components of one project, read in one pass into borrowed fields.
//!
//! A value that can't be read costs itself, and one that nobody else can be known by costs its agent: it is rejected with
//! its place, its field and what would do. Only a body that is no batch at all is refused whole. Refuses trees and copies: this is the hottest path of the program.

mod component;
mod encode;
mod ordinal;

use std::borrow::Cow;
use std::time::Duration;

use serde::de::{DeserializeSeed as _, Error, IgnoredAny, MapAccess, SeqAccess};

use self::component::Components;
pub use self::encode::encode_state;
use self::ordinal::Ordinals;
use super::draft::{Draft, Fault, MAX_RATE_LIMITS, Place, reject};
use super::fields::{Group, Member};
use super::{MAX_AGENTS, MAX_TEXT, PushDecodeError};
use crate::decode::read::{Key, Read, Scalar, Seed, Unfit};
use crate::decode::words;
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentUpdate, Batch, DEFAULT_PROJECT, RejectReason, Time, duration};
use crate::text;
use crate::text::names;

/// The longest promise to be heard from again.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
/// What most agents take in JSON, in bytes: only a first guess at how many there are.
const TYPICAL_AGENT: usize = 256;

/// Reads the body of `POST /api/state`.
///
/// Every field is understood in snake_case and camelCase, and under the names that earlier systems used. Times are
/// RFC 3339, Unix seconds or milliseconds, and taken as said: only who knows the clock that they were said by can tell
/// what is yet to come. `now` is that of the wall clock. Null clears what can be cleared.
/// A single number for `tokens` or `tokensUsed` counts as input where no split is given; `retryAfter` (seconds, or a
/// time) becomes a limit on requests of the provider `unknown`. `ttl` is seconds or a duration such as `5m`.
///
/// A batch that says `complete` loses that mark when an agent in it was rejected: whom it failed to name must not
/// be taken for gone. `complete` without the list `agents` is rejected for the same reason.
pub fn decode_state(body: &str, now: Time) -> Result<Batch<'_>, PushDecodeError> {
    let Decoded { project, mut batch, whole } = decode(body, now)?;
    batch.project = project.unwrap_or(Cow::Borrowed(DEFAULT_PROJECT));
    batch.complete &= whole;
    Ok(batch)
}

/// Reads bodies of `POST /api/state` that outlive their text, such as those that a poll was written down as.
pub fn decode_states(bodies: &[String], now: Time) -> Result<Vec<Batch<'static>>, PushDecodeError> {
    bodies.iter().map(|body| decode_state(body, now).map(super::owned::batch)).collect()
}

/// A batch as it was read.
pub(super) struct Decoded<'a> {
    /// The project, `None` when the body names none.
    pub(super) project: Option<Cow<'a, str>>,
    /// The rest; its own `project` is not set yet.
    pub(super) batch: Batch<'a>,
    /// Whether agents were listed and all of them were read, so that who is not in the batch was not listed.
    pub(super) whole: bool,
}

/// [`decode_state`] for callers with a default project, and a mind of their own about completeness.
pub(super) fn decode(body: &str, now: Time) -> Result<Decoded<'_>, PushDecodeError> {
    let mut reader =
        Body { now, project: None, batch: Batch::default(), guess: body.len() / TYPICAL_AGENT, whole: false };
    let mut input = serde_json::Deserializer::from_str(body);
    Seed(&mut reader).deserialize(&mut input).map_err(|error| PushDecodeError::new(&error))?;
    input.end().map_err(|error| PushDecodeError::new(&error))?;
    let Body { project, batch, whole, .. } = reader;
    Ok(Decoded { project, batch, whole })
}

struct Body<'a> {
    now: Time,
    project: Option<Cow<'a, str>>,
    batch: Batch<'a>,
    guess: usize,
    /// As in [`Decoded`].
    whole: bool,
}

enum Part {
    Project,
    Complete,
    Ttl,
    Ordinal,
    Agents,
    Components,
    Unknown,
}

fn part(key: &str) -> Part {
    match key {
        "project" | "projectId" | "project_id" => Part::Project,
        "complete" => Part::Complete,
        "ttl" => Part::Ttl,
        "ordinal" => Part::Ordinal,
        "agents" => Part::Agents,
        "components" => Part::Components,
        _ => Part::Unknown,
    }
}

impl<'de> Read<'de> for Body<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let (mut agents, mut components) = (false, false);
        while let Some(part) = map.next_key_seed(Key(part))? {
            match part {
                Part::Project => self.project = project(map.next_value()?)?,
                Part::Complete => {
                    let read = complete(&map.next_value()?);
                    self.batch.complete = self.kept(read).unwrap_or_default();
                }
                Part::Ttl => {
                    let read = ttl(&map.next_value()?);
                    self.batch.ttl = self.kept(read).flatten();
                }
                Part::Ordinal => {
                    let mut ordinal = Ordinals::default();
                    map.next_value_seed(Seed(&mut ordinal))?;
                    let read = ordinal.finish();
                    self.batch.ordinal = self.kept(read).flatten();
                }
                Part::Agents => map.next_value_seed(Seed(&mut Agents { body: self, listed: &mut agents }))?,
                Part::Components => {
                    let batch = &mut self.batch;
                    let listed = &mut components;
                    let into = (&mut batch.components, &mut batch.rejected);
                    map.next_value_seed(Seed(&mut Components { components: into.0, rejected: into.1, listed }))?;
                }
                Part::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        if !agents && !components {
            // What stands in their places says more than that they are missing.
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
            self.reject(Fault { field: "complete", reason: RejectReason::Value, error });
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        Err(E::custom(format_args!("the body is {}; send {{\"agents\": [{{\"name\": …}}]}}", value.shown())))
    }
}

impl Body<'_> {
    fn reject(&mut self, fault: Fault) {
        reject(&mut self.batch.rejected, Place::BODY, "", fault);
    }

    /// What was read of a field of the body itself, unless it can't be.
    fn kept<T>(&mut self, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| self.reject(fault)).ok()
    }
}

/// The value of `project`; `None` for null. One that can't be used leaves nothing of the body: whose agents they are is
/// not known.
pub(super) fn project<'a, E: Error>(value: Scalar<'a>) -> Result<Option<Cow<'a, str>>, E> {
    match value {
        Scalar::Null => Ok(None),
        Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => Ok(Some(name)),
        other => Err(E::custom(Fault::unfit_name("project", &other).error)),
    }
}

fn complete(value: &Scalar<'_>) -> Result<bool, Fault> {
    let flag = value.flag().map_err(|unfit| Fault::unfit("complete", &value.shown(), unfit))?;
    Ok(flag.unwrap_or(false))
}

fn ttl(value: &Scalar<'_>) -> Result<Option<Duration>, Fault> {
    let ttl = match value {
        Scalar::Text(text) => duration::parse(text).ok(),
        Scalar::Null => return Ok(None),
        _ => value.seconds().ok().flatten(),
    };
    match ttl {
        Some(ttl) if !ttl.is_zero() && ttl <= MAX_TTL => Ok(Some(ttl)),
        _ => {
            let unfit = Unfit("seconds or a duration such as 5m, more than 0 and at most 30d");
            Err(Fault::unfit("ttl", &value.shown(), unfit))
        }
    }
}

struct Agents<'x, 'a> {
    body: &'x mut Body<'a>,
    listed: &'x mut bool,
}

impl<'de> Read<'de> for Agents<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        *self.listed = true;
        let Body { now, batch, guess, whole, .. } = &mut *self.body;
        *whole = true;
        batch.agents.reserve((*guess).clamp(1, 1024));
        for index in 0..MAX_AGENTS {
            let mut agent = Draft::new(*now);
            if list.next_element_seed(Seed(&mut agent))?.is_none() {
                return Ok(());
            }
            match agent.finish().settle(Place::agent(index), &mut batch.rejected) {
                Some(agent) => batch.agents.push(AgentUpdate { index, ..agent }),
                None => *whole = false,
            }
        }
        let more = skip(&mut list)?;
        if more > 0 {
            *whole = false;
            self.body.reject(Fault::surplus("agents", more, MAX_AGENTS));
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        if value != Scalar::Null {
            self.body.reject(Fault::unfit("agents", &value.shown(), Unfit("a list")));
        }
        Ok(())
    }
}

/// Passes over the rest of a list; returns how many there were.
pub(super) fn skip<'de, A: SeqAccess<'de>>(list: &mut A) -> Result<usize, A::Error> {
    let mut count = 0;
    while list.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

impl<'de> Read<'de> for Draft<'de> {
    #[inline]
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key_seed(Key(Member::of))? {
            match member {
                Member::Field(field) => {
                    let value = map.next_value()?;
                    self.set(field, value);
                }
                Member::Group(group) => map.next_value_seed(Seed(&mut Counters { draft: self, group }))?,
                Member::RateLimits => map.next_value_seed(Seed(&mut RateLimits(self)))?,
                Member::Unknown => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        self.fail(Fault::item(RejectReason::Value, format!("an agent is {}; it must be an object", value.shown())));
        Ok(())
    }
}

/// `tokens`, `requests` or `reviews`: an object of counters, or one number for all.
pub(super) struct Counters<'x, 'a> {
    pub(super) draft: &'x mut Draft<'a>,
    pub(super) group: Group,
}

impl<'de> Read<'de> for Counters<'_, 'de> {
    #[inline]
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Key(|key: &str| self.group.field(key)))? {
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
                self.draft.fault(Fault::unfit(self.group.as_str(), &value.shown(), Unfit("an object of counters")));
            }
        }
        Ok(())
    }
}

struct RateLimits<'x, 'a>(&'x mut Draft<'a>);

impl<'de> Read<'de> for RateLimits<'_, 'de> {
    fn list<A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        let mut limits = Vec::with_capacity(1);
        loop {
            let mut item = RateLimit { limit: RateLimitUpdate::default(), unknown: false, faults: Vec::new() };
            if list.next_element_seed(Seed(&mut item))?.is_none() {
                self.0.set_rate_limits(limits);
                return Ok(());
            }
            item.faults.into_iter().for_each(|fault| self.0.fault(fault));
            if item.unknown {
                continue;
            }
            if limits.len() == MAX_RATE_LIMITS {
                self.0.fault(Fault::limit("rate_limits", "rate limits of one agent", MAX_RATE_LIMITS));
                skip(&mut list)?;
            } else {
                limits.push(item.limit);
            }
        }
    }

    fn scalar<E: Error>(&mut self, value: Scalar<'de>) -> Result<(), E> {
        match value {
            Scalar::Null => self.0.set_rate_limits(Vec::new()),
            other => self.0.fault(Fault::unfit("rate_limits", &other.shown(), Unfit("a list"))),
        }
        Ok(())
    }
}

struct RateLimit<'a> {
    limit: RateLimitUpdate<'a>,
    /// Whether it can't be known which limit it is.
    unknown: bool,
    faults: Vec<Fault>,
}

#[derive(Clone, Copy)]
enum LimitPart {
    Provider,
    LimitType,
    Limit,
    Remaining,
    ResetAt,
    Unknown,
}

/// The kinds of limit that `limit_type` names.
const LIMIT_TYPES: [&str; 4] = ["requests", "tokens", "input_tokens", "output_tokens"];

fn limit_part(key: &str) -> LimitPart {
    match key {
        "provider" => LimitPart::Provider,
        "limit_type" | "limitType" | "type" => LimitPart::LimitType,
        "limit" => LimitPart::Limit,
        "remaining" => LimitPart::Remaining,
        "reset_at" | "resetAt" | "resets_at" | "resetsAt" => LimitPart::ResetAt,
        _ => LimitPart::Unknown,
    }
}

impl<'de> Read<'de> for RateLimit<'de> {
    fn map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(part) = map.next_key_seed(Key(limit_part))? {
            if let LimitPart::Unknown = part {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Scalar<'de> = map.next_value()?;
            self.set(part, value);
        }
        // Who limits and what: a name for the one that does not say, so that two of them are not taken for one.
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
        self.faults.push(Fault::unfit("rate_limits", &value.shown(), Unfit("a list of objects")));
        Ok(())
    }
}

impl<'a> RateLimit<'a> {
    fn set(&mut self, part: LimitPart, value: Scalar<'a>) {
        let limit = &mut self.limit;
        let (key, done) = match part {
            LimitPart::Provider => {
                let kept = value.clone().text(MAX_TEXT);
                let one = |name: Cow<'_, str>| names::provider(&name).map(|name| Cow::Owned(name.into_owned()));
                ("rate_limits.provider", kept.map(|name| limit.provider = name.and_then(one).unwrap_or_default()))
            }
            LimitPart::LimitType => {
                ("rate_limits.limit_type", limit_type(&value).map(|known| limit.limit_type = Cow::Borrowed(known)))
            }
            LimitPart::Limit => ("rate_limits.limit", value.count().map(|count| limit.limit = count)),
            LimitPart::Remaining => ("rate_limits.remaining", value.count().map(|count| limit.remaining = count)),
            LimitPart::ResetAt | LimitPart::Unknown => {
                ("rate_limits.reset_at", value.time().map(|time| limit.reset_at = time))
            }
        };
        if let Err(unfit) = done {
            self.unknown |= matches!(part, LimitPart::Provider | LimitPart::LimitType);
            // A key that is there again and again says no more than once.
            if self.faults.iter().all(|fault| fault.field != key) {
                self.faults.push(Fault::unfit(key, &value.shown(), unfit));
            }
        }
    }
}

fn limit_type(value: &Scalar<'_>) -> Result<&'static str, Unfit> {
    const UNFIT: Unfit = Unfit("requests, tokens, input_tokens or output_tokens");
    let Scalar::Text(word) = value else {
        return if *value == Scalar::Null { Ok("") } else { Err(UNFIT) };
    };
    if let Some(known) = LIMIT_TYPES.into_iter().find(|known| known == word) {
        return Ok(known);
    }
    let (mut said, mut folded) = ([0; 48], [0; 48]);
    let said = words::folded(word, &mut said).ok_or(UNFIT)?;
    LIMIT_TYPES.into_iter().find(|known| words::folded(known, &mut folded) == Some(said)).ok_or(UNFIT)
}

#[cfg(test)]
mod tests;
