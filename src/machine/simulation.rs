//! A machine on a virtual clock: which alerts would fire and which notices would be sent, without disk or network.
//!
//! `lookout test rules`, `lookout replay` and tests run on it. It jumps from deadline to deadline, so that hours without
//! input cost nothing. Delivery is not simulated.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{AlertFilter, AlertView, Machine, MachineEffects, MachineEvent, MachineSettings, RestoredState};
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::fleet::{self, Fleet, IngestOutcome};
use crate::ingest::{decode_metrics, decode_state, decode_states, decode_usage};
use crate::model::{Alert, AlertCounts, Fingerprint, Notice, PollReport, ReceiverPolicy, RecordedInput, Time};
use crate::rules::{RuleSet, Rules};

/// Deadlines served at one moment before the clock advances by a millisecond, as the engine's does meanwhile.
const AT_ONCE: u32 = 50;
/// Ids of increments kept for a restart: as many as the fleet keeps.
const USAGE_IDS: usize = 65_536;

/// More deadlines were due than the simulation may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} deadlines were due; simulate a shorter time, or use longer thresholds and repeats")]
pub struct Exhausted(pub u64);

/// The input of a simulation.
#[derive(Debug)]
pub struct Setup {
    /// The rules.
    pub rules: RuleSet,
    /// The settings that a restart uses again.
    pub settings: Lasting,
}

/// Settings that a restart uses again.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// For the fleet.
    pub fleet: fleet::FleetSettings,
    /// Which receiver is notified of what.
    pub receivers: Vec<ReceiverPolicy>,
    /// When many alerts of one rule are notified as one incident.
    pub incidents: IncidentPolicy,
}

impl Lasting {
    /// All settings, with these rules; no digest is sent.
    fn with(&self, rules: RuleSet) -> MachineSettings {
        let Self { fleet, receivers, incidents } = self.clone();
        MachineSettings { fleet, rules, incidents, digest: DigestConfig::default(), receivers }
    }
}

/// A machine, its clock, and what a store would have saved of it.
#[derive(Debug)]
pub struct Simulation {
    now: Time,
    pub(super) settings: Lasting,
    pub(super) machine: Machine,
    /// Alerts as the ledger would have saved them.
    ledger: BTreeMap<Fingerprint, Alert>,
    usage_ids: VecDeque<(u64, Time)>,
    /// Deadlines that may be served, and how many were.
    limit: u64,
    served: u64,
    notices: Vec<Arc<Notice>>,
    /// When a deadline of fleet or rules was served.
    #[cfg(test)]
    pub(super) evaluated_at: Vec<Time>,
}

impl Simulation {
    /// A simulation with an empty fleet. Expected agents are missing from `now` on.
    pub fn new(now: Time, setup: Setup) -> Self {
        let mut simulation = Self {
            now,
            machine: Machine::new(now, setup.settings.with(setup.rules)),
            settings: setup.settings,
            ledger: BTreeMap::new(),
            usage_ids: VecDeque::new(),
            limit: u64::MAX,
            served: 0,
            notices: Vec::new(),
            #[cfg(test)]
            evaluated_at: Vec::new(),
        };
        simulation.step(MachineEvent::Evaluate);
        simulation
    }

    /// The same, limited to this number of deadlines.
    pub const fn with_limit(mut self, deadlines: u64) -> Self {
        self.limit = deadlines;
        self
    }

    /// The current time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The fleet.
    pub const fn fleet(&self) -> &Fleet {
        self.machine.fleet()
    }

    /// The rules.
    pub const fn rules(&self) -> &Rules {
        self.machine.rules()
    }

    /// The number of firing alerts, and totals.
    pub const fn counts(&self) -> &AlertCounts {
        self.machine.alerts().counts()
    }

    /// The pending and firing alerts, highest level first, then newest first.
    pub fn open(&self) -> Vec<AlertView> {
        self.machine.list(self.now, &AlertFilter { limit: usize::MAX, ..AlertFilter::default() })
    }

    /// What receivers would have been sent so far, in order.
    pub fn notices(&self) -> &[Arc<Notice>] {
        &self.notices
    }

    /// The same, consuming the simulation.
    pub fn into_notices(self) -> Vec<Arc<Notice>> {
        self.notices
    }

