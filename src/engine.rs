//! The one loop around the [`Machine`]: events come in through bounded queues, effects go out.
//!
//! Owns the machine and what its effects need: a change is applied and evaluated before its sender is answered; what is
//! to be sent is in the ledger before it is handed to the dispatcher; what must outlive the process is saved within a
//! second. It never waits for disk or network while it does so.

mod commit;
mod control;
pub mod handle;
mod health;
mod ingest;
mod output;
mod report;
mod run;
pub mod telemetry;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

pub use crate::alerts::QuietError;
pub use crate::machine::{AlertFilter, AlertView, PAUSE};
pub use handle::{Accepted, Handle, IngestError, Queues, Stopped};
pub use run::{Parts, Stop};
pub use view::{ReceiverView, View};

use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::clock::Clock;
use crate::enforcement::StopOrders;
use crate::fleet::{self, IngestOutcome};
use crate::machine::{self, AlertEffects, Effects, Event, Machine};
use crate::metrics::Own;
use crate::model::Time;
use crate::notify::{Dispatcher, Receiver};
use crate::rules::RuleSet;
use crate::store::{Recorder, Store};
use commit::Committer;

/// Bound of the queue of state that waits.
pub const BULK_QUEUE: usize = 1024;
/// Bound of the queue of readers, outcomes and control.
pub const CONTROL_QUEUE: usize = 1024;
/// Bound of the queue of hooks.
pub const HOOK_QUEUE: usize = 1024;

/// Everything that a reload changes in the engine.
#[derive(Debug)]
pub struct Settings {
    /// For the fleet.
    pub fleet: fleet::FleetSettings,
    /// The rules.
    pub rules: RuleSet,
    /// When many alerts of one rule are notified as one incident.
    pub incidents: IncidentPolicy,
    /// A message a day about how things are.
    pub digest: DigestConfig,
    /// Who is notified.
    pub receivers: Vec<Receiver>,
}

impl Settings {
    /// What the machine takes of them, and the receivers themselves.
    fn split(self) -> (machine::Settings, Vec<Receiver>) {
        let Self { fleet, rules, incidents, digest, receivers } = self;
        let policies = receivers.iter().map(Receiver::policy).collect();
        (machine::Settings { fleet, rules, incidents, digest, receivers: policies }, receivers)
    }
}

/// The engine; see the module's documentation.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    machine: Machine,
    own: Arc<Own>,
    store: Store,
    /// Gone once draining has begun.
    dispatcher: Option<Dispatcher>,
    committer: Committer,
    /// A large update that is being applied.
    applying: Option<ingest::Applying>,
    /// What became of alerts meanwhile: it is released with the update's last part, so that one update is one group.
    held: Vec<AlertEffects>,
    /// The last body that the log of usage was given.
    usage_seq: u64,
    /// How late the last served deadline was.
    lag: Duration,
    /// When it was last looked for deadlines that have come.
    looked_at: Time,
    monitoring: tokio::sync::watch::Sender<bool>,
    stop_orders: tokio::sync::watch::Sender<Arc<StopOrders>>,
    /// Where what comes in is recorded, when it is.
    recorder: Option<Recorder>,
    /// What of the store's failures is counted already.
    counted: health::Counted,
    /// When receivers that forget are reminded next.
    remind_at: Time,
}

impl Engine {
    /// The orders to stop that agents are given, as they change.
    pub fn stop_orders(&self) -> tokio::sync::watch::Receiver<Arc<StopOrders>> {
        self.stop_orders.subscribe()
    }

    /// Cancelled when the task of a receiver has panicked.
    pub fn broken(&self) -> Option<tokio_util::sync::CancellationToken> {
        self.dispatcher.as_ref().map(Dispatcher::broken)
    }

    /// The time now, with note taken of what the wall clock says.
    fn now(&mut self) -> Time {
        let now = self.clock.now();
        if let Some(ahead_seconds) = self.machine.observe_wall_clock(now, self.clock.wall()) {
            tracing::warn!(ahead_seconds, "the wall clock was set, or the machine slept; timers go on as before");
        }
        now
    }

    /// Has the machine take `event`, and brings its effects about. Returns what of it was accepted and rejected, or why
    /// it is refused as a whole.
    fn step(&mut self, now: Time, event: Event<'_>) -> Result<IngestOutcome, QuietError> {
        let effects = self.machine.step(now, event);
        self.release(effects)
    }

    /// Serves the deadlines that have come.
    fn serve_deadlines(&mut self, now: Time) {
        if let Some(due) = self.machine.next_deadline() {
            // What was to be done at once, or has been due since before it was known, is not late for that.
            self.lag = now.since(due.max(self.looked_at));
        }
        drop(self.step(now, Event::Deadline));
    }

    /// Hands the machine's effects to their owners.
    fn release(&mut self, effects: Effects) -> Result<IngestOutcome, QuietError> {
        let Effects { taken, error, monitoring, alerts, history, stop_orders } = effects;
        if let Some(on) = monitoring {
            // Before what is sent: a pause keeps all back but its announcement.
            self.monitoring.send_replace(on);
            if let Some(dispatcher) = &self.dispatcher {
                dispatcher.set_paused(!on);
            }
        }
        if !history.is_empty() {
            self.store.history.record(history);
        }
        if let Some(orders) = stop_orders {
            self.stop_orders.send_replace(orders);
        }
        if self.applying.is_some() {
            self.held.extend(alerts);
        } else {
            alerts.into_iter().for_each(|effects| self.release_alerts(effects));
        }
        error.map_or(Ok(taken), Err)
    }

    /// Takes over other settings.
    fn reload(&mut self, now: Time, settings: Settings) {
        let (settings, receivers) = settings.split();
        let before = self.machine.receivers().to_vec();
        let names: Vec<Arc<str>> = settings.receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        self.own.set_receivers(&before, &names);
        drop(self.step(now, Event::Reload(Box::new(settings))));
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.replace(receivers);
        }
        self.observe(now);
    }
}
