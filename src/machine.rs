//! The state machine: an event goes through fleet, rules and alerts, and effects come out.
//!
//! Owns [`Fleet`], [`Rules`], [`Alerts`] and [`Enforcement`], and the order in which they handle each event. The live loop,
//! `lookout replay` and `lookout test rules` all run this code. It is pure: `now` is an argument, and what has to be sent,
//! written or published is returned as [`MachineEffects`].

mod delivery;
mod digest;
mod orphans;
mod restore;
mod sidecar;
pub mod simulation;
#[cfg(test)]
mod tests;
mod texts;
mod unsaved;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use restore::RestoredState;
pub use sidecar::SidecarObservation;
pub use simulation::Simulation;
use unsaved::Unsaved;
pub use unsaved::UnsavedChanges;
pub use view::{AlertExplanation, AlertFilter, AlertView, NotificationStatusView};

use crate::alerts::config::DigestConfig;
use crate::alerts::{self, Alerts, IncidentPolicy, SilenceError};
use crate::enforcement::{self, Enforcement, StopOrders};
use crate::fleet::{self, ChunkedPush, Fleet, IngestOutcome};
use crate::ingest::{CustomBatch, UsageBatch};
use crate::model::{
    AgentTelemetry, Batch, Changes, ClosedAlert, DeliveryReport, Finding, Fingerprint, HistoryRow, Hook, Notice,
    PollReport, ReceiverPolicy, RunSummary, Silence, Time,
};
use crate::rules::{RuleSet, Rules};
use digest::Digest;
use orphans::Orphans;
use sidecar::Sidecar;

/// How long evaluation stays paused before it resumes by itself.
pub const PAUSE: Duration = Duration::from_secs(3600);

/// The settings of a machine.
#[derive(Debug)]
pub struct MachineSettings {
    /// For the fleet.
    pub fleet: fleet::FleetSettings,
    /// The rules.
    pub rules: RuleSet,
    /// When many alerts of one rule are notified as one incident.
    pub incidents: IncidentPolicy,
    /// The daily digest.
    pub digest: DigestConfig,
    /// Which receiver is notified of what.
    pub receivers: Vec<ReceiverPolicy>,
}

