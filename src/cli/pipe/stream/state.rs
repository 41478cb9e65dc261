//! What is known of the agent behind a stream, and how it is said to a sidecar.

use std::borrow::Cow;

use super::meter::Tokens;
use crate::model::update::RateLimitUpdate;
use crate::model::{AgentStatus, AgentUpdate, Patch, Time};

/// Places in [`Counts::whole`] after the five types of tokens, which stand as in [`crate::model::TokenType::ALL`].
pub(super) const REQUESTS: usize = 5;
pub(super) const ERRORS: usize = 6;
pub(super) const RATE_LIMITED: usize = 7;
pub(super) const RETRIES: usize = 8;

/// Cumulative counts of one run; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tokens by type, then requests, failed requests, requests refused for a rate limit, retries.
    pub whole: [Option<u64>; 9],
    /// US dollars.
    pub cost_usd: Option<f64>,
}

impl Counts {
    /// Counts of a run of which a sidecar was told before: what it has of tokens and cost goes on.
    pub fn going_on() -> Self {
        let mut told = Self { cost_usd: Some(0.0), ..Self::default() };
        told.whole.iter_mut().take(5).for_each(|count| *count = Some(0));
        told
    }

    /// What may be said to one who was told `told` of this run.
    ///
    /// A count that it has not heard of yet begins at zero. Else it would measure this run's count against the one of
    /// the run before: a higher one would be taken for its continuation, and what lies between would be lost.
    pub fn after(&self, told: &Self) -> Self {
        let mut said = self.clone();
        for (count, told) in said.whole.iter_mut().zip(&told.whole) {
            if told.is_none() {
                *count = count.map(|_| 0);
            }
        }
        if told.cost_usd.is_none() {
            said.cost_usd = said.cost_usd.map(|_| 0.0);
        }
        said
    }

    /// Adds what `said` made known to what was told already.
    pub fn note(&mut self, said: &Self) {
        for (told, said) in self.whole.iter_mut().zip(&said.whole) {
            *told = said.or(*told);
        }
        self.cost_usd = said.cost_usd.or(self.cost_usd);
    }
}

/// What a provider's limit does to the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Limit {
    /// Nothing was said of one.
    #[default]
    Unsaid,
    /// It was limited, and is no longer.
    Lifted,
    /// It is limited, until then where that is known.
    Until(&'static str, Option<Time>),
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
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
    /// What it used so far.
    pub counts: Counts,
    pub(super) limit: Limit,
    /// Whether it ended and its output does not say how.
    pub ended: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: AgentStatus::Starting,
            reason: None,
            task: None,
            phase: None,
            progress: None,
            model: None,
            counts: Counts::default(),
            limit: Limit::Unsaid,
            ended: false,
        }
    }
}

impl State {
    /// Notes what it is doing, and why.
    pub(super) fn is(&mut self, status: AgentStatus, reason: Option<String>) {
        (self.status, self.reason, self.ended) = (status, reason, false);
    }

    /// Notes that it ended, and that its output does not say how.
    pub(super) fn ends_somehow(&mut self) {
        (self.reason, self.ended) = (Some("ended; its output does not say how".to_owned()), true);
    }

    /// Notes that a limit refused a request of `provider`, which ends at `until` as far as that is said.
    pub(super) fn refused(&mut self, provider: &'static str, until: Option<Time>) {
        let known = match &self.limit {
            Limit::Until(_, known) => *known,
            Limit::Unsaid | Limit::Lifted => None,
        };
        self.limit = Limit::Until(provider, until.or(known));
    }

    /// Counts one more at `place`.
    pub(super) fn count(&mut self, place: usize) {
        if let Some(count) = self.counts.whole.get_mut(place) {
            *count = Some(count.unwrap_or(0).saturating_add(1));
        }
    }

    /// Makes the counts at `places` known.
    pub(super) fn begin(&mut self, places: impl IntoIterator<Item = usize>) {
        for place in places {
            if let Some(count) = self.counts.whole.get_mut(place) {
                count.get_or_insert(0);
            }
        }
    }

    /// Notes what was used so far, of the first `types` types of tokens. A count that goes down would be taken for a
    /// new one, so none does.
    pub(super) fn used(&mut self, tokens: &Tokens, types: usize, cost_usd: Option<f64>) {
        for (count, tokens) in self.counts.whole.iter_mut().zip(tokens).take(types) {
            *count = Some(*tokens).max(*count);
        }
        if let Some(cost) = cost_usd {
            self.counts.cost_usd = Some(self.counts.cost_usd.map_or(cost, |known| known.max(cost)));
        }
    }

    /// Notes that a request was served.
    pub(super) fn served(&mut self) {
        if let Limit::Until(..) = self.limit {
            self.limit = Limit::Lifted;
        }
    }

    /// The state as an update of the agent `name` that says `counts` and was last active at `active_at`.
    pub fn update<'a>(&'a self, name: &'a str, counts: &Counts, active_at: Option<Time>) -> AgentUpdate<'a> {
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
                Limit::Unsaid => None,
                Limit::Lifted => Some(Vec::new()),
                Limit::Until(provider, until) => Some(vec![RateLimitUpdate {
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
