//! What of a rule the life of its alerts depends on.

use std::sync::Arc;
use std::time::Duration;

use super::Level;

/// What a rule is about, as far as one alert can explain another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A source can't be polled: explains that its agents are down or silent.
    SourceFailing,
    /// Agents of a project are down: told from two on, in place of each one's alert.
    AgentsDown,
    /// One agent is down: explains its silence.
    AgentDown,
    /// One agent is silent: explains whatever else is said of it.
    AgentStale,
    /// A component is not well: explains its project's health.
    Component,
    /// A project's health: told only when nothing firing explains it.
    ClusterHealth,
    /// Anything else about an agent.
    Agent,
    /// Anything else.
    Other,
}

/// The timing of a rule's alerts.
#[derive(Clone, Debug)]
pub struct RulePolicy {
    /// The rule's name.
    pub name: Arc<str>,
    /// What it is about.
    pub class: Class,
    /// Its mildest level: where an alert is held between its threshold and `clear_below`.
    pub lowest: Level,
    /// How long it must hold before it fires.
    pub hold: Duration,
    /// How long it must be fine before it resolves.
    pub clear_after: Duration,
    /// The same alert tells the same receiver at most once in this time.
    pub cooldown: Duration,
    /// When it is said again while it lasts; never for info.
    pub repeat: Option<Duration>,
}
