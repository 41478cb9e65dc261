//! Fleet, rules and alerts on a virtual clock: what the engine would find and tell, without disk or network.
//!
//! The one driver of the pure parts beside the engine itself: the tests of this part run on it, and so do
//! `lookout test rules` and `lookout replay`. It goes from deadline to deadline, so that an hour of silence costs
//! nothing, and tells whoever watches what was found and what would be told. Refuses to deliver: what becomes of a
//! notice is the business of [`crate::notify`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::orphans::mark;
use super::output::{listed, worded};
use super::run::restore_windows;
use super::{AlertFilter, AlertView};
use crate::alerts::{Alerts, Effects, IncidentPolicy, QuietError};
use crate::enforcement;
use crate::fleet::{self, Fleet, Taken};
use crate::ingest::{decode_state, decode_states, decode_usage};
use crate::model::{
    AgentTelemetry, Alert, AlertCounts, Arrival, Batch, Finding, Fingerprint, Hook, Notice, PollReport, Project,
    ReceiverPolicy, Time, UsageUpdate,
};
use crate::rules::{RuleSet, Rules};

/// Deadlines served at one moment before it is a millisecond later, as it is for the engine between two looks.
const AT_ONCE: u32 = 50;
/// Ids of increments remembered for a restart, as the fleet remembers them.
const USAGE_IDS: usize = 65_536;

/// What a trial is run with.
#[derive(Debug)]
pub struct Settings {
    /// For the fleet.
    pub fleet: fleet::Settings,
    /// The rules.
    pub rules: RuleSet,
    /// Who is told.
    pub receivers: Vec<ReceiverPolicy>,
    /// From when on many alerts are told as one.
    pub incidents: IncidentPolicy,
}

/// Something that comes in.
#[derive(Debug)]
pub enum Event<'a> {
    /// A pushed batch, as [`crate::ingest::decode_state`] reads it.
    State(Batch<'a>),
    /// Increments of usage in a project, as [`crate::ingest::decode_usage`] reads them.
    Usage(&'a str, Vec<UsageUpdate<'a>>),
    /// A hook, as [`crate::ingest::hooks::claude_code`] reads it.
    Hook(Hook),
    /// The outcome of a poll.
    Poll(PollReport),
    /// What telemetry says of agents, as the profiles of tools read it.
    Telemetry(Vec<AgentTelemetry>),
}

/// Sees what happens in a trial.
pub trait Watch {
    /// What the rules found at `now`.
    fn found(&mut self, _now: Time, _findings: &[Finding]) {}
    /// What a receiver would be told.
    fn told(&mut self, _notice: Arc<Notice>) {}
    /// A deadline was served at `now`; `judged` says that it was one of the fleet or the rules.
    fn served(&mut self, _now: Time, _judged: bool) {}
}

/// More deadlines had to be served than the trial was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} deadlines came up; shorten the time, or lengthen the thresholds and repeats")]
pub struct Exhausted(pub u64);

/// A fleet, its rules and its alerts, at one moment.
#[derive(Debug)]
pub struct Trial {
    now: Time,
    settings: fleet::Settings,
    receivers: Vec<ReceiverPolicy>,
    incidents: IncidentPolicy,
    fleet: Fleet,
    rules: Rules,
    alerts: Alerts,
    /// What the store would give back after a restart.
    ledger: BTreeMap<Fingerprint, Alert>,
    usage_ids: VecDeque<(u64, Time)>,
    /// Deadlines that may be served, and how many were.
    limit: u64,
    served: u64,
}

impl Trial {
    /// A fleet of which nothing is known, at `now`. Expected agents are missing from then on.
    pub fn new(now: Time, settings: Settings, watch: &mut dyn Watch) -> Self {
        let Settings { fleet, rules, receivers, incidents } = settings;
        let rules = Rules::new(rules);
        let mut trial = Self {
            now,
            alerts: Alerts::new(rules.policies(), receivers.clone()),
            fleet: Fleet::new(now, fleet.clone()),
            settings: fleet,
            receivers,
            incidents,
            rules,
            ledger: BTreeMap::new(),
            usage_ids: VecDeque::new(),
            limit: u64::MAX,
            served: 0,
        };
        trial.alerts.set_incidents(trial.incidents);
        trial.judge_all(watch);
        trial
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
        &self.fleet
    }

