//! The runs of one agent as rules and metrics need them: counts, what its runs usually take and cost, the runs in
//! progress, and the last ones that ended. Bounded, whatever an agent does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counter::Sum;
use super::run::RunStatus;
use super::run_facts::RunFacts;
use super::trace_id::TraceId;
use crate::clock::Time;

/// Ended runs whose durations and costs are kept, as what is usual.
pub const USUAL_RUNS: usize = 64;
/// Ended runs that are needed to know what is usual.
pub const MIN_USUAL_RUNS: usize = 20;
/// Runs in progress that are followed; of more, the latest.
const MAX_RUNNING: usize = 64;
/// How long the last ended run is compared with what is usual, and how late the end of a run may be reported to count.
pub const RECENT_RUNS: Duration = Duration::from_secs(3600);

/// Ended runs that an estimate of how far a run is needs.
const MIN_ESTIMATED_RUNS: usize = 3;
/// More than this is estimated of nothing that still runs.
const MAX_ESTIMATE: f64 = 0.99;

/// A run that began or ended, as far as the fleet needs it: spans never pass it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The project of its agent.
    pub project: Arc<str>,
    /// The name of its agent.
    pub agent: Arc<str>,
    /// What kind of agent it is.
    pub agent_type: Arc<str>,
    /// Its id.
    pub id: TraceId,
    /// What it does.
    pub name: Arc<str>,
    /// Its state: running when it began.
    pub status: RunStatus,
    /// When it began, by the wall clock.
    pub started_at: Time,
    /// When it ended, by the wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Its cost in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Calls of another model or provider right after a failed one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fallbacks: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
    /// Through what the agent was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Arc<str>>,
    /// What it reported besides its calls.
    #[serde(default)]
    pub facts: RunFacts,
    /// What runs of the agent took and cost before, for a fleet that does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<UsualRuns>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Durations in seconds and costs in US dollars of the last ended runs, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsualRuns {
    /// Durations.
    pub seconds: VecDeque<f32>,
    /// Costs, of runs whose cost is known.
    pub costs: VecDeque<f32>,
}

impl UsualRuns {
    /// Adds an ended run.
    pub fn add(&mut self, seconds: f64, cost_usd: Option<f64>) {
        push(&mut self.seconds, seconds);
        if let Some(cost) = cost_usd {
            push(&mut self.costs, cost);
        }
    }

    /// The duration in seconds that 95 % of them did not exceed; `None` of too few.
    fn p95_seconds(&self) -> Option<f64> {
        quantile(&self.seconds, 0.95)
    }

    /// The median cost in US dollars; `None` of too few.
    fn median_cost(&self) -> Option<f64> {
        quantile(&self.costs, 0.5)
    }
}

fn push(values: &mut VecDeque<f32>, value: f64) {
    while values.len() >= USUAL_RUNS {
        values.pop_front();
    }
    values.push_back(value.clamp(0.0, f64::from(f32::MAX)) as f32);
}

/// The value that this share of all do not exceed.
fn quantile(values: &VecDeque<f32>, share: f64) -> Option<f64> {
    if values.len() < MIN_USUAL_RUNS {
        return None;
    }
    let mut sorted: Vec<f32> = values.iter().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    // As it was written: 0.1 is no 0.10000000149.
    sorted.get(rank.max(1) - 1).and_then(|value| value.to_string().parse().ok())
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OngoingRun {
    /// Its id.
    pub id: TraceId,
    /// What it does.
    pub name: Arc<str>,
    /// When it began.
    pub started_at: Time,
}

/// A run that ended, with one number of it and what was usual before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRun {
    /// Its id.
    pub id: TraceId,
    /// What it did.
    pub name: Arc<str>,
    /// When its end was reported.
    pub at: Time,
    /// Seconds, or US dollars.
    pub value: f64,
    /// What was usual when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<f64>,
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedRun {
    /// Its id.
    pub id: TraceId,
    /// What it did.
    pub name: Arc<str>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
}

/// How far a run in progress is by what runs of its agent take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProgressEstimate {
    /// From 0 to 1.
    pub ratio: f64,
    /// Seconds until it ends; 0 if it takes longer than usual.
    pub seconds_left: f64,
    /// The number of ended runs that this is based on.
    pub earlier: usize,
}

