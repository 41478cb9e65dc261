//! Statistics of runs: sums by agent and hour. A run contributes to them by what it is, so that a changed run is
//! subtracted as it was and added as it is, and sums stay exact whatever arrives late or twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::run::{Run, RunStatus, TokenCounts};
use super::sketch::Sketch;

/// What a sum is grouped by besides agent and hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatGroup {
    /// All of the agent.
    Total,
    /// By model.
    Model,
    /// By provider.
    Provider,
    /// By platform.
    Platform,
    /// By tool.
    Tool,
    /// By platform and what runs report besides their calls, named `platform/fact`: runs, and the sum in the cost.
    Fact,
}

impl StatGroup {
    /// All of them; the position is the number that is stored.
    pub const ALL: [Self; 6] = [Self::Total, Self::Model, Self::Provider, Self::Platform, Self::Tool, Self::Fact];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Platform => "platform",
            Self::Tool => "tool",
            Self::Fact => "fact",
        }
    }

    /// The group with that word, which can be asked for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == word && *group != Self::Fact)
    }
}

/// What a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatKey {
    /// The agent's project.
    pub project: Arc<str>,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Hours since 1970.
    pub hour: u32,
    /// What it is grouped by.
    pub group: StatGroup,
    /// The name of the model, provider, platform or tool; empty for [`StatGroup::Total`].
    pub name: Arc<str>,
}

/// A sum, or what is to be added to one. Counts are signed, since a changed run is subtracted first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatCell {
    /// Runs that ended.
    pub runs: i64,
    /// Runs that failed or were abandoned.
    pub failed_runs: i64,
    /// Calls of models, or uses of the tool.
    pub calls: i64,
    /// Calls or uses that failed.
    pub failed_calls: i64,
    /// Uses of tools.
    pub tools: i64,
    /// Tokens by type.
    pub tokens: [i64; 5],
    /// Cost in billionths of a US dollar.
    pub cost_nanos: i64,
    /// Calls of another model or provider right after a failed one.
    pub fallbacks: i64,
    /// Time spent waiting for a person or a rate limit, in milliseconds.
    pub waited_ms: i64,
    /// Durations of runs.
    pub run_durations: Sketch,
    /// Durations of calls or uses.
    pub call_durations: Sketch,
}

