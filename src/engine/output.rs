//! The engine's outputs: notices, history, saved state, and the view for readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{Engine, ReceiverView, View};
use crate::machine::AlertEffects;
use crate::model::{AgentStatus, AlertState, Notice, Snapshot, Subject, Time};
use crate::notify::Dispatcher;
use crate::runs::registry::Registration;
use crate::store::FleetSave;

impl Engine {
    /// Hands changes of alerts to ledger and history, counts and logs them.
    pub(super) fn release_alerts(&mut self, effects: AlertEffects) {
        let AlertEffects { mut ledger, notices, closed, without_receiver } = effects;
        self.live.alerts(&ledger.changed, ledger.silences_changed);
        self.store.history.record_decisions(std::mem::take(&mut ledger.timeline));
        for announcement in ledger.announcements.drain(..) {
            tracing::warn!(announcement = &*announcement, "announced to the receivers");
        }
        for (reason, count) in ledger.suppressed.drain(..) {
            self.own.suppressed(reason, count);
        }
        for firing in without_receiver {
            let alert = &firing.alert;
            tracing::warn!(
                rule = &*alert.rule,
                alert_level = alert.level.as_str(),
                subject = &**alert.subject.name(),
                summary = &*firing.message,
                "alert firing"
            );
        }
        let has_no_receiver = self.machine.receivers().is_empty();
        for closed in closed {
            if has_no_receiver {
                let alert = &closed.alert;
                tracing::info!(rule = &*alert.rule, subject = &**alert.subject.name(), "alert resolved");
            }
            self.store.history.close_alert(closed);
        }
        self.committer.take(&mut ledger, notices, self.machine.alerts().counts());
    }

    /// Hands notices to their receivers.
    pub(super) fn dispatch(&self, notices: Vec<Arc<Notice>>) {
        if let Some(dispatcher) = self.dispatcher.as_ref().filter(|_| !notices.is_empty()) {
            dispatcher.dispatch(notices);
        }
    }

    /// Hands changes of the fleet to the store, unless it still writes the last ones.
    pub(super) fn save(&mut self, now: Time) {
        if self.machine.is_saved() {
            return;
        }
        let Some(slot) = self.store.history.save_slot() else { return };
        let snapshot = self.machine.snapshot(now);
        let changes = self.machine.take_unsaved();
        self.register_agents(&snapshot, &changes.agents);
        let save = FleetSave {
            snapshot,
            agents: changes.agents,
            components: changes.components,
            projects: changes.projects,
            removed_agents: changes.removed_agents,
            removed_components: changes.removed_components,
            usage_ids: changes.usage_ids,
            usage_through: self.usage_seq,
            counting: changes.counting,
            windows: changes.windows,
        };
        self.store.history.save(slot, save);
    }

    /// Registers agents that changed, and has the runs of agents that ended abandoned.
    fn register_agents(&self, snapshot: &Snapshot, slots: &[u32]) {
        let agents = slots.iter().filter_map(|slot| snapshot.agents.get(*slot));
        let (mut seen, mut ended) = (Vec::new(), Vec::new());
        for agent in agents {
            let (project, name) = (Arc::clone(&agent.project), Arc::clone(&agent.name));
            if agent.ended || matches!(agent.status, Some(AgentStatus::Failed | AgentStatus::Completed)) {
                ended.push((Arc::clone(&project), Arc::clone(&name)));
            }
            seen.push(Registration {
                project,
                name,
                agent_type: agent.agent_type.clone().unwrap_or_else(|| Arc::from("custom")),
                external_id: None,
                config: None,
                monitoring_enabled: None,
                created_by: Arc::clone(&agent.source),
                new_id: Arc::from(""),
            });
        }
        self.runs.saw(seen);
        self.runs.agents_ended(ended);
        if self.runs.counters().samples.load(Relaxed) {
            let firing = self.machine.alerts().all().filter(|alert| alert.state == AlertState::Firing);
            let alerting = firing.filter_map(|alert| match &alert.subject {
                Subject::Agent { project, name } => Some((Arc::clone(project), Arc::clone(name))),
                _ => None,
            });
            self.runs.alerting(alerting.collect());
        }
    }

    /// Has everything written again to a file of the store that was lost.
    pub(super) fn save_lost(&mut self) {
        if self.store.history.take_lost() {
            self.machine.save_all_again();
        }
        if self.store.ledger.take_lost() {
            let alerts = self.machine.alerts();
            self.committer.take_all(alerts.all(), alerts.silences());
        }
    }

    /// The view for readers.
    pub(super) fn view(&mut self, now: Time) -> View {
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let place = |name: &Arc<str>| self.machine.receivers().iter().position(|known| known == name);
        let deferred: BTreeMap<Arc<str>, usize> =
            self.machine.alerts().deferred().map(|(receiver, count)| (Arc::clone(receiver), count)).collect();
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
            fleet: self.machine.snapshot(now),
            alerts: self.machine.alerts().counts().clone(),
            receivers,
            lag_seconds: self.lag.as_secs_f64(),
            store_ok: self.store_ok(),
        }
    }
}
