//! Failed deliveries: a notice that was dead-lettered, is unreadable, or found the outbox full is due again.
//!
//! A receiver's state is updated when a notice is created. If the notice is not delivered, its effect on that state is
//! undone here, so that the next evaluation of the alert finds the notification due; no list of failed notices is kept.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::{AlertChanges, AlertEntry, Alerts, MAX_ALERTS, gone_policy};
use crate::model::{
    Alert, AlertState, Fingerprint, Level, Notice, NoticeKind, ReceiverState, Time, Undelivered, Worst,
};

/// How long after it was dead-lettered a notification is due again.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
/// The longest such pause, after repeated rejections.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Alerts {
    /// Records that `notices` were dead-lettered. What still fires is due again after five minutes; with exponential
    /// back-off if the message itself was rejected (`is_of_message`).
    pub fn dead_lettered(&mut self, now: Time, notices: &[Arc<Notice>], is_of_message: bool) -> AlertChanges {
        for notice in notices {
            self.undo(now, notice, |state| {
                let attempts = state.undelivered.as_ref().map_or(0, |before| before.attempts).saturating_add(1);
                let doubled = 1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
                let pause = if is_of_message { FIRST_PAUSE.saturating_mul(doubled) } else { FIRST_PAUSE };
                let level = notice.kind.is_firing().then_some(notice.level);
                state.undelivered = Some(Undelivered { until: now.plus(pause.min(LONGEST_PAUSE)), level, attempts });
            });
        }
        self.finish(now)
    }

    /// Records that `notices` found the outbox of their receiver full: they are due again at [`Alerts::make_room`].
    pub fn defer(&mut self, now: Time, notices: &[Arc<Notice>]) -> AlertChanges {
        for notice in notices {
            if self.undo(now, notice, |state| state.deferred = true) {
                let deferred = self.deferred.entry(Arc::clone(&notice.receiver)).or_default();
                deferred.insert((Reverse(notice.level), notice.fingerprint));
            }
        }
        self.finish(now)
    }

    /// Records that the pending notice of that key is unreadable on disk: it is due again at once.
    pub fn lost(&mut self, receiver: &str, fingerprint: Fingerprint, key: &str) {
        let alert = self.by_fingerprint.get(&fingerprint).and_then(|slot| self.entry(*slot)).map(|entry| &entry.alert);
        // It was the last notice: for a resolved alert, its resolve.
        let level = alert.filter(|alert| alert.state == AlertState::Resolved).map(|alert| alert.level);
        self.undo_by_key(receiver, fingerprint, key, |state| state.level = level);
    }

    /// Records that `notices` were delivered, which ends any back-off.
    pub fn delivered(&mut self, notices: &[Arc<Notice>]) {
        for notice in notices {
            let slot = self.by_fingerprint.get(&notice.fingerprint).copied();
            let Some(entry) = slot.and_then(|slot| self.entry_mut(slot)) else { continue };
            if let Some(state) = entry.alert.receivers.get_mut(&notice.receiver) {
                // Written with the next change of the alert: a restart before that merely keeps the back-off.
                entry.dirty |= state.undelivered.take().is_some();
            }
        }
    }

    /// How many alerts wait for room in the outbox, by receiver.
    pub fn deferred(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.deferred.iter().map(|(receiver, deferred)| (receiver, deferred.len()))
    }

    /// The outbox of `receiver` has room for `count` deferred alerts: those of the highest level become due.
    pub fn make_room(&mut self, now: Time, receiver: &str, count: usize) -> AlertChanges {
        let Some(deferred) = self.deferred.get_mut(receiver) else { return AlertChanges::default() };
        let rest = deferred.iter().nth(count).copied();
        let later = rest.map(|first| deferred.split_off(&first)).unwrap_or_default();
        let due = std::mem::replace(deferred, later);
        if deferred.is_empty() {
            self.deferred.remove(receiver);
        }
        for (_, fingerprint) in due {
            let Some(slot) = self.by_fingerprint.get(&fingerprint).copied() else { continue };
            if let Some(state) = self.entry_mut(slot).and_then(|entry| entry.alert.receivers.get_mut(receiver)) {
                state.deferred = false;
                self.touch(slot);
            }
        }
        self.finish(now)
    }

    /// Records that `notice` did not reach its receiver, unless a newer one is pending.
    fn undo(&mut self, now: Time, notice: &Notice, then: impl FnOnce(&mut ReceiverState)) -> bool {
        if !notice.kind.is_of_alert() {
            return false;
        }
        let is_known = self.by_fingerprint.contains_key(&notice.fingerprint);
        if !is_known && notice.kind == NoticeKind::Resolved && notice.previous.is_some() {
            self.restore_resolved(now, notice);
        }
        self.undo_by_key(&notice.receiver, notice.fingerprint, &notice.key, |state| {
            state.level = notice.previous;
            state.in_incident &= state.level.is_some();
            state.flapping &= notice.kind != NoticeKind::Flapping;
            then(state);
        })
    }

    /// Restores from `notice`, an undelivered resolve, the alert that was dropped when the resolve was created.
    fn restore_resolved(&mut self, now: Time, notice: &Notice) -> Option<u32> {
        if self.by_fingerprint.len() >= MAX_ALERTS {
            return None;
        }
        let noticed_at = i64::from_str_radix(notice.incident.rsplit_once('-')?.1, 16).ok()?;
        let sequence =
            notice.key.strip_prefix(&*notice.incident)?.strip_prefix('-')?.split_once('-')?.0.parse().ok()?;
        let policy = self.policies.iter().find(|policy| policy.name == notice.rule).cloned();
        let state = ReceiverState { sequence, ..ReceiverState::default() };
        let (rule, subject) = (Arc::clone(&notice.rule), notice.subject.clone());
        let alert = Alert {
            state: AlertState::Resolved,
            agent_type: notice.agent_type.clone(),
            value: notice.value,
            threshold: notice.threshold,
            noticed_at: Time::from_millis(noticed_at),
            worst: notice.peak.map(|level| Worst { level, value: notice.value, threshold: notice.threshold }),
            fired_at: Some(notice.fired_at),
            resolved_at: notice.resolved_at,
            ending: notice.ending,
            receivers: [(Arc::clone(&notice.receiver), state)].into(),
            ..Alert::new(rule, subject, notice.level, notice.started_at, now)
        };
        let policy = policy.unwrap_or_else(|| Arc::new(gone_policy(&alert)));
        Some(self.insert(AlertEntry { alert, policy, touched: false, dirty: true, closing: false, inhibitor: None }))
    }

    fn undo_by_key(
        &mut self,
        receiver: &str,
        fingerprint: Fingerprint,
        key: &str,
        then: impl FnOnce(&mut ReceiverState),
    ) -> bool {
        let Some(slot) = self.by_fingerprint.get(&fingerprint).copied() else { return false };
        let Some(entry) = self.entry_mut(slot) else { return false };
        let incident = entry.alert.incident();
        let state = entry.alert.receivers.get_mut(receiver);
        let Some(state) = state.filter(|state| *state.key(&incident, receiver) == *key) else { return false };
        then(state);
        entry.dirty = true;
        self.touch(slot);
        true
    }
}

impl ReceiverState {
    /// The key of the last notice to `receiver` for this alert.
    pub(super) fn key(&self, incident: &str, receiver: &str) -> Arc<str> {
        Arc::from(format!("{incident}-{}-{receiver}", self.sequence))
    }

    /// When a dead-lettered notification is due again; `None` when it is due now, or when what is due differs from it: a
    /// higher level, or a resolve.
    pub(super) fn retry_at(&self, now: Time, level: Option<Level>) -> Option<Time> {
        let undelivered = self.undelivered.as_ref().filter(|undelivered| undelivered.until > now)?;
        let is_same = match (level, undelivered.level) {
            (Some(level), Some(tried)) => level <= tried,
            (None, None) => true,
            _ => false,
        };
        is_same.then_some(undelivered.until)
    }
}