/// An input of the machine.
#[derive(Debug)]
pub enum MachineEvent<'a> {
    /// A state was pushed.
    State(Batch<'a>),
    /// The next agents of a pushed state, at most this many. The outcome is added to the push itself.
    StatePart(&'a mut ChunkedPush<'static>, usize),
    /// Increments of usage were pushed.
    Usage(UsageBatch<'a>),
    /// Custom metrics were pushed.
    Metrics(CustomBatch),
    /// A hook arrived; it records whether it was answered with a stop order.
    Hook(Hook),
    /// A poll succeeded or failed.
    Poll(PollReport),
    /// Telemetry of agents arrived.
    Telemetry(Vec<AgentTelemetry>),
    /// Runs began or ended.
    Runs(Vec<RunSummary>),
    /// A silence is created, or the one with its id is changed.
    Silence(Silence),
    /// A silence is expired before its end.
    Unsilence {
        /// Its id.
        id: &'a str,
        /// Who expires it.
        by: &'a str,
    },
    /// An alert is acknowledged.
    Acknowledge {
        /// Which.
        fingerprint: Fingerprint,
        /// The author.
        by: &'a str,
        /// Their comment; may be empty.
        comment: &'a str,
    },
    /// Evaluation is paused, or the pause extended, or it resumes.
    Monitoring {
        /// Whether it runs from now on.
        on: bool,
        /// Who asked for it.
        by: &'a str,
    },
    /// A delivery succeeded, failed or was dead-lettered.
    Delivery(&'a DeliveryReport),
    /// The outbox of a receiver has room for alerts that were deferred.
    Room {
        /// The receiver.
        receiver: &'a str,
        /// For how many.
        count: usize,
    },
    /// The sidecar's own health was observed.
    Observed(SidecarObservation),
    /// The settings were reloaded.
    Reload(Box<MachineSettings>),
    /// All rules are evaluated for the whole fleet, as after a start.
    Evaluate,
    /// A deadline has passed.
    Deadline,
}

/// What one event causes, besides the state that readers see.
#[derive(Debug, Default)]
pub struct MachineEffects {
    /// What of an update was accepted and what was rejected.
    pub ingested: IngestOutcome,
    /// Why a silence or an acknowledgement is rejected; the event had no other effect then.
    pub error: Option<SilenceError>,
    /// Set when evaluation was resumed (`true`) or paused.
    pub monitoring: Option<bool>,
    /// Changes of alerts, in order.
    pub alerts: Vec<AlertEffects>,
    /// Rows of agents and components for history.
    pub history: Vec<HistoryRow>,
    /// The stop orders that hooks are answered with from now on, if they changed.
    pub stop_orders: Option<Arc<StopOrders>>,
}

/// Changes of alerts in one step, with texts.
#[derive(Debug, Default)]
pub struct AlertEffects {
    /// The changes for the ledger, without the notices and closed alerts, which are below.
    pub ledger: alerts::AlertChanges,
    /// Notices for receivers, with their texts.
    pub notices: Vec<Arc<Notice>>,
    /// Alerts that resolved, with their texts, for history.
    pub closed: Vec<ClosedAlert>,
    /// Alerts that began to fire while no receiver is configured, with their texts, for the log.
    pub without_receiver: Vec<ClosedAlert>,
}

/// Fleet, rules and alerts; see the module's documentation.
#[derive(Debug)]
pub struct Machine {
    fleet: Fleet,
    rules: Rules,
    alerts: Alerts,
    enforcement: Enforcement,
    receivers: Vec<Arc<str>>,
    sidecar: Sidecar,
    orphans: Orphans,
    digest: Digest,
    unsaved: Unsaved,
    /// Until when evaluation is paused.
    paused_until: Option<Time>,
    findings: Vec<Finding>,
    /// The tasks that agents worked on when their alerts fired; of alerts that fire.
    alert_tasks: HashMap<Fingerprint, Arc<str>>,
    /// What rules found, and when, for tests.
    #[cfg(test)]
    found: Vec<(Time, Finding)>,
}

impl Machine {
    /// A machine with an empty fleet. Expected agents are missing from `now` on.
    pub fn new(now: Time, settings: MachineSettings) -> Self {
        let MachineSettings { fleet, rules, incidents, digest, receivers } = settings;
        let (budgets, grace) = (fleet.budgets.enforced(), fleet.agents.timeout);
        let (fleet, rules) = (Fleet::new(now, fleet), Rules::new(rules));
        let names = receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        let mut alerts = Alerts::new(rules.policies(), receivers);
        alerts.set_incidents(incidents);
        let mut enforcement = Enforcement::default();
        enforcement.configure(fleet.state(), budgets);
        Self {
            fleet,
            rules,
            alerts,
            enforcement,
            receivers: names,
            sidecar: Sidecar::default(),
            orphans: Orphans::new(grace),
            digest: Digest::new(now, digest, 0),
            unsaved: Unsaved::default(),
            paused_until: None,
            findings: Vec::new(),
            alert_tasks: HashMap::new(),
            #[cfg(test)]
            found: Vec::new(),
        }
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The rules.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The alerts.
    pub const fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// The names of the receivers, in the order of the configuration.
    pub fn receivers(&self) -> &[Arc<str>] {
        &self.receivers
    }

    /// The stop orders that hooks are answered with.
    pub const fn stop_orders(&self) -> &StopOrders {
        self.enforcement.orders()
    }

    /// Whether evaluation is paused.
    pub const fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// The fleet at `now`, for readers and for the store.
    pub fn snapshot(&mut self, now: Time) -> Arc<crate::model::Snapshot> {
        self.fleet.snapshot(now)
    }

    /// Records the wall clock's time at `now`. Returns by how many seconds it is ahead of the timers if it was set.
    pub fn observe_wall_clock(&mut self, now: Time, wall: Time) -> Option<f64> {
        let was_set = self.fleet.observe_wall_clock(now, wall);
        was_set.then(|| self.fleet.state().wall.to_wall(now).as_secs_f64() - now.as_secs_f64())
    }

    /// When [`MachineEvent::Deadline`] is due next.
    pub fn next_deadline(&self) -> Option<Time> {
        let evaluated = match self.paused_until {
            Some(until) => Some(until),
            None => [self.rules.next_deadline(), self.alerts.next_deadline()].into_iter().flatten().min(),
        };
        [self.fleet.next_deadline(), evaluated, self.orphans.deadline(), self.digest.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a deadline of fleet or rules has passed at `now`.
    #[cfg(test)]
    fn evaluates_at(&self, now: Time) -> bool {
        let deadlines = [self.fleet.next_deadline(), self.rules.next_deadline()];
        deadlines.into_iter().flatten().any(|due| due <= now)
    }

    /// Handles `event`, which happens at `now`. Time never goes back between two events.
    pub fn step(&mut self, now: Time, event: MachineEvent<'_>) -> MachineEffects {
        let mut effects = MachineEffects::default();
        match event {
            MachineEvent::State(batch) => effects.ingested = self.fleet.push(now, batch),
            MachineEvent::StatePart(push, most) => self.fleet.push_part(now, push, most),
            MachineEvent::Usage(usage) => {
                effects.ingested = self.fleet.usage(now, &usage.project, &usage.usage);
                effects.ingested.add_rejected(usage.rejected);
            }
            MachineEvent::Metrics(CustomBatch { metrics, rejected }) => {
                effects.ingested = self.fleet.metrics(now, &metrics);
                effects.ingested.add_rejected(rejected);
            }
            MachineEvent::Hook(hook) => {
                if let Some(text) = enforcement::announcement(self.fleet.find(&hook.project, &hook.agent), &hook) {
                    let announced = self.alerts.announce(now, "stop", &text);
                    self.add(now, announced, &mut effects);
                }
                effects.ingested = self.fleet.hook(now, &hook);
            }
            MachineEvent::Poll(mut report) => effects.ingested = self.fleet.poll(now, &mut report),
            MachineEvent::Telemetry(telemetry) => effects.ingested = self.fleet.telemetry(now, &telemetry),
            MachineEvent::Runs(runs) => effects.ingested = self.fleet.runs(now, &runs),
            MachineEvent::Silence(silence) => {
                let done = self.alerts.silence(now, silence);
                self.add_or_refuse(now, done, &mut effects);
            }
            MachineEvent::Unsilence { id, by } => {
                let done = self.alerts.unsilence(now, id, by);
                self.add_or_refuse(now, done, &mut effects);
            }
            MachineEvent::Acknowledge { fingerprint, by, comment } => {
                let done = self.alerts.acknowledge(now, fingerprint, by, comment);
                self.add_or_refuse(now, done, &mut effects);
            }
            MachineEvent::Monitoring { on, by } => self.set_monitoring(now, on, by, &mut effects),
            MachineEvent::Delivery(report) => self.delivery(now, report, &mut effects),
            MachineEvent::Room { receiver, count } => {
                let due = self.alerts.make_room(now, receiver, count);
                self.add(now, due, &mut effects);
            }
            MachineEvent::Observed(observed) => self.observe(now, &observed),
            MachineEvent::Reload(settings) => self.reload(now, *settings, &mut effects),
            MachineEvent::Evaluate => self.evaluate_all(now),
            MachineEvent::Deadline => return self.tick(now),
        }
        self.evaluate_changes(now, &mut effects);
        effects
    }

    /// Serves the deadlines that have passed.
    fn tick(&mut self, now: Time) -> MachineEffects {
        let mut effects = MachineEffects::default();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.set_monitoring(now, true, "the end of the pause", &mut effects);
        }
        self.end_orphans(now, &mut effects);
        self.send_digest(now, &mut effects);
        self.fleet.tick(now);
        if self.paused_until.is_none() {
            self.rules.tick(now, self.fleet.state(), &mut self.findings);
        }
        self.evaluate_changes(now, &mut effects);
        if self.paused_until.is_none() {
            let due = self.alerts.tick(now);
            self.add(now, due, &mut effects);
        }
        effects
    }

    /// Evaluates the rules for what changed, and applies what they found to the alerts.
    fn evaluate_changes(&mut self, now: Time, effects: &mut MachineEffects) {
        self.adopt_orphans();
        if self.paused_until.is_none() {
            self.rules.evaluate(now, self.fleet.state(), self.fleet.changes(), &mut self.findings);
        } else {
            // While paused only removals are handled: alerts of removed agents resolve, and their memory is freed.
            let changes = self.fleet.changes();
            let removals = Changes {
                removed_agents: changes.removed_agents.clone(),
                removed_components: changes.removed_components.clone(),
                ..Changes::default()
            };
            self.rules.evaluate(now, self.fleet.state(), &removals, &mut self.findings);
        }
        if self.enforcement.follow(self.fleet.state(), self.fleet.changes()) {
            effects.stop_orders = Some(Arc::new(self.enforcement.orders().clone()));
        }
        self.unsaved.note(self.fleet.changes());
        effects.history.extend_from_slice(&self.fleet.changes().history);
        self.fleet.clear_changes();
        if self.findings.is_empty() {
            return;
        }
        let findings = std::mem::take(&mut self.findings);
        #[cfg(test)]
        self.found.extend(findings.iter().map(|finding| (now, finding.clone())));
        self.alerts.set_agents(self.fleet.state().agents.len());
        let found = self.alerts.step(now, findings);
        self.add(now, found, effects);
    }

    /// Evaluates all rules for the whole fleet, unless paused.
    fn evaluate_all(&mut self, now: Time) {
        if self.paused_until.is_none() {
            self.rules.evaluate_all(now, self.fleet.state(), &mut self.findings);
        }
    }

    /// Resumes or pauses evaluation, or extends the pause, and announces who did. While it is paused, receivers get nothing
    /// but that announcement.
    fn set_monitoring(&mut self, now: Time, on: bool, by: &str, effects: &mut MachineEffects) {
        let was_on = self.paused_until.is_none();
        self.paused_until = (!on).then(|| now.plus(PAUSE));
        self.fleet.set_monitoring(on);
        effects.monitoring = Some(on);
        if on && was_on {
            return;
        }
        let text = if on {
            format!("{by} resumed monitoring")
        } else {
            let what = if was_on { "paused monitoring" } else { "extended the pause of monitoring" };
            let wall = &self.fleet.state().wall;
            let until = wall.to_wall(now.plus(PAUSE)).on_clock(wall.to_wall(now), &jiff::tz::TimeZone::UTC);
            format!("{by} {what} until {until} UTC; no notification is sent until it resumes")
        };
        let announced = self.alerts.announce(now, "monitoring", &text);
        self.add(now, announced, effects);
        if on {
            // Before anything is sent: what cleared during the pause must not be notified as firing first.
            self.evaluate_all(now);
            self.evaluate_changes(now, effects);
        }
        let due = self.alerts.set_paused(now, !on);
        self.add(now, due, effects);
    }

    /// Replaces the settings and keeps the state.
    fn reload(&mut self, now: Time, settings: MachineSettings, effects: &mut MachineEffects) {
        self.evaluate_changes(now, effects);
        let MachineSettings { fleet, rules, incidents, digest, receivers } = settings;
        let budgets = fleet.budgets.enforced();
        self.fleet.configure(now, fleet);
        self.enforcement.configure(self.fleet.state(), budgets);
        effects.stop_orders = Some(Arc::new(self.enforcement.orders().clone()));
        self.rules.replace(rules);
        self.rules.seed(now, self.fleet.state());
        self.receivers = receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        self.refresh_sidecar(now);
        // Findings name rules by their index: alerts need the new rules before any of them is evaluated.
        self.alerts.set_incidents(incidents);
        self.digest.configure(now, digest);
        let configured = self.alerts.configure(now, self.rules.policies(), receivers);
        self.add(now, configured, effects);
        self.end_unnamed(now, effects);
        self.mark_open();
        self.evaluate_all(now);
    }

    /// Adds changes of alerts to `effects`, with texts.
    fn add(&mut self, now: Time, mut ledger: alerts::AlertChanges, effects: &mut MachineEffects) {
        if ledger.is_empty() {
            return;
        }
        self.note_tasks(&ledger);
        let notices = self.with_texts(now, ledger.notices.drain(..));
        let closed: Vec<_> = ledger.closed.drain(..).map(|alert| self.closed_with_texts(now, alert)).collect();
        for closed in &closed {
            self.alert_tasks.remove(&closed.alert.fingerprint);
        }
        let without_receiver = if self.receivers.is_empty() { self.firing_since(now, &ledger) } else { Vec::new() };
        effects.alerts.push(AlertEffects { ledger, notices, closed, without_receiver });
    }

    fn add_or_refuse(
        &mut self,
        now: Time,
        done: Result<alerts::AlertChanges, SilenceError>,
        effects: &mut MachineEffects,
    ) {
        match done {
            Ok(ledger) => self.add(now, ledger, effects),
            Err(error) => effects.error = Some(error),
        }
    }
}
