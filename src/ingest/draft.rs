//! The state of one agent while it is read: which values are valid for each field, and the errors of those that are not.

use std::borrow::Cow;
use std::time::Duration;

use serde::de::{IgnoredAny, SeqAccess};

use super::fields::AgentField;
use super::{MAX_AGENTS, MAX_DETAILED_REJECTIONS, MAX_REASON, MAX_TEXT};
use crate::decode::limits::is_about_limit;
use crate::decode::read::{Scalar, UnexpectedValue, shown};
use crate::decode::{retry, words};
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentStatus, AgentUpdate, Patch, RateLimitHit, RejectReason, Rejected, Time, duration};
use crate::text;
use crate::text::names;

/// Most rate limits of one agent.
pub(super) const MAX_RATE_LIMITS: usize = 16;
/// The longest `ttl`.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Most errors of one item that are kept.
const MAX_ERRORS: usize = 32;

/// Why an agent, a component or a usage increment, or a value of one, is rejected.
#[derive(Clone, Debug)]
pub(super) struct ItemError {
    /// The field; empty for the item itself.
    pub(super) field: &'static str,
    pub(super) reason: RejectReason,
    pub(super) error: String,
}

impl ItemError {
    /// The item as a whole is rejected.
    pub(super) fn of_item(reason: RejectReason, error: String) -> Self {
        Self { field: "", reason, error }
    }

    /// `value` is invalid for `field`.
    pub(super) fn invalid_value(field: &'static str, value: &str, expected: UnexpectedValue) -> Self {
        Self { field, reason: RejectReason::Value, error: format!("`{field}` is {value}; it must be {}", expected.0) }
    }

    /// `word` is not a status.
    pub(super) fn unknown_status(word: &str, known: &[&str]) -> Self {
        let error = format!("unknown status `{}`; {}", shown(word), words::instead(word, known));
        Self { field: "status", reason: RejectReason::Status, error }
    }

    /// `value` is not a valid `name`.
    pub(super) fn invalid_name(value: &Scalar<'_>) -> Self {
        Self::invalid_name_in("name", value)
    }

    /// `value` is not a valid name for `field`.
    pub(super) fn invalid_name_in(field: &'static str, value: &Scalar<'_>) -> Self {
        let why = match value {
            Scalar::Text(text) => text::name_error(text, MAX_TEXT),
            _ => None,
        };
        let why = why.unwrap_or_else(|| "it must be text".to_owned());
        Self { field, reason: RejectReason::Name, error: format!("`{field}` is {}; {why}", value.shown()) }
    }

    /// There are more than `most` of `what`.
    pub(super) fn too_many(field: &'static str, what: &str, most: usize) -> Self {
        Self { field, reason: RejectReason::Limit, error: format!("more than {most} {what}; send at most so many") }
    }

    /// The list `field` of a body has `more` items than the allowed `most`.
    pub(super) fn too_many_items(field: &'static str, more: usize, most: usize) -> Self {
        let error = format!("more than {most} {field} in one body: {more} were left out; send several bodies");
        Self { field, reason: RejectReason::Limit, error }
    }
}

/// Where an item is in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemLocation {
    pub(super) list: &'static str,
    pub(super) index: Option<usize>,
}

impl ItemLocation {
    /// The body itself.
    pub(super) const BODY: Self = Self { list: "", index: None };

    pub(super) const fn agent(index: usize) -> Self {
        Self { list: "agents", index: Some(index) }
    }
}

/// Adds a rejection of the item `name` at `place`; in full only while there are few.
pub(super) fn reject(rejected: &mut Vec<Rejected>, place: ItemLocation, name: &str, error: ItemError) {
    let ItemError { field, reason, error } = error;
    if rejected.len() < MAX_DETAILED_REJECTIONS {
        rejected.push(Rejected { list: place.list, index: place.index, name: shown(name), field, reason, error });
    } else if rejected.len() < MAX_AGENTS {
        rejected.push(Rejected::unnamed(reason));
    }
}