/// How the reading of a rule about runs reads in a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DescribedRun<'a> {
    /// The run's id.
    pub id: TraceId,
    /// Its name.
    pub name: &'a str,
    /// Whether it is in progress.
    pub is_running: bool,
    /// Why it failed.
    pub error: Option<&'a str>,
    /// What is usual.
    pub usual: Option<f64>,
}

/// The runs of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentRuns {
    /// Ended runs by status: ok, error, abandoned.
    pub ended: [u64; 3],
    /// Seconds of all ended runs.
    pub seconds: f64,
    /// Cost of all ended runs in US dollars.
    pub cost_usd: Sum,
    /// Calls of another model or provider right after a failed one, in ended runs.
    pub fallbacks: u64,
    usual: UsualRuns,
    p95_seconds: Option<f64>,
    median_cost: Option<f64>,
    running: VecDeque<OngoingRun>,
    last: Option<MeasuredRun>,
    last_cost: Option<MeasuredRun>,
    last_failed: Option<FailedRun>,
}

impl AgentRuns {
    /// The statuses of [`AgentRuns::ended`].
    pub const STATUSES: [RunStatus; 3] = [RunStatus::Ok, RunStatus::Error, RunStatus::Abandoned];

    /// Records that a run began or ended; `started_at` is when it began by the timers' clock.
    pub fn record(&mut self, now: Time, started_at: Time, run: &RunSummary) {
        if let Some(history) = &run.history
            && history.seconds.len() > self.usual.seconds.len()
        {
            self.usual = UsualRuns::clone(history);
            self.settle_usual();
        }
        let known = self.running.iter().position(|known| known.id == run.id);
        if run.status == RunStatus::Running {
            if known.is_none() {
                while self.running.len() >= MAX_RUNNING {
                    self.running.pop_front();
                }
                let name = Arc::clone(&run.name);
                self.running.push_back(OngoingRun { id: run.id, name, started_at });
            }
            return;
        }
        known.map(|place| self.running.remove(place));
        let Some(ended_at) = run.ended_at else { return };
        if let Some(place) = Self::STATUSES.iter().position(|status| *status == run.status) {
            self.ended[place] = self.ended[place].saturating_add(1);
        }
        let seconds = ended_at.seconds_since(run.started_at);
        self.seconds += seconds;
        self.fallbacks = self.fallbacks.saturating_add(run.fallbacks);
        let cost = run.cost_usd.filter(|cost| cost.is_finite() && *cost >= 0.0);
        cost.into_iter().for_each(|cost| self.cost_usd.add(cost));
        if run.status.is_failure() {
            self.last_failed =
                Some(FailedRun { id: run.id, name: Arc::clone(&run.name), error: run.error.as_ref().map(Arc::clone) });
        }
        // When a run without an end really ended is not known.
        if run.status == RunStatus::Abandoned {
            return;
        }
        let measured = |value, usual| MeasuredRun { id: run.id, name: Arc::clone(&run.name), at: now, value, usual };
        self.last = Some(measured(seconds, self.p95_seconds));
        if let Some(cost) = cost {
            self.last_cost = Some(measured(cost, self.median_cost));
        }
        self.usual.add(seconds, cost);
        self.settle_usual();
    }

    fn settle_usual(&mut self) {
        (self.p95_seconds, self.median_cost) = (self.usual.p95_seconds(), self.usual.median_cost());
    }

    /// Forgets a run in progress of which the store knows no more.
    pub fn forget(&mut self, id: TraceId) {
        self.running.retain(|run| run.id != id);
    }

    /// Drops the last ended runs that are no longer recent; returns whether anything changed.
    pub fn expire(&mut self, now: Time) -> bool {
        let is_over = |run: &Option<MeasuredRun>| run.as_ref().is_some_and(|run| run.at.plus(RECENT_RUNS) <= now);
        let (last, cost) = (is_over(&self.last), is_over(&self.last_cost));
        if last {
            self.last = None;
        }
        if cost {
            self.last_cost = None;
        }
        last || cost
    }

    /// When [`AgentRuns::expire`] is due.
    pub fn expires_at(&self) -> Option<Time> {
        [&self.last, &self.last_cost].into_iter().flatten().map(|run| run.at.plus(RECENT_RUNS)).min()
    }

