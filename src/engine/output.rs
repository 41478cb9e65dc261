//! What leaves the engine: worded notices, history, saved state, and the picture for readers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::rfc3339;
use super::words::{Said, words};
use super::{AlertFilter, AlertView, Engine, ReceiverView, View};
use crate::alerts::{Alerts, Effects};
use crate::fleet::Fleet;
use crate::model::{AgentWindows, Alert, AlertState, Changes, Counting, Notice, Snapshot, Subject, Time, Wall};
use crate::notify::Dispatcher;
use crate::rules::Rules;
use crate::store::{ClosedAlert, Save};

/// What changed since the last save.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    agents: Slots,
    components: Slots,
    projects: Slots,
    sources: bool,
    removed_agents: Vec<(Arc<str>, Arc<str>)>,
    removed_components: Vec<(Arc<str>, Arc<str>)>,
    counting: Counting,
    /// By (project, name), windows of agents.
    windows: BTreeMap<(Arc<str>, Arc<str>), AgentWindows>,
}

/// A set of slots that costs one bit each and is emptied in the time of its members.
#[derive(Debug, Default)]
struct Slots {
    members: Vec<u32>,
    is_in: Vec<bool>,
}

impl Slots {
    fn insert(&mut self, slot: u32) {
        let place = slot as usize;
        if place >= self.is_in.len() {
            self.is_in.resize(place + 1, false);
        }
        if let Some(is_in) = self.is_in.get_mut(place)
            && !std::mem::replace(is_in, true)
        {
            self.members.push(slot);
        }
    }

    fn take(&mut self) -> Vec<u32> {
        for slot in &self.members {
            if let Some(is_in) = self.is_in.get_mut(*slot as usize) {
                *is_in = false;
            }
        }
        std::mem::take(&mut self.members)
    }
}

impl Unsaved {
    /// Notes what `changes` names.
    pub(super) fn note(&mut self, changes: &Changes) {
        changes.agents.iter().for_each(|slot| self.agents.insert(*slot));
        changes.components.iter().for_each(|slot| self.components.insert(*slot));
        changes.projects.iter().for_each(|slot| self.projects.insert(*slot));
        self.sources |= !changes.sources.is_empty();
        let name = |removed: &crate::model::Removed| (Arc::clone(&removed.project), Arc::clone(&removed.name));
        for removed in &changes.removed_agents {
            self.windows.remove(&name(removed));
            self.removed_agents.push(name(removed));
        }
        self.removed_components.extend(changes.removed_components.iter().map(name));
    }

    /// Notes all that is there.
    fn note_all(&mut self, state: &Snapshot) {
        state.agents.iter().for_each(|agent| self.agents.insert(agent.slot));
        state.components.iter().for_each(|component| self.components.insert(component.slot));
        (0..u32::try_from(state.projects.len()).unwrap_or(u32::MAX)).for_each(|place| self.projects.insert(place));
    }

    /// Notes what counting telemetry has remembered.
    pub(super) fn remember(&mut self, counting: Counting) {
        self.counting.merge(counting);
    }

    fn is_empty(&self) -> bool {
        self.agents.members.is_empty()
            && self.components.members.is_empty()
            && self.projects.members.is_empty()
            && self.removed_agents.is_empty()
            && self.removed_components.is_empty()
            && self.counting.is_empty()
            && self.windows.is_empty()
            && !self.sources
    }
}

/// `notices` with what a person is told filled in; receivers of one alert are told the same words.
pub(super) fn worded(
    now: Time,
    rules: &Rules,
    fleet: &Fleet,
    notices: impl Iterator<Item = Notice>,
) -> Vec<Arc<Notice>> {
    let mut worded: Vec<Arc<Notice>> = Vec::with_capacity(notices.size_hint().0);
    let mut last: Option<(crate::model::Fingerprint, Arc<str>, Arc<str>)> = None;
    for mut notice in notices {
        if !notice.kind.is_of_alert() {
            worded.push(Arc::new(notice));
            continue;
        }
        let (message, action) = match last.take() {
            Some((fingerprint, message, action)) if fingerprint == notice.fingerprint => (message, action),
            _ => {
                let (message, action) = words(now, rules, fleet, &notice.rule, &Said::from(&notice));
                (Arc::from(message), Arc::from(action))
            }
        };
        last = Some((notice.fingerprint, Arc::clone(&message), Arc::clone(&action)));
        (notice.message, notice.action) = (message, action);
        worded.push(Arc::new(notice));
    }
    worded
}

