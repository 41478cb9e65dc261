//! Notifications: decides for each receiver whether it is notified of an alert, records the decision in the receiver's
//! state and in the timeline, and schedules the next evaluation.

use std::sync::Arc;
use std::time::Duration;

use super::decide::{NotifyCase, NotifyDecision, exclusion};
use super::flapping::flapping_ends_at;
use super::{AlertChanges, Alerts, timeline_entry};
use crate::model::{
    Alert, AlertState, Audience, Fingerprint, Incident, Level, MessageReference, Notice, NoticeKind, ReceiverPolicy,
    ReceiverState, Suppressed, Time, TimelineEvent, Unit, Worst,
};

/// The longest chain of inhibition: SourceDown, AgentsDown, AgentDown, AgentStale.
const LONGEST_CHAIN: usize = 4;

/// What a receiver was notified of an alert, and why it is not notified now.
#[derive(Clone, Debug, PartialEq)]
pub struct NotificationStatus {
    /// Its name.
    pub receiver: Arc<str>,
    /// The level that it was last notified of; `None` when that was a resolve, or it was not notified.
    pub notified: Option<Level>,
    /// Why it is not notified now; `None` when nothing is due.
    pub suppressed: Option<Suppressed>,
}

impl Alerts {
    /// Notifies every receiver that is due to be notified of the alert in `slot`, and schedules its next evaluation.
    pub(super) fn notify_receivers(&mut self, now: Time, slot: u32, effects: &mut AlertChanges) {
        let silence = self.entry(slot).and_then(|entry| self.silence_of(now, &entry.alert)).cloned();
        let is_inhibited = self.inhibited_for(slot);
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let policy = Arc::clone(&entry.policy);
        let alert = &mut entry.alert;
        let mut due = alert.next_change(&policy);
        let mut sooner = |at: Time| due = Some(due.map_or(at, |due| due.min(at)));
        if alert.state != AlertState::Pending {
            let incident = self.incidents.of(&alert.rule);
            let mut changed = Vec::new();
            for (place, receiver) in self.receivers.iter().enumerate() {
                let is_inhibited = is_inhibited.get(place).is_some_and(|is_inhibited| *is_inhibited);
                let known = alert.receivers.get(&receiver.name);
                let mut state = known.cloned().unwrap_or_default();
                let case = NotifyCase {
                    now,
                    alert,
                    policy: &policy,
                    receiver,
                    silence: silence.as_ref(),
                    is_inhibited,
                    incident,
                    is_paused: self.is_paused,
                };
                match case.decide(&mut state) {
                    NotifyDecision::Nothing => state.suppressed = None,
                    NotifyDecision::Suppress(suppressed) => {
                        suppressed.until().into_iter().for_each(&mut sooner);
                        if suppressed == Suppressed::SendResolved {
                            state.level = None;
                        }
                        let is_news = state.suppressed.as_ref() != Some(&suppressed);
                        if is_news && !matches!(suppressed, Suppressed::AlreadyNotified { .. }) {
                            effects.suppress(suppressed.as_str());
                            let event = TimelineEvent::Suppressed {
                                receiver: receiver.name.clone(),
                                suppressed: suppressed.clone(),
                            };
                            self.timeline.push(timeline_entry(now, alert, &policy, event));
                        }
                        state.suppressed = Some(suppressed)
                            .filter(|suppressed| !matches!(suppressed, Suppressed::AlreadyNotified { .. }));
                    }
                    NotifyDecision::Notify(kind, level, now_at, why) => {
                        let previous = state.level;
                        // What was notified as part of an incident resolves as part of it, even if the incident ended.
                        let ends = state.in_incident && kind == NoticeKind::Resolved;
                        let incident = incident.or_else(|| ends.then(|| self.incidents.extent(&alert.rule)));
                        let incident = incident.filter(|_| receiver.audience == Audience::People);
                        state.record(now, kind, level, incident.is_some());
                        if kind.is_firing()
                            && let Some(repeat) = policy.repeat.filter(|_| level > Level::Info)
                        {
                            sooner(now.plus(repeat));
                        }
                        let notice = ReceiverState::notice(&state, now, alert, receiver, incident);
                        let resolved_at = if now_at.is_some() { Some(now) } else { notice.resolved_at };
                        let notice = Notice { kind, level, previous, now_at, resolved_at, ..notice };
                        let notice = if kind == NoticeKind::Resolved { with_peak(notice, alert) } else { notice };
                        let event = TimelineEvent::Notified {
                            receiver: receiver.name.clone(),
                            kind,
                            why,
                            key: notice.key.clone(),
                            incident: incident.map(|incident| incident.firing),
                        };
                        self.timeline.push(timeline_entry(now, alert, &policy, event));
                        effects.notices.push(notice);
                        if kind == NoticeKind::Resolved {
                            state.reference = None;
                        }
                    }
                }
                if known.cloned().unwrap_or_default() != state {
                    changed.push((Arc::clone(&receiver.name), state));
                }
            }
            entry.dirty |= !changed.is_empty();
            alert.receivers.extend(changed);
            // Nothing is due to a receiver that was removed. If it is added again while the alert fires, it is notified as
            // if for the first time; the sequence goes on, so that keys differ from those before.
            for (name, state) in &mut alert.receivers {
                if !self.receivers.iter().any(|receiver| receiver.name == *name) {
                    *state = ReceiverState { sequence: state.sequence, ..ReceiverState::default() };
                }
            }
        }
        if alert.state == AlertState::Resolved {
            if std::mem::take(&mut entry.closing) {
                effects.closed.push(alert.clone());
            }
            if Self::is_expired(alert, &policy, now) {
                effects.dropped.push(alert.fingerprint);
                self.remove(slot);
                return;
            }
            let cooling =
                alert.receivers.values().filter_map(|state| state.firing_at).map(|at| at.plus(policy.cooldown));
            let calm = Self::flips_expire_at(alert, &policy);
            let next_incident = alert.noticed_at.plus(Duration::from_millis(1));
            cooling.chain(calm).chain([next_incident]).filter(|at| *at > now).for_each(&mut sooner);
        }
        if std::mem::take(&mut entry.dirty) {
            effects.changed.push(entry.alert.clone());
        }
        self.deadlines.cancel(slot);
        if let Some(due) = due {
            self.deadlines.schedule(slot, due);
        }
    }