    /// No time may be in the future after a clock was set back.
    pub fn clamp_times(&mut self, now: Time) {
        self.running.iter_mut().for_each(|run| run.started_at = run.started_at.min(now));
        for run in [&mut self.last, &mut self.last_cost].into_iter().flatten() {
            run.at = run.at.min(now);
        }
    }

    /// All ended runs.
    pub fn total(&self) -> u64 {
        self.ended.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Ended runs that failed or were abandoned.
    pub const fn failed(&self) -> u64 {
        self.ended[1].saturating_add(self.ended[2])
    }

    /// The runs in progress.
    pub const fn running(&self) -> &VecDeque<OngoingRun> {
        &self.running
    }

    /// What 95 % of its runs take at most, in seconds.
    pub const fn p95_seconds(&self) -> Option<f64> {
        self.p95_seconds
    }

    /// The median cost of its runs in US dollars.
    pub const fn median_cost(&self) -> Option<f64> {
        self.median_cost
    }

    fn longest_running(&self) -> Option<&OngoingRun> {
        self.running.iter().min_by_key(|run| run.started_at)
    }

    /// How far the longest run in progress is, by the median of what runs took; `None` of too few.
    pub fn estimate(&self, now: Time) -> Option<ProgressEstimate> {
        let taken = now.seconds_since(self.longest_running()?.started_at);
        let mut sorted: Vec<f32> = self.usual.seconds.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        let earlier = sorted.len();
        let median = sorted.get(earlier.div_ceil(2).max(1) - 1).copied().map(f64::from)?;
        (earlier >= MIN_ESTIMATED_RUNS && median > 0.0).then(|| ProgressEstimate {
            ratio: (taken / median).min(MAX_ESTIMATE),
            seconds_left: (median - taken).max(0.0),
            earlier,
        })
    }

    /// Seconds of the longest run in progress, or of the last ended run if that took longer.
    pub fn run_seconds(&self, now: Time) -> Option<f64> {
        let running = self.longest_running().map(|run| now.seconds_since(run.started_at));
        [running, self.last.as_ref().map(|run| run.value)].into_iter().flatten().reduce(f64::max)
    }

    /// When the run in progress has taken as long as the last ended one, from when on [`AgentRuns::run_seconds`] grows.
    pub fn grows_at(&self) -> Option<Time> {
        let taken = Duration::try_from_secs_f64(self.last.as_ref()?.value).ok()?;
        Some(self.longest_running()?.started_at.plus(taken))
    }

    /// What is usual of [`AgentRuns::run_seconds`]: as it was when the last run ended, if that is the one.
    pub fn usual_seconds(&self, now: Time) -> Option<f64> {
        self.slowest(now).and_then(|run| run.usual)
    }

    /// The cost in US dollars of the last ended run.
    pub fn run_cost(&self) -> Option<f64> {
        self.last_cost.as_ref().map(|run| run.value)
    }

    /// What was usual when that run ended.
    pub fn usual_cost(&self) -> Option<f64> {
        self.last_cost.as_ref().and_then(|run| run.usual)
    }

    /// The run that [`AgentRuns::run_seconds`] is of.
    pub fn slowest(&self, now: Time) -> Option<DescribedRun<'_>> {
        let running = self.longest_running();
        let taken = running.map_or(-1.0, |run| now.seconds_since(run.started_at));
        if let Some(last) = self.last.as_ref().filter(|last| last.value > taken) {
            return Some(described(last));
        }
        let run = running?;
        Some(DescribedRun { id: run.id, name: &run.name, is_running: true, error: None, usual: self.p95_seconds })
    }

    /// The run that [`AgentRuns::run_cost`] is of.
    pub fn costliest(&self) -> Option<DescribedRun<'_>> {
        self.last_cost.as_ref().map(described)
    }

    /// The last run that failed.
    pub fn failure(&self) -> Option<DescribedRun<'_>> {
        let FailedRun { id, name, error } = self.last_failed.as_ref()?;
        Some(DescribedRun { id: *id, name, is_running: false, error: error.as_deref(), usual: None })
    }
}

