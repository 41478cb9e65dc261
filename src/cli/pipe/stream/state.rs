//! The state of the agent behind a stream, and its encoding for the sidecar.

use std::borrow::Cow;

use super::meter::Tokens;
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentStatus, AgentUpdate, Patch, Time};

/// Indexes in [`RunCounts::whole`] after the five token types, which are in the order of
/// [`crate::model::TokenType::ALL`].
pub(super) const REQUESTS: usize = 5;
pub(super) const ERRORS: usize = 6;
pub(super) const RATE_LIMITED: usize = 7;
pub(super) const RETRIES: usize = 8;

/// Cumulative counts of one run; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunCounts {
    /// Tokens by type, then requests, failed requests, rate-limited requests, retries.
    pub whole: [Option<u64>; 9],
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl RunCounts {
    /// The reported counts at the start of a resumed run, whose tokens and cost continue those of an earlier run.
    pub fn resumed() -> Self {
        let mut reported = Self { cost_usd: Some(0.0), ..Self::default() };
        reported.whole.iter_mut().take(5).for_each(|count| *count = Some(0));
        reported
    }

    /// The counts to report next, after `reported` was reported for this run.
    ///
    /// Each count is first reported as 0, which is a counter reset. Otherwise the sidecar would compare it with the
    /// last run's count and take a higher one for its continuation, so the part below would be lost.
    pub fn after(&self, reported: &Self) -> Self {
        let mut next = self.clone();
        for (count, reported) in next.whole.iter_mut().zip(&reported.whole) {
            if reported.is_none() {
                *count = count.map(|_| 0);
            }
        }
        if reported.cost_usd.is_none() {
            next.cost_usd = next.cost_usd.map(|_| 0.0);
        }
        next
    }

    /// Adds counts that were accepted to those reported.
    pub fn note(&mut self, accepted: &Self) {
        for (reported, accepted) in self.whole.iter_mut().zip(&accepted.whole) {
            *reported = accepted.or(*reported);
        }
        self.cost_usd = accepted.cost_usd.or(self.cost_usd);
    }
}

/// Whether the agent is rate-limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum LimitState {
    /// Unknown.
    #[default]
    Unknown,
    /// It was, and is no longer.
    Lifted,
    /// It is, by this provider, until then if that is known.
    Until(&'static str, Option<Time>),
}

/// The state of the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct RunState {
    /// What it is doing.
    pub status: AgentStatus,
    /// Why.
    pub reason: Option<String>,
    /// Its task, or its session.
    pub task: Option<String>,
    /// The phase of its work.
    pub phase: Option<String>,
    /// Progress in percent.
    pub progress: Option<f64>,
    /// The model that it uses.
    pub model: Option<String>,
    /// What it has used so far.
    pub counts: RunCounts,
    pub(super) limit: LimitState,
    /// Whether it ended with an unknown result.
    pub ended: bool,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            status: AgentStatus::Starting,
            reason: None,
            task: None,
            phase: None,
            progress: None,
            model: None,
            counts: RunCounts::default(),
            limit: LimitState::Unknown,
            ended: false,
        }
    }
}

impl RunState {
    /// Sets status and reason.
    pub(super) fn is(&mut self, status: AgentStatus, reason: Option<String>) {
        (self.status, self.reason, self.ended) = (status, reason, false);
    }

    /// Sets that it ended with an unknown result.
    pub(super) fn ends_somehow(&mut self) {
        (self.reason, self.ended) = (Some("ended with an unknown result".to_owned()), true);
    }

    /// Sets that `provider` rate-limited a request, until `until` if that is known.
    pub(super) fn rate_limited(&mut self, provider: &'static str, until: Option<Time>) {
        let known = match &self.limit {
            LimitState::Until(_, known) => *known,
            LimitState::Unknown | LimitState::Lifted => None,
        };
        self.limit = LimitState::Until(provider, until.or(known));
    }

    /// Increments the count at index `place`.
    pub(super) fn count(&mut self, place: usize) {
        if let Some(count) = self.counts.whole.get_mut(place) {
            *count = Some(count.unwrap_or(0).saturating_add(1));
        }
    }

    /// Sets the counts at `places` to 0 unless they are known.
    pub(super) fn begin(&mut self, places: impl IntoIterator<Item = usize>) {
        for place in places {
            if let Some(count) = self.counts.whole.get_mut(place) {
                count.get_or_insert(0);
            }
        }
    }

    /// Updates the first `types` token counts and the cost. Counts never go down, which would be a counter reset.
    pub(super) fn used(&mut self, tokens: &Tokens, types: usize, cost_usd: Option<f64>) {
        for (count, tokens) in self.counts.whole.iter_mut().zip(tokens).take(types) {
            *count = Some(*tokens).max(*count);
        }
        if let Some(cost) = cost_usd {
            self.counts.cost_usd = Some(self.counts.cost_usd.map_or(cost, |known| known.max(cost)));
        }
    }

    /// Sets that a request succeeded, which ends a rate limit.
    pub(super) fn served(&mut self) {
        if let LimitState::Until(..) = self.limit {
            self.limit = LimitState::Lifted;
        }
    }

    /// The state as an update of agent `name` with `counts` and the last activity `active_at`.
    pub fn update<'a>(&'a self, name: &'a str, counts: &RunCounts, active_at: Option<Time>) -> AgentUpdate<'a> {
        let set = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        let [input, output, cache_read, cache_creation, reasoning, requests, request_errors, rate_limit_hits, retries] =
            counts.whole;
        AgentUpdate {
            name: Cow::Borrowed(name),
            status: (!self.ended).then_some(self.status),
            ended: self.ended,
            reason: set(&self.reason).map_or(Patch::Clear, Patch::Set),
            task_id: set(&self.task).map_or(Patch::Keep, Patch::Set),
            phase: set(&self.phase).map_or(Patch::Keep, Patch::Set),
            progress: self.progress.map_or(Patch::Keep, Patch::Set),
            last_activity: active_at,
            model: set(&self.model),
            tokens: [input, output, cache_read, cache_creation, reasoning],
            cost_usd: counts.cost_usd,
            requests,
            request_errors,
            rate_limit_hits,
            retries,
            rate_limits: match &self.limit {
                LimitState::Unknown => None,
                LimitState::Lifted => Some(Vec::new()),
                LimitState::Until(provider, until) => Some(vec![RateLimitUpdate {
                    provider: Cow::Borrowed(provider),
                    limit_type: Cow::Borrowed("requests"),
                    limit: None,
                    remaining: Some(0),
                    reset_at: *until,
                }]),
            },
            ..AgentUpdate::default()
        }
    }
}