/// Skips the rest of a list; returns the number of its elements.
pub(super) fn skip<'de, A: SeqAccess<'de>>(list: &mut A) -> Result<usize, A::Error> {
    let mut count = 0;
    while list.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// The value of `ttl`; `None` for null.
pub(super) fn ttl(value: &Scalar<'_>) -> Result<Option<Duration>, ItemError> {
    let ttl = match value {
        Scalar::Text(text) => duration::parse(text).ok(),
        Scalar::Null => return Ok(None),
        _ => value.seconds().ok().flatten(),
    };
    match ttl {
        Some(ttl) if !ttl.is_zero() && ttl <= MAX_TTL => Ok(Some(ttl)),
        _ => {
            let expected = UnexpectedValue("seconds or a duration such as 5m, more than 0 and at most 30d");
            Err(ItemError::invalid_value("ttl", &value.shown(), expected))
        }
    }
}

/// An agent's state while it is read.
pub(super) struct AgentDraft<'a> {
    now: Time,
    update: AgentUpdate<'a>,
    tokens_used: Option<u64>,
    /// Tokens in the context window, and its size.
    context_used: Option<u64>,
    context_size: Option<u64>,
    active_at: Option<Time>,
    retry_at: Option<Time>,
    /// Why the agent as a whole is rejected.
    fatal_error: Option<ItemError>,
    /// Why values of it are rejected.
    errors: Vec<ItemError>,
}

/// An item after all its fields were read.
pub(super) struct DraftResult<'a, T> {
    /// Its name, for errors.
    pub(super) name: Cow<'a, str>,
    /// The item without invalid values; `None` when it is rejected as a whole.
    pub(super) item: Option<T>,
    /// What was rejected.
    pub(super) errors: Vec<ItemError>,
}

impl<T> DraftResult<'_, T> {
    /// Adds the errors to `rejected`, and returns the item.
    pub(super) fn report(self, place: ItemLocation, rejected: &mut Vec<Rejected>) -> Option<T> {
        for error in self.errors {
            reject(rejected, place, &self.name, error);
        }
        self.item
    }
}

impl<'a> AgentDraft<'a> {
    /// A draft without fields.
    pub(super) fn new(now: Time) -> Self {
        let update = AgentUpdate::default();
        Self {
            now,
            update,
            tokens_used: None,
            context_used: None,
            context_size: None,
            active_at: None,
            retry_at: None,
            fatal_error: None,
            errors: Vec::new(),
        }
    }

    /// The name, if it was read; else empty.
    pub(super) fn name(&self) -> &str {
        &self.update.name
    }

