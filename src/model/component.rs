//! A part of the orchestrator, such as its database, and the health that follows from parts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Time;

/// How a component says it is; later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ComponentStatus {
    /// Well.
    Ok,
    /// Well, with less than all it does.
    Limited,
    /// Needs a look.
    Warning,
    /// Broken.
    Error,
}

impl ComponentStatus {
    /// All statuses, best first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Limited, Self::Warning, Self::Error];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Limited => "LIMITED",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    /// The status that `word` names, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(word))
    }

    /// What it means for its project's health.
    pub const fn health(self) -> Health {
        match self {
            Self::Ok => Health::Ok,
            Self::Limited | Self::Warning => Health::Warning,
            Self::Error => Health::Error,
        }
    }
}

/// How a project is: as its worst component, and critical when every agent that should be up is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// Nothing is wrong.
    #[default]
    Ok,
    /// A component warns or is limited.
    Warning,
    /// A component is broken.
    Error,
    /// Every agent that should be up is down.
    Critical,
}

impl Health {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Error, Self::Critical];

    /// The word for it.
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
    /// Its slot in [`super::Snapshot::components`]; set anew at each start.
    #[serde(skip)]
    pub slot: u32,
    /// Its project's place in [`super::Snapshot::projects`]; set anew at each start.
    #[serde(skip)]
    pub project_slot: u32,
    /// The project it belongs to.
    pub project: Arc<str>,
    /// Its name, one of a kind within the project.
    pub name: Arc<str>,
    /// `project="…",component="…"`, escaped once for all its series.
    #[serde(skip, default = "empty")]
    pub labels: Arc<str>,
    /// The source that last reported it.
    pub source: Arc<str>,
    /// How it is.
    pub status: ComponentStatus,
    /// Since when it is so.
    pub status_since: Time,
    /// Why, in words.
    pub details: Option<Arc<str>>,
    /// Numbers it sent along, by name.
    pub metrics: Vec<(Arc<str>, f64)>,
    /// When it was last heard of.
    pub last_heard: Time,
}

fn empty() -> Arc<str> {
    Arc::from("")
}
