//! The part of a rule that decides how its alerts fire, inhibit, repeat and resolve.

use std::sync::Arc;
use std::time::Duration;

use super::{Level, QuietSchedule};

/// What a rule is about, as far as inhibition depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Polls of a source fail: inhibits that its agents are down or stale.
    SourceFailing,
    /// Agents of a project are down: from two on, inhibits each one's alert.
    AgentsDown,
    /// One agent is down: inhibits that it is stale.
    AgentDown,
    /// One agent is stale: inhibits its other alerts.
    AgentStale,
    /// Agents of a project are rate-limited: from two on, inhibits each one's alert.
    AgentsLimited,
    /// One agent is rate-limited.
    AgentLimited,
    /// A component is unhealthy: inhibits its project's health.
    Component,
    /// A project's health: inhibited by whatever firing alert is the cause.
    ClusterHealth,
    /// Anything else about an agent.
    Agent,
    /// Anything else.
    Other,
}

/// The class and timing of a rule's alerts.
#[derive(Clone, Debug)]
pub struct RulePolicy {
    /// The rule's name.
    pub name: Arc<str>,
    /// What it is about.
    pub class: Class,
    /// Its lowest level: at which an alert fires between its threshold and `clear_below`.
    pub lowest: Level,
    /// How long the condition must hold before the alert fires: the rule's `for`.
    pub hold: Duration,
    /// How long the condition must not hold before the alert resolves.
    pub clear_after: Duration,
    /// The shortest time between two firing notifications of an alert to a receiver.
    pub cooldown: Duration,
    /// How often a firing alert is notified again; never for info.
    pub repeat: Option<Duration>,
    /// When an alert counts as flapping; `None` is never.
    pub flap: Option<Flap>,
    /// Its quiet hours.
    pub quiet: QuietSchedule,
    /// A digest of how the rule is written: eight hex digits.
    pub version: Arc<str>,
}

/// When an alert counts as flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flap {
    /// It fired or resolved this many times …
    pub changes: u32,
    /// … within this time.
    pub within: Duration,
    /// Flapping ends after this time without a change.
    pub settle: Duration,
}

impl Default for Flap {
    fn default() -> Self {
        Self { changes: 8, within: Duration::from_secs(600), settle: Duration::from_secs(300) }
    }
}

impl RulePolicy {
    /// A policy that fires and resolves at once, with defaults for the rest.
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
