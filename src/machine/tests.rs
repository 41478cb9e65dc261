//! Fleet and rules together, in a simulation: which finding has which level, and at exactly which time.

mod builtin;
mod custom;
mod enforcement;
mod histories;
mod hooks;
mod messages;
mod own;
mod receivers;
mod restarts;
mod runs;
mod spending;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use super::simulation::{Lasting, Setup};
use super::{Machine, MachineEvent, SidecarObservation, Simulation};
use crate::alerts::IncidentPolicy;
use crate::alerts::config::DigestConfig;
use crate::fleet::FleetSettings;
use crate::fleet::config::{AgentsConfig, BudgetsConfig, ExpectedConfig};
use crate::ingest::UsageBatch;
use crate::model::{
    AgentStatus, AgentUpdate, Batch, ComponentStatus, ComponentUpdate, Finding, Level, Patch, PollReport,
    ReceiverPolicy, SourceError, SourceErrorReason, Time, UsageUpdate,
};
use crate::rules::compile::{RuleSet, RuleSettings};
use crate::rules::{BUILT_IN, Rules};

/// Seconds after the start of every test: noon of a day in UTC.
fn at(seconds: i64) -> Time {
    Time::from_millis((20_000 * 86_400 + 43_200 + seconds) * 1000)
}

fn seconds(time: Time) -> f64 {
    (time.as_millis() - at(0).as_millis()) as f64 / 1000.0
}

fn settings() -> FleetSettings {
    FleetSettings {
        // Nothing expires, except in tests of that.
        agents: AgentsConfig {
            forget_after: Duration::from_secs(1_000_000),
            max_ttl: Duration::from_secs(1_000_000),
            ..AgentsConfig::default()
        },
        expected: Vec::new(),
        budgets: BudgetsConfig::default(),
        max_series: 1_000_000,
        sources: vec![("orch".to_owned(), "http-json", Duration::from_secs(5))],
    }
}

fn rule_set(text: &str) -> RuleSet {
    let settings = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    RuleSet::load(&[("team.yaml".to_owned(), text.to_owned())], settings).expect("good rules")
}

/// The current state of one rule and subject: its level, and whether the value is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
struct FoundState {
    level: Level,
    no_data: bool,
}

/// A machine with the built-in rules, one receiver, and an empty fleet.
pub(super) fn built_in(now: Time, digest: DigestConfig) -> Machine {
    let settings = settings();
    let settings = FleetSettings { agents: AgentsConfig::default(), sources: Vec::new(), ..settings };
    let rules = RuleSettings { max_idle: Duration::from_secs(300), timeout: Duration::from_secs(60) };
    Machine::new(
        now,
        super::MachineSettings {
            fleet: settings,
            rules: crate::rules::built_in(rules).expect("good rules"),
            incidents: IncidentPolicy::default(),
            digest,
            receivers: vec![ReceiverPolicy::new("console", Level::Info)],
        },
    )
}

/// A simulation and a log of its findings.
struct RuleSimulation {
    simulation: Simulation,
    notes: FindingLog,
    /// The rule file on top of the built-in rules.
    rules: String,
}

/// Findings by the names of rules and subjects.
#[derive(Default)]
struct FindingLog {
    names: Vec<String>,
    states: BTreeMap<(String, String), FoundState>,
    lowest: BTreeMap<String, Level>,
    /// Every change of a state: seconds, rule, subject, and the level or why it ended.
    log: Vec<String>,
    /// How often a deadline of fleet or rules was served.
    served: usize,
}

impl FindingLog {
    fn found(&mut self, now: Time, finding: &Finding) {
        {
            let rule = self.names[usize::from(finding.rule.0)].clone();
            let key = (rule.clone(), finding.subject.name().to_string());
            let before = self.states.get(&key).copied();
            let after = match (finding.level, finding.ending, before) {
                (_, Some(_), _) => None,
                (Some(level), None, _) => Some(FoundState { level, no_data: false }),
                (None, None, Some(before)) if finding.value.is_none() => Some(FoundState { no_data: true, ..before }),
                (None, None, Some(_)) if !finding.cleared => {
                    Some(FoundState { level: self.lowest[&rule], no_data: false })
                }
                (None, None, _) => None,
            };
            if before == after {
                return;
            }
            let word = match (after, finding.ending) {
                (Some(FoundState { no_data: true, .. }), _) => "no data",
                (Some(states), _) => states.level.as_str(),
                (None, Some(ending)) => ending.as_str(),
                (None, None) => "resolved",
            };
            self.log.push(format!("{} {rule} {} {word}", seconds(now), key.1));
            match after {
                Some(after) => self.states.insert(key, after),
                None => self.states.remove(&key),
            };
        }
    }
}