    /// The task, if it was read.
    pub(super) fn task_id(&self) -> Option<Cow<'a, str>> {
        match &self.update.task_id {
            Patch::Set(task) => Some(task.clone()),
            Patch::Keep | Patch::Clear => None,
        }
    }

    /// Rejects a value.
    pub(super) fn add_error(&mut self, error: ItemError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// Rejects the agent as a whole; the first error is kept.
    pub(super) fn fail(&mut self, error: ItemError) {
        self.fatal_error.get_or_insert(error);
    }

    /// Sets `field` to `value`. An invalid value is rejected; with an invalid name the agent is, since nothing else
    /// identifies it.
    #[inline]
    pub(super) fn set(&mut self, field: AgentField, value: Scalar<'a>) {
        if let Err((value, expected)) = self.try_set(field, value) {
            self.set_error(field, &value, expected);
        }
    }

    #[cold]
    fn set_error(&mut self, field: AgentField, value: &Scalar<'a>, expected: UnexpectedValue) {
        match (field, value) {
            (AgentField::Name, _) => self.fail(ItemError::invalid_name(value)),
            (AgentField::LastActivity | AgentField::IdleSeconds, _) => {
                self.update.is_last_activity_unreadable = true;
                self.add_error(ItemError::invalid_value(field.as_str(), &value.shown(), expected));
            }
            (AgentField::Status, Scalar::Text(word)) => {
                self.add_error(ItemError::unknown_status(word, &words::STATUSES))
            }
            _ => self.add_error(ItemError::invalid_value(field.as_str(), &value.shown(), expected)),
        }
    }

    #[inline]
    fn try_set(&mut self, field: AgentField, value: Scalar<'a>) -> Result<(), (Scalar<'a>, UnexpectedValue)> {
        let now = self.now;
        let to = &mut self.update;
        // A string is moved into the update, so that only other values remain to be quoted in an error.
        let text = |value: Scalar<'a>, limit| match value {
            Scalar::Null | Scalar::Text(_) => value.text(limit).map_err(|expected| (Scalar::Null, expected)),
            other => Err((other, UnexpectedValue("text"))),
        };
        match field {
            AgentField::Name => match value {
                Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => to.name = name,
                other => return Err((other, UnexpectedValue("a name"))),
            },
            AgentField::Status => match value {
                Scalar::Null => to.status = None,
                Scalar::Text(word) => match words::status(&word) {
                    Some(status) => to.status = Some(status),
                    None => return Err((Scalar::Text(word), UnexpectedValue("a status"))),
                },
                other => return Err((other, UnexpectedValue("one of the nine words for a status"))),
            },
            AgentField::Type => to.agent_type = text(value, MAX_TEXT)?,
            AgentField::Model => to.model = text(value, MAX_TEXT)?.map(names::model_of),
            AgentField::Reason => to.reason = patch(text(value, MAX_REASON)?),
            AgentField::Phase => to.phase = patch(text(value, MAX_TEXT)?),
            AgentField::TaskId => to.task_id = patch(text(numbered(value), MAX_TEXT)?),
            _ => {
                let done = match field {
                    AgentField::Running => value.flag().map(|flag| to.running = flag),
                    AgentField::Ended => value.flag().map(|flag| to.ended = flag == Some(true)),
                    AgentField::Progress => value
                        .number(0.0..=100.0, UnexpectedValue("a number from 0 to 100"))
                        .map(|progress| to.progress = patch(progress)),
                    AgentField::ContextWindowRatio => value
                        .number(0.0..=1.0, UnexpectedValue("a number from 0 to 1"))
                        .map(|ratio| to.context_window_ratio = patch(ratio)),
                    AgentField::ContextWindowPercentage => value
                        .number(0.0..=100.0, UnexpectedValue("a number from 0 to 100"))
                        .map(|percent| to.context_window_ratio = patch(percent.map(|percent| percent / 100.0))),
                    AgentField::ContextWindowUsed => value.count().map(|count| self.context_used = count),
                    AgentField::ContextWindowSize => value.count().map(|count| self.context_size = count),
                    AgentField::TaskStartedAt => value.time().map(|time| to.task_started_at = time),
                    AgentField::LastActivity => value.time().map(|time| to.last_activity = time),
                    AgentField::EstimatedCompletion => value.time().map(|time| to.estimated_completion = patch(time)),
                    AgentField::IdleSeconds => {
                        value.seconds().map(|idle| self.active_at = idle.map(|idle| now.minus(idle)))
                    }
                    AgentField::RetryAfter => match &value {
                        Scalar::Text(text) => match retry::retry_after(text, now) {
                            Some(at) => {
                                self.retry_at = Some(at);
                                Ok(())
                            }
                            None => value.time().map(|time| self.retry_at = time),
                        },
                        _ => value.seconds().map(|wait| self.retry_at = wait.map(|wait| now.plus(wait))),
                    },
                    AgentField::CostUsd => value.amount().map(|amount| to.cost_usd = amount),
                    AgentField::RestartCount => value.count().map(|count| to.restart_count = count),
                    AgentField::Tokens(kind) => value.count().map(|count| {
                        if let Some(tokens) = to.tokens.get_mut(kind) {
                            *tokens = count;
                        }
                    }),
                    AgentField::TokensUsed => value.count().map(|count| self.tokens_used = count),
                    AgentField::Requests => value.count().map(|count| to.requests = count),
                    AgentField::RequestErrors => value.count().map(|count| to.request_errors = count),
                    AgentField::RateLimitHits => value.count().map(|count| to.rate_limit_hits = count),
                    AgentField::Retries => value.count().map(|count| to.retries = count),
                    AgentField::ReviewsPassed => value.count().map(|count| to.reviews_passed = count),
                    AgentField::ReviewsFailed => value.count().map(|count| to.reviews_failed = count),
                    AgentField::Name | AgentField::Status | AgentField::Type | AgentField::Model => Ok(()),
                    AgentField::Reason | AgentField::Phase | AgentField::TaskId => Ok(()),
                };
                return done.map_err(|expected| (value, expected));
            }
        }
        Ok(())
    }

    /// Replaces the rate limits.
    pub(super) fn set_rate_limits(&mut self, limits: Vec<RateLimitUpdate<'a>>) {
        self.update.rate_limits = Some(limits);
    }

    /// Completes the state once all fields were read.
    ///
    /// A single number for all tokens counts as input, unless tokens are given by type: the total is right, and any split
    /// would be a guess. `retry_after` becomes an exhausted limit on requests of the provider `unknown`.
    #[inline]
    pub(super) fn finish(mut self) -> DraftResult<'a, AgentUpdate<'a>> {
        if self.update.name.is_empty() && self.fatal_error.is_none() {
            let error = "agent without `name`; give each agent a name".to_owned();
            self.fail(ItemError { field: "name", reason: RejectReason::Name, error });
        }
        if let Some(error) = self.fatal_error {
            return DraftResult { name: self.update.name, item: None, errors: vec![error] };
        }
        if self.tokens_used.is_some() && self.update.tokens.iter().all(Option::is_none) {
            self.update.tokens[0] = self.tokens_used;
        }
        if self.update.last_activity.is_none() {
            self.update.last_activity = self.active_at;
        }
        if let (Patch::Keep, Some(used), Some(size)) =
            (&self.update.context_window_ratio, self.context_used, self.context_size)
        {
            if used <= size && size > 0 {
                self.update.context_window_ratio = Patch::Set(used as f64 / size as f64);
            } else {
                let shown = format!("{used} of {size}");
                self.add_error(ItemError::invalid_value(
                    "context_window.used",
                    &shown,
                    UnexpectedValue("no more than its size"),
                ));
            }
        }
        if let Some(at) = self.retry_at {
            let limits = self.update.rate_limits.get_or_insert_default();
            limits.truncate(MAX_RATE_LIMITS - 1);
            limits.push(RateLimitUpdate {
                provider: Cow::Borrowed("unknown"),
                limit_type: Cow::Borrowed("requests"),
                remaining: Some(0),
                reset_at: Some(at),
                ..RateLimitUpdate::default()
            });
        }
        self.update.rate_limit_hit = self.rate_limit_hit();
        // The name is only needed for errors.
        let name = if self.errors.is_empty() { Cow::Borrowed("") } else { self.update.name.clone() };
        DraftResult { name, item: Some(self.update), errors: self.errors }
    }

    /// The rate limit that the reason mentions, where the agent failed or waits, and reports no rate limits itself.
    fn rate_limit_hit(&self) -> Option<RateLimitHit> {
        let is_held = matches!(self.update.status, Some(AgentStatus::Failed | AgentStatus::WaitingDependency));
        match &self.update.reason {
            Patch::Set(reason) if is_held && self.update.rate_limits.is_none() && is_about_limit(reason) => {
                Some(RateLimitHit { provider: None, until: retry::retry_at(reason, self.now) })
            }
            _ => None,
        }
    }
}

/// An id that the sender wrote as a number, as text.
pub(super) fn numbered(value: Scalar<'_>) -> Scalar<'_> {
    match value {
        Scalar::Whole(number) => Scalar::Text(Cow::Owned(number.to_string())),
        other => other,
    }
}

fn patch<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Clear, Patch::Set)
}
