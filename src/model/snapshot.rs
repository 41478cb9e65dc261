//! The whole fleet at one moment; what every reader reads.

use std::sync::Arc;

use super::sidecar_part::SidecarPart;
use super::{Agent, Component, Project, Slab, Source, Time, WallClock};

/// Budgets per agent; `None` is no budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budgets {
    /// Tokens that a task may use.
    pub tokens_per_task: Option<u64>,
    /// Tokens that an agent may use in a day.
    pub tokens_per_day: Option<u64>,
    /// US dollars that an agent may cost in a day.
    pub cost_usd_per_day: Option<f64>,
}

/// The fleet at the time `at`. Cloning it costs what changed since the last clone, not the fleet.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken; idle times count up to here.
    pub at: Time,
    /// When the sidecar started.
    pub started_at: Time,
    /// How the wall clock stands to our time, in which every time here is.
    pub wall: WallClock,
    /// Counts changes; two snapshots of one generation hold the same.
    pub generation: u64,
    /// Every agent.
    pub agents: Slab<Agent>,
    /// Every component.
    pub components: Slab<Component>,
    /// Every project, by [`Project::slot`]; a project is never removed while the program runs.
    pub projects: Vec<Arc<Project>>,
    /// Every polled source, in the configuration's order.
    pub sources: Vec<Arc<Source>>,
    /// The parts of the sidecar itself.
    pub sidecar_parts: Vec<Arc<SidecarPart>>,
    /// The budgets in force.
    pub budgets: Budgets,
    /// When the budgets' day ends.
    pub day_ends: Time,
    /// Series refused for the series cap.
    pub series_dropped: u64,
    /// Whether rules are judged and sources polled.
    pub monitoring: bool,
}

impl Snapshot {
    /// Since when polls of which sources fail.
    pub fn failing_sources(&self) -> impl Iterator<Item = (Arc<str>, Time)> + '_ {
        self.sources.iter().filter_map(|source| Some((Arc::clone(&source.name), source.failing_since?)))
    }
}
