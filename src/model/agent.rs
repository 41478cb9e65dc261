//! An agent as lookout knows it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Count, Limited, Sessions, Spending, Sum, Time};

/// Most rate limits kept for one agent: its provider's four kinds, twice over.
pub const MAX_RATE_LIMITS: usize = 8;
/// Series that an agent has when all families of the page are filled: what one counts for against the cap, so that a
/// known agent never loses a series.
pub const SERIES_PER_AGENT: usize = 66;

/// What an agent is doing, in one of nine words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Alive with nothing to do.
    Idle,
    /// Coming up.
    Starting,
    /// At work.
    Running,
    /// Waits for a review.
    WaitingReview,
    /// Waits for another task or service.
    WaitingDependency,
    /// Waits for a person's answer.
    WaitingQuestion,
    /// Stopped on purpose, to go on later.
    Paused,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
}

impl AgentStatus {
    /// All statuses, in the order in which they are shown.
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

    /// The word for it.
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

    /// The status that `word` names.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether the agent waits for something.
    pub const fn waits(self) -> bool {
        matches!(self, Self::WaitingReview | Self::WaitingDependency | Self::WaitingQuestion)
    }

    /// Whether the agent's work has ended, well or badly.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A kind of token; the kinds are disjoint and add up to the provider's total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenType {
    /// Sent to the model and not read from a cache.
    Input,
    /// Written by the model, without reasoning where that is reported apart.
    Output,
    /// Read from a prompt cache.
    CacheRead,
    /// Written to a prompt cache.
    CacheCreation,
    /// Thought by the model.
    Reasoning,
}

impl TokenType {
    /// All types, in the order of every `tokens` array.
    pub const ALL: [Self; 5] = [Self::Input, Self::Output, Self::CacheRead, Self::CacheCreation, Self::Reasoning];

    /// The word for it.
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

/// A task that an agent holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The orchestrator's id for it.
    pub id: Arc<str>,
    /// When it began: as reported, else when its id was first seen.
    pub started_at: Time,
    /// How long the agent worked on it, up to [`Task::working_since`].
    pub worked: Duration,
    /// Since when the agent works on it without a pause; `None` while it waits.
    pub working_since: Option<Time>,
    /// Tokens used for it that count towards its budget.
    pub tokens: u64,
}

impl Task {
    /// How long the agent has worked on it, waiting left out.
    pub fn worked_at(&self, now: Time) -> Duration {
        self.worked + self.working_since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// What a provider said of one of its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// The provider, such as `anthropic`.
    pub provider: Arc<str>,
    /// `requests`, `tokens`, `input_tokens` or `output_tokens`.
    pub limit_type: Arc<str>,
    /// How much is allowed in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// How much is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    /// When the period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<Time>,
}

/// Which kind of report owns an agent's token totals; the kind that came first does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageOwner {
    /// Cumulative `tokens` in states.
    State,
    /// Increments on `/api/usage`.
    Usage,
    /// Increments from telemetry.
    Telemetry,
}

