//! The state of one agent.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ActiveRateLimit, AgentRuns, Count, CustomMetrics, Sessions, Spending, Sum, Time};

/// Rate limits kept per agent: the four kinds of two providers.
pub const MAX_RATE_LIMITS: usize = 8;
/// Series that one agent has if every metric family has a value for it. Each agent counts as this many against the series
/// cap, so that a known agent never loses a series.
pub const SERIES_PER_AGENT: usize = 77;

/// What an agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Alive, with nothing to do.
    Idle,
    /// Starting up.
    Starting,
    /// Working.
    Running,
    /// Waiting for a review.
    WaitingReview,
    /// Waiting for another task or a service.
    WaitingDependency,
    /// Waiting for an answer by a person.
    WaitingQuestion,
    /// Paused by a person or a budget, to be resumed later.
    Paused,
    /// Finished successfully.
    Completed,
    /// Finished with a failure.
    Failed,
}

impl AgentStatus {
    /// All statuses, in display order.
    pub const ALL: [Self; 9] = [
        Self::Idle,
        Self::Starting,
        Self::Running,
        Self::WaitingReview,
        Self::WaitingDependency,
        Self::WaitingQuestion,
        Self::Paused,
        Self::Completed,
        Self::Failed,
    ];

    /// The name in reports, labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::WaitingReview => "waiting_review",
            Self::WaitingDependency => "waiting_dependency",
            Self::WaitingQuestion => "waiting_question",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The status with this name.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether the agent is waiting for something.
    pub const fn waits(self) -> bool {
        matches!(self, Self::WaitingReview | Self::WaitingDependency | Self::WaitingQuestion)
    }

    /// Whether the agent's run has ended, with or without success.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A type of token. The types are disjoint and add up to the provider's total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenType {
    /// Sent to the model, without what was read from a cache.
    Input,
    /// Written by the model, without reasoning if that is reported separately.
    Output,
    /// Read from a prompt cache.
    CacheRead,
    /// Written to a prompt cache.
    CacheCreation,
    /// Used by the model for reasoning.
    Reasoning,
}

impl TokenType {
    /// All types, in the order of every `tokens` array.
    pub const ALL: [Self; 5] = [Self::Input, Self::Output, Self::CacheRead, Self::CacheCreation, Self::Reasoning];

    /// The name in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CacheRead => "cache_read",
            Self::CacheCreation => "cache_creation",
            Self::Reasoning => "reasoning",
        }
    }
}

/// A task assigned to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The orchestrator's id for it.
    pub id: Arc<str>,
    /// When it began: as reported, otherwise when its id was first seen.
    pub started_at: Time,
    /// How long the agent worked on it before [`Task::working_since`].
    pub worked: Duration,
    /// Since when the agent has been working on it; `None` while the agent waits or is paused.
    pub working_since: Option<Time>,
    /// Tokens used for it that count against its budget.
    pub tokens: u64,
}

impl Task {
    /// How long the agent has worked on it, without the time it waited.
    pub fn worked_at(&self, now: Time) -> Duration {
        self.worked + self.working_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// One rate limit, as last reported by the provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// The provider, such as `anthropic`.
    pub provider: Arc<str>,
    /// `requests`, `tokens`, `input_tokens` or `output_tokens`.
    pub limit_type: Arc<str>,
    /// The allowance per period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What remains of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// When the period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<Time>,
}

/// Which kind of report an agent's token totals come from: the kind that arrived first. The other kinds are rejected, so
/// that nothing is counted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageOwner {
    /// Cumulative `tokens` in states.
    State,
    /// Increments posted to `/api/usage`.
    Usage,
    /// Increments derived from telemetry.
    Telemetry,
}

