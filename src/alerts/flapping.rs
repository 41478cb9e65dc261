//! Flapping: an alert that fires and resolves too often is notified once as flapping, and once when flapping ended.

use super::Alerts;
use crate::model::{Alert, RulePolicy, Time};

impl Alerts {
    /// Records that the alert in `slot` began to fire or resolved at `now`.
    pub(super) fn record_flip(&mut self, now: Time, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let Some(flap) = entry.policy.flap else {
            (entry.alert.flips, entry.alert.flapping_since) = (Vec::new(), None);
            return;
        };
        let alert = &mut entry.alert;
        let oldest = now.minus(flap.within);
        alert.flips.retain(|at| *at > oldest);
        alert.flips.push(now);
        let counted = flap.changes as usize;
        if alert.flips.len() > counted {
            alert.flips.remove(0);
        }
        if alert.flips.len() >= counted && alert.flapping_since.is_none() {
            (alert.flapping_since, alert.changed_at) = (Some(now), now);
        }
        entry.dirty = true;
    }

    /// Ends flapping of the alert in `slot` once it has not changed for `flap.settle`.
    pub(super) fn end_flapping(&mut self, now: Time, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else { return };
        if flapping_ends_at(&entry.alert, &entry.policy).is_some_and(|at| at <= now) {
            let alert = &mut entry.alert;
            (alert.flapping_since, alert.changed_at) = (None, now);
            alert.flips.clear();
            entry.dirty = true;
        }
    }

    /// When its recorded changes no longer matter; `None` when there are none to keep.
    pub(super) fn flips_expire_at(alert: &Alert, policy: &RulePolicy) -> Option<Time> {
        let flap = policy.flap?;
        // Every alert fires once and resolves once: a single change is not worth keeping.
        let last = alert.flips.last().filter(|_| alert.flips.len() > 1 || alert.flapping_since.is_some())?;
        Some(flapping_ends_at(alert, policy).unwrap_or_else(|| last.plus(flap.within)))
    }
}

/// When `alert` stops flapping if it does not change again; `None` when it is not flapping.
pub(super) fn flapping_ends_at(alert: &Alert, policy: &RulePolicy) -> Option<Time> {
    let since = alert.flapping_since?;
    let settle = policy.flap.map(|flap| flap.settle).unwrap_or_default();
    Some(alert.flips.last().copied().unwrap_or(since).plus(settle))
}