    /// By receiver, whether it is notified of the alert that inhibits the one in `slot`, or of one further up the chain of
    /// inhibition; empty when nothing inhibits it.
    fn inhibited_for(&self, slot: u32) -> Vec<bool> {
        let mut inhibited = Vec::new();
        let mut next = self.entry(slot).and_then(|entry| entry.inhibitor);
        for _ in 0..LONGEST_CHAIN {
            let Some(inhibitor) = next.and_then(|slot| self.entry(slot)) else { break };
            inhibited.resize(self.receivers.len(), false);
            for (is_inhibited, receiver) in inhibited.iter_mut().zip(&self.receivers) {
                *is_inhibited |= exclusion(receiver, &inhibitor.alert).is_none();
            }
            next = inhibitor.inhibitor;
        }
        inhibited
    }

    /// For each receiver, what it was notified of the alert with that fingerprint, and why it is not notified now.
    pub fn notification_statuses(
        &self,
        now: Time,
        fingerprint: Fingerprint,
    ) -> Option<(&Alert, Vec<NotificationStatus>)> {
        let entry = self.entry(*self.by_fingerprint.get(&fingerprint)?)?;
        let (alert, silence) = (&entry.alert, self.silence_of(now, &entry.alert));
        let incident = self.incidents.of(&alert.rule);
        let is_inhibited =
            self.by_fingerprint.get(&fingerprint).map(|slot| self.inhibited_for(*slot)).unwrap_or_default();
        let notification_statuses = self.receivers.iter().enumerate().map(|(place, receiver)| {
            let is_inhibited = is_inhibited.get(place).is_some_and(|is_inhibited| *is_inhibited);
            let mut state = alert.receivers.get(&receiver.name).cloned().unwrap_or_default();
            let policy = &entry.policy;
            let is_paused = self.is_paused;
            let case = NotifyCase { now, alert, policy, receiver, silence, is_inhibited, incident, is_paused };
            let is_pending = alert.state == AlertState::Pending;
            let suppressed = match if is_pending { NotifyDecision::Nothing } else { case.decide(&mut state) } {
                NotifyDecision::Suppress(suppressed) => Some(suppressed),
                NotifyDecision::Nothing | NotifyDecision::Notify(..) => None,
            };
            NotificationStatus { receiver: Arc::clone(&receiver.name), notified: state.level, suppressed }
        });
        Some((alert, notification_statuses.collect()))
    }

