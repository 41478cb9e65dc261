//! What the windows of rules hold of an agent, in the form in which it outlives the program.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Time;

/// The windows of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentWindows {
    /// What had a value, of that whose absence a rule looks for; in the words of a rule file.
    pub known: Vec<Arc<str>>,
    /// One for each value and length that a rule looks at.
    pub windows: Vec<Window>,
}

/// What a value did over a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Which value, in the word of a rule file.
    pub signal: Arc<str>,
    /// How far back it reaches, in milliseconds.
    pub over: u64,
    /// Whether its average is wanted, else its increase.
    pub average: bool,
    /// Since when it is followed.
    pub since: Time,
    /// Whether nothing happened before.
    pub from_birth: bool,
    /// The last value.
    pub last: f64,
    /// Increases, or values that held from then on, each with its milliseconds after `since`.
    pub pieces: Vec<(i64, f64)>,
}

/// By (project, name) of their agents, windows as they were saved.
pub type SavedWindows = Vec<((Arc<str>, Arc<str>), AgentWindows)>;
