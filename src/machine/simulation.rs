//! A machine on a virtual clock: what would be found and sent, without disk or network.
//!
//! `lookout test rules` and `lookout replay` run on it, and so do tests. It goes from deadline to deadline, so that an
//! hour of silence costs nothing. What becomes of a notice is the business of [`crate::notify`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{AlertFilter, AlertView, Effects, Event, Machine, Memory, Settings};
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::fleet::{self, Fleet, IngestOutcome};
use crate::ingest::{decode_state, decode_states, decode_usage};
use crate::model::{Alert, AlertCounts, Fingerprint, Notice, PollReport, ReceiverPolicy, RecordedInput, Time};
use crate::rules::{RuleSet, Rules};

/// Deadlines served at one moment before it is a millisecond later, as it is for the engine between two looks.
const AT_ONCE: u32 = 50;
/// Ids of increments remembered for a restart, as the fleet remembers them.
const USAGE_IDS: usize = 65_536;

/// More deadlines had to be served than the simulation was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} deadlines came up; shorten the time, or lengthen the thresholds and repeats")]
pub struct Exhausted(pub u64);

/// What a simulation is run with.
#[derive(Debug)]
pub struct Setup {
    /// The rules.
    pub rules: RuleSet,
    /// The rest of it, which a restart begins with again.
    pub settings: Lasting,
}

/// Settings that a restart begins with again.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// For the fleet.
    pub fleet: fleet::FleetSettings,
    /// Who is notified of what.
    pub receivers: Vec<ReceiverPolicy>,
    /// When many alerts of one rule are notified as one incident.
    pub incidents: IncidentPolicy,
}

impl Lasting {
    /// All settings, with these rules; no digest is sent.
    fn with(&self, rules: RuleSet) -> Settings {
        let Self { fleet, receivers, incidents } = self.clone();
        Settings { fleet, rules, incidents, digest: DigestConfig::default(), receivers }
    }
}

/// A machine, its clock, and what a store would have kept of it.
#[derive(Debug)]
pub struct Simulation {
    now: Time,
    pub(super) settings: Lasting,
    pub(super) machine: Machine,
    /// Alerts as the ledger would have them.
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
    /// A fleet of which nothing is known, at `now`. Expected agents are missing from then on.
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
        simulation.step(Event::Evaluate);
        simulation
    }

    /// The same, which serves at most so many deadlines.
    pub const fn with_limit(mut self, deadlines: u64) -> Self {
        self.limit = deadlines;
        self
    }

    /// The time that has been reached.
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

    /// How many alerts there are.
    pub const fn counts(&self) -> &AlertCounts {
        self.machine.alerts().counts()
    }

    /// The alerts that are not over, worst first, then newest first.
    pub fn open(&self) -> Vec<AlertView> {
        self.machine.list(self.now, &AlertFilter { limit: usize::MAX, ..AlertFilter::default() })
    }

    /// What receivers would have been sent so far, in order.
    pub fn notices(&self) -> &[Arc<Notice>] {
        &self.notices
    }

    /// The same, of a simulation that is over.
    pub fn into_notices(self) -> Vec<Arc<Notice>> {
        self.notices
    }

    /// Goes on to `to`, serving every deadline on the way at its time. Time never goes back.
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
            self.step(Event::Deadline);
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// Has `event` happen at the time that has been reached; returns what of it was accepted and rejected.
    pub fn take(&mut self, event: Event<'_>) -> IngestOutcome {
        self.step(event).taken
    }

    fn step(&mut self, event: Event<'_>) -> Effects {
        let mut effects = self.machine.step(self.now, event);
        self.keep(&mut effects);
        effects
    }

    /// Keeps what a store would keep, and what receivers would be sent.
    fn keep(&mut self, effects: &mut Effects) {
        for of_alerts in &mut effects.alerts {
            self.ledger.extend(of_alerts.ledger.changed.drain(..).map(|alert| (alert.fingerprint, alert)));
            of_alerts.ledger.forgotten.iter().for_each(|fingerprint| drop(self.ledger.remove(fingerprint)));
            self.notices.append(&mut of_alerts.notices);
        }
        self.usage_ids.append(&mut std::mem::take(&mut self.machine.unsaved().usage_ids).into());
        self.usage_ids.drain(..self.usage_ids.len().saturating_sub(USAGE_IDS));
    }

    /// Reads and takes in what arrives at the time that has been reached; the error says what can't be read.
    pub fn feed(&mut self, arrival: &RecordedInput) -> Result<IngestOutcome, String> {
        let text = |body| std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"));
        let now = self.now;
        let effects = match arrival {
            RecordedInput::State(body) => {
                self.step(Event::State(decode_state(text(body)?, now).map_err(|error| error.to_string())?))
            }
            RecordedInput::Usage(body) => {
                self.step(Event::Usage(decode_usage(text(body)?).map_err(|error| error.to_string())?))
            }
            RecordedInput::Hook(hook) => self.step(Event::Hook(hook.clone())),
            RecordedInput::Poll { source, result } => {
                let result = match result {
                    Ok(bodies) => Ok(decode_states(bodies, now).map_err(|error| error.to_string())?),
                    Err(error) => Err(error.clone()),
                };
                self.step(Event::Poll(PollReport { source: Arc::clone(source), result }))
            }
            RecordedInput::Silence(silence) => self.step(Event::Silence(silence.clone())),
            RecordedInput::Unsilence { id, by } => self.step(Event::Unsilence { id, by }),
            RecordedInput::Ack { fingerprint, by, comment } => {
                self.step(Event::Acknowledge { fingerprint: *fingerprint, by, comment })
            }
        };
        match (effects.error, arrival) {
            (Some(error), _) => Err(error.to_string()),
            (None, RecordedInput::Silence(_) | RecordedInput::Unsilence { .. } | RecordedInput::Ack { .. }) => {
                Ok(IngestOutcome { accepted: 1, ..IngestOutcome::default() })
            }
            (None, _) => Ok(effects.taken),
        }
    }

    /// The program ends now and starts again at `to`, with what a store would have kept. Nothing is served in between.
    pub fn restart(&mut self, to: Time) {
        let downtime = to.since(self.now);
        let fleet = self.machine.fleet().state();
        let windows = fleet.agents.iter().filter_map(|agent| {
            let name = (Arc::clone(&agent.project), Arc::clone(&agent.name));
            Some((name, self.machine.rules().windows(agent.slot)?))
        });
        let alerts = self.machine.alerts();
        let memory = Memory {
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
            ..Memory::default()
        };
        self.now = self.now.max(to);
        let rules = self.machine.rules.take_set();
        self.machine = Machine::new(self.now, self.settings.with(rules));
        let mut effects = self.machine.restore(self.now, memory);
        self.keep(&mut effects);
        self.step(Event::Evaluate);
    }

    /// Puts other rules in force.
    #[cfg(test)]
    pub(super) fn reload(&mut self, rules: RuleSet) {
        self.step(Event::Reload(Box::new(self.settings.with(rules))));
    }
}
