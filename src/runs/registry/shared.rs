//! Reconciles the registry with one that is shared with others.
//!
//! A field that changed here and was not written there yet wins over what is read from there; any other field is taken
//! over. So the last writer of each field wins, also after the shared registry was out of reach.

use std::sync::Arc;

use super::{MAX_AGENTS, Registry};
use crate::model::{RegisteredAgent, RegistryStatus, SharedAgent, SharedConfig, SharedField, Sharing, Time};

/// Whether a shared registry lacks something of it. An agent that is not in use is not added to one.
pub(super) fn is_unshared(agent: &RegisteredAgent) -> bool {
    if agent.sharing.is_shared { !agent.sharing.pending.is_empty() } else { agent.status == RegistryStatus::Active }
}

impl Registry {
    /// Takes over new and changed agents of a shared registry and those that are gone from it, by id. Returns the agents
    /// that are monitored now and were not before, or the other way round.
    pub fn merge(&mut self, now: Time, rows: Vec<SharedAgent>, gone: &[Arc<str>]) -> Vec<RegisteredAgent> {
        let mut switched = Vec::new();
        for row in rows {
            if let Some(agent) = self.merge_row(now, row) {
                switched.push(agent);
            }
        }
        for id in gone {
            let Some(agent) = self.agents.get_mut(id).filter(|agent| agent.sharing.is_shared) else { continue };
            agent.sharing.is_shared = false;
            // One that registered again since is added again.
            if !agent.sharing.pending.has(SharedField::Status) {
                agent.status = RegistryStatus::Inactive;
                agent.sharing.pending = Default::default();
            }
            self.settle_sharing(id);
        }
        switched
    }

    fn merge_row(&mut self, now: Time, row: SharedAgent) -> Option<RegisteredAgent> {
        let key = (Arc::clone(&row.project), Arc::clone(&row.name));
        let by_name = self.names.get(&key).cloned();
        let by_id = self.agents.contains_key(&row.id).then(|| Arc::clone(&row.id));
        let known = match (by_name, by_id) {
            (Some(named), Some(same)) if named == same => self.agents.remove(&same),
            // Renamed there to a name that another agent had here.
            (Some(named), Some(renamed)) => {
                self.forget(&renamed);
                self.agents.remove(&named)
            }
            (Some(named), None) => self.agents.remove(&named),
            (None, Some(renamed)) => self.forget(&renamed),
            (None, None) if self.agents.len() >= MAX_AGENTS => return None,
            (None, None) => None,
        };
        let is_known = known.is_some();
        let mut agent = known.unwrap_or_else(|| RegisteredAgent {
            id: Arc::clone(&row.id),
            name: Arc::clone(&row.name),
            project: Arc::clone(&row.project),
            agent_type: Arc::from("custom"),
            external_id: None,
            config: None,
            monitoring_enabled: true,
            status: RegistryStatus::Active,
            created_by: Arc::from("registry"),
            created_at: row.created_at.unwrap_or(now),
            last_used_at: None,
            sharing: Sharing::default(),
        });
        if agent.id != row.id {
            self.unshared.remove(&agent.id);
            self.changed.remove(&agent.id);
            self.former.insert(Arc::clone(&agent.id), Arc::clone(&row.id));
            agent.sharing.former_id = Some(std::mem::replace(&mut agent.id, Arc::clone(&row.id)));
        }
        let was_monitored = agent.monitoring_enabled;
        let before = agent.clone();
        (agent.project, agent.name) = (row.project, row.name);
        agent.sharing.is_shared = true;
        let pending = agent.sharing.pending;
        let take = |field| !pending.has(field);
        if let Some(agent_type) = row.agent_type.filter(|_| take(SharedField::Type)) {
            agent.agent_type = agent_type;
        }
        if take(SharedField::ExternalId) {
            agent.external_id = row.external_id;
        }
        if let SharedConfig::Known(config) = row.config
            && take(SharedField::Config)
        {
            agent.config = config;
        }
        if let Some(is_monitored) = row.monitoring_enabled.filter(|_| take(SharedField::Monitoring)) {
            agent.monitoring_enabled = is_monitored;
        }
        if let Some(status) = row.status.filter(|_| take(SharedField::Status)) {
            agent.status = status;
        }
        agent.created_at = row.created_at.map_or(agent.created_at, |created| created.min(agent.created_at));
        agent.last_used_at = agent.last_used_at.max(row.last_used_at);
        let id = Arc::clone(&agent.id);
        self.names.insert((Arc::clone(&agent.project), Arc::clone(&agent.name)), Arc::clone(&id));
        let switched = (agent.monitoring_enabled != was_monitored).then(|| agent.clone());
        if !is_known || agent != before {
            self.changed.insert(Arc::clone(&id));
        }
        self.agents.insert(Arc::clone(&id), agent);
        self.note_unshared(&id);
        switched
    }

