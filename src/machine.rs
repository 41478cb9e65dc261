//! The one order of things: an event comes in, fleet → rules → alerts, effects come out.
//!
//! Owns [`Fleet`], [`Rules`], [`Alerts`] and [`Enforcement`], and what happens in which order at each event. The live
//! loop, `lookout replay` and `lookout test rules` drive this code and no other. It is pure: `now` comes in with each
//! event, and what is to be sent, written or published goes out as [`Effects`].

mod delivery;
mod digest;
mod orphans;
mod restore;
mod sidecar;
pub mod simulation;
#[cfg(test)]
mod tests;
mod unsaved;
pub mod view;
mod words;

use std::sync::Arc;
use std::time::Duration;

pub use restore::Memory;
pub use sidecar::Observed;
pub use simulation::Simulation;
pub use unsaved::Unsaved;
pub use view::{AlertFilter, AlertView, Explanation, StandingView};

use crate::alerts::config::DigestConfig;
use crate::alerts::{self, Alerts, IncidentPolicy, QuietError};
use crate::enforcement::{self, Enforcement, StopOrders};
use crate::fleet::{self, ChunkedPush, Fleet, IngestOutcome};
use crate::ingest::UsageBatch;
use crate::model::{
    AgentTelemetry, Batch, Changes, ClosedAlert, Finding, Fingerprint, HistoryRow, Hook, Notice, PollReport,
    ReceiverPolicy, Report, Silence, Time,
};
use crate::rules::{RuleSet, Rules};
use digest::Digest;
use orphans::Orphans;
use sidecar::Sidecar;

/// How long evaluation stays paused before it resumes by itself.
pub const PAUSE: Duration = Duration::from_secs(3600);

/// What a machine works with.
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
    /// Who is notified of what.
    pub receivers: Vec<ReceiverPolicy>,
}

