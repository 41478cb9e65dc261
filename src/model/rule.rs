//! What of a rule the life of its alerts depends on.

use std::sync::Arc;
use std::time::Duration;

use super::{Level, Quiet};

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
    /// Agents of a project are held up by rate limits: told from two on, in place of each one's alert.
    AgentsLimited,
    /// One agent is held up by a rate limit.
    AgentLimited,
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
    /// When it counts as coming and going.
    pub flap: Option<Flap>,
    /// When nobody wants to be told of it.
    pub quiet: Quiet,
    /// A digest of how the rule is written: eight hex digits.
    pub version: Arc<str>,
}

/// When an alert counts as coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    /// So many times it began or ended …
    pub changes: u32,
    /// … within this time.
    pub within: Duration,
    /// It is over once nothing has happened for so long.
    pub settle: Duration,
}

impl Default for Flap {
    fn default() -> Self {
        Self { changes: 8, within: Duration::from_secs(600), settle: Duration::from_secs(300) }
    }
}

impl RulePolicy {
    /// One that fires and resolves at once and has the usual timing for the rest.
    pub fn new(name: impl Into<Arc<str>>, class: Class) -> Self {
        Self {
            name: name.into(),
            class,
            lowest: Level::Warning,
            hold: Duration::ZERO,
            clear_after: Duration::ZERO,
            cooldown: Duration::from_secs(60),
            repeat: Some(Duration::from_secs(4 * 3600)),
            flap: Some(Flap::default()),
            quiet: Arc::default(),
            version: Arc::from(""),
        }
    }
}
