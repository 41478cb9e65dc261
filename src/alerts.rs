//! The life of every alert: findings go in, notices for receivers come out.
//!
//! Owns the ledger in memory: which alerts are pending, firing or just over, and what each receiver was
//! told of them. Refuses I/O and clocks: `now` comes in, effects go out, and the same inputs give the same
//! notices. The order within a step is: every finding changes its alert; then it is settled which alert
//! explains which; then each alert that anything happened to is held against what receivers were told.

pub mod config;
mod decide;
mod explain;
mod flap;
mod incidents;
mod life;
mod quiet;
mod redeliver;
mod tell;
pub mod words;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use explain::Explainers;
pub use incidents::IncidentPolicy;
use incidents::Incidents;
pub use quiet::{MAX_SILENCES, QuietError};
pub use tell::Standing;

use crate::model::{
    Alert, AlertCounts, AlertState, Class, Deadlines, Decision, Ending, Finding, Fingerprint, Level, Notice,
    ReceiverPolicy, RuleId, RulePolicy, Silence, Subject, Time, TimelineEvent,
};

/// Alerts at most that are not over. New ones beyond it are refused and counted; known ones are kept.
pub const MAX_ALERTS: usize = 100_000;

/// What one step brings about.
#[derive(Debug, Default)]
pub struct Effects {
    /// What receivers are to be told. The texts are still empty: they are the rules' business.
    pub notices: Vec<Notice>,
    /// Alerts as they stand now, for the ledger.
    pub changed: Vec<Alert>,
    /// Alerts that ended, for history.
    pub closed: Vec<Alert>,
    /// Alerts of which nothing need be remembered any more.
    pub forgotten: Vec<Fingerprint>,
    /// What was suppressed or put off, by reason.
    pub suppressed: Vec<(&'static str, u64)>,
    /// Silences that began to be known or changed, for the ledger.
    pub silences: Vec<Silence>,
    /// Silences that ended.
    pub silences_over: Vec<Arc<str>>,
    /// What was announced, whoever receives it.
    pub announcements: Vec<Arc<str>>,
    /// What was decided, and why, in the order in which it was.
    pub decisions: Vec<Decision>,
}

impl Effects {
    /// Whether nothing came of it.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty()
            && self.changed.is_empty()
            && self.closed.is_empty()
            && self.forgotten.is_empty()
            && self.suppressed.is_empty()
            && self.silences.is_empty()
            && self.silences_over.is_empty()
            && self.announcements.is_empty()
            && self.decisions.is_empty()
    }

    fn suppress(&mut self, reason: &'static str) {
        match self.suppressed.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.suppressed.push((reason, 1)),
        }
    }
}

/// An alert and what of its rule its life depends on.
#[derive(Clone, Debug)]
struct Entry {
    alert: Alert,
    policy: Arc<RulePolicy>,
    /// Whether it waits in `touched`.
    touched: bool,
    /// Whether the ledger must hear of it.
    dirty: bool,
    /// Whether history must hear of its end.
    closing: bool,
    /// The alert that explains it.
    explainer: Option<u32>,
}

/// Every alert.
#[derive(Debug)]
pub struct Alerts {
    policies: Vec<Arc<RulePolicy>>,
    receivers: Vec<ReceiverPolicy>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_fingerprint: HashMap<Fingerprint, u32>,
    by_subject: HashMap<Subject, Vec<u32>>,
    explainers: Explainers,
    incidents: Incidents,
    /// Those that end first in front.
    silences: Vec<Silence>,
    /// When one of them begins or ends next.
    silence_turns_at: Option<Time>,
    /// By receiver, the alerts that found no room among what waits for it; the worst first.
    deferred: BTreeMap<Arc<str>, BTreeSet<(Reverse<Level>, Fingerprint)>>,
    /// Whether nothing but announcements is sent.
    is_paused: bool,
    decisions: Vec<Decision>,
    deadlines: Deadlines,
    touched: Vec<u32>,
    counts: AlertCounts,
    /// New alerts turned away since the start.
    refused: u64,
}

impl Alerts {
    /// No alerts, under these rules and for these receivers.
    pub fn new(policies: Vec<RulePolicy>, receivers: Vec<ReceiverPolicy>) -> Self {
        Self {
            policies: policies.into_iter().map(Arc::new).collect(),
            receivers,
            entries: Vec::new(),
            free: Vec::new(),
            by_fingerprint: HashMap::new(),
            by_subject: HashMap::new(),
            explainers: Explainers::default(),
            incidents: Incidents::default(),
            silences: Vec::new(),
            silence_turns_at: None,
            deferred: BTreeMap::new(),
            is_paused: false,
            decisions: Vec::new(),
            deadlines: Deadlines::default(),
            touched: Vec::new(),
            counts: AlertCounts::default(),
            refused: 0,
        }
    }

