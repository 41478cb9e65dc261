//! Whether one receiver is notified of one alert now, and if not, why.
//!
//! The alert is compared with the level that the receiver was last notified of. A firing notification waits until the
//! cooldown since the last one has passed and is never dropped; an escalation ignores the cooldown; a de-escalation is
//! notified once it has held for the cooldown. A resolve ignores silences, quiet hours and inhibition: it is delayed only
//! while the alert flaps, while monitoring is paused, and while the receiver's outbox is full or its last notification was
//! dead-lettered.
//!
//! Pending alerts, and new ones beyond [`super::MAX_ALERTS`], never get here. Afterwards the receiver's queue may still
//! replace a notice by a newer one of the same alert, or dead-letter it.

use std::sync::Arc;
use std::time::Duration;

use super::flapping::flapping_ends_at;
use crate::model::quiet_hours::quiet_until;
use crate::model::{
    Alert, AlertState, Incident, Label, Level, NoticeKind, NotifyReason, ReceiverPolicy, ReceiverState, RulePolicy,
    Silence, Subject, Suppressed, Time,
};

/// How long a dead-lettered resolve is attempted again.
const RESOLVE_DUE_FOR: Duration = Duration::from_secs(24 * 3600);

/// What to do for one receiver now.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NotifyDecision {
    /// Nothing: the receiver knows of nothing that fires, and the alert is resolved.
    Nothing,
    /// Send this kind of notice at this level; with the current level, if that is below the receiver's `min_level`.
    Notify(NoticeKind, Level, Option<Level>, NotifyReason),
    /// Send nothing now, for this reason.
    Suppress(Suppressed),
}

/// Why `receiver` is not notified of `alert` at its level, whatever happened before: the alert is about the receiver
/// itself, is not routed to it, or is below its `min_level`.
pub(super) fn exclusion(receiver: &ReceiverPolicy, alert: &Alert) -> Option<Suppressed> {
    let label = |label: Label| alert.label(label);
    if matches!(&alert.subject, Subject::Receiver { name } if *name == receiver.name) {
        return Some(Suppressed::AboutReceiver);
    }
    let is_routed = receiver.only.is_empty() || receiver.only.iter().any(|one| one.matches(label));
    if !is_routed || receiver.except.iter().any(|one| one.matches(label)) {
        return Some(Suppressed::NotRouted);
    }
    (alert.level < receiver.min_level).then_some(Suppressed::BelowMinLevel { min_level: receiver.min_level })
}

/// What a decision depends on, besides the receiver's state.
#[derive(Debug)]
pub(super) struct NotifyCase<'a> {
    pub(super) now: Time,
    pub(super) alert: &'a Alert,
    pub(super) policy: &'a RulePolicy,
    pub(super) receiver: &'a ReceiverPolicy,
    /// The active silence that matches the alert.
    pub(super) silence: Option<&'a Silence>,
    /// Whether the receiver is notified of the inhibiting alert; if not, nothing is inhibited for it.
    pub(super) is_inhibited: bool,
    /// The incident that the alert is part of.
    pub(super) incident: Option<Incident>,
    /// Whether monitoring is paused.
    pub(super) is_paused: bool,
}

