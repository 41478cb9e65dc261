//! Restores state after a restart: fleet, windows, silences and alerts, in the order in which they depend on each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Machine, MachineEffects, SidecarObservation};
use crate::ingest::UsageBatch;
use crate::model::windows::SavedWindows;
use crate::model::{Agent, Alert, Changes, Component, Ending, Fingerprint, Project, Silence, Time};

/// State that was read from the store at a start.
#[derive(Debug, Default)]
pub struct RestoredState<'a> {
    /// How long the sidecar did not run: timers and windows exclude it.
    pub downtime: Duration,
    /// Projects, with the start times of their runs.
    pub projects: Vec<Project>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Components.
    pub components: Vec<Component>,
    /// Ids of increments that were counted, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// Increments that were counted after the agents were saved.
    pub usage: Vec<UsageBatch<'a>>,
    /// Sources whose polls fail, and since when.
    pub sources: Vec<(Arc<str>, Time)>,
    /// Windows of agents, by project and name.
    pub windows: SavedWindows,
    /// Alerts.
    pub alerts: Vec<Alert>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Total of alerts so far, by each level reached.
    pub raised: [u64; 4],
    /// Total of alerts that fired so far.
    pub fired: u64,
    /// Pending notices that are unreadable: receiver, alert and key.
    pub lost: Vec<(Arc<str>, Option<Fingerprint>, Arc<str>)>,
    /// The sidecar's own health.
    pub observed: SidecarObservation,
}

impl Machine {
    /// Restores `restored` at a start, before any event. [`super::MachineEvent::Evaluate`] follows, once pending notices
    /// were handed to their receivers.
    pub fn restore(&mut self, now: Time, mut restored: RestoredState<'_>) -> MachineEffects {
        let mut effects = MachineEffects::default();
        let downtime = restored.downtime;
        restored.projects.iter_mut().for_each(|project| project.shift(now, downtime));
        self.fleet.restore(now, restored.projects, restored.agents, restored.components, restored.usage_ids);
        for usage in &restored.usage {
            self.fleet.usage(now, &usage.project, &usage.usage);
        }
        self.unsaved.note(self.fleet.changes());
        let changes = self.fleet.changes();
        let turned = Changes { agents: changes.agents.clone(), new_day: true, ..Changes::default() };
        let turned = changes.new_day.then_some(turned);
        self.fleet.clear_changes();
        let failing = restored.sources.into_iter();
        self.fleet.restore_sources(failing.map(|(name, since)| (name, since.plus(downtime).min(now))));
        self.sidecar.restore(now, &self.rules, &restored.alerts);
        self.restore_windows(now, restored.windows, downtime);
        self.rules.seed(now, self.fleet.state());
        // Not evaluated yet: a receiver that still fails has an alert, which has to be restored first.
        self.observe(now, &restored.observed);
        self.fleet.clear_changes();
        self.alerts.restore_silences(restored.silences);
        self.alerts.restore(now, restored.alerts, restored.raised, restored.fired, downtime);
        self.digest.restore(restored.fired);
        let mut lost_of: HashMap<Arc<str>, usize> = HashMap::new();
        for (receiver, fingerprint, key) in restored.lost {
            if let Some(fingerprint) = fingerprint {
                self.alerts.lost(&receiver, fingerprint, &key);
            }
            *lost_of.entry(receiver).or_default() += 1;
        }
        lost_of.iter().for_each(|(receiver, notices)| self.sidecar.dead_lettered(receiver, *notices, None));
        // Rules may have been removed since.
        let rules = &self.rules;
        let without_rule = self.alerts.end_unless(now, Ending::RuleGone, |alert| rules.id(&alert.rule).is_some());
        self.add(now, without_rule, &mut effects);
        self.mark_open();
        if let Some(turned) = turned {
            // Only now do rules know which alerts are open: those about budgets of the day before resolve.
            self.rules.evaluate(now, self.fleet.state(), &turned, &mut self.findings);
        }
        self.find_orphans(now);
        self.enforcement.restart(self.fleet.state());
        effects
    }

    /// Restores the windows of agents that still exist.
    fn restore_windows(&mut self, now: Time, saved: SavedWindows, downtime: Duration) {
        let agents = self.fleet.state().agents.iter();
        let slots: HashMap<_, u32> = agents.map(|agent| ((&*agent.project, &*agent.name), agent.slot)).collect();
        for ((project, name), windows) in saved {
            if let Some(slot) = slots.get(&(&*project, &*name)) {
                self.rules.restore_windows(now, *slot, &windows, downtime);
            }
        }
    }
}
