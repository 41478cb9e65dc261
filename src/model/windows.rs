//! The windows that rules keep per agent, in the form in which they are saved over a restart.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Time;

/// The windows of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentWindows {
    /// The names of indicators that had a value, of those whose absence a rule alerts on.
    pub known: Vec<Cow<'static, str>>,
    /// One window per indicator and length that a rule uses.
    pub windows: Vec<Window>,
}

/// The values of one indicator over a window of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The name of the indicator.
    pub indicator: Cow<'static, str>,
    /// The length of the window in milliseconds.
    pub over: u64,
    /// Whether its average is computed, otherwise its increase.
    pub average: bool,
    /// Since when the indicator is followed.
    pub since: Time,
    /// Whether the agent was new then, so that nothing happened before.
    pub is_complete: bool,
    /// The last value.
    pub last: f64,
    /// Increases, or for an average the values that held from then on, each with its time in milliseconds after `since`.
    pub pieces: Vec<(i64, f64)>,
}

/// Saved windows, by (project, name) of their agents.
pub type SavedWindows = Vec<((Arc<str>, Arc<str>), AgentWindows)>;