impl RuleSimulation {
    fn new(settings: FleetSettings, text: &str) -> Self {
        let rules = rule_set(text);
        let policies = Rules::new(rule_set(text)).policies();
        let notes = FindingLog {
            names: policies.iter().map(|policy| policy.name.to_string()).collect(),
            lowest: policies.iter().map(|policy| (policy.name.to_string(), policy.lowest)).collect(),
            ..FindingLog::default()
        };
        let settings = Lasting { fleet: settings, receivers: Vec::new(), incidents: IncidentPolicy::default() };
        let simulation = Simulation::new(at(0), Setup { rules, settings });
        let mut test = Self { simulation, notes, rules: text.to_owned() };
        test.collect();
        test
    }

    /// Adds new findings to the log.
    fn collect(&mut self) {
        for (now, finding) in std::mem::take(&mut self.simulation.machine.found) {
            self.notes.found(now, &finding);
        }
        let served = &self.simulation.evaluated_at;
        self.notes.served = served.len();
        assert!(served.windows(50).all(|times| times[0] < times[49]), "a deadline is served and due again at once");
    }

    /// Reloads the same rules.
    fn reload_same(&mut self) {
        let text = self.rules.clone();
        self.reload(&text);
    }

    /// Reloads with another rule file on top of the built-in rules.
    fn reload(&mut self, text: &str) {
        let policies = Rules::new(rule_set(text)).policies();
        self.notes.names = policies.iter().map(|policy| policy.name.to_string()).collect();
        self.notes.lowest = policies.iter().map(|policy| (policy.name.to_string(), policy.lowest)).collect();
        self.rules = text.to_owned();
        self.simulation.reload(rule_set(text));
        self.collect();
    }

    fn evaluate_all(&mut self) {
        self.simulation.take(MachineEvent::Evaluate);
        self.collect();
    }

    /// Serves every deadline up to `seconds`, each at its time, as the engine does.
    fn until(&mut self, seconds: i64) -> &mut Self {
        self.simulation.advance(at(seconds)).expect("no limit");
        self.collect();
        self
    }

    fn take(&mut self, seconds: i64, event: MachineEvent<'_>) -> &mut Self {
        self.until(seconds);
        self.simulation.take(event);
        self.collect();
        self
    }

    fn push_batch(&mut self, seconds: i64, batch: Batch<'_>) -> &mut Self {
        self.take(seconds, MachineEvent::State(batch))
    }

    fn push(&mut self, seconds: i64, agent: AgentUpdate<'_>) -> &mut Self {
        // Nothing becomes stale, except in tests of that.
        let ttl = Some(Duration::from_secs(1_000_000));
        self.push_batch(seconds, Batch { project: "shop".into(), agents: vec![agent], ttl, ..Batch::default() })
    }

    fn usage(&mut self, seconds: i64, input: u64) -> &mut Self {
        let tokens = [Some(input), None, None, None, None];
        let update = UsageUpdate { agent: Some("a".into()), tokens, ..UsageUpdate::default() };
        self.take(seconds, increments(vec![update]))
    }

    fn poll(&mut self, seconds: i64, result: Result<Vec<Batch<'static>>, SourceErrorReason>) -> &mut Self {
        let result = result.map_err(|reason| SourceError { reason, message: "no answer".to_owned() });
        self.take(seconds, MachineEvent::Poll(PollReport { source: "orch".into(), result }))
    }

    /// Restarts at `seconds`, after downtime since the last event, with an empty log.
    fn restart(&mut self, seconds: i64) -> &mut Self {
        self.notes.log.clear();
        self.simulation.restart(at(seconds));
        self.collect();
        self
    }

    /// The log since the last call, of these rules.
    fn findings(&mut self, rules: &[&str]) -> Vec<String> {
        let log = std::mem::take(&mut self.notes.log);
        let is_asked = |line: &String| {
            let rule = line.split(' ').nth(1).unwrap_or_default();
            rules.contains(&rule)
        };
        log.into_iter().filter(is_asked).collect()
    }
}

/// Increments of usage in the project.
fn increments(usage: Vec<UsageUpdate<'_>>) -> MachineEvent<'_> {
    MachineEvent::Usage(UsageBatch { project: "shop".into(), usage, rejected: Vec::new() })
}

fn named(name: &str) -> AgentUpdate<'_> {
    AgentUpdate { name: name.into(), ..AgentUpdate::default() }
}

/// The agent `a` in `status`.
fn a(status: AgentStatus) -> AgentUpdate<'static> {
    AgentUpdate { status: Some(status), ..named("a") }
}

fn with_task(status: AgentStatus) -> AgentUpdate<'static> {
    AgentUpdate { task_id: Patch::Set("t".into()), ..a(status) }
}

fn component(status: ComponentStatus) -> Batch<'static> {
    let component =
        ComponentUpdate { name: "db".into(), index: 0, status, details: None, metrics: vec![], custom: vec![] };
    Batch { project: "shop".into(), components: vec![component], ..Batch::default() }
}
