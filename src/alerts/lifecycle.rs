//! The states of an alert: what a rule finds makes it pending, firing, clearing and resolved.

use std::sync::Arc;

use super::inhibit::inhibits;
use super::{AlertEntry, Alerts, MAX_ALERTS};
use crate::model::{Alert, AlertState, Ending, Finding, Level, Time, TimelineEvent};

impl Alerts {
    /// Opens, updates or resolves the alert that `finding` is about.
    pub(super) fn apply_finding(&mut self, now: Time, finding: Finding) {
        let Some(policy) = self.policy(finding.rule) else { return };
        let known = self.slot_of(&policy.name, &finding.subject);
        let open =
            known.filter(|slot| self.entry(*slot).is_some_and(|entry| entry.alert.state != AlertState::Resolved));
        let Some(slot) = open else {
            if let Some(level) = finding.level.filter(|_| finding.ending.is_none()) {
                self.open_alert(now, known, policy, level, finding);
            }
            return;
        };
        if let Some(ending) = finding.ending {
            self.resolve(now, slot, Some(ending), finding.since);
            return;
        }
        match finding.level {
            Some(level) => self.condition_holds(now, slot, level, &finding),
            None => self.condition_ended(now, slot, &finding),
        }
    }

    /// The condition of a rule holds that did not: a new alert, in place of the resolved one in `known`.
    fn open_alert(
        &mut self,
        now: Time,
        known: Option<u32>,
        policy: Arc<crate::model::RulePolicy>,
        level: Level,
        finding: Finding,
    ) {
        if known.is_none() && self.by_fingerprint.len() >= MAX_ALERTS {
            self.refused += 1;
            return;
        }
        // An alert's key contains this time: it must differ from that of the last alert, even within one millisecond.
        let noticed_at = known
            .and_then(|slot| self.entry(slot))
            .map_or(now, |entry| now.max(entry.alert.noticed_at.plus(std::time::Duration::from_millis(1))));
        // The cooldown runs from the last notification, and flapping is counted, across alerts.
        let before = known.and_then(|slot| self.entry(slot)).map(|entry| {
            let alert = &entry.alert;
            (alert.receivers.clone(), alert.flips.clone(), alert.flapping_since)
        });
        let (mut state, flips, flapping_since) = before.unwrap_or_default();
        if let Some(slot) = known {
            self.remove(slot);
        }
        for state in state.values_mut() {
            (state.sequence, state.suppressed, state.undelivered) = (0, None, None);
        }
        let mut alert = Alert {
            source: finding.source,
            agent_type: finding.agent_type,
            value: finding.value,
            grows_since: finding.grows.then_some(now),
            threshold: finding.threshold,
            noticed_at,
            receivers: state,
            flips,
            flapping_since,
            ..Alert::new(Arc::clone(&policy.name), finding.subject, level, finding.since, now)
        };
        alert.note_worst();
        let slot =
            self.insert(AlertEntry { alert, policy, touched: false, dirty: true, closing: false, inhibitor: None });
        self.touch(slot);
        if let Some(entry) = self.entry(slot) {
            let until = entry.alert.started_at.plus(entry.policy.hold);
            if until > now {
                let is_inhibitor = inhibits(entry.policy.class, entry.alert.state);
                self.record(now, slot, TimelineEvent::Pending { until });
                if is_inhibitor {
                    self.inhibitor_changed(slot);
                }
            }
        }
        self.advance(now, slot);
    }

