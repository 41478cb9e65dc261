//! The configuration section `runs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Capture, Problem};

/// The section `runs`: what is kept of the runs of agents and of their spans.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunsConfig {
    /// How long runs and their spans are kept.
    #[serde(with = "crate::model::duration")]
    pub retention: Duration,
    /// Maximum size in bytes of their file; the oldest runs are deleted first.
    pub max_size: u64,
    /// The share of runs whose spans are kept, from 0 to 1. Failed and slow runs keep theirs, and the numbers of every run
    /// stay.
    pub sample: f64,
    /// `metadata` keeps names, numbers and times; `full` keeps prompts, answers, arguments and outputs as well.
    pub capture: Capture,
    /// A run whose end is not reported is abandoned this long after its last span.
    #[serde(with = "crate::model::duration")]
    pub timeout: Duration,
    /// Where lists, runs and statistics are read from.
    pub read_from: RunsReadFrom,
}

/// Where lists, runs and statistics of the API are read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunsReadFrom {
    /// The store.
    #[default]
    Local,
    /// The ClickHouse of `export.clickhouse`.
    ClickHouse,
}

impl Default for RunsConfig {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(30 * 24 * 3600),
            max_size: 2 << 30,
            sample: 1.0,
            capture: Capture::Metadata,
            timeout: Duration::from_secs(6 * 3600),
            read_from: RunsReadFrom::Local,
        }
    }
}

impl RunsConfig {
    /// The smallest valid `max_size`.
    pub const MIN_SIZE: u64 = 16 << 20;

    /// Returns the problems of the section.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, duration) in [("runs.retention", self.retention), ("runs.timeout", self.timeout)] {
            if duration.is_zero() {
                problems.push(Problem::new(key, "must not be 0s; set it to a duration such as 6h"));
            }
        }
        let (size, min) = (self.max_size, Self::MIN_SIZE);
        if size < min {
            let message = format!("{size} bytes are too few for runs; set at least {min}");
            problems.push(Problem::new("runs.max_size", message));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            problems.push(Problem::new("runs.sample", format!("{} is not between 0 and 1", self.sample)));
        }
        problems
    }
}
