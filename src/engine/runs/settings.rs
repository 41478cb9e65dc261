//! The settings of the thread of runs, and why it refuses something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Capture, TraceId};
use crate::otlp::config::{ModelPrice, OtlpConfig};
use crate::runs::config::RunsConfig;
use crate::runs::registry::RegistryFull;
use crate::store::StoreError;
use crate::store::traces::TraceLimits;

/// Why something about runs was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunsError {
    /// Too much waits.
    #[error("too many spans are waiting; try again in a second")]
    Busy,
    /// The store can't be written.
    #[error("runs can't be written: {0}")]
    Store(#[from] StoreError),
    /// No such run.
    #[error("no run or trace has the id {0}")]
    UnknownRun(TraceId),
    /// No such agent.
    #[error("no agent has the id or name {0:?}; register it with POST /agents/register")]
    UnknownAgent(String),
    /// The registry is full.
    #[error(transparent)]
    RegistryFull(#[from] RegistryFull),
    /// The program is shutting down.
    #[error("shutting down")]
    Stopped,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct RunsSettings {
    /// How agents are named, and prices.
    pub otlp: OtlpConfig,
    /// What is kept of content.
    pub capture: Capture,
    /// When a run without an end is abandoned.
    pub timeout: Duration,
    /// How long and how much is kept.
    pub limits: TraceLimits,
    /// The share of runs whose spans are kept.
    pub sample: f64,
}

impl RunsSettings {
    /// By the configuration.
    pub fn new(config: &RunsConfig, otlp: &OtlpConfig) -> Self {
        Self {
            otlp: otlp.clone(),
            capture: config.capture,
            timeout: config.timeout,
            limits: TraceLimits { retention: config.retention, max_size: config.max_size },
            sample: config.sample,
        }
    }
}

/// Prices by patterns of model names.
pub type PriceList = Arc<BTreeMap<String, ModelPrice>>;