/// Something that happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// A state was pushed.
    State(Batch<'a>),
    /// The next agents of a pushed state come, at most so many; what becomes of them is added to it.
    StatePart(&'a mut ChunkedPush<'static>, usize),
    /// Increments of usage were pushed.
    Usage(UsageBatch<'a>),
    /// A hook came in; it says whether its sender was told to stop.
    Hook(Hook),
    /// A poll ended.
    Poll(PollReport),
    /// Telemetry of agents came in.
    Telemetry(Vec<AgentTelemetry>),
    /// A silence begins, or the one of its id changes.
    Silence(Silence),
    /// A silence is ended before its time.
    Unsilence {
        /// Its id.
        id: &'a str,
        /// Who ends it.
        by: &'a str,
    },
    /// An alert is acknowledged.
    Acknowledge {
        /// Which.
        fingerprint: Fingerprint,
        /// By whom.
        by: &'a str,
        /// What they say; may be empty.
        comment: &'a str,
    },
    /// Evaluation is paused, or the pause extended, or it resumes.
    Monitoring {
        /// Whether it goes on.
        on: bool,
        /// Who says so.
        by: &'a str,
    },
    /// A delivery came to something.
    Delivery(&'a Report),
    /// A receiver has room for alerts that were deferred.
    Room {
        /// The receiver.
        receiver: &'a str,
        /// For how many.
        count: usize,
    },
    /// How the program itself is.
    Observed(Observed),
    /// Other settings are in force.
    Reload(Box<Settings>),
    /// Everything is evaluated anew, as after a start.
    Evaluate,
    /// A deadline has come.
    Deadline,
}

/// What one event brings about, beside what readers see.
#[derive(Debug, Default)]
pub struct Effects {
    /// What of an update was accepted and what was rejected.
    pub taken: IngestOutcome,
    /// Why a silence or an acknowledgement is refused; nothing else came of it then.
    pub error: Option<QuietError>,
    /// Whether evaluation now goes on (`true`) or is paused, when that was said.
    pub monitoring: Option<bool>,
    /// What became of alerts, in the order in which it did.
    pub alerts: Vec<AlertEffects>,
    /// What history keeps of agents and components.
    pub history: Vec<HistoryRow>,
    /// The orders to stop that hooks are answered with from now on, when they changed.
    pub stop_orders: Option<Arc<StopOrders>>,
}

/// What became of alerts in one go.
#[derive(Debug, Default)]
pub struct AlertEffects {
    /// What is to be kept of alerts and silences; its notices and closed alerts are the ones below.
    pub ledger: alerts::Effects,
    /// What receivers are sent.
    pub notices: Vec<Arc<Notice>>,
    /// Alerts that ended, in words.
    pub closed: Vec<ClosedAlert>,
    /// Summaries of alerts that began to fire where nobody is there to be notified.
    pub unheard: Vec<ClosedAlert>,
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
    /// What rules found, and when, since a test looked.
    #[cfg(test)]
    found: Vec<(Time, Finding)>,
}

impl Machine {
    /// A fleet of which nothing is known, at `now`. Expected agents are missing from then on.
    pub fn new(now: Time, settings: Settings) -> Self {
        let Settings { fleet, rules, incidents, digest, receivers } = settings;
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

    /// The orders to stop that hooks are answered with.
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

    /// Takes note of what the wall clock says at `now`; returns by how many seconds it is ahead when it was set.
    pub fn observe_wall_clock(&mut self, now: Time, wall: Time) -> Option<f64> {
        let was_set = self.fleet.observe_wall_clock(now, wall);
        was_set.then(|| self.fleet.state().wall.to_wall(now).as_secs_f64() - now.as_secs_f64())
    }

    /// When [`Event::Deadline`] has something to do next.
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

    /// Whether fleet or rules have something to do by `now`.
    #[cfg(test)]
    fn evaluates_at(&self, now: Time) -> bool {
        let deadlines = [self.fleet.next_deadline(), self.rules.next_deadline()];
        deadlines.into_iter().flatten().any(|due| due <= now)
    }

    /// Does all that `event`, which happens at `now`, brings about. Time never goes back between two events.
    pub fn step(&mut self, now: Time, event: Event<'_>) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::State(batch) => effects.taken = self.fleet.push(now, batch),
            Event::StatePart(push, most) => self.fleet.push_part(now, push, most),
            Event::Usage(usage) => {
                effects.taken = self.fleet.usage(now, &usage.project, &usage.usage);
                effects.taken.add_rejected(usage.rejected);
            }
            Event::Hook(hook) => {
                if let Some(text) = enforcement::announcement(self.fleet.find(&hook.project, &hook.agent), &hook) {
                    let announced = self.alerts.announce(now, "brake", &text);
                    self.add(now, announced, &mut effects);
                }
                effects.taken = self.fleet.hook(now, &hook);
            }
            Event::Poll(mut report) => effects.taken = self.fleet.poll(now, &mut report),
            Event::Telemetry(telemetry) => effects.taken = self.fleet.telemetry(now, &telemetry),
            Event::Silence(silence) => {
                let done = self.alerts.silence(now, silence);
                self.add_or_refuse(now, done, &mut effects);
            }
            Event::Unsilence { id, by } => {
                let done = self.alerts.unsilence(now, id, by);
                self.add_or_refuse(now, done, &mut effects);
            }
            Event::Acknowledge { fingerprint, by, comment } => {
                let done = self.alerts.acknowledge(now, fingerprint, by, comment);
                self.add_or_refuse(now, done, &mut effects);
            }
            Event::Monitoring { on, by } => self.set_monitoring(now, on, by, &mut effects),
            Event::Delivery(report) => self.delivery(now, report, &mut effects),
            Event::Room { receiver, count } => {
                let due = self.alerts.make_room(now, receiver, count);
                self.add(now, due, &mut effects);
            }
            Event::Observed(observed) => self.observe(now, &observed),
            Event::Reload(settings) => self.reload(now, *settings, &mut effects),
            Event::Evaluate => self.evaluate_all(now),
            Event::Deadline => return self.tick(now),
        }
        self.settle(now, &mut effects);
        effects
    }

    /// Serves the deadlines that have come.
    fn tick(&mut self, now: Time) -> Effects {
        let mut effects = Effects::default();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.set_monitoring(now, true, "the end of its time", &mut effects);
        }
        self.end_orphans(now, &mut effects);
        self.send_digest(now, &mut effects);
        self.fleet.tick(now);
        if self.paused_until.is_none() {
            self.rules.tick(now, self.fleet.state(), &mut self.findings);
        }
        self.settle(now, &mut effects);
        if self.paused_until.is_none() {
            let due = self.alerts.tick(now);
            self.add(now, due, &mut effects);
        }
        effects
    }

    /// Evaluates the rules for what changed, and has alerts follow what they found.
    fn settle(&mut self, now: Time, effects: &mut Effects) {
        self.adopt_orphans();
        if self.paused_until.is_none() {
            self.rules.evaluate(now, self.fleet.state(), self.fleet.changes(), &mut self.findings);
        } else {
            // While paused nothing is evaluated, yet what is gone is gone: its alerts end and its memory is freed.
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

    /// Has the whole fleet evaluated; while paused, nothing.
    fn evaluate_all(&mut self, now: Time) {
        if self.paused_until.is_none() {
            self.rules.evaluate_all(now, self.fleet.state(), &mut self.findings);
        }
    }

    /// Resumes or pauses evaluation, or extends the pause; who did is announced. All else is kept from receivers while it
    /// is paused.
    fn set_monitoring(&mut self, now: Time, on: bool, by: &str, effects: &mut Effects) {
        let was_on = self.paused_until.is_none();
        self.paused_until = (!on).then(|| now.plus(PAUSE));
        self.fleet.set_monitoring(on);
        effects.monitoring = Some(on);
        if on && was_on {
            return;
        }
        let text = if on {
            format!("{by} resumed the monitoring")
        } else {
            let what = if was_on { "paused the monitoring" } else { "extended the pause of the monitoring" };
            let until = self.fleet.state().wall.to_wall(now.plus(PAUSE));
            format!("{by} {what}: nobody is told of anything until it resumes, at the latest at {until}")
        };
        let announced = self.alerts.announce(now, "monitoring", &text);
        self.add(now, announced, effects);
        if on {
            // Before anything is sent: what recovered during the pause must not be repeated as firing first.
            self.evaluate_all(now);
            self.settle(now, effects);
        }
        let due = self.alerts.set_paused(now, !on);
        self.add(now, due, effects);
    }

    /// Takes over other settings; what is known stays known.
    fn reload(&mut self, now: Time, settings: Settings, effects: &mut Effects) {
        self.settle(now, effects);
        let Settings { fleet, rules, incidents, digest, receivers } = settings;
        let budgets = fleet.budgets.enforced();
        self.fleet.configure(now, fleet);
        self.enforcement.configure(self.fleet.state(), budgets);
        effects.stop_orders = Some(Arc::new(self.enforcement.orders().clone()));
        self.rules.replace(rules);
        self.rules.seed(now, self.fleet.state());
        self.receivers = receivers.iter().map(|receiver| Arc::clone(&receiver.name)).collect();
        self.observe_again(now);
        // Rules are known by their number: alerts follow the new ones before any of them is evaluated.
        self.alerts.set_incidents(incidents);
        self.digest.configure(now, digest);
        let configured = self.alerts.configure(now, self.rules.policies(), receivers);
        self.add(now, configured, effects);
        self.end_unnamed(now, effects);
        self.mark_open();
        self.evaluate_all(now);
    }

    /// Adds what came of alerts to `effects`, in words.
    fn add(&self, now: Time, mut ledger: alerts::Effects, effects: &mut Effects) {
        if ledger.is_empty() {
            return;
        }
        let notices = self.worded(now, ledger.notices.drain(..));
        let closed = ledger.closed.drain(..).map(|alert| self.in_words(now, alert)).collect();
        let unheard = if self.receivers.is_empty() { self.firing_since(now, &ledger) } else { Vec::new() };
        effects.alerts.push(AlertEffects { ledger, notices, closed, unheard });
    }

    fn add_or_refuse(&self, now: Time, done: Result<alerts::Effects, QuietError>, effects: &mut Effects) {
        match done {
            Ok(ledger) => self.add(now, ledger, effects),
            Err(error) => effects.error = Some(error),
        }
    }
}
