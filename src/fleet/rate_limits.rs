//! Rate limits of an agent: their reported state, and whether one is in effect.

use std::sync::Arc;
use std::time::Duration;

use crate::decode::limits::is_about_limit;
use crate::model::agent::MAX_RATE_LIMITS;
use crate::model::update::RateLimitUpdate;
use crate::model::{
    ActiveRateLimit, Agent, AgentStatus, AgentTelemetry, Count, RateLimit, RateLimitHit, Time, WallClock,
};

use super::agent::{AgentReport, NOT_RUNNING};

/// The maximum duration of a limit: periods are a minute, an hour, a day, a week or a month.
const MAX_DURATION: Duration = Duration::from_secs(32 * 86_400);

impl ActiveRateLimit {
    /// The limit in effect at `now`, given the one in effect `before` and a new hit; `None` if the hit reports its end.
    pub(super) fn after(before: Option<&Self>, now: Time, hit: &RateLimitHit) -> Option<Self> {
        let reported = hit.until.map(|until| until.min(now.plus(MAX_DURATION)));
        if reported.is_some_and(|until| until <= now) {
            return None;
        }
        let known = before.and_then(|limited| limited.until).filter(|until| *until > now);
        Some(Self {
            provider: hit.provider.clone().or_else(|| before?.provider.clone()),
            since: before.map_or(now, |limited| limited.since),
            until: reported.or(known),
            last_hit_at: now,
            ended_run: before.is_some_and(|limited| limited.ended_run),
        })
    }

    /// Moves restored times that are in the future to `now`: they may have been saved by a clock that was ahead.
    pub(super) fn clamp_times(&mut self, now: Time) {
        self.since = self.since.min(now);
        self.last_hit_at = self.last_hit_at.min(now);
        self.until = self.until.map(|until| until.min(now.plus(MAX_DURATION)));
    }
}

impl Agent {
    /// Records a rate-limited request at `now`.
    pub(crate) fn record_rate_limit(&mut self, now: Time, hit: &RateLimitHit) {
        self.limited = ActiveRateLimit::after(self.limited.as_ref(), now, hit);
    }
}

impl AgentReport<'_> {
    /// Applies the reported state of the agent's limits.
    pub(super) fn apply_rate_limits(&mut self, agent: &mut Agent, limits: &[RateLimitUpdate<'_>]) {
        let is_same = agent.rate_limits.len() == limits.len()
            && agent.rate_limits.iter().zip(limits).all(|(known, new)| {
                *known.provider == *new.provider
                    && *known.limit_type == *new.limit_type
                    && (known.limit, known.remaining, known.reset_at)
                        == (new.limit, new.remaining, new.reset_at.map(|at| self.wall.from_wall(at)))
            });
        if !is_same {
            agent.rate_limits.clear();
            for new in limits {
                let limit = RateLimit {
                    provider: Arc::from(&*new.provider),
                    limit_type: Arc::from(&*new.limit_type),
                    limit: new.limit,
                    remaining: new.remaining,
                    reset_at: new.reset_at.map(|at| self.wall.from_wall(at)),
                };
                keep(agent, limit);
            }
        }
        // A limit of which nothing remains is in effect; if all have something left, none is.
        match exhausted(agent, self.now) {
            // An agent that has ended sends no more requests: the same report again is not a new hit.
            Some(hit) if is_same && hit.until.is_none() && agent.is_over() => {}
            Some(hit) => self.rate_limited(agent, &hit),
            None => self.request_succeeded(agent),
        }
    }

    /// Records a rate-limited request.
    pub(super) fn rate_limited(&mut self, agent: &mut Agent, hit: &RateLimitHit) {
        agent.record_rate_limit(self.now, hit);
        self.is_rate_limited = true;
    }

    /// Decides what happens to the limit when the run ends. If the limit is the cause, it stays in effect and the agent is
    /// not down; otherwise it is dropped. It is the cause if the same report contains it, or if it was in effect and the
    /// report names no other reason.
    pub(super) fn settle_rate_limit(&mut self, agent: &mut Agent) {
        let is_failed = agent.status == Some(AgentStatus::Failed);
        let is_cause = self.is_rate_limited
            || agent.reason.as_deref().is_none_or(|reason| reason == NOT_RUNNING || is_about_limit(reason));
        if self.has_ended && !(is_failed && is_cause) {
            return self.request_succeeded(agent);
        }
        let Some(limited) = &mut agent.limited else { return };
        limited.ended_run = is_failed && (limited.ended_run || is_cause && (self.has_ended || self.is_rate_limited));
    }

    /// Records a successful request, which ends any rate limit.
    pub(super) fn request_succeeded(&mut self, agent: &mut Agent) {
        agent.limited = None;
    }

    /// Derives from the counts of requests, errors and rate limits before and after a report whether a limit is in effect.
    pub(super) fn apply_request_counts(&mut self, agent: &mut Agent, before: [Count; 3], after: [Count; 3]) {
        // Counts from before the agent was first seen are not recent.
        let grown = |place: usize| {
            let (before, after) = (before.get(place)?.get()?, after.get(place)?.get()?);
            Some(after.saturating_sub(before))
        };
        let [requests, errors, hits] = [0, 1, 2].map(|place| grown(place).unwrap_or(0));
        if hits > 0 {
            self.rate_limited(agent, &RateLimitHit::default());
        } else if requests > errors {
            self.request_succeeded(agent);
        }
    }
}