    /// The condition still holds, perhaps at another level.
    fn condition_holds(&mut self, now: Time, slot: u32, level: Level, finding: &Finding) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let alert = &mut entry.alert;
        let many = |value: Option<f64>| value.is_some_and(|value| value >= 2.0);
        // Inhibition depends on whether an alert is about one or many, and routing on source and type.
        let mut crossed = many(alert.value) != many(finding.value);
        let grew = alert.grows_since.is_some();
        let has_grown = alert.end_growth(finding.superseded_at(now));
        (alert.value, alert.threshold) = (finding.value, finding.threshold);
        alert.grows_since = finding.grows.then_some(now);
        entry.dirty |= has_grown || grew != finding.grows;
        if let Some(source) = &finding.source
            && alert.source.as_ref() != Some(source)
        {
            alert.source = Some(Arc::clone(source));
            crossed = true;
        }
        if finding.agent_type.is_some() && alert.agent_type != finding.agent_type {
            alert.agent_type.clone_from(&finding.agent_type);
            crossed = true;
        }
        let is_news = alert.level != level || alert.clearing_since.is_some() || alert.no_data;
        if !is_news && !crossed {
            alert.note_worst();
            if entry.dirty {
                self.touch(slot);
            }
            return;
        }
        let was_clearing = alert.clearing_since.is_some();
        (alert.clearing_since, alert.no_data) = (None, false);
        (alert.changed_at, alert.caused_at) = (now, now);
        entry.dirty = true;
        self.set_level(now, slot, level);
        if let Some(entry) = self.entry_mut(slot) {
            entry.alert.note_worst();
        }
        if was_clearing {
            self.record(now, slot, TimelineEvent::NotCleared);
        }
        if crossed {
            self.inhibitor_changed(slot);
        }
        self.touch(slot);
    }

    /// The condition does not hold, or its value is unknown.
    fn condition_ended(&mut self, now: Time, slot: u32, finding: &Finding) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let (lowest, clear_after) = (entry.policy.lowest, entry.policy.clear_after);
        let alert = &mut entry.alert;
        let has_grown = alert.end_growth(finding.superseded_at(now));
        entry.dirty |= has_grown;
        if finding.value.is_none() {
            // An unknown value changes no state: firing alerts keep firing, pending ones stay pending.
            if !alert.no_data {
                (alert.no_data, alert.changed_at) = (true, now);
                entry.dirty = true;
                self.record(now, slot, TimelineEvent::NoData);
                self.touch(slot);
            }
            return;
        }
        if alert.state == AlertState::Pending {
            self.resolve(now, slot, None, finding.since);
            return;
        }
        if !finding.cleared {
            // Between the threshold and `clear_below` it keeps firing at the rule's lowest level.
            let held = alert.level.min(lowest);
            if finding.grows {
                (alert.value, alert.grows_since) = (finding.value, Some(now));
            }
            if has_grown || alert.level != held || alert.clearing_since.is_some() || alert.no_data {
                (alert.clearing_since, alert.no_data, alert.changed_at) = (None, false, now);
                entry.dirty = true;
                self.set_level(now, slot, held);
                self.touch(slot);
            }
            return;
        }
        alert.no_data = false;
        if clear_after.is_zero() {
            self.resolve(now, slot, None, finding.since);
        } else if alert.clearing_since.is_none() {
            (alert.clearing_since, alert.changed_at) = (Some(finding.since), now);
            entry.dirty = true;
            self.record(now, slot, TimelineEvent::Clearing { until: finding.since.plus(clear_after) });
            self.touch(slot);
        }
    }

    /// Fires a pending alert once its `for` has passed, and resolves a clearing one once `clear_after` has.
    pub(super) fn advance(&mut self, now: Time, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let (hold, clear_after) = (entry.policy.hold, entry.policy.clear_after);
        let alert = &mut entry.alert;
        match alert.state {
            AlertState::Pending if alert.started_at.plus(hold) <= now => {
                (alert.state, alert.fired_at) = (AlertState::Firing, Some(alert.started_at.plus(hold)));
                (alert.changed_at, alert.peak, alert.worst) = (now, alert.level, None);
                alert.note_worst();
                entry.dirty = true;
                let level = entry.alert.level;
                self.counts.fired += 1;
                self.count_level(level);
                self.count_active(slot, 1);
                self.inhibitor_changed(slot);
                self.record(now, slot, TimelineEvent::Firing);
                self.record_flip(now, slot);
            }
            AlertState::Firing => {
                if let Some(since) = alert.clearing_since
                    && since.plus(clear_after) <= now
                {
                    self.resolve(now, slot, None, since.plus(clear_after));
                }
            }
            _ => {}
        }
    }

    /// Resolves the alert as of `at`. `ending` is why, unless the condition cleared.
    pub(super) fn resolve(&mut self, now: Time, slot: u32, ending: Option<Ending>, at: Time) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let was = std::mem::replace(&mut entry.alert.state, AlertState::Resolved);
        if was == AlertState::Resolved {
            return;
        }
        let was_inhibitor = inhibits(entry.policy.class, was);
        let alert = &mut entry.alert;
        alert.end_growth(now);
        (alert.resolved_at, alert.ending, alert.clearing_since) = (Some(at.min(now)), ending, None);
        (alert.changed_at, alert.caused_at, alert.inhibited_by) = (now, now, None);
        alert.ack = None;
        if ending.is_some() {
            // It ended for good, so that flapping is over as well.
            (alert.flapping_since, alert.flips) = (None, Vec::new());
        }
        entry.dirty = true;
        entry.closing = was == AlertState::Firing;
        self.record(now, slot, TimelineEvent::Resolved { ending });
        if was_inhibitor {
            self.inhibitor_changed(slot);
        }
        if was == AlertState::Firing {
            self.count_active(slot, -1);
            if ending.is_none() {
                self.record_flip(now, slot);
            }
        }
        self.touch(slot);
    }

    fn set_level(&mut self, now: Time, slot: u32, level: Level) {
        let Some(entry) = self.entry(slot) else { return };
        let (firing, before) = (entry.alert.state == AlertState::Firing, entry.alert.level);
        // For a receiver that is not notified at the new level it inhibits nothing.
        let is_inhibitor = inhibits(entry.policy.class, entry.alert.state);
        if before == level {
            return;
        }
        if firing {
            self.count_active(slot, -1);
        }
        let Some(entry) = self.entry_mut(slot) else { return };
        entry.alert.level = level;
        let is_peak = level > entry.alert.peak;
        entry.alert.peak = entry.alert.peak.max(level);
        if firing {
            self.count_active(slot, 1);
            if is_peak {
                self.count_level(level);
            }
        }
        self.record(now, slot, TimelineEvent::Level { from: before });
        if is_inhibitor {
            self.inhibitor_changed(slot);
        }
    }

    fn count_level(&mut self, level: Level) {
        if let Some(count) = self.counts.raised.get_mut(level.index()) {
            *count += 1;
        }
    }

    /// Whether a resolved alert can be dropped: no receiver has to be notified of the resolve, no cooldown runs, and no
    /// changes are counted for flapping. Kept for at least a millisecond, so that the next one gets another key.
    pub(super) fn is_expired(alert: &Alert, policy: &crate::model::RulePolicy, now: Time) -> bool {
        let is_notified = |state: &crate::model::ReceiverState| {
            state.level.is_some() || state.firing_at.is_some_and(|at| at.plus(policy.cooldown) > now)
        };
        alert.noticed_at < now
            && !alert.receivers.values().any(is_notified)
            && Self::flips_expire_at(alert, policy).is_none_or(|at| at <= now)
    }
}
