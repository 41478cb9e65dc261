//! Telling: every receiver is held against an alert, what is decided is noted, and it is known when to look again.

use std::sync::Arc;
use std::time::Duration;

use super::decide::{Case, Verdict, not_for};
use super::flap::settles_at;
use super::{Alerts, Effects, decision};
use crate::model::{
    Alert, AlertState, Audience, Fingerprint, Incident, Level, Notice, NoticeKind, ReceiverPolicy, ReceiverState,
    Reference, Suppressed, Time, TimelineEvent, Worst,
};

/// So many alerts may explain one another in a row: a source, agents down, one of them down, its silence.
const LONGEST_CHAIN: usize = 4;

/// How a receiver stands to an alert now.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its name.
    pub receiver: Arc<str>,
    /// The level that it was told; `None` when it holds that nothing is wrong.
    pub told: Option<Level>,
    /// Why it is not told anything now; `None` when nothing is owed.
    pub suppressed: Option<Suppressed>,
}

impl Alerts {
    /// Tells every receiver what it is owed of the alert in `slot`, and schedules the next look at it.
    pub(super) fn tell(&mut self, now: Time, slot: u32, effects: &mut Effects) {
        let silence = self.entry(slot).and_then(|entry| self.silence_of(now, &entry.alert)).cloned();
        let is_explained = self.explained_to(slot);
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let policy = Arc::clone(&entry.policy);
        let alert = &mut entry.alert;
        let mut due = alert.next_turn(&policy);
        let mut sooner = |at: Time| due = Some(due.map_or(at, |due| due.min(at)));
        if alert.state != AlertState::Pending {
            let incident = self.incidents.of(&alert.rule);
            let mut changed = Vec::new();
            for (place, receiver) in self.receivers.iter().enumerate() {
                let is_explained = is_explained.get(place).is_some_and(|is_explained| *is_explained);
                let known = alert.receivers.get(&receiver.name);
                let mut told = known.cloned().unwrap_or_default();
                let case = Case {
                    now,
                    alert,
                    policy: &policy,
                    receiver,
                    silence: silence.as_ref(),
                    is_explained,
                    incident,
                    is_paused: self.is_paused,
                };
                match case.verdict(&mut told) {
                    Verdict::Nothing => told.suppressed = None,
                    Verdict::Suppress(suppressed) => {
                        suppressed.until().into_iter().for_each(&mut sooner);
                        if suppressed == Suppressed::SendResolved {
                            told.level = None;
                        }
                        let is_news = told.suppressed.as_ref() != Some(&suppressed);
                        if is_news && !matches!(suppressed, Suppressed::AlreadyNotified { .. }) {
                            effects.suppress(suppressed.as_str());
                            let event = TimelineEvent::Suppressed {
                                receiver: receiver.name.clone(),
                                suppressed: suppressed.clone(),
                            };
                            self.decisions.push(decision(now, alert, &policy, event));
                        }
                        told.suppressed = Some(suppressed)
                            .filter(|suppressed| !matches!(suppressed, Suppressed::AlreadyNotified { .. }));
                    }
                    Verdict::Notify(kind, level, now_at, why) => {
                        let previous = told.level;
                        // What was told as part of an incident ends as part of it, though it broke up with that.
                        let ends = told.folded && kind == NoticeKind::Resolved;
                        let incident = incident.or_else(|| ends.then(|| self.incidents.extent(&alert.rule)));
                        let incident = incident.filter(|_| receiver.audience == Audience::People);
                        told.take(now, kind, level, incident.is_some());
                        if kind.is_firing()
                            && let Some(repeat) = policy.repeat.filter(|_| level > Level::Info)
                        {
                            sooner(now.plus(repeat));
                        }
                        let notice = ReceiverState::notice(&told, now, alert, receiver, incident);
                        let resolved_at = if now_at.is_some() { Some(now) } else { notice.resolved_at };
                        let notice = Notice { kind, level, previous, now_at, resolved_at, ..notice };
                        let notice = if kind == NoticeKind::Resolved { with_worst(notice, alert) } else { notice };
                        let event = TimelineEvent::Notified {
                            receiver: receiver.name.clone(),
                            kind,
                            why,
                            key: notice.key.clone(),
                            incident: incident.map(|incident| incident.firing),
                        };
                        self.decisions.push(decision(now, alert, &policy, event));
                        effects.notices.push(notice);
                        if kind == NoticeKind::Resolved {
                            told.reference = None;
                        }
                    }
                }
                if known.cloned().unwrap_or_default() != told {
                    changed.push((Arc::clone(&receiver.name), told));
                }
            }
            entry.dirty |= !changed.is_empty();
            alert.receivers.extend(changed);
            // A receiver that is gone can't be told, and is owed nothing. If it comes back while the alert lasts it is
            // told anew, by other keys than before.
            for (name, told) in &mut alert.receivers {
                if !self.receivers.iter().any(|receiver| receiver.name == *name) {
                    *told = ReceiverState { sequence: told.sequence, ..ReceiverState::default() };
                }
            }
        }
        if alert.state == AlertState::Resolved {
            if std::mem::take(&mut entry.closing) {
                effects.closed.push(alert.clone());
            }
            if Self::is_settled(alert, &policy, now) {
                effects.forgotten.push(alert.fingerprint);
                self.remove(slot);
                return;
            }
            let cooling = alert.receivers.values().filter_map(|told| told.firing_at).map(|at| at.plus(policy.cooldown));
            let calm = Self::flips_forgotten_at(alert, &policy);
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

    /// By receiver, whether it is told of what explains the alert in `slot`, or explains that; empty when nothing does.
    fn explained_to(&self, slot: u32) -> Vec<bool> {
        let mut explained = Vec::new();
        let mut next = self.entry(slot).and_then(|entry| entry.explainer);
        for _ in 0..LONGEST_CHAIN {
            let Some(explainer) = next.and_then(|slot| self.entry(slot)) else { break };
            explained.resize(self.receivers.len(), false);
            for (is_explained, receiver) in explained.iter_mut().zip(&self.receivers) {
                *is_explained |= not_for(receiver, &explainer.alert).is_none();
            }
            next = explainer.explainer;
        }
        explained
    }

    /// How each receiver stands to the alert of that fingerprint.
    pub fn standings(&self, now: Time, fingerprint: Fingerprint) -> Option<(&Alert, Vec<Standing>)> {
        let entry = self.entry(*self.by_fingerprint.get(&fingerprint)?)?;
        let (alert, silence) = (&entry.alert, self.silence_of(now, &entry.alert));
        let incident = self.incidents.of(&alert.rule);
        let is_explained =
            self.by_fingerprint.get(&fingerprint).map(|slot| self.explained_to(*slot)).unwrap_or_default();
        let standings = self.receivers.iter().enumerate().map(|(place, receiver)| {
            let is_explained = is_explained.get(place).is_some_and(|is_explained| *is_explained);
            let mut told = alert.receivers.get(&receiver.name).cloned().unwrap_or_default();
            let policy = &entry.policy;
            let is_paused = self.is_paused;
            let case = Case { now, alert, policy, receiver, silence, is_explained, incident, is_paused };
            let is_pending = alert.state == AlertState::Pending;
            let suppressed = match if is_pending { Verdict::Nothing } else { case.verdict(&mut told) } {
                Verdict::Suppress(suppressed) => Some(suppressed),
                Verdict::Nothing | Verdict::Notify(..) => None,
            };
            Standing { receiver: Arc::clone(&receiver.name), told: told.level, suppressed }
        });
        Some((alert, standings.collect()))
    }

    /// What a receiver holds to be firing, as notices that say it again; for one that forgets what it is not reminded of.
    pub fn standing_of(&self, now: Time, receiver: &str) -> Vec<Notice> {
        let Some(receiver) = self.receivers.iter().find(|known| *known.name == *receiver) else { return Vec::new() };
        let told = self.entries.iter().flatten().filter_map(|entry| {
            let told = entry.alert.receivers.get(&receiver.name)?;
            let level = told.level?;
            let notice = ReceiverState::notice(told, now, &entry.alert, receiver, None);
            Some(Notice { kind: NoticeKind::Repeat, level, previous: Some(level), ..notice })
        });
        told.collect()
    }

    /// Notes what the receiver calls the message that it was told of an alert with; of a former life it is no news.
    pub fn refer(&mut self, reference: &Reference, receiver: &str) {
        let Some(slot) = self.by_fingerprint.get(&reference.fingerprint).copied() else { return };
        let Some(entry) = self.entry_mut(slot).filter(|entry| entry.alert.incident() == reference.incident) else {
            return;
        };
        if let Some(told) = entry.alert.receivers.get_mut(receiver).filter(|told| told.level.is_some())
            && told.reference.as_ref() != Some(&reference.name)
        {
            told.reference = Some(Arc::clone(&reference.name));
            entry.dirty = true;
            self.touch(slot);
        }
    }
}

/// A resolve says how bad it was, not how it was on its way to being well.
fn with_worst(notice: Notice, alert: &Alert) -> Notice {
    match alert.worst {
        Some(Worst { level, value, threshold }) => Notice { peak: Some(level), value, threshold, ..notice },
        None => notice,
    }
}

impl Alert {
    /// When it fires, is over or has settled by itself.
    fn next_turn(&self, policy: &crate::model::RulePolicy) -> Option<Time> {
        let turn = match self.state {
            AlertState::Pending => Some(self.started_at.plus(policy.hold)),
            AlertState::Firing => self.clearing_since.map(|since| since.plus(policy.clear_after)),
            AlertState::Resolved => None,
        };
        [turn, settles_at(self, policy)].into_iter().flatten().min()
    }
}

impl ReceiverState {
    /// Notes that the receiver is told.
    fn take(&mut self, now: Time, kind: NoticeKind, level: Level, is_folded: bool) {
        self.sequence += 1;
        (self.lowered_since, self.suppressed) = (None, None);
        self.flapping = match kind {
            NoticeKind::Flapping => true,
            NoticeKind::Escalated => self.flapping,
            _ => false,
        };
        if kind.is_firing() {
            (self.level, self.firing_at, self.folded) = (Some(level), Some(now), is_folded);
        } else {
            (self.level, self.folded) = (None, false);
        }
    }

    /// What `receiver` is told of `alert` now; the kind and the levels are the verdict's.
    fn notice(told: &Self, now: Time, alert: &Alert, receiver: &ReceiverPolicy, part_of: Option<Incident>) -> Notice {
        let incident = alert.incident();
        Notice {
            key: told.key(&incident, &receiver.name),
            receiver: Arc::clone(&receiver.name),
            fingerprint: alert.fingerprint,
            incident,
            rule: Arc::clone(&alert.rule),
            subject: alert.subject.clone(),
            agent_type: alert.agent_type.clone(),
            part_of,
            reference: told.reference.clone(),
            kind: NoticeKind::Firing,
            level: alert.level,
            previous: None,
            peak: None,
            now_at: None,
            value: alert.value,
            threshold: alert.threshold,
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
