//! The sections `agents`, `expected`, `budgets` and the fleet's part of `limits`.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// When an agent counts as silent, idle and forgotten.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// How long an agent may stay silent when its source promised no other rhythm.
    #[serde(with = "crate::model::duration")]
    pub timeout: Duration,
    /// How long an agent may be idle: the first threshold of the built-in rule AgentIdle.
    #[serde(with = "crate::model::duration")]
    pub max_idle: Duration,
    /// After how long a silent agent is forgotten.
    #[serde(with = "crate::model::duration")]
    pub forget_after: Duration,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            max_idle: Duration::from_secs(300),
            forget_after: Duration::from_secs(3600),
        }
    }
}

/// Who must be there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedConfig {
    /// In which project.
    pub project: String,
    /// These agents, by name.
    #[serde(default)]
    pub agents: Vec<String>,
    /// So many agents up, whoever they are.
    #[serde(default)]
    pub count: Option<u32>,
}

/// What an agent may use. Null is no budget.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetsConfig {
    /// Tokens for one task.
    pub tokens_per_task: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// US dollars in a day.
    pub cost_usd_per_day: Option<f64>,
    /// The zone in which the day turns, by its IANA name.
    pub time_zone: String,
    /// Whether tokens read from a cache count.
    pub count_cache_read: bool,
}

impl BudgetsConfig {
    /// The zone in which the day turns; none when there is no such zone.
    pub(crate) fn zone(&self) -> Option<TimeZone> {
        // Known without asking: the first question makes a list of all zones of this machine, which then stays.
        if self.time_zone == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(&self.time_zone).ok() }
    }
}

impl Default for BudgetsConfig {
    fn default() -> Self {
        Self {
            tokens_per_task: None,
            tokens_per_day: None,
            cost_usd_per_day: None,
            time_zone: "UTC".to_owned(),
            count_cache_read: false,
        }
    }
}
