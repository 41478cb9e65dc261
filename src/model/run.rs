//! Runs: one execution of an agent each, from a prompt or a task to its end. Lists and statistics need no more than this;
//! the spans of a run are stored apart.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::agent::TokenType;
use super::run_facts::RunFacts;
use super::sketch::Sketch;
use super::trace_id::{SpanId, TraceId};
use crate::clock::Time;

/// Tokens by [`TokenType`], in the order of [`TokenType::ALL`].
pub type TokenCounts = [u64; TokenType::ALL.len()];

/// The state of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// It has not ended.
    #[default]
    Running,
    /// It ended without an error.
    Ok,
    /// It failed.
    Error,
    /// Its end was never reported: it timed out, or its agent ended.
    Abandoned,
}

impl RunStatus {
    /// All of them; the position is the number that is stored.
    pub const ALL: [Self; 4] = [Self::Running, Self::Ok, Self::Error, Self::Abandoned];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Abandoned => "abandoned",
        }
    }

    /// The status with that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether it counts as a failure in statistics.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Abandoned)
    }
}

/// Where spans come from. Two sources may report the same call; see [`RunGroups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunSource {
    /// `trace/start` and `trace/end`.
    Api,
    /// The agent's own spans by OTLP.
    Otlp,
    /// Spans of a proxy that calls models for agents.
    Proxy,
    /// Hooks of the agent.
    Hook,
    /// `lookout pipe`.
    Pipe,
    /// A flow server or the database of a framework.
    Poll,
}

impl RunSource {
    /// All of them; the position is the number that is stored.
    pub const ALL: [Self; 6] = [Self::Api, Self::Otlp, Self::Proxy, Self::Hook, Self::Pipe, Self::Poll];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Otlp => "otlp",
            Self::Proxy => "proxy",
            Self::Hook => "hook",
            Self::Pipe => "pipe",
            Self::Poll => "poll",
        }
    }

    /// The source with that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }
}

/// Serialized as the words of the API.
macro_rules! serialized_as_word {
    ($($word:ty),*) => {$(
        impl Serialize for $word {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $word {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let word = String::deserialize(input)?;
                Self::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("unknown word `{word}`")))
            }
        }
    )*};
}

serialized_as_word!(RunStatus, RunSource);

/// The spans of a run within one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunPart {
    /// The trace.
    pub trace: TraceId,
    /// The topmost of the run's spans in it. `None`: all spans of the trace that belong to no other run.
    pub root: Option<SpanId>,
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id, often that of its first trace.
    pub id: TraceId,
    /// The project of its agent.
    pub project: Arc<str>,
    /// The name of its agent.
    pub agent: Arc<str>,
    /// What kind of agent it is, such as `claude-code`.
    pub agent_type: Arc<str>,
    /// What it did: the name of its topmost span or of its task.
    pub name: Arc<str>,
    /// Its state.
    pub status: RunStatus,
    /// What reported it first.
    pub source: RunSource,
    /// Whether a span, hook or request marked its beginning. Otherwise it was inferred from calls.
    pub is_rooted: bool,
    /// The run that started it.
    pub parent: Option<TraceId>,
    /// The run that its caller named and that is not known yet.
    pub awaited: Option<TraceId>,
    /// When it began.
    pub started_at: Time,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Time>,
    /// The last time anything of it was reported.
    pub last_at: Time,
    /// Where its spans are.
    pub parts: Vec<RunPart>,
    /// Its task.
    pub task: Option<Arc<str>>,
    /// Its session or conversation.
    pub session: Option<Arc<str>>,
    /// Through what the agent was reached: `cli`, `slack`, `mcp`.
    pub platform: Option<Arc<str>>,
    /// The model of its last call.
    pub model: Option<Arc<str>>,
    /// The provider of that model.
    pub provider: Option<Arc<str>>,
    /// Why it failed.
    pub error: Option<Arc<str>>,
    /// Tokens that its end or its topmost span reported; used only if no call reports any.
    pub reported_tokens: Option<TokenCounts>,
    /// The same for its cost in US dollars.
    pub reported_cost: Option<f64>,
    /// What its beginning and its end reported besides.
    pub facts: RunFacts,
    /// Whether its spans were deleted by sampling.
    pub is_sampled_out: bool,
    /// Numbers over its spans.
    pub totals: RunTotals,
    /// The same by hour, model and tool.
    pub groups: RunGroups,
}