fn described(run: &MeasuredRun) -> DescribedRun<'_> {
    DescribedRun { id: run.id, name: &run.name, is_running: false, error: None, usual: run.usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_progress_is_estimated_by_what_runs_took() {
        let at = |seconds: i64| Time::from_millis(1_800_000_000_000 + seconds * 1000);
        let mut runs = AgentRuns::default();
        for seconds in [100, 300, 200] {
            let ended = RunSummary { ended_at: Some(at(seconds)), ..summary(1, RunStatus::Ok, at(0)) };
            assert_eq!(runs.estimate(at(0)), None);
            runs.record(at(0), at(0), &ended);
        }
        assert_eq!(runs.estimate(at(0)), None, "nothing runs");
        runs.record(at(0), at(0), &summary(2, RunStatus::Running, at(0)));
        let estimate = |seconds| runs.estimate(at(seconds)).map(|it| (it.ratio, it.seconds_left, it.earlier));
        assert_eq!(estimate(120), Some((0.6, 80.0, 3)));
        assert_eq!(estimate(500), Some((0.99, 0.0, 3)), "longer than usual");
    }

    fn summary(number: u8, status: RunStatus, started_at: Time) -> RunSummary {
        RunSummary {
            project: "shop".into(),
            agent: "a".into(),
            agent_type: "custom".into(),
            id: TraceId::from_slice(&[number; 16]).expect("an id"),
            name: "report".into(),
            status,
            started_at,
            ended_at: None,
            cost_usd: None,
            fallbacks: 0,
            error: None,
            platform: None,
            facts: RunFacts::default(),
            history: None,
        }
    }

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn run(number: u8, status: RunStatus, took: i64) -> RunSummary {
        RunSummary {
            project: "shop".into(),
            agent: "a".into(),
            agent_type: "custom".into(),
            id: TraceId::from_slice(&[number.max(1); 16]).expect("an id"),
            name: "nightly".into(),
            status,
            started_at: at(0),
            ended_at: (status != RunStatus::Running).then(|| at(took)),
            cost_usd: Some(0.1),
            fallbacks: 0,
            platform: None,
            facts: RunFacts::default(),
            error: None,
            history: None,
        }
    }

    #[test]
    fn what_is_usual_needs_twenty_runs_and_stays_bounded() {
        let mut runs = AgentRuns::default();
        for number in 0..MIN_USUAL_RUNS as u8 - 1 {
            runs.record(at(0), at(0), &run(number, RunStatus::Ok, i64::from(number) + 1));
        }
        assert_eq!((runs.p95_seconds(), runs.median_cost()), (None, None));
        runs.record(at(0), at(0), &run(20, RunStatus::Ok, 1_000));
        assert_eq!((runs.p95_seconds(), runs.median_cost()), (Some(19.0), Some(0.1)));
        assert_eq!(runs.slowest(at(0)).and_then(|run| run.usual), None, "the run itself was not usual before");
        for _ in 0..1_000 {
            runs.record(at(0), at(0), &run(1, RunStatus::Ok, 7));
        }
        assert_eq!((runs.usual.seconds.len(), runs.p95_seconds()), (USUAL_RUNS, Some(7.0)));
        for number in 0..=255 {
            runs.record(at(0), at(0), &RunSummary { ..run(number, RunStatus::Running, 0) });
        }
        assert_eq!(runs.running.len(), MAX_RUNNING);
        let saved = serde_json::to_string(&runs).expect("JSON");
        assert_eq!(serde_json::from_str::<AgentRuns>(&saved).expect("the same"), runs);
    }

    #[test]
    fn the_longest_run_counts_until_it_is_no_longer_recent() {
        let mut runs = AgentRuns::default();
        runs.record(at(100), at(0), &run(1, RunStatus::Error, 100));
        runs.record(at(100), at(100), &run(2, RunStatus::Running, 0));
        assert_eq!((runs.run_seconds(at(150)), runs.grows_at()), (Some(100.0), Some(at(200))));
        assert_eq!(runs.run_seconds(at(250)), Some(150.0));
        assert!(!runs.expire(at(3_699)) && runs.expire(at(3_700)));
        assert_eq!(runs.failure().map(|run| run.name), Some("nightly"));
        runs.record(at(3_800), at(100), &run(2, RunStatus::Abandoned, 200));
        assert_eq!((runs.run_seconds(at(3_900)), runs.total(), runs.failed()), (None, 2, 2));
    }
}