    /// Advances the clock to `to` and serves every deadline on the way at its time. Time never goes back.
    pub fn advance(&mut self, to: Time) -> Result<(), Exhausted> {
        let mut at_once = 0;
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= to) {
            if self.served >= self.limit {
                return Err(Exhausted(self.limit));
            }
            at_once = if due > self.now { 0 } else { at_once + 1 };
            self.now = self.now.max(due);
            if at_once >= AT_ONCE {
                let later = self.now.plus(Duration::from_millis(1));
                if later > to {
                    break;
                }
                (self.now, at_once) = (later, 0);
            }
            self.served += 1;
            #[cfg(test)]
            if self.machine.evaluates_at(self.now) {
                self.evaluated_at.push(self.now);
            }
            self.step(MachineEvent::Deadline);
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// Handles `event` at the current time; returns what of it was accepted and rejected.
    pub fn take(&mut self, event: MachineEvent<'_>) -> IngestOutcome {
        self.step(event).ingested
    }

    fn step(&mut self, event: MachineEvent<'_>) -> MachineEffects {
        let mut effects = self.machine.step(self.now, event);
        self.keep(&mut effects);
        effects
    }

    /// Keeps what a store would save, and the notices.
    fn keep(&mut self, effects: &mut MachineEffects) {
        for of_alerts in &mut effects.alerts {
            self.ledger.extend(of_alerts.ledger.changed.drain(..).map(|alert| (alert.fingerprint, alert)));
            of_alerts.ledger.dropped.iter().for_each(|fingerprint| drop(self.ledger.remove(fingerprint)));
            self.notices.append(&mut of_alerts.notices);
        }
        self.usage_ids.append(&mut self.machine.fleet.take_usage_ids().into());
        self.usage_ids.drain(..self.usage_ids.len().saturating_sub(USAGE_IDS));
    }

    /// Decodes and handles what arrives at the current time; the error is what is malformed or rejected.
    pub fn feed(&mut self, arrival: &RecordedInput) -> Result<IngestOutcome, String> {
        let text = |body| std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"));
        let now = self.now;
        let effects = match arrival {
            RecordedInput::State(body) => {
                self.step(MachineEvent::State(decode_state(text(body)?, now).map_err(|error| error.to_string())?))
            }
            RecordedInput::Usage(body) => {
                self.step(MachineEvent::Usage(decode_usage(text(body)?).map_err(|error| error.to_string())?))
            }
            RecordedInput::Metrics(body) => {
                self.step(MachineEvent::Metrics(decode_metrics(text(body)?).map_err(|error| error.to_string())?))
            }
            RecordedInput::Hook(hook) => self.step(MachineEvent::Hook(hook.clone())),
            RecordedInput::Runs(runs) => self.step(MachineEvent::Runs(runs.clone())),
            RecordedInput::Poll { source, result } => {
                let result = match result {
                    Ok(bodies) => Ok(decode_states(bodies, now).map_err(|error| error.to_string())?),
                    Err(error) => Err(error.clone()),
                };
                self.step(MachineEvent::Poll(PollReport { source: Arc::clone(source), result }))
            }
            RecordedInput::Silence(silence) => self.step(MachineEvent::Silence(silence.clone())),
            RecordedInput::Unsilence { id, by } => self.step(MachineEvent::Unsilence { id, by }),
            RecordedInput::Ack { fingerprint, by, comment } => {
                self.step(MachineEvent::Acknowledge { fingerprint: *fingerprint, by, comment })
            }
        };
        match (effects.error, arrival) {
            (Some(error), _) => Err(error.to_string()),
            (None, RecordedInput::Silence(_) | RecordedInput::Unsilence { .. } | RecordedInput::Ack { .. }) => {
                Ok(IngestOutcome { accepted: 1, ..IngestOutcome::default() })
            }
            (None, _) => Ok(effects.ingested),
        }
    }

    /// Restarts: the sidecar stops now and starts again at `to`, with what a store would have saved. No deadline is served
    /// in between.
    pub fn restart(&mut self, to: Time) {
        let downtime = to.since(self.now);
        let fleet = self.machine.fleet().state();
        let windows = fleet.agents.iter().filter_map(|agent| {
            let name = (Arc::clone(&agent.project), Arc::clone(&agent.name));
            Some((name, self.machine.rules().windows(agent.slot)?))
        });
        let alerts = self.machine.alerts();
        let memory = RestoredState {
            downtime,
            projects: fleet.projects.iter().map(|project| (**project).clone()).collect(),
            agents: fleet.agents.iter().cloned().collect(),
            components: fleet.components.iter().cloned().collect(),
            usage_ids: self.usage_ids.iter().copied().collect(),
            sources: fleet.failing_sources().collect(),
            windows: windows.collect(),
            alerts: self.ledger.values().cloned().collect(),
            silences: alerts.silences().to_vec(),
            raised: alerts.counts().raised,
            fired: alerts.counts().fired,
            ..RestoredState::default()
        };
        self.now = self.now.max(to);
        let rules = self.machine.rules.take_set();
        self.machine = Machine::new(self.now, self.settings.with(rules));
        let mut effects = self.machine.restore(self.now, memory);
        self.keep(&mut effects);
        self.step(MachineEvent::Evaluate);
    }

    /// Replaces the rules.
    #[cfg(test)]
    pub(super) fn reload(&mut self, rules: RuleSet) {
        self.step(MachineEvent::Reload(Box::new(self.settings.with(rules))));
    }
}