/// The alerts that `filter` covers and that are not over, worst first, then newest first.
pub(super) fn listed(now: Time, alerts: &Alerts, rules: &Rules, fleet: &Fleet, filter: &AlertFilter) -> Vec<AlertView> {
    let mut found: Vec<&Alert> = alerts.open().filter(|alert| filter.covers(alert)).collect();
    found.sort_unstable_by_key(|alert| {
        (std::cmp::Reverse(alert.level), std::cmp::Reverse(alert.started_at), alert.fingerprint)
    });
    found.truncate(filter.limit);
    found.into_iter().map(|alert| alert_view(now, alerts, rules, fleet, alert)).collect()
}

fn alert_view(now: Time, alerts: &Alerts, rules: &Rules, fleet: &Fleet, alert: &Alert) -> AlertView {
    let (message, action) = words(now, rules, fleet, &alert.rule, &Said::from(alert));
    let silence = alerts.silence_of(now, alert).map(|silence| silence.id.to_string());
    AlertView { silenced_by: silence, ..AlertView::of(&fleet.state().wall, alert, message, action) }
}

impl Engine {
    /// Words the notices, hands everything on to ledger and history, and counts.
    pub(super) fn take_effects(&mut self, now: Time, mut effects: Effects) {
        if effects.is_empty() {
            return;
        }
        self.store.history.decide(std::mem::take(&mut effects.decisions));
        for announcement in effects.announcements.drain(..) {
            tracing::warn!(announcement = &*announcement, "announced to the receivers");
        }
        for (reason, count) in effects.suppressed.drain(..) {
            self.own.suppressed(reason, count);
        }
        let worded = worded(now, &self.rules, &self.fleet, effects.notices.drain(..));
        for alert in &effects.changed {
            if alert.state == AlertState::Firing && alert.changed_at == now && self.receivers.is_empty() {
                let (summary, _) = words(now, &self.rules, &self.fleet, &alert.rule, &Said::from(alert));
                tracing::warn!(
                    rule = &*alert.rule,
                    alert_level = alert.level.as_str(),
                    subject = &**alert.subject.name(),
                    summary,
                    "alert firing"
                );
            }
        }
        for alert in effects.closed.drain(..) {
            let (message, action) = words(now, &self.rules, &self.fleet, &alert.rule, &Said::from(&alert));
            if self.receivers.is_empty() {
                tracing::info!(rule = &*alert.rule, subject = &**alert.subject.name(), "alert resolved");
            }
            self.store.history.close_alert(ClosedAlert { alert, message: message.into(), action: action.into() });
        }
        self.committer.take(&mut effects, worded, self.alerts.counts());
    }

    /// Whether all that changed was handed to the store.
    pub(super) fn is_saved(&self) -> bool {
        self.unsaved.is_empty()
    }

    /// Hands what changed in the last second to the store; keeps it when the store still has its hands full.
    pub(super) fn save(&mut self, now: Time) {
        let usage_ids = self.fleet.take_usage_ids();
        for (slot, windows) in self.rules.take_windows() {
            if let Some(agent) = self.fleet.state().agents.get(slot) {
                self.unsaved.windows.insert((Arc::clone(&agent.project), Arc::clone(&agent.name)), windows);
            }
        }
        if self.unsaved.is_empty() && usage_ids.is_empty() {
            return;
        }
        let save = Save {
            snapshot: self.fleet.snapshot(now),
            agents: self.unsaved.agents.take(),
            components: self.unsaved.components.take(),
            projects: self.unsaved.projects.take(),
            removed_agents: std::mem::take(&mut self.unsaved.removed_agents),
            removed_components: std::mem::take(&mut self.unsaved.removed_components),
            usage_ids,
            usage_through: self.usage_seq,
            counting: std::mem::take(&mut self.unsaved.counting),
            windows: std::mem::take(&mut self.unsaved.windows),
        };
        self.unsaved.sources = false;
        if let Err(save) = self.store.history.save(save) {
            self.unsaved.sources = true;
            save.agents.iter().for_each(|slot| self.unsaved.agents.insert(*slot));
            save.components.iter().for_each(|slot| self.unsaved.components.insert(*slot));
            save.projects.iter().for_each(|slot| self.unsaved.projects.insert(*slot));
            self.unsaved.removed_agents = save.removed_agents;
            self.unsaved.removed_components = save.removed_components;
            self.unsaved.counting = save.counting;
            self.unsaved.windows = save.windows;
            self.fleet.return_usage_ids(save.usage_ids);
        }
    }