/// Sets the state of one limit; it replaces an older one, since two would be a duplicate series.
pub(super) fn keep(agent: &mut Agent, limit: RateLimit) {
    let same = |known: &RateLimit| (&known.provider, &known.limit_type) == (&limit.provider, &limit.limit_type);
    if let Some(known) = agent.rate_limits.iter_mut().find(|known| same(known)) {
        *known = limit;
    } else if agent.rate_limits.len() < MAX_RATE_LIMITS {
        agent.rate_limits.push(limit);
    }
}

/// The limit of which nothing remains; if there are several, the one that ends last.
pub(super) fn exhausted(agent: &Agent, now: Time) -> Option<RateLimitHit> {
    let is_exhausted = |limit: &&RateLimit| limit.remaining == Some(0) && limit.reset_at.is_none_or(|end| end > now);
    // A limit without a reported end ends last.
    let end = |limit: &&RateLimit| limit.reset_at.unwrap_or(Time::from_millis(i64::MAX));
    agent.rate_limits.iter().filter(is_exhausted).max_by_key(end).map(|limit| {
        let provider = Some(&limit.provider).filter(|name| ***name != *"unknown").cloned();
        RateLimitHit { provider, until: limit.reset_at }
    })
}

/// Applies rate limits and the last results of requests from telemetry; returns whether the limit in effect changed.
/// Telemetry arrives later than hooks, so timestamps decide what is newer.
pub(super) fn apply_telemetry(agent: &mut Agent, now: Time, telemetry: &AgentTelemetry, wall: &WallClock) -> bool {
    let before = agent.limited.clone();
    let ours = |at: Time| wall.from_wall(at);
    for limit in &telemetry.rate_limits {
        keep(agent, RateLimit { reset_at: limit.reset_at.map(ours), ..limit.clone() });
    }
    // A metric with both results has one timestamp for both, which does not show which was last.
    let (limited, succeeded) = match &telemetry.rate_limited {
        Some((at, _)) if telemetry.answered == Some(*at) => (None, None),
        last_hit => (last_hit.as_ref(), telemetry.answered),
    };
    let answered = succeeded.map(|at| ours(at).min(now));
    if let Some(at) = answered
        && agent.limited.as_ref().is_some_and(|limited| limited.last_hit_at < at)
    {
        agent.limited = None;
    }
    let last_hit = limited.map(|(at, hit)| (ours(*at).min(now), hit));
    if let Some((at, hit)) = last_hit.filter(|(at, _)| answered.is_none_or(|answered| answered <= *at)) {
        let hit = RateLimitHit { until: hit.until.map(ours), ..hit.clone() };
        let active = ActiveRateLimit::after(agent.limited.as_ref(), at, &hit);
        // A hit of long ago is no longer in effect.
        if let Some(mut active) = active.filter(|active| active.ends() > now) {
            // Telemetry arrives after the failure that it explains.
            active.ended_run |= agent.status == Some(AgentStatus::Failed)
                && agent.reason.as_deref().is_none_or(|reason| reason == NOT_RUNNING || is_about_limit(reason));
            agent.limited = Some(active);
        }
    } else if let Some(hit) = exhausted(agent, now).filter(|_| !telemetry.rate_limits.is_empty()) {
        agent.record_rate_limit(now, &hit);
    }
    agent.limited != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn hit(until: Option<i64>) -> RateLimitHit {
        RateLimitHit { provider: None, until: until.map(at) }
    }

    #[test]
    fn the_last_reported_end_holds() {
        let first = ActiveRateLimit::after(None, at(100), &hit(Some(160))).expect("a limit");
        assert_eq!((first.since, first.until, first.ends()), (at(100), Some(at(160)), at(160)));
        let silent = ActiveRateLimit::after(Some(&first), at(110), &hit(None)).expect("a limit");
        assert_eq!((silent.since, silent.until), (at(100), Some(at(160))), "a known end is kept");
        let longer = ActiveRateLimit::after(Some(&silent), at(120), &hit(Some(900))).expect("a limit");
        assert_eq!((longer.since, longer.until), (at(100), Some(at(900))));
        let sooner = ActiveRateLimit::after(Some(&longer), at(130), &hit(Some(140))).expect("a limit");
        assert_eq!(sooner.until, Some(at(140)));
        assert_eq!(
            ActiveRateLimit::after(Some(&sooner), at(131), &hit(Some(131))),
            None,
            "an end in the past is no limit"
        );
    }

    #[test]
    fn a_limit_without_an_end_ends_ten_minutes_after_the_last_refusal() {
        let first = ActiveRateLimit::after(None, at(0), &hit(None)).expect("a limit");
        assert_eq!((first.until, first.ends()), (None, at(600)));
        let second = ActiveRateLimit::after(Some(&first), at(500), &hit(None)).expect("a limit");
        assert_eq!((second.since, second.ends()), (at(0), at(1100)));
        let absurd = ActiveRateLimit::after(None, at(0), &hit(Some(i64::MAX / 2000))).expect("a limit");
        assert_eq!(absurd.ends(), at(32 * 86_400));
    }

    #[test]
    fn the_provider_is_kept() {
        let by = |name: &str| RateLimitHit { provider: Some(name.into()), until: None };
        let first = ActiveRateLimit::after(None, at(0), &by("anthropic"));
        let second = ActiveRateLimit::after(first.as_ref(), at(1), &hit(None));
        assert_eq!(second.as_ref().and_then(|limited| limited.provider.as_deref()), Some("anthropic"));
        let other = ActiveRateLimit::after(second.as_ref(), at(2), &by("openai")).expect("a limit");
        assert_eq!(other.provider.as_deref(), Some("openai"));
    }
}