impl StatCell {
    /// Adds `other`, `times` times; -1 subtracts it.
    pub fn add(&mut self, other: &Self, times: i64) {
        let numbers = [
            (&mut self.runs, other.runs),
            (&mut self.failed_runs, other.failed_runs),
            (&mut self.calls, other.calls),
            (&mut self.failed_calls, other.failed_calls),
            (&mut self.tools, other.tools),
            (&mut self.cost_nanos, other.cost_nanos),
            (&mut self.fallbacks, other.fallbacks),
            (&mut self.waited_ms, other.waited_ms),
        ];
        for (sum, number) in numbers {
            *sum = sum.saturating_add(number.saturating_mul(times));
        }
        for (sum, count) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(count.saturating_mul(times));
        }
        self.run_durations.add_times(&other.run_durations, times);
        self.call_durations.add_times(&other.call_durations, times);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add_tokens(&mut self, tokens: Option<TokenCounts>) {
        for (sum, count) in self.tokens.iter_mut().zip(tokens.unwrap_or_default()) {
            *sum = sum.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A sum of statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct StatRow {
    /// The agent's project.
    pub project: Arc<str>,
    /// The agent's name.
    pub agent: Arc<str>,
    /// Hours since 1970.
    pub hour: u32,
    /// What it is grouped by.
    pub group: StatGroup,
    /// The model, provider, platform or tool.
    pub name: Arc<str>,
    /// The sum.
    pub cell: StatCell,
}

/// What runs contribute to sums.
pub type Contribution = BTreeMap<StatKey, StatCell>;

const MILLIS_PER_HOUR: i64 = 3_600_000;

/// The hour of a time in milliseconds since 1970.
pub fn hour_of(millis: i64) -> u32 {
    u32::try_from(millis.div_euclid(MILLIS_PER_HOUR)).unwrap_or(0)
}

/// What a run contributes: calls and tools in their own hours, the run itself, once it ended, in the hour it began.
pub fn contribution(run: &Run) -> Contribution {
    let mut sums = Contribution::new();
    let key = |hour: u32, group: StatGroup, name: &Arc<str>| StatKey {
        project: Arc::clone(&run.project),
        agent: Arc::clone(&run.agent),
        hour,
        group,
        name: Arc::clone(name),
    };
    let unnamed: Arc<str> = Arc::from("");
    let started = hour_of(run.started_at.as_millis());
    for group in run.groups.counted_calls() {
        let cell = StatCell {
            calls: group.calls.cast_signed(),
            failed_calls: group.errors.cast_signed(),
            cost_nanos: group.cost_nanos.unwrap_or(0),
            call_durations: group.durations.clone(),
            ..StatCell::default()
        };
        let mut keys = vec![key(group.hour, StatGroup::Total, &unnamed)];
        keys.extend((!group.model.is_empty()).then(|| key(group.hour, StatGroup::Model, &group.model)));
        keys.extend((!group.provider.is_empty()).then(|| key(group.hour, StatGroup::Provider, &group.provider)));
        keys.extend(run.platform.as_ref().map(|platform| key(group.hour, StatGroup::Platform, platform)));
        for key in keys {
            let sum = sums.entry(key).or_default();
            sum.add(&cell, 1);
            sum.add_tokens(group.tokens);
        }
    }
    for group in run.groups.counted_tools() {
        let uses = group.uses.cast_signed();
        sums.entry(key(group.hour, StatGroup::Total, &unnamed)).or_default().tools += uses;
        let sum = sums.entry(key(group.hour, StatGroup::Tool, &group.tool)).or_default();
        sum.calls += uses;
        sum.failed_calls += group.errors.cast_signed();
        sum.call_durations.merge(&group.durations);
    }
    // What is known of the whole run alone: the numbers of its end where no call has any, waits and fallbacks.
    let mut whole = StatCell {
        fallbacks: run.totals.fallbacks.cast_signed(),
        waited_ms: run.totals.waited_ms.cast_signed(),
        ..StatCell::default()
    };
    if run.groups.counted_calls().all(|group| group.tokens.is_none()) {
        whole.add_tokens(run.totals.tokens);
    }
    if run.groups.counted_calls().all(|group| group.cost_nanos.is_none()) {
        whole.cost_nanos = run.totals.cost_usd.and_then(super::run::cost_nanos).unwrap_or(0);
    }
    if run.is_rooted
        && let Some(ended_at) = run.ended_at
        && run.status != RunStatus::Running
    {
        whole.runs = 1;
        whole.failed_runs = i64::from(run.status.is_failure());
        whole.run_durations.add(ended_at.since(run.started_at).as_secs_f64() * 1000.0);
        for (fact, value) in run.facts.iter() {
            let name = format!("{}/{}", run.platform.as_deref().unwrap_or_default(), fact.as_str()).into();
            let sum = sums.entry(key(started, StatGroup::Fact, &name)).or_default();
            sum.add(&StatCell { runs: 1, cost_nanos: value, ..StatCell::default() }, 1);
        }
    }
    if !whole.is_empty() {
        sums.entry(key(started, StatGroup::Total, &unnamed)).or_default().add(&whole, 1);
        if let Some(platform) = &run.platform {
            sums.entry(key(started, StatGroup::Platform, platform)).or_default().add(&whole, 1);
        }
    }
    sums
}

/// What is to be added to the sums when a run was `before` and is `after`.
pub fn difference(before: &Contribution, after: &Contribution) -> Contribution {
    let mut changed = after.clone();
    for (key, cell) in before {
        changed.entry(key.clone()).or_default().add(cell, -1);
    }
    changed.retain(|_, cell| !cell.is_empty());
    changed
}
