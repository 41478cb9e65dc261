//! Findings: the result of evaluating a rule for a subject.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Level, Time};

/// A rule's index in the list of active rules; valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u16);

/// What a rule is evaluated for, and what an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An agent.
    Agent {
        /// Its project.
        project: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A component.
    Component {
        /// Its project.
        project: Arc<str>,
        /// Its name.
        name: Arc<str>,
    },
    /// A polled source.
    Source {
        /// Its name.
        name: Arc<str>,
    },
    /// A project as a whole.
    Cluster {
        /// Its name.
        project: Arc<str>,
    },
    /// A receiver of notifications.
    Receiver {
        /// Its name.
        name: Arc<str>,
    },
    /// The sidecar itself.
    Sidecar {
        /// The host's name.
        name: Arc<str>,
    },
}

impl Subject {
    /// The label that names it: `agent_name`, `component`, `source`, `receiver`, `sidecar`, or `project`
    /// for a whole project.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Agent { .. } => "agent_name",
            Self::Component { .. } => "component",
            Self::Source { .. } => "source",
            Self::Cluster { .. } => "project",
            Self::Receiver { .. } => "receiver",
            Self::Sidecar { .. } => "sidecar",
        }
    }

    /// Its name.
    pub const fn name(&self) -> &Arc<str> {
        match self {
            Self::Agent { name, .. }
            | Self::Component { name, .. }
            | Self::Source { name }
            | Self::Receiver { name }
            | Self::Sidecar { name } => name,
            Self::Cluster { project } => project,
        }
    }

    /// How messages name it: `shop/worker-1` for agents and components, `Source orchestrator`, `Receiver ops`, else its name.
    pub fn who(&self) -> String {
        match self {
            Self::Agent { project, name } | Self::Component { project, name } => format!("{project}/{name}"),
            Self::Source { name } => format!("Source {name}"),
            Self::Receiver { name } => format!("Receiver {name}"),
            Self::Sidecar { name } | Self::Cluster { project: name } => name.to_string(),
        }
    }

    /// Its project; what belongs to the sidecar has none.
    pub const fn project(&self) -> Option<&Arc<str>> {
        match self {
            Self::Agent { project, .. } | Self::Component { project, .. } | Self::Cluster { project } => Some(project),
            Self::Source { .. } | Self::Receiver { .. } | Self::Sidecar { .. } => None,
        }
    }
}

/// An alert's identity: rule, project and subject, never its level or value. Shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of `rule` for `subject`: the first 64 bits of SHA-256 over the parts, each ended by a zero byte.
    pub fn of(rule: &str, subject: &Subject) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let project = subject.project().map_or("", |project| project);
        for part in [rule, project, subject.label(), subject.name()] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        let digest = context.finish();
        Self(digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Reads the 16 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(input)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a fingerprint has 16 hex digits"))
    }
}

/// Why an alert resolved although its condition did not clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its subject was removed from its source.
    Removed,
    /// Its subject was not reported for so long that it expired.
    #[serde(alias = "forgotten")]
    Expired,
    /// A new day began, and with it a new budget.
    NewDay,
    /// The rule was removed, disabled, or no longer applies to the subject.
    RuleGone,
}

impl Ending {
    /// The text for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Expired => "no longer watched",
            Self::NewDay => "new day",
            Self::RuleGone => "rule removed",
        }
    }
}

/// The result of evaluating one rule for one subject.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// What it was evaluated for.
    pub subject: Subject,
    /// The source that last reported the agent it is about.
    pub source: Option<Arc<str>>,
    /// The type of the agent that it is about.
    pub agent_type: Option<Arc<str>>,
    /// The level whose threshold the value reaches; `None` when it reaches none.
    pub level: Option<Level>,
    /// Whether the value is beyond `clear_below` as well; if not, a firing alert keeps firing.
    pub cleared: bool,
    /// The value; `None` when it is unknown, which keeps a firing alert firing.
    pub value: Option<f64>,
    /// Whether the value grows by one each second from now on.
    pub grows: bool,
    /// The threshold of `level`.
    pub threshold: Option<f64>,
    /// Since when this is so, as computed from its cause.
    pub since: Time,
    /// Set when the alert resolves whatever the value.
    pub ending: Option<Ending>,
}

impl Finding {
    /// When a value that this one took the place of at `now` stopped growing: when this one began to, or only now.
    pub fn superseded_at(&self, now: Time) -> Time {
        let seconds = self.value.filter(|_| self.grows).unwrap_or_default();
        now.minus(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}
