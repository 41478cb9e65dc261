//! After a restart: what outlived the process is taken over, in the one order in which it fits together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Effects, Machine, Observed};
use crate::ingest::UsageBatch;
use crate::model::windows::SavedWindows;
use crate::model::{Agent, Alert, Changes, Component, Ending, Fingerprint, Project, Silence, Time};

/// What outlived the process.
#[derive(Debug, Default)]
pub struct Memory<'a> {
    /// For how long nothing ran: deadlines and windows go on without it.
    pub downtime: Duration,
    /// Projects, with the times of their run.
    pub projects: Vec<Project>,
    /// Agents.
    pub agents: Vec<Agent>,
    /// Components.
    pub components: Vec<Component>,
    /// Ids of increments that were counted, oldest first.
    pub usage_ids: Vec<(u64, Time)>,
    /// Increments that were counted after the agents were saved.
    pub usage: Vec<UsageBatch<'a>>,
    /// Since when polls of which sources fail.
    pub sources: Vec<(Arc<str>, Time)>,
    /// Windows of agents, by project and name.
    pub windows: SavedWindows,
    /// Alerts.
    pub alerts: Vec<Alert>,
    /// Silences.
    pub silences: Vec<Silence>,
    /// Alerts that were raised so far, by level.
    pub raised: [u64; 4],
    /// Alerts that fired so far.
    pub fired: u64,
    /// Notices that can't be read back: receiver, alert and key.
    pub lost: Vec<(Arc<str>, Option<Fingerprint>, Arc<str>)>,
    /// How the program is.
    pub observed: Observed,
}

impl Machine {
    /// Takes over `memory`, at a start, before any event. What stands is evaluated by [`super::Event::Evaluate`], once
    /// what was pending delivery is on its way again.
    pub fn restore(&mut self, now: Time, mut memory: Memory<'_>) -> Effects {
        let mut effects = Effects::default();
        let downtime = memory.downtime;
        memory.projects.iter_mut().for_each(|project| project.shift(now, downtime));
        self.fleet.restore(now, memory.projects, memory.agents, memory.components, memory.usage_ids);
        for usage in &memory.usage {
            self.fleet.usage(now, &usage.project, &usage.usage);
        }
        self.unsaved.note(self.fleet.changes());
        let changes = self.fleet.changes();
        let turned = Changes { agents: changes.agents.clone(), new_day: true, ..Changes::default() };
        let turned = changes.new_day.then_some(turned);
        self.fleet.clear_changes();
        let failing = memory.sources.into_iter();
        self.fleet.restore_sources(failing.map(|(name, since)| (name, since.plus(downtime).min(now))));
        self.sidecar.restore(now, &self.rules, &memory.alerts);
        self.restore_windows(now, memory.windows, downtime);
        self.rules.seed(now, self.fleet.state());
        // Known from now on, and evaluated with everything else: an alert about a receiver that still fails must find its
        // own, which is not restored yet.
        self.observe(now, &memory.observed);
        self.fleet.clear_changes();
        self.alerts.restore_silences(memory.silences);
        self.alerts.restore(now, memory.alerts, memory.raised, memory.fired, downtime);
        self.digest.restore(memory.fired);
        let mut lost_of: HashMap<Arc<str>, usize> = HashMap::new();
        for (receiver, fingerprint, key) in memory.lost {
            if let Some(fingerprint) = fingerprint {
                self.alerts.lost(&receiver, fingerprint, &key);
            }
            *lost_of.entry(receiver).or_default() += 1;
        }
        lost_of.iter().for_each(|(receiver, notices)| self.sidecar.gave_up(receiver, *notices));
        // Rules may have been taken away while nothing ran.
        let rules = &self.rules;
        let without_rule = self.alerts.end_unless(now, Ending::RuleGone, |alert| rules.id(&alert.rule).is_some());
        self.add(now, without_rule, &mut effects);
        self.mark_open();
        if let Some(turned) = turned {
            // Now that rules know which alerts are open: those of the day before are over.
            self.rules.evaluate(now, self.fleet.state(), &turned, &mut self.findings);
        }
        self.find_orphans(now);
        self.enforcement.restart(self.fleet.state());
        effects
    }

    /// Gives the windows that were saved to the agents of their names.
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
