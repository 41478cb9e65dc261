//! Alerts: findings of rules go in, notices for receivers come out.
//!
//! Owns all pending, firing and recently resolved alerts, and what each receiver was last notified of them. It does no I/O
//! and reads no clock: `now` is an argument, and the same inputs give the same notices. Each step has the same order:
//! findings change their alerts; then inhibition is determined; then each alert that changed is compared with what its
//! receivers were last notified of.

pub mod config;
mod decide;
mod flapping;
mod incidents;
mod inhibit;
mod lifecycle;
mod notifications;
mod redeliver;
mod silences;
pub mod timeline;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use incidents::IncidentPolicy;
use incidents::Incidents;
use inhibit::Inhibitors;
pub use notifications::NotificationStatus;
pub use silences::{MAX_SILENCES, SilenceError};

use crate::model::{
    Alert, AlertCounts, AlertState, Class, Deadlines, Ending, Finding, Fingerprint, Level, Notice, ReceiverPolicy,
    RuleId, RulePolicy, Silence, Subject, Time, TimelineEntry, TimelineEvent,
};

/// The most alerts that are kept. New ones beyond it are dropped and counted.
pub const MAX_ALERTS: usize = 100_000;

/// What a step changed.
#[derive(Debug, Default)]
pub struct AlertChanges {
    /// Notices for receivers. Their texts are still empty: rules render them.
    pub notices: Vec<Notice>,
    /// Alerts that changed, for the ledger.
    pub changed: Vec<Alert>,
    /// Alerts that resolved after they fired, for history.
    pub closed: Vec<Alert>,
    /// Resolved alerts that were dropped, for the ledger.
    pub dropped: Vec<Fingerprint>,
    /// How many notifications were suppressed, by reason.
    pub suppressed: Vec<(&'static str, u64)>,
    /// Silences that were created or changed, for the ledger.
    pub silences: Vec<Silence>,
    /// Ids of silences that expired or were deleted, for the ledger.
    pub silences_over: Vec<Arc<str>>,
    /// Whether a silence began, changed or expired, so that alerts may be silenced by another.
    pub silences_changed: bool,
    /// Texts of announcements, for the log.
    pub announcements: Vec<Arc<str>>,
    /// New entries of alerts' timelines, in order.
    pub timeline: Vec<TimelineEntry>,
}

impl AlertChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty()
            && self.changed.is_empty()
            && self.closed.is_empty()
            && self.dropped.is_empty()
            && self.suppressed.is_empty()
            && self.silences.is_empty()
            && self.silences_over.is_empty()
            && self.announcements.is_empty()
            && self.timeline.is_empty()
            && !self.silences_changed
    }

    fn suppress(&mut self, reason: &'static str) {
        match self.suppressed.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.suppressed.push((reason, 1)),
        }
    }
}

/// An alert with the policy of its rule.
#[derive(Clone, Debug)]
struct AlertEntry {
    alert: Alert,
    policy: Arc<RulePolicy>,
    /// Whether it is listed in [`Alerts::touched`].
    touched: bool,
    /// Whether it changed since it was last handed to the ledger.
    dirty: bool,
    /// Whether its end has still to be handed to history.
    closing: bool,
    /// The slot of the alert that inhibits it.
    inhibitor: Option<u32>,
}

