//! Alerts that were restored without what they are about.
//!
//! The ledger is written at once and the fleet within a second, so that a crash between the two leaves an alert
//! whose agent is not known yet. It is no news that the agent is gone: whoever reports it is given the time in
//! which an agent has to be heard, and only then is the alert ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Effects, Machine};
use crate::fleet::Fleet;
use crate::model::{Ending, Subject, Time};

/// Alerts that wait for what they are about, by rule and subject.
#[derive(Debug)]
pub(super) struct Orphans {
    waiting: Vec<(Arc<str>, Subject)>,
    grace: Duration,
    until: Option<Time>,
}

impl Orphans {
    /// None yet; those that are found are given `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self { waiting: Vec::new(), grace, until: None }
    }

    /// When those that still wait are given up.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.until
    }
}

/// Whether the fleet has what an alert is about.
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

/// Whether it is an agent that is not there and should be, which an alert can be about as well.
fn is_missing(fleet: &Fleet, subject: &Subject) -> bool {
    let Subject::Agent { project, name } = subject else { return false };
    let mut projects = fleet.state().projects.iter().filter(|it| it.name == *project);
    projects.any(|it| it.missing.iter().any(|(missing, _)| missing == name))
}

impl Machine {
    /// Looks for orphans among the open alerts.
    pub(super) fn find_orphans(&mut self, now: Time) {
        let open = self.alerts.open().filter(|alert| !is_there(&self.fleet, &alert.subject));
        self.orphans.waiting = open.map(|alert| (Arc::clone(&alert.rule), alert.subject.clone())).collect();
        self.orphans.until = (!self.orphans.waiting.is_empty()).then(|| now.plus(self.orphans.grace));
    }

    /// Has the alerts judged whose subjects have come.
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

    /// Ends the alerts whose subjects have not come in time.
    pub(super) fn end_orphans(&mut self, now: Time, effects: &mut Effects) {
        if self.orphans.until.is_none_or(|until| until > now) {
            return;
        }
        self.orphans.until = None;
        let waiting = std::mem::take(&mut self.orphans.waiting);
        let (kept, ended): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, subject)| is_missing(&self.fleet, subject));
        let lost: HashSet<(Arc<str>, Subject)> = ended.into_iter().collect();
        self.orphans.waiting = kept;
        let ended = self.alerts.end_unless(now, Ending::Forgotten, |alert| {
            !lost.contains(&(Arc::clone(&alert.rule), alert.subject.clone()))
        });
        self.add(now, ended, effects);
    }

    /// Ends alerts about what the configuration no longer names: a source, or an agent that was only expected.
    pub(super) fn end_unnamed(&mut self, now: Time, effects: &mut Effects) {
        let (fleet, waiting) = (&self.fleet, &self.orphans.waiting);
        let ended = self.alerts.end_unless(now, Ending::Removed, |alert| {
            is_there(fleet, &alert.subject)
                || is_missing(fleet, &alert.subject)
                || waiting.iter().any(|(rule, subject)| *rule == alert.rule && *subject == alert.subject)
        });
        self.add(now, ended, effects);
    }

    /// Tells the rules which alerts are open, so that they find their end.
    pub(super) fn mark_open(&mut self) {
        let fleet = &self.fleet;
        let is_known = |subject: &Subject| is_there(fleet, subject) || is_missing(fleet, subject);
        for alert in self.alerts.open().filter(|alert| is_known(&alert.subject)) {
            mark(&self.fleet, &mut self.rules, &alert.rule, &alert.subject);
        }
    }
}

/// Tells the rules that an alert of `rule` for `subject` is open.
fn mark(fleet: &Fleet, rules: &mut crate::rules::Rules, rule: &str, subject: &Subject) {
    let Some(rule) = rules.id(rule) else { return };
    let agent = match subject {
        Subject::Agent { project, name } => fleet.find(project, name).map(|agent| agent.slot),
        _ => None,
    };
    rules.mark_open(fleet.state(), rule, subject, agent);
}
