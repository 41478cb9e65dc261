//! Rate limits of an agent: what its provider said of them, and whether one holds it up.

use std::sync::Arc;
use std::time::Duration;

use crate::decode::limits::is_about_limit;
use crate::model::agent::MAX_RATE_LIMITS;
use crate::model::update::RateLimitUpdate;
use crate::model::{
    ActiveRateLimit, Agent, AgentStatus, AgentTelemetry, Count, RateLimit, RateLimitHit, Time, WallClock,
};

use super::agent::{AgentReport, NOT_RUNNING};

/// No end lies further ahead: limits are of a minute, an hour, a day, a week or a month.
const FURTHEST: Duration = Duration::from_secs(32 * 86_400);

impl ActiveRateLimit {
    /// The limit at `now` when `before` held until then and `refusal` is news; `None` when that says it is over.
    pub(super) fn after(before: Option<&Self>, now: Time, refusal: &RateLimitHit) -> Option<Self> {
        let told = refusal.until.map(|until| until.min(now.plus(FURTHEST)));
        if told.is_some_and(|until| until <= now) {
            return None;
        }
        let known = before.and_then(|limited| limited.until).filter(|until| *until > now);
        Some(Self {
            provider: refusal.provider.clone().or_else(|| before?.provider.clone()),
            since: before.map_or(now, |limited| limited.since),
            until: told.or(known),
            last_hit_at: now,
            ended_run: before.is_some_and(|limited| limited.ended_run),
        })
    }

    /// Takes over what was saved by a clock that may have been ahead of ours.
    pub(super) fn restored(&mut self, now: Time) {
        self.since = self.since.min(now);
        self.last_hit_at = self.last_hit_at.min(now);
        self.until = self.until.map(|until| until.min(now.plus(FURTHEST)));
    }
}

impl Agent {
    /// Notes that a request was refused for a rate limit at `now`.
    pub(crate) fn record_rate_limit(&mut self, now: Time, refusal: &RateLimitHit) {
        self.limited = ActiveRateLimit::after(self.limited.as_ref(), now, refusal);
    }
}

impl AgentReport<'_> {
    /// Takes over all that is said of its limits.
    pub(super) fn take_rate_limits(&mut self, agent: &mut Agent, limits: &[RateLimitUpdate<'_>]) {
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
        // What has nothing left holds the agent up; as long as all have something left, nothing does.
        match spent(agent, self.now) {
            // Who has ended is refused nothing more, however often that is reported.
            Some(refusal) if is_same && refusal.until.is_none() && agent.is_over() => {}
            Some(refusal) => self.refused(agent, &refusal),
            None => self.answered(agent),
        }
    }

    /// Notes that a rate limit refused a request.
    pub(super) fn refused(&mut self, agent: &mut Agent, refusal: &RateLimitHit) {
        agent.record_rate_limit(self.now, refusal);
        self.is_refusal = true;
    }

    /// Settles what becomes of the limit when the run ends: one that ended the run goes on and the agent is not down;
    /// who ended otherwise waits for nothing. Whatever else is reported in one report with the failure is its cause,
    /// and so is a limit that held until then, unless the reason is another one.
    pub(super) fn settle_limit(&mut self, agent: &mut Agent) {
        let is_failed = agent.status == Some(AgentStatus::Failed);
        let is_cause = self.is_refusal
            || agent.reason.as_deref().is_none_or(|reason| reason == NOT_RUNNING || is_about_limit(reason));
        if self.has_ended && !(is_failed && is_cause) {
            return self.answered(agent);
        }
        let Some(limited) = &mut agent.limited else { return };
        limited.ended_run = is_failed && (limited.ended_run || is_cause && (self.has_ended || self.is_refusal));
    }

    /// Notes that a request was answered, so that no limit holds the agent up.
    pub(super) fn answered(&mut self, agent: &mut Agent) {
        agent.limited = None;
    }

    /// Follows from requests, errors and refusals counted `before` and `after` whether a limit holds the agent up.
    pub(super) fn take_outcomes(&mut self, agent: &mut Agent, before: [Count; 3], after: [Count; 3]) {
        // What it had counted before it was first heard of says nothing of now.
        let grown = |place: usize| {
            let (before, after) = (before.get(place)?.get()?, after.get(place)?.get()?);
            Some(after.saturating_sub(before))
        };
        let [requests, errors, refused] = [0, 1, 2].map(|place| grown(place).unwrap_or(0));
        if refused > 0 {
            self.refused(agent, &RateLimitHit::default());
        } else if requests > errors {
            self.answered(agent);
        }
    }
}

/// Keeps what was said of one limit; the last word on it counts, since two would be the same series twice.
pub(super) fn keep(agent: &mut Agent, limit: RateLimit) {
    let same = |known: &RateLimit| (&known.provider, &known.limit_type) == (&limit.provider, &limit.limit_type);
    if let Some(known) = agent.rate_limits.iter_mut().find(|known| same(known)) {
        *known = limit;
    } else if agent.rate_limits.len() < MAX_RATE_LIMITS {
        agent.rate_limits.push(limit);
    }
}

