//! A component of an orchestrator, such as its database, and the health of a project that follows from components.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CustomMetrics, Time};

/// The status that a component reports, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ComponentStatus {
    /// Working.
    Ok,
    /// Working, with reduced function.
    Limited,
    /// Needs attention.
    Warning,
    /// Not working.
    Error,
}

impl ComponentStatus {
    /// All statuses, best first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Limited, Self::Warning, Self::Error];

    /// The name in reports, labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Limited => "LIMITED",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    /// The status with this name, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(word))
    }

    /// The health that it gives its project.
    pub const fn health(self) -> Health {
        match self {
            Self::Ok => Health::Ok,
            Self::Limited | Self::Warning => Health::Warning,
            Self::Error => Health::Error,
        }
    }
}

/// The health of a project: that of its worst component, or critical if every agent that should be up is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// A component is limited or reports a warning.
    Warning,
    /// A component reports an error.
    Error,
    /// Every agent that should be up is down.
    Critical,
}

impl Health {
    /// All values, best first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Error, Self::Critical];

    /// The name in labels and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// A component as last reported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Component {
    /// Its slot in [`super::Snapshot::components`], assigned at each start.
    #[serde(skip)]
    pub slot: u32,
    /// Its project's slot in [`super::Snapshot::projects`], assigned at each start.
    #[serde(skip)]
    pub project_slot: u32,
    /// The project it belongs to.
    pub project: Arc<str>,
    /// Its name, unique within the project.
    pub name: Arc<str>,
    /// `project="…",component="…"`, escaped once for all its series.
    #[serde(skip, default = "empty")]
    pub labels: Arc<str>,
    /// The source that last reported it.
    pub source: Arc<str>,
    /// Its status.
    pub status: ComponentStatus,
    /// When the status last changed.
    pub status_since: Time,
    /// The reason for the status, as text.
    pub details: Option<Arc<str>>,
    /// Numbers that it reported, by name.
    pub metrics: Vec<(Arc<str>, f64)>,
    /// Its custom metrics, those numbers included; shared with snapshots until they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Arc<CustomMetrics>>,
    /// When it was last reported.
    pub last_seen: Time,
}

fn empty() -> Arc<str> {
    Arc::from("")
}