    /// Takes over the ledger after a restart. `downtime` counts neither as breach nor as recovery: what
    /// was waiting for its time goes on waiting for the rest of it. What was written by a clock that was ahead
    /// of ours is taken to be of now, so that nothing waits for a time that may never come.
    pub fn restore(&mut self, now: Time, alerts: Vec<Alert>, raised: [u64; 4], fired: u64, downtime: Duration) {
        (self.counts.raised, self.counts.fired) = (raised, fired);
        for mut alert in alerts {
            if alert.state == AlertState::Pending {
                alert.started_at = alert.started_at.plus(downtime).min(now);
            }
            alert.clearing_since = alert.clearing_since.map(|since| since.plus(downtime).min(now));
            for told in alert.receivers.values_mut() {
                told.lowered_since = told.lowered_since.map(|since| since.plus(downtime).min(now));
                told.firing_at = told.firing_at.map(|at| at.min(now));
                if let Some(undelivered) = &mut told.undelivered {
                    undelivered.until = undelivered.until.min(now.plus(redeliver::LONGEST_PAUSE));
                }
            }
            for flip in &mut alert.flips {
                *flip = flip.plus(downtime).min(now);
            }
            alert.started_at = alert.started_at.min(now);
            alert.fired_at = alert.fired_at.map(|at| at.min(now));
            let policy = self.policies.iter().find(|policy| policy.name == alert.rule).cloned();
            let policy = policy.unwrap_or_else(|| Arc::new(gone_policy(&alert)));
            let firing = alert.state == AlertState::Firing;
            let explains = explain::explains(policy.class, alert.state);
            let slot =
                self.insert(Entry { alert, policy, touched: false, dirty: false, closing: false, explainer: None });
            if firing {
                self.count_active(slot, 1);
            }
            if explains {
                self.explainer_changed(slot);
            }
            self.touch(slot);
        }
    }

    /// Takes over other rules and receivers. Alerts of rules that are gone end, and what receivers that
    /// stay were told is kept.
    pub fn configure(&mut self, now: Time, policies: Vec<RulePolicy>, receivers: Vec<ReceiverPolicy>) -> Effects {
        self.policies = policies.into_iter().map(Arc::new).collect();
        self.receivers = receivers;
        self.deferred.retain(|name, _| self.receivers.iter().any(|receiver| receiver.name == *name));
        for slot in self.slots() {
            let Some(entry) = self.entry_mut(slot) else { continue };
            // A receiver's settings may have been fixed: what was given up is due again at once.
            entry.alert.receivers.values_mut().for_each(|told| told.undelivered = None);
            let name = Arc::clone(&entry.alert.rule);
            match self.policies.iter().find(|policy| policy.name == name).cloned() {
                Some(policy) => {
                    if let Some(entry) = self.entry_mut(slot) {
                        entry.policy = policy;
                    }
                }
                None => self.end(now, slot, Some(Ending::RuleGone), now),
            }
            self.touch(slot);
        }
        // A rule may be about something else now.
        self.explainers = Explainers::default();
        for slot in self.slots() {
            if self.entry(slot).is_some_and(|entry| explain::explains(entry.policy.class, entry.alert.state)) {
                self.explainer_changed(slot);
            }
        }
        self.settle(now)
    }

    /// Takes in what rules found.
    pub fn step(&mut self, now: Time, findings: Vec<Finding>) -> Effects {
        for finding in findings {
            self.take(now, finding);
        }
        self.settle(now)
    }

    /// Ends alerts whose subject is not there any more, as after a restart without it.
    pub fn end_unless(&mut self, now: Time, ending: Ending, is_there: impl Fn(&Alert) -> bool) -> Effects {
        for slot in self.slots() {
            let is_over = self
                .entry(slot)
                .is_some_and(|entry| entry.alert.state != AlertState::Resolved && !is_there(&entry.alert));
            if is_over {
                self.end(now, slot, Some(ending), now);
            }
        }
        self.settle(now)
    }

