//! Coming and going: an alert that begins and ends too often is told once as such, and once when it has settled.

use super::Alerts;
use crate::model::{Alert, RulePolicy, Time};

impl Alerts {
    /// Notes that the alert in `slot` began to fire or ended at `now`.
    pub(super) fn flip(&mut self, now: Time, slot: u32) {
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

    /// Ends the coming and going of the alert in `slot` once nothing has happened for long enough.
    pub(super) fn calm_down(&mut self, now: Time, slot: u32) {
        let Some(entry) = self.entry_mut(slot) else { return };
        if settles_at(&entry.alert, &entry.policy).is_some_and(|at| at <= now) {
            let alert = &mut entry.alert;
            (alert.flapping_since, alert.changed_at) = (None, now);
            alert.flips.clear();
            entry.dirty = true;
        }
    }

    /// When its coming and going need not be remembered any longer; `None` when there is nothing to remember.
    pub(super) fn flips_forgotten_at(alert: &Alert, policy: &RulePolicy) -> Option<Time> {
        let flap = policy.flap?;
        // One beginning and one end are what every alert has.
        let last = alert.flips.last().filter(|_| alert.flips.len() > 1 || alert.flapping_since.is_some())?;
        Some(settles_at(alert, policy).unwrap_or_else(|| last.plus(flap.within)))
    }
}

/// When the coming and going of `alert` will have settled; `None` when it does not come and go.
pub(super) fn settles_at(alert: &Alert, policy: &RulePolicy) -> Option<Time> {
    let since = alert.flapping_since?;
    let settle = policy.flap.map(|flap| flap.settle).unwrap_or_default();
    Some(alert.flips.last().copied().unwrap_or(since).plus(settle))
}