    /// All that `receiver` was notified of as firing, as repeat notices: Alertmanager resolves what is not sent again.
    pub fn firing_for(&self, now: Time, receiver: &str) -> Vec<Notice> {
        let Some(receiver) = self.receivers.iter().find(|known| *known.name == *receiver) else { return Vec::new() };
        let state = self.entries.iter().flatten().filter_map(|entry| {
            let state = entry.alert.receivers.get(&receiver.name)?;
            let level = state.level?;
            let notice = ReceiverState::notice(state, now, &entry.alert, receiver, None);
            Some(Notice { kind: NoticeKind::Repeat, level, previous: Some(level), ..notice })
        });
        state.collect()
    }

    /// Records the receiver's id of the message about an alert, so that later ones can edit it; ignored for an alert that
    /// has been resolved and fired again since.
    pub fn refer(&mut self, reference: &MessageReference, receiver: &str) {
        let Some(slot) = self.by_fingerprint.get(&reference.fingerprint).copied() else { return };
        let Some(entry) = self.entry_mut(slot).filter(|entry| entry.alert.incident() == reference.incident) else {
            return;
        };
        if let Some(state) = entry.alert.receivers.get_mut(receiver).filter(|state| state.level.is_some())
            && state.reference.as_ref() != Some(&reference.name)
        {
            state.reference = Some(Arc::clone(&reference.name));
            entry.dirty = true;
            self.touch(slot);
        }
    }
}

/// A resolve carries the value and threshold of the peak, not the last ones.
fn with_peak(notice: Notice, alert: &Alert) -> Notice {
    match alert.worst {
        Some(Worst { level, value, threshold }) => Notice { peak: Some(level), value, threshold, ..notice },
        None => notice,
    }
}

impl Alert {
    /// When time alone fires it, resolves it or ends its flapping.
    fn next_change(&self, policy: &crate::model::RulePolicy) -> Option<Time> {
        let turn = match self.state {
            AlertState::Pending => Some(self.started_at.plus(policy.hold)),
            AlertState::Firing => self.clearing_since.map(|since| since.plus(policy.clear_after)),
            AlertState::Resolved => None,
        };
        [turn, flapping_ends_at(self, policy)].into_iter().flatten().min()
    }
}

impl ReceiverState {
    /// Records a notification.
    fn record(&mut self, now: Time, kind: NoticeKind, level: Level, in_incident: bool) {
        self.sequence += 1;
        (self.deescalated_since, self.suppressed) = (None, None);
        self.flapping = match kind {
            NoticeKind::Flapping => true,
            NoticeKind::Escalated => self.flapping,
            _ => false,
        };
        if kind.is_firing() {
            (self.level, self.firing_at, self.in_incident) = (Some(level), Some(now), in_incident);
        } else {
            (self.level, self.in_incident) = (None, false);
        }
    }

    /// A notice of `alert` for `receiver`; the caller sets kind and levels.
    fn notice(state: &Self, now: Time, alert: &Alert, receiver: &ReceiverPolicy, part_of: Option<Incident>) -> Notice {
        let incident = alert.incident();
        Notice {
            key: state.key(&incident, &receiver.name),
            receiver: Arc::clone(&receiver.name),
            fingerprint: alert.fingerprint,
            incident,
            rule: Arc::clone(&alert.rule),
            subject: alert.subject.clone(),
            agent_type: alert.agent_type.clone(),
            part_of,
            reference: state.reference.clone(),
            kind: NoticeKind::Firing,
            level: alert.level,
            previous: None,
            peak: None,
            now_at: None,
            value: alert.value_at(now),
            threshold: alert.threshold,
            unit: Unit::Count,
            message: Arc::from(""),
            action: Arc::from(""),
            started_at: alert.started_at,
            fired_at: alert.fired_at.unwrap_or(alert.started_at),
            resolved_at: if alert.state == AlertState::Firing { None } else { alert.resolved_at },
            ending: alert.ending,
            at: now,
            caused_at: alert.caused_at,
        }
    }
}
