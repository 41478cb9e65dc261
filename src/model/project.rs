//! What is known of a project as a whole: sums and counts that are kept as its agents change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Count, Health, Sum, Time};

/// The project of a batch that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// Sums over agents, those of agents that are gone included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Restarts.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub restarts: Count,
    /// Tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Count; 5],
    /// Cost in US dollars.
    #[serde(skip_serializing_if = "Sum::is_unknown")]
    pub cost_usd: Sum,
    /// Requests to a model.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub requests: Count,
    /// Requests that ended in an error.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub request_errors: Count,
    /// Requests refused for a rate limit.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub rate_limit_hits: Count,
    /// Requests sent again.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub retries: Count,
    /// Reviews passed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub reviews_passed: Count,
    /// Reviews failed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub reviews_failed: Count,
    /// Tasks ended well.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub tasks_completed: Count,
    /// Tasks ended badly.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub tasks_failed: Count,
}

/// What one model has used in a project.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelTotals {
    /// Tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Count; 5],
    /// Cost in US dollars.
    pub cost_usd: Sum,
}

/// Counts per bucket of a histogram, with sum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurationHistogram {
    /// Observations in each bucket, not cumulated; one more than there are bounds, the last is +Inf.
    pub buckets: Vec<u64>,
    /// Seconds of all observations.
    pub sum: f64,
}

/// Upper bounds of `orchestrator_task_duration_seconds`: 10 s to a day.
pub const TASK_DURATION_BOUNDS: [f64; 12] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0];

/// Upper bounds of `orchestrator_request_duration_seconds`: a quarter of a second to ten minutes.
pub const REQUEST_DURATION_BOUNDS: [f64; 11] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

impl DurationHistogram {
    /// Takes in one observation under `bounds`.
    pub fn observe(&mut self, bounds: &[f64], duration: Duration) {
        self.buckets.resize(bounds.len() + 1, 0);
        let seconds = duration.as_secs_f64();
        let place = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum += seconds;
    }

    /// Adds the observations of `other`, which are under the same bounds.
    pub fn add(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }
}

/// A project and the sums over its agents.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Project {
    /// Its place in [`super::Snapshot::projects`].
    #[serde(skip)]
    pub slot: u32,
    /// Its name.
    pub name: Arc<str>,
    /// `project="…"`, escaped once for all its series.
    #[serde(skip)]
    pub labels: Arc<str>,
    /// Agents in each status, in the order of [`super::AgentStatus::ALL`].
    #[serde(skip)]
    pub by_status: [u32; 9],
    /// Agents whose status is not known.
    #[serde(skip)]
    pub unknown_status: u32,
    /// Agents known.
    #[serde(skip)]
    pub agents: u32,
    /// Agents alive.
    #[serde(skip)]
    pub up: u32,
    /// Agents down.
    #[serde(skip)]
    pub down: u32,
    /// Agents that should be up.
    #[serde(skip)]
    pub expected: u32,
    /// Agents that a rate limit holds up.
    #[serde(skip)]
    pub limited: u32,
    /// Components in each status, in the order of [`super::ComponentStatus::ALL`].
    #[serde(skip)]
    pub components: [u32; 4],
    /// Since when fewer agents are up than the configuration's `count`.
    pub too_small_since: Option<Time>,
    /// How many agents the configuration wants up.
    #[serde(skip)]
    pub wanted: Option<u32>,
    /// Agents that the configuration names and that are not there, with the time since when.
    #[serde(default)]
    pub missing: Arc<[(Arc<str>, Time)]>,
    /// Sums over its agents.
    pub totals: Totals,
    /// Use by model.
    pub models: Arc<BTreeMap<Arc<str>, ModelTotals>>,
    /// How long ended tasks took.
    pub task_durations: DurationHistogram,
    /// How long requests to a model took, as far as telemetry says so.
    #[serde(default)]
    pub request_durations: DurationHistogram,
    /// Ended tasks of the last hour: (start of the minute, number), oldest first.
    pub recent_tasks: Arc<Vec<(Time, u32)>>,
}

impl Project {
    /// Moves what lasts by the time for which the program was down: it is none of lasting.
    pub fn shift(&mut self, now: Time, downtime: Duration) {
        let moved = |at: Time| at.plus(downtime).min(now);
        self.too_small_since = self.too_small_since.map(moved);
        self.missing = self.missing.iter().map(|(name, since)| (Arc::clone(name), moved(*since))).collect();
    }

    /// Its health: its worst component's, and critical when every agent that should be up is down.
    pub fn health(&self) -> Health {
        if self.expected > 0 && self.down >= self.expected {
            return Health::Critical;
        }
        let worst = super::ComponentStatus::ALL.into_iter().zip(self.components).rev().find(|(_, count)| *count > 0);
        worst.map_or(Health::Ok, |(status, _)| status.health())
    }
}