/// Every alert.
#[derive(Debug)]
pub struct Alerts {
    policies: Vec<Arc<RulePolicy>>,
    receivers: Vec<ReceiverPolicy>,
    entries: Vec<Option<AlertEntry>>,
    free: Vec<u32>,
    by_fingerprint: HashMap<Fingerprint, u32>,
    by_subject: HashMap<Subject, Vec<u32>>,
    inhibitors: Inhibitors,
    incidents: Incidents,
    /// Ordered by their end.
    silences: Vec<Silence>,
    /// When a silence next starts or expires.
    next_silence_change: Option<Time>,
    /// By receiver, the alerts that found its outbox full; those of the highest level first.
    deferred: BTreeMap<Arc<str>, BTreeSet<(Reverse<Level>, Fingerprint)>>,
    /// Whether monitoring is paused: only announcements are sent.
    is_paused: bool,
    timeline: Vec<TimelineEntry>,
    deadlines: Deadlines,
    touched: Vec<u32>,
    counts: AlertCounts,
    /// New alerts dropped since the start, because of [`MAX_ALERTS`].
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
            inhibitors: Inhibitors::default(),
            incidents: Incidents::default(),
            silences: Vec::new(),
            next_silence_change: None,
            deferred: BTreeMap::new(),
            is_paused: false,
            timeline: Vec::new(),
            deadlines: Deadlines::default(),
            touched: Vec::new(),
            counts: AlertCounts::default(),
            refused: 0,
        }
    }

    /// Restores alerts from the ledger after a restart. `downtime` counts neither towards `for` nor towards `clear_after`:
    /// timers continue where they stopped. Times in the future, of a clock that was ahead, become `now`, so that no timer
    /// waits for them.
    pub fn restore(&mut self, now: Time, alerts: Vec<Alert>, raised: [u64; 4], fired: u64, downtime: Duration) {
        (self.counts.raised, self.counts.fired) = (raised, fired);
        for mut alert in alerts {
            if alert.state == AlertState::Pending {
                alert.started_at = alert.started_at.plus(downtime).min(now);
            }
            alert.clearing_since = alert.clearing_since.map(|since| since.plus(downtime).min(now));
            for state in alert.receivers.values_mut() {
                state.deescalated_since = state.deescalated_since.map(|since| since.plus(downtime).min(now));
                state.firing_at = state.firing_at.map(|at| at.min(now));
                if let Some(undelivered) = &mut state.undelivered {
                    undelivered.until = undelivered.until.min(now.plus(redeliver::LONGEST_PAUSE));
                }
            }
            for flip in &mut alert.flips {
                *flip = flip.plus(downtime).min(now);
            }
            alert.started_at = alert.started_at.min(now);
            alert.fired_at = alert.fired_at.map(|at| at.min(now));
            alert.grows_since = alert.grows_since.map(|at| at.min(now));
            let policy = self.policies.iter().find(|policy| policy.name == alert.rule).cloned();
            let policy = policy.unwrap_or_else(|| Arc::new(gone_policy(&alert)));
            let firing = alert.state == AlertState::Firing;
            let is_inhibitor = inhibit::inhibits(policy.class, alert.state);
            let slot = self.insert(AlertEntry {
                alert,
                policy,
                touched: false,
                dirty: false,
                closing: false,
                inhibitor: None,
            });
            if firing {
                self.count_active(slot, 1);
            }
            if is_inhibitor {
                self.inhibitor_changed(slot);
            }
            self.touch(slot);
        }
    }

    /// Replaces rules and receivers. Alerts of removed rules resolve; the state of receivers that stay is kept.
    pub fn configure(&mut self, now: Time, policies: Vec<RulePolicy>, receivers: Vec<ReceiverPolicy>) -> AlertChanges {
        self.policies = policies.into_iter().map(Arc::new).collect();
        self.receivers = receivers;
        self.deferred.retain(|name, _| self.receivers.iter().any(|receiver| receiver.name == *name));
        for slot in self.slots() {
            let Some(entry) = self.entry_mut(slot) else { continue };
            // A receiver's settings may have been fixed: what was dead-lettered is due again at once.
            entry.alert.receivers.values_mut().for_each(|state| state.undelivered = None);
            let name = Arc::clone(&entry.alert.rule);
            match self.policies.iter().find(|policy| policy.name == name).cloned() {
                Some(policy) => {
                    if let Some(entry) = self.entry_mut(slot) {
                        entry.policy = policy;
                    }
                }
                None => self.resolve(now, slot, Some(Ending::RuleGone), now),
            }
            self.touch(slot);
        }
        // The class of a rule may have changed.
        self.inhibitors = Inhibitors::default();
        for slot in self.slots() {
            if self.entry(slot).is_some_and(|entry| inhibit::inhibits(entry.policy.class, entry.alert.state)) {
                self.inhibitor_changed(slot);
            }
        }
        self.finish(now)
    }

    /// Applies what rules found.
    pub fn step(&mut self, now: Time, findings: Vec<Finding>) -> AlertChanges {
        for finding in findings {
            self.apply_finding(now, finding);
        }
        self.finish(now)
    }

    /// Resolves alerts whose subject no longer exists, for example after a restart without it.
    pub fn end_unless(&mut self, now: Time, ending: Ending, is_there: impl Fn(&Alert) -> bool) -> AlertChanges {
        for slot in self.slots() {
            let is_over = self
                .entry(slot)
                .is_some_and(|entry| entry.alert.state != AlertState::Resolved && !is_there(&entry.alert));
            if is_over {
                self.resolve(now, slot, Some(ending), now);
            }
        }
        self.finish(now)
    }

    /// When [`Alerts::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.touched.is_empty() {
            return Some(Time::default());
        }
        [self.deadlines.next(), self.next_silence_change].into_iter().flatten().min()
    }

    /// Serves the deadlines up to `now`.
    pub fn tick(&mut self, now: Time) -> AlertChanges {
        while let Some(slot) = self.deadlines.pop_due(now) {
            self.touch(slot);
            self.advance(now, slot);
            self.end_flapping(now, slot);
        }
        let mut effects = AlertChanges::default();
        self.expire_silences(now, &mut effects);
        self.finish_into(now, effects)
    }

    /// The number of firing alerts, and totals since the ledger began.
    pub const fn counts(&self) -> &AlertCounts {
        &self.counts
    }

    /// New alerts dropped since the start, because of [`MAX_ALERTS`].
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// The alert with this fingerprint, if it is kept.
    pub fn find(&self, fingerprint: Fingerprint) -> Option<&Alert> {
        Some(&self.entry(*self.by_fingerprint.get(&fingerprint)?)?.alert)
    }

    /// Every pending or firing alert.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.entries.iter().flatten().map(|entry| &entry.alert).filter(|alert| alert.state != AlertState::Resolved)
    }

    /// Every alert, recently resolved ones included.
    pub fn all(&self) -> impl Iterator<Item = &Alert> {
        self.entries.iter().flatten().map(|entry| &entry.alert)
    }

    /// Pauses or resumes notifications, except announcements. What is due when it resumes is sent then.
    pub fn set_paused(&mut self, now: Time, is_paused: bool) -> AlertChanges {
        if std::mem::replace(&mut self.is_paused, is_paused) && !is_paused {
            self.slots().into_iter().for_each(|slot| self.touch(slot));
        }
        self.finish(now)
    }

    /// Ends a step: updates incidents and inhibition, and notifies receivers of what changed.
    fn finish(&mut self, now: Time) -> AlertChanges {
        self.finish_into(now, AlertChanges::default())
    }

    fn finish_into(&mut self, now: Time, mut effects: AlertChanges) -> AlertChanges {
        self.update_incidents();
        // An inhibiting alert may be inhibited itself: all inhibition is determined before anything is notified.
        let touched = std::mem::take(&mut self.touched);
        for slot in &touched {
            self.update_inhibition(*slot);
        }
        for slot in touched {
            if let Some(entry) = self.entry_mut(slot) {
                entry.touched = false;
            }
            self.notify_receivers(now, slot, &mut effects);
        }
        effects.timeline.append(&mut self.timeline);
        effects
    }

    /// The slots in use, in an order that is the same for the same history.
    fn slots(&self) -> Vec<u32> {
        let slots = 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        slots.filter(|slot| self.entry(*slot).is_some()).collect()
    }

    fn entry(&self, slot: u32) -> Option<&AlertEntry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut AlertEntry> {
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

    fn insert(&mut self, entry: AlertEntry) -> u32 {
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

    /// The slot of the alert of `rule` for `subject`. Unlike its fingerprint this needs no digest.
    fn slot_of(&self, rule: &str, subject: &Subject) -> Option<u32> {
        let is_of_rule = |slot: &&u32| self.entry(**slot).is_some_and(|entry| *entry.alert.rule == *rule);
        self.by_subject.get(subject)?.iter().find(is_of_rule).copied()
    }

    fn policy(&self, rule: RuleId) -> Option<Arc<RulePolicy>> {
        self.policies.get(usize::from(rule.0)).cloned()
    }

    /// Adds `step`, 1 or -1, to the firing alerts of its project, level and rule.
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

    /// Adds an event to the timeline of the alert in `slot`.
    fn record(&mut self, now: Time, slot: u32, event: TimelineEvent) {
        let Some(entry) = self.entry(slot) else { return };
        let entry = timeline_entry(now, &entry.alert, &entry.policy, event);
        self.timeline.push(entry);
    }
}

/// The policy of an alert whose rule was removed: it only has to resolve.
fn gone_policy(alert: &Alert) -> RulePolicy {
    RulePolicy { repeat: None, ..RulePolicy::new(Arc::clone(&alert.rule), Class::Other) }
}

/// An entry of an alert's timeline.
fn timeline_entry(now: Time, alert: &Alert, policy: &RulePolicy, event: TimelineEvent) -> TimelineEntry {
    TimelineEntry {
        fingerprint: alert.fingerprint,
        at: now,
        level: alert.level,
        value: alert.value_at(now),
        threshold: alert.threshold,
        rule_version: Arc::clone(&policy.version),
        event,
    }
}
