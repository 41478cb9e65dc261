//! The registry of agents: who registered, and who was seen.
//!
//! Several sidecars and other programs may share one registry in a database. `shared` reconciles: of each field the
//! last writer wins, and the id is that of the database.

mod shared;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{RegisteredAgent, RegistryStatus, SharedField, Sharing, Time};

/// Most agents in the registry.
pub const MAX_AGENTS: usize = 100_000;
/// How often the last use of an agent is noted.
const USE_EVERY: Duration = Duration::from_secs(60);

/// What an agent registers with.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its project.
    pub project: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What kind of agent it is.
    pub agent_type: Arc<str>,
    /// Its id in another system; `None` leaves it as it is.
    pub external_id: Option<Arc<str>>,
    /// What its owner keeps about it; `None` leaves it as it is.
    pub config: Option<serde_json::Value>,
    /// Whether its alerts are evaluated; `None` leaves it as it is.
    pub monitoring_enabled: Option<bool>,
    /// What it is seen by.
    pub created_by: Arc<str>,
    /// The id that it gets if it is new.
    pub new_id: Arc<str>,
}

/// A change of an agent; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct RegistryPatch {
    /// What its owner keeps about it.
    pub config: Option<serde_json::Value>,
    /// Whether its alerts are evaluated.
    pub monitoring_enabled: Option<bool>,
    /// Whether it is in use.
    pub status: Option<RegistryStatus>,
}

/// The registry is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry has {MAX_AGENTS} agents already; delete some, or name agents by a fixed name in place of an id")]
pub struct RegistryFull;

/// All agents by project and name, and by id.
#[derive(Debug, Default)]
pub struct Registry {
    agents: HashMap<Arc<str>, RegisteredAgent>,
    names: HashMap<(Arc<str>, Arc<str>), Arc<str>>,
    /// Ids that were replaced by those of a shared registry.
    former: HashMap<Arc<str>, Arc<str>>,
    changed: BTreeSet<Arc<str>>,
    /// Ids of agents of which a shared registry lacks something.
    unshared: BTreeSet<Arc<str>>,
}

impl Registry {
    /// The agents that a store kept.
    pub fn restore(agents: Vec<RegisteredAgent>) -> Self {
        let mut registry = Self::default();
        for agent in agents {
            registry.names.insert((Arc::clone(&agent.project), Arc::clone(&agent.name)), Arc::clone(&agent.id));
            if let Some(former) = &agent.sharing.former_id {
                registry.former.insert(Arc::clone(former), Arc::clone(&agent.id));
            }
            if shared::is_unshared(&agent) {
                registry.unshared.insert(Arc::clone(&agent.id));
            }
            registry.agents.insert(Arc::clone(&agent.id), agent);
        }
        registry
    }

    /// Number of agents.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// The agent with this id, or with this `project/name`.
    pub fn find(&self, id: &str) -> Option<&RegisteredAgent> {
        self.agents.get(id).or_else(|| self.agents.get(self.former.get(id)?)).or_else(|| {
            let (project, name) = id.split_once('/')?;
            self.named(crate::model::registry::project_of_id(project), name)
        })
    }

    /// The agent of this project and name.
    pub fn named(&self, project: &str, name: &str) -> Option<&RegisteredAgent> {
        self.agents.get(self.names.get(&(Arc::from(project), Arc::from(name)))?)
    }

    /// Registers an agent, or updates the one that has its name. Returns it and whether it is new.
    pub fn register(&mut self, now: Time, given: Registration) -> Result<(&RegisteredAgent, bool), RegistryFull> {
        let key = (Arc::clone(&given.project), Arc::clone(&given.name));
        let known = self.names.get(&key).cloned();
        if known.is_none() && self.agents.len() >= MAX_AGENTS {
            return Err(RegistryFull);
        }
        let is_new = known.is_none();
        let is_given_type = is_new && *given.created_by == *"api";
        let id = known.unwrap_or_else(|| Arc::clone(&given.new_id));
        self.names.insert(key, Arc::clone(&id));
        let agent = self.agents.entry(Arc::clone(&id)).or_insert_with(|| RegisteredAgent {
            id: Arc::clone(&id),
            name: given.name,
            project: given.project,
            agent_type: Arc::clone(&given.agent_type),
            external_id: None,
            config: None,
            monitoring_enabled: true,
            status: RegistryStatus::Active,
            created_by: given.created_by,
            created_at: now,
            last_used_at: None,
            sharing: Sharing::default(),
        });
        let pending = &mut agent.sharing.pending;
        for (field, is_given) in [
            (SharedField::Type, is_given_type || agent.agent_type != given.agent_type),
            (SharedField::ExternalId, given.external_id.is_some()),
            (SharedField::Config, given.config.is_some()),
            (SharedField::Monitoring, given.monitoring_enabled.is_some()),
            (SharedField::Status, !is_new),
        ] {
            if is_given {
                pending.add(field);
            }
        }
        agent.agent_type = given.agent_type;
        agent.external_id = given.external_id.or(agent.external_id.take());
        agent.config = given.config.or(agent.config.take());
        agent.monitoring_enabled = given.monitoring_enabled.unwrap_or(agent.monitoring_enabled);
        agent.status = RegistryStatus::Active;
        self.unshared.insert(Arc::clone(&id));
        self.changed.insert(id);
        Ok((agent, is_new))
    }

