//! Counts and sums of a project, updated as its agents change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::labels::project_labels;
use crate::model::project::TASK_DURATION_BOUNDS;
use crate::model::{Agent, AgentStatus, ComponentStatus, Count, EndedTask, Project, Task, Time};

use super::{Fleet, MAX_PROJECTS};

/// Models kept per project; further ones are summed as `other`.
const MAX_MODELS: usize = 100;
/// The window of `recent_tasks`.
const RECENT: Duration = Duration::from_secs(3600);

/// The slots of a project's agents and components by name, and of its agents by task.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) agents: HashMap<Arc<str>, u32>,
    pub(super) components: HashMap<Arc<str>, u32>,
    pub(super) tasks: HashMap<Arc<str>, u32>,
    /// Agents that the configuration expects.
    pub(super) wanted: Vec<Arc<str>>,
}

impl Index {
    /// Records that the agent in `slot` now holds `task` instead of `old`.
    pub(super) fn follow_task(&mut self, slot: u32, old: Option<Arc<str>>, task: Option<&Task>) {
        if let Some(old) = old
            && self.tasks.get(&old) == Some(&slot)
        {
            self.tasks.remove(&old);
        }
        if let Some(task) = task {
            self.tasks.insert(Arc::clone(&task.id), slot);
        }
    }
}

/// What one agent adds to the counts of its project.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    known: bool,
    status: Option<AgentStatus>,
    up: bool,
    down: bool,
    expected: bool,
    limited: bool,
}

impl Tally {
    /// What `agent` adds; nothing if it is new, as it was not counted yet.
    pub(super) fn of(agent: &Agent, is_new: bool) -> Self {
        if is_new {
            return Self::none();
        }
        Self {
            known: true,
            status: agent.status,
            up: agent.is_up(),
            down: agent.is_down(),
            expected: agent.is_expected(),
            limited: agent.limited.is_some(),
        }
    }

    /// What a missing agent adds: nothing.
    pub(super) const fn none() -> Self {
        Self { known: false, status: None, up: false, down: false, expected: false, limited: false }
    }

    /// Replaces this by `new` in the counts of `project`.
    pub(super) fn replace_with(self, new: Self, project: &mut Project) {
        if self != new {
            self.count(project, u32::wrapping_sub);
            new.count(project, u32::wrapping_add);
        }
    }

    fn count(self, project: &mut Project, step: fn(u32, u32) -> u32) {
        if !self.known {
            return;
        }
        project.agents = step(project.agents, 1);
        project.up = step(project.up, u32::from(self.up));
        project.down = step(project.down, u32::from(self.down));
        project.expected = step(project.expected, u32::from(self.expected));
        project.limited = step(project.limited, u32::from(self.limited));
        match self.status {
            Some(status) => {
                if let Some(count) = project.by_status.get_mut(status as usize) {
                    *count = step(*count, 1);
                }
            }
            None => project.unknown_status = step(project.unknown_status, 1),
        }
    }
}

/// Counts a component with status `to` instead of `from`.
pub(super) fn count_component(project: &mut Project, from: Option<ComponentStatus>, to: Option<ComponentStatus>) {
    if let Some(count) = from.and_then(|from| project.components.get_mut(from as usize)) {
        *count -= 1;
    }
    if let Some(count) = to.and_then(|to| project.components.get_mut(to as usize)) {
        *count += 1;
    }
}

/// Counts a finished task of `agent` and its duration.
pub(super) fn end_task(now: Time, agent: &mut Agent, project: &mut Project, task: EndedTask) {
    let counts = if task.is_done {
        (&mut agent.tasks_completed, &mut project.totals.tasks_completed)
    } else {
        (&mut agent.tasks_failed, &mut project.totals.tasks_failed)
    };
    counts.0.add(1);
    counts.1.add(1);
    record_task(project, now);
    if let Some(took) = task.took {
        project.task_durations.observe(&TASK_DURATION_BOUNDS, took);
    }
}

/// Records a task that ended at `now` in `recent_tasks`.
fn record_task(project: &mut Project, now: Time) {
    let minute = Time::from_millis(now.as_millis().div_euclid(60_000) * 60_000);
    let recent = Arc::make_mut(&mut project.recent_tasks);
    recent.retain(|(at, _)| now.since(*at) < RECENT);
    match recent.last_mut() {
        Some((at, count)) if *at == minute => *count += 1,
        _ => recent.push((minute, 1)),
    }
}

/// Adds increments by type; once one type is reported, all are known.
pub(super) fn add_tokens(counts: &mut [Count; 5], steps: &[u64; 5]) {
    for (count, step) in counts.iter_mut().zip(steps) {
        count.add(*step);
    }
}

/// Adds usage of `model`.
pub(super) fn add_model_usage(project: &mut Project, model: &Arc<str>, tokens: &[u64; 5], cost: Option<f64>) {
    let models = Arc::make_mut(&mut project.models);
    let name = if models.len() < MAX_MODELS || models.contains_key(model) { Arc::clone(model) } else { "other".into() };
    let totals = models.entry(name).or_default();
    add_tokens(&mut totals.tokens, tokens);
    if let Some(cost) = cost {
        totals.cost_usd.add(cost);
    }
}

/// The counts and sums of a project that rules read, for detecting changes.
#[derive(Clone, PartialEq)]
pub(super) struct ProjectCounts {
    up: u32,
    down: u32,
    expected: u32,
    limited: u32,
    components: [u32; 4],
    sums: [u64; 5],
    tokens: u64,
    cost: f64,
}

impl Fleet {
    /// The slot of the project `name`; `None` if it is new and there is no room.
    pub(super) fn project_slot(&mut self, name: &str) -> Option<u32> {
        if let Some(slot) = self.projects.get(name) {
            return Some(*slot);
        }
        if self.projects.len() >= MAX_PROJECTS {
            return None;
        }
        let slot = u32::try_from(self.state.projects.len()).ok()?;
        let name: Arc<str> = Arc::from(name);
        let project = Project { slot, labels: project_labels(&name), name: Arc::clone(&name), ..Project::default() };
        self.state.projects.push(Arc::new(project));
        self.indexes.push(Index::default());
        self.projects.insert(name, slot);
        Some(slot)
    }

    /// The project's current counts, for [`Fleet::refresh_project`].
    pub(super) fn project_counts(&self, project: u32) -> Option<ProjectCounts> {
        let project = self.state.projects.get(project as usize)?;
        let totals = &project.totals;
        Some(ProjectCounts {
            up: project.up,
            down: project.down,
            expected: project.expected,
            limited: project.limited,
            components: project.components,
            sums: [
                totals.restarts.total(),
                totals.requests.total(),
                totals.request_errors.total(),
                totals.rate_limit_hits.total(),
                totals.retries.total(),
            ],
            tokens: totals.tokens.iter().map(Count::total).fold(0, u64::saturating_add),
            cost: totals.cost_usd.total(),
        })
    }

    /// Updates what follows from the counts, and records the project as changed if they differ from `before`.
    pub(super) fn refresh_project(&mut self, now: Time, slot: u32, before: Option<ProjectCounts>) {
        self.refresh_expected(now, slot);
        if self.project_counts(slot) != before {
            self.project_changed(slot);
        }
    }

    /// Records the project as changed.
    pub(super) fn project_changed(&mut self, slot: u32) {
        if !self.changes.projects.contains(&slot) {
            self.changes.projects.push(slot);
        }
    }
}