impl Run {
    /// A running run of an agent (project, name, type) of which nothing else is known.
    pub fn new(
        id: TraceId,
        [project, agent, agent_type]: [Arc<str>; 3],
        name: Arc<str>,
        source: RunSource,
        at: Time,
    ) -> Self {
        Self {
            id,
            project,
            agent,
            agent_type,
            name,
            status: RunStatus::Running,
            source,
            is_rooted: false,
            parent: None,
            awaited: None,
            started_at: at,
            ended_at: None,
            last_at: at,
            parts: Vec::new(),
            task: None,
            session: None,
            platform: None,
            model: None,
            provider: None,
            error: None,
            reported_tokens: None,
            reported_cost: None,
            facts: RunFacts::default(),
            is_sampled_out: false,
            totals: RunTotals::default(),
            groups: RunGroups::default(),
        }
    }
}

/// Numbers over the spans of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunTotals {
    /// Number of spans.
    pub spans: u64,
    /// Calls of models.
    pub calls: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Uses of tools.
    pub tools: u64,
    /// Calls of another model or provider right after a failed one.
    pub fallbacks: u64,
    /// Time spent waiting for a person or a rate limit, in milliseconds.
    pub waited_ms: u64,
    /// Tokens; unknown is not zero.
    pub tokens: Option<TokenCounts>,
    /// Cost in US dollars; unknown is not zero.
    pub cost_usd: Option<f64>,
}

/// Calls and uses of tools of a run, by source. A call that several sources report is in the groups of each; only the
/// source with the most counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunGroups {
    /// Calls of models.
    pub calls: Vec<CallGroup>,
    /// Uses of tools.
    pub tools: Vec<ToolGroup>,
}

/// Calls of one model within an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct CallGroup {
    /// What reported them.
    pub source: RunSource,
    /// Hours since 1970.
    pub hour: u32,
    /// The model; empty when unknown.
    pub model: Arc<str>,
    /// Its provider; empty when unknown.
    pub provider: Arc<str>,
    /// How many.
    pub calls: u64,
    /// How many failed.
    pub errors: u64,
    /// Their tokens.
    pub tokens: Option<TokenCounts>,
    /// Their cost in billionths of a US dollar, so that sums are exact.
    pub cost_nanos: Option<i64>,
    /// Their durations.
    pub durations: Sketch,
}

/// Uses of one tool within an hour.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolGroup {
    /// What reported them.
    pub source: RunSource,
    /// Hours since 1970.
    pub hour: u32,
    /// The tool.
    pub tool: Arc<str>,
    /// How many.
    pub uses: u64,
    /// How many failed.
    pub errors: u64,
    /// Their durations.
    pub durations: Sketch,
}

impl RunGroups {
    /// The calls that count: those of the source that reports the most, of equals the first in [`RunSource::ALL`].
    pub fn counted_calls(&self) -> impl Iterator<Item = &CallGroup> {
        let best = best_source(self.calls.iter().map(|group| (group.source, group.calls)));
        self.calls.iter().filter(move |group| Some(group.source) == best)
    }

    /// The uses of tools that count.
    pub fn counted_tools(&self) -> impl Iterator<Item = &ToolGroup> {
        let best = best_source(self.tools.iter().map(|group| (group.source, group.uses)));
        self.tools.iter().filter(move |group| Some(group.source) == best)
    }