/// The limit of the agent that has nothing left and ends last.
pub(super) fn spent(agent: &Agent, now: Time) -> Option<RateLimitHit> {
    let is_spent = |limit: &&RateLimit| limit.remaining == Some(0) && limit.reset_at.is_none_or(|end| end > now);
    // An end that nobody tells is the latest.
    let end = |limit: &&RateLimit| limit.reset_at.unwrap_or(Time::from_millis(i64::MAX));
    agent.rate_limits.iter().filter(is_spent).max_by_key(end).map(|limit| {
        let provider = Some(&limit.provider).filter(|name| ***name != *"unknown").cloned();
        RateLimitHit { provider, until: limit.reset_at }
    })
}

/// Takes over what telemetry says of limits and of how its last requests went; whether another thing holds the agent
/// up now. Telemetry tells of it later than hooks do, so that times decide what is news.
pub(super) fn take_telemetry(agent: &mut Agent, now: Time, said: &AgentTelemetry, wall: &WallClock) -> bool {
    let before = agent.limited.clone();
    let ours = |at: Time| wall.from_wall(at);
    for limit in &said.rate_limits {
        keep(agent, RateLimit { reset_at: limit.reset_at.map(ours), ..limit.clone() });
    }
    // A metric of requests that went both ways says at one time that they did, and not which was last.
    let (told_refused, told_answered) = match &said.rate_limited {
        Some((at, _)) if said.answered == Some(*at) => (None, None),
        refused => (refused.as_ref(), said.answered),
    };
    let answered = told_answered.map(|at| ours(at).min(now));
    if let Some(at) = answered
        && agent.limited.as_ref().is_some_and(|limited| limited.last_hit_at < at)
    {
        agent.limited = None;
    }
    let refused = told_refused.map(|(at, refusal)| (ours(*at).min(now), refusal));
    if let Some((at, refusal)) = refused.filter(|(at, _)| answered.is_none_or(|answered| answered <= *at)) {
        let refusal = RateLimitHit { until: refusal.until.map(ours), ..refusal.clone() };
        let held = ActiveRateLimit::after(agent.limited.as_ref(), at, &refusal);
        // A refusal of long ago holds nobody up any more.
        if let Some(mut held) = held.filter(|held| held.ends() > now) {
            // Telemetry comes after the failure that it explains.
            held.ended_run |= agent.status == Some(AgentStatus::Failed)
                && agent.reason.as_deref().is_none_or(|reason| reason == NOT_RUNNING || is_about_limit(reason));
            agent.limited = Some(held);
        }
    } else if let Some(refusal) = spent(agent, now).filter(|_| !said.rate_limits.is_empty()) {
        agent.record_rate_limit(now, &refusal);
    }
    agent.limited != before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn refusal(until: Option<i64>) -> RateLimitHit {
        RateLimitHit { provider: None, until: until.map(at) }
    }

    #[test]
    fn the_last_word_on_its_end_counts() {
        let first = ActiveRateLimit::after(None, at(100), &refusal(Some(160))).expect("a limit");
        assert_eq!((first.since, first.until, first.ends()), (at(100), Some(at(160)), at(160)));
        let silent = ActiveRateLimit::after(Some(&first), at(110), &refusal(None)).expect("a limit");
        assert_eq!((silent.since, silent.until), (at(100), Some(at(160))), "what was said holds");
        let longer = ActiveRateLimit::after(Some(&silent), at(120), &refusal(Some(900))).expect("a limit");
        assert_eq!((longer.since, longer.until), (at(100), Some(at(900))));
        let sooner = ActiveRateLimit::after(Some(&longer), at(130), &refusal(Some(140))).expect("a limit");
        assert_eq!(sooner.until, Some(at(140)));
        assert_eq!(ActiveRateLimit::after(Some(&sooner), at(131), &refusal(Some(131))), None, "at once is no limit");
    }

    #[test]
    fn an_end_that_nobody_told_is_ten_minutes_after_the_last_refusal() {
        let first = ActiveRateLimit::after(None, at(0), &refusal(None)).expect("a limit");
        assert_eq!((first.until, first.ends()), (None, at(600)));
        let second = ActiveRateLimit::after(Some(&first), at(500), &refusal(None)).expect("a limit");
        assert_eq!((second.since, second.ends()), (at(0), at(1100)));
        let absurd = ActiveRateLimit::after(None, at(0), &refusal(Some(i64::MAX / 2000))).expect("a limit");
        assert_eq!(absurd.ends(), at(32 * 86_400));
    }

    #[test]
    fn who_limits_is_remembered() {
        let by = |name: &str| RateLimitHit { provider: Some(name.into()), until: None };
        let first = ActiveRateLimit::after(None, at(0), &by("anthropic"));
        let second = ActiveRateLimit::after(first.as_ref(), at(1), &refusal(None));
        assert_eq!(second.as_ref().and_then(|limited| limited.provider.as_deref()), Some("anthropic"));
        let other = ActiveRateLimit::after(second.as_ref(), at(2), &by("openai")).expect("a limit");
        assert_eq!(other.provider.as_deref(), Some("openai"));
    }
}
