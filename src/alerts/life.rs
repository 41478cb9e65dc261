//! From finding to finding: pending, firing, clearing, over.

use std::sync::Arc;

use super::explain::explains;
use super::{Alerts, Entry, MAX_ALERTS};
use crate::model::{Alert, AlertState, Ending, Finding, Fingerprint, Level, Time, TimelineEvent};

impl Alerts {
    /// Changes the alert that `finding` is about.
    pub(super) fn take(&mut self, now: Time, finding: Finding) {
        let Some(policy) = self.policy(finding.rule) else { return };
        let fingerprint = Fingerprint::of(&policy.name, &finding.subject);
        let known = self.by_fingerprint.get(&fingerprint).copied();
        let open =
            known.filter(|slot| self.entry(*slot).is_some_and(|entry| entry.alert.state != AlertState::Resolved));
        let Some(slot) = open else {
            if let Some(level) = finding.level.filter(|_| finding.ending.is_none()) {
                self.begin(now, known, fingerprint, policy, level, finding);
            }
            return;
        };
        if let Some(ending) = finding.ending {
            self.end(now, slot, Some(ending), finding.since);
            return;
        }
        match finding.level {
            Some(level) => self.go_on(now, slot, level, &finding),
            None => self.fade(now, slot, &finding),
        }
    }

    /// A rule is broken that was not.
    fn begin(
        &mut self,
        now: Time,
        known: Option<u32>,
        fingerprint: Fingerprint,
        policy: Arc<crate::model::RulePolicy>,
        level: Level,
        finding: Finding,
    ) {
        if known.is_none() && self.by_fingerprint.len() >= MAX_ALERTS {
            self.refused += 1;
            return;
        }
        // Two incidents within one millisecond are still two.
        let noticed_at = known
            .and_then(|slot| self.entry(slot))
            .map_or(now, |entry| now.max(entry.alert.noticed_at.plus(std::time::Duration::from_millis(1))));
        // What receivers were told lately outlives the incident: the cooldown runs from there.
        // So does how often it came and went.
        let before = known.and_then(|slot| self.entry(slot)).map(|entry| {
            let alert = &entry.alert;
            (alert.receivers.clone(), alert.flips.clone(), alert.flapping_since)
        });
        let (mut told, flips, flapping_since) = before.unwrap_or_default();
        if let Some(slot) = known {
            self.remove(slot);
        }
        for told in told.values_mut() {
            (told.sequence, told.suppressed, told.undelivered) = (0, None, None);
        }
        let mut alert = Alert {
            fingerprint,
            source: finding.source,
            agent_type: finding.agent_type,
            value: finding.value,
            threshold: finding.threshold,
            noticed_at,
            receivers: told,
            flips,
            flapping_since,
            ..Alert::new(Arc::clone(&policy.name), finding.subject, level, finding.since, now)
        };
        alert.note_worst();
        let slot = self.insert(Entry { alert, policy, touched: false, dirty: true, closing: false, explainer: None });
        self.touch(slot);
        if let Some(entry) = self.entry(slot) {
            let until = entry.alert.started_at.plus(entry.policy.hold);
            if until > now {
                let gathers = explains(entry.policy.class, entry.alert.state);
                self.note(now, slot, TimelineEvent::Pending { until });
                if gathers {
                    self.explainer_changed(slot);
                }
            }
        }
        self.mature(now, slot);
    }

