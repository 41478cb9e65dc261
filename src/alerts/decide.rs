//! Whether one receiver is notified of one alert now, and if not, why.
//!
//! What is true is held against the level that the receiver was last notified of. A first notification waits for the
//! cooldown of the last one and is never dropped; an escalation passes the cooldown; a de-escalation waits until it has
//! held for the cooldown. A resolve passes silences, quiet hours and inhibition, and waits only while the alert flaps,
//! while everything is paused, or for a receiver that has no room or rejected it.
//!
//! Before this is asked an alert must fire: pending ones, and new ones beyond [`super::MAX_ALERTS`], never get here. After
//! it the receiver's queue may still replace a notice by a newer one of the same alert, or dead-letter it.

use std::sync::Arc;
use std::time::Duration;

use super::flap::settles_at;
use crate::model::quiet::quiet_until;
use crate::model::{
    Alert, AlertState, Incident, Label, Level, NoticeKind, NotifyReason, ReceiverPolicy, ReceiverState, RulePolicy,
    Silence, Subject, Suppressed, Time,
};

/// How long a resolve stays due to a receiver that rejects it.
const RESOLVE_DUE_FOR: Duration = Duration::from_secs(24 * 3600);

/// What to do for one receiver now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// There is nothing to tell, now or later.
    Nothing,
    /// Tell: what, which level, the level now if that is below what the receiver wants to hear of, and why.
    Notify(NoticeKind, Level, Option<Level>, NotifyReason),
    /// Do not tell, and why.
    Suppress(Suppressed),
}

/// Why `receiver` is never told of `alert` as it is: it is about the receiver itself, goes elsewhere, or is too mild.
pub(super) fn not_for(receiver: &ReceiverPolicy, alert: &Alert) -> Option<Suppressed> {
    let label = |label: Label| alert.label(label);
    if matches!(&alert.subject, Subject::Receiver { name } if *name == receiver.name) {
        return Some(Suppressed::AboutReceiver);
    }
    let is_routed = receiver.only.is_empty() || receiver.only.iter().any(|one| one.cover(label));
    if !is_routed || receiver.except.iter().any(|one| one.cover(label)) {
        return Some(Suppressed::NotRouted);
    }
    (alert.level < receiver.min_level).then_some(Suppressed::BelowMinLevel { min_level: receiver.min_level })
}

/// All that a verdict depends on, but for what the receiver was told.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) now: Time,
    pub(super) alert: &'a Alert,
    pub(super) policy: &'a RulePolicy,
    pub(super) receiver: &'a ReceiverPolicy,
    /// The silence that covers the alert.
    pub(super) silence: Option<&'a Silence>,
    /// Whether the receiver is told of what explains the alert.
    pub(super) is_explained: bool,
    /// The incident that the alert is part of.
    pub(super) incident: Option<Incident>,
    /// Whether nothing is sent at present.
    pub(super) is_paused: bool,
}