    /// When [`Alerts::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.touched.is_empty() {
            return Some(Time::default());
        }
        [self.deadlines.next(), self.silence_turns_at].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) -> Effects {
        while let Some(slot) = self.deadlines.pop_due(now) {
            self.touch(slot);
            self.mature(now, slot);
            self.calm_down(now, slot);
        }
        let mut effects = Effects::default();
        self.turn_silences(now, &mut effects);
        self.settle_into(now, effects)
    }

    /// How many alerts there are.
    pub const fn counts(&self) -> &AlertCounts {
        &self.counts
    }

    /// Alerts refused because there were too many.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Every alert that is not over.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.entries.iter().flatten().map(|entry| &entry.alert).filter(|alert| alert.state != AlertState::Resolved)
    }

    /// Every alert that is remembered.
    pub fn all(&self) -> impl Iterator<Item = &Alert> {
        self.entries.iter().flatten().map(|entry| &entry.alert)
    }

    /// Pauses or resumes all that receivers are sent but announcements; what is due on resuming is sent then.
    pub fn set_paused(&mut self, now: Time, is_paused: bool) -> Effects {
        if std::mem::replace(&mut self.is_paused, is_paused) && !is_paused {
            self.slots().into_iter().for_each(|slot| self.touch(slot));
        }
        self.settle(now)
    }

    /// Settles explanations and tells what is to be told.
    fn settle(&mut self, now: Time) -> Effects {
        self.settle_into(now, Effects::default())
    }

    fn settle_into(&mut self, now: Time, mut effects: Effects) -> Effects {
        self.turn_incidents();
        // What explains one may be explained itself: all is explained before anything is told.
        let touched = std::mem::take(&mut self.touched);
        for slot in &touched {
            self.explain_one(*slot);
        }
        for slot in touched {
            if let Some(entry) = self.entry_mut(slot) {
                entry.touched = false;
            }
            self.tell(now, slot, &mut effects);
        }
        effects.decisions.append(&mut self.decisions);
        effects
    }

    /// The slots in use, in an order that is the same for the same history.
    fn slots(&self) -> Vec<u32> {
        let slots = 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        slots.filter(|slot| self.entry(*slot).is_some()).collect()
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    fn touch(&mut self, slot: u32) {
        if let Some(entry) = self.entry_mut(slot)
            && !entry.touched
        {
            entry.touched = true;
            self.touched.push(slot);
        }
    }

    fn insert(&mut self, entry: Entry) -> u32 {
        let (fingerprint, subject) = (entry.alert.fingerprint, entry.alert.subject.clone());
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.entries.get_mut(slot as usize) {
                    *place = Some(entry);
                }
                slot
            }
            None => {
                self.entries.push(Some(entry));
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_fingerprint.insert(fingerprint, slot);
        self.by_subject.entry(subject).or_default().push(slot);
        slot
    }

    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        self.deadlines.cancel(slot);
        self.by_fingerprint.remove(&entry.alert.fingerprint);
        if let Some(slots) = self.by_subject.get_mut(&entry.alert.subject) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.by_subject.remove(&entry.alert.subject);
            }
        }
    }

    fn policy(&self, rule: RuleId) -> Option<Arc<RulePolicy>> {
        self.policies.get(usize::from(rule.0)).cloned()
    }

    /// Counts a firing alert under its project, level and rule: one more, or one less.
    fn count_active(&mut self, slot: u32, step: i32) {
        let Some(entry) = self.entry(slot) else { return };
        let project = entry.alert.subject.project().cloned().unwrap_or_else(|| Arc::from(""));
        let key = (project, entry.alert.level, Arc::clone(&entry.alert.rule));
        let count = self.counts.active.entry(key.clone()).or_default();
        *count = count.saturating_add_signed(step);
        if *count == 0 {
            self.counts.active.remove(&key);
        }
        if let Some(entry) = self.entries.get(slot as usize).and_then(Option::as_ref)
            && matches!(entry.alert.subject, Subject::Agent { .. })
        {
            self.incidents.count(&entry.alert.rule, step);
        }
    }

    /// Notes an event in the timeline of the alert in `slot`.
    fn note(&mut self, now: Time, slot: u32, event: TimelineEvent) {
        let Some(entry) = self.entry(slot) else { return };
        let decision = decision(now, &entry.alert, &entry.policy, event);
        self.decisions.push(decision);
    }
}

/// The timing of an alert whose rule is gone: it only has to end.
fn gone_policy(alert: &Alert) -> RulePolicy {
    RulePolicy { repeat: None, ..RulePolicy::new(Arc::clone(&alert.rule), Class::Other) }
}

/// An entry of an alert's timeline.
fn decision(now: Time, alert: &Alert, policy: &RulePolicy, event: TimelineEvent) -> Decision {
    Decision {
        fingerprint: alert.fingerprint,
        at: now,
        level: alert.level,
        value: alert.value,
        threshold: alert.threshold,
        rule_version: Arc::clone(&policy.version),
        event,
    }
}
