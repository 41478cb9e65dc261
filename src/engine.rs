//! The async loop around the [`Machine`]: events arrive through bounded queues, effects go to their owners.
//!
//! Guarantees that an update is applied and evaluated before its sender is answered, that notices are in the ledger before
//! they are dispatched, and that state is saved within a second. The loop never waits for disk or network.

pub mod archive;
mod commit;
mod control;
pub mod handle;
mod health;
mod ingest;
pub mod live;
mod output;
mod reports;
mod run;
pub mod runs;
pub mod sharing;
pub mod telemetry;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

pub use crate::alerts::SilenceError;
pub use crate::machine::{AlertFilter, AlertView, PAUSE};
pub use handle::{Accepted, EngineHandle, IngestError, Queues, Stopped};
pub use run::{EngineParts, StopSignal};
pub use view::{ReceiverView, View};

use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::clock::Clock;
use crate::enforcement::StopOrders;
use crate::fleet::{self, IngestOutcome};
use crate::machine::{self, AlertEffects, Machine, MachineEffects, MachineEvent};
use crate::metrics::SidecarMetrics;
use crate::model::Time;
use crate::notify::{Dispatcher, Receiver};
use crate::rules::RuleSet;
use crate::store::{Recorder, Store};
use commit::Committer;

/// Capacity of the queue of pushes, polls and telemetry.
pub const BULK_QUEUE: usize = 1024;
/// Capacity of the queue of readers and control.
pub const CONTROL_QUEUE: usize = 1024;
/// Capacity of the queue of hooks.
pub const HOOK_QUEUE: usize = 1024;

/// The settings of the engine, which a reload replaces.
#[derive(Debug)]
pub struct EngineSettings {
    /// For the fleet.
    pub fleet: fleet::FleetSettings,
    /// The rules.
    pub rules: RuleSet,
    /// When many alerts of one rule are notified as one incident.
    pub incidents: IncidentPolicy,
    /// The daily digest.
    pub digest: DigestConfig,
    /// The receivers.
    pub receivers: Vec<Receiver>,
}

impl EngineSettings {
    /// The settings of the machine, and the receivers.
    fn split(self) -> (machine::MachineSettings, Vec<Receiver>) {
        let Self { fleet, rules, incidents, digest, receivers } = self;
        let policies = receivers.iter().map(Receiver::policy).collect();
        (machine::MachineSettings { fleet, rules, incidents, digest, receivers: policies }, receivers)
    }
}

/// The engine; see the module's documentation.
#[derive(Debug)]
pub struct Engine {
    clock: Clock,
    machine: Machine,
    own: Arc<SidecarMetrics>,
    store: Store,
    /// `None` once draining started.
    dispatcher: Option<Dispatcher>,
    committer: Committer,
    /// A large update that is being applied part by part.
    applying: Option<ingest::Applying>,
    /// Changes of alerts by its earlier parts, released with the last one, so that notifications of one update are grouped.
    held: Vec<AlertEffects>,
    /// The sequence number of the last body in the usage log.
    usage_seq: u64,
    /// How late the last served deadline was.
    lag: Duration,
    /// When deadlines were last checked.
    looked_at: Time,
    monitoring: tokio::sync::watch::Sender<bool>,
    stop_orders: tokio::sync::watch::Sender<Arc<StopOrders>>,
    /// Records inputs, if recording is on.
    recorder: Option<Recorder>,
    runs: runs::RunsHandle,
    live: live::LiveFeed,
    turns: crate::runs::turns::Turns,
    /// The store's failures that are already counted in metrics.
    counted: health::CountedStoreErrors,
    /// When firing alerts are next sent again to receivers that resolve them otherwise.
    resend_at: Time,
}

impl Engine {
    /// The stop orders, as they change.
    pub fn stop_orders(&self) -> tokio::sync::watch::Receiver<Arc<StopOrders>> {
        self.stop_orders.subscribe()
    }

    /// A token that is cancelled when the task of a receiver panics.
    pub fn broken(&self) -> Option<tokio_util::sync::CancellationToken> {
        self.dispatcher.as_ref().map(Dispatcher::broken)
    }

    /// The current time. Records the wall clock's time on the way.
    fn now(&mut self) -> Time {
        let now = self.clock.now();
        if let Some(ahead_seconds) = self.machine.observe_wall_clock(now, self.clock.wall()) {
            tracing::warn!(ahead_seconds, "wall clock was set, or the machine was suspended; timers are unaffected");
        }
        now
    }

    /// Has the machine handle `event`, and releases its effects. Returns what of it was accepted and rejected, or why all
    /// of it is rejected.
    fn step(&mut self, now: Time, event: MachineEvent<'_>) -> Result<IngestOutcome, SilenceError> {
        let effects = self.machine.step(now, event);
        self.release(effects)
    }

    /// Serves the deadlines that have passed, and measures the lag.
    fn serve_deadlines(&mut self, now: Time) {
        if let Some(due) = self.machine.next_deadline() {
            // A deadline may be set in the past: it is late only since deadlines were last checked.
            self.lag = now.since(due.max(self.looked_at));
        }
        drop(self.step(now, MachineEvent::Deadline));
    }

    /// Hands the machine's effects to their owners.
    fn release(&mut self, effects: MachineEffects) -> Result<IngestOutcome, SilenceError> {
        let MachineEffects { ingested: taken, error, monitoring, alerts, history, stop_orders } = effects;
        if let Some(on) = monitoring {
            // Before notices are dispatched: a pause suppresses everything but its announcement.
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
        self.live.fleet(self.machine.fleet().state().generation);
        if self.applying.is_some() {
            self.held.extend(alerts);
        } else {
            alerts.into_iter().for_each(|effects| self.release_alerts(effects));
        }
        error.map_or(Ok(taken), Err)
    }

    /// Replaces the settings.
    fn reload(&mut self, now: Time, settings: EngineSettings) {
        let (settings, receivers) = settings.split();
        let before = self.machine.receivers().to_vec();
        let names: Vec<Arc<str>> = settings.receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        self.own.set_receivers(&before, &names);
        drop(self.step(now, MachineEvent::Reload(Box::new(settings))));
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.replace(receivers);
        }
        self.observe(now);
    }
}
