//! What the windows of rules hold of an agent, in the form in which it outlives the program.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Signal, Time};

/// The windows of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentWindows {
    /// Signals that had a value, of those whose absence a rule looks for.
    pub known: Vec<Signal>,
    /// One for each signal and length that a rule looks at.
    pub windows: Vec<Window>,
}

/// What a signal did over a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The signal.
    pub signal: Signal,
    /// How far back it reaches, in milliseconds.
    pub over: u64,
    /// Whether its average is wanted, else its increase.
    pub average: bool,
    /// Since when the signal is followed.
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