    /// Adds the groups of another part of the run.
    pub fn merge(&mut self, other: &Self) {
        for group in &other.calls {
            let same = |known: &&mut CallGroup| {
                (known.source, known.hour, &known.model, &known.provider)
                    == (group.source, group.hour, &group.model, &group.provider)
            };
            match self.calls.iter_mut().find(same) {
                Some(known) => {
                    known.calls += group.calls;
                    known.errors += group.errors;
                    known.tokens = add_tokens(known.tokens, group.tokens);
                    known.cost_nanos = add_cost(known.cost_nanos, group.cost_nanos);
                    known.durations.merge(&group.durations);
                }
                None => self.calls.push(group.clone()),
            }
        }
        for group in &other.tools {
            let same = |known: &&mut ToolGroup| {
                (known.source, known.hour, &known.tool) == (group.source, group.hour, &group.tool)
            };
            match self.tools.iter_mut().find(same) {
                Some(known) => {
                    known.uses += group.uses;
                    known.errors += group.errors;
                    known.durations.merge(&group.durations);
                }
                None => self.tools.push(group.clone()),
            }
        }
    }
}

fn best_source(counts: impl Iterator<Item = (RunSource, u64)>) -> Option<RunSource> {
    let mut sums = [0; RunSource::ALL.len()];
    for (source, count) in counts {
        sums[source as usize] += count;
    }
    let best = sums.iter().max().copied().filter(|most| *most > 0)?;
    RunSource::ALL.into_iter().find(|source| sums[*source as usize] == best)
}

/// The sum of two token counts of which either may be unknown.
pub fn add_tokens(first: Option<TokenCounts>, second: Option<TokenCounts>) -> Option<TokenCounts> {
    match (first, second) {
        (Some(first), Some(second)) => {
            let mut sum = first;
            for (sum, count) in sum.iter_mut().zip(second) {
                *sum = sum.saturating_add(count);
            }
            Some(sum)
        }
        (known, None) | (None, known) => known,
    }
}

/// The sum of two costs of which either may be unknown.
pub fn add_cost(first: Option<i64>, second: Option<i64>) -> Option<i64> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.saturating_add(second)),
        (known, None) | (None, known) => known,
    }
}

/// US dollars in billionths, saturating; `None` for what is no amount.
pub fn cost_nanos(dollars: f64) -> Option<i64> {
    (dollars.is_finite() && dollars >= 0.0).then(|| (dollars * 1e9).round() as i64)
}

/// Billionths of a US dollar in dollars.
pub fn cost_dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(source: RunSource, model: &str, calls: u64, input: u64) -> CallGroup {
        CallGroup {
            source,
            hour: 7,
            model: model.into(),
            provider: "openai".into(),
            calls,
            errors: 0,
            tokens: Some([input, 0, 0, 0, 0]),
            cost_nanos: cost_nanos(0.25),
            durations: Sketch::default(),
        }
    }

    #[test]
    fn a_call_that_agent_and_proxy_report_counts_once() {
        let mut groups = RunGroups::default();
        let other = RunGroups {
            calls: vec![calls(RunSource::Proxy, "gpt", 2, 10), calls(RunSource::Otlp, "gpt", 2, 10)],
            ..RunGroups::default()
        };
        groups.merge(&other);
        assert_eq!(groups.counted_calls().map(|group| group.source).collect::<Vec<_>>(), [RunSource::Otlp]);
        groups.merge(&RunGroups { calls: vec![calls(RunSource::Proxy, "gpt", 1, 5)], ..RunGroups::default() });
        let counted: Vec<_> = groups.counted_calls().collect();
        assert_eq!((counted.len(), counted[0].calls, counted[0].tokens), (1, 3, Some([15, 0, 0, 0, 0])));
        assert_eq!(counted[0].cost_nanos.map(cost_dollars), Some(0.5));
    }

    #[test]
    fn an_unknown_amount_is_not_zero() {
        assert_eq!((add_tokens(None, None), add_cost(None, None)), (None, None));
        assert_eq!((cost_nanos(-1.0), cost_nanos(f64::NAN), cost_nanos(1e300)), (None, None, Some(i64::MAX)));
    }
}
