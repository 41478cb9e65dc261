//! An agent's state while it is read, field by field, and what can be wrong with it.
//!
//! Owns what a value for each field may be, and the bounds. Refuses to know where in a page the value stood.

use std::borrow::Cow;

use super::fields::Field;
use super::{MAX_AGENTS, MAX_REASON, MAX_SPELT_OUT, MAX_TEXT};
use crate::decode::limits::is_about_limit;
use crate::decode::read::{Scalar, Unfit, shown};
use crate::decode::{retry, words};
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentStatus, AgentUpdate, Patch, RateLimitHit, RejectReason, Rejected, Time};
use crate::text;
use crate::text::names;

/// Most rate limits of one agent.
pub(super) const MAX_RATE_LIMITS: usize = 16;
/// Most faults of one item that are kept.
const MAX_FAULTS: usize = 32;

/// What is wrong with an agent, a component or an increment, or with a value of one.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The field; empty when it is the item itself.
    pub(super) field: &'static str,
    pub(super) reason: RejectReason,
    pub(super) error: String,
}

impl Fault {
    /// The item is not what it must be.
    pub(super) fn item(reason: RejectReason, error: String) -> Self {
        Self { field: "", reason, error }
    }

    /// `field` holds `value`, which is not what it needs.
    pub(super) fn unfit(field: &'static str, value: &str, unfit: Unfit) -> Self {
        Self { field, reason: RejectReason::Value, error: format!("`{field}` is {value}; it must be {}", unfit.0) }
    }

    /// `word` is no status.
    pub(super) fn status(word: &str, known: &[&str]) -> Self {
        let error = format!("unknown status `{}`; {}", shown(word), words::instead(word, known));
        Self { field: "status", reason: RejectReason::Status, error }
    }

    /// `value` can't be used as a name.
    pub(super) fn name(value: &Scalar<'_>) -> Self {
        Self::unfit_name("name", value)
    }

    /// The same for a `field` that is not called `name`.
    pub(super) fn unfit_name(field: &'static str, value: &Scalar<'_>) -> Self {
        let why = match value {
            Scalar::Text(text) => text::name_error(text, MAX_TEXT),
            _ => None,
        };
        let why = why.unwrap_or_else(|| "it must be text".to_owned());
        Self { field, reason: RejectReason::Name, error: format!("`{field}` is {}; {why}", value.shown()) }
    }

    /// There are more than `most` of `what`.
    pub(super) fn limit(field: &'static str, what: &str, most: usize) -> Self {
        Self { field, reason: RejectReason::Limit, error: format!("more than {most} {what}; send at most so many") }
    }

    /// The list `field` of a body has `more` items than the `most` that are read.
    pub(super) fn surplus(field: &'static str, more: usize, most: usize) -> Self {
        let error = format!("more than {most} {field} in one body: {more} were left out; send several bodies");
        Self { field, reason: RejectReason::Limit, error }
    }
}

/// Where an item stands in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) list: &'static str,
    pub(super) index: Option<usize>,
}

impl Place {
    /// The body itself.
    pub(super) const BODY: Self = Self { list: "", index: None };

    pub(super) const fn agent(index: usize) -> Self {
        Self { list: "agents", index: Some(index) }
    }
}

/// Notes a fault of the item `name` at `place`, in words only while there are few.
pub(super) fn reject(rejected: &mut Vec<Rejected>, place: Place, name: &str, fault: Fault) {
    let Fault { field, reason, error } = fault;
    if rejected.len() < MAX_SPELT_OUT {
        rejected.push(Rejected { list: place.list, index: place.index, name: shown(name), field, reason, error });
    } else if rejected.len() < MAX_AGENTS {
        rejected.push(Rejected::unnamed(reason));
    }
}

/// An agent's state while it is read.
pub(super) struct Draft<'a> {
    now: Time,
    update: AgentUpdate<'a>,
    tokens_used: Option<u64>,
    /// Tokens in the context window, and how many fit.
    context_used: Option<u64>,
    context_size: Option<u64>,
    active_at: Option<Time>,
    retry_at: Option<Time>,
    /// Why it can't be read at all.
    fatal: Option<Fault>,
    /// Values that can't be read.
    faults: Vec<Fault>,
}

