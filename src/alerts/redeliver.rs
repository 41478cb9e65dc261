//! What became of no delivery: the alert is due to the receiver again, at a time or once there is room.
//!
//! A notice that was given up, could not be read back or found no room changed what its receiver was to hold; here that
//! is what it was told in fact again, so that the next look at the alert finds it due. Nothing is kept but that.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::{Alerts, Effects, Entry, MAX_ALERTS, gone_policy};
use crate::model::{
    Alert, AlertState, Fingerprint, Level, Notice, NoticeKind, ReceiverState, Time, Undelivered, Worst,
};

/// How long after it was given up a notice is due again.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
/// The longest such pause, for what is rejected again and again.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Alerts {
    /// Takes in that `notices` were given up for `receiver`. What still fires is due again: after five minutes where
    /// the receiver rejected us, `is_of_message` ever later where it rejected the message.
    pub fn gave_up(&mut self, now: Time, notices: &[Arc<Notice>], is_of_message: bool) -> Effects {
        for notice in notices {
            self.undo(now, notice, |told| {
                let attempts = told.undelivered.as_ref().map_or(0, |before| before.attempts).saturating_add(1);
                let doubled = 1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX);
                let pause = if is_of_message { FIRST_PAUSE.saturating_mul(doubled) } else { FIRST_PAUSE };
                let level = notice.kind.is_firing().then_some(notice.level);
                told.undelivered = Some(Undelivered { until: now.plus(pause.min(LONGEST_PAUSE)), level, attempts });
            });
        }
        self.settle(now)
    }

    /// Takes in that there was no room for `notices` among what waits for their receiver: they are due again when
    /// [`Alerts::make_room`] says so.
    pub fn defer(&mut self, now: Time, notices: &[Arc<Notice>]) -> Effects {
        for notice in notices {
            if self.undo(now, notice, |told| told.deferred = true) {
                let deferred = self.deferred.entry(Arc::clone(&notice.receiver)).or_default();
                deferred.insert((Reverse(notice.level), notice.fingerprint));
            }
        }
        self.settle(now)
    }

    /// Takes in that a notice that was due to `receiver` can't be read back: what it said is due again at once.
    pub fn lost(&mut self, receiver: &str, fingerprint: Fingerprint, key: &str) {
        let alert = self.by_fingerprint.get(&fingerprint).and_then(|slot| self.entry(*slot)).map(|entry| &entry.alert);
        // It was the last one: of an alert that is over it was the resolve.
        let level = alert.filter(|alert| alert.state == AlertState::Resolved).map(|alert| alert.level);
        self.undo_key(receiver, fingerprint, key, |told| told.level = level);
    }

    /// Takes in that `notices` were delivered: what was given up before is of no matter any more.
    pub fn delivered(&mut self, notices: &[Arc<Notice>]) {
        for notice in notices {
            let slot = self.by_fingerprint.get(&notice.fingerprint).copied();
            let Some(entry) = slot.and_then(|slot| self.entry_mut(slot)) else { continue };
            if let Some(told) = entry.alert.receivers.get_mut(&notice.receiver) {
                // It goes to the ledger with the next change: until then a restart merely remembers a pause.
                entry.dirty |= told.undelivered.take().is_some();
            }
        }
    }

    /// How many alerts found no room for each receiver.
    pub fn deferred(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.deferred.iter().map(|(receiver, deferred)| (receiver, deferred.len()))
    }

    /// There is room for `count` alerts that were deferred for `receiver`: the worst are due.
    pub fn make_room(&mut self, now: Time, receiver: &str, count: usize) -> Effects {
        let Some(deferred) = self.deferred.get_mut(receiver) else { return Effects::default() };
        let rest = deferred.iter().nth(count).copied();
        let later = rest.map(|first| deferred.split_off(&first)).unwrap_or_default();
        let due = std::mem::replace(deferred, later);
        if deferred.is_empty() {
            self.deferred.remove(receiver);
        }
        for (_, fingerprint) in due {
            let Some(slot) = self.by_fingerprint.get(&fingerprint).copied() else { continue };
            if let Some(told) = self.entry_mut(slot).and_then(|entry| entry.alert.receivers.get_mut(receiver)) {
                told.deferred = false;
                self.touch(slot);
            }
        }
        self.settle(now)
    }

    /// Notes that `notice` did not reach its receiver, unless something newer is on its way there.
    fn undo(&mut self, now: Time, notice: &Notice, then: impl FnOnce(&mut ReceiverState)) -> bool {
        if !notice.kind.is_of_alert() {
            return false;
        }
        let is_known = self.by_fingerprint.contains_key(&notice.fingerprint);
        if !is_known && notice.kind == NoticeKind::Resolved && notice.previous.is_some() {
            self.revive(now, notice);
        }
        self.undo_key(&notice.receiver, notice.fingerprint, &notice.key, |told| {
            told.level = notice.previous;
            told.folded &= told.level.is_some();
            told.flapping &= notice.kind != NoticeKind::Flapping;
            then(told);
        })
    }

    /// Remembers an alert again that was forgotten once its resolve was on its way, as `notice` tells of it.
    fn revive(&mut self, now: Time, notice: &Notice) -> Option<u32> {
        if self.by_fingerprint.len() >= MAX_ALERTS {
            return None;
        }
        let noticed_at = i64::from_str_radix(notice.incident.rsplit_once('-')?.1, 16).ok()?;
        let sequence =
            notice.key.strip_prefix(&*notice.incident)?.strip_prefix('-')?.split_once('-')?.0.parse().ok()?;
        let policy = self.policies.iter().find(|policy| policy.name == notice.rule).cloned();
        let told = ReceiverState { sequence, ..ReceiverState::default() };
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
            receivers: [(Arc::clone(&notice.receiver), told)].into(),
            ..Alert::new(rule, subject, notice.level, notice.started_at, now)
        };
        let policy = policy.unwrap_or_else(|| Arc::new(gone_policy(&alert)));
        Some(self.insert(Entry { alert, policy, touched: false, dirty: true, closing: false, explainer: None }))
    }

    fn undo_key(
        &mut self,
        receiver: &str,
        fingerprint: Fingerprint,
        key: &str,
        then: impl FnOnce(&mut ReceiverState),
    ) -> bool {
        let Some(slot) = self.by_fingerprint.get(&fingerprint).copied() else { return false };
        let Some(entry) = self.entry_mut(slot) else { return false };
        let incident = entry.alert.incident();
        let told = entry.alert.receivers.get_mut(receiver);
        let Some(told) = told.filter(|told| *told.key(&incident, receiver) == *key) else { return false };
        then(told);
        entry.dirty = true;
        self.touch(slot);
        true
    }
}

impl ReceiverState {
    /// The key of the last notice to `receiver` in that life of the alert.
    pub(super) fn key(&self, incident: &str, receiver: &str) -> Arc<str> {
        Arc::from(format!("{incident}-{}-{receiver}", self.sequence))
    }

    /// Until when a notice that was given up is not due again; `None` when it is, or what is due is another one: worse,
    /// or of the end.
    pub(super) fn held_until(&self, now: Time, level: Option<Level>) -> Option<Time> {
        let undelivered = self.undelivered.as_ref().filter(|undelivered| undelivered.until > now)?;
        let is_same = match (level, undelivered.level) {
            (Some(level), Some(tried)) => level <= tried,
            (None, None) => true,
            _ => false,
        };
        is_same.then_some(undelivered.until)
    }
}
