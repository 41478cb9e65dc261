//! The registry: every agent that registered itself or was seen, whether or not it lives now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::project::DEFAULT_PROJECT;
use crate::clock::Time;

/// The id that platforms give the default project.
pub const DEFAULT_PROJECT_ID: &str = "default-project";

/// Whether an agent is in use. The state of what it does now is the fleet's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryStatus {
    /// In use.
    #[default]
    Active,
    /// Deleted; its history stays.
    Inactive,
}

impl RegistryStatus {
    /// The word in the API and in databases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// The status with that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Active, Self::Inactive].into_iter().find(|status| status.as_str() == word)
    }
}

/// An agent in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisteredAgent {
    /// Its id, a UUID.
    pub id: Arc<str>,
    /// Its name, unique in its project.
    pub name: Arc<str>,
    /// Its project, as the fleet names it.
    pub project: Arc<str>,
    /// What kind of agent it is: any word, such as `vanna` or `claude-code`.
    pub agent_type: Arc<str>,
    /// Its id in another system.
    pub external_id: Option<Arc<str>>,
    /// What its owner keeps about it: a JSON object.
    pub config: Option<serde_json::Value>,
    /// Whether its alerts are evaluated.
    pub monitoring_enabled: bool,
    /// Whether it is in use.
    pub status: RegistryStatus,
    /// What it was first seen by: `api`, `push`, `poll`, `hook`, `otlp` and so on.
    pub created_by: Arc<str>,
    /// When it was first seen.
    pub created_at: Time,
    /// When it last worked.
    pub last_used_at: Option<Time>,
}

impl RegisteredAgent {
    /// The id of its project for platforms.
    pub fn project_id(&self) -> &str {
        project_id(&self.project)
    }
}

/// The id that platforms use for a project.
pub fn project_id(project: &str) -> &str {
    if project == DEFAULT_PROJECT { DEFAULT_PROJECT_ID } else { project }
}

/// The project with that id.
pub fn project_of_id(id: &str) -> &str {
    if id == DEFAULT_PROJECT_ID { DEFAULT_PROJECT } else { id }
}
