//! Inhibition: which alert is the cause of which, so that one cause is notified once.
//!
//! | alert | inhibits |
//! |---|---|
//! | a source fails | its agents' AgentDown and AgentStale, and AgentsDown where all that are down are its own |
//! | AgentsDown, from two agents on | each one's AgentDown |
//! | AgentDown | the agent's AgentStale, and AgentsDown while it is the only one |
//! | AgentStale | the agent's other alerts |
//! | AgentsLimited, from two agents on | each one's RateLimited |
//! | any of these, and components | ClusterHealth of the project |
//!
//! An inhibited alert stays active and visible; receivers are notified of it if the inhibiting alert resolves first. A
//! receiver that is not notified of the inhibiting alert, by its level or route, has nothing inhibited by it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{AlertEntry, Alerts};
use crate::model::{AlertState, Class, Subject};

/// Alerts that inhibit others, by what they are about; the values are their slots.
#[derive(Debug, Default)]
pub(super) struct Inhibitors {
    sources: HashMap<Arc<str>, u32>,
    projects: HashMap<Arc<str>, ProjectInhibitors>,
}

#[derive(Debug, Default)]
struct ProjectInhibitors {
    /// Agents down, by name.
    down: BTreeMap<Arc<str>, Down>,
    stale: HashMap<Arc<str>, u32>,
    /// AgentsDown, and whether its value is two or more.
    agents_down: Option<(u32, bool)>,
    /// AgentsLimited, and whether its value is two or more.
    agents_limited: Option<(u32, bool)>,
    components: BTreeMap<Arc<str>, u32>,
}

/// The alert that an agent is down, and the agent's source.
type Down = (u32, Option<Arc<str>>);

impl Inhibitors {
    /// The alert that inhibits `entry`.
    fn of(&self, entry: &AlertEntry) -> Option<u32> {
        let alert = &entry.alert;
        let by_source = || alert.source.as_ref().and_then(|source| self.sources.get(source)).copied();
        let project = alert.subject.project().and_then(|project| self.projects.get(project));
        let name = alert.subject.name();
        match entry.policy.class {
            Class::SourceFailing | Class::Component | Class::AgentsLimited | Class::Other => None,
            Class::AgentDown => by_source().or_else(|| {
                let (slot, many) = project?.agents_down?;
                many.then_some(slot)
            }),
            Class::AgentsDown => {
                let down = &project?.down;
                let source_of = |source: &Option<Arc<str>>| source.as_ref().and_then(|source| self.sources.get(source));
                let (slot, source) = down.values().next()?;
                if down.values().all(|(_, source)| source_of(source).is_some()) {
                    return source_of(source).copied();
                }
                // A single agent down is notified by its own alert.
                (alert.value.is_some_and(|value| value < 2.0)).then_some(*slot)
            }
            Class::AgentStale => by_source().or_else(|| project?.down.get(name).map(|(slot, _)| *slot)),
            Class::Agent => project?.stale.get(name).copied(),
            Class::AgentLimited => {
                let project = project?;
                let many = project.agents_limited.filter(|(_, many)| *many).map(|(slot, _)| slot);
                project.stale.get(name).copied().or(many)
            }
            Class::ClusterHealth => {
                let project = project?;
                let down = || project.down.values().next().map(|(slot, _)| *slot);
                let many = || project.agents_down.map(|(slot, _)| slot);
                project.components.values().next().copied().or_else(many).or_else(down)
            }
        }
    }
}

/// Whether an alert of this class inhibits others while it is in this state: when it fires. AgentsLimited does while it
/// is pending as well: it waits for more agents to be rate-limited, and until then none is notified by itself.
pub(super) fn inhibits(class: Class, state: AlertState) -> bool {
    state == AlertState::Firing || class == Class::AgentsLimited && state == AlertState::Pending
}

impl Alerts {
    /// Determines which alert inhibits the one in `slot`.
    pub(super) fn update_inhibition(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let inhibitor = if entry.alert.state == AlertState::Firing { self.inhibitors.of(entry) } else { None };
        let inhibited_by = inhibitor.and_then(|slot| self.entry(slot)).map(|by| Arc::clone(&by.alert.rule));
        let Some(entry) = self.entry_mut(slot) else { return };
        entry.inhibitor = inhibitor;
        if entry.alert.inhibited_by != inhibited_by {
            entry.alert.inhibited_by = inhibited_by;
            entry.dirty = true;
        }
    }

    /// Records that the alert in `slot` began or stopped firing, changed its level, or is now about one or many agents.
    /// The alerts that it may inhibit are evaluated again.
    pub(super) fn inhibitor_changed(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let (class, subject) = (entry.policy.class, entry.alert.subject.clone());
        let firing = inhibits(class, entry.alert.state);
        let many = entry.alert.value.is_some_and(|value| value >= 2.0);
        let source = entry.alert.source.clone();
        let name = Arc::clone(subject.name());
        if class == Class::SourceFailing {
            if firing {
                self.inhibitors.sources.insert(Arc::clone(&name), slot);
            } else {
                self.inhibitors.sources.remove(&name);
            }
            // What it inhibits may itself inhibit other alerts of the agent and the project.
            let of_source = |entry: &&AlertEntry| entry.alert.source.as_ref() == Some(&name);
            let subjects: HashSet<Subject> =
                self.entries.iter().flatten().filter(of_source).map(|entry| entry.alert.subject.clone()).collect();
            let is_of_project = |class: Class| matches!(class, Class::AgentsDown | Class::ClusterHealth);
            self.touch_where(|entry| is_of_project(entry.policy.class) || subjects.contains(&entry.alert.subject));
            return;
        }
        let Some(project) = subject.project().cloned() else { return };
        let known = self.inhibitors.projects.entry(Arc::clone(&project)).or_default();
        match class {
            Class::AgentDown => {
                if firing {
                    known.down.insert(name, (slot, source));
                } else {
                    known.down.remove(&name);
                }
                self.touch_subject(&subject);
                self.touch_subject(&Subject::Cluster { project });
            }
            Class::AgentStale => {
                if firing {
                    known.stale.insert(name, slot);
                } else {
                    known.stale.remove(&name);
                }
                self.touch_subject(&subject);
            }
            Class::AgentsDown => {
                known.agents_down = firing.then_some((slot, many));
                let down: Vec<Arc<str>> = known.down.keys().cloned().collect();
                for name in down {
                    self.touch_subject(&Subject::Agent { project: Arc::clone(&project), name });
                }
                self.touch_subject(&Subject::Cluster { project });
            }
            Class::Component => {
                if firing {
                    known.components.insert(name, slot);
                } else {
                    known.components.remove(&name);
                }
                self.touch_subject(&Subject::Cluster { project });
            }
            Class::AgentsLimited => {
                known.agents_limited = firing.then_some((slot, many));
                let is_one = |entry: &AlertEntry| {
                    entry.policy.class == Class::AgentLimited && entry.alert.subject.project() == Some(&project)
                };
                self.touch_where(is_one);
            }
            Class::SourceFailing | Class::ClusterHealth | Class::Agent | Class::AgentLimited | Class::Other => {}
        }
    }

    fn touch_subject(&mut self, subject: &Subject) {
        for slot in self.by_subject.get(subject).cloned().unwrap_or_default() {
            self.touch(slot);
        }
    }

    pub(super) fn touch_where(&mut self, is_concerned: impl Fn(&AlertEntry) -> bool) {
        for slot in 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX) {
            if self.entry(slot).is_some_and(&is_concerned) {
                self.touch(slot);
            }
        }
    }
}