/// Everything known about one agent. `None` is unknown, which is not the same as zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Its slot in [`super::Snapshot::agents`], assigned at each start.
    #[serde(skip)]
    pub slot: u32,
    /// Its project's slot in [`super::Snapshot::projects`], assigned at each start.
    #[serde(skip)]
    pub project_slot: u32,
    /// The project it belongs to.
    pub project: Arc<str>,
    /// Its name, unique within the project.
    pub name: Arc<str>,
    /// `project="…",agent_name="…"`, escaped once for all of its series.
    #[serde(skip, default = "empty")]
    pub labels: Arc<str>,
    /// What kind of agent it is: `claude-code`, `langflow`, `custom`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<Arc<str>>,
    /// The model that it last reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The source that last reported it.
    pub source: Arc<str>,
    /// Its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AgentStatus>,
    /// Whether its run ended with an unknown result; then it has no status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// The reason for the status, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// When the status last changed.
    pub status_since: Time,
    /// How often the status changed since the agent was first seen.
    pub status_changes: u32,
    /// The current task; it is open until the run ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The phase of its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Arc<str>>,
    /// Progress of its work, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// How full its model's context window is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window_ratio: Option<f64>,
    /// When it expects to finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
    /// When it was first reported.
    pub first_seen: Time,
    /// When it was last reported.
    pub last_seen: Time,
    /// When its source last had an unreadable entry that may have been about this agent. It is not stale for lack of a
    /// report before that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub possibly_reported_at: Option<Time>,
    /// Its last activity, as reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Time>,
    /// How long it may go unreported before it is stale; `None` if its source reports at no fixed interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Whether it has not been reported for longer than `ttl`.
    pub stale: bool,
    /// Restarts.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub restarts: Count,
    /// Tokens by type, in the order of [`TokenType::ALL`].
    #[serde(default, skip_serializing_if = "none_known")]
    pub tokens: [Count; 5],
    /// Cost in US dollars.
    #[serde(default, skip_serializing_if = "Sum::is_unknown")]
    pub cost_usd: Sum,
    /// Tokens whose price is unknown.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub unpriced_tokens: Count,
    /// Which kind of report tokens and cost come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_owner: Option<UsageOwner>,
    /// Requests to a model.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub requests: Count,
    /// Requests that ended in an error.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub request_errors: Count,
    /// Rate-limited requests.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub rate_limit_hits: Count,
    /// Requests that were retried.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub retries: Count,
    /// Reviews passed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub reviews_passed: Count,
    /// Reviews failed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub reviews_failed: Count,
    /// Tasks completed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub tasks_completed: Count,
    /// Tasks failed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub tasks_failed: Count,
    /// Rate limits, as last reported by its providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// The rate limit in effect, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<ActiveRateLimit>,
    /// The day that the next two fields count, as days since 1970 in the budgets' time zone.
    pub day: i32,
    /// Tokens used on that day that count against the budget.
    pub day_tokens: u64,
    /// Cost on that day in US dollars.
    #[serde(default, deserialize_with = "amount")]
    pub day_cost_usd: f64,
    /// Spending statistics, once it has used anything; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending: Option<Arc<Spending>>,
    /// Its sessions, if it is reported by hooks; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Arc<Sessions>>,
    /// Its runs, once one was reported; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Arc<AgentRuns>>,
    /// Its custom metrics; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Arc<CustomMetrics>>,
}

fn empty() -> Arc<str> {
    Arc::from("")
}

/// JSON has no infinity: an amount that was too large to be written is saved as null.
fn amount<'de, D: serde::Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(input)?.unwrap_or(f64::MAX))
}

fn none_known(counts: &[Count; 5]) -> bool {
    counts.iter().all(Count::is_unknown)
}