    /// Notes that an agent was seen at work. A new one is registered with an id of `new_id`; of a known one the type and
    /// what people set stay.
    pub fn saw(
        &mut self,
        now: Time,
        seen: Registration,
        new_id: impl FnOnce() -> Arc<str>,
    ) -> Result<(), RegistryFull> {
        let key = (Arc::clone(&seen.project), Arc::clone(&seen.name));
        match self.names.get(&key).and_then(|id| self.agents.get_mut(id)) {
            Some(agent) => {
                if agent.last_used_at.is_none_or(|last| now.since(last) >= USE_EVERY) {
                    agent.last_used_at = Some(now);
                    agent.sharing.pending.add(SharedField::LastUsed);
                    self.unshared.insert(Arc::clone(&agent.id));
                    self.changed.insert(Arc::clone(&agent.id));
                }
            }
            None => {
                let seen = Registration { new_id: new_id(), ..seen };
                let id = Arc::clone(&self.register(now, seen)?.0.id);
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.last_used_at = Some(now);
                }
            }
        }
        Ok(())
    }

    /// Changes an agent.
    pub fn patch(&mut self, id: &str, patch: RegistryPatch) -> Option<&RegisteredAgent> {
        let id = Arc::clone(&self.find(id)?.id);
        let agent = self.agents.get_mut(&id)?;
        for (field, is_given) in [
            (SharedField::Config, patch.config.is_some()),
            (SharedField::Monitoring, patch.monitoring_enabled.is_some()),
            (SharedField::Status, patch.status.is_some()),
        ] {
            if is_given {
                agent.sharing.pending.add(field);
            }
        }
        agent.config = patch.config.or(agent.config.take());
        agent.monitoring_enabled = patch.monitoring_enabled.unwrap_or(agent.monitoring_enabled);
        agent.status = patch.status.unwrap_or(agent.status);
        self.unshared.insert(Arc::clone(&id));
        self.changed.insert(id);
        Some(agent)
    }

    /// All agents, in any order.
    pub fn agents(&self) -> impl Iterator<Item = &RegisteredAgent> {
        self.agents.values()
    }

    /// All agents, by project and name.
    pub fn all(&self) -> Vec<&RegisteredAgent> {
        let mut agents: Vec<_> = self.agents.values().collect();
        agents.sort_by(|one, other| (&one.project, &one.name).cmp(&(&other.project, &other.name)));
        agents
    }

    /// New and changed agents since the last call.
    pub fn take_changes(&mut self) -> Vec<RegisteredAgent> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|id| self.agents.get(id)).cloned().collect()
    }

    /// Marks agents as changed again, whose write failed.
    pub fn not_written(&mut self, agents: &[RegisteredAgent]) {
        self.changed.extend(agents.iter().map(|agent| Arc::clone(&agent.id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, id: &str) -> Registration {
        Registration {
            project: "shop".into(),
            name: name.into(),
            agent_type: "custom".into(),
            external_id: None,
            config: None,
            monitoring_enabled: None,
            created_by: "api".into(),
            new_id: id.into(),
        }
    }

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn an_agent_keeps_its_id_and_what_is_not_given_again() {
        let mut registry = Registry::default();
        let config = serde_json::json!({"db": "stock"});
        let first =
            Registration { config: Some(config.clone()), monitoring_enabled: Some(false), ..given("clerk", "1") };
        assert!(registry.register(at(1), first).expect("room").1);
        let again = Registration { agent_type: "vanna".into(), ..given("clerk", "2") };
        let (agent, is_new) = registry.register(at(2), again).expect("room");
        assert_eq!((is_new, &*agent.id, &*agent.agent_type), (false, "1", "vanna"));
        assert_eq!((&agent.config, agent.monitoring_enabled, agent.created_at), (&Some(config), false, at(1)));
        assert_eq!(registry.find("shop/clerk").map(|agent| &*agent.id), Some("1"));
        assert_eq!(registry.find("1").map(|agent| &*agent.name), Some("clerk"));
        assert!(registry.find("2").is_none() && registry.find("shop/other").is_none());
    }

    #[test]
    fn who_is_seen_is_registered_and_its_last_use_is_noted_once_a_minute() {
        let mut registry = Registry::default();
        registry.saw(at(1), given("clerk", ""), || "1".into()).expect("room");
        assert_eq!(registry.take_changes().len(), 1);
        registry.saw(at(30), given("clerk", ""), || "2".into()).expect("room");
        assert!(registry.take_changes().is_empty());
        registry.saw(at(61), given("clerk", ""), || "3".into()).expect("room");
        assert_eq!(registry.take_changes().first().and_then(|agent| agent.last_used_at), Some(at(61)));
        registry.patch("1", RegistryPatch { status: Some(RegistryStatus::Inactive), ..RegistryPatch::default() });
        assert_eq!(registry.len(), 1);
    }
}
