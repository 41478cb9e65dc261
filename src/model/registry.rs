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
    /// Its state in a registry that is shared with others.
    pub sharing: Sharing,
}

/// A field of an agent that may be changed here and elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedField {
    /// Its type.
    Type,
    /// Its id in another system.
    ExternalId,
    /// What its owner keeps about it.
    Config,
    /// Whether its alerts are evaluated.
    Monitoring,
    /// Whether it is in use.
    Status,
    /// When it last worked.
    LastUsed,
}

/// A set of [`SharedField`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedFields(pub u8);

impl SharedFields {
    /// Whether the field is in the set.
    pub const fn has(self, field: SharedField) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Adds a field.
    pub const fn add(&mut self, field: SharedField) {
        self.0 |= 1 << field as u8;
    }

    /// Removes a field.
    pub const fn remove(&mut self, field: SharedField) {
        self.0 &= !(1 << field as u8);
    }

    /// Whether the set has no field.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The state of an agent in a registry that is shared with others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sharing {
    /// Whether the shared registry has it.
    pub is_shared: bool,
    /// What changed here and was not written there yet.
    pub pending: SharedFields,
    /// The id that it had before the shared registry's own replaced it.
    pub former_id: Option<Arc<str>>,
    /// Why the shared registry refused it.
    pub error: Option<Arc<str>>,
}

/// An agent as a shared registry has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedAgent {
    /// Its id there.
    pub id: Arc<str>,
    /// Its project, as the fleet names it.
    pub project: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What kind of agent it is, if that is known.
    pub agent_type: Option<Arc<str>>,
    /// Its id in another system.
    pub external_id: Option<Arc<str>>,
    /// What its owner keeps about it.
    pub config: SharedConfig,
    /// Whether its alerts are evaluated, if that is known.
    pub monitoring_enabled: Option<bool>,
    /// Whether it is in use, if that is known.
    pub status: Option<RegistryStatus>,
    /// When it was first seen.
    pub created_at: Option<Time>,
    /// When it last worked.
    pub last_used_at: Option<Time>,
}

/// The `config` of an agent in a shared registry.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedConfig {
    /// A JSON object, or nothing.
    Known(Option<serde_json::Value>),
    /// Something that is no object or too large; what is known here stays.
    Unreadable,
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