    fn forget(&mut self, id: &str) -> Option<RegisteredAgent> {
        let agent = self.agents.remove(id)?;
        self.names.remove(&(Arc::clone(&agent.project), Arc::clone(&agent.name)));
        Some(agent)
    }

    /// Agents of which the shared registry lacks something, at most `limit`; those of which it lacks the time of their
    /// last use alone only if asked for.
    pub fn unshared(&self, limit: usize, with_last_use: bool) -> Vec<RegisteredAgent> {
        let agents = self.unshared.iter().filter_map(|id| self.agents.get(id));
        let is_due = |agent: &&RegisteredAgent| {
            let mut pending = agent.sharing.pending;
            pending.remove(SharedField::LastUsed);
            with_last_use || agent.sharing.error.is_none() && (!agent.sharing.is_shared || !pending.is_empty())
        };
        agents.filter(is_due).take(limit).cloned().collect()
    }

    /// Number of agents of which the shared registry lacks something, and of those that it refused.
    pub fn unshared_counts(&self) -> (usize, usize) {
        let agents = self.unshared.iter().filter_map(|id| self.agents.get(id));
        (self.unshared.len(), agents.filter(|agent| agent.sharing.error.is_some()).count())
    }

    /// Notes that the shared registry has an agent as it was `written`. What changed since is still to be written.
    pub fn shared(&mut self, written: &RegisteredAgent) {
        let Some(agent) = self.agents.get_mut(&written.id) else { return };
        agent.sharing.is_shared = true;
        agent.sharing.error = None;
        for (field, is_written) in [
            (SharedField::Type, agent.agent_type == written.agent_type),
            (SharedField::ExternalId, agent.external_id == written.external_id),
            (SharedField::Config, agent.config == written.config),
            (SharedField::Monitoring, agent.monitoring_enabled == written.monitoring_enabled),
            (SharedField::Status, agent.status == written.status),
            (SharedField::LastUsed, agent.last_used_at == written.last_used_at),
        ] {
            if is_written {
                agent.sharing.pending.remove(field);
            }
        }
        self.settle_sharing(&written.id);
    }

    /// Notes that the shared registry does not take an agent. Returns whether the reason is new.
    pub fn refused(&mut self, id: &str, reason: &str) -> bool {
        let Some(agent) = self.agents.get_mut(id) else { return false };
        let is_new = agent.sharing.error.as_deref() != Some(reason);
        agent.sharing.error = Some(Arc::from(reason));
        is_new
    }

    /// Notes that the shared registry was created again, so that it has no agent.
    pub fn shared_registry_is_new(&mut self) {
        let ids: Vec<Arc<str>> = self.agents.keys().cloned().collect();
        for id in ids {
            if let Some(agent) = self.agents.get_mut(&id)
                && std::mem::take(&mut agent.sharing.is_shared)
            {
                self.settle_sharing(&id);
            }
        }
    }

    fn settle_sharing(&mut self, id: &Arc<str>) {
        self.changed.insert(Arc::clone(id));
        self.note_unshared(id);
    }