    /// The rules.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many alerts there are.
    pub const fn counts(&self) -> &AlertCounts {
        self.alerts.counts()
    }

    /// The alerts that are not over, worst first, then newest first.
    pub fn open(&self) -> Vec<AlertView> {
        let filter = AlertFilter { limit: usize::MAX, ..AlertFilter::default() };
        listed(self.now, &self.alerts, &self.rules, &self.fleet, &filter)
    }

    /// Goes on to `to`, serving every deadline on the way at its time. Time never goes back.
    pub fn advance(&mut self, to: Time, watch: &mut dyn Watch) -> Result<(), Exhausted> {
        let mut at_once = 0;
        while let Some(due) = self.next_deadline().filter(|due| *due <= to) {
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
            self.tick(watch);
        }
        self.now = self.now.max(to);
        Ok(())
    }

    /// Takes in what comes in at the time that has been reached.
    pub fn take(&mut self, event: Event<'_>, watch: &mut dyn Watch) -> Taken {
        let taken = match event {
            Event::State(mut batch) => self.fleet.push(self.now, &mut batch),
            Event::Usage(project, updates) => {
                let taken = self.fleet.usage(self.now, project, &updates);
                self.usage_ids.extend(self.fleet.take_usage_ids());
                self.usage_ids.drain(..self.usage_ids.len().saturating_sub(USAGE_IDS));
                taken
            }
            Event::Hook(hook) => {
                if let Some(news) = enforcement::announcement(self.fleet.find(&hook.project, &hook.agent), &hook) {
                    let effects = self.alerts.announce(self.now, "brake", &news);
                    self.take_effects(effects, watch);
                }
                self.fleet.hook(self.now, &hook)
            }
            Event::Poll(mut report) => self.fleet.poll(self.now, &mut report),
            Event::Telemetry(said) => self.fleet.telemetry(self.now, &said),
        };
        self.settle(watch);
        taken
    }

    /// Reads and takes in what arrives at the time that has been reached; the error says what can't be read.
    pub fn feed(&mut self, arrival: &Arrival, watch: &mut dyn Watch) -> Result<Taken, String> {
        let text = |body| std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"));
        let now = self.now;
        let event = match arrival {
            Arrival::State(body) => Event::State(decode_state(text(body)?, now).map_err(|error| error.to_string())?),
            Arrival::Usage(body) => {
                let usage = decode_usage(text(body)?).map_err(|error| error.to_string())?;
                let mut taken = self.take(Event::Usage(&usage.project, usage.usage), watch);
                taken.add_rejected(usage.rejected);
                return Ok(taken);
            }
            Arrival::Hook(hook) => Event::Hook(hook.clone()),
            Arrival::Poll { source, result } => {
                let result = match result {
                    Ok(bodies) => Ok(decode_states(bodies, now).map_err(|error| error.to_string())?),
                    Err(error) => Err(error.clone()),
                };
                Event::Poll(PollReport { source: Arc::clone(source), result })
            }
            Arrival::Silence(silence) => {
                let done = self.alerts.silence(now, silence.clone());
                return self.done(done, watch);
            }
            Arrival::Unsilence { id, by } => {
                let done = self.alerts.unsilence(now, id, by);
                return self.done(done, watch);
            }
            Arrival::Ack { fingerprint, by, comment } => {
                let done = self.alerts.acknowledge(now, *fingerprint, by, comment);
                return self.done(done, watch);
            }
        };
        Ok(self.take(event, watch))
    }

    /// Takes care of what came of a wish for quiet.
    fn done(&mut self, done: Result<Effects, QuietError>, watch: &mut dyn Watch) -> Result<Taken, String> {
        self.take_effects(done.map_err(|error| error.to_string())?, watch);
        Ok(Taken { accepted: 1, ..Taken::default() })
    }

    /// Judges everything anew, as a reload does.
    pub fn judge_all(&mut self, watch: &mut dyn Watch) {
        let mut found = Vec::new();
        self.rules.evaluate_all(self.now, self.fleet.state(), &mut found);
        self.step(found, watch);
        self.settle(watch);
    }

    fn next_deadline(&self) -> Option<Time> {
        [self.judged_deadline(), self.alerts.next_deadline()].into_iter().flatten().min()
    }