impl NotifyCase<'_> {
    /// What to do now. Records in `state` since when the alert's level is below the one last notified.
    pub(super) fn decide(&self, state: &mut ReceiverState) -> NotifyDecision {
        if self.is_abandoned(state) {
            *state = ReceiverState { sequence: state.sequence, firing_at: state.firing_at, ..ReceiverState::default() };
            return NotifyDecision::Nothing;
        }
        let decision = self.due(state);
        let NotifyDecision::Notify(kind, level, ..) = &decision else { return decision };
        if self.is_paused {
            NotifyDecision::Suppress(Suppressed::Paused)
        } else if state.deferred {
            NotifyDecision::Suppress(Suppressed::OutboxFull)
        } else if let Some(until) = state.retry_at(self.now, kind.is_firing().then_some(*level)) {
            NotifyDecision::Suppress(Suppressed::Undelivered { until })
        } else {
            decision
        }
    }

    /// Whether attempts to send the resolve were dead-lettered for so long that no more are made.
    fn is_abandoned(&self, state: &ReceiverState) -> bool {
        state.undelivered.as_ref().is_some_and(|undelivered| undelivered.level.is_none())
            && self.alert.state == AlertState::Resolved
            && self.alert.resolved_at.is_some_and(|at| self.now.since(at) >= RESOLVE_DUE_FOR)
    }

    /// What is due by the alert and the receiver's settings alone, whether or not it can be sent now.
    fn due(&self, state: &mut ReceiverState) -> NotifyDecision {
        let alert = self.alert;
        if let Some(until) = flapping_ends_at(alert, self.policy) {
            return self.flapping(state, until);
        }
        if alert.state != AlertState::Firing {
            state.deescalated_since = None;
            return match state.level {
                Some(_) if self.receiver.send_resolved => {
                    NotifyDecision::Notify(NoticeKind::Resolved, alert.level, None, NotifyReason::Resolved)
                }
                Some(_) => NotifyDecision::Suppress(Suppressed::SendResolved),
                None => NotifyDecision::Nothing,
            };
        }
        let Some(known) = state.level else { return self.new_firing(state) };
        if alert.level < known {
            return self.deescalated(state, known);
        }
        state.deescalated_since = None;
        if let Some(suppressed) = self.suppression() {
            return NotifyDecision::Suppress(suppressed);
        }
        if alert.level > known {
            return NotifyDecision::Notify(NoticeKind::Escalated, alert.level, None, NotifyReason::Escalated);
        }
        if let Some(suppressed) = self.acknowledged() {
            return NotifyDecision::Suppress(suppressed);
        }
        let again = if state.flapping {
            Some((NoticeKind::FlappingEnded, NotifyReason::FlappingEnded))
        } else if state.in_incident && self.incident.is_none() {
            Some((NoticeKind::Repeat, NotifyReason::IncidentEnded))
        } else {
            None
        };
        if let Some((kind, why)) = again {
            return self.cooldown(state).unwrap_or(NotifyDecision::Notify(kind, alert.level, None, why));
        }
        let repeat = self.policy.repeat.filter(|_| alert.level > Level::Info);
        let repeat_at = repeat.map(|repeat| state.firing_at.map_or(self.now, |at| at.plus(repeat)));
        match repeat_at {
            Some(at) if at <= self.now => {
                NotifyDecision::Notify(NoticeKind::Repeat, alert.level, None, NotifyReason::RepeatElapsed)
            }
            _ => NotifyDecision::Suppress(Suppressed::AlreadyNotified { repeat_at }),
        }
    }

    /// It fires, and the receiver was not notified of it since it last resolved. The cooldown is checked last: it is the
    /// shortest, and so the least informative reason.
    fn new_firing(&self, state: &ReceiverState) -> NotifyDecision {
        let suppressed = self.suppression().or_else(|| self.acknowledged()).or_else(|| self.within_after());
        if let Some(suppressed) = suppressed {
            return NotifyDecision::Suppress(suppressed);
        }
        self.cooldown(state).unwrap_or(NotifyDecision::Notify(
            NoticeKind::Firing,
            self.alert.level,
            None,
            NotifyReason::NewFiring,
        ))
    }

    /// Its level is below the one that the receiver was last notified of.
    fn deescalated(&self, state: &mut ReceiverState, known: Level) -> NotifyDecision {
        let since = *state.deescalated_since.get_or_insert(self.alert.changed_at);
        let until = since.plus(self.policy.cooldown);
        if until > self.now {
            return NotifyDecision::Suppress(Suppressed::DeescalationDelay { until });
        }
        let level = self.alert.level;
        if level < self.receiver.min_level {
            // For this receiver it is resolved.
            return match self.inhibited_by() {
                Some(by) => NotifyDecision::Suppress(Suppressed::Inhibited { by: by.clone() }),
                None if !self.receiver.send_resolved => NotifyDecision::Suppress(Suppressed::SendResolved),
                None => NotifyDecision::Notify(NoticeKind::Resolved, known, Some(level), NotifyReason::BelowMinLevel),
            };
        }
        match self.suppression() {
            Some(suppressed) => NotifyDecision::Suppress(suppressed),
            None => NotifyDecision::Notify(NoticeKind::Deescalated, level, None, NotifyReason::Deescalated),
        }
    }

    /// It flaps: that is notified once, and from then on only escalations.
    fn flapping(&self, state: &ReceiverState, until: Time) -> NotifyDecision {
        let level = self.alert.level;
        let is_worse = state.level.is_some_and(|known| level > known) && self.alert.state == AlertState::Firing;
        if state.flapping && !is_worse {
            return NotifyDecision::Suppress(Suppressed::Flapping { until });
        }
        if let Some(suppressed) = self.suppression() {
            return NotifyDecision::Suppress(suppressed);
        }
        if let Some(suppressed @ Suppressed::Inhibited { .. }) = &state.suppressed
            && self.alert.state == AlertState::Resolved
            && state.level.is_none()
        {
            // It was inhibited for as long as it fired, so that its cause accounts for its flapping as well.
            return NotifyDecision::Suppress(suppressed.clone());
        }
        if is_worse {
            return NotifyDecision::Notify(NoticeKind::Escalated, level, None, NotifyReason::Escalated);
        }
        if state.level.is_none() && !self.receiver.after.is_zero() {
            // This receiver is only notified of what fires for as long as its `after`.
            let is_firing = self.alert.state == AlertState::Firing;
            let suppressed = if is_firing { self.within_after() } else { Some(Suppressed::Flapping { until }) };
            if let Some(suppressed) = suppressed {
                return NotifyDecision::Suppress(suppressed);
            }
        }
        let suppressed = self.acknowledged().map(NotifyDecision::Suppress).or_else(|| self.cooldown(state));
        suppressed.unwrap_or(NotifyDecision::Notify(NoticeKind::Flapping, level, None, NotifyReason::Flapping))
    }

    /// Set while it has not fired for as long as the receiver's `after`.
    fn within_after(&self) -> Option<Suppressed> {
        // `after` leaves time to acknowledge, which was not possible before it was noticed, however long ago it began. If
        // the clock was ahead before a restart, `noticed_at` may lie in the future and is not used.
        let fired_at = self.alert.fired_at.unwrap_or(self.alert.started_at);
        let noticed_at = Some(self.alert.noticed_at).filter(|at| *at <= self.now).unwrap_or(fired_at);
        let until = fired_at.max(noticed_at).plus(self.receiver.after);
        (until > self.now).then_some(Suppressed::After { until })
    }

    /// What suppresses everything but a resolve: routing, inhibition, silences and quiet hours, in this order.
    fn suppression(&self) -> Option<Suppressed> {
        let (alert, receiver) = (self.alert, self.receiver);
        if let Some(suppressed) = exclusion(receiver, alert) {
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

    /// The rule whose alert inhibits it for this receiver.
    fn inhibited_by(&self) -> Option<&Arc<str>> {
        self.alert.inhibited_by.as_ref().filter(|_| self.is_inhibited)
    }

    /// Set while it is acknowledged at its level or a higher one.
    fn acknowledged(&self) -> Option<Suppressed> {
        let ack = self.alert.ack.as_ref().filter(|ack| self.alert.level <= ack.level)?;
        Some(Suppressed::Acknowledged { by: ack.by.clone() })
    }

    /// Set while the cooldown since the last firing notification has not passed.
    fn cooldown(&self, state: &ReceiverState) -> Option<NotifyDecision> {
        let until = state.firing_at?.plus(self.policy.cooldown);
        (until > self.now).then_some(NotifyDecision::Suppress(Suppressed::Cooldown { until }))
    }
}
