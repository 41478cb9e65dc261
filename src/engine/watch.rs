//! The watcher watched: receivers that fail, alerts that nobody could be told of, a late engine, a broken store.
//!
//! What is seen here becomes signals like those of an agent, so that rules judge it and other receivers are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::model::watched::{ReceiverHealth, SidecarHealth, Watched};
use crate::model::{Alert, AlertState, Outcome, Retry, SendError, Subject, Time};
use crate::notify::Dispatcher;
use crate::rules::Indicator;

/// How often forgetful receivers are reminded: what Prometheus does with an Alertmanager.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// A lag below this is how things are; above it the engine is late.
const LATE: Duration = Duration::from_secs(1);
/// With this lag alerts are not judged as they should be.
const TOO_LATE: Duration = Duration::from_secs(30);
/// With an alert that is owed for so long, alerts are not told as they should be.
const UNDELIVERED: Duration = Duration::from_secs(300);

/// What is remembered of the parts.
#[derive(Debug, Default)]
pub(super) struct Watch {
    receivers: BTreeMap<Arc<str>, Delivery>,
    /// Writes of history that failed, as far as they are counted.
    history_errors: u64,
    /// Rows that history did not keep, as far as they are counted, by reason.
    history_dropped: [u64; 3],
    /// Since when the store fails.
    store_failing: Option<Time>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    /// Since when each attempt failed.
    failing: Option<Time>,
    /// Alerts given up since it last took one.
    given_up: u32,
}

impl Watch {
    /// Notes that a receiver took a message; what is `amiss` for good is given up for a part of it.
    pub(super) fn took(&mut self, outcome: &Outcome, amiss: Option<&SendError>) {
        match amiss {
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

    /// Notes that so many alerts were given up for good.
    pub(super) fn gave_up(&mut self, receiver: &Arc<str>, count: usize) {
        let delivery = self.receivers.entry(Arc::clone(receiver)).or_default();
        delivery.given_up = delivery.given_up.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

impl Engine {
    /// Takes over from open alerts how it stands with receivers: the time of being down is no time of failing.
    pub(super) fn restore_watch(&mut self, now: Time, alerts: &[Alert]) {
        for alert in alerts.iter().filter(|alert| alert.state != AlertState::Resolved) {
            let (Subject::Receiver { name }, Some(value)) = (&alert.subject, alert.value) else { continue };
            let delivery = self.watch.receivers.entry(Arc::clone(name)).or_default();
            match self.rules.indicator(&alert.rule) {
                Some(Indicator::ReceiverFailingSeconds) => {
                    delivery.failing = Some(now.minus(Duration::try_from_secs_f64(value).unwrap_or_default()));
                }
                Some(Indicator::GivenUp) => delivery.given_up = value as u32,
                _ => {}
            }
        }
    }

    /// Has those receivers reminded of what lasts that forget what they are not reminded of.
    pub(super) fn remind(&mut self, now: Time) {
        if self.remind_at > now {
            return;
        }
        self.remind_at = now.plus(REMIND_EVERY);
        let forgetful: Vec<Arc<str>> = self.dispatcher.as_ref().map(Dispatcher::forgetful).unwrap_or_default();
        for receiver in forgetful {
            let standing = self.alerts.standing_of(now, &receiver);
            let standing = super::output::worded(now, &self.rules, &self.fleet, standing.into_iter());
            if let Some(dispatcher) = &self.dispatcher {
                dispatcher.remind(&receiver, standing);
            }
        }
    }

    /// Whether alerts are judged and can be told; the error says what is amiss.
    pub(super) fn health(&self, now: Time) -> Result<(), String> {
        if self.paused_until.is_some() {
            return Err("monitoring is paused".to_owned());
        }
        if self.lag >= TOO_LATE {
            return Err(format!("alerts are judged {} s late", self.lag.as_secs()));
        }
        if !self.committer.is_ok() {
            return Err("the ledger can't be written".to_owned());
        }
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let late = |oldest: Option<Time>| oldest.is_some_and(|at| now.since(at) >= UNDELIVERED);
        match statuses.iter().find(|(_, status)| late(status.borrow().oldest)) {
            Some((name, _)) => Err(format!("{name} is owed an alert that is older than {} s", UNDELIVERED.as_secs())),
            None => Ok(()),
        }
    }

    /// Looks at the parts, and has rules judge what changed.
    pub(super) fn watch(&mut self, now: Time) {
        let errors = self.store.history.errors();
        let counted = std::mem::replace(&mut self.watch.history_errors, errors);
        (counted..errors).for_each(|_| self.own.store_error());
        let history = &self.store.history;
        let dropped =
            [("disk", history.dropped()), ("rate", history.rate_limited()), ("size", history.pruned_for_size())];
        for (counted, (reason, count)) in self.watch.history_dropped.iter_mut().zip(dropped) {
            self.own.history_dropped(reason, count.saturating_sub(std::mem::replace(counted, count)));
        }
        self.own.store_size("ledger", self.store.ledger.size());
        self.own.store_size("history", history.size());
        self.save_lost();
        let is_ok = self.committer.is_ok() && self.store.history.is_ok();
        self.watch.store_failing = if is_ok { None } else { self.watch.store_failing.or(Some(now)) };
        let lag = if self.lag < LATE { 0.0 } else { self.lag.as_secs_f64().floor() };
        let sidecar = Watched::Sidecar(SidecarHealth {
            name: Arc::from("lookout"),
            lag_seconds: lag,
            store_failing_since: self.watch.store_failing,
        });
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let oldest: BTreeMap<_, _> =
            statuses.into_iter().map(|(name, status)| (name, status.borrow().oldest)).collect();
        self.watch.receivers.retain(|name, _| self.receivers.contains(name));
        let receivers = self.receivers.iter().map(|name| {
            let delivery = self.watch.receivers.get(name).copied().unwrap_or_default();
            Watched::Receiver(ReceiverHealth {
                name: Arc::clone(name),
                oldest_undelivered: oldest.get(name).copied().flatten(),
                failing_since: delivery.failing,
                given_up: delivery.given_up,
            })
        });
        let watched = std::iter::once(sidecar).chain(receivers).map(Arc::new).collect();
        if self.fleet.set_watched(watched) {
            self.settle(now);
        }
    }
}