/// Everything that is known of an agent. `None` is unknown, and unknown is never zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Its slot in [`super::Snapshot::agents`]; set anew at each start.
    #[serde(skip)]
    pub slot: u32,
    /// Its project's place in [`super::Snapshot::projects`]; set anew at each start.
    #[serde(skip)]
    pub project_slot: u32,
    /// The project it belongs to.
    pub project: Arc<str>,
    /// Its name, one of a kind within the project.
    pub name: Arc<str>,
    /// `project="…",agent_name="…"`, escaped once for all its series.
    #[serde(skip, default = "empty")]
    pub labels: Arc<str>,
    /// What kind of agent it is: `claude-code`, `langflow`, `custom`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<Arc<str>>,
    /// The model it last named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The source that last reported it.
    pub source: Arc<str>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AgentStatus>,
    /// Whether its run ended and nobody knows how; then it has no status.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Why it is in that status, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Since when it is in that status.
    pub status_since: Time,
    /// How often its status changed since it is known.
    pub status_changes: u32,
    /// The open task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The phase of its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Arc<str>>,
    /// Progress of its work, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Used part of its model's context window, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window_ratio: Option<f64>,
    /// When it expects to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
    /// When it was first heard of.
    pub first_seen: Time,
    /// When it was last heard of.
    pub last_heard: Time,
    /// Until when silence was not its own: an entry of its source could not be read, which may have been about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<Time>,
    /// When it last did something, as reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<Time>,
    /// How long it may stay silent before it is stale; `None` when its source promised no rhythm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Whether it has been silent for longer than promised.
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
    /// Tokens whose price is not known.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub unpriced_tokens: Count,
    /// Who owns the two above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_owner: Option<UsageOwner>,
    /// Requests to a model.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub requests: Count,
    /// Requests that ended in an error.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub request_errors: Count,
    /// Requests refused for a rate limit.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub rate_limit_hits: Count,
    /// Requests sent again.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub retries: Count,
    /// Reviews passed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub reviews_passed: Count,
    /// Reviews failed.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub reviews_failed: Count,
    /// Tasks ended well.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub tasks_completed: Count,
    /// Tasks ended badly.
    #[serde(default, skip_serializing_if = "Count::is_unknown")]
    pub tasks_failed: Count,
    /// What its providers said of their limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// That a rate limit holds it up; the fleet ends it when its time has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<Limited>,
    /// The day, as days since 1970 in the budgets' zone, that the next two belong to.
    pub day: i32,
    /// Tokens used on that day that count towards the budget.
    pub day_tokens: u64,
    /// Cost on that day in US dollars.
    #[serde(default, deserialize_with = "amount")]
    pub day_cost_usd: f64,
    /// How it spends, once it has; shared with snapshots until it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending: Option<Arc<Spending>>,
    /// The sessions of which its hooks tell; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Arc<Sessions>>,
}

fn empty() -> Arc<str> {
    Arc::from("")
}

/// An amount that JSON could not write was too large for it.
fn amount<'de, D: serde::Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(input)?.unwrap_or(f64::MAX))
}

fn none_known(counts: &[Count; 5]) -> bool {
    counts.iter().all(Count::is_unknown)
}

impl Agent {
    /// An agent of whom nothing is known but its name.
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
            last_heard: now,
            held_at: None,
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
        }
    }

    /// Whether it is alive in whatever state: not ended, failed or stale. This is `orchestrator_agent_up`.
    pub fn is_up(&self) -> bool {
        !self.stale && !self.is_over()
    }

    /// Whether its run ended: well, badly, or nobody knows how.
    pub fn is_over(&self) -> bool {
        self.ended || self.status.is_some_and(AgentStatus::is_over)
    }

    /// Whether a rate limit that still holds ended its run.
    fn is_ended_by_limit(&self) -> bool {
        self.limited.as_ref().is_some_and(|limited| limited.ended_run)
    }

    /// Whether it holds a task that has not ended.
    pub fn has_open_task(&self) -> bool {
        self.task.is_some() && !self.is_over()
    }

    /// Whether it is down: failed, or silent in the middle of a task; never completed or paused. One whose run a rate
    /// limit ended is down only once that limit is over and it has not gone on.
    pub fn is_down(&self) -> bool {
        match self.status {
            Some(AgentStatus::Failed) => !self.is_ended_by_limit(),
            Some(AgentStatus::Completed | AgentStatus::Paused) => false,
            _ => self.stale && self.has_open_task(),
        }
    }

    /// Whether it should be up, so that `up < expected` says the same as [`Agent::is_down`]. This is `orchestrator_agent_expected`.
    pub fn is_expected(&self) -> bool {
        self.is_up() && self.status != Some(AgentStatus::Paused) || self.is_down()
    }

    /// Seconds since its last activity, while it is neither over nor paused; `None` when no activity was ever reported.
    /// One that nobody polls or pushes tells of itself only as it acts: its silence counts while it has something to do.
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

    /// Since when it says that it does not work: idle, waiting, paused or over; `None` while it works or says nothing.
    pub fn idle_since(&self) -> Option<Time> {
        match self.status {
            None | Some(AgentStatus::Starting | AgentStatus::Running) => None,
            Some(_) => Some(self.status_since),
        }
    }

    /// How it spends, for a change; made when it has not spent before.
    pub fn spending_mut(&mut self) -> &mut Spending {
        let progresses = self.progress.is_some();
        Arc::make_mut(self.spending.get_or_insert_with(|| Arc::new(Spending::new(progresses))))
    }

    /// Tokens of all types, once any was reported.
    pub fn total_tokens(&self) -> Option<u64> {
        self.tokens.iter().filter_map(Count::get).reduce(u64::saturating_add)
    }
}
