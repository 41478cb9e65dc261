//! The state of a project: counts and sums over its agents, updated as they change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Count, CustomMetrics, Health, PlatformTotals, Sum, Time};

/// The project of a report that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// Sums over agents, including agents that were removed.
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
    /// Rate-limited requests.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub rate_limit_hits: Count,
    /// Requests that were retried.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub retries: Count,
    /// Reviews passed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub reviews_passed: Count,
    /// Reviews failed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub reviews_failed: Count,
    /// Tasks completed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub tasks_completed: Count,
    /// Tasks failed.
    #[serde(skip_serializing_if = "Count::is_unknown")]
    pub tasks_failed: Count,
}

/// Usage of one model in a project.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelTotals {
    /// Tokens by type, in the order of [`super::TokenType::ALL`].
    pub tokens: [Count; 5],
    /// Cost in US dollars.
    pub cost_usd: Sum,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurationHistogram {
    /// Observations per bucket, not cumulative; one more than there are bounds, the last is +Inf.
    pub buckets: Vec<u64>,
    /// The sum of all observations in seconds.
    pub sum: f64,
}

/// Upper bounds of `orchestrator_task_duration_seconds`: 10 s to a day.
pub const TASK_DURATION_BOUNDS: [f64; 12] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0];

/// Upper bounds of `orchestrator_request_duration_seconds`: a quarter of a second to ten minutes.
pub const REQUEST_DURATION_BOUNDS: [f64; 11] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

impl DurationHistogram {
    /// Adds one observation; `bounds` are the upper bounds of the buckets.
    pub fn observe(&mut self, bounds: &[f64], duration: Duration) {
        self.buckets.resize(bounds.len() + 1, 0);
        let seconds = duration.as_secs_f64();
        let place = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
        self.sum += seconds;
    }

    /// Adds the observations of `other`, which has the same bounds.
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

/// One project.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Project {
    /// Its slot in [`super::Snapshot::projects`].
    #[serde(skip)]
    pub slot: u32,
    /// Its name.
    pub name: Arc<str>,
    /// `project="…"`, escaped once for all of its series.
    #[serde(skip)]
    pub labels: Arc<str>,
    /// Agents in each status, in the order of [`super::AgentStatus::ALL`].
    #[serde(skip)]
    pub by_status: [u32; 9],
    /// Agents whose status is unknown.
    #[serde(skip)]
    pub unknown_status: u32,
    /// All agents.
    #[serde(skip)]
    pub agents: u32,
    /// Agents that are up.
    #[serde(skip)]
    pub up: u32,
    /// Agents down.
    #[serde(skip)]
    pub down: u32,
    /// Agents that should be up.
    #[serde(skip)]
    pub expected: u32,
    /// Agents with a rate limit in effect.
    #[serde(skip)]
    pub limited: u32,
    /// Components in each status, in the order of [`super::ComponentStatus::ALL`].
    #[serde(skip)]
    pub components: [u32; 4],
    /// Since when fewer agents are up than `expected.count` of the configuration.
    pub too_small_since: Option<Time>,
    /// `expected.count` of the configuration.
    #[serde(skip)]
    pub wanted: Option<u32>,
    /// Agents that the configuration expects and that are missing, with the time since when.
    #[serde(default)]
    pub missing: Arc<[(Arc<str>, Time)]>,
    /// Its custom metrics that are of no agent or component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Arc<CustomMetrics>>,
    /// Sums over its agents.
    pub totals: Totals,
    /// Ended runs by platform.
    #[serde(default)]
    pub platforms: Arc<BTreeMap<Arc<str>, PlatformTotals>>,
    /// Usage by model.
    pub models: Arc<BTreeMap<Arc<str>, ModelTotals>>,
    /// Durations of finished tasks.
    pub task_durations: DurationHistogram,
    /// Durations of requests to a model, from telemetry.
    #[serde(default)]
    pub request_durations: DurationHistogram,
    /// Finished tasks of the last hour as (start of the minute, number), oldest first.
    pub recent_tasks: Arc<Vec<(Time, u32)>>,
}

impl Project {
    /// Shifts the times since which something lasts by the time for which the program was down, so that downtime does not
    /// count.
    pub fn shift(&mut self, now: Time, downtime: Duration) {
        let moved = |at: Time| at.plus(downtime).min(now);
        self.too_small_since = self.too_small_since.map(moved);
        self.missing = self.missing.iter().map(|(name, since)| (Arc::clone(name), moved(*since))).collect();
    }

    /// Its health: that of its worst component, or critical if every agent that should be up is down.
    pub fn health(&self) -> Health {
        if self.expected > 0 && self.down >= self.expected {
            return Health::Critical;
        }
        let worst = super::ComponentStatus::ALL.into_iter().zip(self.components).rev().find(|(_, count)| *count > 0);
        worst.map_or(Health::Ok, |(status, _)| status.health())
    }
}
