//! The sidecar's own health, as rules read it: failing receivers, undelivered and dead-lettered alerts, evaluation lag, a
//! store that is not writable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use crate::model::sidecar_part::{ReceiverHealth, SidecarHealth, SidecarPart};
use crate::model::{Alert, AlertState, DeliveryOutcome, Retry, SendError, Subject, Time};
use crate::rules::{Indicator, Rules};

/// A lag below this is reported as 0, so that normal jitter changes no reading.
const LATE: Duration = Duration::from_secs(1);

/// The sidecar's health at one moment, as the engine sees it.
#[derive(Clone, Debug)]
pub struct SidecarObservation {
    /// Whether the store can be written.
    pub store_ok: bool,
    /// How late the last deadline was served.
    pub lag: Duration,
    /// By receiver, since when its oldest notification is pending.
    pub oldest: BTreeMap<Arc<str>, Option<Time>>,
    /// Since when the oldest batch waits to be exported, and for which target, with its last error.
    pub waiting: Option<(Time, Arc<str>)>,
}

impl Default for SidecarObservation {
    fn default() -> Self {
        Self { store_ok: true, lag: Duration::ZERO, oldest: BTreeMap::new(), waiting: None }
    }
}

/// What is known of receivers and store.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    receivers: BTreeMap<Arc<str>, Delivery>,
    /// Since when the store can't be written.
    store_failing: Option<Time>,
    observed: SidecarObservation,
}

/// The state of deliveries to a receiver.
#[derive(Clone, Debug, Default)]
struct Delivery {
    /// Since when every attempt has failed.
    failing: Option<Time>,
    /// Alerts that were dead-lettered since the last successful delivery.
    dead_lettered: u32,
    /// Why the last attempt failed, in words.
    error: Option<Arc<str>>,
}

impl Sidecar {
    /// Restores the state of deliveries from open alerts about them; downtime does not count as failing.
    pub(super) fn restore(&mut self, now: Time, rules: &Rules, alerts: &[Alert]) {
        for alert in alerts.iter().filter(|alert| alert.state != AlertState::Resolved) {
            let (Subject::Receiver { name }, Some(value)) = (&alert.subject, alert.value) else { continue };
            let delivery = self.receivers.entry(Arc::clone(name)).or_default();
            match rules.indicator(&alert.rule) {
                Some(Indicator::ReceiverFailingSeconds) => {
                    delivery.failing = Some(now.minus(Duration::try_from_secs_f64(value).unwrap_or_default()));
                }
                Some(Indicator::DeadLettered) => delivery.dead_lettered = value as u32,
                _ => {}
            }
        }
    }

    /// Records a delivery. With a permanent `partial` failure its notices count as dead-lettered: a recipient or instance
    /// rejected them.
    pub(super) fn delivered(&mut self, outcome: &DeliveryOutcome, partial: Option<&SendError>) {
        match partial {
            Some(error) if error.retry == Retry::Never => {
                self.receivers.entry(Arc::clone(&outcome.receiver)).or_default().failing = None;
                self.dead_lettered(&outcome.receiver, outcome.notices.len(), Some(error));
            }
            _ => drop(self.receivers.remove(&outcome.receiver)),
        }
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&mut self, now: Time, receiver: &Arc<str>, error: &SendError) {
        let delivery = self.receivers.entry(Arc::clone(receiver)).or_default();
        delivery.failing.get_or_insert(now);
        delivery.error = Some(Arc::from(&*error.message));
    }

    /// Notes that so many alerts were dead-lettered.
    pub(super) fn dead_lettered(&mut self, receiver: &Arc<str>, count: usize, error: Option<&SendError>) {
        let delivery = self.receivers.entry(Arc::clone(receiver)).or_default();
        delivery.dead_lettered = delivery.dead_lettered.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        delivery.error = error.map(|error| Arc::from(&*error.message)).or_else(|| delivery.error.take());
    }

    /// The target that the oldest batch waits for, with its last error.
    pub(super) fn waiting_for(&self) -> Option<&str> {
        self.observed.waiting.as_ref().map(|(_, target)| &**target)
    }

    /// Why the last attempt to send to `receiver` failed, if it did.
    pub(super) fn last_error(&self, receiver: &str) -> Option<&str> {
        self.receivers.get(receiver)?.error.as_deref()
    }
}

impl Machine {
    /// Records an observation, for rules to read.
    pub(super) fn observe(&mut self, now: Time, observed: &SidecarObservation) {
        self.sidecar.observed = observed.clone();
        self.refresh_sidecar(now);
    }

    /// Updates what rules read, for the receivers that are configured now.
    pub(super) fn refresh_sidecar(&mut self, now: Time) {
        let Sidecar { receivers, store_failing, observed } = &mut self.sidecar;
        *store_failing = if observed.store_ok { None } else { store_failing.or(Some(now)) };
        let lag = if observed.lag < LATE { 0.0 } else { observed.lag.as_secs_f64().floor() };
        let sidecar = SidecarPart::Sidecar(SidecarHealth {
            name: Arc::from("lookout"),
            lag_seconds: lag,
            store_failing_since: *store_failing,
            export_waiting_since: observed.waiting.as_ref().map(|(since, _)| *since),
        });
        receivers.retain(|name, _| self.receivers.contains(name));
        let receivers = self.receivers.iter().map(|name| {
            let delivery = receivers.get(name).cloned().unwrap_or_default();
            SidecarPart::Receiver(ReceiverHealth {
                name: Arc::clone(name),
                oldest_undelivered: observed.oldest.get(name).copied().flatten(),
                failing_since: delivery.failing,
                dead_lettered: delivery.dead_lettered,
            })
        });
        let watched = std::iter::once(sidecar).chain(receivers).map(Arc::new).collect();
        self.fleet.set_sidecar_parts(watched);
    }
}
