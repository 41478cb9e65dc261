//! Orphans: alerts that were restored without their subject.
//!
//! The ledger is written at once, the fleet within a second: after a crash in between, an alert may be about an agent that
//! is not known. Such an alert resolves only if the agent is not reported within `agents.timeout`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Machine, MachineEffects};
use crate::fleet::Fleet;
use crate::model::{Ending, Subject, Time};

/// Alerts without their subject, by rule and subject.
#[derive(Debug)]
pub(super) struct Orphans {
    waiting: Vec<(Arc<str>, Subject)>,
    grace: Duration,
    until: Option<Time>,
}

impl Orphans {
    /// No orphans. Those that are found later resolve after `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { waiting: Vec::new(), grace, until: None }
    }

    /// When the remaining orphans resolve.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.until
    }
}

/// Whether the subject of an alert exists.
fn is_there(fleet: &Fleet, subject: &Subject) -> bool {
    let state = fleet.state();
    match subject {
        Subject::Agent { project, name } => fleet.find(project, name).is_some(),
        Subject::Component { project, name } => {
            state.components.iter().any(|it| it.name == *name && it.project == *project)
        }
        Subject::Source { name } => state.sources.iter().any(|source| source.name == *name),
        Subject::Cluster { project } => state.projects.iter().any(|it| it.name == *project),
        Subject::Receiver { .. } | Subject::Sidecar { .. } => {
            state.sidecar_parts.iter().any(|it| it.subject() == *subject)
        }
    }
}

/// Whether it is an expected agent that is missing, which alerts can be about as well.
fn is_missing(fleet: &Fleet, subject: &Subject) -> bool {
    let Subject::Agent { project, name } = subject else { return false };
    let mut projects = fleet.state().projects.iter().filter(|it| it.name == *project);
    projects.any(|it| it.missing.iter().any(|(missing, _)| missing == name))
}

impl Machine {
    /// Finds the orphans among the open alerts.
    pub(super) fn find_orphans(&mut self, now: Time) {
        let open = self.alerts.open().filter(|alert| !is_there(&self.fleet, &alert.subject));
        self.orphans.waiting = open.map(|alert| (Arc::clone(&alert.rule), alert.subject.clone())).collect();
        self.orphans.until = (!self.orphans.waiting.is_empty()).then(|| now.plus(self.orphans.grace));
    }

    /// Has the alerts evaluated whose subjects appeared.
    pub(super) fn adopt_orphans(&mut self) {
        let (fleet, rules) = (&self.fleet, &mut self.rules);
        self.orphans.waiting.retain(|(rule, subject)| {
            let is_there = is_there(fleet, subject);
            if is_there {
                mark(fleet, rules, rule, subject);
            }
            !is_there
        });
    }

    /// Resolves the alerts whose subjects did not appear in time.
    pub(super) fn end_orphans(&mut self, now: Time, effects: &mut MachineEffects) {
        if self.orphans.until.is_none_or(|until| until > now) {
            return;
        }
        self.orphans.until = None;
        let waiting = std::mem::take(&mut self.orphans.waiting);
        let (kept, ended): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, subject)| is_missing(&self.fleet, subject));
        let lost: HashSet<(Arc<str>, Subject)> = ended.into_iter().collect();
        self.orphans.waiting = kept;
        let ended = self.alerts.end_unless(now, Ending::Expired, |alert| {
            !lost.contains(&(Arc::clone(&alert.rule), alert.subject.clone()))
        });
        self.add(now, ended, effects);
    }

    /// Resolves alerts about what was removed from the configuration: a source, or an agent that was only expected.
    pub(super) fn end_unnamed(&mut self, now: Time, effects: &mut MachineEffects) {
        let (fleet, waiting) = (&self.fleet, &self.orphans.waiting);
        let ended = self.alerts.end_unless(now, Ending::Removed, |alert| {
            is_there(fleet, &alert.subject)
                || is_missing(fleet, &alert.subject)
                || waiting.iter().any(|(rule, subject)| *rule == alert.rule && *subject == alert.subject)
        });
        self.add(now, ended, effects);
    }

    /// Marks in the rules which alerts are open, so that they report when those clear.
    pub(super) fn mark_open(&mut self) {
        let fleet = &self.fleet;
        let is_known = |subject: &Subject| is_there(fleet, subject) || is_missing(fleet, subject);
        for alert in self.alerts.open().filter(|alert| is_known(&alert.subject)) {
            mark(&self.fleet, &mut self.rules, &alert.rule, &alert.subject);
        }
    }
}

/// Marks in the rules that an alert of `rule` about `subject` is open.
fn mark(fleet: &Fleet, rules: &mut crate::rules::Rules, rule: &str, subject: &Subject) {
    let Some(rule) = rules.id(rule) else { return };
    let agent = match subject {
        Subject::Agent { project, name } => fleet.find(project, name).map(|agent| agent.slot),
        _ => None,
    };
    rules.mark_open(fleet.state(), rule, subject, agent);
}
