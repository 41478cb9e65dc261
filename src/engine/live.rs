//! What changed, for the stream of events: alerts, silences and runs as they change, and a signal that the fleet did.
//!
//! While no stream is open nothing is kept. The engine never waits for the reader: it appends to a bounded list, which the
//! reader takes as a whole.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::AlertView;
use crate::model::{Alert, Fingerprint, Matchers, Run, Subject};

/// Changes that wait for the reader; when there are more, it has to read everything again.
const MAX_WAITING: usize = 50_000;

/// Something that changed and that two snapshots of the fleet do not show.
#[derive(Clone, Debug)]
pub enum LiveChange {
    /// An alert, without what its receivers were notified of.
    Alert(Box<Alert>),
    /// A silence was created, changed, or expired.
    Silences,
    /// A run began or ended.
    Run(Box<Run>),
}

/// The changes since the last call of [`LiveFeed::take`].
#[derive(Debug, Default)]
pub struct LiveChanges {
    /// The changes, in order.
    pub changes: Vec<LiveChange>,
    /// Whether some are missing, because there were too many.
    pub is_incomplete: bool,
}

/// What a silence would cover of the alerts there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoveredAlerts {
    /// Alerts that fire.
    pub firing: usize,
    /// Alerts that are pending.
    pub pending: usize,
    /// What the first of them are about: rule and subject.
    pub examples: Vec<(Arc<str>, Subject)>,
}

/// A read of alerts for the stream of events.
#[derive(Debug)]
pub enum LiveQuery {
    /// These alerts as the API shows them.
    Views(Vec<Alert>, oneshot::Sender<Vec<AlertView>>),
    /// The alerts of these fingerprints that are kept, as the API shows them.
    Named(Vec<Fingerprint>, oneshot::Sender<Vec<AlertView>>),
    /// The pending and firing alerts, each with the id of the silence that matches it.
    Silenced(oneshot::Sender<Vec<(Fingerprint, Option<Arc<str>>)>>),
    /// The pending and firing alerts that a silence with these matchers would cover: how many fire, how many are pending,
    /// and the subjects of the first ones.
    Covered(Matchers, oneshot::Sender<CoveredAlerts>),
    /// Up to so many of the pending and firing alerts, highest level first.
    Worst(usize, oneshot::Sender<Vec<Fingerprint>>),
}

/// Hands changes from their owners to the reader. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LiveFeed(Arc<LiveState>);

#[derive(Debug, Default)]
struct LiveState {
    is_on: AtomicBool,
    /// The generation of the fleet that the reader was last woken for.
    generation: AtomicU64,
    /// How often alerts or silences changed, whether or not anything reads them.
    alert_revision: AtomicU64,
    changed: Notify,
    waiting: Mutex<LiveChanges>,
}

impl LiveFeed {
    /// Whether anything reads it.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// How often alerts or silences changed so far.
    pub fn alert_revision(&self) -> u64 {
        self.0.alert_revision.load(Ordering::SeqCst)
    }

    /// Begins or ends keeping changes; none are waiting afterwards.
    pub fn switch(&self, is_on: bool) {
        self.0.is_on.store(is_on, Ordering::Relaxed);
        drop(self.take());
    }

    /// The fleet is of this generation now.
    pub(super) fn fleet(&self, generation: u64) {
        if self.is_on() && self.0.generation.swap(generation, Ordering::Relaxed) != generation {
            self.0.changed.notify_one();
        }
    }

    /// Alerts changed, or with `silences` which of them are silenced.
    pub(super) fn alerts(&self, changed: &[Alert], silences: bool) {
        if changed.is_empty() && !silences {
            return;
        }
        self.0.alert_revision.fetch_add(1, Ordering::SeqCst);
        if !self.is_on() {
            return;
        }
        let alerts = changed.iter().map(|alert| LiveChange::Alert(Box::new(without_receivers(alert))));
        self.add(alerts.chain(silences.then_some(LiveChange::Silences)));
    }

    /// Runs began or ended.
    pub(super) fn runs(&self, runs: impl Iterator<Item = Run>) {
        if self.is_on() {
            self.add(runs.map(|run| LiveChange::Run(Box::new(run))));
        }
    }

    fn add(&self, changes: impl Iterator<Item = LiveChange>) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.changes.len();
        waiting.changes.extend(changes);
        let is_news = waiting.changes.len() > before;
        if waiting.changes.len() > MAX_WAITING {
            *waiting = LiveChanges { changes: Vec::new(), is_incomplete: true };
        }
        drop(waiting);
        if is_news {
            self.0.changed.notify_one();
        }
    }

    /// The changes since the last call.
    pub fn take(&self) -> LiveChanges {
        std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something changed since the last time this returned.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// `alert` without what its receivers were notified of, which the API does not list.
fn without_receivers(alert: &Alert) -> Alert {
    Alert {
        fingerprint: alert.fingerprint,
        rule: Arc::clone(&alert.rule),
        subject: alert.subject.clone(),
        source: alert.source.clone(),
        agent_type: alert.agent_type.clone(),
        inhibited_by: alert.inhibited_by.clone(),
        ack: alert.ack.clone(),
        receivers: std::collections::BTreeMap::new(),
        flips: Vec::new(),
        ..*alert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Level, Time};

    fn alert(name: &str) -> Alert {
        let subject = Subject::Agent { project: "shop".into(), name: name.into() };
        let now = Time::from_millis(1);
        Alert::new("AgentDown".into(), subject, Level::Error, now, now)
    }

    #[tokio::test]
    async fn changes_are_kept_only_while_something_reads_them() {
        let feed = LiveFeed::default();
        feed.alerts(&[alert("a")], true);
        feed.fleet(1);
        assert!(feed.take().changes.is_empty());
        feed.switch(true);
        feed.alerts(&[alert("a"), alert("b")], true);
        feed.alerts(&[], false);
        feed.changed().await;
        let taken = feed.take();
        assert!(!taken.is_incomplete);
        let names: Vec<&str> = taken
            .changes
            .iter()
            .map(|change| match change {
                LiveChange::Alert(alert) => &**alert.subject.name(),
                LiveChange::Silences => "silences",
                LiveChange::Run(_) => "run",
            })
            .collect();
        assert_eq!(names, ["a", "b", "silences"]);
        feed.fleet(1);
        feed.changed().await;
        feed.fleet(1);
        let wake = tokio::time::timeout(std::time::Duration::from_millis(20), feed.changed());
        assert!(wake.await.is_err(), "the fleet is of the generation that was known");
        feed.fleet(2);
        feed.changed().await;
    }

    #[test]
    fn more_than_fits_is_reported_as_incomplete() {
        let feed = LiveFeed::default();
        feed.switch(true);
        let many: Vec<Alert> = vec![alert("a"); MAX_WAITING + 1];
        feed.alerts(&many, false);
        let taken = feed.take();
        assert!(taken.is_incomplete && taken.changes.is_empty());
        assert!(!feed.take().is_incomplete);
    }
}
