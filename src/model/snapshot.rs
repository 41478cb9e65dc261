//! The whole fleet at one point in time, as all readers see it.

use std::sync::Arc;

use super::sidecar_part::SidecarPart;
use super::{Agent, Component, CustomFamilies, Project, Slab, Source, Time, WallClock};

/// The budgets of each agent; `None` is no budget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budgets {
    /// Tokens that a task may use.
    pub tokens_per_task: Option<u64>,
    /// Tokens that an agent may use in a day.
    pub tokens_per_day: Option<u64>,
    /// US dollars that an agent may cost in a day.
    pub cost_usd_per_day: Option<f64>,
}

/// The fleet at the time `at`. A clone costs as much as changed since the last clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was taken; idle times are as of this time.
    pub at: Time,
    /// When the sidecar started.
    pub started_at: Time,
    /// For converting the times in here, which are of the program's clock, to wall-clock time.
    pub wall: WallClock,
    /// Incremented with each change: snapshots of one generation are equal.
    pub generation: u64,
    /// All agents.
    pub agents: Slab<Agent>,
    /// All components.
    pub components: Slab<Component>,
    /// All projects, by [`Project::slot`]; projects are never removed while the program runs.
    pub projects: Vec<Arc<Project>>,
    /// All polled sources, in the order of the configuration.
    pub sources: Vec<Arc<Source>>,
    /// The health of receivers and of the sidecar itself.
    pub sidecar_parts: Vec<Arc<SidecarPart>>,
    /// The budgets in force.
    pub budgets: Budgets,
    /// When the budgets' day ends.
    pub day_ends: Time,
    /// The families of custom metrics.
    pub custom: Arc<CustomFamilies>,
    /// Series rejected because of the series cap.
    pub series_dropped: u64,
    /// Whether rules are evaluated and sources polled.
    pub monitoring: bool,
}

impl Snapshot {
    /// The sources whose polls fail, and since when.
    pub fn failing_sources(&self) -> impl Iterator<Item = (Arc<str>, Time)> + '_ {
        self.sources.iter().filter_map(|source| Some((Arc::clone(&source.name), source.failing_since?)))
    }
}