    /// Hands everything to the store again of which a file was lost.
    pub(super) fn save_lost(&mut self) {
        if self.store.history.take_lost() {
            self.unsaved.note_all(self.fleet.state());
        }
        if self.store.ledger.take_lost() {
            self.committer.take_all(self.alerts.all(), self.alerts.silences());
        }
    }

    /// The picture for readers.
    pub(super) fn view(&mut self, now: Time) -> View {
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let place = |name: &Arc<str>| self.receivers.iter().position(|known| known == name);
        let deferred: BTreeMap<Arc<str>, usize> =
            self.alerts.deferred().map(|(receiver, count)| (Arc::clone(receiver), count)).collect();
        let mut receivers: Vec<ReceiverView> = statuses
            .into_iter()
            .map(|(name, status)| {
                let status = status.borrow();
                ReceiverView {
                    name: Arc::clone(&name),
                    pending: status.pending + deferred.get(&name).copied().unwrap_or_default(),
                    oldest_age_seconds: status.oldest.map_or(0.0, |oldest| now.seconds_since(oldest)),
                    last_error: status.last_error.clone(),
                }
            })
            .collect();
        receivers.sort_unstable_by_key(|receiver| place(&receiver.name));
        View {
            fleet: self.fleet.snapshot(now),
            alerts: self.alerts.counts().clone(),
            receivers,
            lag_seconds: self.lag.as_secs_f64(),
            store_ok: self.committer.is_ok() && self.store.history.is_ok(),
        }
    }

    /// The alerts that are not over, worst first, then newest first.
    pub(super) fn list(&self, now: Time, filter: &AlertFilter) -> Vec<AlertView> {
        listed(now, &self.alerts, &self.rules, &self.fleet, filter)
    }

    /// `alert` as readers see it at `now`.
    pub(super) fn alert_view(&self, now: Time, alert: &Alert) -> AlertView {
        alert_view(now, &self.alerts, &self.rules, &self.fleet, alert)
    }
}

impl AlertFilter {
    /// Whether a reader wants `alert`.
    pub fn covers(&self, alert: &Alert) -> bool {
        let is_agent =
            |name: &String| matches!(&alert.subject, Subject::Agent { name: agent, .. } if **agent == **name);
        self.level.is_none_or(|level| alert.level == level)
            && self.state.as_ref().is_none_or(|state| alert.state.as_str() == state)
            && self.rule.as_ref().is_none_or(|rule| *alert.rule == **rule)
            && self.agent.as_ref().is_none_or(is_agent)
    }
}

impl AlertView {
    /// `alert` as readers see it, in these words and with the wall clock's times.
    pub fn of(wall: &Wall, alert: &Alert, message: String, action: String) -> Self {
        let named = |label: &str| (alert.subject.label() == label).then(|| Arc::clone(alert.subject.name()));
        Self {
            fingerprint: alert.fingerprint,
            rule: Arc::clone(&alert.rule),
            level: alert.level,
            state: alert.state,
            project: alert.subject.project().cloned(),
            agent_name: named("agent_name"),
            component: named("component"),
            source: named("source"),
            receiver: named("receiver"),
            sidecar: named("sidecar"),
            value: alert.value,
            threshold: alert.threshold,
            message,
            action,
            started_at: wall.show(alert.started_at).to_string(),
            fired_at: rfc3339(alert.fired_at.map(|at| wall.show(at))),
            resolved_at: rfc3339(alert.resolved_at.map(|at| wall.show(at))),
            timestamp: wall.show(alert.changed_at).as_secs_f64(),
            resolved: alert.state == AlertState::Resolved,
            no_data: alert.no_data,
            explained_by: alert.explained_by.clone(),
            acked_by: alert.ack.as_ref().map(|ack| ack.by.to_string()),
            silenced_by: None,
        }
    }
}