/// What is left of an item once it was read.
pub(super) struct Finished<'a, T> {
    /// Its name, as far as it was read.
    pub(super) name: Cow<'a, str>,
    /// It without the values that can't be read; `None` when it can't be read at all.
    pub(super) item: Option<T>,
    /// What can't be read.
    pub(super) faults: Vec<Fault>,
}

impl<T> Finished<'_, T> {
    /// The item, after its faults were noted.
    pub(super) fn settle(self, place: Place, rejected: &mut Vec<Rejected>) -> Option<T> {
        for fault in self.faults {
            reject(rejected, place, &self.name, fault);
        }
        self.item
    }
}

impl<'a> Draft<'a> {
    /// Nothing known yet.
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
            fatal: None,
            faults: Vec::new(),
        }
    }

    /// The name as far as it was read.
    pub(super) fn name(&self) -> &str {
        &self.update.name
    }

    /// The task as far as it was read.
    pub(super) fn task_id(&self) -> Option<Cow<'a, str>> {
        match &self.update.task_id {
            Patch::Set(task) => Some(task.clone()),
            Patch::Keep | Patch::Clear => None,
        }
    }

    /// Notes a value that can't be read.
    pub(super) fn fault(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Notes why the whole of it can't be read; the first reason is kept.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fatal.get_or_insert(fault);
    }

    /// Takes `value` for `field`. A value that does not fit is left out, and only a name that does not costs the agent:
    /// nobody else would know whom the rest is about.
    #[inline]
    pub(super) fn set(&mut self, field: Field, value: Scalar<'a>) {
        if let Err((value, unfit)) = self.try_set(field, value) {
            self.unfit(field, &value, unfit);
        }
    }

    #[cold]
    fn unfit(&mut self, field: Field, value: &Scalar<'a>, unfit: Unfit) {
        match (field, value) {
            (Field::Name, _) => self.fail(Fault::name(value)),
            (Field::LastActivity | Field::IdleSeconds, _) => {
                self.update.is_last_activity_unreadable = true;
                self.fault(Fault::unfit(field.as_str(), &value.shown(), unfit));
            }
            (Field::Status, Scalar::Text(word)) => self.fault(Fault::status(word, &words::STATUSES)),
            _ => self.fault(Fault::unfit(field.as_str(), &value.shown(), unfit)),
        }
    }

    #[inline]
    fn try_set(&mut self, field: Field, value: Scalar<'a>) -> Result<(), (Scalar<'a>, Unfit)> {
        let now = self.now;
        let to = &mut self.update;
        // Text is moved into the update, so that only what is not text is left to be shown.
        let text = |value: Scalar<'a>, limit| match value {
            Scalar::Null | Scalar::Text(_) => value.text(limit).map_err(|unfit| (Scalar::Null, unfit)),
            other => Err((other, Unfit("text"))),
        };
        match field {
            Field::Name => match value {
                Scalar::Text(name) if text::is_name(&name, MAX_TEXT) => to.name = name,
                other => return Err((other, Unfit("a name"))),
            },
            Field::Status => match value {
                Scalar::Null => to.status = None,
                Scalar::Text(word) => match words::status(&word) {
                    Some(status) => to.status = Some(status),
                    None => return Err((Scalar::Text(word), Unfit("a status"))),
                },
                other => return Err((other, Unfit("one of the nine words for a status"))),
            },
            Field::Type => to.agent_type = text(value, MAX_TEXT)?,
            Field::Model => to.model = text(value, MAX_TEXT)?.map(names::model_of),
            Field::Reason => to.reason = patch(text(value, MAX_REASON)?),
            Field::Phase => to.phase = patch(text(value, MAX_TEXT)?),
            Field::TaskId => to.task_id = patch(text(numbered(value), MAX_TEXT)?),
            _ => {
                let done = match field {
                    Field::Running => value.flag().map(|flag| to.running = flag),
                    Field::Ended => value.flag().map(|flag| to.ended = flag == Some(true)),
                    Field::Progress => value
                        .number(0.0..=100.0, Unfit("a number from 0 to 100"))
                        .map(|progress| to.progress = patch(progress)),
                    Field::ContextWindowRatio => value
                        .number(0.0..=1.0, Unfit("a number from 0 to 1"))
                        .map(|ratio| to.context_window_ratio = patch(ratio)),
                    Field::ContextWindowPercentage => value
                        .number(0.0..=100.0, Unfit("a number from 0 to 100"))
                        .map(|percent| to.context_window_ratio = patch(percent.map(|percent| percent / 100.0))),
                    Field::ContextWindowUsed => value.count().map(|count| self.context_used = count),
                    Field::ContextWindowSize => value.count().map(|count| self.context_size = count),
                    Field::TaskStartedAt => value.time().map(|time| to.task_started_at = time),
                    Field::LastActivity => value.time().map(|time| to.last_activity = time),
                    Field::EstimatedCompletion => value.time().map(|time| to.estimated_completion = patch(time)),
                    Field::IdleSeconds => value.seconds().map(|idle| self.active_at = idle.map(|idle| now.minus(idle))),
                    Field::RetryAfter => match &value {
                        Scalar::Text(text) => match retry::retry_after(text, now) {
                            Some(at) => {
                                self.retry_at = Some(at);
                                Ok(())
                            }
                            None => value.time().map(|time| self.retry_at = time),
                        },
                        _ => value.seconds().map(|wait| self.retry_at = wait.map(|wait| now.plus(wait))),
                    },
                    Field::CostUsd => value.amount().map(|amount| to.cost_usd = amount),
                    Field::RestartCount => value.count().map(|count| to.restart_count = count),
                    Field::Tokens(kind) => value.count().map(|count| {
                        if let Some(tokens) = to.tokens.get_mut(kind) {
                            *tokens = count;
                        }
                    }),
                    Field::TokensUsed => value.count().map(|count| self.tokens_used = count),
                    Field::Requests => value.count().map(|count| to.requests = count),
                    Field::RequestErrors => value.count().map(|count| to.request_errors = count),
                    Field::RateLimitHits => value.count().map(|count| to.rate_limit_hits = count),
                    Field::Retries => value.count().map(|count| to.retries = count),
                    Field::ReviewsPassed => value.count().map(|count| to.reviews_passed = count),
                    Field::ReviewsFailed => value.count().map(|count| to.reviews_failed = count),
                    Field::Name | Field::Status | Field::Type | Field::Model => Ok(()),
                    Field::Reason | Field::Phase | Field::TaskId => Ok(()),
                };
                return done.map_err(|unfit| (value, unfit));
            }
        }
        Ok(())
    }

    /// Replaces what is said of rate limits; null says that there are none.
    pub(super) fn set_rate_limits(&mut self, limits: Vec<RateLimitUpdate<'a>>) {
        self.update.rate_limits = Some(limits);
    }

    /// The state without the values that can't be read, and what is wrong with those.
    ///
    /// A single number for all tokens counts as input, and only where no split is given: a guess at the split would
    /// be invented, and the total stays right. A time to retry at becomes a limit on requests of a provider that
    /// is not known, of which nothing is left until then.
    #[inline]
    pub(super) fn finish(mut self) -> Finished<'a, AgentUpdate<'a>> {
        if self.update.name.is_empty() && self.fatal.is_none() {
            let error = "an agent without `name`; give each one its name".to_owned();
            self.fail(Fault { field: "name", reason: RejectReason::Name, error });
        }
        if let Some(fault) = self.fatal {
            return Finished { name: self.update.name, item: None, faults: vec![fault] };
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
                self.fault(Fault::unfit("context_window.used", &shown, Unfit("no more than its size")));
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
        self.update.rate_limit_hit = self.refusal();
        // Only a fault needs the name beside the state.
        let name = if self.faults.is_empty() { Cow::Borrowed("") } else { self.update.name.clone() };
        Finished { name, item: Some(self.update), faults: self.faults }
    }

    /// The limit that the reason speaks of, where nothing else is said of limits and the agent waits or failed for it.
    fn refusal(&self) -> Option<RateLimitHit> {
        let is_held = matches!(self.update.status, Some(AgentStatus::Failed | AgentStatus::WaitingDependency));
        match &self.update.reason {
            Patch::Set(reason) if is_held && self.update.rate_limits.is_none() && is_about_limit(reason) => {
                Some(RateLimitHit { provider: None, until: retry::retry_at(reason, self.now) })
            }
            _ => None,
        }
    }
}

/// An id that its sender keeps as a number.
pub(super) fn numbered(value: Scalar<'_>) -> Scalar<'_> {
    match value {
        Scalar::Whole(number) => Scalar::Text(Cow::Owned(number.to_string())),
        other => other,
    }
}

fn patch<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Clear, Patch::Set)
}
