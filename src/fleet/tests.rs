//! The effects of reports, missing reports and time on the fleet.

mod agents;
mod chunked_push;
mod clock;
mod custom;
mod histories;
mod hooks;
mod lifecycle;
mod rate_limits;

use std::time::Duration;

use jiff::civil::date;

use super::config::{AgentsConfig, BudgetsConfig, ExpectedConfig};
use super::{Fleet, FleetSettings, IngestOutcome};
use crate::model::{
    Agent, AgentStatus, AgentUpdate, Batch, ComponentStatus, ComponentUpdate, Patch, PollReport, Project, SourceError,
    SourceErrorReason, Time, UsageUpdate,
};

/// The time in seconds after the start of each test, which is noon in UTC.
pub(super) fn at(seconds: i64) -> Time {
    Time::from_millis((20_000 * 86_400 + 43_200 + seconds) * 1000)
}

pub(super) fn settings() -> FleetSettings {
    FleetSettings {
        agents: AgentsConfig::default(),
        expected: Vec::new(),
        budgets: BudgetsConfig::default(),
        max_series: 1_000_000,
        sources: vec![("orch".to_owned(), "http-json", Duration::from_secs(30))],
    }
}

/// A fleet for tests: each call first applies the deadlines before it and clears the changes.
pub(super) struct TestFleet {
    pub(super) fleet: Fleet,
}

impl TestFleet {
    pub(super) fn new(settings: FleetSettings) -> Self {
        Self { fleet: Fleet::new(at(0), settings) }
    }

    /// Applies every deadline up to `seconds`, each at its time; returns the seconds at which anything changed.
    pub(super) fn until(&mut self, seconds: i64) -> Vec<i64> {
        let mut moved = Vec::new();
        let mut steps = 0;
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= at(seconds)) {
            let before = self.fleet.state().generation;
            self.fleet.tick(due.max(at(0)));
            self.fleet.clear_changes();
            if self.fleet.state().generation != before {
                moved.push((due.as_millis() - at(0).as_millis()) / 1000);
            }
            steps += 1;
            assert!(steps < 10_000, "deadlines are scheduled forever");
        }
        moved
    }

    pub(super) fn push_batch(&mut self, seconds: i64, batch: Batch<'_>) -> IngestOutcome {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.push(at(seconds), batch)
    }

    pub(super) fn push(&mut self, seconds: i64, agent: AgentUpdate<'_>) -> &Agent {
        let outcome =
            self.push_batch(seconds, Batch { project: "shop".into(), agents: vec![agent], ..Batch::default() });
        assert_eq!((outcome.accepted, outcome.rejected.len()), (1, 0));
        self.agent("a")
    }

    pub(super) fn poll(&mut self, seconds: i64, names: Option<&[&'static str]>) {
        self.until(seconds);
        self.fleet.clear_changes();
        let batch = |names: &[&'static str]| Batch {
            project: "shop".into(),
            complete: true,
            agents: names.iter().map(|name| named(name)).collect(),
            ..Batch::default()
        };
        let error = || SourceError { reason: SourceErrorReason::Timeout, message: "no answer".to_owned() };
        let result = names.map(|names| vec![batch(names)]).ok_or_else(error);
        self.fleet.poll(at(seconds), &mut PollReport { source: "orch".into(), result });
    }

    pub(super) fn usage(&mut self, seconds: i64, update: UsageUpdate<'_>) -> IngestOutcome {
        self.until(seconds);
        self.fleet.clear_changes();
        self.fleet.usage(at(seconds), "shop", &[update])
    }

    pub(super) fn agent(&self, name: &str) -> &Agent {
        self.fleet.find("shop", name).expect("the agent is there")
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fleet.find("shop", name).is_some()
    }

    pub(super) fn project(&self) -> &Project {
        self.fleet.state().projects.iter().find(|project| &*project.name == "shop").expect("the project is there")
    }
}

pub(super) fn named(name: &str) -> AgentUpdate<'_> {
    AgentUpdate { name: name.into(), ..AgentUpdate::default() }
}

/// The agent `a` in `status`.
pub(super) fn a(status: AgentStatus) -> AgentUpdate<'static> {
    AgentUpdate { status: Some(status), ..named("a") }
}

pub(super) fn tokens(input: u64, output: u64, cache_read: u64) -> [Option<u64>; 5] {
    [Some(input), Some(output), Some(cache_read), None, None]
}

pub(super) fn used(input: u64) -> UsageUpdate<'static> {
    UsageUpdate { tokens: [Some(input), None, None, None, None], ..UsageUpdate::default() }
}