    fn note_unshared(&mut self, id: &Arc<str>) {
        if self.agents.get(id).is_some_and(is_unshared) {
            self.unshared.insert(Arc::clone(id));
        } else {
            self.unshared.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Registration, RegistryPatch};
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn row(id: &str, name: &str) -> SharedAgent {
        SharedAgent {
            id: id.into(),
            project: "shop".into(),
            name: name.into(),
            agent_type: Some("vanna".into()),
            external_id: None,
            config: SharedConfig::Known(Some(serde_json::json!({"db": "stock"}))),
            monitoring_enabled: Some(true),
            status: Some(RegistryStatus::Active),
            created_at: Some(at(1)),
            last_used_at: None,
        }
    }

    fn given(name: &str, id: &str, created_by: &str) -> Registration {
        Registration {
            project: "shop".into(),
            name: name.into(),
            agent_type: "custom".into(),
            external_id: None,
            config: None,
            monitoring_enabled: None,
            created_by: created_by.into(),
            new_id: id.into(),
        }
    }

    fn ids(registry: &Registry) -> Vec<String> {
        registry.unshared(10, false).iter().map(|agent| agent.id.to_string()).collect()
    }

    #[test]
    fn the_id_of_the_shared_registry_wins_and_the_former_one_still_finds_the_agent() {
        let mut registry = Registry::default();
        registry.saw(at(5), given("clerk", "", "push"), || "local".into()).expect("room");
        assert_eq!(ids(&registry), ["local"]);
        assert!(registry.merge(at(6), vec![row("theirs", "clerk")], &[]).is_empty());
        let agent = registry.find("shop/clerk").expect("an agent").clone();
        assert_eq!((&*agent.id, &*agent.agent_type, agent.created_at), ("theirs", "vanna", at(1)));
        assert_eq!(registry.find("local").map(|agent| &*agent.id), Some("theirs"));
        assert!(ids(&registry).is_empty() && registry.len() == 1);
        let restored = Registry::restore(registry.all().into_iter().cloned().collect());
        assert_eq!(restored.find("local").map(|agent| &*agent.id), Some("theirs"));
    }

    #[test]
    fn the_last_writer_of_each_field_wins() {
        let mut registry = Registry::default();
        registry.merge(at(1), vec![row("1", "clerk")], &[]);
        let patch = RegistryPatch { config: Some(serde_json::json!({"db": "new"})), ..RegistryPatch::default() };
        registry.patch("1", patch);
        let theirs = SharedAgent {
            monitoring_enabled: Some(false),
            config: SharedConfig::Known(Some(serde_json::json!({"db": "late"}))),
            ..row("1", "clerk")
        };
        let switched = registry.merge(at(2), vec![theirs.clone()], &[]);
        assert_eq!(switched.len(), 1);
        let written = registry.unshared(10, false);
        assert_eq!(written.first().and_then(|agent| agent.config.clone()), Some(serde_json::json!({"db": "new"})));
        registry.shared(&written[0]);
        assert!(ids(&registry).is_empty());
        registry.merge(at(3), vec![theirs], &[]);
        let agent = registry.find("1").expect("an agent");
        assert_eq!((&agent.config, agent.monitoring_enabled), (&Some(serde_json::json!({"db": "late"})), false));
    }

    #[test]
    fn what_changes_while_it_is_written_is_written_again() {
        let mut registry = Registry::default();
        registry.register(at(1), given("clerk", "1", "api")).expect("room");
        let written = registry.unshared(10, false);
        registry.patch("1", RegistryPatch { monitoring_enabled: Some(false), ..RegistryPatch::default() });
        registry.shared(&written[0]);
        assert_eq!(ids(&registry), ["1"]);
        let written = registry.unshared(10, false);
        registry.shared(&written[0]);
        assert!(ids(&registry).is_empty());
        registry.saw(at(100), given("clerk", "", "push"), || "".into()).expect("room");
        assert!(ids(&registry).is_empty(), "the last use alone is written with the next exchange");
        assert_eq!(registry.unshared(10, true).len(), 1);
    }

    #[test]
    fn who_is_deleted_elsewhere_is_inactive_until_it_registers_again() {
        let mut registry = Registry::default();
        registry.merge(at(1), vec![row("1", "clerk"), row("2", "writer")], &[]);
        registry.saw(at(2), given("clerk", "", "push"), || "".into()).expect("room");
        registry.register(at(2), given("writer", "", "api")).expect("room");
        registry.merge(at(3), Vec::new(), &["1".into(), "2".into()]);
        let status = |registry: &Registry, id: &str| registry.find(id).map(|agent| agent.status);
        assert_eq!(status(&registry, "1"), Some(RegistryStatus::Inactive));
        assert_eq!(status(&registry, "2"), Some(RegistryStatus::Active));
        assert_eq!(ids(&registry), ["2"]);
        registry.register(at(4), given("clerk", "", "api")).expect("room");
        assert_eq!(ids(&registry), ["1", "2"]);
    }

    #[test]
    fn one_that_is_refused_waits_for_the_next_exchange() {
        let mut registry = Registry::default();
        registry.register(at(1), given("clerk", "1", "api")).expect("room");
        assert!(registry.refused("1", "too long") && !registry.refused("1", "too long"));
        assert!(ids(&registry).is_empty());
        assert_eq!((registry.unshared(10, true).len(), registry.unshared_counts()), (1, (1, 1)));
    }

    #[test]
    fn an_agent_that_was_renamed_elsewhere_keeps_its_id() {
        let mut registry = Registry::default();
        registry.merge(at(1), vec![row("1", "clerk")], &[]);
        registry.merge(at(2), vec![row("1", "writer")], &[]);
        assert_eq!(registry.find("shop/writer").map(|agent| &*agent.id), Some("1"));
        assert!(registry.find("shop/clerk").is_none());
    }
}