    /// When the fleet or the rules have something to do next.
    fn judged_deadline(&self) -> Option<Time> {
        [self.fleet.next_deadline(), self.rules.next_deadline()].into_iter().flatten().min()
    }

    fn tick(&mut self, watch: &mut dyn Watch) {
        let now = self.now;
        watch.served(now, self.judged_deadline().is_some_and(|due| due <= now));
        self.fleet.tick(now);
        let mut found = Vec::new();
        self.rules.tick(now, self.fleet.state(), &mut found);
        self.step(found, watch);
        self.settle(watch);
        let effects = self.alerts.tick(now);
        self.take_effects(effects, watch);
    }

    /// Judges what changed.
    fn settle(&mut self, watch: &mut dyn Watch) {
        let mut found = Vec::new();
        self.rules.evaluate(self.now, self.fleet.state(), self.fleet.changes(), &mut found);
        self.fleet.clear_changes();
        self.step(found, watch);
    }

    fn step(&mut self, found: Vec<Finding>, watch: &mut dyn Watch) {
        if !found.is_empty() {
            watch.found(self.now, &found);
            self.alerts.set_agents(self.fleet.state().agents.len());
            let effects = self.alerts.step(self.now, found);
            self.take_effects(effects, watch);
        }
    }

    fn take_effects(&mut self, mut effects: Effects, watch: &mut dyn Watch) {
        for alert in effects.changed.drain(..) {
            self.ledger.insert(alert.fingerprint, alert);
        }
        for fingerprint in effects.forgotten.drain(..) {
            self.ledger.remove(&fingerprint);
        }
        for notice in worded(self.now, &self.rules, &self.fleet, effects.notices.drain(..)) {
            watch.told(notice);
        }
    }

    /// The program ends now and starts again at `to`, with what the store would have kept. Nothing is served in between.
    pub fn restart(&mut self, to: Time, watch: &mut dyn Watch) {
        let downtime = to.since(self.now);
        self.now = self.now.max(to);
        let state = self.fleet.state();
        let now = self.now;
        let shifted = |project: &Arc<Project>| {
            let mut project = (**project).clone();
            project.shift(now, downtime);
            project
        };
        let projects = state.projects.iter().map(shifted).collect();
        let failing: Vec<_> = state.failing_sources().map(|(name, since)| (name, since.plus(downtime))).collect();
        let agents = state.agents.iter().cloned().collect();
        let components = state.components.iter().cloned().collect();
        let windows = state.agents.iter().filter_map(|agent| {
            let name = (Arc::clone(&agent.project), Arc::clone(&agent.name));
            Some((name, self.rules.windows(agent.slot)?))
        });
        let windows = windows.collect();
        let mut fleet = Fleet::new(self.now, self.settings.clone());
        fleet.restore(self.now, projects, agents, components, self.usage_ids.iter().copied());
        fleet.restore_sources(failing);
        self.fleet = fleet;
        self.rules.forget();
        restore_windows(self.now, &self.fleet, &mut self.rules, windows, downtime);
        let (counts, silences) = (self.alerts.counts().clone(), self.alerts.silences().to_vec());
        self.alerts = Alerts::new(self.rules.policies(), self.receivers.clone());
        let ledger = self.ledger.values().cloned().collect();
        self.alerts.set_incidents(self.incidents);
        self.alerts.restore_silences(silences);
        self.alerts.restore(self.now, ledger, counts.raised, counts.fired, downtime);
        self.learn(watch);
    }

    /// Puts other rules in force, as a reload does.
    #[cfg(test)]
    pub(super) fn reload(&mut self, rules: RuleSet, watch: &mut dyn Watch) {
        self.rules.replace(rules);
        let effects = self.alerts.configure(self.now, self.rules.policies(), self.receivers.clone());
        self.take_effects(effects, watch);
        self.learn(watch);
    }

    /// Has the rules go on with what is known, as after a restart or a reload.
    pub(super) fn learn(&mut self, watch: &mut dyn Watch) {
        self.rules.unmark();
        self.rules.seed(self.now, self.fleet.state());
        for alert in self.alerts.open() {
            mark(&self.fleet, &mut self.rules, &alert.rule, &alert.subject);
        }
        self.judge_all(watch);
    }
}