impl Agent {
    /// An agent of which only the name is known.
    pub fn new(project: Arc<str>, name: Arc<str>, source: Arc<str>, now: Time) -> Self {
        Self {
            slot: u32::MAX,
            project_slot: u32::MAX,
            project,
            name,
            labels: empty(),
            agent_type: None,
            model: None,
            source,
            status: None,
            ended: false,
            reason: None,
            status_since: now,
            status_changes: 0,
            task: None,
            phase: None,
            progress: None,
            context_window_ratio: None,
            estimated_completion: None,
            first_seen: now,
            last_seen: now,
            possibly_reported_at: None,
            last_activity: None,
            ttl: None,
            stale: false,
            restarts: Count::default(),
            tokens: [Count::default(); 5],
            cost_usd: Sum::default(),
            unpriced_tokens: Count::default(),
            usage_owner: None,
            requests: Count::default(),
            request_errors: Count::default(),
            rate_limit_hits: Count::default(),
            retries: Count::default(),
            reviews_passed: Count::default(),
            reviews_failed: Count::default(),
            tasks_completed: Count::default(),
            tasks_failed: Count::default(),
            rate_limits: Vec::new(),
            limited: None,
            day: i32::MIN,
            day_tokens: 0,
            day_cost_usd: 0.0,
            spending: None,
            sessions: None,
            runs: None,
            custom: None,
        }
    }

    /// Whether it is alive: neither ended, failed nor stale. Exported as `orchestrator_agent_up`.
    pub fn is_up(&self) -> bool {
        !self.stale && !self.is_over()
    }

    /// Whether its run has ended, with whatever result.
    pub fn is_over(&self) -> bool {
        self.ended || self.status.is_some_and(AgentStatus::is_over)
    }

    /// Whether its run ended because of a rate limit that is still in effect.
    fn is_ended_by_limit(&self) -> bool {
        self.limited.as_ref().is_some_and(|limited| limited.ended_run)
    }

    /// Whether it has a task that is not finished.
    pub fn has_open_task(&self) -> bool {
        self.task.is_some() && !self.is_over()
    }

    /// Whether it is down: failed, or stale with an open task; never completed or paused. If a rate limit ended its run, it
    /// is down only if it is not restarted by the end of that limit.
    pub fn is_down(&self) -> bool {
        match self.status {
            Some(AgentStatus::Failed) => !self.is_ended_by_limit(),
            Some(AgentStatus::Completed | AgentStatus::Paused) => false,
            _ => self.stale && self.has_open_task(),
        }
    }

    /// Whether it should be up. Exported as `orchestrator_agent_expected`; `up < expected` is equivalent to
    /// [`Agent::is_down`].
    pub fn is_expected(&self) -> bool {
        self.is_up() && self.status != Some(AgentStatus::Paused) || self.is_down()
    }

    /// Seconds since its last activity; `None` if it has ended, is paused, or no activity was ever reported. An agent known
    /// only from hooks reports nothing while it has nothing to do, so it is only idle while it has a prompt to work on.
    pub fn idle_seconds(&self, now: Time) -> Option<f64> {
        if self.ttl.is_none() && !self.sessions.as_ref().is_some_and(|sessions| sessions.can_idle()) {
            return None;
        }
        match self.status {
            Some(AgentStatus::Completed | AgentStatus::Failed | AgentStatus::Paused) => None,
            _ if self.ended => None,
            _ => self.last_activity.map(|at| now.seconds_since(at)),
        }
    }

    /// Since when its status is one of not working: idle, waiting, paused or ended.
    pub fn idle_since(&self) -> Option<Time> {
        match self.status {
            None | Some(AgentStatus::Starting | AgentStatus::Running) => None,
            Some(_) => Some(self.status_since),
        }
    }

    /// Its spending statistics, created if there are none yet.
    pub fn spending_mut(&mut self) -> &mut Spending {
        let progresses = self.progress.is_some();
        Arc::make_mut(self.spending.get_or_insert_with(|| Arc::new(Spending::new(progresses))))
    }

    /// Tokens of all types; `None` if none were reported.
    pub fn total_tokens(&self) -> Option<u64> {
        self.tokens.iter().filter_map(Count::get).reduce(u64::saturating_add)
    }
}