    /// The rule is still broken, perhaps at another level.
    fn go_on(&mut self, now: Time, slot: u32, level: Level, finding: &Finding) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let alert = &mut entry.alert;
        let many = |value: Option<f64>| value.is_some_and(|value| value >= 2.0);
        // What it explains, and what explains it, depends on these.
        let mut crossed = many(alert.value) != many(finding.value);
        (alert.value, alert.threshold) = (finding.value, finding.threshold);
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
            self.note(now, slot, TimelineEvent::NotCleared);
        }
        if crossed {
            self.explainer_changed(slot);
        }
        self.touch(slot);
    }

    /// The rule is not broken at present, or it is not known whether it is.
    fn fade(&mut self, now: Time, slot: u32, finding: &Finding) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let (lowest, clear_after) = (entry.policy.lowest, entry.policy.clear_after);
        let alert = &mut entry.alert;
        if finding.value.is_none() {
            // Unknown is neither good nor bad: what fires goes on firing, what waits goes on waiting.
            if !alert.no_data {
                (alert.no_data, alert.changed_at) = (true, now);
                entry.dirty = true;
                self.note(now, slot, TimelineEvent::NoData);
                self.touch(slot);
            }
            return;
        }
        if alert.state == AlertState::Pending {
            self.end(now, slot, None, finding.since);
            return;
        }
        if !finding.cleared {
            // Between threshold and hysteresis it is held at its mildest level.
            let held = alert.level.min(lowest);
            if alert.level != held || alert.clearing_since.is_some() || alert.no_data {
                (alert.clearing_since, alert.no_data, alert.changed_at) = (None, false, now);
                entry.dirty = true;
                self.set_level(now, slot, held);
                self.touch(slot);
            }
            return;
        }
        alert.no_data = false;
        if clear_after.is_zero() {
            self.end(now, slot, None, finding.since);
        } else if alert.clearing_since.is_none() {
            (alert.clearing_since, alert.changed_at) = (Some(finding.since), now);
            entry.dirty = true;
            self.note(now, slot, TimelineEvent::Clearing { until: finding.since.plus(clear_after) });
            self.touch(slot);
        }
    }

    /// Does what only had to wait for its time: fires what was pending, ends what was clearing.
    pub(super) fn mature(&mut self, now: Time, slot: u32) {
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
                self.count_raised(level);
                self.count_active(slot, 1);
                self.explainer_changed(slot);
                self.note(now, slot, TimelineEvent::Firing);
                self.flip(now, slot);
            }
            AlertState::Firing => {
                if let Some(since) = alert.clearing_since
                    && since.plus(clear_after) <= now
                {
                    self.end(now, slot, None, since.plus(clear_after));
                }
            }
            _ => {}
        }
    }

    /// Ends the alert as of `at`.
    pub(super) fn end(&mut self, now: Time, slot: u32, ending: Option<Ending>, at: Time) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let was = std::mem::replace(&mut entry.alert.state, AlertState::Resolved);
        if was == AlertState::Resolved {
            return;
        }
        let explained = explains(entry.policy.class, was);
        let alert = &mut entry.alert;
        (alert.resolved_at, alert.ending, alert.clearing_since) = (Some(at.min(now)), ending, None);
        (alert.changed_at, alert.caused_at, alert.inhibited_by) = (now, now, None);
        alert.ack = None;
        if ending.is_some() {
            // There is nothing that could come back.
            (alert.flapping_since, alert.flips) = (None, Vec::new());
        }
        entry.dirty = true;
        entry.closing = was == AlertState::Firing;
        self.note(now, slot, TimelineEvent::Resolved { ending });
        if explained {
            self.explainer_changed(slot);
        }
        if was == AlertState::Firing {
            self.count_active(slot, -1);
            if ending.is_none() {
                self.flip(now, slot);
            }
        }
        self.touch(slot);
    }

    fn set_level(&mut self, now: Time, slot: u32, level: Level) {
        let Some(entry) = self.entry(slot) else { return };
        let (firing, before) = (entry.alert.state == AlertState::Firing, entry.alert.level);
        // A receiver that is not notified at the new level has nothing inhibited by this alert any more.
        let inhibits = explains(entry.policy.class, entry.alert.state);
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
                self.count_raised(level);
            }
        }
        self.note(now, slot, TimelineEvent::Level { from: before });
        if inhibits {
            self.explainer_changed(slot);
        }
    }

    fn count_raised(&mut self, level: Level) {
        if let Some(count) = self.counts.raised.get_mut(level.index()) {
            *count += 1;
        }
    }

    /// Whether nothing of an ended alert has to be remembered for its receivers. The millisecond in which it began
    /// has to be, so that what begins anew within it is another incident.
    pub(super) fn is_settled(alert: &Alert, policy: &crate::model::RulePolicy, now: Time) -> bool {
        let is_told = |told: &crate::model::ReceiverState| {
            told.level.is_some() || told.firing_at.is_some_and(|at| at.plus(policy.cooldown) > now)
        };
        alert.noticed_at < now
            && !alert.receivers.values().any(is_told)
            && Self::flips_forgotten_at(alert, policy).is_none_or(|at| at <= now)
    }
}
