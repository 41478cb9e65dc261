//! How the program itself is: looked at twice a second, handed to the machine, counted, and answered to who asks.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::machine::{Event, Observed};
use crate::model::Time;
use crate::notify::{CAPACITY, Dispatcher};

/// How often receivers that forget are reminded: what Prometheus does with an Alertmanager.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// With this lag alerts are not evaluated as they should be.
const TOO_LATE: Duration = Duration::from_secs(30);
/// With an alert that waits for so long, alerts are not delivered as they should be.
const UNDELIVERED: Duration = Duration::from_secs(300);
/// Deferred alerts that are released at once, so that they delay nothing else.
const RELEASED: usize = 2_000;

/// What of the store's failures is counted already.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Writes of history that failed.
    history_errors: u64,
    /// Rows that history did not keep, by reason.
    history_dropped: [u64; 3],
}

impl Engine {
    /// Counts what the store lost, and has the machine read how the program is.
    pub(super) fn observe(&mut self, now: Time) {
        let history = &self.store.history;
        let errors = history.errors();
        let counted = std::mem::replace(&mut self.counted.history_errors, errors);
        (counted..errors).for_each(|_| self.own.store_error());
        let dropped =
            [("disk", history.dropped()), ("rate", history.rate_limited()), ("size", history.pruned_for_size())];
        for (counted, (reason, count)) in self.counted.history_dropped.iter_mut().zip(dropped) {
            self.own.history_dropped(reason, count.saturating_sub(std::mem::replace(counted, count)));
        }
        self.own.store_size("ledger", self.store.ledger.size());
        self.own.store_size("history", history.size());
        self.save_lost();
        let statuses = self.dispatcher.as_ref().map(Dispatcher::statuses).unwrap_or_default();
        let oldest = statuses.into_iter().map(|(name, status)| (name, status.borrow().oldest)).collect();
        let store_ok = self.committer.is_ok() && self.store.history.is_ok();
        drop(self.step(now, Event::Observed(Observed { store_ok, lag: self.lag, oldest })));
    }

    /// Whether alerts are evaluated and can be delivered; the error says what keeps them.
    pub(super) fn health(&self, now: Time) -> Result<(), String> {
        if self.machine.is_paused() {
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

    /// Has those receivers reminded of what fires that forget what they are not reminded of.
    pub(super) fn remind(&mut self, now: Time) {
        if self.remind_at > now {
            return;
        }
        self.remind_at = now.plus(REMIND_EVERY);
        let forgetful: Vec<Arc<str>> = self.dispatcher.as_ref().map(Dispatcher::forgetful).unwrap_or_default();
        for receiver in forgetful {
            let standing = self.machine.standing_of(now, &receiver);
            if let Some(dispatcher) = &self.dispatcher {
                dispatcher.remind(&receiver, standing);
            }
        }
    }

    /// Has what found no room in a receiver's queue sent once there is some.
    pub(super) fn send_deferred(&mut self, now: Time) {
        let deferred = self.machine.alerts().deferred();
        let deferred: Vec<Arc<str>> = deferred.map(|(receiver, _)| Arc::clone(receiver)).collect();
        for receiver in deferred {
            // What was released before is on its way through the ledger.
            let is_free = self.committer.undispatched() == 0;
            let pending = self.dispatcher.as_ref().and_then(|dispatcher| dispatcher.pending(&receiver));
            let room = pending.filter(|_| is_free).map_or(0, |pending| (CAPACITY / 2).saturating_sub(pending));
            if room > 0 {
                drop(self.step(now, Event::Room { receiver: &receiver, count: room.min(RELEASED) }));
            }
        }
    }
}
