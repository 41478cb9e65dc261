//! What is true now against what each receiver was last told.
//!
//! A first tell waits for the cooldown of the last one and is never dropped; a raise passes the cooldown;
//! a fall is told after it held for the cooldown; a resolve of what was told is always owed and never waits.

use std::sync::Arc;

use super::{Alerts, Effects};
use crate::model::{Alert, AlertState, Level, Notice, NoticeKind, ReceiverPolicy, RulePolicy, Time, Told};

/// What to do for one receiver now.
#[derive(Debug, PartialEq)]
enum Decision {
    /// Nothing, now or later.
    Nothing,
    /// Look again then.
    At(Time),
    /// Tell.
    Tell(NoticeKind, Level, Option<Level>),
    /// What it was told is over, and it does not want to hear so.
    Drop,
}

/// Decides what `receiver` is told of `alert` at `now`. This is all there is to it: no other place sends.
fn decide(now: Time, alert: &Alert, policy: &RulePolicy, receiver: &ReceiverPolicy, told: &mut Told) -> Decision {
    if alert.state != AlertState::Firing {
        told.lowered_since = None;
        return match told.level {
            Some(_) if receiver.send_resolved => Decision::Tell(NoticeKind::Resolved, alert.level, None),
            Some(_) => Decision::Drop,
            None => Decision::Nothing,
        };
    }
    let cooled = told.firing_at.map_or(now, |at| at.plus(policy.cooldown));
    let Some(known) = told.level else {
        if alert.explained_by.is_some() || alert.level < receiver.min_level {
            return Decision::Nothing;
        }
        return if cooled <= now {
            Decision::Tell(NoticeKind::Firing, alert.level, None)
        } else {
            Decision::At(cooled)
        };
    };
    if alert.level < known {
        let since = *told.lowered_since.get_or_insert(alert.changed_at);
        let due = since.plus(policy.cooldown);
        if due > now {
            return Decision::At(due);
        }
        if alert.explained_by.is_some() {
            return Decision::Nothing;
        }
        if alert.level >= receiver.min_level {
            return Decision::Tell(NoticeKind::Lowered, alert.level, None);
        }
        return if receiver.send_resolved {
            Decision::Tell(NoticeKind::Resolved, known, Some(alert.level))
        } else {
            Decision::Drop
        };
    }
    told.lowered_since = None;
    if alert.explained_by.is_some() {
        return Decision::Nothing;
    }
    if alert.level > known {
        return Decision::Tell(NoticeKind::Raised, alert.level, None);
    }
    match policy.repeat.filter(|_| alert.level > Level::Info) {
        Some(repeat) => {
            let due = told.firing_at.map_or(now, |at| at.plus(repeat));
            if due <= now { Decision::Tell(NoticeKind::Repeat, alert.level, None) } else { Decision::At(due) }
        }
        None => Decision::Nothing,
    }
}

impl Alerts {
    /// Tells every receiver what it is owed of the alert in `slot`, and schedules the next look at it.
    pub(super) fn tell(&mut self, now: Time, slot: u32, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let (alert, policy) = (&mut entry.alert, &entry.policy);
        let mut due: Option<Time> = None;
        let mut sooner = |at: Time| due = Some(due.map_or(at, |due| due.min(at)));
        match alert.state {
            AlertState::Pending => sooner(alert.started_at.plus(policy.hold)),
            AlertState::Firing => {
                if let Some(since) = alert.clearing_since {
                    sooner(since.plus(policy.clear_after));
                }
            }
            AlertState::Resolved => {}
        }
        let mut told = std::mem::take(&mut alert.told);
        if alert.state != AlertState::Pending {
            for receiver in &self.receivers {
                let known = told.get(&receiver.name);
                let mut one = known.cloned().unwrap_or_default();
                let decision = decide(now, alert, policy, receiver, &mut one);
                match decision {
                    Decision::Nothing => {}
                    Decision::At(at) => {
                        if one.level.is_none() && entry.dirty {
                            effects.suppress("cooldown");
                        }
                        sooner(at);
                    }
                    Decision::Drop => one.level = None,
                    Decision::Tell(kind, level, now_at) => {
                        one.sequence += 1;
                        let previous = one.level;
                        one.level = if kind == NoticeKind::Resolved { None } else { Some(level) };
                        one.lowered_since = None;
                        if kind.is_firing() {
                            one.firing_at = Some(now);
                            if let Some(repeat) = policy.repeat.filter(|_| level > Level::Info) {
                                sooner(now.plus(repeat));
                            }
                        }
                        effects.notices.push(notice(now, alert, receiver, &one, kind, level, previous, now_at));
                    }
                }
                if known.cloned().unwrap_or_default() != one {
                    entry.dirty = true;
                    told.insert(Arc::clone(&receiver.name), one);
                }
            }
            // A receiver that is gone can't be told, and is owed nothing.
            told.retain(|name, _| self.receivers.iter().any(|receiver| receiver.name == *name));
        }
        alert.told = told;
        if alert.state == AlertState::Resolved {
            if std::mem::take(&mut entry.closing) {
                effects.closed.push(alert.clone());
            }
            if Self::is_settled(&alert.told, policy.cooldown, now) {
                effects.forgotten.push(alert.fingerprint);
                self.remove(slot);
                return;
            }
            for told in alert.told.values() {
                if let Some(at) = told.firing_at {
                    sooner(at.plus(policy.cooldown));
                }
            }
        }
        if std::mem::take(&mut entry.dirty) {
            effects.changed.push(entry.alert.clone());
        }
        self.deadlines.cancel(slot);
        if let Some(due) = due {
            self.deadlines.schedule(slot, due);
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one notice, put together in this one place")]
fn notice(
    now: Time,
    alert: &Alert,
    receiver: &ReceiverPolicy,
    told: &Told,
    kind: NoticeKind,
    level: Level,
    previous: Option<Level>,
    now_at: Option<Level>,
) -> Notice {
    let incident = Alerts::incident(alert);
    Notice {
        key: Arc::from(format!("{incident}-{}-{}", told.sequence, receiver.name)),
        receiver: Arc::clone(&receiver.name),
        fingerprint: alert.fingerprint,
        incident,
        rule: Arc::clone(&alert.rule),
        subject: alert.subject.clone(),
        kind,
        level,
        previous,
        now_at,
        value: alert.value,
        threshold: alert.threshold,
        message: Arc::from(""),
        action: Arc::from(""),
        started_at: alert.started_at,
        fired_at: alert.fired_at.unwrap_or(alert.started_at),
        resolved_at: if now_at.is_some() { Some(now) } else { alert.resolved_at },
        ending: alert.ending,
        at: now,
        caused_at: alert.caused_at,
    }
}