impl Case<'_> {
    /// The verdict; it notes in `told` since when the alert is milder than was told.
    pub(super) fn verdict(&self, told: &mut ReceiverState) -> Verdict {
        if self.is_given_up(told) {
            *told = ReceiverState { sequence: told.sequence, firing_at: told.firing_at, ..ReceiverState::default() };
            return Verdict::Nothing;
        }
        let verdict = self.due(told);
        let Verdict::Notify(kind, level, ..) = &verdict else { return verdict };
        if self.is_paused {
            Verdict::Suppress(Suppressed::Paused)
        } else if told.deferred {
            Verdict::Suppress(Suppressed::OutboxFull)
        } else if let Some(until) = told.held_until(self.now, kind.is_firing().then_some(*level)) {
            Verdict::Suppress(Suppressed::Undelivered { until })
        } else {
            verdict
        }
    }

    /// Whether a resolve was given up again and again for so long that the receiver need not hear of it any more.
    fn is_given_up(&self, told: &ReceiverState) -> bool {
        told.undelivered.as_ref().is_some_and(|undelivered| undelivered.level.is_none())
            && self.alert.state == AlertState::Resolved
            && self.alert.resolved_at.is_some_and(|at| self.now.since(at) >= RESOLVE_DUE_FOR)
    }

    /// What is due whatever became of earlier messages.
    fn due(&self, told: &mut ReceiverState) -> Verdict {
        let alert = self.alert;
        if let Some(until) = settles_at(alert, self.policy) {
            return self.flapping(told, until);
        }
        if alert.state != AlertState::Firing {
            told.lowered_since = None;
            return match told.level {
                Some(_) if self.receiver.send_resolved => {
                    Verdict::Notify(NoticeKind::Resolved, alert.level, None, NotifyReason::Resolved)
                }
                Some(_) => Verdict::Suppress(Suppressed::SendResolved),
                None => Verdict::Nothing,
            };
        }
        let Some(known) = told.level else { return self.first(told) };
        if alert.level < known {
            return self.lowered(told, known);
        }
        told.lowered_since = None;
        if let Some(suppressed) = self.kept_back() {
            return Verdict::Suppress(suppressed);
        }
        if alert.level > known {
            return Verdict::Notify(NoticeKind::Escalated, alert.level, None, NotifyReason::Escalated);
        }
        if let Some(suppressed) = self.looked_after() {
            return Verdict::Suppress(suppressed);
        }
        let again = if told.flapping {
            Some((NoticeKind::FlappingEnded, NotifyReason::FlappingEnded))
        } else if told.folded && self.incident.is_none() {
            Some((NoticeKind::Repeat, NotifyReason::IncidentEnded))
        } else {
            None
        };
        if let Some((kind, why)) = again {
            return self.cooled(told).unwrap_or(Verdict::Notify(kind, alert.level, None, why));
        }
        let repeat = self.policy.repeat.filter(|_| alert.level > Level::Info);
        let repeat_at = repeat.map(|repeat| told.firing_at.map_or(self.now, |at| at.plus(repeat)));
        match repeat_at {
            Some(at) if at <= self.now => {
                Verdict::Notify(NoticeKind::Repeat, alert.level, None, NotifyReason::RepeatElapsed)
            }
            _ => Verdict::Suppress(Suppressed::AlreadyNotified { repeat_at }),
        }
    }

    /// It fires and the receiver knows nothing of it. The cooldown is looked at last, as it is the shortest.
    fn first(&self, told: &ReceiverState) -> Verdict {
        let suppressed = self.kept_back().or_else(|| self.looked_after()).or_else(|| self.not_yet_escalated());
        if let Some(suppressed) = suppressed {
            return Verdict::Suppress(suppressed);
        }
        self.cooled(told).unwrap_or(Verdict::Notify(
            NoticeKind::Firing,
            self.alert.level,
            None,
            NotifyReason::NewFiring,
        ))
    }

    /// It is milder than the receiver was told.
    fn lowered(&self, told: &mut ReceiverState, known: Level) -> Verdict {
        let since = *told.lowered_since.get_or_insert(self.alert.changed_at);
        let until = since.plus(self.policy.cooldown);
        if until > self.now {
            return Verdict::Suppress(Suppressed::DeescalationDelay { until });
        }
        let level = self.alert.level;
        if level < self.receiver.min_level {
            // To this receiver it is over, and that is owed.
            return match self.inhibited_by() {
                Some(by) => Verdict::Suppress(Suppressed::Inhibited { by: by.clone() }),
                None if !self.receiver.send_resolved => Verdict::Suppress(Suppressed::SendResolved),
                None => Verdict::Notify(NoticeKind::Resolved, known, Some(level), NotifyReason::BelowMinLevel),
            };
        }
        match self.kept_back() {
            Some(suppressed) => Verdict::Suppress(suppressed),
            None => Verdict::Notify(NoticeKind::Deescalated, level, None, NotifyReason::Deescalated),
        }
    }

    /// It comes and goes: that is told once, and after it only what is worse.
    fn flapping(&self, told: &ReceiverState, until: Time) -> Verdict {
        let level = self.alert.level;
        let is_worse = told.level.is_some_and(|known| level > known) && self.alert.state == AlertState::Firing;
        if told.flapping && !is_worse {
            return Verdict::Suppress(Suppressed::Flapping { until });
        }
        if let Some(suppressed) = self.kept_back() {
            return Verdict::Suppress(suppressed);
        }
        if is_worse {
            return Verdict::Notify(NoticeKind::Escalated, level, None, NotifyReason::Escalated);
        }
        if told.level.is_none() && !self.receiver.after.is_zero() {
            // This receiver hears only of what lasts.
            let is_firing = self.alert.state == AlertState::Firing;
            let suppressed = if is_firing { self.not_yet_escalated() } else { Some(Suppressed::Flapping { until }) };
            if let Some(suppressed) = suppressed {
                return Verdict::Suppress(suppressed);
            }
        }
        let suppressed = self.looked_after().map(Verdict::Suppress).or_else(|| self.cooled(told));
        suppressed.unwrap_or(Verdict::Notify(NoticeKind::Flapping, level, None, NotifyReason::Flapping))
    }

    /// Whether it has not fired for as long as the receiver's `after`.
    fn not_yet_escalated(&self) -> Option<Suppressed> {
        // Nobody could look after it before it was noticed, however long ago it began. A clock that was ahead before a
        // restart may have noticed it in what is the future now.
        let fired_at = self.alert.fired_at.unwrap_or(self.alert.started_at);
        let noticed_at = Some(self.alert.noticed_at).filter(|at| *at <= self.now).unwrap_or(fired_at);
        let until = fired_at.max(noticed_at).plus(self.receiver.after);
        (until > self.now).then_some(Suppressed::After { until })
    }

    /// What keeps back all but the end of what was told.
    fn kept_back(&self) -> Option<Suppressed> {
        let (alert, receiver) = (self.alert, self.receiver);
        if let Some(suppressed) = not_for(receiver, alert) {
            return Some(suppressed);
        }
        if let Some(by) = self.inhibited_by() {
            return Some(Suppressed::Inhibited { by: by.clone() });
        }
        if let Some(silence) = self.silence {
            let (silence, by, until) = (silence.id.clone(), silence.created_by.clone(), silence.ends_at);
            return Some(Suppressed::Silenced { silence, by, until });
        }
        let quiet = [&receiver.quiet, &self.policy.quiet];
        let until = quiet.into_iter().filter_map(|hours| quiet_until(hours, alert.level, self.now)).max();
        until.map(|until| Suppressed::QuietHours { until })
    }

    /// The rule of the alert that explains it to this receiver.
    fn inhibited_by(&self) -> Option<&Arc<str>> {
        self.alert.inhibited_by.as_ref().filter(|_| self.is_explained)
    }

    /// Whether somebody looks after it, and it is no worse than they know.
    fn looked_after(&self) -> Option<Suppressed> {
        let ack = self.alert.ack.as_ref().filter(|ack| self.alert.level <= ack.level)?;
        Some(Suppressed::Acknowledged { by: ack.by.clone() })
    }

    /// Whether it was told too lately to be told again.
    fn cooled(&self, told: &ReceiverState) -> Option<Verdict> {
        let until = told.firing_at?.plus(self.policy.cooldown);
        (until > self.now).then_some(Verdict::Suppress(Suppressed::Cooldown { until }))
    }
}
