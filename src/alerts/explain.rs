//! Which alert explains which, so that one cause is told once.
//!
//! A source that can't be polled explains that its agents are down or silent; agents down in numbers are
//! told as one, and so are agents that rate limits hold up; an agent that is down explains its silence, and its silence whatever else is said of it;
//! a project's health is told only when nothing firing explains it. What is explained is suppressed: still
//! active, still visible, and told as soon as its explanation ends before it does. To a receiver that is not told of
//! an explanation, by its level or its route, it explains nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Alerts, Entry};
use crate::model::{AlertState, Class, Subject};

/// Firing alerts that explain others, by what they are about; the values are their slots.
#[derive(Debug, Default)]
pub(super) struct Explainers {
    sources: HashMap<Arc<str>, u32>,
    projects: HashMap<Arc<str>, ProjectExplainers>,
}

#[derive(Debug, Default)]
struct ProjectExplainers {
    /// Agents down, by name.
    down: BTreeMap<Arc<str>, Down>,
    stale: HashMap<Arc<str>, u32>,
    /// The alert that tells of agents down in numbers, and whether it is two or more.
    agents_down: Option<(u32, bool)>,
    /// The same for agents held up by rate limits.
    agents_limited: Option<(u32, bool)>,
    components: BTreeMap<Arc<str>, u32>,
}

/// The alert that an agent is down, and the agent's source.
type Down = (u32, Option<Arc<str>>);

impl Explainers {
    /// The firing alert that explains `entry`.
    fn of(&self, entry: &Entry) -> Option<u32> {
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
                // One agent down is told as that agent's alert.
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

/// Whether an alert of this class explains others while it is in this state: when it fires. Those held up at once are
/// told as one from the first, so that each by itself is kept back while more of them are gathered.
pub(super) fn explains(class: Class, state: AlertState) -> bool {
    state == AlertState::Firing || class == Class::AgentsLimited && state == AlertState::Pending
}

impl Alerts {
    /// Settles what explains the alert in `slot`.
    pub(super) fn explain_one(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let explainer = if entry.alert.state == AlertState::Firing { self.explainers.of(entry) } else { None };
        let explained = explainer.and_then(|slot| self.entry(slot)).map(|by| Arc::clone(&by.alert.rule));
        let Some(entry) = self.entry_mut(slot) else { return };
        entry.explainer = explainer;
        if entry.alert.inhibited_by != explained {
            entry.alert.inhibited_by = explained;
            entry.dirty = true;
        }
    }

    /// Notes that the alert in `slot` began or ceased to fire, or to stand for many, or has another level, and has those
    /// looked at again that it may explain.
    pub(super) fn explainer_changed(&mut self, slot: u32) {
        let Some(entry) = self.entry(slot) else { return };
        let (class, subject) = (entry.policy.class, entry.alert.subject.clone());
        let firing = explains(class, entry.alert.state);
        let many = entry.alert.value.is_some_and(|value| value >= 2.0);
        let source = entry.alert.source.clone();
        let name = Arc::clone(subject.name());
        if class == Class::SourceFailing {
            if firing {
                self.explainers.sources.insert(Arc::clone(&name), slot);
            } else {
                self.explainers.sources.remove(&name);
            }
            // What it explains may explain the rest that is said of an agent, and of its project.
            let of_source = |entry: &&Entry| entry.alert.source.as_ref() == Some(&name);
            let subjects: HashSet<Subject> =
                self.entries.iter().flatten().filter(of_source).map(|entry| entry.alert.subject.clone()).collect();
            let is_of_project = |class: Class| matches!(class, Class::AgentsDown | Class::ClusterHealth);
            self.touch_where(|entry| is_of_project(entry.policy.class) || subjects.contains(&entry.alert.subject));
            return;
        }
        let Some(project) = subject.project().cloned() else { return };
        let known = self.explainers.projects.entry(Arc::clone(&project)).or_default();
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
                let is_one = |entry: &Entry| {
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

    pub(super) fn touch_where(&mut self, is_concerned: impl Fn(&Entry) -> bool) {
        for slot in 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX) {
            if self.entry(slot).is_some_and(&is_concerned) {
                self.touch(slot);
            }
        }
    }
}
