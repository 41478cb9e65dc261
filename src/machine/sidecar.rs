//! The sidecar's own state, as rules read it: receivers that fail, alerts that could not be delivered, a late loop, a
//! store that can't be written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use crate::model::sidecar_part::{ReceiverHealth, SidecarHealth, SidecarPart};
use crate::model::{Alert, AlertState, Outcome, Retry, SendError, Subject, Time};
use crate::rules::{Indicator, Rules};

/// A lag below this is how things are; above it evaluation is late.
const LATE: Duration = Duration::from_secs(1);

/// How the program is at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Whether the store can be written.
    pub store_ok: bool,
    /// How late the last deadline was served.
    pub lag: Duration,
    /// By receiver, since when the oldest alert that it was not sent waits.
    pub oldest: BTreeMap<Arc<str>, Option<Time>>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { store_ok: true, lag: Duration::ZERO, oldest: BTreeMap::new() }
    }
}

/// What is remembered of the program's parts.
#[derive(Debug, Default)]
pub(super) struct Sidecar {
    receivers: BTreeMap<Arc<str>, Delivery>,
    /// Since when the store can't be written.
    store_failing: Option<Time>,
    observed: Observed,
}

/// How deliveries to a receiver go.
#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    /// Since when each attempt failed.
    failing: Option<Time>,
    /// Alerts that were dead-lettered since it last took one.
    given_up: u32,
}

impl Sidecar {
    /// Takes over from open alerts how deliveries go: downtime is no time of failing.
    pub(super) fn restore(&mut self, now: Time, rules: &Rules, alerts: &[Alert]) {
        for alert in alerts.iter().filter(|alert| alert.state != AlertState::Resolved) {
            let (Subject::Receiver { name }, Some(value)) = (&alert.subject, alert.value) else { continue };
            let delivery = self.receivers.entry(Arc::clone(name)).or_default();
            match rules.indicator(&alert.rule) {
                Some(Indicator::ReceiverFailingSeconds) => {
                    delivery.failing = Some(now.minus(Duration::try_from_secs_f64(value).unwrap_or_default()));
                }
                Some(Indicator::GivenUp) => delivery.given_up = value as u32,
                _ => {}
            }
        }
    }

    /// Notes that a receiver took a message; what part of it rejected for good is dead-lettered for that part.
    pub(super) fn delivered(&mut self, outcome: &Outcome, partial: Option<&SendError>) {
        match partial {
            Some(error) if error.retry == Retry::Never => {
                self.receivers.entry(Arc::clone(&outcome.receiver)).or_default().failing = None;
                self.gave_up(&outcome.receiver, outcome.notices.len());
            }
            _ => drop(self.receivers.remove(&outcome.receiver)),
        }
    }

    /// Notes that an attempt failed.
    pub(super) fn failed(&mut self, now: Time, receiver: &Arc<str>) {
        self.receivers.entry(Arc::clone(receiver)).or_default().failing.get_or_insert(now);
    }

    /// Notes that so many alerts were dead-lettered.
    pub(super) fn gave_up(&mut self, receiver: &Arc<str>, count: usize) {
        let delivery = self.receivers.entry(Arc::clone(receiver)).or_default();
        delivery.given_up = delivery.given_up.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

impl Machine {
    /// Has rules read how the program is.
    pub(super) fn observe(&mut self, now: Time, observed: &Observed) {
        self.sidecar.observed = observed.clone();
        self.observe_again(now);
    }

    /// The same as last observed, for the receivers that there are now.
    pub(super) fn observe_again(&mut self, now: Time) {
        let Sidecar { receivers, store_failing, observed } = &mut self.sidecar;
        *store_failing = if observed.store_ok { None } else { store_failing.or(Some(now)) };
        let lag = if observed.lag < LATE { 0.0 } else { observed.lag.as_secs_f64().floor() };
        let sidecar = SidecarPart::Sidecar(SidecarHealth {
            name: Arc::from("lookout"),
            lag_seconds: lag,
            store_failing_since: *store_failing,
        });
        receivers.retain(|name, _| self.receivers.contains(name));
        let receivers = self.receivers.iter().map(|name| {
            let delivery = receivers.get(name).copied().unwrap_or_default();
            SidecarPart::Receiver(ReceiverHealth {
                name: Arc::clone(name),
                oldest_undelivered: observed.oldest.get(name).copied().flatten(),
                failing_since: delivery.failing,
                given_up: delivery.given_up,
            })
        });
        let watched = std::iter::once(sidecar).chain(receivers).map(Arc::new).collect();
        self.fleet.set_sidecar_parts(watched);
    }
}
